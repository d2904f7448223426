//! Rules that can never be reached, as the webhook warns of them.
//!
//! A rule without conditions takes everything, so whatever follows it is idle; a condition that was there before is idle
//! too; and a prefix that begins another, with nothing to tell the two apart, takes its requests. The last comparison is
//! Istio's own, with all that it overlooks: it has to agree with the webhook, not with reason.

use super::Report;
use crate::resource::{HttpMatchRequest, HttpRoute, StringMatch, TcpRoute, TlsRoute};
use std::collections::BTreeMap;

/// One rule's conditions, told apart by equality.
struct Rule<'a, M> {
    label: String,
    matches: &'a [M],
}

/// The codes of: a second catch-all, a condition after a catch-all, a condition that was there before, a rule of such alone.
type Codes = [&'static str; 4];

const HTTP: Codes = ["VS-WARN-001", "VS-WARN-002", "VS-WARN-003", "VS-WARN-004"];
const TLS: Codes = ["VS-WARN-006"; 4];
const TCP: Codes = ["VS-WARN-007"; 4];

/// Walks through the rules of one protocol. Gives each condition that stays, with its rule and place.
fn walk<'a, M: PartialEq>(
    protocol: &str,
    [second, after, before, alone]: Codes,
    rules: &[Rule<'a, M>],
    report: &mut Report,
) -> Vec<(usize, usize, &'a M)> {
    let mut seen: Vec<(usize, usize, &M)> = Vec::new();
    let mut catch_all: Option<&str> = None;
    for (rule_index, rule) in rules.iter().enumerate() {
        let path = format!("spec.{protocol}[{rule_index}]");
        if rule.matches.is_empty() {
            match catch_all {
                Some(first) => {
                    let message = format!("the rule is never reached: rule {first} takes every request");
                    report.warn(second, path, message);
                }
                None => catch_all = Some(&rule.label),
            }
            continue;
        }
        let mut repeated = 0;
        for (index, condition) in rule.matches.iter().enumerate() {
            let path = format!("{path}.match[{index}]");
            if let Some(first) = catch_all {
                let message = format!("this is never reached: rule {first} takes every request");
                report.warn(after, path, message);
                continue;
            }
            match seen.iter().find(|(_, _, known)| *known == condition) {
                Some((first, _, _)) => {
                    repeated += 1;
                    let message = format!("rule {} has the same conditions already", rules[*first].label);
                    report.warn(before, path, message);
                }
                None => seen.push((rule_index, index, condition)),
            }
        }
        if repeated == rule.matches.len() {
            report.warn(alone, path, "every condition of the rule stood before: it is never reached");
        }
    }
    seen
}

fn label(name: &str, index: usize) -> String {
    if name.is_empty() { format!("#{index}") } else { format!("\"{name}\"") }
}

pub(super) fn http(routes: &[HttpRoute], report: &mut Report) {
    // A match's name tells nobody apart.
    let nameless: Vec<Vec<HttpMatchRequest>> = routes
        .iter()
        .map(|route| {
            let mut matches = route.r#match.clone();
            matches.iter_mut().for_each(|condition| condition.name.clear());
            matches
        })
        .collect();
    let rules: Vec<Rule<'_, HttpMatchRequest>> = routes
        .iter()
        .zip(&nameless)
        .enumerate()
        .map(|(index, (route, matches))| Rule { label: label(&route.name, index), matches })
        .collect();
    let seen = walk("http", HTTP, &rules, report);
    let prefixes: Vec<(usize, usize, &str, &HttpMatchRequest)> = seen
        .into_iter()
        .filter_map(|(rule, index, condition)| match &condition.uri {
            Some(StringMatch::Prefix(prefix)) if !prefix.is_empty() => Some((rule, index, prefix.as_str(), condition)),
            _ => None,
        })
        .collect();
    for (at, (first_rule, first, prefix, earlier)) in prefixes.iter().enumerate() {
        for (rule, index, longer, later) in &prefixes[at + 1..] {
            if prefix != longer && longer.starts_with(prefix) && covers(earlier, later) {
                let message = format!(
                    "`{longer}` is taken by the prefix `{prefix}` of rule {} (match {first}) before it",
                    rules[*first_rule].label
                );
                report.warn("VS-WARN-005", format!("spec.http[{rule}].match[{index}].uri"), message);
            }
        }
    }
}

pub(super) fn tls(routes: &[TlsRoute], report: &mut Report) {
    let rules: Vec<_> = routes
        .iter()
        .enumerate()
        .map(|(index, route)| Rule { label: label("", index), matches: &route.r#match[..] })
        .collect();
    walk("tls", TLS, &rules, report);
}

pub(super) fn tcp(routes: &[TcpRoute], report: &mut Report) {
    let rules: Vec<_> = routes
        .iter()
        .enumerate()
        .map(|(index, route)| Rule { label: label("", index), matches: &route.r#match[..] })
        .collect();
    walk("tcp", TCP, &rules, report);
}

/// A condition as Istio writes it down to compare it. Patterns are written as nothing.
fn encode(condition: Option<&StringMatch>) -> String {
    match condition {
        Some(StringMatch::Exact(text)) if !text.is_empty() => format!("exact:{text}"),
        Some(StringMatch::Prefix(text)) if !text.is_empty() => format!("prefix:{text}"),
        _ => String::new(),
    }
}

fn method(condition: Option<&StringMatch>) -> String {
    let encoded = encode(condition);
    if encoded.is_empty() { "exact:GET".into() } else { encoded }
}

/// Does the earlier condition take what the later one asks for, in Istio's reading? (Prefixes are compared before.)
fn covers(earlier: &HttpMatchRequest, later: &HttpMatchRequest) -> bool {
    let single = |a: String, b: String| a.starts_with(&b);
    let maps = |a: &BTreeMap<String, StringMatch>, b: &BTreeMap<String, StringMatch>| {
        a.len() == b.len()
            && a.iter()
                .all(|(key, one)| b.get(key).is_some_and(|other| encode(Some(one)).starts_with(&encode(Some(other)))))
    };
    earlier.port == later.port
        && single(method(earlier.method.as_ref()), method(later.method.as_ref()))
        && single(encode(earlier.authority.as_ref()), encode(later.authority.as_ref()))
        && maps(&earlier.headers, &later.headers)
        && maps(&earlier.query_params, &later.query_params)
        && maps(&earlier.without_headers, &later.without_headers)
}
