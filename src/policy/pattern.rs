//! A regular expression that matches whole values, as Envoy's RE2 does.

use regex::bytes::{Captures, Regex, RegexBuilder};
use std::fmt;

/// A compiled pattern.
#[derive(Clone)]
pub(crate) struct Pattern {
    source: Box<str>,
    whole: Regex,
    part: Regex,
}

impl Pattern {
    pub(crate) fn new(source: &str) -> Result<Pattern, String> {
        let build = |text: &str| {
            RegexBuilder::new(text).unicode(false).size_limit(1 << 24).build().map_err(|error| error.to_string())
        };
        let translated = super::re2::translate(source)?;
        let part = build(&translated)?;
        let whole = build(&format!(r"\A(?:{translated})\z"))?;
        Ok(Pattern { source: source.into(), whole, part })
    }

    pub(crate) fn is_match(&self, value: &[u8]) -> bool {
        self.whole.is_match(value)
    }

    /// Every match, anywhere, replaced; `\0` to `\9` and `\\` in the substitution. None for a substitution that refers to
    /// a group that is not there.
    pub(crate) fn replace_all(&self, value: &[u8], substitution: &str) -> Option<Vec<u8>> {
        let mut bytes = substitution.bytes();
        while let Some(byte) = bytes.next() {
            if byte == b'\\'
                && let Some(digit) = bytes.next().filter(u8::is_ascii_digit)
                && usize::from(digit - b'0') >= self.part.captures_len()
            {
                return None;
            }
        }
        let expand = |captures: &Captures<'_>| {
            let mut out = Vec::new();
            let mut bytes = substitution.bytes();
            while let Some(byte) = bytes.next() {
                match (byte, byte == b'\\') {
                    (byte, false) => out.push(byte),
                    (_, true) => match bytes.next() {
                        Some(digit) if digit.is_ascii_digit() => {
                            let group = captures.get(usize::from(digit - b'0'));
                            out.extend_from_slice(group.map(|group| group.as_bytes()).unwrap_or_default());
                        }
                        Some(b'\\') => out.push(b'\\'),
                        _ => break,
                    },
                }
            }
            out
        };
        Some(self.part.replace_all(value, expand).into_owned())
    }

    /// What every match begins with: one of these. None if that is not known, or could be nothing.
    pub(crate) fn beginnings(&self) -> Option<Vec<Vec<u8>>> {
        use regex_syntax::hir::literal::{ExtractKind, Extractor};
        let mut parser = regex_syntax::ParserBuilder::new().unicode(false).utf8(false).build();
        let hir = parser.parse(self.part.as_str()).ok()?;
        let found = Extractor::new().kind(ExtractKind::Prefix).limit_total(16).extract(&hir);
        let literals = found.literals()?;
        if literals.is_empty() || literals.iter().any(|literal| literal.is_empty()) {
            return None;
        }
        let mut beginnings: Vec<Vec<u8>> = literals.iter().map(|literal| literal.as_bytes().to_vec()).collect();
        beginnings.sort();
        beginnings.dedup();
        Some(beginnings)
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.source
    }
}

impl fmt::Debug for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "/{}/", self.source)
    }
}
