//! What an exchange asks for, and what it is told.

use crate::head::{RequestHead, ResponseHead};
use crate::outlier::Outcome;
use crate::policy::{Destination, Flags};
use crate::time::Timestamp;
use crate::transform::LocalReply;
use crate::upstream::{EndpointState, RequestPermit, Upstream};
use std::sync::Arc;
use std::time::Duration;

/// What is to be done next.
#[derive(Debug)]
#[non_exhaustive]
pub enum Step {
    /// Nothing until this time, or until something happens. [`Timestamp::MAX`]: only something that happens.
    Wait(Timestamp),
    /// Send a copy, and forget it.
    Mirror(Mirror),
    /// Send the request.
    Attempt(Attempt),
    /// The attempt under way is over: let go of it. Its time is up.
    Cancel,
    /// Answer the client with this. The exchange is over.
    Respond(LocalReply),
    /// Pass the attempt's response on, with this head. Report its end.
    Return(ResponseHead),
    /// Break off the response that is on its way: the time is up.
    Reset,
    /// Nothing more.
    Done,
}

/// One attempt to get an answer.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Attempt {
    /// From 1.
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
    pub(crate) upstream: Arc<Upstream>,
    pub(crate) _permit: RequestPermit,
}

impl Mirror {
    /// The settings of its destination.
    pub fn destination(&self) -> Arc<Destination> {
        self.upstream.destination()
    }

    /// Says what came of it. Without this nothing is counted.
    pub fn finish(self, outcome: Outcome, now: Timestamp) {
        self.upstream.record(&self.endpoint, outcome, now);
    }
}

/// Why an attempt has no response.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Failure {
    /// There was no connection: refused, unreachable, TLS failed.
    ConnectRefused,
    /// Connecting took too long.
    ConnectTimeout,
    /// The connection ended before a response.
    Reset,
    /// HTTP/2: the stream was reset.
    StreamReset,
    /// HTTP/2: the stream was refused, nothing was done.
    RefusedStream,
    /// What came was not HTTP.
    Protocol,
}

impl Failure {
    /// Was there no connection?
    pub fn is_connect(self) -> bool {
        matches!(self, Failure::ConnectRefused | Failure::ConnectTimeout)
    }

    pub(crate) fn flag(self) -> Flags {
        match self {
            Failure::ConnectRefused | Failure::ConnectTimeout => Flags::UF,
            Failure::Reset => Flags::UC,
            Failure::StreamReset | Failure::RefusedStream => Flags::UR,
            Failure::Protocol => Flags::UPE,
        }
    }

    pub(crate) fn reason(self) -> &'static str {
        match self {
            Failure::ConnectRefused => "remote connection failure",
            Failure::ConnectTimeout => "connection timeout",
            Failure::Reset => "connection termination",
            Failure::StreamReset => "remote reset",
            Failure::RefusedStream => "remote refused stream reset",
            Failure::Protocol => "protocol error",
        }
    }
}

/// What became of a request: finer than Envoy's flags.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Code {
    /// Not decided yet.
    #[default]
    Open,
    /// An upstream answered.
    Upstream,
    /// A redirect.
    Redirect,
    /// A direct response.
    DirectResponse,
    /// A CORS preflight was answered.
    Preflight,
    /// A fault aborted it.
    FaultAbort,
    /// Nothing listens on the port.
    NoListener,
    /// No virtual host has the authority.
    UnknownHost,
    /// The virtual host has no route for it.
    NoRoute,
    /// The path cannot be normalised.
    BadPath,
    /// The destination is not defined.
    NoCluster,
    /// The destination has no healthy endpoint.
    NoHealthyUpstream,
    /// A limit refused it.
    Overflow,
    /// No connection.
    ConnectFailure,
    /// The attempt broke off.
    UpstreamReset,
    /// The whole time is up.
    Timeout,
    /// An attempt's time is up.
    PerTryTimeout,
    /// A retry needed a body that was too large to keep.
    BodyGone,
    /// The client went away.
    ClientGone,
}

/// What became of a request, for logs and for the curious.
#[derive(Clone, Debug, Default, serde::Serialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct Summary {
    /// The route's name.
    pub route: Arc<str>,
    /// The destination's name; empty where there is none.
    pub cluster: Arc<str>,
    /// Envoy's flags.
    pub flags: Flags,
    /// What became of it.
    pub code: Code,
    /// The status that the client got; 0 before it got one.
    pub status: u16,
    /// Attempts that were made.
    pub attempts: u32,
    /// The last attempt's endpoint.
    pub endpoint: Option<Arc<str>>,
    /// Why no (further) retry was made, where one was asked for.
    pub retry_refused: Option<&'static str>,
}
