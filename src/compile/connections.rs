//! TLS and TCP routes: filter chains for connections that are not HTTP.

use super::actions::{self, Place};
use super::sources::Source;
use super::{Compiler, KIND, NoteCode, gateway_name, server_hosts};
use crate::hosts;
use crate::mesh::{GatewayServer, Labels, Service};
use crate::policy::{
    ChainSpec, HeaderOperations, ListenerSpec, Origin, Section, UnknownConnection, WeightedDestination,
};
use crate::resource::RouteDestination;
use ipnet::IpNet;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

/// Does an HTTP route apply to the server: HTTP in the clear, or HTTPS that ends at the gateway?
pub(super) fn is_http_server(server: &GatewayServer) -> bool {
    server.port.protocol.is_http() || (server.port.protocol == crate::mesh::Protocol::Https && ends_tls(server))
}

/// Does TLS end at the server?
pub(super) fn ends_tls(server: &GatewayServer) -> bool {
    server.tls.as_ref().is_some_and(|tls| !matches!(tls.mode.as_str(), "" | "PASSTHROUGH" | "AUTO_PASSTHROUGH"))
}

/// The static conditions that TLS and TCP blocks share.
struct Static<'r> {
    port: u32,
    gateways: &'r [String],
    source_labels: &'r Labels,
    source_namespace: &'r str,
}

