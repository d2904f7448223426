//! The load balancers: a pick is a function of what is known of the hosts, a little state, and a draw or a hash.
//!
//! A [`Table`] is made anew whenever membership or health changes, and is then only read; what moves with each pick (a
//! cursor, a schedule) is inside it, shared by all threads. One pick:
//!
//! 1. one draw (or the request's hash) picks a priority by the [loads](priority::loads);
//! 2. in a panic all hosts of the priority count, else the healthy ones; with weighted places, a place's turn comes first;
//! 3. the algorithm picks among them. LEAST_REQUEST takes two draws more; RANDOM uses the first draw again; the others
//!    take none;
//! 4. on a retry, 1 to 3 are done up to six times until a host comes that was not tried; the last one stands.
//!
//! | `loadBalancer` | file | a pick costs |
//! |---|---|---|
//! | `ROUND_ROBIN` | `round_robin.rs` | one step of a shared counter |
//! | `LEAST_REQUEST` | `least_request.rs` | two draws, two looks |
//! | `RANDOM` | `random.rs` | one look |
//! | `PASSTHROUGH` | none: no host is picked, the caller's own address is taken | |
//! | `consistentHash.ringHash` | `ring_hash.rs` | a look into a directory, a short search |
//! | `consistentHash.maglev` | `maglev.rs` | a division, a look |
//! | weights that differ, a host that warms up, several places of one priority | `edf.rs`, `warmup.rs` | a short lock, a heap of the hosts |
//!
//! Only the last of these locks: the order of weighted turns is one order for all threads, and each turn depends on the one
//! before it. Everything else is atomics on what is only read.

mod edf;
mod least_request;
mod maglev;
pub mod priority;
mod random;
mod ring_hash;
mod round_robin;
mod table;
mod warmup;

pub use edf::Edf;
pub use maglev::Maglev;
pub use ring_hash::Ring;
pub use round_robin::Cursors;
pub use table::{Pick, Table};
pub use warmup::Warmup;

use crate::time::Timestamp;
use std::sync::Arc;
use std::sync::atomic::AtomicU32;

/// What a balancer knows of a host.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Host {
    /// Its identity, and what consistent hashing hashes: `10.0.0.1:80`.
    pub key: Arc<str>,
    /// Its share among its peers, at least 1.
    pub weight: u32,
    /// May it be picked without a panic?
    pub healthy: bool,
    /// 0 is asked first.
    pub priority: u32,
    /// Which of the places.
    pub place: usize,
    /// Requests under way.
    pub active: Arc<AtomicU32>,
    /// When it was first seen healthy.
    pub since: Timestamp,
}

impl Host {
    /// A healthy host of priority 0, with nothing under way.
    pub fn new(key: impl Into<Arc<str>>, weight: u32) -> Host {
        Host {
            key: key.into(),
            weight: weight.max(1),
            healthy: true,
            priority: 0,
            place: 0,
            active: Arc::default(),
            since: Timestamp::ZERO,
        }
    }
}

/// How a host is picked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Algorithm {
    /// Each in turn; with unequal weights, in turn by weight.
    RoundRobin,
    /// The less busy of two; with unequal weights, a turn by weight over business.
    LeastRequest,
    /// Any; weights do not count.
    Random,
    /// [`Ring`].
    RingHash {
        /// The least number of places.
        minimum_size: u64,
    },
    /// [`Maglev`].
    Maglev {
        /// The number of slots, a prime.
        table_size: u64,
    },
}

impl Algorithm {
    /// Is a host picked by the request's hash?
    fn is_hashing(self) -> bool {
        matches!(self, Algorithm::RingHash { .. } | Algorithm::Maglev { .. })
    }

    /// Do weights make a turn of it?
    fn takes_turns(self) -> bool {
        matches!(self, Algorithm::RoundRobin | Algorithm::LeastRequest)
    }
}

/// What a table is made from, besides hosts.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Settings {
    /// How a host is picked.
    pub algorithm: Algorithm,
    /// Weights of the places, if a place is picked first.
    pub place_weights: Option<Vec<u64>>,
    /// Below this share of healthy hosts, in percent, all are used. 0: never.
    pub panic_threshold: u32,
    /// How a new host's share grows. Only where [`Algorithm::RoundRobin`] or [`Algorithm::LeastRequest`] pick.
    pub warmup: Option<Warmup>,
    /// Where turns begin.
    pub seed: u64,
}

impl Settings {
    /// Settings of an algorithm, everything else off.
    pub fn new(algorithm: Algorithm) -> Settings {
        Settings { algorithm, place_weights: None, panic_threshold: 0, warmup: None, seed: 0 }
    }
}
