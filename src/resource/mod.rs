//! The two kinds as plain data: every field that Istio's API has, deprecated ones too.
//!
//! Types are named after the API's messages, fields after its proto fields. What was written and what was not is kept
//! apart wherever it matters: a message or a wrapper that is absent is `None`; a plain scalar that is absent has its
//! empty value, because the API itself cannot tell the two apart. Reading follows Istio's own decoder (the rules
//! stand at the head of `resource/decode.rs`), so that what the mesh takes is taken here; writing follows the CRD in
//! spelling and order, and leaves out what is empty. Reading what was written gives an equal resource.
//!
//! Three of everything: a [`Value`] is a document as it was written, with its places in the text; the types here are
//! what Istio would make of it; whether it is *right* is for the validator, which looks at both.

pub(crate) mod decode;
mod destination_rule;
mod load;
mod meta;
pub(crate) mod nearest;
mod problem;
mod scalar;
pub(crate) mod text;
mod traffic_policy;
pub(crate) mod value;
mod virtual_service;

pub use decode::{FieldProblem, Findings, UnknownField};
pub use destination_rule::*;
pub use load::{Content, Document, LoadError, Loader, Resources};
pub use meta::{Decoded, GROUP, ObjectMeta, VERSIONS, is_served};
pub use problem::{Problem, ProblemKind, ResourceId, Severity};
pub use scalar::*;
pub use text::Limits;
pub use traffic_policy::*;
pub use value::{Data, Entry, Map, Number, Position, Value};
pub use virtual_service::*;
