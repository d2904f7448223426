//! What the API server lets through and an experienced reader would not: mistakes between resources, and settings that
//! cannot do what they seem to.
//!
//! One analyzer is one small function, in a file named for what it looks at. Those that Istio's `istioctl analyze` has too
//! carry the IDs of Istio's rules (`AN-…`), the others are this crate's own (`PM-…`); all are in [`CODES`](super::CODES).
//! With a mesh, hosts, ports, endpoints and gateways are looked up in it, and the compile's report says what a client would
//! never see. Without one, only what the resources say of each other counts.
//!
//! Severities: an error is what makes requests fail (a subset that nobody defines) or takes a rule away (a delegate that is
//! not there); a warning is carried out, but hardly as it was meant; the rest is information. A resource that the API server
//! would reject is not analyzed.
//!
//! An annotation `galley.istio.io/analyze-suppress: CODE,CODE` on a resource silences findings by this crate's code or by
//! Istio's (`IST0101`), and `*` all of them; never what the API server rejects.
//!
//! Cost: linear in resources and destinations; look-ups are by name. See [`reach`] for rules that hide each other.

mod conflicts;
mod delegates;
mod deprecated;
mod destinations;
mod ejection;
mod gateways;
mod notes;
mod patterns;
mod reach;
mod reading;
mod subsets;
mod timing;
mod tls;
mod weights;

use super::report::{Related, Report, Severity};
use crate::hosts;
use crate::mesh::{Mesh, Service, Viewpoint};
use crate::resource::{Content, DestinationRule, Document, ObjectMeta, ResourceId, Resources, Value, VirtualService};
use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

/// Judges everything that was read: each document as the API server would, and all of them together.
///
/// The mesh's viewpoint is the client that the compile's report is asked for. The findings come in the order of the
/// documents; first what could not be read at all.
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
/// ---
/// apiVersion: networking.istio.io/v1
/// kind: DestinationRule
/// metadata: {name: shop, namespace: default}
/// spec:
///   host: shop
///   subsets: [{name: v1, labels: {version: v1}}]
/// ")?;
/// let report = analyze(&resources, None);
/// assert_eq!(
///     report.to_string(),
///     "error[AN-009] 8:48 VirtualService default/shop spec.http[0].route[0].destination.subset: no DestinationRule \
///      defines the subset `v2` of `shop.default.svc.cluster.local`, so its requests get 503; did you mean `v1`?"
/// );
/// # Ok::<(), pointsman::resource::LoadError>(())
/// ```
pub fn analyze(resources: &Resources, mesh: Option<(&Mesh, &Viewpoint)>) -> Report {
    let context = Context::new(resources, mesh);
    let notes = notes::Notes::new(&context);
    let mut all = reading::check(resources);
    let (mut services, mut rules) = (HashSet::new(), HashSet::new());
    for document in &resources.documents {
        match document.content {
            Content::VirtualService(at) => services.insert(at),
            Content::DestinationRule(at) => rules.insert(at),
            Content::Unreadable => false,
        };
        let report = context.judge(document.content, &document.value, super::apply(&document.value), &notes);
        let source = document.source_name.as_ref();
        all.diagnostics.extend(report.diagnostics.into_iter().map(|mut one| {
            one.source = source.cloned();
            one
        }));
    }
    // Resources that a program made have no document; they are judged by their own tree.
    for (at, service) in resources.virtual_services.iter().enumerate().filter(|(at, _)| !services.contains(at)) {
        let report = context.judge(Content::VirtualService(at), &service.to_value(), service.validate(), &notes);
        all.diagnostics.extend(report.diagnostics);
    }
    for (at, rule) in resources.destination_rules.iter().enumerate().filter(|(at, _)| !rules.contains(at)) {
        let report = context.judge(Content::DestinationRule(at), &rule.to_value(), rule.validate(), &notes);
        all.diagnostics.extend(report.diagnostics);
    }
    all
}

