//! What a decision costs: by kind of condition, by number of rules, where the last rule matches and where none does.

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

fn policy(kind: &'static str, rules: usize) -> (Resources, Mesh) {
    let mut text = String::from(
        "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {name: a, namespace: default}\nspec:\n  hosts: [a]\n  http:\n",
    );
    for number in 0..rules {
        let condition = condition(kind, number);
        text.push_str(&format!("  - match: [{{{condition}}}]\n    route: [{{destination: {{host: a}}}}]\n"));
    }
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

fn compile(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("compile");
    group.sample_size(10);
    for rules in [100, 10_000] {
        let (resources, mesh) = policy("prefix", rules);
        group.bench_function(BenchmarkId::from_parameter(rules), |bencher| {
            bencher.iter(|| black_box(Policy::compile(&resources, &mesh, &Viewpoint::namespace("default"))));
        });
    }
    group.finish();
}

criterion_group!(benches, decide, compile);
criterion_main!(benches);
