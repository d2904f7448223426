//! The snapshot: what `compile/` makes and every request reads.
//!
//! A [`Policy`] is immutable. It holds, for each listener port, the virtual hosts and their route tables; the actions of
//! routes; and the settings of every destination. [`Policy::decide`] picks route and destination for one request;
//! [`Policy::explain`] does the same and tells why.
//!
//! | file | holds |
//! |---|---|
//! | `table.rs`, `connections.rs` | tables by port and host, and the way of a request, or of a connection, through them |
//! | `index.rs`, `tree.rs` | routes filed so that few have to be asked |
//! | `matcher.rs`, `matching.rs`, `pattern.rs`, `re2/` | what conditions are, and whether they hold |
//! | `normalize.rs` | the form of a path that all of them see |
//! | `action.rs`, `template.rs`, `retry_on.rs` | what is done with a request, as data |
//! | `destination.rs` | a destination's settings |
//! | `decision.rs`, `explain.rs`, `flags.rs` | what comes of a request, and why |
//!
//! A decision allocates nothing, and costs what its look-ups cost, however many routes there are.

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
