//! Envoy's response flags, and a finer code of our own.

use serde::{Serialize, Serializer};
use std::fmt;

/// Envoy's response flags: a small set, printed as access logs print it (`URX,UT`; `-` when empty).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Flags(u16);

macro_rules! flags {
    ($($(#[$doc:meta])* $name:ident = $bit:literal;)*) => {
        impl Flags {
            $($(#[$doc])* pub const $name: Flags = Flags(1 << $bit);)*

            const NAMES: &[(Flags, &str)] = &[$((Flags::$name, stringify!($name))),*];
        }
    };
}

// In the order of the bits, which is the order in which access logs write them.
flags! {
    /// No healthy upstream.
    UH = 0;
    /// Upstream connection failure.
    UF = 1;
    /// Overflow: a limit refused the request.
    UO = 2;
    /// No route.
    NR = 3;
    /// Retries (or connection attempts) are used up.
    URX = 4;
    /// No such cluster.
    NC = 5;
    /// The upstream's time is up.
    UT = 6;
    /// The upstream closed the connection.
    UC = 7;
    /// The upstream reset the stream.
    UR = 8;
    /// The upstream broke its protocol.
    UPE = 9;
    /// The client went away.
    DC = 10;
    /// The client broke its protocol.
    DPE = 11;
    /// A fault aborted the request.
    FI = 12;
    /// A fault delayed the request.
    DI = 13;
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
        Flags::NAMES.iter().filter(move |(flag, _)| self.contains(*flag)).map(|(_, name)| *name)
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
