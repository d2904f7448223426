//! Listeners and HTTP: each request goes through the client layer to an endpoint, and leaves a line in the log.

use super::framing::Followed;
use super::log::{Entry, Log, Logged, Noting, Received};
use super::{Fallible, tunnel};
use bytes::Bytes;
use http::header::{CONNECTION, HOST, UPGRADE};
use http::{HeaderName, HeaderValue, Method, Request, Response, StatusCode, Version};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use pointsman::Engine;
use pointsman::policy::Flags;
use pointsman::tower::{Client, ConnectionInfo, Pool, PoolBody, ReplayBody, ResponseBody, Tunnel};
use std::convert::Infallible;
use std::error::Error;
use std::hash::{BuildHasher, RandomState};
use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};
use tower::ServiceExt;

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// One listener.
#[derive(Clone, Debug)]
pub struct Listen {
    pub address: SocketAddr,
    /// The policy's port.
    pub port: u16,
    /// TLS and TCP passthrough instead of HTTP.
    pub tcp: bool,
}

impl Listen {
    /// `ADDR` or `ADDR=PORT`.
    pub fn parse(text: &str, tcp: bool) -> Fallible<Listen> {
        let (address, port) = text.rsplit_once('=').unwrap_or((text, if tcp { "443" } else { "80" }));
        let address = address.parse().map_err(|_| format!("`{address}` is not an address such as 127.0.0.1:8080"))?;
        let port = port.parse().map_err(|_| format!("`{port}` is not a port"))?;
        Ok(Listen { address, port, tcp })
    }
}

/// What a gateway is started with.
pub struct Config {
    pub listen: Vec<Listen>,
    pub log: Log,
    pub drain: Duration,
}

/// A gateway that runs.
pub struct Running {
    addresses: Vec<(Listen, SocketAddr)>,
    stop: watch::Sender<bool>,
    /// Nothing is ever sent: it ends when the last connection has dropped its sender.
    ended: mpsc::Receiver<Infallible>,
    drain: Duration,
}

type Upstreams = Client<Noting<Pool<ReplayBody<Received<Incoming>>>>>;

struct Shared {
    client: Upstreams,
    log: Log,
    ids: Ids,
    /// Held by whatever a stop is to wait for.
    alive: mpsc::Sender<Infallible>,
}

/// `x-request-id`s: as random as the process's hash keys, and cheap.
#[derive(Default)]
struct Ids {
    keys: RandomState,
    made: AtomicU64,
}

impl Ids {
    fn next(&self) -> Option<HeaderValue> {
        let number = self.made.fetch_add(1, Ordering::Relaxed);
        let (high, low) = (self.keys.hash_one((number, 0)), self.keys.hash_one((number, 1)));
        // Version 4, variant 1.
        let high = high & !0xf000 | 0x4000;
        let low = low & !(0b11 << 62) | 0b10 << 62;
        let text = format!(
            "{:08x}-{:04x}-{:04x}-{:04x}-{:012x}",
            high >> 32,
            high >> 16 & 0xffff,
            high & 0xffff,
            low >> 48,
            low & 0xffff_ffff_ffff
        );
        HeaderValue::from_maybe_shared(Bytes::from(text)).ok()
    }
}

/// Binds every listener, and serves.
pub async fn start(engine: Engine, config: Config) -> Fallible<Running> {
    let (stop, stopped) = watch::channel(false);
    let (alive, ended) = mpsc::channel(1);
    let client = engine.client(Noting(Pool::new()));
    let shared = Arc::new(Shared { client, log: config.log, ids: Ids::default(), alive: alive.clone() });
    let mut addresses = Vec::new();
    for listen in config.listen {
        let bound = TcpListener::bind(listen.address).await;
        let listener = bound.map_err(|error| format!("listening on {}: {error}", listen.address))?;
        addresses.push((listen.clone(), listener.local_addr()?));
        if listen.tcp {
            tokio::spawn(tunnel::accept(listener, listen.port, engine.clone(), stopped.clone(), alive.clone()));
        } else {
            tokio::spawn(accept(listener, listen.port, Arc::clone(&shared), stopped.clone()));
        }
    }
    Ok(Running { addresses, stop, ended, drain: config.drain })
}

impl Running {
    /// Where it listens.
    pub fn addresses(&self) -> &[(Listen, SocketAddr)] {
        &self.addresses
    }

    /// Says when it stops.
    pub fn draining(&self) -> watch::Receiver<bool> {
        self.stop.subscribe()
    }

    /// Takes no new connections, and waits for requests to end, as long as they may.
    pub async fn stop(mut self) {
        let _ = self.stop.send(true);
        let _ = tokio::time::timeout(self.drain, self.ended.recv()).await;
    }
}

async fn accept(listener: TcpListener, port: u16, shared: Arc<Shared>, mut stopped: watch::Receiver<bool>) {
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            _ = stopped.changed() => return,
        };
        // An accept that fails (no descriptors left) may work later.
        let Ok((stream, remote)) = accepted else {
            tokio::time::sleep(Duration::from_millis(10)).await;
            continue;
        };
        tokio::spawn(connection(stream, remote, port, Arc::clone(&shared), stopped.clone()));
    }
}

