//! The client's side: route, pick, retry, time out, mirror and eject, over any service that can reach an endpoint.
//!
//! [`Client`] is a driver of [`Exchange`]: it does what each [`Step`] says with the inner service, tokio's timers and the
//! request's body, and tells the exchange what came of it. It decides nothing itself.
//! What a user may rely on stands at the type.

use super::body::ResponseBody;
use super::classify::classify;
use super::clock::{Chance, Clock, Generator, sleep_until};
use super::connector::Connector;
use super::replay::{BoxError, ReplayBody};
use super::request::{Target, build, head_of};
use super::span::{RequestSpan, SpanKind};
use crate::engine::Engine;
use crate::entropy::Draws;
use crate::exchange::{Exchange, Failure, Mirror, Step};
use crate::head::{RequestHead, ResponseHead};
use crate::outlier::Outcome;
use bytes::Bytes;
use http::{Extensions, Request, Response, StatusCode, Version};
use http_body::Body;
use std::error::Error as StdError;
use std::fmt;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use tokio::time::Sleep;
use tower::{Layer, Service};

/// Routes requests with an [`Engine`] and sends them with `S`.
///
/// The inner service gets a request whose URI is the endpoint's (`http://10.0.0.7:9080/path`), whose `Host` is the mesh's,
/// and whose extensions hold the [`Target`]. Every such service is a [`Connector`](super::Connector): whoever has one of
/// their own implements `tower::Service`; hyper-util's pooled client is one already, and `Pool` (feature `client`) one that
/// obeys `connectionPool`.
///
/// What a user of tower may rely on:
/// - `poll_ready` is the inner service's; the instance that was ready serves the first attempt, clones are made ready
///   before they are called.
/// - A clone is independent, and shares the engine.
/// - Dropping the future (or the response's body) releases everything at once: permits, counts, the attempt itself.
/// - An answer that the policy makes (404, 503, 504, a redirect, …) is a response, as a proxy's client would see it. The
///   [`Summary`](crate::exchange::Summary) in its extensions says why, and an [`AttemptError`] holds what the inner service
///   said last.
/// - The future fails only if the request's own body does; then no upstream is blamed.
/// - Bodies stream. A request's body is kept for another attempt or a copy only if the policy may ask for one, and up to
///   the engine's [replay limit](crate::engine::EngineBuilder::replay_limit); beyond that it is sent once, and the summary
///   says why no retry was made.
#[derive(Clone)]
pub struct Client<S> {
    inner: S,
    engine: Engine,
    shared: Arc<Shared>,
}

#[derive(Clone)]
struct Shared {
    clock: Clock,
    chance: Arc<Chance>,
    port: Option<u16>,
    classify: Arc<Classify>,
}

type Classify = dyn Fn(&(dyn StdError + 'static)) -> Failure + Send + Sync;

/// Makes a [`Client`] of a service.
#[derive(Clone, Debug)]
pub struct ClientLayer {
    engine: Engine,
}

impl ClientLayer {
    /// A layer that routes with `engine`.
    pub fn new(engine: Engine) -> Self {
        ClientLayer { engine }
    }
}

impl<S> Layer<S> for ClientLayer {
    type Service = Client<S>;

    fn layer(&self, inner: S) -> Client<S> {
        Client::new(self.engine.clone(), inner)
    }
}

/// In the extensions of a 101 response: the request that became a tunnel. It counts as under way until the last clone of
/// this is dropped, so whoever carries the tunnel's bytes holds it as long as that takes.
#[derive(Clone)]
pub struct Tunnel(#[allow(dead_code)] Arc<Mutex<Option<Exchange>>>);

impl fmt::Debug for Tunnel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Tunnel").finish()
    }
}

/// What the inner service said when an attempt failed: in the extensions of the response that is made instead.
#[derive(Clone, Debug)]
pub struct AttemptError {
    source: Arc<BoxError>,
    failure: Failure,
}

impl AttemptError {
    pub(super) fn new(source: Arc<BoxError>, failure: Failure) -> Self {
        AttemptError { source, failure }
    }

    /// The inner service's own error.
    pub fn get(&self) -> &(dyn StdError + Send + Sync + 'static) {
        &**self.source
    }

    /// What it was taken for.
    pub fn failure(&self) -> Failure {
        self.failure
    }

    /// Was there no connection, so that the upstream has not seen the request?
    pub fn is_connect(&self) -> bool {
        self.failure.is_connect()
    }
}

impl fmt::Display for AttemptError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the last attempt failed: {}", self.failure.reason())
    }
}

impl StdError for AttemptError {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        Some(self.get())
    }
}

