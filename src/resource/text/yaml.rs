//! One document of YAML to a tree.
//!
//! The parser underneath is YAML 1.2 in spirit; Kubernetes' tools read YAML 1.1. What differs is put right here, on
//! scalars that stand without quotes: `yes`, `no`, `on`, `off`, `y`, `n` are booleans, `012` is octal, `1_000` is a
//! number. Refused, with the reason: a key that is there twice (the tools keep the last one silently, or refuse),
//! merge keys (`<<`), local tags, `.inf` and `.nan`.
//!
//! Places. The parser tells places only with its errors, but it lends strings as slices of the text: where a slice lies
//! is where the scalar stands, and whether a quote stands before it tells how it was written. So keys and most strings
//! have their own place; other scalars have that of their key, and lists and maps that of the first thing in them.
//! A place that an alias leads back to is left out.
//!
//! Cost: linear, under the limits. Deep flow nesting costs the parser underneath time that grows with the square of the
//! depth, before it could be stopped; so brackets are counted first ([`too_deep`]).

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, EnumAccess, MapAccess, SeqAccess, Visitor};

use super::split::Chunk;
use super::{Budget, Limits, TextError, push_unique};
use crate::resource::value::{Data, Entry, Map, Number, Position, Value, clip};

/// So deep that even a miscount cannot mean a document that is in its limits.
const ABSURD_DEPTH: usize = 1000;

/// Reads one document.
pub(crate) fn read(chunk: Chunk<'_>, limits: &Limits) -> Result<Value, TextError> {
    if let Some(line) = too_deep(chunk.text, ABSURD_DEPTH) {
        let message = format!("the document is deeper than {} levels", limits.depth());
        return Err(TextError::new(Some(Position { line: chunk.line + line, column: 1 }), message));
    }
    let reader = Reader {
        text: chunk.text,
        most_depth: limits.depth(),
        state: RefCell::new(State {
            offset: 0,
            position: Position { line: chunk.line, column: 1 },
            budget: Budget::new(limits, chunk.text.len()),
            merge: false,
            refused: None,
        }),
    };
    let node = Node { reader: &reader, depth: 0 };
    node.deserialize(serde_yaml::Deserializer::from_str(chunk.text)).map_err(|error| {
        let told = error.location().map(|at| Position { line: chunk.line + at.line() - 1, column: at.column() });
        match reader.state.into_inner().refused {
            Some(refused) => TextError { position: refused.position.or(told), ..refused },
            None => {
                // The parser's own words end in a place that counts from the document's beginning.
                let words = error.to_string();
                let words = match words.split(" at line ").next().unwrap_or("") {
                    words if words.contains("more than one document") => "expected the end of the document",
                    words => words,
                };
                TextError::new(told, words)
            }
        }
    })
}

struct Reader<'t> {
    text: &'t str,
    most_depth: usize,
    state: RefCell<State>,
}

struct State {
    /// Up to where `position` has been counted.
    offset: usize,
    position: Position,
    budget: Budget,
    /// Whether the last string was a plain `<<`.
    merge: bool,
    /// Why we stopped, where it was us.
    refused: Option<TextError>,
}

impl Reader<'_> {
    /// Where a slice of the text begins.
    fn offset(&self, slice: &str) -> Option<usize> {
        let offset = (slice.as_ptr() as usize).checked_sub(self.text.as_ptr() as usize)?;
        (offset + slice.len() <= self.text.len()).then_some(offset)
    }

    /// The place of an offset. Counting only goes forward, so that all of it together is linear.
    fn position(&self, offset: usize) -> Option<Position> {
        let mut state = self.state.borrow_mut();
        let between = self.text.get(state.offset..offset)?;
        for c in between.chars() {
            if c == '\n' {
                state.position.line += 1;
                state.position.column = 1;
            } else {
                state.position.column += 1;
            }
        }
        state.offset = offset;
        Some(state.position)
    }

    fn pay<E: serde::de::Error>(&self, length: usize) -> Result<(), E> {
        let paid = self.state.borrow_mut().budget.pay(length);
        paid.map_err(|message| self.refuse(TextError::new(None, message)))
    }

    fn refuse<E: serde::de::Error>(&self, error: TextError) -> E {
        self.state.borrow_mut().refused = Some(error);
        E::custom("refused")
    }

    /// Whether the scalar at this slice stands plain: no quotes around it and no tag before it.
    fn is_plain(&self, offset: usize, length: usize) -> bool {
        let before = self.text.get(..offset).unwrap_or("");
        let after = self.text.get(offset + length..).unwrap_or("");
        if ['"', '\''].iter().any(|quote| before.ends_with(*quote) && after.starts_with(*quote)) {
            return false;
        }
        // Properties stand right before a scalar; anchors say nothing about its type. Looking back has a bound.
        const FAR: usize = 200;
        let start = (before.len().saturating_sub(FAR)..=before.len()).find(|start| before.is_char_boundary(*start));
        let before = start.and_then(|start| before.get(start..)).unwrap_or("");
        let words = before.rsplit(|c: char| c.is_whitespace() || matches!(c, '[' | '{' | ','));
        let mut properties = words.filter(|word| !word.is_empty()).take_while(|word| word.starts_with(['&', '!']));
        !properties.any(|word| word.starts_with('!'))
    }
}

