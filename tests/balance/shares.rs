//! Shares: what weights ask for is what hosts get.

use crate::{counts, draws, hosts, pick, settings, table, within_five_sigma};
use pointsman::balance::Algorithm;
use proptest::prelude::*;
use std::sync::atomic::Ordering;

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, failure_persistence: None, ..ProptestConfig::default() })]

    /// Turns by weight are exact: each whole cycle gives everybody just its weight, and over any number of picks from any
    /// start (where floating point may put equals in another order) nobody is further from its share than by one turn of
    /// its own and its part of one turn of everybody.
    #[test]
    fn weighted_turns_are_exact(weights in prop::collection::vec(1u32..20, 2..12), seed: u64) {
        // Equals are no matter of turns for LEAST_REQUEST.
        prop_assume!(weights.iter().any(|weight| *weight != weights[0]));
        let total: u32 = weights.iter().sum();
        let cycles = 20;
        for algorithm in [Algorithm::RoundRobin, Algorithm::LeastRequest] {
            let found = counts(&table(hosts(&weights), settings(algorithm, 0)), (total * cycles) as usize, 1);
            for (count, weight) in found.iter().zip(&weights) {
                prop_assert_eq!(*count, u64::from(weight * cycles), "{:?}", algorithm);
            }
            let picks = total * cycles + total / 3;
            let found = counts(&table(hosts(&weights), settings(algorithm, seed)), picks as usize, 1);
            for (count, weight) in found.iter().zip(&weights) {
                let part = f64::from(*weight) / f64::from(total);
                let away = (*count as f64 - part * f64::from(picks)).abs();
                prop_assert!(
                    away <= 1.0 + part * weights.len() as f64,
                    "{} picks for {} of {:?}", count, weight, weights
                );
            }
        }
    }

    /// Equal turns: any `n` picks in a row are all `n` hosts.
    #[test]
    fn equal_turns_are_a_cycle(count in 1usize..40, seed: u64, weight in 1u32..5) {
        let table = table(hosts(&vec![weight; count]), settings(Algorithm::RoundRobin, seed));
        let mut draws = draws(seed);
        let picked: Vec<usize> = (0..3 * count).map(|_| pick(&table, &mut draws).expect("a host")).collect();
        prop_assert_eq!(picked[0], (seed % count as u64) as usize);
        // The cursor's own wrap may break the cycle once in 2^64 picks.
        prop_assume!(seed < u64::MAX - 200);
        for window in picked.windows(count) {
            let mut sorted = window.to_vec();
            sorted.sort_unstable();
            prop_assert_eq!(sorted, (0..count).collect::<Vec<_>>());
        }
    }

    /// RANDOM asks no weights.
    #[test]
    fn random_is_even(weights in prop::collection::vec(1u32..100, 1..30), seed: u64) {
        let picks = 20_000;
        let found = counts(&table(hosts(&weights), settings(Algorithm::Random, 0)), picks, seed);
        for count in &found {
            prop_assert!(within_five_sigma(*count, 1.0 / weights.len() as f64, picks), "{:?}", found);
        }
    }

    /// LEAST_REQUEST among equals: of two picks with replacement the less busy one. A host of which `b` others are at least
    /// as busy … has its share by counting pairs.
    #[test]
    fn least_request_is_the_better_of_two(busy in prop::collection::vec(0u32..4, 1..8), seed: u64) {
        let picks = 20_000;
        let hosts = hosts(&vec![1; busy.len()]);
        for (host, busy) in hosts.iter().zip(&busy) {
            host.active.store(*busy, Ordering::Relaxed);
        }
        let mut shares = vec![0.0; busy.len()];
        let pairs = (busy.len() * busy.len()) as f64;
        for first in 0..busy.len() {
            for second in 0..busy.len() {
                shares[if busy[second] < busy[first] { second } else { first }] += 1.0 / pairs;
            }
        }
        let found = counts(&table(hosts, settings(Algorithm::LeastRequest, 0)), picks, seed);
        for (count, share) in found.iter().zip(&shares) {
            prop_assert!(within_five_sigma(*count, *share, picks), "{:?} for {:?}", found, busy);
        }
    }

    /// LEAST_REQUEST with weights: shares are `weight / (active + 1)`.
    #[test]
    fn weighted_least_request_shares_by_weight_over_business(
        mut known in prop::collection::vec((1u32..10, 0u32..5), 2..8),
        seed: u64,
    ) {
        known.push((known[0].0 + 1, 0));
        let hosts = hosts(&known.iter().map(|(weight, _)| *weight).collect::<Vec<_>>());
        for (host, (_, busy)) in hosts.iter().zip(&known) {
            host.active.store(*busy, Ordering::Relaxed);
        }
        let score = |(weight, busy): &(u32, u32)| f64::from(*weight) / f64::from(busy + 1);
        let total: f64 = known.iter().map(score).sum();
        let picks = 5_000;
        let found = counts(&table(hosts, settings(Algorithm::LeastRequest, seed)), picks, seed);
        for (count, known) in found.iter().zip(&known) {
            let part = score(known) / total;
            let away = (*count as f64 - part * picks as f64).abs();
            prop_assert!(away <= 1.0 + part * found.len() as f64, "{} picks, {} asked for", count, part * picks as f64);
        }
    }

    /// Ring and Maglev: each host's part of the hashes is its weight's, as closely as the table's size allows.
    #[test]
    fn hashing_shares_by_weight(weights in prop::collection::vec(1u32..10, 2..12), seed: u64) {
        let total: u32 = weights.iter().sum();
        let picks = 10_000;
        let mut draws = draws(seed);
        let hashes: Vec<u64> = (0..picks).map(|_| draws()).collect();
        for (algorithm, within) in
            [(Algorithm::RingHash { minimum_size: 16_384 }, 0.35), (Algorithm::Maglev { table_size: 65_537 }, 0.01)]
        {
            let table = table(hosts(&weights), settings(algorithm, 0));
            let mut counts = vec![0u64; weights.len()];
            hashes.iter().for_each(|hash| counts[crate::pick_hash(&table, *hash).expect("a host")] += 1);
            for (count, weight) in counts.iter().zip(&weights) {
                let share = f64::from(*weight) / f64::from(total);
                let noise = 5.0 * (share * picks as f64).sqrt() + within * share * picks as f64;
                prop_assert!((*count as f64 - share * picks as f64).abs() <= noise, "{:?} for {:?}", counts, weights);
            }
        }
    }
}

