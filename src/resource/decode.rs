//! From a tree of [`Value`]s to typed messages, and back.
//!
//! The rules are those of the decoder that Istio uses for its protobuf messages, not those of serde:
//! - A field is known by its lowerCamelCase name and by its proto name in snake_case. If both are there the first
//!   counts, even when it is null.
//! - A null field is not there. A null item of a list, or value of a map, is the empty value of its type.
//! - An integer may be quoted, and may be written as a float if it is whole. Strings and booleans are never converted.
//! - Of the members of a oneof the one that is declared last counts.
//! - An unknown field is remembered with its path, and does no harm.
//!
//! Our difference: the decoder does not stop at its first error. It goes on with the empty value, so that one reading
//! tells everything that is wrong with a document; and an unknown name of an enum is kept, not refused (the validator
//! judges it).
//!
//! A message is declared once, by [`message!`], in the order of the CRD: type, names, reading and writing follow from
//! that. Cost: reading is linear in the size of the tree (times the number of fields of a message, which is bounded).

use std::collections::BTreeMap;
use std::str::FromStr;

use super::nearest::nearest;
use super::value::{Data, Entry, Map, Number, Position, Value};

/// Something that a document says, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct FieldProblem {
    /// The field: `spec.http[0].route[1].destination.host`; a key of a free map stands in brackets.
    pub path: String,
    /// Where it stands in the text, where that is known.
    pub position: Option<Position>,
    /// What was found and what would be right, in one line.
    pub message: String,
}

/// A field that no Istio version we know of has.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct UnknownField {
    /// The field's path, its own name last.
    pub path: String,
    /// Where its key stands in the text, where that is known.
    pub position: Option<Position>,
    /// The known name nearest to it, if one is near.
    pub suggestion: Option<String>,
}

/// What reading a document found besides its value.
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct Findings {
    /// Why it cannot be read. If there is one, the value is not to be used.
    pub errors: Vec<FieldProblem>,
    /// The fields that were not known.
    pub unknown_fields: Vec<UnknownField>,
    /// How many more errors and unknown fields there were than are listed.
    pub unlisted: usize,
}

/// The most findings that are written down for one document; more are counted.
const MOST_FINDINGS: usize = 100;

/// What Rust writes before a field whose name is a keyword; it is no part of the name.
const RAW: &str = "r#";

/// Collects findings while a tree is walked.
#[derive(Debug, Default)]
pub(crate) struct Decoder {
    path: String,
    /// The place of the nearest field around, for values without a place of their own.
    near: Option<Position>,
    pub(crate) findings: Findings,
}

impl Decoder {
    /// Does something one field deeper.
    pub(crate) fn field<T>(&mut self, name: &str, work: impl FnOnce(&mut Self) -> T) -> T {
        let length = self.path.len();
        if length > 0 {
            self.path.push('.');
        }
        self.path.push_str(name);
        let result = work(self);
        self.path.truncate(length);
        result
    }

    fn bracket<T>(&mut self, inner: &str, work: impl FnOnce(&mut Self) -> T) -> T {
        let length = self.path.len();
        self.path.push('[');
        self.path.push_str(inner);
        self.path.push(']');
        let result = work(self);
        self.path.truncate(length);
        result
    }

    /// The present path; a key of absurd length is cut, so that findings stay small whatever the document is.
    fn path(&self) -> String {
        const LONGEST: usize = 1000;
        if self.path.len() <= LONGEST {
            return self.path.clone();
        }
        self.path.chars().take(LONGEST).chain(std::iter::once('…')).collect()
    }

    /// Notes an error at the present path.
    pub(crate) fn error(&mut self, at: &Value, message: impl FnOnce() -> String) {
        if self.findings.errors.len() >= MOST_FINDINGS {
            self.findings.unlisted += 1;
            return;
        }
        let problem = FieldProblem { path: self.path(), position: at.position.or(self.near), message: message() };
        self.findings.errors.push(problem);
    }

