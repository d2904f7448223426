//! An event for each thing that happens, with the target `pointsman`.

use crate::engine::{Event, Observer};
use crate::outlier;
use tracing::{debug, info, warn};

/// Tells `tracing` what an engine does: `Engine::builder().observer(Tracing)`.
///
/// Requests are told at `DEBUG` (decided, attempt, attempted, retry, mirrored, finished); what is over a limit, who is
/// ejected, who is not and why, and a refused reload at `WARN`; who returns and a reload at `INFO`.
///
/// # Spans
/// The layers of [`tower`](crate::tower) open a span for each request, with or without this observer; its events stand in it.
/// The fields have the names of OpenTelemetry's HTTP conventions:
///
/// | field | of | what |
/// |---|---|---|
/// | `otel.kind`, `otel.name` | both | `client` or `server`; the method |
/// | `http.request.method`, `http.request.method_original` | both | `_OTHER` for a method that HTTP does not know, which is then the original |
/// | `url.full` | client | without its query, which may hold what no log should |
/// | `url.scheme`, `url.path`, `network.protocol.version`, `user_agent.original` | server | as they came |
/// | `server.address`, `server.port` | both | the mesh's authority and port |
/// | `network.peer.address`, `network.peer.port` | client | the last attempt's endpoint |
/// | `http.response.status_code` | both | what the caller got |
/// | `http.request.resend_count` | client | attempts after the first one |
/// | `error.type` | both | our code (`no-healthy-upstream`) or the upstream's status, from 400 on (of a server from 500 on) |
/// | `pointsman.route`, `pointsman.cluster`, `pointsman.flags` | both | what was decided, and Envoy's flags |
///
/// One span holds all attempts; each attempt is an event in it. It ends with the response's head: what the body does is
/// between upstream and reader.
#[derive(Clone, Copy, Debug, Default)]
pub struct Tracing;

impl Observer for Tracing {
    fn on_event(&self, event: &Event<'_>) {
        match event {
            Event::Decided { summary } => {
                debug!(target: "pointsman", route = &*summary.route, cluster = &*summary.cluster, "decided");
            }
            Event::Attempt { summary } => {
                let endpoint = summary.endpoint.as_deref().unwrap_or_default();
                debug!(target: "pointsman", cluster = &*summary.cluster, endpoint, attempt = summary.attempts, "attempt");
            }
            Event::Retry { summary, wait } => {
                debug!(target: "pointsman", cluster = &*summary.cluster, attempt = summary.attempts, ?wait, "retry");
            }
            Event::Mirrored { cluster, .. } => debug!(target: "pointsman", cluster, "mirrored"),
            Event::Attempted { summary } => {
                if let Some(last) = summary.tries.last() {
                    let (endpoint, failure) = (&*last.endpoint, last.failure.map(tracing::field::debug));
                    debug!(target: "pointsman", endpoint, status = last.status, failure, timed_out = last.timed_out, "attempted");
                }
            }
            Event::Limited { cluster, exceeded } => warn!(target: "pointsman", cluster, %exceeded, "over a limit"),
            Event::Outlier { cluster, event } => match event {
                outlier::Event::Ejected { host, reason, .. } => {
                    warn!(target: "pointsman", cluster, endpoint = &**host, reason = reason.as_str(), "ejected");
                }
                outlier::Event::Refused { host, reason, cap } => {
                    let reason = reason.as_str();
                    warn!(target: "pointsman", cluster, endpoint = &**host, reason, %cap, "not ejected");
                }
                outlier::Event::Returned { host } => {
                    info!(target: "pointsman", cluster, endpoint = &**host, "returned");
                }
            },
            Event::Reloaded => info!(target: "pointsman", "policy reloaded"),
            Event::ReloadRefused { error } => {
                warn!(target: "pointsman", error = %error, "policy refused, the last good one stays");
            }
            Event::Finished { summary } => {
                let (status, flags) = (summary.status, summary.flags);
                debug!(target: "pointsman", status, %flags, code = summary.code.as_str(), "finished");
            }
        }
    }
}
