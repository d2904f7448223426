//! The snapshot: what `compile/` makes and every request reads.
//!
//! A [`Policy`] is immutable. It holds, for each listener port, the virtual hosts and their route tables; the actions of
//! routes; and the settings of every destination. [`Policy::decide`] picks route and destination for one request.

mod action;
mod connections;
mod context;
mod date;
mod decision;
mod destination;
mod explain;
mod flags;
mod index;
mod matcher;
mod matching;
mod normalize;
mod pattern;
mod re2;
mod retry_on;
mod spec;
mod table;
mod template;
mod tree;

pub use action::*;
pub use connections::{ChainStep, ConnectionExplanation, ConnectionOutcome};
pub use context::Context;
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
pub use template::{TemplateError, ValueTemplate};

/// Is this a regular expression that Istio's webhook takes?
pub(crate) fn check_go_regex(pattern: &str) -> Result<(), String> {
    re2::check_go(pattern)
}

/// The same expression for Rust's engines, which read bytes: all of RE2's dialect written out.
pub(crate) fn translate_regex(pattern: &str) -> Result<String, String> {
    re2::translate(pattern)
}

/// Is this a regular expression that Istio and Envoy take? If not, why not.
///
/// ```
/// assert!(pointsman::policy::check_regex("/v[0-9]+/.*").is_ok());
/// assert!(pointsman::policy::check_regex("(?=look)").is_err());
/// ```
pub fn check_regex(pattern: &str) -> Result<(), String> {
    re2::translate(pattern).map(drop)
}
