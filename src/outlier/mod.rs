//! Outlier detection: who answers badly is left alone for a while.
//!
//! Each host has three counters of failures in a row: 5xx, gateway errors (502, 503, 504), and, if they are counted apart,
//! failures that no upstream answered. A counter that reaches its threshold asks for an ejection and starts again, whether
//! or not the ejection was allowed; it is refused when it would put more than `max_ejection_percent` of the hosts out. An
//! ejection lasts `base × n`, at most `max`, where `n` grows with each ejection and shrinks with each quiet interval. Every
//! `interval` the ejected are reviewed, so real times round up to that.
//!
//! An embedder may also have hosts ejected by rates, as Envoy can: [`SuccessRate`], [`FailurePercentage`]. No rule of Istio's
//! asks for it.
//!
//! A refused ejection is told as well, with the arithmetic. What is under way at a host that is ejected goes on, and still
//! counts: only picks leave it out. A host that is ejected already is not ejected again, and what fails there meanwhile is
//! forgotten when it returns.
//!
//! Time is an argument. What has to happen at an interval's end happens at the next call with a later time.
//!
//! Cost: a success takes no lock; it reads which statuses are successes, and clears counters that are not clear. A failure
//! takes the detector's lock. So nearly all of the traffic of healthy hosts never meets.

mod rates;

pub use rates::{FailurePercentage, SuccessRate};

use crate::sync::lock;
use crate::time::Timestamp;
use rates::{Rated, Tally};
use serde::{Serialize, Serializer};
use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// When a host is ejected, and for how long.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Settings {
    /// So many 5xx in a row. None: never.
    pub consecutive_5xx: Option<u32>,
    /// So many 502, 503 or 504 in a row. None: never.
    pub consecutive_gateway_errors: Option<u32>,
    /// So many failures that no upstream answered, in a row. None: never.
    pub consecutive_local_origin_failures: Option<u32>,
    /// Are failures that no upstream answered counted apart?
    pub split_local_origin: bool,
    /// How often ejections are reviewed.
    pub interval: Duration,
    /// The first ejection's time.
    pub base_ejection_time: Duration,
    /// No ejection is longer.
    pub max_ejection_time: Duration,
    /// Not more hosts are out at once, in percent.
    pub max_ejection_percent: u32,
    /// Statuses that count as errors. Empty: 5xx.
    pub error_codes: Vec<u16>,
    /// Ejects who does worse than the others. None: nobody. No `DestinationRule` sets it.
    pub success_rate: Option<SuccessRate>,
    /// Ejects who fails too often. None: nobody. No `DestinationRule` sets it.
    pub failure_percentage: Option<FailurePercentage>,
}

/// What came of one attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Outcome {
    /// The upstream answered with this status.
    Status(u16),
    /// The upstream answered a gRPC request with this status, as HTTP has it.
    Grpc(u16),
    /// No connection, or it was reset.
    Failure,
    /// No answer in time.
    Timeout,
    /// A connection was made (counts only where failures are counted apart).
    Connected,
}

/// Why a host was ejected.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Reason {
    /// 5xx in a row.
    Consecutive5xx,
    /// 502, 503 or 504 in a row.
    ConsecutiveGatewayErrors,
    /// Failures that no upstream answered, in a row.
    ConsecutiveLocalOriginFailures,
    /// Fewer successes than its peers.
    SuccessRate,
    /// Too many failures.
    FailurePercentage,
}

impl Reason {
    /// As it is written: `consecutive-5xx`.
    pub fn as_str(self) -> &'static str {
        match self {
            Reason::Consecutive5xx => "consecutive-5xx",
            Reason::ConsecutiveGatewayErrors => "consecutive-gateway-errors",
            Reason::ConsecutiveLocalOriginFailures => "consecutive-local-origin-failures",
            Reason::SuccessRate => "success-rate",
            Reason::FailurePercentage => "failure-percentage",
        }
    }
}

impl Serialize for Reason {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

/// What happened to a host.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Event {
    /// It was ejected.
    Ejected {
        /// Its key.
        host: Arc<str>,
        /// Why.
        reason: Reason,
        /// Until when at least (it returns at the interval's end after that).
        until: Timestamp,
    },
    /// It should have been ejected, but then too many would be out.
    Refused {
        /// Its key.
        host: Arc<str>,
        /// Why it should have been.
        reason: Reason,
        /// Why it was not.
        cap: Cap,
    },
    /// It is back.
    Returned {
        /// Its key.
        host: Arc<str>,
    },
}

