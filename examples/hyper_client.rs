#![allow(clippy::print_stdout)]

//! An HTTP client that follows the mesh's policy: hyper-util's pools under it, retries on another pod, a canary by weight.
//!
//! ```text
//! cargo run --example hyper_client
//! ```

use axum::Router;
use axum::http::StatusCode;
use axum::routing::get;
use http_body_util::{BodyExt, Empty};
use hyper::Request;
use hyper::body::Bytes;
use pointsman::exchange::Summary;
use pointsman::mesh::{Endpoint, Mesh, Protocol, Service, Viewpoint};
use pointsman::policy::Policy;
use pointsman::tower::Pool;
use pointsman::{Engine, Resources};
use std::collections::BTreeMap;
use std::error::Error;
use std::net::SocketAddr;
use std::process::ExitCode;
use tower::ServiceExt;

const POLICY: &str = "
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: catalog, namespace: default}
spec:
  hosts: [catalog]
  http:
  - route:
    - {destination: {host: catalog, subset: v1}, weight: 75}
    - {destination: {host: catalog, subset: v2}, weight: 25}
    retries: {attempts: 3, perTryTimeout: 500ms, retryOn: '5xx,reset,connect-failure'}
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: catalog, namespace: default}
spec:
  host: catalog
  trafficPolicy:
    connectionPool: {http: {maxRequestsPerConnection: 100}}
    outlierDetection: {consecutive5xxErrors: 3, interval: 1s, baseEjectionTime: 30s, maxEjectionPercent: 50}
  subsets:
  - {name: v1, labels: {version: v1}}
  - {name: v2, labels: {version: v2}}
";

/// A pod that answers with its version, or fails.
async fn pod(version: &'static str, fails: bool) -> std::io::Result<SocketAddr> {
    let answer = move || async move { if fails { Err(StatusCode::INTERNAL_SERVER_ERROR) } else { Ok(version) } };
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    tokio::spawn(async move { axum::serve(listener, Router::new().route("/items", get(answer))).await });
    Ok(address)
}

#[tokio::main]
async fn main() -> Result<ExitCode, Box<dyn Error>> {
    let mut catalog =
        Service::new("catalog.default.svc.cluster.local", "default").with_port(80, "http", Protocol::Http);
    for (version, fails) in [("v1", false), ("v1", true), ("v2", false)] {
        let address = pod(version, fails).await?;
        let endpoint = Endpoint::new(address.ip().to_string(), address.port()).with_labels([("version", version)]);
        catalog = catalog.with_endpoint(endpoint);
    }
    let resources = Resources::from_yaml(POLICY)?;
    let compiled = Policy::compile(&resources, &Mesh::new([catalog]), &Viewpoint::namespace("default"));
    println!("{}", compiled.report);

    // The whole of it: an engine, and its client around pools of connections.
    let engine = Engine::new(compiled.policy);
    let client = engine.client(Pool::new());

    let (mut versions, mut attempts, mut failed) = (BTreeMap::new(), 0, 0);
    for _ in 0..400 {
        let request = Request::get("http://catalog/items").body(Empty::<Bytes>::new())?;
        let response = client.clone().oneshot(request).await.map_err(|error| error.to_string())?;
        attempts += response.extensions().get::<Summary>().map_or(0, |summary| summary.attempts);
        failed += usize::from(!response.status().is_success());
        let body = response.into_body().collect().await.map_err(|error| error.to_string())?.to_bytes();
        *versions.entry(String::from_utf8_lossy(&body).into_owned()).or_insert(0) += 1;
    }
    println!("400 requests, {attempts} attempts, {failed} failed, by version {versions:?}");
    for endpoint in engine.endpoints().iter().filter(|endpoint| endpoint.cluster.contains("|v1|")) {
        println!("{} {}", endpoint.endpoint, if endpoint.ejected.is_some() { "is ejected" } else { "takes requests" });
    }
    let v2 = versions.get("v2").copied().unwrap_or(0);
    let ejected = engine.endpoints().iter().filter(|endpoint| endpoint.ejected.is_some()).count();
    // 25 % of 400 within five standard deviations; retries hide the failing pod, which is ejected before long.
    let holds = failed == 0 && (57..=143).contains(&v2) && attempts > 400 && ejected == 1;
    println!("{}", if holds { "✓ as promised" } else { "✗ not as promised" });
    Ok(if holds { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
