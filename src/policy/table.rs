//! The compiled tables, and the way of a request through them.
//!
//! Port → virtual host → the first route whose conditions all hold → one draw → destination. A virtual host is looked for
//! once: exact name, then the longest suffix wildcard, then `*`; its routes alone are tried, with no way back.

use super::matching::Subject;
use super::normalize::{BadPath, normalize};
use super::*;
use crate::entropy::Draws;
use crate::head::Request;
use crate::mesh::PathNormalization;
use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

/// A compiled policy: an immutable snapshot. See the [module](super).
#[derive(Clone, Debug, Default)]
pub struct Policy {
    ports: BTreeMap<u16, PortTable>,
    connections: BTreeMap<u16, ConnectionPortSpec>,
    destinations: Vec<Destination>,
    by_name: HashMap<Arc<str>, DestinationId>,
    normalization: PathNormalization,
    gateway: bool,
}

#[derive(Clone, Debug)]
struct PortTable {
    hosts: Vec<VirtualHostSpec>,
    exact: HashMap<Box<str>, usize>,
    /// What follows the `*`, longest first.
    suffixes: Vec<(Box<str>, usize)>,
    any: Option<usize>,
    unknown_host: UnknownHost,
    https_redirect: bool,
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
            connections: spec.connections.into_iter().map(|port| (port.port, port)).collect(),
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

    /// The normal form of a path with its query: what [`Policy::decide`] matches, and what is forwarded.
    pub fn normalize<'a>(&self, path: &'a str) -> Result<Cow<'a, str>, BadPath> {
        normalize(path, self.normalization)
    }

    pub(crate) fn decide_normalized(&self, request: &Request<'_>, path: &str, draws: &mut dyn Draws) -> Decision<'_> {
        let none = |reason| Decision { verdict: Verdict::NoRoute(reason), draw: 0 };
        let Some(table) = self.ports.get(&request.port) else { return none(NoRoute::NoListener) };
        let Some(host) = table.host(request.authority) else {
            return match table.unknown_host {
                UnknownHost::PassThrough => Decision { verdict: Verdict::PassThrough, draw: 0 },
                UnknownHost::Refuse => none(NoRoute::Refused),
                UnknownHost::NotFound => none(NoRoute::UnknownHost),
            };
        };
        if table.https_redirect && request.scheme != "https" {
            return none(NoRoute::HttpsRedirect);
        }
        let subject = Subject { request, full_path: path };
        if request.method == "CONNECT" {
            return none(NoRoute::NoMatch);
        }
        let Some(route) = host.routes.iter().find(|route| route.matcher.test(&subject).is_ok()) else {
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

    fn target_name(&self, target: &Target) -> Arc<str> {
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
    /// The chain of a connection: the longest destination prefix first, then the server name (exact, longest suffix, none).
    pub fn decide_connection(&self, connection: &Connection<'_>, draws: &mut dyn Draws) -> ConnectionVerdict<'_> {
        let Some(port) = self.connections.get(&connection.port) else { return ConnectionVerdict::NoListener };
        let sni = connection.sni.map(str::to_ascii_lowercase);
        let best = port
            .chains
            .iter()
            .enumerate()
            .filter_map(|(index, chain)| {
                let subnet = if chain.subnets.is_empty() {
                    0
                } else {
                    let address = connection.address?;
                    let of = chain.subnets.iter().filter(|net| net.contains(&address));
                    1 + usize::from(of.map(|net| net.prefix_len()).max()?)
                };
                let name = if chain.server_names.is_empty() {
                    0
                } else {
                    let sni = sni.as_deref()?;
                    let covers = |name: &&Box<str>| match name.strip_prefix('*') {
                        Some(suffix) => sni.len() > suffix.len() && sni.ends_with(suffix),
                        None => ***name == *sni,
                    };
                    let rank = |name: &Box<str>| if name.starts_with('*') { name.len() } else { usize::MAX };
                    chain.server_names.iter().filter(covers).map(rank).max()?
                };
                // Of equals the first.
                Some((subnet, name, std::cmp::Reverse(index), chain))
            })
            .max_by_key(|(subnet, name, index, _)| (*subnet, *name, *index));
        let Some((_, _, _, chain)) = best else {
            return match port.unknown {
                UnknownConnection::PassThrough => ConnectionVerdict::PassThrough,
                UnknownConnection::Close => ConnectionVerdict::Closed,
            };
        };
        let picked = match chain.destinations.as_slice() {
            [only] => Some(only),
            several => {
                let total: u64 = several.iter().map(|one| one.weight).sum();
                pick_weighted(several, total, draws.next_u64())
            }
        };
        match picked {
            Some(destination) => ConnectionVerdict::Forward { origin: &chain.origin, destination },
            None => ConnectionVerdict::Closed,
        }
    }

    pub(crate) fn connect(
        &self,
        connection: &Connection<'_>,
        upstreams: &crate::upstream::Upstreams,
        now: crate::time::Timestamp,
        draws: &mut dyn Draws,
    ) -> crate::engine::Connect {
        let mut result = crate::engine::Connect::default();
        match self.decide_connection(connection, draws) {
            ConnectionVerdict::NoListener => result.no_listener = true,
            ConnectionVerdict::Closed => result.closed = true,
            ConnectionVerdict::PassThrough => {
                result.cluster = "PassthroughCluster".into();
                result.flags = Flags::UH;
            }
            ConnectionVerdict::Forward { destination, .. } => {
                result.cluster = self.target_name(&destination.target);
                match upstreams.get(&result.cluster) {
                    None => result.flags = Flags::NC,
                    Some(upstream) => {
                        result.endpoint = upstream.pick(None, &[], false, false, now, draws);
                        if result.endpoint.is_none() {
                            result.flags = Flags::UH;
                        }
                    }
                }
            }
        }
        result
    }
}

/// The destination that a draw falls on: half-open intervals in order.
fn pick_weighted(destinations: &[WeightedDestination], total: u64, draw: u64) -> Option<&WeightedDestination> {
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
        let mut exact = HashMap::new();
        let mut suffixes = Vec::new();
        let mut any = None;
        for (index, host) in spec.virtual_hosts.iter().enumerate() {
            for domain in &host.domains {
                match domain.strip_prefix('*') {
                    None => {
                        exact.entry(domain.clone()).or_insert(index);
                    }
                    Some("") => any = any.or(Some(index)),
                    Some(suffix) => suffixes.push((Box::from(suffix), index)),
                }
            }
        }
        suffixes.sort_by_key(|(suffix, _): &(Box<str>, usize)| std::cmp::Reverse(suffix.len()));
        PortTable {
            hosts: spec.virtual_hosts,
            exact,
            suffixes,
            any,
            unknown_host: spec.unknown_host,
            https_redirect: spec.https_redirect,
        }
    }

    /// The virtual host of an authority: without its port, in lower case.
    fn host(&self, authority: &str) -> Option<&VirtualHostSpec> {
        let name = without_port(authority).to_ascii_lowercase();
        let index = self.exact.get(name.as_str()).copied().or_else(|| {
            let longest =
                self.suffixes.iter().find(|(suffix, _)| name.len() > suffix.len() && name.ends_with(&**suffix));
            longest.map(|(_, index)| *index).or(self.any)
        })?;
        self.hosts.get(index)
    }
}

/// The authority up to its last `:`, unless that is inside brackets.
pub(crate) fn without_port(authority: &str) -> &str {
    match authority.rfind(':') {
        Some(at) if !authority[at..].contains(']') => &authority[..at],
        _ => authority,
    }
}
