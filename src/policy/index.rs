//! Which routes of a virtual host may match a request: found without asking every one.
//!
//! Each route is filed under one of its conditions, the one that the fewest other routes share: an exact value in a hash
//! table, a prefix in a radix tree, a pattern under what each of its matches begins with or under a text that each has
//! somewhere in it (all such texts are looked for in one pass), or at least under the header's or parameter's name. Routes
//! that still stand together are told apart by their other conditions in the same way. What has no such condition is
//! asked in order.
//!
//! Only the filing is done here; the route that is found is always asked for all of its conditions. Every list is in
//! written order, and what cannot be earlier than the best so far is not read, so the first match wins as written.
//!
//! Cost: a few look-ups for each path, header and parameter that routes are filed under, and then the routes that have all
//! that the request has. Nothing is allocated.

use super::matching::Subject;
use super::tree::Tree;
use super::{HeaderField, HeaderMatch, PathMatch, Pattern, Route, ValueMatch};
use aho_corasick::{AhoCorasick, AhoCorasickKind, MatchKind};
use foldhash::fast::FixedState;
use http::HeaderName;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

type Map<K, V> = HashMap<K, V, FixedState>;

/// Below so many routes a plain walk is faster.
const WORTHWHILE: usize = 8;

/// Below so many names each is looked up in the request; with more, what the request has is looked up among the names.
const FEW_NAMES: usize = 4;

/// A shorter text than this is in too many values to be worth looking for.
const SHORTEST_TEXT: usize = 3;

/// So many texts are looked up one by one as they are found; in a value with more of them, all routes are read once. This
/// bounds what a value can cost in which one text is repeated.
const MOST_TEXTS: usize = 64;

/// A route, and which of its keys it is filed under already (a bit for each).
type Entry = (u32, u64);

#[derive(Clone, Debug)]
pub(crate) struct Index {
    all: Bucket,
}

/// Some routes.
#[derive(Clone, Debug)]
struct Bucket {
    /// The earliest of all.
    first: u32,
    /// Those that are asked in order.
    plain: Vec<u32>,
    /// Those that are filed.
    filed: Option<Box<Files>>,
}

/// Routes by what their conditions look at.
#[derive(Clone, Debug, Default)]
struct Files {
    path: Option<Values>,
    pseudo: Vec<(HeaderField, Values)>,
    headers: Named<HeaderName>,
    query: Named<Box<str>>,
}

#[derive(Clone, Debug)]
struct Named<K> {
    list: Vec<(K, Values)>,
    /// Where each stands in the list, if there are many.
    places: Map<K, usize>,
}

/// Routes by what a value is to be.
#[derive(Clone, Debug, Default)]
struct Values {
    exact: Map<Box<[u8]>, Bucket>,
    exact_folded: Map<Box<[u8]>, Bucket>,
    prefixes: Tree<Bucket>,
    prefixes_folded: Tree<Bucket>,
    texts: Option<Texts>,
    present: Option<Bucket>,
}

/// Routes by a text that the value has somewhere in it.
#[derive(Clone, Debug)]
struct Texts {
    /// None if they are too many to be looked for together.
    search: Option<AhoCorasick>,
    /// By the number of the text.
    buckets: Vec<Bucket>,
    /// The routes of all buckets.
    all: Vec<u32>,
}

/// What a condition looks at.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Field {
    Path,
    Header(HeaderField),
    Query(Box<str>),
}

/// How a value is found among others.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
enum Kind {
    Exact,
    ExactFolded,
    Prefix,
    PrefixFolded,
    Text,
    Present,
}

type Key = (Kind, Vec<u8>);

/// One way to file a route: under each of these keys.
#[derive(Clone, Debug)]
struct Filing {
    field: Field,
    keys: Vec<Key>,
}

