//! Rules that no request reaches: what is said of them holds for the real matcher, and what is plain is found.

use http::{HeaderMap, HeaderName, HeaderValue};
use pointsman::Resources;
use pointsman::head::Request;
use pointsman::mesh::{Endpoint, Mesh, Protocol, Service, Viewpoint};
use pointsman::policy::{Origin, Policy, Verdict};
use pointsman::validate::{Report, analyze};
use proptest::prelude::*;
use std::collections::BTreeSet;

fn resources(rules: &str) -> Resources {
    let text = format!(
        "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {{name: a, namespace: default}}\nspec:\n  \
         hosts: [a]\n  gateways: [mesh, gw]\n  http:\n{rules}"
    );
    let resources = Resources::from_yaml(&text).unwrap();
    assert!(resources.problems.is_empty(), "{:?}\n{text}", resources.problems);
    resources
}

fn rule(number: usize, blocks: &[String]) -> String {
    let blocks = if blocks.is_empty() { String::new() } else { format!("    match: [{}]\n", blocks.join(", ")) };
    format!("  - name: r{number}\n{blocks}    route: [{{destination: {{host: a}}}}]\n")
}

/// The paths of what is said to be unreachable.
fn unreachable(report: &Report) -> Vec<(&'static str, String)> {
    let found = report.diagnostics.iter().filter(|one| matches!(one.code, "PM-020" | "PM-021" | "PM-023"));
    found.map(|one| (one.code, one.path.clone())).collect()
}

/// Each side of a request, from few pieces, so that conditions overlap, cover each other and add up to everything.
fn uri() -> impl Strategy<Value = String> {
    let text = prop::sample::select(vec!["/", "/a", "/a/b", "/A", "/ab", "/b/", ""]);
    let pattern =
        prop::sample::select(vec!["/a.*", "/(a|b)/.*", ".*b", "(?i)/A", "/[ab]+", ".*", "/.*", "[^a]*", "/a", "/a?b"]);
    prop_oneof![
        3 => (text.clone(), any::<bool>()).prop_map(|(text, fold)| match fold {
            true => format!("uri: {{exact: '/{}'}}, ignoreUriCase: true", text.trim_start_matches('/')),
            false => format!("uri: {{exact: '{text}'}}"),
        }),
        3 => (text, any::<bool>()).prop_map(|(text, fold)| match fold {
            true => format!("uri: {{prefix: '{text}'}}, ignoreUriCase: true"),
            false => format!("uri: {{prefix: '{text}'}}"),
        }),
        3 => pattern.prop_map(|text| format!("uri: {{regex: '{text}'}}")),
        4 => Just(String::new()),
    ]
}

fn block() -> impl Strategy<Value = String> {
    let method = prop::sample::select(vec![
        "",
        "",
        "method: {exact: GET}",
        "method: {exact: POST}",
        "method: {prefix: P}",
        "method: {regex: 'GET|PUT'}",
        "method: {regex: '[^P].*'}",
        "method: {regex: 'P.*'}",
    ]);
    let header = prop::sample::select(vec![
        "",
        "",
        "headers: {x: {exact: '1'}}",
        "headers: {x: {prefix: '1'}}",
        "headers: {x: {regex: '[12]'}}",
        "headers: {x: {regex: '.*'}}",
        "headers: {x: {}}",
        "headers: {x: {exact: ''}}",
        "withoutHeaders: {x: {exact: '1'}}",
        "withoutHeaders: {x: {prefix: '1'}}",
        "withoutHeaders: {x: {regex: '[^1].*'}}",
        "withoutHeaders: {x: {}}",
        "withoutHeaders: {x: {exact: ''}}",
        "headers: {x: {exact: '1'}}, withoutHeaders: {x: {prefix: '1'}}",
        "headers: {x: {exact: '1'}}, withoutHeaders: {x: {exact: '2'}}",
        "headers: {':path': {prefix: /a}}",
        "withoutHeaders: {':method': {exact: GET}}",
    ]);
    let query = prop::sample::select(vec!["", "", "", "queryParams: {q: {exact: '1'}}", "queryParams: {q: {}}"]);
    let rest = prop::sample::select(vec![
        "",
        "",
        "",
        "port: 80",
        "port: 81",
        "sourceNamespace: default",
        "sourceLabels: {app: web}",
        "gateways: [mesh]",
        "gateways: [gw]",
        "gateways: [gw, mesh]",
        "authority: {exact: a}",
    ]);
    (uri(), method, header, query, rest).prop_map(|(uri, method, header, query, rest)| {
        let parts = [uri.as_str(), method, header, query, rest];
        format!("{{{}}}", parts.into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join(", "))
    })
}

