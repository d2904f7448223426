//! What the API server lets through and an experienced reader would not: mistakes between resources, and settings that
//! cannot do what they seem to.
//!
//! With a mesh, hosts, ports and subsets of destinations are looked up in it, and what a client would never see is told.
//! Without one, only what the resources say of each other counts.

use super::Report;
use crate::hosts;
use crate::mesh::{Mesh, Viewpoint};
use crate::policy::{Policy, check_regex};
use crate::resource::{
    Destination, DestinationRule, HttpRoute, ObjectMeta, Resources, StringMatch, Subset, TrafficPolicy, VirtualService,
};

/// What was found about one resource.
#[derive(Clone, Debug, PartialEq, serde::Serialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct ResourceReport {
    /// `VirtualService` or `DestinationRule`.
    pub kind: String,
    /// `namespace/name`.
    pub resource: String,
    /// The source's name, if it has one.
    pub source: Option<String>,
    /// What was found.
    pub report: Report,
}

/// Judges everything that was read: each document by schema and webhook, and all of them together.
///
/// ```
/// use pointsman::Resources;
/// use pointsman::validate::analyze;
///
/// let resources = Resources::from_yaml("
/// apiVersion: networking.istio.io/v1
/// kind: VirtualService
/// metadata: {name: shop, namespace: default}
/// spec:
///   hosts: [shop]
///   http:
///   - route: [{destination: {host: shop, subset: v2}}]
/// ")?;
/// let reports = analyze(&resources, None);
/// assert_eq!(reports[0].report.diagnostics[0].code, "PM-003"); // no DestinationRule defines the subset
/// # Ok::<(), pointsman::resource::LoadError>(())
/// ```
pub fn analyze(resources: &Resources, mesh: Option<(&Mesh, &Viewpoint)>) -> Vec<ResourceReport> {
    let mut reports = Vec::new();
    let notes = mesh.map(|(mesh, viewpoint)| Policy::compile(resources, mesh, viewpoint).report);
    for document in &resources.documents {
        let mut report = super::apply(&document.value);
        if report.is_accepted() {
            let mut more = Report::default();
            match document.content {
                crate::resource::Content::VirtualService(index) => {
                    if let Some(service) = resources.virtual_services.get(index) {
                        virtual_service(service, resources, mesh.map(|(mesh, _)| mesh), &mut more);
                    }
                }
                crate::resource::Content::DestinationRule(index) => {
                    if let Some(rule) = resources.destination_rules.get(index) {
                        destination_rule(rule, mesh.map(|(mesh, _)| mesh), &mut more);
                    }
                }
                _ => {}
            }
            let id = format!("{}/{}", document.id.namespace, document.id.name);
            for note in notes.iter().flat_map(|notes| &notes.notes) {
                let same =
                    note.kind == document.id.kind && (note.resource == id || note.resource == format!("default{id}"));
                if same {
                    let path = if note.path.is_empty() { "spec".to_owned() } else { format!("spec.{}", note.path) };
                    more.warn("PM-010", path, note.message.clone());
                }
            }
            report.diagnostics.extend(more.finish(&document.value).diagnostics);
        }
        reports.push(ResourceReport {
            kind: document.id.kind.clone(),
            resource: format!("{}/{}", document.id.namespace, document.id.name),
            source: document.source_name.as_ref().map(|name| name.to_string()),
            report,
        });
    }
    reports
}

fn namespace(metadata: &ObjectMeta) -> &str {
    if metadata.namespace.is_empty() { "default" } else { &metadata.namespace }
}