impl Index {
    /// An index of routes; none where it would not pay.
    pub(crate) fn new(routes: &[Arc<Route>]) -> Option<Index> {
        if routes.len() <= WORTHWHILE {
            return None;
        }
        let filings: Vec<Vec<Filing>> = routes.iter().map(|route| filings(route)).collect();
        let list: Vec<Entry> = (0u32..).zip(routes).map(|(number, _)| (number, 0)).collect();
        Some(Index { all: Bucket::new(&list, &filings) })
    }

    /// The first route in written order that matches.
    pub(crate) fn find(&self, routes: &[Arc<Route>], subject: &Subject<'_>) -> Option<usize> {
        let mut search = Search { routes, subject, best: u32::MAX };
        search.bucket(&self.all);
        (search.best != u32::MAX).then_some(search.best as usize)
    }
}

/// Every way to file a route, the cheapest to look up first.
fn filings(route: &Route) -> Vec<Filing> {
    let mut filings = Vec::new();
    let matcher = &route.matcher;
    let of_path: Vec<Vec<Key>> = match &matcher.path {
        PathMatch::Any => Vec::new(),
        PathMatch::Exact { value, ignore_case: false } => vec![vec![(Kind::Exact, value.as_bytes().to_vec())]],
        PathMatch::Exact { value, ignore_case: true } => {
            vec![vec![(Kind::ExactFolded, value.to_ascii_lowercase().into_bytes())]]
        }
        PathMatch::Prefix { value, ignore_case: false } => vec![vec![(Kind::Prefix, value.as_bytes().to_vec())]],
        PathMatch::Prefix { value, ignore_case: true } => {
            vec![vec![(Kind::PrefixFolded, value.to_ascii_lowercase().into_bytes())]]
        }
        PathMatch::Regex(pattern) => pattern_keys(pattern),
    };
    filings.extend(of_path.into_iter().map(|keys| Filing { field: Field::Path, keys }));
    for HeaderMatch { field, value, without } in &matcher.headers {
        // What must not be there, or not be so, is no key; a header that cannot be keeps its route out of every file.
        if !*without {
            let field = Field::Header(field.clone());
            filings.extend(value_keys(value).into_iter().map(|keys| Filing { field: field.clone(), keys }));
        }
    }
    for condition in &matcher.query {
        let field = Field::Query(condition.name.clone());
        filings.extend(value_keys(&condition.value).into_iter().map(|keys| Filing { field: field.clone(), keys }));
    }
    filings.truncate(64);
    filings
}

fn value_keys(value: &ValueMatch) -> Vec<Vec<Key>> {
    let present = || vec![(Kind::Present, Vec::new())];
    match value {
        ValueMatch::Present => vec![present()],
        ValueMatch::Exact(value) => vec![vec![(Kind::Exact, value.to_vec())]],
        ValueMatch::Prefix(value) => vec![vec![(Kind::Prefix, value.to_vec())]],
        ValueMatch::Regex(pattern) => {
            let mut keys = pattern_keys(pattern);
            keys.push(present());
            keys
        }
    }
}

fn pattern_keys(pattern: &Pattern) -> Vec<Vec<Key>> {
    let parts = pattern.parts();
    let beginnings = parts.beginnings.map(|all| all.into_iter().map(|text| (Kind::Prefix, text)).collect());
    let inside = parts.inside.into_iter().filter(|text| text.len() >= SHORTEST_TEXT);
    beginnings.into_iter().chain(inside.map(|text| vec![(Kind::Text, text)])).collect()
}

