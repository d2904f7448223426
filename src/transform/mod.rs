//! Pure functions on request and response heads: what a route asks for, done to the letter.

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
