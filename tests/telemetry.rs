//! What those who watch get to see: spans under OpenTelemetry's names, figures of a bounded number.

#![allow(clippy::unwrap_used)]

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Empty;
use metrics_exporter_prometheus::PrometheusBuilder;
use pointsman::mesh::{Endpoint, Mesh, Protocol, Service, Viewpoint};
use pointsman::policy::Policy;
use pointsman::telemetry::{Metrics, Tracing};
use pointsman::tower::{BoxError, Client, Connector, ReplayBody, RequestBody};
use pointsman::{Engine, Resources};
use std::io::Write;
use std::sync::{Arc, Mutex};
use tower::{Layer, ServiceExt};

const RULE: &str = "
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: a, namespace: default}
spec:
  hosts: [a, a.test]
  http:
  - name: main
    retries: {attempts: 2, retryOn: 5xx}
    route: [{destination: {host: a}}]
";

fn service(name: &str) -> Service {
    Service::new(format!("{name}.default.svc.cluster.local"), "default")
        .with_port(80, "http", Protocol::Http)
        .with_endpoint(Endpoint::new("fd00::1", 8080))
}

fn policy(services: impl IntoIterator<Item = Service>) -> Policy {
    let resources = Resources::from_yaml(RULE).unwrap();
    Policy::compile(&resources, &Mesh::new(services), &Viewpoint::namespace("default")).policy
}

/// A client whose upstreams answer with the status that the path names, and well from the second attempt on.
fn client(engine: &Engine) -> Client<impl Connector<Empty<Bytes>>> {
    let upstream = tower::service_fn(|request: Request<ReplayBody<Empty<Bytes>>>| async move {
        let first = request.headers().get("x-envoy-attempt-count").is_some_and(|count| count == "1");
        let status = request.uri().path().trim_start_matches('/').parse().ok().filter(|_| first);
        let mut response = Response::new(Empty::<Bytes>::new());
        *response.status_mut() = http::StatusCode::from_u16(status.unwrap_or(200)).unwrap();
        Ok::<_, BoxError>(response)
    });
    engine.client(upstream).with_seed(1)
}

fn request(method: &str, uri: &str) -> Request<Empty<Bytes>> {
    Request::builder().method(method).uri(uri).header("user-agent", "tester/1").body(Empty::new()).unwrap()
}

#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<u8>>>);

impl Lines {
    fn take(&self) -> String {
        String::from_utf8(std::mem::take(&mut *self.0.lock().unwrap())).unwrap()
    }
}

impl Write for Lines {
    fn write(&mut self, text: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(text);
        Ok(text.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// The fields of the one span that closed, and the events in it.
fn spans(lines: &Lines) -> (String, Vec<String>) {
    let text = lines.take();
    let (closed, events): (Vec<&str>, Vec<&str>) = text.lines().partition(|line| line.contains("}: pointsman: close"));
    assert_eq!(closed.len(), 1, "{text}");
    let (from, to) = (closed[0].find('{').unwrap(), closed[0].rfind('}').unwrap());
    let event = |line: &str| line[line.rfind("pointsman: ").unwrap() + 11..].to_owned();
    (closed[0][from + 1..to].to_owned(), events.into_iter().map(event).collect())
}

#[tokio::test(start_paused = true)]
async fn spans_have_opentelemetry_s_names() {
    let lines = Lines::default();
    let writer = lines.clone();
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(tracing::Level::DEBUG)
        .with_span_events(tracing_subscriber::fmt::format::FmtSpan::CLOSE)
        .with_ansi(false)
        .without_time()
        .with_writer(move || writer.clone())
        .finish();
    let _guard = tracing::subscriber::set_default(subscriber);
    let engine = Engine::builder().observer(Tracing).build(policy([service("a")]));

    client(&engine).oneshot(request("GET", "http://a/503?token=secret")).await.unwrap();
    let (span, events) = spans(&lines);
    for field in [
        "otel.kind=\"client\"",
        "otel.name=\"GET\"",
        "http.request.method=\"GET\"",
        "url.full=http://a/503",
        "server.address=\"a\" server.port=80",
        "http.response.status_code=200",
        "http.request.resend_count=1",
        "network.peer.address=\"fd00::1\" network.peer.port=8080",
        "pointsman.route=\"main\"",
        "pointsman.flags=-",
    ] {
        assert!(span.contains(field), "{field} in {span}");
    }
    assert!(!span.contains("secret") && !span.contains("error.type") && !span.contains("url.path"), "{span}");
    let kinds: Vec<&str> = events.iter().filter_map(|event| event.split(' ').next()).collect();
    assert_eq!(kinds, ["decided", "attempt", "attempted", "retry", "attempt", "attempted", "finished"]);

    client(&engine).oneshot(request("BREW", "http://a/404")).await.unwrap();
    let (span, _) = spans(&lines);
    for field in ["http.request.method=\"_OTHER\"", "http.request.method_original=\"BREW\"", "error.type=404"] {
        assert!(span.contains(field), "{field} in {span}");
    }

    let handler = tower::service_fn(|_: Request<RequestBody<Empty<Bytes>>>| async {
        Ok::<_, BoxError>(Response::new(Empty::<Bytes>::new()))
    });
    engine.layer().layer(handler).oneshot(request("GET", "http://a.test/page?x=1")).await.unwrap();
    let (span, _) = spans(&lines);
    for field in [
        "otel.kind=\"server\"",
        "url.scheme=\"http\"",
        "url.path=\"/page\"",
        "network.protocol.version=\"1.1\"",
        "user_agent.original=\"tester/1\"",
    ] {
        assert!(span.contains(field), "{field} in {span}");
    }
    assert!(!span.contains("url.full"), "{span}");
}

/// However many destinations there are, and whatever is asked for: so many series, and the rest together.
#[test]
fn figures_are_of_a_bounded_number() {
    let recorder = PrometheusBuilder::new().build_recorder();
    let prometheus = recorder.handle();
    metrics::with_local_recorder(&recorder, || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        runtime.block_on(async {
            let services = (0..50).map(|number| service(&format!("s{number}")));
            let engine = Engine::builder().observer(Metrics::new().with_clusters(5)).build(policy(services));
            for number in 0..50 {
                client(&engine).oneshot(request("GET", &format!("http://s{number}.default/"))).await.unwrap();
                client(&engine).oneshot(request("GET", &format!("http://nobody{number}/"))).await.unwrap();
            }
        });
    });
    let figures = prometheus.render();
    let requests: Vec<&str> = figures.lines().filter(|line| line.starts_with("pointsman_requests_total")).collect();
    // Five by name, among them what passes through, and one for the others.
    assert_eq!(requests.len(), 6, "{requests:#?}");
    let of = |label: &str| requests.iter().find(|line| line.contains(label)).and_then(|line| line.rsplit(' ').next());
    assert_eq!(of("cluster=\"other\""), Some("46"));
    assert!(!figures.contains("nobody"), "{figures}");
}