/// What YAML 1.1 makes of a plain scalar that YAML 1.2 takes for a string.
fn resolve_1_1(text: &str) -> Option<Data> {
    match text {
        "y" | "Y" | "yes" | "Yes" | "YES" | "on" | "On" | "ON" => return Some(Data::Bool(true)),
        "n" | "N" | "no" | "No" | "NO" | "off" | "Off" | "OFF" => return Some(Data::Bool(false)),
        _ => {}
    }
    if !text.starts_with(|c: char| c.is_ascii_digit() || matches!(c, '+' | '-' | '.')) {
        return None;
    }
    let text = text.replace('_', "");
    let (sign, digits) = match text.as_bytes().first()? {
        b'-' => ("-", text.get(1..)?),
        b'+' => ("", text.get(1..)?),
        _ => ("", text.as_str()),
    };
    if digits.is_empty() || !digits.bytes().any(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let based = |digits: &str, base| u64::from_str_radix(digits, base).ok();
    let prefixed = [("0x", 16), ("0X", 16), ("0b", 2), ("0B", 2), ("0o", 8), ("0O", 8), ("0", 8)]
        .into_iter()
        .find_map(|(prefix, base)| digits.strip_prefix(prefix).and_then(|digits| based(digits, base)));
    if let Some(number) = prefixed.or_else(|| based(digits, 10)) {
        return Number::from_json(&format!("{sign}{number}")).map(Data::Number);
    }
    let float = digits.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'.' | b'e' | b'E' | b'+' | b'-'));
    let number = if float { text.parse::<f64>().ok()? } else { return None };
    Number::from_f64(number).map(Data::Number)
}

#[derive(Clone, Copy)]
struct Node<'r, 't> {
    reader: &'r Reader<'t>,
    depth: usize,
}

impl Node<'_, '_> {
    fn deeper<E: serde::de::Error>(self) -> Result<Self, E> {
        if self.depth >= self.reader.most_depth {
            let message = format!("the document is deeper than {} levels", self.reader.most_depth);
            return Err(self.reader.refuse(TextError::new(None, message)));
        }
        Ok(Self { depth: self.depth + 1, ..self })
    }

    fn scalar<E: serde::de::Error>(self, data: Data) -> Result<Value, E> {
        self.reader.pay(0)?;
        Ok(data.into())
    }
}

