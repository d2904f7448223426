#![allow(clippy::print_stdout)]

//! A policy file changes under load: the next request follows it, no request is lost, a broken file is refused.
//!
//! ```text
//! cargo run --example reload
//! ```

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;
use pointsman::Engine;
use pointsman::tower::{ReplayBody, Target};
use pointsman::watch::{Sources, Watch};
use std::convert::Infallible;
use std::error::Error;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::channel;
use std::time::{Duration, Instant};
use tower::ServiceExt;

const MESH: &str = "
services:
- host: reviews.default.svc.cluster.local
  namespace: default
  ports: [{number: 80, name: http, protocol: HTTP}]
  endpoints:
  - {address: 10.0.0.1, port: 80, labels: {version: v1}}
  - {address: 10.0.0.2, port: 80, labels: {version: v2}}
";

fn policy(v2: u32) -> String {
    format!(
        "apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {{name: reviews, namespace: default}}
spec:
  hosts: [reviews]
  http:
  - route:
    - {{destination: {{host: reviews, subset: v1}}, weight: {}}}
    - {{destination: {{host: reviews, subset: v2}}, weight: {v2}}}
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {{name: reviews, namespace: default}}
spec:
  host: reviews
  subsets: [{{name: v1, labels: {{version: v1}}}}, {{name: v2, labels: {{version: v2}}}}]
",
        100 - v2
    )
}

/// As an editor does: written beside, then put in place.
fn put(path: &Path, text: &str) -> std::io::Result<()> {
    let beside = path.with_extension("tmp");
    std::fs::write(&beside, text)?;
    std::fs::rename(beside, path)
}

/// What came of requests since somebody looked last.
#[derive(Default)]
struct Seen {
    v1: AtomicUsize,
    v2: AtomicUsize,
    lost: AtomicUsize,
}

impl Seen {
    /// Sends requests until it is told to stop. The upstream is in memory: it answers with the endpoint's address.
    async fn load(&self, engine: Engine, stop: Arc<AtomicBool>) {
        let upstream = tower::service_fn(|request: Request<ReplayBody<Full<Bytes>>>| async move {
            let pod = request.extensions().get::<Target>().and_then(|target| target.endpoint.parse().ok());
            tokio::task::yield_now().await;
            let mut response = Response::new(Full::<Bytes>::default());
            response.headers_mut().extend(pod.map(|pod| (http::HeaderName::from_static("x-pod"), pod)));
            Ok::<_, Infallible>(response)
        });
        let client = engine.client(upstream);
        while !stop.load(Ordering::Relaxed) {
            let mut request = Request::new(Full::<Bytes>::default());
            *request.uri_mut() = http::Uri::from_static("http://reviews/");
            let response = client.clone().oneshot(request).await;
            let pod = response.ok().and_then(|response| response.headers().get("x-pod").cloned());
            let count = match pod.as_ref().map(|pod| pod.as_bytes()) {
                Some(b"10.0.0.1:80") => &self.v1,
                Some(b"10.0.0.2:80") => &self.v2,
                _ => &self.lost,
            };
            count.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn take(&self) -> (usize, usize) {
        (self.v1.swap(0, Ordering::Relaxed), self.v2.swap(0, Ordering::Relaxed))
    }
}

fn main() -> Result<ExitCode, Box<dyn Error>> {
    let folder = std::env::temp_dir().join(format!("pointsman-reload-{}", std::process::id()));
    std::fs::create_dir_all(&folder)?;
    let outcome = story(&folder);
    std::fs::remove_dir_all(&folder)?;
    outcome
}

fn story(folder: &Path) -> Result<ExitCode, Box<dyn Error>> {
    let (file, mesh) = (folder.join("reviews.yaml"), folder.join("mesh.yml"));
    put(&mesh, MESH)?;
    put(&file, &policy(0))?;
    let (told, outcomes) = channel();
    let watch = Watch::start(Sources::new([&file]).with_mesh(&mesh), move |outcome| {
        let _ = told.send(outcome.map(|_| ()).map_err(ToString::to_string));
    })?;
    outcomes.recv()??;

    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_time().build()?;
    let (seen, stop) = (Arc::new(Seen::default()), Arc::new(AtomicBool::new(false)));
    let workers: Vec<_> = (0..4)
        .map(|_| {
            let (seen, stop, engine) = (Arc::clone(&seen), Arc::clone(&stop), watch.engine().clone());
            runtime.spawn(async move { seen.load(engine, stop).await })
        })
        .collect();

    let mut holds = true;
    for v2 in [50, 100] {
        put(&file, &policy(v2))?;
        let began = Instant::now();
        outcomes.recv_timeout(Duration::from_secs(10))??;
        let applied = began.elapsed();
        seen.take();
        // So many that five standard deviations of a half are less than five in a hundred.
        let (mut old, mut new) = (0, 0);
        while old + new < 3_000 {
            std::thread::sleep(Duration::from_millis(10));
            let (more_old, more_new) = seen.take();
            (old, new) = (old + more_old, new + more_new);
        }
        let share = 100.0 * new as f64 / (old + new) as f64;
        println!("asked {v2} % for v2: applied after {applied:.0?}; {share:.1} % of {} requests went there", old + new);
        holds &= (share - f64::from(v2)).abs() < 5.0 && applied < Duration::from_secs(1);
    }
    put(&file, "apiVersion: networking.istio.io/v1\nkind: VirtualService\nspec: {hosts: 7}\n")?;
    let refused = outcomes.recv_timeout(Duration::from_secs(10))?;
    println!("a broken file: {}", refused.as_ref().err().map_or("taken", |_| "refused, the last good policy stays"));
    seen.take();
    std::thread::sleep(Duration::from_millis(50));
    holds &= refused.is_err() && seen.take().0 == 0;

    stop.store(true, Ordering::Relaxed);
    for worker in workers {
        runtime.block_on(worker)?;
    }
    let lost = seen.lost.load(Ordering::Relaxed);
    println!("{lost} requests were lost");
    holds &= lost == 0;
    println!("{}", if holds { "✓ as promised" } else { "✗ not as promised" });
    Ok(if holds { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
