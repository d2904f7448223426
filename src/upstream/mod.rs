//! The live state of destinations: who is healthy, how much is under way, whose turn it is.
//!
//! State is keyed by identity (the destination's name, an endpoint's `address:port`) and lives beside policies: it
//! survives a reload, follows endpoints that come, go, and change labels, weight or priority, and is shared by all
//! threads. Picking reads one snapshot of a table; only a change of membership or health makes a new one.
//!
//! | file | holds |
//! |---|---|
//! | `endpoint.rs` | one endpoint: who it is, what is under way at it, since when it is healthy |
//! | `current.rs` | the snapshot that picks read, and how it is made from a destination and what is known already |
//! | `admission.rs` | limits: who may go ahead, who waits, who is refused |
//!
//! Cost: a pick, an admission and a success take no lock (see [`crate::balance`] for the exceptions: weighted turns). An
//! ejection, a return and a reload make a new snapshot behind a lock of their own, while picks go on with the old one.

mod admission;
mod current;
mod endpoint;

pub use admission::{Admission, RequestPermit, Ticket, Usage};
pub use endpoint::{EndpointState, EndpointView};

use crate::balance::{Host, Pick};
use crate::entropy::Draws;
use crate::outlier::{Event, Outcome};
use crate::policy::{Balancer, Destination, DestinationId, Policy};
use crate::sync::lock;
use crate::time::Timestamp;
use admission::Gate;
use arc_swap::ArcSwap;
use current::{Core, Current};
use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use twox_hash::XxHash64;

/// The state of all destinations.
#[derive(Debug, Default)]
pub struct Upstreams {
    current: ArcSwap<Roster>,
    seed: u64,
}

/// The state of one policy's destinations: in the policy's order, and by name.
#[derive(Debug, Default)]
pub(crate) struct Roster {
    in_order: Vec<Arc<Upstream>>,
    by_name: HashMap<Arc<str>, usize>,
}

impl Roster {
    fn push(&mut self, upstream: Arc<Upstream>) {
        self.by_name.insert(Arc::clone(&upstream.name), self.in_order.len());
        self.in_order.push(upstream);
    }

    /// The state of a destination of the policy that this was made for.
    pub(crate) fn of(&self, id: DestinationId) -> Option<&Arc<Upstream>> {
        self.in_order.get(id.0 as usize)
    }

    pub(crate) fn get(&self, name: &str) -> Option<&Arc<Upstream>> {
        self.in_order.get(*self.by_name.get(name)?)
    }
}

/// The state of one destination.
#[derive(Debug)]
pub struct Upstream {
    name: Arc<str>,
    core: Mutex<Core>,
    current: ArcSwap<Current>,
    next_sweep: AtomicU64,
    gate: Gate,
    /// The handler of this process, for a policy that is applied in front of one.
    local: Arc<EndpointState>,
    seed: u64,
}

impl Upstreams {
    /// No state yet. The seed says where turns begin.
    pub fn new(seed: u64) -> Upstreams {
        Upstreams { current: ArcSwap::default(), seed }
    }

    /// Brings the state to a policy's destinations: what stays keeps its state, what is gone loses it.
    pub fn sync(&self, policy: &Policy, now: Timestamp) -> Vec<Event> {
        let (roster, events) = self.prepare(policy, now);
        self.publish(roster);
        events.into_iter().map(|(_, event)| event).collect()
    }

    /// The state that a policy needs: what is there already is brought up to it, the rest is made. Tells what happened to
    /// endpoints of which destination.
    pub(crate) fn prepare(&self, policy: &Policy, now: Timestamp) -> (Arc<Roster>, Vec<(Arc<Upstream>, Event)>) {
        let mut events = Vec::new();
        let old = self.current.load();
        let mut fresh = Roster::default();
        for destination in policy.destinations() {
            let destination = Arc::new(destination.clone());
            let upstream = match old.get(&destination.name) {
                Some(known) => {
                    events.extend(known.update(destination, now).into_iter().map(|event| (Arc::clone(known), event)));
                    Arc::clone(known)
                }
                None => Arc::new(Upstream::new(destination, self.seed, now)),
            };
            fresh.push(upstream);
        }
        (Arc::new(fresh), events)
    }

    /// From now on this is the state.
    pub(crate) fn publish(&self, roster: Arc<Roster>) {
        self.current.store(roster);
    }

