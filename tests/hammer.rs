//! Many threads, one engine: requests, bare picks, results and reloads all at once. When all is over nothing is counted as
//! under way any more, and nothing that a policy no longer has is kept.

#![allow(clippy::unwrap_used)]

use pointsman::engine::{Event, Observer};
use pointsman::exchange::{Failure, Step};
use pointsman::head::{RequestHead, ResponseHead};
use pointsman::mesh::{Endpoint, Mesh, Protocol, Service, Viewpoint};
use pointsman::outlier::Outcome;
use pointsman::policy::Policy;
use pointsman::time::Timestamp;
use pointsman::upstream::Admission;
use pointsman::{Engine, Resources};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

const NAME: &str = "outbound|80||a.default.svc.cluster.local";
const THREADS: u64 = 8;
const ROUNDS: u64 = 8_000;

/// One of a few policies: other balancers, limits, endpoints.
fn policy(variant: u64) -> Policy {
    let balancer = [
        "simple: ROUND_ROBIN",
        "simple: LEAST_REQUEST, warmup: {duration: 1s}",
        "consistentHash: {httpHeaderName: x-user, maglev: {tableSize: 251}}",
        "consistentHash: {httpHeaderName: x-user, ringHash: {minimumRingSize: 128}}",
        "simple: RANDOM",
    ][(variant % 5) as usize];
    let outliers = match variant % 3 {
        0 => "",
        1 => {
            "outlierDetection: {consecutive5xxErrors: 2, interval: 5ms, baseEjectionTime: 5ms, maxEjectionPercent: 50},"
        }
        _ => {
            "outlierDetection: {consecutive5xxErrors: 4, interval: 9ms, baseEjectionTime: 7ms, maxEjectionPercent: 100},"
        }
    };
    let text = format!(
        "apiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: {{name: a, namespace: default}}\n\
         spec: {{host: a, trafficPolicy: {{loadBalancer: {{{balancer}}}, {outliers} connectionPool: \
         {{tcp: {{maxConnections: {}}}, http: {{http1MaxPendingRequests: 2, http2MaxRequests: 6, maxRetries: 2}}}}}}}}\n\
         ---\napiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {{name: a, namespace: default}}\n\
         spec: {{hosts: [a], http: [{{route: [{{destination: {{host: a}}}}], timeout: 1s, \
         retries: {{attempts: 2, retryOn: '5xx,reset'}}}}]}}\n",
        1 + variant % 4
    );
    let service = Service::new("a.default.svc.cluster.local", "default").with_port(80, "http", Protocol::Http);
    let service = (0..3 + variant % 4).fold(service, |service, index| {
        service.with_endpoint(
            Endpoint::new(format!("10.0.0.{}", index + 1), 80).with_weight(1 + (index * variant % 3) as u32),
        )
    });
    let compiled =
        Policy::compile(&Resources::from_yaml(&text).unwrap(), &Mesh::new([service]), &Viewpoint::namespace("default"));
    assert!(compiled.report.is_empty(), "{}", compiled.report);
    compiled.policy
}

/// SplitMix64.
struct Seeded(u64);

impl pointsman::entropy::Draws for Seeded {
    fn next_u64(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }
}

fn below(draws: &mut Seeded, bound: u64) -> u64 {
    pointsman::entropy::below(draws, bound)
}

#[derive(Default)]
struct Seen {
    decided: AtomicUsize,
    finished: AtomicUsize,
}

struct Watch(Arc<Seen>);

impl Observer for Watch {
    fn on_event(&self, event: &Event<'_>) {
        match event {
            Event::Decided { .. } => self.0.decided.fetch_add(1, Ordering::Relaxed),
            Event::Finished { .. } => self.0.finished.fetch_add(1, Ordering::Relaxed),
            _ => 0,
        };
    }
}

/// A whole request, or half of one: some clients leave.
fn request(engine: &Engine, clock: &AtomicU64, draws: &mut Seeded) {
    let tick = || Timestamp::from_nanos(clock.fetch_add(10_000, Ordering::Relaxed));
    let mut head = RequestHead::new(http::Method::GET, 80, "a", "/");
    let user = http::HeaderValue::from_str(&below(draws, 50).to_string()).unwrap();
    head.headers.insert("x-user", user);
    let mut exchange = engine.begin(head, tick(), draws);
    exchange.request_complete(tick());
    for _ in 0..40 {
        let now = tick();
        match exchange.next(now, draws) {
            Step::Attempt(_) => {
                exchange.on_connected(tick());
                match below(draws, 8) {
                    0..=3 => exchange.on_response(ResponseHead::new(http::StatusCode::OK), tick(), draws),
                    4 | 5 => {
                        exchange.on_response(ResponseHead::new(http::StatusCode::BAD_GATEWAY), tick(), draws);
                    }
                    6 => exchange.on_failure(Failure::Reset, tick(), draws),
                    _ => return,
                }
            }
            Step::Return(_) => exchange.on_end(tick()),
            Step::Wait(_) if below(draws, 10) == 0 => exchange.on_client_gone(),
            Step::Wait(_) | Step::Mirror(_) | Step::Cancel => {}
            Step::Respond(_) | Step::Reset | Step::Done => return,
            _ => {}
        }
    }
}

