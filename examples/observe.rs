#![allow(clippy::print_stdout)]

//! Seeing what an engine does: `tracing` for people, `metrics` for Prometheus, an observer of one's own for the rest.
//!
//! ```text
//! cargo run --example observe
//! ```

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt, Empty};
use metrics_exporter_prometheus::PrometheusBuilder;
use pointsman::engine::{Event, Observer};
use pointsman::mesh::{Endpoint, Mesh, Protocol, Service, Viewpoint};
use pointsman::outlier;
use pointsman::policy::Policy;
use pointsman::telemetry::{Metrics, Tracing};
use pointsman::tower::{BoxError, ReplayBody, Target};
use pointsman::{Engine, Resources};
use std::error::Error;
use std::process::ExitCode;
use std::sync::{Arc, Mutex};
use tower::ServiceExt;

const POLICY: &str = "
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: reviews, namespace: default}
spec:
  hosts: [reviews]
  http:
  - name: main
    retries: {attempts: 2, retryOn: 5xx}
    route: [{destination: {host: reviews}}]
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: reviews, namespace: default}
spec:
  host: reviews
  trafficPolicy:
    loadBalancer: {simple: ROUND_ROBIN}
    outlierDetection: {consecutive5xxErrors: 3, baseEjectionTime: 60s, maxEjectionPercent: 50}
";

/// An observer of one's own: who was ejected, and why.
#[derive(Clone, Default)]
struct Ejections(Arc<Mutex<Vec<String>>>);

impl Observer for Ejections {
    fn on_event(&self, event: &Event<'_>) {
        if let Event::Outlier { event: outlier::Event::Ejected { host, reason, .. }, .. } = event {
            let line = format!("{host} for {}", reason.as_str());
            self.0.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).push(line);
        }
    }
}

#[tokio::main]
async fn main() -> Result<ExitCode, Box<dyn Error>> {
    // `RUST_LOG`-like filters are the subscriber's affair; here everything from DEBUG on, without times.
    tracing_subscriber::fmt().with_max_level(tracing::Level::DEBUG).without_time().init();
    let recorder = PrometheusBuilder::new().build_recorder();
    let prometheus = recorder.handle();
    metrics::set_global_recorder(recorder).map_err(|error| error.to_string())?;

    let reviews = Service::new("reviews.default.svc.cluster.local", "default")
        .with_port(80, "http", Protocol::Http)
        .with_endpoint(Endpoint::new("10.0.0.1", 80))
        .with_endpoint(Endpoint::new("10.0.0.2", 80));
    let compiled =
        Policy::compile(&Resources::from_yaml(POLICY)?, &Mesh::new([reviews]), &Viewpoint::namespace("default"));
    let ejections = Ejections::default();
    let engine =
        Engine::builder().observer(Tracing).observer(Metrics::new()).observer(ejections.clone()).build(compiled.policy);

    // An upstream in memory, of which one endpoint fails.
    let upstream = tower::service_fn(|request: Request<ReplayBody<Empty<Bytes>>>| async move {
        let bad = request.extensions().get::<Target>().is_some_and(|target| target.endpoint.starts_with("10.0.0.2"));
        let mut response = Response::new(Empty::<Bytes>::new());
        *response.status_mut() = if bad { StatusCode::INTERNAL_SERVER_ERROR } else { StatusCode::OK };
        Ok::<_, BoxError>(response)
    });
    let client = engine.client(upstream);
    for _ in 0..8 {
        let request = Request::get("http://reviews/").body(Empty::<Bytes>::new())?;
        let response = client.clone().oneshot(request).await.map_err(|error| error.to_string())?;
        response.into_body().collect().await.map_err(|error| error.to_string())?;
    }

    let metrics = prometheus.render();
    let figures: Vec<&str> =
        metrics.lines().filter(|line| line.starts_with("pointsman_") && !line.contains("_duration")).collect();
    println!("\n{}", figures.join("\n"));
    let ejected = ejections.0.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).join(", ");
    println!("\nejected: {ejected}");

    let figure = |name: &str| {
        let line = figures.iter().find(|line| line.starts_with(name));
        line.and_then(|line| line.rsplit(' ').next()?.parse::<u32>().ok()).unwrap_or(0)
    };
    let holds = figure("pointsman_requests_total") == 8
        && figure("pointsman_retries_total") == 3
        && figure("pointsman_attempts_total") == 11
        && figure("pointsman_ejections_total") == 1
        && ejected == "10.0.0.2:80 for consecutive-5xx";
    println!("{}", if holds { "✓ as promised" } else { "✗ not as promised" });
    Ok(if holds { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
