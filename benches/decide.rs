//! What a decision costs: by kind of condition, by number of rules, for the last rule and for none.

use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use http::{HeaderMap, HeaderName, HeaderValue};
use pointsman::Resources;
use pointsman::head::Request;
use pointsman::mesh::{Mesh, Protocol, Service, Viewpoint};
use pointsman::policy::Policy;
use std::hint::black_box;

fn condition(kind: &str, number: usize) -> String {
    match kind {
        "exact" => format!("uri: {{exact: /service/{number}}}"),
        "prefix" => format!("uri: {{prefix: /service/{number}/}}"),
        "regex" => format!("uri: {{regex: '/service/{number}/[a-z]+'}}"),
        _ => format!("headers: {{x-tenant: {{exact: tenant-{number}}}}}"),
    }
}

fn policy(kind: &str, rules: usize) -> (Resources, Mesh) {
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

fn decide(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("decide");
    for kind in ["exact", "prefix", "regex", "header"] {
        for rules in [10, 100, 1_000, 10_000] {
            let (resources, mesh) = policy(kind, rules);
            let policy = Policy::compile(&resources, &mesh, &Viewpoint::namespace("default")).policy;
            let last = rules - 1;
            let path = match kind {
                "exact" => format!("/service/{last}"),
                _ => format!("/service/{last}/abc"),
            };
            let tenant = HeaderValue::from_str(&format!("tenant-{last}")).expect("a value");
            let headers = HeaderMap::from_iter([(HeaderName::from_static("x-tenant"), tenant)]);
            let request =
                Request { method: "GET", scheme: "http", authority: "a", path: &path, headers: &headers, port: 80 };
            assert_eq!(
                policy.decide(&request, &mut || 0).route_name(),
                policy.decide_linear(&request, &mut || 0).route_name()
            );
            group.bench_function(BenchmarkId::new(kind, rules), |bencher| {
                bencher.iter(|| black_box(policy.decide(black_box(&request), &mut || 0)));
            });
        }
    }
    group.finish();
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
