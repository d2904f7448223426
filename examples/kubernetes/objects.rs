//! Objects of a cluster to [`Resources`] and a [`Mesh`]: plain data in, plain data out.
//!
//! | kind | what is kept of it |
//! |---|---|
//! | `VirtualService`, `DestinationRule` | name, labels, age, generation, spec |
//! | `Service` | ports, cluster IP, type |
//! | `EndpointSlice` | addresses, ports, conditions, zone, which pod |
//! | `Pod` | its labels: subsets select by them, and slices do not have them |
//!
//! Each object is read on its own. One that cannot be read is told ([`Objects::faults`]) and changes nothing: its own last
//! good version stays in force, and so does everything else. Reading it right once, or deleting it, is all it takes.
//!
//! Managed fields, status and the applied configuration in an annotation are dropped when an object comes: they are most
//! of an object's bytes, and no part of any decision.

use super::mesh;
use k8s_openapi::api::core::v1::Service;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use pointsman::Resources;
use pointsman::mesh::{Labels, Mesh};
use pointsman::resource::{Loader, Problem};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

/// The kinds that are watched.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    VirtualService,
    DestinationRule,
    Service,
    EndpointSlice,
    Pod,
}

impl Kind {
    pub const ALL: [Kind; 5] =
        [Kind::VirtualService, Kind::DestinationRule, Kind::Service, Kind::EndpointSlice, Kind::Pod];

