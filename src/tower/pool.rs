//! Connections to endpoints over HTTP/1.1 and HTTP/2, on hyper-util's client: the inner service that a
//! [`Client`](super::Client) usually has.

use super::proxy_protocol;
use super::replay::BoxError;
use super::request::{ConnectionInfo, Target};
use super::wire::{self, Connector, Usage};
use crate::policy::{ConnectionSettings, Destination, TlsMode, UpstreamProtocol};
use crate::sync::lock;
use bytes::Bytes;
use http::{Request, Response, Uri, Version};
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use hyper_util::client::legacy::connect::capture_connection;
use hyper_util::client::legacy::{Builder, Client as HyperClient};
use hyper_util::rt::{TokioExecutor, TokioTimer};
use std::collections::HashMap;
use std::fmt;
use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::time::Instant;
use tower::Service;

/// A pool that nobody has asked for so long is forgotten.
const FORGOTTEN: Duration = Duration::from_secs(600);

/// Pools of connections to endpoints: the inner service that a [`Client`](super::Client) usually has. Clones share them.
///
/// Each endpoint of each destination has a pool of its own, made from the destination's `connectionPool` when it is first
/// needed, and anew when that changes (connections in use live on to their end):
///
/// | setting | kept here |
/// |---|---|
/// | `tcp.connectTimeout` | connecting, TLS included, ends with an error of kind `TimedOut` |
/// | `tcp.tcpKeepalive` | time, interval and probes of the socket |
/// | `tcp.idleTimeout`, `http.idleTimeout` | an idle connection is closed after it |
/// | `tcp.maxConnectionDuration` | an older connection serves the request that finds it so, and no further one |
/// | `http.maxRequestsPerConnection` | a connection serves so many, and no further one |
/// | `http.maxConcurrentStreams` | another HTTP/2 connection is opened beyond so many streams |
/// | `http.h2UpgradePolicy`, the port's protocol | HTTP/2 with prior knowledge, or what the client spoke |
/// | `proxyProtocol` | its header goes first, with the addresses of [`ConnectionInfo`]; each client then has its own connections |
/// | `tls` | with feature `rustls` as `tls` has it; without that feature the attempt fails, and nothing is sent |
///
/// How many connections and requests there may be at once is the engine's affair, which asks for nothing beyond it.
///
/// The upstream sees the mesh's authority, whatever the endpoint's address. An endpoint that is a name is resolved by the
/// system for each new connection.
pub struct Pool<B> {
    shared: Arc<Shared<B>>,
}

struct Shared<B> {
    endpoints: Mutex<HashMap<Key, Arc<EndpointPool<B>>>>,
    #[cfg(feature = "rustls")]
    tls: crate::tls::TlsOptions,
}

/// Destination, endpoint, whether HTTP/2 is spoken, the authority where TLS depends on it, and the client where the
/// upstream is told who that is.
type Key = (Arc<str>, Arc<str>, bool, Option<String>, Option<proxy_protocol::Client>);

impl<B> Clone for Pool<B> {
    fn clone(&self) -> Self {
        Pool { shared: Arc::clone(&self.shared) }
    }
}

impl<B> Default for Pool<B> {
    fn default() -> Self {
        let shared = Shared {
            endpoints: Mutex::default(),
            #[cfg(feature = "rustls")]
            tls: crate::tls::TlsOptions::new(),
        };
        Pool { shared: Arc::new(shared) }
    }
}

impl<B> fmt::Debug for Pool<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pool").finish_non_exhaustive()
    }
}

/// The connections to one endpoint.
struct EndpointPool<B> {
    destination: Option<Arc<Destination>>,
    connector: Connector,
    http2: bool,
    /// Each lane has its own connections; more than one only where HTTP/2 streams are limited.
    lanes: Mutex<Vec<Lane<B>>>,
    used: Mutex<Instant>,
}

struct Lane<B> {
    client: HyperClient<Connector, B>,
    streams: Arc<AtomicUsize>,
}

/// A stream of a lane; dropping it ends it.
#[derive(Debug)]
struct Stream(Arc<AtomicUsize>);

