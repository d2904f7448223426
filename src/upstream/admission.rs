//! Who may go ahead, who waits, who is refused: a destination's limits, and permits that cannot leak.
//!
//! Connections belong to the embedder, so a connection counts here as long as a request uses it. Over HTTP/1.1 each
//! request under way has one; over HTTP/2 requests share them, up to `maxConcurrentStreams` each. Beyond `maxConnections`
//! a request waits for its turn, if there is still a place in the queue (`http1MaxPendingRequests`); an endpoint that has
//! no connection at all gets one in any case, as in Envoy. Beyond `http2MaxRequests` it is refused.
//!
//! Whatever is held is a permit, and is given back when that is dropped: [`RequestPermit`], [`Ticket`], and
//! [`Permit`](crate::limit::Permit) for retries. An endpoint that is ejected or taken away keeps its open requests, which
//! go on and count until they end.
//!
//! Cost: counters are atomics. A lock is taken only where something waits, and where streams share a limited number of
//! connections.

use super::{EndpointState, Upstream};
use crate::limit::{Counter, Exceeded, Limit, Permit, Window, retry_budget};
use crate::policy::{Destination, UpstreamProtocol};
use crate::sync::lock;
use crate::time::Timestamp;
use http::Version;
use std::collections::BTreeMap;
use std::sync::atomic::{Ordering, fence};
use std::sync::{Arc, Mutex, Weak};
use std::task::Waker;

/// How much is under way at a destination.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct Usage {
    /// Requests at endpoints: what `http2MaxRequests` limits.
    pub requests: u32,
    /// Connections in use: what `maxConnections` limits. Of connections that streams share only those are counted that are
    /// limited.
    pub connections: u32,
    /// Requests that wait for a connection: what `http1MaxPendingRequests` limits.
    pub pending: u32,
    /// Retries: what `maxRetries` or a retry budget limits.
    pub retries: u32,
}

/// What came of asking for a connection.
#[derive(Debug)]
#[non_exhaustive]
pub enum Admission {
    /// Go ahead.
    Admitted(RequestPermit),
    /// Wait for a turn.
    Queued(Ticket),
    /// Too much is under way: 503, flag UO.
    Overflow(Exceeded),
}

/// A request under way at an endpoint. Dropping it ends it.
#[derive(Debug)]
pub struct RequestPermit {
    /// None for a host that nobody knows: nothing is counted.
    upstream: Option<Arc<Upstream>>,
    endpoint: Arc<EndpointState>,
    requests: Option<Permit>,
    connection: Option<Connection>,
}

/// A place in the queue. Dropping it leaves the queue.
#[derive(Debug)]
pub struct Ticket {
    upstream: Arc<Upstream>,
    endpoint: Arc<EndpointState>,
    client: Version,
    number: u64,
    _pending: Permit,
}

