//! The server's side: what makes sense in front of a handler of this process. A driver of [`Exchange`] too; the "upstream"
//! is the inner service.

use super::body::ResponseBody;
use super::clock::{Chance, Clock, Generator, sleep_until};
use super::replay::BoxError;
use super::request::head_of;
use super::span::{RequestSpan, SpanKind};
use crate::engine::Engine;
use crate::entropy::Draws;
use crate::exchange::{Exchange, Step, Summary};
use crate::head::{RequestHead, ResponseHead};
use crate::sync::lock;
use crate::transform::LocalReply;
use bytes::Bytes;
use http::header::{HOST, HeaderValue};
use http::{Extensions, Request, Response, Uri};
use http_body::{Body, Frame, SizeHint};
use pin_project_lite::pin_project;
use std::fmt;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};
use tower::{Layer, Service};

/// Makes a [`Server`] of a service.
#[derive(Clone)]
pub struct ServerLayer {
    engine: Engine,
    shared: Arc<Shared>,
}

/// Applies a policy in front of `S`, a handler of this process.
///
/// Match, faults, header operations, rewrites, redirects, direct responses, CORS, the route's timeout and the destination's
/// limits apply. Nothing is picked, retried, mirrored or ejected: there is only this process.
///
/// The handler finds a [`Summary`] in the request's extensions (which route it is, which destination the weights picked);
/// the response's extensions hold the final one.
///
/// - A request that no virtual host of the policy has is the handler's own affair, and passes as it is.
/// - A request whose host is known and that no rule matches gets 404, as in the mesh.
/// - The inner service's errors stay its own: `Error` is the inner one, so the layer goes around an axum `Router`.
/// - When the time is up the handler's future is dropped, and the client gets 504.
#[derive(Clone)]
pub struct Server<S> {
    inner: S,
    engine: Engine,
    shared: Arc<Shared>,
}

#[derive(Clone)]
struct Shared {
    clock: Clock,
    chance: Arc<Chance>,
    port: Option<u16>,
    host: Option<Arc<str>>,
}

impl ServerLayer {
    /// A layer that applies the engine's policy, with tokio's clock and a random seed.
    pub fn new(engine: Engine) -> Self {
        let shared = Shared { clock: Clock::of(&engine), chance: Arc::new(Chance::random()), port: None, host: None };
        ServerLayer { engine, shared: Arc::new(shared) }
    }

    /// The same layer with draws from this seed: two runs of the same requests decide alike.
    pub fn with_seed(mut self, seed: u64) -> Self {
        Arc::make_mut(&mut self.shared).chance = Arc::new(Chance::seeded(seed));
        self
    }

    /// The same layer with draws from a source of the user's own, which is asked for once for each request.
    pub fn with_draws<D: Draws + Send + Sync + 'static>(
        mut self,
        draws: impl Fn() -> D + Send + Sync + 'static,
    ) -> Self {
        Arc::make_mut(&mut self.shared).chance = Arc::new(Chance::own(draws));
        self
    }

    /// The same layer that routes every request as if it had come for this service port, whatever port is listened on.
    ///
    /// Otherwise the port is the authority's, and 80 (443 for `https`) where it has none.
    pub fn with_port(mut self, port: u16) -> Self {
        Arc::make_mut(&mut self.shared).port = Some(port);
        self
    }

    /// The same layer that looks for routes as if every request had been for this host, whatever its `Host` says: the name
    /// that the mesh knows this service by. Handler and redirects have the `Host` that came, unless the policy rewrites it.
    pub fn with_host(mut self, host: impl Into<Arc<str>>) -> Self {
        Arc::make_mut(&mut self.shared).host = Some(host.into());
        self
    }
}

impl<S> Layer<S> for ServerLayer {
    type Service = Server<S>;

    fn layer(&self, inner: S) -> Server<S> {
        Server { inner, engine: self.engine.clone(), shared: Arc::clone(&self.shared) }
    }
}

impl<S, B, R> Service<Request<B>> for Server<S>
where
    S: Service<Request<RequestBody<B>>, Response = Response<R>> + Clone + Send + 'static,
    S::Error: Send,
    S::Future: Send + 'static,
    B: Body + Send + 'static,
    R: Body<Data = Bytes> + Send + 'static,
    R::Error: Into<BoxError>,
{
    type Response = Response<ResponseBody<R>>;
    type Error = S::Error;
    type Future = ServerFuture<Response<ResponseBody<R>>, S::Error>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        // The instance that is ready serves this call; its clone waits for the next one.
        let clone = self.inner.clone();
        let inner = std::mem::replace(&mut self.inner, clone);
        let shared = Arc::clone(&self.shared);
        let engine = self.engine.clone();
        let (parts, body) = request.into_parts();
        let came = Came { uri: parts.uri.clone(), host: parts.headers.get(HOST).cloned(), version: parts.version };
        let (head, extensions) = head_of(parts, shared.port);
        let span = RequestSpan::new(SpanKind::Server, &head);
        let whole = span.around(run(inner, engine, shared, head, came, extensions, body));
        ServerFuture { inner: Box::pin(whole) }
    }
}

