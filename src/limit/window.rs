//! How many there were lately: a count over a time that slides along in ten steps.
//!
//! The window is cut into ten slots, and what happens counts in the slot of its time. The count is that of the current
//! slot and the nine before it, so that each is counted for 0.9 to 1.0 windows, as Envoy's retry budgets do with
//! `budgetInterval`. Where slots begin is chance there (the time at which a cluster was made); here it is the beginning of
//! time.
//!
//! Cost: one compare-and-swap an event, ten looks a count; no lock. What happens at the very moment at which a slot is
//! used again may be lost.

use crate::time::Timestamp;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

const SLOTS: u64 = 10;

/// A count over a sliding time.
#[derive(Debug, Default)]
pub struct Window {
    /// Each: the slot's number above, its count below, 32 bits each.
    slots: [AtomicU64; SLOTS as usize],
}

/// The number of the slot of a time, from 1, so that an empty slot is never the current one.
fn number(now: Timestamp, window: Duration) -> u64 {
    let slot = u64::try_from(window.as_nanos()).unwrap_or(u64::MAX) / SLOTS;
    (now.as_nanos() / slot.max(1)).saturating_add(1)
}

impl Window {
    /// One more, at this time.
    pub fn add(&self, now: Timestamp, window: Duration) {
        let number = number(now, window);
        let more = |slot: u64| {
            let count = if slot >> 32 == number & 0xffff_ffff { slot & 0xffff_ffff } else { 0 };
            Some((number << 32) | (count + 1).min(0xffff_ffff))
        };
        // It never gives up.
        let _ = self.slots[(number % SLOTS) as usize].fetch_update(Ordering::AcqRel, Ordering::Acquire, more);
    }

    /// How many there were in the window that ends at this time.
    pub fn count(&self, now: Timestamp, window: Duration) -> u32 {
        let number = number(now, window);
        let mut count: u64 = 0;
        for back in 0..SLOTS.min(number) {
            let number = number - back;
            let slot = self.slots[(number % SLOTS) as usize].load(Ordering::Acquire);
            if slot >> 32 == number & 0xffff_ffff {
                count += slot & 0xffff_ffff;
            }
        }
        u32::try_from(count).unwrap_or(u32::MAX)
    }
}
