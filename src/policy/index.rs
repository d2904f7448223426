//! Which routes of a virtual host may match a request: found without asking every one.
//!
//! A route stands in one bucket by its path: exact paths in a hash table, prefixes in a radix tree, patterns under the
//! literals that every match of theirs begins with, all others in the rest. In a bucket that has grown long, routes are
//! told apart once more by an exact header of theirs, the one with the most different values. Every list is in written
//! order, so first match wins: each list is read until a route matches or the best one so far is passed.
//!
//! Cost: a hash and a walk along the path, and then the routes that share what the request has. Nothing is allocated.

use super::matching::Subject;
use super::{HeaderField, HeaderMatch, PathMatch, Route, ValueMatch};
use foldhash::fast::FixedState;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

type Map<V> = HashMap<Box<[u8]>, V, FixedState>;

/// Below so many routes a plain walk is faster.
const WORTHWHILE: usize = 8;

#[derive(Clone, Debug, Default)]
pub(crate) struct Index {
    exact: Map<Bucket>,
    exact_folded: Map<Bucket>,
    prefixes: Tree,
    prefixes_folded: Tree,
    rest: Bucket,
}

/// Routes that only headers tell apart.
#[derive(Clone, Debug, Default)]
struct Bucket {
    plain: Vec<u32>,
    by_field: Vec<(HeaderField, Map<Vec<u32>>)>,
}

impl Index {
    /// An index of routes; none where it would not pay.
    pub(crate) fn new(routes: &[Arc<Route>]) -> Option<Index> {
        if routes.len() <= WORTHWHILE {
            return None;
        }
        let mut exact: BTreeMap<(bool, Vec<u8>), Vec<u32>> = BTreeMap::new();
        let mut prefixes: BTreeMap<(bool, Vec<u8>), Vec<u32>> = BTreeMap::new();
        let mut rest = Vec::new();
        for (number, route) in (0u32..).zip(routes) {
            let folded = |text: &str, fold: bool| {
                (fold, if fold { text.to_ascii_lowercase() } else { text.to_owned() }.into_bytes())
            };
            match &route.matcher.path {
                PathMatch::Any => rest.push(number),
                PathMatch::Exact { value, ignore_case } => {
                    exact.entry(folded(value, *ignore_case)).or_default().push(number);
                }
                PathMatch::Prefix { value, ignore_case } => {
                    prefixes.entry(folded(value, *ignore_case)).or_default().push(number);
                }
                PathMatch::Regex(pattern) => match pattern.beginnings() {
                    Some(beginnings) => {
                        for beginning in beginnings {
                            prefixes.entry((false, beginning)).or_default().push(number);
                        }
                    }
                    None => rest.push(number),
                },
            }
        }
        let mut index = Index { rest: Bucket::new(rest, routes), ..Index::default() };
        for ((fold, path), list) in exact {
            let map = if fold { &mut index.exact_folded } else { &mut index.exact };
            map.insert(path.into(), Bucket::new(list, routes));
        }
        for ((fold, prefix), list) in prefixes {
            let tree = if fold { &mut index.prefixes_folded } else { &mut index.prefixes };
            tree.insert(&prefix, Bucket::new(list, routes));
        }
        Some(index)
    }

