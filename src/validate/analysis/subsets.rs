//! DestinationRules and what they are for: is there such a host, does a subset select anybody, does anybody ask for it?

use super::{Context, nearest};
use crate::compile::augment;
use crate::mesh::{Endpoint, Labels, Service};
use crate::resource::DestinationRule;
use crate::validate::report::{Report, Severity};

/// The endpoints that some labels select, the labels of their place with them.
pub(super) fn endpoints_of<'s>(service: &'s Service, labels: &'s Labels) -> impl Iterator<Item = &'s Endpoint> {
    service.endpoints.iter().filter(move |endpoint| {
        let mut own = endpoint.labels.clone();
        augment(&mut own, &endpoint.locality);
        labels.iter().all(|(key, value)| own.get(key) == Some(value))
    })
}

pub(super) fn check(rule: &DestinationRule, context: &Context<'_>, report: &mut Report) {
    let host = context.expand(&rule.spec.host, &rule.metadata);
    registered(rule, &host, context, report);
    unused(rule, &host, context, report);
    looked_for(rule, &host, context, report);
}

/// AN-019 and AN-020: the registry has the host, and subsets select someone.
fn registered(rule: &DestinationRule, host: &str, context: &Context<'_>, report: &mut Report) {
    let Some((mesh, _)) = context.mesh else { return };
    let covers = |service: &Service| crate::hosts::overlap(host, &service.host);
    let Some(service) = context.service(host).or_else(|| mesh.services.iter().find(|service| covers(service))) else {
        let near = context.meant(host);
        report.add(Severity::Warning, "AN-019", "spec.host", format!("no service has the host `{host}`")).suggest(near);
        return;
    };
    if crate::hosts::is_wildcard(host) {
        return;
    }
    for (at, subset) in rule.spec.subsets.iter().enumerate() {
        if endpoints_of(service, &subset.labels).next().is_some() {
            continue;
        }
        let written: Vec<String> = subset.labels.iter().map(|(key, value)| format!("{key}: {value}")).collect();
        // The first label that nobody has, and what others have there. Values of other subsets were hardly meant.
        let odd = subset.labels.iter().find_map(|(key, value)| {
            let mut values: Vec<&str> =
                service.endpoints.iter().filter_map(|one| one.labels.get(key)).map(String::as_str).collect();
            values.sort_unstable();
            values.dedup();
            (!values.contains(&value.as_str())).then_some((key, value, values))
        });
        let known = match &odd {
            Some((key, _, values)) if !values.is_empty() => {
                let shown: Vec<&str> = values.iter().copied().take(6).collect();
                format!("; {key} is `{}`{}", shown.join("`, `"), if values.len() > 6 { " and others" } else { "" })
            }
            _ => String::new(),
        };
        let message = format!(
            "the subset `{}` selects nobody: of {} endpoints of `{host}` none has `{}`{known}",
            subset.name,
            service.endpoints.len(),
            written.join(", ")
        );
        let near = odd.and_then(|(key, value, values)| {
            let taken =
                |known: &&str| rule.spec.subsets.iter().any(|one| one.labels.get(key).is_some_and(|own| own == known));
            let free = values.iter().copied().filter(|known| !taken(known));
            nearest(value, free).map(|near| format!("{key}: {near}"))
        });
        report.add(Severity::Error, "AN-020", format!("spec.subsets[{at}].labels"), message).suggest(near);
    }
}

/// PM-070: a subset's policy counts only for routes that name the subset.
fn unused(rule: &DestinationRule, host: &str, context: &Context<'_>, report: &mut Report) {
    for (at, subset) in rule.spec.subsets.iter().enumerate().filter(|(_, subset)| subset.traffic_policy.is_some()) {
        let mut used = context.used_subsets.iter().filter(|(_, name)| *name == subset.name);
        let is_used = if crate::hosts::is_wildcard(host) {
            used.any(|(used, _)| crate::hosts::is_subset(used, host))
        } else {
            context.used_subsets.contains(&(host.to_owned(), subset.name.as_str()))
        };
        if !is_used {
            let message = format!(
                "the trafficPolicy of the subset `{}` has no effect: no route names the subset, and a route that does not \
                 gets the rule's own policy",
                subset.name
            );
            report.add(Severity::Info, "PM-070", format!("spec.subsets[{at}].trafficPolicy"), message);
        }
    }
}

/// PM-071: rules are looked for in the client's namespace, the service's, and the root; exported or not.
fn looked_for(rule: &DestinationRule, host: &str, context: &Context<'_>, report: &mut Report) {
    let own = context.namespace(&rule.metadata);
    let root = context.mesh.map_or("istio-system", |(mesh, _)| &mesh.mesh_config.root_namespace);
    let ending = format!(".svc.{}", context.domain);
    let of_name = host.strip_suffix(&ending).and_then(|name| name.split_once('.')).map(|(_, namespace)| namespace);
    let owner = context.services.get(host).map(|service| service.namespace.as_str()).or(of_name);
    let exported = rule.spec.export_to.is_empty() || rule.spec.export_to.iter().any(|to| to != "." && to != own);
    if let Some(owner) = owner.filter(|owner| !owner.contains('*') && *owner != own && own != root && exported) {
        let message = format!(
            "only clients in `{own}` use it, whatever exportTo says: others look in their own namespace, in the service's \
             (`{owner}`) and in `{root}`"
        );
        report.add(Severity::Info, "PM-071", "spec.host", message);
    }
}
