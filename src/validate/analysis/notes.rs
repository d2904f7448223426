//! What the compile's report says for one client, as findings.
//!
//! Each [`NoteCode`] has a code of its own. What an analyzer of this room says better, with a suggestion and whatever the
//! client, is left to it; of a rule that is hidden only one of the two speaks.

use super::Context;
use crate::compile::{Note, NoteCode};
use crate::policy::Policy;
use crate::validate::report::{Report, Severity};
use std::collections::HashMap;

/// Notes by kind and name.
pub(super) struct Notes {
    by_resource: HashMap<(&'static str, String), Vec<Note>>,
}

impl Notes {
    pub(super) fn new(context: &Context<'_>) -> Notes {
        let mut by_resource: HashMap<_, Vec<Note>> = HashMap::new();
        if let Some((mesh, viewpoint)) = context.mesh {
            for note in Policy::compile(context.resources, mesh, viewpoint).report.notes {
                by_resource.entry((note.kind, note.resource.clone())).or_default().push(note);
            }
        }
        Notes { by_resource }
    }

    /// Adds what there is about a resource.
    pub(super) fn add(&self, kind: &'static str, name: &str, report: &mut Report) {
        for note in self.by_resource.get(&(kind, name.to_owned())).into_iter().flatten() {
            let path = match note.path.as_str() {
                "" => "spec".to_owned(),
                path => format!("spec.{path}"),
            };
            let told = report
                .diagnostics
                .iter()
                .any(|one| covers(one.code, note.code) && (path.starts_with(&one.path) || one.path.starts_with(&path)));
            if !told {
                report.add(severity(note.code), note.code.code(), path, note.message.as_str());
            }
        }
    }
}

/// Does a finding say what a note says, at the same place or around it?
fn covers(found: &str, note: NoteCode) -> bool {
    match note {
        NoteCode::Shadowed => matches!(found, "PM-020" | "PM-021"),
        NoteCode::NeverHolds => matches!(found, "PM-012" | "PM-020" | "PM-021" | "PM-023"),
        NoteCode::DelegateMissing => found == "PM-010",
        NoteCode::DelegateHidden => found == "PM-011",
        NoteCode::HostTaken => found == "AN-014",
        NoteCode::NoListener => found == "AN-011",
        NoteCode::NoService => found == "AN-019",
        NoteCode::RuleHidden => matches!(found, "PM-072" | "PM-073"),
        NoteCode::Invalid => found == "PM-030",
        NoteCode::MissingDestination => matches!(found, "AN-005" | "AN-006" | "AN-007" | "AN-008" | "AN-009"),
        _ => false,
    }
}

fn severity(code: NoteCode) -> Severity {
    match code {
        NoteCode::DelegateMissing | NoteCode::DelegateHidden | NoteCode::Invalid | NoteCode::MissingDestination => {
            Severity::Error
        }
        NoteCode::NoListener
        | NoteCode::HostTaken
        | NoteCode::Shadowed
        | NoteCode::DelegateConflict
        | NoteCode::NoService => Severity::Warning,
        // What is for others, or may be for a client that is not asked about.
        NoteCode::NotExported
        | NoteCode::NotBound
        | NoteCode::NeverHolds
        | NoteCode::DelegateUnused
        | NoteCode::RuleHidden => Severity::Info,
    }
}