/// The connection that a request uses.
#[derive(Debug)]
enum Connection {
    Own(#[expect(dead_code, reason = "held")] Permit),
    Shared(#[expect(dead_code, reason = "held")] Arc<Permit>),
}

/// The connections of an endpoint that streams share: each is there as long as a stream holds it.
#[derive(Debug, Default)]
pub(super) struct Connections {
    shared: Mutex<Vec<Weak<Permit>>>,
}

/// What is under way at a destination, and who waits.
#[derive(Debug, Default)]
pub(super) struct Gate {
    requests: Counter,
    connections: Counter,
    pending: Counter,
    retries: Counter,
    /// Requests that were admitted lately, where a retry budget asks for it.
    lately: Window,
    queue: Mutex<Queue>,
}

/// Requests that wait for a connection, first come first served for each endpoint.
#[derive(Debug, Default)]
struct Queue {
    next: u64,
    waiting: BTreeMap<u64, (Arc<str>, Option<Waker>)>,
}

enum Tried {
    Admitted(RequestPermit),
    NoConnection,
    TooManyRequests(Exceeded),
}

/// How many requests may share a connection.
fn streams(destination: &Destination, client: Version) -> usize {
    let shares = match destination.connection.protocol {
        UpstreamProtocol::Http1 => false,
        UpstreamProtocol::Http2 => true,
        UpstreamProtocol::Client => client == Version::HTTP_2,
    };
    match destination.connection.max_concurrent_streams {
        _ if !shares => 1,
        Some(most) => most.max(1) as usize,
        None => usize::MAX,
    }
}

impl Connections {
    /// A place on a connection: one that is there and has room, else a new one if `limit` allows it or there is none at
    /// all.
    fn take(&self, streams: usize, counter: &Counter, limit: u32) -> Option<Arc<Permit>> {
        let mut shared = lock(&self.shared);
        shared.retain(|one| one.strong_count() > 0);
        let free = shared.iter().filter(|one| one.strong_count() < streams).find_map(Weak::upgrade);
        if free.is_some() {
            return free;
        }
        let permit = Arc::new(counter.acquire(Some(limit).filter(|_| !shared.is_empty()))?);
        shared.push(Arc::downgrade(&permit));
        Some(permit)
    }

    /// Would [`Connections::take`] find a place?
    fn has_room(&self, streams: usize, counter: &Counter, limit: u32) -> bool {
        let mut shared = lock(&self.shared);
        shared.retain(|one| one.strong_count() > 0);
        shared.is_empty() || counter.get() < limit || shared.iter().any(|one| one.strong_count() < streams)
    }
}

impl Upstream {
    /// Asks for a connection to an endpoint, for a request whose client spoke this version of HTTP (what the upstream is
    /// spoken to in may depend on it).
    pub fn admit(self: &Arc<Self>, endpoint: &Arc<EndpointState>, client: Version, now: Timestamp) -> Admission {
        let current = self.current.load();
        let limits = &current.destination.limits;
        // Nobody overtakes those who wait for the same endpoint.
        let waits = limits.max_connections.is_some()
            && self.gate.pending.get() > 0
            && !lock(&self.gate.queue).is_empty_for(&endpoint.key);
        if !waits {
            match self.try_admit(endpoint, client, &current.destination, now) {
                Tried::Admitted(permit) => return Admission::Admitted(permit),
                Tried::TooManyRequests(exceeded) => return Admission::Overflow(exceeded),
                Tried::NoConnection => {}
            }
        }
        let Some(pending) = self.gate.pending.acquire(limits.max_pending_requests) else {
            let most = limits.max_pending_requests;
            return Admission::Overflow(Exceeded::new(Limit::PendingRequests, most, &self.gate.pending));
        };
        let number = lock(&self.gate.queue).join(&endpoint.key);
        Admission::Queued(Ticket {
            upstream: Arc::clone(self),
            endpoint: Arc::clone(endpoint),
            client,
            number,
            _pending: pending,
        })
    }

    fn try_admit(
        self: &Arc<Self>,
        endpoint: &Arc<EndpointState>,
        client: Version,
        destination: &Destination,
        now: Timestamp,
    ) -> Tried {
        let limits = &destination.limits;
        let connection = match (streams(destination, client), limits.max_connections) {
            (1, most) => {
                // An endpoint without a connection gets one whatever the limit says.
                let most = most.filter(|_| endpoint.active() > 0);
                self.gate.connections.acquire(most).map(Connection::Own)
            }
            (streams, Some(most)) => {
                endpoint.connections.take(streams, &self.gate.connections, most).map(Connection::Shared)
            }
            (_, None) => None,
        };
        if connection.is_none() && limits.max_connections.is_some() {
            return Tried::NoConnection;
        }
        let Some(requests) = self.gate.requests.acquire(limits.max_requests) else {
            return Tried::TooManyRequests(Exceeded::new(Limit::Requests, limits.max_requests, &self.gate.requests));
        };
        if let Some(budget) = limits.retry_budget.filter(|budget| !budget.interval.is_zero()) {
            self.gate.lately.add(now, budget.interval);
        }
        endpoint.active.fetch_add(1, Ordering::AcqRel);
        Tried::Admitted(RequestPermit {
            upstream: Some(Arc::clone(self)),
            endpoint: Arc::clone(endpoint),
            requests: Some(requests),
            connection,
        })
    }

    /// Asks for a retry.
    ///
    /// # Errors
    /// Too many are under way: more than `maxRetries`, or than the retry budget allows of the requests under way (or of
    /// those that were admitted within its interval).
    pub fn admit_retry(&self, now: Timestamp) -> Result<Permit, Exceeded> {
        let current = self.current.load();
        let limits = &current.destination.limits;
        let gate = &self.gate;
        let (limit, most) = match limits.retry_budget {
            Some(budget) => {
                let requests = if budget.interval.is_zero() {
                    gate.requests.get().saturating_add(gate.pending.get())
                } else {
                    gate.lately.count(now, budget.interval)
                };
                (Limit::RetryBudget, Some(retry_budget(budget.percent, budget.min_concurrency, requests)))
            }
            None => (Limit::Retries, limits.max_retries),
        };
        gate.retries.acquire(most).ok_or_else(|| Exceeded::new(limit, most, &gate.retries))
    }

    /// Asks for a connection that is not HTTP. It counts as long as the permit is held.
    ///
    /// # Errors
    /// As many as `maxConnections` are in use: such a connection does not wait, it is closed.
    pub fn admit_connection(&self) -> Result<Permit, Exceeded> {
        let most = self.current.load().destination.limits.max_connections;
        let connections = &self.gate.connections;
        connections.acquire(most).ok_or_else(|| Exceeded::new(Limit::Connections, most, connections))
    }

    /// How much is under way.
    pub fn usage(&self) -> Usage {
        Usage {
            requests: self.gate.requests.get(),
            connections: self.gate.connections.get(),
            pending: self.gate.pending.get(),
            retries: self.gate.retries.get(),
        }
    }

    /// Wakes who is next after something became free at this endpoint.
    fn wake_next(&self, key: &str) {
        // With the fence of `may_go`: either we see who waits, or they see what became free.
        fence(Ordering::SeqCst);
        if self.gate.pending.get() == 0 {
            return;
        }
        let waker = lock(&self.gate.queue).first_waker(key);
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// Wakes everybody who waits: limits may have changed.
    pub(super) fn wake_all(&self) {
        let mut queue = lock(&self.gate.queue);
        let wakers: Vec<Waker> = queue.waiting.values_mut().filter_map(|(_, waker)| waker.take()).collect();
        drop(queue);
        wakers.into_iter().for_each(Waker::wake);
    }
}

impl Queue {
    fn join(&mut self, key: &Arc<str>) -> u64 {
        let number = self.next;
        self.next += 1;
        self.waiting.insert(number, (Arc::clone(key), None));
        number
    }

    fn is_empty_for(&self, key: &str) -> bool {
        !self.waiting.values().any(|(endpoint, _)| &**endpoint == key)
    }

    fn is_first(&self, number: u64, key: &str) -> bool {
        self.waiting.iter().find(|(_, (endpoint, _))| &**endpoint == key).is_some_and(|(first, _)| *first == number)
    }

    /// The waker of whoever is next: at this endpoint, and of every other queue's head (a connection is free for all).
    fn first_waker(&mut self, key: &str) -> Option<Waker> {
        let of_endpoint = self.waiting.values_mut().find(|(endpoint, _)| &**endpoint == key);
        if let Some((_, waker)) = of_endpoint {
            return waker.take();
        }
        self.waiting.values_mut().find_map(|(_, waker)| waker.take())
    }
}

impl RequestPermit {
    /// A permit that counts nowhere.
    pub(crate) fn untracked(endpoint: Arc<EndpointState>) -> RequestPermit {
        RequestPermit { upstream: None, endpoint, requests: None, connection: None }
    }

    /// The endpoint.
    pub fn endpoint(&self) -> &Arc<EndpointState> {
        &self.endpoint
    }
}

impl Drop for RequestPermit {
    fn drop(&mut self) {
        let Some(upstream) = self.upstream.take() else { return };
        self.endpoint.active.fetch_sub(1, Ordering::AcqRel);
        self.requests = None;
        self.connection = None;
        upstream.wake_next(&self.endpoint.key);
    }
}

impl Ticket {
    /// Tries to go ahead.
    ///
    /// # Errors
    /// The ticket comes back if it is not time yet.
    pub fn try_admit(self, now: Timestamp) -> Result<Admission, Ticket> {
        if !lock(&self.upstream.gate.queue).is_first(self.number, &self.endpoint.key) {
            return Err(self);
        }
        let current = self.upstream.current.load();
        match self.upstream.try_admit(&self.endpoint, self.client, &current.destination, now) {
            Tried::Admitted(permit) => Ok(Admission::Admitted(permit)),
            Tried::TooManyRequests(exceeded) => Ok(Admission::Overflow(exceeded)),
            Tried::NoConnection => Err(self),
        }
    }

    /// May it be time?
    pub(crate) fn may_go(&self) -> bool {
        // With the fence of `wake_next`.
        fence(Ordering::SeqCst);
        let current = self.upstream.current.load();
        let destination = &current.destination;
        let counter = &self.upstream.gate.connections;
        let has_room = || match (streams(destination, self.client), destination.limits.max_connections) {
            (_, None) => true,
            (1, Some(most)) => self.endpoint.active() == 0 || counter.get() < most,
            (streams, Some(most)) => self.endpoint.connections.has_room(streams, counter, most),
        };
        lock(&self.upstream.gate.queue).is_first(self.number, &self.endpoint.key) && has_room()
    }

    /// Wakes this task when it may be time.
    pub fn register(&self, waker: &Waker) {
        if let Some((_, slot)) = lock(&self.upstream.gate.queue).waiting.get_mut(&self.number) {
            *slot = Some(waker.clone());
        }
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        lock(&self.upstream.gate.queue).waiting.remove(&self.number);
        self.upstream.wake_next(&self.endpoint.key);
    }
}
