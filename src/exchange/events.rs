//! What the embedder tells: responses, failures, and that things are over.

use super::clean::MOST_HEADERS;
use super::code::Code;
use super::failure::Failure;
use super::machine::{Exchange, Phase, Sent, earlier};
use super::retry::{Ended, GRPC_STATUS, grpc_status};
use super::step::Step;
use super::summary::Try;
use super::surroundings::Event;
use crate::entropy::Draws;
use crate::grpc;
use crate::head::ResponseHead;
use crate::outlier::Outcome;
use crate::policy::Flags;
use crate::time::Timestamp;
use crate::transform::Context;
use crate::transform::cors;
use crate::transform::headers::{self, Direction};
use crate::transform::respond::Reply;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use std::time::Duration;

const BODY_GONE: &str = "the request's body is over the replay limit";
const SERVICE_TIME: HeaderName = HeaderName::from_static("x-envoy-upstream-service-time");

impl Exchange {
    /// An attempt is under way: is its time up?
    pub(super) fn watch(&mut self, mut sent: Box<Sent>, now: Timestamp, draws: &mut dyn Draws) -> Option<Step> {
        if self.time_is_up(now) {
            self.tell(&mut sent, Outcome::Timeout, now);
            self.note(now, |one| one.timed_out = true);
            drop(sent);
            self.time_out();
            self.cancel_first();
            return None;
        }
        let per_try = self.per_try_deadline(&sent);
        if per_try.is_some_and(|deadline| now >= deadline) {
            self.tell(&mut sent, Outcome::Timeout, now);
            self.note(now, |one| one.timed_out = true);
            drop(sent);
            if !self.try_again(Ended::TimedOut, now, draws) {
                self.answer_forward(self.timeout_reply(), Flags::UT, Code::PerTryTimeout);
            }
            self.cancel_first();
            return None;
        }
        let until = earlier(earlier(Timestamp::MAX, self.deadline()), per_try);
        self.phase = Phase::Sent(sent);
        Some(Step::Wait(until))
    }

    /// When the attempt's time is up.
    fn per_try_deadline(&self, sent: &Sent) -> Option<Timestamp> {
        Some(sent.since.max(self.request_complete?) + self.per_try?)
    }

    /// Did time run out for the attempt before `now`? What comes later is as if it had not come: an embedder that is late
    /// sees what one that is in time sees.
    fn is_late(&self, sent: &Sent, now: Timestamp) -> bool {
        self.deadline().is_some_and(|deadline| now > deadline)
            || self.per_try_deadline(sent).is_some_and(|deadline| now > deadline)
    }

    fn cancel_first(&mut self) {
        let after = std::mem::replace(&mut self.phase, Phase::Done);
        self.phase = Phase::Cancelling(Box::new(after));
    }

    /// Writes down what came of the last attempt.
    fn note(&mut self, now: Timestamp, write: impl FnOnce(&mut Try)) {
        if let Some(last) = self.summary.tries.last_mut() {
            last.ended = Some(now);
            write(last);
            self.shared.observe(|| Event::Attempted { summary: &self.summary });
        }
    }

    /// Tells the destination's state what came of an attempt, once.
    fn tell(&mut self, sent: &mut Sent, outcome: Outcome, now: Timestamp) {
        if !std::mem::replace(&mut sent.outcome_told, true) {
            self.record(sent, outcome, now);
        }
    }

    fn record(&self, sent: &Sent, outcome: Outcome, now: Timestamp) {
        if let Some(upstream) = &sent.upstream {
            let events = upstream.record(sent.permit.endpoint(), outcome, now);
            self.shared.observe_outliers(upstream, &events);
        }
    }

    /// The attempt has its connection, which is news to whoever counts failures to connect apart.
    fn connected(&mut self, sent: &mut Sent, now: Timestamp) {
        self.sent_before = true;
        if std::mem::replace(&mut sent.connected, true) {
            return;
        }
        if sent.upstream.as_ref().is_some_and(|upstream| upstream.splits_local_origin()) {
            self.record(sent, Outcome::Connected, now);
        }
    }

