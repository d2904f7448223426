//! A document as it was written, before any type is asked of it.
//!
//! A YAML or JSON document becomes a tree of [`Value`]s: null, booleans, numbers, strings, lists and maps in the order
//! of the text, each with its place in it where that is known. Two readers work on the same tree: the decoder, which
//! makes the typed resources as Istio's own decoder does, and the schema check, which asks what the API server's schema
//! would say of the very same text (a quoted number is fine for the first and wrong for the second).
//!
//! Numbers keep their text. What they mean as an integer or a float is decided where it is asked, because the two
//! readers disagree on that as well.
//!
//! Two values are equal if they say the same; where they stood does not count. The order of a map's keys does.

use std::fmt;

use serde::de::{Error as _, MapAccess, SeqAccess, Visitor};
use serde::ser::{SerializeMap, SerializeSeq};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A place in a text, both parts counted from 1; a column counts characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct Position {
    /// The line, from 1.
    pub line: usize,
    /// The column in characters, from 1.
    pub column: usize,
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.line, self.column)
    }
}

/// One node of a document.
#[derive(Debug, Clone, Default)]
pub struct Value {
    /// What the node holds.
    pub data: Data,
    /// Where it starts, where that is known.
    pub position: Option<Position>,
}

/// What a [`Value`] holds.
#[derive(Debug, Clone, Default, PartialEq)]
pub enum Data {
    /// `null`, `~`, or nothing at all.
    #[default]
    Null,
    /// A boolean.
    Bool(bool),
    /// A number, by its text.
    Number(Number),
    /// A string.
    String(String),
    /// A list.
    List(Vec<Value>),
    /// A map, in the order of the text.
    Map(Map),
}

/// A number as a JSON literal (`80`, `-1`, `0.5`, `1e2`).
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Number(Box<str>);

/// A map in the order of its text. Keys are unique in what the loader makes.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Map {
    entries: Vec<Entry>,
}

/// One key of a [`Map`] with its value.
#[derive(Debug, Clone)]
pub struct Entry {
    /// The key.
    pub key: String,
    /// Where the key starts, where that is known.
    pub position: Option<Position>,
    /// The value.
    pub value: Value,
}

impl PartialEq for Value {
    fn eq(&self, other: &Self) -> bool {
        self.data == other.data
    }
}

impl PartialEq for Entry {
    fn eq(&self, other: &Self) -> bool {
        self.key == other.key && self.value == other.value
    }
}

impl Value {
    /// `null`.
    pub const NULL: Self = Self { data: Data::Null, position: None };

    /// The same value at a place.
    pub fn at(mut self, position: Option<Position>) -> Self {
        self.position = position;
        self
    }

    /// Whether this is `null`.
    pub fn is_null(&self) -> bool {
        matches!(self.data, Data::Null)
    }

    /// The boolean, if it is one.
    pub fn as_bool(&self) -> Option<bool> {
        if let Data::Bool(value) = self.data { Some(value) } else { None }
    }

    /// The number, if it is one.
    pub fn as_number(&self) -> Option<&Number> {
        if let Data::Number(number) = &self.data { Some(number) } else { None }
    }

    /// The string, if it is one.
    pub fn as_str(&self) -> Option<&str> {
        if let Data::String(text) = &self.data { Some(text) } else { None }
    }

    /// The list, if it is one.
    pub fn as_list(&self) -> Option<&[Self]> {
        if let Data::List(items) = &self.data { Some(items) } else { None }
    }

    /// The map, if it is one.
    pub fn as_map(&self) -> Option<&Map> {
        if let Data::Map(map) = &self.data { Some(map) } else { None }
    }

    /// The value of a key, if this is a map that has it.
    pub fn get(&self, key: &str) -> Option<&Self> {
        self.as_map().and_then(|map| map.get(key))
    }

