//! Thresholds, classes of outcomes, times and caps, one table each.

use crate::{at, detector, ejected, reasons, settings};
use pointsman::outlier::{Event, Outcome, Reason, Settings};
use pointsman::time::Timestamp;
use std::sync::Arc;
use std::time::Duration;

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn gateway(count: u32) -> Settings {
    let mut settings = settings();
    settings.consecutive_5xx = None;
    settings.consecutive_gateway_errors = Some(count);
    settings
}

fn errors(count: u32) -> Settings {
    let mut settings = settings();
    settings.consecutive_5xx = Some(count);
    settings
}

fn split(count: u32) -> Settings {
    let mut settings = errors(3);
    settings.split_local_origin = true;
    settings.consecutive_local_origin_failures = Some(count);
    settings
}

fn listed(count: u32) -> Settings {
    let mut settings = errors(count);
    settings.consecutive_gateway_errors = Some(2);
    settings.error_codes = vec![429, 503];
    settings
}

/// `5` is a 500, `g` a 503, `o` a 200, `n` a 404, `t` a 429, `x` a 600, `f` a failure, `l` a timeout, `c` a connection, `G`
/// a gRPC 503, `O` a gRPC 200.
fn outcome(letter: char) -> Outcome {
    match letter {
        '5' => Outcome::Status(500),
        '1' => Outcome::Status(501),
        'g' => Outcome::Status(503),
        'o' => Outcome::Status(200),
        'n' => Outcome::Status(404),
        't' => Outcome::Status(429),
        'x' => Outcome::Status(600),
        'f' => Outcome::Failure,
        'l' => Outcome::Timeout,
        'c' => Outcome::Connected,
        'G' => Outcome::Grpc(503),
        'O' => Outcome::Grpc(200),
        _ => unreachable!("no such letter: {letter}"),
    }
}

/// Settings, a history, and at which outcome (from 1 on) the host is ejected, and why. None: never.
type Case<'a> = (&'a Settings, &'a str, Option<(usize, Reason)>);

#[test]
fn thresholds_and_classes() {
    use Reason::{Consecutive5xx, ConsecutiveGatewayErrors, ConsecutiveLocalOriginFailures};
    let mut both = errors(5);
    both.consecutive_gateway_errors = Some(5);
    let mut zero = errors(0);
    zero.consecutive_gateway_errors = Some(0);
    let cases: &[Case<'_>] = &[
        (&errors(3), "555", Some((3, Consecutive5xx))),
        (&errors(1), "5", Some((1, Consecutive5xx))),
        (&errors(3), "55o55o55", None),
        (&errors(3), "55n55t55", None),
        (&errors(3), "5gl", Some((3, Consecutive5xx))),
        (&errors(3), "fff", Some((3, Consecutive5xx))),
        (&errors(3), "GGG", Some((3, Consecutive5xx))),
        (&errors(3), "GGOGG", None),
        (&errors(3), "xxxxxx", None),
        (&errors(3), "55x55", None),
        // A connection alone is neither success nor failure.
        (&errors(3), "fcfcf", Some((5, Consecutive5xx))),
        // Headers with 200, then a reset: 0, 1, 0, 1, …
        (&errors(2), "ofofofofofofofof", None),
        (&gateway(3), "ggg", Some((3, ConsecutiveGatewayErrors))),
        (&gateway(3), "555555111111", None),
        (&gateway(3), "gg5gg1gg", None),
        (&gateway(3), "ffl", Some((3, ConsecutiveGatewayErrors))),
        // The gateway's counter is asked first; a 500 clears it alone.
        (&both, "ggggg", Some((5, ConsecutiveGatewayErrors))),
        (&both, "5gggg", Some((5, Consecutive5xx))),
        (&both, "gg555", Some((5, Consecutive5xx))),
        (&gateway(5), "g5ggggg", Some((7, ConsecutiveGatewayErrors))),
        (&zero, "5555555555ggggggggggg", None),
        // Apart: failures count for themselves, a connection clears them, a status does not.
        (&split(3), "fff", Some((3, ConsecutiveLocalOriginFailures))),
        (&split(3), "lfl", Some((3, ConsecutiveLocalOriginFailures))),
        (&split(3), "fofof", Some((5, ConsecutiveLocalOriginFailures))),
        (&split(3), "ffcffcff", None),
        (&split(3), "5f5f5", Some((5, Consecutive5xx))),
        (&split(4), "55ff5", Some((5, Consecutive5xx))),
        // A host that takes connections and then resets each request is never ejected.
        (&split(2), "cfcfcfcfcfcfcfcf", None),
        // Listed statuses: only they are errors; below 500 they count as 500; 503 stays a gateway error.
        (&listed(3), "ttt", Some((3, Consecutive5xx))),
        (&listed(3), "555555", None),
        (&listed(3), "tt5tt", None),
        (&listed(3), "gg", Some((2, ConsecutiveGatewayErrors))),
        (&listed(3), "gtgt", Some((3, Consecutive5xx))),
        (&listed(3), "ffl", Some((2, ConsecutiveGatewayErrors))),
        // What gRPC says is not looked up in the list.
        (&listed(3), "GGG", Some((2, ConsecutiveGatewayErrors))),
    ];
    for (settings, history, expected) in cases {
        let (detector, hosts) = detector((*settings).clone(), 1);
        let mut found = None;
        for (number, letter) in (1..).zip(history.chars()) {
            let (ejections, refusals) = reasons(&detector.record(&hosts[0], outcome(letter), at(0)));
            assert!(refusals.is_empty(), "{history}: refused");
            assert!(ejections.len() <= 1, "{history}: twice");
            if let (None, Some(reason)) = (found, ejections.first()) {
                found = Some((number, *reason));
            }
        }
        assert_eq!(found, *expected, "{history} under {settings:?}");
        assert_eq!(hosts[0].is_ejected(), expected.is_some(), "{history}");
    }
}

