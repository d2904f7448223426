//! Translates match blocks into conditions.

use crate::policy::{HeaderField, HeaderMatch, PathMatch, Pattern, QueryMatch, RouteMatch, ValueMatch};
use crate::resource::{HttpMatchRequest, StringMatch};
use http::HeaderName;

/// Why a condition cannot be carried out.
pub(crate) struct BadCondition {
    pub(crate) field: String,
    pub(crate) message: String,
}

pub(crate) fn pattern(text: &str, field: &str) -> Result<Pattern, BadCondition> {
    Pattern::new(text).map_err(|error| BadCondition { field: field.to_owned(), message: format!("`{text}`: {error}") })
}

/// A condition on one value. Nothing set, and the historic `regex: "*"`, ask for presence.
pub(crate) fn value(condition: &StringMatch, field: &str) -> Result<ValueMatch, BadCondition> {
    Ok(match condition {
        StringMatch::Exact(text) => ValueMatch::Exact(text.as_bytes().into()),
        StringMatch::Prefix(text) => ValueMatch::Prefix(text.as_bytes().into()),
        StringMatch::Regex(text) if text == "*" => ValueMatch::Present,
        StringMatch::Regex(text) => ValueMatch::Regex(pattern(text, field)?),
        _ => ValueMatch::Present,
    })
}

fn field(name: &str) -> HeaderField {
    match name.to_ascii_lowercase().as_str() {
        ":authority" | "host" => HeaderField::Authority,
        ":method" => HeaderField::Method,
        ":path" => HeaderField::Path,
        ":scheme" => HeaderField::Scheme,
        lower => match HeaderName::from_bytes(lower.as_bytes()) {
            Ok(name) => HeaderField::Name(name),
            Err(_) => HeaderField::Never(name.into()),
        },
    }
}

/// A block's conditions. The static ones (`port`, `gateways`, `sourceLabels`, `sourceNamespace`) are not here.
pub(crate) fn route_match(block: &HttpMatchRequest) -> Result<RouteMatch, BadCondition> {
    let ignore_case = block.ignore_uri_case;
    let path = match &block.uri {
        Some(StringMatch::Exact(text)) => PathMatch::Exact { value: text.as_str().into(), ignore_case },
        Some(StringMatch::Prefix(text)) => PathMatch::Prefix { value: text.as_str().into(), ignore_case },
        Some(StringMatch::Regex(text)) => PathMatch::Regex(pattern(text, "uri.regex")?),
        _ => PathMatch::Any,
    };
    let mut headers = Vec::new();
    let pseudo = [
        (HeaderField::Method, &block.method, "method"),
        (HeaderField::Authority, &block.authority, "authority"),
        (HeaderField::Scheme, &block.scheme, "scheme"),
    ];
    for (field, condition, name) in pseudo {
        if let Some(condition) = condition {
            headers.push(HeaderMatch { field, value: value(condition, name)?, without: false });
        }
    }
    for (name, condition) in &block.headers {
        let value = value(condition, &format!("headers[{name}]"))?;
        headers.push(HeaderMatch { field: field(name), value, without: false });
    }
    for (name, condition) in &block.without_headers {
        let value = value(condition, &format!("withoutHeaders[{name}]"))?;
        headers.push(HeaderMatch { field: field(name), value, without: true });
    }
    let mut query = Vec::new();
    for (name, condition) in &block.query_params {
        let value = value(condition, &format!("queryParams[{name}]"))?;
        query.push(QueryMatch { name: name.as_str().into(), value });
    }
    Ok(RouteMatch { path, headers, query })
}

/// Does the block take every request, as Istio tells it: a raw prefix `/` (or no path condition) or the regex `.*`, and
/// nothing else?
pub(crate) fn is_catch_all(block: &HttpMatchRequest) -> bool {
    let path = match &block.uri {
        Some(StringMatch::Prefix(text)) => text == "/",
        Some(StringMatch::Regex(text)) => text == ".*",
        Some(StringMatch::Exact(_)) => false,
        _ => true,
    };
    path && block.method.is_none()
        && block.authority.is_none()
        && block.scheme.is_none()
        && block.headers.is_empty()
        && block.without_headers.is_empty()
        && block.query_params.is_empty()
}