impl<'a> Compiler<'a> {
    pub(super) fn listeners(&mut self, sources: &[Source<'_>]) -> Vec<ListenerSpec> {
        match self.viewpoint.as_gateway() {
            Some(gateway) => self.gateway_listeners(gateway, sources),
            None => self.mesh_listeners(sources),
        }
    }

    fn holds(&self, conditions: &Static<'_>, namespace: &str, port: u16) -> bool {
        let labels = &self.viewpoint.labels;
        let of_role = conditions.gateways.is_empty()
            || conditions.gateways.iter().any(|gateway| gateway_name(gateway, namespace) == self.role());
        let of_port = conditions.port == 0 || conditions.port == u32::from(port);
        // A gateway does not look at who is behind the connection.
        let of_source = self.role() != "mesh"
            || (conditions.source_labels.iter().all(|(key, value)| labels.get(key) == Some(value))
                && (conditions.source_namespace.is_empty() || conditions.source_namespace == self.viewpoint.namespace));
        of_role && of_port && of_source
    }

    fn chain(
        &self,
        source: &Source<'_>,
        (section, rule, block): (Section, usize, Option<usize>),
        route: &[RouteDestination],
        port: u16,
    ) -> ChainSpec {
        let place = Place {
            destinations: &self.destinations,
            config: &self.mesh.mesh_config,
            namespace: source.namespace,
            port,
            gateway: true,
            tls: false,
        };
        let several = route.len() > 1;
        let destinations = route
            .iter()
            .filter(|entry| !several || entry.weight > 0)
            .filter_map(|entry| Some((entry.weight, entry.destination.as_ref()?)))
            .map(|(weight, destination)| {
                plain(u64::try_from(weight).unwrap_or(0), actions::target(destination, &place))
            })
            .collect();
        let resource = Arc::clone(&source.name);
        ChainSpec {
            origin: Origin::Rule { resource, section, rule, block, delegate: None },
            subnets: Vec::new(),
            server_names: Vec::new(),
            destinations,
        }
    }

    fn subnets(&mut self, source: &Source<'_>, path: &str, written: &[String]) -> Vec<IpNet> {
        let mut nets = Vec::new();
        for text in written {
            let net = text.parse().or_else(|_| text.parse::<IpAddr>().map(IpNet::from));
            match net {
                Ok(net) => nets.push(net),
                Err(_) => {
                    let message = format!("`{text}` is not an address or a subnet");
                    self.report.note(KIND, &source.name, path, NoteCode::Invalid, message);
                }
            }
        }
        nets
    }

    /// One service, one port: chains of the resources that have its host, and its own. Services with an address of their
    /// own have a listener of their own; the others, and those with a whole subnet, share the one on every address.
    fn mesh_listeners(&mut self, sources: &[Source<'_>]) -> Vec<ListenerSpec> {
        let mesh = self.mesh;
        let mut chains: BTreeMap<(u16, Option<IpAddr>), Vec<ChainSpec>> = BTreeMap::new();
        for service in &mesh.services {
            let address = service.address.as_deref().and_then(|address| address.parse::<IpAddr>().ok());
            let subnet = service.address.as_deref().and_then(|address| address.parse::<IpNet>().ok());
            for port in &service.ports {
                if port.protocol.is_http() || port.protocol == crate::mesh::Protocol::Udp {
                    continue;
                }
                let of_listener = chains.entry((port.number, address)).or_default();
                if port.protocol.is_tls() {
                    self.tls_chains(sources, service, port.number, subnet, address.is_none(), of_listener);
                } else {
                    self.tcp_chains(sources, service, port.number, subnet, of_listener);
                }
            }
        }
        let listener =
            |((port, address), chains)| ListenerSpec { port, address, chains, unknown: UnknownConnection::PassThrough };
        chains.into_iter().map(listener).collect()
    }

    fn own_chain(&self, service: &Service, port: u16) -> ChainSpec {
        ChainSpec {
            origin: Origin::Service { host: service.host.as_str().into() },
            subnets: Vec::new(),
            server_names: Vec::new(),
            destinations: vec![plain(1, self.destinations.resolve(&service.host, port, ""))],
        }
    }

    fn tls_chains(
        &mut self,
        sources: &[Source<'_>],
        service: &Service,
        port: u16,
        subnet: Option<IpNet>,
        shared: bool,
        chains: &mut Vec<ChainSpec>,
    ) {
        let mut any = false;
        // What one block says of addresses holds for the blocks after it that say nothing, as in Istio.
        let mut subnets: Vec<IpNet> = subnet.into_iter().collect();
        for source in sources.iter().filter(|source| covers(source, service)) {
            for (rule_index, rule) in source.resource.spec.tls.iter().enumerate() {
                if rule.route.is_empty() {
                    continue;
                }
                for (index, block) in rule.r#match.iter().enumerate() {
                    let conditions = Static {
                        port: block.port,
                        gateways: &block.gateways,
                        source_labels: &block.source_labels,
                        source_namespace: &block.source_namespace,
                    };
                    if !self.holds(&conditions, source.namespace, port) {
                        continue;
                    }
                    any = true;
                    let path = format!("tls[{rule_index}].match[{index}].destinationSubnets");
                    let mut chain = self.chain(source, (Section::Tls, rule_index, Some(index)), &rule.route, port);
                    let written = self.subnets(source, &path, &block.destination_subnets);
                    if !written.is_empty() {
                        subnets = written;
                    }
                    chain.subnets.clone_from(&subnets);
                    chain.server_names = server_names(&block.sni_hosts);
                    push_new(chains, chain);
                }
            }
        }
        if !any {
            let mut chain = self.own_chain(service, port);
            chain.subnets = subnets;
            // On a listener of its own the address says which service is meant.
            if shared {
                chain.server_names = vec![service.host.to_ascii_lowercase().into()];
            }
            push_new(chains, chain);
        }
    }

    fn tcp_chains(
        &mut self,
        sources: &[Source<'_>],
        service: &Service,
        port: u16,
        subnet: Option<IpNet>,
        chains: &mut Vec<ChainSpec>,
    ) {
        let own: Vec<IpNet> = subnet.into_iter().collect();
        for source in sources.iter().filter(|source| covers(source, service)) {
            for (rule_index, rule) in source.resource.spec.tcp.iter().enumerate() {
                if rule.route.is_empty() {
                    continue;
                }
                if rule.r#match.is_empty() {
                    let mut chain = self.chain(source, (Section::Tcp, rule_index, None), &rule.route, port);
                    chain.subnets = own;
                    push_new(chains, chain);
                    return;
                }
                let mut of_rule = Vec::new();
                for (index, block) in rule.r#match.iter().enumerate() {
                    let conditions = Static {
                        port: block.port,
                        gateways: &block.gateways,
                        source_labels: &block.source_labels,
                        source_namespace: &block.source_namespace,
                    };
                    if !self.holds(&conditions, source.namespace, port) {
                        continue;
                    }
                    let path = format!("tcp[{rule_index}].match[{index}].destinationSubnets");
                    let written = self.subnets(source, &path, &block.destination_subnets);
                    let mut chain = self.chain(source, (Section::Tcp, rule_index, Some(index)), &rule.route, port);
                    if written.is_empty() {
                        // It takes everything; what the rule's blocks before it said of addresses is forgotten.
                        chain.subnets = own;
                        push_new(chains, chain);
                        return;
                    }
                    chain.subnets = written;
                    of_rule.push(chain);
                }
                of_rule.into_iter().for_each(|chain| push_new(chains, chain));
            }
        }
        let mut chain = self.own_chain(service, port);
        chain.subnets = own;
        push_new(chains, chain);
    }

    fn gateway_listeners(&mut self, gateway: &str, sources: &[Source<'_>]) -> Vec<ListenerSpec> {
        let gateway_namespace = gateway.split('/').next().unwrap_or_default();
        let servers: Vec<GatewayServer> = self.mesh.gateway_servers.clone().unwrap_or_default();
        let mut specs: BTreeMap<u16, ListenerSpec> = BTreeMap::new();
        for server in servers.iter().filter(|server| !is_http_server(server)) {
            let port = server.port.number;
            let spec = specs.entry(port).or_insert_with(|| ListenerSpec {
                port,
                address: None,
                chains: Vec::new(),
                unknown: UnknownConnection::Close,
            });
            let before = spec.chains.len();
            let passthrough = server.port.protocol.is_tls() && !ends_tls(server);
            for source in sources {
                let of_server = server_hosts(server, gateway_namespace, source.namespace);
                if !of_server.iter().any(|host| source.hosts.iter().any(|own| hosts::overlap(host, own))) {
                    continue;
                }
                if passthrough {
                    self.gateway_tls(source, port, &mut spec.chains);
                } else if spec.chains.len() == before {
                    self.gateway_tcp(source, port, &mut spec.chains);
                }
            }
        }
        // Istio does not listen where there is nowhere to go.
        specs.into_values().filter(|listener| !listener.chains.is_empty()).collect()
    }

    fn gateway_tls(&mut self, source: &Source<'_>, port: u16, chains: &mut Vec<ChainSpec>) {
        for (rule_index, rule) in source.resource.spec.tls.iter().enumerate() {
            for (index, block) in rule.r#match.iter().enumerate() {
                let conditions = Static {
                    port: block.port,
                    gateways: &block.gateways,
                    source_labels: &block.source_labels,
                    source_namespace: &block.source_namespace,
                };
                if rule.route.is_empty() || !self.holds(&conditions, source.namespace, port) {
                    continue;
                }
                let names = server_names(&block.sni_hosts);
                let taken = |name| chains.iter().any(|chain| chain.server_names.contains(name));
                if names.iter().any(taken) {
                    let path = format!("tls[{rule_index}].match[{index}]");
                    let message = "an earlier block has one of its server names";
                    self.report.note(KIND, &source.name, path, NoteCode::Shadowed, message);
                    continue;
                }
                let mut chain = self.chain(source, (Section::Tls, rule_index, Some(index)), &rule.route, port);
                chain.server_names = names;
                chains.push(chain);
            }
        }
    }

    fn gateway_tcp(&mut self, source: &Source<'_>, port: u16, chains: &mut Vec<ChainSpec>) {
        for (rule_index, rule) in source.resource.spec.tcp.iter().enumerate() {
            if rule.route.is_empty() {
                continue;
            }
            let block = rule.r#match.iter().position(|block| {
                let conditions = Static {
                    port: block.port,
                    gateways: &block.gateways,
                    source_labels: &block.source_labels,
                    source_namespace: &block.source_namespace,
                };
                self.holds(&conditions, source.namespace, port)
            });
            if rule.r#match.is_empty() || block.is_some() {
                let chain = self.chain(source, (Section::Tcp, rule_index, block), &rule.route, port);
                chains.push(chain);
                return;
            }
        }
    }
}

fn plain(weight: u64, target: crate::policy::Target) -> WeightedDestination {
    WeightedDestination {
        weight,
        target,
        request_headers: HeaderOperations::default(),
        response_headers: HeaderOperations::default(),
        host_rewrite: None,
    }
}

fn covers(source: &Source<'_>, service: &Service) -> bool {
    source.hosts.iter().any(|host| hosts::overlap(host, &service.host))
}

/// In lower case; with a `*` among them any name will do, and none too.
fn server_names(written: &[String]) -> Vec<Box<str>> {
    if written.iter().any(|host| host == "*") {
        return Vec::new();
    }
    written.iter().map(|host| host.to_ascii_lowercase().into()).collect()
}

/// Of chains with the same conditions the first stays.
fn push_new(chains: &mut Vec<ChainSpec>, chain: ChainSpec) {
    let nets = |chain: &ChainSpec| chain.subnets.iter().map(IpNet::trunc).collect::<BTreeSet<_>>();
    let names = |chain: &ChainSpec| chain.server_names.iter().cloned().collect::<BTreeSet<_>>();
    if !chains.iter().any(|known| nets(known) == nets(&chain) && names(known) == names(&chain)) {
        chains.push(chain);
    }
}
