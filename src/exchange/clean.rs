//! What a proxy does to a request before anything else looks at it.
//!
//! - More header lines than can be handled are refused: 431, flag DPE.
//! - An authority with a character that none can have is refused: 400, flag DPE.
//! - Headers that stand on one line only are joined; what belongs to the client's connection goes, and what its
//!   `connection` header names with it. `te: trailers` stays.
//! - An upgrade to `websocket` stays (Istio allows that one everywhere); `h2c` is left out as if it had not been asked for;
//!   any other is refused: 403.
//! - Control headers from outside (`x-envoy-retry-on`, `x-envoy-upstream-rq-timeout-ms`, ...) go, since Istio trusts no
//!   caller with them. Header operations may still set some of them, because they run later.
//! - `expect: 100-continue` goes: whoever reads the client's connection answers it.
//! - In a mesh the caller's `x-forwarded-proto` is trusted: over HTTP/1 it is the scheme that routes see. At a gateway it is
//!   overwritten, the client's address is added to `x-forwarded-for`, and what proxies tell each other goes.
//!
//! Known difference: no `x-request-id` is made. Whoever wants one sets it before the exchange begins.

use crate::head::RequestHead;
use crate::transform::headers::{self, Direction};
use http::header::{CONNECTION, EXPECT, UPGRADE};
use http::{HeaderName, HeaderValue, Version};
use std::borrow::Cow;

const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");

const CONTROL: &[&str] = &[
    "x-envoy-expected-rq-timeout-ms",
    "x-envoy-force-trace",
    "x-envoy-hedge-on-per-try-timeout",
    "x-envoy-ip-tags",
    "x-envoy-max-retries",
    "x-envoy-original-url",
    "x-envoy-retriable-header-names",
    "x-envoy-retriable-status-codes",
    "x-envoy-retry-grpc-on",
    "x-envoy-retry-on",
    "x-envoy-upstream-alt-stat-name",
    "x-envoy-upstream-rq-per-try-timeout-ms",
    "x-envoy-upstream-rq-timeout-alt-response",
    "x-envoy-upstream-rq-timeout-ms",
];

/// What only proxies say to each other: at a gateway there is no proxy before us.
const EDGE: &[&str] = &[
    "x-envoy-decorator-operation",
    "x-envoy-downstream-service-cluster",
    "x-envoy-downstream-service-node",
    "x-envoy-original-host",
    "x-envoy-original-path",
];

/// More lines than these are refused: `HeaderMap` holds 32,768, and header operations need room.
pub(super) const MOST_HEADERS: usize = 16_384;

/// What clean-up made of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cleaned {
    /// It goes on.
    Fine,
    /// It asks for an upgrade that is not allowed.
    UpgradeRefused,
    /// Its authority is none.
    BadAuthority,
    /// It has too many header lines.
    TooManyHeaders,
}

pub(super) fn clean(head: &mut RequestHead, gateway: bool) -> Cleaned {
    if head.headers.len() > MOST_HEADERS {
        return Cleaned::TooManyHeaders;
    }
    if !head.authority.bytes().all(is_authority_byte) {
        return Cleaned::BadAuthority;
    }
    headers::join_lines(&mut head.headers, Direction::Request);
    let upgrade = if head.headers.contains_key(CONNECTION) {
        let upgrade = asked_upgrade(head);
        for name in named_by_connection(head) {
            head.headers.remove(name);
        }
        upgrade
    } else {
        None
    };
    headers::remove_hop_by_hop(&mut head.headers);
    // One look over the names costs less than a lookup for each of ours.
    if head.headers.keys().any(|name| name.as_str().starts_with("x-envoy-")) {
        for name in CONTROL.iter().chain(if gateway { EDGE } else { &[] }) {
            head.headers.remove(*name);
        }
    }
    if head.headers.get(EXPECT).is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"100-continue")) {
        head.headers.remove(EXPECT);
    }
    forwarded(head, gateway);
    match upgrade {
        None => Cleaned::Fine,
        Some(protocol) if protocol.as_bytes().eq_ignore_ascii_case(b"h2c") => Cleaned::Fine,
        Some(protocol) if protocol.as_bytes().eq_ignore_ascii_case(b"websocket") => {
            head.headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
            head.headers.insert(UPGRADE, protocol);
            Cleaned::Fine
        }
        Some(_) => Cleaned::UpgradeRefused,
    }
}

/// The letters, digits and marks of RFC 3986's authority, userinfo and literals included.
fn is_authority_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!$%&'()*+,-.:;=@[]_~".contains(&byte)
}

fn connection_tokens(head: &RequestHead) -> impl Iterator<Item = &[u8]> {
    let lines = head.headers.get_all(CONNECTION).iter();
    lines.flat_map(|line| line.as_bytes().split(|byte| *byte == b',')).map(|token| token.trim_ascii())
}

fn asked_upgrade(head: &RequestHead) -> Option<HeaderValue> {
    let asked = connection_tokens(head).any(|token| token.eq_ignore_ascii_case(b"upgrade"));
    head.headers.get(UPGRADE).filter(|protocol| asked && !protocol.is_empty()).cloned()
}

/// Headers that the client's `connection` calls its own. `te` is judged by its value instead.
fn named_by_connection(head: &RequestHead) -> Vec<HeaderName> {
    connection_tokens(head)
        .filter_map(|token| HeaderName::from_bytes(token).ok())
        .filter(|name| *name != http::header::TE && head.headers.contains_key(name))
        .collect()
}

fn forwarded(head: &mut RequestHead, gateway: bool) {
    if gateway {
        if let Some(remote) = head.remote
            && let Ok(address) = HeaderValue::from_str(&remote.ip().to_string())
        {
            headers::add(&mut head.headers, &FORWARDED_FOR, address, Direction::Request);
        }
    } else if let Some(told) = head.headers.get(FORWARDED_PROTO) {
        let http1 = head.version < Version::HTTP_2;
        for scheme in ["http", "https"] {
            if http1 && told.as_bytes().eq_ignore_ascii_case(scheme.as_bytes()) && head.scheme != scheme {
                head.scheme = scheme.into();
                break;
            }
        }
        return;
    }
    let scheme = match &head.scheme {
        Cow::Borrowed(scheme) => Ok(HeaderValue::from_static(scheme)),
        Cow::Owned(scheme) => HeaderValue::from_str(scheme),
    };
    if let Ok(scheme) = scheme {
        head.headers.insert(FORWARDED_PROTO, scheme);
    }
}
