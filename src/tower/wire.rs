//! One connection of a pool: how it is made, over TLS if the destination asks for it, and when it has done enough.

use super::replay::BoxError;
use super::request::Target;
use crate::policy::{ConnectionSettings, Destination, TlsMode};
#[cfg(feature = "rustls")]
use crate::sync::lock;
#[cfg(feature = "rustls")]
use crate::tls::{Spoken, TlsOptions, UpstreamTls};
use http::Uri;
use hyper::rt::{Read, ReadBufCursor, Write};
use hyper_util::client::legacy::connect::{Connected, Connection, HttpConnector};
use hyper_util::rt::TokioIo;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
#[cfg(feature = "rustls")]
use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::time::Instant;
use tower::Service;

/// What a connection has done so far.
#[derive(Clone)]
pub(super) struct Usage {
    since: Instant,
    requests: Arc<AtomicU32>,
}

impl Usage {
    /// Counts a request, and lets go of the connection after it if it is used up.
    pub(super) fn count(connected: &Connected, settings: Option<&ConnectionSettings>) {
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
pub(super) struct Connector {
    tcp: HttpConnector,
    /// What is sent before everything else.
    preface: Vec<u8>,
    tls: Option<Tls>,
    uri: Uri,
    timeout: Duration,
}

impl Connector {
    pub(super) fn new(target: &Target, tls: Option<Tls>, preface: Vec<u8>) -> Result<Self, BoxError> {
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
        Ok(Connector { tcp, preface, tls, uri, timeout: target.connect_timeout })
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
        let (tls, timeout, preface) = (self.tls.clone(), self.timeout, self.preface.clone());
        Box::pin(async move {
            let late = |_| io::Error::new(io::ErrorKind::TimedOut, "connecting took too long");
            let whole = async {
                let mut plain = connecting.await?;
                plain.inner_mut().write_all(&preface).await?;
                match tls {
                    None => Ok(Io::Plain(plain)),
                    Some(tls) => tls.shake_hands(plain).await,
                }
            };
            let io = tokio::time::timeout(timeout, whole).await.map_err(late)??;
            Ok(Wire { io, usage: Usage { since: Instant::now(), requests: Arc::default() } })
        })
    }
}

/// A connection, and what it has done.
pub(super) struct Wire {
    io: Io,
    usage: Usage,
}

/// Bytes as they are, or over TLS.
enum Io {
    Plain(TokioIo<TcpStream>),
    #[cfg(feature = "rustls")]
    Tls(Box<TokioIo<tokio_rustls::client::TlsStream<TcpStream>>>),
}

/// Calls the same method of whichever it is.
macro_rules! either {
    ($io:expr, $inner:ident => $call:expr) => {
        match $io {
            Io::Plain($inner) => $call,
            #[cfg(feature = "rustls")]
            Io::Tls($inner) => $call,
        }
    };
}

impl Connection for Wire {
    fn connected(&self) -> Connected {
        let connected = match &self.io {
            Io::Plain(io) => io.connected(),
            #[cfg(feature = "rustls")]
            Io::Tls(io) => io.inner().get_ref().0.connected(),
        };
        connected.extra(self.usage.clone())
    }
}

impl Read for Wire {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: ReadBufCursor<'_>) -> Poll<io::Result<()>> {
        either!(&mut self.io, io => Pin::new(io).poll_read(cx, buf))
    }
}

impl Write for Wire {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        either!(&mut self.io, io => Pin::new(io).poll_write(cx, buf))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        either!(&mut self.io, io => Pin::new(io).poll_flush(cx))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        either!(&mut self.io, io => Pin::new(io).poll_shutdown(cx))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        either!(&mut self.io, io => Pin::new(io).poll_write_vectored(cx, bufs))
    }

    fn is_write_vectored(&self) -> bool {
        either!(&self.io, io => io.is_write_vectored())
    }
}

/// How TLS is spoken to one endpoint.
#[cfg(feature = "rustls")]
#[derive(Clone)]
pub(super) struct Tls {
    destination: Arc<Destination>,
    authority: Arc<str>,
    spoken: Spoken,
    options: TlsOptions,
    /// Made from files, which may be renewed: not older than [`FRESH`].
    current: Arc<Mutex<Option<(Instant, UpstreamTls)>>>,
}

/// How long certificates are taken to be the ones in their files.
#[cfg(feature = "rustls")]
const FRESH: Duration = Duration::from_secs(60);

#[cfg(feature = "rustls")]
impl Tls {
    /// None: the destination is spoken to in plaintext.
    pub(super) fn new(target: &Target, http2: bool, options: &TlsOptions) -> Option<Tls> {
        let destination = target.destination.as_ref().filter(|one| asks_for_tls(one))?;
        Some(Tls {
            destination: Arc::clone(destination),
            authority: target.authority().into(),
            spoken: if http2 { Spoken::Http2 } else { Spoken::Http1 },
            options: options.clone(),
            current: Arc::default(),
        })
    }

    async fn shake_hands(self, plain: TokioIo<TcpStream>) -> Result<Io, BoxError> {
        let (authority, spoken) = (Arc::clone(&self.authority), self.spoken);
        // Files are read.
        let session = tokio::task::spawn_blocking(move || {
            self.upstream()?.session(Some(&authority), spoken).map_err(BoxError::from)
        });
        let session = session.await??;
        let connector = tokio_rustls::TlsConnector::from(session.config);
        let stream = connector.connect(session.server_name, plain.into_inner()).await?;
        Ok(Io::Tls(Box::new(TokioIo::new(stream))))
    }

    fn upstream(&self) -> Result<UpstreamTls, BoxError> {
        let mut current = lock(&self.current);
        if let Some((made, tls)) = &*current
            && made.elapsed() < FRESH
        {
            return Ok(tls.clone());
        }
        let tls = UpstreamTls::new(&self.destination, &self.options)?;
        let tls = tls.ok_or("the destination's TLS is off, and it was asked for")?;
        *current = Some((Instant::now(), tls.clone()));
        Ok(tls)
    }
}

/// What cannot be without feature `rustls`.
#[cfg(not(feature = "rustls"))]
#[derive(Clone)]
pub(super) enum Tls {}

#[cfg(not(feature = "rustls"))]
impl Tls {
    /// None: the destination is spoken to in plaintext. An error if it wants TLS.
    pub(super) fn new(target: &Target) -> Result<Option<Tls>, BoxError> {
        if target.destination.as_ref().is_some_and(|one| asks_for_tls(one)) {
            let message = format!("`{}` is to be spoken to over TLS, which needs feature `rustls`", target.cluster);
            let error = io::Error::new(io::ErrorKind::ConnectionRefused, message);
            return Err(error.into());
        }
        Ok(None)
    }

    async fn shake_hands(self, _: TokioIo<TcpStream>) -> Result<Io, BoxError> {
        match self {}
    }
}

fn asks_for_tls(destination: &Destination) -> bool {
    destination.tls.as_ref().is_some_and(|tls| tls.mode != TlsMode::Disable)
}
