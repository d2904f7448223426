//! A regular expression that matches whole values, as Envoy's RE2 does.
//!
//! Most patterns of a policy are small: they become a table of states that is walked once along the value, with no memory
//! of its own. One whose table would be large is left to `regex`, whose engines are linear in the value too.

use regex::bytes::{Captures, Regex, RegexBuilder};
use regex_automata::dfa::{Automaton, StartKind, dense};
use regex_automata::util::syntax;
use regex_automata::{Anchored, Input, nfa::thompson};
use regex_syntax::ParserBuilder;
use regex_syntax::hir::literal::{ExtractKind, Extractor};
use regex_syntax::hir::{Hir, HirKind};
use std::fmt;
use std::sync::OnceLock;

/// How large a pattern's table may be, in bytes, and the work to build it.
const LARGEST_TABLE: usize = 1 << 14;
const MOST_WORK: usize = 1 << 17;

/// The most bytes that a compiled pattern takes.
const MAX_SIZE: usize = 1 << 24;

/// A compiled pattern.
#[derive(Clone)]
pub(crate) struct Pattern {
    source: Box<str>,
    /// The same in the dialect of `regex`.
    translated: Box<str>,
    whole: Whole,
    /// Finds parts of a value; built when first asked for, since only rewrites do.
    part: OnceLock<Option<Regex>>,
}

/// Matches whole values.
#[derive(Clone)]
enum Whole {
    Table(Box<dense::DFA<Vec<u32>>>),
    Engine(Box<Regex>),
}

impl Whole {
    fn new(translated: &str) -> Result<Whole, String> {
        let anchored = format!(r"\A(?:{translated})\z");
        let table = dense::Builder::new()
            .configure(
                dense::Config::new()
                    .start_kind(StartKind::Anchored)
                    .dfa_size_limit(Some(LARGEST_TABLE))
                    .determinize_size_limit(Some(MOST_WORK)),
            )
            .syntax(syntax::Config::new().unicode(false).utf8(false))
            .thompson(thompson::Config::new().utf8(false).nfa_size_limit(Some(MOST_WORK)))
            .build(&anchored);
        Ok(match table {
            Ok(table) => Whole::Table(Box::new(table)),
            Err(_) => Whole::Engine(Box::new(engine(&anchored)?)),
        })
    }

    fn is_match(&self, value: &[u8]) -> bool {
        match self {
            Whole::Table(table) => {
                matches!(table.try_search_fwd(&Input::new(value).anchored(Anchored::Yes)), Ok(Some(_)))
            }
            Whole::Engine(regex) => regex.is_match(value),
        }
    }
}

fn engine(text: &str) -> Result<Regex, String> {
    RegexBuilder::new(text).unicode(false).size_limit(MAX_SIZE).build().map_err(|error| match error {
        regex::Error::CompiledTooBig(_) => format!("it needs more than {MAX_SIZE} bytes when it is compiled"),
        // The grammar was asked already: what is left is a tree too deep for the stack of small threads.
        _ => "it is nested too deeply".to_owned(),
    })
}

impl Pattern {
    pub(crate) fn new(source: &str) -> Result<Pattern, String> {
        let translated = super::re2::translate(source)?;
        let whole = Whole::new(&translated)?;
        Ok(Pattern { source: source.into(), translated: translated.into(), whole, part: OnceLock::new() })
    }

    pub(crate) fn is_match(&self, value: &[u8]) -> bool {
        self.whole.is_match(value)
    }

    /// Every match, anywhere, replaced; `\0` to `\9` and `\\` in the substitution. None for a substitution that refers to
    /// a group that is not there.
    pub(crate) fn replace_all(&self, value: &[u8], substitution: &str) -> Option<Vec<u8>> {
        let part = self.part.get_or_init(|| engine(&self.translated).ok()).as_ref()?;
        let mut bytes = substitution.bytes();
        while let Some(byte) = bytes.next() {
            if byte == b'\\'
                && let Some(digit) = bytes.next().filter(u8::is_ascii_digit)
                && usize::from(digit - b'0') >= part.captures_len()
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
        Some(part.replace_all(value, expand).into_owned())
    }

    /// What is known of the text of every match.
    pub(crate) fn parts(&self) -> Parts {
        let mut parser = ParserBuilder::new().unicode(false).utf8(false).build();
        let Ok(hir) = parser.parse(&self.translated) else { return Parts::default() };
        let mut parts = Parts { beginnings: beginnings(&hir), inside: Vec::new() };
        literals_inside(&hir, &mut parts.inside);
        parts
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.source
    }
}

/// What is known of the text of every match of a pattern.
#[derive(Clone, Debug, Default)]
pub(crate) struct Parts {
    /// It begins with one of these. None if that is not known, or could be nothing.
    pub(crate) beginnings: Option<Vec<Vec<u8>>>,
    /// It has each of these somewhere.
    pub(crate) inside: Vec<Vec<u8>>,
}

fn beginnings(hir: &Hir) -> Option<Vec<Vec<u8>>> {
    let found = Extractor::new().kind(ExtractKind::Prefix).limit_total(16).extract(hir);
    let literals = found.literals()?;
    if literals.is_empty() || literals.iter().any(|literal| literal.is_empty()) {
        return None;
    }
    let mut beginnings: Vec<Vec<u8>> = literals.iter().map(|literal| literal.as_bytes().to_vec()).collect();
    beginnings.sort();
    beginnings.dedup();
    Some(beginnings)
}

fn literals_inside(hir: &Hir, found: &mut Vec<Vec<u8>>) {
    match hir.kind() {
        HirKind::Literal(literal) => found.push(literal.0.to_vec()),
        HirKind::Capture(group) => literals_inside(&group.sub, found),
        HirKind::Repetition(repeated) if repeated.min > 0 => literals_inside(&repeated.sub, found),
        HirKind::Concat(all) => all.iter().for_each(|one| literals_inside(one, found)),
        _ => {}
    }
}

impl fmt::Debug for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "/{}/", self.source)
    }
}
