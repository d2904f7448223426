//! What was decided for one request, and for one connection.

use super::{DirectResponse, Forward, Origin, Redirect, Route, WeightedDestination};
use std::net::IpAddr;
use std::sync::Arc;

/// What was decided for one request. Borrows from the policy; nothing is copied.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Decision<'p> {
    /// What is to be done.
    pub verdict: Verdict<'p>,
    /// The one draw that picked the destination, and that mirrors are sampled by.
    pub draw: u64,
}

/// What is to be done with a request.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub enum Verdict<'p> {
    /// Forward it.
    Forward {
        /// The route that matched.
        route: &'p Arc<Route>,
        /// Its action.
        forward: &'p Forward,
        /// The destination that the draw picked.
        destination: &'p WeightedDestination,
    },
    /// Send the client elsewhere.
    Redirect {
        /// The route that matched.
        route: &'p Arc<Route>,
        /// Its action.
        redirect: &'p Redirect,
    },
    /// Answer.
    Respond {
        /// The route that matched.
        route: &'p Arc<Route>,
        /// Its action.
        response: &'p DirectResponse,
    },
    /// A host that nobody knows, where that is allowed: to wherever the caller wanted to go (`PassthroughCluster`).
    PassThrough,
    /// No route.
    NoRoute(NoRoute),
}

/// Why there is no route.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub enum NoRoute {
    /// Nothing listens on the port.
    NoListener,
    /// No virtual host has the authority: 404, flag NR.
    UnknownHost,
    /// No virtual host has the authority, and the mesh lets nothing through that it does not know: 502.
    Refused,
    /// The virtual host has no route for the request: 404, flag NR.
    NoMatch,
    /// The path cannot be normalised: 400.
    BadPath,
    /// A gateway's server redirects clear text to `https` (301), before any route.
    HttpsRedirect,
}

/// A TCP connection that is to be routed.
#[derive(Clone, Copy, Debug)]
pub struct Connection<'a> {
    /// Where it was going.
    pub address: Option<IpAddr>,
    /// The port that was dialled.
    pub port: u16,
    /// The server name of its TLS hello, if any.
    pub sni: Option<&'a str>,
}

/// What is to be done with a connection.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub enum ConnectionVerdict<'p> {
    /// Forward it.
    Forward {
        /// The rule that took it.
        origin: &'p Origin,
        /// The destination that the draw picked.
        destination: &'p WeightedDestination,
    },
    /// To wherever the caller wanted to go.
    PassThrough,
    /// Close it.
    Closed,
    /// Nothing listens on that address and port. (A mesh proxy that catches all traffic lets it pass.)
    NoListener,
}
