#![allow(clippy::print_stdout)]

//! A policy in front of an axum service: match, rewrite, fault, CORS, timeout and limits, without a line in the handlers.
//!
//! ```text
//! cargo run --example axum_middleware              # starts the service, asks it, checks the answers
//! cargo run --example axum_middleware -- --serve   # stays on 127.0.0.1:3000 for you to ask
//! ```

use axum::Router;
use axum::extract::{Extension, Request};
use axum::http::StatusCode;
use axum::routing::get;
use http_body_util::{BodyExt, Empty};
use hyper::body::Bytes;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use pointsman::exchange::Summary;
use pointsman::mesh::{Mesh, Protocol, Service, Viewpoint};
use pointsman::policy::Policy;
use pointsman::{Engine, Resources};
use std::error::Error;
use std::process::ExitCode;
use std::time::Duration;
use tower::Layer;

/// What the mesh would do in front of `orders`, here done by the service itself.
const POLICY: &str = "
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: orders, namespace: default}
spec:
  hosts: [orders]
  http:
  - name: old-paths
    match: [{uri: {prefix: /v1/}}]
    rewrite: {uri: /v2/}
    route: [{destination: {host: orders}}]
  - name: moved
    match: [{uri: {exact: /shop}}]
    redirect: {uri: /v2/orders}
  - name: chaos
    match: [{headers: {x-chaos: {exact: 'yes'}}}]
    fault: {abort: {httpStatus: 503, percentage: {value: 100}}}
    route: [{destination: {host: orders}}]
  - name: everything
    timeout: 200ms
    corsPolicy: {allowOrigins: [{exact: 'https://shop.example'}], allowMethods: [GET]}
    headers: {response: {set: {x-served-by: '%ROUTE_NAME%'}}}
    route: [{destination: {host: orders}}]
";

async fn orders(Extension(decided): Extension<Summary>, request: Request) -> String {
    format!("orders at {}, by route {}", request.uri().path(), decided.route)
}

async fn slow() -> &'static str {
    tokio::time::sleep(Duration::from_secs(10)).await;
    "you will not see this"
}

fn app() -> Result<Router, Box<dyn Error>> {
    let mesh =
        Mesh::new([Service::new("orders.default.svc.cluster.local", "default").with_port(80, "http", Protocol::Http)]);
    let resources = Resources::from_yaml(POLICY)?;
    let compiled = Policy::compile(&resources, &mesh, &Viewpoint::namespace("default"));
    let engine = Engine::new(compiled.policy);
    let routes = Router::new().route("/v2/orders", get(orders)).route("/v2/slow", get(slow));
    // Around the whole router, so that a rewrite happens before axum looks for a route. `Router::layer` does as well where
    // nothing is rewritten.
    let layer = engine.layer().with_host("orders").with_port(80);
    Ok(Router::new().fallback_service(layer.layer(routes)))
}

#[tokio::main]
async fn main() -> Result<ExitCode, Box<dyn Error>> {
    let stay = std::env::args().any(|argument| argument == "--serve");
    let listener = tokio::net::TcpListener::bind(if stay { "127.0.0.1:3000" } else { "127.0.0.1:0" }).await?;
    let address = listener.local_addr()?;
    let app = app()?;
    if stay {
        println!("try: curl -i http://{address}/v1/orders");
        axum::serve(listener, app).await?;
        return Ok(ExitCode::SUCCESS);
    }
    tokio::spawn(async move { axum::serve(listener, app).await });

    let client = Client::builder(TokioExecutor::new()).build_http();
    let mut wrong = 0;
    for (path, header, status, said) in [
        ("/v2/orders", None, 200, "orders at /v2/orders, by route everything"),
        ("/v1/orders", None, 200, "orders at /v2/orders, by route old-paths"),
        ("/shop", None, 301, ""),
        ("/v2/orders", Some(("x-chaos", "yes")), 503, "fault filter abort"),
        ("/v2/slow", None, 504, "upstream request timeout"),
        ("/v2/unknown", None, 404, ""),
    ] {
        let (seen, body) = ask(&client, &format!("http://{address}{path}"), header).await?;
        let holds = (seen.as_u16(), body.as_str()) == (status, said);
        println!("{} GET {path:<12} {seen} {body}", if holds { "✓" } else { "✗" });
        wrong += usize::from(!holds);
    }
    Ok(if wrong == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

async fn ask(
    client: &Client<HttpConnector, Empty<Bytes>>,
    uri: &str,
    header: Option<(&str, &str)>,
) -> Result<(StatusCode, String), Box<dyn Error>> {
    let mut request = hyper::Request::get(uri);
    if let Some((name, value)) = header {
        request = request.header(name, value);
    }
    let response = client.request(request.body(Empty::new())?).await?;
    let status = response.status();
    let body = response.into_body().collect().await?.to_bytes();
    Ok((status, String::from_utf8_lossy(&body).into_owned()))
}
