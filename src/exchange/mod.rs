//! The life of one request, as a state machine without I/O, clock or async.
//!
//! ```text
//!            begin(head)
//!                │ clean up, normalise, decide
//!                ▼
//!   no route · redirect · direct response · refused upgrade ───────────▶ Respond
//!                │ forward
//!                ▼
//!   delay ──Wait──▶ abort? ─────────────────────────────────────────────▶ Respond
//!                │
//!                ▼
//!   CORS preflight? no such destination? ───────────────────────────────▶ Respond
//!                │ deadlines, header operations, rewrites
//!                ▼
//!   ┌──▶ pick an endpoint ── none ──────────────────────────────────────▶ Respond
//!   │            │ ask for a connection ── over a limit ────────────────▶ Respond
//!   │            │    └─ Wait for a turn ── the time is up ─────────────▶ Respond
//!   │            ▼
//!   │      Mirror (with the first attempt), Attempt
//!   │            │ on_response · on_failure · its time is up (Cancel)
//!   │            │                       └─ the whole time is up ───────▶ Cancel, Respond
//!   │            ▼
//!   └─ Wait ◀─ retry? (Cancel) ── no ──┬─ no response ──────────────────▶ Respond
//!                                      └─ Return ── on_end ─────────────▶ Done
//!                                           └─ broken off, time is up ──▶ Reset
//! ```
//!
//! Each of `Respond`, `Reset` and `Done` is the end: afterwards [`Exchange::next`] says `Done` for ever, and events
//! change nothing. Dropping an exchange ends it too. What it held (permits of limits, a place in the queue, its share of
//! the retries) is given back at once.
//!
//! # What is done, in which order, and why there
//!
//! | what | when, and why there |
//! |---|---|
//! | clean-up, normalisation | first: routes and upstreams see one form of a request |
//! | route and weights | once, on the request as it came; retries keep both |
//! | an upgrade that is not allowed | once the route is known, whose response operations apply; before its faults |
//! | delay, then abort | before everything that costs; neither mirrored, nor retried, nor timed |
//! | CORS | after faults: preflights are faulted too, aborts are not marked |
//! | deadlines | before header operations, which may read what upstreams are told, but not change what holds |
//! | header operations, rewrites | once, before the first pick, because hashing reads the result |
//! | retry policy | after header operations, which may ask for retries |
//! | pick, connection | for each attempt |
//! | mirrors | when the first attempt has an endpoint and a connection or a place in the queue |
//! | outcome | at a response's head, a failure or the end of the attempt's time; a body that breaks off counts again |
//! | retry | the policy wants it, one is left, a limit allows it: in this order; the first refusal names the flag |
//! | cookies, response operations, CORS marks | on the last response; the latter two on every answer made in its place |
//!
//! # Time
//! `now` is an argument of everything. [`Step::Wait`] names the next time at which something is due; nothing needs to be
//! asked before it, unless something is told. An event that is told after its deadline is as if it had not come, so that a
//! late embedder sees what a punctual one sees. The route's clock begins when the request is complete (see
//! [`Exchange::request_complete`]) and a fault's delay is over; an attempt's, when besides it has its connection.
//!
//! # Draws
//! One for the route's weights (and mirrors), if a route forwards; one for a delay, if the route has one; one for an
//! abort, if it has one, after the delay; then for each attempt those of its pick and of the mirrors' picks (see
//! [`crate::balance`]) and, before a retry, one for the backoff (none after a 425).
//!
//! # Known differences from Envoy
//! - An attempt's own time covers connecting, if the embedder cannot tell when it had its connection.
//! - A request whose connection is being made is under way here; in Envoy it is pending until then, so that a burst that
//!   needs many new connections meets `http1MaxPendingRequests` there although it meets no other limit.
//! - A copy that finds no free connection is not made; Envoy queues it.
//! - `server` and `date` headers and `x-request-id` are the embedder's affair.
//! - A `referer` that is no URL is forwarded; Envoy drops it.
//! - Internal redirects, hedging and early data do not exist in Istio's API, and not here.
//!
//! # Example
//! The whole of a driver, with an upstream that first fails and then answers:
//!
//! ```
//! use http::{Method, StatusCode};
//! use pointsman::exchange::Step;
//! use pointsman::head::{RequestHead, ResponseHead};
//! use pointsman::mesh::{Endpoint, Mesh, Protocol, Service, Viewpoint};
//! use pointsman::policy::Policy;
//! use pointsman::time::Timestamp;
//! use pointsman::{Engine, Resources};
//!
//! # #[cfg(feature = "yaml")] {
//! let resources = Resources::from_yaml("
//! apiVersion: networking.istio.io/v1
//! kind: VirtualService
//! metadata: {name: reviews, namespace: default}
//! spec:
//!   hosts: [reviews]
//!   http:
//!   - route: [{destination: {host: reviews}}]
//!     retries: {attempts: 2, retryOn: 5xx}
//! ").unwrap();
//! let reviews = Service::new("reviews.default.svc.cluster.local", "default")
//!     .with_port(80, "http", Protocol::Http)
//!     .with_endpoint(Endpoint::new("10.0.0.1", 80));
//! let compiled = Policy::compile(&resources, &Mesh::new([reviews]), &Viewpoint::namespace("default"));
//! let engine = Engine::new(compiled.policy);
//!
//! let mut draws = || 0; // the engine's dice
//! let mut now = Timestamp::ZERO; // and its clock
//! let mut answers = vec![StatusCode::OK, StatusCode::SERVICE_UNAVAILABLE];
//! let mut exchange = engine.begin(RequestHead::new(Method::GET, 80, "reviews", "/"), now, &mut draws);
//! exchange.request_complete(now);
//! let head = loop {
//!     match exchange.next(now, &mut draws) {
//!         Step::Wait(until) => now = until,
//!         Step::Attempt(attempt) => {
//!             assert_eq!(&**attempt.endpoint.key(), "10.0.0.1:80");
//!             let answer = ResponseHead::new(answers.pop().unwrap()); // here an embedder does its I/O
//!             exchange.on_response(answer, now, &mut draws);
//!         }
//!         Step::Cancel | Step::Mirror(_) => {}
//!         Step::Respond(reply) => break reply.head,
//!         Step::Return(head) => break head,
//!         step => panic!("{step:?}"),
//!     }
//! };
//! exchange.on_end(now);
//! assert_eq!(head.status, StatusCode::OK);
//! assert_eq!(exchange.summary().attempts, 2);
//! # }
//! ```
//!
//! `examples/own_loop.rs` is one with sockets.

mod begin;
mod clean;
mod code;
mod events;
mod failure;
mod machine;
mod outgoing;
mod retry;
mod step;
mod summary;
mod surroundings;

pub use code::Code;
pub use failure::Failure;
pub use machine::Exchange;
pub(crate) use machine::Side;
pub use step::{Attempt, Mirror, Step};
pub use summary::{Summary, Try};
pub use surroundings::{Event, Observer};
pub(crate) use surroundings::{Settings, Snapshot, Surroundings};
