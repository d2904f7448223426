#![allow(clippy::print_stdout)]

//! How a team tests its own policy: plain unit tests, with tokio's time paused and a fixed seed. No proxy, no cluster, no
//! sleep.
//!
//! ```text
//! cargo test --example test_your_policy
//! cargo run  --example test_your_policy     # runs the same checks
//! ```

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::Empty;
use pointsman::exchange::Summary;
use pointsman::mesh::{Endpoint, Mesh, Protocol, Service, Viewpoint};
use pointsman::policy::Policy;
use pointsman::tower::{BoxError, Client, Connector, ReplayBody};
use pointsman::{Engine, Resources};
use std::future::Future;
use std::time::Duration;
use tokio::time::Instant;
use tower::ServiceExt;

/// The policy under test; in a real team's tests `include_str!("../deploy/checkout.yaml")`.
const POLICY: &str = "
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: checkout, namespace: shop}
spec:
  hosts: [checkout]
  http:
  - name: beta
    match: [{headers: {x-group: {exact: beta}}}]
    route: [{destination: {host: checkout-next}}]
  - name: stable
    timeout: 3s
    retries: {attempts: 2, perTryTimeout: 1s, retryOn: 'gateway-error,connect-failure'}
    route: [{destination: {host: checkout}}]
";

fn engine() -> Engine {
    let service = |name: &str| {
        Service::new(format!("{name}.shop.svc.cluster.local"), "shop")
            .with_port(80, "http", Protocol::Http)
            .with_endpoint(Endpoint::new("10.0.0.1", 80))
            .with_endpoint(Endpoint::new("10.0.0.2", 80))
    };
    let resources = Resources::from_yaml(POLICY).expect("the policy reads");
    assert!(resources.problems.is_empty(), "{:?}", resources.problems);
    let mesh = Mesh::new([service("checkout"), service("checkout-next")]);
    let compiled = Policy::compile(&resources, &mesh, &Viewpoint::namespace("shop"));
    assert!(compiled.report.is_empty(), "{}", compiled.report);
    Engine::new(compiled.policy)
}

/// A client of the policy whose upstreams answer as `answer` says.
fn client<F>(answer: impl Fn() -> F + Clone + Send + 'static) -> Client<impl Connector<Empty<Bytes>>>
where
    F: Future<Output = StatusCode> + Send + 'static,
{
    let upstream = tower::service_fn(move |_: Request<ReplayBody<Empty<Bytes>>>| {
        let answer = answer();
        async move {
            let mut response = Response::new(Empty::<Bytes>::new());
            *response.status_mut() = answer.await;
            Ok::<_, BoxError>(response)
        }
    });
    engine().client(upstream).with_seed(42)
}

async fn ask(client: Client<impl Connector<Empty<Bytes>>>, group: &str) -> (StatusCode, Summary) {
    let request = Request::get("http://checkout/pay").header("x-group", group).body(Empty::new()).expect("a request");
    let response = client.oneshot(request).await.expect("an answer");
    let summary = response.extensions().get::<Summary>().cloned().expect("a summary");
    (response.status(), summary)
}

/// The beta group sees the next version, everybody else the stable one.
async fn beta_users_see_the_next_version() {
    let well = || async { StatusCode::OK };
    assert_eq!(&*ask(client(well), "beta").await.1.cluster, "outbound|80||checkout-next.shop.svc.cluster.local");
    assert_eq!(&*ask(client(well), "").await.1.cluster, "outbound|80||checkout.shop.svc.cluster.local");
}

/// A pod that hangs costs one try, not the request: and the user waits for three seconds at most.
async fn nobody_waits_for_more_than_three_seconds() {
    let hangs = client(|| async {
        tokio::time::sleep(Duration::from_secs(60)).await;
        StatusCode::OK
    });
    let began = Instant::now();
    let (status, summary) = ask(hangs, "").await;
    assert_eq!(status, StatusCode::GATEWAY_TIMEOUT);
    // `gateway-error` covers a try that ran out of time.
    assert_eq!((summary.attempts, began.elapsed()), (3, Duration::from_secs(3)));
}

/// What the application itself answers is not tried again: a payment is not made twice.
async fn a_500_of_the_application_is_not_repeated() {
    let (status, summary) = ask(client(|| async { StatusCode::INTERNAL_SERVER_ERROR }), "").await;
    assert_eq!((status, summary.attempts), (StatusCode::INTERNAL_SERVER_ERROR, 1));
}

fn main() -> Result<(), std::io::Error> {
    let paused = || tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
    paused()?.block_on(beta_users_see_the_next_version());
    paused()?.block_on(nobody_waits_for_more_than_three_seconds());
    paused()?.block_on(a_500_of_the_application_is_not_repeated());
    println!("✓ the policy holds");
    Ok(())
}

#[cfg(test)]
mod tests {
    #[tokio::test(start_paused = true)]
    async fn beta_users_see_the_next_version() {
        super::beta_users_see_the_next_version().await;
    }

    #[tokio::test(start_paused = true)]
    async fn nobody_waits_for_more_than_three_seconds() {
        super::nobody_waits_for_more_than_three_seconds().await;
    }

    #[tokio::test(start_paused = true)]
    async fn a_500_of_the_application_is_not_repeated() {
        super::a_500_of_the_application_is_not_repeated().await;
    }
}
