//! Delegation: a root's rule that names another VirtualService is replaced, in place, by that one's rules.
//!
//! A delegate is a VirtualService without hosts. One level only: a delegate's own `delegate` is not followed. It must be
//! exported to the root's namespace. Settings merge as wholes: the delegate's value wins, the root's fills what is absent.
//! Conditions merge as a product; a delegate's block that contradicts every block of the root drops its whole rule.

use crate::resource::{HttpMatchRequest, HttpRoute, StringMatch};
use std::collections::BTreeMap;

/// A root's rule filled with one of the delegate's; none if their conditions contradict each other.
pub(crate) fn merge(root: &HttpRoute, delegate: &HttpRoute) -> Option<HttpRoute> {
    let mut merged = delegate.clone();
    merged.r#match = merge_matches(&root.r#match, &delegate.r#match)?;
    merged.name = join(&root.name, &delegate.name);
    merged.delegate = None;
    fn fill<T: Clone>(own: &mut Option<T>, roots: &Option<T>) {
        if own.is_none() {
            own.clone_from(roots);
        }
    }
    fill(&mut merged.rewrite, &root.rewrite);
    fill(&mut merged.direct_response, &root.direct_response);
    fill(&mut merged.timeout, &root.timeout);
    fill(&mut merged.retries, &root.retries);
    fill(&mut merged.fault, &root.fault);
    fill(&mut merged.mirror, &root.mirror);
    fill(&mut merged.mirror_percent, &root.mirror_percent);
    fill(&mut merged.mirror_percentage, &root.mirror_percentage);
    fill(&mut merged.cors_policy, &root.cors_policy);
    fill(&mut merged.headers, &root.headers);
    if merged.mirrors.is_empty() {
        merged.mirrors.clone_from(&root.mirrors);
    }
    Some(merged)
}

/// `root-delegate`, or the one that is there.
fn join(root: &str, delegate: &str) -> String {
    match (root, delegate) {
        ("", name) | (name, "") => name.to_owned(),
        (root, delegate) => format!("{root}-{delegate}"),
    }
}

fn merge_matches(root: &[HttpMatchRequest], delegate: &[HttpMatchRequest]) -> Option<Vec<HttpMatchRequest>> {
    if root.is_empty() {
        return Some(delegate.to_vec());
    }
    if delegate.is_empty() {
        return Some(root.to_vec());
    }
    let mut merged = Vec::new();
    for inner in delegate {
        let before = merged.len();
        merged.extend(root.iter().filter(|outer| !conflict(outer, inner)).map(|outer| merge_match(outer, inner)));
        if merged.len() == before {
            return None;
        }
    }
    Some(merged)
}

fn merge_match(root: &HttpMatchRequest, delegate: &HttpMatchRequest) -> HttpMatchRequest {
    let mut merged = delegate.clone();
    merged.name = join(&root.name, &delegate.name);
    for (own, roots) in [
        (&mut merged.uri, &root.uri),
        (&mut merged.scheme, &root.scheme),
        (&mut merged.method, &root.method),
        (&mut merged.authority, &root.authority),
    ] {
        if own.is_none() {
            own.clone_from(roots);
        }
    }
    for (own, roots) in [
        (&mut merged.headers, &root.headers),
        (&mut merged.without_headers, &root.without_headers),
        (&mut merged.query_params, &root.query_params),
    ] {
        for (name, condition) in roots {
            own.entry(name.clone()).or_insert_with(|| condition.clone());
        }
    }
    for (label, value) in &root.source_labels {
        merged.source_labels.entry(label.clone()).or_insert_with(|| value.clone());
    }
    if merged.port == 0 {
        merged.port = root.port;
    }
    if merged.source_namespace.is_empty() {
        merged.source_namespace.clone_from(&root.source_namespace);
    }
    if merged.gateways.is_empty() {
        merged.gateways.clone_from(&root.gateways);
    }
    if merged.stat_prefix.is_empty() {
        merged.stat_prefix.clone_from(&root.stat_prefix);
    }
    merged.ignore_uri_case = root.ignore_uri_case;
    merged
}

fn conflict(root: &HttpMatchRequest, delegate: &HttpMatchRequest) -> bool {
    let singles = [
        (&root.uri, &delegate.uri),
        (&root.scheme, &delegate.scheme),
        (&root.method, &delegate.method),
        (&root.authority, &delegate.authority),
    ];
    let maps = [
        (&root.headers, &delegate.headers),
        (&root.without_headers, &delegate.without_headers),
        (&root.query_params, &delegate.query_params),
    ];
    let shared = |(root, delegate): &(&BTreeMap<String, StringMatch>, &BTreeMap<String, StringMatch>)| {
        root.iter().any(|(name, outer)| delegate.get(name).is_some_and(|inner| conditions_conflict(outer, inner)))
    };
    let labels = root.source_labels.iter();
    singles.iter().any(|pair| matches!(pair, (Some(outer), Some(inner)) if conditions_conflict(outer, inner)))
        || maps.iter().any(shared)
        || root.ignore_uri_case != delegate.ignore_uri_case
        || (root.port != 0 && delegate.port != 0 && root.port != delegate.port)
        || (!root.source_namespace.is_empty() && root.source_namespace != delegate.source_namespace)
        || labels.into_iter().any(|(label, value)| delegate.source_labels.get(label).is_some_and(|own| own != value))
        || (!root.gateways.is_empty()
            && !delegate.gateways.is_empty()
            && delegate.gateways.iter().any(|gateway| !root.gateways.contains(gateway)))
}

/// Two conditions go together only if both ask for the same text, or the root's prefix begins the delegate's.
fn conditions_conflict(root: &StringMatch, delegate: &StringMatch) -> bool {
    match (root, delegate) {
        (StringMatch::Exact(root), StringMatch::Exact(own)) => root.is_empty() || root != own,
        (StringMatch::Prefix(root), StringMatch::Prefix(own) | StringMatch::Exact(own)) => {
            root.is_empty() || !own.starts_with(root.as_str())
        }
        _ => true,
    }
}