    /// Notes that something else was expected at the present path.
    pub(crate) fn expected(&mut self, what: &str, found: &Value) {
        self.error(found, || format!("expected {what}, found {}", found.describe()));
    }

    /// Notes the keys of a map that are not known.
    pub(crate) fn unknown_keys(&mut self, map: &Map, camel: &[&'static str], snake: &[&'static str]) {
        for entry in map {
            let key = entry.key.as_str();
            if camel.contains(&key) || (snake.contains(&key) && !key.starts_with(RAW)) {
                continue;
            }
            self.unknown_key(entry, camel);
        }
    }

    /// Notes a key that is not known, and the nearest of those that are.
    pub(crate) fn unknown_key(&mut self, entry: &Entry, known: &[&str]) {
        if self.findings.unknown_fields.len() >= MOST_FINDINGS {
            self.findings.unlisted += 1;
            return;
        }
        let suggestion = nearest(&entry.key, known).map(str::to_owned);
        self.field(&entry.key, |decoder| {
            let path = decoder.path();
            decoder.findings.unknown_fields.push(UnknownField { path, position: entry.position, suggestion });
        });
    }

    /// Whether what is read now is an item of the list of this name.
    pub(crate) fn in_item_of(&self, list: &str) -> bool {
        let last = self.path.rsplit('.').next().unwrap_or("");
        last.strip_prefix(list).is_some_and(|index| index.starts_with('['))
    }
}

/// A type that a field can have.
pub(crate) trait Field: Sized + Default {
    /// Reads a value that is not null.
    fn decode(value: &Value, decoder: &mut Decoder) -> Self;

    /// Writes it in full, as an item of a list.
    fn encode(&self) -> Value;

    /// Whether a field of this value is left out.
    fn is_unset(&self) -> bool;

    /// Reads an item of a list or a value of a map, where null is the empty value.
    fn decode_item(value: &Value, decoder: &mut Decoder) -> Self {
        if value.is_null() { Self::default() } else { Self::decode(value, decoder) }
    }
}

impl Field for String {
    fn decode(value: &Value, decoder: &mut Decoder) -> Self {
        value.as_str().map(str::to_owned).unwrap_or_else(|| {
            let hint = match value.data {
                Data::Bool(_) | Data::Number(_) => "a string (put it in quotes)",
                _ => "a string",
            };
            decoder.expected(hint, value);
            Self::new()
        })
    }

    fn encode(&self) -> Value {
        self.as_str().into()
    }

    fn is_unset(&self) -> bool {
        self.is_empty()
    }
}

impl Field for bool {
    fn decode(value: &Value, decoder: &mut Decoder) -> Self {
        value.as_bool().unwrap_or_else(|| {
            decoder.expected("`true` or `false`, without quotes", value);
            false
        })
    }

    fn encode(&self) -> Value {
        (*self).into()
    }

    fn is_unset(&self) -> bool {
        !*self
    }
}

impl Field for f64 {
    fn decode(value: &Value, decoder: &mut Decoder) -> Self {
        let found = match &value.data {
            Data::Number(number) => Some(number.as_f64()),
            Data::String(text) => match text.as_str() {
                "NaN" => return Self::NAN,
                "Infinity" => return Self::INFINITY,
                "-Infinity" => return Self::NEG_INFINITY,
                _ => match text.trim_matches(' ') {
                    "null" => Some(0.0),
                    literal => Number::from_json(literal).map(|number| number.as_f64()),
                },
            },
            _ => None,
        };
        found.filter(|number| number.is_finite()).unwrap_or_else(|| {
            decoder.expected("a number", value);
            0.0
        })
    }

    fn encode(&self) -> Value {
        Number::from_f64(*self).map_or_else(
            || {
                if self.is_nan() {
                    "NaN"
                } else if *self > 0.0 {
                    "Infinity"
                } else {
                    "-Infinity"
                }
                .into()
            },
            |number| match (self.fract() == 0.0 && self.abs() < 1e15, number) {
                // 50, not 50.0, as people write it; minus zero keeps its sign.
                (true, _) if self.to_bits() != (-0.0_f64).to_bits() => (*self as i64).into(),
                (_, number) => number.into(),
            },
        )
    }

