//! What an embedder knows of its mesh: services, their ports and endpoints, and the viewpoint a policy is compiled for.
//!
//! Plain data, in the shape of one file:
//!
//! ```yaml
//! client: {namespace: default, labels: {app: web}, locality: eu/a/1, gateways: [mesh]}
//! services:
//! - host: reviews.default.svc.cluster.local
//!   namespace: default
//!   ports: [{number: 9080, name: http, protocol: HTTP}]
//!   endpoints:
//!   - {address: 10.0.0.1, port: 9080, labels: {version: v1}, locality: eu/a/1}
//! ```
//!
//! [`MeshFile`] reads the whole of it; [`Mesh`] is everything but the client, so that one mesh can be compiled for many
//! [`Viewpoint`]s. Unknown members are ignored, so a file may carry more than this crate reads.

mod locality;

pub use locality::Locality;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Labels of a workload or an endpoint.
pub type Labels = BTreeMap<String, String>;

/// A mesh and the client that looks at it, as one file.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
#[non_exhaustive]
pub struct MeshFile {
    /// The viewpoint that policy is compiled for.
    pub client: Viewpoint,
    /// What that client sees.
    #[serde(flatten)]
    pub mesh: Mesh,
}

/// Services, a gateway's servers, and mesh-wide settings.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
#[non_exhaustive]
pub struct Mesh {
    /// The registry: every service that the client may reach.
    pub services: Vec<Service>,
    /// A gateway's servers. Absent: one HTTP server on port 80 for every host.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gateway_servers: Option<Vec<GatewayServer>>,
    /// The names of every gateway there is, `namespace/name`, for those who judge references. Absent: not known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gateways: Option<Vec<String>>,
    /// Mesh-wide settings, named as in Istio's `MeshConfig`.
    #[serde(skip_serializing_if = "MeshConfig::is_default")]
    pub mesh_config: MeshConfig,
}

impl Mesh {
    /// A mesh of these services, with default settings.
    ///
    /// ```
    /// use pointsman::mesh::{Endpoint, Mesh, Protocol, Service};
    ///
    /// let reviews = Service::new("reviews.default.svc.cluster.local", "default")
    ///     .with_port(9080, "http", Protocol::Http)
    ///     .with_endpoint(Endpoint::new("10.0.0.1", 9080).with_labels([("version", "v1")]));
    /// let mesh = Mesh::new([reviews]);
    /// assert_eq!(mesh.services[0].endpoints[0].weight, 1);
    /// ```
    pub fn new(services: impl IntoIterator<Item = Service>) -> Self {
        Mesh { services: services.into_iter().collect(), ..Mesh::default() }
    }
}

/// Mesh-wide settings, a part of Istio's `MeshConfig`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
#[non_exhaustive]
pub struct MeshConfig {
    /// The domain that short host names are completed with: `cluster.local`.
    pub cluster_domain: String,
    /// The namespace whose `DestinationRule`s hold for the whole mesh: `istio-system`.
    pub root_namespace: String,
    /// What happens to requests for hosts that nobody knows.
    pub outbound_traffic_policy: OutboundTrafficPolicy,
    /// How far paths are normalised before they are matched and forwarded.
    pub path_normalization: PathNormalization,
    /// `exportTo` of a `VirtualService` that has none. Empty: `*`.
    pub default_virtual_service_export_to: Vec<String>,
    /// `exportTo` of a `DestinationRule` that has none. Empty: `*`.
    pub default_destination_rule_export_to: Vec<String>,
}

impl Default for MeshConfig {
    fn default() -> Self {
        MeshConfig {
            cluster_domain: "cluster.local".into(),
            root_namespace: "istio-system".into(),
            outbound_traffic_policy: OutboundTrafficPolicy::default(),
            path_normalization: PathNormalization::default(),
            default_virtual_service_export_to: Vec::new(),
            default_destination_rule_export_to: Vec::new(),
        }
    }
}

impl MeshConfig {
    fn is_default(&self) -> bool {
        *self == MeshConfig::default()
    }
}

/// What happens to requests for hosts that nobody knows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
#[non_exhaustive]
pub enum OutboundTrafficPolicy {
    /// They go where the caller wanted them to go, as cluster `PassthroughCluster`. Istio's default.
    #[default]
    AllowAny,
    /// They are answered with 502.
    RegistryOnly,
}

/// How far paths are normalised before they are matched and forwarded: Istio's `pathNormalization`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
#[non_exhaustive]
pub enum PathNormalization {
    /// As they come.
    None,
    /// Dot segments, backslashes and needless escapes. Istio's default (`DEFAULT` means the same).
    #[default]
    #[serde(alias = "DEFAULT")]
    Base,
    /// `BASE`, and runs of slashes become one.
    MergeSlashes,
    /// `MERGE_SLASHES`, and `%2F` and `%5C` are decoded first.
    DecodeAndMergeSlashes,
}

