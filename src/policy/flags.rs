//! Envoy's response flags, and a finer code of our own.

use serde::{Serialize, Serializer};
use std::fmt;

/// Envoy's response flags: a small set, printed as access logs print it (`URX,UT`; `-` when empty), in the order in which
/// a request comes by them: what a fault did, that the retries were used up, and then what went wrong at last.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Flags(u16);

macro_rules! flags {
    ($($(#[$doc:meta])* $name:ident = $bit:literal, $long:literal;)*) => {
        impl Flags {
            $($(#[$doc])* pub const $name: Flags = Flags(1 << $bit);)*

            const NAMES: &[(Flags, &str, &str)] = &[$((Flags::$name, stringify!($name), $long)),*];
        }
    };
}

// In the order of the bits, which is the order in which they are written.
flags! {
    /// A fault delayed the request.
    DI = 0, "DelayInjected";
    /// A fault aborted the request.
    FI = 1, "FaultInjected";
    /// Retries (or connection attempts) are used up.
    URX = 2, "UpstreamRetryLimitExceeded";
    /// No healthy upstream.
    UH = 3, "NoHealthyUpstream";
    /// Upstream connection failure.
    UF = 4, "UpstreamConnectionFailure";
    /// Overflow: a limit refused the request.
    UO = 5, "UpstreamOverflow";
    /// No route.
    NR = 6, "NoRouteFound";
    /// No such cluster.
    NC = 7, "NoClusterFound";
    /// The upstream's time is up.
    UT = 8, "UpstreamRequestTimeout";
    /// The upstream closed the connection.
    UC = 9, "UpstreamConnectionTermination";
    /// The upstream reset the stream.
    UR = 10, "UpstreamRemoteReset";
    /// The upstream broke its protocol.
    UPE = 11, "UpstreamProtocolError";
    /// The client went away.
    DC = 12, "DownstreamConnectionTermination";
    /// The client broke its protocol.
    DPE = 13, "DownstreamProtocolError";
}

impl Flags {
    /// No flag.
    pub const NONE: Flags = Flags(0);

    /// Is none set?
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Are all of `other` set?
    pub const fn contains(self, other: Flags) -> bool {
        self.0 & other.0 == other.0
    }

    /// The short names, in the order of the log.
    pub fn names(self) -> impl Iterator<Item = &'static str> {
        Flags::NAMES.iter().filter(move |(flag, ..)| self.contains(*flag)).map(|(_, name, _)| *name)
    }

    /// The long names, in the same order.
    pub fn long_names(self) -> impl Iterator<Item = &'static str> {
        Flags::NAMES.iter().filter(move |(flag, ..)| self.contains(*flag)).map(|(.., name)| *name)
    }
}

impl std::ops::BitOr for Flags {
    type Output = Flags;

    fn bitor(self, other: Flags) -> Flags {
        Flags(self.0 | other.0)
    }
}

impl std::ops::BitOrAssign for Flags {
    fn bitor_assign(&mut self, other: Flags) {
        self.0 |= other.0;
    }
}

impl fmt::Display for Flags {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_empty() {
            return f.write_str("-");
        }
        for (index, name) in self.names().enumerate() {
            write!(f, "{}{name}", if index == 0 { "" } else { "," })?;
        }
        Ok(())
    }
}

impl Serialize for Flags {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.names())
    }
}
