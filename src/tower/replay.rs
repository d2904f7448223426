//! A request body that can be read more than once: by the first attempt, by retries, and by mirrors.
//!
//! Nothing is read ahead: the body streams from the client at the pace of whoever reads fastest, and each frame is kept
//! (a reference count, not a copy) for those who come later. Once more than `limit` bytes are kept, everything is let go
//! and the body can no longer be replayed; whoever reads at the front is not disturbed, whoever is behind gets
//! [`ReplayError::OverLimit`]. Envoy does the same with its retry buffer (1 MiB unless configured).

use crate::sync::lock;
use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use std::error::Error as StdError;
use std::fmt;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};

/// An error of any kind.
pub type BoxError = Box<dyn StdError + Send + Sync>;

/// A body read by the first attempt, by retries and by mirrors. What the inner service of a client gets.
pub struct ReplayBody<B> {
    state: State<B>,
    /// The next frame to give, counted from the body's beginning.
    position: usize,
}

enum State<B> {
    Empty,
    Shared(Arc<Mutex<Shared<B>>>),
}

struct Shared<B> {
    source: Pin<Box<B>>,
    hint: SizeHint,
    frames: Vec<Kept>,
    /// Frames that were given out and are not kept.
    gone: usize,
    bytes: usize,
    limit: usize,
    over_limit: bool,
    end: End,
    waiting: Vec<Waker>,
}

#[derive(Clone)]
enum Kept {
    Data(Bytes),
    Trailers(http::HeaderMap),
}

enum End {
    No,
    Yes,
    Failed,
}

/// Why a replayed body ends early.
#[derive(Debug)]
#[non_exhaustive]
pub enum ReplayError {
    /// The client's own body failed.
    Source(BoxError),
    /// The client's own body failed, and another reader was told why.
    SourceElsewhere,
    /// More was sent than is kept for replay.
    OverLimit {
        /// How many bytes are kept.
        limit: usize,
    },
}

impl fmt::Display for ReplayError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ReplayError::Source(_) | ReplayError::SourceElsewhere => f.write_str("the request body failed"),
            ReplayError::OverLimit { limit } => write!(f, "the request body is over the replay limit of {limit} bytes"),
        }
    }
}

impl StdError for ReplayError {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        match self {
            ReplayError::Source(source) => Some(source.as_ref()),
            _ => None,
        }
    }
}

impl<B: Body<Data = Bytes>> ReplayBody<B> {
    /// A body of which at most `limit` bytes are kept.
    pub(crate) fn new(body: B, limit: usize) -> Self {
        let state = if body.is_end_stream() {
            State::Empty
        } else {
            State::Shared(Arc::new(Mutex::new(Shared {
                hint: body.size_hint(),
                source: Box::pin(body),
                frames: Vec::new(),
                gone: 0,
                bytes: 0,
                limit,
                over_limit: false,
                end: End::No,
                waiting: Vec::new(),
            })))
        };
        ReplayBody { state, position: 0 }
    }

    /// A body without content.
    pub fn empty() -> Self {
        ReplayBody { state: State::Empty, position: 0 }
    }

    /// The same body from its beginning, or nothing if that is not kept any more.
    pub(crate) fn again(&self) -> Option<Self> {
        let state = match &self.state {
            State::Empty => State::Empty,
            State::Shared(shared) if lock(shared).over_limit => return None,
            State::Shared(shared) => State::Shared(Arc::clone(shared)),
        };
        Some(ReplayBody { state, position: 0 })
    }

    /// Waits until the whole body has been read from the client.
    pub(crate) fn poll_complete(&self, cx: &mut Context<'_>) -> Poll<()> {
        let State::Shared(shared) = &self.state else { return Poll::Ready(()) };
        let mut shared = lock(shared);
        if !matches!(shared.end, End::No) {
            return Poll::Ready(());
        }
        if !shared.waiting.iter().any(|waker| waker.will_wake(cx.waker())) {
            shared.waiting.push(cx.waker().clone());
        }
        Poll::Pending
    }

