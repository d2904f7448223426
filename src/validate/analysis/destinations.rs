//! Destinations of routes and mirrors: is there such a host, such a port, such a subset?

use super::{Context, nearest};
use crate::resource::{Destination, VirtualService};
use crate::validate::report::{Report, Severity};

/// Every destination of a resource with its path, and whether it is a mirror's.
pub(super) fn all(service: &VirtualService) -> impl Iterator<Item = (String, &Destination, bool)> {
    let spec = &service.spec;
    let http = spec.http.iter().enumerate().flat_map(|(rule, route)| {
        let routes = route.route.iter().enumerate().filter_map(move |(at, entry)| {
            Some((format!("spec.http[{rule}].route[{at}].destination"), entry.destination.as_ref()?, false))
        });
        let mirror = route.mirror.iter().map(move |target| (format!("spec.http[{rule}].mirror"), target, true));
        let mirrors = route.mirrors.iter().enumerate().filter_map(move |(at, entry)| {
            Some((format!("spec.http[{rule}].mirrors[{at}].destination"), entry.destination.as_ref()?, true))
        });
        routes.chain(mirror).chain(mirrors)
    });
    let tls = spec.tls.iter().map(|route| &route.route).enumerate().map(|(rule, route)| ("tls", rule, route));
    let tcp = spec.tcp.iter().map(|route| &route.route).enumerate().map(|(rule, route)| ("tcp", rule, route));
    let connections = tls.chain(tcp).flat_map(|(section, rule, route)| {
        route.iter().enumerate().filter_map(move |(at, entry)| {
            Some((format!("spec.{section}[{rule}].route[{at}].destination"), entry.destination.as_ref()?, false))
        })
    });
    http.chain(connections)
}

pub(super) fn check(service: &VirtualService, context: &Context<'_>, report: &mut Report) {
    for (path, destination, is_mirror) in all(service) {
        let host = context.expand(&destination.host, &service.metadata);
        if context.mesh.is_some() {
            registered(destination, &host, &path, is_mirror, context, report);
        }
        if !destination.subset.is_empty() {
            subset(destination, &host, &path, is_mirror, context, report);
        }
    }
}

/// AN-005 to AN-008: the registry has the host, and the host has the port.
fn registered(
    destination: &Destination,
    host: &str,
    path: &str,
    is_mirror: bool,
    context: &Context<'_>,
    report: &mut Report,
) {
    let Some(found) = context.service(host) else {
        let code = if is_mirror { "AN-006" } else { "AN-005" };
        let what = if is_mirror { "copies are lost" } else { "its requests get 503" };
        let message = format!("no service has the host `{host}`, so {what}");
        report.add(Severity::Error, code, format!("{path}.host"), message).suggest(context.meant(host));
        return;
    };
    let ports: Vec<String> = found.ports.iter().map(|port| port.number.to_string()).collect();
    match destination.port.as_ref().map(|port| port.number).filter(|number| *number != 0) {
        Some(number) if !found.ports.iter().any(|port| u32::from(port.number) == number) => {
            let message = format!("`{host}` has no port {number}; it has {}", ports.join(", "));
            let finding = report.add(Severity::Error, "AN-007", format!("{path}.port.number"), message);
            finding.suggest(if let [only] = ports.as_slice() { Some(only) } else { None });
        }
        None if ports.len() > 1 => {
            let message = format!(
                "`{host}` has the ports {}, and the destination names none: the port that the client dialled is taken",
                ports.join(", ")
            );
            report.error("AN-008", path, message);
        }
        _ => {}
    }
}

/// AN-009: a DestinationRule defines the subset.
fn subset(
    destination: &Destination,
    host: &str,
    path: &str,
    is_mirror: bool,
    context: &Context<'_>,
    report: &mut Report,
) {
    let wanted = destination.subset.as_str();
    let known: Vec<&str> =
        context.rules_for(host).flat_map(|rule| &rule.spec.subsets).map(|subset| subset.name.as_str()).collect();
    if known.contains(&wanted) {
        return;
    }
    let what = if is_mirror { "its copies are lost" } else { "its requests get 503" };
    let near =
        nearest(wanted, known.iter().copied()).or(if let [only] = known.as_slice() { Some(*only) } else { None });
    let message = if context.rules_for(host).next().is_none() {
        format!("the subset `{wanted}` is not defined: there is no DestinationRule for `{host}`, so {what}")
    } else if near.is_some() || known.is_empty() {
        format!("no DestinationRule defines the subset `{wanted}` of `{host}`, so {what}")
    } else {
        format!(
            "no DestinationRule defines the subset `{wanted}` of `{host}`, so {what}; there are `{}`",
            known.join("`, `")
        )
    };
    let finding = report.add(Severity::Error, "AN-009", format!("{path}.subset"), message);
    finding.suggest(near);
    let owner = near.and_then(|near| {
        context.rules_for(host).find_map(|rule| {
            let at = rule.spec.subsets.iter().position(|subset| subset.name == near)?;
            Some(context.related_rule(rule, &format!("spec.subsets[{at}].name"), format!("`{near}` is defined here")))
        })
    });
    finding.related.extend(owner);
}
