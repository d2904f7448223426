//! The layer in front of a handler: what applies, what the handler sees, and what is none of its business.

use super::bed::{self, Frames, ROUTE};
use http::{HeaderMap, Request, Response, StatusCode};
use http_body_util::BodyExt;
use pointsman::exchange::Summary;
use pointsman::tower::RequestBody;
use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tower::{Layer, Service, ServiceExt};

type Seen = Request<RequestBody<Frames>>;

/// Answers with what it saw.
async fn echo(request: Seen) -> Result<Response<Frames>, Infallible> {
    let summary = request.extensions().get::<Summary>().cloned();
    let mut response = Response::new(Frames::data(format!("{} {}", request.method(), request.uri())));
    let headers = response.headers_mut();
    headers.insert("x-saw-host", request.headers().get("host").cloned().unwrap_or("-".parse().unwrap()));
    headers.insert("x-saw-added", request.headers().get("x-added").cloned().unwrap_or("-".parse().unwrap()));
    if let Some(summary) = summary {
        headers.insert("x-route", summary.route.parse().unwrap());
        headers.insert("x-cluster", summary.cluster.parse().unwrap());
    }
    Ok(response)
}

fn get(path: &str) -> Request<Frames> {
    Request::get(path).header("host", "reviews").body(Frames::empty()).unwrap()
}

async fn ask(rule: &str, traffic: &str, request: Request<Frames>) -> (StatusCode, HeaderMap, String) {
    let engine = bed::engine(rule, traffic);
    let service = engine.layer().with_seed(3).layer(tower::service_fn(echo));
    let response = service.oneshot(request).await.unwrap();
    let (parts, body) = response.into_parts();
    let body = body.collect().await.unwrap().to_bytes();
    assert_eq!(bed::under_way(&engine), 0);
    (parts.status, parts.headers, String::from_utf8_lossy(&body).into_owned())
}

#[tokio::test(start_paused = true)]
async fn the_handler_sees_what_the_policy_makes_of_a_request() {
    let rule = format!(
        "name: main, match: [{{uri: {{prefix: /old}}}}], rewrite: {{uri: /new}}, headers: {{request: {{add: {{x-added: 'yes'}}}}, response: {{set: {{x-set: 'on'}}}}}}, {ROUTE}"
    );
    let (status, headers, body) = ask(&rule, "{}", get("/old/page?q=1")).await;
    assert_eq!((status, body.as_str()), (StatusCode::OK, "GET /new/page?q=1"));
    assert_eq!(headers["x-saw-host"], "reviews");
    assert_eq!(headers["x-saw-added"], "yes");
    assert_eq!(headers["x-set"], "on");
    assert_eq!(headers["x-route"], "main");
    assert_eq!(headers["x-cluster"], "outbound|80||reviews.default.svc.cluster.local");
    let (status, _, body) = ask(&rule, "{}", get("/other")).await;
    assert_eq!((status, body.as_str()), (StatusCode::NOT_FOUND, ""));
}

#[tokio::test(start_paused = true)]
async fn what_needs_no_handler_does_not_ask_it() {
    let (status, headers, _) = ask("redirect: {uri: /there, redirectCode: 308}", "{}", get("/here")).await;
    assert_eq!(
        (status, &headers["location"]),
        (StatusCode::PERMANENT_REDIRECT, &"http://reviews/there".parse().unwrap())
    );
    let direct = "directResponse: {status: 418, body: {string: short and stout}}";
    let (status, _, body) = ask(direct, "{}", get("/")).await;
    assert_eq!((status.as_u16(), body.as_str()), (418, "short and stout"));
    let abort = format!("fault: {{abort: {{httpStatus: 555, percentage: {{value: 100}}}}}}, {ROUTE}");
    let (status, _, body) = ask(&abort, "{}", get("/")).await;
    assert_eq!((status.as_u16(), body.as_str()), (555, "fault filter abort"));
    let cors = format!("corsPolicy: {{allowOrigins: [{{exact: 'https://shop.test'}}], allowMethods: [PUT]}}, {ROUTE}");
    let preflight = Request::options("/")
        .header("host", "reviews")
        .header("origin", "https://shop.test")
        .header("access-control-request-method", "PUT");
    let (status, headers, _) = ask(&cors, "{}", preflight.body(Frames::empty()).unwrap()).await;
    assert_eq!((status, &headers["access-control-allow-methods"]), (StatusCode::OK, &"PUT".parse().unwrap()));
}

