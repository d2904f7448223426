//! Rewrites of the path and the authority.
//!
//! The path's query is never touched. A prefix rewrite replaces what the route matched: the prefix, byte for byte; the
//! whole path where the match was exact or by pattern; the leading `/` where there was no condition. There is no repair of
//! slashes: `/foo` rewritten to `/` turns `/foo/bar` into `//bar`. A result that is empty is not used.

use crate::policy::{PathMatch, PathRewrite};

fn split(path: &str) -> (&str, &str) {
    path.split_at(path.find('?').unwrap_or(path.len()))
}

/// How much of the path (without its query) the route matched.
fn matched<'p>(path: &'p str, condition: &PathMatch) -> &'p str {
    match condition {
        PathMatch::Any => path.get(..1).unwrap_or_default(),
        PathMatch::Prefix { value, .. } => path.get(..value.len()).unwrap_or(path),
        PathMatch::Exact { .. } | PathMatch::Regex(_) => path,
    }
}

/// The path with its matched part replaced, query and all.
pub(crate) fn replace_matched(path: &str, condition: &PathMatch, with: &str) -> String {
    let (bare, query) = split(path);
    let rest = &bare[matched(bare, condition).len()..];
    [with, rest, query].concat()
}

/// The rewritten path with its query; none if it stays.
pub(crate) fn path(path: &str, condition: &PathMatch, rewrite: &PathRewrite) -> Option<String> {
    match rewrite {
        PathRewrite::Keep => None,
        PathRewrite::Matched(with) => Some(replace_matched(path, condition, with)),
        PathRewrite::Regex { pattern, substitution } => {
            let (bare, query) = split(path);
            let replaced = pattern.replace_all(bare.as_bytes(), substitution)?;
            if replaced.is_empty() {
                return None;
            }
            let replaced = String::from_utf8_lossy(&replaced);
            Some([&*replaced, query].concat())
        }
    }
}
