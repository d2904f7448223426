//! Which `DestinationRule` holds for a service, and what it is put together from.
//!
//! Rules are kept in three pools by where they can be seen: by clients of their own namespace, by clients of others, and
//! (for private rules of the root namespace) by the root's own clients. A lookup goes through the client's namespace, the
//! service's, and the root; the first pool with a rule for the host ends it. In a pool the most specific host counts
//! alone. Several rules of one host are put together: subsets add up, the oldest policy stands.

use super::report::{NoteCode, Report};
use crate::hosts;
use crate::mesh::{Labels, Mesh, Viewpoint};
use crate::resource::{DestinationRule, Subset, TrafficPolicy};
use std::collections::{BTreeMap, BTreeSet};

const KIND: &str = "DestinationRule";

/// Rules of one host that were put together.
#[derive(Clone, Debug)]
pub(super) struct Merged {
    /// `namespace/name` of each, the oldest first.
    pub(super) names: Vec<String>,
    pub(super) subsets: Vec<Subset>,
    pub(super) policy: Option<TrafficPolicy>,
    selector: Option<Labels>,
    export_to: BTreeSet<String>,
}

/// Rules by host.
type Pool = BTreeMap<String, Vec<Merged>>;

/// Every rule, where lookups find it.
pub(super) struct Pools<'a> {
    local: BTreeMap<String, Pool>,
    exported: BTreeMap<String, Pool>,
    root_local: Pool,
    root: &'a str,
    viewpoint: &'a Viewpoint,
    all: Vec<(String, String)>,
}

impl<'a> Pools<'a> {
    pub(super) fn new(rules: &[DestinationRule], mesh: &'a Mesh, viewpoint: &'a Viewpoint) -> Self {
        let config = &mesh.mesh_config;
        let mut sorted: Vec<&DestinationRule> = rules.iter().collect();
        sorted.sort_by(|a, b| {
            let selects = |rule: &DestinationRule| rule.spec.workload_selector.is_none();
            selects(a).cmp(&selects(b)).then_with(|| super::by_age(&a.metadata, &b.metadata))
        });
        let mut pools = Pools {
            local: BTreeMap::new(),
            exported: BTreeMap::new(),
            root_local: Pool::new(),
            root: &config.root_namespace,
            viewpoint,
            all: Vec::new(),
        };
        for rule in sorted {
            let namespace = super::namespace(&rule.metadata);
            let host = hosts::expand(&rule.spec.host, namespace, &config.cluster_domain);
            let selector = rule.spec.workload_selector.as_ref().map(|selector| selector.match_labels.clone());
            let mut export_to: BTreeSet<String> = rule.spec.export_to.iter().cloned().collect();
            if selector.is_some() {
                export_to = BTreeSet::from([".".to_owned()]);
            }
            let name = super::qualified(&rule.metadata);
            pools.all.push((name.clone(), host.clone()));
            let one = Merged {
                names: vec![name],
                subsets: rule.spec.subsets.clone(),
                policy: rule.spec.traffic_policy.clone(),
                selector,
                export_to,
            };
            let only = |what: &str| one.export_to.len() == 1 && one.export_to.contains(what);
            let private = (one.export_to.is_empty()
                && config.default_destination_rule_export_to.iter().any(|entry| entry == "."))
                || only(".")
                || only(namespace);
            let is_local =
                one.export_to.is_empty() || ["*", ".", namespace].iter().any(|entry| one.export_to.contains(*entry));
            if is_local {
                add(pools.local.entry(namespace.to_owned()).or_default(), &host, one.clone());
            }
            if !private {
                add(pools.exported.entry(namespace.to_owned()).or_default(), &host, one);
            } else if namespace == pools.root {
                add(&mut pools.root_local, &host, one);
            }
        }
        pools
    }

    /// The rule that holds for this client and service.
    pub(super) fn choose(&self, host: &str, service_namespace: &str) -> Option<Merged> {
        let client = self.viewpoint.namespace.as_str();
        let own = if client == self.root { Some(&self.root_local) } else { self.local.get(client) };
        if let Some(list) = own.and_then(|pool| most_specific(pool, host)) {
            return self.select(list);
        }
        for namespace in [service_namespace, self.root] {
            let Some(list) = self.exported.get(namespace).and_then(|pool| most_specific(pool, host)) else { continue };
            let visible: Vec<&Merged> = list
                .iter()
                .filter(|rule| {
                    rule.export_to.is_empty() || rule.export_to.contains("*") || rule.export_to.contains(client)
                })
                .collect();
            if !visible.is_empty() {
                return self.select(visible);
            }
        }
        None
    }

    /// Of several: the first whose selector has the client, else the last that has none.
    fn select<'r>(&self, list: impl IntoIterator<Item = &'r Merged>) -> Option<Merged> {
        let mut general = None;
        for rule in list {
            match &rule.selector {
                Some(labels) if labels.iter().all(|(key, value)| self.viewpoint.labels.get(key) == Some(value)) => {
                    return Some(rule.clone());
                }
                Some(_) => {}
                None => general = Some(rule),
            }
        }
        general.cloned()
    }

    /// Says which rules hold for nothing.
    pub(super) fn report_unused(&self, used: &BTreeSet<String>, mesh: &Mesh, report: &mut Report) {
        for (name, host) in self.all.iter().filter(|(name, _)| !used.contains(name)) {
            if mesh.services.iter().any(|service| hosts::overlap(host, &service.host)) {
                let message = format!("another rule holds for `{host}`, or this one is not exported to the client");
                report.note(KIND, name, "", NoteCode::RuleHidden, message);
            } else {
                let message = format!("no service has the host `{host}`");
                report.note(KIND, name, "host", NoteCode::NoService, message);
            }
        }
    }
}

/// The rules of the most specific host that covers the service.
fn most_specific<'p>(pool: &'p Pool, host: &str) -> Option<&'p [Merged]> {
    if let Some(list) = pool.get(host) {
        return Some(list);
    }
    let needle = host.strip_prefix('*').unwrap_or(host);
    pool.iter()
        .filter(|(entry, _)| entry.strip_prefix('*').is_some_and(|suffix| needle.ends_with(suffix)))
        .min_by(|(a, _), (b, _)| hosts::by_specificity(a, b))
        .map(|(_, list)| list.as_slice())
}

/// Adds a rule to its host's list, put together with those that it goes together with.
fn add(pool: &mut Pool, host: &str, rule: Merged) {
    let list = pool.entry(host.to_owned()).or_default();
    let mut append = true;
    let mut keep_general = false;
    for known in list.iter_mut() {
        let same = known.export_to == rule.export_to;
        let wider = !known.export_to.is_empty() && rule.export_to.is_superset(&known.export_to);
        if !same && !wider {
            append = true;
            continue;
        }
        let listed_apart = !same;
        match (&known.selector, &rule.selector) {
            (Some(a), Some(b)) if a != b => {
                append = true;
                continue;
            }
            (None, None) | (Some(_), Some(_)) => append = false,
            _ => {
                append = listed_apart;
                // A general rule that a selecting one takes in still holds for whom that does not select.
                keep_general |= known.selector.is_some() && rule.selector.is_none();
            }
        }
        known.names.extend(rule.names.iter().cloned());
        for subset in &rule.subsets {
            if !known.subsets.iter().any(|own| own.name == subset.name) {
                known.subsets.push(subset.clone());
            }
        }
        if known.policy.is_none() {
            known.policy.clone_from(&rule.policy);
        }
    }
    if append || keep_general {
        list.push(rule);
    }
}
