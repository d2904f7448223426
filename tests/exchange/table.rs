//! Cases of `tests/data/exchange.yaml`: a rule, what the upstreams do, and the transcript of the exchange.

use crate::bed;
use http::{HeaderName, HeaderValue, Method, StatusCode};
use pointsman::Engine;
use pointsman::exchange::{Exchange, Failure, Step};
use pointsman::head::{RequestHead, ResponseHead};
use pointsman::time::Timestamp;
use serde::Deserialize;
use std::collections::{BTreeMap, VecDeque};
use std::fmt::Write as _;
use std::time::Duration;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Case {
    name: String,
    /// A rule of a `VirtualService` for `reviews`; its route is `reviews` unless it says otherwise.
    rule: serde_yaml::Value,
    #[serde(default, rename = "trafficPolicy")]
    traffic_policy: Option<serde_yaml::Value>,
    #[serde(default)]
    method: Option<String>,
    #[serde(default)]
    path: Option<String>,
    #[serde(default)]
    authority: Option<String>,
    #[serde(default)]
    headers: BTreeMap<String, String>,
    /// The first draws, in order.
    #[serde(default)]
    draws: VecDeque<u64>,
    /// Every draw after them.
    #[serde(default)]
    draw: u64,
    /// What the upstream does with each attempt: events with the time after the attempt was handed out, or after the
    /// event before.
    #[serde(default)]
    upstream: VecDeque<String>,
    /// When the request is complete, in ms; never if it is negative.
    #[serde(default)]
    complete: i64,
    /// What happens to the client, and when, in ms.
    #[serde(default)]
    client: BTreeMap<u64, String>,
    /// Headers of attempts and responses that the transcript shows.
    #[serde(default)]
    show: Vec<String>,
    trace: String,
}

#[derive(Clone, Debug)]
enum Happening {
    Connected,
    Status(u16, Vec<(String, String)>),
    Informational,
    Failure(Failure),
    End,
}

/// `connected 5, 200 20 x-a=b, reset 30`: what happens, and how long after what was before it.
fn happenings(text: &str, from: Timestamp) -> VecDeque<(Timestamp, Happening)> {
    let mut at = from;
    let one = |text: &str| {
        let mut words = text.split_whitespace();
        let what = words.next().expect("what happens");
        at = at + Duration::from_millis(words.next().map_or(0, |millis| millis.parse().expect("a time")));
        let happening = match what {
            "connected" => Happening::Connected,
            "hints" => Happening::Informational,
            "end" => Happening::End,
            "refused" => Happening::Failure(Failure::ConnectRefused),
            "connect-timeout" => Happening::Failure(Failure::ConnectTimeout),
            "reset" => Happening::Failure(Failure::Reset),
            "stream-reset" => Happening::Failure(Failure::StreamReset),
            "refused-stream" => Happening::Failure(Failure::RefusedStream),
            "protocol" => Happening::Failure(Failure::Protocol),
            status => {
                let headers = words.filter_map(|pair| pair.split_once('='));
                let headers = headers.map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
                Happening::Status(status.parse().expect("a status"), headers)
            }
        };
        (at, happening)
    };
    if text == "silent" { VecDeque::new() } else { text.split(',').map(str::trim).map(one).collect() }
}

fn ms(at: Timestamp) -> u64 {
    at.as_millis()
}

struct Run<'c> {
    case: &'c Case,
    draws: VecDeque<u64>,
    scripts: VecDeque<String>,
    coming: VecDeque<(Timestamp, Happening)>,
    trace: String,
}

impl Run<'_> {
    fn shown(&self, headers: &http::HeaderMap) -> String {
        let mut text = String::new();
        for name in &self.case.show {
            for value in headers.get_all(name) {
                let _ = write!(text, " {name}={}", value.to_str().expect("text"));
            }
        }
        text
    }

    fn line(&mut self, now: Timestamp, line: &str) {
        let _ = writeln!(self.trace, "{} {line}", ms(now));
    }

    fn tell(&mut self, exchange: &mut Exchange, happening: Happening, now: Timestamp) {
        let (draws, last) = (&mut self.draws, self.case.draw);
        let mut draws = || draws.pop_front().unwrap_or(last);
        match happening {
            Happening::Connected => exchange.on_connected(now),
            Happening::Informational => exchange.on_informational(now),
            Happening::End => exchange.on_end(now),
            Happening::Failure(failure) => exchange.on_failure(failure, now, &mut draws),
            Happening::Status(status, headers) => {
                let mut head = ResponseHead::new(StatusCode::from_u16(status).expect("a status"));
                for (name, value) in headers {
                    let name = HeaderName::try_from(name).expect("a name");
                    head.headers.append(name, HeaderValue::try_from(value).expect("a value"));
                }
                exchange.on_response(head, now, &mut draws);
            }
        }
    }

    /// Steps until there is nothing to do now. None: it is over.
    fn steps(&mut self, exchange: &mut Exchange, now: Timestamp) -> Option<Timestamp> {
        loop {
            let (draws, last) = (&mut self.draws, self.case.draw);
            let step = exchange.next(now, &mut || draws.pop_front().unwrap_or(last));
            let summary = exchange.summary();
            let (flags, details) = (summary.flags, summary.details());
            match step {
                Step::Wait(until) => return Some(until),
                Step::Attempt(attempt) => {
                    let replay = if attempt.may_replay { " replay" } else { "" };
                    let shown = self.shown(&attempt.head.headers);
                    let (number, path, authority) = (attempt.number, &attempt.head.path, &attempt.head.authority);
                    self.line(now, &format!("attempt {number} {authority}{path}{replay}{shown}"));
                    let script =
                        if self.scripts.len() > 1 { self.scripts.pop_front() } else { self.scripts.front().cloned() };
                    self.coming = happenings(&script.expect("a script for the attempt"), now);
                }
                Step::Mirror(mirror) => {
                    let shown = self.shown(&mirror.head.headers);
                    self.line(now, &format!("mirror {} {}{shown}", mirror.cluster, mirror.head.path));
                }
                Step::Cancel => {
                    self.coming.clear();
                    self.line(now, "cancel");
                }
                Step::Respond(reply) => {
                    let body = String::from_utf8(reply.body).expect("text");
                    let shown = self.shown(&reply.head.headers);
                    self.line(
                        now,
                        &format!("respond {} {flags} {details} {body:?}{shown}", reply.head.status.as_u16()),
                    );
                }
                Step::Return(head) => {
                    let shown = self.shown(&head.headers);
                    self.line(now, &format!("return {} {flags}{shown}", head.status.as_u16()));
                }
                Step::Reset => self.line(now, &format!("reset {flags} {details}")),
                Step::Done => return None,
                other => panic!("an unknown step: {other:?}"),
            }
        }
    }
}

