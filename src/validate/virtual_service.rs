//! The webhook's rules for a VirtualService, by the codes of [`super::CODES`].

use super::Report;
use super::predicates::{self as ask, Verdict};
use super::unreachable;
use crate::resource::{
    CorsPolicy, Destination, HeaderOperations, Headers, HttpDirectResponse, HttpFaultInjection, HttpMatchRequest,
    HttpRedirect, HttpRetry, HttpRewrite, HttpRoute, RouteDestination, StringMatch, TcpRoute, TlsRoute, VirtualService,
};

/// What rules ask about the whole resource.
struct Whole<'a> {
    resource: &'a VirtualService,
    /// Bound to gateways and not to the mesh.
    at_gateways: bool,
    /// Without hosts: another one delegates to it.
    is_delegate: bool,
    /// Made from a Gateway API route: hosts and ports of destinations are not looked at.
    gateway_semantics: bool,
}

fn note(report: &mut Report, code: &'static str, path: impl Into<String>, verdict: Verdict) {
    if let Err(message) = verdict {
        report.error(code, path, message);
    }
}

pub(super) fn check(resource: &VirtualService, report: &mut Report) {
    let spec = &resource.spec;
    let annotation = resource.metadata.annotations.get("internal.istio.io/route-semantics");
    let whole = Whole {
        resource,
        at_gateways: !spec.gateways.is_empty() && !spec.gateways.iter().any(|gateway| gateway == "mesh"),
        is_delegate: spec.hosts.is_empty(),
        gateway_semantics: annotation.is_some_and(|semantics| semantics == "gateway"),
    };
    top(&whole, report);
    for (index, route) in spec.http.iter().enumerate() {
        http(&whole, route, &format!("spec.http[{index}]"), report);
    }
    for (index, route) in spec.tls.iter().enumerate() {
        tls(&whole, route, &format!("spec.tls[{index}]"), report);
    }
    for (index, route) in spec.tcp.iter().enumerate() {
        tcp(&whole, route, &format!("spec.tcp[{index}]"), report);
    }
    let namespace = &resource.metadata.namespace;
    note(report, "VS-TOP-011", "spec.exportTo", ask::export_to(&spec.export_to, namespace, false));
    unreachable::http(&spec.http, report);
    unreachable::tls(&spec.tls, report);
    unreachable::tcp(&spec.tcp, report);
}

/// VS-TOP-001 to VS-TOP-009.
fn top(whole: &Whole<'_>, report: &mut Report) {
    let spec = &whole.resource.spec;
    if whole.is_delegate {
        let cannot = |what: &str| format!("a VirtualService without hosts is a delegate, and cannot have {what}");
        if !spec.gateways.is_empty() {
            report.error("VS-TOP-001", "spec.gateways", cannot("gateways"));
        }
        if !spec.tls.is_empty() {
            report.error("VS-TOP-002", "spec.tls", cannot("tls routes"));
        }
        if !spec.tcp.is_empty() {
            report.error("VS-TOP-003", "spec.tcp", cannot("tcp routes"));
        }
    }
    gateways("VS-TOP-004", &spec.gateways, "spec.gateways", whole.gateway_semantics, true, report);
    if !whole.at_gateways {
        for (index, route) in spec.http.iter().enumerate() {
            for (number, block) in route.r#match.iter().enumerate() {
                let keys = block.headers.keys().chain(block.without_headers.keys());
                for key in keys.filter(|key| ask::is_claim(key)) {
                    let path = format!("spec.http[{index}].match[{number}].headers[{key}]");
                    let message = "claims of a token can be matched only by a VirtualService that is bound to gateways";
                    report.error("VS-TOP-005", path, message);
                }
            }
        }
    }
    let has_sni = spec.tls.iter().flat_map(|route| &route.r#match).any(|block| !block.sni_hosts.is_empty());
    let before = report.diagnostics.len();
    for (index, host) in spec.hosts.iter().enumerate() {
        let path = format!("spec.hosts[{index}]");
        if !whole.at_gateways && host == "*" {
            report.error("VS-TOP-007", path, "`*` is a host only for gateways; name the hosts");
            continue;
        }
        if ask::ip(host) {
            continue;
        }
        let verdict = if whole.at_gateways { ask::gateway_domain(host, has_sni) } else { ask::wildcard_domain(host) };
        note(report, "VS-TOP-006", path, verdict);
    }
    if report.diagnostics.len() == before {
        for (index, host) in spec.hosts.iter().enumerate() {
            if let Some(other) = spec.hosts[..index].iter().find(|other| ask::matches(other, host)) {
                let message = format!("`{host}` and `{other}` have names in common");
                report.error("VS-TOP-008", format!("spec.hosts[{index}]"), message);
            }
        }
    }
    if spec.http.is_empty() && spec.tcp.is_empty() && spec.tls.is_empty() {
        report.error("VS-TOP-009", "spec", "there is no http, tls or tcp route");
    }
}

