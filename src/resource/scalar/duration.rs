//! Lengths of time as Istio's API writes them.
//!
//! The grammar is that of Go's `time.ParseDuration`: an optional sign, then one or more decimal numbers each with a
//! unit of `ns`, `us` (also `µs`), `ms`, `s`, `m`, `h`, as in `1h30m`, `1.5s`, `-.5s`; or a bare `0`. There is no `d`,
//! no blank and no exponent. The range is that of a signed number of nanoseconds in 64 bits (about 292 years). Digits
//! below one nanosecond are dropped; a fraction is scaled in floating point, as there.
//!
//! A duration is kept as its nanoseconds; it is printed in the shortest form of the same grammar, without units that
//! are zero (`1m30s`, `250ms`), so that reading what was printed gives the same duration.

use std::fmt;
use std::str::FromStr;

use crate::resource::decode::{Decoder, Field, serde_by_tree};
use crate::resource::value::{Value, clip};

/// A signed length of time in nanoseconds, written in Go's grammar.
///
/// ```
/// use pointsman::resource::Duration;
///
/// let timeout: Duration = "1m1.5s".parse()?;
/// assert_eq!(timeout.as_nanos(), 61_500_000_000);
/// assert_eq!(timeout.to_string(), "1m1.5s");
/// assert!("1d".parse::<Duration>().is_err());
/// # Ok::<(), pointsman::resource::DurationError>(())
/// ```
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Duration(i64);

/// Why a text is not a duration.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not a duration: {reason}")]
pub struct DurationError {
    text: String,
    reason: &'static str,
}

impl Duration {
    /// No time at all.
    pub const ZERO: Self = Self(0);

    /// A duration of so many nanoseconds.
    pub const fn from_nanos(nanos: i64) -> Self {
        Self(nanos)
    }

    /// A duration of so many milliseconds; saturates.
    pub const fn from_millis(millis: i64) -> Self {
        Self(millis.saturating_mul(1_000_000))
    }

    /// A duration of so many seconds; saturates.
    pub const fn from_secs(secs: i64) -> Self {
        Self(secs.saturating_mul(1_000_000_000))
    }

    /// The nanoseconds.
    pub const fn as_nanos(self) -> i64 {
        self.0
    }

    /// Whether it is less than nothing.
    pub const fn is_negative(self) -> bool {
        self.0 < 0
    }

    /// Whether it is nothing.
    pub const fn is_zero(self) -> bool {
        self.0 == 0
    }

    /// The same in the standard library's type, which has no negative durations.
    pub fn to_std(self) -> Option<std::time::Duration> {
        u64::try_from(self.0).ok().map(std::time::Duration::from_nanos)
    }
}

impl FromStr for Duration {
    type Err = DurationError;

    fn from_str(text: &str) -> Result<Self, DurationError> {
        parse(text).map(Self).map_err(|reason| DurationError { text: clip(text), reason })
    }
}

const NO_NUMBER: &str = "a number is missing";
const TOO_LONG: &str = "it is longer than about 292 years";
const NO_UNIT: &str = "a unit is missing (ns, us, ms, s, m or h)";
const ODD_UNIT: &str = "the units are ns, us, ms, s, m and h";

