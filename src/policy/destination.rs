//! What is known of a destination: Istio's cluster, one (service, port, subset).

use crate::mesh::{Labels, Locality};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// Where a destination stands in its [`Policy`](super::Policy). Means nothing in another policy; names do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DestinationId(pub(crate) u32);

/// A destination's identity, printed as Istio names clusters: `outbound|9080|v1|reviews.default.svc.cluster.local`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub struct ClusterName {
    /// The service port.
    pub port: u16,
    /// The subset; empty for the whole service.
    pub subset: Arc<str>,
    /// The service's host.
    pub host: Arc<str>,
}

impl ClusterName {
    /// The name of (host, port, subset).
    pub fn new(host: impl Into<Arc<str>>, port: u16, subset: impl Into<Arc<str>>) -> Self {
        ClusterName { port, subset: subset.into(), host: host.into() }
    }
}

impl fmt::Display for ClusterName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "outbound|{}|{}|{}", self.port, self.subset, self.host)
    }
}

/// One destination with the settings that its `DestinationRule` gives it.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Destination {
    /// Who it is.
    pub cluster: ClusterName,
    /// `cluster`, printed.
    pub name: Arc<str>,
    /// The `DestinationRule` that holds, `namespace/name`.
    pub rule: Option<Arc<str>>,
    /// Who answers, localities together, in Istio's order.
    pub endpoints: Vec<DestinationEndpoint>,
    /// The places that endpoints are grouped by.
    pub groups: Vec<LocalityGroup>,
    /// Is a place picked by weight before an endpoint is?
    pub locality_weighted: bool,
    /// How an endpoint is picked.
    pub balancer: Balancer,
    /// How a new endpoint's share grows.
    pub warmup: Option<Warmup>,
    /// When an endpoint is left out for a while. None: never.
    pub outlier: Option<OutlierSettings>,
    /// Below this share of healthy endpoints, in percent, all of them are used. 0: never.
    pub panic_threshold: u32,
    /// How much may be under way.
    pub limits: Limits,
    /// What the embedder's connections are to keep to.
    pub connection: ConnectionSettings,
    /// How the upstream is spoken to; none if no rule says.
    pub tls: Option<TlsIntent>,
    /// Tunnelling of TCP and TLS routes.
    pub tunnel: Option<Tunnel>,
    /// A PROXY header of this version goes first.
    pub proxy_protocol: Option<u8>,
}

/// One endpoint of a destination.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct DestinationEndpoint {
    /// `address:port` (IPv6 in brackets): its identity, and what consistent hashing hashes.
    pub key: Arc<str>,
    /// The address.
    pub address: Arc<str>,
    /// The port.
    pub port: u16,
    /// Its labels.
    pub labels: Labels,
    /// Its share among its peers, at least 1.
    pub weight: u32,
    /// Does the platform call it ready?
    pub ready: bool,
    /// Its place in [`Destination::groups`].
    pub group: usize,
}

/// The endpoints of one place and one priority.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct LocalityGroup {
    /// Where.
    pub locality: Locality,
    /// 0 is asked first.
    pub priority: u32,
    /// Its share among the places of its priority.
    pub weight: u64,
}

/// How an endpoint is picked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Balancer {
    /// Each in turn.
    RoundRobin,
    /// The less busy of two. Istio's default.
    #[default]
    LeastRequest,
    /// Any.
    Random,
    /// Wherever the caller wanted to go.
    Passthrough,
    /// By a hash ring.
    RingHash {
        /// At least so many entries.
        minimum_size: u64,
    },
    /// By a Maglev table.
    Maglev {
        /// So many entries.
        table_size: u64,
    },
}

impl Balancer {
    /// Is an endpoint picked by the request's hash?
    pub fn is_hashing(self) -> bool {
        matches!(self, Balancer::RingHash { .. } | Balancer::Maglev { .. })
    }
}

/// How a new endpoint's share grows.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub struct Warmup {
    /// For so long.
    pub window: Duration,
    /// The share grows as time to the power of `1 / aggression`.
    pub aggression: f64,
    /// The least share, in percent.
    pub minimum_percent: f64,
}

