//! Listeners and HTTP: each request goes through the client layer to an endpoint, and leaves a line in the log.

use super::framing::Followed;
use super::log::{Entry, Log, Logged};
use super::{Fallible, tunnel};
use http::header::{HOST, UPGRADE};
use http::{Request, Response, StatusCode, Version};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use pointsman::Engine;
use pointsman::exchange::Summary;
use pointsman::tower::{Client, ConnectionInfo, Pool, PoolBody, ReplayBody, ResponseBody, Tunnel};
use std::convert::Infallible;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};
use tower::ServiceExt;

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
        Ok(Listen { address, port: port.parse()?, tcp })
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

pub type Upstreams = Client<Pool<ReplayBody<Incoming>>>;

struct Shared {
    client: Upstreams,
    log: Log,
}

/// Binds every listener, and serves.
pub async fn start(engine: Engine, config: Config) -> Fallible<Running> {
    let shared = Arc::new(Shared { client: engine.client(Pool::new()), log: config.log });
    let (stop, stopped) = watch::channel(false);
    let (alive, ended) = mpsc::channel(1);
    let mut addresses = Vec::new();
    for listen in config.listen {
        let listener = TcpListener::bind(listen.address).await?;
        addresses.push((listen.clone(), listener.local_addr()?));
        if listen.tcp {
            tokio::spawn(tunnel::accept(listener, listen.port, engine.clone(), stopped.clone()));
        } else {
            tokio::spawn(accept(listener, listen.port, Arc::clone(&shared), stopped.clone(), alive.clone()));
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

async fn accept(
    listener: TcpListener,
    port: u16,
    shared: Arc<Shared>,
    mut stopped: watch::Receiver<bool>,
    alive: mpsc::Sender<Infallible>,
) {
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
        tokio::spawn(connection(stream, remote, port, Arc::clone(&shared), stopped.clone(), alive.clone()));
    }
}

async fn connection(
    stream: TcpStream,
    remote: SocketAddr,
    port: u16,
    shared: Arc<Shared>,
    mut stopped: watch::Receiver<bool>,
    _alive: mpsc::Sender<Infallible>,
) {
    let _ = stream.set_nodelay(true);
    let info = ConnectionInfo { remote: Some(remote), local: stream.local_addr().ok(), original_destination: None };
    let client = shared.client.clone().with_port(port);
    let (stream, verdicts) = Followed::new(stream);
    let service = service_fn(move |request| {
        let refused = verdicts.next() || is_ambiguous(&request);
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
    refused: bool,
    info: ConnectionInfo,
    client: Upstreams,
    shared: Arc<Shared>,
) -> Result<Answer, Infallible> {
    let mut entry = Entry::new(&shared.log, &request);
    if refused {
        let mut response = Response::new(ResponseBody::empty());
        *response.status_mut() = StatusCode::BAD_REQUEST;
        response.headers_mut().insert("connection", http::HeaderValue::from_static("close"));
        entry.answered(&response);
        return Ok(response.map(|body| Logged::new(body, entry)));
    }
    request.extensions_mut().insert(info);
    let downstream = request.headers().contains_key(UPGRADE).then(|| hyper::upgrade::on(&mut request));
    let mut response = match client.oneshot(request).await {
        Ok(response) => response,
        Err(_) => {
            let mut response = Response::new(ResponseBody::empty());
            *response.status_mut() = StatusCode::BAD_GATEWAY;
            response
        }
    };
    entry.answered(&response);
    if response.status() == StatusCode::SWITCHING_PROTOCOLS
        && let Some(downstream) = downstream
    {
        let upstream = hyper::upgrade::on(&mut response);
        let held = response.extensions_mut().remove::<Tunnel>();
        tokio::spawn(async move {
            // The request counts as under way until its tunnel ends.
            let _held = held;
            tunnel::join(downstream, upstream).await;
        });
    }
    // What is for those who look at it here is not for the wire.
    response.extensions_mut().remove::<Summary>();
    Ok(response.map(|body| Logged::new(body, entry)))
}

/// Is it for two hosts, or for none?
fn is_ambiguous(request: &Request<Incoming>) -> bool {
    let hosts = request.headers().get_all(HOST).iter().count();
    let no_host = request.version() == Version::HTTP_11 && hosts == 0 && request.uri().authority().is_none();
    hosts > 1 || no_host
}
