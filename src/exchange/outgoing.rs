//! How a request goes out: faults, CORS, everything that is done to its head once, and then endpoint by endpoint.

use super::code::Code;
use super::machine::{Exchange, Phase, Sent};
use super::retry::Retries;
use super::step::{Attempt, Mirror, Step};
use super::summary::Try;
use super::surroundings::Event;
use crate::entropy::Draws;
use crate::limit::Exceeded;
use crate::policy::{AbortStatus, Action, Balancer, Flags, Forward, Route, Target};
use crate::time::Timestamp;
use crate::transform::cors::{self, CorsVerdict};
use crate::transform::headers::{self, Direction, RequestContext};
use crate::transform::respond::Reply;
use crate::transform::{LocalReply, grpc_timeout, hash, rewrite};
use crate::upstream::{Admission, EndpointState, RequestPermit};
use http::{HeaderName, HeaderValue, StatusCode};
use std::sync::Arc;
use std::time::Duration;

const ATTEMPT_COUNT: HeaderName = HeaderName::from_static("x-envoy-attempt-count");
const TIMEOUT_ALT_RESPONSE: HeaderName = HeaderName::from_static("x-envoy-upstream-rq-timeout-alt-response");
const EXPECTED_TIMEOUT: HeaderName = HeaderName::from_static("x-envoy-expected-rq-timeout-ms");
const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const GRPC_TIMEOUT: HeaderName = HeaderName::from_static("grpc-timeout");
const DEFAULT_CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

impl Exchange {
    /// After a delay: abort, CORS, and everything that is done to the request once.
    pub(super) fn route_on(&mut self, now: Timestamp, draws: &mut dyn Draws) {
        if self.passthrough {
            self.routed = Some(now);
            self.phase = Phase::Picking;
            return;
        }
        let Some(route) = self.route.clone() else {
            self.refuse(StatusCode::NOT_FOUND, Flags::NR, Code::NoRoute);
            return;
        };
        let forward = match &route.action {
            Action::Forward(forward) => Some(forward),
            Action::Redirect(_) | Action::Respond(_) => None,
        };
        if let Some(abort) = route.fault.abort
            && abort.fraction.takes(draws.next_u64())
        {
            let body = b"fault filter abort";
            let reply = match abort.status {
                AbortStatus::Http(status) => Reply::new(status, body),
                AbortStatus::Grpc(status) => Reply { grpc_status: Some(status), ..Reply::new(StatusCode::OK, body) },
            };
            match forward {
                Some(_) => self.answer_forward(reply, Flags::FI, Code::FaultAbort),
                // Header operations are for the answer that the fault takes the place of.
                None => self.answer(reply, Flags::FI, Code::FaultAbort, &[]),
            }
            return;
        }
        let Some(forward) = forward else { return self.answer_by_route(&route) };
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
        if self.upstream.is_none() && !self.side.is_server() {
            self.answer_forward(Reply::new(StatusCode::SERVICE_UNAVAILABLE, b""), Flags::NC, Code::NoCluster);
            return;
        }
        self.routed = Some(now);
        self.timeout = self.whole_time(forward);
        let per_try = forward.retry.as_ref().and_then(|policy| policy.per_try_timeout);
        self.per_try = per_try.filter(|per_try| self.timeout.is_none_or(|whole| *per_try < whole));
        self.head.headers.insert(ATTEMPT_COUNT, HeaderValue::from_static("1"));
        self.tell_time(now);
        self.change_head(&route, forward);
        // Callers cannot ask for retries: only header operations can.
        let own = self.destination().is_some_and(|destination| !destination.request_headers.is_empty());
        let asked = own || !forward.request_headers.is_empty();
        let retries = Retries::new(forward.retry.as_ref(), &mut self.head, asked);
        self.retries = retries.filter(|_| !self.side.is_server());
        self.phase = Phase::Picking;
    }

