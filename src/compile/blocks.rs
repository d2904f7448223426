//! The blocks of a traffic policy that hold for one destination: rule, port and subset put together.
//!
//! Where it comes from: Istio's merging of a `DestinationRule`'s policies. A block of the subset stands in place of the
//! rule's; an entry for the port stands in place of the four blocks that such an entry has, written there or not.

use crate::resource::{
    ClientTlsSettings, ConnectionPoolSettings, LoadBalancerSettings, OutlierDetection, ProxyProtocol, RetryBudget,
    SimpleLb, TrafficPolicy, TunnelSettings,
};

/// The blocks of a traffic policy after rule, port and subset were put together.
#[derive(Clone, Debug, Default)]
pub(super) struct Blocks {
    pub(super) load_balancer: Option<LoadBalancerSettings>,
    pub(super) connection_pool: Option<ConnectionPoolSettings>,
    pub(super) outlier_detection: Option<OutlierDetection>,
    pub(super) tls: Option<ClientTlsSettings>,
    pub(super) tunnel: Option<TunnelSettings>,
    pub(super) proxy_protocol: Option<ProxyProtocol>,
    pub(super) retry_budget: Option<RetryBudget>,
}

/// The port entry of a policy; the first that names the port.
pub(super) fn port_entry(policy: Option<&TrafficPolicy>, port: u16) -> Option<&TrafficPolicy> {
    let entries = &policy?.port_level_settings;
    entries.iter().find(|entry| entry.port.as_ref().is_some_and(|selector| selector.number == u32::from(port)))
}

impl Blocks {
    fn of(policy: &TrafficPolicy) -> Blocks {
        Blocks {
            load_balancer: policy.load_balancer.clone(),
            connection_pool: policy.connection_pool.clone(),
            outlier_detection: policy.outlier_detection.clone(),
            tls: policy.tls.clone(),
            tunnel: policy.tunnel.clone(),
            proxy_protocol: policy.proxy_protocol.clone(),
            retry_budget: policy.retry_budget.clone(),
        }
    }

    /// The four blocks that a port's entry has; all of them replace what stands above, unset ones too.
    fn of_port(entry: &TrafficPolicy) -> Blocks {
        Blocks { tunnel: None, proxy_protocol: None, retry_budget: None, ..Blocks::of(entry) }
    }

    fn is_passthrough(&self) -> bool {
        self.load_balancer.as_ref().is_some_and(|balancer| balancer.simple == Some(SimpleLb::Passthrough))
    }

    /// Whole blocks replace whole blocks: there is no merge inside one. But where the rule lets requests through to where
    /// they were going, its subsets do too, whatever they say.
    pub(super) fn resolve(rule: Option<&TrafficPolicy>, subset: Option<&TrafficPolicy>, port: u16) -> Blocks {
        let base = match port_entry(rule, port) {
            Some(entry) => Blocks::of_port(entry),
            None => rule.map(Blocks::of).unwrap_or_default(),
        };
        let passthrough = base.load_balancer.clone().filter(|_| base.is_passthrough());
        let blocks = Blocks::resolve_subset(base, subset, port);
        Blocks { load_balancer: passthrough.or(blocks.load_balancer), ..blocks }
    }

    fn resolve_subset(base: Blocks, subset: Option<&TrafficPolicy>, port: u16) -> Blocks {
        let Some(own) = subset else { return base };
        if let Some(entry) = port_entry(subset, port) {
            let Blocks { tunnel, proxy_protocol, retry_budget, .. } = base;
            return Blocks { tunnel, proxy_protocol, retry_budget, ..Blocks::of_port(entry) };
        }
        let own = Blocks::of(own);
        Blocks {
            load_balancer: own.load_balancer.or(base.load_balancer),
            connection_pool: own.connection_pool.or(base.connection_pool),
            outlier_detection: own.outlier_detection.or(base.outlier_detection),
            tls: own.tls.or(base.tls),
            tunnel: own.tunnel.or(base.tunnel),
            proxy_protocol: own.proxy_protocol.or(base.proxy_protocol),
            retry_budget: own.retry_budget.or(base.retry_budget),
        }
    }
}
