//! The codes of what became of requests: one for each way in which an exchange can end.

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
