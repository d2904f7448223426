//! The HTTP listeners of a viewpoint: virtual hosts with the routes that can hold on a port.
//!
//! A workload has one for each port on which some service speaks HTTP; on it a host belongs to the resource that has it most
//! specifically, and services without one get a route to themselves. A gateway has its servers' ports, where the routes of
//! all resources are put together by domain.

use super::sources::Source;
use super::{Compiler, KIND, NoteCode, actions, connections, is_catch_all, matches};
use crate::hosts;
use crate::mesh::{GatewayServer, OutboundTrafficPolicy, Service};
use crate::policy::{
    Action, Fault, Forward, HeaderOperations, Origin, PortSpec, Route, RouteMatch, Section, UnknownHost,
    VirtualHostSpec, WeightedDestination,
};
use crate::resource::HttpMatchRequest;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;

/// Routes in order, and whether each takes every request.
type Routes = Vec<(Arc<Route>, bool)>;

/// What becomes of a resource on all ports.
#[derive(Default)]
struct Fate {
    used: bool,
    /// Is there a port on which it has a host?
    asked: bool,
    /// Can a rule of it hold on one of them?
    routed: bool,
    /// Hosts that it has on some port.
    hosts: BTreeSet<String>,
    /// Hosts that another resource had first on some port, and who.
    taken: BTreeMap<String, Arc<str>>,
}