/// The future of a [`Server`]. Dropping it lets go of everything at once.
pub struct ServerFuture<T, E> {
    inner: Pin<Box<dyn Future<Output = Result<T, E>> + Send>>,
}

impl<T, E> Future for ServerFuture<T, E> {
    type Output = Result<T, E>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.inner.as_mut().poll(cx)
    }
}

async fn run<S, B, R>(
    mut inner: S,
    engine: Engine,
    shared: Arc<Shared>,
    head: RequestHead,
    came: Came,
    extensions: Extensions,
    body: B,
) -> Result<Response<ResponseBody<R>>, S::Error>
where
    S: Service<Request<RequestBody<B>>, Response = Response<R>>,
    B: Body,
    R: Body<Data = Bytes>,
{
    let clock = shared.clock;
    // Read again only after a wait: what happens between two waits happens at one time.
    let mut now = clock.now();
    let mut draws = shared.chance.next();
    let asked = head.authority.clone();
    let Some(mut exchange) = engine.begin_local(head.clone(), shared.host.clone(), now, &mut draws) else {
        let request = came.request(head, &asked, extensions, RequestBody::untracked(body));
        return Ok(inner.call(request).await?.map(ResponseBody::plain));
    };
    let (body, complete) = RequestBody::tracked(body);
    let (mut body, mut extensions) = (Some(body), Some(extensions));
    let mut told = false;
    let mut sending: Option<Pin<Box<S::Future>>> = None;
    let mut received: Option<(R, http::response::Parts)> = None;
    loop {
        if !told && complete.is_complete() {
            told = true;
            exchange.request_complete(now);
        }
        match exchange.next(now, &mut draws) {
            Step::Wait(until) => {
                let mut sleep = sleep_until(&clock, until);
                let answered = poll_fn(|cx| {
                    if let Some(sending) = &mut sending
                        && let Poll::Ready(result) = sending.as_mut().poll(cx)
                    {
                        return Poll::Ready(Some(result));
                    }
                    let timed = sleep.as_mut().is_some_and(|sleep| sleep.as_mut().poll(cx).is_ready());
                    let completed = !told && complete.poll(cx);
                    if timed || completed || exchange.poll_turn(cx.waker()) { Poll::Ready(None) } else { Poll::Pending }
                });
                let answered = answered.await;
                now = clock.now();
                match answered {
                    None => {}
                    Some(Err(error)) => {
                        exchange.on_client_gone();
                        return Err(error);
                    }
                    Some(Ok(response)) => {
                        sending = None;
                        let (mut parts, body) = response.into_parts();
                        let mut head = ResponseHead::new(parts.status);
                        head.headers = std::mem::take(&mut parts.headers);
                        received = Some((body, parts));
                        exchange.on_response(head, now, &mut draws);
                    }
                }
            }
            Step::Attempt(attempt) => {
                let (Some(body), Some(mut extensions)) = (body.take(), extensions.take()) else {
                    exchange.on_body_gone(now);
                    continue;
                };
                extensions.insert(exchange.summary().clone());
                let request = came.request(attempt.head, &asked, extensions, body);
                sending = Some(Box::pin(inner.call(request)));
            }
            Step::Return(head) => {
                let Some((body, parts)) = received.take() else { return Ok(broken(&exchange)) };
                return Ok(returned(head, parts, body, exchange, clock, draws));
            }
            Step::Respond(reply) => return Ok(local(reply, exchange.summary().clone())),
            Step::Cancel => sending = None,
            // Copies are not made here, and nothing was passed on that could be broken off.
            Step::Mirror(_) => {}
            Step::Reset | Step::Done => return Ok(broken(&exchange)),
        }
    }
}

/// The handler's response with the head that the policy makes of it.
fn returned<R>(
    head: ResponseHead,
    parts: http::response::Parts,
    body: R,
    exchange: Exchange,
    clock: Clock,
    draws: Generator,
) -> Response<ResponseBody<R>>
where
    R: Body,
{
    let summary = exchange.summary().clone();
    let mut response = Response::new(ResponseBody::upstream(body, exchange, clock, draws));
    *response.status_mut() = head.status;
    *response.version_mut() = parts.version;
    *response.headers_mut() = head.headers;
    *response.extensions_mut() = parts.extensions;
    response.extensions_mut().insert(summary);
    response
}

