//! The compiled tables, and the way of a request through them.
//!
//! Port → virtual host → the first route whose conditions all hold → one draw → destination. A virtual host is looked for
//! once: exact name, then the longest suffix wildcard, then `*`; its routes alone are tried, with no way back.

use super::index::{Index, with_lower_case};
use super::matching::Subject;
use super::normalize::{BadPath, normalize};
use super::tree::Tree;
use super::*;
use crate::entropy::Draws;
use crate::head::Request;
use crate::mesh::PathNormalization;
use foldhash::fast::FixedState;
use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::net::IpAddr;
use std::sync::Arc;

/// A compiled policy: an immutable snapshot. See the [module](super).
#[derive(Clone, Debug, Default)]
pub struct Policy {
    ports: BTreeMap<u16, PortTable>,
    /// By port, and by the address that a listener has to itself.
    listeners: BTreeMap<(u16, Option<IpAddr>), ListenerSpec>,
    destinations: Vec<Destination>,
    by_name: HashMap<Arc<str>, DestinationId>,
    normalization: PathNormalization,
    gateway: bool,
}

#[derive(Clone, Debug)]
struct PortTable {
    hosts: Hosts,
    unknown_host: UnknownHost,
}

/// Virtual hosts by their domains.
#[derive(Clone, Debug, Default)]
pub(super) struct Hosts {
    hosts: Vec<VirtualHost>,
    exact: HashMap<Box<[u8]>, Place, FixedState>,
    /// By what follows the `*`, backwards; with its length.
    suffixes: Tree<(Place, usize)>,
}

/// A virtual host, and which of its domains.
#[derive(Clone, Copy, Debug)]
struct Place {
    host: usize,
    domain: usize,
}

/// The routes of some domains.
#[derive(Clone, Debug)]
pub(super) struct VirtualHost {
    name: Arc<str>,
    domains: Vec<Box<str>>,
    routes: Vec<Arc<Route>>,
    index: Option<Index>,
    https_redirect: bool,
}

/// A virtual host, and the domain by which it was found.
#[derive(Clone, Copy, Debug)]
pub(super) struct Found<'p> {
    pub(super) host: &'p VirtualHost,
    pub(super) domain: &'p str,
}

impl VirtualHost {
    fn new(spec: VirtualHostSpec) -> VirtualHost {
        let index = Index::new(&spec.routes);
        let VirtualHostSpec { name, domains, routes, https_redirect } = spec;
        VirtualHost { name, domains, routes, index, https_redirect }
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    pub(super) fn routes(&self) -> &[Arc<Route>] {
        &self.routes
    }

    fn find(&self, subject: &Subject<'_>) -> Option<&Arc<Route>> {
        match &self.index {
            Some(index) => self.routes.get(index.find(&self.routes, subject)?),
            None => self.find_linear(subject),
        }
    }

    /// The definition: the first in written order whose conditions all hold.
    fn find_linear(&self, subject: &Subject<'_>) -> Option<&Arc<Route>> {
        self.routes.iter().find(|route| route.matcher.test(subject).is_ok())
    }
}

impl Hosts {
    fn new(specs: Vec<VirtualHostSpec>) -> Hosts {
        let mut hosts = Hosts::default();
        let mut suffixes: HashSet<Box<str>> = HashSet::new();
        for (host, spec) in specs.into_iter().enumerate() {
            for (domain, name) in spec.domains.iter().enumerate() {
                let place = Place { host, domain };
                match name.strip_prefix('*') {
                    None => {
                        hosts.exact.entry(name.as_bytes().into()).or_insert(place);
                    }
                    Some(suffix) if suffixes.insert(suffix.into()) => {
                        hosts.suffixes.insert(suffix.bytes().rev(), (place, suffix.len()));
                    }
                    Some(_) => {}
                }
            }
            hosts.hosts.push(VirtualHost::new(spec));
        }
        hosts
    }

    /// The virtual host of an authority: without its port, in lower case.
    pub(super) fn find(&self, authority: &str) -> Option<Found<'_>> {
        let place = with_lower_case(without_port(authority).as_bytes(), |name| {
            if let Some(place) = self.exact.get(name) {
                return Some(*place);
            }
            let mut longest = None;
            self.suffixes.walk_bytes(name.iter().rev().copied(), |(place, length)| {
                // The `*` stands for something, unless it is all there is.
                if *length < name.len() || *length == 0 {
                    longest = Some(*place);
                }
            });
            longest
        })?;
        let host = self.hosts.get(place.host)?;
        Some(Found { host, domain: host.domains.get(place.domain)? })
    }

