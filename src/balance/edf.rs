//! Earliest deadline first: a weighted turn.
//!
//! Each entry's deadline moves on by `1 / weight` whenever it is picked; the earliest is next, and of equal ones the one
//! that was put in first. Weights are asked for when an entry is put back, so a change acts after its next pick. A seed says
//! how many picks the schedule is ahead when it is made, so that many clients do not begin alike; it is worked out at once,
//! not pick by pick, and in the arithmetic of Envoy so that sequences are the same.

use std::cmp::Ordering;
use std::collections::BinaryHeap;

/// A weighted schedule over `0..n`.
#[derive(Clone, Debug)]
pub struct Edf {
    heap: BinaryHeap<Entry>,
    time: f64,
    next_order: u64,
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    deadline: f64,
    order: u64,
    index: usize,
}

impl Ord for Entry {
    /// The greatest of the heap is the earliest.
    fn cmp(&self, other: &Self) -> Ordering {
        other.deadline.total_cmp(&self.deadline).then(other.order.cmp(&self.order))
    }
}

impl PartialOrd for Entry {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Entry {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Entry {}

/// Not more picks than these are worked out ahead.
const MAX_AHEAD: u64 = 429_496_729;

impl Edf {
    /// A schedule of these weights (all above zero), `seed` picks ahead.
    pub fn new(weights: &[f64], seed: u64) -> Edf {
        let ahead = (seed & u64::from(u32::MAX)) % MAX_AHEAD;
        let shifted: Vec<f64> = weights.iter().map(|weight| weight + 1e-13).collect();
        let total: f64 = shifted.iter().sum();
        let picks = ahead as f64;
        let mut time: f64 = 0.0;
        let mut done: u64 = 0;
        let mut heap = BinaryHeap::with_capacity(weights.len());
        for (index, weight) in shifted.iter().enumerate() {
            let mut full = (weight * picks / total).trunc();
            if full > 0.0 && full / weight >= picks / total {
                full -= 1.0;
            }
            done += full as u64;
            time = time.max(full / weight);
            heap.push(Entry { deadline: (full + 1.0) / weight, order: index as u64, index });
        }
        let mut edf = Edf { heap, time, next_order: weights.len() as u64 };
        for _ in done..ahead {
            edf.pick(|index| weights.get(index).copied().unwrap_or(1.0));
        }
        edf
    }

    /// The next entry, put back with the weight that it has now.
    pub fn pick(&mut self, weight: impl Fn(usize) -> f64) -> Option<usize> {
        let mut next = self.heap.peek_mut()?;
        self.time = next.deadline;
        let index = next.index;
        *next = Entry { deadline: self.time + 1.0 / weight(index), order: self.next_order, index };
        self.next_order += 1;
        Some(index)
    }
}
