//! The engine as one who watches it sees it: every event with what belongs to it, and what a reload keeps, ends and begins.

#![allow(clippy::unwrap_used)]

use http::{Method, StatusCode};
use pointsman::engine::{Event, Observer};
use pointsman::exchange::{Code, Exchange, Step};
use pointsman::head::{RequestHead, ResponseHead};
use pointsman::mesh::{Endpoint, Health, Mesh, Protocol, Service, Viewpoint};
use pointsman::outlier::Outcome;
use pointsman::policy::{Connection, Policy};
use pointsman::time::Timestamp;
use pointsman::{Engine, Resources, outlier};
use std::sync::{Arc, Mutex};
use std::time::Duration;

const VIEWPOINT: &str = "default";

fn resources(rule: &str, traffic: &str) -> Resources {
    let text = format!(
        "
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {{name: a, namespace: default}}
spec: {{hosts: [a], http: [{{{rule}}}]}}
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {{name: a, namespace: default}}
spec: {{host: '*.default.svc.cluster.local', trafficPolicy: {{{traffic}}}}}
"
    );
    let resources = Resources::from_yaml(&text).unwrap();
    assert!(resources.problems.is_empty(), "{:?}", resources.problems);
    resources
}

fn mesh(endpoints: usize) -> Mesh {
    let service = |name: &str, network: u8| {
        let service = Service::new(format!("{name}.default.svc.cluster.local"), "default")
            .with_port(80, "http", Protocol::Http)
            .with_port(5432, "tcp", Protocol::Tcp);
        (1..=endpoints).fold(service, |service, number| {
            service.with_endpoint(Endpoint::new(format!("10.0.{network}.{number}"), 80))
        })
    };
    Mesh::new([service("a", 0), service("shadow", 1)])
}

fn policy(rule: &str, traffic: &str, endpoints: usize) -> Policy {
    Policy::compile(&resources(rule, traffic), &mesh(endpoints), &Viewpoint::namespace(VIEWPOINT)).policy
}

const ROUTE: &str = "route: [{destination: {host: a}}]";

/// One line for each event.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<String>>>);

impl Log {
    fn take(&self) -> Vec<String> {
        std::mem::take(&mut self.0.lock().unwrap())
    }
}

impl Observer for Log {
    fn on_event(&self, event: &Event<'_>) {
        let line = match event {
            Event::Decided { summary } => format!("decided {}", summary.cluster),
            Event::Attempt { summary } => format!("attempt {}", summary.attempts),
            Event::Attempted { summary } => {
                let last = summary.tries.last().unwrap();
                format!("attempted {:?} {:?} {}", last.status, last.failure, last.timed_out)
            }
            Event::Retry { wait, .. } => format!("retry after {wait:?}"),
            Event::Mirrored { cluster, .. } => format!("mirrored {cluster}"),
            Event::Limited { exceeded, .. } => format!("limited by {exceeded}"),
            Event::Outlier { cluster, event } => match event {
                outlier::Event::Ejected { host, reason, until } => {
                    format!("{cluster}: {host} ejected for {} until {until:?}", reason.as_str())
                }
                outlier::Event::Refused { host, reason, cap } => {
                    format!("{cluster}: {host} not ejected for {}: {cap}", reason.as_str())
                }
                outlier::Event::Returned { host } => format!("{cluster}: {host} returned"),
                other => panic!("{other:?}"),
            },
            Event::Reloaded => "reloaded".to_owned(),
            Event::ReloadRefused { error } => format!("refused: {error}"),
            Event::Finished { summary } => format!("finished {} {}", summary.status, summary.flags),
            other => panic!("{other:?}"),
        };
        self.0.lock().unwrap().push(line);
    }
}

fn engine(rule: &str, traffic: &str, endpoints: usize) -> (Engine, Log) {
    let log = Log::default();
    (Engine::builder().observer(log.clone()).build(policy(rule, traffic, endpoints)), log)
}

fn begin(engine: &Engine, now: Timestamp) -> Exchange {
    let mut exchange = engine.begin(RequestHead::new(Method::GET, 80, "a", "/"), now, &mut || 0);
    exchange.request_complete(now);
    exchange
}

