//! What a route does, with everything that could be worked out before the first request.

use super::{DestinationId, Pattern, RetryOn, RouteMatch, ValueMatch, ValueTemplate};
use http::{HeaderName, StatusCode};
use std::sync::Arc;
use std::time::Duration;

/// One route: a match block of a rule of a `VirtualService`, or a service's default.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Route {
    /// Istio's route name: `http.name`, and `.match.name` where the block has one. `default` for a service's own route.
    pub name: Arc<str>,
    /// Where it was written.
    pub origin: Origin,
    /// When it is taken.
    pub(crate) matcher: RouteMatch,
    /// Faults to inject, whatever the action is.
    pub fault: Fault,
    /// What it does.
    pub action: Action,
    /// `headers.response`, in phases that run one after the other (the destination's come before these).
    pub(crate) response_headers: HeaderOperations,
}

/// Where a route was written.
#[derive(Clone, Debug, PartialEq, Eq, Hash, serde::Serialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub enum Origin {
    /// A rule of a `VirtualService`.
    Rule {
        /// `namespace/name` of the resource.
        resource: Arc<str>,
        /// The list that the rule stands in.
        section: Section,
        /// Which rule of that list, from 0.
        rule: usize,
        /// Which match block of the rule, from 0; none if the rule has no match.
        #[serde(rename = "match")]
        block: Option<usize>,
        /// The delegate that the rule was taken from, if any: `namespace/name`, and its rule's index.
        delegate: Option<(Arc<str>, usize)>,
    },
    /// The route that every service has without a `VirtualService`.
    Service {
        /// Its host.
        host: Arc<str>,
    },
}

/// A list of rules in a `VirtualService`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum Section {
    /// `spec.http`.
    Http,
    /// `spec.tls`.
    Tls,
    /// `spec.tcp`.
    Tcp,
}

impl Section {
    /// As a path in a spec begins: `http`, `tls`, `tcp`.
    pub fn as_str(self) -> &'static str {
        match self {
            Section::Http => "http",
            Section::Tls => "tls",
            Section::Tcp => "tcp",
        }
    }
}

/// What a route does.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Action {
    /// The request goes to a destination.
    Forward(Box<Forward>),
    /// The client is sent elsewhere.
    Redirect(Box<Redirect>),
    /// The proxy answers.
    Respond(Box<DirectResponse>),
}

/// Everything about forwarding.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Forward {
    /// Destinations with a weight, in order; those of weight 0 are left out unless the rule has a single one.
    pub destinations: Vec<WeightedDestination>,
    /// The sum of the weights.
    pub total_weight: u64,
    /// Did the rule name several destinations (weightless ones too)? Then a destination's header operations run as a
    /// phase of their own, before the route's.
    pub weighted: bool,
    /// `headers.request` of the route (and of the only destination).
    pub(crate) request_headers: HeaderOperations,
    /// What becomes of the authority: `rewrite.authority`, or a `Host` in `headers.request`.
    pub host_rewrite: Option<Arc<str>>,
    /// What becomes of the path.
    pub(crate) path_rewrite: PathRewrite,
    /// The CORS policy.
    pub cors: Option<Box<Cors>>,
    /// The time that the whole exchange may take. None: no limit.
    pub timeout: Option<Duration>,
    /// When to try again. None: never.
    pub retry: Option<RetryPolicy>,
    /// Copies, in order.
    pub mirrors: Vec<Mirror>,
    /// What to hash for consistent hashing, in order.
    pub hash: Vec<HashKey>,
}

/// Where a request can go.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct WeightedDestination {
    /// Its share of [`Forward::total_weight`].
    pub weight: u64,
    /// The destination.
    pub target: Target,
    /// Its own `headers.request`, where the rule names several destinations.
    pub(crate) request_headers: HeaderOperations,
    /// Its own `headers.response`, where the rule names several destinations.
    pub(crate) response_headers: HeaderOperations,
    /// A `Host` in its own `headers.request`, where the rule names several destinations.
    pub host_rewrite: Option<Arc<str>>,
}

/// A destination that is there, or one that is not.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Target {
    /// One of the policy's destinations.
    Destination(DestinationId),
    /// Nobody defines it: 503, flag NC. The name is what was asked for.
    Missing(Arc<str>),
}

/// Header operations of one phase: removes, then sets, then adds.
#[derive(Clone, Debug, Default)]
pub struct HeaderOperations {
    pub(crate) remove: Vec<HeaderName>,
    pub(crate) set: Vec<(HeaderName, ValueTemplate)>,
    pub(crate) add: Vec<(HeaderName, ValueTemplate)>,
}

impl HeaderOperations {
    /// Is there nothing to do?
    pub fn is_empty(&self) -> bool {
        self.remove.is_empty() && self.set.is_empty() && self.add.is_empty()
    }
}

