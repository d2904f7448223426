//! Outlier detection: who answers badly is left alone for a while.
//!
//! Each host has three counters of failures in a row: 5xx, gateway errors (502, 503, 504), and, if they are counted apart,
//! failures that no upstream answered. A counter that reaches its threshold asks for an ejection and starts again, whether
//! or not the ejection was allowed; it is refused when it would put more than `max_ejection_percent` of the hosts out. An
//! ejection lasts `base × n`, at most `max`, where `n` grows with each ejection and shrinks with each quiet interval. Every
//! `interval` the ejected are reviewed, so real times round up to that.
//!
//! Time is an argument. What has to happen at an interval's end happens at the next call with a later time.

use crate::time::Timestamp;
use serde::{Serialize, Serializer};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
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
}

impl Reason {
    /// As it is written: `consecutive-5xx`.
    pub fn as_str(self) -> &'static str {
        match self {
            Reason::Consecutive5xx => "consecutive-5xx",
            Reason::ConsecutiveGatewayErrors => "consecutive-gateway-errors",
            Reason::ConsecutiveLocalOriginFailures => "consecutive-local-origin-failures",
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
    /// It should have been ejected, but too many are out.
    Refused {
        /// Its key.
        host: Arc<str>,
        /// Why.
        reason: Reason,
    },
    /// It is back.
    Returned {
        /// Its key.
        host: Arc<str>,
    },
}

/// One host's counters. Cheap to share; counting takes no lock.
#[derive(Debug)]
pub struct HostRecord {
    key: Arc<str>,
    errors: AtomicU32,
    gateway_errors: AtomicU32,
    local_failures: AtomicU32,
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
    /// Is it out?
    pub fn is_ejected(&self) -> bool {
        self.ejected.load(Ordering::Acquire)
    }

