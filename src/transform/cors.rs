//! CORS: who may read an answer, and what a preflight is told.
//!
//! An origin is allowed if some matcher matches it, or matches the text `*`. A preflight is an `OPTIONS` with an
//! `access-control-request-method`; it is answered here unless its origin is not allowed and such preflights are forwarded
//! (the default). Every other request goes on; what comes back is marked if the origin is allowed.

use crate::head::{RequestHead, ResponseHead};
use crate::policy::Cors;
use http::header::{
    ACCESS_CONTROL_ALLOW_CREDENTIALS, ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS,
    ACCESS_CONTROL_ALLOW_ORIGIN, ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE, ACCESS_CONTROL_REQUEST_HEADERS,
    ACCESS_CONTROL_REQUEST_METHOD, ORIGIN,
};
use http::{HeaderName, HeaderValue, Method, StatusCode};

/// What CORS makes of a request.
#[derive(Clone, Debug)]
pub(crate) enum CorsVerdict {
    /// Nothing: there is no origin, or it is not allowed.
    Pass,
    /// The request goes on, and the answer is marked for this origin.
    Mark(HeaderValue),
    /// The answer to a preflight.
    Preflight(ResponseHead),
}

pub(crate) fn check(policy: &Cors, request: &RequestHead) -> CorsVerdict {
    let Some(origin) = request.headers.get(ORIGIN).filter(|origin| !origin.is_empty()) else {
        return CorsVerdict::Pass;
    };
    let allowed = policy.allow_origins.iter().any(|matcher| matcher.holds(origin.as_bytes()) || matcher.holds(b"*"));
    let asked = request.headers.get(ACCESS_CONTROL_REQUEST_METHOD).filter(|method| !method.is_empty());
    let asked = asked.filter(|_| request.method == Method::OPTIONS);
    match asked {
        Some(method) if allowed || !policy.forward_unmatched_preflights => {
            CorsVerdict::Preflight(preflight(policy, request, allowed.then_some(origin), method))
        }
        _ if allowed => CorsVerdict::Mark(origin.clone()),
        _ => CorsVerdict::Pass,
    }
}

fn preflight(policy: &Cors, request: &RequestHead, origin: Option<&HeaderValue>, method: &HeaderValue) -> ResponseHead {
    let mut head = ResponseHead::new(StatusCode::OK);
    let mut put = |name: HeaderName, value: HeaderValue| head.headers.insert(name, value);
    let text = |text: &str| HeaderValue::from_str(text).ok().filter(|value| !value.is_empty());
    if policy.allow_credentials {
        put(ACCESS_CONTROL_ALLOW_CREDENTIALS, HeaderValue::from_static("true"));
    }
    let methods = if &*policy.allow_methods == "*" { Some(method.clone()) } else { text(&policy.allow_methods) };
    if let Some(methods) = methods {
        put(ACCESS_CONTROL_ALLOW_METHODS, methods);
    }
    let headers = if &*policy.allow_headers == "*" {
        let asked = request.headers.get(ACCESS_CONTROL_REQUEST_HEADERS).cloned();
        Some(asked.unwrap_or(HeaderValue::from_static("")))
    } else {
        text(&policy.allow_headers)
    };
    if let Some(headers) = headers {
        put(ACCESS_CONTROL_ALLOW_HEADERS, headers);
    }
    if let Some(age) = policy.max_age {
        put(ACCESS_CONTROL_MAX_AGE, HeaderValue::from(age));
    }
    if let Some(origin) = origin {
        put(ACCESS_CONTROL_ALLOW_ORIGIN, origin.clone());
        if let Some(exposed) = text(&policy.expose_headers) {
            put(ACCESS_CONTROL_EXPOSE_HEADERS, exposed);
        }
    }
    head
}

/// Marks an answer for an allowed origin: sets what the upstream or header operations may have said otherwise.
pub(crate) fn mark(policy: &Cors, origin: &HeaderValue, head: &mut ResponseHead) {
    head.headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin.clone());
    if policy.allow_credentials {
        head.headers.insert(ACCESS_CONTROL_ALLOW_CREDENTIALS, HeaderValue::from_static("true"));
    }
    if let Ok(exposed) = HeaderValue::from_str(&policy.expose_headers)
        && !exposed.is_empty()
    {
        head.headers.insert(ACCESS_CONTROL_EXPOSE_HEADERS, exposed);
    }
}