/// A list of gateways; names of the old form are warned of where a warning comes through.
fn gateways(code: &'static str, names: &[String], path: &str, any_name: bool, warns: bool, report: &mut Report) {
    let (verdict, old) = ask::gateways(names, any_name);
    note(report, code, path, verdict);
    for _ in 0..if warns { old } else { 0 } {
        report.warn(code, path, "a gateway's name with dots is the old form; write `namespace/name`");
    }
}

fn http(whole: &Whole<'_>, route: &HttpRoute, path: &str, report: &mut Report) {
    conflicts(whole, route, path, report);
    for (index, block) in route.r#match.iter().enumerate() {
        match_block(block, &format!("{path}.match[{index}]"), report);
    }
    headers(route.headers.as_ref(), RULE_HEADERS, path, report);
    authority(route, path, report);
    if let Some(policy) = &route.cors_policy {
        cors(policy, &format!("{path}.corsPolicy"), report);
    }
    if let Some(fault) = &route.fault {
        faults(fault, &format!("{path}.fault"), report);
    }
    mirrors(route, path, report);
    if let Some(redirect) = &route.redirect {
        redirects(redirect, route, &format!("{path}.redirect"), report);
    }
    if let Some(response) = &route.direct_response {
        direct_response(response, &format!("{path}.directResponse"), report);
    }
    if let Some(retry) = &route.retries {
        retries(retry, &format!("{path}.retries"), report);
    }
    if let Some(rewrite) = &route.rewrite {
        rewrites(rewrite, &format!("{path}.rewrite"), report);
    }
    http_destinations(whole, route, path, report);
    if let Some(timeout) = route.timeout {
        note(report, "VS-HTTP-081", format!("{path}.timeout"), ask::duration(timeout));
    }
}

/// VS-HTTP-001 to VS-HTTP-012: what cannot stand together.
fn conflicts(whole: &Whole<'_>, route: &HttpRoute, path: &str, report: &mut Report) {
    let redirect = route.redirect.is_some();
    let direct = route.direct_response.is_some();
    let routed = !route.route.is_empty();
    if route.delegate.is_some() && !whole.is_delegate {
        if redirect {
            report.error("VS-HTTP-001", format!("{path}.redirect"), "a rule that delegates cannot redirect");
        }
        if routed {
            report.error("VS-HTTP-002", format!("{path}.route"), "a rule that delegates cannot have routes");
        }
        return;
    }
    if route.delegate.is_some() {
        report.error("VS-HTTP-003", format!("{path}.delegate"), "a delegate cannot delegate again");
    }
    let together = |what: &str, with: &str| format!("{what} cannot stand with {with}");
    if redirect {
        let path = format!("{path}.redirect");
        for (code, present, with) in [
            ("VS-HTTP-004", routed, "route"),
            ("VS-HTTP-005", route.fault.is_some(), "fault"),
            ("VS-HTTP-006", route.rewrite.is_some(), "rewrite"),
            ("VS-HTTP-007", direct, "directResponse"),
        ] {
            if present {
                report.error(code, path.as_str(), together("redirect", with));
            }
        }
    } else if direct {
        let path = format!("{path}.directResponse");
        for (code, present, with) in [
            ("VS-HTTP-008", routed, "route"),
            ("VS-HTTP-009", route.fault.is_some(), "fault"),
            ("VS-HTTP-010", route.rewrite.is_some(), "rewrite"),
        ] {
            if present {
                report.error(code, path.as_str(), together("directResponse", with));
            }
        }
    } else if !routed {
        report.error("VS-HTTP-011", path, "a rule needs route, redirect or directResponse");
    }
    if route.mirror.is_some() && !route.mirrors.is_empty() {
        report.error("VS-HTTP-012", format!("{path}.mirrors"), together("mirrors", "mirror"));
    }
}