impl<S> Client<S> {
    /// A client with tokio's clock and a random seed.
    pub fn new(engine: Engine, inner: S) -> Self {
        let shared = Shared {
            clock: Clock::of(&engine),
            chance: Arc::new(Chance::random()),
            port: None,
            classify: Arc::new(classify),
        };
        Client { inner, engine, shared: Arc::new(shared) }
    }

    /// The same client with draws from this seed: two runs of the same requests decide alike.
    pub fn with_seed(self, seed: u64) -> Self {
        self.with(|shared| shared.chance = Arc::new(Chance::seeded(seed)))
    }

    /// The same client with draws from a source of the user's own, which is asked for once for each request.
    ///
    /// ```
    /// # use pointsman::{Engine, Resources, mesh::{Mesh, Viewpoint}, policy::Policy};
    /// # let policy = Policy::compile(&Resources::default(), &Mesh::new([]), &Viewpoint::namespace("default")).policy;
    /// # let engine = Engine::new(policy);
    /// // Every weighted choice falls on 93 of 100, in a test of the canary's side.
    /// let client = engine.client(()).with_draws(|| || 93);
    /// ```
    pub fn with_draws<D: Draws + Send + Sync + 'static>(self, draws: impl Fn() -> D + Send + Sync + 'static) -> Self {
        self.with(|shared| shared.chance = Arc::new(Chance::own(draws)))
    }

    /// The same client that routes every request as if it were for this service port.
    ///
    /// Otherwise the port is the URI's or the authority's, and 80 (443 for `https`) where neither has one.
    pub fn with_port(self, port: u16) -> Self {
        self.with(|shared| shared.port = Some(port))
    }

    /// The same client that asks `classify` what an error of the inner service means.
    pub fn classify_with(
        self,
        classify: impl Fn(&(dyn StdError + 'static)) -> Failure + Send + Sync + 'static,
    ) -> Self {
        self.with(|shared| shared.classify = Arc::new(classify))
    }

    /// The engine.
    pub fn engine(&self) -> &Engine {
        &self.engine
    }

    fn with(mut self, change: impl FnOnce(&mut Shared)) -> Self {
        change(Arc::make_mut(&mut self.shared));
        self
    }
}

impl<S: fmt::Debug> fmt::Debug for Client<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").field("inner", &self.inner).field("engine", &self.engine).finish_non_exhaustive()
    }
}

impl<S, B> Service<Request<B>> for Client<S>
where
    S: Connector<B>,
    B: Body<Data = Bytes, Error: Into<BoxError>> + Send + 'static,
{
    type Response = Response<ResponseBody<S::Body>>;
    type Error = BoxError;
    type Future = ClientFuture<Self::Response>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.inner.poll_ready(cx).map_err(Into::into)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        // The instance that is ready serves the first attempt; its clone waits for the next call.
        let clone = self.inner.clone();
        let ready = std::mem::replace(&mut self.inner, clone);
        let driver = Driver {
            draws: self.shared.chance.next(),
            shared: Arc::clone(&self.shared),
            inner: self.inner.clone(),
            ready: Some(ready),
            error: None,
        };
        let engine = self.engine.clone();
        let (parts, body) = request.into_parts();
        let version = parts.version;
        let (head, extensions) = head_of(parts, self.shared.port);
        let span = RequestSpan::new(SpanKind::Client, &head);
        let whole = span.around(driver.run(engine, head, version, extensions, body));
        ClientFuture { inner: Box::pin(whole) }
    }
}

/// The future of a [`Client`]. Dropping it lets go of everything at once.
pub struct ClientFuture<T> {
    inner: Pin<Box<dyn Future<Output = Result<T, BoxError>> + Send>>,
}

impl<T> Future for ClientFuture<T> {
    type Output = Result<T, BoxError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.inner.as_mut().poll(cx)
    }
}

impl<T> fmt::Debug for ClientFuture<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientFuture").finish_non_exhaustive()
    }
}

/// One request's driver.
struct Driver<S> {
    shared: Arc<Shared>,
    draws: Generator,
    inner: S,
    /// The instance that was made ready for this call.
    ready: Option<S>,
    /// What the inner service said last.
    error: Option<AttemptError>,
}

type Sending<R> = Pin<Box<dyn Future<Output = Result<Response<R>, BoxError>> + Send>>;

