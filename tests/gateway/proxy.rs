//! What people expect of a proxy that they run.

use super::wire;
use crate::gateway::admin;
use crate::gateway::log::Log;
use crate::gateway::serve::{self, Config, Listen, Running};
use pointsman::mesh::{Endpoint, Mesh, Protocol, Service, Viewpoint};
use pointsman::policy::Policy;
use pointsman::{Engine, Resources};
use std::io::{BufReader, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Barrier, mpsc};
use std::thread;
use std::time::Duration;
use tokio::runtime::Runtime;

/// A gateway for `a` (HTTP, port 80) and `db` (TLS, port 443).
pub struct Gateway {
    pub http: SocketAddr,
    pub tcp: SocketAddr,
    pub admin: SocketAddr,
    running: Option<Running>,
    pub runtime: Runtime,
}

const POLICY: &str = "
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: a, namespace: default}
spec:
  hosts: [a]
  http:
  - name: all
    route: [{destination: {host: a}}]
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: db, namespace: default}
spec:
  hosts: [db]
  tls:
  - match: [{sniHosts: [db.example.com]}]
    route: [{destination: {host: db}}]
";

pub fn gateway(upstream: SocketAddr) -> Gateway {
    let endpoint = || Endpoint::new(upstream.ip().to_string(), upstream.port());
    let mesh = Mesh::new([
        Service::new("a.default.svc.cluster.local", "default")
            .with_port(80, "http", Protocol::Http)
            .with_endpoint(endpoint()),
        Service::new("db.default.svc.cluster.local", "default")
            .with_port(443, "tls", Protocol::Tls)
            .with_endpoint(endpoint()),
    ]);
    let compiled = Policy::compile(&Resources::from_yaml(POLICY).unwrap(), &mesh, &Viewpoint::namespace("default"));
    assert!(compiled.report.is_empty(), "{}", compiled.report);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let state = Arc::new(admin::State::default());
    let engine = admin::observe(Engine::builder(), &state).build(compiled.policy);
    let local = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    let listen = vec![Listen { address: local, port: 80, tcp: false }, Listen { address: local, port: 443, tcp: true }];
    let config = Config { listen, log: Log::Off, drain: Duration::from_secs(20) };
    let (running, admin) = runtime.block_on(async {
        let running = serve::start(engine.clone(), config).await.unwrap();
        let admin = admin::start(local, engine, state, running.draining()).await.unwrap();
        (running, admin)
    });
    let at = |index: usize| running.addresses()[index].1;
    Gateway { http: at(0), tcp: at(1), admin, runtime, running: Some(running) }
}

impl Gateway {
    fn stop(&mut self) {
        if let Some(running) = self.running.take() {
            self.runtime.block_on(running.stop());
        }
    }
}

/// An upstream on threads: `answer` gets each connection.
pub fn upstream(answer: impl Fn(TcpStream) + Send + Sync + 'static) -> SocketAddr {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = listener.local_addr().unwrap();
    let answer = Arc::new(answer);
    thread::spawn(move || {
        for stream in listener.incoming().filter_map(Result::ok) {
            let answer = Arc::clone(&answer);
            thread::spawn(move || answer(stream));
        }
    });
    address
}

/// Answers every request on the connection with `ok`.
pub fn well(stream: TcpStream) {
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    let mut stream = stream;
    while request_head(&mut reader).is_some() {
        if stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").is_err() {
            return;
        }
    }
}

/// An upstream that answers what is whole, and counts it; half a request ends with its connection.
pub fn careful(seen: &Arc<AtomicUsize>) -> SocketAddr {
    let seen = Arc::clone(seen);
    upstream(move |stream| {
        let mut reader = BufReader::new(stream.try_clone().unwrap());
        let mut stream = stream;
        while let Some(head) = request_head(&mut reader) {
            let chunked = head.to_ascii_lowercase().contains("transfer-encoding: chunked");
            let length =
                head.lines().find_map(|line| line.to_ascii_lowercase().strip_prefix("content-length: ")?.parse().ok());
            let mut body = vec![0; length.unwrap_or(0)];
            if reader.read_exact(&mut body).is_err() {
                return;
            }
            let mut byte = [0];
            while chunked && !body.ends_with(b"0\r\n\r\n") {
                if reader.read_exact(&mut byte).is_err() {
                    return;
                }
                body.push(byte[0]);
            }
            seen.fetch_add(1, Ordering::SeqCst);
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n");
            if !head.starts_with("HEAD") {
                let _ = stream.write_all(b"ok");
            }
        }
    })
}

