//! Drives the engine through a world: virtual time, scripted upstreams, seeded draws, no sockets.
//!
//! Nothing takes time here but what a script or a policy says: a delay, a backoff, a fault, a timeout.

use super::Drive;
use super::compare::{Observed, SeenMirror};
use super::world::{self, Case, World};
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use pointsman::exchange::{Attempt, Code, Exchange, Failure, Step};
use pointsman::head::{RequestHead, ResponseHead};
use pointsman::policy::{Connection, Policy};
use pointsman::time::Timestamp;
use pointsman::{Engine, Resources};
use std::collections::VecDeque;
use std::time::Duration;

/// The engine driven directly.
pub fn driver(world: &World) -> Result<Box<dyn Drive>, String> {
    Ok(Box::new(Simulation::new(world)?))
}

impl Drive for Simulation {
    fn case(&mut self, case: &Case) -> Option<Vec<Observed>> {
        Some(self.play(case))
    }
}

struct Simulation {
    engine: Engine,
    draws: Draws,
    now: Timestamp,
}

/// splitmix64: small, seeded, and good enough for shares.
struct Draws(u64);

impl pointsman::entropy::Draws for Draws {
    fn next_u64(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }
}

impl Simulation {
    fn new(world: &World) -> Result<Simulation, String> {
        let resources = Resources::from_yaml(&world.resources).map_err(|error| format!("resources: {error}"))?;
        let compiled = Policy::compile(&resources, &world.file.mesh, &world.file.client);
        let now = Timestamp::from_millis(1_000_000);
        let engine = Engine::builder().start(now).build(compiled.policy);
        Ok(Simulation { engine, draws: Draws(0x5eed), now })
    }

    fn play(&mut self, case: &Case) -> Vec<Observed> {
        let seen = match (&case.request, &case.connection) {
            (Some(request), _) => {
                if let Some(parallel) = case.parallel {
                    self.requests(request, parallel)
                } else {
                    (0..case.times.unwrap_or(1)).flat_map(|_| self.requests(request, 1)).collect()
                }
            }
            (None, Some(connection)) => (0..case.times.unwrap_or(1)).map(|_| self.connection(connection)).collect(),
            (None, None) => Vec::new(),
        };
        self.now = self.now + Duration::from_millis(case.then_wait_ms + 1);
        seen
    }

    /// `parallel` requests that begin at the same time.
    fn requests(&mut self, request: &world::Request, parallel: u32) -> Vec<Observed> {
        let script = script(&request.script);
        let mut live: Vec<Live> = (0..parallel)
            .map(|_| {
                let exchange = self.engine.begin(head(request), self.now, &mut self.draws);
                Live::new(exchange, script.clone(), self.now)
            })
            .collect();
        loop {
            // One that ends may make room for one that waits: go round until nothing moves.
            let mut moved = true;
            while moved {
                moved = false;
                for one in &mut live {
                    moved |= one.advance(self.now, &mut self.draws);
                }
            }
            match live.iter().filter(|one| !one.done).map(Live::next_event).min() {
                None => break,
                Some(next) if next == Timestamp::MAX => {
                    live.iter_mut().filter(|one| !one.done).for_each(|one| one.seen.outcome = "stuck".into());
                    break;
                }
                Some(next) => self.now = self.now.max(next),
            }
        }
        live.into_iter().map(|one| one.seen).collect()
    }

    fn connection(&mut self, connection: &world::Connection) -> Observed {
        let asked = Connection {
            address: connection.address.parse().ok(),
            port: connection.port,
            sni: connection.sni.as_deref(),
        };
        connected(&self.engine.connect(&asked, self.now, &mut self.draws))
    }
}

/// What came of a connection.
pub fn connected(connected: &pointsman::engine::Connect) -> Observed {
    let outcome = if connected.closed {
        "closed"
    } else if connected.no_listener {
        "no-listener"
    } else {
        ""
    };
    Observed {
        cluster: connected.cluster.to_string(),
        flags: connected.flags.names().map(str::to_owned).collect(),
        endpoints: connected.endpoint.iter().map(|endpoint| endpoint.address().to_owned()).collect(),
        outcome: outcome.to_owned(),
        ..Observed::default()
    }
}

