//! Chance as an argument: the engine never rolls its own dice.
//!
//! Every choice that Envoy leaves to its random generator (a weighted destination, a fault's percentage, the two
//! choices of `LEAST_REQUEST`, backoff jitter) takes one 64-bit draw from a [`Draws`]. How many draws a call takes, and
//! in which order, is part of that call's documentation, so a recorded sequence replays to the same decision.

/// A source of uniformly distributed 64-bit draws.
///
/// Any `FnMut() -> u64` is one:
///
/// ```
/// use pointsman::entropy::{Draws, below};
///
/// let mut always_seven = || 7;
/// assert_eq!(below(&mut always_seven, 5), 2);
/// ```
pub trait Draws {
    /// The next draw.
    fn next_u64(&mut self) -> u64;
}

impl<F: FnMut() -> u64> Draws for F {
    fn next_u64(&mut self) -> u64 {
        self()
    }
}

/// One draw, reduced to `0..bound` by remainder as Envoy reduces it. A bound of zero gives zero, and still draws.
pub fn below(draws: &mut dyn Draws, bound: u64) -> u64 {
    draws.next_u64().checked_rem(bound).unwrap_or(0)
}