    /// Goes on to another attempt if the policy wants one, one is left, and no limit forbids it.
    fn try_again(&mut self, ended: Ended<'_>, now: Timestamp, draws: &mut dyn Draws) -> bool {
        self.retry_permit = None;
        let Some(retries) = &mut self.retries else { return false };
        if !retries.wants(ended, self.sent_before) {
            return false;
        }
        if self.replay_lost {
            self.summary.retry_refused = Some(BODY_GONE);
            return false;
        }
        if retries.left() == 0 {
            self.summary.flags |= Flags::URX;
            self.summary.retry_refused = Some("no retry is left");
            return false;
        }
        retries.take();
        match self.upstream.as_ref().map(|upstream| upstream.admit_retry(now)).transpose() {
            Ok(permit) => self.retry_permit = permit,
            Err(exceeded) => {
                self.summary.flags |= Flags::UO;
                self.summary.retry_refused = Some("too many retries are under way");
                self.over(exceeded);
                return false;
            }
        }
        let wait = if ended.is_too_early() { Duration::ZERO } else { retries.backoff(draws) };
        self.retried = true;
        self.shared.observe(|| Event::Retry { summary: &self.summary, wait });
        self.phase = Phase::Backoff(now + wait);
        true
    }

    /// Takes the attempt that is under way and in time; none if there is none.
    fn take_sent(&mut self, now: Timestamp) -> Option<Box<Sent>> {
        match std::mem::replace(&mut self.phase, Phase::Done) {
            Phase::Sent(sent) if !self.is_late(&sent, now) => Some(sent),
            other => {
                self.phase = other;
                None
            }
        }
    }

    /// The attempt has its connection, new or used before: its own time begins now.
    ///
    /// An embedder that cannot see this says nothing; then connecting counts as part of the attempt's time.
    pub fn on_connected(&mut self, now: Timestamp) {
        let Some(mut sent) = self.take_sent(now) else { return };
        sent.since = now;
        self.connected(&mut sent, now);
        self.phase = Phase::Sent(sent);
    }

    /// A 1xx other than 101 is passed on to the client. From here on there is no other attempt, and no answer of our own.
    pub fn on_informational(&mut self, now: Timestamp) {
        let Some(mut sent) = self.take_sent(now) else { return };
        self.connected(&mut sent, now);
        self.relayed = true;
        self.retries = None;
        self.phase = Phase::Sent(sent);
    }

    /// The attempt got a response: its head. Afterwards [`Exchange::next`] says whether to pass it on ([`Step::Return`]) or
    /// to let go of it ([`Step::Cancel`]) for another attempt.
    pub fn on_response(&mut self, mut response: ResponseHead, now: Timestamp, draws: &mut dyn Draws) {
        if response.headers.len() > MOST_HEADERS {
            return self.on_failure(Failure::Protocol, now, draws);
        }
        let Some(mut sent) = self.take_sent(now) else { return };
        headers::join_lines(&mut response.headers, Direction::Response);
        let status = response.status.as_u16();
        self.connected(&mut sent, now);
        self.note(now, |one| one.status = Some(status));
        match grpc_status(&response).filter(|_| self.grpc) {
            Some(grpc) => self.tell(&mut sent, Outcome::Grpc(grpc::http_status_of(grpc)), now),
            // Its trailers may say how it went.
            None if self.grpc && status == 200 && self.shared.settings.count_grpc_trailers => {}
            None => self.tell(&mut sent, Outcome::Status(status), now),
        }
        if self.try_again(Ended::Response(&response), now, draws) {
            drop(sent);
            self.cancel_first();
            return;
        }
        self.finish_response(&mut response, now);
        self.phase = Phase::Returning(response, sent);
    }

    /// Cookies, header operations and CORS on the response that the client gets.
    fn finish_response(&mut self, response: &mut ResponseHead, now: Timestamp) {
        self.summary.code = Code::Upstream;
        if response.status != StatusCode::SWITCHING_PROTOCOLS {
            headers::remove_hop_by_hop_of_response(&mut response.headers);
        }
        if let Some(start) = self.clock_start() {
            let millis = u64::try_from((now - start).as_millis()).unwrap_or(u64::MAX);
            response.headers.insert(SERVICE_TIME, HeaderValue::from(millis));
        }
        for cookie in self.cookies.drain(..) {
            response.headers.append(http::header::SET_COOKIE, cookie);
        }
        let route = self.route.clone();
        let context = Context { upstream_status: Some(response.status), ..self.context() };
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
        if let Some(mut sent) = self.take_sent(now) {
            if !failure.is_connect() {
                self.connected(&mut sent, now);
            }
            self.tell(&mut sent, Outcome::Failure, now);
            self.note(now, |one| one.failure = Some(failure));
            drop(sent);
            if self.try_again(Ended::Failed(failure), now, draws) {
                return;
            }
            let status = match failure {
                Failure::Protocol => StatusCode::BAD_GATEWAY,
                _ => StatusCode::SERVICE_UNAVAILABLE,
            };
            let body = self.reset_body(failure.reason());
            self.answer_forward(Reply::new(status, body.as_bytes()), failure.flag(), failure.code());
            return;
        }
        match std::mem::replace(&mut self.phase, Phase::Done) {
            // The upstream has answered, and then failed: its status is counted already, this counts besides.
            Phase::Returned(sent) | Phase::Returning(_, sent) => {
                self.record(&sent, Outcome::Failure, now);
                self.note(now, |one| one.failure = Some(failure));
                drop(sent);
                self.summary.flags |= failure.flag();
                self.summary.code = failure.code();
                self.phase = Phase::Breaking;
            }
            other => self.phase = other,
        }
    }

