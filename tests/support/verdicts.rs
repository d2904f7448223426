//! Verdicts on resources and patterns, against those of the API server, the webhook and Envoy.

use super::CaseResult;
use pointsman::resource::Value;
use pointsman::validate::{self, SchemaVerdict};
use serde::Deserialize;
use std::path::Path;

#[derive(Deserialize)]
struct Case {
    name: String,
    schema: String,
    webhook: String,
    #[serde(default)]
    warnings: usize,
    resource: serde_json::Value,
}

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
pub fn cases(path: &Path) -> Result<Vec<CaseResult>, String> {
    let cases: Vec<Case> = read(path)?;
    Ok(cases.into_iter().map(|case| CaseResult { differences: judge(&case), case: case.name }).collect())
}

fn judge(case: &Case) -> Vec<String> {
    let value = match Value::from_json(&case.resource.to_string()) {
        Ok(value) => value,
        Err(error) => return vec![format!("it cannot be read: {error}")],
    };
    let mut differences = Vec::new();
    let (verdict, schema) = validate::schema(&value);
    let verdict = match verdict {
        SchemaVerdict::Ok => "ok",
        SchemaVerdict::UnknownField => "unknown-field",
        _ => "reject",
    };
    if verdict != case.schema {
        differences.push(format!("schema: expected {}, got {verdict}: {schema}", case.schema));
    }
    let webhook = validate::webhook(&value);
    let judged = if webhook.is_accepted() { "accept" } else { "reject" };
    if judged != case.webhook {
        differences.push(format!("webhook: expected {}, got {judged}: {webhook}", case.webhook));
    }
    let warnings = webhook.warnings().count();
    if warnings != case.warnings {
        differences.push(format!("warnings: expected {}, got {warnings}: {webhook}", case.warnings));
    }
    differences
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
