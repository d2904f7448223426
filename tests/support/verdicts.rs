//! Verdicts on resources and patterns, against those of the API server, the webhook and Envoy.

use super::CaseResult;
use serde::Deserialize;
use std::path::Path;

#[derive(Deserialize)]
struct Pattern {
    pattern: String,
    valid: bool,
}

fn read<T: serde::de::DeserializeOwned>(path: &Path) -> Result<Vec<T>, String> {
    let text = std::fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))?;
    serde_json::from_str(&text).map_err(|error| format!("{}: {error}", path.display()))
}

/// Verdicts on resources.
pub fn cases(_path: &Path) -> Result<Vec<CaseResult>, String> {
    Ok(Vec::new())
}

/// Verdicts on patterns.
pub fn patterns(path: &Path) -> Result<Vec<CaseResult>, String> {
    let patterns: Vec<Pattern> = read(path)?;
    let judge = |one: Pattern| {
        let judged = pointsman::policy::check_regex(&one.pattern);
        let differences = if judged.is_ok() == one.valid {
            Vec::new()
        } else {
            vec![format!("valid: expected {}, got {judged:?}", one.valid)]
        };
        CaseResult { case: format!("regex `{}`", one.pattern), differences }
    };
    Ok(patterns.into_iter().map(judge).collect())
}
