//! `VirtualService`: where the requests of some hosts go.
//!
//! The structure is the API's; see the fields for what each says. How routes are chosen and carried out is not
//! told here: these types only hold what was written, with absent and empty kept apart wherever that matters.

use std::collections::BTreeMap;

use super::decode::{message, names};
use super::meta::kind;
use super::{Bytes, Duration, Percent, StringMatch};

kind! {
    /// A VirtualService: routing for hosts.
    pub struct VirtualService { spec: VirtualServiceSpec }
}

message! {
    /// What a VirtualService asks for.
    pub struct VirtualServiceSpec {
        /// The namespaces that see it: `.` its own, `*` all, `~` none; empty is the mesh's default.
        pub export_to: Vec<String> = "exportTo",
        /// The gateways it is bound to; empty is `mesh`, the sidecars.
        pub gateways: Vec<String> = "gateways",
        /// The hosts it speaks for.
        pub hosts: Vec<String> = "hosts",
        /// The rules for HTTP, tried in order.
        pub http: Vec<HttpRoute> = "http",
        /// The rules for plain TCP, tried in order.
        pub tcp: Vec<TcpRoute> = "tcp",
        /// The rules for TLS that is passed through, tried in order.
        pub tls: Vec<TlsRoute> = "tls",
    }
}

message! {
    /// One rule for HTTP: conditions and what is done.
    pub struct HttpRoute {
        /// Cross-origin policy.
        pub cors_policy: Option<CorsPolicy> = "corsPolicy",
        /// The VirtualService that has the rules for what this one matches.
        pub delegate: Option<Delegate> = "delegate",
        /// Answer at once.
        pub direct_response: Option<HttpDirectResponse> = "directResponse",
        /// Faults to inject.
        pub fault: Option<HttpFaultInjection> = "fault",
        /// Header operations for all destinations.
        pub headers: Option<Headers> = "headers",
        /// The alternatives, one of which must match; none at all matches everything.
        pub r#match: Vec<HttpMatchRequest> = "match",
        /// A destination that gets copies.
        pub mirror: Option<Destination> = "mirror",
        /// The share of requests to copy, in whole per cent (deprecated; also spelt `mirror_percent`).
        pub mirror_percent: Option<u32> = "mirrorPercent",
        /// The share of requests to copy to `mirror`.
        pub mirror_percentage: Option<Percent> = "mirrorPercentage",
        /// Destinations that get copies, each with its share.
        pub mirrors: Vec<HttpMirrorPolicy> = "mirrors",
        /// The route's name, for logs.
        pub name: String = "name",
        /// Redirect the client.
        pub redirect: Option<HttpRedirect> = "redirect",
        /// Retries. An empty policy is not the same as none: it turns retries off.
        pub retries: Option<HttpRetry> = "retries",
        /// What is changed before the request goes on.
        pub rewrite: Option<HttpRewrite> = "rewrite",
        /// The destinations, by weight.
        pub route: Vec<HttpRouteDestination> = "route",
        /// How long the whole request may take.
        pub timeout: Option<Duration> = "timeout",
    }
}

message! {
    /// Conditions on a request, all of which must hold.
    pub struct HttpMatchRequest {
        /// On the authority.
        pub authority: Option<StringMatch> = "authority",
        /// The gateways it is for; overrides those of the VirtualService.
        pub gateways: Vec<String> = "gateways",
        /// On headers. An empty match asks for presence.
        pub headers: BTreeMap<String, StringMatch> = "headers",
        /// Whether the case of the path counts not, for `exact` and `prefix`.
        pub ignore_uri_case: bool = "ignoreUriCase",
        /// On the method.
        pub method: Option<StringMatch> = "method",
        /// Its name, for logs.
        pub name: String = "name",
        /// The port the request came for; 0 is any.
        pub port: u32 = "port",
        /// On query parameters.
        pub query_params: BTreeMap<String, StringMatch> = "queryParams",
        /// On the scheme.
        pub scheme: Option<StringMatch> = "scheme",
        /// Labels that the client must have.
        pub source_labels: BTreeMap<String, String> = "sourceLabels",
        /// The namespace that the client must be in.
        pub source_namespace: String = "sourceNamespace",
        /// A prefix for statistics.
        pub stat_prefix: String = "statPrefix",
        /// On the path.
        pub uri: Option<StringMatch> = "uri",
        /// On headers, turned round.
        pub without_headers: BTreeMap<String, StringMatch> = "withoutHeaders",
    }
}

message! {
    /// One of the destinations of an HTTP rule.
    pub struct HttpRouteDestination {
        /// Where to.
        pub destination: Option<Destination> = "destination",
        /// Header operations for this destination.
        pub headers: Option<Headers> = "headers",
        /// Its share, over the sum of all.
        pub weight: i32 = "weight",
    }
}

