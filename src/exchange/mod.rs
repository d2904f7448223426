//! The life of one request, as a state machine without I/O, clock or async.
//!
//! ```text
//!            begin(head)
//!                │ clean up, normalise, decide
//!                ▼
//!   no route · redirect · direct response ─────────────────────────────▶ Respond
//!                │ forward
//!                ▼
//!   delay ──Wait──▶ abort? ─────────────────────────────────────────────▶ Respond
//!                │
//!                ▼
//!   CORS preflight? ────────────────────────────────────────────────────▶ Respond
//!                │ header operations, rewrites
//!                ▼
//!   ┌──▶ pick an endpoint ── none ──────────────────────────────────────▶ Respond
//!   │            │ ask for a connection ── over a limit ────────────────▶ Respond
//!   │            │    └─ Wait for a turn
//!   │            ▼
//!   │      Mirror (first attempt), Attempt
//!   │            │ on_response / on_failure / time ── the whole time is up ▶ Respond
//!   │            ▼
//!   └─ Wait ◀─ retry? ── no ──▶ Return the response (or Respond) ──▶ on_end ──▶ Done
//! ```
//!
//! | what | when, and why there |
//! |---|---|
//! | clean-up, normalisation | first: routes and upstreams see one form of a request |
//! | route and weights | once, on the request as it came; retries keep both |
//! | delay, then abort | before everything that costs; neither mirrored, nor retried, nor timed |
//! | CORS | after faults: preflights are faulted too, aborts are not marked |
//! | header operations, rewrites | once, before the first pick, because hashing reads the result |
//! | pick, connection | for each attempt |
//! | response operations | on the last response, and on every answer made in its place |
//!
//! # Draws
//! One for the route's weights (and mirrors), if a route forwards; one for a delay with a percentage; one for an abort; then
//! for each attempt those of its pick (see [`crate::balance`]) and, before a retry, one for the backoff.

mod begin;
mod clean;
mod events;
mod machine;
mod outgoing;
mod retry;
mod step;
mod summary;

pub use machine::Exchange;
pub use step::{Attempt, Failure, Mirror, Step};
pub use summary::{Code, Summary, Try};
