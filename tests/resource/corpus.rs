//! Every resource that a real control plane took is taken here.

use std::path::PathBuf;

use pointsman::resource::{ProblemKind, Resources};
use serde_json::Value;

fn folder() -> Option<PathBuf> {
    let given = std::env::var_os("CONFORMANCE_DIR").map(PathBuf::from);
    let folder = given.unwrap_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/conformance"));
    folder.is_dir().then_some(folder)
}

/// Whether a key somewhere is spelt as in the proto.
fn has_proto_name(value: &Value) -> bool {
    match value {
        Value::Object(map) => map.iter().any(|(key, value)| key.contains('_') || has_proto_name(value)),
        Value::Array(items) => items.iter().any(has_proto_name),
        _ => false,
    }
}

#[test]
fn every_world_is_read() {
    let Some(folder) = folder() else { return };
    let mut worlds = 0;
    for entry in std::fs::read_dir(folder.join("worlds")).expect("a folder of worlds") {
        let path = entry.expect("an entry").path();
        let text = std::fs::read_to_string(&path).expect("a world");
        let world: Value = serde_yaml::from_str(&text).expect("YAML");
        let Some(resources) = world.get("resources").and_then(Value::as_str) else { continue };
        let read = Resources::from_yaml(resources).expect("within the limits");
        assert!(read.problems.is_empty(), "{}: {}", path.display(), read.problems[0]);
        assert!(read.skipped.is_empty(), "{}: {:?}", path.display(), read.skipped);
        let again = Resources::from_yaml(&read.to_yaml()).expect("within the limits");
        assert_eq!(read.virtual_services, again.virtual_services, "{}", path.display());
        assert_eq!(read.destination_rules, again.destination_rules, "{}", path.display());
        worlds += 1;
    }
    assert!(worlds > 100, "only {worlds} worlds");
}

#[test]
fn the_schema_s_verdicts_are_kept_to() {
    let Some(folder) = folder() else { return };
    let text = std::fs::read_to_string(folder.join("validation/cases.json")).expect("the cases");
    let cases: Vec<Value> = serde_json::from_str(&text).expect("JSON");
    let mut seen = 0;
    for case in &cases {
        let name = case["name"].as_str().expect("a name");
        let resources = Resources::from_json(&case["resource"].to_string()).expect("within the limits");
        match case["schema"].as_str() {
            // The schema has no rule for some durations; the decoder has, and then the webhook refused.
            Some("ok") => {
                let allowed = |kind| case["webhook"] == "reject" && kind == ProblemKind::Field;
                let other = resources.problems.iter().find(|problem| !allowed(problem.kind));
                assert!(other.is_none(), "{name}: {other:?}");
            }
            Some("unknown-field") => {
                let unknown = |kind| matches!(kind, ProblemKind::UnknownField);
                let told = resources.problems.iter().any(|problem| unknown(problem.kind));
                // The schema knows fewer spellings than the decoder.
                assert!(told || has_proto_name(&case["resource"]["spec"]), "{name}: {:?}", resources.problems);
            }
            _ => {}
        }
        // What the admission webhook accepted was decoded.
        if case["webhook"] == "accept" {
            assert_eq!(resources.errors().count(), 0, "{name}: {:?}", resources.problems);
        }
        seen += 1;
    }
    assert!(seen > 100, "only {seen} cases");
}
