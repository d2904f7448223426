//! Worlds of the conformance folder through the gateway: sockets on both sides, the upstreams at the addresses that the
//! worlds name.

use super::support::compare::{Observed, SeenMirror};
use super::support::simulate::{self, Scripted};
use super::support::world::{self, Case, World};
use super::support::{self, Drive};
use super::wire;
use crate::gateway::log::Log;
use crate::gateway::serve::{self, Config, Listen, Running};
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use pointsman::exchange::{Code, Summary};
use pointsman::mesh::Service;
use pointsman::policy::Policy;
use pointsman::{Engine, Resources};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tokio::net::TcpListener;
use tokio::runtime::Runtime;

/// What the upstreams do and see during one case.
#[derive(Default)]
struct Stage {
    script: VecDeque<Scripted>,
    seen: Observed,
}

struct Sockets {
    stage: Arc<Mutex<Stage>>,
    ports: BTreeMap<u16, SocketAddr>,
    told: Receiver<Summary>,
    running: Option<Running>,
    runtime: Runtime,
}

impl Sockets {
    fn start(world: &World) -> Result<Sockets, String> {
        let resources = Resources::from_yaml(&world.resources).map_err(|error| error.to_string())?;
        let compiled = Policy::compile(&resources, &world.file.mesh, &world.file.client);
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
        let runtime = runtime.map_err(|error| error.to_string())?;
        let stage = Arc::new(Mutex::new(Stage::default()));
        let services = &world.file.mesh.services;
        let endpoints: BTreeSet<(String, u16)> = services
            .iter()
            .flat_map(|service| &service.endpoints)
            .map(|endpoint| (endpoint.address.clone(), endpoint.port))
            .filter(|(address, _)| !address.starts_with("127.10."))
            .collect();
        let (teller, told) = channel();
        let teller = Mutex::new(teller);
        let log = Log::Told(Arc::new(move |entry| {
            let _ = teller.lock().unwrap().send(entry.summary.clone().unwrap_or_default());
        }));
        let asked: BTreeSet<u16> =
            world.cases.iter().filter_map(|case| case.request.as_ref()).map(|request| request.port).collect();
        let running = runtime.block_on(async {
            for (address, port) in endpoints {
                let listener = TcpListener::bind((address.as_str(), port)).await?;
                // Which endpoint of its service a copy goes to is chance.
                let holds = |service: &&Service| service.endpoints.iter().any(|endpoint| endpoint.address == address);
                let peers = services.iter().find(holds).map(|service| &service.endpoints);
                let peers = peers.into_iter().flatten().map(|endpoint| endpoint.address.clone()).collect();
                tokio::spawn(upstream(listener, address.clone(), peers, Arc::clone(&stage)));
            }
            let local = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
            let listen = asked.iter().map(|port| Listen { address: local, port: *port, tcp: false }).collect();
            serve::start(Engine::new(compiled.policy), Config { listen, log, drain: Duration::ZERO }).await
        });
        let running = running.map_err(|error| error.to_string())?;
        let ports = running.addresses().iter().map(|(listen, address)| (listen.port, *address)).collect();
        Ok(Sockets { stage, ports, told, running: Some(running), runtime })
    }
}

impl Drop for Sockets {
    fn drop(&mut self) {
        if let Some(running) = self.running.take() {
            self.runtime.block_on(running.stop());
        }
    }
}

impl Drive for Sockets {
    fn case(&mut self, case: &Case) -> Option<Vec<Observed>> {
        let request = case.request.as_ref()?;
        let address = *self.ports.get(&request.port)?;
        *self.stage.lock().unwrap() = Stage { script: simulate::script(&request.script), seen: Observed::default() };
        let response = wire::say(address, &bytes_of(request));
        let mut seen = Observed::default();
        match response {
            Ok(response) => {
                let summary = self.told.recv_timeout(Duration::from_secs(10)).unwrap_or_default();
                let until = Instant::now() + Duration::from_secs(5);
                while self.stage.lock().unwrap().seen.mirrors.len() < case.expect.mirrors.len()
                    && Instant::now() < until
                {
                    std::thread::yield_now();
                }
                seen = std::mem::take(&mut self.stage.lock().unwrap().seen);
                seen.route = summary.route.to_string();
                seen.cluster = summary.cluster.to_string();
                seen.flags = summary.flags.names().map(str::to_owned).collect();
                seen.status = response.status;
                seen.headers = simulate::client_lines(&header_map(&response));
                seen.body = simulate::text(&response.body);
                if summary.code == Code::NoListener {
                    seen.outcome = "no-listener".into();
                }
            }
            Err(error) => seen.outcome = error.to_string(),
        }
        Some(vec![seen])
    }
}

