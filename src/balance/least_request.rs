//! LEAST_REQUEST, Istio's default: the less busy of two.
//!
//! Of equal weights two hosts are drawn, with replacement (so that of two hosts the busier one still gets a quarter), and
//! the second is taken only if strictly less is under way at it. Unequal weights take turns by [`Edf`](super::Edf) with
//! `weight / (under way + 1)`, asked for when a host is put back.
//!
//! A request counts from when it has its connection until its response's end, not while it waits.

use super::Host;
use crate::entropy::Draws;
use std::sync::atomic::Ordering;

/// The less busy of two. Two draws, also of a list of one.
#[inline]
pub(super) fn pick(hosts: &[Host], members: &[usize], draws: &mut dyn Draws) -> usize {
    let mut any = || members[(draws.next_u64() % members.len() as u64) as usize];
    let (first, second) = (any(), any());
    let busy = |index: usize| hosts[index].active.load(Ordering::Relaxed);
    if busy(second) < busy(first) { second } else { first }
}

/// A host's weight in a turn.
pub(super) fn weight(host: &Host) -> f64 {
    f64::from(host.weight) / (f64::from(host.active.load(Ordering::Relaxed)) + 1.0)
}
