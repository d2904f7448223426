//! Why an attempt has no response, and what Envoy calls that.

use super::code::Code;
use crate::policy::Flags;

/// Why an attempt has no response.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
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

    pub(crate) fn code(self) -> Code {
        match self {
            Failure::ConnectRefused => Code::ConnectFailure,
            Failure::ConnectTimeout => Code::ConnectTimeout,
            Failure::Reset => Code::UpstreamReset,
            Failure::StreamReset => Code::StreamReset,
            Failure::RefusedStream => Code::RefusedStream,
            Failure::Protocol => Code::ProtocolError,
        }
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
