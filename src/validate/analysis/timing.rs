//! Timeouts and retries: do the tries fit into the whole, and may they be repeated?

use super::Context;
use crate::resource::{HttpRetry, HttpRoute, StringMatch, VirtualService};
use crate::validate::report::{Report, Severity};

pub(super) fn check(service: &VirtualService, _: &Context<'_>, report: &mut Report) {
    for (rule, route) in service.spec.http.iter().enumerate() {
        let Some(retries) = route.retries.as_ref().filter(|retries| retries.attempts > 0) else { continue };
        let path = format!("spec.http[{rule}].retries");
        fit(route, retries, &path, report);
        repeats(route, retries, &path, report);
    }
}

/// PM-040 and PM-041: one try, and all of them, are shorter than the whole.
fn fit(route: &HttpRoute, retries: &HttpRetry, path: &str, report: &mut Report) {
    let (Some(whole), Some(one)) = (route.timeout, retries.per_try_timeout) else { return };
    let tries = i64::from(retries.attempts) + 1;
    if one.as_nanos() >= whole.as_nanos() {
        let message = format!(
            "a try may take `{one}`, the whole only `{whole}`: the first try uses it up, and nothing is retried"
        );
        let finding = report.add(Severity::Warning, "PM-040", format!("{path}.perTryTimeout"), message);
        let each = whole.as_nanos() / tries / 1_000_000;
        finding.suggest((each > 0).then(|| format!("{each}ms")));
    } else if one.as_nanos().saturating_mul(tries) > whole.as_nanos() {
        let fit = whole.as_nanos() / one.as_nanos().max(1);
        let message = format!(
            "{tries} tries of `{one}` do not fit into the whole timeout of `{whole}`: if each takes its time, there are {}",
            fit + i64::from(whole.as_nanos() % one.as_nanos().max(1) > 0)
        );
        report.warn("PM-041", path, message);
    }
}

/// PM-042 and PM-043: what an upstream may have carried out is not asked of it twice.
fn repeats(route: &HttpRoute, retries: &HttpRetry, path: &str, report: &mut Report) {
    // A try that an upstream answered, or may have: the others are sure that nothing was done.
    const AFTER_WORK: [&str; 6] =
        ["5xx", "gateway-error", "reset", "retriable-status-codes", "retriable-4xx", "internal"];
    let words: Vec<&str> =
        retries.retry_on.split(',').filter(|word| AFTER_WORK.contains(word) || word.parse::<u16>().is_ok()).collect();
    if words.is_empty() {
        return;
    }
    let words = words.join("`, `");
    let path = format!("{path}.retryOn");
    for method in ["POST", "PATCH"] {
        let asked = route.r#match.iter().filter_map(|block| block.method.as_ref());
        if asked.clone().any(|condition| takes(condition, method)) {
            let message = format!("`{words}` repeats a {method} that the upstream may have carried out already");
            report.warn("PM-042", path, message);
            return;
        }
    }
    if route.r#match.is_empty() || route.r#match.iter().any(|block| block.method.is_none()) {
        let message = format!(
            "the rule takes every method, and `{words}` repeats a POST too, which the upstream may have carried out already"
        );
        report.add(Severity::Info, "PM-043", path, message);
    }
}

fn takes(condition: &StringMatch, method: &str) -> bool {
    match condition {
        StringMatch::Exact(text) => text == method,
        StringMatch::Prefix(text) => method.starts_with(text.as_str()),
        StringMatch::Regex(text) => crate::policy::Pattern::new(text).is_ok_and(|one| one.is_match(method.as_bytes())),
        StringMatch::Unset => true,
    }
}
