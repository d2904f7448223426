//! Bodies: nothing is held back, trailers pass, and what is too large to keep is sent once.

use super::bed::{self, Frames, Inner, ROUTE, answer, post, request};
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Response};
use http_body::Frame;
use http_body_util::BodyExt;
use pointsman::Engine;
use pointsman::exchange::{Code, Summary};
use pointsman::tower::{BodyTimeout, BoxError};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tower::ServiceExt;

fn trailers() -> HeaderMap {
    HeaderMap::from_iter([(http::HeaderName::from_static("x-sum"), HeaderValue::from_static("42"))])
}

#[tokio::test(start_paused = true)]
async fn the_first_byte_is_not_held_back() {
    let engine = bed::engine(ROUTE, "{}");
    let client = engine.client(tower::service_fn(|_: Inner| async {
        Ok::<_, BoxError>(Response::new(Frames::data("first").endless()))
    }));
    let response = client.oneshot(request("/")).await.unwrap();
    let mut body = response.into_body();
    let frame = body.frame().await.unwrap().unwrap();
    assert_eq!(frame.into_data().unwrap(), "first");
    assert_eq!(bed::under_way(&engine), 1, "the stream is open");
    drop(body);
    assert_eq!(bed::under_way(&engine), 0);
}

#[tokio::test(start_paused = true)]
async fn trailers_pass_both_ways() {
    let engine = bed::engine(ROUTE, "{}");
    let client = engine.client(tower::service_fn(|request: Inner| async {
        let body = request.into_body().collect().await?;
        assert_eq!(body.trailers().and_then(|trailers| trailers.get("x-sum")).unwrap(), "42");
        Ok::<_, BoxError>(Response::new(Frames::data("x").then(Frame::trailers(trailers()))))
    }));
    let sent = post(Frames::data("x").then(Frame::trailers(trailers())).slowly());
    let response = client.oneshot(sent).await.unwrap();
    let body = response.into_body().collect().await.unwrap();
    assert_eq!(body.trailers().unwrap(), &trailers());
}

#[tokio::test(start_paused = true)]
async fn a_body_is_sent_again_as_long_as_it_is_kept() {
    let engine = bed::engine_with(
        Engine::builder().replay_limit(8),
        &format!("{ROUTE}, retries: {{attempts: 1, retryOn: 5xx}}"),
        "{}",
    );
    for (body, attempts, status) in [("12345678", 2, 200), ("123456789", 1, 503)] {
        let calls = AtomicUsize::new(0);
        let calls = std::sync::Arc::new(calls);
        let counted = std::sync::Arc::clone(&calls);
        let client = engine.client(tower::service_fn(move |request: Inner| {
            let call = counted.fetch_add(1, Ordering::SeqCst);
            async move {
                let read = request.into_body().collect().await?.to_bytes();
                assert_eq!(read, body);
                Ok::<_, BoxError>(answer(if call == 0 { 503 } else { 200 }))
            }
        }));
        let (one, two) = body.split_at(5);
        let sent = post(Frames::data(one).then(Frame::data(Bytes::from(two))).slowly());
        let response = client.oneshot(sent).await.unwrap();
        assert_eq!((response.status().as_u16(), calls.load(Ordering::SeqCst)), (status, attempts));
        let summary = response.extensions().get::<Summary>().unwrap();
        let said = (attempts == 1).then_some("the request's body is over the replay limit");
        assert_eq!(summary.retry_refused, said);
    }
}

#[tokio::test(start_paused = true)]
async fn a_copy_reads_the_same_body_and_keeps_nobody_waiting() {
    let engine = bed::engine(&format!("{ROUTE}, mirror: {{host: shadow}}"), "{}");
    let (told, mut copies) = tokio::sync::mpsc::unbounded_channel();
    let client = engine.client(tower::service_fn(move |request: Inner| {
        let told = told.clone();
        let is_copy =
            request.headers().get("host").unwrap() == "reviews-shadow" || request.uri().host() == Some("10.0.0.9");
        async move {
            let read = request.into_body().collect().await?.to_bytes();
            if is_copy {
                tokio::time::sleep(Duration::from_secs(30)).await;
                told.send(read).unwrap();
            }
            Ok::<_, BoxError>(answer(200))
        }
    }));
    let began = tokio::time::Instant::now();
    let response = client.oneshot(post(Frames::data("both").slowly())).await.unwrap();
    assert_eq!(response.status(), 200);
    assert_eq!(began.elapsed(), Duration::ZERO);
    assert_eq!(copies.recv().await.unwrap(), "both");
}

