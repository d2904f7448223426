//! The state of one endpoint, and how people see it.

use super::admission::Connections;
use crate::mesh::Locality;
use crate::outlier::{Ejected, HostRecord};
use crate::time::Timestamp;
use http::uri::Authority;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, LazyLock};

/// The state of one endpoint.
#[derive(Debug)]
pub struct EndpointState {
    pub(super) key: Arc<str>,
    address: Arc<str>,
    port: u16,
    authority: Option<Authority>,
    /// Requests under way.
    pub(super) active: Arc<AtomicU32>,
    /// Connections that streams share.
    pub(super) connections: Connections,
    /// When it was first healthy, in nanoseconds; [`NEVER`].
    since: AtomicU64,
    pub(super) outlier: Arc<HostRecord>,
    pub(super) priority: AtomicU32,
    /// An endpoint that moves is another one, as in Envoy: it counts and warms up anew.
    pub(super) locality: Locality,
}

const NEVER: u64 = u64::MAX;

/// An endpoint, for people.
#[derive(Clone, Debug, serde::Serialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct EndpointView {
    /// The destination.
    pub cluster: Arc<str>,
    /// `address:port`.
    pub endpoint: Arc<str>,
    /// Where it runs; empty where that is not known.
    pub locality: Locality,
    /// 0 is asked first.
    pub priority: u32,
    /// Its share among its peers.
    pub weight: u32,
    /// The part of its weight that it has while it warms up, from 0 to 1; 1 for one that does not.
    pub warmth: f64,
    /// Requests under way.
    pub active: u32,
    /// Does the platform call it ready?
    pub ready: bool,
    /// Why it is out, and until when.
    pub ejected: Option<Ejected>,
}

impl EndpointState {
    pub(super) fn new(key: Arc<str>, address: Arc<str>, port: u16, locality: Locality) -> EndpointState {
        EndpointState {
            authority: key.parse().ok().filter(|_| port != 0),
            outlier: Arc::new(HostRecord::new(Arc::clone(&key))),
            key,
            address,
            port,
            active: Arc::default(),
            connections: Connections::default(),
            since: AtomicU64::new(NEVER),
            priority: AtomicU32::new(0),
            locality,
        }
    }

    /// `address:port`.
    pub fn key(&self) -> &Arc<str> {
        &self.key
    }

    /// The address.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// The port.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// `address:port` as a URI has it; none for a name that no URI can have.
    pub fn authority(&self) -> Option<&Authority> {
        self.authority.as_ref()
    }

    /// Its priority when it was last placed.
    pub fn priority(&self) -> u32 {
        self.priority.load(Ordering::Relaxed)
    }

    /// Requests under way.
    pub fn active(&self) -> u32 {
        self.active.load(Ordering::Acquire)
    }

    /// Is it a handler of this process?
    pub fn is_local(&self) -> bool {
        self.port == 0
    }

    /// A handler of this process.
    pub(crate) fn local() -> Arc<EndpointState> {
        static LOCAL: LazyLock<Arc<str>> = LazyLock::new(|| "local".into());
        Arc::new(EndpointState::new(Arc::clone(&LOCAL), Arc::clone(&LOCAL), 0, Locality::default()))
    }

    /// An endpoint outside every list: where the caller wanted to go.
    pub(crate) fn passthrough(address: std::net::SocketAddr) -> Arc<EndpointState> {
        let (key, host) = (address.to_string().into(), address.ip().to_string().into());
        Arc::new(EndpointState::new(key, host, address.port(), Locality::default()))
    }

    /// It is healthy now. Envoy warms a host up once: not again after an ejection.
    pub(super) fn seen_healthy(&self, now: Timestamp) {
        let _ = self.since.compare_exchange(NEVER, now.as_nanos(), Ordering::Relaxed, Ordering::Relaxed);
    }

    /// When it was first healthy; the end of time if it never was.
    pub(super) fn since(&self) -> Timestamp {
        Timestamp::from_nanos(self.since.load(Ordering::Relaxed))
    }
}
