//! Each field of the two kinds, alone in a document: it is known, and it is written as it was read.

use pointsman::resource::{DestinationRule, Resources, Value as Tree, VirtualService};
use serde_json::{Value, json};

use crate::schema::{Row, Shape, envelope, find, put, rows, value};

/// Reads a document and writes it again.
fn through(document: &Value) -> Value {
    let resources = Resources::from_json(&document.to_string()).expect("within the limits");
    assert!(resources.problems.is_empty(), "{document}\n{:#?}", resources.problems);
    let written = match (resources.virtual_services.first(), resources.destination_rules.first()) {
        (Some(service), None) => service.to_json(),
        (None, Some(rule)) => rule.to_json(),
        _ => panic!("not one resource: {document}"),
    };
    serde_json::from_str(&written).expect("what is written is JSON")
}

/// How a path is spelt when it is written.
fn canonical(path: &str) -> String {
    path.replace("mirror_percent", "mirrorPercent")
}

fn each_field(check: impl Fn(&Row, &Value, &Value)) {
    let rows = rows();
    assert!(rows.len() > 600);
    for row in &rows {
        let value = match row.shape {
            // A list or a map without items is as good as none.
            Shape::List | Shape::Map => continue,
            ref shape => value(shape, 41, "x7"),
        };
        let mut document = envelope(row.kind);
        put(&mut document, row.path, 0, "key", value.clone());
        check(row, &document, &value);
    }
}

/// A scalar is as it was; a message is there, with no more than the fields that the schema requires.
fn same(row: &Row, found: Option<&Value>, value: &Value) {
    if row.shape == Shape::Message {
        assert!(found.is_some_and(Value::is_object), "{}: {found:?}", row.path);
    } else {
        assert_eq!(found, Some(value), "{}", row.path);
    }
}

#[test]
fn each_field_is_written_as_it_was_read() {
    each_field(|row, document, value| {
        let written = through(document);
        same(row, find(&written, &canonical(row.path), "key"), value);
    });
}

#[test]
fn each_field_is_known_by_its_proto_name() {
    let snake = |path: &str| -> String {
        let spelt: String = path
            .chars()
            .map(|c| if c.is_ascii_uppercase() { format!("_{}", c.to_ascii_lowercase()) } else { c.to_string() })
            .collect();
        spelt.replace("consecutive5xx", "consecutive_5xx")
    };
    each_field(|row, document, value| {
        let mut other = envelope(row.kind);
        put(&mut other, &snake(row.path), 0, "key", value.clone());
        assert_eq!(through(&other), through(document), "{}", row.path);
    });
}

#[test]
fn null_and_absent_are_one_and_zero_is_another() {
    each_field(|row, document, _| {
        let mut document = document.clone();
        put(&mut document, row.path, 0, "key", Value::Null);
        let without = through(&document);
        // An item that is null is the empty item; a field that is null is none.
        if row.path != "spec" && !row.path.ends_with("[]") && !row.path.ends_with("{}") {
            let required = ["host", "name", "status", "mode", "version", "targetHost", "targetPort"];
            if !required.iter().any(|name| row.path.ends_with(&format!(".{name}"))) {
                assert_eq!(find(&without, &canonical(row.path), "key"), None, "{}", row.path);
            }
        }
        if row.nullable && row.shape != Shape::Bool {
            put(&mut document, row.path, 0, "key", json!(0));
            let zero = through(&document);
            assert_eq!(find(&zero, &canonical(row.path), "key"), Some(&json!(0)), "{}", row.path);
        }
    });
}

#[test]
fn a_wrong_type_is_told_with_the_path() {
    each_field(|row, document, _| {
        let wrong = match row.shape {
            Shape::Message => json!("text"),
            // A list is good for bytes.
            _ => json!({"a": 1}),
        };
        let mut document = document.clone();
        put(&mut document, row.path, 0, "key", Value::Null);
        let pointer = format!("/{}", row.path.replace("[]", "/0").replace("{}", "/key").replace('.', "/"));
        *document.pointer_mut(&pointer).expect("just put") = wrong;
        let resources = Resources::from_json(&document.to_string()).expect("within the limits");
        let path = row.path.replace("[]", "[0]").replace("{}", "[key]");
        assert!(resources.errors().any(|problem| problem.path == path), "{path}: {:?}", resources.problems);
    });
}

