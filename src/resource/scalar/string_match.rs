//! How a string is matched.
//!
//! A oneof of three. If a document names several, the decoder takes the one that the API declares last; the schema
//! refuses such a document. None at all (`{}`) is a value of its own: for a header it asks for presence.

use crate::resource::decode::{Decoder, Field, expect_map, read, serde_by_tree};
use crate::resource::value::{Map, Value};

/// How a string is matched: whole, by its beginning, or by a regular expression over the whole of it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum StringMatch {
    /// Nothing is said (`{}`): the thing must be there, whatever it is.
    #[default]
    Unset,
    /// The whole string.
    Exact(String),
    /// The beginning.
    Prefix(String),
    /// A regular expression, in RE2's dialect, that matches the whole string.
    Regex(String),
}

impl StringMatch {
    /// The JSON names of the members, in the order of the CRD.
    pub const FIELDS: &'static [&'static str] = &["exact", "prefix", "regex"];

    /// The text to match with, if any.
    pub fn pattern(&self) -> Option<&str> {
        match self {
            Self::Unset => None,
            Self::Exact(text) | Self::Prefix(text) | Self::Regex(text) => Some(text),
        }
    }
}

impl Field for StringMatch {
    fn decode(value: &Value, decoder: &mut Decoder) -> Self {
        let Some(map) = expect_map(value, decoder) else { return Self::Unset };
        decoder.unknown_keys(map, Self::FIELDS, &[]);
        let exact: Option<String> = read(map, "exact", "exact", decoder);
        let prefix: Option<String> = read(map, "prefix", "prefix", decoder);
        let regex: Option<String> = read(map, "regex", "regex", decoder);
        regex.map(Self::Regex).or(prefix.map(Self::Prefix)).or(exact.map(Self::Exact)).unwrap_or_default()
    }

    fn encode(&self) -> Value {
        let mut map = Map::new();
        match self {
            Self::Unset => {}
            Self::Exact(text) => map.push("exact", text.as_str().into()),
            Self::Prefix(text) => map.push("prefix", text.as_str().into()),
            Self::Regex(text) => map.push("regex", text.as_str().into()),
        }
        map.into()
    }

    fn is_unset(&self) -> bool {
        false
    }
}

serde_by_tree!(StringMatch);
