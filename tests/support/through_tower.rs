//! Drives the same worlds through the tower stack: the client layer around scripted upstreams in memory, tokio's time
//! paused.
//!
//! A case whose path `http::Uri` cannot hold cannot be put to a tower service; it is left out, and counted.

use super::Drive;
use super::compare::{Observed, SeenMirror};
use super::simulate::{self, Scripted};
use super::world::{self, Case, World};
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode, Uri};
use http_body_util::{BodyExt, Full};
use pointsman::exchange::{Code, Summary};
use pointsman::policy::{Connection, Policy};
use pointsman::tower::{BoxError, Client, Clock, ConnectionInfo, ReplayBody, Target};
use pointsman::{Engine, Resources};
use std::collections::VecDeque;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::runtime::Runtime;
use tokio::time::Instant;
use tower::{Service, ServiceExt};

/// The tower stack.
pub fn driver(world: &World) -> Result<Box<dyn Drive>, String> {
    let resources = Resources::from_yaml(&world.resources).map_err(|error| format!("resources: {error}"))?;
    let compiled = Policy::compile(&resources, &world.file.mesh, &world.file.client);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
    let runtime = runtime.map_err(|error| error.to_string())?;
    let engine = Engine::new(compiled.policy);
    let client = {
        let _entered = runtime.enter();
        engine.client(Upstreams).with_seed(0x5eed)
    };
    Ok(Box::new(Stack { runtime, engine, client, draw: 0 }))
}

struct Stack {
    runtime: Runtime,
    engine: Engine,
    client: Client<Upstreams>,
    /// Of connections: each draw is the next number.
    draw: u64,
}

impl Drive for Stack {
    fn case(&mut self, case: &Case) -> Option<Vec<Observed>> {
        let Stack { runtime, engine, client, draw } = self;
        runtime.block_on(async {
            let times = case.times.unwrap_or(1);
            let seen = match (&case.request, &case.connection) {
                (Some(request), _) => {
                    request.path.parse::<Uri>().ok()?.path_and_query()?;
                    match case.parallel {
                        Some(parallel) => at_once(client, request, parallel).await,
                        None => {
                            let mut seen = Vec::new();
                            for _ in 0..times {
                                seen.extend(at_once(client, request, 1).await);
                            }
                            seen
                        }
                    }
                }
                (None, Some(connection)) => (0..times).map(|_| connect(engine, connection, draw)).collect(),
                (None, None) => Vec::new(),
            };
            tokio::time::sleep(Duration::from_millis(case.then_wait_ms + 1)).await;
            Some(seen)
        })
    }
}

/// The layers route requests, not connections: those go to the engine itself.
fn connect(engine: &Engine, connection: &world::Connection, draw: &mut u64) -> Observed {
    let asked =
        Connection { address: connection.address.parse().ok(), port: connection.port, sni: connection.sni.as_deref() };
    let now = Clock::of(engine).now();
    let mut draws = || {
        *draw += 1;
        *draw
    };
    simulate::connected(&engine.connect(&asked, now, &mut draws))
}

/// So many requests that begin at the same time.
async fn at_once(client: &Client<Upstreams>, request: &world::Request, parallel: u32) -> Vec<Observed> {
    let tasks: Vec<_> = (0..parallel)
        .map(|_| {
            let watched = Watched::new(&request.script);
            let sent = send(client.clone().with_port(request.port), http_request(request, &watched), watched.clone());
            (watched, tokio::spawn(sent))
        })
        .collect();
    let mut seen = Vec::new();
    let mut watched = Vec::new();
    for (one, task) in tasks {
        task.await.expect("a request ends");
        watched.push(one);
    }
    // Copies are on tasks of their own.
    for _ in 0..4 {
        tokio::task::yield_now().await;
    }
    for one in watched {
        seen.push(std::mem::take(&mut one.0.lock().expect("whole").seen));
    }
    seen
}

fn http_request(request: &world::Request, watched: &Watched) -> Request<Full<Bytes>> {
    let mut sent = Request::new(Full::new(Bytes::from(request.body.clone())));
    *sent.method_mut() = simulate::method(request);
    *sent.uri_mut() = request.path.parse().expect("was read before");
    *sent.headers_mut() = simulate::request_headers(request);
    if let Ok(host) = HeaderValue::from_str(&request.authority) {
        sent.headers_mut().insert("host", host);
    }
    sent.extensions_mut().insert(ConnectionInfo {
        remote: Some(([127, 0, 0, 1], 40_000).into()),
        local: Some(([127, 0, 0, 1], request.port).into()),
        original_destination: None,
    });
    sent.extensions_mut().insert(watched.clone());
    sent
}

