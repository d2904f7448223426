//! When to try again.
//!
//! A response is looked at once its head is there, and only its head: a gRPC status in trailers comes too late. The order
//! of questions is Envoy's: does the policy want it, is a retry left, does a limit allow it.

use super::failure::Failure;
use crate::entropy::{Draws, below};
use crate::head::{RequestHead, ResponseHead};
use crate::policy::{RetryOn, RetryPolicy};
use http::{HeaderName, HeaderValue};
use std::time::Duration;

const RETRY_ON: HeaderName = HeaderName::from_static("x-envoy-retry-on");
const RETRY_GRPC_ON: HeaderName = HeaderName::from_static("x-envoy-retry-grpc-on");
const STATUS_CODES: HeaderName = HeaderName::from_static("x-envoy-retriable-status-codes");
const HEADER_NAMES: HeaderName = HeaderName::from_static("x-envoy-retriable-header-names");
const MAX_RETRIES: HeaderName = HeaderName::from_static("x-envoy-max-retries");
const RATELIMITED: HeaderName = HeaderName::from_static("x-envoy-ratelimited");
pub(super) const GRPC_STATUS: HeaderName = HeaderName::from_static("grpc-status");

/// The retries of one exchange.
#[derive(Clone, Debug)]
pub(crate) struct Retries {
    policy: RetryPolicy,
    /// Responses with one of these headers are `retriable-headers`. Istio's policies name none.
    header_names: Vec<HeaderName>,
    left: u32,
    next_backoff: Duration,
}

/// How an attempt ended.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Ended<'a> {
    Response(&'a ResponseHead),
    Failed(Failure),
    TimedOut,
}

impl Ended<'_> {
    /// 425 is retried at once: the upstream only wants to see it again.
    pub(crate) fn is_too_early(self) -> bool {
        matches!(self, Ended::Response(response) if response.status.as_u16() == 425)
    }
}

impl Retries {
    /// The route's policy, with what the request's header operations asked for besides, if there were any. Takes those
    /// headers away.
    pub(crate) fn new(policy: Option<&RetryPolicy>, head: &mut RequestHead, asked: bool) -> Option<Retries> {
        if !asked {
            return policy.map(Retries::of);
        }
        let on = head.headers.remove(RETRY_ON);
        let grpc_on = head.headers.remove(RETRY_GRPC_ON);
        let max = head.headers.remove(MAX_RETRIES);
        let codes = head.headers.remove(STATUS_CODES);
        let names = head.headers.remove(HEADER_NAMES);
        let words = |value: Option<HeaderValue>, parse: fn(&str) -> RetryOn| {
            value.as_ref().and_then(|value| value.to_str().ok()).map(parse).unwrap_or_default()
        };
        let asked = words(on, RetryOn::parse_http) | words(grpc_on, RetryOn::parse_grpc);
        let mut policy = match policy {
            Some(policy) => policy.clone(),
            None if asked == RetryOn::default() => return None,
            None => RetryPolicy {
                attempts: 1,
                on: RetryOn::default(),
                status_codes: Vec::new(),
                per_try_timeout: None,
                backoff_base: Duration::from_millis(25),
                backoff_max: Duration::from_millis(250),
                avoid_previous_hosts: false,
                avoid_previous_priorities: false,
            },
        };
        policy.on = policy.on | asked;
        policy.status_codes.extend(items(codes.as_ref()).filter_map(|code| code.parse::<u16>().ok()));
        if let Some(max) = max.and_then(|max| max.to_str().ok()?.trim().parse().ok()) {
            policy.attempts = max;
        }
        let header_names = items(names.as_ref()).filter_map(|name| name.parse().ok()).collect();
        Some(Retries { header_names, ..Retries::of(&policy) })
    }

    fn of(policy: &RetryPolicy) -> Retries {
        Retries {
            left: policy.attempts,
            next_backoff: policy.backoff_base,
            policy: policy.clone(),
            header_names: Vec::new(),
        }
    }