fn local<R>(reply: LocalReply, summary: Summary) -> Response<ResponseBody<R>> {
    let mut response = Response::new(ResponseBody::local(reply.body));
    *response.status_mut() = reply.head.status;
    *response.headers_mut() = reply.head.headers;
    response.extensions_mut().insert(summary);
    response
}

/// The exchange ended without an answer, which only a client that is gone can bring about.
fn broken<R>(exchange: &Exchange) -> Response<ResponseBody<R>> {
    let mut response = Response::new(ResponseBody::empty());
    *response.status_mut() = http::StatusCode::BAD_GATEWAY;
    response.extensions_mut().insert(exchange.summary().clone());
    response
}

/// What came, for what the handler is to see of it.
struct Came {
    uri: Uri,
    host: Option<HeaderValue>,
    version: http::Version,
}

impl Came {
    /// The request for the handler: as it came, but for what the policy changed. `asked` is the authority that was routed.
    fn request<B>(
        &self,
        head: RequestHead,
        asked: &str,
        extensions: Extensions,
        body: RequestBody<B>,
    ) -> Request<RequestBody<B>> {
        let mut request = Request::new(body);
        *request.method_mut() = head.method;
        *request.version_mut() = self.version;
        let mut uri = self.uri.clone().into_parts();
        let path = if head.path.starts_with('/') { head.path } else { format!("/{}", head.path) };
        if let Ok(path) = path.parse()
            && self.uri.path_and_query() != Some(&path)
        {
            uri.path_and_query = Some(path);
        }
        *request.headers_mut() = head.headers;
        let rewritten = (head.authority != asked).then_some(head.authority);
        let host = match &rewritten {
            Some(authority) => HeaderValue::from_str(authority).ok(),
            None => self.host.clone(),
        };
        if let Some(host) = host {
            request.headers_mut().insert(HOST, host);
        }
        if let (Some(authority), Some(_)) = (rewritten, &uri.authority) {
            uri.authority = authority.parse().ok().or(uri.authority);
        }
        *request.uri_mut() = Uri::from_parts(uri).unwrap_or_else(|_| self.uri.clone());
        *request.extensions_mut() = extensions;
        request
    }
}

pin_project! {
    /// The body of a request on its way to the handler. It streams; only its end is noticed, when the route's clock begins.
    pub struct RequestBody<B> {
        #[pin]
        inner: B,
        complete: Option<Arc<Completion>>,
    }

    impl<B> PinnedDrop for RequestBody<B> {
        // Nobody waits for what nobody will read.
        fn drop(this: Pin<&mut Self>) {
            if let Some(complete) = this.project().complete.take() {
                complete.finish();
            }
        }
    }
}

/// Has the whole body been read?
struct Completion {
    state: Mutex<(bool, Option<Waker>)>,
}

impl Completion {
    fn new(done: bool) -> Arc<Self> {
        Arc::new(Completion { state: Mutex::new((done, None)) })
    }

    fn is_complete(&self) -> bool {
        lock(&self.state).0
    }

    /// True if it is, else the task is woken when it is.
    fn poll(&self, cx: &mut Context<'_>) -> bool {
        let mut state = lock(&self.state);
        if !state.0 {
            state.1 = Some(cx.waker().clone());
        }
        state.0
    }

    fn finish(&self) {
        let mut state = lock(&self.state);
        state.0 = true;
        if let Some(waker) = state.1.take() {
            waker.wake();
        }
    }
}

impl<B: Body> RequestBody<B> {
    fn untracked(inner: B) -> Self {
        RequestBody { inner, complete: None }
    }

    fn tracked(inner: B) -> (Self, Arc<Completion>) {
        let complete = Completion::new(inner.is_end_stream());
        (RequestBody { inner, complete: Some(Arc::clone(&complete)) }, complete)
    }
}

impl<B: Body> Body for RequestBody<B> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<B::Data>, B::Error>>> {
        let mut this = self.project();
        let frame = std::task::ready!(this.inner.as_mut().poll_frame(cx));
        if (!matches!(frame, Some(Ok(_))) || this.inner.is_end_stream())
            && let Some(complete) = this.complete.take()
        {
            complete.finish();
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

impl fmt::Debug for ServerLayer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServerLayer").field("engine", &self.engine).finish_non_exhaustive()
    }
}

impl<S: fmt::Debug> fmt::Debug for Server<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Server").field("inner", &self.inner).finish_non_exhaustive()
    }
}

impl<T, E> fmt::Debug for ServerFuture<T, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServerFuture").finish_non_exhaustive()
    }
}

impl<B> fmt::Debug for RequestBody<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RequestBody").finish_non_exhaustive()
    }
}