    /// The route's timeout; for gRPC what the caller asks for, at most the route's.
    fn whole_time(&self, forward: &Forward) -> Option<Duration> {
        let asked = || {
            let asked = self.head.headers.get(GRPC_TIMEOUT)?;
            grpc_timeout::parse(asked.as_bytes()).filter(|asked| !asked.is_zero())
        };
        match (asked().filter(|_| self.grpc), forward.timeout) {
            (Some(asked), Some(most)) => Some(asked.min(most)),
            (asked, most) => asked.or(most),
        }
    }

    /// Tells the upstream how long it has: an attempt's time if that is shorter, else what is left of the whole.
    ///
    /// Before header operations, which may say otherwise (and may read it); on a retry again, with what is left by then.
    fn tell_time(&mut self, now: Timestamp) {
        let left = self.timeout.map(|whole| {
            let spent = self.clock_start().map_or(Duration::ZERO, |start| now - start);
            // Zero would mean no limit.
            whole.saturating_sub(spent).max(Duration::from_millis(1))
        });
        let expected = match (self.per_try, left) {
            (Some(per_try), Some(left)) => per_try.min(left),
            (Some(one), None) | (None, Some(one)) => one,
            (None, None) => return,
        };
        let millis = u64::try_from(expected.as_millis()).unwrap_or(u64::MAX);
        self.head.headers.insert(EXPECTED_TIMEOUT, HeaderValue::from(millis));
        if self.grpc
            && let Ok(value) = HeaderValue::from_str(&grpc_timeout::format(expected))
        {
            self.head.headers.insert(GRPC_TIMEOUT, value);
        }
    }

