//! A table: the hosts of a destination as they are now, sorted into lists that the algorithms pick from.

use super::priority::{self, Census};
use super::round_robin::{Cursors, Source};
use super::{Algorithm, Edf, Host, Maglev, Ring, Settings, Warmup, least_request, random, round_robin};
use crate::entropy::Draws;
use crate::sync::lock;
use crate::time::Timestamp;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex};

/// Hosts, ready to be picked from.
///
/// ```
/// use pointsman::balance::{Algorithm, Cursors, Host, Pick, Settings, Table};
/// use pointsman::time::Timestamp;
///
/// let hosts = vec![Host::new("10.0.0.1:80", 1), Host::new("10.0.0.2:80", 1)];
/// let settings = Settings::new(Algorithm::RoundRobin);
/// let table = Table::new(hosts, settings, &mut Cursors::default(), Timestamp::ZERO);
/// let mut pick = || table.pick(&Pick::default(), Timestamp::ZERO, &mut || 0);
/// assert_eq!([pick(), pick(), pick()], [Some(0), Some(1), Some(0)]);
/// ```
#[derive(Debug)]
pub struct Table {
    hosts: Vec<Host>,
    census: Vec<Census>,
    loads: priority::Loads,
    priorities: Vec<Priority>,
    settings: Settings,
    warmup: Option<Warmup>,
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
        let warmup = settings.warmup.filter(|warmup| !warmup.window.is_zero());
        let warming =
            warmup.is_some_and(|warmup| hosts.iter().any(|host| host.healthy && warmup.holds(now - host.since)));
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
            let cursor = cursors.of(level, source, seed);
            let first = hosts.first().map(|index| self.hosts[*index].weight);
            let unequal = hosts.iter().any(|index| Some(self.hosts[*index].weight) != first);
            let turns = self.settings.algorithm.takes_turns();
            let schedule = (turns && hosts.len() > 1 && (unequal || warming)).then(|| {
                let weights: Vec<f64> = hosts.iter().map(|index| self.weight(*index, now)).collect();
                Mutex::new(Edf::new(&weights, seed))
            });
            List { hosts, cursor, schedule }
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
            // A place that is alone always has its turn.
            if effective.len() > 1 {
                turn = Some(Mutex::new(Edf::new(&effective, self.settings.seed)));
            }
        }
        let panic = self.loads.panic[level as usize];
        let hashed = self.hashed(level, if panic { &all.hosts } else { &healthy.hosts });
        Priority { all, healthy, places, place_weights: effective, turn, hashed }
    }

    fn hashed(&self, level: u32, members: &[usize]) -> Hashed {
        if !self.settings.algorithm.is_hashing() {
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
        let mut weight = match self.settings.algorithm {
            Algorithm::LeastRequest => least_request::weight(host),
            _ => f64::from(host.weight),
        };
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
        let draw = match pick.hash {
            Some(hash) if self.settings.algorithm.is_hashing() => hash,
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
        let list = if panic { &priority.all } else { priority.next_place().unwrap_or(&priority.healthy) };
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
        if list.hosts.is_empty() {
            return None;
        }
        if let Some(schedule) = &list.schedule {
            return self.take_turn(list, schedule, now);
        }
        Some(match self.settings.algorithm {
            Algorithm::RoundRobin => round_robin::pick(&list.hosts, &list.cursor),
            Algorithm::LeastRequest => least_request::pick(&self.hosts, &list.hosts, draws),
            _ => random::pick(&list.hosts, draw),
        })
    }
}

impl Priority {
    /// The place whose turn it is; none if hosts are picked without regard to places.
    fn next_place(&self) -> Option<&List> {
        let Some(turn) = &self.turn else { return self.places.first() };
        let place = lock(turn).pick(|at| self.place_weights.get(at).copied().unwrap_or(1.0));
        self.places.get(place?)
    }
}
