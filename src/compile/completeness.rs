//! Nothing is dropped quietly: every rule and every match block is in a table, or the report says why not.
//!
//! The compiler notes what it leaves out where it knows the reason best. What is left without a word falls under static
//! conditions (a port, labels, a namespace, gateways that are not the viewpoint's), or under a root rule of a delegate that
//! is not in force itself. This pass finds it by comparing what was written with what came of it. It also takes back what
//! was noted for one port of a rule that is in force on another. And it names the destinations of routes in force that nobody
//! defines: those answer 503.

use super::report::{NoteCode, Report};
use super::{KIND, qualified};
use crate::policy::{Action, ListenerSpec, Origin, PortSpec, Section, Target};
use crate::resource::VirtualService;
use std::collections::{BTreeMap, BTreeSet};

/// A rule's match block, by where it was written: the list, the rule, the block.
type Place = (Section, usize, Option<usize>);

/// Adds a note for each rule and block that neither a table nor the report has.
pub(super) fn complete(
    report: &mut Report,
    resources: &[VirtualService],
    ports: &[PortSpec],
    listeners: &[ListenerSpec],
) {
    let live = live(ports, listeners);
    let none = BTreeSet::new();
    let live_of = |resource: &str| live.get(resource).unwrap_or(&none);
    report.notes.retain(|note| {
        let taken_back = matches!(note.code, NoteCode::Shadowed) && note.kind == KIND;
        !(taken_back && live_of(&note.resource).iter().any(|place| path_of(*place).starts_with(&note.path)))
    });
    let mut noted: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for note in report.notes.iter().filter(|note| note.kind == KIND) {
        noted.entry(&note.resource).or_default().push(&note.path);
    }
    let mut missing = Vec::new();
    for resource in resources {
        let name = qualified(&resource.metadata);
        let noted = noted.get(name.as_str()).map(Vec::as_slice).unwrap_or_default();
        // A note on the resource, its hosts, its exports or its gateways speaks for all of its rules, unless some are live.
        let live = live_of(&name);
        if live.is_empty() && noted.iter().any(|path| !path.contains('[')) {
            continue;
        }
        for (place, delegates) in written(resource) {
            let path = path_of(place);
            let rule = path.split(".match").next().unwrap_or_default();
            let spoken_for = |note: &&str| {
                note.strip_prefix(path.as_str()).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
                    || *note == rule
            };
            let in_force =
                live.contains(&place) || (delegates && live.iter().any(|one| (one.0, one.1) == (place.0, place.1)));
            if !in_force
                && !noted.iter().any(spoken_for)
                && !noted.iter().any(|note| delegates && note.starts_with(rule))
            {
                missing.push((name.clone(), path, place));
            }
        }
    }
    for (name, path, place) in missing {
        let message = match place {
            (Section::Http, _, Some(_)) => {
                "its port, gateways, source labels or source namespace never hold for this client"
            }
            (Section::Http, _, None) => "it is not in force on any port of this client",
            _ => {
                "no port of this client has a place for it: its conditions never hold, or an earlier rule has the place"
            }
        };
        report.note(KIND, &name, path, NoteCode::NeverHolds, message);
    }
    missing_destinations(report, ports, listeners);
}

/// Notes each rule in force with a destination or a mirror that nobody defines.
fn missing_destinations(report: &mut Report, ports: &[PortSpec], listeners: &[ListenerSpec]) {
    let routes = ports.iter().flat_map(|port| &port.virtual_hosts).flat_map(|host| &host.routes);
    let of_routes = routes.flat_map(|route| {
        let forward = if let Action::Forward(forward) = &route.action { Some(forward) } else { None };
        let destinations = forward.into_iter().flat_map(|forward| {
            let routed = forward.destinations.iter().map(|destination| &destination.target);
            routed.chain(forward.mirrors.iter().map(|mirror| &mirror.target))
        });
        destinations.map(|target| (&route.origin, target))
    });
    let chains = listeners.iter().flat_map(|listener| &listener.chains);
    let of_chains =
        chains.flat_map(|chain| chain.destinations.iter().map(|destination| (&chain.origin, &destination.target)));
    let mut found = BTreeSet::new();
    for (origin, target) in of_routes.chain(of_chains) {
        let (Origin::Rule { resource, section, rule, delegate, .. }, Target::Missing(name)) = (origin, target) else {
            continue;
        };
        let (resource, rule) = delegate.as_ref().map_or((resource, rule), |(delegate, inner)| (delegate, inner));
        found.insert((resource, *section, *rule, name));
    }
    for (resource, section, rule, name) in found {
        let message = format!("`{name}` is defined by no service and rule that the client sees: requests get 503");
        report.note(KIND, resource, path_of((section, rule, None)), NoteCode::MissingDestination, message);
    }
}

/// `http[1].match[0]`
fn path_of((section, rule, block): Place) -> String {
    match block {
        Some(block) => format!("{}[{rule}].match[{block}]", section.as_str()),
        None => format!("{}[{rule}]", section.as_str()),
    }
}

/// What is in the tables, by resource. A delegate's rules count for it and for its root.
fn live(ports: &[PortSpec], listeners: &[ListenerSpec]) -> BTreeMap<String, BTreeSet<Place>> {
    let routes = ports.iter().flat_map(|port| &port.virtual_hosts).flat_map(|host| &host.routes);
    let chains = listeners.iter().flat_map(|listener| &listener.chains);
    let mut live: BTreeMap<String, BTreeSet<Place>> = BTreeMap::new();
    for origin in routes.map(|route| &route.origin).chain(chains.map(|chain| &chain.origin)) {
        let Origin::Rule { resource, section, rule, block, delegate } = origin else { continue };
        live.entry(resource.to_string()).or_default().insert((*section, *rule, *block));
        if let Some((delegate, inner)) = delegate {
            // Merged conditions are numbered anew: a delegate's rule is in force as a whole.
            live.entry(delegate.to_string()).or_default().insert((*section, *inner, None));
        }
    }
    live
}

/// Every place of a resource at which something was written, and whether it hands over to a delegate.
fn written(resource: &VirtualService) -> Vec<(Place, bool)> {
    let spec = &resource.spec;
    let is_delegate = spec.hosts.is_empty();
    let mut places = Vec::new();
    let mut add = |section, rule, blocks: usize, delegates| {
        if blocks == 0 || is_delegate || delegates {
            places.push(((section, rule, None), delegates));
        } else {
            places.extend((0..blocks).map(|block| ((section, rule, Some(block)), false)));
        }
    };
    for (index, rule) in spec.http.iter().enumerate() {
        add(Section::Http, index, rule.r#match.len(), rule.delegate.is_some());
    }
    for (index, rule) in spec.tls.iter().enumerate() {
        add(Section::Tls, index, rule.r#match.len(), false);
    }
    for (index, rule) in spec.tcp.iter().enumerate() {
        add(Section::Tcp, index, rule.r#match.len(), false);
    }
    places
}
