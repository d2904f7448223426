//! A destination's limits, as Envoy was seen to apply them.

use crate::{NAME, policy, policy_of, upstream};
use http::Version;
use pointsman::limit::Limit;
use pointsman::mesh::Protocol;
use pointsman::time::Timestamp;
use pointsman::upstream::{Admission, EndpointState, RequestPermit, Ticket, Upstream, Upstreams};
use std::sync::Arc;

fn pick(upstream: &Upstream) -> Arc<EndpointState> {
    upstream.pick(None, &[], false, false, Timestamp::ZERO, &mut || 0).expect("an endpoint")
}

/// Asks for so many at once: who is admitted, who waits, how many are refused.
fn burst(upstream: &Arc<Upstream>, requests: usize) -> (Vec<RequestPermit>, Vec<Ticket>, usize) {
    let (mut admitted, mut queued, mut refused) = (Vec::new(), Vec::new(), 0);
    for _ in 0..requests {
        match upstream.admit(&pick(upstream), Version::HTTP_11, Timestamp::ZERO) {
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
        assert!(upstream.endpoints(Timestamp::ZERO).iter().all(|endpoint| endpoint.active == 0), "{limits}");
    }
}

#[test]
fn who_waits_goes_in_order() {
    let (_upstreams, upstream) = upstream("connectionPool: {tcp: {maxConnections: 1}}", 1);
    let (mut admitted, queued, _) = burst(&upstream, 4);
    let mut queued = queued.into_iter();
    let (first, second, third) = (queued.next(), queued.next(), queued.next());
    // Nobody goes before there is room, and then only the first.
    let first = first.and_then(|ticket| ticket.try_admit(Timestamp::ZERO).err()).expect("no room yet");
    admitted.clear();
    let second = second.and_then(|ticket| ticket.try_admit(Timestamp::ZERO).err()).expect("not its turn");
    let Ok(Admission::Admitted(permit)) = first.try_admit(Timestamp::ZERO) else { panic!("its turn") };
    assert_eq!((upstream.usage().pending, upstream.usage().connections), (2, 1));
    // Whoever gives up leaves its place to the next.
    drop(permit);
    drop(second);
    let Some(Ok(Admission::Admitted(_permit))) = third.map(|ticket| ticket.try_admit(Timestamp::ZERO)) else {
        panic!("the second gave up")
    };
    // Who comes now waits behind nobody, but there is no room.
    let late = upstream.admit(&pick(&upstream), Version::HTTP_11, Timestamp::ZERO);
    assert!(matches!(late, Admission::Queued(_)));
    assert_eq!((upstream.usage().pending, upstream.usage().requests), (1, 1));
}

#[test]
fn retries_have_limits_of_their_own() {
    let (_upstreams, one) = upstream("connectionPool: {http: {maxRetries: 1}}", 1);
    let held = one.admit_retry(Timestamp::ZERO).ok();
    assert!(held.is_some() && one.admit_retry(Timestamp::ZERO).ok().is_none());
    drop(held);
    assert!(one.admit_retry(Timestamp::ZERO).ok().is_some());

    // A budget counts requests, also waiting ones: 50 % of 6 are 3.
    let (_upstreams, shared) =
        upstream("retryBudget: {percent: 50, minRetryConcurrency: 1}, connectionPool: {tcp: {maxConnections: 2}}", 1);
    let idle: Vec<_> = std::iter::from_fn(|| shared.admit_retry(Timestamp::ZERO).ok()).collect();
    assert_eq!(idle.len(), 1);
    drop(idle);
    let (admitted, queued, _) = burst(&shared, 6);
    assert_eq!((admitted.len(), queued.len()), (2, 4));
    let busy: Vec<_> = std::iter::from_fn(|| shared.admit_retry(Timestamp::ZERO).ok()).collect();
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
    assert!(matches!(ticket.try_admit(Timestamp::ZERO), Ok(Admission::Admitted(_))));
}

/// Over HTTP/2 requests share connections: what is limited are connections, not requests.
#[test]
fn streams_share_connections() {
    let round_robin = "loadBalancer: {simple: ROUND_ROBIN}";
    for (protocol, limits, client, endpoints, expected, connections) in [
        (Protocol::Http2, "tcp: {maxConnections: 1}", Version::HTTP_11, 1, (6, 0), 1),
        (Protocol::Grpc, "tcp: {maxConnections: 1}", Version::HTTP_2, 2, (6, 0), 2),
        (Protocol::Http2, "tcp: {maxConnections: 2}, http: {maxConcurrentStreams: 2}", Version::HTTP_11, 1, (4, 2), 2),
        (Protocol::Http2, "tcp: {maxConnections: 1}, http: {maxConcurrentStreams: 1}", Version::HTTP_11, 2, (2, 4), 2),
        (Protocol::Http, "tcp: {maxConnections: 1}, http: {h2UpgradePolicy: UPGRADE}", Version::HTTP_11, 1, (6, 0), 1),
        (Protocol::Http, "tcp: {maxConnections: 1}, http: {useClientProtocol: true}", Version::HTTP_2, 1, (6, 0), 1),
        (Protocol::Http, "tcp: {maxConnections: 1}, http: {useClientProtocol: true}", Version::HTTP_11, 1, (1, 5), 1),
    ] {
        let upstreams = Upstreams::new(0);
        let traffic = format!("connectionPool: {{{limits}}}, {round_robin}");
        upstreams.sync(&policy_of(protocol, &traffic, endpoints), Timestamp::ZERO);
        let upstream = upstreams.get(NAME).expect("the destination");
        let (mut admitted, mut queued) = (Vec::new(), Vec::new());
        for _ in 0..6 {
            match upstream.admit(&pick(&upstream), client, Timestamp::ZERO) {
                Admission::Admitted(permit) => admitted.push(permit),
                Admission::Queued(ticket) => queued.push(ticket),
                _ => panic!("nothing is refused"),
            }
        }
        assert_eq!((admitted.len(), queued.len()), expected, "{protocol:?} {limits}");
        assert_eq!(upstream.usage().connections, connections, "{protocol:?} {limits}");
        // A connection is in use until the last of its streams is over, whichever began it.
        while admitted.len() > 1 && queued.is_empty() && endpoints == 1 {
            admitted.remove(0);
            assert_eq!(upstream.usage().connections, 1, "{protocol:?} {limits}");
        }
        // Who waits takes the place of a stream that ended.
        if let (Some(ticket), Some(ended)) = (queued.drain(..1.min(queued.len())).next(), admitted.first()) {
            let key = ended.endpoint().key().clone();
            admitted.retain(|permit| *permit.endpoint().key() != key);
            assert!(matches!(ticket.try_admit(Timestamp::ZERO), Ok(Admission::Admitted(_))), "{protocol:?} {limits}");
        }
        drop((admitted, queued));
        assert_eq!(upstream.usage(), Default::default(), "{protocol:?} {limits}");
    }
}

/// What is under way stays right when the protocol of its connections changes under it.
#[test]
fn connections_stay_counted_when_the_protocol_changes() {
    let limits = "connectionPool: {tcp: {maxConnections: 1}}";
    let upstreams = Upstreams::new(0);
    upstreams.sync(&policy_of(Protocol::Http2, limits, 1), Timestamp::ZERO);
    let upstream = upstreams.get(NAME).expect("the destination");
    let (streams, _, _) = burst(&upstream, 5);
    assert_eq!((streams.len(), upstream.usage().connections), (5, 1));
    upstreams.sync(&policy_of(Protocol::Http, limits, 1), Timestamp::ZERO);
    let (none, mut queued, _) = burst(&upstream, 1);
    assert_eq!((none.len(), queued.len()), (0, 1), "the one connection is in use");
    drop(streams);
    assert_eq!((upstream.usage().connections, upstream.usage().requests), (0, 0));
    let ticket = queued.pop().expect("it waits");
    assert!(matches!(ticket.try_admit(Timestamp::ZERO), Ok(Admission::Admitted(_))));
}

/// Who is refused learns by which limit, in the rule's own words.
#[test]
fn a_refusal_names_its_limit() {
    for (limits, limit, most) in [
        ("http: {http2MaxRequests: 2}", Limit::Requests, 2),
        ("tcp: {maxConnections: 1}, http: {http1MaxPendingRequests: 3}", Limit::PendingRequests, 3),
    ] {
        let (_upstreams, upstream) = upstream(&format!("connectionPool: {{{limits}}}"), 1);
        let _held = burst(&upstream, 4);
        let refused = match upstream.admit(&pick(&upstream), Version::HTTP_11, Timestamp::ZERO) {
            Admission::Overflow(exceeded) => exceeded,
            other => panic!("{other:?}"),
        };
        assert_eq!((refused.limit, refused.most, refused.under_way), (limit, most, most));
        let name = limit.as_str().rsplit('.').next().expect("a name");
        assert!(limits.contains(name), "{limit}");
    }
    let (_upstreams, upstream) = upstream("connectionPool: {http: {maxRetries: 1}}", 1);
    let _held = upstream.admit_retry(Timestamp::ZERO);
    assert_eq!(upstream.admit_retry(Timestamp::ZERO).expect_err("one more").limit, Limit::Retries);
}
