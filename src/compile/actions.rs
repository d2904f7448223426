//! Translates what a rule does.
//!
//! The order of precedence is Istio's: redirect, direct response, forward.

use super::destinations::DestinationIndex;
use crate::hosts;
use crate::mesh::MeshConfig;
use crate::policy::{
    Abort, AbortStatus, Action, Cors, Delay, DirectResponse, Fault, Forward, Fraction, HeaderOperations, Mirror,
    PathRewrite, Redirect, RedirectPath, RetryOn, RetryPolicy, Target, ValueMatch, WeightedDestination,
};
use crate::resource::{self, HttpRoute, Percent, RedirectPortSelection, StringMatch, UnmatchedPreflights};
use crate::transform::ValueTemplate;
use http::{HeaderName, StatusCode};
use std::sync::Arc;
use std::time::Duration;

/// Where a rule is compiled.
pub(crate) struct Place<'a> {
    pub(crate) destinations: &'a DestinationIndex<'a>,
    pub(crate) config: &'a MeshConfig,
    /// The namespace that short names belong to.
    pub(crate) namespace: &'a str,
    /// The listener's port.
    pub(crate) port: u16,
    pub(crate) gateway: bool,
    /// Does the listener end TLS?
    pub(crate) tls: bool,
}

const DEFAULT_RETRY_ON: &str = "connect-failure,refused-stream,unavailable,cancelled,retriable-status-codes";

/// The retry policy of a route that says nothing: two retries of what was surely not carried out.
pub(crate) fn default_retry(avoid_previous_hosts: bool) -> RetryPolicy {
    RetryPolicy {
        attempts: 2,
        on: RetryOn::parse(DEFAULT_RETRY_ON),
        status_codes: Vec::new(),
        per_try_timeout: None,
        backoff_base: Duration::from_millis(25),
        backoff_max: Duration::from_millis(250),
        avoid_previous_hosts,
        avoid_previous_priorities: false,
    }
}

/// A rule's action and its response header operations.
pub(crate) fn action(rule: &HttpRoute, place: &Place<'_>) -> Result<(Action, HeaderOperations), String> {
    let headers = rule.headers.as_ref();
    let mut response_headers = operations(headers.and_then(|headers| headers.response.as_ref()))?;
    if let Some(redirect) = &rule.redirect {
        return Ok((Action::Redirect(Box::new(self::redirect(redirect, place)?)), response_headers));
    }
    if let Some(response) = &rule.direct_response {
        return Ok((Action::Respond(Box::new(direct_response(response)?)), response_headers));
    }
    if rule.route.is_empty() {
        return Err("there is no `route`, `redirect` or `directResponse`".into());
    }
    let mut request_headers = operations(headers.and_then(|headers| headers.request.as_ref()))?;
    let rewrite = rule.rewrite.as_ref();
    let written = rewrite.map(|rewrite| rewrite.authority.as_str()).filter(|authority| !authority.is_empty());
    let mut host_rewrite: Option<Arc<str>> =
        written.or_else(|| host_operation(headers.and_then(|headers| headers.request.as_ref()))).map(Arc::from);

    let weighted = rule.route.len() > 1;
    let mut destinations = Vec::new();
    let mut hash = Vec::new();
    for entry in &rule.route {
        if weighted && entry.weight <= 0 {
            continue;
        }
        let Some(destination) = &entry.destination else { return Err("a route has no `destination`".into()) };
        let target = target(destination, place);
        hash.extend(hash_keys(destination, place));
        let own = entry.headers.as_ref();
        let mut request = operations(own.and_then(|headers| headers.request.as_ref()))?;
        let mut response = operations(own.and_then(|headers| headers.response.as_ref()))?;
        let mut own_host = host_operation(own.and_then(|headers| headers.request.as_ref())).map(Arc::from);
        if !weighted {
            append(&mut request_headers, std::mem::take(&mut request));
            append(&mut response_headers, std::mem::take(&mut response));
            host_rewrite = host_rewrite.or(own_host.take());
        }
        destinations.push(WeightedDestination {
            weight: u64::try_from(entry.weight).unwrap_or(0),
            target,
            request_headers: request,
            response_headers: response,
            host_rewrite: own_host,
        });
    }
    if destinations.is_empty() {
        return Err("every destination has weight 0".into());
    }
    let any_hash = rule
        .route
        .iter()
        .filter_map(|entry| entry.destination.as_ref())
        .any(|destination| !hash_keys(destination, place).is_empty());
    let path_rewrite = match rewrite {
        Some(rewrite) => match &rewrite.uri_regex_rewrite {
            Some(regex) if !regex.r#match.is_empty() => PathRewrite::Regex {
                pattern: super::matches::pattern(&regex.r#match, "rewrite.uriRegexRewrite.match")
                    .map_err(|bad| bad.message)?,
                substitution: regex.rewrite.as_str().into(),
            },
            _ if !rewrite.uri.is_empty() => PathRewrite::Matched(rewrite.uri.as_str().into()),
            _ => PathRewrite::Keep,
        },
        None => PathRewrite::Keep,
    };
    let forward = Forward {
        total_weight: destinations.iter().map(|destination| destination.weight).sum(),
        destinations,
        weighted,
        request_headers,
        host_rewrite,
        path_rewrite,
        cors: rule.cors_policy.as_ref().map(cors).transpose()?.map(Box::new),
        timeout: positive(rule.timeout),
        retry: retry(rule.retries.as_ref(), weighted || !any_hash),
        mirrors: mirrors(rule, place),
        hash,
    };
    Ok((Action::Forward(Box::new(forward)), response_headers))
}