#[test]
fn the_types_are_serde_types() {
    each_field(|row, document, value| {
        let written = if row.kind == "VirtualService" {
            let service: VirtualService = serde_json::from_value(document.clone()).expect("reads");
            serde_json::to_value(service).expect("writes")
        } else {
            let rule: DestinationRule = serde_json::from_value(document.clone()).expect("reads");
            serde_json::to_value(rule).expect("writes")
        };
        same(row, find(&written, &canonical(row.path), "key"), value);
    });
}

#[test]
fn of_a_oneof_the_last_declared_counts() {
    let fault = json!({"abort": {"http2Error": "x", "httpStatus": 500, "grpcStatus": null}});
    let mut document = envelope("VirtualService");
    document["spec"] = json!({"http": [
        {"fault": fault, "redirect": {"port": 80, "derivePort": "FROM_REQUEST_PORT"}},
        {"match": [{"uri": {"regex": null, "exact": "/a", "prefix": "/b"}, "headers": {"x": {}}}]},
    ]});
    let written = through(&document);
    assert_eq!(written.pointer("/spec/http/0/fault/abort"), Some(&json!({"http2Error": "x"})));
    assert_eq!(written.pointer("/spec/http/0/redirect"), Some(&json!({"derivePort": "FROM_REQUEST_PORT"})));
    assert_eq!(written.pointer("/spec/http/1/match/0/uri"), Some(&json!({"prefix": "/b"})));
    assert_eq!(written.pointer("/spec/http/1/match/0/headers/x"), Some(&json!({})));
}

#[test]
fn both_spellings_at_once_and_the_camel_case_one_counts() {
    let text = r#"{"http": [{"mirror_percent": "not a number", "mirrorPercent": null, "retries": {"attempts": 0}}]}"#;
    let mut document = envelope("VirtualService");
    document["spec"] = serde_json::from_str(text).expect("JSON");
    assert_eq!(through(&document).pointer("/spec/http/0"), Some(&json!({"retries": {}})));
}

#[test]
fn unknown_enum_names_are_kept() {
    let mut document = envelope("DestinationRule");
    document["spec"] =
        json!({"host": "a", "trafficPolicy": {"loadBalancer": {"simple": "FASTEST"}, "tls": {"mode": 3}}});
    let written = through(&document);
    assert_eq!(written.pointer("/spec/trafficPolicy/loadBalancer/simple"), Some(&json!("FASTEST")));
    assert_eq!(written.pointer("/spec/trafficPolicy/tls/mode"), Some(&json!("ISTIO_MUTUAL")));
}

