//! Envoy's response flags, and a finer code of our own.

use serde::{Serialize, Serializer};
use std::fmt;

/// Envoy's response flags: a small set, printed as access logs print it (`URX,UF`; `-` when empty).
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

// In the order in which Envoy comes to set them, which is the order in which it logs them: `URX,UF`.
flags! {
    /// A fault delayed the request.
    DI = 0;
    /// A fault aborted the request.
    FI = 1;
    /// Retries (or connection attempts) are used up.
    URX = 2;
    /// No healthy upstream.
    UH = 3;
    /// Upstream connection failure.
    UF = 4;
    /// Overflow: a limit refused the request.
    UO = 5;
    /// No route.
    NR = 6;
    /// No such cluster.
    NC = 7;
    /// The upstream's time is up.
    UT = 8;
    /// The upstream closed the connection.
    UC = 9;
    /// The upstream reset the stream.
    UR = 10;
    /// The upstream broke its protocol.
    UPE = 11;
    /// The client went away.
    DC = 12;
    /// The client broke its protocol.
    DPE = 13;
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