    /// The kind of value, in the words of JSON: `null`, `boolean`, `number`, `string`, `list`, `map`.
    pub fn type_name(&self) -> &'static str {
        match self.data {
            Data::Null => "null",
            Data::Bool(_) => "boolean",
            Data::Number(_) => "number",
            Data::String(_) => "string",
            Data::List(_) => "list",
            Data::Map(_) => "map",
        }
    }

    /// What a message says was found here: short, with the text of a scalar in back-ticks.
    pub(crate) fn describe(&self) -> String {
        match &self.data {
            Data::Null => "null".to_owned(),
            Data::Bool(value) => format!("the boolean `{value}`"),
            Data::Number(number) => format!("the number `{}`", clip(number.as_str())),
            Data::String(text) => format!("the string `{}`", clip(text)),
            Data::List(_) => "a list".to_owned(),
            Data::Map(_) => "a map".to_owned(),
        }
    }
}

/// The first characters of a text, for a message: one line, never long.
pub(crate) fn clip(text: &str) -> String {
    const MOST: usize = 60;
    let mut clipped: String =
        text.chars().take(MOST).map(|c| if c.is_control() { char::REPLACEMENT_CHARACTER } else { c }).collect();
    if text.chars().nth(MOST).is_some() {
        clipped.push('…');
    }
    clipped
}

impl Number {
    /// A number from a JSON literal.
    pub fn from_json(text: &str) -> Option<Self> {
        is_json_number(text).then(|| Self(text.into()))
    }

    /// A number from a float; there is none for a float that is not finite.
    pub fn from_f64(value: f64) -> Option<Self> {
        value.is_finite().then(|| Self(format!("{value:?}").into()))
    }

    /// The literal.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether it is written without a fraction and without an exponent.
    pub fn is_integer_literal(&self) -> bool {
        !self.0.contains(['.', 'e', 'E'])
    }

    /// The float nearest to it; infinite where it is too large for one.
    pub fn as_f64(&self) -> f64 {
        self.0.parse().unwrap_or(f64::NAN)
    }

    /// The integer literal's value, if it is one and fits.
    pub fn as_i128(&self) -> Option<i128> {
        self.0.parse().ok()
    }
}

impl fmt::Display for Number {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Whether a text is a number in JSON's grammar.
pub(crate) fn is_json_number(text: &str) -> bool {
    let rest = text.strip_prefix('-').unwrap_or(text);
    let digits = |s: &str| s.bytes().take_while(u8::is_ascii_digit).count();
    let whole = digits(rest);
    if whole == 0 || (whole > 1 && rest.starts_with('0')) {
        return false;
    }
    let mut rest = rest.get(whole..).unwrap_or("");
    if let Some(fraction) = rest.strip_prefix('.') {
        let count = digits(fraction);
        if count == 0 {
            return false;
        }
        rest = fraction.get(count..).unwrap_or("");
    }
    if let Some(exponent) = rest.strip_prefix(['e', 'E']) {
        let exponent = exponent.strip_prefix(['+', '-']).unwrap_or(exponent);
        let count = digits(exponent);
        if count == 0 {
            return false;
        }
        rest = exponent.get(count..).unwrap_or("");
    }
    rest.is_empty()
}

impl Map {
    /// An empty map.
    pub fn new() -> Self {
        Self::default()
    }

    /// How many keys it has.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether it has none.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// The value of a key. Linear: the maps of a resource are small.
    pub fn get(&self, key: &str) -> Option<&Value> {
        self.entry(key).map(|entry| &entry.value)
    }

    /// The entry of a key.
    pub fn entry(&self, key: &str) -> Option<&Entry> {
        self.entries.iter().find(|entry| entry.key == key)
    }

    /// The entries in order.
    pub fn iter(&self) -> std::slice::Iter<'_, Entry> {
        self.entries.iter()
    }

    /// Adds a key at the end. It does not look whether the key is there already.
    pub fn push(&mut self, key: impl Into<String>, value: Value) {
        self.entries.push(Entry { key: key.into(), position: None, value });
    }

    /// Adds an entry at the end. It does not look whether the key is there already.
    pub fn push_entry(&mut self, entry: Entry) {
        self.entries.push(entry);
    }
}