/// Integers, floats and bytes as Istio's decoder takes them: the text of a value, and what is written for it.
#[test]
fn scalars_are_taken_as_the_decoder_takes_them() {
    let port = "spec.http[].match[].port";
    let attempts = "spec.http[].retries.attempts";
    let ring = "spec.trafficPolicy.loadBalancer.consistentHash.minimumRingSize";
    let percent = "spec.http[].mirrorPercentage.value";
    let bytes = "spec.http[].directResponse.body.bytes";
    let timeout = "spec.http[].timeout";
    let table: &[(&str, &str, Option<&str>)] = &[
        (port, "80.0", Some("80")),
        (port, "8e1", Some("80")),
        (port, "80.5", None),
        (port, "-1", None),
        (port, "-0.0", None),
        (port, "4294967295", Some("4294967295")),
        (port, "4294967296", None),
        (port, r#"" 80 ""#, Some("80")),
        (port, r#""null""#, Some("0")),
        (port, r#""080""#, None),
        (port, r#""80.0""#, None),
        (port, r#""+5""#, None),
        (port, r#""""#, None),
        (port, "true", None),
        (attempts, "-0.0", Some("0")),
        (attempts, "-2147483648", Some("-2147483648")),
        (attempts, "2147483648", None),
        (ring, "9007199254740993", Some("9007199254740992")),
        (ring, r#""9007199254740993""#, Some(r#""9007199254740993""#)),
        (ring, "18446744073709551615", None),
        (ring, r#""18446744073709551615""#, Some(r#""18446744073709551615""#)),
        (percent, r#""12.5""#, Some("12.5")),
        (percent, r#""NaN""#, Some(r#""NaN""#)),
        (percent, r#""-Infinity""#, Some(r#""-Infinity""#)),
        (percent, r#""1e400""#, None),
        (percent, "50", Some("50")),
        (bytes, r#""YQ==""#, Some(r#""YQ==""#)),
        (bytes, r#""YR==""#, Some(r#""YQ==""#)),
        (bytes, r#""YQ=\n=""#, Some(r#""YQ==""#)),
        (bytes, r#""YQ""#, None),
        (bytes, r#""YQ== ""#, None),
        (bytes, r#""_-8=""#, None),
        (bytes, r#""YQ==YQ==""#, None),
        (bytes, "[97, null, 255]", Some(r#""YQD/""#)),
        (bytes, "[256]", None),
        (timeout, r#""1h30m""#, Some(r#""1h30m""#)),
        (timeout, r#""60s""#, Some(r#""1m""#)),
        (timeout, r#""-1s""#, Some(r#""-1s""#)),
        (timeout, r#""+.5s""#, Some(r#""500ms""#)),
        (timeout, r#""1.s""#, Some(r#""1s""#)),
        (timeout, r#""0""#, Some(r#""0s""#)),
        (timeout, r#""3µs""#, Some(r#""3us""#)),
        (timeout, r#""0.9999999999s""#, Some(r#""999.999999ms""#)),
        (timeout, r#""-9223372036854775808ns""#, Some(r#""-2562047h47m16.854775808s""#)),
        (timeout, r#""9223372036854775808ns""#, None),
        (timeout, r#""1d""#, None),
        (timeout, r#""5""#, None),
        (timeout, r#""""#, None),
        (timeout, r#"" 5s""#, None),
        (timeout, r#""1e3s""#, None),
        (timeout, r#"".s""#, None),
        (timeout, "5", None),
    ];
    for (path, text, expected) in table {
        let kind = if *path == ring { "DestinationRule" } else { "VirtualService" };
        let mut document = envelope(kind);
        put(&mut document, path, 0, "key", json!("HERE"));
        let document = document.to_string().replace(r#""HERE""#, text);
        let resources = Resources::from_json(&document).expect("within the limits");
        let Some(expected) = expected else {
            assert_eq!(resources.errors().count(), 1, "{path} {text}");
            continue;
        };
        assert!(resources.problems.is_empty(), "{path} {text}: {:?}", resources.problems);
        let written = resources.to_yaml();
        let written = serde_json::to_value(Tree::from_yaml(&written).expect("one document")).expect("a tree");
        let expected: Value = serde_json::from_str(expected).expect("JSON");
        match find(&written, path, "key") {
            Some(found) => assert_eq!(found, &expected, "{path} {text}"),
            None => assert_eq!(expected, json!(0), "{path} {text}"),
        }
    }
}

/// A bare number of the very end of the range is rounded out of it: who is told the range is told why as well.
#[test]
fn a_number_that_rounding_takes_out_of_range_is_told_so() {
    let resources = Resources::from_json(
        r#"{"apiVersion": "networking.istio.io/v1", "kind": "DestinationRule", "metadata": {"name": "a"}, "spec": {"host": "a",
        "trafficPolicy": {"loadBalancer": {"consistentHash": {"maglev": {"tableSize": 18446744073709551557}}}}}}"#,
    )
    .expect("within the limits");
    let said: Vec<String> = resources.errors().map(|problem| problem.message.clone()).collect();
    assert_eq!(
        said,
        [
            "expected a whole number from 0 to 18446744073709551615, found the number `18446744073709551557`, which is read as \
          `18446744073709552000` (put it in quotes)"
        ]
    );
}
