//! What runs here, for people and for their tools: readiness, figures, the policy, explanations, endpoints, and a page.

use super::Fallible;
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response, StatusCode, Uri};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle};
use pointsman::Engine;
use pointsman::engine::{EngineBuilder, Event, Observer};
use pointsman::telemetry::Metrics;
use pointsman::watch::{LoadFailure, Loaded};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::sync::watch;

const PAGE: &str = include_str!("page.html");

/// What the admin listener tells, besides what the engine knows.
#[derive(Default)]
pub struct State {
    policy: Mutex<Value>,
    shares: Mutex<Table>,
}

/// Requests by route and cluster.
type Table = BTreeMap<(Arc<str>, Arc<str>), Share>;

#[derive(Clone, Copy, Default)]
struct Share {
    requests: u64,
    failures: u64,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl State {
    /// A policy came, or was refused.
    pub fn loaded(&self, outcome: Result<&Loaded, &LoadFailure>) {
        let mut policy = lock(&self.policy);
        match outcome {
            Ok(loaded) => {
                let warnings: Vec<String> = loaded.warnings.iter().map(ToString::to_string).collect();
                *policy = json!({"report": loaded.report.notes, "warnings": warnings, "refused": null});
            }
            Err(failure) => policy["refused"] = failure.to_string().into(),
        }
    }
}

/// Counts requests by route and cluster.
struct Shares(Arc<State>);

impl Observer for Shares {
    fn on_event(&self, event: &Event<'_>) {
        if let Event::Finished { summary } = event {
            let mut shares = lock(&self.0.shares);
            let share = shares.entry((Arc::clone(&summary.route), Arc::clone(&summary.cluster))).or_default();
            share.requests += 1;
            share.failures += u64::from(summary.status >= 500);
        }
    }
}

/// The process has one recorder.
fn prometheus() -> &'static PrometheusHandle {
    static HANDLE: OnceLock<PrometheusHandle> = OnceLock::new();
    HANDLE.get_or_init(|| {
        let recorder = PrometheusBuilder::new().build_recorder();
        let handle = recorder.handle();
        // Somebody else's recorder stays; then there are no figures here.
        let _ = metrics::set_global_recorder(recorder);
        handle
    })
}

/// An engine that is observed.
pub fn observe(builder: EngineBuilder, state: &Arc<State>) -> EngineBuilder {
    prometheus();
    builder.observer(Metrics::new()).observer(Shares(Arc::clone(state)))
}

/// Serves the admin listener.
pub async fn start(
    address: SocketAddr,
    engine: Engine,
    state: Arc<State>,
    draining: watch::Receiver<bool>,
) -> Fallible<SocketAddr> {
    let bound = TcpListener::bind(address).await;
    let listener = bound.map_err(|error| format!("the admin listener on {address}: {error}"))?;
    let address = listener.local_addr()?;
    tokio::spawn(async move {
        loop {
            // An accept that fails (no descriptors left) may work later.
            let Ok((stream, _)) = listener.accept().await else {
                tokio::time::sleep(Duration::from_millis(10)).await;
                continue;
            };
            let (engine, state, draining) = (engine.clone(), Arc::clone(&state), draining.clone());
            let service = service_fn(move |request| {
                let answer = answer(&request, &engine, &state, *draining.borrow());
                async move { Ok::<_, Infallible>(answer) }
            });
            tokio::spawn(hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service));
        }
    });
    Ok(address)
}

type Answer = Response<Full<Bytes>>;

fn text(kind: &'static str, text: impl Into<Bytes>) -> Answer {
    let mut answer = Response::new(Full::new(text.into()));
    answer.headers_mut().insert("content-type", HeaderValue::from_static(kind));
    answer
}

fn data(value: &impl serde::Serialize) -> Answer {
    let mut bytes = serde_json::to_vec_pretty(value).unwrap_or_default();
    bytes.push(b'\n');
    text("application/json", bytes)
}

fn refused(status: StatusCode, why: &str) -> Answer {
    let mut answer = text("text/plain; charset=utf-8", format!("{why}\n"));
    *answer.status_mut() = status;
    answer
}

