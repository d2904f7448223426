//! What is known of a destination: Istio's cluster, one (service, port, subset).

use std::fmt;
use std::sync::Arc;

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
}
