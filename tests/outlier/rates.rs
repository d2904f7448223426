//! Ejection by rates, with the figures of Envoy's own tests.

use crate::{at, detector, ejected, reasons, settings};
use pointsman::outlier::{Event, FailurePercentage, HostRecord, Outcome, Reason, Settings, SuccessRate};

fn by_success() -> Settings {
    let mut settings = settings();
    settings.success_rate = Some(SuccessRate::default());
    settings
}

fn by_failure(minimum_hosts: u32, request_volume: u32) -> Settings {
    let mut rule = FailurePercentage::default();
    (rule.minimum_hosts, rule.request_volume) = (minimum_hosts, request_volume);
    let mut settings = settings();
    settings.failure_percentage = Some(rule);
    settings
}

fn answers(detector: &pointsman::outlier::Detector, host: &HostRecord, well: usize, badly: usize) {
    for index in 0..well + badly {
        let status = if index < well { 200 } else { 503 };
        detector.record(host, Outcome::Status(status), at(0));
    }
}

#[test]
fn who_does_worse_than_its_peers_is_out() {
    let (detector, hosts) = detector(by_success(), 5);
    for (index, host) in hosts.iter().enumerate() {
        if index == 4 { answers(&detector, host, 50, 50) } else { answers(&detector, host, 200, 0) }
    }
    // Rates 100, 100, 100, 100, 50: mean 90, deviation 20, at least 52.
    assert!(detector.sweep(at(9_999)).is_empty());
    let events = detector.sweep(at(10_000));
    assert_eq!(reasons(&events), (vec![Reason::SuccessRate], vec![]));
    assert!(hosts[4].is_ejected() && ejected(&hosts) == 1);
    assert!(detector.sweep(at(19_999)).is_empty());
    let events = detector.sweep(at(50_001));
    assert!(matches!(events.as_slice(), [Event::Returned { .. }]));
    // Too few answers to tell.
    for host in &hosts {
        answers(&detector, host, 25, 25);
    }
    assert!(detector.sweep(at(60_001)).is_empty());
}

#[test]
fn a_rate_is_judged_against_enough_others() {
    for (hosts, volume, out) in [(5, 100, 1), (4, 100, 0), (5, 99, 0), (6, 100, 1)] {
        let (detector, records) = detector(by_success(), hosts);
        for (index, host) in records.iter().enumerate() {
            answers(&detector, host, if index == 0 { 0 } else { volume }, if index == 0 { volume } else { 0 });
        }
        detector.sweep(at(10_000));
        assert_eq!(ejected(&records), out, "{hosts} hosts, {volume} answers each");
        // What was counted is over: another review finds nothing.
        assert!(detector.sweep(at(20_000)).is_empty());
    }
    let (detector, _) = detector(by_success(), 0);
    assert!(detector.sweep(at(10_000)).is_empty());
}

#[test]
fn who_fails_too_often_is_out() {
    let (detector, hosts) = detector(by_failure(3, 50), 3);
    answers(&detector, &hosts[0], 50, 0);
    answers(&detector, &hosts[1], 50, 250); // 83.3 %
    answers(&detector, &hosts[2], 50, 300); // 85.7 %
    assert_eq!(reasons(&detector.sweep(at(10_000))), (vec![Reason::FailurePercentage], vec![]));
    assert!(hosts[2].is_ejected() && ejected(&hosts) == 1);
    // Nobody, and nothing, to divide by.
    let (detector, hosts) = self::detector(by_failure(0, 0), 2);
    assert!(detector.sweep(at(10_000)).is_empty() && ejected(&hosts) == 0);
}

/// Base time and interval are 10 s, and it fails whenever it is asked.
#[test]
fn ejections_by_rate_grow_and_shrink_as_others() {
    let mut settings = by_failure(0, 1);
    settings.base_ejection_time = settings.interval;
    let (detector, hosts) = detector(settings, 1);
    for (tick, fails, out) in [
        (1, true, true),
        (2, false, false),
        (3, true, true),
        (4, false, true),
        (5, false, false),
        (6, false, false),
        (7, false, false),
        (8, true, true),
        (9, false, false),
    ] {
        if fails {
            answers(&detector, &hosts[0], 0, 1);
        }
        detector.sweep(at(10_000 * tick));
        assert_eq!(hosts[0].is_ejected(), out, "tick {tick}");
    }
}

/// The cap holds for these too, and what no upstream answered has a rate of its own.
#[test]
fn caps_and_local_failures() {
    let (detector, hosts) = detector(by_failure(0, 10).ejecting_at_most(50), 4);
    hosts.iter().for_each(|host| answers(&detector, host, 0, 20));
    let (out, refused) = reasons(&detector.sweep(at(10_000)));
    assert_eq!((out.len(), refused.len(), ejected(&hosts)), (2, 2, 2));

    let mut split = by_failure(0, 10);
    split.split_local_origin = true;
    let (detector, hosts) = self::detector(split, 2);
    for _ in 0..20 {
        detector.record(&hosts[0], Outcome::Failure, at(0));
        detector.record(&hosts[0], Outcome::Status(200), at(0));
        detector.record(&hosts[1], Outcome::Connected, at(0));
        detector.record(&hosts[1], Outcome::Status(200), at(0));
    }
    assert_eq!(reasons(&detector.sweep(at(10_000))).0, [Reason::FailurePercentage]);
    assert!(hosts[0].is_ejected() && !hosts[1].is_ejected());
}
