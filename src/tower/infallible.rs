//! A client that always answers: for stacks that want no errors.

use super::body::ResponseBody;
use super::classify::classify;
use super::client::{AttemptError, Client, ClientFuture};
use super::replay::BoxError;
use http::{Response, StatusCode};
use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use tower::Service;

/// A [`Client`] whose errors are answers: of [`Client::infallible`].
///
/// What the policy makes is an answer in any case. What is left is an inner service that does not become ready: 503, with
/// the error as an [`AttemptError`] in the response's extensions. It is ready when the inner service is ready or has failed.
#[derive(Clone, Debug)]
pub struct Answering<S> {
    inner: S,
    /// Why the inner service did not become ready.
    broken: Option<Arc<BoxError>>,
}

impl<S> Client<S> {
    /// The same client for stacks that want no errors: an axum `Router`'s fallback, a hyper server.
    ///
    /// ```
    /// # #[cfg(feature = "client")] {
    /// use axum::Router;
    /// use pointsman::tower::Pool;
    ///
    /// /// A reverse proxy.
    /// fn proxy(engine: &pointsman::Engine) -> Router {
    ///     Router::new().fallback_service(engine.client(Pool::new()).infallible())
    /// }
    /// # }
    /// ```
    pub fn infallible(self) -> Answering<Self> {
        Answering { inner: self, broken: None }
    }
}

impl<S, Q, R> Service<Q> for Answering<S>
where
    S: Service<
            Q,
            Response = Response<ResponseBody<R>>,
            Error = BoxError,
            Future = ClientFuture<Response<ResponseBody<R>>>,
        >,
{
    type Response = Response<ResponseBody<R>>;
    type Error = Infallible;
    type Future = AnsweringFuture<R>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.broken = ready!(self.inner.poll_ready(cx)).err().map(Arc::new);
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Q) -> Self::Future {
        match self.broken.take() {
            Some(error) => AnsweringFuture { state: Err(Some(error)) },
            None => AnsweringFuture { state: Ok(self.inner.call(request)) },
        }
    }
}

/// The future of an [`Answering`]. Dropping it lets go of everything at once.
#[derive(Debug)]
pub struct AnsweringFuture<R> {
    state: Result<ClientFuture<Response<ResponseBody<R>>>, Option<Arc<BoxError>>>,
}

impl<R> Future for AnsweringFuture<R> {
    type Output = Result<Response<ResponseBody<R>>, Infallible>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let error = match &mut self.state {
            Ok(future) => match ready!(Pin::new(future).poll(cx)) {
                Ok(response) => return Poll::Ready(Ok(response)),
                Err(error) => Some(Arc::new(error)),
            },
            Err(error) => error.take(),
        };
        let mut response = Response::new(ResponseBody::empty());
        *response.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
        if let Some(error) = error {
            let failure = classify(&**error);
            response.extensions_mut().insert(AttemptError::new(error, failure));
        }
        Poll::Ready(Ok(response))
    }
}
