//! A radix tree over bytes: finds every entry that a text begins with.

/// Entries by the text that they stand at.
#[derive(Clone, Debug)]
pub(super) struct Tree<T> {
    /// The first is the root.
    nodes: Vec<Node<T>>,
}

#[derive(Clone, Debug)]
struct Node<T> {
    /// What stands between the parent and this node.
    label: Box<[u8]>,
    /// By the first byte of their labels, sorted.
    children: Vec<(u8, u32)>,
    entry: Option<T>,
}

impl<T> Default for Tree<T> {
    fn default() -> Self {
        Tree { nodes: Vec::new() }
    }
}

impl<T> Tree<T> {
    pub(super) fn is_empty(&self) -> bool {
        self.nodes.is_empty()
    }

    /// Puts an entry at a text. What stood there before is replaced.
    pub(super) fn insert(&mut self, text: impl IntoIterator<Item = u8>, entry: T) {
        let text: Vec<u8> = text.into_iter().collect();
        if self.nodes.is_empty() {
            self.nodes.push(Node { label: [].into(), children: Vec::new(), entry: None });
        }
        let mut at = 0;
        let mut rest = text.as_slice();
        while let Some(&first) = rest.first() {
            let child = match self.nodes[at].children.binary_search_by_key(&first, |(byte, _)| *byte) {
                Ok(found) => self.nodes[at].children[found].1 as usize,
                Err(place) => {
                    let new = self.nodes.len();
                    self.nodes.push(Node { label: rest.into(), children: Vec::new(), entry: None });
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
                    entry: self.nodes[child].entry.take(),
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
        self.nodes[at].entry = Some(entry);
    }

    /// Visits the entry of every beginning of a text, the shortest first.
    pub(super) fn walk<'t>(&'t self, text: &[u8], mut visit: impl FnMut(&'t T)) {
        let Some(mut node) = self.nodes.first() else { return };
        let mut rest = text;
        loop {
            if let Some(entry) = &node.entry {
                visit(entry);
            }
            let Some(child) = rest.first().and_then(|first| self.child(node, *first)) else { return };
            let Some(after) = rest.strip_prefix(&*child.label) else { return };
            rest = after;
            node = child;
        }
    }

    /// The same for a text that is not in one piece.
    pub(super) fn walk_bytes<'t>(&'t self, text: impl Iterator<Item = u8>, mut visit: impl FnMut(&'t T)) {
        let Some(mut node) = self.nodes.first() else { return };
        let mut text = text.peekable();
        loop {
            if let Some(entry) = &node.entry {
                visit(entry);
            }
            let Some(child) = text.peek().and_then(|first| self.child(node, *first)) else { return };
            if !child.label.iter().all(|byte| text.next() == Some(*byte)) {
                return;
            }
            node = child;
        }
    }

    fn child(&self, node: &Node<T>, first: u8) -> Option<&Node<T>> {
        let found = node.children.binary_search_by_key(&first, |(byte, _)| *byte).ok()?;
        self.nodes.get(node.children[found].1 as usize)
    }
}

#[cfg(test)]
mod tests {
    use super::Tree;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_walk_visits_what_the_text_begins_with(
            texts in prop::collection::btree_set("[ab]{0,6}", 0..20),
            asked in "[abc]{0,8}",
        ) {
            let mut tree = Tree::default();
            for text in &texts {
                tree.insert(text.bytes(), text.clone());
            }
            let mut found = Vec::new();
            tree.walk(asked.as_bytes(), |text| found.push(text.clone()));
            let mut in_pieces = Vec::new();
            tree.walk_bytes(asked.bytes(), |text| in_pieces.push(text.clone()));
            prop_assert_eq!(&found, &in_pieces);
            let mut wanted: Vec<String> = texts.into_iter().filter(|text| asked.starts_with(text.as_str())).collect();
            wanted.sort_by_key(String::len);
            prop_assert_eq!(found, wanted);
        }
    }
}
