//! `TrafficPolicy`: how clients talk to a service. One type for the rule's, a subset's and a port's, with what only one
//! of them can have said at the field.

use std::collections::BTreeMap;

use super::decode::{Decoder, message, names};
use super::{Duration, Map, PortSelector};

message! {
    /// How clients talk to a service, a subset of it, or a port of it.
    pub struct TrafficPolicy {
        /// Limits on connections and requests.
        pub connection_pool: Option<ConnectionPoolSettings> = "connectionPool",
        /// How an endpoint is picked.
        pub load_balancer: Option<LoadBalancerSettings> = "loadBalancer",
        /// When an endpoint is left out for a while.
        pub outlier_detection: Option<OutlierDetection> = "outlierDetection",
        /// The port this is for: only in an item of `port_level_settings`.
        pub port: Option<PortSelector> = "port",
        /// Policies of single ports, which replace this one there; not in an item of its own.
        pub port_level_settings: Vec<TrafficPolicy> = "portLevelSettings",
        /// PROXY protocol towards the upstream; not for a port.
        pub proxy_protocol: Option<ProxyProtocol> = "proxyProtocol",
        /// A limit on concurrent retries; not for a port.
        pub retry_budget: Option<RetryBudget> = "retryBudget",
        /// TLS towards the upstream.
        pub tls: Option<ClientTlsSettings> = "tls",
        /// Tunnelling through a proxy; not for a port.
        pub tunnel: Option<TunnelSettings> = "tunnel",
    }
    misplaced misplaced;
}

/// The API has a message of its own for a port's policy. What only the other of the two has is an unknown field.
fn misplaced(map: &Map, decoder: &mut Decoder) -> Option<Map> {
    const NOT_FOR_A_PORT: [&str; 7] = [
        "portLevelSettings",
        "port_level_settings",
        "proxyProtocol",
        "proxy_protocol",
        "retryBudget",
        "retry_budget",
        "tunnel",
    ];
    let of_port = decoder.in_item_of("portLevelSettings") || decoder.in_item_of("port_level_settings");
    let foreign: &[&str] = if of_port { &NOT_FOR_A_PORT } else { &["port"] };
    if !map.iter().any(|entry| foreign.contains(&entry.key.as_str())) {
        return None;
    }
    let mut narrowed = Map::new();
    for entry in map {
        if foreign.contains(&entry.key.as_str()) {
            decoder.unknown_key(entry, &[]);
        } else {
            narrowed.push_entry(entry.clone());
        }
    }
    Some(narrowed)
}

message! {
    /// Limits on connections and requests.
    pub struct ConnectionPoolSettings {
        /// For HTTP.
        pub http: Option<HttpSettings> = "http",
        /// For every connection.
        pub tcp: Option<TcpSettings> = "tcp",
    }
}

message! {
    /// Limits and settings for HTTP upstreams.
    pub struct HttpSettings {
        /// Whether HTTP/1.1 connections are upgraded to HTTP/2.
        pub h2_upgrade_policy: H2UpgradePolicy = "h2UpgradePolicy",
        /// The most requests that wait for a connection; 0 is the default.
        pub http1_max_pending_requests: i32 = "http1MaxPendingRequests",
        /// Keep-alive pings on HTTP/2 connections.
        pub http2_keep_alive: Option<Http2KeepAlive> = "http2KeepAlive",
        /// The most requests in flight; 0 is the default.
        pub http2_max_requests: i32 = "http2MaxRequests",
        /// How long a connection without requests stays.
        pub idle_timeout: Option<Duration> = "idleTimeout",
        /// The most streams on one HTTP/2 connection; 0 is the default.
        pub max_concurrent_streams: i32 = "maxConcurrentStreams",
        /// The most requests on one connection; 0 is no limit.
        pub max_requests_per_connection: i32 = "maxRequestsPerConnection",
        /// The most retries in flight; 0 is the default.
        pub max_retries: i32 = "maxRetries",
        /// Whether the upstream is spoken to in the client's protocol.
        pub use_client_protocol: bool = "useClientProtocol",
    }
}