impl<'de> DeserializeSeed<'de> for Node<'_, '_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Node<'_, '_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_unit<E: serde::de::Error>(self) -> Result<Value, E> {
        self.scalar(Data::Null)
    }

    fn visit_none<E: serde::de::Error>(self) -> Result<Value, E> {
        self.scalar(Data::Null)
    }

    fn visit_bool<E: serde::de::Error>(self, value: bool) -> Result<Value, E> {
        self.scalar(Data::Bool(value))
    }

    fn visit_i64<E: serde::de::Error>(self, value: i64) -> Result<Value, E> {
        self.scalar(Value::from(value).data)
    }

    fn visit_u64<E: serde::de::Error>(self, value: u64) -> Result<Value, E> {
        self.scalar(Value::from(value).data)
    }

    fn visit_i128<E: serde::de::Error>(self, value: i128) -> Result<Value, E> {
        self.visit_f64(value as f64)
    }

    fn visit_u128<E: serde::de::Error>(self, value: u128) -> Result<Value, E> {
        self.visit_f64(value as f64)
    }

    fn visit_f64<E: serde::de::Error>(self, value: f64) -> Result<Value, E> {
        match Number::from_f64(value) {
            Some(number) => self.scalar(Data::Number(number)),
            None => Err(self.reader.refuse(TextError::new(None, "a number must be finite"))),
        }
    }

    fn visit_borrowed_str<E: serde::de::Error>(self, value: &'de str) -> Result<Value, E> {
        self.reader.pay(value.len())?;
        let Some(offset) = self.reader.offset(value) else { return Ok(value.into()) };
        self.reader.state.borrow_mut().merge = value == "<<" && self.reader.is_plain(offset, value.len());
        let resolved = match resolve_1_1(value) {
            Some(data) if self.reader.is_plain(offset, value.len()) => data,
            _ => Data::String(value.to_owned()),
        };
        // A quoted scalar begins with its quote.
        let before = self.reader.text.get(..offset).unwrap_or("");
        let start = offset - usize::from(before.ends_with(['"', '\'']));
        Ok(Value { data: resolved, position: self.reader.position(start) })
    }

    fn visit_str<E: serde::de::Error>(self, value: &str) -> Result<Value, E> {
        self.reader.pay(value.len())?;
        self.reader.state.borrow_mut().merge = false;
        Ok(value.into())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut access: A) -> Result<Value, A::Error> {
        let inner = self.deeper()?;
        self.reader.pay(0)?;
        let mut items: Vec<Value> = Vec::new();
        while let Some(item) = access.next_element_seed(inner)? {
            items.push(item);
        }
        let position = items.first().and_then(|item| item.position);
        Ok(Value { data: Data::List(items), position })
    }

    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Value, A::Error> {
        let inner = self.deeper()?;
        self.reader.pay(0)?;
        let mut map = Map::new();
        let mut seen = BTreeSet::new();
        while let Some(key) = access.next_key_seed(inner)? {
            let position = key.position;
            let key = match key.data {
                Data::String(text) if text == "<<" && self.reader.state.borrow().merge => {
                    let message = "merge keys (`<<`) are not read; write the fields out, or an alias as a whole value";
                    return Err(self.reader.refuse(TextError::new(position, message)));
                }
                Data::String(text) => text,
                Data::Bool(value) => value.to_string(),
                Data::Number(number) => number.as_str().to_owned(),
                _ => {
                    let message = "a key must be a string";
                    return Err(self.reader.refuse(TextError::new(position, message)));
                }
            };
            let mut value = access.next_value_seed(inner)?;
            value.position = value.position.or(position);
            push_unique(&mut map, &mut seen, Entry { key, position, value })
                .map_err(|error| self.reader.refuse::<A::Error>(error))?;
        }
        let position = map.iter().next().and_then(|entry| entry.position);
        Ok(Value { data: Data::Map(map), position })
    }

    fn visit_enum<A: EnumAccess<'de>>(self, access: A) -> Result<Value, A::Error> {
        let (tag, _) = access.variant::<String>()?;
        let message = format!("the tag `!{}` is not known", clip(tag.trim_start_matches('!')));
        Err(self.reader.refuse(TextError::new(None, message)))
    }
}

/// The line (from 0) where flow brackets, or block dashes on one line, stand deeper in each other than allowed.
///
/// Not a parser: brackets are counted from where a flow collection can begin, with quotes and comments inside it
/// respected. A text in a block scalar may be miscounted, but only one that has very many open brackets.
pub(crate) fn too_deep(text: &str, most: usize) -> Option<usize> {
    let mut depth = 0_usize;
    for (number, line) in text.split('\n').enumerate() {
        let mut indicators = 0_usize;
        let mut quote: Option<char> = None;
        let mut may_begin = true;
        let mut escaped = false;
        for c in line.chars() {
            if let Some(open) = quote {
                match c {
                    _ if escaped => escaped = false,
                    '\\' if open == '"' => escaped = true,
                    _ if c == open => quote = None,
                    _ => {}
                }
                continue;
            }
            match c {
                '[' | '{' if may_begin || depth > 0 => depth += 1,
                ']' | '}' => depth = depth.saturating_sub(1),
                '"' | '\'' if may_begin => quote = Some(c),
                '#' if may_begin => break,
                '-' | '?' if may_begin => indicators += 1,
                ' ' | '\t' => {}
                _ => {}
            }
            may_begin = matches!(c, ' ' | '\t' | ':' | ',' | '[' | '{' | '-' | '?');
            if depth > most || indicators > most {
                return Some(number);
            }
        }
    }
    None
}
