//! The access log: a line a request in Envoy's default format, and the route's and the cluster's names behind it.
//!
//! As in Envoy a line tells the request as it went out (the authority after a rewrite, the path before it), and the flags
//! of its whole life: `DC` for a client that went away, `UT` and `UC` for a response that broke off.
//!
//! Known differences: what hyper refuses by itself (a head that is none) leaves no line, and a quote in a header is written
//! `\"`, so that a line can be read back.

use bytes::Bytes;
use http::header::{HOST, USER_AGENT};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, Version};
use http_body::{Body, Frame, SizeHint};
use pointsman::Engine;
use pointsman::exchange::Summary;
use pointsman::policy::Flags;
use pointsman::tower::{BodyTimeout, BoxError, Target};
use std::fmt::Write as _;
use std::io::Write as _;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};
use std::time::{Instant, SystemTime, UNIX_EPOCH};
use tower::Service;

/// Where lines go.
#[derive(Clone)]
pub enum Log {
    Off,
    /// To standard output.
    Lines,
    /// To whoever wants to look at the entries themselves.
    #[allow(dead_code)]
    Told(Arc<dyn Fn(&Entry) + Send + Sync>),
}

/// What is known of one request. Written when it is dropped, which is when its response has been sent, or not.
pub struct Entry {
    log: Log,
    began: (SystemTime, Instant),
    method: Method,
    version: Version,
    asked: Told,
    outgoing: Outgoing,
    pub summary: Option<Summary>,
    /// What happened after the response's head, and so is not in the summary.
    pub flags: Flags,
    /// 0 until there is an answer.
    pub status: u16,
    received: Arc<AtomicU64>,
    pub sent: u64,
    service_time: Option<HeaderValue>,
}

/// What a line tells of a request's head.
#[derive(Default)]
struct Told {
    authority: Bytes,
    path: Bytes,
    forwarded_for: Option<HeaderValue>,
    user_agent: Option<HeaderValue>,
    request_id: Option<HeaderValue>,
}

const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const ORIGINAL_PATH: HeaderName = HeaderName::from_static("x-envoy-original-path");
const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
const SERVICE_TIME: HeaderName = HeaderName::from_static("x-envoy-upstream-service-time");

impl Told {
    fn new(headers: &HeaderMap, authority: &[u8], path: &[u8]) -> Told {
        let path = headers.get(ORIGINAL_PATH).map_or(path, HeaderValue::as_bytes);
        Told {
            authority: Bytes::copy_from_slice(authority),
            path: Bytes::copy_from_slice(path),
            forwarded_for: headers.get(FORWARDED_FOR).cloned(),
            user_agent: headers.get(USER_AGENT).cloned(),
            request_id: headers.get(REQUEST_ID).cloned(),
        }
    }
}

/// The request as its first attempt went out: in the extensions of requests that leave a line.
#[derive(Clone, Default)]
struct Outgoing(Arc<OnceLock<(Told, Target)>>);

/// Notes requests on their way to an endpoint.
#[derive(Clone)]
pub struct Noting<S>(pub S);

impl<S, B> Service<Request<B>> for Noting<S>
where
    S: Service<Request<B>>,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = S::Future;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.0.poll_ready(cx)
    }

    fn call(&mut self, request: Request<B>) -> S::Future {
        let known = (request.extensions().get::<Outgoing>(), request.extensions().get::<Target>());
        if let (Some(Outgoing(outgoing)), Some(target)) = known
            && target.attempt > 0
        {
            let told = || Told::new(request.headers(), target.authority().as_bytes(), target.path().as_bytes());
            outgoing.get_or_init(|| (told(), target.clone()));
        }
        self.0.call(request)
    }
}

impl Log {
    /// An entry for the request, if it leaves one; its body is counted from here on.
    pub fn entry<B>(&self, request: &mut Request<B>, engine: &Engine) -> Option<Entry> {
        if let Log::Off = self {
            return None;
        }
        let host = request.headers().get(HOST).map_or(&b""[..], HeaderValue::as_bytes);
        let authority = request.uri().authority().map_or(host, |authority| authority.as_str().as_bytes());
        let path = request.uri().path_and_query().map_or("", |path| path.as_str());
        let policy = engine.policy();
        let path = policy.normalize(path).unwrap_or(path.into());
        let entry = Entry {
            log: self.clone(),
            began: (SystemTime::now(), Instant::now()),
            method: request.method().clone(),
            version: request.version(),
            asked: Told::new(request.headers(), authority, path.as_bytes()),
            outgoing: Outgoing::default(),
            summary: None,
            flags: Flags::NONE,
            status: 0,
            received: Arc::default(),
            sent: 0,
            service_time: None,
        };
        request.extensions_mut().insert(entry.outgoing.clone());
        Some(entry)
    }
}

impl Entry {
    /// Counts what is read of a request's body.
    pub fn received(&self) -> Arc<AtomicU64> {
        Arc::clone(&self.received)
    }

    pub fn answered<B>(&mut self, response: &Response<B>) {
        self.status = response.status().as_u16();
        self.summary = response.extensions().get::<Summary>().cloned();
        self.service_time = response.headers().get(SERVICE_TIME).cloned();
    }