/// VS-HTTP-013 to VS-HTTP-026.
fn match_block(block: &HttpMatchRequest, path: &str, report: &mut Report) {
    for (key, condition) in &block.headers {
        let path = format!("{path}.headers[{key}]");
        note(report, "VS-HTTP-013", path.as_str(), ask::match_header(key));
        note(report, "VS-HTTP-015", path, ask::string_match(condition));
    }
    for (key, condition) in &block.without_headers {
        let path = format!("{path}.withoutHeaders[{key}]");
        note(report, "VS-HTTP-016", path.as_str(), ask::match_header(key));
        let any = matches!(condition, StringMatch::Regex(text) if text == "*");
        if !any {
            note(report, "VS-HTTP-017", path, ask::string_match(condition));
        }
    }
    if let Some(uri) = &block.uri {
        note(report, "VS-HTTP-018", format!("{path}.uri"), ask::string_match_regex(uri));
    }
    for (code, name, condition) in [
        ("VS-HTTP-019", "scheme", &block.scheme),
        ("VS-HTTP-020", "method", &block.method),
        ("VS-HTTP-021", "authority", &block.authority),
    ] {
        if let Some(condition) = condition {
            note(report, code, format!("{path}.{name}"), ask::string_match(condition));
        }
    }
    for (key, condition) in &block.query_params {
        note(report, "VS-HTTP-022", format!("{path}.queryParams[{key}]"), ask::string_match(condition));
    }
    if block.port != 0 {
        note(report, "VS-HTTP-023", format!("{path}.port"), ask::port(block.port));
    }
    note(report, "VS-HTTP-024", format!("{path}.sourceLabels"), ask::tags(&block.source_labels));
    gateways("VS-HTTP-025", &block.gateways, &format!("{path}.gateways"), false, false, report);
    if !block.source_namespace.is_empty() {
        note(report, "VS-HTTP-026", format!("{path}.sourceNamespace"), ask::label(&block.source_namespace));
    }
}

/// The codes of: a request header that is set, one that is removed, a response header, a value.
const RULE_HEADERS: [&str; 4] = ["VS-HTTP-027", "VS-HTTP-028", "VS-HTTP-029", "VS-HTTP-030"];

