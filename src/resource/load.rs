//! Many documents to resources.
//!
//! A text holds any number of documents, in any order, of any kind. Those of the two kinds become resources; lists
//! (`kind: List`, `VirtualServiceList`, …) are looked into; other kinds are counted by name. A document that cannot be
//! read, or a resource that Istio's decoder would refuse, becomes a [`Problem`], and the rest is kept: only a text
//! that is too large as a whole is refused as a whole.
//!
//! Each document of the two kinds also stays as it was written ([`Document`]), for those who judge the writing.
//!
//! A text that begins with `{` is tried as JSON first, as Kubernetes' tools do. Cost: linear in the text, under
//! [`Limits`].

use std::collections::BTreeMap;
use std::sync::Arc;

use super::decode::{Field, Findings};
use super::meta::{Decoded, GROUP, VERSIONS, is_served};
use super::nearest::nearest;
use super::problem::{Problem, ProblemKind, ResourceId, Severity};
use super::text::json::Reader;
use super::text::{Limits, TextError, print};
use super::value::{Map, Position, Value, clip};
use super::{DestinationRule, VirtualService};

/// What was read from one or more texts.
///
/// ```
/// use pointsman::resource::Resources;
///
/// let text = r#"{"apiVersion": "networking.istio.io/v1", "kind": "DestinationRule",
///     "metadata": {"name": "reviews"}, "spec": {"host": "reviews", "subset": []}}"#;
/// let resources = Resources::from_json(text)?;
/// assert_eq!(resources.destination_rules[0].spec.host, "reviews");
/// assert_eq!(
///     resources.problems[0].to_string(),
///     "document 1:2:66: DestinationRule reviews: spec.subset: unknown field; did you mean `subsets`?"
/// );
/// # Ok::<(), pointsman::resource::LoadError>(())
/// ```
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct Resources {
    /// The VirtualServices, in the order of the text.
    pub virtual_services: Vec<VirtualService>,
    /// The DestinationRules, in the order of the text.
    pub destination_rules: Vec<DestinationRule>,
    /// Every resource of the two kinds as it was written, also those that could not be read.
    pub documents: Vec<Document>,
    /// How many objects of other kinds were passed over, by `group/Kind`.
    pub skipped: BTreeMap<String, usize>,
    /// What there is to say.
    pub problems: Vec<Problem>,
    /// How many more problems there were than the limit lets be written down.
    pub unlisted_problems: usize,
}

/// A resource as it was written.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Document {
    /// The name of the source, if it has one.
    pub source_name: Option<Arc<str>>,
    /// The document in the source, from 1. The items of a list share it.
    pub number: usize,
    /// Which resource it says it is.
    pub id: ResourceId,
    /// The tree.
    pub value: Value,
    /// What became of it.
    pub content: Content,
}

/// What became of a document: the place of its resource in [`Resources`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Content {
    /// An index of `virtual_services`.
    VirtualService(usize),
    /// An index of `destination_rules`.
    DestinationRule(usize),
    /// It could not be read; `problems` says why.
    Unreadable,
}

/// Why a text was refused as a whole.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum LoadError {
    /// It is too long.
    #[error("the text has {found} bytes; at most {limit} are read")]
    TooLong {
        /// Its length in bytes.
        found: usize,
        /// The limit.
        limit: usize,
    },
    /// It has too many documents.
    #[error("the text has more than {limit} documents")]
    TooManyDocuments {
        /// The limit.
        limit: usize,
    },
}

/// Reads texts; says where they come from and how much they may ask.
///
/// ```
/// use pointsman::resource::Loader;
///
/// let resources = Loader::new().with_source("routes.json").json("[1]")?;
/// assert_eq!(resources.problems[0].to_string(), "routes.json:1:1: expected a Kubernetes object, found a list");
/// # Ok::<(), pointsman::resource::LoadError>(())
/// ```
#[derive(Debug, Clone, Default)]
pub struct Loader {
    source: Option<Arc<str>>,
    limits: Limits,
}

impl Loader {
    /// A loader with the default limits and a source without a name.
    pub fn new() -> Self {
        Self::default()
    }

    /// Names the source in problems.
    pub fn with_source(mut self, name: impl Into<Arc<str>>) -> Self {
        self.source = Some(name.into());
        self
    }

    /// Sets the limits.
    pub fn with_limits(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self
    }

