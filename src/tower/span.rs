//! A span for each request, with the field names of OpenTelemetry's HTTP conventions. Nothing without feature `tracing`.
//!
//! The span ends with the response's head: what the body does is between upstream and reader.

#[cfg(feature = "tracing")]
use crate::exchange::Summary;
use crate::head::RequestHead;
#[cfg(feature = "tracing")]
use http::Response;
use std::future::Future;

/// Whose request it is.
#[derive(Clone, Copy, Debug)]
pub(super) enum SpanKind {
    Client,
    Server,
}

/// The span of one request.
pub(super) struct RequestSpan {
    #[cfg(feature = "tracing")]
    span: tracing::Span,
}

#[cfg(feature = "tracing")]
impl RequestSpan {
    pub(super) fn new(kind: SpanKind, head: &RequestHead) -> Self {
        let kind = match kind {
            SpanKind::Client => "client",
            SpanKind::Server => "server",
        };
        let path = head.path.split('?').next().unwrap_or_default();
        let span = tracing::info_span!(
            target: "pointsman",
            "http.request",
            otel.kind = kind,
            otel.name = head.method.as_str(),
            http.request.method = head.method.as_str(),
            url.scheme = &*head.scheme,
            url.path = path,
            server.address = crate::policy::without_port(&head.authority),
            server.port = head.port,
            http.response.status_code = tracing::field::Empty,
            http.request.resend_count = tracing::field::Empty,
            network.peer.address = tracing::field::Empty,
            "error.type" = tracing::field::Empty,
            pointsman.route = tracing::field::Empty,
            pointsman.cluster = tracing::field::Empty,
            pointsman.flags = tracing::field::Empty,
        );
        RequestSpan { span }
    }

    fn finish(&self, summary: &Summary) {
        if self.span.is_disabled() {
            return;
        }
        let span = &self.span;
        span.record("http.response.status_code", summary.status);
        if summary.attempts > 1 {
            span.record("http.request.resend_count", summary.attempts - 1);
        }
        if let Some(endpoint) = summary.endpoint.as_deref() {
            span.record("network.peer.address", endpoint.rsplit_once(':').map_or(endpoint, |(address, _)| address));
        }
        if summary.status >= 500 {
            span.record("error.type", summary.code.as_str());
        }
        span.record("pointsman.route", &*summary.route);
        span.record("pointsman.cluster", &*summary.cluster);
        span.record("pointsman.flags", tracing::field::display(summary.flags));
    }

    /// The future inside the span; what became of the request is written down with its response.
    pub(super) fn around<B, E>(
        self,
        future: impl Future<Output = Result<Response<B>, E>>,
    ) -> impl Future<Output = Result<Response<B>, E>> {
        let span = self.span.clone();
        let whole = async move {
            future.await.inspect(|response| {
                if let Some(summary) = response.extensions().get::<Summary>() {
                    self.finish(summary);
                }
            })
        };
        tracing::Instrument::instrument(whole, span)
    }
}

#[cfg(not(feature = "tracing"))]
impl RequestSpan {
    pub(super) fn new(_: SpanKind, _: &RequestHead) -> Self {
        RequestSpan {}
    }

    pub(super) fn around<F: Future>(self, future: F) -> F {
        future
    }
}
