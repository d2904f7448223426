//! What the two kinds have in common with every Kubernetes object.

use std::collections::BTreeMap;

use super::decode::{Decoder, Field, expect_map, read, serde_by_tree, write};
use super::value::{Map, Value};

/// The API group of both kinds.
pub const GROUP: &str = "networking.istio.io";

/// The versions of the API group that are served. Their schemas are the same; the first is the one to write.
pub const VERSIONS: [&str; 3] = ["v1", "v1beta1", "v1alpha3"];

/// Whether an `apiVersion` is one of the three that are served.
pub fn is_served(api_version: &str) -> bool {
    api_version.split_once('/').is_some_and(|(group, version)| group == GROUP && VERSIONS.contains(&version))
}

/// A Kubernetes object's metadata: what matters here as fields, all the rest kept as it was.
#[derive(Debug, Clone, Default, PartialEq)]
#[non_exhaustive]
pub struct ObjectMeta {
    /// The name, unique in its namespace for its kind.
    pub name: String,
    /// The namespace; empty where the document does not say it.
    pub namespace: String,
    /// Labels.
    pub labels: BTreeMap<String, String>,
    /// Annotations.
    pub annotations: BTreeMap<String, String>,
    /// When the object was made, in RFC 3339 (`2024-01-31T12:00:00Z`); empty where the document does not say it. Older
    /// resources win conflicts.
    pub creation_timestamp: String,
    /// Every other field of the metadata (`generation`, `ownerReferences`, …), as it was.
    pub other: BTreeMap<String, Value>,
}

impl ObjectMeta {
    /// Metadata of a name and a namespace.
    pub fn new(name: impl Into<String>, namespace: impl Into<String>) -> Self {
        Self { name: name.into(), namespace: namespace.into(), ..Self::default() }
    }

    const FIELDS: [&'static str; 5] = ["name", "namespace", "labels", "annotations", "creationTimestamp"];
}

impl Field for ObjectMeta {
    fn decode(value: &Value, decoder: &mut Decoder) -> Self {
        let Some(map) = expect_map(value, decoder) else { return Self::default() };
        Self {
            name: read(map, "name", "name", decoder),
            namespace: read(map, "namespace", "namespace", decoder),
            labels: read(map, "labels", "labels", decoder),
            annotations: read(map, "annotations", "annotations", decoder),
            creation_timestamp: read(map, "creationTimestamp", "creationTimestamp", decoder),
            other: map
                .iter()
                .filter(|entry| !Self::FIELDS.contains(&entry.key.as_str()))
                .map(|entry| (entry.key.clone(), entry.value.clone()))
                .collect(),
        }
    }

    fn encode(&self) -> Value {
        let mut map = Map::new();
        write(&mut map, "name", false, &self.name);
        write(&mut map, "namespace", false, &self.namespace);
        write(&mut map, "labels", false, &self.labels);
        write(&mut map, "annotations", false, &self.annotations);
        write(&mut map, "creationTimestamp", false, &self.creation_timestamp);
        for (key, value) in self.other.iter().filter(|(key, _)| !Self::FIELDS.contains(&key.as_str())) {
            map.push(key.as_str(), value.clone());
        }
        map.into()
    }

    fn is_unset(&self) -> bool {
        *self == Self::default()
    }
}

serde_by_tree!(ObjectMeta);

/// A resource with what reading it found besides.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Decoded<T> {
    /// The resource.
    pub resource: T,
    /// The fields that were not known.
    pub unknown_fields: Vec<super::UnknownField>,
    /// How many more unknown fields there were than are listed.
    pub unlisted: usize,
}

/// Declares one kind: the envelope around its spec, and how it is read and written.
macro_rules! kind {
    ($(#[$meta:meta])* pub struct $name:ident { spec: $spec:ident }) => {
        $(#[$meta])*
        #[derive(Debug, Clone, PartialEq)]
        #[non_exhaustive]
        pub struct $name {
            /// The API version it was written for.
            pub api_version: String,
            /// Name, namespace, labels and the rest.
            pub metadata: $crate::resource::ObjectMeta,
            /// What it asks for.
            pub spec: $spec,
            /// What the control plane wrote back, as it was. It has no part in any decision.
            pub status: $crate::resource::Value,
        }

        impl $name {
            /// The kind's name.
            pub const KIND: &'static str = stringify!($name);

            /// A resource of the newest API version.
            pub fn new(name: impl Into<String>, namespace: impl Into<String>, spec: $spec) -> Self {
                Self {
                    metadata: $crate::resource::ObjectMeta::new(name, namespace),
                    spec,
                    ..Self::default()
                }
            }

            /// Reads it from a document's tree. Everything that is wrong is told at once.
            pub fn from_value(
                value: &$crate::resource::Value,
            ) -> Result<$crate::resource::Decoded<Self>, $crate::resource::Findings> {
                let mut decoder = $crate::resource::decode::Decoder::default();
                let resource = <Self as $crate::resource::decode::Field>::decode(value, &mut decoder);
                let findings = decoder.findings;
                if findings.errors.is_empty() {
                    let (unknown_fields, unlisted) = (findings.unknown_fields, findings.unlisted);
                    Ok($crate::resource::Decoded { resource, unknown_fields, unlisted })
                } else {
                    Err(findings)
                }
            }

            /// Writes it as a tree: the CRD's spelling and order, empty fields left out.
            pub fn to_value(&self) -> $crate::resource::Value {
                $crate::resource::decode::Field::encode(self)
            }
        }

        impl Default for $name {
            fn default() -> Self {
                Self {
                    api_version: format!("{}/{}", $crate::resource::GROUP, $crate::resource::VERSIONS[0]),
                    metadata: Default::default(),
                    spec: Default::default(),
                    status: $crate::resource::Value::NULL,
                }
            }
        }

        impl $crate::resource::decode::Field for $name {
            fn decode(
                value: &$crate::resource::Value,
                decoder: &mut $crate::resource::decode::Decoder,
            ) -> Self {
                const FIELDS: &[&str] = &["apiVersion", "kind", "metadata", "spec", "status"];
                let Some(map) = $crate::resource::decode::expect_map(value, decoder) else {
                    return Self::default();
                };
                decoder.unknown_keys(map, FIELDS, &[]);
                let kind: String = $crate::resource::decode::read(map, "kind", "kind", decoder);
                if !kind.is_empty() && kind != Self::KIND {
                    decoder.error(map.get("kind").unwrap_or(value), || {
                        format!("expected the kind `{}`, found `{}`", Self::KIND, $crate::resource::value::clip(&kind))
                    });
                }
                Self {
                    api_version: $crate::resource::decode::read(map, "apiVersion", "apiVersion", decoder),
                    metadata: $crate::resource::decode::read(map, "metadata", "metadata", decoder),
                    spec: $crate::resource::decode::read(map, "spec", "spec", decoder),
                    status: map.get("status").cloned().unwrap_or($crate::resource::Value::NULL),
                }
            }

            fn encode(&self) -> $crate::resource::Value {
                let mut map = $crate::resource::Map::new();
                map.push("apiVersion", self.api_version.as_str().into());
                map.push("kind", Self::KIND.into());
                map.push("metadata", $crate::resource::decode::Field::encode(&self.metadata));
                map.push("spec", $crate::resource::decode::Field::encode(&self.spec));
                if !self.status.is_null() {
                    map.push("status", self.status.clone());
                }
                map.into()
            }

            fn is_unset(&self) -> bool {
                false
            }
        }

        $crate::resource::decode::serde_by_tree!($name);
    };
}

pub(crate) use kind;