fn head(case: &Case) -> RequestHead {
    let mut head = bed::get(case.path.as_deref().unwrap_or("/"));
    if let Some(method) = &case.method {
        head.method = Method::from_bytes(method.as_bytes()).expect("a method");
    }
    if let Some(authority) = &case.authority {
        head.authority = authority.clone();
    }
    for (name, value) in &case.headers {
        let name = HeaderName::try_from(name).expect("a name");
        head.headers.append(name, HeaderValue::try_from(value).expect("a value"));
    }
    head
}

fn yaml(value: &serde_yaml::Value) -> String {
    serde_yaml::to_string(value).expect("YAML")
}

fn engine(case: &Case) -> Engine {
    let mut rule = yaml(&case.rule);
    if case.rule.get("route").is_none()
        && case.rule.get("redirect").is_none()
        && case.rule.get("directResponse").is_none()
    {
        rule.push_str("route: [{destination: {host: reviews}}]\n");
    }
    let traffic_policy = case.traffic_policy.as_ref().map(yaml).unwrap_or_default();
    bed::engine(&bed::resources(&rule, &traffic_policy), Engine::builder().epoch(Duration::from_secs(1_000_000)))
}

/// The transcript of one exchange.
fn run(case: &Case) -> String {
    let engine = engine(case);
    let mut now = Timestamp::ZERO;
    let mut run = Run {
        case,
        draws: case.draws.clone(),
        scripts: case.upstream.clone(),
        coming: VecDeque::new(),
        trace: String::new(),
    };
    let (draws, last) = (&mut run.draws, case.draw);
    let mut exchange = engine.begin(head(case), now, &mut || draws.pop_front().unwrap_or(last));
    let mut complete = u64::try_from(case.complete).ok().map(Timestamp::from_millis);
    let mut client: VecDeque<_> = case.client.iter().map(|(at, what)| (Timestamp::from_millis(*at), what)).collect();
    loop {
        if complete.is_some_and(|at| at <= now) {
            exchange.request_complete(now);
            complete = None;
        }
        while run.coming.front().is_some_and(|(at, _)| *at <= now)
            && let Some((_, happening)) = run.coming.pop_front()
        {
            run.tell(&mut exchange, happening, now);
            if run.steps(&mut exchange, now).is_none() {
                break;
            }
        }
        while client.front().is_some_and(|(at, _)| *at <= now)
            && let Some((_, what)) = client.pop_front()
        {
            match what.as_str() {
                "gone" => exchange.on_client_gone(),
                "replay lost" => exchange.on_replay_lost(),
                what => panic!("an unknown word: {what}"),
            }
        }
        let Some(until) = run.steps(&mut exchange, now) else { break };
        assert!(until > now, "it waits for a time that has come");
        let next = [Some(until), run.coming.front().map(|(at, _)| *at), complete, client.front().map(|(at, _)| *at)];
        let next = next.into_iter().flatten().min().unwrap_or(Timestamp::MAX);
        if next == Timestamp::MAX {
            run.line(now, "waits for ever");
            break;
        }
        now = next;
    }
    let summary = exchange.summary();
    let _ = write!(run.trace, "{} {} attempts", summary.flags, summary.attempts);
    if let Some(why) = summary.retry_refused {
        let _ = write!(run.trace, ", {why}");
    }
    run.trace
}

#[test]
fn each_case_goes_as_written() {
    let text = include_str!("../data/exchange.yaml");
    let cases: Vec<Case> = serde_yaml::from_str(text).expect("the cases can be read");
    assert!(cases.len() > 40);
    let mut wrong = String::new();
    for case in &cases {
        let got = run(case);
        if got.trim() != case.trace.trim() {
            let _ = writeln!(wrong, "== {}\n-- written:\n{}\n-- went:\n{got}\n", case.name, case.trace.trim());
        }
    }
    assert!(wrong.is_empty(), "{wrong}");
}
