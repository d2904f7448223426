//! Four pods on loopback: two of v1, two of v2. Each says who it is, and can be told to fail.

use http::{Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use pointsman::mesh::{Endpoint, Mesh, Protocol, Service};
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::net::TcpListener;

pub struct Pods {
    pods: Vec<Pod>,
}

struct Pod {
    address: SocketAddr,
    version: &'static str,
    fails: Arc<AtomicBool>,
}

impl Pods {
    pub async fn start() -> Pods {
        let mut pods = Vec::new();
        for (index, version) in ["v1", "v1", "v2", "v2"].into_iter().enumerate() {
            let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
            let address = listener.local_addr().expect("an address");
            let fails = Arc::new(AtomicBool::new(false));
            tokio::spawn(serve(listener, index, version, Arc::clone(&fails)));
            pods.push(Pod { address, version, fails });
        }
        Pods { pods }
    }

    /// The mesh: one service, `reviews`, with these pods.
    pub fn mesh(&self) -> Mesh {
        let mut reviews =
            Service::new("reviews.default.svc.cluster.local", "default").with_port(9080, "http", Protocol::Http);
        for pod in &self.pods {
            let endpoint = Endpoint::new(pod.address.ip().to_string(), pod.address.port());
            reviews = reviews.with_endpoint(endpoint.with_labels([("version", pod.version)]));
        }
        Mesh::new([reviews])
    }

    /// From now on this pod answers 500 (or does not any more).
    pub fn fail(&self, pod: usize, fails: bool) {
        self.pods[pod].fails.store(fails, Ordering::SeqCst);
    }

    /// `pod 0 (v1)`, …
    pub fn names(&self) -> Vec<String> {
        self.pods.iter().enumerate().map(|(index, pod)| format!("pod {index} ({})", pod.version)).collect()
    }
}

async fn serve(listener: TcpListener, index: usize, version: &'static str, fails: Arc<AtomicBool>) {
    while let Ok((stream, _)) = listener.accept().await {
        let fails = Arc::clone(&fails);
        let service = hyper::service::service_fn(move |request: Request<Incoming>| {
            let fails = fails.load(Ordering::SeqCst);
            async move {
                match request.uri().path() {
                    "/slow" => tokio::time::sleep(Duration::from_secs(2)).await,
                    "/work" => tokio::time::sleep(Duration::from_millis(30)).await,
                    _ => {}
                }
                let mut response = Response::new(Full::new(Bytes::from_static(b"hello\n")));
                if fails {
                    *response.status_mut() = StatusCode::INTERNAL_SERVER_ERROR;
                }
                response.headers_mut().insert("x-version", http::HeaderValue::from_static(version));
                response.headers_mut().insert("x-pod", http::HeaderValue::from(index));
                Ok::<_, Infallible>(response)
            }
        });
        tokio::spawn(async move {
            let server = auto::Builder::new(TokioExecutor::new());
            let _ = server.serve_connection(TokioIo::new(stream), service).await;
        });
    }
}
