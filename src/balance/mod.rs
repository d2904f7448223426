//! The load balancers: a pick is a function of what is known of the hosts, a little state, and a draw or a hash.
//!
//! A [`Table`] is made anew whenever membership or health changes, and is then only read; what moves with each pick (a
//! cursor, a schedule) is inside it, shared by all threads. One pick:
//!
//! 1. one draw (or the request's hash) picks a priority by the [loads](priority::loads);
//! 2. in a panic all hosts of the priority count, else the healthy ones; with weighted places, a place's turn comes first;
//! 3. the algorithm picks among them. LEAST_REQUEST takes two draws more; RANDOM uses the first draw again; the others
//!    take none;
//! 4. on a retry, 1 to 3 are done up to six times until a host comes that was not tried; the last one stands.

mod edf;
mod maglev;
pub mod priority;
mod ring;

pub use edf::Edf;
pub use maglev::Maglev;
pub use ring::Ring;

use crate::entropy::Draws;
use crate::time::Timestamp;
use priority::Census;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// What a balancer knows of a host.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Host {
    /// Its identity, and what consistent hashing hashes: `10.0.0.1:80`.
    pub key: Arc<str>,
    /// Its share among its peers, at least 1.
    pub weight: u32,
    /// May it be picked without a panic?
    pub healthy: bool,
    /// 0 is asked first.
    pub priority: u32,
    /// Which of the places.
    pub place: usize,
    /// Requests under way.
    pub active: Arc<AtomicU32>,
    /// When it was first seen healthy.
    pub since: Timestamp,
}

impl Host {
    /// A healthy host of priority 0, with nothing under way.
    pub fn new(key: impl Into<Arc<str>>, weight: u32) -> Host {
        Host {
            key: key.into(),
            weight: weight.max(1),
            healthy: true,
            priority: 0,
            place: 0,
            active: Arc::default(),
            since: Timestamp::ZERO,
        }
    }
}

/// How a host is picked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Algorithm {
    /// Each in turn.
    RoundRobin,
    /// The less busy of two; with unequal weights, a turn by weight over business.
    LeastRequest,
    /// Any; weights do not count.
    Random,
    /// [`Ring`].
    RingHash {
        /// The least number of places.
        minimum_size: u64,
    },
    /// [`Maglev`].
    Maglev {
        /// The number of slots, a prime.
        table_size: u64,
    },
}

/// What a table is made from, besides hosts.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Settings {
    /// How a host is picked.
    pub algorithm: Algorithm,
    /// Weights of the places, if a place is picked first.
    pub place_weights: Option<Vec<u64>>,
    /// Below this share of healthy hosts, in percent, all are used. 0: never.
    pub panic_threshold: u32,
    /// Warm-up: window, exponent's inverse, least factor.
    pub warmup: Option<(Duration, f64, f64)>,
    /// Where turns begin.
    pub seed: u64,
}

impl Settings {
    /// Settings of an algorithm, everything else off.
    pub fn new(algorithm: Algorithm) -> Settings {
        Settings { algorithm, place_weights: None, panic_threshold: 0, warmup: None, seed: 0 }
    }
}

/// Cursors of round robin: they outlive tables.
#[derive(Clone, Debug, Default)]
pub struct Cursors {
    by_source: BTreeMap<(u32, Source), Arc<AtomicU64>>,
}

/// A list that hosts are picked from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Source {
    All,
    Healthy,
    Place(usize),
}

/// Hosts, ready to be picked from.
#[derive(Debug)]
pub struct Table {
    hosts: Vec<Host>,
    census: Vec<Census>,
    loads: priority::Loads,
    priorities: Vec<Priority>,
    settings: Settings,
    warmup: Option<Warmup>,
}

/// [`Settings::warmup`], as it is reckoned with.
#[derive(Debug)]
struct Warmup {
    window: Duration,
    window_millis: f64,
    exponent: f64,
    least: f64,
}

