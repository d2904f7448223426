//! What `%COMMAND%`s of header values may ask for.

use super::Flags;
use crate::grpc;
use crate::head::{RequestHead, ResponseHead};
use http::StatusCode;
use std::time::Duration;

/// What is known when a header value is written.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Context<'a> {
    /// The request as it is now.
    pub request: &'a RequestHead,
    /// The response as it is now; none on the way out.
    pub response: Option<&'a ResponseHead>,
    /// When the request came, since the Unix epoch.
    pub start_time: Option<Duration>,
    /// The route's name.
    pub route_name: Option<&'a str>,
    /// The destination's name.
    pub cluster: Option<&'a str>,
    /// The endpoint; none before one is picked.
    pub upstream_host: Option<&'a str>,
    /// The endpoint, once it was connected to.
    pub upstream_remote: Option<&'a str>,
    /// Why the response is what it is.
    pub details: Option<&'a str>,
    /// Response flags.
    pub flags: Flags,
    /// The status that the upstream answered with; none in an answer of the proxy's own.
    pub upstream_status: Option<StatusCode>,
    /// How often an upstream was asked for, this time included.
    pub attempts: u32,
}

impl<'a> Context<'a> {
    /// A context that knows the request alone.
    pub fn new(request: &'a RequestHead) -> Self {
        Context {
            request,
            response: None,
            start_time: None,
            route_name: None,
            cluster: None,
            upstream_host: None,
            upstream_remote: None,
            details: None,
            flags: Flags::NONE,
            upstream_status: None,
            attempts: 0,
        }
    }

    /// The first value of a request header; pseudo headers and `host` too.
    pub(super) fn request_header(&self, name: &str) -> Option<&'a [u8]> {
        match name {
            ":authority" | "host" => Some(self.request.authority.as_bytes()),
            ":path" => Some(self.request.path.as_bytes()),
            ":method" => Some(self.request.method.as_str().as_bytes()),
            ":scheme" => Some(self.request.scheme.as_bytes()),
            name => self.request.headers.get(name).map(|value| value.as_bytes()),
        }
    }

    /// The first value of a response header; `:status` too.
    pub(super) fn response_header(&self, name: &str) -> Option<&'a [u8]> {
        let response = self.response?;
        match name {
            ":status" => Some(response.status.as_str().as_bytes()),
            name => response.headers.get(name).map(|value| value.as_bytes()),
        }
    }

    /// What a gRPC caller is told: the response's `grpc-status`, or what the upstream's HTTP status stands for.
    pub(super) fn grpc_status(&self) -> Option<u64> {
        if !self.request.is_grpc() {
            return None;
        }
        let told = self.response_header("grpc-status").and_then(|told| std::str::from_utf8(told).ok()?.parse().ok());
        told.or_else(|| Some(grpc::status_of(self.upstream_status?).into()))
    }
}