async fn connection(
    stream: TcpStream,
    remote: SocketAddr,
    port: u16,
    shared: Arc<Shared>,
    mut stopped: watch::Receiver<bool>,
) {
    let _ = stream.set_nodelay(true);
    let info = ConnectionInfo { remote: Some(remote), local: stream.local_addr().ok(), original_destination: None };
    let client = shared.client.clone().with_port(port);
    let (stream, verdicts) = Followed::new(stream);
    let service = service_fn(move |request| {
        let refused = verdicts.next().or_else(|| refused(&request));
        serve(request, refused, info, client.clone(), Arc::clone(&shared))
    });
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder.http1().timer(TokioTimer::new()).header_read_timeout(Duration::from_secs(60));
    builder.http2().timer(TokioTimer::new());
    let mut connection = pin!(builder.serve_connection_with_upgrades(TokioIo::new(stream), service));
    // A client that breaks off, or does not speak HTTP, is no news.
    tokio::select! {
        _ = connection.as_mut() => return,
        _ = stopped.wait_for(|stopped| *stopped) => {}
    }
    connection.as_mut().graceful_shutdown();
    let _ = connection.await;
}

type Answer = Response<Logged<ResponseBody<PoolBody>>>;

async fn serve(
    mut request: Request<Incoming>,
    refused: Option<StatusCode>,
    info: ConnectionInfo,
    client: Upstreams,
    shared: Arc<Shared>,
) -> Result<Answer, Infallible> {
    if !request.headers().contains_key(REQUEST_ID)
        && let Some(id) = shared.ids.next()
    {
        request.headers_mut().insert(REQUEST_ID, id);
    }
    let mut entry = shared.log.entry(&mut request, client.engine());
    if let Some(status) = refused {
        return Ok(logged(bad_request(&mut entry, status), entry));
    }
    request.extensions_mut().insert(info);
    let downstream = request.headers().contains_key(UPGRADE).then(|| hyper::upgrade::on(&mut request));
    let received = entry.as_ref().map(|entry| entry.received());
    let request = request.map(|body| Received::new(body, received));
    // It fails only if the request's body does: a chunk that is none, a client that is gone.
    let mut response = match client.oneshot(request).await {
        Ok(response) => response,
        // Nobody hears the answer; without one the entry says that the client went away.
        Err(error) if is_gone(error.as_ref()) => {
            return Ok(logged(bad_request(&mut None, StatusCode::BAD_REQUEST), None));
        }
        Err(_) => return Ok(logged(bad_request(&mut entry, StatusCode::BAD_REQUEST), entry)),
    };
    if response.status() == StatusCode::SWITCHING_PROTOCOLS
        && let Some(downstream) = downstream
    {
        let upstream = hyper::upgrade::on(&mut response);
        let held = (response.extensions_mut().remove::<Tunnel>(), shared.alive.clone());
        tokio::spawn(async move {
            // The request counts as under way until its tunnel ends, and a stop waits for it.
            let _held = held;
            tunnel::join(downstream, upstream).await;
        });
    }
    Ok(logged(response, entry))
}

/// Did the client's connection end in the middle of a body?
fn is_gone(error: &(dyn Error + 'static)) -> bool {
    std::iter::successors(Some(error), |error| (*error).source())
        .filter_map(|error| error.downcast_ref::<io::Error>())
        .any(|error| matches!(error.kind(), io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset))
}

/// The client has broken its protocol: what comes next on its connection is anybody's guess.
fn bad_request(entry: &mut Option<Entry>, status: StatusCode) -> Response<ResponseBody<PoolBody>> {
    if let Some(entry) = entry {
        entry.flags |= Flags::DPE;
    }
    let mut response = Response::new(ResponseBody::empty());
    *response.status_mut() = status;
    response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    response
}

/// The answer as the log sees it on its way out.
fn logged(response: Response<ResponseBody<PoolBody>>, mut entry: Option<Entry>) -> Answer {
    if let Some(entry) = &mut entry {
        entry.answered(&response);
    }
    response.map(|body| Logged::new(body, entry))
}

/// What no route is asked for.
fn refused(request: &Request<Incoming>) -> Option<StatusCode> {
    if request.version() < Version::HTTP_11 {
        return Some(StatusCode::UPGRADE_REQUIRED);
    }
    let hosts = request.headers().get_all(HOST).iter().count();
    let no_host = request.version() == Version::HTTP_11 && hosts == 0 && request.uri().authority().is_none();
    // `GET a HTTP/1.1`: a target that is neither a path nor a URL.
    let no_path = request.method() != Method::CONNECT && request.uri().path_and_query().is_none();
    (hosts > 1 || no_host || no_path).then_some(StatusCode::BAD_REQUEST)
}