names! {
    /// Whether HTTP/1.1 connections are upgraded to HTTP/2.
    pub enum H2UpgradePolicy {
        /// As the mesh says.
        #[default]
        Default = "DEFAULT",
        /// No.
        DoNotUpgrade = "DO_NOT_UPGRADE",
        /// Yes.
        Upgrade = "UPGRADE",
    }
}

message! {
    /// Keep-alive pings on HTTP/2 connections.
    pub struct Http2KeepAlive {
        /// The time between pings.
        pub interval: Option<Duration> = "interval",
        /// How long an answer may take.
        pub timeout: Option<Duration> = "timeout",
    }
}

message! {
    /// Limits and settings for every upstream connection.
    pub struct TcpSettings {
        /// How long connecting may take.
        pub connect_timeout: Option<Duration> = "connectTimeout",
        /// How long a connection without traffic stays.
        pub idle_timeout: Option<Duration> = "idleTimeout",
        /// How long a connection lives at most.
        pub max_connection_duration: Option<Duration> = "maxConnectionDuration",
        /// The most connections; 0 is the default.
        pub max_connections: i32 = "maxConnections",
        /// Keep-alive probes.
        pub tcp_keepalive: Option<TcpKeepalive> = "tcpKeepalive",
    }
}

message! {
    /// TCP keep-alive probes.
    pub struct TcpKeepalive {
        /// The time between probes.
        pub interval: Option<Duration> = "interval",
        /// How many may stay unanswered; 0 is the system's default.
        pub probes: u32 = "probes",
        /// How long a connection is idle before the first.
        pub time: Option<Duration> = "time",
    }
}

message! {
    /// How an endpoint is picked.
    pub struct LoadBalancerSettings {
        /// By what the endpoints report of their load.
        pub backend_utilization: Option<BackendUtilization> = "backendUtilization",
        /// By a hash, so that the same key goes to the same endpoint.
        pub consistent_hash: Option<ConsistentHashLb> = "consistentHash",
        /// Which localities are preferred; overrides the mesh's setting.
        pub locality_lb_setting: Option<LocalityLoadBalancerSetting> = "localityLbSetting",
        /// By an algorithm without settings.
        pub simple: Option<SimpleLb> = "simple",
        /// How a new endpoint's share grows.
        pub warmup: Option<WarmupConfiguration> = "warmup",
        /// How long a new endpoint's share grows (deprecated).
        pub warmup_duration_secs: Option<Duration> = "warmupDurationSecs",
        /// Zone-aware routing.
        pub zone_aware_lb_setting: Option<ZoneAwareLoadBalancerSetting> = "zoneAwareLbSetting",
    }
    oneof { simple, consistent_hash, backend_utilization }
}

names! {
    /// A load-balancing algorithm without settings.
    pub enum SimpleLb {
        /// Istio chooses: least request.
        #[default]
        Unspecified = "UNSPECIFIED",
        /// As `LeastRequest` (deprecated).
        LeastConn = "LEAST_CONN",
        /// Any, by chance.
        Random = "RANDOM",
        /// The address that the client asked for.
        Passthrough = "PASSTHROUGH",
        /// In turn.
        RoundRobin = "ROUND_ROBIN",
        /// The one with fewer requests in flight, of two by chance.
        LeastRequest = "LEAST_REQUEST",
    }
}

message! {
    /// Picking by what the endpoints report of their load.
    pub struct BackendUtilization {
        /// How much an endpoint's errors count against it.
        pub error_utilization_penalty_percent: u32 = "errorUtilizationPenaltyPercent",
        /// The metrics that make up the load.
        pub metric_names_for_computing_utilization: Vec<String> = "metricNamesForComputingUtilization",
        /// How long a report counts.
        pub weight_expiration_period: Option<Duration> = "weightExpirationPeriod",
        /// How long reports must come before they count.
        pub weight_stabilization_period: Option<Duration> = "weightStabilizationPeriod",
        /// The time between two reckonings.
        pub weight_update_period: Option<Duration> = "weightUpdatePeriod",
    }
}