/// A head as text; none where the connection ends before it does.
pub fn request_head(reader: &mut BufReader<TcpStream>) -> Option<String> {
    use std::io::BufRead;
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        if reader.read_until(b'\n', &mut head).ok()? == 0 {
            return None;
        }
    }
    Some(String::from_utf8_lossy(&head).into_owned())
}

#[test]
fn an_upgraded_request_becomes_a_tunnel() {
    let gateway = gateway(upstream(|mut stream| {
        let mut reader = BufReader::new(stream.try_clone().unwrap());
        let head = request_head(&mut reader).unwrap().to_ascii_lowercase();
        assert!(head.contains("upgrade: websocket") && head.contains("connection: upgrade"), "{head}");
        stream
            .write_all(b"HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: upgrade\r\n\r\n")
            .unwrap();
        let mut said = [0; 4];
        reader.read_exact(&mut said).unwrap();
        said.reverse();
        stream.write_all(&said).unwrap();
    }));
    let mut client = wire::connect(gateway.http);
    client.write_all(b"GET /chat HTTP/1.1\r\nhost: a\r\nconnection: Upgrade\r\nupgrade: websocket\r\n\r\n").unwrap();
    let mut reader = BufReader::new(client.try_clone().unwrap());
    let response = wire::read(&mut reader, false).unwrap();
    assert_eq!((response.status, response.header("upgrade")), (101, Some(&b"websocket"[..])));
    client.write_all(b"ping").unwrap();
    let mut said = [0; 4];
    reader.read_exact(&mut said).unwrap();
    assert_eq!(&said, b"gnip");
}

