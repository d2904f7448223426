//! Where counters get their atomics from: the standard library, or, under `--cfg loom`, a model checker that tries every
//! interleaving (`tests/loom`).

#[cfg(loom)]
pub(crate) use loom::sync::{
    Arc,
    atomic::{AtomicU32, Ordering},
};
#[cfg(not(loom))]
pub(crate) use std::sync::{
    Arc,
    atomic::{AtomicU32, Ordering},
};
