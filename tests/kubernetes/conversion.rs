//! Objects to resources and mesh, without a server.

use super::objects::{Kind, Objects, View};
use super::{mesh, town};
use pointsman::mesh::{Endpoint, Health, Protocol};
use serde_json::{Value, json};

fn view(objects: impl IntoIterator<Item = (Kind, Value)>) -> View {
    let mut all = Objects::default();
    for (kind, object) in objects {
        all.apply(kind, object);
    }
    assert_eq!(all.faults(), [""; 0]);
    all.view()
}

fn slice(name: &str, endpoints: Value, ports: Value) -> (Kind, Value) {
    let labels = json!({"kubernetes.io/service-name": "a"});
    let metadata = json!({"name": name, "namespace": "default", "labels": labels});
    (Kind::EndpointSlice, json!({"metadata": metadata, "addressType": "IPv4", "endpoints": endpoints, "ports": ports}))
}

fn service(spec: Value) -> (Kind, Value) {
    (Kind::Service, json!({"metadata": {"name": "a", "namespace": "default"}, "spec": spec}))
}

fn endpoints(slices: impl IntoIterator<Item = (Kind, Value)>) -> Vec<Endpoint> {
    let own = service(json!({"ports": [{"port": 80}]}));
    view(std::iter::once(own).chain(slices)).mesh.services.remove(0).endpoints
}

#[test]
fn protocols_are_read_as_istio_reads_them() {
    for (name, app_protocol, transport, number, expected) in [
        (Some("http"), None, "TCP", 80, Protocol::Http),
        (Some("http-web"), None, "TCP", 80, Protocol::Http),
        (Some("HTTP2-x"), None, "TCP", 80, Protocol::Http2),
        (Some("grpc-web"), None, "TCP", 80, Protocol::GrpcWeb),
        (Some("grpc-web-x"), None, "TCP", 80, Protocol::GrpcWeb),
        (Some("grpc-x"), None, "TCP", 80, Protocol::Grpc),
        (Some("httpfoo"), None, "TCP", 80, Protocol::Unspecified),
        (Some("web"), None, "TCP", 80, Protocol::Unspecified),
        (Some("web"), Some("http"), "TCP", 80, Protocol::Http),
        (Some("http"), Some("tcp"), "TCP", 80, Protocol::Tcp),
        (Some("x"), Some("kubernetes.io/h2c"), "TCP", 80, Protocol::Http2),
        (Some("x"), Some("kubernetes.io/ws"), "TCP", 80, Protocol::Http),
        (Some("x"), Some("kubernetes.io/wss"), "TCP", 80, Protocol::Https),
        (Some("dns"), None, "UDP", 53, Protocol::Udp),
        (None, None, "TCP", 3306, Protocol::Tcp),
        (Some("sql"), None, "TCP", 3306, Protocol::Tcp),
        (Some("mysql"), None, "TCP", 3306, Protocol::Mysql),
        (None, None, "TCP", 80, Protocol::Unspecified),
    ] {
        let port = json!({"name": name, "appProtocol": app_protocol, "protocol": transport, "port": number});
        assert_eq!(mesh::protocol(&serde_json::from_value(port.clone()).unwrap()), expected, "{port}");
    }
}

#[test]
fn services_become_hosts() {
    let made = view([service(json!({"clusterIP": "10.96.0.7", "ports": [{"name": "http", "port": 80}]}))]).mesh;
    assert_eq!(made.services[0].host, "a.default.svc.cluster.local");
    assert_eq!(made.services[0].address.as_deref(), Some("10.96.0.7"));
    let headless = view([service(json!({"clusterIP": "None", "ports": [{"port": 80}]}))]).mesh;
    assert_eq!(headless.services[0].address, None);
    let alias = view([service(json!({"type": "ExternalName", "externalName": "example.com"}))]);
    assert_eq!(alias.mesh.services.len(), 0);
    assert_eq!(alias.notes, ["Service default/a: spec.type: `ExternalName` is an alias; it is left out"]);
}