async fn send(client: Client<Upstreams>, request: Request<Full<Bytes>>, watched: Watched) {
    let began = Instant::now();
    let answer = match client.oneshot(request).await {
        Ok(response) => {
            let (parts, body) = response.into_parts();
            body.collect().await.map(|body| (parts, body.to_bytes()))
        }
        Err(error) => Err(error),
    };
    let seen = &mut watched.0.lock().expect("whole").seen;
    let Ok((parts, body)) = answer else {
        seen.outcome = "reset".into();
        return;
    };
    let summary = parts.extensions.get::<Summary>().cloned().unwrap_or_default();
    seen.route = summary.route.to_string();
    seen.cluster = summary.cluster.to_string();
    seen.flags = summary.flags.names().map(str::to_owned).collect();
    seen.status = parts.status.as_u16();
    seen.headers = simulate::client_lines(&parts.headers);
    seen.body = simulate::text(&body);
    seen.elapsed = began.elapsed();
    if summary.code == Code::NoListener {
        seen.outcome = "no-listener".into();
    }
}

/// What the upstreams do with a request and what they saw of it, in its extensions.
#[derive(Clone)]
struct Watched(Arc<Mutex<Watch>>);

struct Watch {
    script: VecDeque<Scripted>,
    seen: Observed,
}

impl Watched {
    fn new(script: &str) -> Watched {
        Watched(Arc::new(Mutex::new(Watch { script: simulate::script(script), seen: Observed::default() })))
    }

    /// The attempt's upstream sees it; what will it do?
    fn attempt(&self, request: &Request<ReplayBody<Full<Bytes>>>, target: &Target) -> Scripted {
        let address = target.endpoint.rsplit_once(':').map_or("", |(address, _)| address);
        // Nothing listens there.
        if address.starts_with("127.10.") {
            return Scripted::Refused;
        }
        let watch = &mut *self.0.lock().expect("whole");
        watch.seen.endpoints.push(address.to_owned());
        watch.seen.attempts += 1;
        watch.seen.upstream = Some(world::Upstream {
            method: request.method().to_string(),
            authority: target.authority().to_owned(),
            path: target.path().to_owned(),
            headers: simulate::upstream_lines(request.headers()),
        });
        let next = if watch.script.len() > 1 { watch.script.pop_front() } else { watch.script.front().cloned() };
        next.unwrap_or(Scripted::Reset)
    }

    fn copy(&self, request: &Request<ReplayBody<Full<Bytes>>>, target: &Target) {
        let candidates = target.destination.iter().flat_map(|destination| &destination.endpoints);
        let mirror = SeenMirror {
            candidates: candidates.map(|endpoint| endpoint.address.to_string()).collect(),
            method: request.method().to_string(),
            path: target.path().to_owned(),
            authority: target.authority().to_owned(),
        };
        self.0.lock().expect("whole").seen.mirrors.push(mirror);
    }
}

/// Every upstream of a world.
#[derive(Clone)]
struct Upstreams;

impl Service<Request<ReplayBody<Full<Bytes>>>> for Upstreams {
    type Response = Response<Full<Bytes>>;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, BoxError>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<ReplayBody<Full<Bytes>>>) -> Self::Future {
        Box::pin(async move {
            let (Some(watched), Some(target)) =
                (request.extensions().get::<Watched>().cloned(), request.extensions().get::<Target>().cloned())
            else {
                return Err("the request's extensions were lost".into());
            };
            if target.attempt == 0 {
                watched.copy(&request, &target);
                return Ok(answer(StatusCode::OK, HeaderMap::new()));
            }
            let next = watched.attempt(&request, &target);
            request.into_body().collect().await?;
            match next {
                Scripted::Refused => Err(io::Error::from(io::ErrorKind::ConnectionRefused).into()),
                Scripted::Reset => Err("the upstream resets".into()),
                Scripted::Answer { status, headers, delay } => {
                    tokio::time::sleep(delay).await;
                    let status = StatusCode::from_u16(status).unwrap_or(StatusCode::OK);
                    Ok(answer(status, simulate::answer_headers(&headers)))
                }
            }
        })
    }
}

fn answer(status: StatusCode, headers: HeaderMap) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from_static(b"upstream")));
    *response.status_mut() = status;
    *response.headers_mut() = headers;
    response
}