/// One entry of the registry.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
#[non_exhaustive]
pub struct Service {
    /// The fully qualified host name.
    pub host: String,
    /// The namespace that owns it.
    pub namespace: String,
    /// The virtual address, if it has one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub address: Option<String>,
    /// Service ports.
    pub ports: Vec<ServicePort>,
    /// Who answers.
    pub endpoints: Vec<Endpoint>,
}

impl Service {
    /// A service without ports or endpoints.
    pub fn new(host: impl Into<String>, namespace: impl Into<String>) -> Self {
        Service { host: host.into(), namespace: namespace.into(), ..Service::default() }
    }

    /// The same service with one more port.
    pub fn with_port(mut self, number: u16, name: impl Into<String>, protocol: Protocol) -> Self {
        self.ports.push(ServicePort::new(number, name, protocol));
        self
    }

    /// The same service with one more endpoint.
    pub fn with_endpoint(mut self, endpoint: Endpoint) -> Self {
        self.endpoints.push(endpoint);
        self
    }
}

/// A port of a service or of a gateway's server.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
#[non_exhaustive]
pub struct ServicePort {
    /// The service port, not the endpoints' port.
    pub number: u16,
    /// Its name; endpoints refer to it.
    pub name: String,
    /// What is spoken.
    pub protocol: Protocol,
}

impl ServicePort {
    /// A port.
    pub fn new(number: u16, name: impl Into<String>, protocol: Protocol) -> Self {
        ServicePort { number, name: name.into(), protocol }
    }
}

/// What is spoken on a port. Written in any case; `-` and `_` are alike.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(from = "String", into = "String")]
#[non_exhaustive]
pub enum Protocol {
    /// HTTP/1.1.
    Http,
    /// HTTP/2 in clear text.
    Http2,
    /// gRPC.
    Grpc,
    /// gRPC-Web.
    GrpcWeb,
    /// HTTP over TLS that the client itself does.
    Https,
    /// TLS that is passed through.
    Tls,
    /// Bytes.
    Tcp,
    /// MongoDB, which is treated as bytes.
    Mongo,
    /// MySQL, which is treated as bytes.
    Mysql,
    /// Redis, which is treated as bytes.
    Redis,
    /// Datagrams: no clusters are made for them.
    Udp,
    /// Not said: sniffed by a proxy, and HTTP as far as this crate is concerned.
    #[default]
    Unspecified,
}

impl Protocol {
    /// Do `http` routes apply? (HTTP, HTTP2, gRPC, gRPC-Web, and ports that do not say.)
    pub fn is_http(self) -> bool {
        matches!(self, Protocol::Http | Protocol::Http2 | Protocol::Grpc | Protocol::GrpcWeb | Protocol::Unspecified)
    }

    /// Do `tls` routes apply? (HTTPS and TLS.)
    pub fn is_tls(self) -> bool {
        matches!(self, Protocol::Https | Protocol::Tls)
    }

    /// Is HTTP/2 spoken for certain?
    pub fn is_http2(self) -> bool {
        matches!(self, Protocol::Http2 | Protocol::Grpc | Protocol::GrpcWeb)
    }

    /// As Istio spells it.
    pub fn as_str(self) -> &'static str {
        match self {
            Protocol::Http => "HTTP",
            Protocol::Http2 => "HTTP2",
            Protocol::Grpc => "GRPC",
            Protocol::GrpcWeb => "GRPC-Web",
            Protocol::Https => "HTTPS",
            Protocol::Tls => "TLS",
            Protocol::Tcp => "TCP",
            Protocol::Mongo => "Mongo",
            Protocol::Mysql => "MySQL",
            Protocol::Redis => "Redis",
            Protocol::Udp => "UDP",
            Protocol::Unspecified => "",
        }
    }
}

impl From<String> for Protocol {
    fn from(text: String) -> Self {
        match text.to_ascii_lowercase().replace('_', "-").as_str() {
            "http" | "http1.1" => Protocol::Http,
            "http2" | "h2" | "h2c" => Protocol::Http2,
            "grpc" => Protocol::Grpc,
            "grpc-web" => Protocol::GrpcWeb,
            "https" => Protocol::Https,
            "tls" => Protocol::Tls,
            "tcp" => Protocol::Tcp,
            "mongo" => Protocol::Mongo,
            "mysql" => Protocol::Mysql,
            "redis" => Protocol::Redis,
            "udp" => Protocol::Udp,
            _ => Protocol::Unspecified,
        }
    }
}

impl From<Protocol> for String {
    fn from(protocol: Protocol) -> String {
        protocol.as_str().into()
    }
}

