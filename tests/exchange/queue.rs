//! Waiting for a connection: who waits is woken, in order, and whoever gives up makes room.

use crate::bed;
use http::StatusCode;
use pointsman::Engine;
use pointsman::exchange::{Code, Exchange, Step};
use pointsman::head::ResponseHead;
use pointsman::time::Timestamp;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Wake, Waker};
use std::time::Duration;

/// One endpoint, one connection, two places in the queue.
fn engine() -> Engine {
    let limits = "connectionPool: {tcp: {maxConnections: 1}, http: {http1MaxPendingRequests: 2}}\n";
    let rule = "route: [{destination: {host: shadow}}]\ntimeout: 1s\nretries: {attempts: 0}\n";
    let resources = bed::resources(rule, limits).replace("  host: reviews\n", "  host: shadow\n");
    bed::engine(&resources, Engine::builder())
}

fn begin(engine: &Engine, now: Timestamp) -> Exchange {
    let mut exchange = engine.begin(bed::get("/"), now, &mut || 0);
    exchange.request_complete(now);
    exchange
}

#[derive(Default)]
struct Flag(AtomicBool);

impl Wake for Flag {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::Relaxed);
    }
}

fn step(exchange: &mut Exchange, now: Timestamp) -> Step {
    exchange.next(now, &mut || 0)
}

#[test]
fn who_waits_is_woken_when_a_connection_is_free() {
    let engine = engine();
    let now = Timestamp::ZERO;
    let mut first = begin(&engine, now);
    assert!(matches!(step(&mut first, now), Step::Attempt(_)));

    let mut second = begin(&engine, now);
    let Step::Wait(until) = step(&mut second, now) else { panic!("it has to wait") };
    assert_eq!(until, now + Duration::from_secs(1), "no longer than the route's timeout");
    let mut third = begin(&engine, now);
    assert!(matches!(step(&mut third, now), Step::Wait(_)));
    let mut fourth = begin(&engine, now);
    let Step::Respond(reply) = step(&mut fourth, now) else { panic!("the queue is full") };
    assert_eq!(reply.head.status, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(reply.head.headers.get("x-envoy-overloaded").expect("says so"), "true");
    assert_eq!(fourth.summary().code, Code::Overflow);

    let flags = [Arc::new(Flag::default()), Arc::new(Flag::default())];
    assert!(!second.poll_turn(&Waker::from(Arc::clone(&flags[0]))));
    assert!(!third.poll_turn(&Waker::from(Arc::clone(&flags[1]))));
    first.on_response(ResponseHead::new(StatusCode::OK), now, &mut || 0);
    assert!(matches!(step(&mut first, now), Step::Return(_)));
    assert!(!flags[0].0.load(Ordering::Relaxed), "the body is still on its way");
    first.on_end(now);
    assert!(flags[0].0.load(Ordering::Relaxed));
    assert!(matches!(step(&mut third, now), Step::Wait(_)), "it is not its turn");
    assert!(matches!(step(&mut second, now), Step::Attempt(_)));

    // Dropped half-way: the connection is free at once.
    drop(second);
    assert!(flags[1].0.load(Ordering::Relaxed));
    assert!(matches!(step(&mut third, now), Step::Attempt(_)));
}

#[test]
fn who_waits_too_long_is_answered_and_makes_room() {
    let engine = engine();
    let now = Timestamp::ZERO;
    let mut first = begin(&engine, now);
    assert!(matches!(step(&mut first, now), Step::Attempt(_)));
    let mut second = begin(&engine, now);
    assert!(matches!(step(&mut second, now), Step::Wait(_)));

    let late = now + Duration::from_secs(1);
    let Step::Respond(reply) = step(&mut second, late) else { panic!("its time is up") };
    assert_eq!(reply.head.status, StatusCode::GATEWAY_TIMEOUT);
    assert_eq!(second.summary().attempts, 0);
    for _ in 0..2 {
        let mut another = begin(&engine, late);
        assert!(matches!(step(&mut another, late), Step::Wait(_)), "there are two places again");
        drop(another);
    }
}

#[test]
fn an_end_that_is_told_early_is_an_end() {
    let engine = engine();
    let now = Timestamp::ZERO;
    let mut exchange = begin(&engine, now);
    assert!(matches!(step(&mut exchange, now), Step::Attempt(_)));
    exchange.on_response(ResponseHead::new(StatusCode::NO_CONTENT), now, &mut || 0);
    exchange.on_end(now);
    assert!(matches!(step(&mut exchange, now), Step::Return(_)));
    assert!(exchange.is_done());
    assert_eq!(exchange.summary().status, 204);
    assert!(matches!(step(&mut exchange, now), Step::Done));
}

#[test]
fn an_exchange_is_owned_and_can_be_moved_between_threads() {
    fn owned<T: Send + Sync + std::fmt::Debug + 'static>() {}
    owned::<Exchange>();
    owned::<Engine>();
    owned::<Step>();
}