/// One request under way.
struct Live {
    exchange: Exchange,
    script: VecDeque<Scripted>,
    started: Timestamp,
    /// When to look again, as the exchange asked.
    wait: Timestamp,
    /// What the upstream of the attempt under way will do, and when.
    coming: Option<(Timestamp, Scripted)>,
    seen: Observed,
    done: bool,
}

impl Live {
    fn new(mut exchange: Exchange, script: VecDeque<Scripted>, now: Timestamp) -> Live {
        exchange.request_complete(now);
        Live { exchange, script, started: now, wait: now, coming: None, seen: Observed::default(), done: false }
    }

    /// When something happens next, if nothing else does.
    fn next_event(&self) -> Timestamp {
        self.coming.as_ref().map_or(self.wait, |(at, _)| self.wait.min(*at))
    }

    /// Does all that can be done now. Has anything moved?
    fn advance(&mut self, now: Timestamp, draws: &mut Draws) -> bool {
        let mut moved = false;
        while !self.done {
            if self.coming.as_ref().is_some_and(|(at, _)| *at <= now)
                && let Some((_, scripted)) = self.coming.take()
            {
                self.deliver(scripted, now, draws);
                moved = true;
            }
            match self.exchange.next(now, draws) {
                Step::Wait(until) => {
                    self.wait = until;
                    if self.coming.as_ref().is_none_or(|(at, _)| *at > now) {
                        return moved;
                    }
                }
                Step::Mirror(mirror) => self.seen.mirrors.push(SeenMirror {
                    candidates: mirror.destination().endpoints.iter().map(|one| one.address.to_string()).collect(),
                    method: mirror.head.method.to_string(),
                    path: mirror.head.path.clone(),
                    authority: mirror.head.authority.clone(),
                }),
                Step::Attempt(attempt) => self.send(attempt, now),
                Step::Cancel => self.coming = None,
                Step::Respond(reply) => {
                    self.seen.body = text(&reply.body);
                    self.end(reply.head, now);
                }
                Step::Return(head) => {
                    self.seen.body = "upstream".into();
                    self.exchange.on_end(now);
                    self.end(head, now);
                }
                Step::Reset => {
                    self.seen.outcome = "reset".into();
                    self.done = true;
                }
                _ => self.done = true,
            }
            moved = true;
        }
        moved
    }

    fn send(&mut self, attempt: Attempt, now: Timestamp) {
        let address = attempt.endpoint.address().to_owned();
        // Nothing listens there.
        if address.starts_with("127.10.") {
            self.coming = Some((now, Scripted::Refused));
            return;
        }
        self.seen.endpoints.push(address);
        self.seen.attempts += 1;
        self.seen.upstream = Some(world::Upstream {
            method: attempt.head.method.to_string(),
            authority: attempt.head.authority.clone(),
            path: attempt.head.path.clone(),
            headers: upstream_lines(&attempt.head.headers),
        });
        let next = if self.script.len() > 1 { self.script.pop_front() } else { self.script.front().cloned() };
        let next = next.unwrap_or(Scripted::Reset);
        let delay = if let Scripted::Answer { delay, .. } = &next { *delay } else { Duration::ZERO };
        self.coming = Some((now + delay, next));
    }

    fn deliver(&mut self, scripted: Scripted, now: Timestamp, draws: &mut Draws) {
        match scripted {
            Scripted::Refused => self.exchange.on_failure(Failure::ConnectRefused, now, draws),
            Scripted::Reset => self.exchange.on_failure(Failure::Reset, now, draws),
            Scripted::Answer { status, headers, .. } => {
                let mut head = ResponseHead::new(StatusCode::from_u16(status).unwrap_or(StatusCode::OK));
                head.headers = answer_headers(&headers);
                self.exchange.on_response(head, now, draws);
            }
        }
    }

    fn end(&mut self, head: ResponseHead, now: Timestamp) {
        let summary = self.exchange.summary();
        self.seen.route = summary.route.to_string();
        self.seen.cluster = summary.cluster.to_string();
        self.seen.flags = summary.flags.names().map(str::to_owned).collect();
        self.seen.status = head.status.as_u16();
        self.seen.headers = client_lines(&head.headers);
        self.seen.elapsed = now - self.started;
        if summary.code == Code::NoListener {
            self.seen.outcome = "no-listener".into();
        }
        self.done = true;
    }
}

