//! TLS to upstreams without anything to verify them by.

use super::Context;
use crate::resource::{ClientTlsMode, ClientTlsSettings, DestinationRule};
use crate::validate::report::{Report, Severity};

/// AN-017 and AN-018: SIMPLE and MUTUAL name the authorities that the upstream's certificate is verified by. As Istio asks
/// it: only of the rule's own policy, and a credential counts only for selected workloads.
pub(super) fn check(rule: &DestinationRule, _: &Context<'_>, report: &mut Report) {
    let Some(policy) = &rule.spec.traffic_policy else { return };
    let selects = rule.spec.workload_selector.is_some();
    let mut one = |settings: Option<&ClientTlsSettings>, code, path: &str| {
        let Some(settings) = settings else { return };
        let is_tls = matches!(settings.mode, ClientTlsMode::Simple | ClientTlsMode::Mutual);
        let has_credential = !settings.credential_name.is_empty() && selects;
        if is_tls && settings.ca_certificates.is_empty() && !has_credential {
            let message = "the upstream's certificate is not verified by anything of your own: caCertificates is not set, so \
                           the system's authorities are all there is";
            report.add(Severity::Warning, code, format!("{path}.tls.caCertificates"), message);
        }
    };
    one(policy.tls.as_ref(), "AN-017", "spec.trafficPolicy");
    for (at, entry) in policy.port_level_settings.iter().enumerate() {
        one(entry.tls.as_ref(), "AN-018", &format!("spec.trafficPolicy.portLevelSettings[{at}]"));
    }
}
