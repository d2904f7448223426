//! RING_HASH: a ring of hashes, each host many times.
//!
//! A host stands `scale × weight` times, under `key_0`, `key_1`, …; the scale is the smallest that gives the lightest host
//! a whole number of places and the ring its least size. The sums run on from host to host, so fractions even out. A hash
//! belongs to the first place at or after it, and past the end to the first.

use twox_hash::XxHash64;

/// The ring never has more places.
const MAX_SIZE: f64 = 8_388_608.0;

/// A ring over `0..n`.
#[derive(Clone, Debug, Default)]
pub struct Ring {
    places: Vec<(u64, u32)>,
}

impl Ring {
    /// A ring of (key, normalised weight) pairs; the weights' sum is 1 or less.
    pub fn new<K: AsRef<str>>(hosts: &[(K, f64)], minimum_size: u64) -> Ring {
        let lightest = hosts.iter().map(|(_, weight)| *weight).fold(f64::INFINITY, f64::min);
        if !(lightest.is_finite() && lightest > 0.0) {
            return Ring::default();
        }
        let minimum = minimum_size as f64;
        let scale = ((lightest * minimum).ceil() / lightest).min(MAX_SIZE);
        let mut places = Vec::with_capacity(scale.ceil() as usize);
        let (mut current, mut target) = (0.0, 0.0);
        let mut name = String::new();
        for (host, (key, weight)) in (0u32..).zip(hosts) {
            target += scale * weight;
            let mut index: u64 = 0;
            while current < target {
                name.clear();
                name.push_str(key.as_ref());
                name.push('_');
                name.push_str(&index.to_string());
                places.push((XxHash64::oneshot(0, name.as_bytes()), host));
                index += 1;
                current += 1.0;
            }
        }
        places.sort_unstable();
        Ring { places }
    }

    /// The host of a hash; the `attempt`-th draw of one selection steps on by as many places.
    pub fn pick(&self, hash: u64, attempt: u32) -> Option<usize> {
        let at = self.places.partition_point(|(place, _)| *place < hash);
        let at = if at == self.places.len() { 0 } else { at };
        let at = (at + attempt as usize).checked_rem(self.places.len())?;
        self.places.get(at).map(|(_, host)| *host as usize)
    }

    /// All places in order: hash and host.
    pub fn places(&self) -> &[(u64, u32)] {
        &self.places
    }
}
