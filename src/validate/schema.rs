//! The CRD's schema: what the API server asks before anybody else.
//!
//! The rules are data: `fields.tsv` has a line for each field with its type and constraints. A document is judged in three
//! steps, each only if the one before found nothing: structure (types, null, required, enums, bounds, one-of groups);
//! unknown fields; CEL (durations of at least a millisecond, no `*` in a selector).

use super::{Report, Severity};
use crate::resource::{Data, Duration, Map, Number, Value};
use std::collections::BTreeMap;
use std::sync::OnceLock;

/// What the schema says of a document.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum SchemaVerdict {
    /// Nothing is wrong.
    Ok,
    /// Its structure is right, but it has a field that nobody knows. Strict clients refuse it, the API server drops it.
    UnknownField,
    /// Something is wrong.
    Reject,
}

/// One field of the schema.
#[derive(Debug, Default)]
struct Field {
    kind: Kind,
    required: Vec<String>,
    one_of: Vec<Vec<String>>,
    allowed: Vec<String>,
    minimum: Option<f64>,
    maximum: Option<f64>,
    nullable: bool,
    int32: bool,
    bytes: bool,
    max_items: Option<usize>,
    max_properties: Option<usize>,
    max_length: Option<usize>,
    rule: Option<Rule>,
    children: BTreeMap<String, Field>,
    item: Option<Box<Field>>,
    value: Option<Box<Field>>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Kind {
    #[default]
    Object,
    Array,
    String,
    Boolean,
    Integer,
    Number,
}

/// The rules in CEL that the two kinds have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Rule {
    /// `duration(self) >= duration('1ms')`
    Duration,
    /// No key has a `*`, none is empty.
    Keys,
    /// No `*`.
    NoStar,
}

fn kinds() -> &'static BTreeMap<String, Field> {
    static KINDS: OnceLock<BTreeMap<String, Field>> = OnceLock::new();
    KINDS.get_or_init(|| {
        let mut kinds: BTreeMap<String, Field> = BTreeMap::new();
        for line in include_str!("fields.tsv").lines().skip(1) {
            let mut columns = line.split('\t');
            let mut column = || columns.next().unwrap_or_default();
            let (kind, path, type_name, constraints) = (column(), column(), column(), column());
            let root = kinds.entry(kind.to_owned()).or_default();
            let field = root.descend(path);
            field.kind = match type_name {
                "array" => Kind::Array,
                "string" => Kind::String,
                "boolean" => Kind::Boolean,
                "integer" => Kind::Integer,
                "number" => Kind::Number,
                _ => Kind::Object,
            };
            field.constrain(constraints);
        }
        kinds
    })
}

impl Field {
    /// The field of a path such as `spec.http[].match[].headers{}.exact`.
    fn descend(&mut self, path: &str) -> &mut Field {
        let mut field = self;
        for part in path.split('.') {
            let name = part.trim_end_matches("[]").trim_end_matches("{}").trim_end_matches("[]");
            field = field.children.entry(name.to_owned()).or_default();
            let mut rest = &part[name.len()..];
            while !rest.is_empty() {
                if let Some(after) = rest.strip_prefix("[]") {
                    field = field.item.get_or_insert_default();
                    rest = after;
                } else {
                    field = field.value.get_or_insert_default();
                    rest = rest.strip_prefix("{}").unwrap_or_default();
                }
            }
        }
        field
    }

    fn constrain(&mut self, constraints: &str) {
        let number = |name: &str| -> Option<f64> {
            let at = constraints.find(&format!("{name}="))?;
            constraints[at + name.len() + 1..].split(' ').next()?.parse().ok()
        };
        self.minimum = number("minimum");
        self.maximum = number("maximum");
        self.max_items = number("maxItems").map(|number| number as usize);
        self.max_properties = number("maxProperties").map(|number| number as usize);
        self.max_length = number("maxLength").map(|number| number as usize);
        self.nullable = constraints.contains("nullable=True");
        self.int32 = constraints.contains("format=int32");
        self.bytes = constraints.contains("format=byte");
        if let Some(at) = constraints.find("required=") {
            let list = constraints[at + 9..].split(' ').next().unwrap_or_default();
            self.required = list.split(',').map(str::to_owned).collect();
        }
        if let Some(at) = constraints.find("enum=[") {
            let list = constraints[at + 6..].split(']').next().unwrap_or_default();
            self.allowed = list.split(", ").map(|name| name.trim_matches('\'').to_owned()).collect();
        }
        for group in constraints.split("oneOf=").skip(1) {
            // [[[a], [b]], [a], [b]]: the first element stands for none of them.
            let names = group.split("]], ").nth(1).unwrap_or_default();
            let names = names.split([',', ' ', '[', ']']).filter(|name| !name.is_empty());
            self.one_of.push(names.map(str::to_owned).collect());
        }
        if constraints.contains("duration(self)") {
            self.rule = Some(Rule::Duration);
        } else if constraints.contains("key.contains") {
            self.rule = Some(Rule::Keys);
        } else if constraints.contains("self.contains") {
            self.rule = Some(Rule::NoStar);
        }
    }
}

