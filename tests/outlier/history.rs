//! Random histories, beside a detector that is written as the rules are told: no index, no skipping, no atomics.

use crate::{at, detector, ejected};
use pointsman::outlier::{Event, Outcome, Reason, Settings};
use proptest::prelude::*;
use std::time::Duration;

#[derive(Clone, Copy, Debug, Default)]
struct Naive {
    errors: u32,
    gateway_errors: u32,
    local_failures: u32,
    out_since: Option<u64>,
    back_since: Option<u64>,
    times: u32,
}

struct Oracle {
    settings: Settings,
    hosts: Vec<Naive>,
    /// Milliseconds.
    next: u64,
}

/// `(host, reason, allowed)`, or `(host, None, …)` for a return.
type Seen = (usize, Option<Reason>, bool);

impl Oracle {
    fn lasts(&self, times: u32) -> u64 {
        let time = self.settings.base_ejection_time.as_millis() as u64 * u64::from(times);
        time.min(self.settings.max_ejection_time.as_millis() as u64)
    }

    fn sweep(&mut self, now: u64) -> Vec<Seen> {
        let interval = self.settings.interval.as_millis() as u64;
        let mut seen = Vec::new();
        while self.next <= now {
            for host in 0..self.hosts.len() {
                let Naive { out_since, times, .. } = self.hosts[host];
                if out_since.is_some_and(|since| self.next - since >= self.lasts(times)) {
                    self.hosts[host] = Naive { times, back_since: Some(self.next), ..Naive::default() };
                    seen.push((host, None, true));
                }
            }
            for host in &mut self.hosts {
                let quiet = host.back_since.is_some_and(|since| self.next - since >= interval);
                if host.out_since.is_none() && quiet && host.times > 0 {
                    host.times -= 1;
                }
            }
            self.next += interval;
        }
        seen
    }

    fn report(&mut self, host: usize, reason: Reason, now: u64) -> Option<Seen> {
        if self.hosts[host].out_since.is_some() {
            return None;
        }
        match reason {
            Reason::Consecutive5xx => self.hosts[host].errors = 0,
            Reason::ConsecutiveGatewayErrors => self.hosts[host].gateway_errors = 0,
            _ => self.hosts[host].local_failures = 0,
        }
        let out = self.hosts.iter().filter(|host| host.out_since.is_some()).count();
        let share = 100.0 * (out + 1) as f64 / self.hosts.len() as f64;
        let allowed = share <= f64::from(self.settings.max_ejection_percent.min(100));
        if allowed {
            let base = self.settings.base_ejection_time;
            if base * self.hosts[host].times < self.settings.max_ejection_time + base {
                self.hosts[host].times += 1;
            }
            self.hosts[host].out_since = Some(now);
        }
        Some((host, Some(reason), allowed))
    }

    fn record(&mut self, host: usize, outcome: Outcome, now: u64) -> Vec<Seen> {
        let listed = self.settings.error_codes.clone();
        let split = self.settings.split_local_origin;
        let status = match outcome {
            Outcome::Status(status) if listed.is_empty() => status,
            Outcome::Status(status) if !listed.contains(&status) => 200,
            Outcome::Status(status) if status < 500 => 500,
            Outcome::Status(status) | Outcome::Grpc(status) => status,
            Outcome::Connected => {
                self.hosts[host].local_failures = 0;
                return Vec::new();
            }
            _ if split => {
                self.hosts[host].local_failures += 1;
                let reached = Some(self.hosts[host].local_failures) == self.settings.consecutive_local_origin_failures;
                let reason = reached.then_some(Reason::ConsecutiveLocalOriginFailures);
                return reason.and_then(|reason| self.report(host, reason, now)).into_iter().collect();
            }
            Outcome::Failure => 503,
            _ => 504,
        };
        let mut seen = Vec::new();
        if !(500..600).contains(&status) {
            self.hosts[host].errors = 0;
            self.hosts[host].gateway_errors = 0;
            return seen;
        }
        if [502, 503, 504].contains(&status) {
            self.hosts[host].gateway_errors += 1;
            if Some(self.hosts[host].gateway_errors) == self.settings.consecutive_gateway_errors {
                seen.extend(self.report(host, Reason::ConsecutiveGatewayErrors, now));
            }
        } else {
            self.hosts[host].gateway_errors = 0;
        }
        self.hosts[host].errors += 1;
        if Some(self.hosts[host].errors) == self.settings.consecutive_5xx {
            seen.extend(self.report(host, Reason::Consecutive5xx, now));
        }
        seen
    }
}