fn positive(duration: Option<resource::Duration>) -> Option<Duration> {
    let duration = duration?.to_std()?;
    // Envoy counts whole milliseconds; less than one is none at all.
    let millis = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    (millis > 0).then(|| Duration::from_millis(millis))
}

/// Short host, service port, subset: the destination, or the name of what nobody defines.
pub(crate) fn target(destination: &resource::Destination, place: &Place<'_>) -> Target {
    let host = hosts::expand(&destination.host, place.namespace, &place.config.cluster_domain);
    let port = port(destination, &host, place);
    place.destinations.resolve(&host, port, &destination.subset)
}

fn written_port(destination: &resource::Destination) -> Option<u16> {
    let number = destination.port.as_ref().map(|port| port.number).filter(|number| *number != 0)?;
    u16::try_from(number).ok()
}

fn port(destination: &resource::Destination, host: &str, place: &Place<'_>) -> u16 {
    written_port(destination)
        .or_else(|| if place.gateway { place.destinations.only_port(host) } else { None })
        .unwrap_or(place.port)
}

fn hash_keys(destination: &resource::Destination, place: &Place<'_>) -> Vec<crate::policy::HashKey> {
    let host = hosts::expand(&destination.host, place.namespace, &place.config.cluster_domain);
    place.destinations.hash_keys(&host, &destination.subset, written_port(destination))
}

/// The `Host` that header operations set: `set` beats `add`.
fn host_operation(operations: Option<&resource::HeaderOperations>) -> Option<&str> {
    let operations = operations?;
    let host = |entries: &'_ std::collections::BTreeMap<String, String>| -> Option<String> {
        let found = entries.iter().find(|(name, value)| is_host(name) && !value.is_empty());
        found.map(|(name, _)| name.clone())
    };
    let set = host(&operations.set).and_then(|name| operations.set.get(&name));
    set.or_else(|| host(&operations.add).and_then(|name| operations.add.get(&name))).map(String::as_str)
}

fn is_host(name: &str) -> bool {
    name.eq_ignore_ascii_case("host") || name.eq_ignore_ascii_case(":authority")
}

