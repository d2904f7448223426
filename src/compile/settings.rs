//! From resolved blocks to a destination's settings: Istio's defaults, and what it makes of each field.

use super::blocks::Blocks;
use super::locality::{self, Placed};
use crate::mesh::{Endpoint, Health, Labels, Protocol, Service, ServicePort, Viewpoint};
use crate::policy::{
    Balancer, ClusterName, ConnectionSettings, Destination, Limits, OutlierSettings, RetryBudget, TlsIntent, TlsMode,
    Tunnel, UpstreamProtocol, Warmup,
};
use crate::resource::{self, ClientTlsMode, H2UpgradePolicy, LoadBalancerSettings, ProxyProtocolVersion, SimpleLb};
use std::sync::Arc;
use std::time::Duration;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
const IDLE_TIMEOUT: Duration = Duration::from_secs(3600);
const MAX_EJECTION_TIME: Duration = Duration::from_secs(300);

pub(super) fn destination(
    cluster: ClusterName,
    rule: Option<Arc<str>>,
    service: &Service,
    port: &ServicePort,
    subset: Option<&Labels>,
    blocks: &Blocks,
    viewpoint: &Viewpoint,
) -> Destination {
    let balancing = blocks.load_balancer.as_ref();
    let outlier = blocks.outlier_detection.as_ref();
    let panic_threshold = outlier.map_or(0, |outlier| u32::try_from(outlier.min_health_percent).unwrap_or(0));
    let balancer = balancer(balancing);
    let placed: Vec<Placed> = service
        .endpoints
        .iter()
        .filter(|endpoint| endpoint.health != Health::Terminating)
        // With a panic threshold, endpoints that are not ready are left out altogether.
        .filter(|endpoint| endpoint.health == Health::Ready || panic_threshold == 0)
        .filter_map(|endpoint| place(endpoint, port))
        .filter(|endpoint| {
            subset.is_none_or(|labels| labels.iter().all(|(key, value)| endpoint.labels.get(key) == Some(value)))
        })
        .collect();
    let arranged = locality::arrange(placed, balancing, outlier.is_some(), viewpoint);
    Destination {
        name: cluster.to_string().into(),
        tls: blocks.tls.as_ref().map(|settings| tls(settings, &cluster)),
        cluster,
        rule,
        endpoints: arranged.endpoints,
        groups: arranged.groups,
        locality_weighted: arranged.weighted,
        balancer,
        warmup: warmup(balancing).filter(|_| matches!(balancer, Balancer::RoundRobin | Balancer::LeastRequest)),
        outlier: outlier.map(outlier_settings),
        panic_threshold,
        limits: limits(blocks),
        connection: connection(blocks.connection_pool.as_ref(), port.protocol),
        tunnel: blocks.tunnel.as_ref().map(|tunnel| Tunnel {
            protocol: if tunnel.protocol.is_empty() { "CONNECT".into() } else { tunnel.protocol.clone() },
            target_host: tunnel.target_host.clone(),
            target_port: u16::try_from(tunnel.target_port).unwrap_or(0),
        }),
        proxy_protocol: blocks.proxy_protocol.as_ref().map(|proxy| match proxy.version {
            ProxyProtocolVersion::V2 => 2,
            _ => 1,
        }),
    }
}

/// The endpoint as this port reaches it, with the labels of its place. None if it does not serve the port.
fn place(endpoint: &Endpoint, port: &ServicePort) -> Option<Placed> {
    let number = if endpoint.ports.is_empty() { endpoint.port } else { endpoint.ports.get(&port.name).copied()? };
    let mut labels = endpoint.labels.clone();
    locality::augment(&mut labels, &endpoint.locality);
    Some(Placed {
        address: endpoint.address.as_str().into(),
        port: number,
        labels,
        weight: endpoint.weight.max(1),
        ready: endpoint.health == Health::Ready,
        locality: endpoint.locality.clone(),
    })
}

