//! Laws: whatever happens in whatever order, an exchange ends, keeps to its attempts and its time, and gives back what it
//! held.

use crate::bed;
use http::{HeaderMap, HeaderValue, StatusCode};
use pointsman::Engine;
use pointsman::engine::{Event, Observer};
use pointsman::exchange::{Exchange, Failure, Step};
use pointsman::head::ResponseHead;
use pointsman::time::Timestamp;
use proptest::prelude::*;
use std::fmt::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

/// What the policy asks for.
#[derive(Clone, Debug)]
struct Setting {
    timeout: Option<u64>,
    per_try: Option<u64>,
    attempts: u32,
    retry_on: &'static str,
    delay: bool,
    abort: bool,
    mirror: bool,
    max_connections: Option<u32>,
    max_pending: Option<u32>,
    max_requests: Option<u32>,
    max_retries: Option<u32>,
    ejects: bool,
}

impl Setting {
    fn resources(&self) -> String {
        let mut rule = String::from("route: [{destination: {host: reviews}}]\n");
        if let Some(timeout) = self.timeout {
            let _ = writeln!(rule, "timeout: {timeout}ms");
        }
        if self.attempts == 0 {
            rule.push_str("retries: {attempts: 0}\n");
        } else {
            let per_try = self.per_try.map(|millis| format!(", perTryTimeout: {millis}ms")).unwrap_or_default();
            let _ = writeln!(rule, "retries: {{attempts: {}, retryOn: '{}'{per_try}}}", self.attempts, self.retry_on);
        }
        if self.mirror {
            rule.push_str("mirror: {host: shadow}\nmirrorPercentage: {value: 50}\n");
        }
        let half = "percentage: {value: 50}";
        let delay = if self.delay { format!("delay: {{fixedDelay: 20ms, {half}}}") } else { String::new() };
        let abort = if self.abort { format!("abort: {{httpStatus: 500, {half}}}") } else { String::new() };
        let faults: Vec<String> = [delay, abort].into_iter().filter(|part| !part.is_empty()).collect();
        if !faults.is_empty() {
            let _ = writeln!(rule, "fault: {{{}}}", faults.join(", "));
        }
        let limit = |name: &str, limit: Option<u32>| limit.map(|limit| format!("{name}: {limit}"));
        let http = [
            limit("http1MaxPendingRequests", self.max_pending),
            limit("http2MaxRequests", self.max_requests),
            limit("maxRetries", self.max_retries),
        ];
        let http: Vec<String> = http.into_iter().flatten().collect();
        let tcp = limit("maxConnections", self.max_connections);
        let mut traffic_policy = String::new();
        if !http.is_empty() || tcp.is_some() {
            let tcp = tcp.map(|tcp| format!("tcp: {{{tcp}}}, ")).unwrap_or_default();
            let _ = writeln!(traffic_policy, "connectionPool: {{{tcp}http: {{{}}}}}", http.join(", "));
        }
        if self.ejects {
            traffic_policy.push_str(
                "outlierDetection: {consecutive5xxErrors: 2, interval: 50ms, baseEjectionTime: 50ms, maxEjectionPercent: 100}\n",
            );
        }
        bed::resources(&rule, &traffic_policy)
    }
}

fn setting() -> impl Strategy<Value = Setting> {
    let words = prop_oneof![
        Just("5xx"),
        Just("gateway-error,connect-failure"),
        Just("reset,retriable-status-codes,503"),
        Just("reset-before-request,refused-stream,unavailable"),
    ];
    let limits = (
        proptest::option::of(1..3u32),
        proptest::option::of(1..3u32),
        proptest::option::of(1..4u32),
        proptest::option::of(1..2u32),
    );
    let faults = (any::<bool>(), any::<bool>(), any::<bool>(), any::<bool>());
    let times = (proptest::option::of(20..200u64), proptest::option::of(10..100u64));
    (times, 0..4u32, words, faults, limits).prop_map(|(times, attempts, retry_on, faults, limits)| Setting {
        timeout: times.0,
        per_try: times.1,
        attempts,
        retry_on,
        delay: faults.0,
        abort: faults.1,
        mirror: faults.2,
        ejects: faults.3,
        max_connections: limits.0,
        max_pending: limits.1,
        max_requests: limits.2,
        max_retries: limits.3,
    })
}

