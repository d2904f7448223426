//! The `location` of a redirect: always absolute.
//!
//! The request's host stays as it is, port and all, unless the redirect names an authority or a port, or changes the
//! scheme away from one whose default port the host has.

use super::rewrite;
use crate::head::RequestHead;
use crate::policy::{PathMatch, Redirect, RedirectPath};

/// Where the client is sent.
pub(crate) fn location(redirect: &Redirect, condition: &PathMatch, request: &RequestHead) -> String {
    let scheme = redirect.scheme.as_deref().unwrap_or(&request.scheme);
    let host = match &redirect.authority {
        Some(authority) => authority,
        None => host(&request.authority, &request.scheme, scheme, redirect.port.is_some()),
    };
    let port = redirect.port.map(|port| format!(":{port}")).unwrap_or_default();
    let path = match &redirect.path {
        RedirectPath::Keep => request.path.clone(),
        RedirectPath::Matched(with) => rewrite::replace_matched(&request.path, condition, with),
        RedirectPath::Full(uri) if uri.contains('?') => uri.to_string(),
        RedirectPath::Full(uri) => match request.path.find('?') {
            Some(at) => [uri, &request.path[at..]].concat(),
            None => uri.to_string(),
        },
    };
    let slash = if path.starts_with('/') { "" } else { "/" };
    format!("{scheme}://{host}{port}{slash}{path}")
}

/// The authority without its port, where that would be wrong on the other side.
fn host<'a>(authority: &'a str, old_scheme: &str, scheme: &str, has_port: bool) -> &'a str {
    let bare = crate::policy::without_port(authority);
    let port = authority[bare.len()..].strip_prefix(':').unwrap_or_default();
    let default = matches!((old_scheme, port), ("http", "80") | ("https", "443"));
    if has_port || (scheme != old_scheme && default) { bare } else { authority }
}

/// The same URL over `https`.
pub(crate) fn to_https(request: &RequestHead) -> String {
    format!("https://{}{}", request.authority, request.path)
}

/// The request's own URL.
pub(crate) fn own_url(request: &RequestHead) -> String {
    format!("{}://{}{}", request.scheme, request.authority, request.path)
}
