//! The webhook's rules for a DestinationRule, by the codes of [`super::CODES`].

use super::Report;
use super::predicates::{self as ask, Verdict};
use crate::resource::{
    ClientTlsMode, ClientTlsSettings, ConnectionPoolSettings, DestinationRule, Duration, H2UpgradePolicy,
    LoadBalancerSettings, LocalityFailover, LocalityLoadBalancerSetting, OutlierDetection, TrafficPolicy,
    ZoneAwareLoadBalancerSetting,
};
use std::collections::{BTreeMap, BTreeSet};

fn note(report: &mut Report, code: &'static str, path: impl Into<String>, verdict: Verdict) {
    if let Err(message) = verdict {
        report.error(code, path, message);
    }
}

fn duration(report: &mut Report, code: &'static str, path: String, value: Option<Duration>) {
    if let Some(value) = value {
        note(report, code, path, ask::duration(value));
    }
}

pub(super) fn check(resource: &DestinationRule, report: &mut Report) {
    let spec = &resource.spec;
    let namespace = resource.metadata.namespace.as_str();
    note(report, "DR-TOP-001", "spec.host", ask::wildcard_domain(&spec.host));
    if let Some(policy) = &spec.traffic_policy {
        traffic_policy(policy, namespace, "spec.trafficPolicy", report);
    }
    let mut names = BTreeSet::new();
    for (index, subset) in spec.subsets.iter().enumerate() {
        let path = format!("spec.subsets[{index}]");
        if !names.insert(&subset.name) {
            report.error("DR-TOP-003", format!("{path}.name"), format!("two subsets are called `{}`", subset.name));
        }
        note(report, "DR-TOP-004", format!("{path}.name"), ask::label(&subset.name));
        note(report, "DR-TOP-005", format!("{path}.labels"), ask::tags(&subset.labels));
        if let Some(policy) = &subset.traffic_policy {
            without_warnings(report, |report| {
                traffic_policy(policy, namespace, &format!("{path}.trafficPolicy"), report);
            });
        }
    }
    let selector = spec.workload_selector.as_ref();
    note(report, "DR-TOP-006", "spec.exportTo", ask::export_to(&spec.export_to, namespace, selector.is_some()));
    if let Some(selector) = selector {
        let path = "spec.workloadSelector.matchLabels";
        for (key, value) in &selector.match_labels {
            if key.is_empty() {
                report.error("DR-TOP-007", path, "a label's name is empty");
            }
            if key.contains('*') || value.contains('*') {
                report.error("DR-TOP-008", path, format!("`{key}: {value}` has a `*`, which stands for nothing here"));
            }
        }
        if selector.match_labels.is_empty() {
            report.warn("DR-TOP-009", "spec.workloadSelector", "a selector without labels selects every workload");
        }
    }
}

/// Warnings from subsets and ports do not come through, as in the webhook.
fn without_warnings(report: &mut Report, ask: impl FnOnce(&mut Report)) {
    let mut inner = Report::default();
    ask(&mut inner);
    inner.diagnostics.retain(|one| one.severity == super::Severity::Error);
    report.diagnostics.extend(inner.diagnostics);
}