#[test]
fn slices_of_a_service_are_put_together() {
    let one = |address: &str, ready: bool| json!({"addresses": [address], "conditions": {"ready": ready}});
    let http = json!([{"name": "http", "port": 8080}]);
    let made = endpoints([
        slice("a-1", json!([one("10.0.0.1", true), one("10.0.0.2", false)]), http.clone()),
        slice("a-2", json!([one("10.0.0.1", true)]), json!([{"name": "metrics", "port": 9090}])),
        // An endpoint that is on its way from one slice to another is in both.
        slice("a-3", json!([one("10.0.0.2", true)]), http),
        // Without a port there is nowhere to go.
        slice("a-4", json!([one("10.0.0.3", true)]), json!([])),
    ]);
    let seen: Vec<_> = made.iter().map(|one| (one.address.as_str(), one.ports.len(), one.health)).collect();
    assert_eq!(seen, [("10.0.0.1", 2, Health::Ready), ("10.0.0.2", 1, Health::Ready)]);
    assert_eq!(made[0].ports["metrics"], 9090);
}

#[test]
fn conditions_become_health() {
    for (conditions, expected) in [
        (json!(null), Health::Ready),
        (json!({}), Health::Ready),
        (json!({"ready": true}), Health::Ready),
        (json!({"ready": false}), Health::NotReady),
        (json!({"ready": false, "serving": true, "terminating": true}), Health::Terminating),
    ] {
        let endpoint = json!([{"addresses": ["10.0.0.1"], "conditions": conditions}]);
        let made = endpoints([slice("a-1", endpoint, json!([{"name": null, "port": 8080}]))]);
        assert_eq!((made[0].health, made[0].ports[""]), (expected, 8080), "{conditions}");
    }
}

#[test]
fn labels_and_places_are_the_pods() {
    let pod = |labels: Value| (Kind::Pod, json!({"metadata": {"name": "p", "namespace": "default", "labels": labels}}));
    let target = json!({"kind": "Pod", "name": "p"});
    let endpoint = json!([{"addresses": ["10.0.0.1"], "targetRef": target, "zone": "b"}]);
    let own = || slice("a-1", endpoint.clone(), json!([{"port": 8080}]));
    for (labels, expected) in [
        (json!({"version": "v1"}), "/b"),
        (json!({"topology.kubernetes.io/region": "eu", "topology.kubernetes.io/zone": "a"}), "eu/a"),
        (json!({"topology.kubernetes.io/region": "eu"}), "eu/b"),
        (json!({"istio-locality": "us.c.7"}), "us/c/7"),
    ] {
        let made = endpoints([own(), pod(labels.clone())]);
        assert_eq!(made[0].locality.to_string(), expected, "{labels}");
        assert_eq!(json!(made[0].labels), labels);
    }
    assert_eq!(endpoints([own()])[0].labels.len(), 0, "a pod that is not known yet");
}

#[test]
fn slices_of_names_are_left_out() {
    let (kind, mut names) = slice("a-1", json!([{"addresses": ["a.example.com"]}]), json!([{"port": 80}]));
    names["addressType"] = json!("FQDN");
    let seen = view([service(json!({"ports": [{"port": 80}]})), (kind, names)]);
    assert_eq!(seen.mesh.services[0].endpoints, []);
    assert_eq!(seen.notes, ["EndpointSlice default/a-1: addressType: `FQDN` has no addresses; it is left out"]);
}

#[test]
fn what_no_decision_needs_is_dropped() {
    let mut route = town::route("reviews", "v1");
    route["metadata"]["managedFields"] = json!([{"manager": "kubectl"}]);
    route["metadata"]["annotations"] =
        json!({"kubectl.kubernetes.io/last-applied-configuration": "{}", "mine": "kept"});
    route["metadata"]["creationTimestamp"] = json!("2026-01-31T12:00:00Z");
    let kept = view([(Kind::VirtualService, route)]).resources;
    let kept = &kept.virtual_services[0];
    assert!(kept.status.is_null() && kept.metadata.other.is_empty(), "{kept:?}");
    assert_eq!(kept.metadata.annotations.len(), 1);
    assert_eq!(kept.metadata.creation_timestamp, "2026-01-31T12:00:00Z");
}

#[test]
fn a_pod_that_only_breathes_changes_nothing() {
    let pod = |labels: Value, phase: &str| json!({"metadata": {"name": "p", "namespace": "default", "labels": labels}, "status": {"phase": phase}});
    let mut all = Objects::default();
    assert!(all.apply(Kind::Pod, pod(json!({"a": "b"}), "Pending")));
    assert!(!all.apply(Kind::Pod, pod(json!({"a": "b"}), "Running")));
    assert!(all.apply(Kind::Pod, pod(json!({"a": "c"}), "Running")));
    assert!(all.remove(Kind::Pod, "default", "p"));
    assert!(!all.remove(Kind::Pod, "default", "p"));
}
