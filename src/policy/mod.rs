//! The snapshot: what `compile/` makes and every request reads.
//!
//! A [`Policy`] is immutable. It holds, for each listener port, the virtual hosts and their route tables; the actions of
//! routes; and the settings of every destination. [`Policy::decide`] picks route and destination for one request.

mod action;
mod decision;
mod destination;
mod flags;
mod matcher;
mod retry_on;
mod spec;

pub use action::*;
pub use decision::*;
pub use destination::*;
pub use flags::*;
pub use matcher::*;
pub use retry_on::*;
pub(crate) use spec::*;

/// A compiled regular expression that matches whole values.
pub(crate) type Pattern = regex::bytes::Regex;
