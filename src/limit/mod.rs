//! How much may be under way: counters with permits that give themselves back.
//!
//! A [`Counter`] counts without a lock. A [`Permit`] is one unit of it; dropping the permit returns it, whatever happened.
//! Who is refused learns by which [`Limit`], in the words of the rule that sets it.
//!
//! All limits are those of one destination in one process: not of an endpoint, a route, or the whole mesh.

mod window;

pub use window::Window;

use crate::sync::{Arc, AtomicU32, Ordering};
use serde::{Serialize, Serializer};
use std::fmt;

/// What can be too much.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Limit {
    /// Connections; only for connections that are not HTTP: requests wait for theirs.
    Connections,
    /// Requests that wait for a connection.
    PendingRequests,
    /// Requests under way.
    Requests,
    /// Retries under way.
    Retries,
    /// Retries under way, as a share of requests.
    RetryBudget,
}

impl Limit {
    /// Where a `DestinationRule` sets it: `connectionPool.http.http2MaxRequests`.
    pub fn as_str(self) -> &'static str {
        match self {
            Limit::Connections => "connectionPool.tcp.maxConnections",
            Limit::PendingRequests => "connectionPool.http.http1MaxPendingRequests",
            Limit::Requests => "connectionPool.http.http2MaxRequests",
            Limit::Retries => "connectionPool.http.maxRetries",
            Limit::RetryBudget => "retryBudget",
        }
    }
}

impl fmt::Display for Limit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Serialize for Limit {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

/// A limit that refused something. Printed as `connectionPool.http.http2MaxRequests: 10 are under way, at most 10 may be`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct Exceeded {
    /// Which.
    pub limit: Limit,
    /// How many may be under way.
    pub most: u32,
    /// How many were, just afterwards: with others at the same time it may be less than `most` by then.
    pub under_way: u32,
}

impl Exceeded {
    pub(crate) fn new(limit: Limit, most: Option<u32>, counter: &Counter) -> Exceeded {
        Exceeded { limit, most: most.unwrap_or(u32::MAX), under_way: counter.get() }
    }
}

impl fmt::Display for Exceeded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {} are under way, at most {} may be", self.limit, self.under_way, self.most)
    }
}

/// How many of something are under way.
///
/// ```
/// use pointsman::limit::Counter;
///
/// let requests = Counter::default();
/// let first = requests.acquire(Some(1)).unwrap();
/// assert!(requests.acquire(Some(1)).is_none());
/// drop(first);
/// assert!(requests.acquire(Some(1)).is_some());
/// ```
#[derive(Clone, Debug, Default)]
pub struct Counter {
    count: Arc<AtomicU32>,
}

/// One that is under way. Dropping it ends it.
#[derive(Debug)]
pub struct Permit {
    count: Arc<AtomicU32>,
}

impl Counter {
    /// How many are under way.
    pub fn get(&self) -> u32 {
        self.count.load(Ordering::Acquire)
    }

    /// One more, unless `limit` are under way. None: no limit.
    pub fn acquire(&self, limit: Option<u32>) -> Option<Permit> {
        let more = |count: u32| (count < limit.unwrap_or(u32::MAX)).then(|| count + 1);
        let acquired = self.count.fetch_update(Ordering::AcqRel, Ordering::Acquire, more);
        acquired.is_ok().then(|| Permit { count: Arc::clone(&self.count) })
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.count.fetch_sub(1, Ordering::AcqRel);
    }
}

/// How many retries may be under way: a share of the requests, but some always.
///
/// `percent` of `requests`, cut to a whole number, and not less than `least`.
pub fn retry_budget(percent: f64, least: u32, requests: u32) -> u32 {
    let share = percent / 100.0 * f64::from(requests);
    least.max(share as u32)
}