    /// Every domain that has a name.
    pub(super) fn domains_of<'h>(&'h self, name: &'h str) -> impl Iterator<Item = &'h str> {
        self.hosts.iter().flat_map(|host| &host.domains).map(|domain| &**domain).filter(move |domain| {
            match domain.strip_prefix('*') {
                None => *domain == name,
                Some(suffix) => name.len() > suffix.len() && name.ends_with(suffix),
            }
        })
    }
}

impl Policy {
    /// Builds the tables.
    pub(crate) fn new(spec: PolicySpec) -> Policy {
        let by_name = (0u32..)
            .zip(&spec.destinations)
            .map(|(id, destination)| (Arc::clone(&destination.name), DestinationId(id)))
            .collect();
        Policy {
            ports: spec.ports.into_iter().map(|port| (port.port, PortTable::new(port))).collect(),
            listeners: spec.listeners.into_iter().map(|one| ((one.port, one.address), one)).collect(),
            destinations: spec.destinations,
            by_name,
            normalization: spec.normalization,
            gateway: spec.gateway,
        }
    }

    /// Decides where a request goes. Takes one draw if a route forwards it, and none otherwise.
    pub fn decide(&self, request: &Request<'_>, draws: &mut dyn Draws) -> Decision<'_> {
        match self.normalize(request.path) {
            Ok(path) => self.decide_normalized(request, &path, draws),
            Err(BadPath) => Decision { verdict: Verdict::NoRoute(NoRoute::BadPath), draw: 0 },
        }
    }

    /// The same by asking every route in order: the definition that tests hold the index against.
    #[doc(hidden)]
    pub fn decide_linear(&self, request: &Request<'_>, draws: &mut dyn Draws) -> Decision<'_> {
        match self.normalize(request.path) {
            Ok(path) => self.decide_by(request, &path, draws, VirtualHost::find_linear),
            Err(BadPath) => Decision { verdict: Verdict::NoRoute(NoRoute::BadPath), draw: 0 },
        }
    }

    pub(super) fn hosts(&self, port: u16) -> Option<&Hosts> {
        self.ports.get(&port).map(|table| &table.hosts)
    }

    /// The normal form of a path with its query: what [`Policy::decide`] matches, and what is forwarded.
    pub fn normalize<'a>(&self, path: &'a str) -> Result<Cow<'a, str>, BadPath> {
        normalize(path, self.normalization)
    }

    pub(crate) fn decide_normalized(&self, request: &Request<'_>, path: &str, draws: &mut dyn Draws) -> Decision<'_> {
        self.decide_by(request, path, draws, VirtualHost::find)
    }

    fn decide_by<'p>(
        &'p self,
        request: &Request<'_>,
        path: &str,
        draws: &mut dyn Draws,
        find: impl Fn(&'p VirtualHost, &Subject<'_>) -> Option<&'p Arc<Route>>,
    ) -> Decision<'p> {
        let none = |reason| Decision { verdict: Verdict::NoRoute(reason), draw: 0 };
        let Some(table) = self.ports.get(&request.port) else { return none(NoRoute::NoListener) };
        let Some(Found { host, .. }) = table.hosts.find(request.authority) else {
            return match table.unknown_host {
                UnknownHost::PassThrough => Decision { verdict: Verdict::PassThrough, draw: 0 },
                UnknownHost::Refuse => none(NoRoute::Refused),
                UnknownHost::NotFound => none(NoRoute::UnknownHost),
            };
        };
        if host.https_redirect && request.scheme != "https" {
            return none(NoRoute::HttpsRedirect);
        }
        let subject = Subject::new(request, path);
        if request.method == "CONNECT" {
            return none(NoRoute::NoMatch);
        }
        let Some(route) = find(host, &subject) else {
            return none(NoRoute::NoMatch);
        };
        match &route.action {
            Action::Forward(forward) => {
                let draw = draws.next_u64();
                let Some(destination) = forward.pick(draw) else { return none(NoRoute::NoMatch) };
                Decision { verdict: Verdict::Forward { route, forward, destination }, draw }
            }
            Action::Redirect(redirect) => Decision { verdict: Verdict::Redirect { route, redirect }, draw: 0 },
            Action::Respond(response) => Decision { verdict: Verdict::Respond { route, response }, draw: 0 },
        }
    }

    /// The name of the destination that was decided on; empty where there is none.
    pub fn cluster(&self, decision: &Decision<'_>) -> Arc<str> {
        match decision.verdict {
            Verdict::Forward { destination, .. } => self.target_name(&destination.target),
            Verdict::PassThrough => "PassthroughCluster".into(),
            _ => "".into(),
        }
    }

    pub(crate) fn target_name(&self, target: &Target) -> Arc<str> {
        match target {
            Target::Destination(id) => self.destination(*id).map(|one| Arc::clone(&one.name)).unwrap_or_default(),
            Target::Missing(_) => "".into(),
        }
    }

    /// Is the viewpoint a gateway?
    pub(crate) fn is_gateway(&self) -> bool {
        self.gateway
    }

    /// A destination of this policy.
    pub fn destination(&self, id: DestinationId) -> Option<&Destination> {
        self.destinations.get(id.0 as usize)
    }

    /// All destinations, by [`DestinationId`].
    pub fn destinations(&self) -> &[Destination] {
        &self.destinations
    }

    /// The destination of this name.
    pub fn destination_named(&self, name: &str) -> Option<DestinationId> {
        self.by_name.get(name).copied()
    }
}

