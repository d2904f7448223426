//! What many rules ask: is this a host, a label, a duration, a header's name, a regular expression?
//!
//! Each answers with what is wrong, in words, or with nothing. The definitions are those of Istio's validation, with all
//! that they let through.

use crate::resource::{Destination, Duration, Percent, StringMatch};
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

pub(super) type Verdict = Result<(), String>;

fn fail<T>(message: impl Into<String>) -> Result<T, String> {
    Err(message.into())
}

/// At least a millisecond, and whole milliseconds.
pub(super) fn duration(value: Duration) -> Verdict {
    let nanos = value.as_nanos();
    if nanos < 1_000_000 {
        return fail(format!("`{value}` is shorter than 1ms"));
    }
    if nanos % 1_000_000 != 0 {
        return fail(format!("`{value}` is not a whole number of milliseconds"));
    }
    Ok(())
}

pub(super) fn port(number: u32) -> Verdict {
    if (1..=65_535).contains(&number) { Ok(()) } else { fail(format!("{number} is not a port: 1 to 65535")) }
}

fn is_label(text: &str) -> bool {
    let inner = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
    text.len() <= 63
        && text.bytes().all(inner)
        && text.bytes().next().is_some_and(|byte| byte.is_ascii_alphanumeric())
        && text.bytes().next_back().is_some_and(|byte| byte.is_ascii_alphanumeric())
}

pub(super) fn label(text: &str) -> Verdict {
    if is_label(text) {
        return Ok(());
    }
    fail(format!("`{text}` is not a DNS label: letters, digits and inner `-`, 63 at most"))
}

fn is_wildcard_label(text: &str) -> bool {
    if text.len() > 63 {
        return false;
    }
    match text.strip_prefix('*') {
        None => is_label(text),
        Some("") => true,
        Some(rest) => is_label(rest.strip_prefix('-').unwrap_or(rest)),
    }
}

fn length(text: &str) -> Verdict {
    if (1..=255).contains(&text.len()) {
        Ok(())
    } else {
        fail(format!("a host has 1 to 255 characters, not {}", text.len()))
    }
}

/// Dotted labels. The last may be empty (a trailing dot), and is not a number.
fn labels(text: &str) -> Verdict {
    let parts: Vec<&str> = text.split('.').collect();
    let last = parts.last().copied().unwrap_or_default();
    let digits = last.strip_prefix(['+', '-']).unwrap_or(last);
    if !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit()) && last.parse::<i64>().is_ok() {
        return fail(format!("`{text}` ends in a number, as only an address does"));
    }
    for (index, part) in parts.iter().enumerate() {
        if part.is_empty() && index + 1 == parts.len() {
            continue;
        }
        label(part)?;
    }
    Ok(())
}

pub(super) fn fqdn(text: &str) -> Verdict {
    length(text)?;
    labels(text)
}

pub(super) fn wildcard_domain(text: &str) -> Verdict {
    length(text)?;
    let (first, rest) = text.split_once('.').map_or((text, None), |(first, rest)| (first, Some(rest)));
    if !is_wildcard_label(first) {
        return fail(format!("`{text}` is not a host: labels joined by dots, a `*` only in front"));
    }
    rest.map_or(Ok(()), labels)
}

/// A host of a VirtualService at a gateway. With SNI also `outbound_.80_._.host`.
pub(super) fn gateway_domain(text: &str, sni: bool) -> Verdict {
    length(text)?;
    if !(sni && text.starts_with("outbound_")) {
        return wildcard_domain(text);
    }
    let parts: Vec<&str> = text.split('_').collect();
    let has = |index: usize, test: fn(&u8) -> bool| {
        parts.get(index).is_some_and(|part| part.trim_matches('.').as_bytes().iter().any(test))
    };
    if parts.len() >= 4 && has(1, u8::is_ascii_digit) && has(3, u8::is_ascii_alphabetic) {
        return Ok(());
    }
    fail(format!("`{text}` is not of the form `outbound_.PORT_.SUBSET_.HOST`"))
}

/// An address; IPv6 may have a zone.
pub(super) fn ip(text: &str) -> bool {
    match text.split_once('%') {
        None => text.parse::<IpAddr>().is_ok(),
        Some((address, zone)) => !zone.is_empty() && address.parse::<Ipv6Addr>().is_ok(),
    }
}

pub(super) fn subnet(text: &str) -> Verdict {
    let good = match text.split_once('/') {
        Some((address, bits)) => {
            let plain = !bits.is_empty()
                && bits.bytes().all(|byte| byte.is_ascii_digit())
                && (bits == "0" || !bits.starts_with('0'));
            let bits: Option<u32> = bits.parse().ok().filter(|_| plain);
            bits.is_some_and(|bits| {
                (address.parse::<Ipv4Addr>().is_ok() && bits <= 32)
                    || (address.parse::<Ipv6Addr>().is_ok() && bits <= 128)
            })
        }
        None => ip(text),
    };
    if good { Ok(()) } else { fail(format!("`{text}` is not an address or a subnet")) }
}