    fn reset(&self) {
        self.errors.store(0, Ordering::Relaxed);
        self.gateway_errors.store(0, Ordering::Relaxed);
        self.local_failures.store(0, Ordering::Relaxed);
    }
}

/// The hosts of one destination.
#[derive(Debug)]
pub struct Detector {
    inner: Mutex<Inner>,
    next_sweep: AtomicU64,
}

#[derive(Debug)]
struct Inner {
    settings: Settings,
    hosts: BTreeMap<Arc<str>, Arc<HostRecord>>,
    ejected: usize,
    next_sweep: Timestamp,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Every change below leaves the state whole before anything that could panic.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Settings {
    fn ejection_time(&self, times: u32) -> Duration {
        self.base_ejection_time.saturating_mul(times).min(self.max_ejection_time)
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
        let inner = Inner { settings, hosts: BTreeMap::new(), ejected: 0, next_sweep };
        Detector { inner: Mutex::new(inner), next_sweep: AtomicU64::new(next_sweep.as_nanos()) }
    }

    /// New settings: counters and ejections stay.
    pub fn configure(&self, settings: Settings, now: Timestamp) {
        let mut inner = lock(&self.inner);
        if inner.settings.interval != settings.interval {
            inner.next_sweep = now + settings.interval;
            self.next_sweep.store(inner.next_sweep.as_nanos(), Ordering::Release);
        }
        inner.settings = settings;
    }

    /// The hosts are now these. Who stays keeps counters and ejection. Gives their records in the same order.
    pub fn set_hosts(&self, keys: impl IntoIterator<Item = Arc<str>>) -> Vec<Arc<HostRecord>> {
        let mut inner = lock(&self.inner);
        let mut hosts = BTreeMap::new();
        let mut records = Vec::new();
        for key in keys {
            let record = hosts.entry(Arc::clone(&key)).or_insert_with(|| {
                inner.hosts.get(&key).cloned().unwrap_or_else(|| {
                    Arc::new(HostRecord {
                        key: Arc::clone(&key),
                        errors: AtomicU32::new(0),
                        gateway_errors: AtomicU32::new(0),
                        local_failures: AtomicU32::new(0),
                        ejected: AtomicBool::new(false),
                        ejection: Mutex::default(),
                    })
                })
            });
            records.push(Arc::clone(record));
        }
        inner.ejected = hosts.values().filter(|host| host.is_ejected()).count();
        inner.hosts = hosts;
        records
    }

    /// When the next review is due.
    pub fn next_sweep(&self) -> Timestamp {
        Timestamp::from_nanos(self.next_sweep.load(Ordering::Acquire))
    }

    /// Counts what came of an attempt. Returns what it led to.
    pub fn record(&self, host: &HostRecord, outcome: Outcome, now: Timestamp) -> Option<Event> {
        // The settings are behind the lock; counters are not. A success of a host without failures needs neither.
        if matches!(outcome, Outcome::Status(status) if status < 400)
            && host.errors.load(Ordering::Relaxed) == 0
            && host.gateway_errors.load(Ordering::Relaxed) == 0
        {
            // A listed status below 500 may still count as an error: only 2xx and 3xx that nobody lists pass here.
            let inner = lock(&self.inner);
            if inner.settings.error_codes.is_empty() {
                return None;
            }
        }
        let mut inner = lock(&self.inner);
        let mut fired = None;
        if let Some(status) = inner.settings.external_status(outcome) {
            if status >= 500 {
                if matches!(status, 502..=504) {
                    let count = host.gateway_errors.fetch_add(1, Ordering::Relaxed) + 1;
                    if Some(count) == inner.settings.consecutive_gateway_errors {
                        fired = inner.fire(host, Reason::ConsecutiveGatewayErrors, &host.gateway_errors, now);
                    }
                } else {
                    host.gateway_errors.store(0, Ordering::Relaxed);
                }
                let count = host.errors.fetch_add(1, Ordering::Relaxed) + 1;
                if Some(count) == inner.settings.consecutive_5xx {
                    fired = inner.fire(host, Reason::Consecutive5xx, &host.errors, now).or(fired);
                }
            } else {
                host.errors.store(0, Ordering::Relaxed);
                host.gateway_errors.store(0, Ordering::Relaxed);
            }
        } else if outcome == Outcome::Connected {
            host.local_failures.store(0, Ordering::Relaxed);
        } else {
            let count = host.local_failures.fetch_add(1, Ordering::Relaxed) + 1;
            if Some(count) == inner.settings.consecutive_local_origin_failures {
                fired = inner.fire(host, Reason::ConsecutiveLocalOriginFailures, &host.local_failures, now);
            }
        }
        fired
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
            let busy = inner.review(at, &mut events);
            inner.next_sweep = if busy {
                at + inner.settings.interval.max(Duration::from_millis(1))
            } else {
                // Nothing is left to review: later reviews until now would find nothing either.
                let interval = inner.settings.interval.max(Duration::from_millis(1));
                let skipped = (now - at).as_nanos() / interval.as_nanos();
                at + interval.saturating_mul(u32::try_from(skipped).unwrap_or(u32::MAX).saturating_add(1))
            };
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
        if !self.hosts.contains_key(&host.key) {
            return None;
        }
        let key = Arc::clone(&host.key);
        let allowed = u64::from(self.settings.max_ejection_percent) * self.hosts.len() as u64;
        if 100 * (self.ejected as u64 + 1) > allowed {
            return Some(Event::Refused { host: key, reason });
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
        Some(Event::Ejected { host: key, reason, until })
    }

    /// One review. Is there anything left that a later one could change?
    fn review(&mut self, at: Timestamp, events: &mut Vec<Event>) -> bool {
        let mut busy = false;
        for host in self.hosts.values() {
            let mut ejection = lock(&host.ejection);
            if host.is_ejected() {
                if at - ejection.since >= self.settings.ejection_time(ejection.times) {
                    ejection.returned = Some(at);
                    host.reset();
                    host.ejected.store(false, Ordering::Release);
                    self.ejected = self.ejected.saturating_sub(1);
                    events.push(Event::Returned { host: Arc::clone(&host.key) });
                }
                busy = true;
            } else if ejection.times > 0 {
                if ejection.returned.is_none_or(|returned| at - returned >= self.settings.interval) {
                    ejection.times -= 1;
                }
                busy = true;
            }
        }
        busy
    }
}