/// What happens: to the world, or to the exchange with this number.
#[derive(Clone, Debug)]
enum Act {
    Begin,
    Pass(u64),
    Next(usize),
    Complete(usize),
    Connected(usize),
    Informational(usize),
    Response(usize, u16, Option<u8>),
    Fail(usize, Failure),
    Trailers(usize, u8),
    End(usize),
    ReplayLost(usize),
    BodyGone(usize),
    ClientGone(usize),
    Drop(usize),
}

fn act() -> impl Strategy<Value = Act> {
    let failures = prop_oneof![
        Just(Failure::ConnectRefused),
        Just(Failure::ConnectTimeout),
        Just(Failure::Reset),
        Just(Failure::StreamReset),
        Just(Failure::RefusedStream),
        Just(Failure::Protocol),
    ];
    let statuses = prop_oneof![Just(200u16), Just(500), Just(503), Just(425), Just(404)];
    let one = 0..4usize;
    prop_oneof![
        3 => Just(Act::Begin),
        4 => (0..60u64).prop_map(Act::Pass),
        8 => one.clone().prop_map(Act::Next),
        3 => one.clone().prop_map(Act::Complete),
        1 => one.clone().prop_map(Act::Connected),
        1 => one.clone().prop_map(Act::Informational),
        4 => (one.clone(), statuses, proptest::option::of(0..17u8)).prop_map(|(who, status, grpc)| Act::Response(who, status, grpc)),
        4 => (one.clone(), failures).prop_map(|(who, failure)| Act::Fail(who, failure)),
        1 => (one.clone(), 0..17u8).prop_map(|(who, status)| Act::Trailers(who, status)),
        2 => one.clone().prop_map(Act::End),
        1 => one.clone().prop_map(Act::ReplayLost),
        1 => one.clone().prop_map(Act::BodyGone),
        1 => one.clone().prop_map(Act::ClientGone),
        1 => one.prop_map(Act::Drop),
    ]
}

#[derive(Default)]
struct Counts {
    decided: AtomicUsize,
    finished: AtomicUsize,
}

impl Observer for Counting {
    fn on_event(&self, event: &Event<'_>) {
        match event {
            Event::Decided { .. } => self.0.decided.fetch_add(1, Ordering::Relaxed),
            Event::Finished { .. } => self.0.finished.fetch_add(1, Ordering::Relaxed),
            _ => 0,
        };
    }
}

struct Counting(Arc<Counts>);

/// splitmix64.
struct Seeded(u64);

impl pointsman::entropy::Draws for Seeded {
    fn next_u64(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }
}

/// An exchange with what was seen of it.
struct Watched {
    exchange: Exchange,
    /// Is an attempt with the embedder?
    out: bool,
    over: bool,
    attempts: u32,
}

struct World {
    setting: Setting,
    engine: Engine,
    draws: Seeded,
    now: Timestamp,
    live: Vec<Watched>,
    counts: Arc<Counts>,
    transcript: String,
}

impl World {
    fn new(setting: &Setting, seed: u64) -> World {
        let counts = Arc::new(Counts::default());
        let engine = bed::engine(&setting.resources(), Engine::builder().observer(Counting(Arc::clone(&counts))));
        World {
            setting: setting.clone(),
            engine,
            draws: Seeded(seed),
            now: Timestamp::ZERO,
            live: Vec::new(),
            counts,
            transcript: String::new(),
        }
    }