/// Drives a request whose upstream answers with these statuses; copies get the last of them. Gives the client's status.
fn ask(engine: &Engine, statuses: &[u16], now: Timestamp) -> u16 {
    let mut exchange = begin(engine, now);
    let mut left = statuses.iter();
    let mut status = 0;
    loop {
        match exchange.next(now, &mut || 0) {
            Step::Attempt(_) => {
                let status = StatusCode::from_u16(*left.next().unwrap()).unwrap();
                exchange.on_response(ResponseHead::new(status), now, &mut || 0);
            }
            Step::Mirror(mirror) => {
                let outcome =
                    mirror.outcome(StatusCode::from_u16(*statuses.last().unwrap()).unwrap(), &Default::default());
                mirror.finish(outcome, now);
            }
            Step::Return(head) => {
                status = head.status.as_u16();
                exchange.on_end(now);
            }
            Step::Respond(reply) => status = reply.head.status.as_u16(),
            Step::Done => return status,
            _ => {}
        }
    }
}

const CLUSTER: &str = "outbound|80||a.default.svc.cluster.local";

#[test]
fn every_step_of_a_request_is_told() {
    let retries = format!("{ROUTE}, retries: {{attempts: 1, retryOn: 5xx}}, mirror: {{host: shadow}}");
    let (engine, log) = engine(&retries, "", 1);
    assert_eq!(ask(&engine, &[503, 200], Timestamp::ZERO), 200);
    let told = [
        &format!("decided {CLUSTER}"),
        "mirrored outbound|80||shadow.default.svc.cluster.local",
        "attempt 1",
        "attempted Some(503) None false",
        "retry after 0ns",
        "attempt 2",
        "attempted Some(200) None false",
        "finished 200 -",
    ];
    assert_eq!(log.take(), told);
}

#[test]
fn ejections_refusals_and_returns_are_told_with_their_reasons() {
    let traffic = "loadBalancer: {simple: ROUND_ROBIN}, outlierDetection: {consecutive5xxErrors: 2, interval: 10s, \
                   baseEjectionTime: 30s, maxEjectionPercent: 50}";
    let (engine, log) = engine(ROUTE, traffic, 3);
    for _ in 0..6 {
        ask(&engine, &[500], Timestamp::ZERO);
    }
    let told: Vec<String> = log.take().into_iter().filter(|line| line.contains("ejected")).collect();
    let (ejected, refused) = told.split_first().unwrap();
    let (host, rest) = ejected.split_once(" ejected for ").unwrap();
    assert_eq!(rest, "consecutive-5xx until Timestamp(30000000000)");
    assert_eq!(refused.len(), 2);
    for refused in refused {
        let (other, why) = refused.split_once(" not ejected for ").unwrap();
        assert_ne!(other, host);
        assert_eq!(why, "consecutive-5xx: 1 of 3 is out, 2 would be 66 %, at most 50 % may be");
    }
    ask(&engine, &[200], Timestamp::from_millis(29_999));
    assert!(!log.take().iter().any(|line| line.contains("returned")));
    ask(&engine, &[200], Timestamp::from_millis(30_000));
    assert!(log.take().contains(&format!("{host} returned")));
}

/// Who is out when a reload switches ejections off is back at once, and that is told; so are returns that were due.
#[test]
fn a_reload_tells_who_is_back() {
    let traffic = "outlierDetection: {consecutive5xxErrors: 1, baseEjectionTime: 30s, maxEjectionPercent: 100}";
    let (engine, log) = engine(ROUTE, traffic, 1);
    ask(&engine, &[500], Timestamp::ZERO);
    assert_eq!(ask(&engine, &[], Timestamp::ZERO), 503, "nobody is left");
    log.take();
    engine.reload(policy(ROUTE, traffic, 1));
    assert_eq!(log.take(), ["reloaded"]);
    engine.reload(policy(ROUTE, "", 1));
    assert_eq!(log.take(), ["reloaded".to_owned(), format!("{CLUSTER}: 10.0.0.1:80 returned")]);
    assert_eq!(ask(&engine, &[200], Timestamp::ZERO), 200);

    engine.reload(policy(ROUTE, traffic, 1));
    ask(&engine, &[500], Timestamp::ZERO);
    log.take();
    engine.reload_at(policy(ROUTE, traffic, 1), Timestamp::from_millis(40_000));
    assert_eq!(log.take(), ["reloaded".to_owned(), format!("{CLUSTER}: 10.0.0.1:80 returned")]);
}