/// The cap: at most `percent` of the hosts, rounded down.
#[test]
fn caps() {
    for (hosts, percent, most) in [
        (1, 90, 0),
        (1, 99, 0),
        (1, 100, 1),
        (2, 10, 0),
        (2, 60, 1),
        (3, 30, 0),
        (3, 50, 1),
        (4, 50, 2),
        (9, 10, 0),
        (10, 10, 1),
        (19, 10, 1),
        (20, 10, 2),
        (7, 100, 7),
        (7, 0, 0),
        (7, 500, 7),
    ] {
        let (detector, records) = detector(errors(3).ejecting_at_most(percent), hosts);
        let mut refused = 0;
        for record in &records {
            for _ in 0..3 {
                refused += reasons(&detector.record(record, Outcome::Status(500), at(0))).1.len();
            }
        }
        assert_eq!((ejected(&records), refused), (most, hosts - most), "{hosts} hosts, {percent} %");
    }
}

/// Who is refused is asked about again every `n` errors, for each counter that reaches its threshold.
#[test]
fn refusals_are_told_with_their_reason_each_time() {
    let mut both = errors(3).ejecting_at_most(10);
    both.consecutive_gateway_errors = Some(3);
    let (detector, hosts) = detector(both, 2);
    let mut refused = Vec::new();
    for _ in 0..60 {
        let events = detector.record(&hosts[1], Outcome::Status(503), at(0));
        assert!(events.iter().all(|event| matches!(event, Event::Refused { host, .. } if **host == *"10.0.0.1:80")));
        refused.extend(reasons(&events).1);
    }
    assert_eq!(refused.len(), 40);
    for pair in refused.chunks(2) {
        assert_eq!(pair, [Reason::ConsecutiveGatewayErrors, Reason::Consecutive5xx]);
    }
    assert_eq!(ejected(&hosts), 0);
    assert_eq!(detector.ejection(&hosts[1]), None);
    // The cap counts what is out now: a change of it lets the next one through.
    detector.configure(errors(3).ejecting_at_most(50), at(1));
    let events: Vec<Event> = (0..3).flat_map(|_| detector.record(&hosts[1], Outcome::Status(503), at(1))).collect();
    assert_eq!(reasons(&events), (vec![Reason::Consecutive5xx], vec![]));
}

