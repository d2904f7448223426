//! The load balancers through the public API: do shares come out as weights ask, does consistent hashing stay consistent,
//! and do clever structures pick what naive ones would?

mod disruption;
mod live;
mod oracle;
mod panic;
mod shares;
mod warmup;

use pointsman::balance::{Algorithm, Cursors, Host, Pick, Settings, Table};
use pointsman::time::Timestamp;

/// Hosts of these weights: `10.0.0.0:80`, `10.0.0.1:80`, ….
pub(crate) fn hosts(weights: &[u32]) -> Vec<Host> {
    let key = |index: usize| format!("10.0.{}.{}:80", index / 256, index % 256);
    weights.iter().enumerate().map(|(index, weight)| Host::new(key(index), *weight)).collect()
}

pub(crate) fn settings(algorithm: Algorithm, seed: u64) -> Settings {
    let mut settings = Settings::new(algorithm);
    settings.seed = seed;
    settings
}

pub(crate) fn table(hosts: Vec<Host>, settings: Settings) -> Table {
    Table::new(hosts, settings, &mut Cursors::default(), Timestamp::ZERO)
}

/// Well-spread draws (SplitMix64).
pub(crate) fn draws(mut state: u64) -> impl FnMut() -> u64 {
    move || {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = state;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }
}

pub(crate) fn pick(table: &Table, draws: &mut impl FnMut() -> u64) -> Option<usize> {
    table.pick(&Pick::default(), Timestamp::ZERO, draws)
}

pub(crate) fn pick_hash(table: &Table, hash: u64) -> Option<usize> {
    table.pick(&Pick { hash: Some(hash), ..Pick::default() }, Timestamp::ZERO, &mut || 0)
}

/// How often each host is picked in `picks` picks.
pub(crate) fn counts(table: &Table, picks: usize, seed: u64) -> Vec<u64> {
    let mut draws = draws(seed);
    let mut counts = vec![0; table.hosts().len()];
    for _ in 0..picks {
        counts[pick(table, &mut draws).expect("a host")] += 1;
    }
    counts
}

/// Is a count of `picks` within five sigma of what its share asks for?
pub(crate) fn within_five_sigma(count: u64, share: f64, picks: usize) -> bool {
    let expected = share * picks as f64;
    let sigma = (expected * (1.0 - share)).sqrt();
    (count as f64 - expected).abs() <= 5.0 * sigma + 1.0
}
