//! Laws: what was printed reads back as the same; no text does harm.

use pointsman::resource::{DestinationRule, Duration, Resources, Value as Tree, VirtualService};
use proptest::prelude::*;
use serde_json::Value;

use crate::schema::{Shape, envelope, put, rows, value};

/// Strings that some reader takes for something else, and any others.
fn text() -> impl Strategy<Value = String> {
    let odd = [
        "",
        "yes",
        "No",
        "ON",
        "y",
        "n",
        "012",
        "0o14",
        "1_000",
        "+5",
        "5.",
        "~",
        "null",
        "true",
        ".inf",
        "NaN",
        "<<",
        "- a",
        "a: b",
        "a #b",
        "*a",
        "&a",
        "!t",
        "|",
        ">",
        "'",
        "\"",
        "{",
        "[",
        "%",
        "@",
        "`",
        "?",
        ":",
        "-",
        "---",
        "...",
        "1:30",
        "2024-01-01",
        "1e3",
        "0x1F",
        " a",
        "a ",
        "\n",
        "a\nb",
        "\t",
        "\u{85}",
        "\u{2028}",
        "\u{feff}",
        "/api/v1",
        "reviews.default.svc.cluster.local",
        "10.0.0.1",
        "5s",
        "5m",
        "1.5h",
        "0",
        "1h",
    ];
    prop_oneof![prop::sample::select(odd.to_vec()).prop_map(str::to_owned), "[a-z][a-z0-9-]{0,8}", any::<String>(),]
}

/// A document with some fields of its kind.
fn document(kind: &'static str) -> impl Strategy<Value = Value> {
    let rows: Vec<_> = rows()
        .into_iter()
        .filter(|row| row.kind == kind && row.path != "spec" && !matches!(row.shape, Shape::List | Shape::Map))
        .collect();
    let fields = prop::collection::vec((0..rows.len(), any::<u64>(), 0..3_usize, text(), text()), 0..40);
    fields.prop_map(move |fields| {
        let mut document = envelope(kind);
        for (row, seed, index, key, text) in fields {
            let row = &rows[row];
            put(&mut document, row.path, index, &key, value(&row.shape, seed, &text));
        }
        document
    })
}

/// What both kinds must do.
fn reads_back(document: &Value) -> Result<(), TestCaseError> {
    let text = document.to_string();
    let first = Resources::from_json(&text).expect("within the limits");
    prop_assert_eq!(first.errors().count(), 0, "{:?}", &first.problems);
    let yaml = first.to_yaml();
    let second = Resources::from_yaml(&yaml).expect("within the limits");
    prop_assert!(second.problems.is_empty(), "{:?}\n{}", &second.problems, yaml);
    prop_assert_eq!(&first.virtual_services, &second.virtual_services, "{}", &yaml);
    prop_assert_eq!(&first.destination_rules, &second.destination_rules, "{}", &yaml);
    // Another reader of YAML takes it for the same.
    for document in serde_yaml::Deserializer::from_str(&yaml) {
        let tree: Tree = serde::Deserialize::deserialize(document).expect("YAML");
        for service in &first.virtual_services {
            prop_assert_eq!(&tree, &service.to_value(), "{}", &yaml);
            prop_assert_eq!(&VirtualService::from_value(&tree).expect("reads").resource, service);
        }
        for rule in &first.destination_rules {
            prop_assert_eq!(&DestinationRule::from_value(&tree).expect("reads").resource, rule);
        }
    }
    for service in &first.virtual_services {
        let json = service.to_json();
        prop_assert_eq!(&serde_json::from_str::<VirtualService>(&json).expect("reads"), service, "{}", &json);
    }
    for rule in &first.destination_rules {
        let json = rule.to_json();
        prop_assert_eq!(&serde_json::from_str::<DestinationRule>(&json).expect("reads"), rule, "{}", &json);
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(200) })]

    #[test]
    fn virtual_services_read_back(document in document("VirtualService")) {
        reads_back(&document)?;
    }

    #[test]
    fn destination_rules_read_back(document in document("DestinationRule")) {
        reads_back(&document)?;
    }

    #[test]
    fn durations_read_back(nanos in any::<i64>(), shift in 0..63_u32) {
        let duration = Duration::from_nanos(nanos >> shift);
        prop_assert_eq!(duration.to_string().parse::<Duration>(), Ok(duration));
    }

    #[test]
    fn no_duration_does_harm(text in "[-+]?([0-9.]{0,25}(ns|us|µs|ms|s|m|h|d)?){0,4}") {
        if let Ok(duration) = text.parse::<Duration>() {
            prop_assert_eq!(duration.to_string().parse::<Duration>(), Ok(duration));
        }
    }

    #[test]
    fn no_text_does_harm(text in any::<String>()) {
        let _ = Resources::from_json(&text);
        let _ = Resources::from_yaml(&text);
    }

    #[test]
    fn no_text_of_yaml_indicators_does_harm(text in "([-?:,#&*!|>'\"%@`{}\\[\\]<~ \n\ta-c019.]|---\n|kind: List\n|items:\n){0,60}") {
        let _ = Resources::from_yaml(&text);
        let _ = Resources::from_json(&text);
    }

    #[test]
    fn both_readers_agree_on_json(document in document("VirtualService")) {
        // A comment keeps the text from being read as JSON.
        let text = document.to_string();
        let tree = Tree::from_json(&text).expect("JSON");
        let special = |c: char| c.is_control() || matches!(c, '\u{2028}' | '\u{2029}' | '\u{feff}' | '\u{fffe}'..);
        if !text.contains("\\u") && !text.contains(special) {
            let other = Tree::from_yaml(&format!("# a comment\n{text}"));
            prop_assert_eq!(other.as_ref(), Ok(&tree));
        }
    }

    #[test]
    fn trees_read_back(text in text(), key in text()) {
        let tree: Tree = serde_json::from_value(serde_json::json!([[text, {key: [text, [], {}, null]}], true])).expect("a tree");
        let read = Tree::from_yaml(&tree.to_yaml());
        prop_assert_eq!(read.as_ref(), Ok(&tree), "{}", tree.to_yaml());
        let read = Tree::from_json(&tree.to_json());
        prop_assert_eq!(read.as_ref(), Ok(&tree));
    }
}
