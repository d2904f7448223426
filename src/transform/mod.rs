//! Pure functions on request and response heads: what a route asks for, done to the letter.
//!
//! Header operations, rewrites, redirects and local answers read their values from templates:
//!
//! ```
//! use pointsman::transform::ValueTemplate;
//!
//! assert!(ValueTemplate::parse("%REQ(:path)% by %ROUTE_NAME%").is_ok());
//! assert_eq!(ValueTemplate::parse("100%").unwrap_err().to_string(), "a `%` has no second one; write `%%` for a percent sign");
//! ```

pub(crate) mod cors;
pub(crate) mod grpc_timeout;
pub(crate) mod hash;
pub(crate) mod headers;
pub(crate) mod redirect;
pub(crate) mod respond;
pub(crate) mod rewrite;

pub use crate::policy::{Context, TemplateError, ValueTemplate};
pub use headers::Direction;
pub use respond::LocalReply;
