//! What a pick costs, for each balancer and 10 or 1,000 endpoints; what making a table costs; and the same work done by
//! tower's balancer and by pingora's ring, in the same run.
//!
//! `pick` is the whole of what a request pays: from the destination's state to an endpoint in hand. `ring` is the bare
//! look-up of a key, its hash included, on rings of equally many places.

use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use pingora_ketama::{Bucket, Continuum};
use pointsman::Resources;
use pointsman::balance::{Algorithm, Cursors, Host, Maglev, Pick, Ring, Settings, Table};
use pointsman::mesh::{Endpoint, Mesh, Protocol, Service, Viewpoint};
use pointsman::outlier::Outcome;
use pointsman::policy::Policy;
use pointsman::time::Timestamp;
use pointsman::upstream::{Upstream, Upstreams};
use std::convert::Infallible;
use std::future::{Ready, ready};
use std::hint::black_box;
use std::net::SocketAddr;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;
use tower::Service as _;
use tower::balance::p2c::Balance;
use tower::discover::ServiceList;
use tower::load::Load;
use twox_hash::XxHash64;

const SIZES: [usize; 2] = [10, 1_000];

fn address(index: usize) -> String {
    format!("10.0.{}.{}", index / 250, index % 250 + 1)
}

/// The state of a destination of so many endpoints. `weighted`: of weights 1, 2, 3, 1, 2, 3, ….
fn upstream(traffic_policy: &str, endpoints: usize, weighted: bool) -> Arc<Upstream> {
    let rule = format!(
        "apiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: {{name: a, namespace: default}}\n\
         spec: {{host: a, trafficPolicy: {{{traffic_policy}}}}}\n"
    );
    let resources = Resources::from_yaml(&rule).expect("the rule reads");
    let service = Service::new("a.default.svc.cluster.local", "default").with_port(80, "http", Protocol::Http);
    let service = (0..endpoints).fold(service, |service, index| {
        let weight = if weighted { 1 + index as u32 % 3 } else { 1 };
        service.with_endpoint(Endpoint::new(address(index), 80).with_weight(weight))
    });
    let policy = Policy::compile(&resources, &Mesh::new([service]), &Viewpoint::namespace("default")).policy;
    let upstreams = Upstreams::new(7);
    upstreams.sync(&policy, Timestamp::ZERO);
    upstreams.get("outbound|80||a.default.svc.cluster.local").expect("the destination")
}

/// Draws that cost next to nothing.
fn draws() -> impl FnMut() -> u64 {
    let mut state: u64 = 0x9e37_79b9_7f4a_7c15;
    move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    }
}

struct Nothing(usize);

impl tower::Service<()> for Nothing {
    type Response = usize;
    type Error = Infallible;
    type Future = Ready<Result<usize, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, (): ()) -> Self::Future {
        ready(Ok(self.0))
    }
}

impl Load for Nothing {
    type Metric = usize;

    fn load(&self) -> usize {
        0
    }
}

fn pick(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("pick");
    let hash = |kind: &str| format!("loadBalancer: {{consistentHash: {{httpHeaderName: x, {kind}}}}}");
    for (name, traffic_policy, weighted) in [
        ("round_robin", "loadBalancer: {simple: ROUND_ROBIN}".to_owned(), false),
        ("round_robin_weighted", "loadBalancer: {simple: ROUND_ROBIN}".to_owned(), true),
        ("least_request", "loadBalancer: {simple: LEAST_REQUEST}".to_owned(), false),
        ("least_request_weighted", "loadBalancer: {simple: LEAST_REQUEST}".to_owned(), true),
        ("random", "loadBalancer: {simple: RANDOM}".to_owned(), false),
        ("ring_hash", hash("ringHash: {minimumRingSize: 1024}"), false),
        ("maglev", hash("maglev: {tableSize: 65537}"), false),
    ] {
        for size in SIZES {
            let upstream = upstream(&traffic_policy, size, weighted);
            let mut draws = draws();
            let is_hashing = name == "ring_hash" || name == "maglev";
            group.bench_function(BenchmarkId::new(name, size), |bencher| {
                bencher.iter(|| {
                    let hash = is_hashing.then(&mut draws);
                    upstream.pick(black_box(hash), &[], false, false, Timestamp::ZERO, &mut draws)
                });
            });
        }
    }
    for size in SIZES {
        let services: Vec<Nothing> = (0..size).map(Nothing).collect();
        let mut balance = Balance::new(ServiceList::new::<()>(services));
        let mut context = Context::from_waker(Waker::noop());
        group.bench_function(BenchmarkId::new("tower_p2c", size), |bencher| {
            bencher.iter(|| {
                assert!(balance.poll_ready(&mut context).is_ready());
                black_box(balance.call(()))
            });
        });
    }
    group.finish();
}

