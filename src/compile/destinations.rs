//! Which destinations there are, and which `DestinationRule` holds for each.
//!
//! One destination for each service and port, and one more for each subset of the rule that holds for the client. The
//! rule is looked for in the client's namespace, then in the service's, then in the root namespace; in each, the most
//! specific host counts alone.

use super::blocks::{Blocks, port_entry};
use super::report::Report;
use crate::mesh::{Mesh, Protocol, Service, Viewpoint};
use crate::policy::{ClusterName, Destination, DestinationId, HashKey, Target};
use crate::resource::{ConsistentHashLb, DestinationRule, Subset, TrafficPolicy};
use http::HeaderName;
use std::collections::HashMap;
use std::sync::Arc;

/// Every destination of a viewpoint, by name.
pub(crate) struct DestinationIndex<'a> {
    services: HashMap<&'a str, &'a Service>,
    rules: HashMap<&'a str, EffectiveRule>,
    destinations: Vec<Destination>,
    by_key: HashMap<(String, u16, String), DestinationId>,
}

/// The rule that holds for one service and this client: subsets and policy of all that were put together.
#[derive(Clone, Debug, Default)]
struct EffectiveRule {
    name: Option<Arc<str>>,
    policy: Option<TrafficPolicy>,
    subsets: Vec<Subset>,
}

impl<'a> DestinationIndex<'a> {
    pub(crate) fn new(rules: &[DestinationRule], mesh: &'a Mesh, viewpoint: &Viewpoint, report: &mut Report) -> Self {
        let pools = super::rules::Pools::new(rules, mesh, viewpoint);
        let mut index = DestinationIndex {
            services: HashMap::new(),
            rules: HashMap::new(),
            destinations: Vec::new(),
            by_key: HashMap::new(),
        };
        let mut used = std::collections::BTreeSet::new();
        for service in &mesh.services {
            if index.services.insert(&service.host, service).is_some() {
                continue;
            }
            let rule = match pools.choose(&service.host, &service.namespace) {
                Some(merged) => {
                    used.extend(merged.names.iter().cloned());
                    EffectiveRule {
                        name: merged.names.first().map(|name| Arc::from(name.as_str())),
                        policy: merged.policy,
                        subsets: merged.subsets,
                    }
                }
                None => EffectiveRule::default(),
            };
            index.add(service, &rule, viewpoint);
            index.rules.insert(&service.host, rule);
        }
        pools.report_unused(&used, mesh, report);
        index
    }

    fn add(&mut self, service: &'a Service, rule: &EffectiveRule, viewpoint: &Viewpoint) {
        for port in service.ports.iter().filter(|port| port.protocol != Protocol::Udp) {
            let mut one = |subset: Option<&Subset>| {
                let name = subset.map_or("", |subset| subset.name.as_str());
                let key = (service.host.clone(), port.number, name.to_owned());
                if self.by_key.contains_key(&key) {
                    return;
                }
                let own = subset.and_then(|subset| subset.traffic_policy.as_ref());
                let blocks = Blocks::resolve(rule.policy.as_ref(), own, port.number);
                let cluster = ClusterName::new(service.host.as_str(), port.number, name);
                let labels = subset.map(|subset| &subset.labels);
                let destination =
                    super::settings::destination(cluster, rule.name.clone(), service, port, labels, &blocks, viewpoint);
                let id = DestinationId(u32::try_from(self.destinations.len()).unwrap_or(u32::MAX));
                self.destinations.push(destination);
                self.by_key.insert(key, id);
            };
            one(None);
            rule.subsets.iter().for_each(|subset| one(Some(subset)));
        }
    }

    /// The destination of (host, port, subset), or the name of what nobody defines.
    pub(crate) fn resolve(&self, host: &str, port: u16, subset: &str) -> Target {
        match self.by_key.get(&(host.to_owned(), port, subset.to_owned())) {
            Some(id) => Target::Destination(*id),
            None => Target::Missing(ClusterName::new(host, port, subset).to_string().into()),
        }
    }

    /// The only port of a service that has one.
    pub(crate) fn only_port(&self, host: &str) -> Option<u16> {
        match self.services.get(host)?.ports.as_slice() {
            [port] => Some(port.number),
            _ => None,
        }
    }

    /// What a route of a VirtualService hashes for this destination: the first of the subset's port entry, the subset,
    /// the rule's port entry, the rule. A port's entry is looked for only where the route names the port.
    pub(crate) fn hash_keys(&self, host: &str, subset: &str, written_port: Option<u16>) -> Vec<HashKey> {
        let Some(rule) = self.rules.get(host) else { return Vec::new() };
        let own = rule.subsets.iter().find(|one| !subset.is_empty() && one.name == subset);
        let own = own.and_then(|subset| subset.traffic_policy.as_ref());
        let entry = |policy| written_port.and_then(|port| port_entry(policy, port));
        let places = [entry(own), own, entry(rule.policy.as_ref()), rule.policy.as_ref()];
        places.into_iter().flatten().find_map(consistent_hash).map(keys).unwrap_or_default()
    }

    /// What the route of a service without a VirtualService hashes.
    pub(crate) fn service_hash_keys(&self, host: &str, port: u16) -> Vec<HashKey> {
        let Some(rule) = self.rules.get(host) else { return Vec::new() };
        let places = [port_entry(rule.policy.as_ref(), port), rule.policy.as_ref()];
        places.into_iter().flatten().find_map(consistent_hash).map(keys).unwrap_or_default()
    }

    pub(crate) fn into_destinations(self) -> Vec<Destination> {
        self.destinations
    }
}

fn consistent_hash(policy: &TrafficPolicy) -> Option<&ConsistentHashLb> {
    policy.load_balancer.as_ref()?.consistent_hash.as_ref()
}

fn keys(hash: &ConsistentHashLb) -> Vec<HashKey> {
    let key = if let Some(name) = &hash.http_header_name {
        HeaderName::try_from(name.to_ascii_lowercase())
            .ok()
            .map(HashKey::Header)
            .or_else(|| name.starts_with(':').then(|| HashKey::PseudoHeader(name.to_ascii_lowercase().into())))
    } else if let Some(cookie) = &hash.http_cookie {
        Some(HashKey::Cookie {
            name: cookie.name.as_str().into(),
            ttl: cookie.ttl.map(|ttl| ttl.to_std().unwrap_or_default()),
            path: cookie.path.as_str().into(),
            attributes: cookie
                .attributes
                .iter()
                .map(|attribute| (attribute.name.as_str().into(), attribute.value.as_str().into()))
                .collect(),
        })
    } else if hash.use_source_ip == Some(true) {
        Some(HashKey::SourceIp)
    } else {
        hash.http_query_parameter_name.as_deref().map(|name| HashKey::QueryParameter(name.into()))
    };
    key.into_iter().collect()
}
