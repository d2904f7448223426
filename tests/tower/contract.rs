//! tower's contract: ready before call, independent clones, backpressure, errors that keep their source.

use super::bed::{self, Answer, Frames, Inner, ROUTE, answer, request};
use http::Response;
use http_body_util::BodyExt;
use pointsman::exchange::{Code, Failure, Summary};
use pointsman::tower::{AttemptError, BoxError};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};
use tower::{Service, ServiceExt};

/// Must be polled ready, the same instance, before each call; its clones are not ready.
#[derive(Default)]
struct Strict {
    ready: bool,
    calls: Arc<AtomicUsize>,
}

impl Clone for Strict {
    fn clone(&self) -> Self {
        Strict { ready: false, calls: Arc::clone(&self.calls) }
    }
}

impl Service<Inner> for Strict {
    type Response = Response<Frames>;
    type Error = BoxError;
    type Future = Answer;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.ready = true;
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Inner) -> Answer {
        assert!(std::mem::take(&mut self.ready), "called without having been ready");
        let call = self.calls.fetch_add(1, Ordering::SeqCst);
        // Every third call is answered well.
        Box::pin(async move { Ok(answer(if call % 3 == 2 { 200 } else { 503 })) })
    }
}

#[tokio::test(start_paused = true)]
async fn every_instance_is_ready_before_it_is_called() {
    let engine = bed::engine(
        &format!(
            "{ROUTE}, retries: {{attempts: 2, retryOn: 5xx}}, mirror: {{host: shadow}}, mirrorPercentage: {{value: 0}}"
        ),
        "{}",
    );
    let strict = Strict::default();
    let calls = Arc::clone(&strict.calls);
    let mut client = engine.client(strict);
    for _ in 0..5 {
        let response = client.ready().await.unwrap().call(request("/")).await.unwrap();
        assert_eq!(response.status(), 200);
        assert_eq!(response.extensions().get::<Summary>().unwrap().attempts, 3);
    }
    assert_eq!(calls.load(Ordering::SeqCst), 15);
}

#[tokio::test(start_paused = true)]
async fn clones_are_independent() {
    let engine = bed::engine(ROUTE, "{}");
    let client = engine.client(Strict { calls: Arc::new(AtomicUsize::new(2)), ..Strict::default() });
    let both = [client.clone(), client].map(|one| tokio::spawn(one.oneshot(request("/"))));
    for one in both {
        assert!(one.await.unwrap().is_ok());
    }
}

/// Ready only while a gate is open.
#[derive(Clone, Default)]
struct Gated {
    gate: Arc<Mutex<(bool, Option<Waker>)>>,
}

impl Service<Inner> for Gated {
    type Response = Response<Frames>;
    type Error = BoxError;
    type Future = Answer;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        let mut gate = self.gate.lock().unwrap();
        if gate.0 {
            return Poll::Ready(Ok(()));
        }
        gate.1 = Some(cx.waker().clone());
        Poll::Pending
    }

    fn call(&mut self, _: Inner) -> Answer {
        Box::pin(async { Ok(answer(200)) })
    }
}

#[tokio::test(start_paused = true)]
async fn backpressure_reaches_the_caller() {
    let engine = bed::engine(ROUTE, "{}");
    let gated = Gated::default();
    let gate = Arc::clone(&gated.gate);
    let mut client = engine.client(gated);
    let mut waiting = tokio_test(client.ready());
    assert!(waiting.is_pending(), "the caller waits");
    {
        let mut gate = gate.lock().unwrap();
        gate.0 = true;
        gate.1.take().unwrap().wake();
    }
    assert!(waiting.is_woken(), "and is woken");
    assert!(client.ready().await.is_ok());
}

/// A future polled once by hand.
struct Polled {
    pending: bool,
    woken: Arc<AtomicUsize>,
}

fn tokio_test<T>(future: impl Future<Output = T>) -> Polled {
    struct Flag(Arc<AtomicUsize>);
    impl std::task::Wake for Flag {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }
    let woken = Arc::new(AtomicUsize::new(0));
    let waker = Waker::from(Arc::new(Flag(Arc::clone(&woken))));
    let pending = std::pin::pin!(future).as_mut().poll(&mut Context::from_waker(&waker)).is_pending();
    Polled { pending, woken }
}

