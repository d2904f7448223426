//! Layers for tower: thin drivers of the [`Exchange`](crate::exchange::Exchange), and the only room that knows of async.
//!
//! [`Client`] goes around a service that can reach endpoints (hyper-util's pooled client is one); the stack routes, picks,
//! retries, times out, mirrors and ejects. Time is tokio's, chance comes from a seed; both can be given, so that a test runs
//! on paused time and always alike.

mod body;
mod classify;
mod client;
mod clock;
mod replay;

pub use body::{BodyTimeout, ResponseBody};
pub use classify::classify;
pub use client::{AttemptError, Client, ClientFuture, ClientLayer, DEFAULT_REPLAY_LIMIT, Target};
pub use clock::Clock;
pub use replay::{BoxError, ReplayBody, ReplayError};
