//! Host names: how short ones are completed, which cover which, and what a service answers to.
//!
//! Istio compares hosts byte by byte; Envoy looks an authority up in lower case. So relations here keep case, and
//! domains are lowered last.

use std::collections::HashMap;

/// Completes a short name: `reviews` in `default` is `reviews.default.svc.cluster.local`. Anything with a dot, an IP
/// address, and `*` stay as they are.
pub(crate) fn expand(host: &str, namespace: &str, cluster_domain: &str) -> String {
    let stays = host.is_empty() || host == "*" || host.contains('.') || host.parse::<std::net::IpAddr>().is_ok();
    if stays { host.to_owned() } else { format!("{host}.{namespace}.svc.{cluster_domain}") }
}

pub(crate) fn is_wildcard(host: &str) -> bool {
    host.starts_with('*')
}

/// Do two hosts have a name in common, as Istio asks: equal, or the text after one's `*` ends the other?
pub(crate) fn overlap(a: &str, b: &str) -> bool {
    match (a.strip_prefix('*'), b.strip_prefix('*')) {
        (None, None) => a == b,
        (Some(suffix), None) => b.ends_with(suffix),
        (None, Some(suffix)) => a.ends_with(suffix),
        (Some(a), Some(b)) => a.ends_with(b) || b.ends_with(a),
    }
}

/// Is every name of `a` one of `b`'s?
pub(crate) fn is_subset(a: &str, b: &str) -> bool {
    match (a.strip_prefix('*'), b.strip_prefix('*')) {
        (None, None) => a == b,
        (None, Some(suffix)) => a.ends_with(suffix),
        (Some(_), None) => false,
        (Some(a), Some(b)) => a.ends_with(b),
    }
}

/// Orders hosts by how specific they are: exact before wildcard, longer before shorter, then by text.
pub(crate) fn by_specificity(a: &str, b: &str) -> std::cmp::Ordering {
    is_wildcard(a).cmp(&is_wildcard(b)).then(b.len().cmp(&a.len())).then_with(|| a.cmp(b))
}

/// What two hosts have in common, if one covers the other.
pub(crate) fn intersection<'a>(a: &'a str, b: &'a str) -> Option<&'a str> {
    if is_subset(a, b) {
        Some(a)
    } else if is_subset(b, a) {
        Some(b)
    } else {
        None
    }
}

/// The names that a service's own host is shortened to for a client in `namespace`: `reviews`, `reviews.default`,
/// `reviews.default.svc`. Only hosts of the cluster's own shape have any.
pub(crate) fn short_names(host: &str, namespace: &str, cluster_domain: &str) -> Vec<String> {
    let Some(name) = host.strip_suffix(cluster_domain).and_then(|rest| rest.strip_suffix(".svc.")) else {
        return Vec::new();
    };
    let Some((service, own)) = name.split_once('.') else { return Vec::new() };
    let mut names = vec![format!("{service}.{own}"), format!("{service}.{own}.svc")];
    if own == namespace {
        names.push(service.to_owned());
    }
    names
}

/// Hosts as they were written, to find the most specific one that covers a service. Of equals the first stands.
///
/// A name is looked for as it is, then under each of its endings, the longest first: the cost is its length, however many
/// hosts there are.
#[derive(Debug, Default)]
pub(crate) struct MostSpecific<'h, T> {
    exact: HashMap<&'h str, T>,
    /// By what follows the `*`.
    wildcards: HashMap<&'h str, T>,
}

impl<'h, T: Copy> MostSpecific<'h, T> {
    pub(crate) fn new(hosts: impl IntoIterator<Item = (&'h str, T)>) -> Self {
        let mut found = MostSpecific { exact: HashMap::new(), wildcards: HashMap::new() };
        for (host, value) in hosts {
            match host.strip_prefix('*') {
                Some(suffix) => found.wildcards.entry(suffix).or_insert(value),
                None => found.exact.entry(host).or_insert(value),
            };
        }
        found
    }

    /// What belongs to a service's host; a service may itself have a wildcard for one, which only wildcards cover.
    pub(crate) fn find(&self, host: &str) -> Option<T> {
        let (exact, rest) = match host.strip_prefix('*') {
            Some(suffix) => (None, suffix),
            None => (self.exact.get(host), host),
        };
        let endings = rest.char_indices().map(|(at, _)| &rest[at..]).chain([""]);
        exact.or_else(|| endings.filter_map(|ending| self.wildcards.get(ending)).next()).copied()
    }
}
