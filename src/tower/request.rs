//! Requests on their way in and out: their head as the engine reads it, and the request that an endpoint gets.

use super::replay::ReplayBody;
use crate::head::RequestHead;
use crate::policy::Destination;
use crate::upstream::EndpointState;
use bytes::Bytes;
use http::header::{HOST, HeaderValue};
use http::uri::{PathAndQuery, Scheme};
use http::{Extensions, Request, Uri, Version};
use std::borrow::Cow;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// Where the inner service is to send a request: in the request's extensions.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Target {
    /// The destination's name, as Istio names clusters.
    pub cluster: Arc<str>,
    /// The endpoint, `address:port`.
    pub endpoint: Arc<str>,
    /// The attempt, from 1. Copies have 0.
    pub attempt: u32,
    /// The destination's settings: TLS, protocol, what its connections are to keep to. None for a host that nobody knows.
    pub destination: Option<Arc<Destination>>,
    /// How long connecting may take.
    pub connect_timeout: Duration,
    /// What the client spoke.
    pub client_version: Version,
    pub(super) authority: Bytes,
    pub(super) path: Bytes,
    pub(super) connected: Arc<AtomicBool>,
}

impl Target {
    /// The authority that the upstream is to see: `Host`, or `:authority`.
    pub fn authority(&self) -> &str {
        std::str::from_utf8(&self.authority).unwrap_or_default()
    }

    /// Path and query as the policy wants them. The URI has them as well, as far as [`Uri`] can hold them (a rewrite may
    /// leave no leading `/`).
    pub fn path(&self) -> &str {
        std::str::from_utf8(&self.path).unwrap_or_default()
    }

    /// The attempt has its connection, new or used before; its own time (`perTryTimeout`) begins now.
    ///
    /// Call it from the service's future. A service that cannot tell says nothing; then connecting counts as part of the
    /// attempt's time.
    pub fn connected(&self) {
        self.connected.store(true, Ordering::Release);
    }
}

/// What a server knows of the connection that a request came on. Whoever has it puts it into the request's extensions:
/// hashing by source address, `x-forwarded-for` and hosts that nobody knows need it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ConnectionInfo {
    /// The client's address.
    pub remote: Option<SocketAddr>,
    /// Our address.
    pub local: Option<SocketAddr>,
    /// Where the connection was going before it was taken over.
    pub original_destination: Option<SocketAddr>,
}

/// A request's head as the engine reads it, and what else came with it.
pub(super) fn head_of(mut parts: http::request::Parts, port: Option<u16>) -> (RequestHead, Extensions) {
    let host = parts.headers.remove(HOST);
    let host = host.as_ref().and_then(|value| std::str::from_utf8(value.as_bytes()).ok());
    let authority = parts.uri.authority().map(|authority| authority.as_str()).or(host).unwrap_or_default();
    let path = parts.uri.path_and_query().map_or("/", |path| path.as_str());
    let scheme = match parts.uri.scheme_str() {
        None | Some("http") => Cow::Borrowed("http"),
        Some("https") => Cow::Borrowed("https"),
        Some(other) => Cow::Owned(other.to_owned()),
    };
    let written = authority.rsplit_once(':').and_then(|(_, port)| port.parse().ok());
    let port = port.or(written).unwrap_or(if scheme == "https" { 443 } else { 80 });
    let mut head = RequestHead::new(parts.method, port, authority, if path.is_empty() { "/" } else { path });
    head.scheme = scheme;
    head.version = parts.version;
    head.headers = parts.headers;
    if let Some(connection) = parts.extensions.get::<ConnectionInfo>() {
        head.remote = connection.remote;
        head.local = connection.local;
        head.original_destination = connection.original_destination;
    }
    (head, parts.extensions)
}

/// The request for one endpoint.
pub(super) fn build<B>(
    head: RequestHead,
    endpoint: &EndpointState,
    mut target: Target,
    extensions: Extensions,
    body: ReplayBody<B>,
) -> Request<ReplayBody<B>> {
    let mut request = Request::new(body);
    *request.method_mut() = head.method;
    target.authority = Bytes::from(head.authority);
    target.path = Bytes::from(head.path);
    let path =
        if target.path.starts_with(b"/") { target.path.clone() } else { Bytes::from([b"/", &*target.path].concat()) };
    let mut uri = http::uri::Parts::default();
    uri.scheme = Some(Scheme::HTTP);
    uri.authority = endpoint.authority().cloned();
    uri.path_and_query = PathAndQuery::from_maybe_shared(path).ok();
    *request.uri_mut() = Uri::from_parts(uri).unwrap_or_default();
    *request.headers_mut() = head.headers;
    if let Ok(host) = HeaderValue::from_maybe_shared(target.authority.clone()) {
        request.headers_mut().insert(HOST, host);
    }
    *request.extensions_mut() = extensions;
    request.extensions_mut().insert(target);
    request
}