impl Decision<'_> {
    /// The name of the route that matched; empty where none did.
    pub fn route_name(&self) -> Arc<str> {
        match self.verdict {
            Verdict::Forward { route, .. } | Verdict::Redirect { route, .. } | Verdict::Respond { route, .. } => {
                Arc::clone(&route.name)
            }
            Verdict::PassThrough => "allow_any".into(),
            Verdict::NoRoute(_) => "".into(),
        }
    }
}

impl Policy {
    /// Where each route and each chain that is in force was written, in the tables' order; a route that stands under
    /// several hosts comes several times.
    pub fn origins(&self) -> impl Iterator<Item = &Origin> {
        let hosts = self.ports.values().flat_map(|table| &table.hosts.hosts);
        let routes = hosts.flat_map(|host| &host.routes).map(|route| &route.origin);
        routes.chain(self.listeners.values().flat_map(|listener| &listener.chains).map(|chain| &chain.origin))
    }

    /// Does a virtual host on the port have the authority?
    pub fn knows(&self, port: u16, authority: &str) -> bool {
        self.ports.get(&port).is_some_and(|table| table.hosts.find(authority).is_some())
    }

    /// The listener of a connection: the one on its very address, else the one on every address.
    pub(super) fn listener(&self, port: u16, address: Option<IpAddr>) -> Option<&ListenerSpec> {
        let of = |address| self.listeners.get(&(port, address));
        address.and_then(|address| of(Some(address))).or_else(|| of(None))
    }
}

/// The destination that a draw falls on: half-open intervals in order.
pub(super) fn pick_weighted(
    destinations: &[WeightedDestination],
    total: u64,
    draw: u64,
) -> Option<&WeightedDestination> {
    let mut rest = draw.checked_rem(total)?;
    destinations.iter().find(|destination| match rest.checked_sub(destination.weight) {
        Some(less) => {
            rest = less;
            false
        }
        None => true,
    })
}

impl Forward {
    /// The destination that a draw falls on: half-open intervals in order, over the sum of the weights.
    pub fn pick(&self, draw: u64) -> Option<&WeightedDestination> {
        if let [only] = self.destinations.as_slice() {
            return Some(only);
        }
        pick_weighted(&self.destinations, self.total_weight, draw)
    }
}

impl PortTable {
    fn new(spec: PortSpec) -> PortTable {
        PortTable { hosts: Hosts::new(spec.virtual_hosts), unknown_host: spec.unknown_host }
    }
}

/// The authority up to its last `:`, unless that is inside brackets.
pub(crate) fn without_port(authority: &str) -> &str {
    match authority.rfind(':') {
        Some(at) if !authority[at..].contains(']') => &authority[..at],
        _ => authority,
    }
}