/// What a walk through a document found.
struct Found {
    /// The kind's own schema.
    root: &'static Field,
    /// The code for a required field that is missing: each kind has its own.
    required: &'static str,
    structure: Report,
    unknown: Report,
    cel: Report,
}

pub(super) fn judge(document: &Value, report: &mut Report) -> SchemaVerdict {
    let kind = document.get("kind").and_then(Value::as_str).unwrap_or_default();
    let (Some(map), Some(root)) = (document.as_map(), kinds().get(kind)) else {
        report.error("DEC-001", "kind", format!("`{kind}` is neither a VirtualService nor a DestinationRule"));
        return SchemaVerdict::Reject;
    };
    let mut found = Found {
        root,
        required: if kind == "VirtualService" { "CRD-VS-001" } else { "CRD-DR-001" },
        structure: Report::default(),
        unknown: Report::default(),
        cel: Report::default(),
    };
    let version = map.get("apiVersion").and_then(Value::as_str).unwrap_or_default();
    if !crate::resource::is_served(version) {
        let message = format!("`{version}` is not served: networking.istio.io/v1, v1beta1 and v1alpha3 are");
        found.structure.error("DEC-002", "apiVersion", message);
    }
    if let Some(spec) = root.children.get("spec")
        && let Some(value) = map.get("spec")
    {
        spec.walk(value, "spec", &mut found);
    }
    if map.get("status").is_some_and(|status| status.as_map().is_none()) {
        found.structure.error("CRD-010", "status", "the status is an object");
    }
    for entry in map {
        if !matches!(entry.key.as_str(), "apiVersion" | "kind" | "metadata" | "spec" | "status") {
            found.unknown.error("CRD-012", entry.key.as_str(), format!("`{}` is not a field of a resource", entry.key));
        }
    }
    for (part, verdict) in [
        (found.structure, SchemaVerdict::Reject),
        (found.unknown, SchemaVerdict::UnknownField),
        (found.cel, SchemaVerdict::Reject),
    ] {
        if !part.diagnostics.is_empty() {
            report.diagnostics.extend(part.diagnostics);
            return verdict;
        }
    }
    SchemaVerdict::Ok
}

/// Names of enums that nobody knows: the types keep them, Istio's decoder does not take them.
pub(super) fn unknown_names(document: &Value, report: &mut Report) {
    let kind = document.get("kind").and_then(Value::as_str).unwrap_or_default();
    let spec = kinds().get(kind).and_then(|root| root.children.get("spec"));
    if let (Some(spec), Some(value)) = (spec, document.get("spec")) {
        spec.names(value, "spec", report);
    }
}

/// `snake_case` as the API's JSON has it.
fn camel_case(name: &str) -> String {
    let mut parts = name.split('_');
    let mut camel = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let mut letters = part.chars();
        camel.extend(letters.next().map(|first| first.to_ascii_uppercase()));
        camel.push_str(letters.as_str());
    }
    camel
}

impl Field {
    fn names(&self, value: &Value, path: &str, report: &mut Report) {
        match &value.data {
            Data::String(text) if !self.allowed.is_empty() && !self.allowed.iter().any(|name| name == text) => {
                let message = format!("`{text}` is none of {}", self.allowed.join(", "));
                let near = nearest(text, self.allowed.iter());
                report.add(Severity::Error, "DEC-015", path, message).suggest(near);
            }
            Data::List(list) => {
                if let Some(item) = &self.item {
                    list.iter().enumerate().for_each(|(index, value)| {
                        item.names(value, &format!("{path}[{index}]"), report);
                    });
                }
            }
            Data::Map(map) => {
                for entry in map {
                    let child = self.value.as_deref().or_else(|| {
                        // The field's own name wins over its other spelling.
                        let camel = camel_case(&entry.key);
                        let other = camel != entry.key && map.get(&camel).is_some();
                        self.children.get(&camel).filter(|_| !other)
                    });
                    if let Some(child) = child {
                        child.names(&entry.value, &format!("{path}.{}", entry.key), report);
                    }
                }
            }
            _ => {}
        }
    }