fn balancer(settings: Option<&LoadBalancerSettings>) -> Balancer {
    let Some(settings) = settings else { return Balancer::default() };
    if let Some(hash) = &settings.consistent_hash {
        let or = |size: u64, default: u64| if size == 0 { default } else { size };
        return match (&hash.maglev, &hash.ring_hash) {
            (Some(maglev), _) => Balancer::Maglev { table_size: or(maglev.table_size, 65_537) },
            (None, Some(ring)) => Balancer::RingHash { minimum_size: or(ring.minimum_ring_size, 1_024) },
            (None, None) => Balancer::RingHash { minimum_size: or(hash.minimum_ring_size, 1_024) },
        };
    }
    match settings.simple {
        Some(SimpleLb::RoundRobin) => Balancer::RoundRobin,
        Some(SimpleLb::Random) => Balancer::Random,
        Some(SimpleLb::Passthrough) => Balancer::Passthrough,
        _ => Balancer::LeastRequest,
    }
}

fn warmup(settings: Option<&LoadBalancerSettings>) -> Option<Warmup> {
    let settings = settings?;
    let (duration, aggression, minimum) = match &settings.warmup {
        Some(warmup) => (warmup.duration, warmup.aggression, warmup.minimum_percent),
        None => (settings.warmup_duration_secs, None, None),
    };
    let window = duration?.to_std().filter(|window| !window.is_zero())?;
    let aggression = aggression.filter(|value| value.is_finite() && *value > 0.0).unwrap_or(1.0);
    Some(Warmup { window, aggression, minimum_percent: minimum.unwrap_or(10.0) })
}

fn time(duration: Option<resource::Duration>) -> Option<Duration> {
    duration.and_then(|duration| duration.to_std())
}

fn outlier_settings(settings: &resource::OutlierDetection) -> OutlierSettings {
    let nonzero = |value: Option<u32>, default: Option<u32>| match value {
        None => default,
        Some(0) => None,
        Some(value) => Some(value),
    };
    let base = time(settings.base_ejection_time).unwrap_or(Duration::from_secs(30));
    let split = settings.split_external_local_origin_errors;
    OutlierSettings {
        consecutive_5xx: nonzero(settings.consecutive_5xx_errors, Some(5)),
        consecutive_gateway_errors: nonzero(settings.consecutive_gateway_errors, None),
        // An explicit 0 does not switch this one off: Envoy's own 5 stays.
        consecutive_local_origin_failures: split
            .then(|| settings.consecutive_local_origin_failures.filter(|value| *value > 0).unwrap_or(5)),
        split_local_origin: split,
        interval: time(settings.interval).unwrap_or(Duration::from_secs(10)),
        base_ejection_time: base,
        max_ejection_time: base.max(MAX_EJECTION_TIME),
        max_ejection_percent: match u32::try_from(settings.max_ejection_percent) {
            Ok(0) | Err(_) => 10,
            Ok(percent) => percent,
        },
        error_codes: settings
            .outlier_detection_http_error_codes
            .iter()
            .filter_map(|code| u16::try_from(*code).ok())
            .collect(),
    }
}

/// 0 means unset; there is no way to write a limit of zero.
fn limit(value: i32) -> Option<u32> {
    u32::try_from(value).ok().filter(|value| *value > 0)
}

fn limits(blocks: &Blocks) -> Limits {
    let pool = blocks.connection_pool.as_ref();
    let tcp = pool.and_then(|pool| pool.tcp.as_ref());
    let http = pool.and_then(|pool| pool.http.as_ref());
    Limits {
        max_connections: tcp.and_then(|tcp| limit(tcp.max_connections)),
        max_pending_requests: http.and_then(|http| limit(http.http1_max_pending_requests)),
        max_requests: http.and_then(|http| limit(http.http2_max_requests)),
        max_retries: http.and_then(|http| limit(http.max_retries)),
        retry_budget: blocks.retry_budget.as_ref().map(|budget| RetryBudget {
            percent: budget.percent.unwrap_or(20.0),
            min_concurrency: if budget.min_retry_concurrency == 0 { 3 } else { budget.min_retry_concurrency },
            interval: time(budget.budget_interval).unwrap_or_default(),
        }),
    }
}