    fn line(&self) -> String {
        let none = Summary::default();
        let summary = self.summary.as_ref().unwrap_or(&none);
        let (told, target) = match self.outgoing.0.get() {
            Some((told, target)) => (told, Some(target)),
            None => (&self.asked, None),
        };
        let cluster =
            if summary.cluster.is_empty() { target.map(|target| &*target.cluster) } else { Some(&*summary.cluster) };
        let endpoint = summary.endpoint.as_deref().or(target.map(|target| &*target.endpoint));
        let header = |value: &Option<HeaderValue>| text(value.as_ref().map_or(b"", HeaderValue::as_bytes));
        let mut line = String::with_capacity(256);
        let _ = write!(
            line,
            "[{}] \"{} {} {}\" {} {} {} {} {} {} \"{}\" \"{}\" \"{}\" \"{}\" \"{}\" {} {}",
            time(self.began.0),
            self.method,
            text(&told.path),
            protocol(self.version),
            self.status,
            summary.flags | self.flags,
            self.received.load(Ordering::Relaxed),
            self.sent,
            self.began.1.elapsed().as_millis(),
            header(&self.service_time),
            header(&told.forwarded_for),
            header(&told.user_agent),
            header(&told.request_id),
            text(&told.authority),
            endpoint.unwrap_or("-"),
            text(summary.route.as_bytes()),
            text(cluster.unwrap_or_default().as_bytes()),
        );
        line
    }
}

/// As it is, with what would break the line written out.
fn text(bytes: &[u8]) -> String {
    match bytes {
        [] => "-".into(),
        bytes if bytes.iter().all(|byte| (b' '..=b'~').contains(byte) && *byte != b'"') => {
            String::from_utf8_lossy(bytes).into_owned()
        }
        bytes => bytes.escape_ascii().to_string(),
    }
}

fn protocol(version: Version) -> &'static str {
    match version {
        Version::HTTP_2 => "HTTP/2",
        Version::HTTP_10 => "HTTP/1.0",
        _ => "HTTP/1.1",
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        if self.status == 0 {
            self.flags |= Flags::DC;
        }
        match &self.log {
            Log::Off => {}
            Log::Told(told) => told(self),
            Log::Lines => {
                let _ = writeln!(std::io::stdout().lock(), "{}", self.line());
            }
        }
    }
}

/// `2026-01-31T23:59:59.123Z`.
fn time(at: SystemTime) -> String {
    let since = at.duration_since(UNIX_EPOCH).unwrap_or_default();
    let (seconds, millis) = (since.as_secs(), since.subsec_millis());
    let (days, rest) = (seconds / 86_400, seconds % 86_400);
    // Civil dates count from March, so that a leap day is a year's last.
    let shifted = days + 719_468;
    let era = shifted / 146_097;
    let day_of_era = shifted % 146_097;
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    let year = era * 400 + year_of_era + u64::from(month <= 2);
    let (hour, minute, second) = (rest / 3_600, rest / 60 % 60, rest % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{millis:03}Z")
}

/// A request's body that is counted.
pub struct Received<B> {
    body: B,
    bytes: Option<Arc<AtomicU64>>,
}

impl<B> Received<B> {
    pub fn new(body: B, bytes: Option<Arc<AtomicU64>>) -> Self {
        Received { body, bytes }
    }
}

impl<B: Body<Data = Bytes> + Unpin> Body for Received<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        let polled = Pin::new(&mut self.body).poll_frame(cx);
        if let (Some(bytes), Poll::Ready(Some(Ok(frame)))) = (&self.bytes, &polled)
            && let Some(data) = frame.data_ref()
        {
            bytes.fetch_add(data.len() as u64, Ordering::Relaxed);
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// A response's body that counts its bytes, and holds its entry until it is gone.
pub struct Logged<B: Body> {
    body: B,
    entry: Option<Entry>,
    /// How much is to come, if that is known.
    whole: Option<u64>,
}

impl<B: Body> Logged<B> {
    pub fn new(body: B, entry: Option<Entry>) -> Self {
        Logged { whole: body.size_hint().exact(), body, entry }
    }
}

impl<B> Body for Logged<B>
where
    B: Body<Data = Bytes, Error = BoxError> + Unpin,
{
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let polled = Pin::new(&mut self.body).poll_frame(cx);
        let this = &mut *self;
        let Some(entry) = &mut this.entry else { return polled };
        match &polled {
            Poll::Ready(Some(Ok(frame))) => {
                entry.sent += frame.data_ref().map_or(0, |data| data.len() as u64);
            }
            Poll::Ready(Some(Err(error))) => {
                entry.flags |= if error.is::<BodyTimeout>() { Flags::UT } else { Flags::UC }
            }
            Poll::Ready(None) => this.whole = Some(entry.sent),
            Poll::Pending => {}
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl<B: Body> Drop for Logged<B> {
    fn drop(&mut self) {
        let Some(entry) = &mut self.entry else { return };
        // An answer to HEAD, and one that has no body by its status, is whole with its head.
        let bodiless = entry.method == Method::HEAD || matches!(entry.status, 101 | 204 | 304);
        let ended = bodiless || self.whole == Some(entry.sent) || self.body.is_end_stream();
        if !ended && entry.flags.is_empty() {
            entry.flags |= Flags::DC;
        }
    }
}