    /// Reads YAML: any number of documents. A document that is JSON is read as JSON.
    #[cfg(feature = "yaml")]
    pub fn yaml(&self, text: &str) -> Result<Resources, LoadError> {
        use super::text::{split, yaml};

        self.check_length(text)?;
        let mut found = Collector::new(self);
        for (index, chunk) in split::documents(text).enumerate() {
            let number = index + 1;
            if number > self.limits.documents {
                return Err(LoadError::TooManyDocuments { limit: self.limits.documents });
            }
            if let Err(error) = self.check_document(chunk.text.len(), chunk.line) {
                found.unreadable(number, error, guess(chunk.text));
                continue;
            }
            let parsed = match json_document(chunk.text, chunk.line, &self.limits) {
                Some(value) => Ok(value),
                None => yaml::read(chunk, &self.limits),
            };
            match parsed {
                Ok(value) => found.document(number, value),
                Err(error) => found.unreadable(number, error, guess(chunk.text)),
            }
        }
        Ok(found.resources)
    }

    /// Reads JSON: any number of values one after another. What stands behind an error is not read.
    pub fn json(&self, text: &str) -> Result<Resources, LoadError> {
        self.check_length(text)?;
        let mut found = Collector::new(self);
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        let mut reader = Reader::new(text, 1, &self.limits);
        let mut number = 0;
        while !reader.at_end() {
            number += 1;
            if number > self.limits.documents {
                return Err(LoadError::TooManyDocuments { limit: self.limits.documents });
            }
            reader.refill(&self.limits);
            let start = reader.offset();
            let parsed = reader.value().and_then(|value| {
                let line = value.position.map_or(1, |position| position.line);
                self.check_document(reader.offset() - start, line).map(|()| value)
            });
            match parsed {
                Ok(value) => found.document(number, value),
                Err(error) => {
                    found.unreadable(number, error, None);
                    break;
                }
            }
        }
        Ok(found.resources)
    }

    fn check_length(&self, text: &str) -> Result<(), LoadError> {
        let (found, limit) = (text.len(), self.limits.bytes);
        if found > limit { Err(LoadError::TooLong { found, limit }) } else { Ok(()) }
    }

    fn check_document(&self, found: usize, line: usize) -> Result<(), TextError> {
        let limit = self.limits.document_bytes;
        if found <= limit {
            return Ok(());
        }
        let message = format!("the document has {found} bytes; at most {limit} are read");
        Err(TextError::new(Some(Position { line, column: 1 }), message))
    }
}

/// The document as JSON, if it looks like that and is.
#[cfg(feature = "yaml")]
fn json_document(text: &str, line: usize, limits: &Limits) -> Option<Value> {
    if !text.trim_start().starts_with('{') {
        return None;
    }
    let mut reader = Reader::new(text, line, limits);
    let value = reader.value().ok()?;
    reader.at_end().then_some(value)
}

impl Resources {
    /// Reads YAML with the default limits. See [`Loader::yaml`].
    ///
    /// Only a text beyond the limits is an error; look into `problems` for what could not be taken.
    ///
    /// ```
    /// use pointsman::resource::Resources;
    ///
    /// let resources = Resources::from_yaml("
    /// apiVersion: networking.istio.io/v1
    /// kind: VirtualService
    /// metadata: {name: reviews, namespace: shop}
    /// spec:
    ///   hosts: [reviews]
    ///   http:
    ///   - route:
    ///     - destination: {host: reviews}
    ///     timeot: 5s
    /// ---
    /// apiVersion: v1
    /// kind: ConfigMap
    /// ")?;
    /// assert_eq!(resources.virtual_services[0].spec.hosts, ["reviews"]);
    /// assert_eq!(resources.skipped["v1/ConfigMap"], 1);
    /// assert_eq!(
    ///     resources.problems[0].to_string(),
    ///     "document 1:10:5: VirtualService shop/reviews: spec.http[0].timeot: unknown field; did you mean `timeout`?"
    /// );
    /// # Ok::<(), pointsman::resource::LoadError>(())
    /// ```
    #[cfg(feature = "yaml")]
    pub fn from_yaml(text: &str) -> Result<Self, LoadError> {
        Loader::new().yaml(text)
    }

    /// Reads JSON with the default limits. See [`Loader::json`].
    pub fn from_json(text: &str) -> Result<Self, LoadError> {
        Loader::new().json(text)
    }

    /// Adds what was read from another text.
    pub fn append(&mut self, other: Self) {
        let (services, rules) = (self.virtual_services.len(), self.destination_rules.len());
        self.virtual_services.extend(other.virtual_services);
        self.destination_rules.extend(other.destination_rules);
        self.documents.extend(other.documents.into_iter().map(|mut document| {
            document.content = match document.content {
                Content::VirtualService(index) => Content::VirtualService(services + index),
                Content::DestinationRule(index) => Content::DestinationRule(rules + index),
                Content::Unreadable => Content::Unreadable,
            };
            document
        }));
        for (kind, count) in other.skipped {
            *self.skipped.entry(kind).or_default() += count;
        }
        self.problems.extend(other.problems);
        self.unlisted_problems += other.unlisted_problems;
    }

