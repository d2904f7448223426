//! What is said about a document: findings, each with its code, its place and what would be right.
//!
//! A finding names a *path* (`spec.http[0].route[1].weight`), not a place: rules look at decoded resources, which do not
//! know where they were written. The place is looked up in the document afterwards, once for each finding, so that a
//! resource without one costs nothing. Where a document lacks the path's last parts (a field that is missing), the place is
//! that of the deepest part which is there.
//!
//! As JSON a finding is one flat object: `severity`, `code`, `resource` (`kind`, `namespace`, `name`), `source`, `path`,
//! `position` (`line`, `column`), `message`, `suggestion`, `related`; what is not known is left out.

use crate::resource::{Position, ResourceId, Value};
use serde::Serialize;
use std::fmt;
use std::sync::Arc;

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum Severity {
    /// The resource is rejected, or what it asks for fails: requests are refused, or a rule is not there.
    Error,
    /// It is accepted and carried out, but hardly as its author meant it.
    Warning,
    /// It may well be meant so.
    Info,
}

impl Severity {
    /// `error`, `warning`, `info`.
    pub fn as_str(self) -> &'static str {
        match self {
            Severity::Error => "error",
            Severity::Warning => "warning",
            Severity::Info => "info",
        }
    }
}

/// One finding.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct Diagnostic {
    /// How bad it is.
    pub severity: Severity,
    /// Which rule: see [`CODES`](super::CODES).
    pub code: &'static str,
    /// Which resource; none for a text that could not be read so far.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub resource: Option<Arc<ResourceId>>,
    /// The name of the text that it was written in, if it has one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source: Option<Arc<str>>,
    /// Where: `spec.http[0].route[1].weight`; empty for the whole document.
    pub path: String,
    /// Line and column in the text, where known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub position: Option<Position>,
    /// What was found, and what would be right.
    pub message: String,
    /// What was probably meant: the nearest known name, or the value that would do.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub suggestion: Option<String>,
    /// Other places that have a part in it: the rule that hides this one, the resource that it conflicts with.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub related: Vec<Related>,
}

/// Another place that has a part in a finding.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct Related {
    /// Which resource; none for the finding's own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub resource: Option<Arc<ResourceId>>,
    /// The name of the text that it was written in, if it is another resource and has one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source: Option<Arc<str>>,
    /// Where.
    pub path: String,
    /// Line and column in the text, where known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub position: Option<Position>,
    /// Its part.
    pub message: String,
}

impl Diagnostic {
    pub(super) fn new(
        severity: Severity,
        code: &'static str,
        path: impl Into<String>,
        message: impl Into<String>,
    ) -> Diagnostic {
        Diagnostic {
            severity,
            code,
            resource: None,
            source: None,
            path: path.into(),
            position: None,
            message: one_line(message.into()),
            suggestion: None,
            related: Vec::new(),
        }
    }

    /// Says what was probably meant.
    pub(super) fn suggest(&mut self, suggestion: Option<impl Into<String>>) -> &mut Diagnostic {
        self.suggestion = suggestion.map(Into::into);
        self
    }

    /// Points at another place of the same resource.
    pub(super) fn relate(&mut self, path: impl Into<String>, message: impl Into<String>) -> &mut Diagnostic {
        self.related.push(Related {
            resource: None,
            source: None,
            path: path.into(),
            position: None,
            message: message.into(),
        });
        self
    }
}

/// What a layer found.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Report {
    /// Everything, in the order of the document's rules.
    pub diagnostics: Vec<Diagnostic>,
}

impl Report {
    /// Is there no error?
    pub fn is_accepted(&self) -> bool {
        self.errors().next().is_none()
    }

    /// The errors.
    pub fn errors(&self) -> impl Iterator<Item = &Diagnostic> {
        self.of(Severity::Error)
    }

    /// The warnings. A document that is rejected has none.
    pub fn warnings(&self) -> impl Iterator<Item = &Diagnostic> {
        self.of(Severity::Warning)
    }

    /// What may well be meant so.
    pub fn infos(&self) -> impl Iterator<Item = &Diagnostic> {
        self.of(Severity::Info)
    }

    fn of(&self, severity: Severity) -> impl Iterator<Item = &Diagnostic> {
        self.diagnostics.iter().filter(move |one| one.severity == severity)
    }

    pub(super) fn error(&mut self, code: &'static str, path: impl Into<String>, message: impl Into<String>) {
        self.add(Severity::Error, code, path, message);
    }

