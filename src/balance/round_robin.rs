//! ROUND_ROBIN: each in turn.
//!
//! Of equal weights a counter goes on with each pick, and its remainder says whose turn it is. Each list that hosts are
//! picked from (a priority's hosts: all, the healthy ones, those of a place) has a counter of its own; all begin at the
//! same seed, and go on where they were when membership or health changes, as Envoy's do. Unequal weights take turns by
//! [`Edf`](super::Edf).
//!
//! Envoy counts for each of its workers, so that its turns do not look like turns from outside; here one process has one
//! count.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// The counters of a destination: they outlive tables.
#[derive(Clone, Debug, Default)]
pub struct Cursors {
    by_source: BTreeMap<(u32, Source), Arc<AtomicU64>>,
}

/// A list that hosts are picked from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Source {
    All,
    Healthy,
    Place(usize),
}

impl Cursors {
    /// The counter of a list; a new one begins at the seed.
    pub(super) fn of(&mut self, priority: u32, source: Source, seed: u64) -> Arc<AtomicU64> {
        let cursor = self.by_source.entry((priority, source)).or_insert_with(|| Arc::new(AtomicU64::new(seed)));
        Arc::clone(cursor)
    }
}

/// Whose turn it is.
#[inline]
pub(super) fn pick(members: &[usize], cursor: &AtomicU64) -> usize {
    members[(cursor.fetch_add(1, Ordering::Relaxed) % members.len() as u64) as usize]
}
