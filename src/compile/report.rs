//! What did not make it into the policy, and why.

use serde::Serialize;
use std::fmt;

/// Every rule that is not in the policy (or not as it was written), with the reason.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Report {
    /// In order of kind, resource, rule and code.
    pub notes: Vec<Note>,
}

/// One thing that did not make it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct Note {
    /// `VirtualService` or `DestinationRule`.
    pub kind: &'static str,
    /// `namespace/name`.
    pub resource: String,
    /// The path in its spec: `http[2].match[0]`; empty for the whole resource.
    pub path: String,
    /// Why.
    pub code: NoteCode,
    /// Why, in words.
    pub message: String,
}

/// Why something is not in the policy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum NoteCode {
    /// `exportTo` hides it from the viewpoint.
    NotExported,
    /// It is bound to other gateways than the viewpoint's.
    NotBound,
    /// No service or listener has its hosts.
    NoListener,
    /// An older or more specific resource has its host.
    HostTaken,
    /// A static condition (port, gateways, source labels, source namespace) never holds for the viewpoint.
    NeverHolds,
    /// An earlier rule of the resource takes every request.
    Shadowed,
    /// The delegate is missing.
    DelegateMissing,
    /// The delegate is not exported to the root's namespace.
    DelegateHidden,
    /// The root's and the delegate's conditions contradict each other.
    DelegateConflict,
    /// A delegate that no root names.
    DelegateUnused,
    /// It cannot be carried out as written.
    Invalid,
    /// It names a destination that nobody defines: requests get 503.
    MissingDestination,
    /// A `DestinationRule` whose host no service has.
    NoService,
    /// Another `DestinationRule` counts for this client.
    RuleHidden,
}

impl NoteCode {
    /// The code as findings carry it: `PM-101` and on, or that of the analyzer which says the same, listed in [`CODES`](crate::validate::CODES).
    pub fn code(self) -> &'static str {
        match self {
            NoteCode::NotExported => "PM-101",
            NoteCode::NotBound => "PM-102",
            NoteCode::NoListener => "PM-103",
            NoteCode::HostTaken => "PM-104",
            NoteCode::NeverHolds => "PM-105",
            NoteCode::Shadowed => "PM-106",
            NoteCode::DelegateMissing => "PM-010",
            NoteCode::DelegateHidden => "PM-011",
            NoteCode::DelegateConflict => "PM-109",
            NoteCode::DelegateUnused => "PM-110",
            NoteCode::Invalid => "PM-111",
            NoteCode::MissingDestination => "PM-112",
            NoteCode::NoService => "AN-019",
            NoteCode::RuleHidden => "PM-114",
        }
    }
}

impl Report {
    /// Is there nothing to report?
    pub fn is_empty(&self) -> bool {
        self.notes.is_empty()
    }

    pub(crate) fn note(
        &mut self,
        kind: &'static str,
        resource: &str,
        path: impl Into<String>,
        code: NoteCode,
        message: impl Into<String>,
    ) {
        let note = Note { kind, resource: resource.to_owned(), path: path.into(), code, message: message.into() };
        self.notes.push(note);
    }

    /// Sorts, and says everything once.
    pub(crate) fn finish(&mut self) {
        self.notes.sort();
        self.notes.dedup();
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, note) in self.notes.iter().enumerate() {
            if index > 0 {
                writeln!(f)?;
            }
            write!(f, "{note}")?;
        }
        Ok(())
    }
}

impl fmt::Display for Note {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.kind, self.resource)?;
        if !self.path.is_empty() {
            write!(f, " spec.{}", self.path)?;
        }
        write!(f, ": {}", self.message)
    }
}
