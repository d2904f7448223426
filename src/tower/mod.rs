//! Layers for tower: thin drivers of the [`Exchange`](crate::exchange::Exchange), and the only room that knows of async.
//!
//! [`Client`] goes around a service that can reach endpoints (hyper-util's pooled client is one); the stack routes, picks,
//! retries, times out, mirrors and ejects. [`Server`] goes around a handler, and does what makes sense in front of one.
//! Time is tokio's, chance comes from a seed that can be given: a test with tokio's time paused and a fixed seed takes no
//! time and always goes alike.

mod body;
mod classify;
mod client;
mod clock;
mod connector;
mod infallible;
#[cfg(feature = "client")]
mod pool;
#[cfg(feature = "client")]
mod proxy_protocol;
mod replay;
mod request;
mod server;
mod span;
#[cfg(feature = "client")]
mod wire;

pub use body::{BodyTimeout, ResponseBody};
pub use classify::classify;
pub use client::{AttemptError, Client, ClientFuture, ClientLayer, Tunnel};
pub use clock::Clock;
pub use connector::Connector;
pub use infallible::{Answering, AnsweringFuture};
#[cfg(feature = "client")]
pub use pool::{Pool, PoolBody};
pub use replay::{BoxError, ReplayBody, ReplayError};
pub use request::{ConnectionInfo, Target};
pub use server::{RequestBody, Server, ServerFuture, ServerLayer};

use crate::engine::Engine;

impl Engine {
    /// A client that routes with this engine, and sends with `inner`: any service that reaches the endpoint which the
    /// request's URI names. See [`Client`].
    pub fn client<S>(&self, inner: S) -> Client<S> {
        Client::new(self.clone(), inner)
    }

    /// A layer that applies this engine's policy in front of a handler of this process. See [`Server`].
    pub fn layer(&self) -> ServerLayer {
        ServerLayer::new(self.clone())
    }
}