/// When an endpoint is left out for a while.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct OutlierSettings {
    /// So many 5xx in a row eject. None: they do not.
    pub consecutive_5xx: Option<u32>,
    /// So many 502, 503 or 504 in a row eject.
    pub consecutive_gateway_errors: Option<u32>,
    /// So many failures to connect, resets or timeouts in a row eject, if they are counted apart.
    pub consecutive_local_origin_failures: Option<u32>,
    /// Are failures that no upstream answered counted apart?
    pub split_local_origin: bool,
    /// How often ejections are reviewed.
    pub interval: Duration,
    /// The first ejection's time; later ones last a multiple of it.
    pub base_ejection_time: Duration,
    /// No ejection lasts longer.
    pub max_ejection_time: Duration,
    /// Not more endpoints than these are out at once, in percent.
    pub max_ejection_percent: u32,
    /// Statuses that count as errors. Empty: 5xx.
    pub error_codes: Vec<u16>,
}

/// How much may be under way. None: no limit.
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct Limits {
    /// Connections.
    pub max_connections: Option<u32>,
    /// Requests that wait for a connection.
    pub max_pending_requests: Option<u32>,
    /// Requests under way.
    pub max_requests: Option<u32>,
    /// Retries under way. Does not count where there is a budget.
    pub max_retries: Option<u32>,
    /// Retries under way as a share of requests.
    pub retry_budget: Option<RetryBudget>,
}

/// Retries under way as a share of requests.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub struct RetryBudget {
    /// The share, in percent.
    pub percent: f64,
    /// So many are always allowed.
    pub min_concurrency: u32,
    /// Requests that began within this time count too. Zero: only those under way.
    pub interval: Duration,
}

/// What the embedder's connections are to keep to.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct ConnectionSettings {
    /// Until connected.
    pub connect_timeout: Duration,
    /// A connection without requests is closed after this. None: never.
    pub idle_timeout: Option<Duration>,
    /// A connection is closed after this. None: never.
    pub max_duration: Option<Duration>,
    /// Requests on one connection. None: no limit.
    pub max_requests: Option<u32>,
    /// Streams at once on one HTTP/2 connection.
    pub max_concurrent_streams: Option<u32>,
    /// HTTP/2 pings: interval and timeout.
    pub http2_keepalive: Option<(Duration, Duration)>,
    /// TCP keepalive: time, interval, probes; an empty part is the system's default.
    pub tcp_keepalive: Option<(Option<Duration>, Option<Duration>, Option<u32>)>,
    /// What is spoken.
    pub protocol: UpstreamProtocol,
}

/// What is spoken to an upstream.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum UpstreamProtocol {
    /// HTTP/1.1.
    #[default]
    Http1,
    /// HTTP/2.
    Http2,
    /// What the client spoke.
    Client,
}

/// How an upstream is to be spoken to over TLS.
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct TlsIntent {
    /// `DISABLE`, `SIMPLE`, `MUTUAL` or `ISTIO_MUTUAL`.
    pub mode: TlsMode,
    /// The server name. None: the request's authority.
    pub sni: Option<Arc<str>>,
    /// Names of which the upstream's certificate must have one. Empty: see `verify_authority`.
    pub subject_alt_names: Vec<String>,
    /// Must the certificate be for the request's authority?
    pub verify_authority: bool,
    /// Is nothing verified?
    pub insecure_skip_verify: bool,
    /// Our certificate's file.
    pub client_certificate: Option<String>,
    /// Our key's file.
    pub private_key: Option<String>,
    /// The authorities' file. None: the system's.
    pub ca_certificates: Option<String>,
    /// The revocation list's file.
    pub ca_crl: Option<String>,
    /// A secret that holds all of these.
    pub credential_name: Option<String>,
}

/// How TLS is spoken.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum TlsMode {
    /// Not at all.
    #[default]
    Disable,
    /// The upstream shows a certificate.
    Simple,
    /// Both do.
    Mutual,
    /// Both do, with the mesh's own certificates.
    IstioMutual,
}

/// Tunnelling of TCP and TLS routes through the destination.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Tunnel {
    /// `CONNECT` or `POST`.
    pub protocol: String,
    /// Where the tunnel ends.
    pub target_host: String,
    /// The port there.
    pub target_port: u16,
}
