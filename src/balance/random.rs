//! RANDOM: any; weights do not count.
//!
//! The draw is the one that picked the priority, as in Envoy: where a priority takes less than all of the load, and its
//! size shares a factor with 100, some of its hosts are picked more often than others.

/// The host of a draw.
#[inline]
pub(super) fn pick(members: &[usize], draw: u64) -> usize {
    members[(draw % members.len() as u64) as usize]
}