/// VS-HTTP-027 to VS-HTTP-030, and VS-HTTP-077 for a destination's own.
fn headers(
    headers: Option<&Headers>,
    [set, remove, response, bad_value]: [&'static str; 4],
    path: &str,
    report: &mut Report,
) {
    let Some(headers) = headers else { return };
    let mut side = |operations: Option<&HeaderOperations>, name: &str, is_request: bool| {
        let Some(operations) = operations else { return };
        let path = format!("{path}.headers.{name}");
        for (map, entries) in [("set", &operations.set), ("add", &operations.add)] {
            for (key, value) in entries {
                let path = format!("{path}.{map}[{key}]");
                let (code, verdict) =
                    if is_request { (set, ask::request_header(key)) } else { (response, ask::operation_header(key)) };
                note(report, code, path.as_str(), verdict);
                note(report, bad_value, path, ask::header_value(value));
            }
        }
        let code = if is_request { remove } else { response };
        for (index, name) in operations.remove.iter().enumerate() {
            note(report, code, format!("{path}.remove[{index}]"), ask::operation_header(name));
        }
    };
    side(headers.request.as_ref(), "request", true);
    side(headers.response.as_ref(), "response", false);
}

/// VS-HTTP-031: the authority is claimed once.
fn authority(route: &HttpRoute, path: &str, report: &mut Report) {
    let rewritten = route.rewrite.as_ref().map(|rewrite| rewrite.authority.as_str()).unwrap_or_default();
    let mut claimed = !rewritten.is_empty();
    let Some(operations) = route.headers.as_ref().and_then(|headers| headers.request.as_ref()) else { return };
    for (key, value) in operations.set.iter().chain(&operations.add) {
        if !(key.eq_ignore_ascii_case("host") || key.eq_ignore_ascii_case(":authority")) {
            continue;
        }
        if claimed {
            let message = "the authority is rewritten more than once; keep one of rewrite.authority and headers";
            report.error("VS-HTTP-031", format!("{path}.headers.request"), message);
            return;
        }
        claimed = !value.is_empty();
    }
}

/// VS-HTTP-032 to VS-HTTP-038.
fn cors(policy: &CorsPolicy, path: &str, report: &mut Report) {
    for (index, origin) in policy.allow_origins.iter().enumerate() {
        let path = format!("{path}.allowOrigins[{index}]");
        match origin.pattern() {
            None | Some("") => report.error("VS-HTTP-032", path, "an origin needs exact, prefix or regex, with a text"),
            Some(text) if matches!(origin, StringMatch::Regex(_)) => {
                note(report, "VS-HTTP-033", path, ask::regex(text));
            }
            Some(_) => {}
        }
    }
    const METHODS: [&str; 10] = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "CONNECT", "OPTIONS", "TRACE", "*"];
    for (index, method) in policy.allow_methods.iter().enumerate() {
        if !METHODS.contains(&method.as_str()) {
            let message = format!("`{method}` is not a method: {}", METHODS.join(", "));
            report.error("VS-HTTP-034", format!("{path}.allowMethods[{index}]"), message);
        }
    }
    for (index, name) in policy.allow_headers.iter().enumerate() {
        note(report, "VS-HTTP-035", format!("{path}.allowHeaders[{index}]"), ask::cors_header(name));
    }
    for (index, name) in policy.expose_headers.iter().enumerate() {
        note(report, "VS-HTTP-036", format!("{path}.exposeHeaders[{index}]"), ask::cors_header(name));
    }
    if let Some(age) = policy.max_age {
        note(report, "VS-HTTP-037", format!("{path}.maxAge"), ask::duration(age));
        if age.as_nanos() % 1_000_000_000 != 0 {
            report.error("VS-HTTP-038", format!("{path}.maxAge"), format!("`{age}` is not a whole number of seconds"));
        }
    }
}

/// VS-HTTP-040 to VS-HTTP-048.
fn faults(fault: &HttpFaultInjection, path: &str, report: &mut Report) {
    if fault.abort.is_none() && fault.delay.is_none() {
        report.error("VS-HTTP-040", path, "a fault is a delay, an abort, or both");
    }
    if let Some(abort) = &fault.abort {
        let path = format!("{path}.abort");
        note(report, "VS-HTTP-041", format!("{path}.percentage"), ask::percent(abort.percentage.as_ref()));
        if let Some(name) = &abort.grpc_status
            && crate::grpc::status_named(name).is_none()
        {
            let message = format!("`{name}` is not a gRPC status by its name, such as `UNAVAILABLE`");
            report.error("VS-HTTP-042", format!("{path}.grpcStatus"), message);
        }
        if abort.http2_error.is_some() {
            report.error("VS-HTTP-043", format!("{path}.http2Error"), "http2Error is not carried out; use httpStatus");
        }
        if let Some(status) = abort.http_status {
            note(report, "VS-HTTP-044", format!("{path}.httpStatus"), ask::status(status.into()));
        }
    }
    if let Some(delay) = &fault.delay {
        let path = format!("{path}.delay");
        note(report, "VS-HTTP-046", format!("{path}.percentage"), ask::percent(delay.percentage.as_ref()));
        if let Some(fixed) = delay.fixed_delay {
            note(report, "VS-HTTP-047", format!("{path}.fixedDelay"), ask::duration(fixed));
        }
        if delay.exponential_delay.is_some() {
            let message = "exponentialDelay is not carried out; use fixedDelay";
            report.error("VS-HTTP-048", format!("{path}.exponentialDelay"), message);
        }
    }
}