message! {
    /// Picking by a hash.
    pub struct ConsistentHashLb {
        /// Of a cookie, which is made where it is missing and has a lifetime.
        pub http_cookie: Option<HttpCookie> = "httpCookie",
        /// Of a header.
        pub http_header_name: Option<String> = "httpHeaderName",
        /// Of a query parameter.
        pub http_query_parameter_name: Option<String> = "httpQueryParameterName",
        /// With Maglev's table.
        pub maglev: Option<Maglev> = "maglev",
        /// The least size of the ring (deprecated).
        pub minimum_ring_size: u64 = "minimumRingSize",
        /// With a ring.
        pub ring_hash: Option<RingHash> = "ringHash",
        /// Of the client's address.
        pub use_source_ip: Option<bool> = "useSourceIp",
    }
    oneof { http_header_name, http_cookie, use_source_ip, http_query_parameter_name }
    oneof { ring_hash, maglev }
}

message! {
    /// A cookie to hash.
    pub struct HttpCookie {
        /// Attributes of a cookie that is made.
        pub attributes: Vec<CookieAttribute> = "attributes",
        /// The name.
        pub name: String = required "name",
        /// The path of a cookie that is made.
        pub path: String = "path",
        /// The lifetime of a cookie that is made; absent, and none is made.
        pub ttl: Option<Duration> = "ttl",
    }
}

message! {
    /// An attribute of a cookie.
    pub struct CookieAttribute {
        /// The name.
        pub name: String = required "name",
        /// The value; may be empty.
        pub value: String = "value",
    }
}

message! {
    /// Maglev's table.
    pub struct Maglev {
        /// Its size, a prime; 0 is the default.
        pub table_size: u64 = "tableSize",
    }
}

message! {
    /// A hash ring.
    pub struct RingHash {
        /// Its least size; 0 is the default.
        pub minimum_ring_size: u64 = "minimumRingSize",
    }
}

message! {
    /// How a new endpoint's share grows.
    pub struct WarmupConfiguration {
        /// The shape of the growth; 1 is linear.
        pub aggression: Option<f64> = "aggression",
        /// How long it grows.
        pub duration: Option<Duration> = "duration",
        /// The share it begins with, in per cent.
        pub minimum_percent: Option<f64> = "minimumPercent",
    }
}

message! {
    /// Which localities are preferred.
    pub struct LocalityLoadBalancerSetting {
        /// Shares of localities, by the client's.
        pub distribute: Vec<LocalityDistribute> = "distribute",
        /// Whether it is on; absent is as the mesh says.
        pub enabled: Option<bool> = "enabled",
        /// The region to go to next, by the client's.
        pub failover: Vec<LocalityFailover> = "failover",
        /// The labels whose agreement orders the endpoints.
        pub failover_priority: Vec<String> = "failoverPriority",
    }
}

message! {
    /// Shares of localities for the clients in one.
    pub struct LocalityDistribute {
        /// The client's locality: `region/zone/subzone`, with wildcards.
        pub from: String = "from",
        /// Shares in per cent, by locality.
        pub to: BTreeMap<String, u32> = "to",
    }
}

message! {
    /// The region to go to next.
    pub struct LocalityFailover {
        /// From this one.
        pub from: String = "from",
        /// To this one.
        pub to: String = "to",
    }
}

message! {
    /// Zone-aware routing.
    pub struct ZoneAwareLoadBalancerSetting {
        /// Whether it is on.
        pub enabled: Option<bool> = "enabled",
        /// The region to go to next, by the client's.
        pub failover: Vec<LocalityFailover> = "failover",
        /// The labels whose agreement orders the endpoints.
        pub failover_priority: Vec<String> = "failoverPriority",
        /// The fewest endpoints for which it is done.
        pub min_cluster_size: Option<u32> = "minClusterSize",
    }
}