fn connection(pool: Option<&resource::ConnectionPoolSettings>, protocol: Protocol) -> ConnectionSettings {
    let tcp = pool.and_then(|pool| pool.tcp.as_ref());
    let http = pool.and_then(|pool| pool.http.as_ref());
    let idle = http.and_then(|http| time(http.idle_timeout)).or_else(|| tcp.and_then(|tcp| time(tcp.idle_timeout)));
    let upgrade = http.is_some_and(|http| http.h2_upgrade_policy == H2UpgradePolicy::Upgrade);
    let protocol = if http.is_some_and(|http| http.use_client_protocol) {
        UpstreamProtocol::Client
    } else if protocol.is_http2() || (upgrade && protocol != Protocol::Unspecified) {
        UpstreamProtocol::Http2
    } else {
        UpstreamProtocol::Http1
    };
    let whole_seconds = |duration: Duration| Duration::from_secs(duration.as_secs());
    ConnectionSettings {
        connect_timeout: tcp.and_then(|tcp| time(tcp.connect_timeout)).unwrap_or(CONNECT_TIMEOUT),
        idle_timeout: Some(idle.unwrap_or(IDLE_TIMEOUT)).filter(|idle| !idle.is_zero()),
        max_duration: tcp.and_then(|tcp| time(tcp.max_connection_duration)),
        max_requests: http.and_then(|http| limit(http.max_requests_per_connection)),
        max_concurrent_streams: http
            .and_then(|http| limit(http.max_concurrent_streams))
            .filter(|_| protocol == UpstreamProtocol::Http2),
        http2_keepalive: http
            .and_then(|http| http.http2_keep_alive.as_ref())
            .and_then(|keepalive| Some((time(keepalive.interval)?, time(keepalive.timeout)?)))
            .filter(|_| protocol == UpstreamProtocol::Http2),
        tcp_keepalive: tcp.and_then(|tcp| tcp.tcp_keepalive.as_ref()).map(|keepalive| {
            let probes = Some(keepalive.probes).filter(|probes| *probes > 0);
            (time(keepalive.time).map(whole_seconds), time(keepalive.interval).map(whole_seconds), probes)
        }),
        protocol,
    }
}

fn tls(settings: &resource::ClientTlsSettings, cluster: &ClusterName) -> TlsIntent {
    let text = |text: &String| (!text.is_empty()).then(|| text.clone());
    let mode = match settings.mode {
        ClientTlsMode::Simple => TlsMode::Simple,
        ClientTlsMode::Mutual => TlsMode::Mutual,
        ClientTlsMode::IstioMutual => TlsMode::IstioMutual,
        _ => TlsMode::Disable,
    };
    let istio = mode == TlsMode::IstioMutual;
    let skip = !istio && settings.insecure_skip_verify.unwrap_or(false);
    let own_sni = text(&settings.sni);
    let sni = match own_sni {
        Some(sni) => Some(sni),
        None if istio => Some(format!("outbound_.{}_.{}_.{}", cluster.port, cluster.subset, cluster.host)),
        None => None,
    };
    TlsIntent {
        mode,
        verify_authority: !istio && sni.is_none() && settings.subject_alt_names.is_empty() && !skip,
        sni: sni.map(Arc::from),
        subject_alt_names: if skip { Vec::new() } else { settings.subject_alt_names.clone() },
        insecure_skip_verify: skip,
        client_certificate: text(&settings.client_certificate).filter(|_| !istio),
        private_key: text(&settings.private_key).filter(|_| !istio),
        ca_certificates: text(&settings.ca_certificates).filter(|_| !istio),
        ca_crl: text(&settings.ca_crl).filter(|_| !istio),
        credential_name: text(&settings.credential_name).filter(|_| !istio),
    }
}
