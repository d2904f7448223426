//! Counters and histograms for the `metrics` facade.

use crate::engine::{Event, Observer};
use crate::exchange::Summary;
use crate::outlier;
use crate::sync::lock;
use metrics::{SharedString, counter, histogram};
use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};

const MOST_CLUSTERS: usize = 1_000;

/// Records what an engine does with the `metrics` facade: `Engine::builder().observer(Metrics::new())`.
///
/// | name | kind | labels |
/// |---|---|---|
/// | `pointsman_requests_total` | counter | `cluster`, `status` (`2xx`, …, `none`), `code` |
/// | `pointsman_request_duration_seconds` | histogram | `cluster` |
/// | `pointsman_attempts_total`, `pointsman_retries_total`, `pointsman_mirrored_total` | counter | `cluster` |
/// | `pointsman_limited_total` | counter | `cluster`, `limit` (`connectionPool.http.http2MaxRequests`, …) |
/// | `pointsman_ejections_total`, `pointsman_ejections_refused_total` | counter | `cluster`, `reason` |
/// | `pointsman_returns_total` | counter | `cluster` |
/// | `pointsman_reloads_total`, `pointsman_reloads_refused_total` | counter | |
///
/// Labels come from the policy, never from a request, and of clusters only so many are told apart: those after them are
/// `other`. A request without a destination has the cluster `none`.
#[derive(Debug)]
pub struct Metrics {
    most: usize,
    clusters: Mutex<BTreeSet<Arc<str>>>,
}

impl Default for Metrics {
    fn default() -> Self {
        Metrics::new()
    }
}

impl Metrics {
    /// A recorder that tells 1,000 clusters apart.
    pub fn new() -> Self {
        Metrics { most: MOST_CLUSTERS, clusters: Mutex::default() }
    }

    /// The same recorder that tells so many clusters apart.
    pub fn with_clusters(mut self, most: usize) -> Self {
        self.most = most;
        self
    }

    /// The label of a cluster.
    fn cluster(&self, name: &str) -> SharedString {
        if name.is_empty() {
            return SharedString::const_str("none");
        }
        let mut clusters = lock(&self.clusters);
        if let Some(known) = clusters.get(name) {
            return SharedString::from_shared(Arc::clone(known));
        }
        if clusters.len() >= self.most {
            return SharedString::const_str("other");
        }
        let name: Arc<str> = name.into();
        clusters.insert(Arc::clone(&name));
        SharedString::from_shared(name)
    }

    fn finished(&self, summary: &Summary) {
        let status = match summary.status / 100 {
            1 => "1xx",
            2 => "2xx",
            3 => "3xx",
            4 => "4xx",
            5 => "5xx",
            _ => "none",
        };
        let cluster = self.cluster(&summary.cluster);
        let code = summary.code.as_str();
        counter!("pointsman_requests_total", "cluster" => cluster.clone(), "status" => status, "code" => code)
            .increment(1);
        if let Some(ended) = summary.ended {
            let took = (ended - summary.began).as_secs_f64();
            histogram!("pointsman_request_duration_seconds", "cluster" => cluster).record(took);
        }
    }
}

impl Observer for Metrics {
    fn on_event(&self, event: &Event<'_>) {
        match event {
            Event::Attempt { summary } => {
                counter!("pointsman_attempts_total", "cluster" => self.cluster(&summary.cluster)).increment(1);
            }
            Event::Retry { summary, .. } => {
                counter!("pointsman_retries_total", "cluster" => self.cluster(&summary.cluster)).increment(1);
            }
            Event::Mirrored { cluster, .. } => {
                counter!("pointsman_mirrored_total", "cluster" => self.cluster(cluster)).increment(1);
            }
            Event::Limited { cluster, exceeded } => {
                let (cluster, limit) = (self.cluster(cluster), exceeded.limit.as_str());
                counter!("pointsman_limited_total", "cluster" => cluster, "limit" => limit).increment(1);
            }
            Event::Outlier { cluster, event } => {
                let cluster = self.cluster(cluster);
                match event {
                    outlier::Event::Ejected { reason, .. } => {
                        let reason = reason.as_str();
                        counter!("pointsman_ejections_total", "cluster" => cluster, "reason" => reason).increment(1);
                    }
                    outlier::Event::Refused { reason, .. } => {
                        let reason = reason.as_str();
                        counter!("pointsman_ejections_refused_total", "cluster" => cluster, "reason" => reason)
                            .increment(1);
                    }
                    outlier::Event::Returned { .. } => {
                        counter!("pointsman_returns_total", "cluster" => cluster).increment(1);
                    }
                }
            }
            Event::Reloaded => counter!("pointsman_reloads_total").increment(1),
            Event::ReloadRefused { .. } => counter!("pointsman_reloads_refused_total").increment(1),
            Event::Finished { summary } => self.finished(summary),
            Event::Decided { .. } | Event::Attempted { .. } => {}
        }
    }
}