    fn is_unset(&self) -> bool {
        self.to_bits() == 0
    }
}

/// The integer that a value stands for. A bare number has been through a float on its way to Istio's decoder, so that
/// `80.0` is one, and what is beyond 2^53 is rounded; a quoted one has not.
fn integer(value: &Value, signed: bool) -> Option<i128> {
    let text = match &value.data {
        Data::Number(number) => number.as_f64().to_string(),
        Data::String(text) => match text.trim_matches(' ') {
            "null" => return Some(0),
            literal => Number::from_json(literal)?.as_str().to_owned(),
        },
        _ => return None,
    };
    // Minus zero is no unsigned number.
    if !signed && text.starts_with('-') {
        return None;
    }
    text.parse().ok()
}

/// Is it a bare number that would be in range, had it not been through a float?
fn fits_as_written<T: FromStr>(value: &Value) -> bool {
    matches!(&value.data, Data::Number(number) if number.as_str().parse::<T>().is_ok())
}

macro_rules! integer_field {
    ($($ty:ty, $signed:literal, $what:literal;)*) => {$(
        impl Field for $ty {
            fn decode(value: &Value, decoder: &mut Decoder) -> Self {
                let found = integer(value, $signed);
                found.and_then(|number| Self::try_from(number).ok()).unwrap_or_else(|| {
                    decoder.error(value, || {
                        let rounded = match found {
                            Some(rounded) if fits_as_written::<Self>(value) => {
                                format!(", which is read as `{rounded}` (put it in quotes)")
                            }
                            _ => String::new(),
                        };
                        format!("expected {}, found {}{rounded}", $what, value.describe())
                    });
                    0
                })
            }

            fn encode(&self) -> Value {
                // Beyond 2^53 a bare number would be rounded when it is read again.
                if i128::from(*self).unsigned_abs() > 1 << 53 {
                    return self.to_string().into();
                }
                i64::try_from(*self).map_or_else(|_| Value::from(self.to_string()), Value::from)
            }

            fn is_unset(&self) -> bool {
                *self == 0
            }
        }
    )*};
}

integer_field! {
    i32, true, "a whole number from -2147483648 to 2147483647";
    u32, false, "a whole number from 0 to 4294967295";
    i64, true, "a whole number of 64 bits";
    u64, false, "a whole number from 0 to 18446744073709551615";
}

impl<T: Field> Field for Option<T> {
    fn decode(value: &Value, decoder: &mut Decoder) -> Self {
        Some(T::decode(value, decoder))
    }

    fn encode(&self) -> Value {
        self.as_ref().map_or(Value::NULL, T::encode)
    }

    fn is_unset(&self) -> bool {
        self.is_none()
    }
}

impl<T: Field> Field for Vec<T> {
    fn decode(value: &Value, decoder: &mut Decoder) -> Self {
        let Some(items) = value.as_list() else {
            decoder.expected("a list", value);
            return Self::new();
        };
        let one = |(index, item): (usize, &Value)| {
            decoder.bracket(&index.to_string(), |decoder| T::decode_item(item, decoder))
        };
        items.iter().enumerate().map(one).collect()
    }

    fn encode(&self) -> Value {
        self.iter().map(T::encode).collect::<Vec<_>>().into()
    }

    fn is_unset(&self) -> bool {
        self.is_empty()
    }
}

impl<T: Field> Field for BTreeMap<String, T> {
    fn decode(value: &Value, decoder: &mut Decoder) -> Self {
        let Some(map) = value.as_map() else {
            decoder.expected("a map", value);
            return Self::new();
        };
        let one = |entry: &Entry| {
            let item = decoder.bracket(&entry.key, |decoder| T::decode_item(&entry.value, decoder));
            (entry.key.clone(), item)
        };
        map.iter().map(one).collect()
    }