pub(super) use crate::hosts::{is_subset as subset_of, overlap as matches};

fn is_name(text: &str) -> bool {
    let inner = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    text.bytes().all(inner)
        && text.bytes().next().is_some_and(|byte| byte.is_ascii_alphanumeric())
        && text.bytes().next_back().is_some_and(|byte| byte.is_ascii_alphanumeric())
}

/// Labels of a workload or a subset.
pub(super) fn tags(labels: &BTreeMap<String, String>) -> Verdict {
    for (key, value) in labels {
        let (prefix, name) = key.split_once('/').map_or((None, key.as_str()), |(prefix, name)| (Some(prefix), name));
        let good_prefix = prefix.is_none_or(|prefix| {
            prefix.len() <= 253
                && prefix.split('.').all(|part| {
                    let inner = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
                    part.bytes().all(inner)
                        && part.bytes().next().is_some_and(|byte| byte.is_ascii_alphanumeric())
                        && part.bytes().next_back().is_some_and(|byte| byte.is_ascii_alphanumeric())
                })
        });
        if !good_prefix || name.len() > 63 || !is_name(name) {
            return fail(format!("`{key}` is not a label's name"));
        }
        if !value.is_empty() && !is_name(value) {
            return fail(format!("`{value}` is not a label's value"));
        }
    }
    Ok(())
}

/// A claim of a token: `@request.auth.claims.name` or `@request.auth.claims[name]`.
pub(super) fn is_claim(key: &str) -> bool {
    let lower = key.to_ascii_lowercase();
    let Some(rest) = lower.strip_prefix("@request.auth.claims") else { return false };
    match rest.strip_prefix('.') {
        Some(name) => !name.is_empty(),
        None => rest.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).is_some_and(|name| !name.is_empty()),
    }
}

/// The characters of a header's name, as Istio's expression has them: `+` to `.`, so a comma too.
fn is_token(text: &str) -> bool {
    let inner = |byte: u8| {
        byte.is_ascii_alphanumeric() || matches!(byte, b'!' | b'#'..=b'\'' | b'*'..=b'.' | b'^'..=b'`' | b'|' | b'~')
    };
    !text.is_empty() && text.bytes().all(inner)
}

pub(super) fn match_header(key: &str) -> Verdict {
    let pseudo = matches!(key, ":method" | ":scheme" | ":authority" | ":path" | ":status");
    if is_claim(key) || pseudo || is_token(key) {
        return Ok(());
    }
    fail(format!("`{key}` is not a header's name"))
}

pub(super) fn request_header(name: &str) -> Verdict {
    if name.is_empty() {
        return fail("a header's name is empty");
    }
    if name.starts_with(':') && !name.eq_ignore_ascii_case(":authority") {
        return fail(format!("`{name}` cannot be changed; of names with a colon only `:authority` can"));
    }
    Ok(())
}

pub(super) fn operation_header(name: &str) -> Verdict {
    if name.is_empty() {
        return fail("a header's name is empty");
    }
    if name.eq_ignore_ascii_case("host") || name.starts_with(':') {
        return fail(format!("`{name}` cannot be changed here"));
    }
    Ok(())
}

pub(super) fn cors_header(name: &str) -> Verdict {
    if name == "*" || is_token(name) { Ok(()) } else { fail(format!("`{name}` is not a header's name, nor `*`")) }
}

/// No control characters, and `%` only as `%%` or around a command.
pub(super) fn header_value(value: &str) -> Verdict {
    if value.bytes().any(|byte| (byte < 0x20 && byte != b'\t') || byte == 0x7f) {
        return fail("a header's value has a control character");
    }
    if percent_signs(value.as_bytes()) {
        Ok(())
    } else {
        fail(format!("`{value}` has a `%` that is not `%%` and not a whole command; write `%%` for a percent sign"))
    }
}

