//! Delegates: is there such a VirtualService, without hosts, that the root may use?

use super::{Context, nearest};
use crate::resource::VirtualService;
use crate::validate::report::{Report, Severity};

/// PM-010 and PM-011.
pub(super) fn check(service: &VirtualService, context: &Context<'_>, report: &mut Report) {
    let own = context.namespace(&service.metadata);
    let targets = service.spec.http.iter().enumerate().filter_map(|(at, route)| Some((at, route.delegate.as_ref()?)));
    for (at, delegate) in targets.filter(|_| !service.spec.hosts.is_empty()) {
        let namespace = if delegate.namespace.is_empty() { own } else { &delegate.namespace };
        let wanted = format!("{namespace}/{}", delegate.name);
        let path = format!("spec.http[{at}].delegate");
        match context.by_name.get(&wanted) {
            None => {
                let candidates = context.by_name.iter().filter(|(_, other)| other.spec.hosts.is_empty());
                let near = nearest(&wanted, candidates.map(|(name, _)| name.as_str()));
                let message = format!("there is no VirtualService `{wanted}` to delegate to, so the rule is left out");
                report.add(Severity::Error, "PM-010", path, message).suggest(near);
            }
            Some(other) if !other.spec.hosts.is_empty() => {
                let message = format!("`{wanted}` has hosts of its own, so it is no delegate and the rule is left out");
                let finding = report.add(Severity::Error, "PM-010", path, message);
                finding.related.push(context.related(other, "spec.hosts", "a delegate has no hosts"));
            }
            Some(other) => {
                let exported = &other.spec.export_to;
                let default: &[String] =
                    context.mesh.map_or(&[], |(mesh, _)| &mesh.mesh_config.default_virtual_service_export_to);
                let exported = if exported.is_empty() { default } else { exported };
                let visible = exported.is_empty()
                    || exported.iter().any(|to| to == "*" || to == own || (to == "." && namespace == own));
                if !visible {
                    let message = format!(
                        "`{wanted}` is not exported to the namespace `{own}` of its root, so the rule is left out"
                    );
                    let finding = report.add(Severity::Error, "PM-011", path, message);
                    finding.related.push(context.related(other, "spec.exportTo", format!("`{own}` is missing here")));
                }
            }
        }
    }
}
