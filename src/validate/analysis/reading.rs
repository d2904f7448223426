//! Texts that could not be read so far that a layer would have something to judge.

use crate::resource::{ProblemKind, Resources, Severity as ProblemSeverity};
use crate::validate::report::{Report, Severity};
use std::collections::HashSet;
use std::sync::Arc;

/// PM-001 to PM-003. Problems with fields are left to the layers, which say more of them.
pub(super) fn check(resources: &Resources) -> Report {
    let kept: HashSet<_> = resources.documents.iter().map(|one| (&one.source_name, one.number, &one.id)).collect();
    let mut report = Report::default();
    for problem in &resources.problems {
        let code = match problem.kind {
            ProblemKind::Syntax => "PM-001",
            ProblemKind::Envelope => "PM-002",
            ProblemKind::UnknownKind => "PM-003",
            ProblemKind::Field | ProblemKind::UnknownField => continue,
        };
        let judged =
            problem.resource.as_ref().is_some_and(|id| kept.contains(&(&problem.source_name, problem.document, id)));
        if judged && problem.kind == ProblemKind::Envelope {
            continue;
        }
        let severity = match problem.severity {
            ProblemSeverity::Error => Severity::Error,
            ProblemSeverity::Warning => Severity::Warning,
        };
        let finding = report.add(severity, code, problem.path.as_str(), problem.message.as_str());
        finding.suggest(problem.suggestion.as_deref());
        finding.resource = problem.resource.clone().map(Arc::new);
        finding.source.clone_from(&problem.source_name);
        finding.position = problem.position;
    }
    report
}
