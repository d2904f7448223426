//! Random histories of a destination, beside plain numbers.

use crate::upstream;
use http::Version;
use pointsman::limit::Permit;
use pointsman::time::Timestamp;
use pointsman::upstream::{Admission, RequestPermit, Ticket};
use proptest::prelude::*;

#[derive(Clone, Copy, Debug)]
enum Act {
    Ask(u64),
    Finish(usize),
    Turn(usize),
    GiveUp(usize),
    Retry,
    EndRetry(usize),
}

fn act() -> impl Strategy<Value = Act> {
    prop_oneof![
        5 => any::<u64>().prop_map(Act::Ask),
        3 => any::<usize>().prop_map(Act::Finish),
        3 => any::<usize>().prop_map(Act::Turn),
        1 => any::<usize>().prop_map(Act::GiveUp),
        1 => Just(Act::Retry),
        1 => any::<usize>().prop_map(Act::EndRetry),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_history_adds_up(
        connections in prop::option::of(1u32..5),
        requests in prop::option::of(1u32..6),
        pending in prop::option::of(1u32..4),
        retries in prop::option::of(1u32..3),
        endpoints in 1usize..4,
        acts in prop::collection::vec(act(), 0..150),
    ) {
        let limit = |name: &str, limit: Option<u32>| limit.map(|limit| format!("{name}: {limit}")).unwrap_or_default();
        let http: Vec<String> =
            [limit("http2MaxRequests", requests), limit("http1MaxPendingRequests", pending), limit("maxRetries", retries)]
                .into_iter().filter(|text| !text.is_empty()).collect();
        let pool = format!("connectionPool: {{tcp: {{{}}}, http: {{{}}}}}", limit("maxConnections", connections), http.join(", "));
        let (_upstreams, upstream) = upstream(&format!("{pool}, loadBalancer: {{simple: RANDOM}}"), endpoints);
        let mut under_way: Vec<RequestPermit> = Vec::new();
        let mut waiting: Vec<(Ticket, String)> = Vec::new();
        let mut retrying: Vec<Permit> = Vec::new();
        for act in acts {
            match act {
                Act::Ask(draw) => {
                    let endpoint = upstream.pick(None, &[], false, false, Timestamp::ZERO, &mut || draw).expect("one");
                    let at_endpoint = under_way.iter().filter(|permit| permit.endpoint().key() == endpoint.key()).count();
                    let is_first = !waiting.iter().any(|(_, key)| **key == **endpoint.key());
                    let room = connections.is_none_or(|limit| (under_way.len() as u32) < limit) || at_endpoint == 0;
                    let admissible = connections.is_none() || (is_first && room);
                    match upstream.admit(&endpoint, Version::HTTP_11, Timestamp::ZERO) {
                        Admission::Admitted(permit) => {
                            prop_assert!(admissible);
                            prop_assert!(requests.is_none_or(|limit| (under_way.len() as u32) < limit));
                            under_way.push(permit);
                        }
                        Admission::Queued(ticket) => {
                            prop_assert!(!admissible);
                            prop_assert!(pending.is_none_or(|limit| (waiting.len() as u32) < limit));
                            waiting.push((ticket, endpoint.key().to_string()));
                        }
                        _ => prop_assert!(
                            admissible && requests.is_some_and(|limit| under_way.len() as u32 >= limit)
                                || !admissible && pending.is_some_and(|limit| waiting.len() as u32 >= limit)
                        ),
                    }
                }
                Act::Finish(which) if !under_way.is_empty() => drop(under_way.swap_remove(which % under_way.len())),
                Act::Turn(which) if !waiting.is_empty() => {
                    let which = which % waiting.len();
                    let (ticket, key) = waiting.remove(which);
                    let is_first = !waiting[..which].iter().any(|(_, other)| *other == key);
                    let at_endpoint = under_way.iter().filter(|permit| **permit.endpoint().key() == *key).count();
                    let room = connections.is_none_or(|limit| (under_way.len() as u32) < limit) || at_endpoint == 0;
                    match ticket.try_admit(Timestamp::ZERO) {
                        Ok(Admission::Admitted(permit)) => {
                            prop_assert!(is_first && room);
                            under_way.push(permit);
                        }
                        Ok(_) => prop_assert!(requests.is_some_and(|limit| under_way.len() as u32 >= limit)),
                        Err(ticket) => {
                            prop_assert!(!(is_first && room));
                            waiting.insert(which, (ticket, key));
                        }
                    }
                }
                Act::GiveUp(which) if !waiting.is_empty() => drop(waiting.remove(which % waiting.len())),
                Act::Retry => {
                    let permit = upstream.admit_retry(Timestamp::ZERO).ok();
                    prop_assert_eq!(permit.is_some(), retries.is_none_or(|limit| (retrying.len() as u32) < limit));
                    retrying.extend(permit);
                }
                Act::EndRetry(which) if !retrying.is_empty() => drop(retrying.swap_remove(which % retrying.len())),
                _ => {}
            }
            let usage = upstream.usage();
            prop_assert_eq!(usage.requests as usize, under_way.len());
            prop_assert_eq!(usage.connections as usize, under_way.len());
            prop_assert_eq!(usage.pending as usize, waiting.len());
            prop_assert_eq!(usage.retries as usize, retrying.len());
            for endpoint in upstream.endpoints(Timestamp::ZERO) {
                let here = under_way.iter().filter(|permit| **permit.endpoint().key() == *endpoint.endpoint).count();
                prop_assert_eq!(endpoint.active as usize, here);
            }
        }
        drop((under_way, waiting, retrying));
        prop_assert_eq!(upstream.usage(), Default::default());
    }
}