/// Why a host was not ejected. Printed as `1 of 3 is out, 2 would be 66 %, at most 50 % may be`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct Cap {
    /// So many hosts are out.
    pub out: usize,
    /// Of so many, over all priorities, whatever their health.
    pub hosts: usize,
    /// At most so many percent may be (`maxEjectionPercent`).
    pub percent: u32,
}

impl Cap {
    /// Would one more be within the cap?
    fn allows_one_more(self) -> bool {
        100 * (self.out as u64 + 1) <= u64::from(self.percent) * self.hosts as u64
    }
}

impl fmt::Display for Cap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Cap { out, hosts, percent } = *self;
        let share = (100 * (out + 1)).checked_div(hosts).unwrap_or(0);
        let is = if out == 1 { "is" } else { "are" };
        write!(f, "{out} of {hosts} {is} out, {} would be {share} %, at most {percent} % may be", out + 1)
    }
}

/// One host's counters. Cheap to share; counting takes no lock.
#[derive(Debug)]
pub struct HostRecord {
    key: Arc<str>,
    errors: AtomicU32,
    gateway_errors: AtomicU32,
    local_failures: AtomicU32,
    /// Answers in the interval that runs, and what no upstream answered; counted only where rates count.
    answers: Tally,
    local: Tally,
    ejected: AtomicBool,
    ejection: Mutex<Ejection>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Ejection {
    since: Timestamp,
    /// How many times the base time the ejection lasts.
    times: u32,
    reason: Option<Reason>,
    returned: Option<Timestamp>,
}

/// An ejection, for people.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct Ejected {
    /// Why.
    pub reason: Reason,
    /// Since when.
    pub since: Timestamp,
    /// Until when at least.
    pub until: Timestamp,
}

impl HostRecord {
    /// A host that nothing is known of.
    pub fn new(key: impl Into<Arc<str>>) -> HostRecord {
        HostRecord {
            key: key.into(),
            errors: AtomicU32::new(0),
            gateway_errors: AtomicU32::new(0),
            local_failures: AtomicU32::new(0),
            answers: Tally::default(),
            local: Tally::default(),
            ejected: AtomicBool::new(false),
            ejection: Mutex::default(),
        }
    }

    /// Is it out?
    pub fn is_ejected(&self) -> bool {
        self.ejected.load(Ordering::Acquire)
    }

    /// As if it were new. Was it out?
    pub(crate) fn forget(&self) -> bool {
        let mut ejection = lock(&self.ejection);
        self.reset();
        *ejection = Ejection::default();
        self.ejected.swap(false, Ordering::AcqRel)
    }

    fn reset(&self) {
        clear(&self.errors);
        clear(&self.gateway_errors);
        clear(&self.local_failures);
    }
}

/// Writes only where there is something to clear: what is only read stays in every core's cache.
fn clear(counter: &AtomicU32) {
    if counter.load(Ordering::Relaxed) != 0 {
        counter.store(0, Ordering::Relaxed);
    }
}

/// The hosts of one destination.
///
/// ```
/// use pointsman::outlier::{Detector, Event, Outcome, Settings};
/// use pointsman::time::Timestamp;
/// use std::time::Duration;
///
/// let mut settings = Settings::new(Duration::from_secs(10), Duration::from_secs(30)).ejecting_at_most(50);
/// settings.consecutive_5xx = Some(2);
/// let detector = Detector::new(settings, Timestamp::ZERO);
/// let hosts = detector.set_hosts(["10.0.0.1:80".into(), "10.0.0.2:80".into()]);
///
/// let now = Timestamp::ZERO + Duration::from_secs(1);
/// assert!(detector.record(&hosts[0], Outcome::Status(503), now).is_empty());
/// assert!(matches!(detector.record(&hosts[0], Outcome::Status(500), now)[..], [Event::Ejected { .. }]));
/// // The review after 30 s is over brings it back.
/// let back = detector.sweep(Timestamp::ZERO + Duration::from_secs(40));
/// assert_eq!(back, [Event::Returned { host: "10.0.0.1:80".into() }]);
/// ```
#[derive(Debug)]
pub struct Detector {
    inner: Mutex<Inner>,
    /// Which statuses are successes: a copy of what the settings say, for readers without the lock.
    successes: Statuses,
    /// Do rates count?
    rates: AtomicBool,
    next_sweep: AtomicU64,
}

