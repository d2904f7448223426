//! Where counters get their atomics from: the standard library, or, under `--cfg pointsman_loom`, a model checker that
//! tries every interleaving (`tests/loom.rs`). The flag is this crate's own: plain `loom` would take tokio's sockets away
//! from the other tests' dependencies.

#[cfg(pointsman_loom)]
pub(crate) use loom::sync::{
    Arc,
    atomic::{AtomicU32, Ordering},
};
#[cfg(not(pointsman_loom))]
pub(crate) use std::sync::{
    Arc,
    atomic::{AtomicU32, Ordering},
};
