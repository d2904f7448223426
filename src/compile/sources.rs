//! Which VirtualServices a viewpoint sees and is bound to, in their order, with the rules of delegates in their place.

use super::{Compiler, KIND, NoteCode, by_age, delegate, gateway_name, namespace, qualified};
use crate::hosts;
use crate::resource::{HttpRoute, VirtualService};
use std::collections::{HashMap, HashSet};
use std::sync::Arc;

/// A VirtualService that the viewpoint sees and is bound to, with its delegates filled in.
pub(super) struct Source<'r> {
    pub(super) name: Arc<str>,
    pub(super) namespace: &'r str,
    pub(super) hosts: Vec<String>,
    pub(super) rules: Vec<SourceRule>,
    pub(super) resource: &'r VirtualService,
}

/// One rule, its own or a delegate's.
pub(super) struct SourceRule {
    pub(super) rule: HttpRoute,
    /// Which of the root's rules.
    pub(super) index: usize,
    pub(super) delegate: Option<(Arc<str>, usize)>,
}

/// The namespaces that a resource is exported to.
fn export_set<'r>(written: &'r [String], default: &'r [String]) -> Vec<&'r str> {
    let set = if written.is_empty() { default } else { written };
    if set.is_empty() { vec!["*"] } else { set.iter().map(String::as_str).collect() }
}

fn exports_to(set: &[&str], own: &str, namespace: &str) -> bool {
    set.contains(&"*") || set.iter().any(|entry| *entry == namespace || (*entry == "." && own == namespace))
}

impl Compiler<'_> {
    fn export_set<'r>(&'r self, service: &'r VirtualService) -> Vec<&'r str> {
        export_set(&service.spec.export_to, &self.mesh.mesh_config.default_virtual_service_export_to)
    }

    /// What the viewpoint sees and is bound to, in order of precedence: private, exported by name, public; each by age.
    pub(super) fn sources<'r>(&mut self, services: &'r [VirtualService]) -> Vec<Source<'r>> {
        let mut delegates: HashMap<String, &'r VirtualService> = HashMap::new();
        let mut sorted: Vec<&'r VirtualService> = services.iter().collect();
        sorted.sort_by(|a, b| by_age(&a.metadata, &b.metadata));
        for service in sorted.iter().filter(|service| service.spec.hosts.is_empty()) {
            delegates.entry(qualified(&service.metadata)).or_insert(service);
        }
        let mut named = HashSet::new();
        let mut found: Vec<(u8, Source<'r>)> = Vec::new();
        for service in sorted.iter().filter(|service| !service.spec.hosts.is_empty()) {
            let own = namespace(&service.metadata);
            let name = qualified(&service.metadata);
            named.extend(service.spec.http.iter().filter_map(|rule| rule.delegate.as_ref()).map(|delegate| {
                let namespace = if delegate.namespace.is_empty() { own } else { &delegate.namespace };
                format!("{namespace}/{}", delegate.name)
            }));
            let exported = self.export_set(service);
            if !exports_to(&exported, own, &self.viewpoint.namespace) {
                let message = format!("it is not exported to namespace `{}`", self.viewpoint.namespace);
                self.report.note(KIND, &name, "exportTo", NoteCode::NotExported, message);
                continue;
            }
            let rank = if exported.contains(&"*") {
                2
            } else if own == self.viewpoint.namespace {
                0
            } else {
                1
            };
            let bound = match service.spec.gateways.as_slice() {
                [] => self.role() == "mesh",
                gateways => gateways.iter().any(|gateway| gateway_name(gateway, own) == self.role()),
            };
            if !bound {
                let message = format!("it is not bound to `{}`", self.role());
                self.report.note(KIND, &name, "gateways", NoteCode::NotBound, message);
                continue;
            }
            let domain = &self.mesh.mesh_config.cluster_domain;
            let hosts = service.spec.hosts.iter().map(|host| hosts::expand(host, own, domain)).collect();
            let rules = self.rules(service, &name, own, &delegates);
            let source = Source { name: name.into(), namespace: own, hosts, rules, resource: service };
            found.push((rank, source));
        }
        for name in delegates.keys().filter(|name| !named.contains(*name)) {
            let message = "it has no hosts, and no VirtualService delegates to it";
            self.report.note(KIND, name, "", NoteCode::DelegateUnused, message);
        }
        found.sort_by_key(|(rank, _)| *rank);
        found.into_iter().map(|(_, source)| source).collect()
    }

    /// A resource's rules, with those of its delegates in their place.
    fn rules(
        &mut self,
        service: &VirtualService,
        name: &str,
        own: &str,
        delegates: &HashMap<String, &VirtualService>,
    ) -> Vec<SourceRule> {
        let mut rules = Vec::new();
        for (index, rule) in service.spec.http.iter().enumerate() {
            let rule = self.with_whole_names(rule, own);
            let Some(reference) = &rule.delegate else {
                rules.push(SourceRule { rule, index, delegate: None });
                continue;
            };
            let path = format!("http[{index}].delegate");
            let target_namespace = if reference.namespace.is_empty() { own } else { &reference.namespace };
            let target = format!("{target_namespace}/{}", reference.name);
            let Some(delegate) = delegates.get(&target) else {
                let message = format!("there is no VirtualService `{target}` without hosts");
                self.report.note(KIND, name, path, NoteCode::DelegateMissing, message);
                continue;
            };
            if !exports_to(&self.export_set(delegate), target_namespace, own) {
                let message = format!("`{target}` is not exported to namespace `{own}`");
                self.report.note(KIND, name, path, NoteCode::DelegateHidden, message);
                continue;
            }
            for (inner_index, inner) in delegate.spec.http.iter().enumerate() {
                match delegate::merge(&rule, &self.with_whole_names(inner, target_namespace)) {
                    Some(merged) => rules.push(SourceRule {
                        rule: merged,
                        index,
                        delegate: Some((target.as_str().into(), inner_index)),
                    }),
                    None => {
                        let message = format!("its conditions contradict those of `http[{index}]` of `{name}`");
                        let path = format!("http[{inner_index}]");
                        self.report.note(KIND, &target, path, NoteCode::DelegateConflict, message);
                    }
                }
            }
        }
        rules
    }

    /// A rule with its short names completed: of destinations, of mirrors, of gateways in its conditions. This comes
    /// before a delegate's rule is merged with its root's, because each one's names belong to its own namespace.
    fn with_whole_names(&self, rule: &HttpRoute, namespace: &str) -> HttpRoute {
        let mut rule = rule.clone();
        let routed = rule.route.iter_mut().filter_map(|entry| entry.destination.as_mut());
        let mirrored = rule.mirrors.iter_mut().filter_map(|entry| entry.destination.as_mut());
        for destination in routed.chain(mirrored).chain(rule.mirror.as_mut()) {
            destination.host = hosts::expand(&destination.host, namespace, &self.mesh.mesh_config.cluster_domain);
        }
        for gateway in rule.r#match.iter_mut().flat_map(|block| &mut block.gateways) {
            *gateway = gateway_name(gateway, namespace);
        }
        rule
    }
}