    fn encode(&self) -> Value {
        let mut map = Map::new();
        for (key, value) in self {
            map.push(key.as_str(), value.encode());
        }
        map.into()
    }

    fn is_unset(&self) -> bool {
        self.is_empty()
    }
}

impl<T: Field> Field for Box<T> {
    fn decode(value: &Value, decoder: &mut Decoder) -> Self {
        Self::new(T::decode(value, decoder))
    }

    fn encode(&self) -> Value {
        T::encode(self)
    }

    fn is_unset(&self) -> bool {
        T::is_unset(self)
    }
}

/// The map of a message, or an error.
pub(crate) fn expect_map<'a>(value: &'a Value, decoder: &mut Decoder) -> Option<&'a Map> {
    let map = value.as_map();
    if map.is_none() {
        decoder.expected("a map", value);
    }
    map
}

/// Reads one field of a message: by its camelCase name, else by its proto name; null is absent.
pub(crate) fn read<T: Field>(map: &Map, camel: &'static str, snake: &str, decoder: &mut Decoder) -> T {
    let by_proto_name = || if snake.starts_with(RAW) { None } else { map.entry(snake) };
    let Some(entry) = map.entry(camel).or_else(by_proto_name) else { return T::default() };
    if entry.value.is_null() {
        return T::default();
    }
    let around = decoder.near;
    decoder.near = entry.position.or(around);
    let field = decoder.field(&entry.key, |decoder| T::decode(&entry.value, decoder));
    decoder.near = around;
    field
}

/// Writes one field of a message, unless it is empty and not required.
pub(crate) fn write<T: Field>(map: &mut Map, camel: &'static str, required: bool, field: &T) {
    if !field.is_unset() {
        map.push(camel, field.encode());
    } else if required {
        let value = field.encode();
        if !value.is_null() {
            map.push(camel, value);
        }
    }
}

/// Serde's two traits for a [`Field`], through the tree.
macro_rules! serde_by_tree {
    ($name:ident) => {
        impl serde::Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serde::Serialize::serialize(&$crate::resource::decode::Field::encode(self), serializer)
            }
        }

        impl<'de> serde::Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let value = <$crate::resource::Value as serde::Deserialize>::deserialize(deserializer)?;
                $crate::resource::decode::from_tree(&value).map_err(serde::de::Error::custom)
            }
        }
    };
}

/// Reads a whole value, or says the first thing that is wrong with it.
pub(crate) fn from_tree<T: Field>(value: &Value) -> Result<T, String> {
    let mut decoder = Decoder::default();
    let decoded = T::decode_item(value, &mut decoder);
    match decoder.findings.errors.into_iter().next() {
        None => Ok(decoded),
        Some(problem) if problem.path.is_empty() => Err(problem.message),
        Some(problem) => Err(format!("{}: {}", problem.path, problem.message)),
    }
}

