//! What reaches endpoints: the bounds of a [`Client`](super::Client)'s inner service under one name.

use super::replay::{BoxError, ReplayBody};
use bytes::Bytes;
use http::{Request, Response};
use http_body::Body;
use tower::Service;

/// A service that sends a request to the endpoint which its URI names, and which its [`Target`](super::Target) (in the
/// request's extensions) describes. `B` is the body that the client's callers send.
///
/// Every `tower::Service` of the right kind is one; there is nothing to implement besides. As a bound it says in one word
/// what a function needs or gives:
///
/// ```
/// use bytes::Bytes;
/// use http::{Request, Response};
/// use http_body_util::Full;
/// use pointsman::tower::{Client, Connector, ReplayBody, Target};
/// use pointsman::Engine;
/// use std::convert::Infallible;
///
/// /// A client whose upstreams are a function: each endpoint answers with its own address.
/// fn in_memory(engine: &Engine) -> Client<impl Connector<Full<Bytes>>> {
///     engine.client(tower::service_fn(|request: Request<ReplayBody<Full<Bytes>>>| async move {
///         let endpoint = request.extensions().get::<Target>().map(|target| target.endpoint.to_string());
///         Ok::<_, Infallible>(Response::new(Full::<Bytes>::from(endpoint.unwrap_or_default())))
///     }))
/// }
/// ```
pub trait Connector<B>:
    Service<Request<ReplayBody<B>>, Response = Response<Self::Body>, Error: Into<BoxError>, Future: Send + 'static>
    + Clone
    + Send
    + 'static
{
    /// The body of a response.
    type Body: Body<Data = Bytes, Error: Into<BoxError>> + Send + 'static;
}

impl<S, B, R> Connector<B> for S
where
    S: Service<Request<ReplayBody<B>>, Response = Response<R>, Error: Into<BoxError>, Future: Send + 'static>
        + Clone
        + Send
        + 'static,
    R: Body<Data = Bytes, Error: Into<BoxError>> + Send + 'static,
{
    type Body = R;
}