impl Warmup {
    fn new((window, aggression, least): (Duration, f64, f64)) -> Warmup {
        // As Envoy: an aggression that makes no sense is 1.
        let exponent = if aggression > 0.0 { 1.0 / aggression } else { 1.0 };
        Warmup { window, window_millis: window.as_millis().max(1) as f64, exponent, least }
    }

    /// The part of its weight that a host of this age has.
    fn factor(&self, age: Duration) -> f64 {
        if age >= self.window {
            return 1.0;
        }
        (age.as_millis().max(1) as f64 / self.window_millis).powf(self.exponent).max(self.least)
    }
}

#[derive(Debug)]
struct Priority {
    all: List,
    healthy: List,
    places: Vec<List>,
    /// The weights of these places, as far as their hosts are healthy.
    place_weights: Vec<f64>,
    turn: Option<Mutex<Edf>>,
    hashed: Hashed,
}

#[derive(Debug)]
enum Hashed {
    No,
    Ring(Ring, Vec<usize>),
    Maglev(Maglev, Vec<usize>),
}

#[derive(Debug)]
struct List {
    hosts: Vec<usize>,
    cursor: Arc<AtomicU64>,
    /// With unequal weights, or while a host warms up.
    schedule: Option<Mutex<Edf>>,
}

/// What a pick takes into account.
#[derive(Clone, Copy, Default)]
pub struct Pick<'a> {
    /// The request's hash. None: a draw takes its place.
    pub hash: Option<u64>,
    /// Hosts that a retry passes over, if others come.
    pub refused: Option<&'a dyn Fn(&Host) -> bool>,
    /// Priorities that a retry leaves out, if others have healthy hosts.
    pub excluded_priorities: &'a [u32],
}

impl std::fmt::Debug for Pick<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Pick").field("hash", &self.hash).finish_non_exhaustive()
    }
}

