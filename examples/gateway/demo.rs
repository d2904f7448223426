//! The gateway without arguments: two pods, a policy, requests over real sockets, and what they leave behind.

use super::log::Log;
use super::serve::{self, Config, Listen};
use super::{Fallible, admin};
use bytes::Bytes;
use http::{Request, StatusCode};
use http_body_util::{BodyExt, Empty, Full};
use hyper_util::client::legacy::Client;
use hyper_util::rt::{TokioExecutor, TokioIo};
use pointsman::mesh::{Endpoint, Mesh, Protocol, Service, Viewpoint};
use pointsman::policy::Policy;
use pointsman::{Engine, Resources};
use std::convert::Infallible;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;

const POLICY: &str = "
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: reviews, namespace: default}
spec:
  hosts: [reviews]
  http:
  - name: testers
    match: [{headers: {x-tester: {exact: 'yes'}}}]
    route: [{destination: {host: reviews, subset: v2}}]
  - name: moved
    match: [{uri: {prefix: /old}}]
    redirect: {uri: /new}
  - name: everybody
    route: [{destination: {host: reviews, subset: v1}}]
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: reviews, namespace: default}
spec:
  host: reviews
  subsets: [{name: v1, labels: {version: v1}}, {name: v2, labels: {version: v2}}]
";

/// A pod that answers with its version.
async fn pod(version: &'static str) -> Fallible<SocketAddr> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
    let address = listener.local_addr()?;
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let service = hyper::service::service_fn(move |_| async move {
                Ok::<_, Infallible>(http::Response::new(Full::new(Bytes::from_static(version.as_bytes()))))
            });
            tokio::spawn(hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service));
        }
    });
    Ok(address)
}

/// True: all went as it should.
pub fn play() -> bool {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let outcome = runtime.map_err(Into::into).and_then(|runtime| runtime.block_on(story()));
    outcome.unwrap_or_else(|error| {
        eprintln!("gateway: {error}");
        false
    })
}

async fn story() -> Fallible<bool> {
    let mut reviews =
        Service::new("reviews.default.svc.cluster.local", "default").with_port(80, "http", Protocol::Http);
    for version in ["v1", "v2"] {
        let address = pod(version).await?;
        let endpoint = Endpoint::new(address.ip().to_string(), address.port()).with_labels([("version", version)]);
        reviews = reviews.with_endpoint(endpoint);
    }
    let resources = Resources::from_yaml(POLICY)?;
    let compiled = Policy::compile(&resources, &Mesh::new([reviews]), &Viewpoint::namespace("default"));
    let state = Arc::new(admin::State::default());
    let engine = admin::observe(Engine::builder(), &state).build(compiled.policy);
    let local = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    let listen = vec![Listen { address: local, port: 80, tcp: false }];
    let config = Config { listen, log: Log::Lines, drain: Duration::from_secs(5) };
    let running = serve::start(engine.clone(), config).await?;
    let (_, address) = running.addresses()[0].clone();
    let admin = admin::start(local, engine, state, running.draining()).await?;

    let client = Client::builder(TokioExecutor::new()).build_http();
    let mut holds = true;
    for (path, tester, status, body) in [
        ("/", false, StatusCode::OK, "v1"),
        ("/", true, StatusCode::OK, "v2"),
        ("/old/page", false, StatusCode::MOVED_PERMANENTLY, ""),
    ] {
        let mut request = Request::get(format!("http://{address}{path}")).header("host", "reviews");
        if tester {
            request = request.header("x-tester", "yes");
        }
        let response = client.request(request.body(Empty::<Bytes>::new())?).await?;
        let seen = response.status();
        let said = response.into_body().collect().await?.to_bytes();
        holds &= seen == status && said == body;
    }
    let why = client.get(format!("http://{admin}/explain?url=http://reviews/old").parse()?).await?;
    let why = why.into_body().collect().await?.to_bytes();
    println!("\n{}", String::from_utf8_lossy(&why));
    holds &= why.windows(12).any(|piece| piece == b"redirect 301");
    running.stop().await;
    println!("{}", if holds { "✓ as promised" } else { "✗ not as promised" });
    Ok(holds)
}
