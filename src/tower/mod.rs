//! The layers.
mod clock;
mod replay;
pub use clock::Clock;
pub use replay::{BoxError, ReplayBody, ReplayError};
