//! What an exchange asks for.

use super::surroundings::Surroundings;
use crate::grpc;
use crate::head::{RequestHead, ResponseHead};
use crate::outlier::Outcome;
use crate::policy::Destination;
use crate::time::Timestamp;
use crate::transform::LocalReply;
use crate::upstream::{EndpointState, RequestPermit, Upstream};
use http::{HeaderMap, StatusCode};
use std::sync::Arc;
use std::time::Duration;

/// What is to be done next.
#[derive(Debug)]
#[non_exhaustive]
pub enum Step {
    /// Nothing until this time, or until something happens: an event that is told, or a turn
    /// ([`Exchange::poll_turn`](super::Exchange::poll_turn)). [`Timestamp::MAX`]: no time is set.
    Wait(Timestamp),
    /// Send a copy, and forget it.
    Mirror(Mirror),
    /// Send the request.
    Attempt(Attempt),
    /// The attempt under way is over: let go of it, and of its response if there is one. Its time is up, or another
    /// attempt will be made.
    Cancel,
    /// Answer the client with this. The exchange is over.
    Respond(LocalReply),
    /// Pass the attempt's response on, with this head. Report its end.
    Return(ResponseHead),
    /// Break off what the client has got so far: the time is up, or the upstream broke off. The exchange is over.
    Reset,
    /// Nothing more.
    Done,
}

/// One attempt to get an answer.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Attempt {
    /// From 1. Refused connections count.
    pub number: u32,
    /// Where to.
    pub endpoint: Arc<EndpointState>,
    /// The destination's settings (TLS, protocol, timeouts of connections); none for a host that nobody knows.
    pub destination: Option<Arc<Destination>>,
    /// The request as it goes out.
    pub head: RequestHead,
    /// How long connecting may take.
    pub connect_timeout: Duration,
    /// May the request's body be needed again?
    pub may_replay: bool,
}

/// A copy of the request. What comes back is not looked at.
#[derive(Debug)]
#[non_exhaustive]
pub struct Mirror {
    /// The destination's name.
    pub cluster: Arc<str>,
    /// Where to.
    pub endpoint: Arc<EndpointState>,
    /// The request as it goes out.
    pub head: RequestHead,
    /// How long it may take.
    pub timeout: Option<Duration>,
    pub(crate) shared: Arc<Surroundings>,
    pub(crate) upstream: Arc<Upstream>,
    pub(crate) _permit: RequestPermit,
}

impl Mirror {
    /// The settings of its destination.
    pub fn destination(&self) -> Arc<Destination> {
        self.upstream.destination()
    }

    /// What an answer with this head counts as.
    pub fn outcome(&self, status: StatusCode, headers: &HeaderMap) -> Outcome {
        match super::retry::grpc_status_of(headers).filter(|_| self.head.is_grpc()) {
            Some(grpc) => Outcome::Grpc(grpc::http_status_of(grpc)),
            None => Outcome::Status(status.as_u16()),
        }
    }

    /// Says what came of it. Without this nothing is counted.
    pub fn finish(self, outcome: Outcome, now: Timestamp) {
        let events = self.upstream.record(&self.endpoint, outcome, now);
        self.shared.observe_outliers(&self.upstream, &events);
    }
}