    /// The problems that cost a document or a resource.
    pub fn errors(&self) -> impl Iterator<Item = &Problem> {
        self.problems.iter().filter(|problem| problem.severity == Severity::Error)
    }

    /// Everything as YAML: the VirtualServices, then the DestinationRules, one document each.
    pub fn to_yaml(&self) -> String {
        let services = self.virtual_services.iter().map(VirtualService::to_yaml);
        let rules = self.destination_rules.iter().map(DestinationRule::to_yaml);
        services.chain(rules).collect::<Vec<_>>().join("---\n")
    }
}

impl VirtualService {
    /// One document of YAML: the CRD's spelling and order, empty fields left out.
    pub fn to_yaml(&self) -> String {
        print::yaml(&self.to_value())
    }

    /// A line of JSON.
    pub fn to_json(&self) -> String {
        print::json(&self.to_value())
    }
}

impl DestinationRule {
    /// One document of YAML: the CRD's spelling and order, empty fields left out.
    pub fn to_yaml(&self) -> String {
        print::yaml(&self.to_value())
    }

    /// A line of JSON.
    pub fn to_json(&self) -> String {
        print::json(&self.to_value())
    }
}

impl Value {
    /// Reads one YAML document as a tree, without asking what it is.
    #[cfg(feature = "yaml")]
    pub fn from_yaml(text: &str) -> Result<Self, Box<Problem>> {
        let limits = Limits::default();
        let mut chunks = super::text::split::documents(text);
        let value = match (chunks.next(), chunks.next()) {
            (None, _) => Ok(Self::NULL),
            (Some(chunk), None) => super::text::yaml::read(chunk, &limits),
            (Some(_), Some(next)) => {
                let position = Position { line: next.line, column: 1 };
                Err(TextError::new(Some(position), "expected one document, found another"))
            }
        };
        value.map_err(|error| Box::new(syntax(None, 1, error)))
    }

    /// Reads one JSON value as a tree, without asking what it is.
    pub fn from_json(text: &str) -> Result<Self, Box<Problem>> {
        let mut reader = Reader::new(text, 1, &Limits::default());
        let value = reader.value().map_err(|error| Box::new(syntax(None, 1, error)))?;
        if reader.at_end() {
            return Ok(value);
        }
        Err(Box::new(syntax(None, 1, TextError::new(value.position, "expected one value, found more behind it"))))
    }

    /// YAML in block style, with a line end.
    pub fn to_yaml(&self) -> String {
        print::yaml(self)
    }

    /// JSON without blanks.
    pub fn to_json(&self) -> String {
        print::json(self)
    }
}

fn syntax(source_name: Option<Arc<str>>, document: usize, error: TextError) -> Problem {
    Problem {
        severity: Severity::Error,
        kind: ProblemKind::Syntax,
        source_name,
        document,
        position: error.position,
        resource: None,
        path: String::new(),
        message: error.message,
        suggestion: None,
    }
}

/// The kinds of Istio's networking group beside the two.
const OTHER_KINDS: [&str; 7] =
    ["EnvoyFilter", "Gateway", "ProxyConfig", "ServiceEntry", "Sidecar", "WorkloadEntry", "WorkloadGroup"];

/// Sorts documents into resources.
struct Collector {
    source: Option<Arc<str>>,
    most_problems: usize,
    resources: Resources,
}

/// What a list says of items that do not say it themselves.
#[derive(Clone, Copy, Default)]
struct Inherited<'a> {
    api_version: Option<&'a str>,
    kind: Option<&'a str>,
}

impl Collector {
    fn new(loader: &Loader) -> Self {
        let most_problems = loader.limits.problems;
        Self { source: loader.source.clone(), most_problems, resources: Resources::default() }
    }

    fn say(&mut self, problem: Problem) {
        if self.resources.problems.len() < self.most_problems {
            self.resources.problems.push(problem);
        } else {
            self.resources.unlisted_problems += 1;
        }
    }

    fn unreadable(&mut self, document: usize, error: TextError, resource: Option<ResourceId>) {
        self.say(Problem { resource, ..syntax(self.source.clone(), document, error) });
    }