message! {
    /// A service, and perhaps a subset and a port of it.
    pub struct Destination {
        /// The service's host.
        pub host: String = required "host",
        /// The port; may be left out where the service has only one.
        pub port: Option<PortSelector> = "port",
        /// The subset, as a DestinationRule names it.
        pub subset: String = "subset",
    }
}

message! {
    /// A port by its number.
    pub struct PortSelector {
        /// The number.
        pub number: u32 = "number",
    }
}

message! {
    /// The VirtualService that rules are taken from.
    pub struct Delegate {
        /// Its name.
        pub name: String = "name",
        /// Its namespace; empty is that of the VirtualService that names it.
        pub namespace: String = "namespace",
    }
}

message! {
    /// A redirect.
    pub struct HttpRedirect {
        /// The authority to put in; empty keeps it.
        pub authority: String = "authority",
        /// How the port is found, where it is not said.
        pub derive_port: Option<RedirectPortSelection> = "derivePort",
        /// The port to put in.
        pub port: Option<u32> = "port",
        /// What replaces the matched prefix of the path.
        pub prefix_rewrite: String = "prefixRewrite",
        /// The status; 0 is 301.
        pub redirect_code: u32 = "redirectCode",
        /// The scheme to put in; empty keeps it.
        pub scheme: String = "scheme",
        /// The path to put in; empty keeps it.
        pub uri: String = "uri",
    }
    oneof { port, derive_port }
}

names! {
    /// How the port of a redirect is found.
    pub enum RedirectPortSelection {
        /// 80 or 443, by the scheme.
        #[default]
        FromProtocolDefault = "FROM_PROTOCOL_DEFAULT",
        /// The port that the request came with.
        FromRequestPort = "FROM_REQUEST_PORT",
    }
}

message! {
    /// An answer given at once.
    pub struct HttpDirectResponse {
        /// The body.
        pub body: Option<HttpBody> = "body",
        /// The status.
        pub status: u32 = required "status",
    }
}

message! {
    /// A body, as text or as bytes.
    pub struct HttpBody {
        /// As bytes.
        pub bytes: Option<Bytes> = "bytes",
        /// As text.
        pub string: Option<String> = "string",
    }
    oneof { string, bytes }
}

message! {
    /// What is changed in a request before it goes on.
    pub struct HttpRewrite {
        /// The authority to put in; empty keeps it.
        pub authority: String = "authority",
        /// The path, or what replaces the matched prefix of it; empty keeps it.
        pub uri: String = "uri",
        /// A substitution on the path.
        pub uri_regex_rewrite: Option<RegexRewrite> = "uriRegexRewrite",
    }
}

message! {
    /// A substitution by regular expression.
    pub struct RegexRewrite {
        /// The expression, in RE2's dialect.
        pub r#match: String = "match",
        /// What is put in; `\1` is the first group.
        pub rewrite: String = "rewrite",
    }
}

message! {
    /// Retries.
    pub struct HttpRetry {
        /// How many, after the first try; 0 turns retries off.
        pub attempts: i32 = "attempts",
        /// The base of the back-off.
        pub backoff: Option<Duration> = "backoff",
        /// How long each try may take.
        pub per_try_timeout: Option<Duration> = "perTryTimeout",
        /// Whether a retry goes to another endpoint.
        pub retry_ignore_previous_hosts: Option<bool> = "retryIgnorePreviousHosts",
        /// What is retried: conditions and statuses, with commas between.
        pub retry_on: String = "retryOn",
        /// Whether a retry may go to other localities.
        pub retry_remote_localities: Option<bool> = "retryRemoteLocalities",
    }
}

message! {
    /// Cross-origin policy.
    pub struct CorsPolicy {
        /// Whether credentials are allowed.
        pub allow_credentials: Option<bool> = "allowCredentials",
        /// The request headers that are allowed.
        pub allow_headers: Vec<String> = "allowHeaders",
        /// The methods that are allowed.
        pub allow_methods: Vec<String> = "allowMethods",
        /// The origins that are allowed, whole (deprecated).
        pub allow_origin: Vec<String> = "allowOrigin",
        /// The origins that are allowed.
        pub allow_origins: Vec<StringMatch> = "allowOrigins",
        /// The response headers that scripts may see.
        pub expose_headers: Vec<String> = "exposeHeaders",
        /// How long a preflight's answer may be kept.
        pub max_age: Option<Duration> = "maxAge",
        /// What becomes of a preflight whose origin does not match.
        pub unmatched_preflights: UnmatchedPreflights = "unmatchedPreflights",
    }
}

