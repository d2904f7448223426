//! Header operations, and the joining of lines.
//!
//! One phase: all removes; then every value is worked out against what is left; then all sets, in order; then all adds.
//! A value that comes out empty changes nothing; one of spaces makes an empty line, since no recipient can see spaces at
//! either end of one.
//!
//! Some headers can stand on one line only (Envoy stores them as one value): a second line, or a second `add`, is
//! joined with a comma, unless it is empty. All others keep their lines.

use crate::policy::{Context, Flags, HeaderOperations, ValueTemplate};
use http::header::{CONNECTION, TE, TRANSFER_ENCODING, UPGRADE};
use http::{HeaderMap, HeaderName, HeaderValue};

const JOINED_REQUEST: &[&str] = &[
    "accept",
    "accept-encoding",
    "access-control-request-headers",
    "access-control-request-method",
    "access-control-request-private-network",
    "authorization",
    "cache-control",
    "content-encoding",
    "content-type",
    "expect",
    "grpc-accept-encoding",
    "grpc-timeout",
    "if-match",
    "if-modified-since",
    "if-none-match",
    "if-range",
    "if-unmodified-since",
    "origin",
    "pragma",
    "referer",
    "te",
    "user-agent",
    "via",
    "x-client-trace-id",
    "x-envoy-external-address",
    "x-envoy-original-host",
    "x-envoy-original-path",
    "x-forwarded-for",
    "x-forwarded-host",
    "x-forwarded-port",
    "x-request-id",
];

const JOINED_RESPONSE: &[&str] = &[
    "access-control-allow-credentials",
    "access-control-allow-headers",
    "access-control-allow-methods",
    "access-control-allow-origin",
    "access-control-expose-headers",
    "access-control-max-age",
    "age",
    "cache-control",
    "content-encoding",
    "content-type",
    "date",
    "etag",
    "expires",
    "grpc-message",
    "grpc-status",
    "last-modified",
    "location",
    "proxy-status",
    "vary",
    "via",
    "x-envoy-ratelimited",
    "x-envoy-upstream-canary",
    "x-request-id",
];

/// Headers that belong to one connection, not to the message.
static HOP_BY_HOP: [HeaderName; 5] = [
    CONNECTION,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
    TRANSFER_ENCODING,
    UPGRADE,
];

/// Which way a message goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// To the upstream.
    Request,
    /// To the client.
    Response,
}

impl Direction {
    fn joins(self, name: &HeaderName) -> bool {
        let list = match self {
            Direction::Request => JOINED_REQUEST,
            Direction::Response => JOINED_RESPONSE,
        };
        list.binary_search(&name.as_str()).is_ok()
    }
}

/// Adds a value: a line of its own, or joined to the one that is there.
pub(crate) fn add(headers: &mut HeaderMap, name: &HeaderName, value: HeaderValue, direction: Direction) {
    if direction.joins(name)
        && let Some(known) = headers.get(name)
    {
        if let Ok(joined) = HeaderValue::from_bytes(&joined(&[known.as_bytes(), value.as_bytes()])) {
            headers.insert(name, joined);
        }
        return;
    }
    headers.append(name, trimmed(value));
}

/// Without the spaces at either end.
fn trimmed(value: HeaderValue) -> HeaderValue {
    let text = value.as_bytes().trim_ascii();
    if text.len() == value.len() { value } else { HeaderValue::from_bytes(text).unwrap_or(value) }
}

/// Lines as one: empty ones leave no comma.
fn joined(lines: &[&[u8]]) -> Vec<u8> {
    let lines: Vec<&[u8]> = lines.iter().copied().filter(|line| !line.is_empty()).collect();
    lines.join(&b',')
}

