//! A request may be dropped at any await point: walked one after the other, each time nothing may be left behind.

use super::bed::{self, Frames, Inner, ROUTE, answer, is_idle};
use bytes::Bytes;
use http::Request;
use http_body::Frame;
use http_body_util::BodyExt;
use pointsman::Engine;
use pointsman::tower::{BoxError, RequestBody};
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::Poll;
use std::time::Duration;
use tower::{Layer, Service, ServiceExt};

/// Attempts that are under way at upstreams.
#[derive(Clone, Default)]
struct Gauge(Arc<AtomicUsize>);

struct Held(Gauge);

impl Gauge {
    fn hold(&self) -> Held {
        self.0.fetch_add(1, Ordering::SeqCst);
        Held(self.clone())
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.0.0.fetch_sub(1, Ordering::SeqCst);
    }
}

/// Reads the whole request, then takes its time; the first two attempts fail.
fn upstream(
    gauge: Gauge,
) -> impl Service<Inner, Response = http::Response<Frames>, Error = BoxError, Future: Send + 'static> + Clone + Send {
    let calls = Arc::new(AtomicUsize::new(0));
    tower::service_fn(move |request: Inner| {
        let held = gauge.hold();
        let call = calls.fetch_add(1, Ordering::SeqCst);
        async move {
            let _held = held;
            request.into_body().collect().await?;
            tokio::time::sleep(Duration::from_millis(10)).await;
            match call % 3 {
                0 => Err("cut".into()),
                1 => Ok(answer(503)),
                _ => Ok(answer(200).map(|_| Frames::data("one").then(Frame::data(Bytes::from("two"))).slowly())),
            }
        }
    })
}

fn slow_post() -> Request<Frames> {
    bed::post(Frames::data("a").then(Frame::data(Bytes::from("b"))).slowly())
}

/// Polls the future so many times at most. None: it was dropped before its end.
async fn at_most<T>(polls: usize, future: impl Future<Output = T>) -> Option<T> {
    let mut future = pin!(future);
    let mut left = polls;
    poll_fn(|cx| {
        if left == 0 {
            return Poll::Ready(None);
        }
        left -= 1;
        future.as_mut().poll(cx).map(Some)
    })
    .await
}

async fn walk(engine: &Engine, rule: &str) {
    let gauge = Gauge::default();
    let mut dropped = 0;
    for polls in 0.. {
        let client = engine.client(upstream(gauge.clone())).with_seed(7);
        let whole = async {
            let response = client.oneshot(slow_post()).await.unwrap();
            let status = response.status();
            response.into_body().collect().await.unwrap();
            status
        };
        let done = at_most(polls, whole).await;
        // Copies are on tasks of their own: they end by themselves.
        tokio::time::sleep(Duration::from_secs(60)).await;
        assert!(is_idle(engine), "{rule}: after {polls} polls something is under way");
        assert_eq!(gauge.0.load(Ordering::SeqCst), 0, "{rule}: after {polls} polls an upstream is still asked");
        match done {
            Some(status) => {
                assert_eq!(status, 200, "{rule}");
                break;
            }
            None => dropped += 1,
        }
    }
    assert!(dropped >= 5, "{rule}: only {dropped} await points were walked");
}

#[tokio::test(start_paused = true)]
async fn a_request_dropped_anywhere_leaves_nothing_behind() {
    let limits = "{connectionPool: {tcp: {maxConnections: 1}, http: {http1MaxPendingRequests: 1, http2MaxRequests: 2, maxRetries: 1}}}";
    for rule in [
        format!("{ROUTE}, retries: {{attempts: 2, retryOn: '5xx,reset'}}"),
        format!("{ROUTE}, timeout: 5s, retries: {{attempts: 2, perTryTimeout: 1s, retryOn: '5xx,reset'}}"),
        format!(
            "{ROUTE}, fault: {{delay: {{fixedDelay: 2s, percentage: {{value: 100}}}}}}, retries: {{attempts: 2, retryOn: '5xx,reset'}}"
        ),
        format!("{ROUTE}, mirror: {{host: reviews}}, timeout: 5s, retries: {{attempts: 3, retryOn: '5xx,reset'}}"),
    ] {
        let engine = bed::engine(&rule, limits);
        walk(&engine, &rule).await;
    }
}

/// The same in front of a handler: what is dropped before its end gives its place back, and the handler is dropped with it.
#[tokio::test(start_paused = true)]
async fn a_request_for_a_handler_dropped_anywhere_leaves_nothing_behind() {
    let limits =
        "{connectionPool: {tcp: {maxConnections: 1}, http: {http1MaxPendingRequests: 1, http2MaxRequests: 1}}}";
    let delay = "fault: {delay: {fixedDelay: 2s, percentage: {value: 100}}}";
    let engine = bed::engine(&format!("{ROUTE}, timeout: 5s, {delay}"), limits);
    let gauge = Gauge::default();
    let mut dropped = 0;
    for polls in 0.. {
        let held = gauge.clone();
        let handler = tower::service_fn(move |request: Request<RequestBody<Frames>>| {
            let held = held.hold();
            async move {
                let _held = held;
                request.into_body().collect().await?;
                tokio::time::sleep(Duration::from_millis(10)).await;
                let body = Frames::data("one").then(Frame::data(Bytes::from("two"))).slowly();
                Ok::<_, BoxError>(answer(200).map(|_| body))
            }
        });
        let whole = async {
            let response = engine.layer().with_seed(7).layer(handler).oneshot(slow_post()).await.unwrap();
            assert_eq!(response.status(), 200);
            response.into_body().collect().await.unwrap();
        };
        let done = at_most(polls, whole).await;
        assert!(is_idle(&engine), "after {polls} polls something is under way");
        assert_eq!(gauge.0.load(Ordering::SeqCst), 0, "after {polls} polls the handler is still there");
        if done.is_some() {
            break;
        }
        dropped += 1;
    }
    assert!(dropped >= 5, "only {dropped} await points were walked");
}

/// One that waits for a connection gives its place up when it is dropped.
#[tokio::test(start_paused = true)]
async fn a_request_dropped_in_the_queue_makes_room() {
    let engine = bed::engine(
        &format!("{ROUTE}, retries: {{attempts: 0}}"),
        "{connectionPool: {tcp: {maxConnections: 1}, http: {http1MaxPendingRequests: 1}}}",
    );
    let slow = tower::service_fn(|_: Inner| async {
        tokio::time::sleep(Duration::from_millis(100)).await;
        Ok::<_, BoxError>(answer(200))
    });
    let client = engine.client(slow).with_seed(1);
    // Each of the two endpoints gets one connection at once; the third request waits.
    let first = tokio::spawn(client.clone().oneshot(bed::request("/")));
    let second = tokio::spawn(client.clone().oneshot(bed::request("/")));
    tokio::task::yield_now().await;
    let waiting = tokio::spawn(client.clone().oneshot(bed::request("/")));
    tokio::task::yield_now().await;
    waiting.abort();
    assert!(waiting.await.unwrap_err().is_cancelled());
    let another = tokio::spawn(client.oneshot(bed::request("/")));
    for task in [first, second, another] {
        let response = task.await.unwrap().unwrap();
        assert_eq!(response.status(), 200);
        drop(response);
    }
    assert!(is_idle(&engine));
}
