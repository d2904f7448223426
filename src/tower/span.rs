//! A span for each request, with the field names of OpenTelemetry's HTTP conventions; `telemetry::Tracing` has the table.
//! Nothing without feature `tracing`.

#[cfg(feature = "tracing")]
use crate::exchange::{Code, Summary};
use crate::head::RequestHead;
#[cfg(feature = "tracing")]
use http::Response;
use std::future::Future;

/// Whose request it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum SpanKind {
    Client,
    Server,
}

/// The span of one request.
pub(super) struct RequestSpan {
    #[cfg(feature = "tracing")]
    kind: SpanKind,
    #[cfg(feature = "tracing")]
    span: tracing::Span,
}

/// Methods that OpenTelemetry tells apart.
#[cfg(feature = "tracing")]
fn is_known(method: &str) -> bool {
    matches!(method, "CONNECT" | "DELETE" | "GET" | "HEAD" | "OPTIONS" | "PATCH" | "POST" | "PUT" | "TRACE")
}

#[cfg(feature = "tracing")]
impl RequestSpan {
    pub(super) fn new(kind: SpanKind, head: &RequestHead) -> Self {
        use tracing::field::Empty;
        let method = head.method.as_str();
        let span = tracing::info_span!(
            target: "pointsman",
            "http.request",
            otel.kind = if kind == SpanKind::Client { "client" } else { "server" },
            otel.name = if is_known(method) { method } else { "HTTP" },
            http.request.method = if is_known(method) { method } else { "_OTHER" },
            http.request.method_original = (!is_known(method)).then_some(method),
            url.full = Empty,
            url.scheme = Empty,
            url.path = Empty,
            network.protocol.version = Empty,
            user_agent.original = Empty,
            server.address = crate::policy::without_port(&head.authority),
            server.port = head.port,
            http.response.status_code = Empty,
            http.request.resend_count = Empty,
            network.peer.address = Empty,
            network.peer.port = Empty,
            "error.type" = Empty,
            pointsman.route = Empty,
            pointsman.cluster = Empty,
            pointsman.flags = Empty,
        );
        if !span.is_disabled() {
            let path = head.path.split('?').next().unwrap_or_default();
            match kind {
                SpanKind::Client => {
                    span.record(
                        "url.full",
                        tracing::field::display(format_args!("{}://{}{path}", head.scheme, head.authority)),
                    );
                }
                SpanKind::Server => {
                    span.record("url.scheme", &*head.scheme).record("url.path", path);
                    let version = format!("{:?}", head.version);
                    span.record("network.protocol.version", version.trim_start_matches("HTTP/").trim_end_matches(".0"));
                    let agent = head.headers.get(http::header::USER_AGENT).and_then(|agent| agent.to_str().ok());
                    span.record("user_agent.original", agent);
                }
            }
        }
        RequestSpan { kind, span }
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
        if let (Some(endpoint), SpanKind::Client) = (summary.endpoint.as_deref(), self.kind) {
            let (address, port) = endpoint.rsplit_once(':').unwrap_or((endpoint, ""));
            span.record("network.peer.address", address.trim_matches(['[', ']']));
            span.record("network.peer.port", port.parse::<u16>().ok());
        }
        let least = if self.kind == SpanKind::Client { 400 } else { 500 };
        if summary.status >= least {
            match summary.code {
                Code::Upstream => span.record("error.type", tracing::field::display(summary.status)),
                code => span.record("error.type", code.as_str()),
            };
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