type Asked = (&'static str, String, Vec<(&'static str, &'static str)>, u16);

fn request() -> impl Strategy<Value = Asked> {
    let method = prop::sample::select(vec!["GET", "POST", "PUT", "DELETE"]);
    let path =
        prop::sample::select(vec!["/", "/a", "/A", "/a/b", "/A/B", "/AB", "/ab", "/b/", "/b/c", "/c", "/b", "*"]);
    let query = prop::sample::select(vec!["", "?q=1", "?q=2&q=1", "?q"]);
    let header = prop::sample::select(vec![("x", "1"), ("x", "2"), ("x", "12"), ("x", ""), ("y", "1")]);
    (method, path, query, prop::collection::vec(header, 0..3), prop::sample::select(vec![80, 81]))
        .prop_map(|(method, path, query, headers, port)| (method, format!("{path}{query}"), headers, port))
}

fn policies(resources: &Resources) -> Vec<Policy> {
    let a = Service::new("a.default.svc.cluster.local", "default")
        .with_port(80, "http", Protocol::Http)
        .with_port(81, "http-81", Protocol::Http)
        .with_endpoint(Endpoint::new("10.0.0.1", 80));
    let mesh = Mesh::new([a]);
    let viewpoints = [
        Viewpoint::namespace("default"),
        Viewpoint::namespace("other").with_labels([("app", "web")]),
        Viewpoint::gateway("default", "default/gw"),
    ];
    viewpoints.iter().map(|viewpoint| Policy::compile(resources, &mesh, viewpoint).policy).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(if cfg!(debug_assertions) { 400 } else { 20_000 }))]

    /// Sound: what is said to be unreachable is never chosen, whoever asks.
    #[test]
    fn nothing_that_is_reached_is_called_unreachable(
        rules in prop::collection::vec(prop::collection::vec(block(), 0..3), 1..7),
        requests in prop::collection::vec(request(), 40),
    ) {
        let text: String = rules.iter().enumerate().map(|(number, blocks)| rule(number, blocks)).collect();
        let resources = resources(&text);
        let report = analyze(&resources, None);
        let said: BTreeSet<String> = unreachable(&report).into_iter().map(|(_, path)| path).collect();
        for policy in policies(&resources) {
            for (method, path, lines, port) in &requests {
                let mut headers = HeaderMap::new();
                for (name, value) in lines {
                    headers.append(HeaderName::from_static(name), HeaderValue::from_static(value));
                }
                let request = Request { method, scheme: "http", authority: "a", path, headers: &headers, port: *port };
                let Verdict::Forward { route, .. } = policy.decide(&request, &mut || 0).verdict else { continue };
                let Origin::Rule { rule, block, .. } = &route.origin else { continue };
                let whole = format!("spec.http[{rule}]");
                let part = block.map(|block| format!("{whole}.match[{block}]"));
                prop_assert!(!said.contains(&whole), "{method} {path} {lines:?} {port}\n{text}\n{report}");
                prop_assert!(!part.is_some_and(|part| said.contains(&part)), "{method} {path} {lines:?} {port}\n{text}\n{report}");
            }
        }
    }
}

/// What it is, a match for each rule, and the codes and paths that are said.
type Case = (&'static str, &'static [&'static str], &'static [(&'static str, &'static str)]);

/// What a reader sees at a glance is found, with who takes the requests.
#[test]
fn what_is_plain_is_found() {
    let cases: [Case; 15] = [
        ("a shorter prefix", &["{uri: {prefix: /api}}", "{uri: {prefix: /apis}}"], &[("PM-020", "spec.http[1]")]),
        ("the other way round", &["{uri: {prefix: /apis}}", "{uri: {prefix: /api}}"], &[]),
        ("a port", &["{port: 80}", "{port: 80, uri: {prefix: /a}}"], &[("PM-020", "spec.http[1]")]),
        ("another port", &["{port: 80}", "{port: 81, uri: {prefix: /a}}"], &[]),
        (
            "a header that is there and one that is not",
            &["{headers: {x: {}}}", "{withoutHeaders: {x: {}}}", "{uri: {prefix: /a}}"],
            &[("PM-021", "spec.http[2]")],
        ),
        (
            "a header's value and all others",
            &["{headers: {x: {exact: '1'}}}", "{withoutHeaders: {x: {exact: '1'}}}", "{uri: {exact: /a}}"],
            &[("PM-021", "spec.http[2]")],
        ),
        (
            "alternatives one by one",
            &["{uri: {exact: /a}}", "{uri: {exact: /b}}", "{uri: {regex: '/(a|b)'}}"],
            &[("PM-021", "spec.http[2]")],
        ),
        (
            "a pattern that takes every prefix",
            &["{uri: {regex: '/v[0-9]+/.*'}}", "{uri: {prefix: /v1/}}"],
            &[("PM-020", "spec.http[1]")],
        ),
        ("a pattern that takes some", &["{uri: {regex: '/v[0-9]+/x.*'}}", "{uri: {prefix: /v1/}}"], &[]),
        (
            "letters in any case",
            &["{uri: {prefix: /API}, ignoreUriCase: true}", "{uri: {exact: /api/x}}"],
            &[("PM-020", "spec.http[1]")],
        ),
        ("everything", &["{uri: {prefix: /}}", "{method: {exact: POST}}"], &[("PM-020", "spec.http[1]")]),
        (
            "a contradiction",
            &["{headers: {x: {exact: a}}, withoutHeaders: {x: {prefix: a}}}"],
            &[("PM-023", "spec.http[0].match[0]")],
        ),
        (
            "a method by pattern",
            &["{method: {regex: 'GET|HEAD'}}", "{method: {exact: HEAD}}"],
            &[("PM-020", "spec.http[1]")],
        ),
        (
            "who asks",
            &["{sourceLabels: {app: web}}", "{sourceLabels: {app: web, tier: front}}"],
            &[("PM-020", "spec.http[1]")],
        ),
        ("who asks, wider", &["{sourceLabels: {app: web, tier: front}}", "{sourceLabels: {app: web}}"], &[]),
    ];
    for (name, blocks, expected) in cases {
        let text: String = blocks.iter().enumerate().map(|(at, block)| rule(at, &[(*block).to_owned()])).collect();
        let report = analyze(&resources(&text), None);
        let expected: Vec<(&str, String)> = expected.iter().map(|(code, path)| (*code, (*path).to_owned())).collect();
        assert_eq!(unreachable(&report), expected, "{name}\n{report}");
    }
}