    fn walk(&self, value: &Value, path: &str, found: &mut Found) {
        if value.is_null() {
            if !self.nullable {
                let message = match self.kind {
                    Kind::Object | Kind::Array => format!(
                        "nothing stands in it, and {} is wanted: indent what belongs into it, or leave it out",
                        self.kind.article()
                    ),
                    _ => format!("null is not {}; leave the field out", self.kind.article()),
                };
                found.structure.error("CRD-002", path, message);
            }
            return;
        }
        match (self.kind, &value.data) {
            (Kind::Object, Data::Map(map)) => self.object(map, path, found),
            (Kind::Array, Data::List(list)) => {
                if let Some(most) = self.max_items.filter(|most| list.len() > *most) {
                    found.structure.error("CRD-DR-002", path, format!("{} items are more than {most}", list.len()));
                }
                let Some(item) = &self.item else { return };
                for (index, value) in list.iter().enumerate() {
                    item.walk(value, &format!("{path}[{index}]"), found);
                }
            }
            (Kind::String, Data::String(text)) => self.string(text, path, found),
            // A list passes as bytes, whatever is in it; keys of objects in it are nobody's.
            (Kind::String, Data::List(list)) if self.bytes => {
                for (index, value) in list.iter().enumerate() {
                    unknown_in(value, &format!("{path}[{index}]"), found);
                }
            }
            (Kind::Boolean, Data::Bool(_)) => {}
            (Kind::Integer, Data::Number(number)) => match integer(number) {
                Some(number) => self.bounds(number as f64, path, found),
                None => {
                    let message = format!("{} is not a whole number of 64 bits", number.as_str());
                    found.structure.error("CRD-001", path, message);
                }
            },
            (Kind::Number, Data::Number(number)) => self.bounds(number.as_f64(), path, found),
            _ => {
                let is_duration = self.rule == Some(Rule::Duration);
                let wanted = if is_duration { "a time with its unit, such as `1.5s`," } else { self.kind.article() };
                let message = format!("{wanted} is wanted, not a {}", value.type_name());
                let text = value.as_number().map(|number| number.as_str().to_owned());
                let text = text.or_else(|| value.as_bool().map(|value| value.to_string()));
                let meant = match (self.kind, value.as_str()) {
                    (Kind::String, None) if is_duration => text.map(|text| format!("{text}s")),
                    (Kind::String, None) => text.map(|text| format!("'{text}'")),
                    (Kind::Array, Some(text)) if text.len() < 60 => Some(format!("[{text}]")),
                    (Kind::Integer | Kind::Number, Some(text)) if text.parse::<f64>().is_ok() => Some(text.to_owned()),
                    (Kind::Boolean, Some(text @ ("true" | "false"))) => Some(text.to_owned()),
                    _ => None,
                };
                found.structure.add(Severity::Error, "CRD-001", path, message).suggest(meant);
            }
        }
    }

    fn object(&self, map: &Map, path: &str, found: &mut Found) {
        for name in self.required.iter().filter(|name| map.get(name).is_none()) {
            found.structure.error(found.required, path, format!("`{name}` is required"));
        }
        for group in &self.one_of {
            let present: Vec<&str> = group.iter().map(String::as_str).filter(|name| map.get(name).is_some()).collect();
            if present.len() > 1 {
                let message = format!("only one of {} can be set", present.join(", "));
                found.structure.error("CRD-006", path, message);
            }
        }
        if let Some(most) = self.max_properties.filter(|most| map.len() > *most) {
            found.structure.error("CRD-DR-007", path, format!("{} entries are more than {most}", map.len()));
        }
        for entry in map {
            let key = &entry.key;
            if let Some(value) = &self.value {
                if self.rule == Some(Rule::Keys) && (key.is_empty() || key.contains('*')) {
                    found.cel.error("CRD-DR-007", path, format!("`{key}` cannot be a key: no `*`, and not empty"));
                }
                value.walk(&entry.value, &format!("{path}[{key}]"), found);
            } else if let Some(field) = self.children.get(key) {
                field.walk(&entry.value, &format!("{path}.{key}"), found);
            } else {
                let near = nearest(key, self.children.keys()).map(str::to_owned);
                let (message, meant) = match near.is_none().then(|| found.root.elsewhere(key, path)).flatten() {
                    Some(place) => (format!("there is no field `{key}` here, but elsewhere there is"), Some(place)),
                    None => (format!("there is no field `{key}`"), near),
                };
                found.unknown.add(Severity::Error, "CRD-012", format!("{path}.{key}"), message).suggest(meant);
            }
        }
    }

    /// Where a field of this name is, or of nearly this name: of several places the one that has most in common with a path.
    fn elsewhere(&self, name: &str, path: &str) -> Option<String> {
        let mut places = Vec::new();
        self.places(name, String::new(), &mut places);
        // `spec.http[0].route` as the schema has it.
        let mut plain = String::new();
        let mut depth = 0;
        for letter in path.chars() {
            depth += i32::from(letter == '[');
            if depth == 0 {
                plain.push(letter);
            }
            depth -= i32::from(letter == ']');
        }
        let common = |place: &String| place.split('.').zip(plain.split('.')).take_while(|(a, b)| a == b).count();
        places.into_iter().max_by_key(|place| (common(place), std::cmp::Reverse(place.len())))
    }

