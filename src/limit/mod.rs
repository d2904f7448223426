//! How much may be under way: counters with permits that give themselves back.
//!
//! A [`Counter`] counts without a lock. A [`Permit`] is one unit of it; dropping the permit returns it, whatever happened.

use crate::sync::{Arc, AtomicU32, Ordering};

/// How many of something are under way.
#[derive(Clone, Debug, Default)]
pub struct Counter {
    count: Arc<AtomicU32>,
}

/// One that is under way. Dropping it ends it.
#[derive(Debug)]
pub struct Permit {
    count: Arc<AtomicU32>,
}

impl Counter {
    /// How many are under way.
    pub fn get(&self) -> u32 {
        self.count.load(Ordering::Acquire)
    }

    /// One more, unless `limit` are under way. None: no limit.
    pub fn acquire(&self, limit: Option<u32>) -> Option<Permit> {
        let more = |count: u32| (count < limit.unwrap_or(u32::MAX)).then(|| count + 1);
        let acquired = self.count.fetch_update(Ordering::AcqRel, Ordering::Acquire, more);
        acquired.is_ok().then(|| Permit { count: Arc::clone(&self.count) })
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.count.fetch_sub(1, Ordering::AcqRel);
    }
}

/// How many retries may be under way: a share of the requests, but some always.
///
/// `percent` of `requests`, cut to a whole number, and not less than `least`.
pub fn retry_budget(percent: f64, least: u32, requests: u32) -> u32 {
    let share = percent / 100.0 * f64::from(requests);
    least.max(share as u32)
}