    fn begin(&mut self) {
        let mut head = bed::get("/");
        if self.live.len() % 2 == 1 {
            head.headers.insert("content-type", HeaderValue::from_static("application/grpc"));
        }
        let exchange = self.engine.begin(head, self.now, &mut self.draws);
        self.live.push(Watched { exchange, out: false, over: false, attempts: 0 });
    }

    /// One step, and every law that can be seen in it.
    fn step(&mut self, who: usize) -> Option<Step> {
        let one = &mut self.live[who];
        let deadline = one.exchange.deadline();
        let step = one.exchange.next(self.now, &mut self.draws);
        let _ = writeln!(self.transcript, "{} {who} {}", self.now, kind(&step));
        if one.over {
            assert!(matches!(step, Step::Done), "a step after the end: {step:?}");
            return None;
        }
        match &step {
            Step::Wait(until) => {
                assert!(*until > self.now, "it waits for a time that has come");
                if let Some(deadline) = deadline {
                    assert!(*until <= deadline, "it sleeps through its deadline");
                }
            }
            Step::Attempt(attempt) => {
                assert!(!one.out, "two attempts at once");
                assert!(deadline.is_none_or(|deadline| self.now < deadline), "an attempt after the deadline");
                one.out = true;
                one.attempts += 1;
                assert_eq!(attempt.number, one.attempts);
                assert!(one.attempts <= 1 + self.setting.attempts, "more attempts than the policy allows");
            }
            Step::Cancel => {
                assert!(one.out, "nothing to let go of");
                one.out = false;
            }
            Step::Mirror(_) => {
                assert!(self.setting.mirror);
                assert_eq!(one.attempts, 0, "a copy after the first attempt");
            }
            Step::Return(_) => assert!(one.out, "no response to pass on"),
            Step::Respond(_) => {
                assert!(!one.out, "an answer while an attempt is under way");
                one.over = true;
            }
            Step::Reset | Step::Done => one.over = true,
            step => panic!("an unknown step: {step:?}"),
        }
        Some(step)
    }

    fn act(&mut self, act: &Act) {
        let who = match act {
            Act::Begin => return self.begin(),
            Act::Pass(millis) => {
                self.now = self.now + Duration::from_millis(*millis);
                return;
            }
            Act::Next(who) | Act::Complete(who) | Act::Connected(who) | Act::Informational(who) => *who,
            Act::Response(who, ..) | Act::Fail(who, _) | Act::Trailers(who, _) | Act::End(who) => *who,
            Act::ReplayLost(who) | Act::BodyGone(who) | Act::ClientGone(who) | Act::Drop(who) => *who,
        };
        if who >= self.live.len() {
            return;
        }
        let now = self.now;
        let one = &mut self.live[who];
        match act {
            Act::Next(_) => {
                self.step(who);
            }
            Act::Complete(_) => one.exchange.request_complete(now),
            Act::Connected(_) => one.exchange.on_connected(now),
            Act::Informational(_) => one.exchange.on_informational(now),
            Act::Response(_, status, grpc) => {
                let mut head = ResponseHead::new(StatusCode::from_u16(*status).expect("a status"));
                if let Some(grpc) = grpc {
                    head.headers.insert("grpc-status", HeaderValue::from(u16::from(*grpc)));
                }
                one.exchange.on_response(head, now, &mut self.draws);
            }
            Act::Fail(_, failure) => {
                // An attempt that failed is no longer with the embedder, if it was heard in time.
                let before = one.exchange.summary().tries.last().and_then(|last| last.failure);
                one.exchange.on_failure(*failure, now, &mut self.draws);
                let after = one.exchange.summary().tries.last().and_then(|last| last.failure);
                if before.is_none() && after.is_some() {
                    one.out = false;
                }
            }
            Act::Trailers(_, status) => {
                let mut trailers = HeaderMap::new();
                trailers.insert("grpc-status", HeaderValue::from(u16::from(*status)));
                one.exchange.on_trailers(&trailers, now);
            }
            Act::End(_) => one.exchange.on_end(now),
            Act::ReplayLost(_) => one.exchange.on_replay_lost(),
            Act::BodyGone(_) => {
                let before = one.exchange.summary().attempts;
                one.exchange.on_body_gone(now);
                if one.exchange.summary().attempts < before {
                    one.out = false;
                }
            }
            Act::ClientGone(_) => one.exchange.on_client_gone(),
            Act::Drop(_) => {
                drop(self.live.remove(who));
            }
            Act::Begin | Act::Pass(_) => {}
        }
        if let Some(one) = self.live.get_mut(who)
            && one.exchange.is_done()
        {
            one.over = true;
        }
    }