/// DR-TP-001 to DR-TP-009.
fn traffic_policy(policy: &TrafficPolicy, namespace: &str, path: &str, report: &mut Report) {
    let four = policy.outlier_detection.is_some()
        || policy.connection_pool.is_some()
        || policy.load_balancer.is_some()
        || policy.tls.is_some();
    let any = four
        || !policy.port_level_settings.is_empty()
        || policy.tunnel.is_some()
        || policy.proxy_protocol.is_some()
        || policy.retry_budget.is_some();
    if !any {
        report.error("DR-TP-001", path, "a traffic policy sets something, or is left out");
        return;
    }
    if policy.tunnel.is_some() && policy.proxy_protocol.is_some() {
        report.error("DR-TP-002", path, "tunnel and proxyProtocol cannot stand together");
        return;
    }
    blocks(policy, namespace, path, report);
    if let Some(proxy) = &policy.proxy_protocol
        && !matches!(proxy.version.as_str(), "V1" | "V2")
    {
        report.error("DR-TP-003", format!("{path}.proxyProtocol.version"), "the version is V1 or V2");
    }
    if let Some(tunnel) = &policy.tunnel {
        let path = format!("{path}.tunnel");
        if !matches!(tunnel.protocol.as_str(), "" | "CONNECT" | "POST") {
            let message = format!("`{}` is neither `CONNECT` nor `POST`", tunnel.protocol);
            report.error("DR-TP-004", format!("{path}.protocol"), message);
        }
        if !ask::ip(&tunnel.target_host) {
            note(report, "DR-TP-005", format!("{path}.targetHost"), ask::fqdn(&tunnel.target_host));
        }
        note(report, "DR-TP-006", format!("{path}.targetPort"), ask::port(tunnel.target_port));
    }
    for (index, entry) in policy.port_level_settings.iter().enumerate() {
        let path = format!("{path}.portLevelSettings[{index}]");
        if entry.port.is_none() {
            report.error("DR-TP-008", format!("{path}.port"), "settings of a port name the port");
        }
        let any = entry.outlier_detection.is_some()
            || entry.connection_pool.is_some()
            || entry.load_balancer.is_some()
            || entry.tls.is_some();
        if any {
            without_warnings(report, |report| blocks(entry, namespace, &path, report));
        } else {
            report.error("DR-TP-009", path, "settings of a port set something");
        }
    }
}

/// The four blocks that a port's settings can have too.
fn blocks(policy: &TrafficPolicy, namespace: &str, path: &str, report: &mut Report) {
    if let Some(settings) = &policy.outlier_detection {
        outlier(settings, &format!("{path}.outlierDetection"), report);
    }
    if let Some(settings) = &policy.connection_pool {
        connection_pool(settings, &format!("{path}.connectionPool"), report);
    }
    if let Some(settings) = &policy.load_balancer {
        let has_outlier = policy.outlier_detection.is_some();
        load_balancer(settings, has_outlier, &format!("{path}.loadBalancer"), report);
    }
    if let Some(settings) = &policy.tls {
        tls(settings, namespace, &format!("{path}.tls"), report);
    }
}

/// DR-OD-001 to DR-OD-006.
fn outlier(settings: &OutlierDetection, path: &str, report: &mut Report) {
    duration(report, "DR-OD-001", format!("{path}.baseEjectionTime"), settings.base_ejection_time);
    duration(report, "DR-OD-002", format!("{path}.interval"), settings.interval);
    if settings.consecutive_errors != 0 {
        let message =
            "consecutiveErrors is deprecated and does nothing; use consecutive5xxErrors or consecutiveGatewayErrors";
        report.warn("DR-OD-003", format!("{path}.consecutiveErrors"), message);
    }
    let local = settings.consecutive_local_origin_failures.unwrap_or(0);
    if local > 0 && !settings.split_external_local_origin_errors {
        let message = "consecutiveLocalOriginFailures counts only with splitExternalLocalOriginErrors: true";
        report.error("DR-OD-004", format!("{path}.consecutiveLocalOriginFailures"), message);
    }
    for (code, name, value) in [
        ("DR-OD-005", "maxEjectionPercent", settings.max_ejection_percent),
        ("DR-OD-006", "minHealthPercent", settings.min_health_percent),
    ] {
        if !(0..=100).contains(&value) {
            report.error(code, format!("{path}.{name}"), format!("{value} is not between 0 and 100"));
        }
    }
}