    /// The first route in written order that matches.
    pub(crate) fn find(&self, routes: &[Arc<Route>], subject: &Subject<'_>) -> Option<usize> {
        let path = subject.path().as_bytes();
        let mut best = u32::MAX;
        let mut search = |bucket: &Bucket| bucket.search(routes, subject, &mut best);
        if let Some(bucket) = self.exact.get(path) {
            search(bucket);
        }
        self.prefixes.walk(path.iter().copied(), &mut search);
        if !self.exact_folded.is_empty() || !self.prefixes_folded.is_empty() {
            with_lower_case(path, |lower| {
                if let Some(bucket) = self.exact_folded.get(lower) {
                    search(bucket);
                }
            });
            self.prefixes_folded.walk(path.iter().map(u8::to_ascii_lowercase), &mut search);
        }
        search(&self.rest);
        (best != u32::MAX).then_some(best as usize)
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

/// The conditions that tell routes apart by one exact value.
fn exact_values(route: &Route) -> impl Iterator<Item = (&HeaderField, &[u8])> {
    route.matcher.headers.iter().filter_map(|condition| match condition {
        HeaderMatch { field, value: ValueMatch::Exact(value), without: false } => Some((field, &**value)),
        _ => None,
    })
}

impl Bucket {
    fn new(list: Vec<u32>, routes: &[Arc<Route>]) -> Bucket {
        if list.len() <= WORTHWHILE {
            return Bucket { plain: list, by_field: Vec::new() };
        }
        let route = |number: u32| &*routes[number as usize];
        let mut values: Vec<(&HeaderField, BTreeSet<&[u8]>)> = Vec::new();
        for number in &list {
            for (field, value) in exact_values(route(*number)) {
                match values.iter_mut().find(|(known, _)| *known == field) {
                    Some((_, values)) => {
                        values.insert(value);
                    }
                    None => values.push((field, BTreeSet::from([value]))),
                }
            }
        }
        let distinct = |field: &HeaderField| {
            values.iter().find(|(known, _)| *known == field).map_or(0, |(_, values)| values.len())
        };
        let mut bucket = Bucket::default();
        for number in &list {
            let best = exact_values(route(*number)).max_by_key(|(field, _)| distinct(field));
            let Some((field, value)) = best else {
                bucket.plain.push(*number);
                continue;
            };
            let at = bucket.by_field.iter().position(|(known, _)| known == field).unwrap_or_else(|| {
                bucket.by_field.push((field.clone(), Map::default()));
                bucket.by_field.len() - 1
            });
            bucket.by_field[at].1.entry(value.into()).or_default().push(*number);
        }
        bucket
    }

    fn search(&self, routes: &[Arc<Route>], subject: &Subject<'_>, best: &mut u32) {
        let mut read = |list: &[u32]| {
            for number in list {
                if *number >= *best {
                    return;
                }
                if routes[*number as usize].matcher.test(subject).is_ok() {
                    *best = *number;
                    return;
                }
            }
        };
        read(&self.plain);
        for (field, lists) in &self.by_field {
            subject.each_value(field, |value| {
                if let Some(list) = lists.get(value) {
                    read(list);
                }
            });
        }
    }
}

/// A radix tree of prefixes.
#[derive(Clone, Debug, Default)]
struct Tree {
    nodes: Vec<Node>,
}

#[derive(Clone, Debug, Default)]
struct Node {
    /// What stands between the parent and this node.
    label: Box<[u8]>,
    /// By the first byte of their labels, sorted.
    children: Vec<(u8, u32)>,
    bucket: Option<Bucket>,
}

impl Tree {
    fn is_empty(&self) -> bool {
        self.nodes.is_empty()
    }

    fn insert(&mut self, prefix: &[u8], bucket: Bucket) {
        if self.nodes.is_empty() {
            self.nodes.push(Node::default());
        }
        let mut at = 0;
        let mut rest = prefix;
        while let Some(&first) = rest.first() {
            let child = match self.nodes[at].children.binary_search_by_key(&first, |(byte, _)| *byte) {
                Ok(found) => self.nodes[at].children[found].1 as usize,
                Err(place) => {
                    let new = self.nodes.len();
                    self.nodes.push(Node { label: rest.into(), ..Node::default() });
                    self.nodes[at].children.insert(place, (first, new as u32));
                    at = new;
                    break;
                }
            };
            let label = &self.nodes[child].label;
            let common = label.iter().zip(rest).take_while(|(a, b)| a == b).count();
            if common < label.len() {
                // The child's label is cut in two: its tail goes to a new node below it.
                let (head, tail) = (Box::from(&label[..common]), Box::<[u8]>::from(&label[common..]));
                let below = Node {
                    children: std::mem::take(&mut self.nodes[child].children),
                    bucket: self.nodes[child].bucket.take(),
                    label: tail,
                };
                let new = self.nodes.len();
                self.nodes[child].label = head;
                self.nodes[child].children = vec![(below.label[0], new as u32)];
                self.nodes.push(below);
            }
            rest = &rest[common..];
            at = child;
        }
        self.nodes[at].bucket = Some(bucket);
    }

    /// Visits the bucket of every prefix of a path.
    fn walk(&self, path: impl Iterator<Item = u8>, visit: &mut impl FnMut(&Bucket)) {
        let Some(mut node) = self.nodes.first() else { return };
        let mut path = path.peekable();
        loop {
            if let Some(bucket) = &node.bucket {
                visit(bucket);
            }
            let Some(first) = path.peek() else { return };
            let Ok(found) = node.children.binary_search_by_key(first, |(byte, _)| *byte) else { return };
            node = &self.nodes[node.children[found].1 as usize];
            for byte in &node.label {
                if path.next() != Some(*byte) {
                    return;
                }
            }
        }
    }
}
