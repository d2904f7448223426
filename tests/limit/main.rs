//! Circuit breakers: counters and budgets alone, then a destination's limits as requests meet them, and random histories
//! beside a naive count.

mod admission;
mod history;
mod window;

use pointsman::Resources;
use pointsman::limit::{Counter, Permit, retry_budget};
use pointsman::mesh::{Endpoint, Mesh, Protocol, Service, Viewpoint};
use pointsman::policy::Policy;
use pointsman::time::Timestamp;
use pointsman::upstream::{Upstream, Upstreams};
use proptest::prelude::*;
use std::sync::Arc;

pub(crate) const NAME: &str = "outbound|80||a.default.svc.cluster.local";

/// The policy of a service of so many endpoints under this traffic policy.
pub(crate) fn policy(traffic_policy: &str, endpoints: usize) -> Policy {
    policy_of(Protocol::Http, traffic_policy, endpoints)
}

/// The same for a service whose port speaks this protocol.
pub(crate) fn policy_of(protocol: Protocol, traffic_policy: &str, endpoints: usize) -> Policy {
    let rule = format!(
        "apiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: {{name: a, namespace: default}}\n\
         spec: {{host: a, trafficPolicy: {{{traffic_policy}}}}}\n"
    );
    let resources = Resources::from_yaml(&rule).expect("the rule reads");
    let service = Service::new("a.default.svc.cluster.local", "default").with_port(80, "port", protocol);
    let service = (0..endpoints)
        .fold(service, |service, index| service.with_endpoint(Endpoint::new(format!("10.0.0.{}", index + 1), 80)));
    let compiled = Policy::compile(&resources, &Mesh::new([service]), &Viewpoint::namespace("default"));
    assert!(compiled.report.is_empty(), "{}", compiled.report);
    compiled.policy
}

pub(crate) fn upstream(traffic_policy: &str, endpoints: usize) -> (Upstreams, Arc<Upstream>) {
    let upstreams = Upstreams::new(0);
    upstreams.sync(&policy(traffic_policy, endpoints), Timestamp::ZERO);
    let upstream = upstreams.get(NAME).expect("the destination");
    (upstreams, upstream)
}

#[test]
fn budgets_are_shares_cut_to_whole_numbers() {
    for (percent, least, requests, budget) in [
        (20.0, 5, 0, 5),
        (20.0, 5, 100, 20),
        (20.0, 5, 50, 10),
        (20.0, 3, 0, 3),
        (20.0, 3, 19, 3),
        (20.0, 3, 20, 4),
        (25.0, 1, 4, 1),
        (50.0, 1, 4, 2),
        (33.4, 0, 10, 3),
        (99.9, 0, 10, 9),
        (100.0, 0, 7, 7),
        (0.0, 0, 1_000, 0),
        (0.0, 2, 1_000, 2),
        (100.0, 0, u32::MAX, u32::MAX),
        (f64::NAN, 3, 100, 3),
        (-5.0, 0, 100, 0),
        (f64::INFINITY, 0, 1, u32::MAX),
    ] {
        assert_eq!(retry_budget(percent, least, requests), budget, "{percent} % of {requests}, at least {least}");
    }
}

#[test]
fn a_permit_is_one_unit_until_it_is_dropped() {
    let counter = Counter::default();
    assert!(counter.acquire(Some(0)).is_none(), "a limit of nothing");
    let first = counter.acquire(Some(2));
    let second = counter.acquire(Some(2));
    assert!(first.is_some() && second.is_some() && counter.acquire(Some(2)).is_none());
    assert_eq!(counter.get(), 2);
    // A limit that has become smaller holds for the next, and takes nothing away.
    assert!(counter.acquire(Some(1)).is_none());
    let third = counter.acquire(None);
    assert_eq!(counter.clone().get(), 3);
    drop((first, third));
    assert_eq!(counter.get(), 1);
    drop(second);
    assert_eq!(counter.get(), 0);
    // Also when what holds it fails.
    let failed = std::panic::catch_unwind(|| {
        let _permit = counter.acquire(Some(1));
        assert_eq!(counter.get(), 0, "this is what fails");
    });
    assert!(failed.is_err());
    assert_eq!(counter.get(), 0);
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    /// Beside a plain number.
    #[test]
    fn a_counter_counts(acts in prop::collection::vec((any::<bool>(), prop::option::of(0u32..6), any::<usize>()), 0..200)) {
        let counter = Counter::default();
        let mut held: Vec<Permit> = Vec::new();
        for (acquires, limit, which) in acts {
            if acquires {
                let expected = limit.is_none_or(|limit| (held.len() as u32) < limit);
                let permit = counter.acquire(limit);
                prop_assert_eq!(permit.is_some(), expected);
                held.extend(permit);
            } else if !held.is_empty() {
                held.swap_remove(which % held.len());
            }
            prop_assert_eq!(counter.get() as usize, held.len());
        }
    }
}
