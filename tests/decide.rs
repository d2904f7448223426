//! Decisions: the index against its definition, the order of the input, and what an explanation reads like.

#![allow(clippy::unwrap_used)]

use http::{HeaderMap, HeaderName, HeaderValue};
use pointsman::Resources;
use pointsman::compile::Compiled;
use pointsman::head::Request;
use pointsman::mesh::{Endpoint, Mesh, Protocol, Service, Viewpoint};
use pointsman::policy::{Connection, Policy};
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
    let pattern = prop_oneof![
        Just("/a.*"),
        Just("/(a|b)/.*"),
        Just(".*b"),
        Just("(?i)/A"),
        Just("/[ab]+"),
        Just("/b/c?"),
        Just("/[a-c]/c/d"),
        Just(".*/c/d"),
        Just("(.*/b/c)+(/d)?"),
        Just("/[ab](/b)*/c(/d)?"),
    ];
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
        Just("queryParams: {q: {exact: '2'}, r: {}}"),
        Just("queryParams: {q: {regex: '[12]'}}"),
        Just("queryParams: {s: {prefix: 'v'}}"),
        Just("headers: {y: {regex: '.*(v1;)+.*'}}"),
        Just("headers: {y: {regex: 'v[0-9]'}, x: {prefix: ''}}"),
        Just("headers: {z: {exact: '1'}}"),
        Just("headers: {w: {}, z: {}}"),
        Just("headers: {':path': {prefix: /a}}"),
        Just("headers: {'no header': {}}"),
        Just("method: {exact: POST}"),
        Just("method: {regex: 'P.*'}, scheme: {prefix: ht}"),
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
    let query = prop_oneof![
        Just(""),
        Just("?q=1"),
        Just("?q=2&q=1"),
        Just("?q"),
        Just("?r&q=2"),
        Just("?s=v1&&q=?q=1"),
        Just("?")
    ];
    let header = prop_oneof![
        Just(("x", "1")),
        Just(("x", "2")),
        Just(("x", "3")),
        Just(("y", "v1")),
        Just(("y", "v1;v1;")),
        Just(("y", "")),
        Just(("z", "1")),
        Just(("w", "")),
    ];
    let method = prop_oneof![Just("GET"), Just("POST")];
    (method, path, query, prop::collection::vec(header, 0..4))
        .prop_map(|(method, path, query, headers)| (method.to_owned(), format!("{path}{query}"), headers))
}