/// A copy's failure counts for the destination of the copy, and is told.
#[test]
fn a_copy_may_eject() {
    let traffic = "outlierDetection: {consecutive5xxErrors: 1, maxEjectionPercent: 100}";
    let (engine, log) = engine(&format!("{ROUTE}, mirror: {{host: shadow}}"), traffic, 1);
    ask(&engine, &[500], Timestamp::ZERO);
    let ejected: Vec<String> = log.take().into_iter().filter(|line| line.contains("ejected for")).collect();
    assert_eq!(ejected.len(), 2, "{ejected:?}");
    assert!(ejected.iter().any(|line| line.contains("|shadow.")), "{ejected:?}");
}

#[test]
fn a_limit_is_named_in_event_and_summary() {
    let (engine, log) = engine(ROUTE, "connectionPool: {http: {http2MaxRequests: 1}}", 1);
    let mut first = begin(&engine, Timestamp::ZERO);
    assert!(matches!(first.next(Timestamp::ZERO, &mut || 0), Step::Attempt(_)));
    log.take();
    let mut second = begin(&engine, Timestamp::ZERO);
    assert!(matches!(second.next(Timestamp::ZERO, &mut || 0), Step::Respond(_)));
    let exceeded = second.summary().exceeded.unwrap();
    assert_eq!(exceeded.to_string(), "connectionPool.http.http2MaxRequests: 1 are under way, at most 1 may be");
    assert!(log.take().contains(&format!("limited by {exceeded}")));
    assert_eq!(second.summary().code, Code::Overflow);
}

/// What is open at an endpoint when it is ejected, or taken away, goes on to its end.
#[test]
fn open_requests_of_an_ejected_endpoint_go_on() {
    let traffic = "outlierDetection: {consecutive5xxErrors: 1, maxEjectionPercent: 100}";
    let (engine, log) = engine(ROUTE, traffic, 1);
    let now = Timestamp::ZERO;
    let mut open = begin(&engine, now);
    let Step::Attempt(attempt) = open.next(now, &mut || 0) else { panic!("an attempt") };
    let upstream = engine.upstreams().get(CLUSTER).unwrap();
    let events = upstream.record(&attempt.endpoint, Outcome::Status(500), now);
    assert!(matches!(events.as_slice(), [outlier::Event::Ejected { .. }]));
    assert_eq!(attempt.endpoint.active(), 1);
    // The endpoint goes away besides; nobody else has a destination now.
    engine.reload(policy(ROUTE, traffic, 0));
    assert_eq!(ask(&engine, &[], now), 503);
    log.take();
    open.on_response(ResponseHead::new(StatusCode::OK), now, &mut || 0);
    assert!(matches!(open.next(now, &mut || 0), Step::Return(_)));
    open.on_end(now);
    assert_eq!(log.take(), ["attempted Some(200) None false", "finished 200 -"]);
    assert_eq!((attempt.endpoint.active(), upstream.usage().requests), (0, 0));
}

/// An endpoint that a reload adds warms up from the reload on, also if nobody has asked anything for a long time.
#[test]
fn an_endpoint_that_is_added_warms_up_from_then_on() {
    let traffic = "loadBalancer: {simple: ROUND_ROBIN, warmup: {duration: 60s}}";
    let (engine, _) = engine(ROUTE, traffic, 1);
    ask(&engine, &[200], Timestamp::ZERO);
    let hour = Timestamp::ZERO + Duration::from_secs(3_600);
    engine.reload_at(policy(ROUTE, traffic, 2), hour);
    let warmth = |engine: &Engine| -> Vec<f64> {
        let all = engine.endpoints();
        all.iter().filter(|one| &*one.cluster == CLUSTER).map(|one| one.warmth).collect()
    };
    assert_eq!(warmth(&engine), [1.0, 0.1]);
    ask(&engine, &[200], hour + Duration::from_secs(30));
    assert_eq!(warmth(&engine), [1.0, 0.5]);
    ask(&engine, &[200], hour + Duration::from_secs(60));
    assert_eq!(warmth(&engine), [1.0, 1.0]);
}

