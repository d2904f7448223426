//! Request and response heads, as the engine reads and writes them.
//!
//! A head holds what HTTP/2 calls pseudo headers as fields of its own, so one form serves HTTP/1.1, HTTP/2 and tests. It
//! is not `http::Request`, because a mesh forwards paths that `http::Uri` refuses (a raw `<`, a rewrite without a leading
//! slash). [`Request`] is the borrowed view that matching needs; [`RequestHead`] is owned, and is changed on its way.

use http::{HeaderMap, Method, StatusCode};
use std::borrow::Cow;
use std::net::SocketAddr;

/// What routing looks at: borrowed, so that deciding copies nothing.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    /// `GET`, `POST`, …
    pub method: &'a str,
    /// `http` or `https`: what the client spoke to us.
    pub scheme: &'a str,
    /// `:authority` or `Host` as received: port and case are kept.
    pub authority: &'a str,
    /// Path and query as received: `/a?b=c`.
    pub path: &'a str,
    /// Header lines, without `host`.
    pub headers: &'a HeaderMap,
    /// The port that was dialled: the service port in a mesh, the server's port at a gateway.
    pub port: u16,
}

/// A request's head on its way through the engine.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct RequestHead {
    /// The method.
    pub method: Method,
    /// `http` or `https`: what the client spoke to us.
    pub scheme: Cow<'static, str>,
    /// `:authority` or `Host`: port and case are kept.
    pub authority: String,
    /// Path and query: `/a?b=c`.
    pub path: String,
    /// Header lines, without `host`.
    pub headers: HeaderMap,
    /// The port that was dialled: the service port in a mesh, the server's port at a gateway.
    pub port: u16,
    /// The client's address, where known.
    pub remote: Option<SocketAddr>,
    /// Our address on that connection, where known.
    pub local: Option<SocketAddr>,
    /// Where the connection was going before it was taken over, for hosts that nobody knows.
    pub original_destination: Option<SocketAddr>,
    /// What the client spoke: `HTTP/1.1`, `HTTP/2`.
    pub version: http::Version,
}

impl RequestHead {
    /// A request without headers, in clear text over HTTP/1.1.
    pub fn new(method: Method, port: u16, authority: impl Into<String>, path: impl Into<String>) -> Self {
        RequestHead {
            method,
            scheme: "http".into(),
            authority: authority.into(),
            path: path.into(),
            headers: HeaderMap::new(),
            port,
            remote: None,
            local: None,
            original_destination: None,
            version: http::Version::HTTP_11,
        }
    }

    /// What routing looks at.
    pub fn as_request(&self) -> Request<'_> {
        Request {
            method: self.method.as_str(),
            scheme: &self.scheme,
            authority: &self.authority,
            path: &self.path,
            headers: &self.headers,
            port: self.port,
        }
    }

    /// Is this a gRPC request, as Envoy tells: `content-type` is `application/grpc` or starts with `application/grpc+`?
    pub fn is_grpc(&self) -> bool {
        self.headers.get(http::header::CONTENT_TYPE).is_some_and(|value| {
            let value = value.as_bytes();
            value == b"application/grpc" || value.starts_with(b"application/grpc+")
        })
    }
}

/// A response's head on its way back.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ResponseHead {
    /// The status.
    pub status: StatusCode,
    /// Header lines.
    pub headers: HeaderMap,
}

impl ResponseHead {
    /// A head without headers.
    pub fn new(status: StatusCode) -> Self {
        ResponseHead { status, headers: HeaderMap::new() }
    }
}
