//! The gateway of `examples/gateway.rs`, over real sockets: worlds that were observed on a real Envoy, and what a proxy must
//! be able to do besides.

#![allow(clippy::unwrap_used, unreachable_pub, dead_code)]

#[path = "../../examples/gateway/admin.rs"]
mod admin;
#[path = "../../examples/gateway/framing.rs"]
mod framing;
#[path = "../../examples/gateway/log.rs"]
mod log;
#[path = "../../examples/gateway/serve.rs"]
mod serve;
#[path = "../support/mod.rs"]
mod support;
#[path = "../../examples/gateway/tunnel.rs"]
mod tunnel;

mod proxy;
mod wire;
mod worlds;

type Fallible<T> = Result<T, Box<dyn std::error::Error + Send + Sync>>;