/// What analyzers look things up in.
struct Context<'a> {
    resources: &'a Resources,
    mesh: Option<(&'a Mesh, &'a Viewpoint)>,
    domain: &'a str,
    /// The registry by host, and those of its hosts that are wildcards.
    services: HashMap<&'a str, &'a Service>,
    wildcard_services: Vec<&'a Service>,
    /// Hosts of the registry by what follows their first label, and by that label.
    by_ending: HashMap<&'a str, Vec<&'a str>>,
    by_label: HashMap<&'a str, Vec<&'a str>>,
    /// DestinationRules by the host that they are for, and those for wildcards.
    rules: HashMap<String, Vec<&'a DestinationRule>>,
    wildcard_rules: Vec<(String, &'a DestinationRule)>,
    /// VirtualServices by `namespace/name`; of several the first.
    by_name: HashMap<String, &'a VirtualService>,
    /// DestinationRules by `namespace/name`; of several the first.
    rules_by_name: HashMap<String, &'a DestinationRule>,
    /// VirtualServices by the scope and host that they claim in sidecars.
    claims: conflicts::Claims<'a>,
    /// Subsets that some route names: (host, subset).
    used_subsets: HashSet<(String, &'a str)>,
    documents: HashMap<Content, &'a Document>,
}

impl<'a> Context<'a> {
    fn new(resources: &'a Resources, mesh: Option<(&'a Mesh, &'a Viewpoint)>) -> Context<'a> {
        let mut context = Context {
            resources,
            mesh,
            domain: mesh.map_or("cluster.local", |(mesh, _)| mesh.mesh_config.cluster_domain.as_str()),
            services: HashMap::new(),
            wildcard_services: Vec::new(),
            by_ending: HashMap::new(),
            by_label: HashMap::new(),
            rules: HashMap::new(),
            wildcard_rules: Vec::new(),
            by_name: HashMap::new(),
            rules_by_name: HashMap::new(),
            claims: conflicts::Claims::default(),
            used_subsets: HashSet::new(),
            documents: resources.documents.iter().map(|document| (document.content, document)).collect(),
        };
        for service in mesh.iter().flat_map(|(mesh, _)| &mesh.services) {
            context.services.entry(&service.host).or_insert(service);
            let (label, ending) = service.host.split_once('.').unwrap_or((&service.host, ""));
            context.by_ending.entry(ending).or_default().push(&service.host);
            context.by_label.entry(label).or_default().push(&service.host);
            if hosts::is_wildcard(&service.host) {
                context.wildcard_services.push(service);
            }
        }
        for rule in &resources.destination_rules {
            let host = context.expand(&rule.spec.host, &rule.metadata);
            if hosts::is_wildcard(&host) {
                context.wildcard_rules.push((host.clone(), rule));
            }
            context.rules.entry(host).or_default().push(rule);
            context.rules_by_name.entry(context.qualified(&rule.metadata)).or_insert(rule);
        }
        for service in &resources.virtual_services {
            context.by_name.entry(context.qualified(&service.metadata)).or_insert(service);
            let used = destinations::all(service).filter(|(_, destination, _)| !destination.subset.is_empty());
            for (_, destination, _) in used {
                let host = context.expand(&destination.host, &service.metadata);
                context.used_subsets.insert((host, &destination.subset));
            }
        }
        context.claims = conflicts::Claims::new(&context);
        context
    }

    /// Everything about one resource: what a layer said already, and what the analyzers add if it is accepted.
    fn judge(&self, content: Content, document: &Value, mut report: Report, notes: &notes::Notes) -> Report {
        if !report.is_accepted() {
            return report;
        }
        let mut more = Report::default();
        let annotations = match content {
            Content::VirtualService(at) => {
                let Some(service) = self.resources.virtual_services.get(at) else { return report };
                for check in VIRTUAL_SERVICE {
                    check(service, self, &mut more);
                }
                weights::check(service, document, &mut more);
                notes.add(VirtualService::KIND, &self.qualified(&service.metadata), &mut more);
                &service.metadata.annotations
            }
            Content::DestinationRule(at) => {
                let Some(rule) = self.resources.destination_rules.get(at) else { return report };
                for check in DESTINATION_RULE {
                    check(rule, self, &mut more);
                }
                notes.add(DestinationRule::KIND, &self.qualified(&rule.metadata), &mut more);
                &rule.metadata.annotations
            }
            Content::Unreadable => return report,
        };
        report.diagnostics.extend(more.place(document).diagnostics);
        once(&mut report);
        if let Some(silenced) = annotations.get(SUPPRESS) {
            suppress(silenced, &mut report);
        }
        report
    }

    /// A resource's namespace; `default` where the document does not say one.
    fn namespace<'m>(&self, metadata: &'m ObjectMeta) -> &'m str {
        if metadata.namespace.is_empty() { "default" } else { &metadata.namespace }
    }

    fn qualified(&self, metadata: &ObjectMeta) -> String {
        format!("{}/{}", self.namespace(metadata), metadata.name)
    }

    /// A host as the resource means it.
    fn expand(&self, host: &str, metadata: &ObjectMeta) -> String {
        hosts::expand(host, self.namespace(metadata), self.domain)
    }

    /// The service of a host, or one whose wildcard has it.
    fn service(&self, host: &str) -> Option<&'a Service> {
        let covers = |service: &&&Service| hosts::overlap(host, &service.host);
        self.services.get(host).or_else(|| self.wildcard_services.iter().find(covers)).copied()
    }

    /// The host of the registry that was meant by one that is not in it: one that lacks its ending, one whose first label is
    /// nearly the same, or one of another namespace. Only parts are compared: long endings make every two hosts look alike.
    fn meant(&self, host: &str) -> Option<&'a str> {
        let endings = [format!("{host}.svc.{}", self.domain), format!("{host}.{}", self.domain)];
        let whole = endings.iter().find_map(|name| self.services.get(name.as_str()));
        if let Some(service) = whole {
            return Some(&service.host);
        }
        let (label, ending) = host.split_once('.').unwrap_or((host, ""));
        let labels =
            self.by_ending.get(ending).into_iter().flatten().map(|known| known.split('.').next().unwrap_or(known));
        let near = nearest(label, labels).and_then(|near| self.services.get(format!("{near}.{ending}").as_str()));
        near.map(|service| service.host.as_str())
            .or_else(|| self.by_label.get(label).and_then(|hosts| hosts.first().copied()))
    }

    /// The DestinationRules whose host has this one.
    fn rules_for<'c>(&'c self, host: &'c str) -> impl Iterator<Item = &'a DestinationRule> + 'c {
        let exact = self.rules.get(host).into_iter().flatten().copied();
        let wider = self.wildcard_rules.iter().filter(move |(ruled, _)| ruled != host && hosts::is_subset(host, ruled));
        exact.chain(wider.map(|(_, rule)| *rule))
    }

    /// A place in another VirtualService.
    fn related(&self, service: &VirtualService, path: &str, message: impl Into<String>) -> Related {
        let at = self.resources.virtual_services.iter().position(|one| std::ptr::eq(one, service));
        let content = at.map(Content::VirtualService);
        self.place(content, VirtualService::KIND, &service.metadata, path, message.into())
    }

    /// A place in another DestinationRule.
    fn related_rule(&self, rule: &DestinationRule, path: &str, message: impl Into<String>) -> Related {
        let at = self.resources.destination_rules.iter().position(|one| std::ptr::eq(one, rule));
        let content = at.map(Content::DestinationRule);
        self.place(content, DestinationRule::KIND, &rule.metadata, path, message.into())
    }

    fn place(
        &self,
        content: Option<Content>,
        kind: &str,
        metadata: &ObjectMeta,
        path: &str,
        message: String,
    ) -> Related {
        let document = content.and_then(|content| self.documents.get(&content));
        let (namespace, name) = (metadata.namespace.clone(), metadata.name.clone());
        let id = ResourceId { kind: kind.to_owned(), namespace, name };
        Related {
            resource: Some(Arc::new(id)),
            source: document.and_then(|document| document.source_name.clone()),
            path: path.to_owned(),
            position: document.and_then(|document| super::report::locate(&document.value, path)),
            message,
        }
    }
}