fn operations(operations: Option<&resource::HeaderOperations>) -> Result<HeaderOperations, String> {
    let Some(operations) = operations else { return Ok(HeaderOperations::default()) };
    let name = |name: &String| -> Option<Result<HeaderName, String>> {
        if name.starts_with(':') || is_host(name) {
            return None;
        }
        Some(HeaderName::try_from(name.to_ascii_lowercase()).map_err(|_| format!("`{name}` is not a header name")))
    };
    let entries = |entries: &std::collections::BTreeMap<String, String>| -> Result<Vec<_>, String> {
        entries
            .iter()
            .filter_map(|(key, value)| Some((name(key)?, value)))
            .map(|(name, value)| {
                let template =
                    ValueTemplate::parse(value).map_err(|error| format!("header value `{value}`: {error}"))?;
                Ok((name?, template))
            })
            .collect()
    };
    Ok(HeaderOperations {
        remove: operations.remove.iter().filter_map(name).collect::<Result<_, _>>()?,
        set: entries(&operations.set)?,
        add: entries(&operations.add)?,
    })
}

fn append(to: &mut HeaderOperations, from: HeaderOperations) {
    to.remove.extend(from.remove);
    to.set.extend(from.set);
    to.add.extend(from.add);
}

fn redirect(redirect: &resource::HttpRedirect, place: &Place<'_>) -> Result<Redirect, String> {
    let text = |text: &String| (!text.is_empty()).then(|| Arc::from(text.as_str()));
    let status = match redirect.redirect_code {
        0 => 301,
        code @ (301 | 302 | 303 | 307 | 308) => code as u16,
        code => return Err(format!("redirectCode {code} is none of 301, 302, 303, 307, 308")),
    };
    let scheme = text(&redirect.scheme);
    let port = match (&redirect.port, &redirect.derive_port) {
        (Some(port), _) => u16::try_from(*port).ok(),
        (None, Some(RedirectPortSelection::FromRequestPort)) => Some(place.port),
        _ => None,
    };
    let effective = scheme.as_deref().unwrap_or(if place.tls { "https" } else { "http" });
    let port = port.filter(|port| *port != 0 && !matches!((effective, port), ("http", 80) | ("https", 443)));
    let path = match (text(&redirect.prefix_rewrite), text(&redirect.uri)) {
        (Some(prefix), _) => RedirectPath::Matched(prefix),
        (None, Some(uri)) => RedirectPath::Full(uri),
        (None, None) => RedirectPath::Keep,
    };
    let status = StatusCode::from_u16(status).map_err(|error| error.to_string())?;
    Ok(Redirect { status, authority: text(&redirect.authority), scheme, port, path })
}

fn direct_response(response: &resource::HttpDirectResponse) -> Result<DirectResponse, String> {
    let code = u16::try_from(response.status).ok().filter(|code| (200..600).contains(code));
    let status = code.and_then(|code| StatusCode::from_u16(code).ok());
    let status = status.ok_or_else(|| format!("status {} is not between 200 and 599", response.status))?;
    let body: &[u8] = match &response.body {
        Some(body) => match (&body.string, &body.bytes) {
            (Some(text), _) => text.as_bytes(),
            (None, Some(bytes)) => &bytes.0,
            (None, None) => b"",
        },
        None => b"",
    };
    Ok(DirectResponse { status, body: body.into() })
}

fn fraction(percent: &Percent) -> Fraction {
    Fraction { numerator: percent.parts_per_million().into(), denominator: 1_000_000 }
}

/// The faults of a rule. They hold before every kind of action; the webhook takes them on forwards alone, but a root's
/// are also those of the redirects of its delegate.
pub(crate) fn fault(fault: Option<&resource::HttpFaultInjection>) -> Fault {
    let Some(fault) = fault else { return Fault::default() };
    let delay = fault.delay.as_ref().and_then(|delay| {
        let fraction = match &delay.percentage {
            Some(percent) => fraction(percent),
            None => Fraction { numerator: u64::try_from(delay.percent).unwrap_or(0), denominator: 100 },
        };
        Some(Delay { duration: positive(delay.fixed_delay)?, fraction })
    });
    let abort = fault.abort.as_ref().and_then(|abort| {
        let fraction = fraction(abort.percentage.as_ref()?);
        let status = match (abort.http_status, &abort.grpc_status) {
            (Some(status), _) => {
                AbortStatus::Http(u16::try_from(status).ok().and_then(|status| StatusCode::from_u16(status).ok())?)
            }
            (None, Some(name)) => AbortStatus::Grpc(crate::grpc::status_named(name)?),
            (None, None) => return None,
        };
        Some(Abort { status, fraction })
    });
    Fault { delay, abort }
}

