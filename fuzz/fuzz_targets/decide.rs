//! Any policy compiles without a panic, and any request is decided as the plain linear matcher decides it.
#![no_main]

use http::{HeaderMap, HeaderName, HeaderValue};
use libfuzzer_sys::fuzz_target;
use pointsman::Resources;
use pointsman::head::Request;
use pointsman::mesh::{Endpoint, Mesh, Protocol, Service, Viewpoint};
use pointsman::policy::Policy;

// The input is policy text, a line of `----`, and one request a line: `METHOD AUTHORITY PATH [NAME: VALUE]`.
fuzz_target!(|input: &str| {
    let (policy, requests) = input.split_once("\n----\n").unwrap_or((input, "GET reviews /"));
    let Ok(resources) = Resources::from_yaml(policy) else { return };
    let reviews = Service::new("reviews.default.svc.cluster.local", "default")
        .with_port(80, "http", Protocol::Http)
        .with_endpoint(Endpoint::new("10.0.0.1", 80).with_labels([("version", "v1")]));
    let compiled = Policy::compile(&resources, &Mesh::new([reviews]), &Viewpoint::namespace("default"));
    for line in requests.lines() {
        let mut words = line.splitn(4, ' ');
        let mut word = || words.next().unwrap_or_default();
        let (method, authority, path, header) = (word(), word(), word(), word());
        let mut headers = HeaderMap::new();
        if let Some((name, value)) = header.split_once(": ")
            && let (Ok(name), Ok(value)) = (HeaderName::try_from(name), HeaderValue::from_str(value))
        {
            headers.insert(name, value);
        }
        let request = Request { method, scheme: "http", authority, path, headers: &headers, port: 80 };
        let fast = compiled.policy.decide(&request, &mut || 7);
        let plain = compiled.policy.decide_linear(&request, &mut || 7);
        assert_eq!(format!("{fast:?}"), format!("{plain:?}"));
        let _ = compiled.policy.explain(&request, &mut || 7).to_string();
    }
});
