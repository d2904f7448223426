//! Decisions: the index against its definition, the order of the input, and what an explanation reads like.

#![allow(clippy::unwrap_used)]

use http::{HeaderMap, HeaderName, HeaderValue};
use pointsman::Resources;
use pointsman::compile::Compiled;
use pointsman::head::Request;
use pointsman::mesh::{Endpoint, Mesh, Protocol, Service, Viewpoint};
use pointsman::policy::Policy;
use proptest::prelude::*;

fn mesh() -> Mesh {
    let service = |name: &str| {
        Service::new(format!("{name}.default.svc.cluster.local"), "default")
            .with_port(80, "http", Protocol::Http)
            .with_endpoint(Endpoint::new("10.0.0.1", 80).with_labels([("version", "v1")]))
    };
    Mesh::new([service("a"), service("b")])
}

fn compile(text: &str) -> Compiled {
    let resources = Resources::from_yaml(text).unwrap();
    assert!(resources.problems.is_empty(), "{:?}", resources.problems);
    Policy::compile(&resources, &mesh(), &Viewpoint::namespace("default"))
}

fn virtual_service(name: &str, host: &str, rules: &[String]) -> String {
    format!(
        "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {{name: {name}, namespace: default}}\nspec:\n  hosts: [{host}]\n  http:\n{}",
        rules.concat()
    )
}

/// A condition on the path, from few pieces, so that rules overlap and hide each other.
fn uri() -> impl Strategy<Value = String> {
    let text = prop_oneof![Just("/"), Just("/a"), Just("/a/b"), Just("/A"), Just("/ab"), Just("/b/"), Just("/b/c/d")];
    let pattern =
        prop_oneof![Just("/a.*"), Just("/(a|b)/.*"), Just(".*b"), Just("(?i)/A"), Just("/[ab]+"), Just("/b/c?")];
    prop_oneof![
        3 => text.clone().prop_map(|text| format!("uri: {{exact: '{text}'}}")),
        3 => text.prop_map(|text| format!("uri: {{prefix: '{text}'}}")),
        2 => pattern.prop_map(|text| format!("uri: {{regex: '{text}'}}")),
        1 => Just("uri: {prefix: ''}".to_owned()),
        1 => Just(String::new()),
    ]
}

fn condition() -> impl Strategy<Value = String> {
    let header = prop_oneof![
        Just(""),
        Just("headers: {x: {exact: '1'}}"),
        Just("headers: {x: {exact: '2'}}"),
        Just("headers: {y: {prefix: 'v'}, x: {exact: '3'}}"),
        Just("headers: {y: {}}"),
        Just("withoutHeaders: {x: {exact: '1'}}"),
        Just("withoutHeaders: {y: {}}"),
        Just("queryParams: {q: {exact: '1'}}"),
        Just("method: {exact: POST}"),
        Just("authority: {exact: a}"),
    ];
    (uri(), header, any::<bool>()).prop_map(|(uri, header, ignore_case)| {
        let case = if ignore_case && !uri.is_empty() { "ignoreUriCase: true" } else { "" };
        let parts: Vec<&str> = [uri.as_str(), header, case].into_iter().filter(|part| !part.is_empty()).collect();
        // A condition that takes everything would end the list.
        if parts.is_empty() {
            "{name: m, port: 80, method: {prefix: P}}".into()
        } else {
            format!("{{{}}}", parts.join(", "))
        }
    })
}

fn rule(number: usize, condition: &str) -> String {
    format!("  - name: r{number}\n    match: [{condition}]\n    route: [{{destination: {{host: a}}}}]\n")
}

fn request() -> impl Strategy<Value = (String, String, Vec<(&'static str, &'static str)>)> {
    let path = prop_oneof![
        Just("/"),
        Just("/a"),
        Just("/A"),
        Just("/a/b"),
        Just("/AB"),
        Just("/ab"),
        Just("/b/c"),
        Just("/b/c/d"),
        Just("/c")
    ];
    let query = prop_oneof![Just(""), Just("?q=1"), Just("?q=2&q=1"), Just("?q")];
    let header = prop_oneof![Just(("x", "1")), Just(("x", "2")), Just(("x", "3")), Just(("y", "v1")), Just(("y", ""))];
    let method = prop_oneof![Just("GET"), Just("POST")];
    (method, path, query, prop::collection::vec(header, 0..4))
        .prop_map(|(method, path, query, headers)| (method.to_owned(), format!("{path}{query}"), headers))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_000))]

    /// The index finds what a walk through all rules finds, and an explanation names it.
    #[test]
    fn the_index_agrees_with_the_walk(
        conditions in prop::collection::vec(condition(), 1..40),
        requests in prop::collection::vec(request(), 12),
    ) {
        let rules: Vec<String> = conditions.iter().enumerate().map(|(number, one)| rule(number, one)).collect();
        let policy = compile(&virtual_service("a", "a", &rules)).policy;
        for (method, path, lines) in requests {
            let mut headers = HeaderMap::new();
            for (name, value) in lines {
                headers.append(HeaderName::from_static(name), HeaderValue::from_static(value));
            }
            let request =
                Request { method: &method, scheme: "http", authority: "a", path: &path, headers: &headers, port: 80 };
            let fast = policy.decide(&request, &mut || 0).route_name();
            let plain = policy.decide_linear(&request, &mut || 0).route_name();
            prop_assert_eq!(&fast, &plain, "{} {}", method, path);
            let explanation = policy.explain(&request, &mut || 0);
            let winners = explanation.rules.iter().filter(|rule| rule.failed.is_none());
            prop_assert_eq!(winners.map(|rule| rule.name.to_string()).collect::<String>(), fast.to_string());
        }
    }

    /// The order in which resources stand in a text means nothing.
    #[test]
    fn the_order_of_the_input_means_nothing(order in Just((0..5).collect::<Vec<usize>>()).prop_shuffle()) {
        let route = |name: &str| {
            vec![format!("  - name: {name}\n    route: [{{destination: {{host: a, subset: v1}}}}]\n")]
        };
        let texts = [
            virtual_service("one", "a", &route("one")),
            virtual_service("two", "a", &route("two")),
            virtual_service("three", "'*.svc.cluster.local'", &route("three")),
            "apiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: {name: rule-x, namespace: default}\nspec: {host: a, subsets: [{name: v1, labels: {version: v1}}]}\n".to_owned(),
            "apiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: {name: rule-y, namespace: default}\nspec: {host: a, subsets: [{name: v1}, {name: v2}]}\n".to_owned(),
        ];
        let text = |order: &[usize]| order.iter().map(|at| texts[*at].as_str()).collect::<Vec<_>>().join("---\n");
        let written = compile(&text(&[0, 1, 2, 3, 4]));
        let shuffled = compile(&text(&order));
        prop_assert_eq!(&written.report, &shuffled.report);
        let headers = HeaderMap::new();
        for authority in ["a", "b", "b.default.svc.cluster.local", "c.svc.cluster.local"] {
            let request = Request { method: "GET", scheme: "http", authority, path: "/", headers: &headers, port: 80 };
            let explain = |compiled: &Compiled| format!("{:#}", compiled.policy.explain(&request, &mut || 0));
            prop_assert_eq!(explain(&written), explain(&shuffled));
        }
        let shown = |compiled: &Compiled| format!("{:?}", compiled.policy.destinations());
        prop_assert_eq!(shown(&written), shown(&shuffled));
    }
}

