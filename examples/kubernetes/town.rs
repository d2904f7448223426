//! Objects of a small town, as a cluster would have them, and who gets a request in it.

use pointsman::Engine;
use pointsman::head::Request;
use serde_json::{Value, json};

/// A service on port 80, its slice, and its pods: (name, address, version).
pub fn service(name: &str, pods: &[(&str, &str, &str)]) -> Vec<Value> {
    let mut objects = vec![
        json!({
            "apiVersion": "v1", "kind": "Service", "metadata": {"name": name, "namespace": "default"},
            "spec": {"clusterIP": "10.96.0.1", "ports": [{"name": "http", "port": 80, "targetPort": 8080}]},
        }),
        slice(name, pods.iter().map(|(pod, address, _)| (*pod, *address))),
    ];
    objects.extend(pods.iter().map(|(pod, _, version)| {
        let labels = json!({"app": name, "version": version});
        json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": pod, "namespace": "default", "labels": labels},
            "spec": {"containers": []}, "status": {"phase": "Running"}})
    }));
    objects
}

/// The slice of a service: (pod, address).
pub fn slice<'a>(service: &str, pods: impl Iterator<Item = (&'a str, &'a str)>) -> Value {
    let endpoints: Vec<Value> = pods
        .map(|(pod, address)| {
            json!({"addresses": [address], "conditions": {"ready": true, "serving": true, "terminating": false},
                "targetRef": {"kind": "Pod", "name": pod, "namespace": "default"}, "zone": "a"})
        })
        .collect();
    json!({
        "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
        "metadata": {"name": format!("{service}-x7q"), "namespace": "default", "labels": {"kubernetes.io/service-name": service}},
        "addressType": "IPv4", "endpoints": endpoints, "ports": [{"name": "http", "port": 8080, "protocol": "TCP"}],
    })
}

/// A DestinationRule with the subsets `v1` and `v2`.
pub fn subsets(service: &str) -> Value {
    json!({
        "apiVersion": "networking.istio.io/v1", "kind": "DestinationRule",
        "metadata": {"name": service, "namespace": "default"},
        "spec": {"host": service, "subsets": [
            {"name": "v1", "labels": {"version": "v1"}}, {"name": "v2", "labels": {"version": "v2"}},
        ]},
    })
}

/// A VirtualService that sends everything to one subset.
pub fn route(service: &str, subset: &str) -> Value {
    json!({
        "apiVersion": "networking.istio.io/v1", "kind": "VirtualService",
        "metadata": {"name": service, "namespace": "default"},
        "spec": {"hosts": [service], "http": [{"route": [{"destination": {"host": service, "subset": subset}}]}]},
        "status": {"observedGeneration": 1},
    })
}

/// The destination that a request would get; empty where there is none.
pub fn destination(engine: &Engine, authority: &str, path: &str) -> String {
    let headers = http::HeaderMap::new();
    let request = Request { method: "GET", scheme: "http", authority, path, headers: &headers, port: 80 };
    engine.preview(&request, &mut || 0).1.to_string()
}
