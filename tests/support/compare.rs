//! What was observed on the real proxies against what this crate did.

use super::world::{Expect, Mirror, Outcomes, Share, Upstream};
use std::collections::BTreeMap;
use std::fmt::{Debug, Write as _};
use std::time::Duration;

/// What this crate did with one request or connection.
#[derive(Clone, Debug, Default)]
pub struct Observed {
    pub route: String,
    pub cluster: String,
    pub flags: Vec<String>,
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: String,
    pub attempts: usize,
    pub upstream: Option<Upstream>,
    /// Of each attempt that reached an upstream, in order.
    pub endpoints: Vec<String>,
    pub mirrors: Vec<SeenMirror>,
    pub elapsed: Duration,
    pub outcome: String,
}

/// A copy that was sent. Which of several endpoints got it is chance.
#[derive(Clone, Debug)]
pub struct SeenMirror {
    pub candidates: Vec<String>,
    pub method: String,
    pub path: String,
    pub authority: String,
}

impl SeenMirror {
    fn agrees(&self, wanted: &Mirror) -> bool {
        self.candidates.contains(&wanted.endpoint)
            && (&self.method, &self.path, &self.authority) == (&wanted.method, &wanted.path, &wanted.authority)
    }
}

impl Observed {
    pub fn last_endpoint(&self) -> String {
        self.endpoints.last().cloned().unwrap_or_default()
    }
}

/// The differences of one plain case, one line each, led by the field's name.
pub fn differences(expect: &Expect, seen: &Observed) -> Vec<String> {
    let mut lines = Vec::new();
    let mut field = |name: &str, wanted: &dyn Debug, got: &dyn Debug| {
        let (wanted, got) = (format!("{wanted:?}"), format!("{got:?}"));
        if wanted != got {
            lines.push(format!("{name}: expected {wanted}, got {got}"));
        }
    };
    field("outcome", &expect.outcome, &seen.outcome);
    if !expect.outcome.is_empty() {
        return lines;
    }
    field("route", &expect.route, &seen.route);
    field("cluster", &expect.cluster, &seen.cluster);
    field("flags", &sorted(&expect.flags), &sorted(&seen.flags));
    field("status", &expect.status, &seen.status);
    field("attempts", &expect.attempts, &seen.attempts);
    if let Some(body) = &expect.body {
        field("body", body, &seen.body);
    }
    if let Some(endpoint) = &expect.endpoint {
        field("endpoint", endpoint, &seen.last_endpoint());
    }
    if let Some(endpoints) = &expect.endpoints {
        field("endpoints", endpoints, &seen.endpoints);
    }
    if let Some(wanted) = &expect.upstream {
        let got = seen.upstream.clone().unwrap_or_default();
        field("upstream.method", &wanted.method, &got.method);
        field("upstream.authority", &wanted.authority, &got.authority);
        field("upstream.path", &wanted.path, &got.path);
        field("upstream.headers", &sorted(&wanted.headers), &sorted(&got.headers));
    }
    let (wanted, got) = (sorted(&expect.headers), sorted(&seen.headers));
    if wanted.len() != got.len() || !wanted.iter().zip(&got).all(|(wanted, got)| header_agrees(wanted, got)) {
        field("headers", &wanted, &got);
    }
    let mut copies = seen.mirrors.clone();
    let all_sent = expect.mirrors.iter().all(|wanted| {
        let found = copies.iter().position(|copy| copy.agrees(wanted));
        found.map(|at| copies.swap_remove(at)).is_some()
    });
    if !all_sent || !copies.is_empty() {
        lines.push(format!("mirrors: expected {:?}, got {:?}", expect.mirrors, seen.mirrors));
    }
    if let Some(wanted) = expect.elapsed_ms {
        let got = seen.elapsed.as_millis() as u64;
        let slack = (wanted / 4).max(120);
        if got.abs_diff(wanted) > slack {
            lines.push(format!("elapsed_ms: expected {wanted}, got {got}"));
        }
    }
    lines
}

/// In a `set-cookie` value `*` stands for anything.
fn header_agrees(wanted: &(String, String), got: &(String, String)) -> bool {
    if wanted.0 != got.0 {
        return false;
    }
    match wanted.1.split_once('*') {
        Some((before, after)) if wanted.0 == "set-cookie" => {
            got.1.len() >= before.len() + after.len() && got.1.starts_with(before) && got.1.ends_with(after)
        }
        _ => wanted.1 == got.1,
    }
}

fn sorted<T: Ord + Clone>(list: &[T]) -> Vec<T> {
    let mut list = list.to_vec();
    list.sort();
    list
}

/// Shares of `times` requests, compared as two samples of the same size. What a share leaves out counts over all.
pub fn share_differences(shares: &[Share], seen: &[Observed]) -> Vec<String> {
    let times = seen.len() as f64;
    let names_endpoints = shares.iter().any(|share| !share.endpoint.is_empty());
    let mut pairs: BTreeMap<(String, u16, String, usize), (u32, u32)> = BTreeMap::new();
    for share in shares {
        let key = (share.cluster.clone(), share.status, share.endpoint.clone(), share.mirrors);
        pairs.entry(key).or_default().0 += share.count;
    }
    for one in seen {
        let endpoint = if names_endpoints { one.last_endpoint() } else { String::new() };
        pairs.entry((one.cluster.clone(), one.status, endpoint, one.mirrors.len())).or_default().1 += 1;
    }
    let mut lines = Vec::new();
    for (key, (wanted, got)) in pairs {
        let p = f64::from(wanted + got) / (2.0 * times);
        let slack = 5.0 * (2.0 * p * (1.0 - p) * times).sqrt() + 2.0;
        if f64::from(wanted.abs_diff(got)) > slack {
            lines.push(format!("shares: {key:?}: expected {wanted}, got {got}, of {times}"));
        }
    }
    lines
}

/// Outcomes of parallel requests: exact.
pub fn outcome_differences(outcomes: &[Outcomes], seen: &[Observed]) -> Vec<String> {
    let mut got: BTreeMap<(u16, Vec<String>, usize), u32> = BTreeMap::new();
    for one in seen {
        *got.entry((one.status, sorted(&one.flags), one.attempts)).or_default() += 1;
    }
    let wanted: BTreeMap<_, _> =
        outcomes.iter().map(|one| ((one.status, sorted(&one.flags), one.attempts), one.count)).collect();
    if wanted == got { Vec::new() } else { vec![format!("outcomes: expected {wanted:?}, got {got:?}")] }
}

/// How often each endpoint was picked, smallest first.
pub fn spread_difference(picks: &[u32], seen: &[Observed]) -> Option<String> {
    let mut counts: BTreeMap<String, u32> = BTreeMap::new();
    for one in seen {
        for endpoint in &one.endpoints {
            *counts.entry(endpoint.clone()).or_default() += 1;
        }
    }
    let mut got: Vec<u32> = counts.values().copied().collect();
    got.sort_unstable();
    (got != picks).then(|| {
        let mut line = String::new();
        let _ = write!(line, "spread: expected {picks:?}, got {got:?} ({counts:?})");
        line
    })
}