    /// Brings every exchange to its end, as an embedder would whose upstreams all fail.
    fn drain(&mut self) {
        for who in 0..self.live.len() {
            for round in 0.. {
                assert!(round < 200, "it does not end: {:?}", self.live[who].exchange);
                self.act(&Act::Complete(who));
                match self.step(who) {
                    None | Some(Step::Respond(_) | Step::Reset | Step::Done) => break,
                    // Queued behind others: they end by themselves.
                    Some(Step::Wait(Timestamp::MAX)) if !self.live[who].out => {
                        self.act(&Act::ClientGone(who));
                    }
                    Some(Step::Wait(_)) if self.live[who].out => self.act(&Act::Fail(who, Failure::Reset)),
                    Some(Step::Wait(until)) => self.now = self.now.max(until),
                    Some(_) => {}
                }
            }
        }
    }
}

fn kind(step: &Step) -> String {
    match step {
        Step::Wait(until) => format!("wait {until}"),
        Step::Attempt(attempt) => format!("attempt {} {}", attempt.number, attempt.endpoint.key()),
        Step::Mirror(mirror) => format!("mirror {}", mirror.endpoint.key()),
        Step::Respond(reply) => format!("respond {}", reply.head.status),
        Step::Return(head) => format!("return {}", head.status),
        other => format!("{other:?}"),
    }
}

/// The transcript of a run, with all laws checked on the way.
fn run(setting: &Setting, seed: u64, acts: &[Act]) -> String {
    let mut world = World::new(setting, seed);
    for act in acts {
        world.act(act);
    }
    world.drain();
    world.live.clear();
    let decided = world.counts.decided.load(Ordering::Relaxed);
    assert_eq!(decided, world.counts.finished.load(Ordering::Relaxed), "each exchange is over once");
    for endpoint in world.engine.endpoints() {
        assert_eq!(endpoint.active, 0, "{} holds a request", endpoint.endpoint);
    }
    // Nothing is held: once whoever was ejected is back, a request goes out at once, and is retried.
    world.now = world.now + Duration::from_secs(100);
    world.begin();
    let last = world.live.len() - 1;
    world.act(&Act::Complete(last));
    let mut attempts = 0;
    for _ in 0..50 {
        match world.step(last) {
            Some(Step::Attempt(_)) => {
                attempts += 1;
                world.act(&Act::Fail(last, Failure::ConnectRefused));
            }
            Some(Step::Wait(until)) => {
                assert!(until < Timestamp::MAX, "it waits for a place that nobody has");
                world.now = until;
            }
            Some(Step::Respond(_)) | None => break,
            Some(_) => {}
        }
    }
    let summary = world.live[last].exchange.summary();
    let flags = summary.flags.to_string();
    assert!(!flags.contains("UO"), "a limit refuses the only request there is: {summary:?}");
    assert!(attempts >= 1 || flags.contains("FI"), "{summary:?}");
    world.transcript
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn any_order_of_events_keeps_the_laws(
        setting in setting(),
        seed in any::<u64>(),
        acts in proptest::collection::vec(act(), 0..80),
    ) {
        let first = run(&setting, seed, &acts);
        prop_assert_eq!(first, run(&setting, seed, &acts), "the same draws, times and events go another way");
    }
}