fn destination(code: &'static str, one: &Destination, path: &str, report: &mut Report) {
    for message in ask::destination(one) {
        report.error(code, path, message);
    }
}

/// VS-HTTP-049 to VS-HTTP-056.
fn mirrors(route: &HttpRoute, path: &str, report: &mut Report) {
    if let Some(percent) = route.mirror_percent {
        let path = format!("{path}.mirrorPercent");
        if percent > 100 {
            report.error("VS-HTTP-049", path.as_str(), format!("{percent} is more than 100"));
        }
        report.warn("VS-HTTP-050", path, "mirrorPercent is deprecated; use mirrorPercentage");
    }
    if let Some(percent) = &route.mirror_percentage {
        note(report, "VS-HTTP-051", format!("{path}.mirrorPercentage"), ask::share(percent));
    }
    if let Some(mirror) = &route.mirror {
        destination("VS-HTTP-052", mirror, &format!("{path}.mirror"), report);
    }
    for (index, mirror) in route.mirrors.iter().enumerate() {
        let path = format!("{path}.mirrors[{index}]");
        match &mirror.destination {
            None => report.error("VS-HTTP-054", path, "a mirror needs a destination"),
            Some(one) => {
                destination("VS-HTTP-055", one, &format!("{path}.destination"), report);
                if let Some(percent) = &mirror.percentage {
                    note(report, "VS-HTTP-056", format!("{path}.percentage"), ask::share(percent));
                }
            }
        }
    }
}

/// VS-HTTP-057 to VS-HTTP-062; the first that does not hold is told.
fn redirects(redirect: &HttpRedirect, route: &HttpRoute, path: &str, report: &mut Report) {
    let not_by_prefix =
        route.r#match.iter().any(|block| block.uri.as_ref().is_some_and(|uri| !matches!(uri, StringMatch::Prefix(_))));
    let nothing = redirect.uri.is_empty()
        && redirect.prefix_rewrite.is_empty()
        && redirect.authority.is_empty()
        && redirect.scheme.is_empty()
        && redirect.port.is_none()
        && redirect.derive_port.is_none();
    let code = redirect.redirect_code;
    if !redirect.uri.is_empty() && !redirect.prefix_rewrite.is_empty() {
        report.error("VS-HTTP-057", path, "uri and prefixRewrite cannot stand together");
    } else if !redirect.prefix_rewrite.is_empty() && not_by_prefix {
        let message = "every match that has a uri must have a prefix, for prefixRewrite to replace";
        report.error("VS-HTTP-058", format!("{path}.prefixRewrite"), message);
    } else if nothing {
        report.error("VS-HTTP-059", path, "a redirect needs uri, prefixRewrite, authority, scheme, port or derivePort");
    } else if code != 0 && !(300..=399).contains(&code) {
        report.error("VS-HTTP-060", format!("{path}.redirectCode"), format!("{code} is not between 300 and 399"));
    } else if !matches!(redirect.scheme.as_str(), "" | "http" | "https") {
        let message = format!("`{}` is neither `http` nor `https`", redirect.scheme);
        report.error("VS-HTTP-061", format!("{path}.scheme"), message);
    } else if let Some(port) = redirect.port.filter(|port| *port > 65_535) {
        report.error("VS-HTTP-062", format!("{path}.port"), format!("{port} is not a port: 65535 at most"));
    }
}