/// One instance of a service.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
#[non_exhaustive]
pub struct Endpoint {
    /// IP address (or name, for an embedder that resolves names itself).
    pub address: String,
    /// Where it listens, for each service port that [`Endpoint::ports`] does not name.
    pub port: u16,
    /// Where it listens, by the service port's name. Not empty: it serves these ports alone.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub ports: BTreeMap<String, u16>,
    /// What subsets select by.
    pub labels: Labels,
    /// Where it runs.
    #[serde(skip_serializing_if = "Locality::is_empty")]
    pub locality: Locality,
    /// Its share of traffic among its peers; 0 counts as 1.
    pub weight: u32,
    /// Does the platform call it ready?
    #[serde(skip_serializing_if = "Health::is_ready")]
    pub health: Health,
}

impl Default for Endpoint {
    fn default() -> Self {
        Endpoint {
            address: String::new(),
            port: 0,
            ports: BTreeMap::new(),
            labels: Labels::new(),
            locality: Locality::default(),
            weight: 1,
            health: Health::Ready,
        }
    }
}

impl Endpoint {
    /// A ready endpoint of weight 1, without labels.
    pub fn new(address: impl Into<String>, port: u16) -> Self {
        Endpoint { address: address.into(), port, ..Endpoint::default() }
    }

    /// The same endpoint with these labels.
    pub fn with_labels<K: Into<String>, V: Into<String>>(mut self, labels: impl IntoIterator<Item = (K, V)>) -> Self {
        self.labels = labels.into_iter().map(|(key, value)| (key.into(), value.into())).collect();
        self
    }

    /// The same endpoint at this place.
    pub fn with_locality(mut self, locality: impl Into<Locality>) -> Self {
        self.locality = locality.into();
        self
    }

    /// The same endpoint with this weight.
    pub fn with_weight(mut self, weight: u32) -> Self {
        self.weight = weight;
        self
    }

    /// The same endpoint of this health.
    pub fn with_health(mut self, health: Health) -> Self {
        self.health = health;
        self
    }
}

/// What the platform says of an endpoint.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub enum Health {
    /// It takes traffic.
    #[default]
    Ready,
    /// It counts in totals, and takes traffic only in a panic.
    NotReady,
    /// It is going away: as if it were not there.
    Terminating,
}

impl Health {
    fn is_ready(&self) -> bool {
        *self == Health::Ready
    }
}

/// Who asks: the workload (or gateway) that a policy is compiled for.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
#[non_exhaustive]
pub struct Viewpoint {
    /// Its namespace: what `exportTo`, `sourceNamespace` and short names refer to.
    pub namespace: String,
    /// Its labels: what `sourceLabels` and `workloadSelector` refer to.
    pub labels: Labels,
    /// Where it runs.
    #[serde(skip_serializing_if = "Locality::is_empty")]
    pub locality: Locality,
    /// `[mesh]` for a workload, or the one gateway (`namespace/name`) that the client is.
    pub gateways: Vec<String>,
}

impl Default for Viewpoint {
    fn default() -> Self {
        Viewpoint::namespace("default")
    }
}

impl Viewpoint {
    /// A workload in `namespace`, without labels.
    pub fn namespace(namespace: impl Into<String>) -> Self {
        Viewpoint {
            namespace: namespace.into(),
            labels: Labels::new(),
            locality: Locality::default(),
            gateways: vec!["mesh".into()],
        }
    }

    /// The gateway `gateway` (`namespace/name`), whose workload runs in `namespace`.
    pub fn gateway(namespace: impl Into<String>, gateway: impl Into<String>) -> Self {
        Viewpoint { gateways: vec![gateway.into()], ..Viewpoint::namespace(namespace) }
    }

    /// The same viewpoint with these labels.
    pub fn with_labels<K: Into<String>, V: Into<String>>(mut self, labels: impl IntoIterator<Item = (K, V)>) -> Self {
        self.labels = labels.into_iter().map(|(key, value)| (key.into(), value.into())).collect();
        self
    }

    /// The same viewpoint at this place.
    pub fn with_locality(mut self, locality: Locality) -> Self {
        self.locality = locality;
        self
    }

    /// The gateway that the client is; none for a workload of the mesh.
    pub fn as_gateway(&self) -> Option<&str> {
        self.gateways.first().map(String::as_str).filter(|gateway| *gateway != "mesh")
    }
}

/// One server of Istio's `Gateway`: a port and the hosts that it takes.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
#[non_exhaustive]
pub struct GatewayServer {
    /// Where it listens.
    pub port: ServicePort,
    /// `host`, `namespace/host`, `./host` or `*/host`.
    pub hosts: Vec<String>,
    /// What it does with TLS.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tls: Option<ServerTls>,
}

/// What a gateway's server does with TLS.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
#[non_exhaustive]
pub struct ServerTls {
    /// `PASSTHROUGH` routes by SNI; every other mode ends TLS at the gateway.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub mode: String,
    /// Redirect clear-text requests to `https` with 301.
    pub https_redirect: bool,
}