/// What becomes of the path (the query stays).
#[derive(Clone, Debug, Default)]
pub(crate) enum PathRewrite {
    /// Nothing.
    #[default]
    Keep,
    /// The matched part (the prefix; the whole path of an exact or regex match; `/` without a condition) becomes this.
    Matched(Box<str>),
    /// Every match of the pattern, anywhere in the path, becomes the substitution (`\0`-`\9`, `\\`).
    Regex { pattern: Pattern, substitution: Box<str> },
}

/// A redirect.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Redirect {
    /// 301, 302, 303, 307 or 308.
    pub status: StatusCode,
    /// Replaces host and port.
    pub authority: Option<Arc<str>>,
    /// Replaces the scheme.
    pub scheme: Option<Arc<str>>,
    /// A port to write; a scheme's default port has been dropped already.
    pub port: Option<u16>,
    /// Replaces the path.
    pub path: RedirectPath,
}

/// What a redirect does to the path.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum RedirectPath {
    /// Nothing.
    #[default]
    Keep,
    /// Replaces all of it.
    Full(Arc<str>),
    /// Replaces the matched part.
    Matched(Arc<str>),
}

/// A fixed answer.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct DirectResponse {
    /// The status.
    pub status: StatusCode,
    /// The body.
    pub body: Arc<[u8]>,
}

/// Faults to inject.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct Fault {
    /// Hold the request first.
    pub delay: Option<Delay>,
    /// Then answer in the upstream's place.
    pub abort: Option<Abort>,
}

/// A fraction of requests: `numerator` of `denominator`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Fraction {
    /// How many …
    pub numerator: u64,
    /// … of so many: 100 or 1,000,000.
    pub denominator: u64,
}

impl Fraction {
    /// Every one.
    pub const ALL: Fraction = Fraction { numerator: 1_000_000, denominator: 1_000_000 };

    /// Does this draw fall into the fraction? As Envoy: `draw % denominator < numerator`.
    pub fn takes(self, draw: u64) -> bool {
        draw.checked_rem(self.denominator).is_some_and(|rest| rest < self.numerator)
    }
}

/// A delay.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Delay {
    /// For how long.
    pub duration: Duration,
    /// How often.
    pub fraction: Fraction,
}

/// An abort.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Abort {
    /// With what.
    pub status: AbortStatus,
    /// How often.
    pub fraction: Fraction,
}

/// What a request is aborted with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum AbortStatus {
    /// An HTTP status.
    Http(StatusCode),
    /// A gRPC status; a request that is not gRPC gets a plain 200.
    Grpc(u8),
}

/// A CORS policy.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct Cors {
    pub(crate) allow_origins: Vec<ValueMatch>,
    /// `access-control-allow-methods`, joined with commas; empty: not sent.
    pub allow_methods: Box<str>,
    /// `access-control-allow-headers`, joined with commas; empty: not sent.
    pub allow_headers: Box<str>,
    /// `access-control-expose-headers`, joined with commas; empty: not sent.
    pub expose_headers: Box<str>,
    /// `access-control-max-age` in seconds.
    pub max_age: Option<u64>,
    /// `access-control-allow-credentials: true`.
    pub allow_credentials: bool,
    /// Do preflights of other origins go to the upstream (the default)?
    pub forward_unmatched_preflights: bool,
}

/// When to try again.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct RetryPolicy {
    /// How often, the first attempt not counted.
    pub attempts: u32,
    /// On what.
    pub on: RetryOn,
    /// Statuses that `retriable-status-codes` names.
    pub status_codes: Vec<u16>,
    /// The time that one attempt may take.
    pub per_try_timeout: Option<Duration>,
    /// Backoff grows from this …
    pub backoff_base: Duration,
    /// … to this.
    pub backoff_max: Duration,
    /// Is an endpoint that was tried already passed over?
    pub avoid_previous_hosts: bool,
    /// Are places that were tried already passed over (`retryRemoteLocalities`)?
    pub avoid_previous_priorities: bool,
}

/// A copy of requests.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Mirror {
    /// Where it goes.
    pub target: Target,
    /// How often, tested on the same draw as the weights.
    pub fraction: Fraction,
}

/// What consistent hashing hashes.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum HashKey {
    /// A header's values.
    Header(HeaderName),
    /// A cookie.
    Cookie {
        /// Its name.
        name: Arc<str>,
        /// Set: one is made where it is missing, with this life (zero: a session's).
        ttl: Option<Duration>,
        /// `Path` of a cookie that is made.
        path: Arc<str>,
        /// More attributes of a cookie that is made, in order.
        attributes: Vec<(Arc<str>, Arc<str>)>,
    },
    /// The client's address.
    SourceIp,
    /// `:path`, `:method` or `:authority`.
    PseudoHeader(Arc<str>),
    /// A query parameter.
    QueryParameter(Arc<str>),
}
