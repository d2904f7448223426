//! Fields that are on their way out and that the webhook does not warn of.

use super::Context;
use crate::resource::VirtualService;
use crate::validate::report::{Report, Severity};

/// AN-013: a delay's share in whole per cent.
pub(super) fn check(service: &VirtualService, _: &Context<'_>, report: &mut Report) {
    for (rule, route) in service.spec.http.iter().enumerate() {
        let percent = route.fault.as_ref().and_then(|fault| fault.delay.as_ref()).map_or(0, |delay| delay.percent);
        if percent > 0 {
            let path = format!("spec.http[{rule}].fault.delay.percent");
            let finding = report.add(Severity::Warning, "AN-013", path, "`percent` is deprecated; use `percentage`");
            finding.suggest(Some(format!("percentage: {{value: {percent}}}")));
        }
    }
}