#[tokio::test(start_paused = true)]
async fn a_handler_that_is_too_slow_is_dropped() {
    struct Gone(Arc<AtomicUsize>);
    impl Drop for Gone {
        fn drop(&mut self) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }
    let engine = bed::engine(&format!("timeout: 2s, {ROUTE}"), "{}");
    let dropped = Arc::new(AtomicUsize::new(0));
    let held = Arc::clone(&dropped);
    let service = engine.layer().layer(tower::service_fn(move |_: Seen| {
        let gone = Gone(Arc::clone(&held));
        async move {
            let _gone = gone;
            std::future::pending::<Result<Response<Frames>, Infallible>>().await
        }
    }));
    let began = tokio::time::Instant::now();
    let response = service.oneshot(get("/")).await.unwrap();
    assert_eq!(response.status(), StatusCode::GATEWAY_TIMEOUT);
    assert_eq!(began.elapsed(), Duration::from_secs(2));
    assert_eq!(dropped.load(Ordering::SeqCst), 1);
    assert_eq!(response.extensions().get::<Summary>().unwrap().flags.to_string(), "UT");
}

#[tokio::test(start_paused = true)]
async fn what_is_over_a_limit_is_refused_before_the_handler() {
    let engine = bed::engine(ROUTE, "{connectionPool: {tcp: {maxConnections: 2}, http: {http1MaxPendingRequests: 1}}}");
    let service = engine.layer().layer(tower::service_fn(|_: Seen| async {
        tokio::time::sleep(Duration::from_secs(1)).await;
        Ok::<_, Infallible>(Response::new(Frames::empty()))
    }));
    let tasks: Vec<_> = (0..5).map(|_| tokio::spawn(service.clone().oneshot(get("/")))).collect();
    let mut statuses = Vec::new();
    for task in tasks {
        statuses.push(task.await.unwrap().unwrap().status().as_u16());
    }
    statuses.sort_unstable();
    assert_eq!(statuses, [200, 200, 200, 503, 503]);
}

#[tokio::test(start_paused = true)]
async fn a_host_that_the_policy_does_not_have_is_the_handler_s_own_affair() {
    let engine = bed::engine("redirect: {uri: /there}", "{}");
    let service = engine.layer().layer(tower::service_fn(echo));
    let foreign = Request::get("/page").header("host", "localhost:3000").body(Frames::empty()).unwrap();
    let response = service.oneshot(foreign).await.unwrap();
    assert_eq!(response.status(), StatusCode::OK);
    assert_eq!(response.headers()["x-saw-host"], "localhost:3000");
    assert!(response.headers().get("x-route").is_none());

    // Unless the layer is told which host it stands for.
    let service = engine.layer().with_host("reviews").with_port(80).layer(tower::service_fn(echo));
    let foreign = Request::get("/page").header("host", "localhost:3000").body(Frames::empty()).unwrap();
    let response = service.oneshot(foreign).await.unwrap();
    assert_eq!(response.status(), StatusCode::MOVED_PERMANENTLY);
    assert_eq!(response.headers()["location"], "http://localhost:3000/there");
}

#[tokio::test(start_paused = true)]
async fn the_handler_s_errors_stay_its_own() {
    #[derive(Debug, PartialEq, Eq)]
    struct Own(u8);
    let engine = bed::engine(ROUTE, "{}");
    let mut service = engine.layer().layer(tower::service_fn(|_: Seen| async { Err::<Response<Frames>, _>(Own(9)) }));
    assert_eq!(service.ready().await.unwrap().call(get("/")).await.err(), Some(Own(9)));
    assert_eq!(bed::under_way(&engine), 0);
}