/// LEAST_REQUEST as Envoy's own tests have it: turns by weight over business.
#[test]
fn a_busy_host_waits_longer_for_its_turn() {
    let hosts = hosts(&[1, 2]);
    let active: Vec<_> = hosts.iter().map(|host| host.active.clone()).collect();
    let table = table(hosts, settings(Algorithm::LeastRequest, 0));
    let mut draws = draws(0);
    let mut turn = |busy: [u32; 2], picks: usize| -> String {
        active.iter().zip(busy).for_each(|(active, busy)| active.store(busy, Ordering::Relaxed));
        (0..picks).map(|_| pick(&table, &mut draws).expect("a host").to_string()).collect()
    };
    assert_eq!(turn([0, 0], 6), "101101");
    assert_eq!(turn([0, 1], 5), "10101");
    assert_eq!(turn([1, 0], 10), "0111011110");
}

/// How many draws a pick takes is part of what it promises.
#[test]
fn picks_take_the_draws_that_they_say() {
    for (algorithm, weights, expected) in [
        (Algorithm::RoundRobin, [1, 1, 1], 1),
        (Algorithm::RoundRobin, [1, 2, 3], 1),
        (Algorithm::LeastRequest, [1, 1, 1], 3),
        (Algorithm::LeastRequest, [1, 2, 3], 1),
        (Algorithm::Random, [1, 2, 3], 1),
        (Algorithm::RingHash { minimum_size: 64 }, [1, 2, 3], 1),
        (Algorithm::Maglev { table_size: 251 }, [1, 2, 3], 1),
    ] {
        let table = table(hosts(&weights), settings(algorithm, 0));
        let mut taken = 0;
        let mut source = || {
            taken += 1;
            7
        };
        pick(&table, &mut source).expect("a host");
        assert_eq!(taken, expected, "{algorithm:?} {weights:?}");
    }
    let alone = table(hosts(&[1]), settings(Algorithm::LeastRequest, 0));
    let mut taken = 0;
    pick(&alone, &mut || {
        taken += 1;
        0
    });
    assert_eq!(taken, 3, "also for one host");
}
