//! The layers, as a user of tower sees them.

#![allow(clippy::unwrap_used, unreachable_pub)]

mod bed;
mod cancellation;
mod contract;
#[cfg(feature = "client")]
mod pool;
mod server;
mod streaming;
#[cfg(all(feature = "client", feature = "rustls"))]
mod tls;
