//! From resources and a mesh to a policy, for one viewpoint.
//!
//! Everything that is the same for all of a viewpoint's requests is worked out here: which resources it sees, who owns a
//! host, which rules can hold on a port, what a delegate adds, what a destination's settings are. What falls by the way is
//! in the [`Report`]. The order of the input does not matter: resources are sorted by age, name and namespace first.

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

pub(crate) use actions::is_known_status;
pub(crate) use locality::augment;
pub(crate) use matches::is_catch_all;
pub use report::{Note, NoteCode, Report};

use crate::hosts;
use crate::mesh::{GatewayServer, Mesh, OutboundTrafficPolicy, Service, Viewpoint};
use crate::policy::{
    Action, Fault, Forward, HeaderOperations, Origin, Policy, PolicySpec, PortSpec, Route, RouteMatch, Section,
    UnknownHost, VirtualHostSpec, WeightedDestination,
};
use crate::resource::{HttpMatchRequest, HttpRoute, ObjectMeta, Resources, VirtualService};
use destinations::DestinationIndex;
use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;

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

/// A VirtualService that the viewpoint sees and is bound to, with its delegates filled in.
struct Source<'r> {
    name: Arc<str>,
    namespace: &'r str,
    hosts: Vec<String>,
    rules: Vec<SourceRule>,
    resource: &'r VirtualService,
}

/// One rule, its own or a delegate's.
struct SourceRule {
    rule: HttpRoute,
    /// Which of the root's rules.
    index: usize,
    delegate: Option<(Arc<str>, usize)>,
}

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

struct Compiler<'a> {
    mesh: &'a Mesh,
    viewpoint: &'a Viewpoint,
    destinations: DestinationIndex<'a>,
    report: Report,
}

/// The namespaces that a resource is exported to.
fn export_set<'r>(written: &'r [String], default: &'r [String]) -> Vec<&'r str> {
    let set = if written.is_empty() { default } else { written };
    if set.is_empty() { vec!["*"] } else { set.iter().map(String::as_str).collect() }
}

fn exports_to(set: &[&str], own: &str, namespace: &str) -> bool {
    set.contains(&"*") || set.iter().any(|entry| *entry == namespace || (*entry == "." && own == namespace))
}

impl<'a> Compiler<'a> {
    fn role(&self) -> &'a str {
        self.viewpoint.as_gateway().unwrap_or("mesh")
    }

    fn export_set<'r>(&'r self, service: &'r VirtualService) -> Vec<&'r str> {
        export_set(&service.spec.export_to, &self.mesh.mesh_config.default_virtual_service_export_to)
    }

    /// What the viewpoint sees and is bound to, in order of precedence: private, exported by name, public; each by age.
    fn sources<'r>(&mut self, services: &'r [VirtualService]) -> Vec<Source<'r>> {
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
    fn mesh_ports(&mut self, sources: &[Source<'_>]) -> Vec<PortSpec> {
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
    fn gateway_ports(&mut self, gateway: &str, sources: &[Source<'_>]) -> Vec<PortSpec> {
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
