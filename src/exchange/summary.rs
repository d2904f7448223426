//! What became of a request, for logs and for the curious.

use super::code::Code;
use super::failure::Failure;
use crate::limit::Exceeded;
use crate::policy::Flags;
use crate::time::Timestamp;
use std::sync::Arc;

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
