//! What an engine does, for those who watch it: ready observers behind features.
//!
//! Everything here listens to [`Observer`](crate::engine::Observer) events. Without an observer nothing is computed; a
//! user's own observer sees the same.
//!
//! | feature | what |
//! |---|---|
//! | `tracing` | [`Tracing`]: an event for each thing that happens; and the layers of [`tower`](crate::tower) open a span a request |
//! | `metrics` | [`Metrics`]: counters and histograms for the `metrics` facade, with a bound on their number |

#[cfg(feature = "metrics")]
mod metrics;
#[cfg(feature = "tracing")]
mod tracing;

#[cfg(feature = "metrics")]
pub use self::metrics::Metrics;
#[cfg(feature = "tracing")]
pub use self::tracing::Tracing;
