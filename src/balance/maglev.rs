//! MAGLEV: a table of a prime number of slots, each host's share scattered over it by its own two hashes.
//!
//! Hosts take turns in the order of their keys; in round `r` a host takes its next free slot if `r × weight` has reached
//! its target, which then grows by the greatest weight. A hash belongs to the slot of its remainder.
//!
//! A size that is no prime, or beyond 5,000,011, is refused by Istio's validation and by Envoy. Whoever insists gets a table
//! all the same: not larger than that, and a host whose own walk misses the free slots takes the first of them.
//!
//! Cost: making a table of `m` slots looks at some `m × ln m` of them. A pick is one division and one look.

use twox_hash::XxHash64;

/// The largest table, as Envoy has it.
const MAX_SIZE: u64 = 5_000_011;

/// A table over `0..n`.
#[derive(Clone, Debug, Default)]
pub struct Maglev {
    slots: Vec<u32>,
}

impl Maglev {
    /// A table of (key, normalised weight) pairs.
    pub fn new<K: AsRef<str>>(hosts: &[(K, f64)], size: u64) -> Maglev {
        const FREE: u32 = u32::MAX;
        struct Builder {
            host: u32,
            /// The next slot that it would take.
            at: u64,
            skip: u64,
            weight: f64,
            target: f64,
            /// Has its walk come round without a free slot?
            lost: bool,
        }
        if hosts.is_empty() || size < 2 || !hosts.iter().any(|(_, weight)| *weight > 0.0) {
            return Maglev::default();
        }
        let size = size.min(MAX_SIZE);
        let mut builders: Vec<(&str, Builder)> = (0u32..)
            .zip(hosts)
            .map(|(host, (key, weight))| {
                let key = key.as_ref();
                let offset = XxHash64::oneshot(0, key.as_bytes()) % size;
                let skip = XxHash64::oneshot(1, key.as_bytes()) % (size - 1) + 1;
                (key, Builder { host, at: offset, skip, weight: *weight, target: 0.0, lost: false })
            })
            .collect();
        builders.sort_by_key(|(key, _)| *key);
        let heaviest = hosts.iter().map(|(_, weight)| *weight).fold(0.0, f64::max);
        let mut slots = vec![FREE; usize::try_from(size).unwrap_or(0)];
        let mut taken = 0;
        let mut first_free = 0;
        let mut round = 1.0;
        while taken < slots.len() {
            for (_, builder) in &mut builders {
                if taken == slots.len() {
                    break;
                }
                if round * builder.weight < builder.target {
                    continue;
                }
                builder.target += heaviest;
                // A prime size visits every slot, so a free one is found.
                let steps = if builder.lost { 0 } else { slots.len() };
                let mut free = None;
                for _ in 0..steps {
                    let at = builder.at;
                    builder.at += builder.skip;
                    if builder.at >= size {
                        builder.at -= size;
                    }
                    if slots.get(at as usize) == Some(&FREE) {
                        free = Some(at as usize);
                        break;
                    }
                }
                if free.is_none() {
                    builder.lost = true;
                    while slots.get(first_free).is_some_and(|slot| *slot != FREE) {
                        first_free += 1;
                    }
                }
                let free = free.unwrap_or(first_free);
                if let Some(slot) = slots.get_mut(free) {
                    *slot = builder.host;
                    taken += 1;
                }
            }
            round += 1.0;
        }
        Maglev { slots }
    }

    /// The host of a hash; the `attempt`-th draw of one selection looks elsewhere.
    pub fn pick(&self, hash: u64, attempt: u32) -> Option<usize> {
        let hash = if attempt == 0 { hash } else { hash ^ (u64::MAX - u64::from(attempt) + 1) };
        let at = hash.checked_rem(self.slots.len() as u64)?;
        self.slots.get(at as usize).map(|host| *host as usize)
    }

    /// All slots.
    pub fn slots(&self) -> &[u32] {
        &self.slots
    }
}