    fn envelope(&mut self, document: usize, id: Option<ResourceId>, at: &Value, path: &str, message: String) {
        let error = TextError::new(at.position, message);
        let problem = Problem {
            kind: ProblemKind::Envelope,
            resource: id.filter(|id| *id != ResourceId::default()),
            path: path.to_owned(),
            ..syntax(self.source.clone(), document, error)
        };
        self.say(problem);
    }

    fn document(&mut self, number: usize, value: Value) {
        self.object(number, value, Inherited::default());
    }

    /// One object, or a list of them. A list in a list is as deep as the tree, which has a limit.
    fn object(&mut self, number: usize, mut value: Value, inherited: Inherited<'_>) {
        if value.is_null() {
            return;
        }
        let Some(map) = value.as_map() else {
            let message = format!("expected a Kubernetes object, found {}", value.describe());
            return self.envelope(number, None, &value, "", message);
        };
        let text = |key: &str| map.get(key).and_then(Value::as_str).map(str::to_owned);
        let api_version = text("apiVersion").or(inherited.api_version.map(str::to_owned));
        let kind = text("kind").or(inherited.kind.map(str::to_owned));
        let id = identify(kind.as_deref().unwrap_or(""), map);
        let Some(kind) = kind else {
            let at = map.get("kind").unwrap_or(&value);
            return self.envelope(number, Some(id), at, "kind", missing(map.get("kind"), "VirtualService"));
        };
        if let (Some(item_kind), Some(items)) = (kind.strip_suffix("List"), map.get("items").and_then(Value::as_list)) {
            let of_item = Inherited {
                api_version: api_version.as_deref().filter(|_| !item_kind.is_empty()),
                kind: Some(item_kind).filter(|kind| !kind.is_empty()),
            };
            for item in items {
                self.object(number, item.clone(), of_item);
            }
            return;
        }
        let ours = kind == VirtualService::KIND || kind == DestinationRule::KIND;
        let Some(api_version) = api_version else {
            if ours {
                let found = map.get("apiVersion");
                let message = missing(found, &format!("{GROUP}/{}", VERSIONS[0]));
                return self.envelope(number, Some(id), found.unwrap_or(&value), "apiVersion", message);
            }
            return self.skip(number, id, &kind, "", map);
        };
        let group = api_version.split_once('/').map_or("", |(group, _)| group);
        if !ours || group != GROUP {
            return self.skip(number, id, &kind, &api_version, map);
        }
        if !is_served(&api_version) {
            let at = map.get("apiVersion").unwrap_or(&value);
            let message = format!(
                "the version `{}` is not served; expected one of {}",
                clip(&api_version),
                VERSIONS.map(|version| format!("`{GROUP}/{version}`")).join(", ")
            );
            self.envelope(number, Some(id.clone()), at, "apiVersion", message);
            return self.keep(number, id, value, Content::Unreadable);
        }
        fill_in(&mut value, &api_version, &kind);
        let content = if kind == VirtualService::KIND {
            let read = VirtualService::from_value(&value);
            self.read(number, &id, read, |resources| &mut resources.virtual_services).map(Content::VirtualService)
        } else {
            let read = DestinationRule::from_value(&value);
            self.read(number, &id, read, |resources| &mut resources.destination_rules).map(Content::DestinationRule)
        };
        self.keep(number, id, value, content.unwrap_or(Content::Unreadable));
    }

    /// Takes a resource, or says why not; in both cases also what else there is to say.
    fn read<T: Field>(
        &mut self,
        document: usize,
        id: &ResourceId,
        read: Result<Decoded<T>, Findings>,
        into: impl FnOnce(&mut Resources) -> &mut Vec<T>,
    ) -> Option<usize> {
        let (resource, findings) = match read {
            Ok(decoded) => {
                let Decoded { unknown_fields, unlisted, .. } = decoded;
                let findings = Findings { errors: Vec::new(), unknown_fields, unlisted };
                (Some(decoded.resource), findings)
            }
            Err(findings) => (None, findings),
        };
        let problem = |position, path, message| Problem {
            resource: Some(id.clone()),
            path,
            ..syntax(self.source.clone(), document, TextError { position, message })
        };
        let mut problems = Vec::new();
        for error in findings.errors {
            problems.push(Problem { kind: ProblemKind::Field, ..problem(error.position, error.path, error.message) });
        }
        for field in findings.unknown_fields {
            problems.push(Problem {
                severity: Severity::Warning,
                kind: ProblemKind::UnknownField,
                suggestion: field.suggestion,
                ..problem(field.position, field.path, "unknown field".to_owned())
            });
        }
        if findings.unlisted > 0 {
            let message = format!("and {} more problems like these", findings.unlisted);
            let (severity, kind) = match resource {
                Some(_) => (Severity::Warning, ProblemKind::UnknownField),
                None => (Severity::Error, ProblemKind::Field),
            };
            problems.push(Problem { severity, kind, ..problem(None, String::new(), message) });
        }
        for problem in problems {
            self.say(problem);
        }
        let into = into(&mut self.resources);
        resource.map(|resource| {
            into.push(resource);
            into.len() - 1
        })
    }