fn virtual_service(service: &VirtualService, resources: &Resources, mesh: Option<&Mesh>, report: &mut Report) {
    let own = namespace(&service.metadata);
    for (index, route) in service.spec.http.iter().enumerate() {
        let path = format!("spec.http[{index}]");
        for (number, entry) in route.route.iter().enumerate() {
            if let Some(target) = &entry.destination {
                let path = format!("{path}.route[{number}].destination");
                destination(target, own, resources, mesh, &path, report);
            }
        }
        if let Some(target) = &route.mirror {
            destination(target, own, resources, mesh, &format!("{path}.mirror"), report);
        }
        for (number, mirror) in route.mirrors.iter().enumerate() {
            if let Some(target) = &mirror.destination {
                let path = format!("{path}.mirrors[{number}].destination");
                destination(target, own, resources, mesh, &path, report);
            }
        }
        if let Some(delegate) = &route.delegate {
            let wanted = if delegate.namespace.is_empty() { own } else { &delegate.namespace };
            let exists = resources.virtual_services.iter().any(|other| {
                other.spec.hosts.is_empty()
                    && other.metadata.name == delegate.name
                    && namespace(&other.metadata) == wanted
            });
            if !exists {
                let message =
                    format!("there is no VirtualService `{wanted}/{}` without hosts to delegate to", delegate.name);
                report.warn("PM-004", format!("{path}.delegate"), message);
            }
        }
        timing(route, &path, report);
        patterns(route, &path, report);
    }
}

/// PM-001 to PM-003: is there such a host, such a port, such a subset?
fn destination(
    target: &Destination,
    own: &str,
    resources: &Resources,
    mesh: Option<&Mesh>,
    path: &str,
    report: &mut Report,
) {
    let domain = mesh.map_or("cluster.local", |mesh| mesh.mesh_config.cluster_domain.as_str());
    let host = hosts::expand(&target.host, own, domain);
    if let Some(mesh) = mesh {
        match mesh.services.iter().find(|service| service.host == host) {
            None => {
                let known: Vec<&str> = mesh.services.iter().map(|service| service.host.as_str()).collect();
                let near = crate::resource::decode::nearest(&host, &known);
                let hint = near.map(|near| format!("; did you mean `{near}`?")).unwrap_or_default();
                report.warn("PM-001", format!("{path}.host"), format!("no service has the host `{host}`{hint}"));
            }
            Some(service) => {
                let port = target.port.as_ref().map(|port| port.number).filter(|number| *number != 0);
                if let Some(number) = port
                    && !service.ports.iter().any(|port| u32::from(port.number) == number)
                {
                    let known: Vec<String> = service.ports.iter().map(|port| port.number.to_string()).collect();
                    let message = format!("`{host}` has no port {number}; it has {}", known.join(", "));
                    report.warn("PM-002", format!("{path}.port"), message);
                }
            }
        }
    }
    if target.subset.is_empty() {
        return;
    }
    let rules = resources.destination_rules.iter().filter(|rule| {
        let ruled = hosts::expand(&rule.spec.host, namespace(&rule.metadata), domain);
        hosts::is_subset(&host, &ruled)
    });
    let subsets: Vec<&Subset> = rules.flat_map(|rule| &rule.spec.subsets).collect();
    if !subsets.iter().any(|subset| subset.name == target.subset) {
        let known: Vec<&str> = subsets.iter().map(|subset| subset.name.as_str()).collect();
        let near = crate::resource::decode::nearest(&target.subset, &known);
        let hint = near.map(|near| format!("; did you mean `{near}`?")).unwrap_or_default();
        let message =
            format!("no DestinationRule defines the subset `{}` of `{host}`: requests get 503{hint}", target.subset);
        report.warn("PM-003", format!("{path}.subset"), message);
    }
}

