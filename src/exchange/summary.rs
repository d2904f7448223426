//! What became of a request, for logs and for the curious.

use super::step::Failure;
use crate::limit::Exceeded;
use crate::policy::Flags;
use crate::time::Timestamp;
use std::sync::Arc;

macro_rules! codes {
    ($($(#[$doc:meta])* $name:ident = $text:literal,)*) => {
        /// What became of a request: finer than Envoy's flags. Written as `kebab-case`.
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
        #[non_exhaustive]
        pub enum Code {
            $($(#[$doc])* $name,)*
        }

        impl Code {
            /// As it is written: `no-healthy-upstream`.
            pub fn as_str(self) -> &'static str {
                match self {
                    $(Code::$name => $text,)*
                }
            }
        }
    };
}

codes! {
    /// Not decided yet.
    #[default]
    Open = "open",
    /// An upstream answered.
    Upstream = "upstream",
    /// A redirect.
    Redirect = "redirect",
    /// A direct response.
    DirectResponse = "direct-response",
    /// A CORS preflight was answered.
    Preflight = "preflight",
    /// A fault aborted it.
    FaultAbort = "fault-abort",
    /// Nothing listens on the port.
    NoListener = "no-listener",
    /// No virtual host has the authority.
    UnknownHost = "unknown-host",
    /// The virtual host has no route for it.
    NoRoute = "no-route",
    /// The path cannot be normalised.
    BadPath = "bad-path",
    /// The authority has a character that none can have.
    BadAuthority = "bad-authority",
    /// There are more header lines than can be handled.
    TooManyHeaders = "too-many-headers",
    /// An upgrade that is not allowed was asked for.
    UpgradeRefused = "upgrade-refused",
    /// The destination is not defined.
    NoCluster = "no-cluster",
    /// The destination has no healthy endpoint.
    NoHealthyUpstream = "no-healthy-upstream",
    /// A limit refused it.
    Overflow = "overflow",
    /// No connection.
    ConnectFailure = "connect-failure",
    /// Connecting took too long.
    ConnectTimeout = "connect-timeout",
    /// The connection ended before the response did.
    UpstreamReset = "upstream-reset",
    /// HTTP/2: the stream was reset.
    StreamReset = "stream-reset",
    /// HTTP/2: the stream was refused.
    RefusedStream = "refused-stream",
    /// What came was not HTTP.
    ProtocolError = "protocol-error",
    /// The whole time is up.
    Timeout = "timeout",
    /// An attempt's time is up.
    PerTryTimeout = "per-try-timeout",
    /// A retry needed a body that was too large to keep.
    BodyGone = "body-gone",
    /// The client went away.
    ClientGone = "client-gone",
}

impl serde::Serialize for Code {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
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
    /// Attempts that were made; refused connections count.
    pub attempts: u32,
    /// The last attempt's endpoint.
    pub endpoint: Option<Arc<str>>,
    /// Every attempt, in order.
    pub tries: Vec<Try>,
    /// When it began.
    pub began: Timestamp,
    /// When it was over; none if it is not, or if the client went away.
    pub ended: Option<Timestamp>,
    /// Why no (further) retry was made, where one was asked for.
    pub retry_refused: Option<&'static str>,
    /// The limit that refused the request or its last retry.
    pub exceeded: Option<Exceeded>,
}

/// One attempt, and what came of it.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct Try {
    /// Where it went, `address:port`.
    pub endpoint: Arc<str>,
    /// When it was handed out.
    pub began: Timestamp,
    /// When its response's head, its failure or its end in time came.
    pub ended: Option<Timestamp>,
    /// The status that the upstream answered.
    pub status: Option<u16>,
    /// Why it failed, with or without an answer before.
    pub failure: Option<Failure>,
    /// Was its time up?
    pub timed_out: bool,
}

impl Try {
    pub(super) fn new(endpoint: Arc<str>, began: Timestamp) -> Try {
        Try { endpoint, began, ended: None, status: None, failure: None, timed_out: false }
    }
}

impl Summary {
    /// Envoy's words for it (`%RESPONSE_CODE_DETAILS%`), so that logs compare.
    pub fn details(&self) -> &'static str {
        match self.code {
            Code::Open => "",
            Code::Upstream => "via_upstream",
            Code::Redirect | Code::DirectResponse => "direct_response",
            Code::Preflight => "cors_response",
            Code::FaultAbort => "fault_filter_abort",
            Code::NoListener => "no_listener",
            Code::UnknownHost | Code::NoRoute => "route_not_found",
            Code::BadPath => "path_normalization_failed",
            Code::BadAuthority => "http.invalid_authority",
            Code::TooManyHeaders => "http1.too_many_headers",
            Code::UpgradeRefused => "upgrade_failed",
            Code::NoCluster => "cluster_not_found",
            Code::NoHealthyUpstream => "no_healthy_upstream",
            Code::Overflow => "upstream_reset_before_response_started{overflow}",
            Code::ConnectFailure => "upstream_reset_before_response_started{remote_connection_failure}",
            Code::ConnectTimeout => "upstream_reset_before_response_started{connection_timeout}",
            Code::UpstreamReset => self.reset("upstream_reset_before_response_started{connection_termination}"),
            Code::StreamReset => self.reset("upstream_reset_before_response_started{remote_reset}"),
            Code::RefusedStream => self.reset("upstream_reset_before_response_started{remote_refused_stream_reset}"),
            Code::ProtocolError => self.reset("upstream_reset_before_response_started{protocol_error}"),
            Code::Timeout => "response_timeout",
            Code::PerTryTimeout => "upstream_per_try_timeout",
            Code::BodyGone => "request_payload_exceeded_retry_buffer_limit",
            Code::ClientGone => "downstream_remote_disconnect",
        }
    }

    /// Before the response, or after it had begun.
    fn reset(&self, before: &'static str) -> &'static str {
        let answered = self.tries.last().is_some_and(|one| one.status.is_some());
        if answered { "upstream_reset_after_response_started" } else { before }
    }
}
