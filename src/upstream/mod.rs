//! The live state of destinations: who is healthy, how much is under way, whose turn it is.
//!
//! State is keyed by identity (the destination's name, an endpoint's `address:port`) and lives beside policies: it
//! survives a reload, follows endpoints that come and go, and is shared by all threads. Picking reads one snapshot of a
//! table; only a change of membership or health makes a new one.
//!
//! Connections belong to the embedder, so a connection counts here as long as a request uses it: over HTTP/1.1 each request
//! under way has one. Beyond `maxConnections` a request waits for its turn, if there is still a place in the queue
//! (`http1MaxPendingRequests`); an endpoint that has no connection at all gets one in any case, as in Envoy.

use crate::balance::{self, Algorithm, Cursors, Host, Pick, Table};
use crate::entropy::Draws;
use crate::limit::{Counter, Permit, retry_budget};
use crate::mesh::Locality;
use crate::outlier::{self, Detector, Ejected, Event, HostRecord, Outcome};
use crate::policy::{Balancer, Destination, Policy};
use crate::time::Timestamp;
use http::uri::Authority;
use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard};
use std::task::Waker;
use twox_hash::XxHash64;

/// The state of all destinations.
#[derive(Debug, Default)]
pub struct Upstreams {
    by_name: RwLock<Arc<ByName>>,
    seed: u64,
}

/// The state of destinations by their names, as one policy needs them.
pub(crate) type ByName = HashMap<Arc<str>, Arc<Upstream>>;

/// The state of one destination.
#[derive(Debug)]
pub struct Upstream {
    name: Arc<str>,
    core: Mutex<Core>,
    current: RwLock<Arc<Current>>,
    next_sweep: AtomicU64,
    requests: Counter,
    connections: Counter,
    pending: Counter,
    retries: Counter,
    queue: Mutex<Queue>,
    /// The handler of this process, for a policy that is applied in front of one.
    local: Arc<EndpointState>,
    seed: u64,
}

/// What picks read.
#[derive(Debug)]
struct Current {
    destination: Arc<Destination>,
    endpoints: Vec<Arc<EndpointState>>,
    detector: Option<Arc<Detector>>,
    table: Table,
}

#[derive(Debug)]
struct Core {
    endpoints: BTreeMap<Arc<str>, Arc<EndpointState>>,
    detector: Option<Arc<Detector>>,
    cursors: Cursors,
}

/// The state of one endpoint.
#[derive(Debug)]
pub struct EndpointState {
    key: Arc<str>,
    address: Arc<str>,
    port: u16,
    authority: Option<Authority>,
    active: Arc<AtomicU32>,
    /// When it was first healthy, in nanoseconds; [`NEVER`].
    since: AtomicU64,
    outlier: Arc<HostRecord>,
    priority: AtomicU32,
    /// An endpoint that moves is another one, as in Envoy: it counts and warms up anew.
    locality: Locality,
}

const NEVER: u64 = u64::MAX;

/// Requests that wait for a connection, first come first served for each endpoint.
#[derive(Debug, Default)]
struct Queue {
    next: u64,
    waiting: BTreeMap<u64, (Arc<str>, Option<Waker>)>,
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
    Overflow,
}

/// A request under way at an endpoint. Dropping it ends it.
#[derive(Debug)]
pub struct RequestPermit {
    /// None for a host that nobody knows: nothing is counted.
    upstream: Option<Arc<Upstream>>,
    endpoint: Arc<EndpointState>,
    requests: Option<Permit>,
    connections: Option<Permit>,
}

/// A place in the queue. Dropping it leaves the queue.
#[derive(Debug)]
pub struct Ticket {
    upstream: Arc<Upstream>,
    endpoint: Arc<EndpointState>,
    number: u64,
    _pending: Permit,
}

/// How much is under way at a destination.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct Usage {
    /// Requests at endpoints: what `http2MaxRequests` limits.
    pub requests: u32,
    /// Connections in use: what `maxConnections` limits.
    pub connections: u32,
    /// Requests that wait for a connection: what `http1MaxPendingRequests` limits.
    pub pending: u32,
    /// Retries: what `maxRetries` or a retry budget limits.
    pub retries: u32,
}

