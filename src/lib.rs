//! Executes Istio's traffic policy inside any Rust program.
//!
//! pointsman reads `VirtualService` and `DestinationRule`, and decides what a mesh proxy would decide: which route
//! matches, which destination the weights pick, what is rewritten, redirected, delayed, aborted, mirrored, retried, timed
//! out, which endpoint the load balancer takes, which endpoints are ejected, which requests are over a limit. What is right
//! is what Istio's control plane and Envoy do, down to the quirks; thousands of cases that were observed on them are among
//! the tests.
//!
//! # Decide, and ask why
//!
//! ```
//! use http::HeaderMap;
//! use pointsman::Resources;
//! use pointsman::head::Request;
//! use pointsman::mesh::{Endpoint, Mesh, Protocol, Service, Viewpoint};
//! use pointsman::policy::Policy;
//!
//! let resources = Resources::from_yaml("
//! apiVersion: networking.istio.io/v1
//! kind: VirtualService
//! metadata: {name: reviews, namespace: default}
//! spec:
//!   hosts: [reviews]
//!   http:
//!   - name: testers
//!     match: [{headers: {x-tester: {exact: 'yes'}}}]
//!     directResponse: {status: 418}
//!   - name: everybody
//!     route: [{destination: {host: reviews}}]
//! ")?;
//! let reviews = Service::new("reviews.default.svc.cluster.local", "default")
//!     .with_port(9080, "http", Protocol::Http)
//!     .with_endpoint(Endpoint::new("10.0.0.1", 9080));
//! let policy = Policy::compile(&resources, &Mesh::new([reviews]), &Viewpoint::namespace("default")).policy;
//!
//! let headers = HeaderMap::new();
//! let request =
//!     Request { method: "GET", scheme: "http", authority: "reviews", path: "/", headers: &headers, port: 9080 };
//! let decision = policy.decide(&request, &mut || 0);
//! assert_eq!(&*decision.route_name(), "everybody");
//! assert_eq!(&*policy.cluster(&decision), "outbound|9080||reviews.default.svc.cluster.local");
//! let why = policy.explain(&request, &mut || 0);
//! assert_eq!(why.rules[0].failed.as_ref().unwrap().to_string(), "headers[x-tester] wanted exact `yes`, there was none");
//! # Ok::<(), pointsman::resource::LoadError>(())
//! ```
//!
//! # Live through a request
//!
//! An [`Engine`] is a policy that can be exchanged, and the state of destinations that outlives it. A request is an
//! [`Exchange`](exchange::Exchange): a state machine that says what to do next and is told what came of it. It does no
//! I/O, reads no clock and rolls no dice, so a proxy's loop, a test and a simulation all drive the same one; the
//! [tower layers](tower) are such a driver.
//!
//! # The way of the data
//!
//! ```text
//!  YAML / JSON ──resource──▶ VirtualService, DestinationRule ──validate──▶ Report
//!                                      │
//!         mesh (services, endpoints, viewpoint) ──compile──▶ Policy (immutable snapshot) + Report
//!                                                               │
//!  request head ─────────────────────────────────decide──▶ Decision: forward | redirect | respond | no route
//!                                                               │
//!                  Engine = policy + upstreams ──begin──▶ Exchange: the life of one request
//!                                                               │  ⇄ next(now) / on_response / on_failure
//!                                  wait · attempt · respond · return · mirror
//!                                                               │
//!                                     the embedder's I/O (tower, a proxy's loop, a test, a simulation)
//! ```
//!
//! A module knows only those that stand before it:
//!
//! | module | holds |
//! |---|---|
//! | [`time`], [`entropy`], [`head`] | what the arguments of everything are: times, draws, heads |
//! | [`resource`] | the two kinds as plain data, every field; reading many documents; writing them back |
//! | [`mesh`] | services, ports, endpoints, and the viewpoint that a policy is compiled for |
//! | [`policy`] | the snapshot: virtual hosts, indexed route tables, actions, destinations; decide and explain |
//! | [`transform`] | what is done to heads: header operations, rewrites, redirects, CORS, answers of our own |
//! | [`compile`] | host names, visibility, precedence, delegates, destinations: from resources to a policy |
//! | [`validate`] | what the API server, the webhook and an experienced reader would say |
//! | [`balance`], [`outlier`], [`limit`] | load balancers, ejections, circuit breakers: each a pure room |
//! | [`upstream`] | the live state of destinations, keyed by identity |
//! | [`exchange`] | the life of one request |
//! | [`engine`] | the handle: policy and state |
//! | `tls` | what a rule says of TLS to upstreams, as a client configuration for rustls (feature `rustls`) |
//! | [`tower`] | the layers; the only module that knows of async (feature `tower`) |
//! | `telemetry` | ready observers for `tracing` and `metrics` (features of these names) |
//! | `watch` | policy from files, read again when they change (feature `watch`) |
//!
//! # Determinism
//! Time ([`time::Timestamp`]) and chance ([`entropy::Draws`]) are arguments. The same policy, state, request, draws and time
//! always give the same decision. How many draws a call takes, and in which order, is part of its documentation.
//!
//! # Features
//! A feature adds; it never changes what is decided. The core without any depends on `serde`, `http`, `regex` and its
//! parts, `thiserror`, `ipnet`, `arc-swap` and two hashes.
//!
//! | feature | adds |
//! |---|---|
//! | `yaml` (default) | reading resources from YAML (from JSON they are read without it) |
//! | `tower` (default) | the layers of [`tower`] |
//! | `client` | pools of connections that obey `connectionPool`: `tower::Pool` |
//! | `rustls` | TLS to upstreams: `tls`; with `client` the pools speak it |
//! | `watch` | policy from files that change: `watch` |
//! | `diagnostics` | findings as a compiler prints them, and as SARIF: `validate::Sources`, `validate::Sarif` |
//! | `tracing`, `metrics` | ready observers: `telemetry` |
#![forbid(unsafe_code)]

pub mod balance;
pub mod compile;
pub mod engine;
pub mod entropy;
pub mod exchange;
mod grpc;
pub mod head;
mod hosts;
pub mod limit;
pub mod mesh;
pub mod outlier;
pub mod policy;
pub mod resource;
mod sync;
#[cfg(any(feature = "metrics", feature = "tracing"))]
pub mod telemetry;
pub mod time;
#[cfg(feature = "rustls")]
pub mod tls;
#[cfg(feature = "tower")]
pub mod tower;
pub mod transform;
pub mod upstream;
pub mod validate;
#[cfg(feature = "watch")]
pub mod watch;

pub use engine::Engine;
pub use resource::Resources;

/// The README's examples, run as tests.
#[cfg(all(doctest, feature = "yaml", feature = "client"))]
#[doc = include_str!("../README.md")]
struct Readme;