impl<'a> IntoIterator for &'a Map {
    type Item = &'a Entry;
    type IntoIter = std::slice::Iter<'a, Entry>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

impl From<Data> for Value {
    fn from(data: Data) -> Self {
        Self { data, position: None }
    }
}

impl From<bool> for Value {
    fn from(value: bool) -> Self {
        Data::Bool(value).into()
    }
}

impl From<i64> for Value {
    fn from(value: i64) -> Self {
        Data::Number(Number(value.to_string().into())).into()
    }
}

impl From<u64> for Value {
    fn from(value: u64) -> Self {
        Data::Number(Number(value.to_string().into())).into()
    }
}

impl From<Number> for Value {
    fn from(value: Number) -> Self {
        Data::Number(value).into()
    }
}

impl From<String> for Value {
    fn from(value: String) -> Self {
        Data::String(value).into()
    }
}

impl From<&str> for Value {
    fn from(value: &str) -> Self {
        Data::String(value.to_owned()).into()
    }
}

impl From<Vec<Self>> for Value {
    fn from(value: Vec<Self>) -> Self {
        Data::List(value).into()
    }
}

impl From<Map> for Value {
    fn from(value: Map) -> Self {
        Data::Map(value).into()
    }
}

impl Serialize for Value {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match &self.data {
            Data::Null => serializer.serialize_unit(),
            Data::Bool(value) => serializer.serialize_bool(*value),
            Data::Number(number) => {
                if let Ok(value) = number.as_str().parse::<i64>() {
                    serializer.serialize_i64(value)
                } else if let Ok(value) = number.as_str().parse::<u64>() {
                    serializer.serialize_u64(value)
                } else {
                    serializer.serialize_f64(number.as_f64())
                }
            }
            Data::String(text) => serializer.serialize_str(text),
            Data::List(items) => {
                let mut list = serializer.serialize_seq(Some(items.len()))?;
                for item in items {
                    list.serialize_element(item)?;
                }
                list.end()
            }
            Data::Map(map) => {
                let mut out = serializer.serialize_map(Some(map.len()))?;
                for entry in map {
                    out.serialize_entry(&entry.key, &entry.value)?;
                }
                out.end()
            }
        }
    }
}

impl<'de> Deserialize<'de> for Value {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Tree;

        impl<'de> Visitor<'de> for Tree {
            type Value = Value;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("null, a boolean, a number, a string, a list or a map")
            }

            fn visit_unit<E>(self) -> Result<Value, E> {
                Ok(Value::NULL)
            }

            fn visit_none<E>(self) -> Result<Value, E> {
                Ok(Value::NULL)
            }

            fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
                Value::deserialize(deserializer)
            }

            fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
                Ok(value.into())
            }

            fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
                Ok(value.into())
            }

            fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
                Ok(value.into())
            }

            fn visit_f64<E: serde::de::Error>(self, value: f64) -> Result<Value, E> {
                Number::from_f64(value).map(Value::from).ok_or_else(|| E::custom("a number must be finite"))
            }

            fn visit_str<E>(self, value: &str) -> Result<Value, E> {
                Ok(value.into())
            }

            fn visit_string<E>(self, value: String) -> Result<Value, E> {
                Ok(value.into())
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut access: A) -> Result<Value, A::Error> {
                let mut items = Vec::new();
                while let Some(item) = access.next_element()? {
                    items.push(item);
                }
                Ok(items.into())
            }

            fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Value, A::Error> {
                let mut map = Map::new();
                let mut seen = std::collections::BTreeSet::new();
                while let Some((key, value)) = access.next_entry::<String, Value>()? {
                    if !seen.insert(key.clone()) {
                        return Err(A::Error::custom(format_args!("the key `{}` is there twice", clip(&key))));
                    }
                    map.push(key, value);
                }
                Ok(map.into())
            }
        }

        deserializer.deserialize_any(Tree)
    }
}