/// An endpoint, for people.
#[derive(Clone, Debug, serde::Serialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct EndpointView {
    /// The destination.
    pub cluster: Arc<str>,
    /// `address:port`.
    pub endpoint: Arc<str>,
    /// 0 is asked first.
    pub priority: u32,
    /// Its share among its peers.
    pub weight: u32,
    /// Requests under way.
    pub active: u32,
    /// Does the platform call it ready?
    pub ready: bool,
    /// Why it is out, and until when.
    pub ejected: Option<Ejected>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // No code that can panic runs while state is half changed.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl EndpointState {
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

    fn new(key: Arc<str>, address: Arc<str>, port: u16, locality: Locality) -> EndpointState {
        EndpointState {
            authority: key.parse().ok().filter(|_| port != 0),
            outlier: Arc::new(HostRecord::new(Arc::clone(&key))),
            key,
            address,
            port,
            active: Arc::default(),
            since: AtomicU64::new(NEVER),
            priority: AtomicU32::new(0),
            locality,
        }
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
}

impl Upstreams {
    /// No state yet. The seed says where turns begin.
    pub fn new(seed: u64) -> Upstreams {
        Upstreams { by_name: RwLock::default(), seed }
    }

    /// Brings the state to a policy's destinations: what stays keeps its state, what is gone loses it.
    pub fn sync(&self, policy: &Policy, now: Timestamp) -> Vec<Event> {
        let (by_name, events) = self.prepare(policy, now);
        self.publish(by_name);
        events
    }

    /// The state that a policy needs: what is there already is brought up to it, the rest is made.
    pub(crate) fn prepare(&self, policy: &Policy, now: Timestamp) -> (Arc<ByName>, Vec<Event>) {
        let mut events = Vec::new();
        let old = Arc::clone(&self.by_name.read().unwrap_or_else(PoisonError::into_inner));
        let mut fresh = HashMap::with_capacity(policy.destinations().len());
        for destination in policy.destinations() {
            let destination = Arc::new(destination.clone());
            let upstream = match old.get(&destination.name) {
                Some(known) => {
                    events.extend(known.update(destination, now));
                    Arc::clone(known)
                }
                None => Arc::new(Upstream::new(destination, self.seed, now)),
            };
            fresh.insert(Arc::clone(&upstream.name), upstream);
        }
        (Arc::new(fresh), events)
    }

    /// From now on this is the state.
    pub(crate) fn publish(&self, by_name: Arc<ByName>) {
        *self.by_name.write().unwrap_or_else(PoisonError::into_inner) = by_name;
    }

    /// The state of a destination.
    pub fn get(&self, name: &str) -> Option<Arc<Upstream>> {
        self.by_name.read().unwrap_or_else(PoisonError::into_inner).get(name).cloned()
    }

    /// Every endpoint of every destination, for people.
    pub fn endpoints(&self) -> Vec<EndpointView> {
        let all = self.by_name.read().unwrap_or_else(PoisonError::into_inner);
        let mut upstreams: Vec<&Arc<Upstream>> = all.values().collect();
        upstreams.sort_by(|a, b| a.name.cmp(&b.name));
        upstreams.into_iter().flat_map(|upstream| upstream.endpoints()).collect()
    }
}

fn outlier_settings(destination: &Destination) -> Option<outlier::Settings> {
    let settings = destination.outlier.as_ref()?;
    Some(outlier::Settings {
        consecutive_5xx: settings.consecutive_5xx,
        consecutive_gateway_errors: settings.consecutive_gateway_errors,
        consecutive_local_origin_failures: settings.consecutive_local_origin_failures,
        split_local_origin: settings.split_local_origin,
        interval: settings.interval,
        base_ejection_time: settings.base_ejection_time,
        max_ejection_time: settings.max_ejection_time,
        max_ejection_percent: settings.max_ejection_percent,
        error_codes: settings.error_codes.clone(),
    })
}

impl Upstream {
    fn new(destination: Arc<Destination>, seed: u64, now: Timestamp) -> Upstream {
        let name = Arc::clone(&destination.name);
        let seed = XxHash64::oneshot(seed, name.as_bytes());
        let mut core = Core { endpoints: BTreeMap::new(), detector: None, cursors: Cursors::default() };
        let current = core.build(destination, seed, now);
        let next_sweep = core.detector.as_ref().map_or(Timestamp::MAX, |detector| detector.next_sweep());
        Upstream {
            name,
            core: Mutex::new(core),
            current: RwLock::new(Arc::new(current)),
            next_sweep: AtomicU64::new(next_sweep.as_nanos()),
            requests: Counter::default(),
            connections: Counter::default(),
            pending: Counter::default(),
            retries: Counter::default(),
            queue: Mutex::default(),
            local: EndpointState::local(),
            seed,
        }
    }

