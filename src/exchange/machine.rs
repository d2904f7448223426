//! The state machine itself.

use super::retry::{Ended, Retries, grpc_status};
use super::step::{Attempt, Code, Failure, Mirror, Step, Summary};
use crate::engine::{Event, Shared};
use crate::entropy::Draws;
use crate::head::{RequestHead, ResponseHead};
use crate::limit::Permit;
use crate::outlier::Outcome;
use crate::policy::{
    AbortStatus, Action, Flags, Forward, HeaderOperations, NoRoute, Policy, Route, Target, Verdict, WeightedDestination,
};
use crate::time::Timestamp;
use crate::transform::cors::{self, CorsVerdict};
use crate::transform::headers::{self, Direction, RequestContext};
use crate::transform::respond::{self, Reply};
use crate::transform::{Context, LocalReply, grpc_timeout, hash, redirect, rewrite};
use crate::upstream::{Admission, EndpointState, RequestPermit, Ticket, Upstream};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use std::fmt;
use std::sync::Arc;
use std::task::Waker;
use std::time::Duration;

const GRPC_TIMEOUT: HeaderName = HeaderName::from_static("grpc-timeout");
const DEFAULT_CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// One request's life. See the [module](super).
pub struct Exchange {
    shared: Arc<Shared>,
    policy: Arc<Policy>,
    head: RequestHead,
    route: Option<Arc<Route>>,
    /// Which of the route's destinations.
    chosen: usize,
    draw: u64,
    phase: Phase,
    upstream: Option<Arc<Upstream>>,
    retries: Option<Retries>,
    retry_permit: Option<Permit>,
    tried: Vec<Arc<EndpointState>>,
    /// Where a host that nobody knows is to be reached.
    passthrough: bool,
    cors_origin: Option<HeaderValue>,
    cookies: Vec<HeaderValue>,
    mirrors: Vec<Mirror>,
    timeout: Option<Duration>,
    request_complete: Option<Timestamp>,
    routed: Option<Timestamp>,
    summary: Summary,
    retried: bool,
}

enum Phase {
    /// Held by a fault.
    Delay(Timestamp),
    /// The answer is ready.
    Answer(LocalReply),
    /// To be routed: faults and CORS are next.
    Routing,
    /// An endpoint is to be picked.
    Picking,
    /// Waiting for a connection.
    Queued(Ticket, Arc<EndpointState>),
    /// The attempt is to be handed out.
    Sending(RequestPermit),
    /// The attempt is under way.
    Sent(Box<Sent>),
    /// The attempt is to be let go of, then the next phase.
    Cancelling(Box<Phase>),
    /// Waiting to try again.
    Backoff(Timestamp),
    /// The response is to be passed on.
    Returning(ResponseHead, Box<Sent>),
    /// The response is on its way.
    Returned(Box<Sent>),
    Done,
}

/// An attempt under way. Its outcome is told once.
struct Sent {
    permit: RequestPermit,
    upstream: Option<Arc<Upstream>>,
    /// When its time began.
    since: Timestamp,
    outcome_told: bool,
}

impl fmt::Debug for Exchange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Exchange").field("summary", &self.summary).finish_non_exhaustive()
    }
}

fn earlier(a: Timestamp, b: Option<Timestamp>) -> Timestamp {
    b.map_or(a, |b| a.min(b))
}

impl Exchange {
    pub(crate) fn new(
        shared: Arc<Shared>,
        policy: Arc<Policy>,
        mut head: RequestHead,
        now: Timestamp,
        draws: &mut dyn Draws,
    ) -> Exchange {
        clean(&mut head);
        let mut exchange = Exchange {
            shared,
            policy: Arc::clone(&policy),
            head,
            route: None,
            chosen: 0,
            draw: 0,
            phase: Phase::Done,
            upstream: None,
            retries: None,
            retry_permit: None,
            tried: Vec::new(),
            passthrough: false,
            cors_origin: None,
            cookies: Vec::new(),
            mirrors: Vec::new(),
            timeout: None,
            request_complete: None,
            routed: None,
            summary: Summary::default(),
            retried: false,
        };
        exchange.decide(&policy, now, draws);
        exchange.shared.observe(|| Event::Decided { summary: &exchange.summary });
        exchange
    }

