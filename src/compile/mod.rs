//! From resources and a mesh to a policy, for one viewpoint.
//!
//! Everything that is the same for all of a viewpoint's requests is worked out here: which resources it sees, who owns a
//! host, which rules can hold on a port, what a delegate adds, what a destination's settings are. What falls by the way is
//! in the [`Report`]. The order of the input does not matter: resources are sorted by age, name and namespace first.
//!
//! | file | works out |
//! |---|---|
//! | `sources.rs`, `delegate.rs` | which VirtualServices the viewpoint sees, with their delegates' rules |
//! | `virtual_hosts.rs`, `matches.rs`, `actions.rs` | hosts of HTTP listeners, and their routes |
//! | `connections.rs` | listeners of connections that are not HTTP |
//! | `rules.rs`, `destinations.rs`, `blocks.rs` | which DestinationRules hold for whom, and what they say together |
//! | `settings.rs`, `locality.rs` | a destination's settings, and places of its endpoints |
//! | `report.rs`, `completeness.rs` | what is not in the policy; that nothing is left unsaid |

mod actions;
mod blocks;
mod completeness;
mod connections;
mod delegate;
mod destinations;
mod locality;
mod matches;
mod report;
mod rules;
mod settings;
mod sources;
mod virtual_hosts;

pub(crate) use actions::is_known_status;
pub(crate) use locality::augment;
pub(crate) use matches::is_catch_all;
pub use report::{Note, NoteCode, Report};
pub(crate) use virtual_hosts::server_hosts;

use crate::mesh::{Mesh, Viewpoint};
use crate::policy::{Policy, PolicySpec};
use crate::resource::{HttpRoute, ObjectMeta, Resources};
use destinations::DestinationIndex;
use std::cmp::Ordering;

const KIND: &str = "VirtualService";

/// A policy, and what did not make it.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Compiled {
    /// The policy.
    pub policy: Policy,
    /// What did not make it, and why.
    pub report: Report,
}

impl Policy {
    /// Compiles what a viewpoint sees of resources and mesh. Never fails: what cannot be carried out is in the report, and
    /// takes nothing else with it.
    pub fn compile(resources: &Resources, mesh: &Mesh, viewpoint: &Viewpoint) -> Compiled {
        let mut report = Report::default();
        let destinations = DestinationIndex::new(&resources.destination_rules, mesh, viewpoint, &mut report);
        let mut compiler = Compiler { mesh, viewpoint, destinations, report };
        let sources = compiler.sources(&resources.virtual_services);
        let ports = match viewpoint.as_gateway() {
            Some(gateway) => compiler.gateway_ports(gateway, &sources),
            None => compiler.mesh_ports(&sources),
        };
        let listeners = compiler.listeners(&sources);
        let Compiler { destinations, mut report, .. } = compiler;
        completeness::complete(&mut report, &resources.virtual_services, &ports, &listeners);
        report.finish();
        let spec = PolicySpec {
            ports,
            listeners,
            destinations: destinations.into_destinations(),
            normalization: mesh.mesh_config.path_normalization,
            gateway: viewpoint.as_gateway().is_some(),
        };
        Compiled { policy: Policy::new(spec), report }
    }
}

/// Can the rule be carried out at all, wherever it is compiled? (Destinations that nobody has do not matter here.)
pub(crate) fn carry_out(rule: &HttpRoute) -> Result<(), String> {
    let (mesh, viewpoint) = (Mesh::default(), Viewpoint::default());
    let destinations = DestinationIndex::new(&[], &mesh, &viewpoint, &mut Report::default());
    let (config, namespace) = (&mesh.mesh_config, viewpoint.namespace.as_str());
    let place = actions::Place { destinations: &destinations, config, namespace, port: 80, gateway: false, tls: false };
    actions::action(rule, &place).map(drop)
}

/// A resource's namespace; `default` where the document does not say one.
fn namespace(metadata: &ObjectMeta) -> &str {
    if metadata.namespace.is_empty() { "default" } else { &metadata.namespace }
}

fn qualified(metadata: &ObjectMeta) -> String {
    format!("{}/{}", namespace(metadata), metadata.name)
}

/// Older first, then by name, then by namespace. A resource without a time is older than every other.
fn by_age(a: &ObjectMeta, b: &ObjectMeta) -> Ordering {
    (&a.creation_timestamp, &a.name, namespace(a)).cmp(&(&b.creation_timestamp, &b.name, namespace(b)))
}

/// `gw`, `./gw`, `gw.ns.svc.cluster.local`: all become `ns/gw`. `mesh` stays.
pub(crate) fn gateway_name(written: &str, namespace: &str) -> String {
    if written == "mesh" {
        return written.to_owned();
    }
    if let Some(name) = written.strip_prefix("./") {
        return format!("{namespace}/{name}");
    }
    if written.contains('/') {
        return written.to_owned();
    }
    let mut parts = written.split('.');
    match (parts.next(), parts.next()) {
        (Some(name), Some(own)) => format!("{own}/{name}"),
        _ => format!("{namespace}/{written}"),
    }
}

struct Compiler<'a> {
    mesh: &'a Mesh,
    viewpoint: &'a Viewpoint,
    destinations: DestinationIndex<'a>,
    report: Report,
}

impl<'a> Compiler<'a> {
    fn role(&self) -> &'a str {
        self.viewpoint.as_gateway().unwrap_or("mesh")
    }
}