    /// Has it outgrown what is kept of it?
    pub(crate) fn is_lost(&self) -> bool {
        match &self.state {
            State::Empty => false,
            State::Shared(shared) => lock(shared).over_limit,
        }
    }

    /// Did it fail on the client's side?
    pub(crate) fn has_failed(&self) -> bool {
        match &self.state {
            State::Empty => false,
            State::Shared(shared) => matches!(lock(shared).end, End::Failed),
        }
    }

    /// Has the whole body been read from the client?
    pub(crate) fn is_complete(&self) -> bool {
        match &self.state {
            State::Empty => true,
            State::Shared(shared) => !matches!(lock(shared).end, End::No),
        }
    }
}

impl<B> Body for ReplayBody<B>
where
    B: Body<Data = Bytes>,
    B::Error: Into<BoxError>,
{
    type Data = Bytes;
    type Error = ReplayError;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, ReplayError>>> {
        let this = self.get_mut();
        let State::Shared(shared) = &this.state else { return Poll::Ready(None) };
        let mut shared = lock(shared);
        let shared = &mut *shared;
        if this.position < shared.gone {
            return Poll::Ready(Some(Err(ReplayError::OverLimit { limit: shared.limit })));
        }
        if let Some(kept) = shared.frames.get(this.position - shared.gone) {
            this.position += 1;
            return Poll::Ready(Some(Ok(kept.clone().into_frame())));
        }
        match shared.end {
            End::Yes => return Poll::Ready(None),
            End::Failed => return Poll::Ready(Some(Err(ReplayError::SourceElsewhere))),
            End::No => {}
        }
        match shared.source.as_mut().poll_frame(cx) {
            Poll::Pending => {
                if !shared.waiting.iter().any(|waker| waker.will_wake(cx.waker())) {
                    shared.waiting.push(cx.waker().clone());
                }
                Poll::Pending
            }
            Poll::Ready(next) => {
                let result = match next {
                    None => {
                        shared.end = End::Yes;
                        None
                    }
                    Some(Err(error)) => {
                        shared.end = End::Failed;
                        Some(Err(ReplayError::Source(error.into())))
                    }
                    Some(Ok(frame)) => {
                        this.position += 1;
                        if shared.source.is_end_stream() {
                            shared.end = End::Yes;
                        }
                        Some(Ok(shared.keep(frame)))
                    }
                };
                shared.waiting.drain(..).for_each(Waker::wake);
                Poll::Ready(result)
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.state {
            State::Empty => true,
            State::Shared(shared) => {
                let shared = lock(shared);
                matches!(shared.end, End::Yes) && self.position >= shared.gone + shared.frames.len()
            }
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.state {
            State::Empty => SizeHint::with_exact(0),
            // Asked before the first frame, which is when a length is written into a head.
            State::Shared(shared) if self.position == 0 => lock(shared).hint,
            State::Shared(_) => SizeHint::default(),
        }
    }
}

impl<B> Shared<B> {
    /// Keeps the frame for later readers, or lets go of everything once that is too much.
    fn keep(&mut self, frame: Frame<Bytes>) -> Frame<Bytes> {
        let kept = match frame.into_data() {
            Ok(data) => {
                self.bytes = self.bytes.saturating_add(data.len());
                Kept::Data(data)
            }
            Err(frame) => match frame.into_trailers() {
                Ok(trailers) => Kept::Trailers(trailers),
                Err(_) => Kept::Data(Bytes::new()),
            },
        };
        if self.bytes > self.limit {
            self.over_limit = true;
        }
        if self.over_limit {
            self.gone += self.frames.len() + 1;
            self.frames = Vec::new();
        } else {
            self.frames.push(kept.clone());
        }
        kept.into_frame()
    }
}

impl Kept {
    fn into_frame(self) -> Frame<Bytes> {
        match self {
            Kept::Data(data) => Frame::data(data),
            Kept::Trailers(trailers) => Frame::trailers(trailers),
        }
    }
}

impl<B> fmt::Debug for ReplayBody<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ReplayBody").field("position", &self.position).finish_non_exhaustive()
    }
}