impl<S> Driver<S> {
    async fn run<B>(
        mut self,
        engine: Engine,
        head: RequestHead,
        version: Version,
        mut extensions: Extensions,
        body: B,
    ) -> Result<Response<ResponseBody<S::Body>>, BoxError>
    where
        S: Connector<B>,
        B: Body<Data = Bytes, Error: Into<BoxError>> + Send + 'static,
    {
        let clock = self.shared.clock;
        // Read again only after a wait: what happens between two waits happens at one time.
        let mut now = clock.now();
        let mut exchange = engine.begin(head, now, &mut self.draws);
        let mut body = Source::new(body);
        let mut body_told = false;
        let mut sending: Option<Sending<S::Body>> = None;
        let mut received: Option<S::Body> = None;
        let mut received_version = Version::HTTP_11;
        let mut received_extensions = Extensions::new();
        let connected = Arc::new(AtomicBool::new(false));
        loop {
            if !body_told && body.is_complete() {
                body_told = true;
                exchange.request_complete(now);
            }
            match exchange.next(now, &mut self.draws) {
                Step::Wait(until) => {
                    let mut sleep = sleep_until(&clock, until);
                    let unread = body.shared().filter(|_| !body_told);
                    let woken = poll_fn(|cx| poll_event(cx, &mut sending, &mut sleep, &exchange, unread, &connected));
                    let woken = woken.await;
                    now = clock.now();
                    match woken {
                        Woken::Answered(result) => {
                            sending = None;
                            if body.is_lost() {
                                exchange.on_replay_lost();
                            }
                            match result {
                                Ok(response) => {
                                    let (parts, body) = response.into_parts();
                                    received = Some(body);
                                    received_version = parts.version;
                                    received_extensions = parts.extensions;
                                    let mut head = ResponseHead::new(parts.status);
                                    head.headers = parts.headers;
                                    exchange.on_response(head, now, &mut self.draws);
                                }
                                // The caller's own body failed: no upstream is to blame, and there is nobody to answer.
                                Err(error) if body.has_failed() => {
                                    exchange.on_client_gone();
                                    return Err(error);
                                }
                                Err(error) => {
                                    let failure = (self.shared.classify)(error.as_ref());
                                    self.error = Some(AttemptError::new(Arc::new(error), failure));
                                    exchange.on_failure(failure, now, &mut self.draws);
                                }
                            }
                        }
                        Woken::Again => {}
                    }
                    if connected.swap(false, Ordering::AcqRel) {
                        exchange.on_connected(now);
                    }
                }
                Step::Attempt(attempt) => {
                    received = None;
                    let Some(replay) = body.read(exchange.replay_limit()) else {
                        exchange.on_body_gone(now);
                        continue;
                    };
                    let target = Target {
                        cluster: Arc::clone(&exchange.summary().cluster),
                        endpoint: Arc::clone(attempt.endpoint.key()),
                        attempt: attempt.number,
                        destination: attempt.destination,
                        connect_timeout: attempt.connect_timeout,
                        client_version: version,
                        authority: Bytes::new(),
                        path: Bytes::new(),
                        connected: Arc::clone(&connected),
                    };
                    // The last who needs what came with the request gets it.
                    let own = if exchange.may_replay() { extensions.clone() } else { std::mem::take(&mut extensions) };
                    let request = build(attempt.head, &attempt.endpoint, target, own, replay);
                    let service = self.ready.take().map_or_else(|| (self.inner.clone(), false), |ready| (ready, true));
                    sending = Some(Box::pin(send(service, request)));
                }
                Step::Mirror(mirror) => {
                    if let Some(copy) = body.read(exchange.replay_limit()) {
                        let destination = mirror.destination();
                        let target = Target {
                            cluster: Arc::clone(&mirror.cluster),
                            endpoint: Arc::clone(mirror.endpoint.key()),
                            attempt: 0,
                            connect_timeout: destination.connection.connect_timeout,
                            destination: Some(destination),
                            client_version: version,
                            authority: Bytes::new(),
                            path: Bytes::new(),
                            connected: Arc::default(),
                        };
                        let body = copy.again();
                        let request = build(mirror.head.clone(), &mirror.endpoint, target, extensions.clone(), copy);
                        let sending = send((self.inner.clone(), false), request);
                        tokio::spawn(async move {
                            let outcome = run_mirror(sending, &mirror).await;
                            if !body.is_some_and(|body| body.has_failed()) {
                                mirror.finish(outcome, clock.now());
                            }
                        });
                    }
                }
                Step::Cancel => {
                    sending = None;
                    received = None;
                }
                Step::Respond(reply) => {
                    let mut response = Response::new(ResponseBody::local(reply.body));
                    *response.status_mut() = reply.head.status;
                    *response.headers_mut() = reply.head.headers;
                    response.extensions_mut().insert(exchange.summary().clone());
                    if let Some(error) = self.error.take() {
                        response.extensions_mut().insert(error);
                    }
                    return Ok(response);
                }
                Step::Return(head) => {
                    let Some(body) = received.take() else { return Err("an attempt's response was lost".into()) };
                    let summary = exchange.summary().clone();
                    let mut exchange = Some(exchange);
                    if head.status == StatusCode::SWITCHING_PROTOCOLS {
                        received_extensions.insert(Tunnel(Arc::new(Mutex::new(exchange.take()))));
                    }
                    let body = match exchange {
                        Some(exchange) => ResponseBody::upstream(body, exchange, clock, self.draws),
                        None => ResponseBody::plain(body),
                    };
                    let mut response = Response::new(body);
                    *response.status_mut() = head.status;
                    *response.version_mut() = received_version;
                    *response.headers_mut() = head.headers;
                    *response.extensions_mut() = received_extensions;
                    response.extensions_mut().insert(summary);
                    return Ok(response);
                }
                Step::Reset | Step::Done => return Err("the exchange is over".into()),
            }
        }
    }
}

