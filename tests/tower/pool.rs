//! The pool over real sockets on loopback: protocols, authorities, and what `connectionPool` says of connections.

use bytes::Bytes;
use http::{Request, Response, Version};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use pointsman::exchange::Summary;
use pointsman::mesh::{Endpoint, Mesh, Protocol, Service, Viewpoint};
use pointsman::policy::Policy;
use pointsman::tower::Pool;
use pointsman::{Engine, Resources};
use std::convert::Infallible;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use tokio::net::TcpListener;
use tokio::sync::Barrier;
use tower::ServiceExt;

/// An upstream that counts its connections, and answers with version and authority.
struct Upstream {
    address: SocketAddr,
    connections: Arc<AtomicUsize>,
}

impl Upstream {
    /// Requests for `/together` are answered when `together` of them have come.
    async fn start(together: usize) -> Upstream {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let connections = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&connections);
        let barrier = Arc::new(Barrier::new(together));
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                counted.fetch_add(1, Ordering::SeqCst);
                let barrier = Arc::clone(&barrier);
                let service = service_fn(move |request: Request<Incoming>| {
                    let barrier = Arc::clone(&barrier);
                    async move {
                        if request.uri().path() == "/together" {
                            barrier.wait().await;
                        }
                        let host = request.headers().get("host").and_then(|host| host.to_str().ok());
                        let authority = request.uri().authority().map(|authority| authority.as_str()).or(host);
                        let text = format!("{:?} {}", request.version(), authority.unwrap_or("-"));
                        request.into_body().collect().await.ok();
                        Ok::<_, Infallible>(Response::new(Full::new(Bytes::from(text))))
                    }
                });
                tokio::spawn(async move {
                    let _ =
                        auto::Builder::new(TokioExecutor::new()).serve_connection(TokioIo::new(stream), service).await;
                });
            }
        });
        Upstream { address, connections }
    }
}

fn engine(endpoints: &[SocketAddr], protocol: Protocol, traffic: &str) -> Engine {
    let text = format!(
        "apiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: {{name: a, namespace: default}}\nspec: {{host: a, trafficPolicy: {traffic}}}\n"
    );
    let resources = Resources::from_yaml(&text).unwrap();
    assert!(resources.problems.is_empty(), "{:?}", resources.problems);
    let mut service = Service::new("a.default.svc.cluster.local", "default").with_port(80, "p", protocol);
    for endpoint in endpoints {
        service = service.with_endpoint(Endpoint::new(endpoint.ip().to_string(), endpoint.port()));
    }
    Engine::new(Policy::compile(&resources, &Mesh::new([service]), &Viewpoint::namespace("default")).policy)
}

async fn get(engine: &Engine, pool: &Pool<pointsman::tower::ReplayBody<Full<Bytes>>>, path: &str) -> (u16, String) {
    let request = Request::get(format!("http://a.default{path}")).body(Full::default()).unwrap();
    let response = engine.client(pool.clone()).oneshot(request).await.unwrap();
    let status = response.status().as_u16();
    let body = response.into_body().collect().await.unwrap().to_bytes();
    (status, String::from_utf8(body.to_vec()).unwrap())
}

#[tokio::test]
async fn a_connection_is_used_again_and_the_upstream_sees_the_mesh_s_authority() {
    let upstream = Upstream::start(1).await;
    for (protocol, traffic, version) in [
        (Protocol::Http, "{}", Version::HTTP_11),
        (Protocol::Http2, "{}", Version::HTTP_2),
        (Protocol::Http, "{connectionPool: {http: {h2UpgradePolicy: UPGRADE}}}", Version::HTTP_2),
    ] {
        let (engine, pool) = (engine(&[upstream.address], protocol, traffic), Pool::new());
        let before = upstream.connections.load(Ordering::SeqCst);
        for _ in 0..3 {
            assert_eq!(get(&engine, &pool, "/").await, (200, format!("{version:?} a.default")));
        }
        assert_eq!(upstream.connections.load(Ordering::SeqCst) - before, 1, "{version:?}");
    }
}

