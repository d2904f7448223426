//! Counters and permits under every interleaving of a few threads, by model checking:
//! `RUSTFLAGS="--cfg loom" cargo test --release --manifest-path tests/loom/Cargo.toml`. Without that flag there is nothing
//! here.

#![cfg(all(test, loom))]
#![allow(clippy::unwrap_used)]

use loom::sync::Arc;
use loom::sync::atomic::{AtomicU32, Ordering};
use loom::thread;
use pointsman::limit::{Counter, retry_budget};

/// Two threads, a limit of one: never two at once, at least one gets through, and in the end nothing is under way.
#[test]
fn never_over_the_limit() {
    loom::model(|| {
        let counter = Counter::default();
        let inside = Arc::new(AtomicU32::new(0));
        let enter = |counter: Counter, inside: Arc<AtomicU32>| {
            move || -> u32 {
                let Some(permit) = counter.acquire(Some(1)) else { return 0 };
                // What the permit guards: nobody else is here.
                assert_eq!(inside.fetch_add(1, Ordering::SeqCst), 0);
                assert_eq!(counter.get(), 1);
                inside.fetch_sub(1, Ordering::SeqCst);
                drop(permit);
                1
            }
        };
        let other = thread::spawn(enter(counter.clone(), Arc::clone(&inside)));
        let here = enter(counter.clone(), Arc::clone(&inside))();
        let there = other.join().unwrap();
        assert!(here + there >= 1, "one of them was alone");
        assert_eq!(counter.get(), 0);
        assert!(counter.acquire(Some(1)).is_some(), "there is room again");
    });
}

/// A permit that one thread takes and another drops.
#[test]
fn a_permit_may_end_elsewhere() {
    loom::model(|| {
        let counter = Counter::default();
        let permit = counter.acquire(Some(1)).unwrap();
        let other = thread::spawn(move || drop(permit));
        let early = counter.acquire(Some(1));
        other.join().unwrap();
        assert_eq!(counter.get(), u32::from(early.is_some()));
        drop(early);
        assert_eq!(counter.get(), 0);
    });
}

/// Three threads at a limit of two, each interrupted at most twice (without that bound there are too many ways).
#[test]
fn a_limit_of_two() {
    let mut model = loom::model::Builder::new();
    model.preemption_bound = Some(2);
    model.check(|| {
        let counter = Counter::default();
        let enter = |counter: Counter| {
            move || {
                let permit = counter.acquire(Some(2));
                let count = counter.get();
                assert!(count <= 2, "{count} are under way");
                assert!(permit.is_none() || count >= 1);
            }
        };
        let others = [thread::spawn(enter(counter.clone())), thread::spawn(enter(counter.clone()))];
        enter(counter.clone())();
        others.into_iter().for_each(|other| other.join().unwrap());
        assert_eq!(counter.get(), 0);
    });
}

/// Without a limit nobody is refused, and nothing is lost.
#[test]
fn no_limit_refuses_nobody() {
    loom::model(|| {
        let counter = Counter::default();
        let other = thread::spawn({
            let counter = counter.clone();
            move || counter.acquire(None)
        });
        let here = counter.acquire(None);
        let there = other.join().unwrap();
        assert!(here.is_some() && there.is_some());
        assert_eq!(counter.get(), 2);
        drop((here, there));
        assert_eq!(counter.get(), 0);
    });
}

/// A budget is worked out from a count that moves: what is admitted stays within the greatest budget that there was.
#[test]
fn a_budget_follows_requests_that_come_and_go() {
    loom::model(|| {
        let (requests, retries) = (Counter::default(), Counter::default());
        let request = requests.acquire(None).unwrap();
        let other = thread::spawn({
            let (requests, retries) = (requests.clone(), retries.clone());
            move || retries.acquire(Some(retry_budget(100.0, 0, requests.get())))
        });
        drop(request);
        let here = retries.acquire(Some(retry_budget(100.0, 0, requests.get())));
        let there = other.join().unwrap();
        assert!(here.is_none(), "there are no requests any more");
        assert_eq!(retries.get(), u32::from(there.is_some()));
        drop(there);
        assert_eq!(retries.get(), 0);
    });
}
