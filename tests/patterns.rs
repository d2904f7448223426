//! Regular expressions: which Istio (Go's `regexp/syntax`) and Envoy (RE2 in Latin-1) take, and which values match.
//!
//! `tests/data/patterns.json` is a list of `{pattern, istio, envoy, takes, leaves}`, observed of Go 1.26 and of RE2 as
//! of January 2026: does each of the two take the pattern; if both do, whole values that match, and whole values that do
//! not. In a value each character stands for one byte.

#![allow(clippy::unwrap_used)]

use http::{HeaderMap, HeaderValue};
use pointsman::Resources;
use pointsman::head::Request;
use pointsman::mesh::{Mesh, Protocol, Service, Viewpoint};
use pointsman::policy::{Policy, check_regex};
use pointsman::resource::Value;
use pointsman::validate::webhook;
use serde::Deserialize;

#[derive(Deserialize)]
struct Case {
    pattern: String,
    istio: bool,
    envoy: bool,
    #[serde(default)]
    takes: Vec<String>,
    #[serde(default)]
    leaves: Vec<String>,
}

fn cases() -> Vec<Case> {
    serde_json::from_str(include_str!("data/patterns.json")).unwrap()
}

/// A VirtualService whose rule `match` asks for the pattern in the header `x`.
fn document(pattern: &str) -> String {
    let route = serde_json::json!([{"destination": {"host": "a"}}]);
    serde_json::json!({
        "apiVersion": "networking.istio.io/v1",
        "kind": "VirtualService",
        "metadata": {"name": "a", "namespace": "default"},
        "spec": {"hosts": ["a"], "http": [
            {"name": "match", "match": [{"headers": {"x": {"regex": pattern}}}], "route": route},
            {"name": "rest", "route": route},
        ]},
    })
    .to_string()
}

#[test]
fn istio_and_envoy_take_what_they_take() {
    for case in cases() {
        let report = webhook(&Value::from_json(&document(&case.pattern)).unwrap());
        // An empty pattern is refused as that.
        let istio = case.istio && !case.pattern.is_empty();
        assert_eq!(report.is_accepted(), istio, "`{}` for Istio: {report}", case.pattern);
        let verdict = check_regex(&case.pattern);
        assert_eq!(verdict.is_ok(), case.istio && case.envoy, "`{}` for both: {verdict:?}", case.pattern);
    }
}

#[test]
fn whole_values_match_byte_by_byte() {
    let service = Service::new("a.default.svc.cluster.local", "default").with_port(80, "http", Protocol::Http);
    let mesh = Mesh::new([service]);
    let mut asked = 0;
    for case in cases() {
        if case.takes.is_empty() && case.leaves.is_empty() || case.pattern.is_empty() {
            continue;
        }
        let resources = Resources::from_yaml(&document(&case.pattern)).unwrap();
        let policy = Policy::compile(&resources, &mesh, &Viewpoint::namespace("default")).policy;
        for (values, rule) in [(&case.takes, "match"), (&case.leaves, "rest")] {
            for value in values {
                let bytes: Vec<u8> = value.chars().map(|letter| u8::try_from(u32::from(letter)).unwrap()).collect();
                let mut headers = HeaderMap::new();
                headers.insert("x", HeaderValue::from_bytes(&bytes).unwrap());
                let request =
                    Request { method: "GET", scheme: "http", authority: "a", path: "/", headers: &headers, port: 80 };
                let decision = policy.decide(&request, &mut || 0);
                assert_eq!(&*decision.route_name(), rule, "`{}` and `{value}`", case.pattern);
                asked += 1;
            }
        }
    }
    assert!(asked > 500, "{asked}");
}