/// A set of statuses, one bit each.
#[derive(Debug, Default)]
struct Statuses([AtomicU64; 16]);

impl Statuses {
    fn contains(&self, status: u16) -> bool {
        let word = self.0.get(usize::from(status / 64));
        word.is_some_and(|word| word.load(Ordering::Relaxed) >> (status % 64) & 1 == 1)
    }

    fn fill(&self, contains: impl Fn(u16) -> bool) {
        for (first, word) in (0..).step_by(64).zip(&self.0) {
            let bits = (0..64).filter(|bit| contains(first + bit)).fold(0, |bits, bit| bits | 1 << bit);
            word.store(bits, Ordering::Relaxed);
        }
    }
}

/// A status of 600 or more is no error, as in Envoy.
fn is_error(status: u16) -> bool {
    (500..=599).contains(&status)
}

#[derive(Debug)]
struct Inner {
    settings: Settings,
    hosts: BTreeMap<Arc<str>, Arc<HostRecord>>,
    ejected: usize,
    next_sweep: Timestamp,
}

impl Settings {
    /// Settings under which nothing is counted yet and at most a tenth of the hosts is out, at most for 300 s (or the base
    /// time, if that is longer).
    pub fn new(interval: Duration, base_ejection_time: Duration) -> Settings {
        Settings {
            consecutive_5xx: None,
            consecutive_gateway_errors: None,
            consecutive_local_origin_failures: None,
            split_local_origin: false,
            interval,
            base_ejection_time,
            max_ejection_time: base_ejection_time.max(Duration::from_secs(300)),
            max_ejection_percent: 10,
            error_codes: Vec::new(),
            success_rate: None,
            failure_percentage: None,
        }
    }

    /// Not more than so many hosts are out at once, in percent.
    pub fn ejecting_at_most(mut self, percent: u32) -> Settings {
        self.max_ejection_percent = percent;
        self
    }

    fn has_rates(&self) -> bool {
        self.success_rate.is_some() || self.failure_percentage.is_some()
    }

    fn ejection_time(&self, times: u32) -> Duration {
        self.base_ejection_time.saturating_mul(times).min(self.max_ejection_time)
    }

    /// Does a host that answers with this status do well?
    fn is_success(&self, status: u16) -> bool {
        self.external_status(Outcome::Status(status)).is_some_and(|status| !is_error(status))
    }

    /// The status that an outcome counts as; none if it does not count here.
    fn external_status(&self, outcome: Outcome) -> Option<u16> {
        match outcome {
            Outcome::Grpc(status) => Some(status),
            Outcome::Status(status) if self.error_codes.is_empty() => Some(status),
            Outcome::Status(status) if self.error_codes.contains(&status) => Some(status.max(500)),
            Outcome::Status(_) => Some(200),
            Outcome::Failure if !self.split_local_origin => Some(503),
            Outcome::Timeout if !self.split_local_origin => Some(504),
            _ => None,
        }
    }
}

impl Detector {
    /// A detector without hosts. The first review is one interval after `now`.
    pub fn new(settings: Settings, now: Timestamp) -> Detector {
        let next_sweep = now + settings.interval;
        let successes = Statuses::default();
        successes.fill(|status| settings.is_success(status));
        let rates = AtomicBool::new(settings.has_rates());
        let inner = Inner { settings, hosts: BTreeMap::new(), ejected: 0, next_sweep };
        Detector { inner: Mutex::new(inner), successes, rates, next_sweep: AtomicU64::new(next_sweep.as_nanos()) }
    }

    /// New settings: counters and ejections stay.
    pub fn configure(&self, settings: Settings, now: Timestamp) {
        let mut inner = lock(&self.inner);
        if inner.settings.interval != settings.interval {
            inner.next_sweep = now + settings.interval;
            self.next_sweep.store(inner.next_sweep.as_nanos(), Ordering::Release);
        }
        if inner.settings.error_codes != settings.error_codes {
            self.successes.fill(|status| settings.is_success(status));
        }
        self.rates.store(settings.has_rates(), Ordering::Relaxed);
        inner.settings = settings;
    }