proptest! {
    // Each case is a table of up to 60 rules that 12 requests ask: in release more than 100,000 decisions.
    #![proptest_config(ProptestConfig::with_cases(if cfg!(debug_assertions) { 200 } else { 10_000 }))]

    /// The index finds what a walk through all rules finds, and an explanation names it.
    #[test]
    fn the_index_agrees_with_the_walk(
        conditions in prop::collection::vec(condition(), 1..60),
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

    /// The host that is found is the one that a look at every domain finds: exact, else the longest ending, else `*`.
    #[test]
    fn the_host_is_the_most_specific(
        domains in prop::collection::btree_set("(\\*|\\*?[ab]{0,2}\\.?)[ab]{1,2}(\\.[ab])?|\\*", 1..30),
        authorities in prop::collection::vec("[abAB.]{0,6}(:80)?", 20),
    ) {
        let hosts: Vec<String> = domains.iter().map(|domain| format!("'{domain}'")).collect();
        let text = format!(
            "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {{name: a, namespace: default}}\nspec:\n  gateways: [gw]\n  hosts: [{}]\n  http: [{{route: [{{destination: {{host: a}}}}]}}]\n",
            hosts.join(", ")
        );
        let resources = Resources::from_yaml(&text).unwrap();
        let policy = Policy::compile(&resources, &mesh(), &Viewpoint::gateway("default", "default/gw")).policy;
        let headers = HeaderMap::new();
        // A short name is completed.
        let whole: Vec<String> = domains
            .iter()
            .map(|host| if host == "*" || host.contains('.') { host.clone() } else { format!("{host}.default.svc.cluster.local") })
            .collect();
        for authority in authorities {
            let name = authority.trim_end_matches(":80").to_lowercase();
            let covers = |domain: &&String| match domain.strip_prefix('*') {
                Some("") => true,
                Some(suffix) => name.len() > suffix.len() && name.ends_with(suffix),
                None => **domain == name,
            };
            let wanted = whole.iter().filter(covers).max_by_key(|domain| (!domain.starts_with('*'), domain.len()));
            let request =
                Request { method: "GET", scheme: "http", authority: &authority, path: "/", headers: &headers, port: 80 };
            let found = policy.explain(&request, &mut || 0).host.domain;
            prop_assert_eq!(found.as_ref(), wanted, "{} of {:?}", authority, whole);
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
fn an_explanation_of_long_names_is_folded() {
    let mesh = Mesh::new(["recommendations-of-the-day", "recommendations-of-the-day-next"].map(|name| {
        Service::new(format!("{name}.storefront.svc.cluster.local"), "storefront").with_port(
            9080,
            "http",
            Protocol::Http,
        )
    }));
    let text = "
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: recommendations-of-the-day, namespace: storefront}
spec:
  hosts: [recommendations-of-the-day, '*.svc.cluster.local']
  http:
  - name: only-for-those-who-ask
    match: [{headers: {x-recommendations-variant: {regex: 'next|next-but-one|the-one-after-that'}}}]
    route: [{destination: {host: recommendations-of-the-day-next}}]
  - route:
    - {destination: {host: recommendations-of-the-day}, weight: 999}
    - {destination: {host: recommendations-of-the-day-next}, weight: 1}
";
    let resources = Resources::from_yaml(text).unwrap();
    let policy = Policy::compile(&resources, &mesh, &Viewpoint::namespace("storefront")).policy;
    let headers = HeaderMap::from_iter([(
        HeaderName::from_static("x-recommendations-variant"),
        HeaderValue::from_static("the-one-before-that"),
    )]);
    let authority = "recommendations-of-the-day.storefront.svc.cluster.local:9080";
    let request =
        Request { method: "GET", scheme: "http", authority, path: "/recommendations", headers: &headers, port: 9080 };
    insta::assert_snapshot!(format!("{:#}", policy.explain(&request, &mut || 999)), @r"
    GET recommendations-of-the-day.storefront.svc.cluster.local:9080/recommendations
        on port 9080
      host `recommendations-of-the-day.storefront.svc.cluster.local` is
          `recommendations-of-the-day.storefront.svc.cluster.local` of
          recommendations-of-the-day.storefront.svc.cluster.local:9080
      ✗ storefront/recommendations-of-the-day http[0] match[0]
          “only-for-those-who-ask”
          headers[x-recommendations-variant] wanted regex
              `next|next-but-one|the-one-after-that`, saw `the-one-before-that`
      ✓ storefront/recommendations-of-the-day http[1]
      → outbound|9080||recommendations-of-the-day-next.storefront.svc.cluster.local
          (weights 999..1000 of 1000, draw 999)
    ");
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
fn a_connection_is_explained_too() {
    let mut mesh = mesh();
    mesh.services.push(
        Service::new("db.default.svc.cluster.local", "default")
            .with_port(443, "tls", Protocol::Tls)
            .with_endpoint(Endpoint::new("10.0.0.9", 443)),
    );
    let text = "
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: db, namespace: default}
spec:
  hosts: [db]
  tls:
  - match: [{sniHosts: ['*.db.test']}]
    route: [{destination: {host: db}}]
  - match: [{sniHosts: [a.db.test]}, {sniHosts: [a.db.test], destinationSubnets: [10.1.0.0/16]}]
    route: [{destination: {host: db}}]
";
    let resources = Resources::from_yaml(text).unwrap();
    let policy = Policy::compile(&resources, &mesh, &Viewpoint::namespace("default")).policy;
    let connection = Connection { address: Some([10, 2, 0, 1].into()), port: 443, sni: Some("A.db.test") };
    let explanation = policy.explain_connection(&connection, &mut || 0);
    insta::assert_snapshot!(explanation.to_string(), @"connection to 10.2.0.1 port 443 for `A.db.test`: outbound|443||db.default.svc.cluster.local by default/db tls[1] match[0]");
    insta::assert_snapshot!(format!("{explanation:#}"), @r"
    connection to 10.2.0.1 port 443 for `A.db.test`
      · default/db tls[0] match[0]
          holds, but is less specific or later
      ✓ default/db tls[1] match[0]
      ✗ default/db tls[1] match[1]
          destinationSubnets wanted `10.1.0.0/16`, saw `10.2.0.1`
      → outbound|443||db.default.svc.cluster.local
    ");
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

/// Every place of every resource: in some route or chain of the policy, or in the report (itself, its rule, or all of it).
fn unaccounted(resources: &Resources, compiled: &Compiled) -> Vec<String> {
    let origins: Vec<String> = compiled.policy.origins().map(|origin| origin.to_string()).collect();
    let notes: Vec<(&str, &str)> =
        compiled.report.notes.iter().map(|note| (note.resource.as_str(), note.path.as_str())).collect();
    let mut missing = Vec::new();
    for resource in &resources.virtual_services {
        let name = format!("{}/{}", resource.metadata.namespace, resource.metadata.name);
        let spec = &resource.spec;
        let sections = [
            ("http", spec.http.iter().map(|rule| rule.r#match.len()).collect::<Vec<_>>()),
            ("tls", spec.tls.iter().map(|rule| rule.r#match.len()).collect()),
            ("tcp", spec.tcp.iter().map(|rule| rule.r#match.len()).collect()),
        ];
        for (section, rules) in sections {
            for (index, blocks) in rules.into_iter().enumerate() {
                let rule = format!("{section}[{index}]");
                let paths = match blocks {
                    0 => vec![rule.clone()],
                    blocks => (0..blocks).map(|block| format!("{rule}.match[{block}]")).collect(),
                };
                for path in paths {
                    let origin = format!("{name} {}", path.replace('.', " "));
                    let noted = notes.iter().any(|(resource, note)| {
                        *resource == name && (*note == rule || note.starts_with(&path) || !note.contains('['))
                    });
                    if !noted && !origins.contains(&origin) {
                        missing.push(origin);
                    }
                }
            }
        }
    }
    missing
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(if cfg!(debug_assertions) { 200 } else { 4_000 }))]

    /// No rule and no match block is dropped quietly, whatever the viewpoint and whatever hides it.
    #[test]
    fn nothing_is_dropped_quietly(
        services in prop::collection::vec(
            (
                prop_oneof![Just("a"), Just("b"), Just("'*.svc.cluster.local'"), Just("nobody.test")],
                prop_oneof![Just(""), Just("  exportTo: [elsewhere]\n"), Just("  gateways: [mesh, gw]\n"), Just("  gateways: [gw]\n")],
                prop::collection::vec((
                    prop_oneof![Just("http"), Just("tcp"), Just("tls")],
                    prop::collection::vec(prop_oneof![
                        Just("port: 80"), Just("port: 9"), Just("sourceLabels: {app: x}"), Just("gateways: [gw]"), Just("sniHosts: [a]"),
                        Just("uri: {prefix: /}"), Just("uri: {regex: '('}"), Just("uri: {exact: /x}"), Just("destinationSubnets: [10.0.0.0/8]"),
                        Just("destinationSubnets: [nonsense]"), Just("sourceNamespace: default"),
                    ], 0..3),
                ), 1..6),
            ),
            1..4,
        ),
        gateway in any::<bool>(),
    ) {
        let mut text = String::new();
        for (index, (host, extra, rules)) in services.iter().enumerate() {
            text.push_str(&format!("---\napiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {{name: vs-{index}, namespace: default}}\nspec:\n  hosts: [{host}]\n{extra}"));
            for section in ["http", "tls", "tcp"] {
                let of: Vec<_> = rules.iter().filter(|(own, _)| *own == section).collect();
                if of.is_empty() {
                    continue;
                }
                text.push_str(&format!("  {section}:\n"));
                for (_, blocks) in of {
                    let fits = |block: &&&str| match section {
                        "http" => !block.starts_with("sni") && !block.starts_with("destinationSubnets"),
                        "tls" => !block.starts_with("uri") && !block.starts_with("sourceNamespace"),
                        _ => !block.starts_with("uri") && !block.starts_with("sni"),
                    };
                    let blocks: Vec<String> = blocks.iter().filter(fits).map(|block| format!("{{{block}}}")).collect();
                    text.push_str(&format!("  - match: [{}]\n    route: [{{destination: {{host: a}}}}]\n", blocks.join(", ")));
                }
            }
        }
        let resources = Resources::from_yaml(&text).unwrap();
        prop_assert!(resources.problems.is_empty(), "{:?}\n{}", resources.problems, text);
        let mut mesh = mesh();
        mesh.services.push(Service::new("c.default.svc.cluster.local", "default").with_port(9, "tcp", Protocol::Tcp).with_port(10, "tls", Protocol::Tls));
        let viewpoint = if gateway { Viewpoint::gateway("default", "default/gw") } else { Viewpoint::namespace("default") };
        let compiled = Policy::compile(&resources, &mesh, &viewpoint);
        let missing = unaccounted(&resources, &compiled);
        prop_assert!(missing.is_empty(), "{:?}\n{}\n{}", missing, text, compiled.report);
    }
}