/// The request's body: as it came, until somebody reads it.
enum Source<B> {
    Unread(Option<B>),
    Shared(ReplayBody<B>),
}

impl<B: Body<Data = Bytes>> Source<B> {
    fn new(body: B) -> Self {
        if body.is_end_stream() { Source::Shared(ReplayBody::empty()) } else { Source::Unread(Some(body)) }
    }

    /// The body from its beginning; the first reader says how much of it is kept. None: it is not kept any more.
    fn read(&mut self, limit: usize) -> Option<ReplayBody<B>> {
        if let Source::Unread(body) = self {
            let body = ReplayBody::new(body.take()?, limit);
            *self = Source::Shared(body);
        }
        match self {
            Source::Shared(body) => body.again(),
            Source::Unread(_) => None,
        }
    }

    fn shared(&self) -> Option<&ReplayBody<B>> {
        match self {
            Source::Shared(body) => Some(body),
            Source::Unread(_) => None,
        }
    }

    fn is_complete(&self) -> bool {
        self.shared().is_some_and(ReplayBody::is_complete)
    }

    fn is_lost(&self) -> bool {
        self.shared().is_some_and(ReplayBody::is_lost)
    }

    fn has_failed(&self) -> bool {
        self.shared().is_some_and(ReplayBody::has_failed)
    }
}

enum Woken<R> {
    Answered(Result<Response<R>, BoxError>),
    Again,
}

/// Whatever comes first: the attempt's end, the time, a free connection, the end of the request's body.
fn poll_event<B, R>(
    cx: &mut Context<'_>,
    sending: &mut Option<Sending<R>>,
    sleep: &mut Option<Pin<Box<Sleep>>>,
    exchange: &Exchange,
    body: Option<&ReplayBody<B>>,
    connected: &AtomicBool,
) -> Poll<Woken<R>>
where
    B: Body<Data = Bytes>,
{
    if let Some(sending) = sending
        && let Poll::Ready(result) = sending.as_mut().poll(cx)
    {
        return Poll::Ready(Woken::Answered(result));
    }
    if let Some(sleep) = sleep
        && sleep.as_mut().poll(cx).is_ready()
    {
        return Poll::Ready(Woken::Again);
    }
    if body.is_some_and(|body| body.poll_complete(cx).is_ready()) {
        return Poll::Ready(Woken::Again);
    }
    if connected.load(Ordering::Acquire) {
        return Poll::Ready(Woken::Again);
    }
    if exchange.poll_turn(cx.waker()) {
        return Poll::Ready(Woken::Again);
    }
    Poll::Pending
}

/// A call of an instance that is ready, or that is made ready first.
async fn send<S, Q>((mut service, ready): (S, bool), request: Q) -> Result<S::Response, BoxError>
where
    S: Service<Q>,
    S::Error: Into<BoxError>,
{
    if !ready {
        poll_fn(|cx| service.poll_ready(cx)).await.map_err(Into::into)?;
    }
    service.call(request).await.map_err(Into::into)
}

/// A mirror's response is read to its end and thrown away.
async fn run_mirror<R>(sending: impl Future<Output = Result<Response<R>, BoxError>>, mirror: &Mirror) -> Outcome
where
    R: Body,
{
    let whole = async {
        match sending.await {
            Ok(response) => {
                let outcome = mirror.outcome(response.status(), response.headers());
                let mut body = std::pin::pin!(response.into_body());
                while let Some(frame) = poll_fn(|cx| body.as_mut().poll_frame(cx)).await {
                    if frame.is_err() {
                        break;
                    }
                }
                outcome
            }
            Err(_) => Outcome::Failure,
        }
    };
    match mirror.timeout {
        Some(timeout) => tokio::time::timeout(timeout, whole).await.unwrap_or(Outcome::Timeout),
        None => whole.await,
    }
}
