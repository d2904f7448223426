//! What a decision costs: by kind of condition, by number of rules, where the last rule matches and where none does; and
//! for rules that share most of their conditions (`decide_shapes`), and many wildcard hosts (`decide_hosts`).

use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use http::{HeaderMap, HeaderName, HeaderValue};
use pointsman::Resources;
use pointsman::head::Request;
use pointsman::mesh::{Mesh, Protocol, Service, Viewpoint};
use pointsman::policy::Policy;
use std::hint::black_box;
use std::time::Duration;

const KINDS: [&str; 5] = ["exact", "prefix", "header", "regex", "mixed"];
const SIZES: [usize; 4] = [10, 100, 1_000, 10_000];

/// The kind of the rule with this number.
fn kind_of(kind: &'static str, number: usize) -> &'static str {
    if kind == "mixed" { KINDS[number % 4] } else { kind }
}

fn condition(kind: &'static str, number: usize) -> String {
    match kind_of(kind, number) {
        "exact" => format!("uri: {{exact: /service/{number}}}"),
        "prefix" => format!("uri: {{prefix: /service/{number}/}}"),
        "regex" => format!("uri: {{regex: '/service/{number}/[a-z]+'}}"),
        _ => format!("headers: {{x-tenant: {{exact: tenant-{number}}}}}"),
    }
}

fn rule(condition: &str) -> String {
    format!("  - match: [{{{condition}}}]\n    route: [{{destination: {{host: a}}}}]\n")
}

fn policy(kind: &'static str, rules: usize) -> (Resources, Mesh) {
    resources_of(&(0..rules).map(|number| rule(&condition(kind, number))).collect::<String>())
}

fn policy_of(rules: &str) -> Policy {
    let (resources, mesh) = resources_of(rules);
    Policy::compile(&resources, &mesh, &Viewpoint::namespace("default")).policy
}

fn resources_of(rules: &str) -> (Resources, Mesh) {
    let text = format!(
        "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {{name: a, namespace: default}}\nspec:\n  hosts: [a]\n  http:\n{rules}"
    );
    let resources = Resources::from_yaml(&text).expect("the policy reads");
    let service = Service::new("a.default.svc.cluster.local", "default").with_port(80, "http", Protocol::Http);
    (resources, Mesh::new([service]))
}

/// Path and tenant of a request that the rule of this number takes, if there is one.
fn request_for(kind: &'static str, number: usize) -> (String, String) {
    let path = match kind_of(kind, number) {
        "exact" => format!("/service/{number}"),
        "header" => "/service".to_owned(),
        _ => format!("/service/{number}/abc"),
    };
    (path, format!("tenant-{number}"))
}

fn decide(criterion: &mut Criterion) {
    for kind in KINDS {
        let mut group = criterion.benchmark_group(format!("decide_{kind}"));
        group.warm_up_time(Duration::from_millis(500)).measurement_time(Duration::from_secs(1));
        for rules in SIZES {
            let (resources, mesh) = policy(kind, rules);
            let policy = Policy::compile(&resources, &mesh, &Viewpoint::namespace("default")).policy;
            for (name, number) in [("last", rules - 1), ("none", 10 * rules)] {
                let (path, tenant) = request_for(kind, number);
                let tenant = HeaderValue::from_str(&tenant).expect("a value");
                let headers = HeaderMap::from_iter([(HeaderName::from_static("x-tenant"), tenant)]);
                let request =
                    Request { method: "GET", scheme: "http", authority: "a", path: &path, headers: &headers, port: 80 };
                let decision = policy.decide(&request, &mut || 0);
                let found = !policy.cluster(&decision).is_empty();
                assert_eq!(found, name == "last", "{kind} {rules} {name}");
                group.bench_function(BenchmarkId::new(name, rules), |bencher| {
                    bencher.iter(|| black_box(policy.decide(black_box(&request), &mut || 0)));
                });
            }
        }
        group.finish();
    }
}

/// Rules that are alike but for one thing, which stands where a plain table does not see it.
const SHAPES: [&str; 9] = [
    "query",
    "header_prefix",
    "header_name",
    "regex_end",
    "regex_middle",
    "header_regex",
    "fold",
    "two_by_two",
    "blocks",
];

fn shape(shape: &str, number: usize) -> String {
    let (tens, ones) = (number / 100, number % 100);
    match shape {
        "query" => format!("uri: {{prefix: /api/}}, queryParams: {{tenant: {{exact: 't-{number}'}}}}"),
        "header_prefix" => format!("uri: {{prefix: /api/}}, headers: {{x-tenant: {{prefix: 't-{number}/'}}}}"),
        "header_name" => format!("uri: {{prefix: /api/}}, headers: {{x-flag-{number}: {{exact: 'on'}}}}"),
        "regex_end" => format!("uri: {{regex: '/api/[0-9]+/name-{number}'}}"),
        "regex_middle" => format!("uri: {{regex: '/api/v[0-9]+/name-{number}/.*'}}"),
        "header_regex" => {
            format!("uri: {{prefix: /api/}}, headers: {{cookie: {{regex: '(.*; ?)?user=u-{number}(;.*)?'}}}}")
        }
        "fold" => format!("uri: {{prefix: /Api/Name-{number}/}}, ignoreUriCase: true"),
        "two_by_two" => {
            format!("uri: {{exact: /api/{tens}}}, method: {{exact: GET}}, headers: {{x-tenant: {{exact: 't-{ones}'}}}}")
        }
        _ => format!("uri: {{exact: /block/{number}}}"),
    }
}

/// Path and headers of a request that the rule of this number takes.
fn request_for_shape(shape: &str, number: usize) -> (String, HeaderMap) {
    let (tens, ones) = (number / 100, number % 100);
    let (path, name, value) = match shape {
        "query" => (format!("/api/1?a=b&tenant=t-{number}"), String::new(), String::new()),
        "header_prefix" => ("/api/1".into(), "x-tenant".into(), format!("t-{number}/x")),
        "header_name" => ("/api/1".into(), format!("x-flag-{number}"), "on".into()),
        "regex_end" => (format!("/api/17/name-{number}"), String::new(), String::new()),
        "regex_middle" => (format!("/api/v1/name-{number}/x"), String::new(), String::new()),
        "header_regex" => ("/api/1".into(), "cookie".into(), format!("a=b; user=u-{number}")),
        "fold" => (format!("/API/NAME-{number}/x"), String::new(), String::new()),
        "two_by_two" => (format!("/api/{tens}"), "x-tenant".into(), format!("t-{ones}")),
        _ => (format!("/block/{number}"), String::new(), String::new()),
    };
    let mut headers = HeaderMap::new();
    headers.insert("accept", HeaderValue::from_static("*/*"));
    headers.insert("user-agent", HeaderValue::from_static("bench"));
    if let (Ok(name), Ok(value)) = (HeaderName::try_from(name), HeaderValue::try_from(value)) {
        headers.insert(name, value);
    }
    (path, headers)
}

fn shapes(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("decide_shapes");
    group.warm_up_time(Duration::from_millis(300)).measurement_time(Duration::from_millis(700));
    for kind in SHAPES {
        for rules in [10, 10_000] {
            let policy = if kind == "blocks" {
                // One rule with all of them.
                let blocks: Vec<String> = (0..rules).map(|number| format!("{{{}}}", shape(kind, number))).collect();
                policy_of(&format!("  - match: [{}]\n    route: [{{destination: {{host: a}}}}]\n", blocks.join(", ")))
            } else {
                policy_of(&(0..rules).map(|number| rule(&shape(kind, number))).collect::<String>())
            };
            for (name, number) in [("last", rules - 1), ("none", 10 * rules)] {
                let (path, headers) = request_for_shape(kind, number);
                let request =
                    Request { method: "GET", scheme: "http", authority: "a", path: &path, headers: &headers, port: 80 };
                let found = !policy.cluster(&policy.decide(&request, &mut || 0)).is_empty();
                assert_eq!(found, name == "last", "{kind} {rules} {name}");
                group.bench_function(format!("{kind}/{name}/{rules}"), |bencher| {
                    bencher.iter(|| black_box(policy.decide(black_box(&request), &mut || 0)));
                });
            }
        }
    }
    group.finish();
}

/// Wildcard hosts of many lengths, at a gateway: the shortest takes the request.
fn hosts(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("decide_hosts");
    group.warm_up_time(Duration::from_millis(300)).measurement_time(Duration::from_millis(700));
    for count in [10, 10_000] {
        let hosts: Vec<String> =
            (0..count).map(|number| format!("'*.{}{number}.test'", "a.".repeat(number % 100))).collect();
        let text = format!(
            "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {{name: a, namespace: default}}\nspec:\n  gateways: [gw]\n  hosts: [{}]\n  http: [{{route: [{{destination: {{host: a}}}}]}}]\n",
            hosts.join(", ")
        );
        let resources = Resources::from_yaml(&text).expect("the policy reads");
        let service = Service::new("a.default.svc.cluster.local", "default").with_port(80, "http", Protocol::Http);
        let viewpoint = Viewpoint::gateway("default", "default/gw");
        let policy = Policy::compile(&resources, &Mesh::new([service]), &viewpoint).policy;
        let headers = HeaderMap::new();
        for (name, authority) in [("last", "www.x.0.test"), ("none", "www.x.0.example")] {
            let request = Request { method: "GET", scheme: "http", authority, path: "/", headers: &headers, port: 80 };
            let found = !policy.cluster(&policy.decide(&request, &mut || 0)).is_empty();
            assert_eq!(found, name == "last", "{count} {name}");
            group.bench_function(BenchmarkId::new(name, count), |bencher| {
                bencher.iter(|| black_box(policy.decide(black_box(&request), &mut || 0)));
            });
        }
    }
    group.finish();
}

fn compile(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("compile");
    group.sample_size(10);
    for kind in ["prefix", "regex"] {
        for rules in [100, 10_000] {
            let (resources, mesh) = policy(kind, rules);
            group.bench_function(BenchmarkId::new(kind, rules), |bencher| {
                bencher.iter(|| black_box(Policy::compile(&resources, &mesh, &Viewpoint::namespace("default"))));
            });
        }
    }
    group.finish();
}

criterion_group!(benches, decide, shapes, hosts, compile);
criterion_main!(benches);