/// DR-CP-001 to DR-CP-016.
fn connection_pool(settings: &ConnectionPoolSettings, path: &str, report: &mut Report) {
    if settings.http.is_none() && settings.tcp.is_none() {
        report.error("DR-CP-001", path, "a connection pool sets http or tcp");
        return;
    }
    let negative = |report: &mut Report, code, path: String, value: i32| {
        if value < 0 {
            report.error(code, path, format!("{value} is negative"));
        }
    };
    if let Some(http) = &settings.http {
        let path = format!("{path}.http");
        negative(report, "DR-CP-002", format!("{path}.http1MaxPendingRequests"), http.http1_max_pending_requests);
        negative(report, "DR-CP-003", format!("{path}.http2MaxRequests"), http.http2_max_requests);
        negative(report, "DR-CP-004", format!("{path}.maxRequestsPerConnection"), http.max_requests_per_connection);
        negative(report, "DR-CP-005", format!("{path}.maxRetries"), http.max_retries);
        duration(report, "DR-CP-006", format!("{path}.idleTimeout"), http.idle_timeout);
        if http.use_client_protocol && http.h2_upgrade_policy == H2UpgradePolicy::Upgrade {
            report.error(
                "DR-CP-007",
                path.as_str(),
                "useClientProtocol and h2UpgradePolicy UPGRADE contradict each other",
            );
        }
        negative(report, "DR-CP-008", format!("{path}.maxConcurrentStreams"), http.max_concurrent_streams);
        if let Some(keepalive) = &http.http2_keep_alive {
            for (code, name, value) in
                [("DR-CP-009", "interval", keepalive.interval), ("DR-CP-010", "timeout", keepalive.timeout)]
            {
                let path = format!("{path}.http2KeepAlive.{name}");
                match value {
                    None => report.error(code, path, format!("{name} is needed")),
                    some => duration(report, code, path, some),
                }
            }
        }
    }
    if let Some(tcp) = &settings.tcp {
        let path = format!("{path}.tcp");
        negative(report, "DR-CP-011", format!("{path}.maxConnections"), tcp.max_connections);
        duration(report, "DR-CP-012", format!("{path}.connectTimeout"), tcp.connect_timeout);
        duration(report, "DR-CP-013", format!("{path}.maxConnectionDuration"), tcp.max_connection_duration);
        let idle = tcp.idle_timeout.filter(|idle| idle.as_nanos() / 1_000_000 != 0);
        duration(report, "DR-CP-014", format!("{path}.idleTimeout"), idle);
        if let Some(keepalive) = &tcp.tcp_keepalive {
            duration(report, "DR-CP-015", format!("{path}.tcpKeepalive.time"), keepalive.time);
            duration(report, "DR-CP-016", format!("{path}.tcpKeepalive.interval"), keepalive.interval);
        }
    }
}

fn is_prime(number: u64) -> bool {
    (1..4).contains(&number)
        || (number > 3
            && (2..).take_while(|divisor| divisor * divisor <= number).all(|divisor| !number.is_multiple_of(divisor)))
}

/// DR-LB-001 to DR-LB-013.
fn load_balancer(settings: &LoadBalancerSettings, has_outlier: bool, path: &str, report: &mut Report) {
    if let Some(hash) = &settings.consistent_hash {
        let path = format!("{path}.consistentHash");
        if let Some(cookie) = &hash.http_cookie {
            let path = format!("{path}.httpCookie");
            if cookie.name.is_empty() {
                report.error("DR-LB-001", format!("{path}.name"), "a cookie needs a name");
            }
            let mut names = BTreeSet::new();
            for (index, attribute) in cookie.attributes.iter().enumerate() {
                let path = format!("{path}.attributes[{index}].name");
                if attribute.name.is_empty() {
                    report.error("DR-LB-002", path.as_str(), "an attribute needs a name");
                }
                if !names.insert(&attribute.name) {
                    report.error("DR-LB-003", path, format!("two attributes are called `{}`", attribute.name));
                }
            }
        }
        if hash.minimum_ring_size != 0 {
            let path = format!("{path}.minimumRingSize");
            report.warn("DR-LB-004", path.as_str(), "minimumRingSize is deprecated; use ringHash.minimumRingSize");
            if hash.ring_hash.is_some() || hash.maglev.is_some() {
                report.error("DR-LB-005", path, "minimumRingSize cannot stand with ringHash or maglev");
            }
        }
        if let Some(maglev) = &hash.maglev {
            let path = format!("{path}.maglev.tableSize");
            let size = maglev.table_size;
            if size == 0 {
                report.error(
                    "DR-LB-006",
                    path.as_str(),
                    "the table's size is 0; leave maglev.tableSize at a prime such as 65537",
                );
            }
            if size >= 5_000_011 {
                report.error("DR-LB-007", path.as_str(), format!("{size} is not below 5000011"));
            } else if !is_prime(size) {
                report.error("DR-LB-008", path, format!("{size} is not a prime"));
            }
        }
    }
    if settings.locality_lb_setting.is_some() && settings.zone_aware_lb_setting.is_some() {
        report.error("DR-LB-009", path, "localityLbSetting and zoneAwareLbSetting cannot stand together");
    }
    if let Some(warmup) = &settings.warmup {
        let path = format!("{path}.warmup");
        match warmup.duration {
            None => report.error("DR-LB-010", format!("{path}.duration"), "a warm-up needs a duration"),
            some => duration(report, "DR-LB-010", format!("{path}.duration"), some),
        }
        if warmup.minimum_percent.is_some_and(|percent| percent > 100.0) {
            report.error("DR-LB-011", format!("{path}.minimumPercent"), "the least share is over 100 %");
        }
        if warmup.aggression.is_some_and(|aggression| aggression <= 0.0) {
            report.error("DR-LB-013", format!("{path}.aggression"), "aggression is above 0");
        }
    }
    if let Some(locality) = &settings.locality_lb_setting {
        places(locality, has_outlier, &format!("{path}.localityLbSetting"), report);
    }
    if let Some(zone) = &settings.zone_aware_lb_setting {
        zone_aware(zone, has_outlier, &format!("{path}.zoneAwareLbSetting"), report);
    }
}

