//! The conditions of one route, ready to be tested.
//!
//! Conditions hold bytes, not text, because header values may be any bytes. All conditions of a match block hold
//! together; the blocks of a rule are routes of their own (as in Istio's translation).

use super::Pattern;
use http::HeaderName;

/// All conditions of one route. The default matches everything.
#[derive(Clone, Debug, Default)]
pub struct RouteMatch {
    /// On the path, without its query.
    pub(crate) path: PathMatch,
    /// On headers and pseudo headers, sorted by name (`headers` and `withoutHeaders` together).
    pub(crate) headers: Vec<HeaderMatch>,
    /// On the first query parameter of a name, sorted by name.
    pub(crate) query: Vec<QueryMatch>,
}

/// A condition on the path.
#[derive(Clone, Debug, Default)]
pub(crate) enum PathMatch {
    /// No `uri` condition.
    #[default]
    Any,
    /// The whole path.
    Exact { value: Box<str>, ignore_case: bool },
    /// A raw string prefix: `/foo` matches `/foobar`.
    Prefix { value: Box<str>, ignore_case: bool },
    /// The whole path, by pattern.
    Regex(Pattern),
}

/// A condition on a header or pseudo header.
#[derive(Clone, Debug)]
pub(crate) struct HeaderMatch {
    pub(crate) field: HeaderField,
    pub(crate) value: ValueMatch,
    /// From `withoutHeaders`: the condition must not hold, and a missing header is read as empty (unless the
    /// condition is presence).
    pub(crate) without: bool,
}

/// What a header condition looks at.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum HeaderField {
    Method,
    Scheme,
    /// `:authority`, and `host`, which is its alias.
    Authority,
    /// `:path`, with its query.
    Path,
    Name(HeaderName),
    /// No request can have a header of this name.
    Never(Box<str>),
}

/// A condition on a query parameter.
#[derive(Clone, Debug)]
pub(crate) struct QueryMatch {
    pub(crate) name: Box<str>,
    pub(crate) value: ValueMatch,
}

/// A condition on one value.
#[derive(Clone, Debug)]
pub(crate) enum ValueMatch {
    Present,
    Exact(Box<[u8]>),
    Prefix(Box<[u8]>),
    Regex(Pattern),
}