    /// Header operations and rewrites: once, for all attempts and copies.
    fn change_head(&mut self, route: &Route, forward: &Forward) {
        let Some(destination) = forward.destinations.get(self.chosen) else { return };
        let context = RequestContext {
            start_time: self.start_time(),
            route_name: Some(&self.summary.route),
            cluster: Some(&self.summary.cluster),
            flags: self.summary.flags,
        };
        headers::apply_to_request(&destination.request_headers, &context, &mut self.head);
        headers::apply_to_request(&forward.request_headers, &context, &mut self.head);
        self.quiet_timeout = self.head.headers.remove(TIMEOUT_ALT_RESPONSE).is_some();
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

    pub(super) fn pick(&mut self, now: Timestamp, draws: &mut dyn Draws) {
        if self.side.is_server() {
            match &self.upstream {
                Some(upstream) => {
                    let endpoint = Arc::clone(upstream.local());
                    let admission = upstream.admit(&endpoint, self.head.version, now);
                    self.admitted(admission, endpoint, now, draws);
                }
                None => self.phase = Phase::Sending(RequestPermit::untracked(EndpointState::local())),
            }
            return;
        }
        let balancer = self.upstream.as_ref().map(|upstream| upstream.balancer());
        if self.passthrough || balancer == Some(Balancer::Passthrough) {
            match self.head.original_destination {
                Some(address) => {
                    let endpoint = EndpointState::passthrough(address);
                    match &self.upstream {
                        Some(upstream) => {
                            let admission = upstream.admit(&endpoint, self.head.version, now);
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
        let hashed = if balancer.is_some_and(Balancer::is_hashing) {
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
        let admission = upstream.admit(&endpoint, self.head.version, now);
        self.admitted(admission, endpoint, now, draws);
    }

    fn no_healthy_upstream(&mut self) {
        let reply = Reply::new(StatusCode::SERVICE_UNAVAILABLE, b"no healthy upstream");
        self.answer_forward(reply, Flags::UH, Code::NoHealthyUpstream);
    }

    pub(super) fn admitted(
        &mut self,
        admission: Admission,
        endpoint: Arc<EndpointState>,
        now: Timestamp,
        draws: &mut dyn Draws,
    ) {
        match admission {
            Admission::Admitted(permit) => {
                self.prepare_mirrors(now, draws);
                self.phase = Phase::Sending(permit);
            }
            Admission::Queued(ticket) => {
                self.prepare_mirrors(now, draws);
                self.phase = Phase::Queued(ticket, endpoint);
            }
            Admission::Overflow(exceeded) => {
                self.over(exceeded);
                let body = self.reset_body("overflow");
                let reply = Reply::new(StatusCode::SERVICE_UNAVAILABLE, body.as_bytes())
                    .with_header(HeaderName::from_static("x-envoy-overloaded"), HeaderValue::from_static("true"));
                self.answer_forward(reply, Flags::UO, Code::Overflow);
            }
        }
    }

    /// A limit refused the request, or a retry.
    pub(super) fn over(&mut self, exceeded: Exceeded) {
        self.summary.exceeded = Some(exceeded);
        self.shared.observe(|| Event::Limited { cluster: &self.summary.cluster, exceeded });
    }

    pub(super) fn reset_body(&self, reason: &str) -> String {
        let what = if self.retried { "retried and the latest reset reason" } else { "reset reason" };
        format!("upstream connect error or disconnect/reset before headers. {what}: {reason}")
    }

    /// Copies go out with the first attempt, tested on the draw that picked the destination. Best effort: a copy that has no
    /// endpoint, or that a limit refuses, is not made.
    fn prepare_mirrors(&mut self, now: Timestamp, draws: &mut dyn Draws) {
        if self.summary.attempts > 0 || self.side.is_server() {
            return;
        }
        let route = self.route.clone();
        let Some(forward) = Self::forward(&route) else { return };
        for mirror in forward.mirrors.iter().rev().filter(|mirror| mirror.fraction.takes(self.draw)) {
            let Target::Destination(id) = mirror.target else { continue };
            let Some(destination) = self.policy.destination(id) else { continue };
            let Some(upstream) = self.upstreams.of(id).cloned() else { continue };
            let hashed = if upstream.balancer().is_hashing() {
                hash::hash(&forward.hash, &self.head, !self.policy.is_gateway()).hash
            } else {
                None
            };
            let Some(endpoint) = upstream.pick(hashed, &[], false, false, now, draws) else { continue };
            let Admission::Admitted(permit) = upstream.admit(&endpoint, self.head.version, now) else { continue };
            let mut head = self.head.clone();
            head.headers.insert("x-envoy-internal", HeaderValue::from_static("true"));
            if let Some(local) = head.local
                && let Ok(address) = HeaderValue::from_str(&local.ip().to_string())
            {
                headers::add(&mut head.headers, &FORWARDED_FOR, address, Direction::Request);
            }
            self.mirrored = true;
            self.shared.observe(|| Event::Mirrored { summary: &self.summary, cluster: &destination.name });
            self.mirrors.push(Mirror {
                cluster: Arc::clone(&destination.name),
                endpoint,
                head,
                timeout: self.timeout,
                shared: Arc::clone(&self.shared),
                upstream,
                _permit: permit,
            });
        }
    }

    pub(super) fn send(&mut self, permit: RequestPermit, now: Timestamp) -> Step {
        self.summary.attempts += 1;
        let endpoint = Arc::clone(permit.endpoint());
        self.summary.endpoint = Some(Arc::clone(endpoint.key()));
        self.summary.tries.push(Try::new(Arc::clone(endpoint.key()), now));
        self.tried.push(Arc::clone(&endpoint));
        if self.summary.attempts > 1 {
            self.head.headers.insert(ATTEMPT_COUNT, HeaderValue::from(self.summary.attempts));
            self.tell_time(now);
        }
        let destination = self.upstream.as_ref().map(|upstream| upstream.destination());
        let attempt = Attempt {
            number: self.summary.attempts,
            endpoint,
            connect_timeout: destination
                .as_ref()
                .map_or(DEFAULT_CONNECT_TIMEOUT, |destination| destination.connection.connect_timeout),
            destination,
            head: self.head.clone(),
            may_replay: self.may_replay(),
        };
        self.shared.observe(|| Event::Attempt { summary: &self.summary });
        let upstream = self.upstream.clone();
        self.phase = Phase::Sent(Box::new(Sent {
            permit,
            upstream,
            since: now,
            connected: false,
            outcome_told: false,
            ended: false,
        }));
        Step::Attempt(attempt)
    }
}