    pub(crate) fn policy(&self) -> &RetryPolicy {
        &self.policy
    }

    pub(crate) fn left(&self) -> u32 {
        self.left
    }

    /// Takes one of the retries that are left.
    pub(crate) fn take(&mut self) {
        self.left = self.left.saturating_sub(1);
    }

    /// Does the policy want another attempt? `sent_before`: did any attempt of this request have a connection?
    pub(crate) fn wants(&self, ended: Ended<'_>, sent_before: bool) -> bool {
        match ended {
            Ended::Response(response) => self.wants_after(response),
            ended => self.policy.on.intersects(words_without_response(ended, sent_before)),
        }
    }

    fn wants_after(&self, response: &ResponseHead) -> bool {
        let on = self.policy.on;
        if response.headers.contains_key(RATELIMITED) {
            return on.intersects(RetryOn::ENVOY_RATELIMITED);
        }
        let status = response.status.as_u16();
        let by_status = (on.intersects(RetryOn::SERVER_ERROR) && (500..600).contains(&status))
            || (on.intersects(RetryOn::GATEWAY_ERROR) && matches!(status, 502..=504))
            || (on.intersects(RetryOn::RETRIABLE_4XX) && status == 409)
            || (on.intersects(RetryOn::RETRIABLE_STATUS_CODES) && self.policy.status_codes.contains(&status));
        let by_name = on.intersects(RetryOn::RETRIABLE_HEADERS)
            && self.header_names.iter().any(|name| response.headers.contains_key(name));
        by_status || by_name || grpc_status(response).is_some_and(|status| on.intersects(of_grpc(status)))
    }

    /// The wait before the next attempt: anything below a bound that doubles, in whole milliseconds. One draw.
    pub(crate) fn backoff(&mut self, draws: &mut dyn Draws) -> Duration {
        let bound = self.next_backoff;
        self.next_backoff = if bound < self.policy.backoff_max / 2 { bound * 2 } else { self.policy.backoff_max };
        Duration::from_millis(below(draws, u64::try_from(bound.as_millis()).unwrap_or(u64::MAX).max(1)))
    }
}

/// The items of a comma-separated list.
fn items(list: Option<&HeaderValue>) -> impl Iterator<Item = &str> {
    let list = list.and_then(|list| list.to_str().ok()).unwrap_or_default();
    list.split(',').map(str::trim)
}

/// The words that hold where there was no response.
fn words_without_response(ended: Ended<'_>, sent_before: bool) -> RetryOn {
    let words = RetryOn::SERVER_ERROR | RetryOn::GATEWAY_ERROR | RetryOn::RESET;
    match ended {
        Ended::Failed(failure) if failure.is_connect() && !sent_before => {
            words | RetryOn::CONNECT_FAILURE | RetryOn::RESET_BEFORE_REQUEST
        }
        Ended::Failed(failure) if failure.is_connect() => words | RetryOn::CONNECT_FAILURE,
        Ended::Failed(Failure::RefusedStream) => words | RetryOn::REFUSED_STREAM,
        _ => words,
    }
}

/// `grpc-status` in a response's head.
pub(crate) fn grpc_status(response: &ResponseHead) -> Option<u64> {
    grpc_status_of(&response.headers)
}

pub(super) fn grpc_status_of(headers: &http::HeaderMap) -> Option<u64> {
    headers.get(GRPC_STATUS)?.to_str().ok()?.trim().parse().ok()
}

fn of_grpc(status: u64) -> RetryOn {
    match status {
        1 => RetryOn::CANCELLED,
        4 => RetryOn::DEADLINE_EXCEEDED,
        8 => RetryOn::RESOURCE_EXHAUSTED,
        13 => RetryOn::INTERNAL,
        14 => RetryOn::UNAVAILABLE,
        _ => RetryOn::default(),
    }
}