/// The bare table, without the state around it.
fn table(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("table");
    for (name, algorithm) in [
        ("round_robin", Algorithm::RoundRobin),
        ("least_request", Algorithm::LeastRequest),
        ("random", Algorithm::Random),
        ("ring_hash", Algorithm::RingHash { minimum_size: 1_024 }),
        ("maglev", Algorithm::Maglev { table_size: 65_537 }),
    ] {
        for size in SIZES {
            let hosts = (0..size).map(|index| Host::new(format!("{}:80", address(index)), 1)).collect();
            let table = Table::new(hosts, Settings::new(algorithm), &mut Cursors::default(), Timestamp::ZERO);
            let mut draws = draws();
            let is_hashing = name == "ring_hash" || name == "maglev";
            group.bench_function(BenchmarkId::new(name, size), |bencher| {
                bencher.iter(|| {
                    let hash = is_hashing.then(&mut draws);
                    table.pick(black_box(&Pick { hash, ..Pick::default() }), Timestamp::ZERO, &mut draws)
                });
            });
        }
    }
    group.finish();
}

/// A request's whole way through a destination's state: pick, admission, success, and back.
fn request(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("request");
    let limits = "connectionPool: {tcp: {maxConnections: 1000}, http: {http2MaxRequests: 1000}}";
    for (name, traffic_policy) in [
        ("plain", "loadBalancer: {simple: ROUND_ROBIN}".to_owned()),
        ("outlier", "outlierDetection: {consecutive5xxErrors: 5}".to_owned()),
        ("outlier_and_limits", format!("outlierDetection: {{consecutive5xxErrors: 5}}, {limits}")),
    ] {
        let upstream = upstream(&traffic_policy, 10, false);
        let mut draws = draws();
        group.bench_function(name, |bencher| {
            bencher.iter(|| {
                let endpoint = upstream.pick(None, &[], false, false, Timestamp::ZERO, &mut draws).expect("one");
                let admission = upstream.admit(&endpoint, http::Version::HTTP_11, Timestamp::ZERO);
                black_box(upstream.record(&endpoint, Outcome::Status(200), Timestamp::ZERO));
                admission
            });
        });
    }
    group.finish();
}

fn keys() -> Vec<String> {
    (0..1_024).map(|key| format!("user-{key}")).collect()
}

fn equal(size: usize) -> Vec<(String, f64)> {
    (0..size).map(|index| (format!("{}:80", address(index)), 1.0 / size as f64)).collect()
}

fn buckets(size: usize) -> Vec<Bucket> {
    let address = |index| -> SocketAddr { format!("{}:80", address(index)).parse().expect("an address") };
    (0..size).map(|index| Bucket::new(address(index), 1)).collect()
}

fn ring(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("ring");
    let keys = keys();
    for size in SIZES {
        // As many places as pingora makes: 160 for each host.
        let ring = Ring::new(&equal(size), 160 * size as u64);
        assert_eq!(ring.places().len(), 160 * size);
        let mut at = 0;
        group.bench_function(BenchmarkId::new("pointsman", size), |bencher| {
            bencher.iter(|| {
                at = (at + 1) % keys.len();
                ring.pick(XxHash64::oneshot(0, black_box(keys[at].as_bytes())), 0)
            });
        });
        let continuum = Continuum::new(&buckets(size));
        let mut at = 0;
        group.bench_function(BenchmarkId::new("pingora_ketama", size), |bencher| {
            bencher.iter(|| {
                at = (at + 1) % keys.len();
                continuum.node(black_box(keys[at].as_bytes()))
            });
        });
    }
    group.finish();
}

fn build(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("build");
    group.sample_size(10);
    for size in SIZES {
        let (hosts, buckets) = (equal(size), buckets(size));
        group.bench_function(BenchmarkId::new("ring_1024", size), |bencher| {
            bencher.iter(|| Ring::new(black_box(&hosts), 1_024));
        });
        group.bench_function(BenchmarkId::new("ring_160_each", size), |bencher| {
            bencher.iter(|| Ring::new(black_box(&hosts), 160 * size as u64));
        });
        group.bench_function(BenchmarkId::new("pingora_ketama_160_each", size), |bencher| {
            bencher.iter(|| Continuum::new(black_box(&buckets)));
        });
        group.bench_function(BenchmarkId::new("maglev_65537", size), |bencher| {
            bencher.iter(|| Maglev::new(black_box(&hosts), 65_537));
        });
    }
    group.finish();
}

criterion_group! {
    name = benches;
    config = Criterion::default()
        .sample_size(30)
        .warm_up_time(Duration::from_millis(200))
        .measurement_time(Duration::from_millis(600));
    targets = pick, table, request, ring, build
}
criterion_main!(benches);