const PLACE_LABELS: [&str; 3] =
    ["topology.kubernetes.io/region", "topology.kubernetes.io/zone", "topology.istio.io/subzone"];

/// DR-LOC-001 to DR-LOC-010.
fn places(setting: &LocalityLoadBalancerSetting, has_outlier: bool, path: &str, report: &mut Report) {
    if !setting.distribute.is_empty() && !setting.failover.is_empty() {
        report.error("DR-LOC-001", path, "distribute and failover cannot stand together");
        return;
    }
    let clash = setting.failover_priority.iter().position(|label| PLACE_LABELS.contains(&label.as_str()));
    if let (false, Some(index)) = (setting.failover.is_empty(), clash) {
        let message =
            format!("`{}` cannot stand with failover, which speaks of places too", setting.failover_priority[index]);
        report.error("DR-LOC-002", format!("{path}.failoverPriority[{index}]"), message);
        return;
    }
    for (index, entry) in setting.distribute.iter().enumerate() {
        let path = format!("{path}.distribute[{index}].to");
        if let Some((to, weight)) = entry.to.iter().find(|(_, weight)| **weight == 0 || **weight > 100) {
            report.error("DR-LOC-003", format!("{path}[{to}]"), format!("{weight} is not a share: 1 to 100"));
            return;
        }
        let sum: u64 = entry.to.values().map(|weight| u64::from(*weight)).sum();
        if sum != 100 {
            report.error("DR-LOC-004", path, format!("the shares are {sum} together, not 100"));
            return;
        }
        note(report, "DR-LOC-005", path, locality_list(entry.to.keys().map(String::as_str)));
    }
    let from = setting.distribute.iter().map(|entry| entry.from.as_str());
    note(report, "DR-LOC-006", format!("{path}.distribute"), locality_list(from));
    needs_outlier(
        "DR-LOC-007",
        setting.failover.is_empty() && setting.failover_priority.is_empty(),
        has_outlier,
        path,
        report,
    );
    failover(["DR-LOC-008", "DR-LOC-009", "DR-LOC-010"], &setting.failover, path, report);
}

fn needs_outlier(code: &'static str, nothing: bool, has_outlier: bool, path: &str, report: &mut Report) {
    if !nothing && !has_outlier {
        let message = "without outlierDetection beside it nothing is known to fail: failover does nothing";
        report.warn(code, path, message);
    }
}