fn cors(policy: &resource::CorsPolicy) -> Result<Cors, String> {
    let origins: Vec<StringMatch> = if policy.allow_origins.is_empty() {
        policy.allow_origin.iter().cloned().map(StringMatch::Exact).collect()
    } else {
        policy.allow_origins.clone()
    };
    let allow_origins: Result<Vec<ValueMatch>, String> = origins
        .iter()
        .filter_map(|origin| match origin {
            StringMatch::Exact(text) => Some(Ok(ValueMatch::Exact(text.as_bytes().into()))),
            StringMatch::Prefix(text) => Some(Ok(ValueMatch::Prefix(text.as_bytes().into()))),
            StringMatch::Regex(text) => {
                let pattern = super::matches::pattern(text, "corsPolicy.allowOrigins");
                Some(pattern.map(ValueMatch::Regex).map_err(|bad| bad.message))
            }
            _ => None,
        })
        .collect();
    Ok(Cors {
        allow_origins: allow_origins?,
        allow_methods: policy.allow_methods.join(",").into(),
        allow_headers: policy.allow_headers.join(",").into(),
        expose_headers: policy.expose_headers.join(",").into(),
        max_age: policy.max_age.and_then(|age| age.to_std()).map(|age| age.as_secs()),
        allow_credentials: policy.allow_credentials.unwrap_or(false),
        forward_unmatched_preflights: policy.unmatched_preflights != UnmatchedPreflights::Ignore,
    })
}

fn retry(retries: Option<&resource::HttpRetry>, avoid_by_default: bool) -> Option<RetryPolicy> {
    let Some(retries) = retries else { return Some(default_retry(avoid_by_default)) };
    let attempts = u32::try_from(retries.attempts).ok().filter(|attempts| *attempts > 0)?;
    let words: Vec<&str> = retries.retry_on.split(',').map(str::trim).filter(|word| !word.is_empty()).collect();
    let codes: Vec<u16> =
        words.iter().filter_map(|word| word.parse().ok()).filter(|code| is_known_status(*code)).collect();
    let mut on = if words.is_empty() { RetryOn::parse(DEFAULT_RETRY_ON) } else { RetryOn::parse(&retries.retry_on) };
    if !codes.is_empty() {
        on = on | RetryOn::RETRIABLE_STATUS_CODES;
    }
    let base = positive(retries.backoff).unwrap_or(Duration::from_millis(25));
    Some(RetryPolicy {
        attempts,
        on,
        status_codes: codes,
        per_try_timeout: positive(retries.per_try_timeout),
        backoff_base: base,
        backoff_max: base * 10,
        avoid_previous_hosts: retries.retry_ignore_previous_hosts.unwrap_or(avoid_by_default),
        avoid_previous_priorities: retries.retry_remote_localities.unwrap_or(false),
    })
}

/// The statuses that Go's standard library has a text for.
pub(crate) fn is_known_status(code: u16) -> bool {
    matches!(code, 100..=103 | 200..=208 | 226 | 300..=305 | 307 | 308 | 400..=418 | 421..=426 | 428 | 429 | 431 | 451 | 500..=508 | 510 | 511)
}

fn mirrors(rule: &HttpRoute, place: &Place<'_>) -> Vec<Mirror> {
    let mut mirrors = Vec::new();
    if let Some(destination) = &rule.mirror {
        let fraction = match (&rule.mirror_percentage, rule.mirror_percent) {
            (Some(percent), _) => fraction(percent),
            (None, Some(percent)) => Fraction { numerator: percent.into(), denominator: 100 },
            (None, None) => Fraction::ALL,
        };
        mirrors.push(Mirror { target: target(destination, place), fraction });
    }
    for policy in &rule.mirrors {
        let Some(destination) = &policy.destination else { continue };
        let fraction = policy.percentage.as_ref().map_or(Fraction::ALL, fraction);
        mirrors.push(Mirror { target: target(destination, place), fraction });
    }
    mirrors.retain(|mirror| mirror.fraction.numerator > 0);
    mirrors
}
