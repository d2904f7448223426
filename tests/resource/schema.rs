//! The table of all fields, and documents made from it.

use serde_json::{Map, Value, json};

pub(crate) const TABLE: &str = include_str!("../data/fields.tsv");

/// What a field's value looks like.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Shape {
    Message,
    Map,
    List,
    Text,
    Duration,
    Bytes,
    Bool,
    Names(Vec<String>),
    Int32,
    Unsigned { least: u64, most: u64 },
    Float,
}

#[derive(Debug, Clone)]
pub(crate) struct Row {
    pub(crate) kind: &'static str,
    pub(crate) path: &'static str,
    pub(crate) shape: Shape,
    pub(crate) nullable: bool,
}

/// Durations on which the schema has no rule.
const FREE_DURATIONS: [&str; 6] = [
    ".tcp.idleTimeout",
    ".httpCookie.ttl",
    ".retryBudget.budgetInterval",
    ".weightExpirationPeriod",
    ".weightStabilizationPeriod",
    ".weightUpdatePeriod",
];

pub(crate) fn rows() -> Vec<Row> {
    let lines: Vec<Vec<&'static str>> = TABLE.lines().skip(1).map(|line| line.split('\t').collect()).collect();
    let is_map = |kind: &str, path: &str| lines.iter().any(|line| line[0] == kind && line[1] == format!("{path}{{}}"));
    let rows = lines.iter().map(|line| {
        let (kind, path, name) = (line[0], line[1], line[2]);
        let rules = line.get(3).copied().unwrap_or("");
        let number = |key: &str| -> Option<u64> {
            rules.split(' ').find_map(|rule| rule.strip_prefix(key)).and_then(|number| number.parse().ok())
        };
        let shape = match name {
            "object" if is_map(kind, path) => Shape::Map,
            "object" => Shape::Message,
            "array" => Shape::List,
            "boolean" => Shape::Bool,
            "number" => Shape::Float,
            "integer" if rules.contains("format=int32") => Shape::Int32,
            "integer" => Shape::Unsigned {
                least: number("minimum=").unwrap_or(0),
                most: number("maximum=").unwrap_or(i64::MAX as u64),
            },
            "string" if rules.contains("enum=") => {
                Shape::Names(rules.split('\'').skip(1).step_by(2).map(str::to_owned).collect())
            }
            "string" if rules.contains("format=byte") => Shape::Bytes,
            "string" if rules.contains("cel=duration") || FREE_DURATIONS.iter().any(|end| path.ends_with(end)) => {
                Shape::Duration
            }
            "string" => Shape::Text,
            other => panic!("a type that this test does not know: {other}"),
        };
        Row { kind, path, shape, nullable: rules.contains("nullable=True") }
    });
    rows.collect()
}

/// A value for a field, by a seed; never its type's empty value.
pub(crate) fn value(shape: &Shape, seed: u64, text: &str) -> Value {
    match shape {
        Shape::Message | Shape::Map => json!({}),
        Shape::List => json!([]),
        Shape::Text => json!(text),
        Shape::Duration => json!(["7s", "250ms", "1h2m3.5s", "1.5us", "292y"][(seed % 4) as usize]),
        Shape::Bytes => json!(["YQ==", "YWI=", "YWJj", "/+8="][(seed % 4) as usize]),
        Shape::Bool => json!(true),
        Shape::Names(names) => json!(names[1.max(seed as usize % names.len())]),
        Shape::Int32 => json!((seed % (1 << 31)) as i32 - if seed.is_multiple_of(2) { 0 } else { i32::MAX }),
        Shape::Unsigned { least, most } => json!(least.max(&1) + seed % (most - least.max(&1))),
        Shape::Float => json!((seed % 800) as f64 / 8.0 + 0.125),
    }
}

/// Puts a value at a path of a document, making what is missing on the way. `index` picks items and keys.
pub(crate) fn put(document: &mut Value, path: &str, index: usize, key: &str, value: Value) {
    let mut at = document;
    for segment in path.split('.') {
        let name = segment.trim_end_matches("[]").trim_end_matches("{}");
        if !at.is_object() {
            *at = json!({});
        }
        at = at.as_object_mut().expect("just made").entry(name).or_insert(Value::Null);
        if segment.ends_with("{}") {
            if !at.is_object() {
                *at = json!({});
            }
            at = at.as_object_mut().expect("just made").entry(key).or_insert(Value::Null);
        } else if segment.ends_with("[]") {
            if !at.is_array() {
                *at = json!([]);
            }
            let items = at.as_array_mut().expect("just made");
            let place = index.min(items.len());
            if place == items.len() {
                items.push(Value::Null);
            }
            at = &mut items[place];
        }
    }
    if at.is_null() || !value.is_object() {
        *at = value;
    }
}

/// The value at a path.
pub(crate) fn find<'a>(document: &'a Value, path: &str, key: &str) -> Option<&'a Value> {
    path.split('.').try_fold(document, |at, segment| {
        let name = segment.trim_end_matches("[]").trim_end_matches("{}");
        let inner = at.get(name)?;
        match () {
            () if segment.ends_with("{}") => inner.get(key),
            () if segment.ends_with("[]") => inner.get(0),
            () => Some(inner),
        }
    })
}

pub(crate) fn envelope(kind: &str) -> Value {
    json!({"apiVersion": "networking.istio.io/v1", "kind": kind, "metadata": {"name": "x"}, "spec": Map::new()})
}
