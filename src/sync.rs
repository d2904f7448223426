//! Where counters get their atomics from: the standard library, or, under `--cfg loom`, a model checker that tries every
//! interleaving (`tests/loom`). And how locks are taken.

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
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Takes a lock, whatever became of those who held it before: no code that can panic runs while state is half changed.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