    /// The hosts are now these. Who stays keeps counters and ejection. Gives their records in the same order.
    pub fn set_hosts(&self, keys: impl IntoIterator<Item = Arc<str>>) -> Vec<Arc<HostRecord>> {
        let records: Vec<Arc<HostRecord>> = {
            let inner = lock(&self.inner);
            let known = |key: Arc<str>| inner.hosts.get(&key).cloned();
            keys.into_iter()
                .map(|key| known(Arc::clone(&key)).unwrap_or_else(|| Arc::new(HostRecord::new(key))))
                .collect()
        };
        self.set_records(records.iter().cloned());
        records
    }

    /// The hosts are now those of these records, which the caller keeps. Who is not among them counts no more.
    pub fn set_records(&self, records: impl IntoIterator<Item = Arc<HostRecord>>) {
        let mut inner = lock(&self.inner);
        inner.hosts = records.into_iter().map(|record| (Arc::clone(&record.key), record)).collect();
        inner.ejected = inner.hosts.values().filter(|host| host.is_ejected()).count();
    }

    /// When the next review is due.
    pub fn next_sweep(&self) -> Timestamp {
        Timestamp::from_nanos(self.next_sweep.load(Ordering::Acquire))
    }

    /// Counts what came of an attempt. Returns what it led to: one answer may reach two thresholds.
    pub fn record(&self, host: &HostRecord, outcome: Outcome, now: Timestamp) -> Vec<Event> {
        let rates = self.rates.load(Ordering::Relaxed);
        let is_success = match outcome {
            Outcome::Status(status) => self.successes.contains(status),
            Outcome::Grpc(status) => !is_error(status),
            Outcome::Connected => {
                clear(&host.local_failures);
                if rates {
                    host.local.add(true);
                }
                return Vec::new();
            }
            Outcome::Failure | Outcome::Timeout => false,
        };
        if is_success {
            clear(&host.errors);
            clear(&host.gateway_errors);
            if rates {
                host.answers.add(true);
            }
            return Vec::new();
        }
        let mut inner = lock(&self.inner);
        let mut events = Vec::new();
        if let Some(status) = inner.settings.external_status(outcome) {
            if rates {
                host.answers.add(!is_error(status));
            }
            if !is_error(status) {
                // A status beyond the set, or new settings just now.
                clear(&host.errors);
                clear(&host.gateway_errors);
                return events;
            }
            if matches!(status, 502..=504) {
                let count = host.gateway_errors.fetch_add(1, Ordering::Relaxed).saturating_add(1);
                if Some(count) == inner.settings.consecutive_gateway_errors {
                    events.extend(inner.fire(host, Reason::ConsecutiveGatewayErrors, &host.gateway_errors, now));
                }
            } else {
                clear(&host.gateway_errors);
            }
            let count = host.errors.fetch_add(1, Ordering::Relaxed).saturating_add(1);
            if Some(count) == inner.settings.consecutive_5xx {
                events.extend(inner.fire(host, Reason::Consecutive5xx, &host.errors, now));
            }
        } else {
            if rates {
                host.local.add(false);
            }
            let count = host.local_failures.fetch_add(1, Ordering::Relaxed).saturating_add(1);
            if Some(count) == inner.settings.consecutive_local_origin_failures {
                events.extend(inner.fire(host, Reason::ConsecutiveLocalOriginFailures, &host.local_failures, now));
            }
        }
        events
    }

    /// Does every review that is due. Returns who came back.
    pub fn sweep(&self, now: Timestamp) -> Vec<Event> {
        if now < self.next_sweep() {
            return Vec::new();
        }
        let mut inner = lock(&self.inner);
        let mut events = Vec::new();
        while now >= inner.next_sweep {
            let at = inner.next_sweep;
            let interval = inner.settings.interval.max(Duration::from_millis(1));
            // Reviews until then would find nothing to do; those until now are all that is asked for.
            let due = inner.review(at, &mut events).unwrap_or(now).min(now);
            let skipped = (due - at).as_nanos().saturating_sub(1) / interval.as_nanos();
            let skipped = u32::try_from(skipped).unwrap_or(u32::MAX);
            inner.next_sweep = at + interval.saturating_mul(skipped.saturating_add(1));
        }
        self.next_sweep.store(inner.next_sweep.as_nanos(), Ordering::Release);
        events
    }

    /// A host's ejection, for people.
    pub fn ejection(&self, host: &HostRecord) -> Option<Ejected> {
        if !host.is_ejected() {
            return None;
        }
        let inner = lock(&self.inner);
        let ejection = *lock(&host.ejection);
        let until = ejection.since + inner.settings.ejection_time(ejection.times);
        Some(Ejected { reason: ejection.reason?, since: ejection.since, until })
    }
}