    /// What became of the request so far.
    pub fn summary(&self) -> &Summary {
        &self.summary
    }

    /// The route that was taken.
    pub fn route(&self) -> Option<&Arc<Route>> {
        self.route.as_ref()
    }

    /// Is the exchange over?
    pub fn is_done(&self) -> bool {
        matches!(self.phase, Phase::Done)
    }

    /// May a body that was sent be needed again, should the attempt fail?
    pub fn may_replay(&self) -> bool {
        self.retries.as_ref().is_some_and(|retries| retries.left() > 0) || !self.mirrors.is_empty()
    }

    /// Wakes a task when an exchange that waits for a connection may go on. True if that may be now.
    pub fn poll_turn(&self, waker: &Waker) -> bool {
        match &self.phase {
            Phase::Queued(ticket, _) => {
                ticket.register(waker);
                // A turn that came before the waker was there would be missed.
                ticket.may_go()
            }
            _ => false,
        }
    }

    /// The whole request has been read from the client: the route's time begins.
    pub fn request_complete(&mut self, now: Timestamp) {
        self.request_complete.get_or_insert(now);
    }

    fn decide(&mut self, policy: &Policy, now: Timestamp, draws: &mut dyn Draws) {
        match policy.normalize(&self.head.path) {
            Ok(path) if path != self.head.path => self.head.path = path.into_owned(),
            Ok(_) => {}
            Err(_) => {
                self.refuse(StatusCode::BAD_REQUEST, Flags::NONE, Code::BadPath);
                return;
            }
        }
        let request = self.head.as_request();
        let decision = policy.decide_normalized(&request, &self.head.path, draws);
        self.draw = decision.draw;
        match decision.verdict {
            Verdict::Forward { route, forward, destination } => {
                self.chosen = forward.destinations.iter().position(|one| std::ptr::eq(one, destination)).unwrap_or(0);
                self.summary.route = Arc::clone(&route.name);
                if let Target::Destination(id) = destination.target
                    && let Some(destination) = policy.destination(id)
                {
                    self.summary.cluster = Arc::clone(&destination.name);
                    self.upstream = self.shared.upstream(&destination.name);
                }
                let delay = forward.fault.delay;
                self.route = Some(Arc::clone(route));
                self.phase = match delay {
                    Some(delay) if delay.fraction.takes(draws.next_u64()) => {
                        self.summary.flags |= Flags::DI;
                        Phase::Delay(now + delay.duration)
                    }
                    _ => Phase::Routing,
                };
            }
            Verdict::Redirect { route, redirect } => {
                let route = Arc::clone(route);
                self.summary.route = Arc::clone(&route.name);
                let url = redirect::location(redirect, &route.matcher.path, &self.head);
                let (name, value) = respond::location(&url);
                let reply = Reply::new(redirect.status, b"").with_header(name, value);
                self.answer(reply, Flags::NONE, Code::Redirect, &[&route.response_headers]);
                self.route = Some(route);
            }
            Verdict::Respond { route, response } => {
                let route = Arc::clone(route);
                self.summary.route = Arc::clone(&route.name);
                let mut reply = Reply::new(response.status, &response.body);
                if respond::has_location(response.status) {
                    let (name, value) = respond::location(&redirect::own_url(&self.head));
                    reply = reply.with_header(name, value);
                }
                self.answer(reply, Flags::NONE, Code::DirectResponse, &[&route.response_headers]);
                self.route = Some(route);
            }
            Verdict::PassThrough => {
                self.summary.route = "allow_any".into();
                self.summary.cluster = "PassthroughCluster".into();
                self.passthrough = true;
                self.phase = Phase::Routing;
            }
            Verdict::NoRoute(NoRoute::Refused) => self.refuse(StatusCode::BAD_GATEWAY, Flags::NONE, Code::UnknownHost),
            Verdict::NoRoute(NoRoute::BadPath) => self.refuse(StatusCode::BAD_REQUEST, Flags::NONE, Code::BadPath),
            Verdict::NoRoute(NoRoute::HttpsRedirect) => {
                let (name, value) = respond::location(&redirect::to_https(&self.head));
                let reply = Reply::new(StatusCode::MOVED_PERMANENTLY, b"").with_header(name, value);
                self.answer(reply, Flags::NONE, Code::Redirect, &[]);
            }
            Verdict::NoRoute(reason) => {
                let code = match reason {
                    NoRoute::NoListener => Code::NoListener,
                    NoRoute::UnknownHost => Code::UnknownHost,
                    _ => Code::NoRoute,
                };
                self.refuse(StatusCode::NOT_FOUND, Flags::NR, code);
            }
        }
    }

