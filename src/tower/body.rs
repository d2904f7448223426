//! The body of a response: the upstream's as it comes, or one that was made here.

use super::clock::{Clock, Generator, sleep_until};
use super::replay::BoxError;
use crate::exchange::{Exchange, Failure, Step};
use crate::time::Timestamp;
use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use pin_project_lite::pin_project;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use tokio::time::Sleep;

pin_project! {
    /// The body of a response. While it is read, the exchange goes on: the whole time may still run out, and trailers say
    /// how a gRPC call went.
    pub struct ResponseBody<R> {
        #[pin]
        kind: Kind<R>,
    }
}

pin_project! {
    #[project = KindProjection]
    enum Kind<R> {
        Local { body: Option<Bytes> },
        Upstream { #[pin] body: R, watch: Option<Box<Watch>> },
    }
}

/// The exchange behind a body that is on its way.
struct Watch {
    exchange: Exchange,
    clock: Clock,
    draws: Generator,
    /// When the exchange wants to be asked again; and a timer for it, from when it is waited for.
    until: Timestamp,
    sleep: Option<Pin<Box<Sleep>>>,
}

/// The route's time was up before the body had come to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the route's timeout ran out while the response was on its way")]
pub struct BodyTimeout;

impl<R> ResponseBody<R> {
    /// A body without content.
    pub fn empty() -> Self {
        ResponseBody::local(Vec::new())
    }

    /// A body that nobody watches.
    pub(super) fn plain(body: R) -> Self {
        ResponseBody { kind: Kind::Upstream { body, watch: None } }
    }

    pub(super) fn local(body: Vec<u8>) -> Self {
        let body = (!body.is_empty()).then(|| Bytes::from(body));
        ResponseBody { kind: Kind::Local { body } }
    }

    pub(super) fn upstream(body: R, mut exchange: Exchange, clock: Clock, draws: Generator) -> Self
    where
        R: Body,
    {
        if body.is_end_stream() {
            exchange.on_end(clock.now());
            return ResponseBody { kind: Kind::Upstream { body, watch: None } };
        }
        let mut watch = Box::new(Watch { exchange, clock, draws, until: Timestamp::ZERO, sleep: None });
        watch.is_over(clock.now());
        ResponseBody { kind: Kind::Upstream { body, watch: Some(watch) } }
    }
}

impl Watch {
    /// Is the time up? Asked for each frame, since a body that never pauses has to end in time as well.
    fn is_over(&mut self, now: Timestamp) -> bool {
        if now < self.until {
            return false;
        }
        match self.exchange.next(now, &mut self.draws) {
            Step::Wait(until) => {
                (self.until, self.sleep) = (until, None);
                false
            }
            _ => true,
        }
    }

    /// Waits until the time is up.
    fn poll_time(&mut self, cx: &mut Context<'_>) -> bool {
        loop {
            let (clock, until) = (&self.clock, self.until);
            if self.sleep.is_none() {
                self.sleep = sleep_until(clock, until);
            }
            let Some(sleep) = &mut self.sleep else { return false };
            if sleep.as_mut().poll(cx).is_pending() {
                return false;
            }
            // A timer may be a little early.
            if self.is_over(self.clock.now().max(until)) {
                return true;
            }
        }
    }
}

impl<R> Body for ResponseBody<R>
where
    R: Body<Data = Bytes>,
    R::Error: Into<BoxError>,
{
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let mut kind = self.project().kind;
        match kind.as_mut().project() {
            KindProjection::Local { body } => Poll::Ready(body.take().map(|body| Ok(Frame::data(body)))),
            KindProjection::Upstream { body, watch } => {
                let Some(watching) = watch else {
                    return body.poll_frame(cx).map(|frame| frame.map(|frame| frame.map_err(Into::into)));
                };
                let now = watching.clock.now();
                if watching.is_over(now) {
                    // The upstream's body is let go of, and nothing comes after the error.
                    kind.set(Kind::Local { body: None });
                    return Poll::Ready(Some(Err(BodyTimeout.into())));
                }
                match body.poll_frame(cx) {
                    Poll::Pending if watching.poll_time(cx) => {
                        kind.set(Kind::Local { body: None });
                        Poll::Ready(Some(Err(BodyTimeout.into())))
                    }
                    Poll::Pending => Poll::Pending,
                    Poll::Ready(Some(Ok(frame))) => {
                        if let Some(trailers) = frame.trailers_ref() {
                            watching.exchange.on_trailers(trailers, now);
                        }
                        Poll::Ready(Some(Ok(frame)))
                    }
                    Poll::Ready(Some(Err(error))) => {
                        watching.exchange.on_failure(Failure::Reset, now, &mut watching.draws);
                        *watch = None;
                        Poll::Ready(Some(Err(error.into())))
                    }
                    Poll::Ready(None) => {
                        watching.exchange.on_end(now);
                        *watch = None;
                        Poll::Ready(None)
                    }
                }
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.kind {
            Kind::Local { body } => body.is_none(),
            Kind::Upstream { body, watch } => watch.is_none() && body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.kind {
            Kind::Local { body } => SizeHint::with_exact(body.as_ref().map_or(0, |body| body.len() as u64)),
            Kind::Upstream { body, .. } => body.size_hint(),
        }
    }
}

impl<R> fmt::Debug for ResponseBody<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ResponseBody").finish_non_exhaustive()
    }
}
