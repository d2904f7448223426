//! What reading a text has to say about it.

use std::fmt;
use std::sync::Arc;

use serde::Serialize;

use super::value::Position;

/// How much a problem matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Severity {
    /// Something was read that has no effect.
    Warning,
    /// A document, or a resource in it, could not be taken.
    Error,
}

/// What sort of problem it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum ProblemKind {
    /// The text is no YAML or JSON, or is beyond the limits of a document.
    Syntax,
    /// The document is no Kubernetes object, or none of a version that is served.
    Envelope,
    /// A field's value cannot be read.
    Field,
    /// A field that is not known; it has no effect.
    UnknownField,
    /// A kind that is not known but nearly named as one of the two; it was skipped.
    UnknownKind,
}

/// Which resource.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[non_exhaustive]
pub struct ResourceId {
    /// The kind.
    pub kind: String,
    /// The namespace; empty where the document does not say it.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub namespace: String,
    /// The name; empty where the document does not say it.
    pub name: String,
}

impl fmt::Display for ResourceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.kind)?;
        match (self.namespace.as_str(), self.name.as_str()) {
            ("", "") => Ok(()),
            ("", name) => write!(f, " {name}"),
            (namespace, name) => write!(f, " {namespace}/{name}"),
        }
    }
}

/// One thing that reading a text has to say: where, about which resource and field, what was found and what would be
/// right.
///
/// It prints as one line: ``routes.yaml:12:7: VirtualService shop/reviews: spec.http[0].timeot: unknown field; did you
/// mean `timeout`?`` Without a source's name the line begins with the number of the document.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub struct Problem {
    /// How much it matters.
    pub severity: Severity,
    /// What sort it is.
    pub kind: ProblemKind,
    /// The name of the source, if it has one.
    pub source_name: Option<Arc<str>>,
    /// The document in the source, from 1.
    pub document: usize,
    /// Where in the source, where that is known.
    pub position: Option<Position>,
    /// The resource, if it is known which.
    pub resource: Option<ResourceId>,
    /// The field, from `spec` or `metadata` on; empty where it is not about one.
    pub path: String,
    /// What was found and what was expected.
    pub message: String,
    /// The known name that was probably meant.
    pub suggestion: Option<String>,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.source_name {
            Some(source) => write!(f, "{source}")?,
            None => write!(f, "document {}", self.document)?,
        }
        if let Some(position) = self.position {
            write!(f, ":{position}")?;
        }
        if let Some(resource) = &self.resource {
            write!(f, ": {resource}")?;
        }
        if !self.path.is_empty() {
            write!(f, ": {}", self.path)?;
        }
        write!(f, ": {}", self.message)?;
        match &self.suggestion {
            Some(suggestion) => write!(f, "; did you mean `{suggestion}`?"),
            None => Ok(()),
        }
    }
}