fn seen(events: Vec<Event>) -> Vec<Seen> {
    let index =
        |key: &str| -> usize { key.split(['.', ':']).nth(3).and_then(|text| text.parse().ok()).expect("a host") };
    let mut seen: Vec<Seen> = Vec::new();
    for event in events {
        seen.push(match event {
            Event::Ejected { host, reason, .. } => (index(&host), Some(reason), true),
            Event::Refused { host, reason, .. } => (index(&host), Some(reason), false),
            Event::Returned { host } => (index(&host), None, true),
            other => unreachable!("{other:?}"),
        });
    }
    seen
}

fn thresholds() -> impl Strategy<Value = Option<u32>> {
    prop_oneof![1 => Just(None), 1 => Just(Some(0)), 6 => (1u32..5).prop_map(Some)]
}

prop_compose! {
    fn any_settings()(
        errors in thresholds(), gateway in thresholds(), local in thresholds(), split: bool,
        interval in 1u64..30, base in 1u64..60, longer in 0u64..200, percent in 0u32..=120,
        listed in prop_oneof![3 => Just(vec![]), 1 => Just(vec![429, 503]), 1 => Just(vec![500])],
    ) -> Settings {
        let mut settings = Settings::new(Duration::from_millis(interval * 100), Duration::from_millis(base * 100));
        settings.consecutive_5xx = errors;
        settings.consecutive_gateway_errors = gateway;
        settings.consecutive_local_origin_failures = local;
        settings.split_local_origin = split;
        settings.max_ejection_time = Duration::from_millis((base + longer) * 100);
        settings.error_codes = listed;
        settings.ejecting_at_most(percent)
    }
}

fn outcomes() -> impl Strategy<Value = Outcome> {
    prop_oneof![
        3 => prop::sample::select(vec![200, 204, 301, 404, 429, 500, 501, 502, 503, 504, 505, 599, 600, 999, 1_500])
            .prop_map(Outcome::Status),
        3 => prop::sample::select(vec![500, 503]).prop_map(Outcome::Status),
        1 => prop::sample::select(vec![200, 499, 500, 503]).prop_map(Outcome::Grpc),
        2 => Just(Outcome::Failure),
        1 => Just(Outcome::Timeout),
        1 => Just(Outcome::Connected),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, failure_persistence: None, ..ProptestConfig::default() })]

    /// The same ejections, refusals and returns as the oracle, at the same time; never more out than the cap allows.
    #[test]
    fn every_history_is_the_oracles(
        settings in any_settings(),
        hosts in 1usize..12,
        history in prop::collection::vec((0usize..12, outcomes(), 0u64..400), 1..300),
    ) {
        let (detector, records) = detector(settings.clone(), hosts);
        let next = settings.interval.as_millis() as u64;
        let mut oracle = Oracle { settings: settings.clone(), hosts: vec![Naive::default(); hosts], next };
        let most = (settings.max_ejection_percent.min(100) as usize * hosts) / 100;
        let mut now = 0;
        for (host, outcome, later) in history {
            let host = host % hosts;
            now += later;
            let mut returned = seen(detector.sweep(at(now)));
            let mut expected = oracle.sweep(now);
            // One sweep names hosts by key, the oracle by number.
            returned.sort_by_key(|(host, ..)| *host);
            expected.sort_by_key(|(host, ..)| *host);
            prop_assert_eq!(returned, expected, "sweep at {}", now);
            prop_assert_eq!(
                seen(detector.record(&records[host], outcome, at(now))),
                oracle.record(host, outcome, now),
                "{:?} at {}", outcome, now
            );
            for (record, naive) in records.iter().zip(&oracle.hosts) {
                prop_assert_eq!(record.is_ejected(), naive.out_since.is_some());
                let until = detector.ejection(record).map(|ejection| ejection.until);
                prop_assert_eq!(until, naive.out_since.map(|since| at(since + oracle.lasts(naive.times))));
            }
            prop_assert!(ejected(&records) <= most, "{} of {} are out", ejected(&records), hosts);
        }
    }
}