impl Drop for Stream {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

impl<B> Pool<B>
where
    B: Body<Data = Bytes> + Send + Unpin + 'static,
    B::Error: Into<BoxError>,
{
    /// No connections yet.
    pub fn new() -> Self {
        Pool::default()
    }

    /// The same pool with these options for TLS: the workload's own certificates, the system's authorities, secrets.
    #[cfg(feature = "rustls")]
    pub fn with_tls(self, options: crate::tls::TlsOptions) -> Self {
        Pool { shared: Arc::new(Shared { endpoints: Mutex::default(), tls: options }) }
    }

    fn endpoint(&self, target: &Target, client: &ConnectionInfo) -> Result<Arc<EndpointPool<B>>, BoxError> {
        let http2 = match target.destination.as_ref().map(|one| one.connection.protocol).unwrap_or_default() {
            UpstreamProtocol::Http1 => false,
            UpstreamProtocol::Http2 => true,
            UpstreamProtocol::Client => target.client_version == Version::HTTP_2,
        };
        let intent = target.destination.as_ref().and_then(|one| one.tls.as_ref());
        let by_authority = intent.is_some_and(|tls| tls.mode != TlsMode::Disable && tls.sni.is_none());
        let authority = by_authority.then(|| target.authority().to_owned());
        let proxied = target.destination.as_ref().and_then(|one| one.proxy_protocol);
        let told = proxied.map(|_| (client.remote, client.local));
        let key = (Arc::clone(&target.cluster), Arc::clone(&target.endpoint), http2, authority, told);
        let now = Instant::now();
        let mut endpoints = lock(&self.shared.endpoints);
        if let Some(known) = endpoints.get(&key)
            && known.serves(&target.destination)
        {
            *lock(&known.used) = now;
            return Ok(Arc::clone(known));
        }
        #[cfg(feature = "rustls")]
        let tls = wire::Tls::new(target, http2, &self.shared.tls);
        #[cfg(not(feature = "rustls"))]
        let tls = wire::Tls::new(target)?;
        let preface = proxied.map(|version| proxy_protocol::header(version, client)).unwrap_or_default();
        let connector = Connector::new(target, tls, preface)?;
        let destination = target.destination.clone();
        let used = Mutex::new(now);
        let pool = Arc::new(EndpointPool { destination, connector, http2, lanes: Mutex::default(), used });
        endpoints.retain(|_, pool| now.saturating_duration_since(*lock(&pool.used)) < FORGOTTEN);
        endpoints.insert(key, Arc::clone(&pool));
        Ok(pool)
    }
}

impl<B> EndpointPool<B>
where
    B: Body<Data = Bytes> + Send + Unpin + 'static,
    B::Error: Into<BoxError>,
{
    /// Are its connections as these settings want them?
    fn serves(&self, destination: &Option<Arc<Destination>>) -> bool {
        match (&self.destination, destination) {
            (None, None) => true,
            (Some(own), Some(asked)) => {
                Arc::ptr_eq(own, asked)
                    || (own.connection == asked.connection
                        && own.tls == asked.tls
                        && own.proxy_protocol == asked.proxy_protocol)
            }
            _ => false,
        }
    }

    fn settings(&self) -> Option<&ConnectionSettings> {
        self.destination.as_ref().map(|destination| &destination.connection)
    }

    /// A client with room for one more stream.
    fn lane(&self) -> (HyperClient<Connector, B>, Stream) {
        let most = self.settings().and_then(|settings| settings.max_concurrent_streams).filter(|_| self.http2);
        let most = most.map_or(usize::MAX, |most| most.max(1) as usize);
        let mut lanes = lock(&self.lanes);
        let known = lanes.iter().position(|lane| lane.streams.load(Ordering::Acquire) < most);
        let index = known.unwrap_or_else(|| {
            lanes.push(Lane { client: self.client(), streams: Arc::default() });
            lanes.len() - 1
        });
        let lane = &lanes[index];
        lane.streams.fetch_add(1, Ordering::AcqRel);
        (lane.client.clone(), Stream(Arc::clone(&lane.streams)))
    }

    fn client(&self) -> HyperClient<Connector, B> {
        let mut builder = Builder::new(TokioExecutor::new());
        builder.pool_timer(TokioTimer::new()).timer(TokioTimer::new()).http2_only(self.http2);
        builder.pool_idle_timeout(self.settings().and_then(|settings| settings.idle_timeout));
        if let Some((interval, timeout)) = self.settings().and_then(|settings| settings.http2_keepalive) {
            builder.http2_keep_alive_interval(interval).http2_keep_alive_timeout(timeout);
        }
        builder.build(self.connector.clone())
    }
}

impl<B> Service<Request<B>> for Pool<B>
where
    B: Body<Data = Bytes> + Send + Unpin + 'static,
    B::Error: Into<BoxError>,
{
    type Response = Response<PoolBody>;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<Response<PoolBody>, BoxError>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, mut request: Request<B>) -> Self::Future {
        let Some(target) = request.extensions().get::<Target>().cloned() else {
            let error = "the request has no target: this pool is made to stand behind a client of an engine";
            return Box::pin(std::future::ready(Err(error.into())));
        };
        let client = request.extensions().get::<ConnectionInfo>().copied().unwrap_or_default();
        let pool = match self.endpoint(&target, &client) {
            Ok(pool) => pool,
            Err(error) => return Box::pin(std::future::ready(Err(error))),
        };
        let (client, stream) = pool.lane();
        if pool.http2 {
            *request.version_mut() = Version::HTTP_2;
            // HTTP/2 has the authority in its pseudo header, which hyper takes from the URI.
            request.headers_mut().remove(http::header::HOST);
            let mut parts = request.uri().clone().into_parts();
            parts.authority = target.authority().parse().ok().or(parts.authority);
            if let Ok(uri) = Uri::from_parts(parts) {
                *request.uri_mut() = uri;
            }
        }
        let captured = capture_connection(&mut request);
        Box::pin(async move {
            let mut answering = pin!(client.request(request));
            let mut seen = false;
            let response = poll_fn(|cx| {
                let answered = answering.as_mut().poll(cx);
                if !seen && let Some(connected) = &*captured.connection_metadata() {
                    seen = true;
                    target.connected();
                    Usage::count(connected, pool.settings());
                }
                answered
            });
            Ok(response.await?.map(|inner| PoolBody { inner, _stream: stream }))
        })
    }
}

/// The body of a response. Its stream counts until it is dropped.
#[derive(Debug)]
pub struct PoolBody {
    inner: Incoming,
    _stream: Stream,
}

impl Body for PoolBody {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        Pin::new(&mut self.inner).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}