fn failover(codes: [&'static str; 3], entries: &[LocalityFailover], path: &str, report: &mut Report) {
    let [same, slash, star] = codes;
    for (index, entry) in entries.iter().enumerate() {
        let path = format!("{path}.failover[{index}]");
        if entry.from == entry.to {
            report.error(same, path.as_str(), format!("`{}` fails over to itself", entry.from));
        }
        if entry.from.contains('/') || entry.to.contains('/') {
            report.error(slash, path.as_str(), "failover is between regions: no `/`");
        }
        if entry.from.contains('*') || entry.to.contains('*') {
            report.error(star, path, "failover is between regions by name: no `*`");
        }
    }
}

/// DR-ZA-001 to DR-ZA-005.
fn zone_aware(setting: &ZoneAwareLoadBalancerSetting, has_outlier: bool, path: &str, report: &mut Report) {
    for (index, label) in setting.failover_priority.iter().enumerate() {
        if PLACE_LABELS.contains(&label.as_str()) {
            let message = format!("`{label}` is what zones are about already");
            report.error("DR-ZA-001", format!("{path}.failoverPriority[{index}]"), message);
        }
    }
    needs_outlier(
        "DR-ZA-002",
        setting.failover.is_empty() && setting.failover_priority.is_empty(),
        has_outlier,
        path,
        report,
    );
    failover(["DR-ZA-003", "DR-ZA-004", "DR-ZA-005"], &setting.failover, path, report);
}

/// Places that do not overlap, in the order in which they stand.
fn locality_list<'a>(places: impl Iterator<Item = &'a str>) -> Verdict {
    type Zones<'a> = BTreeMap<&'a str, BTreeSet<&'a str>>;
    let mut known: BTreeMap<&str, Zones<'_>> = BTreeMap::new();
    for place in places {
        let stars = place.matches('*').count();
        if stars > 1 || (stars == 1 && !place.ends_with('*')) {
            return Err(format!("`{place}` has a `*` that is not its last part"));
        }
        if known.contains_key("*") {
            return Err(format!("`{place}` comes after `*`, which is every place"));
        }
        let parts: Vec<&str> = place.splitn(3, '/').collect();
        if parts.iter().any(|part| part.is_empty()) {
            return Err(format!("`{place}` has an empty part"));
        }
        let overlap = || Err(format!("`{place}` overlaps with a place before it"));
        let region = known.get(parts[0]);
        match parts.as_slice() {
            [region_name] => {
                if region.is_some() {
                    return overlap();
                }
                known.insert(region_name, BTreeMap::from([("*", BTreeSet::from(["*"]))]));
            }
            [region_name, zone] => {
                if region.is_some_and(|zones| zones.contains_key("*") || zones.contains_key(zone)) {
                    return overlap();
                }
                known.entry(region_name).or_default().insert(zone, BTreeSet::from(["*"]));
            }
            [region_name, zone, subzone] => {
                if region.is_some_and(|zones| {
                    zones.contains_key("*")
                        || zones.get(zone).is_some_and(|subzones| subzones.contains("*") || subzones.contains(subzone))
                }) {
                    return overlap();
                }
                known.entry(region_name).or_default().entry(zone).or_default().insert(subzone);
            }
            _ => {}
        }
    }
    Ok(())
}

/// DR-TLS-001 to DR-TLS-007.
fn tls(settings: &ClientTlsSettings, namespace: &str, path: &str, report: &mut Report) {
    let credential = settings.credential_name.as_str();
    if let Some(reference) = credential.strip_prefix("configmap://") {
        let path = format!("{path}.credentialName");
        let mut parts = reference.split('/');
        match (parts.next(), parts.next()) {
            (Some(own), Some(name)) if !own.is_empty() && !name.is_empty() => {
                if namespace.is_empty() || own != namespace {
                    report.error("DR-TLS-002", path, format!("`{own}` is not the rule's own namespace"));
                }
            }
            _ => report.error("DR-TLS-001", path, "a reference is `configmap://namespace/name`"),
        }
    }
    let simple = settings.mode == ClientTlsMode::Simple;
    let mutual = settings.mode == ClientTlsMode::Mutual;
    let ca = !settings.ca_certificates.is_empty();
    let names = !settings.subject_alt_names.is_empty();
    if settings.insecure_skip_verify == Some(true) {
        let path = format!("{path}.insecureSkipVerify");
        let message = "nothing is verified, so there is nothing to verify with: drop one of the two";
        if simple && (ca || names || !credential.is_empty()) {
            report.error("DR-TLS-003", path, message);
        } else if mutual && (ca || names) {
            report.error("DR-TLS-004", path, message);
        }
    }
    if !(simple || mutual) {
        return;
    }
    if !credential.is_empty() {
        let files = [&settings.client_certificate, &settings.private_key, &settings.ca_certificates, &settings.ca_crl];
        if files.iter().any(|file| !file.is_empty()) {
            let message = "credentialName and files cannot stand together";
            report.error("DR-TLS-005", format!("{path}.credentialName"), message);
        }
    } else if mutual {
        if settings.client_certificate.is_empty() {
            report.error("DR-TLS-006", format!("{path}.clientCertificate"), "MUTUAL needs a client certificate");
        }
        if settings.private_key.is_empty() {
            report.error("DR-TLS-007", format!("{path}.privateKey"), "MUTUAL needs a private key");
        }
    }
}
