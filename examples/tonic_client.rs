#![allow(clippy::print_stdout)]

//! gRPC through tonic: retries by gRPC status, and a deadline, by the policy alone.
//!
//! The service is gRPC's own health check, which tonic-health has ready made.
//!
//! ```text
//! cargo run --example tonic_client
//! ```

use pointsman::mesh::{Endpoint, Mesh, Protocol, Service, Viewpoint};
use pointsman::policy::Policy;
use pointsman::tower::Pool;
use pointsman::{Engine, Resources};
use std::error::Error;
use std::net::SocketAddr;
use std::pin::Pin;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use tokio_stream::Stream;
use tonic::{Code, Request, Response, Status};
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;
use tonic_health::pb::health_server::{Health, HealthServer};
use tonic_health::pb::{HealthCheckRequest, HealthCheckResponse};

const POLICY: &str = "
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: health, namespace: default}
spec:
  hosts: [health]
  http:
  - timeout: 400ms
    retries: {attempts: 4, retryOn: 'unavailable,connect-failure'}
    route: [{destination: {host: health}}]
";

/// Is unavailable every other time, and slow when it is asked for `slow`.
#[derive(Clone, Default)]
struct Moody {
    asked: Arc<AtomicUsize>,
}

#[tonic::async_trait]
impl Health for Moody {
    async fn check(&self, request: Request<HealthCheckRequest>) -> Result<Response<HealthCheckResponse>, Status> {
        if request.get_ref().service == "slow" {
            tokio::time::sleep(Duration::from_secs(10)).await;
        }
        if self.asked.fetch_add(1, Ordering::SeqCst).is_multiple_of(2) {
            return Err(Status::unavailable("not in the mood"));
        }
        Ok(Response::new(HealthCheckResponse { status: ServingStatus::Serving.into() }))
    }

    type WatchStream = Pin<Box<dyn Stream<Item = Result<HealthCheckResponse, Status>> + Send>>;

    async fn watch(&self, _: Request<HealthCheckRequest>) -> Result<Response<Self::WatchStream>, Status> {
        Err(Status::unimplemented("nobody watches here"))
    }
}

async fn serve(moody: Moody) -> Result<SocketAddr, Box<dyn Error>> {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    let incoming = tokio_stream::wrappers::TcpListenerStream::new(listener);
    let server = tonic::transport::Server::builder().add_service(HealthServer::new(moody));
    tokio::spawn(server.serve_with_incoming(incoming));
    Ok(address)
}

#[tokio::main]
async fn main() -> Result<ExitCode, Box<dyn Error>> {
    let moody = Moody::default();
    let address = serve(moody.clone()).await?;
    let health = Service::new("health.default.svc.cluster.local", "default")
        .with_port(50051, "grpc", Protocol::Grpc)
        .with_endpoint(Endpoint::new(address.ip().to_string(), address.port()));
    let compiled =
        Policy::compile(&Resources::from_yaml(POLICY)?, &Mesh::new([health]), &Viewpoint::namespace("default"));
    let engine = Engine::new(compiled.policy);

    // Where a tonic client would have a `Channel`, it has the engine's client.
    let origin = "http://health:50051".parse()?;
    let mut client = HealthClient::with_origin(engine.client(Pool::new()), origin);

    let mut served = 0;
    for _ in 0..20 {
        let answer = client.check(HealthCheckRequest { service: String::new() }).await?;
        served += usize::from(answer.get_ref().status == i32::from(ServingStatus::Serving));
    }
    let asked = moody.asked.load(Ordering::SeqCst);
    println!("20 calls, {served} served; the server was asked {asked} times, every other time in vain");

    let began = Instant::now();
    let late = client.check(HealthCheckRequest { service: "slow".into() }).await;
    let code = late.as_ref().err().map(Status::code);
    println!("a slow call ends after {:.0?} with {code:?}", began.elapsed());

    let deadline = matches!(code, Some(Code::Unavailable | Code::DeadlineExceeded));
    let holds = served == 20 && asked == 40 && deadline && began.elapsed() < Duration::from_secs(2);
    println!("{}", if holds { "✓ as promised" } else { "✗ not as promised" });
    Ok(if holds { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