impl Bucket {
    fn new(list: &[Entry], filings: &[Vec<Filing>]) -> Bucket {
        let numbers = |list: &[Entry]| list.iter().map(|(number, _)| *number).collect::<Vec<u32>>();
        let first = list.first().map_or(u32::MAX, |(number, _)| *number);
        if list.len() <= WORTHWHILE {
            return Bucket { first, plain: numbers(list), filed: None };
        }
        let open = |&(number, used): &Entry| {
            let all = filings[number as usize].iter().enumerate();
            all.filter(move |(at, _)| used & (1 << at) == 0)
        };
        let mut shared: Map<(&Field, &Key), usize> = Map::default();
        for entry in list {
            for (_, filing) in open(entry) {
                filing.keys.iter().for_each(|key| *shared.entry((&filing.field, key)).or_default() += 1);
            }
        }
        let mut plain = Vec::new();
        let mut groups: Map<&Field, BTreeMap<&Key, Vec<Entry>>> = Map::default();
        for entry in list {
            let how_common = |filing: &Filing| {
                let keys = filing.keys.iter();
                keys.map(|key| shared.get(&(&filing.field, key)).copied().unwrap_or_default()).max().unwrap_or_default()
            };
            // A route under several keys is in several lists: these must be so much shorter that all of them stay small.
            let pays = |filing: &Filing| {
                let keys = filing.keys.len();
                keys == 1 || how_common(filing) * keys * keys <= list.len()
            };
            let best = open(entry).filter(|(_, filing)| pays(filing)).min_by_key(|(_, filing)| how_common(filing));
            let Some((at, filing)) = best else {
                plain.push(*entry);
                continue;
            };
            let group = groups.entry(&filing.field).or_default();
            for key in &filing.keys {
                group.entry(key).or_default().push((entry.0, entry.1 | (1 << at)));
            }
        }
        let mut files = Files::default();
        for (field, keys) in groups {
            let values = Values::new(keys, filings);
            match field {
                Field::Path => files.path = Some(values),
                Field::Header(HeaderField::Name(name)) => files.headers.list.push((name.clone(), values)),
                Field::Header(HeaderField::Never(_)) => {}
                Field::Header(pseudo) => files.pseudo.push((pseudo.clone(), values)),
                Field::Query(name) => files.query.list.push((name.clone(), values)),
            }
        }
        files.headers.finish();
        files.query.finish();
        Bucket { first, plain: numbers(&plain), filed: Some(Box::new(files)) }
    }
}

impl Values {
    fn new(keys: BTreeMap<&Key, Vec<Entry>>, filings: &[Vec<Filing>]) -> Values {
        let mut values = Values::default();
        let mut texts: Vec<(&[u8], Bucket)> = Vec::new();
        let mut all = Vec::new();
        for ((kind, text), list) in keys {
            let bucket = Bucket::new(&list, filings);
            match kind {
                Kind::Exact => drop(values.exact.insert(text.as_slice().into(), bucket)),
                Kind::ExactFolded => drop(values.exact_folded.insert(text.as_slice().into(), bucket)),
                Kind::Prefix => values.prefixes.insert(text.iter().copied(), bucket),
                Kind::PrefixFolded => values.prefixes_folded.insert(text.iter().copied(), bucket),
                Kind::Present => values.present = Some(bucket),
                Kind::Text => {
                    all.extend(list.iter().map(|(number, _)| *number));
                    texts.push((text, bucket));
                }
            }
        }
        if !texts.is_empty() {
            all.sort_unstable();
            all.dedup();
            let (texts, buckets): (Vec<&[u8]>, Vec<Bucket>) = texts.into_iter().unzip();
            let kind = Some(AhoCorasickKind::ContiguousNFA);
            let search = AhoCorasick::builder().match_kind(MatchKind::Standard).kind(kind).build(texts).ok();
            values.texts = Some(Texts { search, buckets, all });
        }
        values
    }
}

impl<K> Default for Named<K> {
    fn default() -> Self {
        Named { list: Vec::new(), places: Map::default() }
    }
}

impl<K: Clone + Eq + std::hash::Hash> Named<K> {
    fn finish(&mut self) {
        if self.list.len() > FEW_NAMES {
            self.places = (0..).zip(&self.list).map(|(place, (name, _))| (name.clone(), place)).collect();
        }
    }

