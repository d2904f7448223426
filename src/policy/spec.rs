//! What `compile/` hands over: plain lists, in order of precedence. [`Policy::new`](super::Policy::new) turns them into
//! indexed tables.

use super::{Destination, Origin, Route, WeightedDestination};
use crate::mesh::PathNormalization;
use ipnet::IpNet;
use std::net::IpAddr;
use std::sync::Arc;

/// Everything that a policy is made of.
#[derive(Clone, Debug, Default)]
pub(crate) struct PolicySpec {
    /// HTTP listeners.
    pub(crate) ports: Vec<PortSpec>,
    /// TLS and TCP listeners.
    pub(crate) listeners: Vec<ListenerSpec>,
    /// `DestinationId(n)` is the n-th.
    pub(crate) destinations: Vec<Destination>,
    pub(crate) normalization: PathNormalization,
    /// Is the viewpoint a gateway?
    pub(crate) gateway: bool,
}

/// One HTTP listener.
#[derive(Clone, Debug)]
pub(crate) struct PortSpec {
    pub(crate) port: u16,
    pub(crate) virtual_hosts: Vec<VirtualHostSpec>,
    pub(crate) unknown_host: UnknownHost,
}

/// What a listener does with an authority that no virtual host has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum UnknownHost {
    /// `PassthroughCluster`: a mesh that allows any.
    PassThrough,
    /// 502: a mesh that knows its registry only.
    Refuse,
    /// 404: a gateway.
    NotFound,
}

/// One virtual host: its domains are its own alone, and its routes are tried in order.
#[derive(Clone, Debug)]
pub(crate) struct VirtualHostSpec {
    /// For people: the first host and the port, as Istio names virtual hosts.
    pub(crate) name: Arc<str>,
    /// Lower case. `a.b` exact, `*.b` or `*b` suffix, `*` everything.
    pub(crate) domains: Vec<Box<str>>,
    pub(crate) routes: Vec<Arc<Route>>,
    /// Is clear text redirected to `https`, before any route?
    pub(crate) https_redirect: bool,
}

/// One listener with TLS or TCP filter chains.
#[derive(Clone, Debug)]
pub(crate) struct ListenerSpec {
    pub(crate) port: u16,
    /// The virtual address that it listens on; none: every address that has no listener of its own.
    pub(crate) address: Option<IpAddr>,
    pub(crate) chains: Vec<ChainSpec>,
    /// What takes a connection that no chain takes.
    pub(crate) unknown: UnknownConnection,
}

/// What a listener does with a connection that no chain takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum UnknownConnection {
    /// `PassthroughCluster`.
    PassThrough,
    /// It is closed.
    Close,
}

/// One filter chain. Chosen by specificity, not by order: longest destination prefix first, then SNI (exact, longest
/// `*.suffix`, none). A chain without any condition takes what no other one takes.
#[derive(Clone, Debug)]
pub(crate) struct ChainSpec {
    pub(crate) origin: Origin,
    /// Empty: any.
    pub(crate) subnets: Vec<IpNet>,
    /// Lower case, exact or `*.suffix`. Empty: any.
    pub(crate) server_names: Vec<Box<str>>,
    pub(crate) destinations: Vec<WeightedDestination>,
}
