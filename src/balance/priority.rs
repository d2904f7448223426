//! How much of the load each priority takes.
//!
//! A priority is as healthy as 1.4 times its share of healthy hosts, at most 100 %. The first takes what it can, the next
//! of the rest. Where all together are less than 100 % healthy, priorities below the panic threshold use all their hosts;
//! where every one is, the load is shared by their sizes. All arithmetic is in whole percent, as Envoy's.

/// Hosts that count, and those of them that are healthy.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Census {
    /// All hosts.
    pub hosts: u64,
    /// The healthy ones.
    pub healthy: u64,
}

/// What priorities take.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Loads {
    /// In percent, for each priority.
    pub load: Vec<u64>,
    /// Does the priority use all its hosts?
    pub panic: Vec<bool>,
}

const OVERPROVISIONING: u64 = 140;

/// The health of one priority in percent.
pub fn health(census: Census) -> u64 {
    (OVERPROVISIONING * census.healthy).checked_div(census.hosts).unwrap_or(0).min(100)
}

/// What each priority takes.
pub fn loads(priorities: &[Census], panic_threshold: u64) -> Loads {
    let threshold = panic_threshold.min(100);
    let norm = priorities.iter().map(|census| health(*census)).sum::<u64>().min(100);
    let panic: Vec<bool> = priorities
        .iter()
        // 100 × healthy / hosts < threshold; a priority without hosts is 0 % healthy.
        .map(|census| norm < 100 && 100 * census.healthy < threshold * census.hosts.max(1))
        .collect();
    let mut load = vec![0; priorities.len()];
    if !panic.is_empty() && panic.iter().all(|panic| *panic) {
        let all: u64 = priorities.iter().map(|census| census.hosts).sum();
        for (load, census) in load.iter_mut().zip(priorities) {
            *load = (100 * census.hosts).checked_div(all).unwrap_or(0);
        }
        let rest = 100 - load.iter().sum::<u64>();
        let first = priorities.iter().position(|census| census.hosts > 0).unwrap_or(0);
        load[first] += rest;
        return Loads { load, panic };
    }
    let mut rest = 100;
    for (load, census) in load.iter_mut().zip(priorities) {
        *load = (health(*census) * 100).checked_div(norm).unwrap_or(0).min(rest);
        rest -= *load;
    }
    let first = priorities.iter().position(|census| health(*census) > 0);
    if let Some(load) = load.get_mut(first.unwrap_or(0)) {
        *load += rest;
    }
    Loads { load, panic }
}

/// The priority that a draw falls on.
pub fn choose(loads: &[u64], draw: u64) -> usize {
    let x = draw % 100 + 1;
    let mut sum = 0;
    for (priority, load) in loads.iter().enumerate() {
        sum += load;
        if x <= sum {
            return priority;
        }
    }
    0
}