/// How often a retry draws another host.
const RESELECTIONS: u32 = 5;

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    // A schedule is whole between any two of its steps.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Table {
    /// A table of hosts as they are now.
    pub fn new(hosts: Vec<Host>, settings: Settings, cursors: &mut Cursors, now: Timestamp) -> Table {
        let levels = hosts.iter().map(|host| host.priority + 1).max().unwrap_or(1);
        let mut census = vec![Census::default(); levels as usize];
        for host in &hosts {
            let level = &mut census[host.priority as usize];
            level.hosts += 1;
            level.healthy += u64::from(host.healthy);
        }
        let loads = priority::loads(&census, settings.panic_threshold.into());
        let warmup = settings.warmup.filter(|(window, _, _)| !window.is_zero()).map(Warmup::new);
        let warming = warmup
            .as_ref()
            .is_some_and(|warmup| hosts.iter().any(|host| host.healthy && now - host.since <= warmup.window));
        let mut table = Table { hosts, census, loads, priorities: Vec::new(), settings, warmup };
        table.priorities = (0..levels).map(|level| table.priority(level, warming, cursors, now)).collect();
        table
    }

    fn priority(&self, level: u32, warming: bool, cursors: &mut Cursors, now: Timestamp) -> Priority {
        let members = |filter: &dyn Fn(&Host) -> bool| -> Vec<usize> {
            let of_level = self.hosts.iter().enumerate().filter(|(_, host)| host.priority == level && filter(host));
            of_level.map(|(index, _)| index).collect()
        };
        let mut list = |source: Source, hosts: Vec<usize>| {
            let seed = self.settings.seed;
            let cursor = cursors.by_source.entry((level, source)).or_insert_with(|| Arc::new(AtomicU64::new(seed)));
            let first = hosts.first().map(|index| self.hosts[*index].weight);
            let unequal = hosts.iter().any(|index| Some(self.hosts[*index].weight) != first);
            let turns = matches!(self.settings.algorithm, Algorithm::RoundRobin | Algorithm::LeastRequest);
            let schedule = (turns && hosts.len() > 1 && (unequal || warming)).then(|| {
                let weights: Vec<f64> = hosts.iter().map(|index| self.weight(*index, now)).collect();
                Mutex::new(Edf::new(&weights, seed))
            });
            List { hosts, cursor: Arc::clone(cursor), schedule }
        };
        let all = list(Source::All, members(&|_| true));
        let healthy = list(Source::Healthy, members(&|host| host.healthy));
        let mut places = Vec::new();
        let mut turn = None;
        let mut effective = Vec::new();
        if let Some(weights) = &self.settings.place_weights {
            for (place, weight) in weights.iter().enumerate() {
                let hosts = members(&|host| host.place == place).len() as f64;
                let eligible = members(&|host| host.place == place && host.healthy);
                let share = if hosts > 0.0 { (1.4 * eligible.len() as f64 / hosts).min(1.0) } else { 0.0 };
                let weight = *weight as f64 * share;
                if weight > 0.0 {
                    effective.push(weight);
                    places.push(list(Source::Place(place), eligible));
                }
            }
            if !effective.is_empty() {
                turn = Some(Mutex::new(Edf::new(&effective, self.settings.seed)));
            }
        }
        let panic = self.loads.panic[level as usize];
        let hashed = self.hashed(level, if panic { &all.hosts } else { &healthy.hosts });
        Priority { all, healthy, places, place_weights: effective, turn, hashed }
    }

    fn hashed(&self, level: u32, members: &[usize]) -> Hashed {
        if !matches!(self.settings.algorithm, Algorithm::RingHash { .. } | Algorithm::Maglev { .. }) {
            return Hashed::No;
        }
        let (members, weights): (Vec<usize>, Vec<(Arc<str>, f64)>) = match &self.settings.place_weights {
            None => {
                let total: f64 = members.iter().map(|index| f64::from(self.hosts[*index].weight)).sum();
                let host = |index: &usize| &self.hosts[*index];
                let share = |index: &usize| f64::from(host(index).weight) / total;
                members.iter().map(|index| (*index, (Arc::clone(&host(index).key), share(index)))).unzip()
            }
            Some(places) => {
                // Places whose hosts are all out still count: their share is simply missing.
                let mut present = vec![false; places.len()];
                for host in self.hosts.iter().filter(|host| host.priority == level) {
                    if let Some(present) = present.get_mut(host.place) {
                        *present = true;
                    }
                }
                let total: f64 =
                    places.iter().zip(present).filter(|(_, present)| *present).map(|(weight, _)| *weight as f64).sum();
                let mut peers = vec![0.0; places.len()];
                for host in members.iter().map(|index| &self.hosts[*index]) {
                    if let Some(peers) = peers.get_mut(host.place) {
                        *peers += f64::from(host.weight);
                    }
                }
                members
                    .iter()
                    .filter_map(|index| {
                        let host = &self.hosts[*index];
                        let weight = *places.get(host.place)?;
                        let share = f64::from(host.weight) * (weight as f64 / total) / peers.get(host.place)?;
                        // A place of weight 0 gets nothing.
                        (weight > 0).then(|| (*index, (Arc::clone(&host.key), share)))
                    })
                    .unzip()
            }
        };
        match self.settings.algorithm {
            Algorithm::RingHash { minimum_size } => Hashed::Ring(Ring::new(&weights, minimum_size), members),
            Algorithm::Maglev { table_size } => Hashed::Maglev(Maglev::new(&weights, table_size), members),
            _ => Hashed::No,
        }
    }

    /// A host's weight in a schedule, now.
    fn weight(&self, index: usize, now: Timestamp) -> f64 {
        let host = &self.hosts[index];
        let mut weight = f64::from(host.weight);
        if self.settings.algorithm == Algorithm::LeastRequest {
            weight /= f64::from(host.active.load(Ordering::Relaxed)) + 1.0;
        }
        if let Some(warmup) = self.warmup.as_ref().filter(|_| host.healthy) {
            weight *= warmup.factor(now - host.since);
        }
        weight
    }

    /// The hosts.
    pub fn hosts(&self) -> &[Host] {
        &self.hosts
    }

    /// What each priority takes.
    pub fn loads(&self) -> &priority::Loads {
        &self.loads
    }

    /// Picks a host: its place in [`Table::hosts`]. None if there is no healthy one (and no panic).
    pub fn pick(&self, pick: &Pick<'_>, now: Timestamp, draws: &mut dyn Draws) -> Option<usize> {
        let mut last = None;
        let rounds = if pick.refused.is_some() { RESELECTIONS } else { 0 };
        for attempt in 0..=rounds {
            last = self.pick_once(pick, attempt, now, draws);
            match (last, pick.refused) {
                (Some(index), Some(refused)) if refused(&self.hosts[index]) => {}
                _ => return last,
            }
        }
        last
    }

    fn pick_once(&self, pick: &Pick<'_>, attempt: u32, now: Timestamp, draws: &mut dyn Draws) -> Option<usize> {
        let is_hashed = matches!(self.settings.algorithm, Algorithm::RingHash { .. } | Algorithm::Maglev { .. });
        let draw = match pick.hash {
            Some(hash) if is_hashed => hash,
            _ => draws.next_u64(),
        };
        let attempt = if pick.hash.is_some() { attempt } else { 0 };
        let level = self.level(pick.excluded_priorities, draw);
        let priority = self.priorities.get(level)?;
        let panic = self.loads.panic[level];
        match &priority.hashed {
            Hashed::Ring(ring, members) => return ring.pick(draw, attempt).and_then(|at| members.get(at).copied()),
            Hashed::Maglev(table, members) => return table.pick(draw, attempt).and_then(|at| members.get(at).copied()),
            Hashed::No => {}
        }
        let list = if panic {
            &priority.all
        } else {
            let place = priority.turn.as_ref().and_then(|turn| {
                let place = lock(turn).pick(|at| priority.place_weights.get(at).copied().unwrap_or(1.0));
                priority.places.get(place?)
            });
            place.unwrap_or(&priority.healthy)
        };
        self.pick_from(list, draw, now, draws)
    }

    fn level(&self, excluded: &[u32], draw: u64) -> usize {
        if excluded.is_empty() {
            return priority::choose(&self.loads.load, draw);
        }
        let left: Vec<Census> = (0u32..)
            .zip(&self.census)
            .map(|(level, census)| if excluded.contains(&level) { Census { healthy: 0, ..*census } } else { *census })
            .collect();
        if left.iter().all(|census| census.healthy == 0) {
            return priority::choose(&self.loads.load, draw);
        }
        priority::choose(&priority::loads(&left, 0).load, draw)
    }

    /// A turn by weight. Apart from other picks, which would else be slowed down by what only this one needs.
    #[inline(never)]
    fn take_turn(&self, list: &List, schedule: &Mutex<Edf>, now: Timestamp) -> Option<usize> {
        let index = lock(schedule).pick(|at| self.weight(list.hosts[at], now))?;
        list.hosts.get(index).copied()
    }

    fn pick_from(&self, list: &List, draw: u64, now: Timestamp, draws: &mut dyn Draws) -> Option<usize> {
        let len = list.hosts.len() as u64;
        if len == 0 {
            return None;
        }
        let at = |draw: u64| list.hosts[(draw % len) as usize];
        if let Some(schedule) = &list.schedule {
            return self.take_turn(list, schedule, now);
        }
        Some(match self.settings.algorithm {
            Algorithm::RoundRobin => at(list.cursor.fetch_add(1, Ordering::Relaxed)),
            Algorithm::LeastRequest => {
                let (first, second) = (at(draws.next_u64()), at(draws.next_u64()));
                let busy = |index: usize| self.hosts[index].active.load(Ordering::Relaxed);
                if busy(second) < busy(first) { second } else { first }
            }
            _ => at(draw),
        })
    }
}