/// What an upstream does with one attempt.
#[derive(Clone, Debug)]
pub enum Scripted {
    Refused,
    Reset,
    Answer { status: u16, headers: Vec<(String, String)>, delay: Duration },
}

/// `200,reset,delay:300,grpc:14,h:NAME=VALUE:STATUS`: one step for each attempt, the last one repeating.
pub fn script(text: &str) -> VecDeque<Scripted> {
    let answer = |status, headers, delay| Scripted::Answer { status, headers, delay: Duration::from_millis(delay) };
    let steps: VecDeque<Scripted> = text
        .split(',')
        .filter(|step| !step.is_empty())
        .map(|step| match step.split_once(':') {
            None if step == "reset" => Scripted::Reset,
            None => answer(step.parse().unwrap_or(200), Vec::new(), 0),
            Some(("delay", millis)) => answer(200, Vec::new(), millis.parse().unwrap_or(0)),
            Some(("grpc", status)) => {
                let headers = [("grpc-status", status), ("content-type", "application/grpc")];
                answer(200, headers.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec(), 0)
            }
            Some((_, header)) => {
                let (header, status) = header.rsplit_once(':').unwrap_or((header, "200"));
                let (name, value) = header.split_once('=').unwrap_or((header, ""));
                answer(status.parse().unwrap_or(200), vec![(name.to_owned(), value.to_owned())], 0)
            }
        })
        .collect();
    if steps.is_empty() { VecDeque::from([answer(200, Vec::new(), 0)]) } else { steps }
}

/// The header lines of a scripted answer.
pub fn answer_headers(written: &[(String, String)]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.insert("x-upstream", HeaderValue::from_static("original"));
    for (name, value) in written {
        let name = HeaderName::from_bytes(name.as_bytes());
        if let (Ok(name), Ok(value)) = (name, HeaderValue::from_bytes(&bytes(value))) {
            headers.append(name, value);
        }
    }
    headers
}

/// Each character of the case stands for one byte.
pub fn bytes(text: &str) -> Vec<u8> {
    text.chars().map(|character| u8::try_from(u32::from(character)).unwrap_or(b'?')).collect()
}

pub fn text(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| char::from(*byte)).collect()
}

pub fn method(request: &world::Request) -> Method {
    Method::from_bytes(request.method.as_bytes()).unwrap_or(Method::GET)
}

/// The header lines of a request as they came over the wire.
pub fn request_headers(request: &world::Request) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (name, value) in &request.headers {
        let name = HeaderName::from_bytes(name.as_bytes());
        // A codec drops the spaces around a value.
        let value = HeaderValue::from_bytes(bytes(value).trim_ascii());
        if let (Ok(name), Ok(value)) = (name, value) {
            headers.append(name, value);
        }
    }
    headers
}

/// The request as it came over the wire.
fn head(request: &world::Request) -> RequestHead {
    let mut head = RequestHead::new(method(request), request.port, request.authority.clone(), request.path.clone());
    head.headers = request_headers(request);
    head.remote = Some(([127, 0, 0, 1], 40_000).into());
    head.local = Some(([127, 0, 0, 1], request.port).into());
    head
}

/// Header lines as the cases list them, less what they leave out.
fn lines(headers: &HeaderMap, hide: impl Fn(&str, &[u8]) -> bool) -> Vec<(String, String)> {
    let shown = headers.iter().filter(|(name, value)| !hide(name.as_str(), value.as_bytes()));
    shown.map(|(name, value)| (name.as_str().to_owned(), text(value.as_bytes()))).collect()
}

pub fn upstream_lines(headers: &HeaderMap) -> Vec<(String, String)> {
    const HOP_BY_HOP: &[&str] =
        &["host", "connection", "keep-alive", "proxy-connection", "transfer-encoding", "upgrade"];
    lines(headers, |name, _| {
        HOP_BY_HOP.contains(&name)
            || name == "content-length"
            || name == "x-request-id"
            || name.starts_with("x-forwarded-")
            || name.starts_with("x-envoy-")
    })
}

pub fn client_lines(headers: &HeaderMap) -> Vec<(String, String)> {
    lines(headers, |name, value| {
        matches!(name, "date" | "server" | "content-length" | "connection")
            || (name == "x-upstream" && value == b"original")
            || (name.starts_with("x-envoy-") && name != "x-envoy-ratelimited")
    })
}