/// VS-HTTP-063 to VS-HTTP-065.
fn direct_response(response: &HttpDirectResponse, path: &str, report: &mut Report) {
    let size = response.body.as_ref().map_or(0, |body| match (&body.string, &body.bytes) {
        (Some(text), _) => text.len(),
        (None, Some(bytes)) => bytes.0.len(),
        (None, None) => 0,
    });
    if size > 1 << 20 {
        report.error("VS-HTTP-063", format!("{path}.body"), format!("a body of {size} bytes is over 1048576"));
    } else if size > 100 << 10 {
        report.warn(
            "VS-HTTP-064",
            format!("{path}.body"),
            format!("a body of {size} bytes is large for every proxy to keep"),
        );
    }
    note(report, "VS-HTTP-065", format!("{path}.status"), ask::status(i64::from(response.status as i32)));
}

/// VS-HTTP-066 to VS-HTTP-070.
fn retries(retry: &HttpRetry, path: &str, report: &mut Report) {
    if retry.attempts < 0 {
        report.error("VS-HTTP-066", format!("{path}.attempts"), format!("{} is negative", retry.attempts));
    }
    let more = retry.per_try_timeout.is_some() || !retry.retry_on.is_empty() || retry.retry_remote_localities.is_some();
    if retry.attempts == 0 && more {
        let message = "attempts is 0, which turns retries off: nothing else can be set";
        report.error("VS-HTTP-067", path, message);
    }
    if let Some(timeout) = retry.per_try_timeout {
        note(report, "VS-HTTP-068", format!("{path}.perTryTimeout"), ask::duration(timeout));
    }
    if !retry.retry_on.is_empty() {
        for word in retry.retry_on.split(',') {
            let known = crate::policy::RetryOn::from_word(word).is_some();
            let status = word.parse::<i64>().ok().and_then(|code| u16::try_from(code).ok());
            if !known && !status.is_some_and(crate::compile::is_known_status) {
                let message = format!("`{word}` is neither a condition nor a status; there are no spaces in the list");
                report.error("VS-HTTP-069", format!("{path}.retryOn"), message);
            }
        }
    }
    if let Some(backoff) = retry.backoff {
        note(report, "VS-HTTP-070", format!("{path}.backoff"), ask::duration(backoff));
    }
}