    /// The handler of this process, as this destination's only endpoint.
    pub(crate) fn local(&self) -> &Arc<EndpointState> {
        &self.local
    }

    /// The destination's name.
    pub fn name(&self) -> &Arc<str> {
        &self.name
    }

    /// The settings in force.
    pub fn destination(&self) -> Arc<Destination> {
        Arc::clone(&self.read().destination)
    }

    fn current(&self) -> Arc<Current> {
        Arc::clone(&self.read())
    }

    /// What is current, for as long as a pick takes; a writer waits for so long.
    fn read(&self) -> RwLockReadGuard<'_, Arc<Current>> {
        self.current.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn update(&self, destination: Arc<Destination>, now: Timestamp) -> Vec<Event> {
        let events = self.sweep(now);
        let mut core = lock(&self.core);
        let current = core.build(destination, self.seed, now);
        self.publish(&core, current);
        drop(core);
        self.wake_all();
        events
    }

    fn publish(&self, core: &Core, current: Current) {
        let next = core.detector.as_ref().map_or(Timestamp::MAX, |detector| detector.next_sweep());
        self.next_sweep.store(next.as_nanos(), Ordering::Release);
        *self.current.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(current);
    }

    /// Makes the table anew after a change of health.
    fn refresh(&self, core: &mut Core, now: Timestamp) {
        let destination = self.destination();
        let current = core.build(destination, self.seed, now);
        self.publish(core, current);
    }

    /// When [`Upstream::sweep`] has something to do again.
    pub fn next_sweep(&self) -> Timestamp {
        Timestamp::from_nanos(self.next_sweep.load(Ordering::Acquire))
    }

    /// Reviews ejections that are due. Picks do this by themselves.
    pub fn sweep(&self, now: Timestamp) -> Vec<Event> {
        if now < self.next_sweep() {
            return Vec::new();
        }
        let mut core = lock(&self.core);
        let Some(detector) = core.detector.clone() else { return Vec::new() };
        let events = detector.sweep(now);
        if events.is_empty() {
            self.next_sweep.store(detector.next_sweep().as_nanos(), Ordering::Release);
        } else {
            self.refresh(&mut core, now);
        }
        events
    }

    /// Picks an endpoint. `tried` are those of earlier attempts, for a retry that avoids them or their priorities.
    pub fn pick(
        &self,
        hash: Option<u64>,
        tried: &[Arc<EndpointState>],
        avoid_hosts: bool,
        avoid_priorities: bool,
        now: Timestamp,
        draws: &mut dyn Draws,
    ) -> Option<Arc<EndpointState>> {
        let current = self.read();
        let refused = |host: &Host| tried.iter().any(|endpoint| endpoint.key == host.key);
        let mut excluded: Vec<u32> = Vec::new();
        if avoid_priorities {
            // Exclusions are worked out anew at every second endpoint.
            excluded.extend(tried.iter().take(tried.len() / 2 * 2).map(|endpoint| endpoint.priority()));
        }
        let pick = Pick {
            hash,
            refused: if avoid_hosts && !tried.is_empty() { Some(&refused) } else { None },
            excluded_priorities: &excluded,
        };
        let index = current.table.pick(&pick, now, draws)?;
        current.endpoints.get(index).cloned()
    }

    /// Is the endpoint's table a hashing one?
    pub(crate) fn is_hashing(&self) -> bool {
        matches!(self.read().destination.balancer, Balancer::RingHash { .. } | Balancer::Maglev { .. })
    }

    /// Does the destination go wherever the caller wanted to go?
    pub(crate) fn is_passthrough(&self) -> bool {
        self.read().destination.balancer == Balancer::Passthrough
    }

    /// Asks for a connection to an endpoint.
    pub fn admit(self: &Arc<Self>, endpoint: &Arc<EndpointState>) -> Admission {
        let current = self.current();
        let limits = &current.destination.limits;
        let waits = limits.max_connections.is_some() && !lock(&self.queue).is_empty_for(&endpoint.key);
        if !waits {
            match self.try_admit(endpoint, &current) {
                Tried::Admitted(permit) => return Admission::Admitted(permit),
                Tried::TooManyRequests => return Admission::Overflow,
                Tried::NoConnection => {}
            }
        }
        let Some(pending) = self.pending.acquire(limits.max_pending_requests) else { return Admission::Overflow };
        let mut queue = lock(&self.queue);
        let number = queue.next;
        queue.next += 1;
        queue.waiting.insert(number, (Arc::clone(&endpoint.key), None));
        Admission::Queued(Ticket {
            upstream: Arc::clone(self),
            endpoint: Arc::clone(endpoint),
            number,
            _pending: pending,
        })
    }