impl Inner {
    /// A counter has reached its threshold.
    fn fire(&mut self, host: &HostRecord, reason: Reason, counter: &AtomicU32, now: Timestamp) -> Option<Event> {
        if host.is_ejected() {
            return None;
        }
        counter.store(0, Ordering::Relaxed);
        // A host that was removed counts no more, even if another one has its key now.
        if !self.hosts.get(&host.key).is_some_and(|known| std::ptr::eq(&**known, host)) {
            return None;
        }
        Some(self.eject(host, reason, now))
    }

    /// Ejects a host that is not out, if not too many are.
    fn eject(&mut self, host: &HostRecord, reason: Reason, now: Timestamp) -> Event {
        let key = Arc::clone(&host.key);
        let cap = Cap { out: self.ejected, hosts: self.hosts.len(), percent: self.settings.max_ejection_percent };
        if !cap.allows_one_more() {
            return Event::Refused { host: key, reason, cap };
        }
        let mut ejection = lock(&host.ejection);
        let longest = self.settings.max_ejection_time + self.settings.base_ejection_time;
        if self.settings.base_ejection_time.saturating_mul(ejection.times) < longest {
            ejection.times += 1;
        }
        ejection.since = now;
        ejection.reason = Some(reason);
        host.ejected.store(true, Ordering::Release);
        self.ejected += 1;
        let until = now + self.settings.ejection_time(ejection.times);
        Event::Ejected { host: key, reason, until }
    }

    /// One review: who is back, who does too badly, whose next ejection is shorter. Gives the first time at which another
    /// one could change something; none if nothing is left.
    fn review(&mut self, at: Timestamp, events: &mut Vec<Event>) -> Option<Timestamp> {
        let next = at + self.settings.interval;
        for host in self.hosts.values() {
            let mut ejection = lock(&host.ejection);
            if host.is_ejected() && at - ejection.since >= self.settings.ejection_time(ejection.times) {
                ejection.returned = Some(at);
                host.reset();
                host.ejected.store(false, Ordering::Release);
                self.ejected = self.ejected.saturating_sub(1);
                events.push(Event::Returned { host: Arc::clone(&host.key) });
            }
        }
        if self.settings.has_rates() {
            self.judge(at, events);
        }
        let mut due: Option<Timestamp> = None;
        for host in self.hosts.values() {
            let mut ejection = lock(&host.ejection);
            let then = if host.is_ejected() {
                ejection.since + self.settings.ejection_time(ejection.times)
            } else if ejection.times > 0 {
                if ejection.returned.is_none_or(|returned| at - returned >= self.settings.interval) {
                    ejection.times -= 1;
                }
                next
            } else {
                continue;
            };
            due = Some(due.map_or(then, |due| due.min(then)));
        }
        due
    }

    /// Ejects by rates: answers first, then what no upstream answered.
    fn judge(&mut self, at: Timestamp, events: &mut Vec<Event>) {
        let hosts: Vec<Arc<HostRecord>> = self.hosts.values().cloned().collect();
        let (success, failure) = (self.settings.success_rate, self.settings.failure_percentage);
        let least = [success.map(|one| one.minimum_hosts), failure.map(|one| one.minimum_hosts)];
        let enough = least.iter().flatten().any(|least| hosts.len() >= *least as usize);
        for tally in [|host: &HostRecord| host.answers.take(), |host: &HostRecord| host.local.take()] {
            let rated: Vec<Rated> = (0..)
                .zip(&hosts)
                // Taken of all: each interval begins anew.
                .map(|(index, host)| (index, tally(host), host.is_ejected()))
                .filter(|(_, _, out)| !out)
                .filter_map(|(index, tally, _)| Rated::new(index, tally))
                .collect();
            if !enough {
                continue;
            }
            let worse = success.map(|one| one.judge(&rated)).unwrap_or_default();
            let failing = failure.map(|one| one.judge(&rated)).unwrap_or_default();
            let judged = worse.into_iter().map(|host| (host, Reason::SuccessRate));
            for (host, reason) in judged.chain(failing.into_iter().map(|host| (host, Reason::FailurePercentage))) {
                if !hosts[host].is_ejected() {
                    events.push(self.eject(&hosts[host], reason, at));
                }
            }
        }
    }
}