/// PM-005 to PM-007: timeouts and retries that do not go together.
fn timing(route: &HttpRoute, path: &str, report: &mut Report) {
    let Some(retries) = route.retries.as_ref().filter(|retries| retries.attempts > 0) else { return };
    if let (Some(whole), Some(one)) = (route.timeout, retries.per_try_timeout) {
        let tries = i64::from(retries.attempts) + 1;
        if one.as_nanos() >= whole.as_nanos() {
            let message =
                format!("a try of `{one}` is not shorter than the whole timeout `{whole}`, so it is not used at all");
            report.warn("PM-005", format!("{path}.retries.perTryTimeout"), message);
        } else if one.as_nanos().saturating_mul(tries) > whole.as_nanos() {
            let message = format!(
                "{tries} tries of `{one}` do not fit into the whole timeout `{whole}`: the last ones never happen"
            );
            report.warn("PM-006", format!("{path}.retries"), message);
        }
    }
    let risky = ["5xx", "gateway-error", "reset", "retriable-status-codes"];
    let after_work = retries.retry_on.split(',').any(|word| risky.contains(&word) || word.parse::<u16>().is_ok());
    let methods: Vec<&StringMatch> = route.r#match.iter().filter_map(|block| block.method.as_ref()).collect();
    let post = methods.iter().find_map(|method| match method {
        StringMatch::Exact(method) if matches!(method.as_str(), "POST" | "PATCH") => Some(method),
        _ => None,
    });
    if let (true, Some(method)) = (after_work, post) {
        let message =
            format!("`{method}` is not idempotent, and `retryOn` repeats it after the upstream may have done it");
        report.warn("PM-007", format!("{path}.retries.retryOn"), message);
    }
}

/// PM-008: patterns that the webhook takes and Envoy does not.
fn patterns(route: &HttpRoute, path: &str, report: &mut Report) {
    for (index, block) in route.r#match.iter().enumerate() {
        let path = format!("{path}.match[{index}]");
        let mut conditions: Vec<(String, &StringMatch)> = Vec::new();
        let single = [
            ("uri", &block.uri),
            ("method", &block.method),
            ("authority", &block.authority),
            ("scheme", &block.scheme),
        ];
        conditions
            .extend(single.into_iter().filter_map(|(name, condition)| Some((name.to_owned(), condition.as_ref()?))));
        for (map, entries) in [
            ("headers", &block.headers),
            ("withoutHeaders", &block.without_headers),
            ("queryParams", &block.query_params),
        ] {
            conditions.extend(entries.iter().map(|(key, condition)| (format!("{map}[{key}]"), condition)));
        }
        for (name, condition) in conditions {
            if let StringMatch::Regex(text) = condition
                && text != "*"
                && let Err(why) = check_regex(text)
            {
                report.warn("PM-008", format!("{path}.{name}.regex"), format!("Envoy does not take `{text}`: {why}"));
            }
        }
    }
}

/// PM-009: an ejection that can eject nobody.
fn destination_rule(rule: &DestinationRule, mesh: Option<&Mesh>, report: &mut Report) {
    let Some(mesh) = mesh else { return };
    let host = hosts::expand(&rule.spec.host, namespace(&rule.metadata), &mesh.mesh_config.cluster_domain);
    let Some(service) = mesh.services.iter().find(|service| service.host == host) else { return };
    let mut check = |policy: Option<&TrafficPolicy>, endpoints: usize, path: &str| {
        let Some(outlier) = policy.and_then(|policy| policy.outlier_detection.as_ref()) else { return };
        let percent = if outlier.max_ejection_percent == 0 { 10 } else { outlier.max_ejection_percent };
        let allowed = usize::try_from(percent).unwrap_or(0) * endpoints / 100;
        if endpoints > 0 && allowed == 0 {
            let least = 100_usize.div_ceil(endpoints);
            let message = format!(
                "maxEjectionPercent {percent} of {endpoints} endpoints is none: nobody is ever ejected; {least} would let one go"
            );
            report.warn("PM-009", format!("{path}.outlierDetection"), message);
        }
    };
    check(rule.spec.traffic_policy.as_ref(), service.endpoints.len(), "spec.trafficPolicy");
    for (index, subset) in rule.spec.subsets.iter().enumerate() {
        let has =
            |labels: &crate::mesh::Labels| subset.labels.iter().all(|(key, value)| labels.get(key) == Some(value));
        let endpoints = service.endpoints.iter().filter(|endpoint| has(&endpoint.labels)).count();
        check(subset.traffic_policy.as_ref(), endpoints, &format!("spec.subsets[{index}].trafficPolicy"));
    }
}
