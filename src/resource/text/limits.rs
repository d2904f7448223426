//! How much a text may ask of its reader.
//!
//! A policy file may come from anywhere. Its size is checked before it is read; its depth, and what it grows to when
//! aliases are followed, while it is read. So work and memory are bounded by the limits, whatever the text says.

use std::collections::BTreeSet;

use crate::resource::value::{Entry, Map, Position, clip};

/// The most that a text may hold.
///
/// ```
/// use pointsman::resource::{Limits, Loader};
///
/// let mut limits = Limits::default();
/// limits.documents = 1;
/// let loader = Loader::new().with_limits(limits);
/// assert!(loader.json("{} {}").is_err());
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Limits {
    /// Bytes of the whole text. Default: 64 MiB.
    pub bytes: usize,
    /// Bytes of one document. Default: 8 MiB.
    pub document_bytes: usize,
    /// Documents in a text. Default: 100 000.
    pub documents: usize,
    /// How deep maps and lists may stand in each other. Default: 64. More than 100 is taken as 100.
    pub depth: usize,
    /// Values in a document, each alias counted as what it stands for. Default: 2 000 000.
    pub nodes: usize,
    /// Problems that are written down; more are counted. Default: 10 000.
    pub problems: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            bytes: 64 << 20,
            document_bytes: 8 << 20,
            documents: 100_000,
            depth: 64,
            nodes: 2_000_000,
            problems: 10_000,
        }
    }
}

impl Limits {
    /// The depth that both readers keep to; neither's stack is in danger there.
    pub(crate) fn depth(&self) -> usize {
        self.depth.min(100)
    }
}

/// Why a document could not be read at all.
#[derive(Debug, Clone)]
pub(crate) struct TextError {
    pub(crate) position: Option<Position>,
    pub(crate) message: String,
}

impl TextError {
    pub(crate) fn new(position: Option<Position>, message: impl Into<String>) -> Self {
        Self { position, message: message.into() }
    }
}

/// What is left for one document.
#[derive(Debug)]
pub(crate) struct Budget {
    nodes: usize,
    text: usize,
    most_nodes: usize,
}

impl Budget {
    /// `length` is the document's; strings may grow a little when escapes are read, and where aliases repeat a part of a
    /// policy, but not without end.
    pub(crate) fn new(limits: &Limits, length: usize) -> Self {
        Self { nodes: limits.nodes, text: length.saturating_mul(4).saturating_add(1 << 20), most_nodes: limits.nodes }
    }

    /// Pays for one value with a text of this length.
    pub(crate) fn pay(&mut self, length: usize) -> Result<(), String> {
        match (self.nodes.checked_sub(1), self.text.checked_sub(length)) {
            (Some(nodes), Some(text)) => {
                (self.nodes, self.text) = (nodes, text);
                Ok(())
            }
            (None, _) => Err(format!("the document has more than {} values", self.most_nodes)),
            (_, None) => Err("aliases make the document far longer than its text".to_owned()),
        }
    }
}

/// Adds an entry to a map if its key is new. `seen` is only filled once a map is large.
pub(crate) fn push_unique(map: &mut Map, seen: &mut BTreeSet<String>, entry: Entry) -> Result<(), TextError> {
    const SMALL: usize = 16;
    let known = if map.len() < SMALL {
        map.entry(&entry.key).is_some()
    } else {
        if seen.is_empty() {
            seen.extend(map.iter().map(|entry| entry.key.clone()));
        }
        !seen.insert(entry.key.clone())
    };
    if known {
        let message = format!("the key `{}` is there twice", clip(&entry.key));
        return Err(TextError::new(entry.position, message));
    }
    map.push_entry(entry);
    Ok(())
}
