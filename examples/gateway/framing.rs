//! A second look at where requests begin and end.
//!
//! A request with a length and with chunks could be read in two ways, which is how requests are smuggled past a proxy.
//! hyper reads it in the one way that is right, drops the length, and goes on; Envoy refuses it, and so do we:
//!
//! | what | answer |
//! |---|---|
//! | a length and a transfer coding, two lengths even if they are the same, a fragment in the target | 400 |
//! | a transfer coding that is not `chunked`, once | 501 |
//!
//! Since hyper does not tell, the bytes are followed on their way in: heads and bodies, no more than is needed to find the
//! next head. What hyper refuses by itself (a length that is no number, a space before a colon, a bad chunk, …) is left to
//! it; tests/gateway/refusals.rs has both beside Envoy's answers.

use http::StatusCode;
use std::collections::VecDeque;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// A connection whose requests are followed.
pub struct Followed<S> {
    stream: S,
    framing: Framing,
}

/// What the requests to come are refused with, in their order.
#[derive(Clone, Default)]
pub struct Verdicts(Arc<Mutex<VecDeque<Option<StatusCode>>>>);

impl Verdicts {
    /// The next request's.
    pub fn next(&self) -> Option<StatusCode> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).pop_front().flatten()
    }

    fn push(&self, refused: Option<StatusCode>) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push_back(refused);
    }
}

impl<S> Followed<S> {
    pub fn new(stream: S) -> (Self, Verdicts) {
        let verdicts = Verdicts::default();
        let framing = Framing { at: At::Head, line: Vec::new(), head: Head::default(), verdicts: verdicts.clone() };
        (Followed { stream, framing }, verdicts)
    }
}

struct Framing {
    at: At,
    /// The line so far, its beginning at least.
    line: Vec<u8>,
    head: Head,
    verdicts: Verdicts,
}

#[derive(Clone, Copy, PartialEq)]
enum At {
    Head,
    /// So many bytes of a body, or of a chunk with its end.
    Body(u64, Then),
    Size,
    Trailers,
    /// Not HTTP/1.1, or none that can be followed: hyper judges alone.
    Off,
}

#[derive(Clone, Copy, PartialEq)]
enum Then {
    Head,
    Size,
}

#[derive(Default)]
struct Head {
    lines: usize,
    fragment: bool,
    lengths: usize,
    length: u64,
    codings: usize,
    /// A coding that is not `chunked`.
    unknown_coding: bool,
    upgrade: bool,
}

impl Head {
    fn refused(&self) -> Option<StatusCode> {
        if self.fragment || self.lengths > 1 || (self.lengths > 0 && self.codings > 0) {
            Some(StatusCode::BAD_REQUEST)
        } else if self.codings > 1 || self.unknown_coding {
            Some(StatusCode::NOT_IMPLEMENTED)
        } else {
            None
        }
    }
}

/// Longer than any length, chunk size or header name that matters.
const ENOUGH: usize = 256;

impl Framing {
    fn follow(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            match self.at {
                At::Off => return,
                At::Body(left, then) => {
                    let now = left.min(bytes.len() as u64);
                    bytes = &bytes[now as usize..];
                    self.at = match (left - now, then) {
                        (0, Then::Head) => At::Head,
                        (0, Then::Size) => At::Size,
                        (left, then) => At::Body(left, then),
                    };
                }
                At::Head | At::Size | At::Trailers => {
                    let end = bytes.iter().position(|byte| *byte == b'\n');
                    let piece = &bytes[..end.unwrap_or(bytes.len())];
                    // Further on than a line is kept for.
                    self.head.fragment |= self.at == At::Head && self.head.lines == 0 && piece.contains(&b'#');
                    let room = ENOUGH.saturating_sub(self.line.len()).min(piece.len());
                    self.line.extend_from_slice(&piece[..room]);
                    let Some(end) = end else { return };
                    bytes = &bytes[end + 1..];
                    let line = std::mem::take(&mut self.line);
                    self.line_ended(line.trim_ascii_end());
                }
            }
        }
    }

    fn line_ended(&mut self, line: &[u8]) {
        match self.at {
            At::Head if line.is_empty() && self.head.lines == 0 => self.head = Head::default(),
            At::Head if line.is_empty() => {
                let head = std::mem::take(&mut self.head);
                self.verdicts.push(head.refused());
                self.at = match head {
                    Head { upgrade: true, .. } => At::Off,
                    Head { codings: 1.., .. } => At::Size,
                    Head { length: length @ 1.., .. } => At::Body(length, Then::Head),
                    _ => At::Head,
                };
            }
            At::Head => {
                self.head.lines += 1;
                if self.head.lines == 1 {
                    // HTTP/2 begins with a request line of its own; a tunnel has no requests.
                    if line.starts_with(b"PRI ") || line.starts_with(b"CONNECT ") {
                        self.at = At::Off;
                    }
                    return;
                }
                let Some(colon) = line.iter().position(|byte| *byte == b':') else { return };
                let (name, value) = (line[..colon].trim_ascii(), line[colon + 1..].trim_ascii());
                if name.eq_ignore_ascii_case(b"content-length") {
                    let length = std::str::from_utf8(value).ok().and_then(|text| text.parse().ok());
                    self.head.length = length.unwrap_or(0);
                    self.head.lengths += 1;
                } else if name.eq_ignore_ascii_case(b"transfer-encoding") {
                    self.head.codings += 1;
                    self.head.unknown_coding |= !value.eq_ignore_ascii_case(b"chunked");
                } else if name.eq_ignore_ascii_case(b"upgrade") {
                    self.head.upgrade = true;
                }
            }
            At::Size => {
                let digits = line.split(|byte| *byte == b';').next().unwrap_or_default().trim_ascii();
                let size = std::str::from_utf8(digits).ok().and_then(|digits| u64::from_str_radix(digits, 16).ok());
                self.at = match size {
                    Some(0) => At::Trailers,
                    Some(size) => At::Body(size.saturating_add(2), Then::Size),
                    None => At::Off,
                };
            }
            At::Trailers if line.is_empty() => self.at = At::Head,
            At::Trailers | At::Body(..) | At::Off => {}
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Followed<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let polled = Pin::new(&mut self.stream).poll_read(cx, buf);
        if self.framing.at != At::Off {
            self.framing.follow(&buf.filled()[before..]);
        }
        polled
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Followed<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}