/// One host, asked every second: from when to when it is out.
fn outs(settings: Settings, fails: impl Fn(u64) -> bool, until: u64) -> Vec<(u64, u64)> {
    let (detector, hosts) = detector(settings, 1);
    let mut outs = Vec::new();
    let mut since = None;
    for second in 0..=until {
        let now = at(second * 1_000);
        for event in detector.sweep(now) {
            assert!(matches!(event, Event::Returned { .. }));
            outs.push((since.take().expect("it was out"), second));
        }
        if fails(second) {
            detector.record(&hosts[0], Outcome::Status(500), now);
        }
        if hosts[0].is_ejected() && since.is_none() {
            since = Some(second);
            let ejection = detector.ejection(&hosts[0]).expect("it is out");
            assert_eq!((ejection.since, ejection.reason), (now, Reason::Consecutive5xx));
        }
    }
    outs
}

fn times(base: u64, max: u64, interval: u64) -> Settings {
    let mut settings = errors(1);
    settings.base_ejection_time = seconds(base);
    settings.max_ejection_time = seconds(max);
    settings.interval = seconds(interval);
    settings
}

#[test]
fn ejections_grow_and_shrink() {
    // Ejected again the moment it returns; then quiet intervals take one off each.
    let failing = |second: u64| second <= 30 || second == 80 || (100..=600).contains(&second) && second < 100;
    let found = outs(times(10, 300, 10), failing, 120);
    assert_eq!(found, [(0, 10), (10, 30), (30, 60), (80, 100)]);
    // Fifty quiet intervals: as if nothing had been.
    let found = outs(times(10, 300, 10), |second| second <= 30 || second == 610, 700);
    assert_eq!(found.last(), Some(&(610, 620)));
    // It always fails: n × 10 s, up to the maximum, then the maximum for ever.
    let found = outs(times(10, 300, 10), |_| true, 10_000);
    for (number, (from, to)) in (1..).zip(&found) {
        assert_eq!(to - from, (number * 10).min(300), "the ejection number {number}");
    }
    // A maximum between two reviews.
    let found = outs(times(10, 305, 10), |_| true, 10_000);
    for (number, (from, to)) in (1..).zip(&found) {
        assert_eq!(to - from, (number * 10).min(310), "the ejection number {number}");
    }
    // Growth ends where it reaches maximum and base together: 11 × 30 s; so ten quiet intervals leave one.
    let found = outs(times(30, 300, 10), |second| second < 5_000 || second == 5_500, 6_000);
    let lasting: Vec<u64> = found.iter().map(|(from, to)| to - from).collect();
    assert_eq!(lasting[..12], [30, 60, 90, 120, 150, 180, 210, 240, 270, 300, 300, 300]);
    assert_eq!(lasting.last(), Some(&30));
}

#[test]
fn reviews_are_at_interval_ends_only() {
    let mut settings = errors(5);
    settings.interval = Duration::from_millis(9_999);
    let (detector, hosts) = detector(settings, 1);
    let fail = |times: usize, now: Timestamp| -> usize {
        (0..times).map(|_| reasons(&detector.record(&hosts[0], Outcome::Status(500), now)).0.len()).sum()
    };
    assert_eq!((fail(4, at(0)), fail(1, at(0))), (0, 1));
    // While it is out, failures do not count.
    assert_eq!(fail(10, at(5)), 0);
    assert_eq!(detector.next_sweep(), at(9_999));
    assert!(detector.sweep(at(9_998)).is_empty());
    assert_eq!(detector.next_sweep(), at(9_999), "nothing was reviewed");
    assert!(detector.sweep(at(9_999)).is_empty() && hosts[0].is_ejected());
    assert!(detector.sweep(at(29_998)).is_empty() && hosts[0].is_ejected());
    // 30 s are over at 30 000 ms; the next review is at 39 996 ms.
    assert!(detector.sweep(at(30_001)).is_empty() && hosts[0].is_ejected());
    assert_eq!(detector.sweep(at(39_996)).len(), 1);
    assert!(!hosts[0].is_ejected());
    // Counters are clear again.
    assert_eq!((fail(4, at(40_000)), fail(1, at(40_000))), (0, 1));
}

