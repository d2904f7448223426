//! Weights: who gets nothing, and who gets everything whatever its weight says.
//!
//! The types do not tell a weight of 0 from none at all; the document does.

use crate::resource::{Value, VirtualService};
use crate::validate::report::{Report, Severity};

/// PM-050 to PM-052.
pub(super) fn check(service: &VirtualService, document: &Value, report: &mut Report) {
    let spec = &service.spec;
    let http = spec.http.iter().map(|route| route.route.iter().map(|entry| entry.weight).collect());
    let tls = spec.tls.iter().map(|route| route.route.iter().map(|entry| entry.weight).collect());
    let tcp = spec.tcp.iter().map(|route| route.route.iter().map(|entry| entry.weight).collect());
    let sections: [(&str, Vec<Vec<i32>>); 3] =
        [("http", http.collect()), ("tls", tls.collect()), ("tcp", tcp.collect())];
    for (section, rules) in sections {
        for (rule, weights) in rules.into_iter().enumerate() {
            let path = format!("spec.{section}[{rule}].route");
            let is_written = |at: usize| {
                let entry = document.get("spec").and_then(|spec| item(spec.get(section)?, rule)?.get("route"));
                entry.and_then(|route| item(route, at)).is_some_and(|entry| entry.get("weight").is_some())
            };
            one(&weights, &path, is_written, report);
        }
    }
}

fn item(list: &Value, at: usize) -> Option<&Value> {
    list.as_list()?.get(at)
}

fn one(weights: &[i32], path: &str, is_written: impl Fn(usize) -> bool, report: &mut Report) {
    if let [only] = weights {
        if is_written(0) && *only != 100 {
            let message = format!("the only destination gets every request: its weight of {only} has no effect");
            let severity = if *only == 0 { Severity::Warning } else { Severity::Info };
            report.add(severity, "PM-052", format!("{path}[0].weight"), message);
        }
        return;
    }
    let sum: i64 = weights.iter().map(|weight| i64::from(*weight)).sum();
    for (at, _) in weights.iter().enumerate().filter(|(_, weight)| **weight == 0) {
        if is_written(at) {
            let message = "the destination gets no request: its weight is 0".to_owned();
            report.add(Severity::Info, "PM-050", format!("{path}[{at}].weight"), message);
        } else {
            let message =
                format!("the destination gets no request: it has no weight, and the others have {sum} together");
            let rest = 100 - sum;
            let finding = report.add(Severity::Warning, "PM-051", format!("{path}[{at}]"), message);
            finding.suggest((rest > 0).then(|| format!("weight: {rest}")));
        }
    }
}