    /// The state of a destination.
    pub fn get(&self, name: &str) -> Option<Arc<Upstream>> {
        self.current.load().get(name).cloned()
    }

    /// Every endpoint of every destination, for people, at this time.
    pub fn endpoints(&self, now: Timestamp) -> Vec<EndpointView> {
        let all = self.current.load();
        let mut upstreams: Vec<&Arc<Upstream>> = all.in_order.iter().collect();
        upstreams.sort_by(|a, b| a.name.cmp(&b.name));
        upstreams.into_iter().flat_map(|upstream| upstream.endpoints(now)).collect()
    }
}

impl Upstream {
    fn new(destination: Arc<Destination>, seed: u64, now: Timestamp) -> Upstream {
        let name = Arc::clone(&destination.name);
        let seed = XxHash64::oneshot(seed, name.as_bytes());
        let mut core = Core::default();
        let current = core.build(destination, seed, now, &mut Vec::new());
        let next_sweep = core.detector.as_ref().map_or(Timestamp::MAX, |detector| detector.next_sweep());
        Upstream {
            name,
            core: Mutex::new(core),
            current: ArcSwap::from_pointee(current),
            next_sweep: AtomicU64::new(next_sweep.as_nanos()),
            gate: Gate::default(),
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
        Arc::clone(&self.current.load().destination)
    }

    fn update(&self, destination: Arc<Destination>, now: Timestamp) -> Vec<Event> {
        let mut events = self.sweep(now);
        let mut core = lock(&self.core);
        let current = core.build(destination, self.seed, now, &mut events);
        self.publish(&core, current);
        drop(core);
        self.wake_all();
        events
    }

    fn publish(&self, core: &Core, current: Current) {
        let next = core.detector.as_ref().map_or(Timestamp::MAX, |detector| detector.next_sweep());
        self.next_sweep.store(next.as_nanos(), Ordering::Release);
        self.current.store(Arc::new(current));
    }

    /// Makes the table anew after a change of health.
    fn refresh(&self, core: &mut Core, now: Timestamp) {
        let destination = self.destination();
        let current = core.build(destination, self.seed, now, &mut Vec::new());
        self.publish(core, current);
    }

    /// When [`Upstream::sweep`] has something to do again.
    pub fn next_sweep(&self) -> Timestamp {
        Timestamp::from_nanos(self.next_sweep.load(Ordering::Acquire))
    }

    /// Reviews ejections that are due. An exchange does this before each pick.
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
        let current = self.current.load();
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

    /// How endpoints are picked.
    pub(crate) fn balancer(&self) -> Balancer {
        self.current.load().destination.balancer
    }

    /// Are failures that no upstream answered counted apart?
    pub(crate) fn splits_local_origin(&self) -> bool {
        self.current.load().destination.outlier.as_ref().is_some_and(|settings| settings.split_local_origin)
    }

    /// Counts what came of an attempt.
    pub fn record(&self, endpoint: &EndpointState, outcome: Outcome, now: Timestamp) -> Vec<Event> {
        let mut events = self.sweep(now);
        let fired = match &self.current.load().detector {
            Some(detector) => detector.record(&endpoint.outlier, outcome, now),
            None => Vec::new(),
        };
        if fired.iter().any(|event| matches!(event, Event::Ejected { .. })) {
            self.refresh(&mut lock(&self.core), now);
        }
        events.extend(fired);
        events
    }

    /// Every endpoint, for people, at this time.
    pub fn endpoints(&self, now: Timestamp) -> Vec<EndpointView> {
        let current = self.current.load();
        let detector = current.detector.as_ref();
        let warmup = current::warmup(&current.destination);
        let all = current.endpoints.iter().zip(&current.destination.endpoints);
        all.map(|(state, endpoint)| EndpointView {
            cluster: Arc::clone(&self.name),
            endpoint: Arc::clone(&state.key),
            locality: state.locality.clone(),
            priority: state.priority(),
            weight: endpoint.weight,
            warmth: warmup.map_or(1.0, |warmup| warmup.factor(now - state.since())),
            active: state.active(),
            ready: endpoint.ready,
            ejected: detector.and_then(|detector| detector.ejection(&state.outlier)),
        })
        .collect()
    }
}
