//! The client's side: route, pick, retry, time out, mirror and eject, over any service that can reach an endpoint.
//!
//! [`Client`] is a driver of [`Exchange`]: it does what each [`Step`] says with the inner service, tokio's timers and the
//! request's body, and tells the exchange what came of it. It decides nothing itself.
//!
//! The inner service gets a request whose URI is the endpoint's (`http://10.0.0.7:9080/path`), whose `Host` is the mesh's,
//! and whose extensions hold the [`Target`]. hyper-util's pooled client is such a service; so is anything that looks at
//! the URI or at the target.
//!
//! What a user of tower may rely on:
//! - `poll_ready` is the inner service's; the instance that was ready serves the first attempt, clones are made ready
//!   before they are called.
//! - A clone is independent, and shares the engine.
//! - Dropping the future (or the response's body) releases everything at once: permits, counts, the attempt itself.
//! - An answer that the policy makes (404, 503, 504, a redirect, …) is a response, as a proxy's client would see it. The
//!   [`Summary`] in its extensions says why, and an [`AttemptError`] holds what the inner service said last.
//! - Bodies stream. A request's body is kept for replay up to [`Client::with_replay_limit`] bytes; beyond that it is sent once.

use super::body::ResponseBody;
use super::classify::classify;
use super::clock::{Clock, Generator, Seed};
use super::replay::{BoxError, ReplayBody};
use crate::engine::Engine;
use crate::exchange::{Attempt, Exchange, Failure, Step, Summary};
use crate::head::{RequestHead, ResponseHead};
use crate::time::Timestamp;
use bytes::Bytes;
use http::{Request, Response, Uri};
use http_body::Body;
use std::error::Error as StdError;
use std::fmt;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use tokio::time::Sleep;
use tower::{Layer, Service};

/// How much of a request's body is kept for replay, unless said otherwise: Envoy's 1 MiB.
pub const DEFAULT_REPLAY_LIMIT: usize = 1 << 20;

/// Routes requests with an [`Engine`] and sends them with `S`. See the [module](self).
#[derive(Clone)]
pub struct Client<S> {
    inner: S,
    engine: Engine,
    shared: Arc<Shared>,
}

struct Shared {
    clock: Clock,
    seed: Seed,
    replay_limit: usize,
    port: Option<u16>,
    classify: Box<dyn Fn(&(dyn StdError + 'static)) -> Failure + Send + Sync>,
}

/// Makes a [`Client`] of a service.
#[derive(Clone, Debug)]
pub struct ClientLayer {
    engine: Engine,
}

impl ClientLayer {
    /// A layer that routes with `engine`.
    pub fn new(engine: Engine) -> Self {
        ClientLayer { engine }
    }
}

impl<S> Layer<S> for ClientLayer {
    type Service = Client<S>;

    fn layer(&self, inner: S) -> Client<S> {
        Client::new(self.engine.clone(), inner)
    }
}

/// Where the inner service is to send a request: in the request's extensions.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Target {
    /// The destination's name, as Istio names clusters.
    pub cluster: Arc<str>,
    /// The endpoint, `address:port`.
    pub endpoint: Arc<str>,
    /// The attempt, from 1.
    pub attempt: u32,
}

/// What the inner service said when an attempt failed: in the extensions of the response that is made instead.
#[derive(Clone)]
pub struct AttemptError(Arc<BoxError>);

impl AttemptError {
    /// The inner service's own error.
    pub fn get(&self) -> &(dyn StdError + Send + Sync + 'static) {
        (**self.0).as_ref()
    }
}

impl fmt::Debug for AttemptError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("AttemptError").field(&self.0).finish()
    }
}

impl<S> Client<S> {
    /// A client with tokio's clock and a random seed.
    pub fn new(engine: Engine, inner: S) -> Self {
        let shared = Shared {
            clock: Clock::new(),
            seed: Seed::random(),
            replay_limit: DEFAULT_REPLAY_LIMIT,
            port: None,
            classify: Box::new(classify),
        };
        Client { inner, engine, shared: Arc::new(shared) }
    }

    /// The same client with draws from this seed: two runs of the same requests decide alike.
    pub fn with_seed(self, seed: u64) -> Self {
        self.with(|shared| shared.seed = Seed::new(seed))
    }

    /// The same client with this clock. Clients that share an engine must share the clock.
    pub fn with_clock(self, clock: Clock) -> Self {
        self.with(|shared| shared.clock = clock)
    }

    /// The same client that keeps at most so many bytes of a request's body for replay (1 MiB).
    pub fn with_replay_limit(self, bytes: usize) -> Self {
        self.with(|shared| shared.replay_limit = bytes)
    }

    /// The same client that routes every request as if it were for this service port.
    ///
    /// Otherwise the port is the URI's or the authority's, and 80 (443 for `https`) where neither has one.
    pub fn with_port(self, port: u16) -> Self {
        self.with(|shared| shared.port = Some(port))
    }

    /// The same client that asks `classify` what an error of the inner service means.
    pub fn classify_with(
        self,
        classify: impl Fn(&(dyn StdError + 'static)) -> Failure + Send + Sync + 'static,
    ) -> Self {
        self.with(|shared| shared.classify = Box::new(classify))
    }

    /// The engine.
    pub fn engine(&self) -> &Engine {
        &self.engine
    }

    /// Settings are made before the first clone; after it they are made anew.
    fn with(mut self, change: impl FnOnce(&mut Shared)) -> Self {
        match Arc::get_mut(&mut self.shared) {
            Some(shared) => change(shared),
            None => {
                let old = &self.shared;
                let mut shared = Shared {
                    clock: old.clock,
                    seed: Seed::random(),
                    replay_limit: old.replay_limit,
                    port: old.port,
                    classify: Box::new(classify),
                };
                change(&mut shared);
                self.shared = Arc::new(shared);
            }
        }
        self
    }
}

impl<S: fmt::Debug> fmt::Debug for Client<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").field("inner", &self.inner).field("engine", &self.engine).finish_non_exhaustive()
    }
}
