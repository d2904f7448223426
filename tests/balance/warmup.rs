//! Warm-up: a new host's share grows with its age.

use crate::{draws, hosts, settings};
use pointsman::balance::{Algorithm, Cursors, Host, Pick, Table, Warmup};
use pointsman::time::Timestamp;
use std::time::Duration;

/// An old host, and one that is `age` old, of equal weight.
fn pair(age: Duration, now: Timestamp) -> Vec<Host> {
    let mut hosts = hosts(&[1, 1]);
    hosts[1].since = Timestamp::from_nanos(now.as_nanos() - age.as_nanos() as u64);
    hosts
}

fn now() -> Timestamp {
    Timestamp::from_millis(10_000_000)
}

/// The young host's share of many picks in one moment.
fn share(age_millis: u64, window: u64, aggression: f64, least: f64, algorithm: Algorithm) -> f64 {
    let mut settings = settings(algorithm, 0);
    settings.warmup = Some(Warmup::new(Duration::from_millis(window)).with_aggression(aggression).with_floor(least));
    let hosts = pair(Duration::from_millis(age_millis), now());
    let table = Table::new(hosts, settings, &mut Cursors::default(), now());
    let mut draws = draws(5);
    let picks = 20_000;
    let young = (0..picks).filter(|_| table.pick(&Pick::default(), now(), &mut draws) == Some(1)).count();
    young as f64 / f64::from(picks)
}

/// Age, window (ms), aggression, least factor → weight beside an old host of weight 1.
#[test]
fn weights_follow_the_formula() {
    for (age, window, aggression, least, factor) in [
        (0, 10_000, 1.0, 0.1, 0.1),
        (600, 10_000, 1.0, 0.1, 0.1),
        (1_000, 10_000, 1.0, 0.1, 0.1),
        (3_100, 10_000, 1.0, 0.1, 0.31),
        (5_100, 10_000, 1.0, 0.1, 0.51),
        (8_100, 10_000, 1.0, 0.1, 0.81),
        (9_999, 10_000, 1.0, 0.1, 0.9999),
        (10_000, 10_000, 1.0, 0.1, 1.0),
        (10_600, 10_000, 1.0, 0.1, 1.0),
        (6_000, 60_000, 2.0, 0.1, 0.1_f64.sqrt()),
        (26_000, 60_000, 2.0, 0.1, (26.0_f64 / 60.0).sqrt()),
        (30_000, 60_000, 0.5, 0.1, 0.25),
        (6_000, 60_000, 0.5, 0.0, 0.01),
        (6_000, 60_000, 0.5, 0.5, 0.5),
        (0, 60_000, 1.0, 0.0, 1.0 / 60_000.0),
        // An aggression that makes no sense is 1.
        (30_000, 60_000, 0.0, 0.1, 0.5),
        (30_000, 60_000, -3.0, 0.1, 0.5),
        (30_000, 60_000, f64::NAN, 0.1, 0.5),
        // No window, no warm-up.
        (0, 0, 1.0, 0.1, 1.0),
    ] {
        for algorithm in [Algorithm::RoundRobin, Algorithm::LeastRequest] {
            let (found, expected) = (share(age, window, aggression, least, algorithm), factor / (1.0 + factor));
            let tolerance = if window == 0 && algorithm == Algorithm::LeastRequest { 0.02 } else { 0.001 };
            assert!(
                (found - expected).abs() <= tolerance,
                "{algorithm:?} at {age} of {window} ms: {found}, not {expected}"
            );
        }
    }
    // RANDOM knows no weights.
    assert!((share(0, 10_000, 1.0, 0.1, Algorithm::Random) - 0.5).abs() < 0.02);
}

#[test]
fn turns_in_warm_up_are_envoys() {
    let turn = |age: u64, window: u64, aggression: f64, algorithm: Algorithm, busy: u32, picks: usize| -> String {
        let mut settings = settings(algorithm, 0);
        settings.warmup = Some(Warmup::new(Duration::from_secs(window)).with_aggression(aggression));
        let hosts = pair(Duration::from_secs(age), now());
        hosts[0].active.store(busy, std::sync::atomic::Ordering::Relaxed);
        let table = Table::new(hosts, settings, &mut Cursors::default(), now());
        (0..picks).map(|_| table.pick(&Pick::default(), now(), &mut || 0).expect("a host").to_string()).collect()
    };
    assert_eq!(turn(12, 60, 1.0, Algorithm::RoundRobin, 0, 5), "00001");
    assert_eq!(turn(20, 60, 1.0, Algorithm::RoundRobin, 0, 3), "001");
    assert_eq!(turn(21, 60, 1.0, Algorithm::RoundRobin, 0, 7), "0010001");
    assert_eq!(turn(30, 60, 1.0, Algorithm::RoundRobin, 0, 7), "0100100");
    assert_eq!(turn(6, 60, 2.0, Algorithm::RoundRobin, 0, 4), "0001");
    assert_eq!(turn(26, 60, 2.0, Algorithm::RoundRobin, 0, 8), "01001010");
    // Three to one, in whichever phase.
    assert_eq!(turn(10, 60, 1.0, Algorithm::LeastRequest, 1, 8), "00100010");
    assert_eq!(turn(40, 60, 1.0, Algorithm::LeastRequest, 1, 7), "1010101");
}

/// Weights are asked for when a turn is over: a table that is not made anew follows the host's age all the same.
#[test]
fn a_table_follows_the_time() {
    let mut settings = settings(Algorithm::RoundRobin, 0);
    settings.warmup = Some(Warmup::new(Duration::from_secs(10)));
    let table = Table::new(pair(Duration::ZERO, now()), settings, &mut Cursors::default(), now());
    let mut young = Vec::new();
    for second in 0..20 {
        let at = now() + Duration::from_secs(second);
        let count = (0..1_000).filter(|_| table.pick(&Pick::default(), at, &mut || 0) == Some(1)).count();
        young.push(count as f64 / 1_000.0);
    }
    for (second, share) in young.iter().enumerate() {
        let factor = (second as f64 / 10.0).clamp(0.1, 1.0);
        assert!((share - factor / (1.0 + factor)).abs() < 0.005, "second {second}: {share}");
    }
}

/// A host that is out does not warm up, and does not make others do so.
#[test]
fn only_healthy_hosts_warm_up() {
    let mut settings = settings(Algorithm::RoundRobin, 3);
    settings.warmup = Some(Warmup::new(Duration::from_secs(10)));
    let mut hosts = hosts(&[1, 1, 1]);
    hosts[2].since = now();
    hosts[2].healthy = false;
    let table = Table::new(hosts, settings, &mut Cursors::default(), now());
    let turn: Vec<usize> = (0..4).map(|_| table.pick(&Pick::default(), now(), &mut || 0).expect("a host")).collect();
    assert_eq!(turn, [1, 0, 1, 0], "plain turns, from the seed on");
}