    /// The request's body has outgrown what is kept of it ([`Exchange::replay_limit`]): it cannot be sent again.
    ///
    /// With an attempt under way nothing happens but that there will be no other one; what comes of it stands. Where
    /// another attempt is waited for already, nothing can be sent any more: 507.
    pub fn on_replay_lost(&mut self) {
        self.replay_lost = true;
        match std::mem::replace(&mut self.phase, Phase::Done) {
            Phase::Backoff(_) => self.body_gone(),
            Phase::Cancelling(after) if matches!(*after, Phase::Backoff(_)) => {
                self.body_gone();
                self.cancel_first();
            }
            other => self.phase = other,
        }
    }

    /// The attempt that was handed out cannot be sent, since its body is no longer there: 507. Telling
    /// [`Exchange::on_replay_lost`] in time keeps it from coming to this.
    pub fn on_body_gone(&mut self, now: Timestamp) {
        if let Some(sent) = self.take_sent(now) {
            drop(sent);
            self.summary.attempts = self.summary.attempts.saturating_sub(1);
            self.summary.tries.pop();
            self.body_gone();
        }
    }

    fn body_gone(&mut self) {
        self.summary.retry_refused = Some(BODY_GONE);
        let reply =
            Reply::new(StatusCode::INSUFFICIENT_STORAGE, b"exceeded request buffer limit while retrying upstream");
        self.answer_forward(reply, Flags::NONE, Code::BodyGone);
    }

    /// The response's trailers, before its end.
    pub fn on_trailers(&mut self, trailers: &HeaderMap, now: Timestamp) {
        let status = trailers.get(GRPC_STATUS).and_then(|value| value.to_str().ok()?.trim().parse().ok());
        match std::mem::replace(&mut self.phase, Phase::Done) {
            Phase::Returned(mut sent) => {
                self.tell_trailers(&mut sent, status, now);
                self.phase = Phase::Returned(sent);
            }
            Phase::Returning(head, mut sent) => {
                self.tell_trailers(&mut sent, status, now);
                self.phase = Phase::Returning(head, sent);
            }
            other => self.phase = other,
        }
    }

    fn tell_trailers(&mut self, sent: &mut Sent, grpc_status: Option<u64>, now: Timestamp) {
        if let Some(status) = grpc_status.filter(|_| self.grpc) {
            self.tell(sent, Outcome::Grpc(grpc::http_status_of(status)), now);
        }
    }

    /// The response has come to its end, and has been passed on. A response without a body may end before its head was
    /// passed on.
    pub fn on_end(&mut self, now: Timestamp) {
        match std::mem::replace(&mut self.phase, Phase::Done) {
            Phase::Returned(mut sent) => {
                self.tell(&mut sent, Outcome::Status(self.summary.status), now);
                drop(sent);
                self.end(now);
            }
            Phase::Returning(head, mut sent) => {
                sent.ended = true;
                self.phase = Phase::Returning(head, sent);
            }
            other => self.phase = other,
        }
    }

    /// The client went away. Everything is let go of; nobody is blamed. Dropping the exchange does the same.
    pub fn on_client_gone(&mut self) {
        match self.phase {
            Phase::Done => {}
            // It is over already; the embedder only did not ask for the step.
            Phase::Breaking => self.finish(),
            _ => {
                self.summary.flags |= Flags::DC;
                self.summary.code = Code::ClientGone;
                self.finish();
            }
        }
    }
}