/// Declares a message: its type, the JSON names of its fields in the order of the CRD, and its oneofs.
///
/// `misplaced` names a function that takes away keys that the message does not have where it stands.
/// `required` fields are written even when they are empty, because the schema asks for their presence.
macro_rules! message {
    (
        $(#[$meta:meta])*
        pub struct $name:ident {
            $( $(#[$field_meta:meta])* pub $field:ident : $ty:ty = $($required:ident)? $json:literal, )*
        }
        $( oneof { $($member:ident),+ $(,)? } )*
        $( misplaced $misplaced:path; )?
    ) => {
        $(#[$meta])*
        #[derive(Debug, Clone, Default, PartialEq)]
        #[non_exhaustive]
        pub struct $name {
            $( $(#[$field_meta])* pub $field: $ty, )*
        }

        impl $name {
            /// The JSON names of the fields, in the order of the CRD.
            pub const FIELDS: &'static [&'static str] = &[$($json),*];
            const PROTO_FIELDS: &'static [&'static str] = &[$(stringify!($field)),*];
        }

        impl $crate::resource::decode::Field for $name {
            fn decode(
                value: &$crate::resource::Value,
                decoder: &mut $crate::resource::decode::Decoder,
            ) -> Self {
                let Some(map) = $crate::resource::decode::expect_map(value, decoder) else {
                    return Self::default();
                };
                $(
                    let narrowed = $misplaced(map, decoder);
                    let map = narrowed.as_ref().unwrap_or(map);
                )?
                decoder.unknown_keys(map, Self::FIELDS, Self::PROTO_FIELDS);
                #[allow(unused_mut)]
                let mut message = Self {
                    $( $field: $crate::resource::decode::read(map, $json, stringify!($field), decoder), )*
                };
                $({
                    // Of a oneof the member that is declared last counts.
                    let mut members = [$(message.$member.is_some()),+];
                    let last = members.iter().rposition(|present| *present);
                    for (index, present) in members.iter_mut().enumerate() {
                        *present = Some(index) == last;
                    }
                    let mut keep = members.into_iter();
                    $(
                        if keep.next() != Some(true) {
                            message.$member = None;
                        }
                    )+
                })*
                message
            }

            fn encode(&self) -> $crate::resource::Value {
                #[allow(unused_mut)]
                let mut map = $crate::resource::Map::new();
                $(
                    let required = matches!(stringify!($($required)?), "required");
                    $crate::resource::decode::write(&mut map, $json, required, &self.$field);
                )*
                map.into()
            }

            // A message that is there says something, even an empty one.
            fn is_unset(&self) -> bool {
                false
            }
        }

        $crate::resource::decode::serde_by_tree!($name);
    };
}

/// Declares an enum of the API by its values' names, in the order of their numbers from 0.
macro_rules! names {
    (
        $(#[$meta:meta])*
        pub enum $name:ident { $( $(#[$value_meta:meta])* $value:ident = $json:literal, )* }
    ) => {
        $(#[$meta])*
        #[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
        #[non_exhaustive]
        pub enum $name {
            $( $(#[$value_meta])* $value, )*
            /// A name that this crate does not know, kept as it was written.
            Unknown(String),
        }

        impl $name {
            /// The known names, in the order of their numbers.
            pub const NAMES: &'static [&'static str] = &[$($json),*];

            /// The name, as the API spells it.
            pub fn as_str(&self) -> &str {
                match self {
                    $( Self::$value => $json, )*
                    Self::Unknown(name) => name,
                }
            }

            /// The value of a name.
            pub fn from_name(name: &str) -> Self {
                match name {
                    $( $json => Self::$value, )*
                    other => Self::Unknown(other.to_owned()),
                }
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(self.as_str())
            }
        }

        impl $crate::resource::decode::Field for $name {
            fn decode(
                value: &$crate::resource::Value,
                decoder: &mut $crate::resource::decode::Decoder,
            ) -> Self {
                match $crate::resource::decode::enum_name(value, Self::NAMES, decoder) {
                    Some(name) => Self::from_name(&name),
                    None => Self::default(),
                }
            }

            fn encode(&self) -> $crate::resource::Value {
                self.as_str().into()
            }

            fn is_unset(&self) -> bool {
                *self == Self::default()
            }
        }

        $crate::resource::decode::serde_by_tree!($name);
    };
}

/// The name that a value gives an enum: a string as it is, a whole number by its place among the names.
pub(crate) fn enum_name(value: &Value, names: &[&str], decoder: &mut Decoder) -> Option<String> {
    match &value.data {
        Data::String(name) => return Some(name.clone()),
        Data::Number(_) => {
            if let Some(number) = integer(value, true).and_then(|number| i32::try_from(number).ok()) {
                let known = usize::try_from(number).ok().and_then(|index| names.get(index));
                return Some(known.map_or_else(|| number.to_string(), |name| (*name).to_owned()));
            }
        }
        _ => {}
    }
    decoder.expected(&format!("one of {}", names.join(", ")), value);
    None
}

pub(crate) use {message, names, serde_by_tree};
