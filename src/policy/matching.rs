//! Tests the conditions of a route on a request.
//!
//! A header may stand on several lines; each value is tested on its own, and one that matches is enough (Envoy 1.39 and
//! later). `withoutHeaders` turns that round, and reads a missing header as empty. Of a query parameter only the first
//! occurrence counts, and nothing in it is decoded.

use super::{HeaderField, HeaderMatch, PathMatch, QueryMatch, RouteMatch, ValueMatch};
use crate::head::Request;

/// A request with its normalised path, cut into what conditions look at.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Subject<'a> {
    pub(crate) request: &'a Request<'a>,
    /// Path and query, normalised.
    pub(crate) full_path: &'a str,
    /// Up to the `?`.
    path: &'a str,
}

impl<'a> Subject<'a> {
    pub(crate) fn new(request: &'a Request<'a>, full_path: &'a str) -> Self {
        let path = full_path.split_once('?').map_or(full_path, |(path, _)| path);
        Subject { request, full_path, path }
    }

    pub(crate) fn path(&self) -> &'a str {
        self.path
    }

    /// Every value that a condition on the field looks at.
    pub(crate) fn each_value(&self, field: &HeaderField, mut see: impl FnMut(&[u8])) {
        match field {
            HeaderField::Method => see(self.request.method.as_bytes()),
            HeaderField::Scheme => see(self.request.scheme.as_bytes()),
            HeaderField::Authority => see(self.request.authority.as_bytes()),
            HeaderField::Path => see(self.full_path.as_bytes()),
            HeaderField::Never(_) => {}
            HeaderField::Name(name) => {
                self.request.headers.get_all(name).iter().for_each(|value| see(value.as_bytes()));
            }
        }
    }

    /// Names and values of the query, as they are written.
    pub(crate) fn parameters(&self) -> impl Iterator<Item = (&'a str, &'a str)> {
        let query = self.full_path.get(self.path.len() + 1..);
        query.into_iter().flat_map(|query| query.split('&')).map(|piece| piece.split_once('=').unwrap_or((piece, "")))
    }

    /// The first value of a query parameter.
    pub(crate) fn parameter(&self, name: &str) -> Option<&'a str> {
        self.parameters().find(|(key, _)| *key == name).map(|(_, value)| value)
    }
}

/// The first condition of a route that does not hold.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Failed<'r> {
    Path(&'r PathMatch),
    Header(&'r HeaderMatch),
    Query(&'r QueryMatch),
}

impl RouteMatch {
    /// Tests all conditions; the first that does not hold is told.
    pub(crate) fn test(&self, subject: &Subject<'_>) -> Result<(), Failed<'_>> {
        if !self.path.holds(subject.path()) {
            return Err(Failed::Path(&self.path));
        }
        if let Some(failed) = self.headers.iter().find(|condition| !condition.holds(subject)) {
            return Err(Failed::Header(failed));
        }
        if let Some(failed) = self.query.iter().find(|condition| !condition.holds(subject)) {
            return Err(Failed::Query(failed));
        }
        Ok(())
    }
}

impl PathMatch {
    pub(crate) fn holds(&self, path: &str) -> bool {
        match self {
            PathMatch::Any => true,
            PathMatch::Exact { value, ignore_case: false } => path == &**value,
            PathMatch::Exact { value, ignore_case: true } => path.eq_ignore_ascii_case(value),
            PathMatch::Prefix { value, ignore_case: false } => path.starts_with(&**value),
            PathMatch::Prefix { value, ignore_case: true } => {
                path.as_bytes().get(..value.len()).is_some_and(|start| start.eq_ignore_ascii_case(value.as_bytes()))
            }
            PathMatch::Regex(pattern) => pattern.is_match(path.as_bytes()),
        }
    }
}

impl HeaderMatch {
    pub(crate) fn holds(&self, subject: &Subject<'_>) -> bool {
        let request = subject.request;
        let one = |value: &str| self.verdict(true, self.value.holds(value.as_bytes()));
        match &self.field {
            HeaderField::Method => one(request.method),
            HeaderField::Scheme => one(request.scheme),
            HeaderField::Authority => one(request.authority),
            HeaderField::Path => one(subject.full_path),
            HeaderField::Never(_) => self.verdict(false, false),
            HeaderField::Name(name) => {
                let mut values = request.headers.get_all(name).iter().peekable();
                let present = values.peek().is_some();
                self.verdict(present, values.any(|value| self.value.holds(value.as_bytes())))
            }
        }
    }

    fn verdict(&self, present: bool, matched: bool) -> bool {
        if !self.without {
            return present && matched;
        }
        match (&self.value, present) {
            (ValueMatch::Present, present) => !present,
            (_, true) => !matched,
            (value, false) => !value.holds(b""),
        }
    }
}

impl QueryMatch {
    pub(crate) fn holds(&self, subject: &Subject<'_>) -> bool {
        subject.parameter(&self.name).is_some_and(|value| self.value.holds(value.as_bytes()))
    }
}

impl ValueMatch {
    pub(crate) fn holds(&self, value: &[u8]) -> bool {
        match self {
            ValueMatch::Present => true,
            ValueMatch::Exact(wanted) => value == &**wanted,
            ValueMatch::Prefix(wanted) => value.starts_with(wanted),
            ValueMatch::Regex(pattern) => pattern.is_match(value),
        }
    }
}
