//! Answers that no upstream gave: direct responses, redirects, faults, timeouts, and everything that goes wrong.
//!
//! With a body there is a `content-type` (`text/plain`, unless header operations gave one) and a `content-length`; without
//! one there is neither. A gRPC request gets status 200 with `grpc-status` and, percent-encoded, the body as
//! `grpc-message`; to a HEAD request the message is as little sent as the body is.

use super::headers;
use crate::grpc;
use crate::head::{RequestHead, ResponseHead};
use crate::policy::{Context, HeaderOperations};
use http::header::{CONTENT_LENGTH, CONTENT_TYPE, LOCATION};
use http::{HeaderValue, Method, StatusCode};

/// A complete answer.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct LocalReply {
    /// Status and headers.
    pub head: ResponseHead,
    /// The body.
    pub body: Vec<u8>,
}

/// What an answer is made from.
#[derive(Clone, Debug)]
pub(crate) struct Reply<'a> {
    pub(crate) status: StatusCode,
    pub(crate) body: &'a [u8],
    /// Headers of its own.
    pub(crate) headers: Vec<(http::HeaderName, HeaderValue)>,
    /// The gRPC status, where the HTTP status does not say it.
    pub(crate) grpc_status: Option<u8>,
}

impl<'a> Reply<'a> {
    pub(crate) fn new(status: StatusCode, body: &'a [u8]) -> Self {
        Reply { status, body, headers: Vec::new(), grpc_status: None }
    }

    pub(crate) fn with_header(mut self, name: http::HeaderName, value: HeaderValue) -> Self {
        self.headers.push((name, value));
        self
    }

    /// The answer to a request. `phases` are the response header operations that apply; `grpc` says whether the client
    /// speaks gRPC, whatever header operations have made of the request since.
    pub(crate) fn build(
        self,
        request: &RequestHead,
        grpc: bool,
        context: &Context<'_>,
        phases: &[&HeaderOperations],
    ) -> LocalReply {
        let mut head = ResponseHead::new(self.status);
        head.headers.extend(self.headers);
        for phase in phases {
            headers::apply_to_response(phase, context, &mut head);
        }
        head.headers.remove(CONTENT_LENGTH);
        if grpc {
            head.status = StatusCode::OK;
            head.headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
            let status = self.grpc_status.unwrap_or_else(|| grpc::status_of(self.status));
            if !head.headers.contains_key("grpc-status") {
                head.headers.insert("grpc-status", HeaderValue::from(u16::from(status)));
            }
            if !self.body.is_empty()
                && request.method != Method::HEAD
                && let Ok(message) = HeaderValue::from_bytes(&percent_encode(self.body))
            {
                head.headers.insert("grpc-message", message);
            }
            return LocalReply { head, body: Vec::new() };
        }
        if self.body.is_empty() {
            head.headers.remove(CONTENT_TYPE);
        } else {
            head.headers.entry(CONTENT_TYPE).or_insert(HeaderValue::from_static("text/plain"));
            head.headers.insert(CONTENT_LENGTH, HeaderValue::from(self.body.len()));
        }
        let body = if request.method == Method::HEAD { Vec::new() } else { self.body.to_vec() };
        LocalReply { head, body }
    }
}

/// `grpc-message`: printable ASCII stays, but for `%` and `~`.
fn percent_encode(text: &[u8]) -> Vec<u8> {
    const HEX: &[u8; 16] = b"0123456789ABCDEF";
    let mut out = Vec::with_capacity(text.len());
    for &byte in text {
        if (0x20..0x7e).contains(&byte) && byte != b'%' {
            out.push(byte);
        } else {
            out.extend_from_slice(&[b'%', HEX[usize::from(byte >> 4)], HEX[usize::from(byte & 15)]]);
        }
    }
    out
}

/// A `location`, as far as it can stand in a header.
pub(crate) fn location(url: &str) -> (http::HeaderName, HeaderValue) {
    (LOCATION, HeaderValue::from_bytes(url.as_bytes()).unwrap_or(HeaderValue::from_static("/")))
}

/// Does a direct response of this status also say where the request was?
pub(crate) fn has_location(status: StatusCode) -> bool {
    status == StatusCode::CREATED || status.is_redirection()
}
