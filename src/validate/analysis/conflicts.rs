//! Resources that claim the same: a name, a host in sidecars, a host's settings.

use super::Context;
use crate::hosts;
use crate::resource::{DestinationRule, ObjectMeta, VirtualService};
use crate::validate::report::{Related, Report, Severity};
use std::collections::{BTreeMap, BTreeSet, HashMap};

/// Who claims which host in sidecars: by scope (`*`, or a namespace) and full host name.
#[derive(Default)]
pub(super) struct Claims<'a> {
    by_key: HashMap<(String, String), Vec<&'a VirtualService>>,
    /// Hosts with a `*` that everybody sees.
    public_wildcards: Vec<(String, &'a VirtualService)>,
    /// VirtualServices that send to a literal host with a subset and list that host.
    splits: HashMap<&'a str, Vec<&'a VirtualService>>,
}

impl<'a> Claims<'a> {
    pub(super) fn new(context: &Context<'a>) -> Claims<'a> {
        let mut claims = Claims::default();
        for service in &context.resources.virtual_services {
            for (scope, host) in keys(service, context) {
                if scope == "*" && hosts::is_wildcard(&host) {
                    claims.public_wildcards.push((host.clone(), service));
                }
                claims.by_key.entry((scope, host)).or_default().push(service);
            }
            let with_subset: BTreeSet<&str> = service
                .spec
                .http
                .iter()
                .flat_map(|route| &route.route)
                .filter_map(|entry| entry.destination.as_ref())
                .filter(|destination| !destination.subset.is_empty())
                .map(|destination| destination.host.as_str())
                .collect();
            for host in service.spec.hosts.iter().filter(|host| with_subset.contains(host.as_str())) {
                claims.splits.entry(host).or_default().push(service);
            }
        }
        claims
    }
}

/// The scopes and hosts that a resource claims in sidecars: nothing, if it is for gateways alone.
fn keys(service: &VirtualService, context: &Context<'_>) -> Vec<(String, String)> {
    let spec = &service.spec;
    if !(spec.gateways.is_empty() || spec.gateways.iter().any(|gateway| gateway == "mesh")) {
        return Vec::new();
    }
    let own = context.namespace(&service.metadata);
    let everywhere = spec.export_to.is_empty() || spec.export_to.iter().any(|to| to == "*");
    let scopes: Vec<&str> = if everywhere {
        vec!["*"]
    } else {
        spec.export_to.iter().map(|to| if to == "." { own } else { to.as_str() }).collect()
    };
    let hosts = spec.hosts.iter().map(|host| context.expand(host, &service.metadata));
    hosts.flat_map(|host| scopes.iter().map(move |scope| ((*scope).to_owned(), host.clone()))).collect()
}

/// PM-004: a kind has a name once in a namespace. Engines take both; a cluster keeps the one that is applied last.
fn same_name(metadata: &ObjectMeta, first: Option<Related>, context: &Context<'_>, report: &mut Report) {
    if let Some(first) = first {
        let message = format!(
            "`{}` is there twice: applied to a cluster, the later one replaces the earlier",
            context.qualified(metadata)
        );
        report.add(Severity::Warning, "PM-004", "metadata.name", message).related.push(first);
    }
}

pub(super) fn check(service: &VirtualService, context: &Context<'_>, report: &mut Report) {
    let first = context.by_name.get(&context.qualified(&service.metadata));
    let first = first.filter(|first| !std::ptr::eq(**first, service));
    let first = first.map(|first| context.related(first, "metadata.name", "the first one"));
    same_name(&service.metadata, first, context, report);
    hosts_in_sidecars(service, context, report);
    subset_beside_gateway(service, context, report);
}

/// AN-014: nobody else claims a host of the resource. Once for each resource, as Istio does.
fn hosts_in_sidecars(service: &VirtualService, context: &Context<'_>, report: &mut Report) {
    let claims = &context.claims;
    let mut twice = BTreeSet::new();
    for (scope, host) in keys(service, context) {
        if !twice.insert((scope.clone(), host.clone())) {
            let message = format!("`{host}` is listed twice, once in its short form");
            report.add(Severity::Error, "AN-014", "spec.hosts", message);
            return;
        }
        let mut others: Vec<&VirtualService> = Vec::new();
        let same = claims.by_key.get(&(scope.clone(), host.clone()));
        others.extend(same.into_iter().flatten());
        if scope != "*" {
            others.extend(claims.by_key.get(&("*".to_owned(), host.clone())).into_iter().flatten());
            let wider =
                claims.public_wildcards.iter().filter(|(other, _)| *other != host && hosts::overlap(other, &host));
            others.extend(wider.map(|(_, other)| *other));
        }
        let name = context.qualified(&service.metadata);
        let Some(other) = others.into_iter().find(|other| context.qualified(&other.metadata) != name) else { continue };
        let at = service.spec.hosts.iter().position(|one| context.expand(one, &service.metadata) == host);
        let path = at.map_or_else(|| "spec.hosts".to_owned(), |at| format!("spec.hosts[{at}]"));
        let message = format!(
            "`{host}` is also a host of VirtualService {}: a sidecar takes one of the two whole, the older, and ignores \
             the other",
            context.qualified(&other.metadata)
        );
        let finding = report.add(Severity::Error, "AN-014", path, message);
        finding.related.push(context.related(other, "spec.hosts", "the other one"));
        return;
    }
}

/// AN-015: what comes through a gateway takes part in a host's split into subsets.
fn subset_beside_gateway(service: &VirtualService, context: &Context<'_>, report: &mut Report) {
    if service.spec.gateways.is_empty() {
        return;
    }
    for (rule, route) in service.spec.http.iter().enumerate() {
        for (at, entry) in route.route.iter().enumerate() {
            let Some(target) = entry.destination.as_ref().filter(|target| target.subset.is_empty()) else { continue };
            let splits = context.claims.splits.get(target.host.as_str()).into_iter().flatten();
            for other in splits.filter(|other| !std::ptr::eq(**other, service)) {
                let message = format!(
                    "requests through the gateway go to all of `{}`: VirtualService {}, which splits it into subsets, \
                     has no part in them",
                    target.host,
                    context.qualified(&other.metadata)
                );
                let path = format!("spec.http[{rule}].route[{at}].destination.host");
                let finding = report.add(Severity::Warning, "AN-015", path, message);
                finding.related.push(context.related(other, "spec.hosts", "the split is here"));
            }
        }
    }
}

pub(super) fn check_rule(rule: &DestinationRule, context: &Context<'_>, report: &mut Report) {
    let first = context.rules_by_name.get(&context.qualified(&rule.metadata));
    let first = first.filter(|first| !std::ptr::eq(**first, rule));
    let first = first.map(|first| context.related_rule(first, "metadata.name", "the first one"));
    same_name(&rule.metadata, first, context, report);
    older_rules(rule, context, report);
}

/// PM-072 and PM-073: rules of one host are put together, and only the oldest counts where two say the same.
fn older_rules(rule: &DestinationRule, context: &Context<'_>, report: &mut Report) {
    let host = context.expand(&rule.spec.host, &rule.metadata);
    let own = context.namespace(&rule.metadata);
    let age = |rule: &DestinationRule| {
        (
            rule.metadata.creation_timestamp.clone(),
            rule.metadata.name.clone(),
            context.namespace(&rule.metadata).to_owned(),
        )
    };
    // Rules that select workloads, or that others see, are not put together with this one.
    let older = context.rules.get(&host).into_iter().flatten().filter(|other| {
        !std::ptr::eq(**other, rule)
            && context.namespace(&other.metadata) == own
            && other.spec.export_to == rule.spec.export_to
            && other.spec.workload_selector == rule.spec.workload_selector
            && age(other) < age(rule)
    });
    let mut defined: BTreeMap<&str, &DestinationRule> = BTreeMap::new();
    let mut policy = None;
    for other in older {
        if other.spec.traffic_policy.is_some() {
            policy = policy.or(Some(other));
        }
        for subset in &other.spec.subsets {
            defined.entry(&subset.name).or_insert(other);
        }
    }
    for (at, subset) in rule.spec.subsets.iter().enumerate() {
        let Some(other) = defined.get(subset.name.as_str()) else { continue };
        let message = format!(
            "DestinationRule {} defines the subset `{}` of `{host}` too and is older: this one is ignored",
            context.qualified(&other.metadata),
            subset.name
        );
        let finding = report.add(Severity::Warning, "PM-072", format!("spec.subsets[{at}]"), message);
        finding.related.push(context.related_rule(other, "spec.subsets", "the one that counts"));
    }
    if let (Some(other), true) = (policy, rule.spec.traffic_policy.is_some()) {
        let message = format!(
            "DestinationRule {} has a trafficPolicy for `{host}` too and is older: this one is ignored",
            context.qualified(&other.metadata)
        );
        let finding = report.add(Severity::Warning, "PM-073", "spec.trafficPolicy", message);
        finding.related.push(context.related_rule(other, "spec.trafficPolicy", "the one that counts"));
    }
}
