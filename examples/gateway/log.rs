//! The access log: a line a request in Envoy's default format, with the route's and the cluster's names.

use http::header::USER_AGENT;
use http::{HeaderName, Request, Response};
use http_body::{Body, Frame, SizeHint};
use pointsman::exchange::Summary;
use std::fmt::Write as _;
use std::io::Write as _;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

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
    request: Option<Asked>,
    pub summary: Option<Summary>,
    pub status: u16,
    pub received: u64,
    pub sent: u64,
    service_time: String,
}

struct Asked {
    method: String,
    path: String,
    version: http::Version,
    forwarded_for: String,
    user_agent: String,
    request_id: String,
    authority: String,
}

impl Entry {
    pub fn new<B: Body>(log: &Log, request: &Request<B>) -> Entry {
        let header = |name: HeaderName| {
            let value = request.headers().get(name).and_then(|value| value.to_str().ok());
            value.unwrap_or("-").to_owned()
        };
        let asked = || Asked {
            method: request.method().to_string(),
            path: request.uri().path_and_query().map_or("-", |path| path.as_str()).to_owned(),
            version: request.version(),
            forwarded_for: header(HeaderName::from_static("x-forwarded-for")),
            user_agent: header(USER_AGENT),
            request_id: header(HeaderName::from_static("x-request-id")),
            authority: match request.uri().authority() {
                Some(authority) => authority.to_string(),
                None => header(http::header::HOST),
            },
        };
        Entry {
            began: (SystemTime::now(), Instant::now()),
            request: if let Log::Lines = log { Some(asked()) } else { None },
            log: log.clone(),
            summary: None,
            status: 0,
            received: request.body().size_hint().exact().unwrap_or(0),
            sent: 0,
            service_time: "-".into(),
        }
    }

    pub fn answered<B>(&mut self, response: &Response<B>) {
        if let Log::Off = self.log {
            return;
        }
        self.status = response.status().as_u16();
        self.summary = response.extensions().get::<Summary>().cloned();
        if let Some(time) = response.headers().get("x-envoy-upstream-service-time") {
            self.service_time = time.to_str().unwrap_or("-").to_owned();
        }
    }

    fn line(&self) -> Option<String> {
        let asked = self.request.as_ref()?;
        let none = Summary::default();
        let summary = self.summary.as_ref().unwrap_or(&none);
        let or_dash = |text: &str| if text.is_empty() { "-".to_owned() } else { text.to_owned() };
        let mut line = String::new();
        let _ = write!(
            line,
            "[{}] \"{} {} {:?}\" {} {} {} {} {} {} \"{}\" \"{}\" \"{}\" \"{}\" \"{}\" {} {}",
            time(self.began.0),
            asked.method,
            asked.path,
            asked.version,
            self.status,
            summary.flags,
            self.received,
            self.sent,
            self.began.1.elapsed().as_millis(),
            self.service_time,
            asked.forwarded_for,
            asked.user_agent,
            asked.request_id,
            asked.authority,
            summary.endpoint.as_deref().unwrap_or("-"),
            or_dash(&summary.route),
            or_dash(&summary.cluster),
        );
        Some(line)
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        match &self.log {
            Log::Off => {}
            Log::Told(told) => told(self),
            Log::Lines => {
                if let Some(line) = self.line() {
                    let _ = writeln!(std::io::stdout().lock(), "{line}");
                }
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

/// A response's body that counts its bytes, and holds its entry until it is gone.
pub struct Logged<B> {
    body: B,
    entry: Entry,
}

impl<B> Logged<B> {
    pub fn new(body: B, entry: Entry) -> Self {
        Logged { body, entry }
    }
}

impl<B: Body + Unpin> Body for Logged<B>
where
    B::Data: bytes::Buf,
{
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<B::Data>, B::Error>>> {
        let polled = Pin::new(&mut self.body).poll_frame(cx);
        if let Poll::Ready(Some(Ok(frame))) = &polled
            && let Some(data) = frame.data_ref()
        {
            self.entry.sent += bytes::Buf::remaining(data) as u64;
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
