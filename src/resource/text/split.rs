//! A YAML text, cut into its documents before any of them is parsed.
//!
//! A line that begins with `---` is the beginning of a document wherever it stands, and one that begins with `...` is
//! an end, so cutting needs no parser; and a document that cannot be parsed takes no other down with it.

/// One document's text and the number of its first line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Chunk<'a> {
    pub(crate) text: &'a str,
    pub(crate) line: usize,
}

/// The documents of a text, those without content left out.
pub(crate) fn documents(text: &str) -> impl Iterator<Item = Chunk<'_>> {
    let mut rest = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut line = 1;
    std::iter::from_fn(move || {
        while !rest.is_empty() {
            let (length, lines, skipped) = first_document(rest);
            let chunk = Chunk { text: rest.get(..length).unwrap_or(""), line };
            rest = rest.get(length + skipped..).unwrap_or("");
            line += lines;
            if has_content(chunk.text) {
                return Some(chunk);
            }
        }
        None
    })
}

fn is_marker(line: &str, marker: &str) -> bool {
    line.strip_prefix(marker).is_some_and(|after| after.is_empty() || after.starts_with([' ', '\t', '\r', '\n']))
}

/// The length of the first document, the lines up to the next one, and the length of the end marker between.
fn first_document(text: &str) -> (usize, usize, usize) {
    let mut length = 0;
    for (index, line) in text.split_inclusive('\n').enumerate() {
        if is_marker(line, "...") {
            return (length, index + 1, line.len());
        }
        if index > 0 && is_marker(line, "---") {
            return (length, index, 0);
        }
        length += line.len();
    }
    (length, 0, 0)
}

/// Whether there is more than blanks, comments, directives and a lone marker.
fn has_content(text: &str) -> bool {
    text.lines().any(|line| {
        let line = if is_marker(line, "---") { line.get(3..).unwrap_or("") } else { line };
        let line = line.trim();
        !line.is_empty() && !line.starts_with(['#', '%'])
    })
}