fn answer(request: &Request<Incoming>, engine: &Engine, state: &State, draining: bool) -> Answer {
    match request.uri().path() {
        "/" => text("text/html; charset=utf-8", PAGE),
        "/ready" if draining => refused(StatusCode::SERVICE_UNAVAILABLE, "DRAINING"),
        "/ready" => text("text/plain", "LIVE\n"),
        "/stats" => text("text/plain; version=0.0.4", prometheus().render()),
        "/policy" => {
            let mut policy = lock(&state.policy).clone();
            let policy_in_force = engine.policy();
            let rules: std::collections::BTreeSet<String> =
                policy_in_force.origins().map(ToString::to_string).collect();
            policy["rules"] = json!(rules);
            let names: Vec<&str> =
                policy_in_force.destinations().iter().map(|destination| &*destination.name).collect();
            policy["destinations"] = json!(names);
            data(&policy)
        }
        "/shares" => {
            let shares = lock(&state.shares).clone();
            let rows: Vec<Value> = shares
                .iter()
                .map(|((route, cluster), share)| {
                    json!({"route": &**route, "cluster": &**cluster, "requests": share.requests, "failures": share.failures})
                })
                .collect();
            data(&rows)
        }
        "/endpoints" => {
            let mut rows = json!(engine.endpoints());
            let now = pointsman::tower::Clock::of(engine).now().as_millis();
            for row in rows.as_array_mut().into_iter().flatten() {
                if let Some(until) = row["ejected"]["until"].as_u64() {
                    row["ejectedForMillis"] = json!((until / 1_000_000).saturating_sub(now));
                }
            }
            data(&rows)
        }
        "/explain" => match explain(request.uri(), engine) {
            Ok(answer) => answer,
            Err(why) => refused(StatusCode::BAD_REQUEST, &why),
        },
        _ => refused(StatusCode::NOT_FOUND, "here are /ready /stats /policy /explain /endpoints /shares"),
    }
}

/// `?method=GET&url=http://reviews:9080/x&header=name:value&format=json`
fn explain(uri: &Uri, engine: &Engine) -> Result<Answer, String> {
    let (mut method, mut url, mut headers, mut as_data) = ("GET".to_owned(), None, HeaderMap::new(), false);
    for pair in uri.query().unwrap_or_default().split('&').filter(|pair| !pair.is_empty()) {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        let value = decoded(value).ok_or_else(|| format!("`{value}` is not percent-encoded UTF-8"))?;
        match key {
            "method" => method = value,
            "url" => url = Some(value),
            "format" => as_data = value == "json",
            "header" => {
                let (name, value) = value.split_once(':').ok_or_else(|| format!("`{value}` is not `name:value`"))?;
                let name: HeaderName = name.trim().parse().map_err(|_| format!("`{name}` is not a header's name"))?;
                let value = HeaderValue::from_str(value.trim()).map_err(|_| format!("`{value}` is not a value"))?;
                headers.append(name, value);
            }
            _ => return Err(format!("`{key}` is not one of method, url, header and format")),
        }
    }
    let url = url.ok_or("which `url`?")?;
    let parsed: Uri = url.parse().map_err(|_| format!("`{url}` is not a URL"))?;
    let authority = parsed.authority().ok_or_else(|| format!("`{url}` has no host"))?;
    let scheme = parsed.scheme_str().unwrap_or("http");
    let request = pointsman::head::Request {
        method: &method,
        scheme,
        authority: authority.as_str(),
        path: parsed.path_and_query().map_or("/", |path| path.as_str()),
        headers: &headers,
        port: authority.port_u16().unwrap_or(if scheme == "https" { 443 } else { 80 }),
    };
    let explanation = engine.policy().explain(&request, &mut || 0);
    Ok(if as_data { data(&explanation) } else { text("text/plain; charset=utf-8", format!("{explanation:#}\n")) })
}

/// Percent-decoded; `+` is a space.
fn decoded(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, tail @ ..] = rest {
        rest = tail;
        match first {
            b'+' => bytes.push(b' '),
            b'%' => {
                let (digits, tail) = rest.split_at_checked(2)?;
                bytes.push(u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()?);
                rest = tail;
            }
            byte => bytes.push(*byte),
        }
    }
    String::from_utf8(bytes).ok()
}
