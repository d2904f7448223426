//! Regular expressions: does Envoy take them, and do those who try them out in Rust see the same?
//!
//! Istio's webhook asks Go whether a pattern is one, the proxy then asks RE2. What the first takes and the second does not
//! takes the whole rule away. And a pattern that was tried out with Rust's `regex` may be read otherwise by RE2 (classes,
//! counts, escapes); this crate reads it as RE2 does. The difference is looked for by walking the automata of both readings
//! over ASCII texts, for patterns with syntax that the two dialects do not share.

use super::Context;
use super::reach::{Search, build, walk};
use crate::policy::{Pattern, check_regex, translate_regex};
use crate::resource::{HttpMatchRequest, HttpRoute, StringMatch, VirtualService};
use crate::validate::report::{Report, Severity};
use regex_automata::dfa::{StartKind, dense};
use regex_automata::nfa::thompson;

/// PM-030 and PM-031.
pub(super) fn check(service: &VirtualService, _: &Context<'_>, report: &mut Report) {
    for (rule, route) in service.spec.http.iter().enumerate() {
        for (path, pattern) in of_route(route, &format!("spec.http[{rule}]")) {
            // Only counts can make an automaton too large.
            let built = |()| if pattern.contains('{') { Pattern::new(pattern).map(drop) } else { Ok(()) };
            if let Err(why) = check_regex(pattern).and_then(built) {
                let message = format!("Envoy does not take the pattern `{pattern}`, so the rule is left out: {why}");
                report.error("PM-030", path, message);
            } else if let Some(difference) = difference(pattern) {
                report.add(Severity::Info, "PM-031", path, difference);
            }
        }
    }
}

/// Every pattern of a rule with its path.
fn of_route<'r>(route: &'r HttpRoute, path: &str) -> Vec<(String, &'r str)> {
    let mut found: Vec<(String, &str)> = Vec::new();
    for (at, block) in route.r#match.iter().enumerate() {
        found.extend(of_block(block, &format!("{path}.match[{at}]")));
    }
    if let Some(regex) = route.rewrite.as_ref().and_then(|rewrite| rewrite.uri_regex_rewrite.as_ref()) {
        found.push((format!("{path}.rewrite.uriRegexRewrite.match"), &regex.r#match));
    }
    for (at, origin) in route.cors_policy.iter().flat_map(|cors| &cors.allow_origins).enumerate() {
        if let StringMatch::Regex(text) = origin {
            found.push((format!("{path}.corsPolicy.allowOrigins[{at}].regex"), text));
        }
    }
    found
}

fn of_block<'r>(block: &'r HttpMatchRequest, path: &str) -> Vec<(String, &'r str)> {
    let single =
        [("uri", &block.uri), ("method", &block.method), ("authority", &block.authority), ("scheme", &block.scheme)];
    let single = single.into_iter().filter_map(|(name, condition)| Some((name.to_owned(), condition.as_ref()?)));
    let maps =
        [("headers", &block.headers), ("withoutHeaders", &block.without_headers), ("queryParams", &block.query_params)];
    let keyed = maps
        .into_iter()
        .flat_map(|(map, entries)| entries.iter().map(move |(key, condition)| (format!("{map}[{key}]"), condition)));
    single
        .chain(keyed)
        .filter_map(|(name, condition)| match condition {
            // `*` is no pattern: it asks for presence.
            StringMatch::Regex(text) if text != "*" => Some((format!("{path}.{name}.regex"), text.as_str())),
            _ => None,
        })
        .collect()
}

/// How Rust's `regex` reads a pattern otherwise than Envoy, in words.
fn difference(pattern: &str) -> Option<String> {
    if is_common(pattern) {
        return None;
    }
    if let Err(error) = regex_syntax::parse(pattern) {
        let why = error.to_string();
        let why = why.lines().next_back().unwrap_or_default().trim_start_matches("error: ");
        return Some(format!("Envoy takes the pattern `{pattern}`, Rust's `regex` does not: {why}"));
    }
    let ours = build(&translate_regex(pattern).ok()?)?;
    let theirs = dense::Builder::new()
        .configure(
            dense::Config::new()
                .start_kind(StartKind::Anchored)
                .unicode_word_boundary(true)
                .dfa_size_limit(Some(1 << 20))
                .determinize_size_limit(Some(1 << 21)),
        )
        .thompson(thompson::Config::new().nfa_size_limit(Some(1 << 20)))
        .build(&format!(r"\A(?:{pattern})\z"))
        .ok()?;
    let show = |text: Vec<u8>| crate::resource::value::clip(&String::from_utf8_lossy(&text));
    if let Search::Found(text) = walk(&[&ours, &theirs], 1, u8::is_ascii) {
        let text = show(text);
        return Some(format!("`{pattern}` takes `{text}` in Envoy, and not in Rust's `regex`"));
    }
    if let Search::Found(text) = walk(&[&theirs, &ours], 1, u8::is_ascii) {
        let text = show(text);
        return Some(format!("`{pattern}` takes `{text}` in Rust's `regex`, and not in Envoy"));
    }
    None
}

/// Is it written with what both dialects share? Then there is nothing to compare.
fn is_common(pattern: &str) -> bool {
    const APART: [&str; 9] = ["{", "&&", "--", "~~", "[[", "(?", "**", "++", "*+"];
    let escapes = pattern
        .split('\\')
        .skip(1)
        .all(|rest| rest.chars().next().is_some_and(|letter| ".dwsDWS/-+*?()[]{}|^$".contains(letter)));
    // A class in a class opens with a second bracket.
    let nested = pattern.split('[').skip(1).any(|rest| !rest.contains(']'));
    pattern.is_ascii() && escapes && !nested && !APART.iter().any(|part| pattern.contains(part))
}

#[cfg(test)]
mod tests {
    use super::difference;

    #[test]
    fn readings_that_differ_are_told_with_a_text() {
        for (pattern, expected) in [
            ("/v[0-9]+/.*", None),
            (r"\d+", None),
            ("a{2,3}", None),
            ("[a&&b]", Some("`[a&&b]` takes `a` in Envoy, and not in Rust's `regex`")),
            ("[a-c--b]", Some("`[a-c--b]` takes `b` in Envoy, and not in Rust's `regex`")),
        ] {
            assert_eq!(difference(pattern).as_deref(), expected, "{pattern}");
        }
        assert!(difference("a{b}").is_some_and(|text| text.contains("Rust's `regex` does not")));
    }
}