/// VS-HTTP-071 to VS-HTTP-074; the first that does not hold is told.
fn rewrites(rewrite: &HttpRewrite, path: &str, report: &mut Report) {
    let Some(regex) = &rewrite.uri_regex_rewrite else {
        if rewrite.uri.is_empty() && rewrite.authority.is_empty() {
            report.error("VS-HTTP-072", path, "a rewrite needs uri, authority or uriRegexRewrite");
        }
        return;
    };
    if !rewrite.uri.is_empty() {
        report.error("VS-HTTP-071", path, "uri and uriRegexRewrite cannot stand together");
    } else if regex.r#match.is_empty() || regex.rewrite.is_empty() {
        report.error("VS-HTTP-073", format!("{path}.uriRegexRewrite"), "match and rewrite are both needed");
    } else {
        note(report, "VS-HTTP-074", format!("{path}.uriRegexRewrite.match"), ask::regex(&regex.r#match));
    }
}

/// VS-HTTP-075 to VS-HTTP-080.
fn http_destinations(whole: &Whole<'_>, route: &HttpRoute, path: &str, report: &mut Report) {
    let mut total: i32 = 0;
    for (index, one) in route.route.iter().enumerate() {
        let path = format!("{path}.route[{index}]");
        headers(one.headers.as_ref(), ["VS-HTTP-077"; 4], &path, report);
        match &one.destination {
            None => report.error("VS-HTTP-076", path.as_str(), "a route needs a destination"),
            Some(target) if !whole.gateway_semantics => {
                destination("VS-HTTP-078", target, &format!("{path}.destination"), report);
            }
            Some(_) => {}
        }
        if one.weight < 0 {
            report.error("VS-HTTP-079", format!("{path}.weight"), format!("{} is negative", one.weight));
        }
        total = total.wrapping_add(one.weight);
    }
    if route.route.len() > 1 && total == 0 {
        report.error("VS-HTTP-080", format!("{path}.route"), "the weights of several destinations are 0 together");
    }
}

/// VS-TLS-011 to VS-TLS-015, VS-TCP-006 to VS-TCP-010.
fn plain_destinations(
    whole: &Whole<'_>,
    route: &[RouteDestination],
    codes: [&'static str; 5],
    path: &str,
    report: &mut Report,
) {
    let [empty, missing, invalid, negative, zero] = codes;
    if route.is_empty() {
        report.error(empty, format!("{path}.route"), "there is no destination");
    }
    let mut total: i32 = 0;
    for (index, one) in route.iter().enumerate() {
        let path = format!("{path}.route[{index}]");
        match &one.destination {
            None => report.error(missing, path.as_str(), "a route needs a destination"),
            Some(target) if !whole.gateway_semantics => {
                destination(invalid, target, &format!("{path}.destination"), report);
            }
            Some(_) => {}
        }
        if one.weight < 0 {
            report.error(negative, format!("{path}.weight"), format!("{} is negative", one.weight));
        }
        total = total.wrapping_add(one.weight);
    }
    if route.len() > 1 && total == 0 {
        report.error(zero, format!("{path}.route"), "the weights of several destinations are 0 together");
    }
}

fn tls(whole: &Whole<'_>, route: &TlsRoute, path: &str, report: &mut Report) {
    if route.r#match.is_empty() {
        report.error("VS-TLS-001", format!("{path}.match"), "a tls rule needs a match with server names");
    }
    let spec = &whole.resource.spec;
    let for_mesh = spec.gateways.iter().any(|gateway| gateway == "mesh");
    for (index, block) in route.r#match.iter().enumerate() {
        let path = format!("{path}.match[{index}]");
        if block.sni_hosts.is_empty() {
            report.error("VS-TLS-003", format!("{path}.sniHosts"), "there is no server name");
        }
        for (number, name) in block.sni_hosts.iter().enumerate() {
            let path = format!("{path}.sniHosts[{number}]");
            let verdict = if for_mesh { ask::wildcard_domain(name) } else { ask::gateway_domain(name, true) };
            match verdict {
                Err(_) if ask::ip(name) => {
                    report.warn("VS-TLS-005", path, format!("`{name}` is an address, which no client sends as a name"));
                }
                Err(message) => report.error("VS-TLS-004", path, message),
                Ok(()) if !spec.hosts.iter().any(|host| ask::subset_of(name, host)) => {
                    report.error("VS-TLS-006", path, format!("`{name}` is not among the hosts of the resource"));
                }
                Ok(()) => {}
            }
        }
        for (number, net) in block.destination_subnets.iter().enumerate() {
            note(report, "VS-TLS-007", format!("{path}.destinationSubnets[{number}]"), ask::subnet(net));
        }
        if block.port != 0 {
            note(report, "VS-TLS-008", format!("{path}.port"), ask::port(block.port));
        }
        note(report, "VS-TLS-009", format!("{path}.sourceLabels"), ask::tags(&block.source_labels));
        gateways("VS-TLS-010", &block.gateways, &format!("{path}.gateways"), false, true, report);
    }
    let codes = ["VS-TLS-011", "VS-TLS-012", "VS-TLS-013", "VS-TLS-014", "VS-TLS-015"];
    plain_destinations(whole, &route.route, codes, path, report);
}

fn tcp(whole: &Whole<'_>, route: &TcpRoute, path: &str, report: &mut Report) {
    for (index, block) in route.r#match.iter().enumerate() {
        let path = format!("{path}.match[{index}]");
        for (number, net) in block.destination_subnets.iter().enumerate() {
            note(report, "VS-TCP-002", format!("{path}.destinationSubnets[{number}]"), ask::subnet(net));
        }
        if block.port != 0 {
            note(report, "VS-TCP-003", format!("{path}.port"), ask::port(block.port));
        }
        note(report, "VS-TCP-004", format!("{path}.sourceLabels"), ask::tags(&block.source_labels));
        gateways("VS-TCP-005", &block.gateways, &format!("{path}.gateways"), false, false, report);
    }
    let codes = ["VS-TCP-006", "VS-TCP-007", "VS-TCP-008", "VS-TCP-009", "VS-TCP-010"];
    plain_destinations(whole, &route.route, codes, path, report);
}
