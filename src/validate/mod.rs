//! Is a policy right? As the API server, Istio's webhook, and an experienced reader would judge it.
//!
//! Layers, each of them callable alone:
//!
//! | layer | what it asks | entry |
//! |---|---|---|
//! | schema | the CRD: types, required fields, enums, bounds, one-of groups, unknown fields, then CEL | [`schema`] |
//! | webhook | does it decode, and do the rules of Istio's admission webhook hold; what does it warn of | [`webhook`] |
//! | apply | both, in the API server's order | [`apply`] |
//! | analysis | all documents together: `apply` for each, what they say of each other and of a mesh, and what a compile leaves out | [`analyze`] |
//!
//! Each finding is a [`Diagnostic`] with a stable code (`VS-HTTP-011`, `DR-LB-008`, …); [`CODES`] has a table of all of them
//! with examples. The verdict of a layer is *reject* if it found an error. A resource that is rejected is not warned about.
//!
//! Findings print as one line each. With the feature `diagnostics` they print as a compiler's do, with the line of the source
//! and what is marked in it (`Sources`), and as SARIF (`Sarif`); as JSON they are plain serde data.

mod analysis;
mod codes;
mod destination_rule;
mod predicates;
#[cfg(feature = "diagnostics")]
mod render;
mod report;
#[cfg(feature = "diagnostics")]
mod sarif;
mod schema;
mod unreachable;
mod virtual_service;

pub use analysis::analyze;
pub use codes::{At, CODES, CodeInfo, EXAMPLE_MESH};
#[cfg(feature = "diagnostics")]
pub use render::Sources;
pub use report::{Diagnostic, Related, Report, Severity};
#[cfg(feature = "diagnostics")]
pub use sarif::Sarif;
pub use schema::SchemaVerdict;

use crate::resource::{DestinationRule, Findings, GROUP, Value, VirtualService};

/// Judges a document by the CRD: structure first, then unknown fields, then CEL.
///
/// ```
/// use pointsman::resource::Value;
/// use pointsman::validate::{SchemaVerdict, schema};
///
/// let document = Value::from_json(r#"{"apiVersion": "networking.istio.io/v1", "kind": "VirtualService",
///     "metadata": {"name": "a"}, "spec": {"hosts": "reviews"}}"#)?;
/// let (verdict, report) = schema(&document);
/// assert_eq!(verdict, SchemaVerdict::Reject);
/// assert_eq!(report.diagnostics[0].path, "spec.hosts");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn schema(document: &Value) -> (SchemaVerdict, Report) {
    let mut report = Report::default();
    let verdict = schema::judge(document, &mut report);
    (verdict, report.finish(document))
}

/// Judges a document as Istio's admission webhook: does it decode, and do the rules hold?
pub fn webhook(document: &Value) -> Report {
    let mut report = Report::default();
    if envelope(document, &mut report) {
        schema::unknown_names(document, &mut report);
        rules(document, &mut report);
    }
    report.finish(document)
}

/// Judges a document as the API server does when it is applied: the schema first, the webhook if that has nothing to say.
pub fn apply(document: &Value) -> Report {
    let (verdict, report) = schema(document);
    if verdict == SchemaVerdict::Ok { webhook(document) } else { report }
}

/// What stands around the spec. False if there is no use in looking further.
fn envelope(document: &Value, report: &mut Report) -> bool {
    let Some(map) = document.as_map() else {
        report.error("DEC-023", "", "a resource is an object");
        return false;
    };
    let text = |name: &str| map.get(name).and_then(Value::as_str).unwrap_or_default();
    let (version, kind) = (text("apiVersion"), text("kind"));
    // A version is not looked at, but `a/b/c` has no group at all.
    let group = version.split_once('/').filter(|(_, version)| !version.contains('/')).map(|(group, _)| group);
    if group != Some(GROUP) || !matches!(kind, VirtualService::KIND | DestinationRule::KIND) {
        let message = format!("`{kind}` of `{version}` is not a kind of `{GROUP}`");
        report.error("DEC-001", "kind", message);
        return false;
    }
    for entry in map {
        if !matches!(entry.key.as_str(), "apiVersion" | "kind" | "metadata" | "spec" | "status") {
            let message = format!(
                "`{}` is not a field of a resource; only apiVersion, kind, metadata, spec and status are",
                entry.key
            );
            report.error("DEC-004", entry.key.as_str(), message);
        }
    }
    if let Some(spec) = map.get("spec")
        && spec.as_map().is_none()
        && !spec.is_null()
    {
        report.error("DEC-023", "spec", format!("the spec is an object, not {}", spec.type_name()));
        return false;
    }
    true
}

/// Decodes, and asks every rule.
fn rules(document: &Value, report: &mut Report) {
    let wrong = |findings: Findings, report: &mut Report| {
        for problem in findings.errors {
            report.error("DEC-021", problem.path, problem.message);
        }
    };
    match document.get("kind").and_then(Value::as_str) {
        Some("VirtualService") => match VirtualService::from_value(document) {
            Ok(decoded) => check_virtual_service(&decoded.resource, report),
            Err(findings) => wrong(findings, report),
        },
        _ => match DestinationRule::from_value(document) {
            Ok(decoded) => check_destination_rule(&decoded.resource, report),
            Err(findings) => wrong(findings, report),
        },
    }
}

fn check_virtual_service(resource: &VirtualService, report: &mut Report) {
    metadata(&resource.metadata, report);
    virtual_service::check(resource, report);
}

fn check_destination_rule(resource: &DestinationRule, report: &mut Report) {
    metadata(&resource.metadata, report);
    destination_rule::check(resource, report);
}

impl VirtualService {
    /// Asks the webhook's rules.
    pub fn validate(&self) -> Report {
        let mut report = Report::default();
        check_virtual_service(self, &mut report);
        report.finish(&Value::NULL)
    }
}

impl DestinationRule {
    /// Asks the webhook's rules.
    pub fn validate(&self) -> Report {
        let mut report = Report::default();
        check_destination_rule(self, &mut report);
        report.finish(&Value::NULL)
    }
}

/// META-001 to META-004: annotations that nobody may set.
fn metadata(metadata: &crate::resource::ObjectMeta, report: &mut Report) {
    const FORBIDDEN: [(&str, &str); 4] = [
        ("META-001", "istio.io/dry-run"),
        ("META-002", "internal.istio.io/webhook-always-reject"),
        ("META-003", "internal.istio.io/parent-namespace"),
        ("META-004", "internal.istio.io/parents"),
    ];
    for (code, name) in FORBIDDEN {
        if metadata.annotations.contains_key(name) {
            let message = format!("the annotation `{name}` cannot be set on this kind");
            report.error(code, format!("metadata.annotations[{name}]"), message);
        }
    }
}
