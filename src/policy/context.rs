//! What `%COMMAND%`s of header values may ask for.

use super::Flags;
use crate::head::{RequestHead, ResponseHead};
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
    /// Why the response is what it is.
    pub details: Option<&'a str>,
    /// Response flags.
    pub flags: Flags,
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
            details: None,
            flags: Flags::NONE,
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

    /// The first value of a response header.
    pub(super) fn response_header(&self, name: &str) -> Option<&'a [u8]> {
        self.response?.headers.get(name).map(|value| value.as_bytes())
    }
}
