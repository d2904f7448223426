//! RING_HASH: a ring of hashes, each host many times.
//!
//! A host stands `scale × weight` times, under `key_0`, `key_1`, …; the scale is the smallest that gives the lightest host
//! a whole number of places and the ring its least size. The sums run on from host to host, so fractions even out. A hash
//! belongs to the first place at or after it, and past the end to the first.
//!
//! Cost: making a ring of `n` places is `n` hashes and a sort. A pick is one look into a directory of the hashes' leading
//! bits, which has about as many entries as the ring has places, and a search among the one or two places that share them.

use std::fmt::Write as _;
use twox_hash::XxHash64;

/// The ring never has more places, unless it is asked to.
const MAX_SIZE: u64 = 8_388_608;

/// A ring over `0..n`.
#[derive(Clone, Debug, Default)]
pub struct Ring {
    places: Vec<(u64, u32)>,
    /// Where the places begin whose leading bits are 0, 1, …; and the end.
    directory: Vec<u32>,
    /// How many bits of a hash are not leading ones.
    shift: u32,
}

impl Ring {
    /// A ring of (key, normalised weight) pairs; the weights' sum is 1 or less. It has at most 8,388,608 places.
    pub fn new<K: AsRef<str>>(hosts: &[(K, f64)], minimum_size: u64) -> Ring {
        Ring::bounded(hosts, minimum_size, MAX_SIZE)
    }

    /// A ring of at most so many places (Istio has no such setting; Envoy has). Light hosts may then be missing.
    pub fn bounded<K: AsRef<str>>(hosts: &[(K, f64)], minimum_size: u64, maximum_size: u64) -> Ring {
        let lightest = hosts.iter().map(|(_, weight)| *weight).fold(f64::INFINITY, f64::min);
        if !(lightest.is_finite() && lightest > 0.0) {
            return Ring::default();
        }
        let minimum = minimum_size as f64;
        let scale = ((lightest * minimum).ceil() / lightest).min(maximum_size.min(MAX_SIZE) as f64);
        let mut places = Vec::with_capacity(scale.ceil() as usize);
        let (mut current, mut target) = (0.0, 0.0);
        let mut name = String::new();
        for (host, (key, weight)) in (0u32..).zip(hosts) {
            target += scale * weight;
            name.clear();
            name.push_str(key.as_ref());
            name.push('_');
            let prefix = name.len();
            let mut index: u64 = 0;
            while current < target {
                name.truncate(prefix);
                // Writing to a string does not fail.
                let _ = write!(name, "{index}");
                places.push((XxHash64::oneshot(0, name.as_bytes()), host));
                index += 1;
                current += 1.0;
            }
        }
        places.sort_unstable();
        Ring::of(places)
    }

    /// The directory of sorted places.
    fn of(places: Vec<(u64, u32)>) -> Ring {
        // At least two entries, so that the shift is less than the hash's width.
        let bits = places.len().max(2).next_power_of_two().trailing_zeros();
        let shift = u64::BITS - bits;
        let mut directory = Vec::with_capacity((1 << bits) + 1);
        let mut at = 0;
        for leading in 0..1u64 << bits {
            while places.get(at).is_some_and(|(hash, _)| hash >> shift < leading) {
                at += 1;
            }
            // A ring has fewer places than a u32 can count.
            directory.push(at as u32);
        }
        directory.push(places.len() as u32);
        Ring { places, directory, shift }
    }

    /// The host of a hash; the `attempt`-th draw of one selection steps on by as many places.
    pub fn pick(&self, hash: u64, attempt: u32) -> Option<usize> {
        let leading = (hash >> self.shift) as usize;
        let (from, to) = match self.directory.get(leading..)? {
            [from, to, ..] => (*from as usize, *to as usize),
            _ => return None,
        };
        let at = from + self.places.get(from..to)?.partition_point(|(place, _)| *place < hash);
        // Past the end is the first place; only a retry may have to go round.
        let at = if attempt == 0 {
            if at < self.places.len() { at } else { 0 }
        } else {
            (at % self.places.len().max(1) + attempt as usize).checked_rem(self.places.len())?
        };
        self.places.get(at).map(|(_, host)| *host as usize)
    }

    /// All places in order: hash and host.
    pub fn places(&self) -> &[(u64, u32)] {
        &self.places
    }
}
