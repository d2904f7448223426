//! A destination's limits, as Envoy was seen to apply them.

use crate::{NAME, policy, upstream};
use pointsman::time::Timestamp;
use pointsman::upstream::{Admission, EndpointState, RequestPermit, Ticket, Upstream};
use std::sync::Arc;

fn pick(upstream: &Upstream) -> Arc<EndpointState> {
    upstream.pick(None, &[], false, false, Timestamp::ZERO, &mut || 0).expect("an endpoint")
}

/// Asks for so many at once: who is admitted, who waits, how many are refused.
fn burst(upstream: &Arc<Upstream>, requests: usize) -> (Vec<RequestPermit>, Vec<Ticket>, usize) {
    let (mut admitted, mut queued, mut refused) = (Vec::new(), Vec::new(), 0);
    for _ in 0..requests {
        match upstream.admit(&pick(upstream)) {
            Admission::Admitted(permit) => admitted.push(permit),
            Admission::Queued(ticket) => queued.push(ticket),
            _ => refused += 1,
        }
    }
    (admitted, queued, refused)
}

/// Limits, endpoints, requests at once: admitted, waiting, refused.
#[test]
fn a_burst_meets_the_limits() {
    let round_robin = "loadBalancer: {simple: ROUND_ROBIN}";
    for (limits, endpoints, requests, expected) in [
        ("tcp: {maxConnections: 1}, http: {http1MaxPendingRequests: 1}", 1, 5, (1, 1, 3)),
        ("tcp: {maxConnections: 1}, http: {http1MaxPendingRequests: 1}", 1, 3, (1, 1, 1)),
        ("tcp: {maxConnections: 2}, http: {http1MaxPendingRequests: 2}", 1, 4, (2, 2, 0)),
        // An endpoint without a connection gets one.
        ("tcp: {maxConnections: 1}", 2, 4, (2, 2, 0)),
        ("tcp: {maxConnections: 1}", 3, 7, (3, 4, 0)),
        ("http: {http2MaxRequests: 2}", 1, 3, (2, 0, 1)),
        ("http: {http2MaxRequests: 2}", 3, 5, (2, 0, 3)),
        ("tcp: {maxConnections: 2}, http: {http2MaxRequests: 1}", 1, 3, (1, 0, 2)),
        // Nothing is limited; 0 is not a limit either.
        ("http: {http2MaxRequests: 0}", 1, 50, (50, 0, 0)),
    ] {
        let (_upstreams, upstream) = upstream(&format!("connectionPool: {{{limits}}}, {round_robin}"), endpoints);
        let (admitted, queued, refused) = burst(&upstream, requests);
        assert_eq!((admitted.len(), queued.len(), refused), expected, "{requests} at {endpoints} under {limits}");
        let usage = upstream.usage();
        assert_eq!((usage.requests as usize, usage.pending as usize), (admitted.len(), queued.len()), "{limits}");
        assert_eq!(usage.connections as usize, admitted.len(), "{limits}");
        drop((admitted, queued));
        assert_eq!(upstream.usage(), Default::default(), "{limits}");
        assert!(upstream.endpoints().iter().all(|endpoint| endpoint.active == 0), "{limits}");
    }
}

#[test]
fn who_waits_goes_in_order() {
    let (_upstreams, upstream) = upstream("connectionPool: {tcp: {maxConnections: 1}}", 1);
    let (mut admitted, queued, _) = burst(&upstream, 4);
    let mut queued = queued.into_iter();
    let (first, second, third) = (queued.next(), queued.next(), queued.next());
    // Nobody goes before there is room, and then only the first.
    let first = first.and_then(|ticket| ticket.try_admit().err()).expect("no room yet");
    admitted.clear();
    let second = second.and_then(|ticket| ticket.try_admit().err()).expect("not its turn");
    let Ok(Admission::Admitted(permit)) = first.try_admit() else { panic!("its turn") };
    assert_eq!((upstream.usage().pending, upstream.usage().connections), (2, 1));
    // Whoever gives up leaves its place to the next.
    drop(permit);
    drop(second);
    let Some(Ok(Admission::Admitted(_permit))) = third.map(Ticket::try_admit) else { panic!("the second gave up") };
    // Who comes now waits behind nobody, but there is no room.
    let late = upstream.admit(&pick(&upstream));
    assert!(matches!(late, Admission::Queued(_)));
    assert_eq!((upstream.usage().pending, upstream.usage().requests), (1, 1));
}

#[test]
fn retries_have_limits_of_their_own() {
    let (_upstreams, one) = upstream("connectionPool: {http: {maxRetries: 1}}", 1);
    let held = one.admit_retry();
    assert!(held.is_some() && one.admit_retry().is_none());
    drop(held);
    assert!(one.admit_retry().is_some());

    // A budget counts requests, also waiting ones: 50 % of 6 are 3.
    let (_upstreams, shared) =
        upstream("retryBudget: {percent: 50, minRetryConcurrency: 1}, connectionPool: {tcp: {maxConnections: 2}}", 1);
    let idle: Vec<_> = std::iter::from_fn(|| shared.admit_retry()).collect();
    assert_eq!(idle.len(), 1);
    drop(idle);
    let (admitted, queued, _) = burst(&shared, 6);
    assert_eq!((admitted.len(), queued.len()), (2, 4));
    let busy: Vec<_> = std::iter::from_fn(|| shared.admit_retry()).collect();
    assert_eq!((busy.len(), shared.usage().retries), (3, 3));
}

/// Limits are those of the policy in force; what is under way stays counted.
#[test]
fn limits_change_under_way() {
    let (upstreams, upstream) = upstream("connectionPool: {http: {http2MaxRequests: 2}}", 1);
    let (admitted, _, refused) = burst(&upstream, 3);
    assert_eq!((admitted.len(), refused), (2, 1));
    upstreams.sync(&policy("connectionPool: {http: {http2MaxRequests: 3}}", 1), Timestamp::ZERO);
    assert!(Arc::ptr_eq(&upstream, &upstreams.get(NAME).expect("it stays")));
    let (more, _, refused) = burst(&upstream, 2);
    assert_eq!((more.len(), refused), (1, 1));
    // Room is made for who waits as well.
    upstreams.sync(&policy("connectionPool: {tcp: {maxConnections: 3}}", 1), Timestamp::ZERO);
    let (_, mut queued, _) = burst(&upstream, 1);
    upstreams.sync(&policy("connectionPool: {tcp: {maxConnections: 4}}", 1), Timestamp::ZERO);
    let ticket = queued.pop().expect("it waits");
    assert!(matches!(ticket.try_admit(), Ok(Admission::Admitted(_))));
}
