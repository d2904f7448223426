//! Ejection by rates: hosts that fail more often than their peers, or more often than they may.
//!
//! Istio switches both off and has no field for them, so a `DestinationRule` never leads here; who embeds a
//! [`Detector`](super::Detector) may switch them on. At each review the answers since the last one are looked at, of hosts
//! that are not out and had at least one:
//!
//! - **success rate**: of hosts with `request_volume` answers or more, if there are `minimum_hosts` of them, those are
//!   ejected whose rate is below the mean less `stdev_factor / 1000` standard deviations (of the whole, not of a sample);
//! - **failure percentage**: of such hosts those are ejected that failed in `threshold` percent or more.
//!
//! Nothing is looked at where there are fewer hosts than both ask for. Failures that no upstream answered are judged by
//! themselves where they are counted apart. Source: Envoy's `outlier_detection_impl.cc`.
//!
//! Cost: two counters more for each answer, while any of the two is on.

use std::sync::atomic::{AtomicU32, Ordering};

/// Ejects hosts that do worse than their peers. `Default` is Envoy's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct SuccessRate {
    /// So many hosts must have enough answers.
    pub minimum_hosts: u32,
    /// So many answers in an interval are enough.
    pub request_volume: u32,
    /// How many thousandths of a standard deviation below the mean are too low.
    pub stdev_factor: u32,
}

impl Default for SuccessRate {
    fn default() -> Self {
        SuccessRate { minimum_hosts: 5, request_volume: 100, stdev_factor: 1_900 }
    }
}

/// Ejects hosts that fail too often. `Default` is Envoy's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct FailurePercentage {
    /// So many hosts must have enough answers.
    pub minimum_hosts: u32,
    /// So many answers in an interval are enough.
    pub request_volume: u32,
    /// So many percent of failures are too many.
    pub threshold: u32,
}

impl Default for FailurePercentage {
    fn default() -> Self {
        FailurePercentage { minimum_hosts: 5, request_volume: 50, threshold: 85 }
    }
}

/// The answers of one host in the interval that runs.
#[derive(Debug, Default)]
pub(super) struct Tally {
    successes: AtomicU32,
    total: AtomicU32,
}

impl Tally {
    pub(super) fn add(&self, success: bool) {
        self.total.fetch_add(1, Ordering::Relaxed);
        if success {
            self.successes.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// What there was, and begins anew.
    pub(super) fn take(&self) -> (u32, u32) {
        (self.successes.swap(0, Ordering::Relaxed), self.total.swap(0, Ordering::Relaxed))
    }
}

/// A host with at least one answer: its successes in percent.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rated {
    /// Which.
    pub(super) host: usize,
    rate: f64,
    total: u32,
}

impl Rated {
    pub(super) fn new(host: usize, (successes, total): (u32, u32)) -> Option<Rated> {
        (total > 0).then(|| Rated { host, rate: f64::from(successes) * 100.0 / f64::from(total), total })
    }
}

/// Those that had enough answers, if they are enough.
fn eligible(rated: &[Rated], volume: u32, hosts: u32) -> Vec<Rated> {
    let enough: Vec<Rated> = rated.iter().copied().filter(|one| one.total >= volume).collect();
    if enough.is_empty() || enough.len() < hosts as usize { Vec::new() } else { enough }
}

impl SuccessRate {
    /// Who does too badly.
    pub(super) fn judge(&self, rated: &[Rated]) -> Vec<usize> {
        let peers = eligible(rated, self.request_volume, self.minimum_hosts);
        let count = peers.len() as f64;
        let mean = peers.iter().map(|one| one.rate).sum::<f64>() / count;
        let variance = peers.iter().map(|one| (one.rate - mean).powi(2)).sum::<f64>() / count;
        let least = mean - f64::from(self.stdev_factor) / 1_000.0 * variance.sqrt();
        peers.iter().filter(|one| one.rate < least).map(|one| one.host).collect()
    }
}

impl FailurePercentage {
    /// Who fails too often.
    pub(super) fn judge(&self, rated: &[Rated]) -> Vec<usize> {
        let peers = eligible(rated, self.request_volume, self.minimum_hosts);
        let most = f64::from(self.threshold);
        peers.iter().filter(|one| 100.0 - one.rate >= most).map(|one| one.host).collect()
    }
}
