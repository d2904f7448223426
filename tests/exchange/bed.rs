//! What both tests stand on: a mesh of two services, and engines made from YAML.

use http::Method;
use pointsman::engine::EngineBuilder;
use pointsman::head::RequestHead;
use pointsman::mesh::{Endpoint, Mesh, Protocol, Service, Viewpoint};
use pointsman::policy::Policy;
use pointsman::{Engine, Resources};

/// `reviews` with three endpoints, `shadow` with one, `empty` with none.
pub(crate) fn mesh() -> Mesh {
    let service = |name: &str, addresses: &[&str]| {
        let service = Service::new(format!("{name}.default.svc.cluster.local"), "default");
        addresses.iter().fold(service.with_port(80, "http", Protocol::Http), |service, address| {
            service.with_endpoint(Endpoint::new(*address, 80))
        })
    };
    Mesh::new([
        service("reviews", &["10.0.0.1", "10.0.0.2", "10.0.0.3"]),
        service("shadow", &["10.0.9.1"]),
        service("empty", &[]),
    ])
}

/// The policy of these documents; nothing in them may be refused.
pub(crate) fn policy(resources: &str) -> Policy {
    let resources = Resources::from_yaml(resources).unwrap_or_else(|error| panic!("{error}\n{resources}"));
    let compiled = Policy::compile(&resources, &mesh(), &Viewpoint::namespace("default"));
    assert!(compiled.report.is_empty(), "{}", compiled.report);
    compiled.policy
}

pub(crate) fn engine(resources: &str, settings: EngineBuilder) -> Engine {
    settings.build(policy(resources))
}

/// Indents a block of YAML.
pub(crate) fn indent(text: &str, by: usize) -> String {
    text.lines().map(|line| format!("{:by$}{line}\n", "")).collect()
}

/// A rule for `reviews`, and traffic policy for it.
pub(crate) fn resources(rule: &str, traffic_policy: &str) -> String {
    let mut text = format!(
        "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {{name: reviews, namespace: default}}\n\
         spec:\n  hosts: [reviews]\n  http:\n  - name: rule\n{}",
        indent(rule, 4)
    );
    if !traffic_policy.trim().is_empty() {
        text.push_str(&format!(
            "---\napiVersion: networking.istio.io/v1\nkind: DestinationRule\n\
             metadata: {{name: reviews, namespace: default}}\nspec:\n  host: reviews\n  trafficPolicy:\n{}",
            indent(traffic_policy, 4)
        ));
    }
    text
}

pub(crate) fn get(path: &str) -> RequestHead {
    let mut head = RequestHead::new(Method::GET, 80, "reviews", path);
    head.remote = Some(([10, 1, 1, 1], 40_000).into());
    head.local = Some(([10, 1, 1, 2], 80).into());
    head
}