fn header_map(response: &wire::Response) -> HeaderMap {
    let pairs = response.headers.iter().filter_map(|(name, value)| {
        Some((HeaderName::from_bytes(name.as_bytes()).ok()?, HeaderValue::from_bytes(value).ok()?))
    });
    let mut headers = HeaderMap::new();
    for (name, value) in pairs {
        headers.append(name, value);
    }
    // The wire's own.
    headers.remove("transfer-encoding");
    headers
}

fn bytes_of(request: &world::Request) -> Vec<u8> {
    let mut head = format!("{} {} HTTP/1.1\r\nhost: {}\r\n", request.method, request.path, request.authority);
    for (name, value) in &request.headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    if !request.body.is_empty() {
        head.push_str(&format!("content-length: {}\r\n", request.body.chars().count()));
    }
    head.push_str("\r\n");
    head.push_str(&request.body);
    simulate::bytes(&head)
}

/// One upstream, at the address that the world gives it.
async fn upstream(listener: TcpListener, address: String, peers: Vec<String>, stage: Arc<Mutex<Stage>>) {
    let peers: Arc<[String]> = peers.into();
    while let Ok((stream, _)) = listener.accept().await {
        let (stage, address, peers) = (Arc::clone(&stage), address.clone(), Arc::clone(&peers));
        let service = hyper::service::service_fn(move |request| {
            let (stage, address, peers) = (Arc::clone(&stage), address.clone(), Arc::clone(&peers));
            async move { answer(request, &address, &peers, &stage).await }
        });
        tokio::spawn(hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service));
    }
}

async fn answer(
    request: Request<Incoming>,
    address: &str,
    peers: &[String],
    stage: &Mutex<Stage>,
) -> Result<Response<Full<Bytes>>, &'static str> {
    let (parts, body) = request.into_parts();
    let _ = body.collect().await;
    let path = parts.uri.path_and_query().map_or("", |path| path.as_str()).to_owned();
    let authority = parts.headers.get("host").map_or(String::new(), |host| simulate::text(host.as_bytes()));
    let method = parts.method.to_string();
    let step = {
        let stage = &mut *stage.lock().unwrap();
        if parts.headers.contains_key("x-envoy-internal") {
            let candidates = peers.to_vec();
            stage.seen.mirrors.push(SeenMirror { candidates, method, path, authority });
            Scripted::Answer { status: 200, headers: Vec::new(), delay: Duration::ZERO }
        } else {
            stage.seen.endpoints.push(address.to_owned());
            stage.seen.attempts += 1;
            let headers = simulate::upstream_lines(&parts.headers);
            stage.seen.upstream = Some(world::Upstream { method, authority, path, headers });
            let next = if stage.script.len() > 1 { stage.script.pop_front() } else { stage.script.front().cloned() };
            next.unwrap_or(Scripted::Reset)
        }
    };
    match step {
        Scripted::Refused | Scripted::Reset => Err("the connection closes without an answer"),
        Scripted::Answer { status, headers, delay } => {
            tokio::time::sleep(delay).await;
            let mut response = Response::new(Full::new(Bytes::from_static(b"upstream")));
            *response.status_mut() = StatusCode::from_u16(status).unwrap();
            *response.headers_mut() = simulate::answer_headers(&headers);
            Ok(response)
        }
    }
}

#[test]
fn worlds_agree_over_real_sockets() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/conformance/worlds");
    let mut files: Vec<_> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    let (mut agree, mut differences) = (0, Vec::new());
    for file in files {
        let world = World::read(&file).unwrap();
        if !matches!(world.area(), "match" | "fuzz" | "hosts" | "large") {
            continue;
        }
        let driver = Sockets::start(&world).map(|sockets| Box::new(sockets) as Box<dyn Drive>);
        for result in support::run(&world, driver) {
            if result.differences.is_empty() {
                agree += 1;
            }
            differences
                .extend(result.differences.iter().map(|line| format!("{} / {}: {line}", world.name, result.case)));
        }
    }
    assert!(
        differences.is_empty(),
        "{agree} agree; {} differences:\n{}",
        differences.len(),
        differences[..differences.len().min(40)].join("\n")
    );
    assert!(agree > 3_500, "only {agree} cases were played");
}