/// The nanoseconds of a text, step by step as Go counts them.
fn parse(text: &str) -> Result<i64, &'static str> {
    const LIMIT: u64 = 1 << 63;
    let (negative, mut rest) = match text.as_bytes().first() {
        Some(b'-') => (true, text.get(1..).unwrap_or("")),
        Some(b'+') => (false, text.get(1..).unwrap_or("")),
        _ => (false, text),
    };
    if rest == "0" {
        return Ok(0);
    }
    if rest.is_empty() {
        return Err("it is empty");
    }
    let mut total: u64 = 0;
    while !rest.is_empty() {
        let (whole, after) = split_digits(rest);
        let (fraction, after) = match after.strip_prefix('.') {
            Some(after) => split_digits(after),
            None => ("", after),
        };
        if whole.is_empty() && fraction.is_empty() {
            return Err(NO_NUMBER);
        }
        let end = after.find(|c: char| c == '.' || c.is_ascii_digit()).unwrap_or(after.len());
        let (name, after) = after.split_at(end);
        let unit: u64 = match name {
            "ns" => 1,
            "us" | "\u{b5}s" | "\u{3bc}s" => 1_000,
            "ms" => 1_000_000,
            "s" => 1_000_000_000,
            "m" => 60_000_000_000,
            "h" => 3_600_000_000_000,
            "" => return Err(NO_UNIT),
            _ => return Err(ODD_UNIT),
        };
        rest = after;
        let whole: u64 = if whole.is_empty() { 0 } else { whole.parse().map_err(|_| TOO_LONG)? };
        let mut part = whole.checked_mul(unit).filter(|part| *part <= LIMIT).ok_or(TOO_LONG)?;
        let (digits, scale) = scaled_fraction(fraction);
        if digits > 0 {
            part += (digits as f64 * (unit as f64 / scale)) as u64;
        }
        total = total.checked_add(part).filter(|total| *total <= LIMIT).ok_or(TOO_LONG)?;
    }
    match (negative, total) {
        (true, LIMIT) => Ok(i64::MIN),
        (true, total) => i64::try_from(total).map(|nanos| -nanos).map_err(|_| TOO_LONG),
        (false, total) => i64::try_from(total).map_err(|_| TOO_LONG),
    }
}

fn split_digits(text: &str) -> (&str, &str) {
    text.split_at(text.bytes().take_while(u8::is_ascii_digit).count())
}

/// A fraction's digits as an integer and what to divide it by; digits that do not fit in 63 bits are dropped.
fn scaled_fraction(digits: &str) -> (u64, f64) {
    const LIMIT: u64 = (1 << 63) - 1;
    let mut value: u64 = 0;
    let mut scale = 1.0;
    for digit in digits.bytes() {
        if value > LIMIT / 10 {
            break;
        }
        let next = value * 10 + u64::from(digit - b'0');
        if next > LIMIT + 1 {
            break;
        }
        value = next;
        scale *= 10.0;
    }
    (value, scale)
}

impl fmt::Display for Duration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const SECOND: u64 = 1_000_000_000;
        let nanos = self.0.unsigned_abs();
        if nanos == 0 {
            return f.write_str("0s");
        }
        if self.0 < 0 {
            f.write_str("-")?;
        }
        if nanos < SECOND {
            let (unit, width, name) = match nanos {
                0..1_000 => (1, 0, "ns"),
                1_000..1_000_000 => (1_000, 3, "us"),
                _ => (1_000_000, 6, "ms"),
            };
            return write_decimal(f, nanos / unit, nanos % unit, width, name);
        }
        let (hours, minutes) = (nanos / (3_600 * SECOND), nanos / (60 * SECOND) % 60);
        if hours > 0 {
            write!(f, "{hours}h")?;
        }
        if minutes > 0 {
            write!(f, "{minutes}m")?;
        }
        match nanos % (60 * SECOND) {
            0 => Ok(()),
            rest => write_decimal(f, rest / SECOND, rest % SECOND, 9, "s"),
        }
    }
}

fn write_decimal(f: &mut fmt::Formatter<'_>, whole: u64, fraction: u64, width: usize, unit: &str) -> fmt::Result {
    if fraction == 0 {
        return write!(f, "{whole}{unit}");
    }
    let digits = format!("{fraction:0width$}");
    write!(f, "{whole}.{}{unit}", digits.trim_end_matches('0'))
}

impl Field for Duration {
    fn decode(value: &Value, decoder: &mut Decoder) -> Self {
        let Some(text) = value.as_str() else {
            decoder.expected("a duration such as `1.5s`, in quotes if need be", value);
            return Self::ZERO;
        };
        text.parse().unwrap_or_else(|error: DurationError| {
            decoder.error(value, || format!("{error}; expected one such as `1.5s` or `1h30m`"));
            Self::ZERO
        })
    }

    fn encode(&self) -> Value {
        self.to_string().into()
    }

    fn is_unset(&self) -> bool {
        self.is_zero()
    }
}

serde_by_tree!(Duration);