    fn places(&self, name: &str, path: String, places: &mut Vec<String>) {
        for (own, field) in &self.children {
            let path = if path.is_empty() { own.clone() } else { format!("{path}.{own}") };
            if own == name || nearest(name, std::iter::once(own)).is_some() {
                places.push(path.clone());
            }
            field.places(name, path, places);
        }
        for inner in [&self.item, &self.value].into_iter().flatten() {
            inner.places(name, path.clone(), places);
        }
    }

    fn string(&self, text: &str, path: &str, found: &mut Found) {
        if !self.allowed.is_empty() && !self.allowed.iter().any(|name| name == text) {
            let message = format!("`{text}` is none of {}", self.allowed.join(", "));
            let near = nearest(text, self.allowed.iter());
            found.structure.add(Severity::Error, "CRD-009", path, message).suggest(near);
        }
        if self.bytes && !is_base64(text) {
            found.structure.error("CRD-008", path, "this is not padded base64 without white space");
        }
        if let Some(most) = self.max_length.filter(|most| text.chars().count() > *most) {
            found.structure.error("CRD-DR-007", path, format!("`{text}` has more than {most} characters"));
        }
        match self.rule {
            Some(Rule::Duration) => match text.parse::<Duration>() {
                Ok(duration) if duration.as_nanos() >= 1_000_000 => {}
                Ok(_) => found.cel.error("CRD-007", path, format!("`{text}` is shorter than 1ms")),
                Err(error) => found.cel.error("CRD-007", path, error.to_string()),
            },
            Some(Rule::NoStar) if text.contains('*') => {
                found.cel.error("CRD-DR-007", path, format!("`{text}` has a `*`"));
            }
            _ => {}
        }
    }

    fn bounds(&self, number: f64, path: &str, found: &mut Found) {
        let int32 = self.int32 && !(-2_147_483_648.0..=2_147_483_647.0).contains(&number);
        let low = self.minimum.is_some_and(|minimum| number < minimum);
        let high = self.maximum.is_some_and(|maximum| number > maximum);
        if int32 || low || high {
            let text = |bound: Option<f64>, default: &str| bound.map_or(default.to_owned(), |bound| bound.to_string());
            let (from, to) = if self.int32 && self.minimum.is_none() {
                ("-2147483648".to_owned(), "2147483647".to_owned())
            } else {
                (text(self.minimum, "any"), text(self.maximum, "any"))
            };
            let name = path.rsplit('.').next().unwrap_or_default();
            let code = match name.split('[').next().unwrap_or_default() {
                "outlierDetectionHttpErrorCodes" => "CRD-DR-003",
                "minimumPercent" | "aggression" => "CRD-DR-004",
                "minClusterSize" => "CRD-DR-005",
                "percent" if self.maximum == Some(100.0) => "CRD-DR-006",
                _ if self.int32 => "CRD-005",
                _ => "CRD-004",
            };
            found.structure.error(code, path, format!("{number} is outside of {from} to {to}"));
        }
    }
}

fn nearest<'a>(name: &str, known: impl Iterator<Item = &'a String>) -> Option<&'a str> {
    let known: Vec<&str> = known.map(String::as_str).collect();
    crate::resource::nearest::nearest(name, &known)
}

/// Every key of every object in here is unknown.
fn unknown_in(value: &Value, path: &str, found: &mut Found) {
    match &value.data {
        Data::Map(map) => {
            for entry in map {
                let path = format!("{path}.{}", entry.key);
                found.unknown.error("CRD-012", path, format!("there is no field `{}`", entry.key));
            }
        }
        Data::List(list) => list.iter().for_each(|value| unknown_in(value, path, found)),
        _ => {}
    }
}

/// A whole number: a literal of 64 bits, or any other that is whole and exact.
fn integer(number: &Number) -> Option<i64> {
    if number.is_integer_literal() {
        return number.as_i128().and_then(|number| i64::try_from(number).ok());
    }
    let float = number.as_f64();
    (float.fract() == 0.0 && float.abs() <= 9_007_199_254_740_991.0).then_some(float as i64)
}

fn is_base64(text: &str) -> bool {
    let body = text.trim_end_matches('=');
    let padding = text.len() - body.len();
    !text.is_empty()
        && text.len().is_multiple_of(4)
        && padding <= 2
        && body.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/'))
}

impl Kind {
    fn article(self) -> &'static str {
        match self {
            Kind::Object => "an object",
            Kind::Array => "a list",
            Kind::String => "a string",
            Kind::Boolean => "true or false",
            Kind::Integer => "a whole number",
            Kind::Number => "a number",
        }
    }
}