names! {
    /// What becomes of a preflight whose origin does not match.
    pub enum UnmatchedPreflights {
        /// The default: as `Forward`.
        #[default]
        Unspecified = "UNSPECIFIED",
        /// It goes on to the upstream.
        Forward = "FORWARD",
        /// It is answered here, without headers.
        Ignore = "IGNORE",
    }
}

message! {
    /// Faults to inject.
    pub struct HttpFaultInjection {
        /// End requests early.
        pub abort: Option<HttpFaultAbort> = "abort",
        /// Hold requests up.
        pub delay: Option<HttpFaultDelay> = "delay",
    }
}

message! {
    /// A fault that ends a request.
    pub struct HttpFaultAbort {
        /// With this gRPC status, by name or number.
        pub grpc_status: Option<String> = "grpcStatus",
        /// With this HTTP/2 error (not implemented by Istio).
        pub http2_error: Option<String> = "http2Error",
        /// With this HTTP status.
        pub http_status: Option<i32> = "httpStatus",
        /// For this share of requests; absent is none.
        pub percentage: Option<Percent> = "percentage",
    }
    oneof { http_status, grpc_status, http2_error }
}

message! {
    /// A fault that holds a request up.
    pub struct HttpFaultDelay {
        /// By a random time of this mean (not implemented by Istio).
        pub exponential_delay: Option<Duration> = "exponentialDelay",
        /// By this time.
        pub fixed_delay: Option<Duration> = "fixedDelay",
        /// For this share of requests, in whole per cent (deprecated).
        pub percent: i32 = "percent",
        /// For this share of requests.
        pub percentage: Option<Percent> = "percentage",
    }
    oneof { fixed_delay, exponential_delay }
}

message! {
    /// A destination that gets copies.
    pub struct HttpMirrorPolicy {
        /// Where to.
        pub destination: Option<Destination> = "destination",
        /// The share of requests to copy; absent is all.
        pub percentage: Option<Percent> = "percentage",
    }
}

message! {
    /// Header operations on the way out and back.
    pub struct Headers {
        /// On the request.
        pub request: Option<HeaderOperations> = "request",
        /// On the response.
        pub response: Option<HeaderOperations> = "response",
    }
}

message! {
    /// Header operations.
    pub struct HeaderOperations {
        /// Values to add.
        pub add: BTreeMap<String, String> = "add",
        /// Headers to take away.
        pub remove: Vec<String> = "remove",
        /// Values to put in place of what is there.
        pub set: BTreeMap<String, String> = "set",
    }
}

message! {
    /// One rule for plain TCP.
    pub struct TcpRoute {
        /// The alternatives, one of which must match; none at all matches everything.
        pub r#match: Vec<L4MatchAttributes> = "match",
        /// The destinations, by weight.
        pub route: Vec<RouteDestination> = "route",
    }
}

message! {
    /// Conditions on a connection, all of which must hold.
    pub struct L4MatchAttributes {
        /// The networks that the destination's address must be in one of.
        pub destination_subnets: Vec<String> = "destinationSubnets",
        /// The gateways it is for; overrides those of the VirtualService.
        pub gateways: Vec<String> = "gateways",
        /// The port; 0 is any.
        pub port: u32 = "port",
        /// Labels that the client must have.
        pub source_labels: BTreeMap<String, String> = "sourceLabels",
        /// The namespace that the client must be in.
        pub source_namespace: String = "sourceNamespace",
        /// The network that the client's address must be in (not implemented by Istio).
        pub source_subnet: String = "sourceSubnet",
    }
}

message! {
    /// One of the destinations of a TCP or TLS rule.
    pub struct RouteDestination {
        /// Where to.
        pub destination: Option<Destination> = "destination",
        /// Its share, over the sum of all.
        pub weight: i32 = "weight",
    }
}

message! {
    /// One rule for TLS that is passed through.
    pub struct TlsRoute {
        /// The alternatives, one of which must match.
        pub r#match: Vec<TlsMatchAttributes> = required "match",
        /// The destinations, by weight.
        pub route: Vec<RouteDestination> = "route",
    }
}

message! {
    /// Conditions on a TLS connection, all of which must hold.
    pub struct TlsMatchAttributes {
        /// The networks that the destination's address must be in one of.
        pub destination_subnets: Vec<String> = "destinationSubnets",
        /// The gateways it is for; overrides those of the VirtualService.
        pub gateways: Vec<String> = "gateways",
        /// The port; 0 is any.
        pub port: u32 = "port",
        /// The server names, exact or with a leading wildcard.
        pub sni_hosts: Vec<String> = required "sniHosts",
        /// Labels that the client must have.
        pub source_labels: BTreeMap<String, String> = "sourceLabels",
        /// The namespace that the client must be in.
        pub source_namespace: String = "sourceNamespace",
    }
}