impl Polled {
    fn is_pending(&mut self) -> bool {
        self.pending
    }

    fn is_woken(&self) -> bool {
        self.woken.load(Ordering::SeqCst) > 0
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the wire is cut at {0}")]
struct Cut(u32);

/// Not ready, or ready and then failing.
#[derive(Clone)]
struct Broken {
    at_once: bool,
}

impl Service<Inner> for Broken {
    type Response = Response<Frames>;
    type Error = Cut;
    type Future = std::future::Ready<Result<Response<Frames>, Cut>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Cut>> {
        Poll::Ready(if self.at_once { Err(Cut(1)) } else { Ok(()) })
    }

    fn call(&mut self, _: Inner) -> Self::Future {
        std::future::ready(Err(Cut(2)))
    }
}

#[tokio::test(start_paused = true)]
async fn errors_keep_their_source() {
    let engine = bed::engine(&format!("{ROUTE}, retries: {{attempts: 0}}"), "{}");
    let mut client = engine.client(Broken { at_once: true });
    let error = client.ready().await.err().unwrap();
    assert_eq!(error.downcast_ref::<Cut>(), Some(&Cut(1)));

    let response = engine.client(Broken { at_once: false }).oneshot(request("/")).await.unwrap();
    assert_eq!(response.status(), 503);
    let summary = response.extensions().get::<Summary>().unwrap();
    assert_eq!((summary.code, summary.flags.to_string().as_str()), (Code::UpstreamReset, "UC"));
    let error = response.extensions().get::<AttemptError>().unwrap();
    assert_eq!(error.get().downcast_ref::<Cut>(), Some(&Cut(2)));
    assert_eq!((error.failure(), error.is_connect()), (Failure::Reset, false));
    assert_eq!(error.to_string(), "the last attempt failed: connection termination");
    assert_eq!(std::error::Error::source(error).unwrap().to_string(), "the wire is cut at 2");
    let body = response.into_body().collect().await.unwrap().to_bytes();
    assert!(body.starts_with(b"upstream connect error or disconnect/reset before headers"), "{body:?}");
}

/// Around it nothing fails: what was an error is an answer.
#[tokio::test(start_paused = true)]
async fn a_client_may_always_answer() {
    let engine = bed::engine(&format!("{ROUTE}, retries: {{attempts: 0}}"), "{}");
    for at_once in [true, false] {
        let response: Result<_, std::convert::Infallible> =
            engine.client(Broken { at_once }).infallible().oneshot(request("/")).await;
        let Ok(response) = response;
        assert_eq!(response.status(), 503);
        let error = response.extensions().get::<AttemptError>().unwrap();
        assert_eq!(error.get().downcast_ref::<Cut>(), Some(&Cut(if at_once { 1 } else { 2 })));
        assert_eq!(bed::under_way(&engine), 0);
    }
    let fine = tower::service_fn(|_: Inner| async { Ok::<_, BoxError>(answer(200)) });
    assert_eq!(engine.client(fine).infallible().oneshot(request("/")).await.unwrap().status(), 200);
}

/// Chance may be the user's own: here each side of a split in turn.
#[tokio::test(start_paused = true)]
async fn draws_are_replaceable() {
    let rule = "route: [{destination: {host: reviews}, weight: 90}, {destination: {host: shadow}, weight: 10}]";
    let engine = bed::engine(rule, "{}");
    let upstream = || tower::service_fn(|_: Inner| async { Ok::<_, BoxError>(answer(200)) });
    for (draw, host) in [(0, "reviews"), (89, "reviews"), (90, "shadow"), (99, "shadow")] {
        let client = engine.client(upstream()).with_draws(move || move || draw);
        let response = client.oneshot(request("/")).await.unwrap();
        let cluster = &response.extensions().get::<Summary>().unwrap().cluster;
        assert_eq!(&**cluster, format!("outbound|80||{host}.default.svc.cluster.local"), "{draw}");
    }
}