    /// As Kubernetes spells it.
    pub fn name(self) -> &'static str {
        match self {
            Kind::VirtualService => "VirtualService",
            Kind::DestinationRule => "DestinationRule",
            Kind::Service => "Service",
            Kind::EndpointSlice => "EndpointSlice",
            Kind::Pod => "Pod",
        }
    }

    /// Group (empty for the core), version and the plural in paths.
    pub fn api(self) -> (&'static str, &'static str, &'static str) {
        match self {
            Kind::VirtualService => ("networking.istio.io", "v1", "virtualservices"),
            Kind::DestinationRule => ("networking.istio.io", "v1", "destinationrules"),
            Kind::Service => ("", "v1", "services"),
            Kind::EndpointSlice => ("discovery.k8s.io", "v1", "endpointslices"),
            Kind::Pod => ("", "v1", "pods"),
        }
    }

    /// `apiVersion` of its objects.
    pub fn api_version(self) -> String {
        match self.api() {
            ("", version, _) => version.to_owned(),
            (group, version, _) => format!("{group}/{version}"),
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Namespace and name.
pub type Key = (String, String);

/// Every object that the cluster has of the kinds that are watched.
#[derive(Default)]
pub struct Objects {
    held: BTreeMap<Kind, BTreeMap<Key, Held>>,
    /// What a list that is under way has shown so far.
    listed: BTreeMap<Kind, BTreeSet<Key>>,
}

/// One object.
#[derive(Default)]
struct Held {
    /// Its last version that could be read, and that version's generation.
    good: Option<(Parsed, i64)>,
    /// Why its newest version could not be read.
    fault: Option<Fault>,
}

struct Fault {
    generation: i64,
    message: String,
}

enum Parsed {
    /// One resource of either kind, and what was odd about it.
    Policy(Box<Resources>),
    Service(Box<Service>),
    Slice(Box<EndpointSlice>),
    Pod(Labels),
}

/// What a cluster's objects come to.
pub struct View {
    pub resources: Resources,
    pub mesh: Mesh,
    /// What was left out of the mesh, and why.
    pub notes: Vec<String>,
}

impl Objects {
    /// The object came, or changed. False: nothing that matters did.
    pub fn apply(&mut self, kind: Kind, mut object: Value) -> bool {
        let Some(key) = slim(&mut object) else { return false };
        if let Some(listed) = self.listed.get_mut(&kind) {
            listed.insert(key.clone());
        }
        let generation = object["metadata"]["generation"].as_i64().unwrap_or(0);
        let held = self.held.entry(kind).or_default().entry(key).or_default();
        match parse(kind, object) {
            Ok(parsed) => {
                let same = held.fault.is_none()
                    && matches!((&held.good, &parsed), (Some((Parsed::Pod(old), _)), Parsed::Pod(new)) if old == new);
                *held = Held { good: Some((parsed, generation)), fault: None };
                !same
            }
            Err(message) => {
                held.fault = Some(Fault { generation, message });
                true
            }
        }
    }

    /// The object is gone. False: it was not there.
    pub fn remove(&mut self, kind: Kind, namespace: &str, name: &str) -> bool {
        let key = (namespace.to_owned(), name.to_owned());
        self.held.get_mut(&kind).is_some_and(|held| held.remove(&key).is_some())
    }

    /// A list begins: everything that there is will be applied again.
    pub fn list_begins(&mut self, kind: Kind) {
        self.listed.insert(kind, BTreeSet::new());
    }

    /// A list is over: whatever it did not show was deleted while nobody watched.
    pub fn list_ends(&mut self, kind: Kind) {
        if let (Some(listed), Some(held)) = (self.listed.remove(&kind), self.held.get_mut(&kind)) {
            held.retain(|key, _| listed.contains(key));
        }
    }

    /// How many objects there are.
    pub fn len(&self) -> usize {
        self.held.values().map(BTreeMap::len).sum()
    }

    /// Objects that could not be read: one line each, in order.
    pub fn faults(&self) -> Vec<String> {
        let all = self.held.iter().flat_map(|(kind, held)| held.iter().map(move |(key, one)| (kind, key, one)));
        all.filter_map(|(kind, (namespace, name), held)| {
            let Fault { generation, message } = held.fault.as_ref()?;
            let stays = match &held.good {
                Some((_, good)) => format!("; generation {good} stays in force"),
                None => String::new(),
            };
            Some(format!("{kind} {namespace}/{name}: generation {generation}: {message}{stays}"))
        })
        .collect()
    }

    /// Policy and mesh.
    pub fn view(&self) -> View {
        let mut resources = Resources::default();
        let (mut services, mut slices, mut pods) = (Vec::new(), Vec::new(), BTreeMap::new());
        for (key, held) in self.held.values().flatten() {
            match &held.good {
                Some((Parsed::Policy(policy), _)) => resources.append((**policy).clone()),
                Some((Parsed::Service(service), _)) => services.push(&**service),
                Some((Parsed::Slice(slice), _)) => slices.push(&**slice),
                Some((Parsed::Pod(labels), _)) => drop(pods.insert((key.0.as_str(), key.1.as_str()), labels)),
                None => {}
            }
        }
        let (mesh, notes) = mesh::of(&services, &slices, &pods);
        View { resources, mesh, notes }
    }
}

/// Drops what is of no use, and says whose object it is. None: it has no name, so it is no object.
fn slim(object: &mut Value) -> Option<Key> {
    if let Some(object) = object.as_object_mut() {
        object.remove("status");
    }
    let metadata = object.get_mut("metadata")?.as_object_mut()?;
    metadata.remove("managedFields");
    if let Some(annotations) = metadata.get_mut("annotations").and_then(Value::as_object_mut) {
        annotations.remove("kubectl.kubernetes.io/last-applied-configuration");
    }
    let text = |name: &str| metadata.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
    Some((text("namespace"), text("name"))).filter(|(_, name)| !name.is_empty())
}

fn parse(kind: Kind, mut object: Value) -> Result<Parsed, String> {
    let typed = |error: serde_json::Error| error.to_string();
    match kind {
        Kind::VirtualService | Kind::DestinationRule => {
            // A list's items may leave out what is the same for all of them.
            if let Some(object) = object.as_object_mut() {
                object.entry("apiVersion").or_insert_with(|| kind.api_version().into());
                object.entry("kind").or_insert_with(|| kind.name().into());
            }
            policy(&object).map(|policy| Parsed::Policy(Box::new(policy)))
        }
        Kind::Service => serde_json::from_value(object).map(Parsed::Service).map_err(typed),
        Kind::EndpointSlice => serde_json::from_value(object).map(Parsed::Slice).map_err(typed),
        Kind::Pod => match object["metadata"].get("labels") {
            Some(labels) => serde_json::from_value(labels.clone()).map(Parsed::Pod).map_err(typed),
            None => Ok(Parsed::Pod(Labels::new())),
        },
    }
}

/// One resource, read by the crate as it reads files.
fn policy(object: &Value) -> Result<Resources, String> {
    let read = Loader::new().with_source("cluster").json(&object.to_string());
    let mut resources = read.map_err(|error| error.to_string())?;
    // The text's places mean nothing to anybody, and nobody judges the writing.
    resources.documents.clear();
    resources.problems.iter_mut().for_each(|problem| problem.position = None);
    let errors: Vec<&Problem> = resources.errors().collect();
    if errors.is_empty() {
        return Ok(resources);
    }
    let lines = errors.iter().map(|problem| match problem.path.as_str() {
        "" => problem.message.clone(),
        path => format!("{path}: {}", problem.message),
    });
    Err(lines.collect::<Vec<_>>().join("; "))
}
