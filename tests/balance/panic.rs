//! Priorities, spill and panic: the loads in a table, beside a second way of working them out, and picks that follow them.

use crate::{counts, draws, hosts, pick, settings, table, within_five_sigma};
use pointsman::balance::priority::{Census, Loads, choose, health, loads};
use pointsman::balance::{Algorithm, Cursors, Host, Pick, Table};
use pointsman::time::Timestamp;
use proptest::prelude::*;

fn census(hosts: u64, healthy: u64) -> Census {
    Census { hosts, healthy }
}

/// Hosts and healthy ones of each priority, the threshold, and what each takes; who panics.
type Case<'a> = (&'a [(u64, u64)], u64, &'a [u64], &'a [bool]);

#[test]
fn loads_are_envoys() {
    let cases: &[Case<'_>] = &[
        (&[(4, 2), (4, 2)], 50, &[70, 30], &[false, false]),
        (&[(4, 1), (2, 2)], 50, &[35, 65], &[false, false]),
        (&[(4, 1), (4, 1)], 50, &[50, 50], &[true, true]),
        (&[(1, 0), (2, 0)], 50, &[34, 66], &[true, true]),
        (&[(1, 0), (2, 0), (1, 1)], 50, &[0, 0, 100], &[false, false, false]),
        (&[(2, 1), (2, 1), (2, 1)], 50, &[70, 30, 0], &[false, false, false]),
        (&[(4, 1), (4, 1), (4, 1)], 50, &[35, 35, 30], &[false, false, false]),
        (&[(5, 1), (5, 1), (5, 1)], 50, &[34, 33, 33], &[true, true, true]),
        (&[(5, 0), (5, 0), (5, 4)], 50, &[0, 0, 100], &[false, false, false]),
        (&[(5, 0), (5, 0), (5, 2)], 50, &[34, 33, 33], &[true, true, true]),
        (&[(5, 0), (3, 0), (2, 0)], 50, &[50, 30, 20], &[true, true, true]),
        (&[(5, 0), (6, 2), (3, 1)], 50, &[37, 42, 21], &[true, true, true]),
        (&[(0, 0), (6, 0), (3, 0)], 50, &[0, 67, 33], &[true, true, true]),
        (&[(10, 2), (10, 5)], 50, &[29, 71], &[true, false]),
        (&[(10, 4)], 50, &[100], &[true]),
        (&[(10, 5)], 50, &[100], &[false]),
        (&[(5, 0)], 0, &[100], &[false]),
        (&[(5, 0), (5, 0)], 0, &[100, 0], &[false, false]),
        (&[(4, 1), (4, 1)], 0, &[50, 50], &[false, false]),
        (&[(0, 0)], 50, &[100], &[true]),
        (&[], 50, &[], &[]),
    ];
    for (priorities, threshold, load, panic) in cases {
        let census: Vec<Census> = priorities.iter().map(|(hosts, healthy)| census(*hosts, *healthy)).collect();
        let expected = Loads { load: load.to_vec(), panic: panic.to_vec() };
        assert_eq!(loads(&census, *threshold), expected, "{priorities:?}, threshold {threshold}");
    }
    // What the first priority keeps when k of n hosts are out, and all of a second one are well.
    for (hosts, out, kept) in [
        (2, 1, 70),
        (3, 1, 93),
        (3, 2, 46),
        (4, 1, 100),
        (4, 2, 70),
        (5, 1, 100),
        (5, 2, 84),
        (5, 3, 56),
        (10, 2, 100),
        (10, 3, 98),
        (10, 4, 84),
        (20, 6, 98),
        (1, 1, 0),
    ] {
        let found = loads(&[census(hosts, hosts - out), census(1, 1)], 0);
        assert_eq!(found.load, [kept, 100 - kept], "{out} of {hosts} out");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1_024, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn loads_obey_their_laws(
        counts in prop::collection::vec((0u64..40, 0u64..40), 1..6),
        threshold in 0u64..=120,
        draw: u64,
    ) {
        let census: Vec<Census> = counts.iter().map(|(hosts, out)| census(*hosts, hosts.saturating_sub(*out))).collect();
        let found = loads(&census, threshold);
        prop_assert_eq!(found.load.iter().sum::<u64>(), 100);
        let healths: Vec<u64> = census.iter().map(|census| health(*census)).collect();
        let total: u64 = healths.iter().sum();
        if total >= 100 {
            prop_assert!(found.panic.iter().all(|panic| !panic));
            // Each takes all that it can, before the next is asked.
            let mut rest = 100;
            for (load, health) in found.load.iter().zip(&healths) {
                prop_assert_eq!(*load, rest.min(*health));
                rest -= load;
            }
        }
        if threshold == 0 {
            prop_assert!(found.panic.iter().all(|panic| !panic));
        }
        for (panic, census) in found.panic.iter().zip(&census) {
            let share = if census.hosts == 0 { 0.0 } else { 100.0 * census.healthy as f64 / census.hosts as f64 };
            prop_assert_eq!(*panic, total < 100 && share < threshold.min(100) as f64);
        }
        // A draw falls on a priority with a load.
        prop_assert!(found.load[choose(&found.load, draw)] > 0);
        let all: Vec<usize> = (0..100).map(|draw| choose(&found.load, draw)).collect();
        for (level, load) in found.load.iter().enumerate() {
            prop_assert_eq!(all.iter().filter(|chosen| **chosen == level).count() as u64, *load);
        }
    }
}

/// Three hosts in each of two priorities, of which so many are out.
fn two_levels(out: [usize; 2], algorithm: Algorithm, threshold: u32) -> Table {
    let mut hosts: Vec<Host> = hosts(&[1; 10]);
    for (index, host) in hosts.iter_mut().enumerate() {
        host.priority = (index / 5) as u32;
        host.healthy = index % 5 >= out[index / 5];
    }
    let mut settings = settings(algorithm, 0);
    settings.panic_threshold = threshold;
    table(hosts, settings)
}

#[test]
fn picks_spill_over_as_loads_say() {
    let picks = 20_000;
    for (out, threshold, load, used) in [
        ([0, 0], 50, [1.0, 0.0], [5, 5]),
        ([2, 0], 50, [0.84, 0.16], [3, 5]),
        ([3, 0], 50, [0.56, 0.44], [2, 5]),
        ([5, 0], 50, [0.0, 1.0], [0, 5]),
        // 28 % and 28 %: both panic, all are used.
        ([4, 4], 50, [0.5, 0.5], [5, 5]),
        ([4, 4], 0, [0.5, 0.5], [1, 1]),
        // 28 % and 84 % are enough together: nobody panics.
        ([4, 2], 50, [0.28, 0.72], [1, 3]),
    ] {
        for algorithm in [
            Algorithm::RoundRobin,
            Algorithm::LeastRequest,
            Algorithm::Random,
            Algorithm::RingHash { minimum_size: 1 << 13 },
            Algorithm::Maglev { table_size: 65_537 },
        ] {
            let table = two_levels(out, algorithm, threshold);
            let found = counts(&table, picks, 9);
            for level in 0..2 {
                let here = &found[5 * level..5 * level + 5];
                let sum: u64 = here.iter().sum();
                assert!(within_five_sigma(sum, load[level], picks), "{algorithm:?} {out:?}: {found:?}");
                if load[level] > 0.0 {
                    let some = here.iter().filter(|count| **count > 0).count();
                    assert_eq!(some, used[level], "{algorithm:?} {out:?}: {found:?}");
                }
            }
        }
    }
    for algorithm in [Algorithm::RoundRobin, Algorithm::RingHash { minimum_size: 64 }] {
        let table = two_levels([5, 5], algorithm, 0);
        assert_eq!(pick(&table, &mut draws(1)), None, "nobody is well, and there is no panic");
        let table = two_levels([5, 5], algorithm, 1);
        assert!(pick(&table, &mut draws(1)).is_some(), "a panic");
    }
    let empty = table(Vec::new(), settings(Algorithm::LeastRequest, 0));
    assert_eq!(pick(&empty, &mut draws(1)), None);
}

/// RANDOM uses the draw of the priority again, so a load below 100 skews it: Envoy does so too.
#[test]
fn random_is_skewed_where_envoy_is() {
    let mut hosts: Vec<Host> = hosts(&[1; 42]);
    for (index, host) in hosts.iter_mut().enumerate() {
        host.healthy = index >= 20;
        host.priority = u32::from(index >= 40);
    }
    let table = table(hosts, settings(Algorithm::Random, 0));
    let picks = 50_000;
    let found = counts(&table, picks, 3);
    let (low, high): (u64, u64) = (found[20..30].iter().sum(), found[30..40].iter().sum());
    assert!(within_five_sigma(low, 0.4, picks) && within_five_sigma(high, 0.3, picks), "{low} {high}");
}

/// Cursors outlive tables; a schedule begins anew.
#[test]
fn turns_go_on_after_a_change() {
    let mut cursors = Cursors::default();
    let mut draws = draws(0);
    let mut turn = |count: usize, picks: usize| -> Vec<usize> {
        let table =
            Table::new(hosts(&vec![1; count]), settings(Algorithm::RoundRobin, 1), &mut cursors, Timestamp::ZERO);
        (0..picks).map(|_| pick(&table, &mut draws).expect("a host")).collect()
    };
    assert_eq!(turn(3, 4), [1, 2, 0, 1]);
    // The fifth pick, among four.
    assert_eq!(turn(4, 3), [1, 2, 3]);
    assert_eq!(turn(3, 2), [2, 0]);
}

/// Places by their weights, as far as their hosts are well.
#[test]
fn places_take_turns_by_weight_and_health() {
    for (healthy, share) in [(5, 0.333), (4, 0.333), (3, 0.296), (2, 0.219), (1, 0.123), (0, 0.0)] {
        let mut hosts: Vec<Host> = hosts(&[1; 6]);
        for (index, host) in hosts.iter_mut().enumerate() {
            host.place = index / 5;
            host.healthy = index >= 5 - healthy;
        }
        let mut settings = settings(Algorithm::RoundRobin, 0);
        settings.place_weights = Some(vec![1, 2]);
        let found = counts(&table(hosts, settings), 3_000, 0);
        let first: u64 = found[..5].iter().sum();
        assert!((first as f64 - share * 3_000.0).abs() <= 3.0, "{healthy}: {found:?}");
    }
}

/// A retry passes over who was tried, six draws long; then the last one stands.
#[test]
fn a_retry_draws_again() {
    let table = table(hosts(&[1; 3]), settings(Algorithm::RoundRobin, 0));
    let mut taken = 0;
    let mut source = || {
        taken += 1;
        0
    };
    let refused = |host: &Host| &*host.key != "10.0.0.2:80";
    let pick = Pick { refused: Some(&refused), ..Pick::default() };
    assert_eq!(table.pick(&pick, Timestamp::ZERO, &mut source), Some(2));
    assert_eq!(taken, 3);
    let everybody = |_: &Host| true;
    let pick = Pick { refused: Some(&everybody), ..Pick::default() };
    let mut taken = 0;
    let mut source = || {
        taken += 1;
        0
    };
    assert_eq!(table.pick(&pick, Timestamp::ZERO, &mut source), Some((3 + 5) % 3));
    assert_eq!(taken, 6);
}

/// A retry that leaves priorities out: the loads of the others; all out: as if none were.
#[test]
fn a_retry_leaves_priorities_out() {
    let table = two_levels([0, 0], Algorithm::RoundRobin, 0);
    let level = |excluded: &[u32]| {
        let pick = Pick { excluded_priorities: excluded, ..Pick::default() };
        table.pick(&pick, Timestamp::ZERO, &mut || 0).expect("a host") / 5
    };
    assert_eq!([level(&[]), level(&[0]), level(&[1]), level(&[0, 1])], [0, 1, 0, 0]);
}