    pub(super) fn warn(&mut self, code: &'static str, path: impl Into<String>, message: impl Into<String>) {
        self.add(Severity::Warning, code, path, message);
    }

    /// Adds a finding, to which more may be said.
    pub(super) fn add(
        &mut self,
        severity: Severity,
        code: &'static str,
        path: impl Into<String>,
        message: impl Into<String>,
    ) -> &mut Diagnostic {
        let at = self.diagnostics.len();
        self.diagnostics.push(Diagnostic::new(severity, code, path, message));
        &mut self.diagnostics[at]
    }

    /// Nothing is warned about where something is wrong; resource and places come from the document.
    pub(super) fn finish(mut self, document: &Value) -> Report {
        if !self.is_accepted() {
            self.diagnostics.retain(|one| one.severity == Severity::Error);
        }
        self.place(document)
    }

    /// Resource and places come from the document.
    pub(super) fn place(mut self, document: &Value) -> Report {
        if self.diagnostics.is_empty() || document.is_null() {
            return self;
        }
        let resource = Arc::new(identify(document));
        for one in &mut self.diagnostics {
            one.resource.get_or_insert_with(|| Arc::clone(&resource));
            one.position = one.position.or_else(|| locate(document, &one.path));
            for related in one.related.iter_mut().filter(|related| related.resource.is_none()) {
                related.position = related.position.or_else(|| locate(document, &related.path));
            }
        }
        self
    }
}

/// Which resource a document says that it is.
fn identify(document: &Value) -> ResourceId {
    let text = |value: Option<&Value>| value.and_then(Value::as_str).unwrap_or_default().to_owned();
    let metadata = document.get("metadata");
    ResourceId {
        kind: text(document.get("kind")),
        namespace: text(metadata.and_then(|metadata| metadata.get("namespace"))),
        name: text(metadata.and_then(|metadata| metadata.get("name"))),
    }
}

/// The place of the deepest part of a path that the document has.
pub(super) fn locate(document: &Value, path: &str) -> Option<Position> {
    let mut value = document;
    let mut position = value.position;
    let mut rest = path;
    while !rest.is_empty() {
        if let Some(inner) = rest.strip_prefix('[') {
            let (key, after) = inner.split_once(']')?;
            rest = after;
            let item = match (key.parse::<usize>(), value.as_list()) {
                (Ok(index), Some(list)) => list.get(index),
                _ => value.get(key),
            };
            let Some(item) = item else { return position };
            value = item;
        } else {
            rest = rest.strip_prefix('.').unwrap_or(rest);
            let end = rest.find(['.', '[']).unwrap_or(rest.len());
            let (key, after) = rest.split_at(end);
            rest = after;
            let entry = value.as_map().and_then(|map| map.entry(key).or_else(|| map.entry(&snake_case(key))));
            let Some(entry) = entry else { return position };
            position = entry.position.or(position);
            value = &entry.value;
        }
        position = value.position.or(position);
    }
    position
}

/// A text that may quote what was written, without what would break the line.
fn one_line(text: String) -> String {
    if text.contains(char::is_control) {
        text.chars().map(|letter| if letter.is_control() { char::REPLACEMENT_CHARACTER } else { letter }).collect()
    } else {
        text
    }
}

/// A field's other spelling.
fn snake_case(name: &str) -> String {
    let mut snake = String::with_capacity(name.len() + 4);
    for letter in name.chars() {
        if letter.is_ascii_uppercase() {
            snake.push('_');
        }
        snake.push(letter.to_ascii_lowercase());
    }
    snake
}

/// One line: `error[VS-HTTP-080] shop.yaml:7:5 VirtualService shop/cart spec.http[0].route: …; did you mean `x`?`
impl fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}[{}]", self.severity.as_str(), self.code)?;
        match (&self.source, self.position) {
            (Some(source), Some(position)) => write!(f, " {source}:{position}")?,
            (Some(source), None) => write!(f, " {source}")?,
            (None, Some(position)) => write!(f, " {position}")?,
            (None, None) => {}
        }
        if let Some(resource) = &self.resource {
            write!(f, " {resource}")?;
        }
        if !self.path.is_empty() {
            write!(f, " {}", one_line(self.path.clone()))?;
        }
        write!(f, ": {}", self.message)?;
        match &self.suggestion {
            Some(suggestion) => write!(f, "; did you mean `{suggestion}`?"),
            None => Ok(()),
        }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, one) in self.diagnostics.iter().enumerate() {
            if index > 0 {
                writeln!(f)?;
            }
            write!(f, "{one}")?;
        }
        Ok(())
    }
}