impl Compiler<'_> {
    /// Does a block hold for this viewpoint and port, as far as that is known without a request?
    fn holds_statically(&self, block: &HttpMatchRequest, port: u16) -> bool {
        if block.port != 0 && block.port != u32::from(port) {
            return false;
        }
        if !block.gateways.is_empty() {
            return block.gateways.iter().any(|gateway| gateway == self.role());
        }
        let labels = &self.viewpoint.labels;
        block.source_labels.iter().all(|(key, value)| labels.get(key) == Some(value))
            && (block.source_namespace.is_empty() || block.source_namespace == self.viewpoint.namespace)
    }

    /// The routes of a resource on a port, up to the first that takes everything.
    fn routes(&mut self, source: &Source<'_>, port: u16, tls: bool) -> Routes {
        let mut routes = Vec::new();
        let mut catch_all: Option<String> = None;
        for entry in &source.rules {
            let path = format!("http[{}]", entry.index);
            if let Some(taken) = &catch_all {
                let message = format!("`{taken}` takes every request before it");
                self.report.note(KIND, &source.name, path, NoteCode::Shadowed, message);
                continue;
            }
            let place = actions::Place {
                destinations: &self.destinations,
                config: &self.mesh.mesh_config,
                namespace: source.namespace,
                port,
                gateway: self.role() != "mesh",
                tls,
            };
            let (action, response_headers) = match actions::action(&entry.rule, &place) {
                Ok(done) => done,
                Err(message) => {
                    self.report.note(KIND, &source.name, path, NoteCode::Invalid, message);
                    continue;
                }
            };
            let fault = actions::fault(entry.rule.fault.as_ref());
            let blocks: Vec<Option<&HttpMatchRequest>> = match entry.rule.r#match.as_slice() {
                [] => vec![None],
                blocks => blocks.iter().map(Some).collect(),
            };
            for (index, block) in blocks.into_iter().enumerate() {
                let path = format!("{path}.match[{index}]");
                if let Some(taken) = &catch_all {
                    let message = format!("`{taken}` takes every request before it");
                    self.report.note(KIND, &source.name, path, NoteCode::Shadowed, message);
                    continue;
                }
                if block.is_some_and(|block| !self.holds_statically(block, port)) {
                    continue;
                }
                let matcher = match block.map(matches::route_match).transpose() {
                    Ok(matcher) => matcher.unwrap_or_else(RouteMatch::default),
                    Err(bad) => {
                        let path = format!("{path}.{}", bad.field);
                        self.report.note(KIND, &source.name, path, NoteCode::Invalid, bad.message);
                        continue;
                    }
                };
                let takes_all = block.is_none_or(is_catch_all);
                let name = match block.map(|block| block.name.as_str()) {
                    Some(block) if !block.is_empty() => format!("{}.{block}", entry.rule.name),
                    _ => entry.rule.name.clone(),
                };
                let origin = Origin::Rule {
                    resource: Arc::clone(&source.name),
                    section: Section::Http,
                    rule: entry.index,
                    block: block.map(|_| index),
                    delegate: entry.delegate.clone(),
                };
                let route = Route {
                    name: name.into(),
                    origin,
                    matcher,
                    fault,
                    action: action.clone(),
                    response_headers: response_headers.clone(),
                };
                routes.push((Arc::new(route), takes_all));
                if takes_all {
                    catch_all = Some(format!("http[{}]", entry.index));
                }
            }
        }
        routes
    }

    /// HTTP listeners of a workload: one for each port on which some service speaks HTTP.
    pub(super) fn mesh_ports(&mut self, sources: &[Source<'_>]) -> Vec<PortSpec> {
        let ports: BTreeSet<u16> = self
            .mesh
            .services
            .iter()
            .flat_map(|service| &service.ports)
            .filter(|port| port.protocol.is_http())
            .map(|port| port.number)
            .collect();
        let mut fates: Vec<Fate> = sources.iter().map(|_| Fate::default()).collect();
        let specs = ports.into_iter().map(|port| self.mesh_port(sources, port, &mut fates)).collect();
        for (source, fate) in sources.iter().zip(fates) {
            for (host, owner) in fate.taken.iter().filter(|(host, _)| !fate.hosts.contains(*host)) {
                let message = format!("`{host}` belongs to {owner}, which comes first");
                self.report.note(KIND, &source.name, "hosts", NoteCode::HostTaken, message);
            }
            if fate.used || source.rules.is_empty() || !fate.taken.is_empty() {
                continue;
            }
            let (code, message) = if fate.routed || !fate.asked {
                (NoteCode::NoListener, "no service and no listener has its hosts")
            } else {
                (NoteCode::NeverHolds, "no rule of it can hold for this client on any port")
            };
            self.report.note(KIND, &source.name, "hosts", code, message);
        }
        specs
    }

    fn mesh_port(&mut self, sources: &[Source<'_>], port: u16, fates: &mut [Fate]) -> PortSpec {
        let speaks_http =
            |service: &&Service| service.ports.iter().any(|own| own.number == port && own.protocol.is_http());
        let services: Vec<&Service> = self.mesh.services.iter().filter(speaks_http).collect();
        let registry: HashMap<String, &Service> =
            services.iter().rev().map(|service| (service.host.to_ascii_lowercase(), *service)).collect();
        let owners = hosts::MostSpecific::new(
            sources
                .iter()
                .enumerate()
                .flat_map(|(index, source)| source.hosts.iter().map(move |host| (&**host, index))),
        );
        let mut claimed: HashMap<String, Arc<str>> = HashMap::new();
        let mut hosts_of: Vec<(VirtualHostSpec, Option<&Service>)> = Vec::new();
        for (index, source) in sources.iter().enumerate() {
            let fate = &mut fates[index];
            let mut owned: Vec<(String, Option<&Service>)> = Vec::new();
            let mut others: Vec<(String, usize)> = Vec::new();
            let mut extra: Vec<String> = Vec::new();
            for host in &source.hosts {
                let lower = host.to_ascii_lowercase();
                if !hosts::is_wildcard(host) {
                    match registry.get(&lower) {
                        Some(service) => owned.push((lower, Some(service))),
                        None => extra.push(lower),
                    }
                    continue;
                }
                let covered: Vec<&&Service> =
                    services.iter().filter(|service| hosts::overlap(&lower, &service.host)).collect();
                if covered.is_empty() {
                    extra.push(lower);
                    continue;
                }
                let before = owned.len();
                for service in covered {
                    match owners.find(&service.host) {
                        Some(owner) if owner == index => {
                            owned.push((service.host.to_ascii_lowercase(), Some(service)));
                        }
                        Some(owner) => others.push((lower.clone(), owner)),
                        None => {}
                    }
                }
                if owned.len() > before {
                    fate.hosts.insert(lower);
                }
            }
            // Hosts outside the registry stand on port 80, or where the same resource also has a service.
            if port == 80 || !owned.is_empty() {
                owned.extend(extra.into_iter().map(|host| (host, None)));
            }
            // Routes are worked out last, and only where they are for something: patterns take their time.
            if owned.is_empty() && others.is_empty() {
                continue;
            }
            let routes: Vec<Arc<Route>> =
                self.routes(source, port, false).into_iter().map(|(route, _)| route).collect();
            fate.asked = true;
            if routes.is_empty() {
                continue;
            }
            fate.routed = true;
            fate.taken.extend(others.into_iter().map(|(host, owner)| (host, Arc::clone(&sources[owner].name))));
            for (host, service) in owned {
                if let Some(owner) = claimed.get(&host) {
                    if *owner != source.name {
                        fate.taken.insert(host, Arc::clone(owner));
                    }
                    continue;
                }
                claimed.insert(host.clone(), Arc::clone(&source.name));
                fate.used = true;
                fate.hosts.insert(host.clone());
                let name = format!("{host}:{port}").into();
                let domains = vec![host.into()];
                let spec = VirtualHostSpec { name, domains, routes: routes.clone(), https_redirect: false };
                hosts_of.push((spec, service));
            }
        }
        for service in &services {
            let host = service.host.to_ascii_lowercase();
            if claimed.contains_key(&host) {
                continue;
            }
            claimed.insert(host.clone(), "the service itself".into());
            let name = format!("{host}:{port}").into();
            let routes = vec![Arc::new(self.default_route(service, port))];
            let spec = VirtualHostSpec { name, domains: vec![host.into()], routes, https_redirect: false };
            hosts_of.push((spec, Some(service)));
        }
        let virtual_hosts = self.with_aliases(hosts_of);
        let unknown_host = match self.mesh.mesh_config.outbound_traffic_policy {
            OutboundTrafficPolicy::AllowAny => UnknownHost::PassThrough,
            OutboundTrafficPolicy::RegistryOnly => UnknownHost::Refuse,
        };
        PortSpec { port, virtual_hosts, unknown_host }
    }

    /// Adds the names that services also answer to. A name belongs to the first that has it; a short name never takes
    /// the full one of another service of the port.
    fn with_aliases(&self, hosts_of: Vec<(VirtualHostSpec, Option<&Service>)>) -> Vec<VirtualHostSpec> {
        let domain = &self.mesh.mesh_config.cluster_domain;
        let full_names: HashSet<String> =
            hosts_of.iter().filter_map(|(_, service)| Some(service.as_ref()?.host.to_ascii_lowercase())).collect();
        let mut seen: HashSet<Box<str>> = HashSet::new();
        let mut finished = Vec::new();
        for (mut spec, service) in hosts_of {
            let host: Box<str> = spec.domains.first().cloned().unwrap_or_default();
            let mut domains: Vec<Box<str>> = vec![host.clone()];
            if let Some(service) = service {
                if host.parse::<std::net::IpAddr>().is_err() {
                    domains.push(format!("{host}.").into());
                }
                let short = hosts::short_names(&host, &self.viewpoint.namespace, domain);
                domains.extend(short.into_iter().filter(|name| !full_names.contains(name)).map(Box::from));
                if let Some(address) = service.address.as_deref().filter(|address| *address != "0.0.0.0") {
                    let bracketed = address.contains(':') && !address.starts_with('[');
                    domains.push(if bracketed { format!("[{address}]").into() } else { address.into() });
                }
            }
            domains.retain(|domain| seen.insert(domain.clone()));
            if !domains.is_empty() {
                spec.domains = domains;
                finished.push(spec);
            }
        }
        finished
    }

    /// What a service has without a VirtualService: one route to itself.
    fn default_route(&self, service: &Service, port: u16) -> Route {
        let forward = Forward {
            destinations: vec![WeightedDestination {
                weight: 1,
                target: self.destinations.resolve(&service.host, port, ""),
                request_headers: HeaderOperations::default(),
                response_headers: HeaderOperations::default(),
                host_rewrite: None,
            }],
            total_weight: 1,
            weighted: false,
            request_headers: HeaderOperations::default(),
            host_rewrite: None,
            path_rewrite: crate::policy::PathRewrite::Keep,
            cors: None,
            timeout: None,
            retry: Some(actions::default_retry(true)),
            mirrors: Vec::new(),
            hash: self.destinations.service_hash_keys(&service.host, port),
        };
        Route {
            name: "default".into(),
            origin: Origin::Service { host: service.host.as_str().into() },
            matcher: RouteMatch::default(),
            fault: Fault::default(),
            action: Action::Forward(Box::new(forward)),
            response_headers: HeaderOperations::default(),
        }
    }

    /// HTTP listeners of a gateway: its servers' ports, with the routes of all resources put together by domain.
    pub(super) fn gateway_ports(&mut self, gateway: &str, sources: &[Source<'_>]) -> Vec<PortSpec> {
        let gateway_namespace = gateway.split('/').next().unwrap_or_default();
        let everything = [GatewayServer {
            port: crate::mesh::ServicePort::new(80, "http", crate::mesh::Protocol::Http),
            hosts: vec!["*".into()],
            ..GatewayServer::default()
        }];
        let servers: &[GatewayServer] = self.mesh.gateway_servers.as_deref().unwrap_or(&everything);
        let mut by_port: BTreeMap<u16, Vec<&GatewayServer>> = BTreeMap::new();
        for server in servers.iter().filter(|server| connections::is_http_server(server)) {
            by_port.entry(server.port.number).or_default().push(server);
        }
        let mut used = vec![false; sources.len()];
        let mut specs = Vec::new();
        for (port, servers) in by_port {
            specs.push(self.gateway_port(gateway_namespace, port, &servers, sources, &mut used));
        }
        for (source, used) in sources.iter().zip(used) {
            if !used && !source.rules.is_empty() {
                let message = "no server of the gateway takes its hosts, or no rule can hold";
                self.report.note(KIND, &source.name, "hosts", NoteCode::NoListener, message);
            }
        }
        specs
    }

    /// One listener of a gateway: server by server, and for each the resources in order. What stands on the same domain
    /// goes together.
    fn gateway_port(
        &mut self,
        gateway_namespace: &str,
        port: u16,
        servers: &[&GatewayServer],
        sources: &[Source<'_>],
        used: &mut [bool],
    ) -> PortSpec {
        #[derive(Default)]
        struct Domain {
            routes: Routes,
            /// Whose routes these are.
            from: HashSet<usize>,
            https_redirect: bool,
        }
        let mut order: Vec<String> = Vec::new();
        let mut merged: HashMap<String, Domain> = HashMap::new();
        let mut at = |name: String, change: &mut dyn FnMut(&mut Domain)| {
            if !merged.contains_key(&name) {
                order.push(name.clone());
            }
            change(merged.entry(name).or_default());
        };
        // The first server that takes a resource says whether its redirects are from TLS, even where that only redirects.
        let mut routes_of: Vec<Option<Routes>> = vec![None; sources.len()];
        for server in servers {
            let https_redirect = server.tls.as_ref().is_some_and(|tls| tls.https_redirect);
            for (index, source) in sources.iter().enumerate() {
                let of_server = server_hosts(server, gateway_namespace, source.namespace);
                let domains: BTreeSet<&str> = of_server
                    .iter()
                    .flat_map(|server_host| {
                        source.hosts.iter().filter_map(|host| hosts::intersection(server_host, host))
                    })
                    .collect();
                if domains.is_empty() {
                    continue;
                }
                let routes =
                    routes_of[index].get_or_insert_with(|| self.routes(source, port, server.tls.is_some())).as_slice();
                for domain in domains.into_iter().filter(|_| !routes.is_empty()) {
                    used[index] = true;
                    at(domain.to_ascii_lowercase(), &mut |domain| {
                        domain.https_redirect |= https_redirect;
                        if domain.from.insert(index) {
                            domain.routes.extend_from_slice(routes);
                        }
                    });
                }
            }
            // A server that redirects does so for all of its hosts, with or without routes. (Istio makes nothing of those
            // that are for one namespace.)
            for host in server.hosts.iter().filter(|_| https_redirect) {
                let host = host.strip_prefix("*/").unwrap_or(host);
                if !host.contains('/') {
                    at(host.to_ascii_lowercase(), &mut |domain| domain.https_redirect = true);
                }
            }
        }
        let mut virtual_hosts = Vec::new();
        for name in order {
            let mut domain = merged.remove(&name).unwrap_or_default();
            // Catch-alls go last; what has the same kind keeps its order.
            domain.routes.sort_by_key(|(_, takes_all)| *takes_all);
            virtual_hosts.push(VirtualHostSpec {
                name: format!("{name}:{port}").into(),
                domains: vec![name.into()],
                routes: domain.routes.into_iter().map(|(route, _)| route).collect(),
                https_redirect: domain.https_redirect,
            });
        }
        PortSpec { port, virtual_hosts, unknown_host: UnknownHost::NotFound }
    }
}

/// A server's hosts for resources of one namespace: `ns/host`, `./host`, `*/host`, `host`.
pub(crate) fn server_hosts<'s>(server: &'s GatewayServer, gateway_namespace: &str, namespace: &str) -> Vec<&'s str> {
    server
        .hosts
        .iter()
        .filter_map(|written| match written.split_once('/') {
            None => Some(written.as_str()),
            Some(("*", host)) => Some(host),
            Some((".", host)) => (namespace == gateway_namespace).then_some(host),
            Some((only, host)) => (namespace == only).then_some(host),
        })
        .collect()
}