#[tokio::test]
async fn a_connection_serves_no_more_requests_than_it_may() {
    let upstream = Upstream::start(1).await;
    for (protocol, most, connections) in [(Protocol::Http, 1, 4), (Protocol::Http, 2, 2), (Protocol::Http2, 1, 4)] {
        let traffic = format!("{{connectionPool: {{http: {{maxRequestsPerConnection: {most}}}}}}}");
        let (engine, pool) = (engine(&[upstream.address], protocol, &traffic), Pool::new());
        let before = upstream.connections.load(Ordering::SeqCst);
        for _ in 0..4 {
            assert_eq!(get(&engine, &pool, "/").await.0, 200);
        }
        assert_eq!(upstream.connections.load(Ordering::SeqCst) - before, connections, "{protocol:?} {most}");
    }
}

#[tokio::test]
async fn another_connection_carries_streams_beyond_the_limit() {
    let upstream = Upstream::start(3).await;
    let traffic = "{connectionPool: {http: {maxConcurrentStreams: 1}}}";
    let (engine, pool) = (engine(&[upstream.address], Protocol::Http2, traffic), Pool::new());
    let (one, two, three) = tokio::join!(
        get(&engine, &pool, "/together"),
        get(&engine, &pool, "/together"),
        get(&engine, &pool, "/together")
    );
    assert_eq!((one.0, two.0, three.0), (200, 200, 200));
    assert_eq!(upstream.connections.load(Ordering::SeqCst), 3);
}

#[tokio::test]
async fn an_endpoint_that_is_not_there_is_a_failure_to_connect_and_another_is_tried() {
    let nobody = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap().local_addr().unwrap();
    let (alone, pool) = (engine(&[nobody], Protocol::Http, "{}"), Pool::new());
    let request = Request::get("http://a.default/").body(Full::<Bytes>::default()).unwrap();
    let response = alone.client(pool).oneshot(request).await.unwrap();
    assert_eq!(response.status(), 503);
    let summary = response.extensions().get::<Summary>().unwrap();
    assert_eq!((summary.flags.to_string().as_str(), summary.attempts), ("URX,UF", 3));

    let upstream = Upstream::start(1).await;
    let (both, pool) = (engine(&[nobody, upstream.address], Protocol::Http, "{}"), Pool::new());
    for _ in 0..8 {
        assert_eq!(get(&both, &pool, "/").await.0, 200);
    }
}

/// The upstream learns who the client is before anything else is said, over TLS as well as without; clients do not share
/// connections then.
#[tokio::test]
async fn a_proxy_header_goes_first() {
    use pointsman::tower::ConnectionInfo;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    let (told, mut heard) = tokio::sync::mpsc::unbounded_channel();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let told = told.clone();
            tokio::spawn(async move {
                // A connection may serve more than one request: each is told with what came before it on the wire.
                let mut said = Vec::new();
                while !said.ends_with(b"\r\n\r\n") || said.len() < 60 {
                    let mut piece = [0; 1024];
                    let read = stream.read(&mut piece).await.unwrap();
                    if read == 0 {
                        return;
                    }
                    said.extend_from_slice(&piece[..read]);
                }
                told.send(said).unwrap();
                stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await.unwrap();
                // The connection stays open.
                let _ = stream.read(&mut [0; 1]).await;
            });
        }
    });
    let client = |last: u8| ConnectionInfo {
        remote: Some(format!("192.0.2.{last}:5000").parse().unwrap()),
        local: Some("198.51.100.9:80".parse().unwrap()),
        ..ConnectionInfo::default()
    };
    for (version, first) in [
        ("V1", &b"PROXY TCP4 192.0.2.7 198.51.100.9 5000 80\r\nGET / HTTP/1.1\r\n"[..]),
        ("V2", b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c\xc0\0\x02\x07\xc6\x33\x64\x09\x13\x88\0\x50GET / HTTP/1.1\r\n"),
    ] {
        let engine = engine(&[address], Protocol::Http, &format!("{{proxyProtocol: {{version: {version}}}}}"));
        let pool: Pool<pointsman::tower::ReplayBody<Full<Bytes>>> = Pool::new();
        for last in [7, 8] {
            let mut request = Request::get("http://a.default/").body(Full::default()).unwrap();
            request.extensions_mut().insert(client(last));
            let response = engine.client(pool.clone()).oneshot(request).await.unwrap();
            assert_eq!(response.status(), 200);
            let said = heard.recv().await.unwrap();
            if last == 7 {
                assert!(said.starts_with(first), "{:?}", String::from_utf8_lossy(&said));
            } else {
                assert!(!said.starts_with(b"GET"), "another client, another connection");
            }
        }
    }
}
