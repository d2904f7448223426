//! Outlier detection through the public API: tables of what Envoy was seen to do, and a naive detector beside it for random
//! histories.

mod history;
mod rates;
mod table;

use pointsman::outlier::{Detector, Event, HostRecord, Reason, Settings};
use pointsman::time::Timestamp;
use std::sync::Arc;
use std::time::Duration;

/// Envoy's defaults, with all hosts ejectable.
pub(crate) fn settings() -> Settings {
    Settings::new(Duration::from_secs(10), Duration::from_secs(30)).ejecting_at_most(100)
}

pub(crate) fn at(millis: u64) -> Timestamp {
    Timestamp::from_millis(millis)
}

pub(crate) fn detector(settings: Settings, hosts: usize) -> (Detector, Vec<Arc<HostRecord>>) {
    let detector = Detector::new(settings, Timestamp::ZERO);
    let records = detector.set_hosts((0..hosts).map(|host| Arc::from(format!("10.0.0.{host}:80"))));
    (detector, records)
}

pub(crate) fn ejected(hosts: &[Arc<HostRecord>]) -> usize {
    hosts.iter().filter(|host| host.is_ejected()).count()
}

/// The reasons of ejections and refusals: `(ejections, refusals)`.
pub(crate) fn reasons(events: &[Event]) -> (Vec<Reason>, Vec<Reason>) {
    let mut found = (Vec::new(), Vec::new());
    for event in events {
        match event {
            Event::Ejected { reason, .. } => found.0.push(*reason),
            Event::Refused { reason, .. } => found.1.push(*reason),
            _ => {}
        }
    }
    found
}