/// Joins the lines of headers that can stand on one only.
pub(crate) fn join_lines(headers: &mut HeaderMap, direction: Direction) {
    // More lines than names: something stands twice.
    if headers.len() == headers.keys_len() {
        return;
    }
    let twice: Vec<HeaderName> = headers
        .keys()
        .filter(|name| direction.joins(name) && headers.get_all(*name).iter().nth(1).is_some())
        .cloned()
        .collect();
    for name in twice {
        let lines: Vec<&[u8]> = headers.get_all(&name).iter().map(|value| value.as_bytes()).collect();
        if let Ok(joined) = HeaderValue::from_bytes(&joined(&lines)) {
            headers.insert(name, joined);
        }
    }
}

/// Takes away what belongs to one connection. `te: trailers` stays.
pub(crate) fn remove_hop_by_hop(headers: &mut HeaderMap) {
    remove_hop_by_hop_of_response(headers);
    if let Some(te) = headers.get(TE) {
        let trailers = te.as_bytes().split(|byte| *byte == b',').any(|token| token.trim_ascii() == b"trailers");
        if trailers {
            headers.insert(TE, HeaderValue::from_static("trailers"));
        } else {
            headers.remove(TE);
        }
    }
}

/// The same for a response: `te` is not one's business there.
pub(crate) fn remove_hop_by_hop_of_response(headers: &mut HeaderMap) {
    // One look over the names costs less than a lookup for each of ours, and mostly there are none.
    let is_one = |name: &HeaderName| {
        matches!(name.as_str(), "connection" | "keep-alive" | "proxy-connection" | "transfer-encoding" | "upgrade")
    };
    if headers.keys().any(is_one) {
        for name in &HOP_BY_HOP {
            headers.remove(name);
        }
    }
}

/// Carries out one phase on a request.
pub(crate) fn apply_to_request(
    operations: &HeaderOperations,
    context: &RequestContext<'_>,
    head: &mut crate::head::RequestHead,
) {
    if operations.is_empty() {
        return;
    }
    for name in &operations.remove {
        head.headers.remove(name);
    }
    let shown = Context { request: head, ..context.fill(head) };
    let value = |template: &ValueTemplate| {
        HeaderValue::from_bytes(&template.evaluate(&shown)).ok().filter(|value| !value.is_empty())
    };
    let sets: Vec<_> = operations.set.iter().filter_map(|(name, template)| Some((name, value(template)?))).collect();
    let adds: Vec<_> = operations.add.iter().filter_map(|(name, template)| Some((name, value(template)?))).collect();
    for (name, value) in sets {
        head.headers.insert(name, trimmed(value));
    }
    for (name, value) in adds {
        add(&mut head.headers, name, value, Direction::Request);
    }
}

/// What values of request headers may ask for besides the request.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RequestContext<'a> {
    pub(crate) start_time: Option<std::time::Duration>,
    pub(crate) route_name: Option<&'a str>,
    pub(crate) cluster: Option<&'a str>,
    pub(crate) flags: Flags,
}

impl<'a> RequestContext<'a> {
    fn fill(&self, request: &'a crate::head::RequestHead) -> Context<'a> {
        Context {
            start_time: self.start_time,
            route_name: self.route_name,
            cluster: self.cluster,
            flags: self.flags,
            // Requests are made ready once, before the first attempt.
            attempts: 1,
            ..Context::new(request)
        }
    }
}

/// Carries out one phase on a response.
pub(crate) fn apply_to_response(
    operations: &HeaderOperations,
    context: &Context<'_>,
    head: &mut crate::head::ResponseHead,
) {
    if operations.is_empty() {
        return;
    }
    for name in &operations.remove {
        head.headers.remove(name);
    }
    let shown = Context { response: Some(head), ..*context };
    let value = |template: &ValueTemplate| {
        HeaderValue::from_bytes(&template.evaluate(&shown)).ok().filter(|value| !value.is_empty())
    };
    let sets: Vec<_> = operations.set.iter().filter_map(|(name, template)| Some((name, value(template)?))).collect();
    let adds: Vec<_> = operations.add.iter().filter_map(|(name, template)| Some((name, value(template)?))).collect();
    for (name, value) in sets {
        head.headers.insert(name, trimmed(value));
    }
    for (name, value) in adds {
        add(&mut head.headers, name, value, Direction::Response);
    }
}
