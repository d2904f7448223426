//! Findings as SARIF 2.1.0, which code hosts and editors read (feature `diagnostics`).
//!
//! One run with one tool. Its rules are the codes that occur, with meaning and repair; a finding's place is its source, line
//! and column (counted in characters), and its resource and path are a logical location. Information is the level `note`.

use super::codes;
use super::report::{Diagnostic, Report, Severity};
use crate::resource::Position;
use serde::Serialize;
use std::collections::BTreeMap;

/// A report as SARIF: serialize it with any JSON writer.
///
/// ```
/// use pointsman::Resources;
/// use pointsman::validate::{Sarif, analyze};
///
/// let resources = Resources::from_yaml("{apiVersion: networking.istio.io/v1, kind: DestinationRule, spec: {}}")?;
/// let sarif = serde_json::to_value(Sarif::new(&analyze(&resources, None)))?;
/// assert_eq!(sarif["runs"][0]["results"][0]["ruleId"], "CRD-DR-001");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, Serialize)]
pub struct Sarif<'r> {
    #[serde(rename = "$schema")]
    schema: &'static str,
    version: &'static str,
    runs: [Run<'r>; 1],
}

#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Run<'r> {
    tool: Tool,
    column_kind: &'static str,
    results: Vec<Outcome<'r>>,
}

#[derive(Clone, Debug, Serialize)]
struct Tool {
    driver: Driver,
}

#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Driver {
    name: &'static str,
    version: &'static str,
    information_uri: &'static str,
    rules: Vec<Rule>,
}

#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Rule {
    id: &'static str,
    short_description: Message,
    help: Message,
    default_configuration: Configuration,
}

#[derive(Clone, Debug, Serialize)]
struct Configuration {
    level: &'static str,
}

#[derive(Clone, Debug, Serialize)]
struct Message {
    text: String,
}

#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Outcome<'r> {
    rule_id: &'static str,
    rule_index: usize,
    level: &'static str,
    message: Message,
    locations: Vec<Location<'r>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    related_locations: Vec<Location<'r>>,
}

#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Location<'r> {
    #[serde(skip_serializing_if = "Option::is_none")]
    physical_location: Option<Physical<'r>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    logical_locations: Vec<Logical>,
    #[serde(skip_serializing_if = "Option::is_none")]
    message: Option<Message>,
}

#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Physical<'r> {
    artifact_location: Artifact<'r>,
    #[serde(skip_serializing_if = "Option::is_none")]
    region: Option<Region>,
}

#[derive(Clone, Debug, Serialize)]
struct Artifact<'r> {
    uri: &'r str,
}

#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Region {
    start_line: usize,
    start_column: usize,
}

#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Logical {
    fully_qualified_name: String,
    kind: &'static str,
}

impl<'r> Sarif<'r> {
    /// The report, with the codes that occur in it.
    pub fn new(report: &'r Report) -> Sarif<'r> {
        let used: BTreeMap<&'static str, ()> = report.diagnostics.iter().map(|one| (one.code, ())).collect();
        let index: BTreeMap<&'static str, usize> = used.into_keys().zip(0..).collect();
        let rules = index
            .keys()
            .filter_map(|code| codes::find(code))
            .map(|info| Rule {
                id: info.code,
                short_description: Message { text: info.meaning.to_owned() },
                help: Message { text: info.repair.to_owned() },
                default_configuration: Configuration { level: level(info.severity) },
            })
            .collect();
        let results = report.diagnostics.iter().map(|one| outcome(one, index[one.code])).collect();
        let driver = Driver {
            name: env!("CARGO_PKG_NAME"),
            version: env!("CARGO_PKG_VERSION"),
            information_uri: env!("CARGO_PKG_REPOSITORY"),
            rules,
        };
        Sarif {
            schema: "https://json.schemastore.org/sarif-2.1.0.json",
            version: "2.1.0",
            runs: [Run { tool: Tool { driver }, column_kind: "unicodeCodePoints", results }],
        }
    }
}

fn level(severity: Severity) -> &'static str {
    match severity {
        Severity::Error => "error",
        Severity::Warning => "warning",
        Severity::Info => "note",
    }
}

fn outcome(one: &Diagnostic, rule_index: usize) -> Outcome<'_> {
    let help = one.suggestion.as_ref().map(|suggestion| format!("; did you mean `{suggestion}`?")).unwrap_or_default();
    let name = |resource: &str, path: &str| Logical {
        fully_qualified_name: format!("{resource} {path}").trim().to_owned(),
        kind: "object",
    };
    let resource = one.resource.as_ref().map(ToString::to_string).unwrap_or_default();
    let related = one.related.iter().map(|related| {
        let other = related.resource.as_ref().map(ToString::to_string);
        let source = if other.is_some() { related.source.as_deref() } else { one.source.as_deref() };
        Location {
            physical_location: physical(source, related.position),
            logical_locations: vec![name(other.as_deref().unwrap_or(&resource), &related.path)],
            message: Some(Message { text: related.message.clone() }),
        }
    });
    Outcome {
        rule_id: one.code,
        rule_index,
        level: level(one.severity),
        message: Message { text: format!("{}{help}", one.message) },
        locations: vec![Location {
            physical_location: physical(one.source.as_deref(), one.position),
            logical_locations: one.resource.iter().map(|_| name(&resource, &one.path)).collect(),
            message: None,
        }],
        related_locations: related.collect(),
    }
}

fn physical(source: Option<&str>, position: Option<Position>) -> Option<Physical<'_>> {
    let region = position.map(|at| Region { start_line: at.line, start_column: at.column });
    source.map(|uri| Physical { artifact_location: Artifact { uri }, region })
}
