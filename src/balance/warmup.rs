//! Warm-up: the share of a new host grows from little to full.
//!
//! While a host's age is below the window its weight counts only in part: `(age / window) ^ (1 / aggression)`, at least
//! the floor. Age begins when the host is first seen healthy; it does not begin again when the host comes back from an
//! ejection, as in Envoy. While any host of a table warms up, all its hosts take turns by [`Edf`](super::Edf), and a
//! weight acts when a host is put back after its turn, so the first turns after a quiet time still go by old weights.
//!
//! | aggression | a tenth of the window | half of it |
//! |---|---|---|
//! | 1 | 10 % | 50 % |
//! | 2 | 32 % | 71 % |
//! | 0.5 | 1 % | 25 % |

use std::time::Duration;

/// How a new host's share grows.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub struct Warmup {
    /// For so long. Zero: there is no warm-up.
    pub window: Duration,
    /// The share grows as time to the power of `1 / aggression`. What makes no sense (zero, negative, NaN) counts as 1.
    pub aggression: f64,
    /// The least part of its weight that a host has, from 0 to 1.
    pub floor: f64,
}

impl Warmup {
    /// A share that grows evenly for so long, from a tenth: what Istio does unless it is told otherwise.
    pub fn new(window: Duration) -> Warmup {
        Warmup { window, aggression: 1.0, floor: 0.1 }
    }

    /// The same with this aggression.
    pub fn with_aggression(mut self, aggression: f64) -> Warmup {
        self.aggression = aggression;
        self
    }

    /// The same with this floor, from 0 to 1.
    pub fn with_floor(mut self, floor: f64) -> Warmup {
        self.floor = floor;
        self
    }

    /// Does a host of this age warm up? To the very end of the window, as Envoy has it.
    pub(super) fn holds(&self, age: Duration) -> bool {
        age <= self.window
    }

    /// The part of its weight that a host of this age has.
    pub fn factor(&self, age: Duration) -> f64 {
        if age >= self.window {
            return 1.0;
        }
        let exponent = if self.aggression > 0.0 { 1.0 / self.aggression } else { 1.0 };
        let part = age.as_millis().max(1) as f64 / self.window.as_millis().max(1) as f64;
        part.powf(exponent).max(self.floor).min(1.0)
    }
}