/// Reviews that are done late, all at once, do what they would have done in time.
#[test]
fn late_reviews_catch_up() {
    for late in [70, 100, 145, 1_000, 100_000] {
        let history = |often: bool| {
            let (detector, hosts) = detector(times(10, 300, 10), 2);
            for (host, now) in [(0, 0), (0, 10), (1, 12), (0, 30)] {
                detector.sweep(at(now * 1_000));
                detector.record(&hosts[host], Outcome::Status(500), at(now * 1_000));
            }
            let mut returned = Vec::new();
            for now in (31..late).filter(|_| often).chain([late]) {
                returned.extend(detector.sweep(at(now * 1_000)));
            }
            let next = detector.next_sweep();
            assert!(next > at(late * 1_000) && next.as_millis() % 10_000 == 0, "{next}");
            detector.record(&hosts[0], Outcome::Status(500), at(late * 1_000));
            (returned, next, detector.ejection(&hosts[0]).map(|ejection| ejection.until))
        };
        assert_eq!(history(false), history(true), "{late} s late");
    }
}

/// A review that comes years late costs no more than a few: those at which nothing happens are left out.
#[test]
fn a_very_late_review_is_no_work() {
    let mut settings = errors(1);
    (settings.interval, settings.base_ejection_time) = (Duration::from_millis(1), seconds(864_000));
    settings.max_ejection_time = settings.base_ejection_time;
    let (detector, hosts) = detector(settings, 1);
    detector.record(&hosts[0], Outcome::Status(500), at(5));
    assert!(detector.sweep(at(863_999_999)).is_empty());
    assert!(detector.sweep(at(864_000_004)).is_empty());
    assert!(matches!(detector.sweep(at(864_000_005)).as_slice(), [Event::Returned { .. }]));
    assert!(detector.sweep(at(1_000_000_000_000)).is_empty());
    assert_eq!(detector.next_sweep(), at(1_000_000_000_001));
}

#[test]
fn hosts_come_and_go() {
    let (detector, hosts) = detector(errors(2).ejecting_at_most(50), 4);
    let fail = |host: usize| {
        let events = [(); 2].map(|()| detector.record(&hosts[host], Outcome::Status(500), at(0)));
        reasons(&events.concat())
    };
    assert_eq!((fail(0).0.len(), fail(1).0.len(), fail(2).1.len()), (1, 1, 1));
    let key = |host: usize| -> Arc<str> { Arc::from(format!("10.0.0.{host}:80")) };
    // One that is out goes, and comes back new; it no longer fills the cap meanwhile.
    let kept = detector.set_hosts([key(1), key(2), key(3)]);
    assert!(Arc::ptr_eq(&kept[0], &hosts[1]) && kept[0].is_ejected());
    assert_eq!(fail(2).1.len(), 1, "two of three would be more than half");
    // A record that was taken before counts for nothing now.
    assert_eq!(fail(0), (vec![], vec![]));
    let again = detector.set_hosts([key(0), key(1), key(2), key(3)]);
    assert!(!Arc::ptr_eq(&again[0], &hosts[0]) && !again[0].is_ejected());
    assert_eq!(fail(0), (vec![], vec![]), "the old record of a host that came back");
    assert_eq!(fail(2).0.len(), 1);
    assert_eq!(ejected(&again), 2);
}

#[test]
fn settings_change_under_way() {
    let (detector, hosts) = detector(errors(5), 1);
    for _ in 0..4 {
        assert!(detector.record(&hosts[0], Outcome::Status(500), at(0)).is_empty());
    }
    // The threshold is met, not passed: who is beyond it starts again after a success.
    detector.configure(errors(3), at(1));
    assert!(detector.record(&hosts[0], Outcome::Status(500), at(1)).is_empty());
    detector.record(&hosts[0], Outcome::Status(200), at(1));
    let events: Vec<Event> = (0..3).flat_map(|_| detector.record(&hosts[0], Outcome::Status(500), at(1))).collect();
    assert_eq!(reasons(&events).0, [Reason::Consecutive5xx]);
    // A new list of statuses holds at once; a new interval begins anew.
    let mut next = listed(1);
    next.interval = seconds(7);
    detector.configure(next, at(2_000));
    assert_eq!(detector.next_sweep(), at(9_000));
    assert_eq!((detector.sweep(at(30_000)).len(), detector.sweep(at(37_000)).len()), (0, 1));
    assert!(detector.record(&hosts[0], Outcome::Status(500), at(37_000)).is_empty());
    assert_eq!(detector.record(&hosts[0], Outcome::Status(429), at(37_000)).len(), 1);
}
