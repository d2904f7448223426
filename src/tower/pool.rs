//! Connections to endpoints over HTTP/1.1 and HTTP/2, on hyper-util's client: the inner service that [`Client`] usually has.
//!
//! Each endpoint of each destination has a pool of its own, made from the destination's `connectionPool` when it is first
//! needed, and anew when that changes (connections in use live on to their end):
//!
//! | setting | kept here |
//! |---|---|
//! | `tcp.connectTimeout` | connecting, TLS included, ends with an error of kind `TimedOut` |
//! | `tcp.tcpKeepalive` | time, interval and probes of the socket |
//! | `tcp.idleTimeout`, `http.idleTimeout` | an idle connection is closed after it |
//! | `tcp.maxConnectionDuration` | an older connection serves the request that finds it so, and no further one |
//! | `http.maxRequestsPerConnection` | a connection serves so many, and no further one |
//! | `http.maxConcurrentStreams` | another HTTP/2 connection is opened beyond so many streams |
//! | `http.h2UpgradePolicy`, the port's protocol | HTTP/2 with prior knowledge, or what the client spoke |
//!
//! How many connections and requests there may be at once is the engine's affair, which asks for nothing beyond it.
//!
//! The upstream sees the mesh's authority, whatever the endpoint's address. An endpoint that is a name is resolved by the
//! system for each new connection.
//!
//! [`Client`]: super::Client

use super::client::Target;
use super::replay::BoxError;
use crate::policy::{ConnectionSettings, Destination, UpstreamProtocol};
use bytes::Bytes;
use http::{Request, Response, Uri, Version};
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use hyper::rt::{Read, ReadBufCursor, Write};
use hyper_util::client::legacy::connect::{Connected, Connection, HttpConnector, capture_connection};
use hyper_util::client::legacy::{Builder, Client as HyperClient};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use std::collections::HashMap;
use std::fmt;
use std::future::{Future, poll_fn};
use std::io;
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::time::Instant;
use tower::Service;

/// A pool that nobody has asked for so long is forgotten.
const FORGOTTEN: Duration = Duration::from_secs(600);

/// Pools of connections to endpoints. See the [module](self). Clones share them.
pub struct Pool<B> {
    endpoints: Arc<Mutex<HashMap<Key, Arc<EndpointPool<B>>>>>,
}

/// Destination, endpoint, and whether HTTP/2 is spoken.
type Key = (Arc<str>, Arc<str>, bool);

impl<B> Clone for Pool<B> {
    fn clone(&self) -> Self {
        Pool { endpoints: Arc::clone(&self.endpoints) }
    }
}

impl<B> Default for Pool<B> {
    fn default() -> Self {
        Pool { endpoints: Arc::default() }
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

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    // Nothing is left half changed where a panic could come.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
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

    fn endpoint(&self, target: &Target) -> Result<Arc<EndpointPool<B>>, BoxError> {
        let http2 = match target.destination.as_ref().map(|one| one.connection.protocol).unwrap_or_default() {
            UpstreamProtocol::Http1 => false,
            UpstreamProtocol::Http2 => true,
            UpstreamProtocol::Client => target.client_version == Version::HTTP_2,
        };
        let key = (Arc::clone(&target.cluster), Arc::clone(&target.endpoint), http2);
        let now = Instant::now();
        let mut endpoints = lock(&self.endpoints);
        if let Some(known) = endpoints.get(&key)
            && known.serves(&target.destination)
        {
            *lock(&known.used) = now;
            return Ok(Arc::clone(known));
        }
        let pool = Arc::new(EndpointPool::new(target, http2, now)?);
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
    fn new(target: &Target, http2: bool, now: Instant) -> Result<Self, BoxError> {
        let connector = Connector::new(target)?;
        let destination = target.destination.clone();
        Ok(EndpointPool { destination, connector, http2, lanes: Mutex::default(), used: Mutex::new(now) })
    }

    /// Are its connections as these settings want them?
    fn serves(&self, destination: &Option<Arc<Destination>>) -> bool {
        match (&self.destination, destination) {
            (None, None) => true,
            (Some(own), Some(asked)) => {
                Arc::ptr_eq(own, asked) || (own.connection == asked.connection && own.tls == asked.tls)
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
        let pool = match self.endpoint(&target) {
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

/// What a connection has done so far.
#[derive(Clone)]
struct Usage {
    since: Instant,
    requests: Arc<AtomicU32>,
}

impl Usage {
    /// Counts a request, and lets go of the connection after it if it is used up.
    fn count(connected: &Connected, settings: Option<&ConnectionSettings>) {
        let mut extras = http::Extensions::new();
        connected.get_extras(&mut extras);
        let (Some(usage), Some(settings)) = (extras.get::<Usage>(), settings) else { return };
        let requests = usage.requests.fetch_add(1, Ordering::AcqRel) + 1;
        let worn = settings.max_requests.is_some_and(|most| most > 0 && requests >= most);
        if worn || settings.max_duration.is_some_and(|most| usage.since.elapsed() >= most) {
            connected.poison();
        }
    }
}

/// Connects to one endpoint, whatever the URI says.
#[derive(Clone)]
struct Connector {
    tcp: HttpConnector,
    uri: Uri,
    timeout: Duration,
}

impl Connector {
    fn new(target: &Target) -> Result<Self, BoxError> {
        let uri = Uri::builder().scheme("http").authority(&*target.endpoint).path_and_query("/").build()?;
        let mut tcp = HttpConnector::new();
        tcp.set_nodelay(true);
        let connection = target.destination.as_ref().map(|destination| &destination.connection);
        if let Some((time, interval, probes)) = connection.and_then(|connection| connection.tcp_keepalive) {
            // The system's own time where the rule asks for keepalive and does not say when.
            tcp.set_keepalive(time.or(Some(Duration::from_secs(7200))));
            tcp.set_keepalive_interval(interval);
            tcp.set_keepalive_retries(probes);
        }
        Ok(Connector { tcp, uri, timeout: target.connect_timeout })
    }
}

impl Service<Uri> for Connector {
    type Response = Wire;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<Wire, BoxError>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.tcp.poll_ready(cx).map_err(Into::into)
    }

    fn call(&mut self, _: Uri) -> Self::Future {
        let connecting = self.tcp.call(self.uri.clone());
        let timeout = self.timeout;
        Box::pin(async move {
            let late = |_| io::Error::new(io::ErrorKind::TimedOut, "connecting took too long");
            let io = tokio::time::timeout(timeout, connecting).await.map_err(late)??;
            Ok(Wire { io, usage: Usage { since: Instant::now(), requests: Arc::default() } })
        })
    }
}

/// A connection, and what it has done.
struct Wire {
    io: TokioIo<TcpStream>,
    usage: Usage,
}

impl Connection for Wire {
    fn connected(&self) -> Connected {
        self.io.connected().extra(self.usage.clone())
    }
}

impl Read for Wire {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: ReadBufCursor<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_read(cx, buf)
    }
}

impl Write for Wire {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }
}
