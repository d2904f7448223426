//! From trees to text.
//!
//! YAML in block style with two blanks a level, as `kubectl` prints it. A string stands plain only where no reader can
//! take it for anything else, YAML 1.1's booleans and octal numbers included; else in double quotes, with JSON's
//! escapes, which YAML reads alike.

use std::fmt::Write;

use crate::resource::value::{Data, Value};

/// One document of YAML, with a line end.
pub(crate) fn yaml(value: &Value) -> String {
    let mut out = String::new();
    yaml_node(&mut out, value, 0, false);
    out
}

/// JSON without blanks.
pub(crate) fn json(value: &Value) -> String {
    let mut out = String::new();
    json_node(&mut out, value);
    out
}

/// Writes a node. `inline` says that the line has begun (after `key:` or `-`).
fn yaml_node(out: &mut String, value: &Value, indent: usize, inline: bool) {
    match &value.data {
        Data::Map(map) if !map.is_empty() => {
            for (index, entry) in map.iter().enumerate() {
                if index > 0 || !inline {
                    out.extend(std::iter::repeat_n(' ', indent));
                }
                string(out, &entry.key);
                out.push(':');
                match &entry.value.data {
                    Data::Map(inner) if !inner.is_empty() => {
                        out.push('\n');
                        yaml_node(out, &entry.value, indent + 2, false);
                    }
                    Data::List(items) if !items.is_empty() => {
                        out.push('\n');
                        yaml_node(out, &entry.value, indent, false);
                    }
                    _ => {
                        out.push(' ');
                        yaml_node(out, &entry.value, indent, true);
                    }
                }
            }
        }
        Data::List(items) if !items.is_empty() => {
            for (index, item) in items.iter().enumerate() {
                if index > 0 || !inline {
                    out.extend(std::iter::repeat_n(' ', indent));
                }
                out.push_str("- ");
                yaml_node(out, item, indent + 2, true);
            }
        }
        Data::String(text) => {
            string(out, text);
            out.push('\n');
        }
        _ => {
            json_node(out, value);
            out.push('\n');
        }
    }
}

fn string(out: &mut String, text: &str) {
    if is_plain(text) { out.push_str(text) } else { quoted(out, text) }
}

/// Whether a string may stand without quotes in any YAML: a narrow rule that is easy to be sure of.
fn is_plain(text: &str) -> bool {
    const RESERVED: [&str; 11] = ["y", "n", "yes", "no", "on", "off", "true", "false", "null", "nan", "inf"];
    let begins = |byte: &u8| byte.is_ascii_alphabetic() || *byte == b'/';
    let holds = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.' | b'/');
    let number_like = || text.bytes().next().is_some_and(|byte| byte.is_ascii_digit());
    // `1m30s` and `10.0.0.1` begin like numbers; a letter other than those of numbers rules that out.
    let unit = || {
        let last = text.bytes().last();
        matches!(last, Some(b's' | b'm' | b'h'))
            && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'.' | b's' | b'm' | b'h'))
    };
    text.bytes().all(holds)
        && (text.as_bytes().first().is_some_and(begins) || (number_like() && unit()))
        && !RESERVED.iter().any(|word| text.eq_ignore_ascii_case(word))
}

fn quoted(out: &mut String, text: &str) {
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            c if c.is_control() || matches!(c, '\u{2028}' | '\u{2029}' | '\u{feff}' | '\u{fffe}' | '\u{ffff}') => {
                let _ = write!(out, "\\u{:04x}", u32::from(c));
            }
            c => out.push(c),
        }
    }
    out.push('"');
}

fn json_node(out: &mut String, value: &Value) {
    match &value.data {
        Data::Null => out.push_str("null"),
        Data::Bool(value) => out.push_str(if *value { "true" } else { "false" }),
        Data::Number(number) => out.push_str(number.as_str()),
        Data::String(text) => quoted(out, text),
        Data::List(items) => {
            out.push('[');
            for (index, item) in items.iter().enumerate() {
                if index > 0 {
                    out.push(',');
                }
                json_node(out, item);
            }
            out.push(']');
        }
        Data::Map(map) => {
            out.push('{');
            for (index, entry) in map.iter().enumerate() {
                if index > 0 {
                    out.push(',');
                }
                quoted(out, &entry.key);
                out.push(':');
                json_node(out, &entry.value);
            }
            out.push('}');
        }
    }
}
