//! Pure functions on request and response heads: what a route asks for, done to the letter.

mod context;
pub(crate) mod cors;
mod date;
pub(crate) mod grpc_timeout;
pub(crate) mod hash;
pub(crate) mod headers;
pub(crate) mod redirect;
pub(crate) mod respond;
pub(crate) mod rewrite;
mod template;

pub use context::Context;
pub use headers::Direction;
pub use respond::LocalReply;
pub(crate) use respond::grpc_status_named;
pub use template::{TemplateError, ValueTemplate};
