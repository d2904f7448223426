//! What picks read: a destination's endpoints as they are now, and a table of them; and how a new one is made.

use super::EndpointState;
use crate::balance::{self, Algorithm, Cursors, Host, Table};
use crate::outlier::{self, Detector, Event};
use crate::policy::{Balancer, Destination};
use crate::time::Timestamp;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// What picks read. Never changed: a change of membership or health puts another one in its place.
#[derive(Debug)]
pub(super) struct Current {
    pub(super) destination: Arc<Destination>,
    pub(super) endpoints: Vec<Arc<EndpointState>>,
    pub(super) detector: Option<Arc<Detector>>,
    pub(super) table: Table,
}

/// What outlives a [`Current`].
#[derive(Debug, Default)]
pub(super) struct Core {
    endpoints: BTreeMap<Arc<str>, Arc<EndpointState>>,
    pub(super) detector: Option<Arc<Detector>>,
    cursors: Cursors,
}

impl Core {
    /// The state of a destination's endpoints as they are now, and a table of them.
    ///
    /// An endpoint that was there already keeps its state: ejection, counts, warm-up. What becomes of its labels, weight or
    /// priority does not matter; a new locality makes it another one. Tells who is back because nobody is ejected any more.
    pub(super) fn build(
        &mut self,
        destination: Arc<Destination>,
        seed: u64,
        now: Timestamp,
        events: &mut Vec<Event>,
    ) -> Current {
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
            None => {
                let forgotten = self.endpoints.values().filter(|state| state.outlier.forget());
                events.extend(forgotten.map(|state| Event::Returned { host: Arc::clone(&state.key) }));
            }
        }
        let mut hosts = Vec::with_capacity(endpoints.len());
        for (endpoint, state) in destination.endpoints.iter().zip(&endpoints) {
            let healthy = endpoint.ready && !state.outlier.is_ejected();
            if healthy {
                state.seen_healthy(now);
            }
            hosts.push(Host {
                healthy,
                priority: state.priority(),
                place: endpoint.group,
                active: Arc::clone(&state.active),
                since: state.since(),
                ..Host::new(Arc::clone(&endpoint.key), endpoint.weight)
            });
        }
        let table = Table::new(hosts, balance_settings(&destination, seed), &mut self.cursors, now);
        Current { destination, endpoints, detector: self.detector.clone(), table }
    }
}

fn balance_settings(destination: &Destination, seed: u64) -> balance::Settings {
    let algorithm = match destination.balancer {
        Balancer::RoundRobin => Algorithm::RoundRobin,
        Balancer::LeastRequest => Algorithm::LeastRequest,
        // Of a passthrough nothing is picked.
        Balancer::Random | Balancer::Passthrough => Algorithm::Random,
        Balancer::RingHash { minimum_size } => Algorithm::RingHash { minimum_size },
        Balancer::Maglev { table_size } => Algorithm::Maglev { table_size },
    };
    balance::Settings {
        place_weights: destination
            .locality_weighted
            .then(|| destination.groups.iter().map(|group| group.weight).collect()),
        panic_threshold: destination.panic_threshold,
        warmup: warmup(destination),
        seed,
        ..balance::Settings::new(algorithm)
    }
}

pub(super) fn warmup(destination: &Destination) -> Option<balance::Warmup> {
    let warmup = destination.warmup?;
    let floor = warmup.minimum_percent / 100.0;
    Some(balance::Warmup::new(warmup.window).with_aggression(warmup.aggression).with_floor(floor))
}

fn outlier_settings(destination: &Destination) -> Option<outlier::Settings> {
    let settings = destination.outlier.as_ref()?;
    let defaults = outlier::Settings::new(settings.interval, settings.base_ejection_time);
    Some(outlier::Settings {
        consecutive_5xx: settings.consecutive_5xx,
        consecutive_gateway_errors: settings.consecutive_gateway_errors,
        consecutive_local_origin_failures: settings.consecutive_local_origin_failures,
        split_local_origin: settings.split_local_origin,
        max_ejection_time: settings.max_ejection_time,
        max_ejection_percent: settings.max_ejection_percent,
        error_codes: settings.error_codes.clone(),
        ..defaults
    })
}