message! {
    /// When an endpoint is left out for a while.
    pub struct OutlierDetection {
        /// How long, times how often it was left out.
        pub base_ejection_time: Option<Duration> = "baseEjectionTime",
        /// After so many server errors in a row; 0 turns it off.
        pub consecutive_5xx_errors: Option<u32> = "consecutive5xxErrors",
        /// After so many errors in a row (deprecated, and without effect).
        pub consecutive_errors: i32 = "consecutiveErrors",
        /// After so many gateway errors in a row; 0 turns it off.
        pub consecutive_gateway_errors: Option<u32> = "consecutiveGatewayErrors",
        /// After so many failures of our own side in a row; 0 turns it off.
        pub consecutive_local_origin_failures: Option<u32> = "consecutiveLocalOriginFailures",
        /// The time between two sweeps.
        pub interval: Option<Duration> = "interval",
        /// The most endpoints to leave out, in per cent; 0 is the default.
        pub max_ejection_percent: i32 = "maxEjectionPercent",
        /// Below this share of healthy endpoints, in per cent, all are used.
        pub min_health_percent: i32 = "minHealthPercent",
        /// The statuses that count as errors.
        pub outlier_detection_http_error_codes: Vec<u32> = "outlierDetectionHttpErrorCodes",
        /// Whether failures of our own side are counted apart.
        pub split_external_local_origin_errors: bool = "splitExternalLocalOriginErrors",
    }
}

message! {
    /// TLS towards the upstream.
    pub struct ClientTlsSettings {
        /// The file with the authorities to trust.
        pub ca_certificates: String = "caCertificates",
        /// The file with the revoked certificates.
        pub ca_crl: String = "caCrl",
        /// The file with the client's certificate.
        pub client_certificate: String = "clientCertificate",
        /// The secret with all of them.
        pub credential_name: String = "credentialName",
        /// Whether the upstream's certificate goes unchecked.
        pub insecure_skip_verify: Option<bool> = "insecureSkipVerify",
        /// The mode.
        pub mode: ClientTlsMode = required "mode",
        /// The file with the client's key.
        pub private_key: String = "privateKey",
        /// The server name to ask for.
        pub sni: String = "sni",
        /// The names that the upstream's certificate must have one of.
        pub subject_alt_names: Vec<String> = "subjectAltNames",
    }
}

names! {
    /// How TLS is spoken to the upstream.
    pub enum ClientTlsMode {
        /// Not at all.
        #[default]
        Disable = "DISABLE",
        /// With the server's certificate only.
        Simple = "SIMPLE",
        /// With certificates on both sides.
        Mutual = "MUTUAL",
        /// With certificates on both sides, made by the mesh.
        IstioMutual = "ISTIO_MUTUAL",
    }
}

message! {
    /// PROXY protocol towards the upstream.
    pub struct ProxyProtocol {
        /// The version.
        pub version: ProxyProtocolVersion = required "version",
    }
}

names! {
    /// A version of the PROXY protocol.
    pub enum ProxyProtocolVersion {
        /// The text form.
        #[default]
        V1 = "V1",
        /// The binary form.
        V2 = "V2",
    }
}

message! {
    /// A limit on concurrent retries.
    pub struct RetryBudget {
        /// Over how long requests are counted.
        pub budget_interval: Option<Duration> = "budgetInterval",
        /// How many are always allowed.
        pub min_retry_concurrency: u32 = "minRetryConcurrency",
        /// The share of requests that may be retries, in per cent.
        pub percent: Option<f64> = "percent",
    }
}

message! {
    /// Tunnelling through a proxy.
    pub struct TunnelSettings {
        /// `CONNECT` (also where empty) or `POST`.
        pub protocol: String = "protocol",
        /// The host to reach.
        pub target_host: String = required "targetHost",
        /// The port to reach.
        pub target_port: u32 = required "targetPort",
    }
}