/// State is an endpoint's as long as address and place stay: weight, labels and priority may change.
#[test]
fn identity_is_address_and_place() {
    let traffic = "outlierDetection: {consecutive5xxErrors: 1, maxEjectionPercent: 100, baseEjectionTime: 60s}, \
                   loadBalancer: {localityLbSetting: {failoverPriority: [tier]}}";
    let viewpoint = Viewpoint::namespace(VIEWPOINT);
    let compile = |endpoint: Endpoint| {
        let service = Service::new("a.default.svc.cluster.local", "default").with_port(80, "http", Protocol::Http);
        let other = Endpoint::new("10.0.0.2", 80);
        let mesh = Mesh::new([service.with_endpoint(endpoint).with_endpoint(other)]);
        Policy::compile(&resources(ROUTE, traffic), &mesh, &viewpoint).policy
    };
    let one = || Endpoint::new("10.0.0.1", 80);
    let moved: [(&str, Endpoint, bool); 6] = [
        ("nothing", one(), true),
        ("weight", one().with_weight(7), true),
        ("labels and priority", one().with_labels([("tier", "gold")]), true),
        ("readiness", one().with_health(Health::NotReady), true),
        ("place", one().with_locality("r/z/s"), false),
        ("address", Endpoint::new("10.0.0.3", 80), false),
    ];
    for (what, endpoint, stays) in moved {
        let engine = Engine::new(compile(one()));
        let upstream = engine.upstreams().get(CLUSTER).unwrap();
        let state = upstream.pick(None, &[], false, false, Timestamp::ZERO, &mut || 0).unwrap();
        let state = if &**state.key() == "10.0.0.1:80" {
            state
        } else {
            upstream.pick(None, &[state], true, false, Timestamp::ZERO, &mut || 1).unwrap()
        };
        upstream.record(&state, Outcome::Status(500), Timestamp::ZERO);
        engine.reload(compile(endpoint));
        let ejected = engine.endpoints().iter().any(|one| one.ejected.is_some());
        assert_eq!(ejected, stays, "{what}");
    }
}

/// Connections that are not HTTP do not wait: beyond the limit they are closed, before an endpoint is picked.
#[test]
fn a_connection_beyond_the_limit_is_closed() {
    let (engine, log) = engine(ROUTE, "connectionPool: {tcp: {maxConnections: 2}}", 1);
    let connection = Connection { address: None, port: 5432, sni: None };
    let connect = || engine.connect(&connection, Timestamp::ZERO, &mut || 0);
    let held = [connect(), connect()];
    assert!(held.iter().all(|one| one.endpoint.is_some() || one.flags.to_string() == "UH"));
    let third = connect();
    assert_eq!((third.closed, third.flags.to_string().as_str(), third.endpoint.is_none()), (true, "UO", true));
    assert!(log.take().iter().any(|line| line.starts_with("limited by connectionPool.tcp.maxConnections: 2")));
    drop(held);
    assert!(!connect().closed);
}

#[test]
fn resources_with_errors_are_refused_and_the_last_good_policy_stays() {
    let (engine, log) = engine(ROUTE, "", 1);
    let text = "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {name: a}\nspec: {hosts: 3}\n";
    let slip = Resources::from_yaml(text).unwrap();
    let before = engine.policy();
    let error = engine.reload_resources(&slip, &mesh(1), &Viewpoint::namespace(VIEWPOINT)).unwrap_err();
    assert_eq!(error.problems().len(), 1);
    assert!(error.to_string().contains("spec.hosts"), "{error}");
    assert!(Arc::ptr_eq(&before, &engine.policy()));
    assert_eq!(log.take(), [format!("refused: {error}")]);
    let fine = resources(ROUTE, "");
    let report = engine.reload_resources(&fine, &mesh(2), &Viewpoint::namespace(VIEWPOINT)).unwrap();
    assert!(report.is_empty(), "{report}");
    assert!(!Arc::ptr_eq(&before, &engine.policy()));
    assert_eq!(log.take(), ["reloaded"]);
}
