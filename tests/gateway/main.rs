//! The gateway of `examples/gateway.rs`, over real sockets: worlds that were observed on a real Envoy, and what a proxy must
//! be able to do besides.

#![allow(clippy::unwrap_used, unreachable_pub, dead_code)]

#[path = "../../examples/gateway.rs"]
mod gateway;
#[path = "../support/mod.rs"]
mod support;

mod clients;
mod process;
mod proxy;
mod refusals;
mod wire;
mod worlds;