    fn try_admit(self: &Arc<Self>, endpoint: &Arc<EndpointState>, current: &Current) -> Tried {
        let limits = &current.destination.limits;
        // An endpoint without a connection gets one whatever the limit says.
        let limit = limits.max_connections.filter(|_| endpoint.active.load(Ordering::Acquire) > 0);
        let Some(connections) = self.connections.acquire(limit) else { return Tried::NoConnection };
        let Some(requests) = self.requests.acquire(limits.max_requests) else { return Tried::TooManyRequests };
        endpoint.active.fetch_add(1, Ordering::AcqRel);
        Tried::Admitted(RequestPermit {
            upstream: Some(Arc::clone(self)),
            endpoint: Arc::clone(endpoint),
            requests: Some(requests),
            connections: Some(connections),
        })
    }

    /// Asks for a retry. None: too many are under way.
    pub fn admit_retry(&self) -> Option<Permit> {
        let current = self.current();
        let limits = &current.destination.limits;
        let limit = match limits.retry_budget {
            Some(budget) => {
                let requests = self.requests.get().saturating_add(self.pending.get());
                Some(retry_budget(budget.percent, budget.min_concurrency, requests))
            }
            None => limits.max_retries,
        };
        self.retries.acquire(limit)
    }

    /// How much is under way.
    pub fn usage(&self) -> Usage {
        Usage {
            requests: self.requests.get(),
            connections: self.connections.get(),
            pending: self.pending.get(),
            retries: self.retries.get(),
        }
    }

    /// Counts what came of an attempt.
    pub fn record(&self, endpoint: &EndpointState, outcome: Outcome, now: Timestamp) -> Vec<Event> {
        let mut events = self.sweep(now);
        let fired = match &self.read().detector {
            Some(detector) => detector.record(&endpoint.outlier, outcome, now),
            None => Vec::new(),
        };
        if fired.iter().any(|event| matches!(event, Event::Ejected { .. })) {
            self.refresh(&mut lock(&self.core), now);
        }
        events.extend(fired);
        events
    }

    /// Every endpoint, for people.
    pub fn endpoints(&self) -> Vec<EndpointView> {
        let current = self.current();
        let detector = current.detector.as_ref();
        let all = current.endpoints.iter().zip(&current.destination.endpoints);
        all.map(|(state, endpoint)| EndpointView {
            cluster: Arc::clone(&self.name),
            endpoint: Arc::clone(&state.key),
            priority: state.priority(),
            weight: endpoint.weight,
            active: state.active.load(Ordering::Relaxed),
            ready: endpoint.ready,
            ejected: detector.and_then(|detector| detector.ejection(&state.outlier)),
        })
        .collect()
    }

