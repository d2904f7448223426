//! Outlier detection that cannot eject anybody.

use super::Context;
use super::subsets::endpoints_of;
use crate::resource::{DestinationRule, OutlierDetection, TrafficPolicy};
use crate::validate::report::{Report, Severity};

pub(super) fn check(rule: &DestinationRule, context: &Context<'_>, report: &mut Report) {
    let host = context.expand(&rule.spec.host, &rule.metadata);
    let service = context.services.get(host.as_str());
    let all = service.map(|service| service.endpoints.len());
    each_port(rule.spec.traffic_policy.as_ref(), all, "spec.trafficPolicy", report);
    for (at, subset) in rule.spec.subsets.iter().enumerate() {
        let path = format!("spec.subsets[{at}].trafficPolicy");
        let some = service.map(|service| endpoints_of(service, &subset.labels).count());
        each_port(subset.traffic_policy.as_ref(), some, &path, report);
        // A rule's own detection holds for its subsets too, which are smaller.
        let inherited = rule.spec.traffic_policy.as_ref().and_then(|policy| policy.outlier_detection.as_ref());
        let own = subset.traffic_policy.as_ref().and_then(|policy| policy.outlier_detection.as_ref());
        if let (Some(settings), None, Some(some)) = (inherited, own, some)
            && all.is_some_and(|all| ejects(settings, all) > 0)
        {
            inherits(settings, some, &format!("spec.subsets[{at}]"), report);
        }
    }
}

fn each_port(policy: Option<&TrafficPolicy>, endpoints: Option<usize>, path: &str, report: &mut Report) {
    let Some(policy) = policy else { return };
    let ports = policy.port_level_settings.iter().enumerate();
    let ports = ports.map(|(at, entry)| (format!("{path}.portLevelSettings[{at}]"), entry));
    for (path, policy) in [(path.to_owned(), policy)].into_iter().chain(ports) {
        let Some(settings) = &policy.outlier_detection else { continue };
        let path = format!("{path}.outlierDetection");
        detects(settings, &path, report);
        if let Some(endpoints) = endpoints {
            pool(settings, endpoints, &path, report);
        }
    }
}

/// How many of so many endpoints may be out at once.
fn ejects(settings: &OutlierDetection, endpoints: usize) -> usize {
    usize::try_from(percent(settings)).unwrap_or(0) * endpoints / 100
}

/// 0 stands for Envoy's own 10.
fn percent(settings: &OutlierDetection) -> i32 {
    if settings.max_ejection_percent == 0 { 10 } else { settings.max_ejection_percent }
}

/// PM-060: the share that may be out is at least one endpoint.
fn pool(settings: &OutlierDetection, endpoints: usize, path: &str, report: &mut Report) {
    if endpoints == 0 || ejects(settings, endpoints) > 0 {
        return;
    }
    let percent = percent(settings);
    let default = if settings.max_ejection_percent == 0 { " (the default)" } else { "" };
    let endpoints_are = if endpoints == 1 { "1 endpoint is".to_owned() } else { format!("{endpoints} endpoints are") };
    let message =
        format!("nobody is ever ejected: maxEjectionPercent {percent}{default} of {endpoints_are} less than one");
    let field = if settings.max_ejection_percent == 0 { "" } else { ".maxEjectionPercent" };
    let least = 100_usize.div_ceil(endpoints);
    let finding = report.add(Severity::Warning, "PM-060", format!("{path}{field}"), message);
    finding.suggest(Some(format!("maxEjectionPercent: {least}")));
}

/// PM-060 for a subset that has the rule's detection.
fn inherits(settings: &OutlierDetection, endpoints: usize, path: &str, report: &mut Report) {
    let before = report.diagnostics.len();
    pool(settings, endpoints, "spec.trafficPolicy.outlierDetection", report);
    for one in report.diagnostics.iter_mut().skip(before) {
        one.message.insert_str(0, "in this subset ");
        let rule = std::mem::replace(&mut one.path, path.to_owned());
        one.relate(rule, "the rule's own detection holds for it too");
    }
}

/// PM-061: some detector is on.
fn detects(settings: &OutlierDetection, path: &str, report: &mut Report) {
    let off = settings.consecutive_5xx_errors == Some(0)
        && settings.consecutive_gateway_errors.unwrap_or(0) == 0
        && !settings.split_external_local_origin_errors;
    if off {
        let message = "nobody is ever ejected: consecutive5xxErrors is 0, which turns it off, and consecutiveGatewayErrors \
                       is not set";
        let finding = report.add(Severity::Warning, "PM-061", format!("{path}.consecutive5xxErrors"), message);
        finding.suggest(Some("consecutive5xxErrors: 5"));
    }
}
