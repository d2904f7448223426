//! The state machine itself: what is due now, and who may ask.
//!
//! One [`Phase`] at a time; [`Exchange::next`] works on it until there is something for the embedder to do. What the
//! embedder tells comes in through `events.rs`; what is decided at the beginning, and every answer of our own, is in
//! `begin.rs`; how a request goes out is in `outgoing.rs`.

use super::clean::{Cleaned, clean};
use super::code::Code;
use super::retry::Retries;
use super::step::{Mirror, Step};
use super::summary::Summary;
use super::surroundings::{Event, Snapshot, Surroundings};
use crate::entropy::Draws;
use crate::head::{RequestHead, ResponseHead};
use crate::limit::Permit;
use crate::policy::{Flags, Policy, Route};
use crate::time::Timestamp;
use crate::transform::LocalReply;
use crate::transform::respond::Reply;
use crate::upstream::{EndpointState, RequestPermit, Roster, Ticket, Upstream};
use http::{HeaderValue, StatusCode};
use std::fmt;
use std::sync::Arc;
use std::task::Waker;
use std::time::Duration;

/// One request's life. See the [module](super).
///
/// It is owned and can be moved between threads; it holds the policy that it began with. Dropping it before it is over
/// counts as the client going away: every permit is given back, nobody is blamed.
pub struct Exchange {
    pub(super) shared: Arc<Surroundings>,
    pub(super) policy: Arc<Policy>,
    pub(super) upstreams: Arc<Roster>,
    /// The request: as it came, and from [`Phase::Routing`] on as it goes out.
    pub(super) head: RequestHead,
    pub(super) side: Side,
    /// Is it gRPC, whatever header operations make of its content type?
    pub(super) grpc: bool,
    pub(super) route: Option<Arc<Route>>,
    /// Which of the route's destinations.
    pub(super) chosen: usize,
    pub(super) draw: u64,
    pub(super) phase: Phase,
    pub(super) upstream: Option<Arc<Upstream>>,
    pub(super) retries: Option<Retries>,
    pub(super) retry_permit: Option<Permit>,
    pub(super) tried: Vec<Arc<EndpointState>>,
    /// Where a host that nobody knows is to be reached.
    pub(super) passthrough: bool,
    pub(super) cors_origin: Option<HeaderValue>,
    pub(super) cookies: Vec<HeaderValue>,
    pub(super) mirrors: Vec<Mirror>,
    /// Were copies made, which read the same body?
    pub(super) mirrored: bool,
    /// Is the request's body no longer there for another attempt?
    pub(super) replay_lost: bool,
    /// The whole time, from when the request was routed and complete.
    pub(super) timeout: Option<Duration>,
    /// The time of one attempt.
    pub(super) per_try: Option<Duration>,
    /// Is the answer to a time that is up an empty 204, as header operations may ask?
    pub(super) quiet_timeout: bool,
    pub(super) request_complete: Option<Timestamp>,
    pub(super) routed: Option<Timestamp>,
    pub(super) summary: Summary,
    /// Was another attempt asked for?
    pub(super) retried: bool,
    /// Did any attempt have a connection, and so may have sent something?
    pub(super) sent_before: bool,
    /// Was a 1xx passed on? Then there is no way back to an answer of our own.
    pub(super) relayed: bool,
}

/// On which side of the wire the policy is applied.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Side {
    /// The request goes to an endpoint.
    Client,
    /// A handler of this process answers: no endpoint is picked, nothing is retried, mirrored or ejected. Routes may be
    /// looked for as if the request had come for another host.
    Server(Option<Arc<str>>),
}

impl Side {
    pub(super) fn is_server(&self) -> bool {
        matches!(self, Side::Server(_))
    }
}

pub(super) enum Phase {
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
    /// What the client has got so far is to be broken off.
    Breaking,
    Done,
}

/// An attempt under way. Its outcome is told once; a response that breaks off later is a failure besides.
pub(super) struct Sent {
    pub(super) permit: RequestPermit,
    pub(super) upstream: Option<Arc<Upstream>>,
    /// When its time began: when it was handed out, or had its connection.
    pub(super) since: Timestamp,
    pub(super) connected: bool,
    pub(super) outcome_told: bool,
    /// Was the response's end told before its head was passed on?
    pub(super) ended: bool,
}

impl fmt::Debug for Exchange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Exchange").field("summary", &self.summary).finish_non_exhaustive()
    }
}

pub(super) fn earlier(a: Timestamp, b: Option<Timestamp>) -> Timestamp {
    b.map_or(a, |b| a.min(b))
}

