//! What stands around the spec: whose kind it is.

use pointsman::resource::Value;
use pointsman::validate::{apply, webhook};

/// The webhook looks at group and kind, and never at the version; what has two slashes has no group.
#[test]
fn the_webhook_knows_a_kind_by_its_group() {
    let table = [
        ("networking.istio.io/v1", "DestinationRule", true),
        ("networking.istio.io/v9", "DestinationRule", true),
        ("networking.istio.io/", "DestinationRule", true),
        ("networking.istio.io", "DestinationRule", false),
        ("networking.istio.io/v1/x", "DestinationRule", false),
        ("networking.istio.io/v1/", "DestinationRule", false),
        ("networking.istio.io.example/v1", "DestinationRule", false),
        ("Networking.istio.io/v1", "DestinationRule", false),
        ("/networking.istio.io/v1", "DestinationRule", false),
        ("", "DestinationRule", false),
        ("networking.istio.io/v1", "destinationrule", false),
        ("networking.istio.io/v1", "Gateway", false),
    ];
    for (version, kind, known) in table {
        let text = format!("{{apiVersion: '{version}', kind: {kind}, metadata: {{name: a}}, spec: {{host: a}}}}");
        let document = Value::from_yaml(&text).unwrap();
        let codes: Vec<&str> = webhook(&document).diagnostics.iter().map(|one| one.code).collect();
        let expected: &[&str] = if known { &[] } else { &["DEC-001"] };
        assert_eq!(codes, expected, "{version} {kind}");
        let served = version == "networking.istio.io/v1" && kind == "DestinationRule";
        assert_eq!(apply(&document).to_string().is_empty(), served, "{version} {kind}");
    }
}
