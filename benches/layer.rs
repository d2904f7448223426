//! What the layers add to a request: around an inner service that answers at once, with nothing but memory between.

use bytes::Bytes;
use criterion::{Criterion, criterion_group, criterion_main};
use http::{Request, Response};
use http_body::Body;
use http_body_util::Empty;
use pointsman::mesh::{Endpoint, Mesh, Protocol, Service as MeshService, Viewpoint};
use pointsman::policy::Policy;
use pointsman::{Engine, Resources};
use std::convert::Infallible;
use std::hint::black_box;
use std::pin::pin;
use tokio::runtime::Runtime;
use tower::{Layer, Service, ServiceExt};

const POLICY: &str = "
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: a, namespace: default}
spec:
  hosts: [a]
  http:
  - match: [{uri: {prefix: /api/}}]
    timeout: 5s
    retries: {attempts: 2, retryOn: '5xx,reset'}
    route: [{destination: {host: a}}]
  - route: [{destination: {host: a}}]
";

fn engine() -> Engine {
    let resources = Resources::from_yaml(POLICY).expect("the policy reads");
    let mut service = MeshService::new("a.default.svc.cluster.local", "default").with_port(80, "http", Protocol::Http);
    for number in 1..=10 {
        service = service.with_endpoint(Endpoint::new(format!("10.0.0.{number}"), 80));
    }
    Engine::new(Policy::compile(&resources, &Mesh::new([service]), &Viewpoint::namespace("default")).policy)
}

fn request(path: &str) -> Request<Empty<Bytes>> {
    Request::get(format!("http://a{path}")).header("user-agent", "bench").body(Empty::new()).expect("a request")
}

async fn at_once<B>(request: Request<B>) -> Result<Response<Empty<Bytes>>, Infallible> {
    black_box(request);
    Ok(Response::new(Empty::new()))
}

/// Asks, and reads the answer to its end.
async fn round<S, R>(service: &mut S, request: Request<Empty<Bytes>>)
where
    S: Service<Request<Empty<Bytes>>, Response = Response<R>, Error: std::fmt::Debug>,
    R: Body,
{
    let response = service.ready().await.expect("ready").call(request).await.expect("an answer");
    let mut body = pin!(response.into_body());
    while !body.is_end_stream() {
        std::future::poll_fn(|cx| body.as_mut().poll_frame(cx)).await;
    }
}

fn layers(criterion: &mut Criterion) {
    let runtime: Runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime");
    let _entered = runtime.enter();
    let mut group = criterion.benchmark_group("layer");
    let mut bare = tower::service_fn(at_once::<Empty<Bytes>>);
    group.bench_function("bare", |bencher| {
        bencher.iter(|| runtime.block_on(round(&mut bare, request("/"))));
    });
    for (name, path) in [("client", "/"), ("client_timeout_retries", "/api/x")] {
        let mut client = engine().client(tower::service_fn(at_once)).with_seed(1);
        group.bench_function(name, |bencher| {
            bencher.iter(|| runtime.block_on(round(&mut client, request(path))));
        });
    }
    for (name, path) in [("server", "/"), ("server_timeout", "/api/x")] {
        let mut server = engine().layer().with_seed(1).layer(tower::service_fn(at_once));
        group.bench_function(name, |bencher| {
            bencher.iter(|| runtime.block_on(round(&mut server, request(path))));
        });
    }
    group.finish();
}

criterion_group!(benches, layers);
criterion_main!(benches);