fn percent_signs(value: &[u8]) -> bool {
    enum State {
        Literal,
        Name,
        Argument,
        Quote,
        Text,
        AfterText,
        AfterList,
        Closed,
    }
    let mut state = State::Literal;
    let mut at = 0;
    while let Some(&byte) = value.get(at) {
        at += 1;
        state = match (state, byte) {
            (State::Literal, b'%') => match value.get(at) {
                None => return false,
                Some(b'%') => {
                    at += 1;
                    State::Literal
                }
                Some(_) => State::Name,
            },
            (State::Literal, _) => State::Literal,
            (State::Name, b'%') => State::Literal,
            (State::Name, b'(') => State::Argument,
            (State::Name, _) => State::Name,
            (State::Argument, b'[') => State::Quote,
            (State::Argument, b' ') => State::Argument,
            (State::Argument, _) => State::Text,
            (State::Quote, b'"') => State::Text,
            (State::Quote, b' ') => State::Quote,
            (State::Quote, _) => return false,
            (State::Text, b'\\') => {
                if at >= value.len() {
                    return false;
                }
                at += 1;
                State::Text
            }
            (State::Text, b')') => State::Closed,
            (State::Text, b'"') => State::AfterText,
            (State::Text, _) => State::Text,
            (State::AfterText, b',') => State::Quote,
            (State::AfterText, b']') => State::AfterList,
            (State::AfterText, b' ') => State::AfterText,
            (State::AfterList, b')') => State::Closed,
            (State::AfterList, b' ') => State::AfterList,
            (State::Closed, b'%') => State::Literal,
            (State::Closed, b' ') => State::Closed,
            _ => return false,
        };
    }
    matches!(state, State::Literal)
}

pub(super) fn regex(text: &str) -> Verdict {
    if text.len() > 1024 {
        return fail(format!("the regular expression has {} bytes; 1024 at most are taken", text.len()));
    }
    crate::policy::check_go_regex(text).map_err(|message| format!("`{text}`: {message}"))
}

pub(super) fn string_match(condition: &StringMatch) -> Verdict {
    match condition {
        StringMatch::Prefix(text) if text.is_empty() => fail("a prefix is empty; leave it out to match anything"),
        other => string_match_regex(other),
    }
}

pub(super) fn string_match_regex(condition: &StringMatch) -> Verdict {
    match condition {
        StringMatch::Regex(text) if text.is_empty() => fail("a regular expression is empty"),
        StringMatch::Regex(text) => regex(text),
        _ => Ok(()),
    }
}

/// A list of gateways. The second part: how many names are of the old form. The scan ends at the first name without `/`.
pub(super) fn gateways(names: &[String], any_name: bool) -> (Verdict, usize) {
    for name in names {
        let Some((namespace, gateway)) = name.split_once('/') else {
            return (fqdn(name), usize::from(name.contains('.')));
        };
        let good = is_label(namespace) && !gateway.is_empty() && (any_name || is_label(gateway));
        if !good {
            return (fail(format!("`{name}` is not a gateway: `namespace/name`")), 0);
        }
    }
    (Ok(()), 0)
}

pub(super) fn destination(destination: &Destination) -> Vec<String> {
    let mut wrong = Vec::new();
    if destination.host == "*" {
        wrong.push("the host of a destination cannot be `*`".to_owned());
    } else {
        wrong.extend(wildcard_domain(&destination.host).err());
    }
    if !destination.subset.is_empty() {
        wrong.extend(label(&destination.subset).err());
    }
    wrong.extend(destination.port.as_ref().and_then(|selector| port(selector.number).err()));
    wrong
}

/// The namespaces that a resource is exported to. `selects`: it has a workload selector.
pub(super) fn export_to(entries: &[String], namespace: &str, selects: bool) -> Verdict {
    let mut seen: Vec<&str> = Vec::new();
    let mut all_valid = true;
    let mut first: Verdict = Ok(());
    for entry in entries {
        let value = if entry == "." { namespace } else { entry };
        let verdict = if seen.contains(&value) {
            fail(format!("`{entry}` stands twice"))
        } else if value == "*" || is_label(value) {
            Ok(())
        } else {
            fail(format!("`{entry}` is not `*`, `.` or a namespace"))
        };
        seen.push(value);
        all_valid &= verdict.is_ok();
        first = first.and(verdict);
    }
    first?;
    if seen.contains(&"*") && seen.len() > 1 {
        return fail("`*` cannot stand with others");
    }
    if selects && all_valid && !seen.is_empty() && seen != [namespace] {
        return fail("with a workloadSelector a rule is for its own namespace only: `.`");
    }
    Ok(())
}

pub(super) fn percent(percent: Option<&Percent>) -> Verdict {
    match percent.map(|percent| percent.value) {
        Some(value) if value > 100.0 || (value < 0.0001 && value != 0.0) => {
            fail(format!("{value} is not a percentage: 0, or 0.0001 to 100"))
        }
        _ => Ok(()),
    }
}

pub(super) fn share(percent: &Percent) -> Verdict {
    if percent.value < 0.0 || percent.value > 100.0 {
        return fail(format!("{} is not a percentage: 0 to 100", percent.value));
    }
    Ok(())
}

pub(super) fn status(status: i64) -> Verdict {
    if (200..=600).contains(&status) { Ok(()) } else { fail(format!("{status} is not a status: 200 to 599")) }
}