    fn forward<'r>(route: &'r Option<Arc<Route>>) -> Option<&'r Forward> {
        match &route.as_ref()?.action {
            Action::Forward(forward) => Some(forward),
            _ => None,
        }
    }

    fn destination(&self) -> Option<&WeightedDestination> {
        Self::forward(&self.route)?.destinations.get(self.chosen)
    }

    /// An empty answer outside every route.
    fn refuse(&mut self, status: StatusCode, flags: Flags, code: Code) {
        self.answer(Reply::new(status, b""), flags, code, &[]);
    }

    fn answer(&mut self, reply: Reply<'_>, flags: Flags, code: Code, phases: &[&HeaderOperations]) {
        self.summary.flags |= flags;
        self.summary.code = code;
        let context = Context {
            route_name: Some(&self.summary.route),
            cluster: Some(&self.summary.cluster),
            upstream_host: self.summary.endpoint.as_deref(),
            flags: self.summary.flags,
            ..Context::new(&self.head)
        };
        let local = reply.build(&self.head, &context, phases);
        self.phase = Phase::Answer(local);
    }

    /// An answer in the upstream's place: header operations and CORS apply.
    fn answer_forward(&mut self, reply: Reply<'_>, flags: Flags, code: Code) {
        let route = self.route.clone();
        let own = Self::forward(&route).and_then(|forward| forward.destinations.get(self.chosen));
        let mut phases: Vec<&HeaderOperations> = Vec::new();
        phases.extend(own.map(|own| &own.response_headers));
        phases.extend(route.as_ref().map(|route| &route.response_headers));
        self.answer(reply, flags, code, &phases);
        if let (Phase::Answer(local), Some(origin)) = (&mut self.phase, &self.cors_origin)
            && let Some(policy) = Self::forward(&route).and_then(|forward| forward.cors.as_ref())
        {
            cors::mark(policy, origin, &mut local.head);
        }
    }

    /// When the whole time is up.
    fn deadline(&self) -> Option<Timestamp> {
        let begin = self.request_complete?.max(self.routed?);
        Some(begin + self.timeout?)
    }

    /// When the attempt's time is up.
    fn per_try_deadline(&self, sent: &Sent) -> Option<Timestamp> {
        let timeout = self.retries.as_ref()?.policy().per_try_timeout?;
        if self.timeout.is_some_and(|whole| timeout >= whole) {
            return None;
        }
        Some(sent.since.max(self.request_complete?) + timeout)
    }

    /// What is to be done now. Call it until it says [`Step::Wait`] or [`Step::Done`], and again when the time has come or
    /// something was told.
    #[must_use]
    pub fn next(&mut self, now: Timestamp, draws: &mut dyn Draws) -> Step {
        loop {
            if let Some(mirror) = self.mirrors.pop() {
                return Step::Mirror(mirror);
            }
            match std::mem::replace(&mut self.phase, Phase::Done) {
                Phase::Done => return Step::Done,
                Phase::Answer(local) => {
                    self.retry_permit = None;
                    self.summary.status = local.head.status.as_u16();
                    self.shared.observe(|| Event::Finished { summary: &self.summary });
                    return Step::Respond(local);
                }
                Phase::Delay(until) if now < until => {
                    self.phase = Phase::Delay(until);
                    return Step::Wait(until);
                }
                Phase::Delay(_) | Phase::Routing => self.route_on(now, draws),
                Phase::Picking => {
                    if self.time_is_up(now) {
                        self.time_out();
                    } else {
                        self.pick(now, draws);
                    }
                }
                Phase::Queued(ticket, endpoint) => {
                    if self.time_is_up(now) {
                        drop(ticket);
                        self.time_out();
                        continue;
                    }
                    match ticket.try_admit() {
                        Ok(admission) => self.admitted(admission, endpoint, now, draws),
                        Err(ticket) => {
                            self.phase = Phase::Queued(ticket, endpoint);
                            return Step::Wait(earlier(Timestamp::MAX, self.deadline()));
                        }
                    }
                }
                Phase::Sending(permit) => return self.send(permit, now),
                Phase::Sent(sent) => match self.watch(sent, now, draws) {
                    Some(step) => return step,
                    None => continue,
                },
                Phase::Cancelling(after) => {
                    self.phase = *after;
                    return Step::Cancel;
                }
                Phase::Backoff(until) => {
                    if self.time_is_up(now) {
                        self.time_out();
                    } else if now < until {
                        self.phase = Phase::Backoff(until);
                        return Step::Wait(earlier(until, self.deadline()));
                    } else {
                        self.phase = Phase::Picking;
                    }
                }
                Phase::Returning(head, sent) => {
                    self.phase = Phase::Returned(sent);
                    self.summary.status = head.status.as_u16();
                    return Step::Return(head);
                }
                Phase::Returned(sent) => {
                    if self.time_is_up(now) {
                        self.summary.flags |= Flags::UT;
                        self.tell(sent, Outcome::Timeout, now);
                        self.finish();
                        return Step::Reset;
                    }
                    self.phase = Phase::Returned(sent);
                    return Step::Wait(earlier(Timestamp::MAX, self.deadline()));
                }
            }
        }
    }

    fn finish(&mut self) {
        self.phase = Phase::Done;
        self.retry_permit = None;
        self.shared.observe(|| Event::Finished { summary: &self.summary });
    }

    fn time_is_up(&self, now: Timestamp) -> bool {
        self.deadline().is_some_and(|deadline| now >= deadline)
    }

    fn time_out(&mut self) {
        let reply = Reply::new(StatusCode::GATEWAY_TIMEOUT, b"upstream request timeout");
        self.answer_forward(reply, Flags::UT, Code::Timeout);
    }

    /// After a delay: abort, CORS, and everything that is done to the request once.
    fn route_on(&mut self, now: Timestamp, draws: &mut dyn Draws) {
        if self.passthrough {
            self.routed = Some(now);
            self.phase = Phase::Picking;
            return;
        }
        let Some(route) = self.route.clone() else {
            self.refuse(StatusCode::NOT_FOUND, Flags::NR, Code::NoRoute);
            return;
        };
        let Action::Forward(forward) = &route.action else { return };
        if let Some(abort) = forward.fault.abort
            && abort.fraction.takes(draws.next_u64())
        {
            let body = b"fault filter abort";
            let reply = match abort.status {
                AbortStatus::Http(status) => Reply::new(status, body),
                AbortStatus::Grpc(status) => Reply { grpc_status: Some(status), ..Reply::new(StatusCode::OK, body) },
            };
            self.answer_forward(reply, Flags::FI, Code::FaultAbort);
            return;
        }
        if let Some(policy) = &forward.cors {
            match cors::check(policy, &self.head) {
                CorsVerdict::Pass => {}
                CorsVerdict::Mark(origin) => self.cors_origin = Some(origin),
                CorsVerdict::Preflight(head) => {
                    self.summary.code = Code::Preflight;
                    self.phase = Phase::Answer(LocalReply { head, body: Vec::new() });
                    return;
                }
            }
        }
        if self.upstream.is_none() {
            self.answer_forward(Reply::new(StatusCode::SERVICE_UNAVAILABLE, b""), Flags::NC, Code::NoCluster);
            return;
        }
        self.routed = Some(now);
        self.timeout = forward.timeout;
        if self.head.is_grpc() {
            let asked = self.head.headers.get(GRPC_TIMEOUT).and_then(|value| grpc_timeout::parse(value.as_bytes()));
            self.timeout = match (asked, forward.timeout) {
                (Some(asked), Some(most)) => Some(asked.min(most)),
                (asked, most) => asked.or(most),
            }
            .filter(|timeout| !timeout.is_zero());
        }
        self.change_head(&route, forward);
        self.retries = Retries::new(forward.retry.as_ref(), &mut self.head);
        self.write_grpc_timeout();
        self.phase = Phase::Picking;
    }

    /// Header operations and rewrites.
    fn change_head(&mut self, route: &Route, forward: &Forward) {
        let Some(destination) = forward.destinations.get(self.chosen) else { return };
        let context = RequestContext {
            start_time: None,
            route_name: Some(&self.summary.route),
            cluster: Some(&self.summary.cluster),
        };
        headers::apply_to_request(&destination.request_headers, &context, &mut self.head);
        headers::apply_to_request(&forward.request_headers, &context, &mut self.head);
        if let Some(host) = forward.host_rewrite.as_ref().or(destination.host_rewrite.as_ref()) {
            let old = std::mem::replace(&mut self.head.authority, host.to_string());
            if let Ok(old) = HeaderValue::from_str(&old) {
                self.head.headers.insert("x-envoy-original-host", old);
            }
        }
        if let Some(path) = rewrite::path(&self.head.path, &route.matcher.path, &forward.path_rewrite) {
            let old = std::mem::replace(&mut self.head.path, path);
            if let Ok(old) = HeaderValue::from_str(&old) {
                self.head.headers.insert("x-envoy-original-path", old);
            }
        }
    }

    /// A gRPC upstream is told how long it has: an attempt's time if that is shorter, else the whole.
    fn write_grpc_timeout(&mut self) {
        if !self.head.is_grpc() {
            return;
        }
        let per_try = self.retries.as_ref().and_then(|retries| retries.policy().per_try_timeout);
        let per_try = per_try.filter(|per_try| self.timeout.is_none_or(|whole| *per_try < whole));
        match per_try.or(self.timeout) {
            Some(timeout) => {
                if let Ok(value) = HeaderValue::from_str(&grpc_timeout::format(timeout)) {
                    self.head.headers.insert(GRPC_TIMEOUT, value);
                }
            }
            None => {
                self.head.headers.remove(GRPC_TIMEOUT);
            }
        }
    }

    fn pick(&mut self, now: Timestamp, draws: &mut dyn Draws) {
        if self.passthrough || self.picks_original_destination() {
            match self.head.original_destination {
                Some(address) => {
                    let endpoint = EndpointState::passthrough(address);
                    match &self.upstream {
                        Some(upstream) => {
                            let admission = upstream.admit(&endpoint);
                            self.admitted(admission, endpoint, now, draws);
                        }
                        None => self.phase = Phase::Sending(RequestPermit::untracked(endpoint)),
                    }
                }
                None => self.no_healthy_upstream(),
            }
            return;
        }
        let Some(upstream) = self.upstream.clone() else { return self.no_healthy_upstream() };
        let events = upstream.sweep(now);
        self.shared.observe_outliers(&upstream, &events);
        let hashed = if upstream.is_hashing() {
            let keys = Self::forward(&self.route).map(|forward| forward.hash.as_slice()).unwrap_or_default();
            hash::hash(keys, &self.head, !self.policy.is_gateway())
        } else {
            hash::HashOutcome::default()
        };
        let policy = self.retries.as_ref().map(|retries| retries.policy());
        let (hosts, priorities) =
            policy.map_or((false, false), |policy| (policy.avoid_previous_hosts, policy.avoid_previous_priorities));
        let Some(endpoint) = upstream.pick(hashed.hash, &self.tried, hosts, priorities, now, draws) else {
            return self.no_healthy_upstream();
        };
        self.cookies.extend(hashed.cookies);
        let admission = upstream.admit(&endpoint);
        self.admitted(admission, endpoint, now, draws);
    }

    fn picks_original_destination(&self) -> bool {
        self.upstream.as_ref().is_some_and(|upstream| upstream.is_passthrough())
    }

    fn no_healthy_upstream(&mut self) {
        let reply = Reply::new(StatusCode::SERVICE_UNAVAILABLE, b"no healthy upstream");
        self.answer_forward(reply, Flags::UH, Code::NoHealthyUpstream);
    }

    fn admitted(&mut self, admission: Admission, endpoint: Arc<EndpointState>, now: Timestamp, draws: &mut dyn Draws) {
        match admission {
            Admission::Admitted(permit) => {
                self.prepare_mirrors(now, draws);
                self.phase = Phase::Sending(permit);
            }
            Admission::Queued(ticket) => {
                self.prepare_mirrors(now, draws);
                self.phase = Phase::Queued(ticket, endpoint);
            }
            Admission::Overflow => {
                self.shared.observe(|| Event::Limited { cluster: &self.summary.cluster });
                let body = self.reset_body("overflow");
                let reply = Reply::new(StatusCode::SERVICE_UNAVAILABLE, body.as_bytes())
                    .with_header(HeaderName::from_static("x-envoy-overloaded"), HeaderValue::from_static("true"));
                self.answer_forward(reply, Flags::UO, Code::Overflow);
            }
        }
    }

    fn reset_body(&self, reason: &str) -> String {
        let what = if self.retried { "retried and the latest reset reason" } else { "reset reason" };
        format!("upstream connect error or disconnect/reset before headers. {what}: {reason}")
    }

    /// Copies go out with the first attempt, tested on the draw that picked the destination.
    fn prepare_mirrors(&mut self, now: Timestamp, draws: &mut dyn Draws) {
        if self.summary.attempts > 0 || !self.tried.is_empty() {
            return;
        }
        let route = self.route.clone();
        let Some(forward) = Self::forward(&route) else { return };
        for mirror in forward.mirrors.iter().rev().filter(|mirror| mirror.fraction.takes(self.draw)) {
            let Target::Destination(id) = mirror.target else { continue };
            let Some(destination) = self.policy.destination(id) else { continue };
            let Some(upstream) = self.shared.upstream(&destination.name) else { continue };
            let hashed = if upstream.is_hashing() {
                hash::hash(&forward.hash, &self.head, !self.policy.is_gateway()).hash
            } else {
                None
            };
            let Some(endpoint) = upstream.pick(hashed, &[], false, false, now, draws) else { continue };
            let Admission::Admitted(permit) = upstream.admit(&endpoint) else { continue };
            self.mirrors.push(Mirror {
                cluster: Arc::clone(&destination.name),
                endpoint,
                head: self.head.clone(),
                timeout: self.timeout,
                upstream,
                _permit: permit,
            });
        }
    }

    fn send(&mut self, permit: RequestPermit, now: Timestamp) -> Step {
        self.summary.attempts += 1;
        let endpoint = Arc::clone(permit.endpoint());
        self.summary.endpoint = Some(Arc::clone(endpoint.key()));
        self.tried.push(Arc::clone(&endpoint));
        let destination = self.upstream.as_ref().map(|upstream| upstream.destination());
        let mut head = self.head.clone();
        head.headers.insert("x-envoy-attempt-count", HeaderValue::from(self.summary.attempts));
        let attempt = Attempt {
            number: self.summary.attempts,
            endpoint,
            connect_timeout: destination
                .as_ref()
                .map_or(DEFAULT_CONNECT_TIMEOUT, |destination| destination.connection.connect_timeout),
            destination,
            head,
            may_replay: self.may_replay(),
        };
        self.shared.observe(|| Event::Attempt { summary: &self.summary });
        let upstream = self.upstream.clone();
        self.phase = Phase::Sent(Box::new(Sent { permit, upstream, since: now, outcome_told: false }));
        Step::Attempt(attempt)
    }

    /// An attempt is under way: is its time up?
    fn watch(&mut self, sent: Box<Sent>, now: Timestamp, draws: &mut dyn Draws) -> Option<Step> {
        if self.time_is_up(now) {
            self.tell(sent, Outcome::Timeout, now);
            self.time_out();
            self.cancel_first();
            return None;
        }
        let per_try = self.per_try_deadline(&sent);
        if per_try.is_some_and(|deadline| now >= deadline) {
            self.tell(sent, Outcome::Timeout, now);
            if !self.try_again(|retries| retries.wants_after_end(Ended::TimedOut), now, draws) {
                let reply = Reply::new(StatusCode::GATEWAY_TIMEOUT, b"upstream request timeout");
                self.answer_forward(reply, Flags::UT, Code::PerTryTimeout);
            }
            self.cancel_first();
            return None;
        }
        let until = earlier(earlier(Timestamp::MAX, self.deadline()), per_try);
        self.phase = Phase::Sent(sent);
        Some(Step::Wait(until))
    }

    fn cancel_first(&mut self) {
        let after = std::mem::replace(&mut self.phase, Phase::Done);
        self.phase = Phase::Cancelling(Box::new(after));
    }

    /// Tells the destination's state what came of an attempt, once.
    fn tell(&self, mut sent: Box<Sent>, outcome: Outcome, now: Timestamp) {
        if !std::mem::replace(&mut sent.outcome_told, true)
            && let Some(upstream) = &sent.upstream
        {
            let events = upstream.record(sent.permit.endpoint(), outcome, now);
            self.shared.observe_outliers(upstream, &events);
        }
    }

    /// Goes on to another attempt if the policy wants one, one is left, and no limit forbids it.
    fn try_again(&mut self, wants: impl Fn(&Retries) -> bool, now: Timestamp, draws: &mut dyn Draws) -> bool {
        self.retry_permit = None;
        let Some(retries) = &mut self.retries else { return false };
        if !wants(retries) {
            return false;
        }
        if retries.left() == 0 {
            self.summary.flags |= Flags::URX;
            self.summary.retry_refused = Some("no retry is left");
            return false;
        }
        retries.take();
        let permit = self.upstream.as_ref().and_then(|upstream| upstream.admit_retry());
        if permit.is_none() && self.upstream.is_some() {
            self.summary.flags |= Flags::UO;
            self.summary.retry_refused = Some("too many retries are under way");
            self.shared.observe(|| Event::Limited { cluster: &self.summary.cluster });
            return false;
        }
        let wait = retries.backoff(draws);
        self.retry_permit = permit;
        self.retried = true;
        self.shared.observe(|| Event::Retry { summary: &self.summary, wait });
        self.phase = Phase::Backoff(now + wait);
        true
    }

    /// The attempt got a response. `end_stream`: there is no body and there are no trailers.
    pub fn on_response(&mut self, mut response: ResponseHead, now: Timestamp, draws: &mut dyn Draws) {
        let mut sent = match std::mem::replace(&mut self.phase, Phase::Done) {
            Phase::Sent(sent) => sent,
            other => {
                self.phase = other;
                return;
            }
        };
        headers::join_lines(&mut response.headers, Direction::Response);
        let status = response.status.as_u16();
        let outcome = match grpc_status(&response) {
            Some(grpc) if self.head.is_grpc() => Some(Outcome::Grpc(respond::http_status_of(grpc))),
            // A gRPC response says in its trailers how it went.
            None if self.head.is_grpc() && status == 200 => None,
            _ => Some(Outcome::Status(status)),
        };
        if let (Some(outcome), Some(upstream)) = (outcome, &sent.upstream) {
            sent.outcome_told = true;
            let mut events = upstream.record(sent.permit.endpoint(), Outcome::Connected, now);
            events.extend(upstream.record(sent.permit.endpoint(), outcome, now));
            self.shared.observe_outliers(upstream, &events);
        }
        if self.try_again(|retries| retries.wants_after(&response), now, draws) {
            return;
        }
        self.finish_response(&mut response);
        self.summary.code = Code::Upstream;
        self.phase = Phase::Returning(response, sent);
    }

    /// Cookies, header operations and CORS on the response that the client gets.
    fn finish_response(&mut self, response: &mut ResponseHead) {
        headers::remove_hop_by_hop_of_response(&mut response.headers);
        for cookie in self.cookies.drain(..) {
            response.headers.append(http::header::SET_COOKIE, cookie);
        }
        let route = self.route.clone();
        let context = Context {
            route_name: Some(&self.summary.route),
            cluster: Some(&self.summary.cluster),
            upstream_host: self.summary.endpoint.as_deref(),
            flags: self.summary.flags,
            ..Context::new(&self.head)
        };
        if let Some(own) = self.destination() {
            headers::apply_to_response(&own.response_headers, &context, response);
        }
        if let Some(route) = &route {
            headers::apply_to_response(&route.response_headers, &context, response);
        }
        if let (Some(origin), Some(policy)) =
            (&self.cors_origin, Self::forward(&route).and_then(|forward| forward.cors.as_ref()))
        {
            cors::mark(policy, origin, response);
        }
    }

    /// The attempt ended without a response, or its response broke off.
    pub fn on_failure(&mut self, failure: Failure, now: Timestamp, draws: &mut dyn Draws) {
        match std::mem::replace(&mut self.phase, Phase::Done) {
            Phase::Sent(sent) => {
                if failure.is_connect() {
                    // No upstream saw it.
                    self.summary.attempts = self.summary.attempts.saturating_sub(1);
                }
                self.tell(sent, Outcome::Failure, now);
                if self.try_again(|retries| retries.wants_after_end(Ended::Failed(failure)), now, draws) {
                    return;
                }
                let code = if failure.is_connect() { Code::ConnectFailure } else { Code::UpstreamReset };
                let status = if failure == Failure::Protocol {
                    StatusCode::BAD_GATEWAY
                } else {
                    StatusCode::SERVICE_UNAVAILABLE
                };
                let body = self.reset_body(failure.reason());
                self.answer_forward(Reply::new(status, body.as_bytes()), failure.flag(), code);
            }
            Phase::Returned(sent) => {
                self.summary.flags |= failure.flag();
                self.tell(sent, Outcome::Failure, now);
                self.finish();
            }
            other => self.phase = other,
        }
    }

    /// The attempt has its connection: its own time begins now.
    pub fn on_connected(&mut self, now: Timestamp) {
        if let Phase::Sent(sent) = &mut self.phase {
            sent.since = now;
        }
    }

    /// A retry needs a body that is no longer there: what was got last stands.
    pub fn on_body_gone(&mut self, now: Timestamp) {
        if let Phase::Sent(sent) = std::mem::replace(&mut self.phase, Phase::Done) {
            drop(sent);
            self.summary.attempts = self.summary.attempts.saturating_sub(1);
            self.summary.retry_refused = Some("the request's body is over the replay limit");
            let _ = now;
            let reply =
                Reply::new(StatusCode::INSUFFICIENT_STORAGE, b"exceeded request buffer limit while retrying upstream");
            self.answer_forward(reply, Flags::NONE, Code::BodyGone);
        }
    }

    /// The response's trailers, before its end.
    pub fn on_trailers(&mut self, trailers: &HeaderMap, now: Timestamp) {
        let Phase::Returned(sent) = &mut self.phase else { return };
        let status = trailers.get("grpc-status").and_then(|value| value.to_str().ok()?.trim().parse().ok());
        if let (Some(status), Some(upstream), false) = (status, &sent.upstream, sent.outcome_told) {
            sent.outcome_told = true;
            let outcome = Outcome::Grpc(respond::http_status_of(status));
            let events = upstream.record(sent.permit.endpoint(), outcome, now);
            self.shared.observe_outliers(upstream, &events);
        }
    }

    /// The response has been passed on to its end.
    pub fn on_end(&mut self, now: Timestamp) {
        match std::mem::replace(&mut self.phase, Phase::Done) {
            Phase::Returned(sent) => {
                self.tell(sent, Outcome::Status(self.summary.status), now);
                self.finish();
            }
            other => self.phase = other,
        }
    }

    /// The client went away. Everything is let go of; nobody is blamed.
    pub fn on_client_gone(&mut self) {
        if !self.is_done() {
            self.summary.flags |= Flags::DC;
            self.summary.code = Code::ClientGone;
            self.mirrors.clear();
            self.finish();
        }
    }
}

/// What a proxy does to a request before anything else: one line for headers that have one, nothing of the connection's,
/// no control headers from outside.
fn clean(head: &mut RequestHead) {
    const CONTROL: &[&str] = &[
        "x-envoy-expected-rq-timeout-ms",
        "x-envoy-force-trace",
        "x-envoy-hedge-on-per-try-timeout",
        "x-envoy-ip-tags",
        "x-envoy-max-retries",
        "x-envoy-original-url",
        "x-envoy-retriable-header-names",
        "x-envoy-retriable-status-codes",
        "x-envoy-retry-grpc-on",
        "x-envoy-retry-on",
        "x-envoy-upstream-alt-stat-name",
        "x-envoy-upstream-rq-per-try-timeout-ms",
        "x-envoy-upstream-rq-timeout-alt-response",
        "x-envoy-upstream-rq-timeout-ms",
    ];
    headers::join_lines(&mut head.headers, Direction::Request);
    headers::remove_hop_by_hop(&mut head.headers);
    for name in CONTROL {
        head.headers.remove(*name);
    }
}
