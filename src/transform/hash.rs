//! What consistent hashing hashes, and the cookies that it makes.
//!
//! Keys are read from the request as it goes upstream. Each key that yields something is xxHash64 with seed 0; several are
//! put together as `rotate_left(1) ^ next`.

use crate::head::RequestHead;
use crate::policy::HashKey;
use http::HeaderValue;
use http::header::COOKIE;
use std::net::IpAddr;
use std::time::Duration;
use twox_hash::XxHash64;

const FORWARDED_FOR: http::HeaderName = http::HeaderName::from_static("x-forwarded-for");

/// A hash, and the cookies that the client is to be given.
#[derive(Clone, Debug, Default)]
pub(crate) struct HashOutcome {
    pub(crate) hash: Option<u64>,
    pub(crate) cookies: Vec<HeaderValue>,
}

/// Hashes a request. `trust_forwarded`: does the last entry of `x-forwarded-for` say who the client is (a mesh), or its
/// address (a gateway)?
pub(crate) fn hash(keys: &[HashKey], request: &RequestHead, trust_forwarded: bool) -> HashOutcome {
    let mut outcome = HashOutcome::default();
    for key in keys {
        let one = match key {
            HashKey::Header(name) => header(request, name),
            HashKey::PseudoHeader(name) => match &**name {
                ":path" => Some(XxHash64::oneshot(0, request.path.as_bytes())),
                ":method" => Some(XxHash64::oneshot(0, request.method.as_str().as_bytes())),
                ":authority" => Some(XxHash64::oneshot(0, request.authority.as_bytes())),
                _ => None,
            },
            HashKey::SourceIp => source(request, trust_forwarded),
            HashKey::QueryParameter(name) => {
                parameter(&request.path, name).map(|value| XxHash64::oneshot(0, value.as_bytes()))
            }
            HashKey::Cookie { name, ttl, path, attributes } => match (cookie(request, name), ttl) {
                (Some(value), _) => Some(XxHash64::oneshot(0, value)),
                (None, None) => None,
                (None, Some(ttl)) => {
                    let value = made_value(request);
                    outcome.cookies.extend(set_cookie(name, &value, *ttl, path, attributes));
                    Some(XxHash64::oneshot(0, value.as_bytes()))
                }
            },
        };
        if let Some(one) = one {
            outcome.hash = Some(outcome.hash.map_or(one, |before| before.rotate_left(1) ^ one));
        }
    }
    outcome
}

/// Several lines are sorted and chained, each hash the next one's seed.
fn header(request: &RequestHead, name: &http::HeaderName) -> Option<u64> {
    if name == http::header::HOST {
        return Some(XxHash64::oneshot(0, request.authority.as_bytes()));
    }
    let mut values: Vec<&[u8]> = request.headers.get_all(name).iter().map(|value| value.as_bytes()).collect();
    values.sort_unstable();
    (!values.is_empty()).then(|| values.iter().fold(0, |seed, value| XxHash64::oneshot(seed, value)))
}

fn source(request: &RequestHead, trust_forwarded: bool) -> Option<u64> {
    let forwarded = || -> Option<IpAddr> {
        let last = request.headers.get_all(FORWARDED_FOR).iter().next_back()?;
        last.to_str().ok()?.rsplit(',').next()?.trim().parse().ok()
    };
    let trusted = if trust_forwarded { forwarded() } else { None };
    let address = trusted.or_else(|| request.remote.map(|remote| remote.ip()))?;
    Some(XxHash64::oneshot(0, address.to_string().as_bytes()))
}

fn parameter<'a>(path: &'a str, name: &str) -> Option<&'a str> {
    let (_, query) = path.split_once('?')?;
    query
        .split('&')
        .map(|piece| piece.split_once('=').unwrap_or((piece, "")))
        .find(|(key, _)| *key == name)
        .map(|(_, value)| value)
}

/// The first cookie of the name, over all lines. An empty one counts as missing, and hides later ones.
fn cookie<'a>(request: &'a RequestHead, name: &str) -> Option<&'a [u8]> {
    for line in request.headers.get_all(COOKIE) {
        for piece in line.as_bytes().split(|byte| *byte == b';') {
            let Some(equals) = piece.iter().position(|byte| *byte == b'=') else { continue };
            let start = piece.iter().position(|byte| *byte != b' ').unwrap_or(0).min(equals);
            if &piece[start..equals] != name.as_bytes() {
                continue;
            }
            let mut value = &piece[equals + 1..];
            if let [b'"', inner @ .., b'"'] = value {
                value = inner;
            }
            return (!value.is_empty()).then_some(value);
        }
    }
    None
}

/// The value of a cookie that is made: a hash of the connection, 16 hex digits.
fn made_value(request: &RequestHead) -> String {
    let text = |address: Option<std::net::SocketAddr>| address.map(|address| address.to_string()).unwrap_or_default();
    let connection = text(request.remote) + &text(request.local);
    format!("{:016x}", XxHash64::oneshot(0, connection.as_bytes()))
}

type Attributes = [(std::sync::Arc<str>, std::sync::Arc<str>)];

fn set_cookie(name: &str, value: &str, ttl: Duration, path: &str, attributes: &Attributes) -> Option<HeaderValue> {
    let mut text = format!("{name}=\"{value}\"");
    if ttl.as_secs() > 0 {
        text.push_str(&format!("; Max-Age={}", ttl.as_secs()));
    }
    if !path.is_empty() {
        text.push_str(&format!("; Path={path}"));
    }
    for (name, value) in attributes {
        text.push_str("; ");
        text.push_str(name);
        if !value.is_empty() {
            text.push('=');
            text.push_str(value);
        }
    }
    text.push_str("; HttpOnly");
    HeaderValue::from_str(&text).ok()
}