    fn keep(&mut self, number: usize, id: ResourceId, value: Value, content: Content) {
        let document = Document { source_name: self.source.clone(), number, id, value, content };
        self.resources.documents.push(document);
    }

    /// Passes over an object of another kind; says so where one of ours was probably meant.
    fn skip(&mut self, document: usize, id: ResourceId, kind: &str, api_version: &str, map: &Map) {
        let group = api_version.split_once('/').map_or("", |(group, _)| group);
        let group_or_version = if group.is_empty() { api_version } else { group };
        let separator = if group_or_version.is_empty() { "" } else { "/" };
        let name = format!("{}{separator}{}", clip(group_or_version), clip(kind));
        *self.resources.skipped.entry(name).or_default() += 1;
        if group != GROUP || OTHER_KINDS.contains(&kind) {
            return;
        }
        if let Some(meant) = nearest(kind, &[VirtualService::KIND, DestinationRule::KIND]) {
            let position = map.entry("kind").and_then(|entry| entry.value.position.or(entry.position));
            let message = format!("the kind `{}` is not known, the object was skipped", clip(kind));
            self.say(Problem {
                severity: Severity::Warning,
                kind: ProblemKind::UnknownKind,
                resource: Some(id),
                path: "kind".to_owned(),
                suggestion: Some(meant.to_owned()),
                ..syntax(self.source.clone(), document, TextError { position, message })
            });
        }
    }
}

fn missing(found: Option<&Value>, example: &str) -> String {
    match found {
        Some(value) => format!("expected a name such as `{example}`, found {}", value.describe()),
        None => format!("it is missing; expected a name such as `{example}`"),
    }
}

/// Writes into an item of a list what only the list said.
fn fill_in(value: &mut Value, api_version: &str, kind: &str) {
    if let super::Data::Map(map) = &mut value.data {
        for (key, text) in [("apiVersion", api_version), ("kind", kind)] {
            if map.get(key).is_none() {
                map.push(key, text.into());
            }
        }
    }
}

/// Which resource a text seems to be of, where it is no YAML that could be asked: by its lines, with `metadata` in block
/// style or as `{name: a, namespace: b}` on one line.
#[cfg(feature = "yaml")]
fn guess(text: &str) -> Option<ResourceId> {
    const FAR: usize = 200;
    let mut id = ResourceId::default();
    let mut in_metadata = false;
    for line in text.lines().take(FAR) {
        let Some((key, value)) = line.split_once(':') else { continue };
        let value = value.split(" #").next().unwrap_or("").trim().trim_matches(['"', '\'']);
        let nested = key.starts_with([' ', '\t']);
        if !nested {
            in_metadata = key == "metadata";
        }
        if in_metadata && !nested {
            for piece in value.trim_matches(['{', '}']).split(',') {
                match piece.split_once(':').map(|(key, value)| (key.trim(), value.trim().trim_matches(['"', '\'']))) {
                    Some(("name", value)) => set_if_plain(&mut id.name, value),
                    Some(("namespace", value)) => set_if_plain(&mut id.namespace, value),
                    _ => {}
                }
            }
        }
        let field = match key.trim() {
            "kind" if !nested => &mut id.kind,
            "name" if nested && in_metadata => &mut id.name,
            "namespace" if nested && in_metadata => &mut id.namespace,
            _ => continue,
        };
        set_if_plain(field, value);
    }
    (!id.kind.is_empty()).then_some(id)
}

/// Fills a field that is still empty with what looks like a name.
#[cfg(feature = "yaml")]
fn set_if_plain(field: &mut String, value: &str) {
    if field.is_empty() && value.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.')) {
        *field = bounded(value);
    }
}

/// A name as it is, unless it is longer than any Kubernetes name.
fn bounded(name: &str) -> String {
    const LONGEST: usize = 253;
    if name.len() <= LONGEST { name.to_owned() } else { clip(name) }
}

fn identify(kind: &str, map: &Map) -> ResourceId {
    let metadata = map.get("metadata");
    let text = |key: &str| metadata.and_then(|metadata| metadata.get(key)).and_then(Value::as_str).map(bounded);
    ResourceId {
        kind: clip(kind),
        namespace: text("namespace").unwrap_or_default(),
        name: text("name").unwrap_or_default(),
    }
}
