//! The snapshot: what `compile/` makes and every request reads.
//!
//! A [`Policy`] is immutable. It holds, for each listener port, the virtual hosts and their route tables; the actions of
//! routes; and the settings of every destination. [`Policy::decide`] picks route and destination for one request.

mod action;
mod decision;
mod destination;
mod explain;
mod flags;
mod index;
mod matcher;
mod matching;
mod normalize;
mod pattern;
mod retry_on;
mod spec;
mod table;

pub use action::*;
pub use decision::*;
pub use destination::*;
pub use explain::{Asked, Explanation, FailedCondition, HostStep, Outcome, RuleStep};
pub use flags::*;
pub use matcher::*;
pub use normalize::BadPath;
pub(crate) use pattern::Pattern;
pub use retry_on::*;
pub(crate) use spec::*;
pub use table::*;