impl Exchange {
    pub(crate) fn new(
        shared: Arc<Surroundings>,
        snapshot: Snapshot,
        mut head: RequestHead,
        side: Side,
        now: Timestamp,
        draws: &mut dyn Draws,
    ) -> Exchange {
        let Snapshot { policy, upstreams } = snapshot;
        let cleaned = clean(&mut head, policy.is_gateway());
        let mut exchange = Exchange {
            shared,
            policy: Arc::clone(&policy),
            upstreams,
            grpc: head.is_grpc(),
            head,
            side,
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
            mirrored: false,
            replay_lost: false,
            timeout: None,
            per_try: None,
            quiet_timeout: false,
            request_complete: None,
            routed: None,
            summary: Summary { began: now, ..Summary::default() },
            retried: false,
            sent_before: false,
            relayed: false,
        };
        match cleaned {
            Cleaned::BadAuthority => {
                let reply = Reply::new(StatusCode::BAD_REQUEST, b"Bad Request");
                exchange.answer(reply, Flags::DPE, Code::BadAuthority, &[]);
            }
            Cleaned::TooManyHeaders => {
                let status = StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE;
                let reply = Reply::new(status, b"Request Header Fields Too Large");
                exchange.answer(reply, Flags::DPE, Code::TooManyHeaders, &[]);
            }
            Cleaned::Fine => exchange.decide(&policy, false, now, draws),
            Cleaned::UpgradeRefused => exchange.decide(&policy, true, now, draws),
        }
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

    /// The policy that holds for this request, from its beginning to its end.
    pub fn policy(&self) -> &Arc<Policy> {
        &self.policy
    }

    /// The request as it stands: as it came, and once it was routed as it goes out.
    pub fn head(&self) -> &RequestHead {
        &self.head
    }

    /// Is the exchange over? Then [`Exchange::next`] says [`Step::Done`], and events change nothing.
    pub fn is_done(&self) -> bool {
        matches!(self.phase, Phase::Done)
    }

    /// May a body that was sent be needed again: for another attempt, or for a copy?
    pub fn may_replay(&self) -> bool {
        let retries = self.retries.as_ref().is_some_and(|retries| retries.left() > 0);
        !self.replay_lost && (retries || (self.mirrored && self.summary.attempts <= 1))
    }

    /// How many bytes of the request's body are worth keeping: none if it cannot be needed again. A body that outgrows
    /// this is sent once; say so with [`Exchange::on_replay_lost`].
    pub fn replay_limit(&self) -> usize {
        if self.may_replay() { self.shared.settings.replay_limit } else { 0 }
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

    /// The whole request has been read from the client: the clocks of the route and of attempts begin.
    ///
    /// Until this is said there is no deadline, since a slow upload is not the upstream's fault. A request without a body
    /// is complete at once; say so right after `begin`.
    pub fn request_complete(&mut self, now: Timestamp) {
        self.request_complete.get_or_insert(now);
    }

    /// When the whole time is up, as far as that is known by now.
    pub fn deadline(&self) -> Option<Timestamp> {
        Some(self.clock_start()? + self.timeout?)
    }

    /// When the route's clock began.
    pub(super) fn clock_start(&self) -> Option<Timestamp> {
        Some(self.request_complete?.max(self.routed?))
    }

    /// What is to be done now. Call it until it says [`Step::Wait`] or [`Step::Done`], and again when the time has come or
    /// something was told.
    ///
    /// Time does not run backwards: give the latest `now` that any call was given, or a later one.
    #[must_use]
    pub fn next(&mut self, now: Timestamp, draws: &mut dyn Draws) -> Step {
        loop {
            if let Some(mirror) = self.mirrors.pop() {
                return Step::Mirror(mirror);
            }
            match std::mem::replace(&mut self.phase, Phase::Done) {
                Phase::Done => return Step::Done,
                Phase::Answer(local) => {
                    self.summary.status = local.head.status.as_u16();
                    self.end(now);
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
                    match ticket.try_admit(now) {
                        Ok(admission) => self.admitted(admission, endpoint, now, draws),
                        Err(ticket) => {
                            self.phase = Phase::Queued(ticket, endpoint);
                            return Step::Wait(earlier(Timestamp::MAX, self.deadline()));
                        }
                    }
                }
                // Time may have passed since the copies were handed out.
                Phase::Sending(permit) if self.time_is_up(now) => {
                    drop(permit);
                    self.time_out();
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
                    self.summary.status = head.status.as_u16();
                    let ended = sent.ended;
                    self.phase = Phase::Returned(sent);
                    if ended {
                        self.on_end(now);
                    }
                    return Step::Return(head);
                }
                Phase::Returned(sent) => {
                    if self.time_is_up(now) {
                        // The upstream has answered: it is not blamed for a body that is longer than the time.
                        drop(sent);
                        self.summary.flags |= Flags::UT;
                        self.summary.code = Code::Timeout;
                        self.phase = Phase::Breaking;
                        continue;
                    }
                    self.phase = Phase::Returned(sent);
                    return Step::Wait(earlier(Timestamp::MAX, self.deadline()));
                }
                Phase::Breaking => {
                    self.end(now);
                    return Step::Reset;
                }
            }
        }
    }

    /// Over, and when.
    pub(super) fn end(&mut self, now: Timestamp) {
        self.summary.ended = Some(now);
        self.finish();
    }

    /// Over: whatever is held is given back.
    pub(super) fn finish(&mut self) {
        self.phase = Phase::Done;
        self.retry_permit = None;
        self.mirrors.clear();
        self.shared.observe(|| Event::Finished { summary: &self.summary });
    }

    pub(super) fn time_is_up(&self, now: Timestamp) -> bool {
        self.deadline().is_some_and(|deadline| now >= deadline)
    }

    pub(super) fn time_out(&mut self) {
        self.answer_forward(self.timeout_reply(), Flags::UT, Code::Timeout);
    }

    pub(super) fn timeout_reply(&self) -> Reply<'static> {
        if self.quiet_timeout {
            Reply::new(StatusCode::NO_CONTENT, b"")
        } else {
            Reply::new(StatusCode::GATEWAY_TIMEOUT, b"upstream request timeout")
        }
    }
}

impl Drop for Exchange {
    fn drop(&mut self) {
        self.on_client_gone();
    }
}