type Analyzer<R> = fn(&R, &Context<'_>, &mut Report);

const VIRTUAL_SERVICE: &[Analyzer<VirtualService>] = &[
    destinations::check,
    delegates::check,
    gateways::check,
    conflicts::check,
    reach::check,
    patterns::check,
    timing::check,
    deprecated::check,
];

const DESTINATION_RULE: &[Analyzer<DestinationRule>] =
    &[subsets::check, conflicts::check_rule, ejection::check, tls::check];

const SUPPRESS: &str = "galley.istio.io/analyze-suppress";

/// Silences what an annotation names.
fn suppress(codes: &str, report: &mut Report) {
    let named: Vec<&str> = codes.split(',').collect();
    report.diagnostics.retain(|one| {
        let istio = super::codes::find(one.code).and_then(|info| info.istio(one.severity));
        !named.iter().any(|name| *name == "*" || *name == one.code || Some(*name) == istio)
    });
}

/// The webhook's warnings about rules that are never reached give way where the same place has a finding with a witness;
/// those that may be wrong (Istio calls them information) are information.
fn once(report: &mut Report) {
    let proven: HashSet<String> = report
        .diagnostics
        .iter()
        .filter(|one| matches!(one.code, "PM-020" | "PM-021"))
        .map(|one| one.path.clone())
        .collect();
    let rule_of = |path: &str| path.split(".match[").next().unwrap_or_default().to_owned();
    report.diagnostics.retain(|one| {
        let doubled = one.code.starts_with("VS-WARN")
            && (proven.contains(&rule_of(&one.path)) || proven.contains(one.path.trim_end_matches(".uri")));
        !doubled
    });
    for one in report.diagnostics.iter_mut().filter(|one| matches!(one.code, "VS-WARN-003" | "VS-WARN-005")) {
        one.severity = Severity::Info;
    }
}

/// The nearest of some names, for a suggestion.
fn nearest<'n>(name: &str, known: impl IntoIterator<Item = &'n str>) -> Option<&'n str> {
    // Sorted, so that of equally near ones always the same is named.
    let known: BTreeMap<&str, ()> = known.into_iter().map(|known| (known, ())).collect();
    let known: Vec<&str> = known.into_keys().collect();
    crate::resource::nearest::nearest(name, &known)
}