/// What a driver without exchanges does.
fn bare(engine: &Engine, clock: &AtomicU64, draws: &mut Seeded) {
    let now = Timestamp::from_nanos(clock.fetch_add(10_000, Ordering::Relaxed));
    let Some(upstream) = engine.upstreams().get(NAME) else { return };
    let Some(endpoint) = upstream.pick(Some(draws.0), &[], false, false, now, draws) else { return };
    let retry = upstream.admit_retry(now);
    let permit = match upstream.admit(&endpoint, http::Version::HTTP_11, now) {
        Admission::Admitted(permit) => Some(permit),
        Admission::Queued(ticket) => match ticket.try_admit(now) {
            Ok(Admission::Admitted(permit)) => Some(permit),
            _ => None,
        },
        _ => None,
    };
    if permit.is_some() {
        let outcome = if below(draws, 3) == 0 { Outcome::Status(503) } else { Outcome::Status(200) };
        upstream.record(&endpoint, outcome, now);
    }
    drop(permit);
    drop(retry);
}

#[test]
fn nothing_is_left_when_all_is_over() {
    let seen = Arc::new(Seen::default());
    let engine = Engine::builder().seed(3).observer(Watch(Arc::clone(&seen))).build(policy(0));
    let clock = AtomicU64::new(0);
    let reloads = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for thread in 0..THREADS {
            let (engine, clock, reloads) = (&engine, &clock, &reloads);
            scope.spawn(move || {
                let mut draws = Seeded(thread);
                for round in 0..ROUNDS {
                    match below(&mut draws, 8) {
                        0..=3 => request(engine, clock, &mut draws),
                        _ => bare(engine, clock, &mut draws),
                    }
                    if round % 50 == thread {
                        engine.reload(policy(below(&mut draws, 60)));
                        reloads.fetch_add(1, Ordering::Relaxed);
                    }
                    if round % 97 == 0 {
                        // People look on.
                        assert!(engine.endpoints().len() >= 3);
                    }
                }
            });
        }
    });
    assert_eq!(reloads.load(Ordering::Relaxed) as u64, THREADS * ROUNDS / 50);
    let (decided, finished) = (seen.decided.load(Ordering::Relaxed), seen.finished.load(Ordering::Relaxed));
    assert!(decided > 1_000 && decided == finished, "{decided} decided, {finished} finished");

    let upstream = engine.upstreams().get(NAME).unwrap();
    assert_eq!(upstream.usage(), Default::default());
    assert!(engine.endpoints().iter().all(|endpoint| endpoint.active == 0));
    // It works as at first: all ejected return, and all limits are free.
    let now = Timestamp::from_nanos(clock.load(Ordering::Relaxed)) + std::time::Duration::from_secs(3_600);
    engine.reload(policy(1));
    upstream.sweep(now);
    assert!(engine.endpoints().iter().all(|endpoint| endpoint.ejected.is_none()));
    let endpoint = upstream.pick(None, &[], false, false, now, &mut Seeded(1)).unwrap();
    let held: Vec<_> = (0..4).map(|_| upstream.admit(&endpoint, http::Version::HTTP_11, now)).collect();
    let kinds = held.iter().map(|admission| match admission {
        Admission::Admitted(_) => 'a',
        Admission::Queued(_) => 'q',
        _ => 'o',
    });
    assert_eq!(kinds.collect::<String>(), "aaqq", "two connections, two places to wait");
    drop(held);

    // A policy without the destination: its state goes with its last user.
    let (old, state, last) = (Arc::downgrade(&engine.policy()), Arc::downgrade(&upstream), Arc::downgrade(&endpoint));
    let nothing = Policy::compile(&Resources::from_yaml("").unwrap(), &Mesh::new([]), &Viewpoint::namespace("default"));
    engine.reload(nothing.policy);
    assert!(engine.upstreams().get(NAME).is_none() && old.upgrade().is_none());
    assert!(state.upgrade().is_some(), "this test still holds it");
    drop(upstream);
    assert!(state.upgrade().is_none() && last.upgrade().is_some());
    drop(endpoint);
    assert!(last.upgrade().is_none());
}
