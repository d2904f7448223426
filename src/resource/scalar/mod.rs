//! The scalars of the two kinds that are more than a string or a number.

mod bytes;
mod duration;
mod percent;
mod string_match;

pub use bytes::Bytes;
pub use duration::{Duration, DurationError};
pub use percent::Percent;
pub use string_match::StringMatch;