#[test]
fn two_thousand_connections_at_once_are_served() {
    let gateway = gateway(upstream(well));
    let connections: Vec<TcpStream> = (0..2_000).map(|_| wire::connect(gateway.http)).collect();
    for mut connection in &connections {
        connection.write_all(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n").unwrap();
    }
    for connection in connections {
        assert_eq!(wire::read(&mut BufReader::new(connection), false).unwrap().text(), "ok");
    }
}

#[test]
fn a_slow_reader_stalls_nobody() {
    const HUGE: usize = 64 << 20;
    let gateway = gateway(upstream(|stream| {
        let mut reader = BufReader::new(stream.try_clone().unwrap());
        let mut stream = stream;
        while let Some(head) = request_head(&mut reader) {
            let length = if head.starts_with("GET /huge") { HUGE } else { 2 };
            let _ = stream.write_all(format!("HTTP/1.1 200 OK\r\ncontent-length: {length}\r\n\r\n").as_bytes());
            if stream.write_all(&vec![b'x'; length]).is_err() {
                return;
            }
        }
    }));
    let mut slow = wire::connect(gateway.http);
    slow.write_all(b"GET /huge HTTP/1.1\r\nhost: a\r\n\r\n").unwrap();
    let mut first = [0; 16];
    slow.read_exact(&mut first).unwrap();
    for _ in 0..50 {
        assert_eq!(wire::get(gateway.http, "a", "/").text(), "xx");
    }
    let mut left = 0;
    let mut piece = vec![0; 1 << 20];
    while left < HUGE {
        left += slow.read(&mut piece).unwrap();
    }
}

#[test]
fn a_request_in_flight_survives_the_drain() {
    let (came, arrived) = mpsc::channel();
    let (go, wait) = mpsc::channel::<()>();
    let wait = std::sync::Mutex::new(wait);
    let mut gateway = gateway(upstream(move |stream| {
        let mut reader = BufReader::new(stream.try_clone().unwrap());
        let mut stream = stream;
        request_head(&mut reader).unwrap();
        came.send(()).unwrap();
        wait.lock().unwrap().recv().unwrap();
        stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").unwrap();
    }));
    let (http, admin) = (gateway.http, gateway.admin);
    let asking = thread::spawn(move || wire::get(http, "a", "/"));
    arrived.recv().unwrap();
    let stopping = thread::spawn(move || gateway.stop());
    while wire::get(admin, "admin", "/ready").status == 200 {
        thread::yield_now();
    }
    go.send(()).unwrap();
    let response = asking.join().unwrap();
    assert_eq!((response.status, response.text().as_str()), (200, "ok"));
    stopping.join().unwrap();
    assert!(TcpStream::connect(http).is_err(), "nobody listens any more");
}

#[test]
fn http2_with_prior_knowledge_is_served() {
    use http_body_util::{BodyExt, Empty};
    let gateway = gateway(upstream(well));
    let address = gateway.http;
    let (status, body) = gateway.runtime.block_on(async move {
        let mut builder = hyper_util::client::legacy::Client::builder(hyper_util::rt::TokioExecutor::new());
        // The address is dialled, the authority is `a`.
        let connector = tower::service_fn(move |_: http::Uri| {
            Box::pin(async move {
                let stream = tokio::net::TcpStream::connect(address).await?;
                Ok::<_, std::io::Error>(hyper_util::rt::TokioIo::new(stream))
            })
        });
        let client = builder.http2_only(true).build::<_, Empty<bytes::Bytes>>(connector);
        let response = client.get("http://a/".parse().unwrap()).await.unwrap();
        (response.status(), response.into_body().collect().await.unwrap().to_bytes())
    });
    assert_eq!((status.as_u16(), &body[..]), (200, &b"ok"[..]));
}

#[test]
fn tls_passes_by_its_server_name() {
    let gateway = gateway(upstream(|mut stream| {
        let mut said = [0; 5];
        stream.read_exact(&mut said).unwrap();
        assert_eq!(said[0], 22, "a TLS handshake");
        stream.write_all(b"passed").unwrap();
    }));
    let hello = |name: &str| {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(rustls::RootCertStore::empty())
            .with_no_client_auth();
        let mut client = rustls::ClientConnection::new(Arc::new(config), name.to_owned().try_into().unwrap()).unwrap();
        let mut bytes = Vec::new();
        client.write_tls(&mut bytes).unwrap();
        bytes
    };
    for (name, answer) in [("db.example.com", &b"passed"[..]), ("other.example.com", b"")] {
        let mut client = wire::connect(gateway.tcp);
        client.write_all(&hello(name)).unwrap();
        client.shutdown(std::net::Shutdown::Write).unwrap();
        assert_eq!(wire::rest(&mut client), answer, "{name}");
    }
}

#[test]
fn the_admin_listener_tells_what_runs() {
    let gateway = gateway(upstream(well));
    assert_eq!(wire::get(gateway.http, "a", "/").text(), "ok");
    let ask = |path: &str| wire::get(gateway.admin, "admin", path);
    assert_eq!((ask("/ready").status, ask("/ready").text().as_str()), (200, "LIVE\n"));
    assert!(ask("/").text().contains("<title>pointsman gateway</title>"));
    let why = ask("/explain?method=POST&url=http%3A%2F%2Fa%2Fx%3Fy&header=x-user:%20me").text();
    assert!(why.starts_with("POST a/x?y on port 80") && why.contains("outbound|80||a.default"), "{why}");
    let endpoints: serde_json::Value = serde_json::from_slice(&ask("/endpoints").body).unwrap();
    assert_eq!(endpoints[0]["cluster"], "outbound|443||db.default.svc.cluster.local");
    assert_eq!((&endpoints[0]["ready"], &endpoints[0]["ejected"]), (&true.into(), &serde_json::Value::Null));
    assert_eq!((&endpoints[0]["locality"], &endpoints[0]["weight"]), (&"".into(), &1.into()));
    let policy: serde_json::Value = serde_json::from_slice(&ask("/policy").body).unwrap();
    assert!(policy["rules"].as_array().unwrap().contains(&"default/a http[0]".into()), "{policy}");
    let shares: serde_json::Value = serde_json::from_slice(&ask("/shares").body).unwrap();
    assert_eq!((&shares[0]["route"], &shares[0]["requests"]), (&"all".into(), &1.into()));
    let stats = ask("/stats").text();
    assert!(stats.contains("pointsman_requests_total{cluster=\"outbound|80||a.default.svc.cluster.local\""), "{stats}");
    assert_eq!((ask("/explain").status, ask("/nothing").status), (400, 404));
}

#[test]
fn many_clients_share_connections_to_the_upstream() {
    let connections = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&connections);
    let gateway = gateway(upstream(move |stream| {
        counted.fetch_add(1, Ordering::SeqCst);
        well(stream);
    }));
    let barrier = Arc::new(Barrier::new(4));
    let clients: Vec<_> = (0..4)
        .map(|_| {
            let (address, barrier) = (gateway.http, Arc::clone(&barrier));
            thread::spawn(move || {
                barrier.wait();
                for _ in 0..50 {
                    assert_eq!(wire::get(address, "a", "/").status, 200);
                }
            })
        })
        .collect();
    clients.into_iter().for_each(|client| client.join().unwrap());
    let used = connections.load(Ordering::SeqCst);
    assert!(used <= 8, "{used} connections for 200 requests of 4 clients");
}