    fn get<Q: Eq + std::hash::Hash + ?Sized>(&self, name: &Q) -> Option<&Values>
    where
        K: std::borrow::Borrow<Q>,
    {
        self.places.get(name).map(|place| &self.list[*place].1)
    }
}

/// One look for the earliest route.
struct Search<'s> {
    routes: &'s [Arc<Route>],
    subject: &'s Subject<'s>,
    best: u32,
}

impl Search<'_> {
    /// Asks routes in order, up to the first that matches or is too late.
    fn plain(&mut self, list: &[u32]) {
        for number in list {
            if *number >= self.best {
                return;
            }
            if self.routes[*number as usize].matcher.test(self.subject).is_ok() {
                self.best = *number;
                return;
            }
        }
    }

    fn bucket(&mut self, bucket: &Bucket) {
        if bucket.first >= self.best {
            return;
        }
        self.plain(&bucket.plain);
        if let Some(files) = &bucket.filed {
            self.files(files);
        }
    }

    fn files(&mut self, files: &Files) {
        let subject = self.subject;
        if let Some(values) = &files.path {
            self.path(values);
        }
        for (field, values) in &files.pseudo {
            subject.each_value(field, |value| self.value(values, value));
        }
        let headers = subject.request.headers;
        if files.headers.places.is_empty() {
            for (name, values) in &files.headers.list {
                headers.get_all(name).iter().for_each(|value| self.value(values, value.as_bytes()));
            }
        } else {
            for (name, value) in headers {
                if let Some(values) = files.headers.get(name) {
                    self.value(values, value.as_bytes());
                }
            }
        }
        // Only the first parameter of a name counts; a later one finds routes that do not hold.
        if !files.query.list.is_empty() {
            for (name, value) in subject.parameters() {
                let values = if files.query.places.is_empty() {
                    files.query.list.iter().find(|(known, _)| **known == *name).map(|(_, values)| values)
                } else {
                    files.query.get(name)
                };
                if let Some(values) = values {
                    self.value(values, value.as_bytes());
                }
            }
        }
    }

    fn path(&mut self, values: &Values) {
        let path = self.subject.path().as_bytes();
        self.value(values, path);
        if !values.exact_folded.is_empty() {
            with_lower_case(path, |lower| {
                if let Some(bucket) = values.exact_folded.get(lower) {
                    self.bucket(bucket);
                }
            });
        }
        if !values.prefixes_folded.is_empty() {
            values.prefixes_folded.walk_bytes(path.iter().map(u8::to_ascii_lowercase), |bucket| self.bucket(bucket));
        }
    }

    fn value(&mut self, values: &Values, value: &[u8]) {
        if !values.exact.is_empty()
            && let Some(bucket) = values.exact.get(value)
        {
            self.bucket(bucket);
        }
        if !values.prefixes.is_empty() {
            values.prefixes.walk(value, |bucket| self.bucket(bucket));
        }
        if let Some(texts) = &values.texts {
            self.texts(texts, value);
        }
        if let Some(bucket) = &values.present {
            self.bucket(bucket);
        }
    }

    fn texts(&mut self, texts: &Texts, value: &[u8]) {
        let Some(search) = &texts.search else { return self.plain(&texts.all) };
        for (count, found) in search.find_overlapping_iter(value).enumerate() {
            if count >= MOST_TEXTS {
                return self.plain(&texts.all);
            }
            self.bucket(&texts.buckets[found.pattern().as_usize()]);
        }
    }
}

/// Lower case on the stack, as far as it fits there.
pub(super) fn with_lower_case<T>(text: &[u8], use_it: impl FnOnce(&[u8]) -> T) -> T {
    if !text.iter().any(u8::is_ascii_uppercase) {
        return use_it(text);
    }
    let mut buffer = [0; 512];
    match buffer.get_mut(..text.len()) {
        Some(lower) => {
            lower.copy_from_slice(text);
            lower.make_ascii_lowercase();
            use_it(lower)
        }
        None => use_it(&text.to_ascii_lowercase()),
    }
}