#[test]
fn an_explanation_tells_the_whole_story() {
    let rules = [
        "  - name: testers\n    match: [{headers: {x-user: {exact: tester}}}]\n    route: [{destination: {host: b}}]\n",
        "  - name: api\n    match: [{uri: {prefix: /api}, method: {exact: POST}}, {uri: {exact: /API}, ignoreUriCase: true}]\n    route: [{destination: {host: b}}]\n",
        "  - name: split\n    route:\n    - {destination: {host: a}, weight: 90}\n    - {destination: {host: b}, weight: 10}\n",
    ];
    let policy = compile(&virtual_service("shop", "a", &rules.map(str::to_owned))).policy;
    let headers = HeaderMap::new();
    let request =
        Request { method: "GET", scheme: "http", authority: "A:80", path: "/x/../api/1", headers: &headers, port: 80 };
    let explanation = policy.explain(&request, &mut || 195);
    insta::assert_snapshot!(explanation.to_string(), @"GET A:80/api/1 on 80: outbound|80||b.default.svc.cluster.local (weights 90..100 of 100, draw 95) by default/shop http[2]");
    insta::assert_snapshot!(format!("{explanation:#}"), @r"
    GET A:80/api/1 on port 80
      host `a` is `a` of a.default.svc.cluster.local:80
      ✗ default/shop http[0] match[0] “testers”
          headers[x-user] wanted exact `tester`, there was none
      ✗ default/shop http[1] match[0] “api”
          method wanted exact `POST`, saw `GET`
      ✗ default/shop http[1] match[1] “api”
          uri wanted exact `/API` (any case), saw `/api/1`
      ✓ default/shop http[2] “split”
      → outbound|80||b.default.svc.cluster.local (weights 90..100 of 100, draw 95)
    ");
    for line in format!("{explanation:#}").lines() {
        assert!(line.chars().count() <= 80, "{line}");
    }
    let data = serde_json::to_value(&explanation).unwrap();
    assert_eq!(data["outcome"]["kind"], "forward");
    assert_eq!(data["rules"][0]["failed"]["field"], "headers[x-user]");
}

#[test]
fn an_unknown_host_is_explained_too() {
    let policy = compile(&virtual_service("shop", "a", &["  - route: [{destination: {host: b}}]\n".to_owned()])).policy;
    let headers = HeaderMap::new();
    let ask = |authority, port| {
        let request = Request { method: "GET", scheme: "http", authority, path: "/", headers: &headers, port };
        policy.explain(&request, &mut || 0).to_string()
    };
    insta::assert_snapshot!(ask("nobody", 80), @"GET nobody/ on 80: passed through: nobody knows the host");
    insta::assert_snapshot!(ask("a", 81), @"GET a/ on 81: nothing listens on the port");
}

#[test]
fn every_rule_is_in_the_table_or_in_the_report() {
    let rules = [
        "  - name: all\n    route: [{destination: {host: a}}]\n",
        "  - name: hidden\n    match: [{uri: {prefix: /x}}]\n    route: [{destination: {host: a}}]\n",
    ];
    let compiled = compile(
        &[
            virtual_service("first", "a", &rules.map(str::to_owned)),
            virtual_service("second", "a", &["  - route: [{destination: {host: b}}]\n".to_owned()]),
            virtual_service(
                "broken",
                "b",
                &["  - match: [{uri: {regex: '('}}]\n    route: [{destination: {host: b}}]\n".to_owned()],
            ),
        ]
        .join("---\n"),
    );
    insta::assert_snapshot!(compiled.report.to_string(), @r"
    VirtualService default/broken spec.hosts: no rule of it can hold for this client on any port
    VirtualService default/broken spec.http[0].match[0].uri.regex: `(`: a `(` has no `)`
    VirtualService default/first spec.http[1]: `http[0]` takes every request before it
    VirtualService default/second spec.hosts: `a.default.svc.cluster.local` belongs to default/first, which comes first
    ");
}