#[tokio::test(start_paused = true)]
async fn a_body_that_outlasts_the_timeout_is_broken_off() {
    let engine = bed::engine(&format!("{ROUTE}, timeout: 2s"), "{}");
    let client = engine.client(tower::service_fn(|_: Inner| async {
        Ok::<_, BoxError>(Response::new(Frames::data("first").endless()))
    }));
    let response = client.oneshot(request("/")).await.unwrap();
    let began = tokio::time::Instant::now();
    let error = response.into_body().collect().await.unwrap_err();
    assert!(error.downcast_ref::<BodyTimeout>().is_some(), "{error}");
    assert_eq!(began.elapsed(), Duration::from_secs(2));
    assert_eq!(bed::under_way(&engine), 0);
}

/// Also a body that never pauses, and nothing comes after the error.
#[tokio::test(start_paused = true)]
async fn a_flood_is_broken_off_in_time() {
    struct Flood;
    impl http_body::Body for Flood {
        type Data = Bytes;
        type Error = BoxError;

        fn poll_frame(
            self: std::pin::Pin<&mut Self>,
            _: &mut std::task::Context<'_>,
        ) -> std::task::Poll<Option<Result<Frame<Bytes>, BoxError>>> {
            std::task::Poll::Ready(Some(Ok(Frame::data(Bytes::from_static(b"more")))))
        }
    }
    let engine = bed::engine(&format!("{ROUTE}, timeout: 2s"), "{}");
    let client = engine.client(tower::service_fn(|_: Inner| async { Ok::<_, BoxError>(Response::new(Flood)) }));
    let mut body = client.oneshot(request("/")).await.unwrap().into_body();
    for _ in 0..20 {
        assert_eq!(body.frame().await.unwrap().unwrap().into_data().unwrap(), "more");
        tokio::time::advance(Duration::from_millis(100)).await;
    }
    let error = body.frame().await.unwrap().unwrap_err();
    assert!(error.downcast_ref::<BodyTimeout>().is_some(), "{error}");
    assert!(body.frame().await.is_none());
    assert_eq!(bed::under_way(&engine), 0);
}

#[tokio::test(start_paused = true)]
async fn an_upload_may_take_longer_than_the_timeout() {
    let engine = bed::engine(&format!("{ROUTE}, timeout: 2s"), "{}");
    let client = engine.client(tower::service_fn(|request: Inner| async {
        // The upload is slow because its reader is; the clock starts at its end.
        let mut body = request.into_body();
        body.frame().await.transpose()?;
        tokio::time::sleep(Duration::from_secs(3)).await;
        body.collect().await?;
        tokio::time::sleep(Duration::from_secs(1)).await;
        Ok::<_, BoxError>(answer(200))
    }));
    let response = client.oneshot(post(Frames::data("a").then(Frame::data(Bytes::from("b"))))).await.unwrap();
    assert_eq!(response.status(), 200);
    assert_eq!(response.extensions().get::<Summary>().unwrap().code, Code::Upstream);
}

/// A client that breaks off, or says what is none: the upstream that waits for the rest is not to blame, and no other one
/// is tried.
#[tokio::test(start_paused = true)]
async fn a_body_that_fails_is_the_callers_own_affair() {
    use http_body_util::StreamBody;
    let outliers = "{outlierDetection: {consecutive5xxErrors: 1, interval: 1h, maxEjectionPercent: 100}}";
    let engine = bed::engine(&format!("{ROUTE}, retries: {{attempts: 3, retryOn: 'reset,5xx'}}"), outliers);
    let calls = std::sync::Arc::new(AtomicUsize::new(0));
    let counted = std::sync::Arc::clone(&calls);
    let client =
        engine.client(tower::service_fn(move |request: http::Request<pointsman::tower::ReplayBody<StreamBody<_>>>| {
            counted.fetch_add(1, Ordering::SeqCst);
            async {
                request.into_body().collect().await?;
                Ok::<_, BoxError>(Response::new(Frames::empty()))
            }
        }));
    let broken = || {
        let frames = [Ok(Frame::data(Bytes::from_static(b"half"))), Err(std::io::Error::other("the client broke off"))];
        http::Request::post("http://reviews/").body(StreamBody::new(tokio_stream::iter(frames))).unwrap()
    };
    for round in 1..=5 {
        let error = client.clone().oneshot(broken()).await.unwrap_err();
        assert_eq!(error.source().unwrap().to_string(), "the client broke off");
        assert_eq!(calls.load(Ordering::SeqCst), round, "one attempt each");
    }
    assert_eq!(bed::under_way(&engine), 0);
    assert!(engine.endpoints().iter().all(|endpoint| endpoint.ejected.is_none()));
}