    fn wake_next(&self, key: &str) {
        let waker = lock(&self.queue).first_waker(key);
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    fn wake_all(&self) {
        let wakers: Vec<Waker> = lock(&self.queue).waiting.values_mut().filter_map(|(_, waker)| waker.take()).collect();
        wakers.into_iter().for_each(Waker::wake);
    }
}

enum Tried {
    Admitted(RequestPermit),
    NoConnection,
    TooManyRequests,
}

impl Queue {
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

impl Core {
    /// The state of a destination's endpoints as they are now, and a table of them.
    fn build(&mut self, destination: Arc<Destination>, seed: u64, now: Timestamp) -> Current {
        match (outlier_settings(&destination), &self.detector) {
            (Some(settings), Some(detector)) => detector.configure(settings, now),
            (Some(settings), None) => self.detector = Some(Arc::new(Detector::new(settings, now))),
            (None, _) => self.detector = None,
        }
        let mut kept: BTreeMap<Arc<str>, Arc<EndpointState>> = BTreeMap::new();
        let mut endpoints = Vec::with_capacity(destination.endpoints.len());
        for endpoint in &destination.endpoints {
            let (priority, locality) = match destination.groups.get(endpoint.group) {
                Some(group) => (group.priority, group.locality.clone()),
                None => Default::default(),
            };
            let known = kept.get(&endpoint.key).or_else(|| self.endpoints.get(&endpoint.key));
            let state = match known.filter(|known| known.locality == locality) {
                Some(known) => Arc::clone(known),
                None => {
                    let (key, address) = (Arc::clone(&endpoint.key), Arc::clone(&endpoint.address));
                    Arc::new(EndpointState::new(key, address, endpoint.port, locality))
                }
            };
            state.priority.store(priority, Ordering::Relaxed);
            kept.insert(Arc::clone(&endpoint.key), Arc::clone(&state));
            endpoints.push(state);
        }
        self.endpoints = kept;
        match &self.detector {
            Some(detector) => detector.set_records(self.endpoints.values().map(|state| Arc::clone(&state.outlier))),
            None => self.endpoints.values().for_each(|state| state.outlier.forget()),
        }
        let mut hosts = Vec::with_capacity(endpoints.len());
        for (endpoint, state) in destination.endpoints.iter().zip(&endpoints) {
            let healthy = endpoint.ready && !state.outlier.is_ejected();
            if healthy && state.since.load(Ordering::Relaxed) == NEVER {
                // Envoy warms a host up once: not again after an ejection.
                state.since.store(now.as_nanos(), Ordering::Relaxed);
            }
            hosts.push(Host {
                healthy,
                priority: state.priority(),
                place: endpoint.group,
                active: Arc::clone(&state.active),
                since: Timestamp::from_nanos(state.since.load(Ordering::Relaxed)),
                ..Host::new(Arc::clone(&endpoint.key), endpoint.weight)
            });
        }
        let algorithm = match destination.balancer {
            Balancer::RoundRobin => Algorithm::RoundRobin,
            Balancer::LeastRequest => Algorithm::LeastRequest,
            Balancer::Random | Balancer::Passthrough => Algorithm::Random,
            Balancer::RingHash { minimum_size } => Algorithm::RingHash { minimum_size },
            Balancer::Maglev { table_size } => Algorithm::Maglev { table_size },
        };
        let settings = balance::Settings {
            place_weights: destination
                .locality_weighted
                .then(|| destination.groups.iter().map(|group| group.weight).collect()),
            panic_threshold: destination.panic_threshold,
            warmup: destination.warmup.map(|warmup| {
                let floor = warmup.minimum_percent / 100.0;
                balance::Warmup::new(warmup.window).with_aggression(warmup.aggression).with_floor(floor)
            }),
            seed,
            ..balance::Settings::new(algorithm)
        };
        let table = Table::new(hosts, settings, &mut self.cursors, now);
        Current { destination, endpoints, detector: self.detector.clone(), table }
    }
}

impl RequestPermit {
    /// A permit that counts nowhere.
    pub(crate) fn untracked(endpoint: Arc<EndpointState>) -> RequestPermit {
        RequestPermit { upstream: None, endpoint, requests: None, connections: None }
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
        self.connections = None;
        upstream.wake_next(&self.endpoint.key);
    }
}

impl Ticket {
    /// Tries to go ahead. The ticket comes back if it is not time yet.
    pub fn try_admit(self) -> Result<Admission, Ticket> {
        if !lock(&self.upstream.queue).is_first(self.number, &self.endpoint.key) {
            return Err(self);
        }
        let current = self.upstream.current();
        match self.upstream.try_admit(&self.endpoint, &current) {
            Tried::Admitted(permit) => Ok(Admission::Admitted(permit)),
            Tried::TooManyRequests => Ok(Admission::Overflow),
            Tried::NoConnection => Err(self),
        }
    }

    /// May it be time?
    pub(crate) fn may_go(&self) -> bool {
        let current = self.upstream.current();
        let limits = &current.destination.limits;
        lock(&self.upstream.queue).is_first(self.number, &self.endpoint.key)
            && (self.endpoint.active.load(Ordering::Acquire) == 0
                || limits.max_connections.is_none_or(|limit| self.upstream.connections.get() < limit))
    }

    /// Wakes this task when it may be time.
    pub fn register(&self, waker: &Waker) {
        if let Some((_, slot)) = lock(&self.upstream.queue).waiting.get_mut(&self.number) {
            *slot = Some(waker.clone());
        }
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        lock(&self.upstream.queue).waiting.remove(&self.number);
        self.upstream.wake_next(&self.endpoint.key);
    }
}
