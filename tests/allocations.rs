//! A decision allocates nothing: counted, for every kind of condition.

#![allow(clippy::unwrap_used)]

use http::{HeaderMap, HeaderValue};
use pointsman::Resources;
use pointsman::head::Request;
use pointsman::mesh::{Mesh, Protocol, Service, Viewpoint};
use pointsman::policy::Policy;
use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

struct Counting;

thread_local! {
    static COUNT: Cell<usize> = const { Cell::new(0) };
}

// SAFETY: everything is passed on to the system's allocator.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let _ = COUNT.try_with(|count| count.set(count.get() + 1));
        // SAFETY: the caller's promise is passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the caller's promise is passed on.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn allocations(work: impl FnOnce()) -> usize {
    let before = COUNT.get();
    work();
    COUNT.get() - before
}

#[test]
fn a_decision_allocates_nothing() {
    let mut text = String::from(
        "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {name: a, namespace: default}\nspec:\n  hosts: [a, '*.example.com']\n  http:\n",
    );
    for number in 0..40 {
        for condition in [
            format!("{{uri: {{exact: /exact/{number}}}}}"),
            format!("{{uri: {{prefix: /prefix/{number}/}}}}"),
            format!("{{uri: {{prefix: /Folded/{number}/}}, ignoreUriCase: true}}"),
            format!("{{uri: {{regex: '/regex/{number}/[a-z]+'}}}}"),
            format!("{{headers: {{x-user: {{exact: '{number}'}}}}}}"),
            format!("{{queryParams: {{q: {{exact: '{number}'}}}}}}"),
        ] {
            text.push_str(&format!(
                "  - match: [{condition}]\n    route: [{{destination: {{host: a}}, weight: 1}}, {{destination: {{host: b}}, weight: 2}}]\n"
            ));
        }
    }
    let resources = Resources::from_yaml(&text).unwrap();
    let service = |name: &str| {
        Service::new(format!("{name}.default.svc.cluster.local"), "default").with_port(80, "http", Protocol::Http)
    };
    let mesh = Mesh::new([service("a"), service("b")]);
    let policy = Policy::compile(&resources, &mesh, &Viewpoint::namespace("default")).policy;
    let none = HeaderMap::new();
    let user = HeaderMap::from_iter([(http::HeaderName::from_static("x-user"), HeaderValue::from_static("7"))]);
    let cases = [
        ("a", "/exact/39", &none),
        ("A.Default:80", "/prefix/12/and/more?q=1", &none),
        ("x.example.com", "/folded/3/x", &none),
        ("a", "/regex/20/abc", &none),
        ("a", "/else", &user),
        ("a", "/else?x=1&q=11", &none),
        ("a", "/nothing", &none),
        ("nobody", "/nothing", &none),
    ];
    for round in 0..2 {
        for (authority, path, headers) in cases {
            let request = Request { method: "GET", scheme: "http", authority, path, headers, port: 80 };
            let mut draws = || 5;
            let count = allocations(|| {
                std::hint::black_box(policy.decide(&request, &mut draws));
            });
            // A regular expression keeps a scratch space from its first use on.
            assert!(count == 0 || round == 0, "{authority}{path}: {count} allocations");
        }
    }
}

/// What a request through the client layer allocates, besides its own parts and what the inner service does.
#[cfg(feature = "tower")]
#[test]
fn a_request_through_the_client_allocates_so_much() {
    use bytes::Bytes;
    use http::{Request, Response};
    use http_body_util::Empty;
    use pointsman::Engine;
    use pointsman::mesh::Endpoint;
    use std::convert::Infallible;
    use tower::{Service as _, ServiceExt};

    let mut service = Service::new("a.default.svc.cluster.local", "default").with_port(80, "http", Protocol::Http);
    for number in 1..=10 {
        service = service.with_endpoint(Endpoint::new(format!("10.0.0.{number}"), 80));
    }
    let mesh = Mesh::new([service]);
    let policy = Policy::compile(&Resources::default(), &mesh, &Viewpoint::namespace("default")).policy;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    let _entered = runtime.enter();
    let engine = Engine::new(policy);
    let mut client = engine
        .client(tower::service_fn(|_| async { Ok::<_, Infallible>(Response::new(Empty::<Bytes>::new())) }))
        .with_seed(1);
    let mut counts = Vec::new();
    for _ in 0..50 {
        let request = Request::get("http://a/").header("user-agent", "test").body(Empty::<Bytes>::new()).unwrap();
        counts.push(allocations(|| {
            runtime.block_on(async { drop(client.ready().await.unwrap().call(request).await.unwrap()) });
        }));
    }
    // Two futures, the exchange's own, heads for the upstream and the client, the target and the summary.
    let most = counts.split_off(10).into_iter().max().unwrap();
    assert!(most <= MOST_PER_REQUEST, "{most} allocations");
}

#[cfg(feature = "tower")]
const MOST_PER_REQUEST: usize = 28;

/// A pick allocates nothing, whichever the balancer; a success that outlier detection counts does not either.
#[test]
fn a_pick_allocates_nothing() {
    use pointsman::mesh::Endpoint;
    use pointsman::outlier::Outcome;
    use pointsman::time::Timestamp;
    use pointsman::upstream::{Admission, Upstreams};

    for balancer in [
        "simple: ROUND_ROBIN",
        "simple: LEAST_REQUEST",
        "simple: RANDOM",
        "simple: ROUND_ROBIN, warmup: {duration: 60s}",
        "consistentHash: {useSourceIp: true, ringHash: {minimumRingSize: 1024}}",
        "consistentHash: {useSourceIp: true, maglev: {tableSize: 65537}}",
    ] {
        let rule = format!(
            "apiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: {{name: a, namespace: default}}\n\
             spec: {{host: a, trafficPolicy: {{loadBalancer: {{{balancer}}}, outlierDetection: \
             {{consecutive5xxErrors: 5}}, connectionPool: {{http: {{http2MaxRequests: 9}}}}}}}}\n"
        );
        let service = Service::new("a.default.svc.cluster.local", "default").with_port(80, "http", Protocol::Http);
        let service = (1..=10).fold(service, |service, index| {
            service.with_endpoint(Endpoint::new(format!("10.0.0.{index}"), 80).with_weight(1 + index % 2))
        });
        let resources = Resources::from_yaml(&rule).unwrap();
        let policy = Policy::compile(&resources, &Mesh::new([service]), &Viewpoint::namespace("default")).policy;
        let upstreams = Upstreams::new(1);
        upstreams.sync(&policy, Timestamp::ZERO);
        let upstream = upstreams.get("outbound|80||a.default.svc.cluster.local").unwrap();
        let mut draw = 0;
        let count = allocations(|| {
            for step in 0..1_000 {
                let now = Timestamp::from_millis(step);
                let mut draws = || {
                    draw += 7;
                    draw
                };
                let endpoint = upstream.pick(Some(step << 50), &[], false, false, now, &mut draws).unwrap();
                let tried = [endpoint];
                let other = upstream.pick(None, &tried, true, false, now, &mut draws).unwrap();
                let admission = upstream.admit(&other, http::Version::HTTP_11, now);
                assert!(matches!(admission, Admission::Admitted(_)));
                upstream.record(&other, Outcome::Connected, now);
                upstream.record(&other, Outcome::Status(200), now);
            }
        });
        assert_eq!(count, 0, "{balancer}");
    }
}
