//! Sets of texts: what a condition on one value takes.
//!
//! Every condition of a match block (`exact`, `prefix`, `regex`, presence) is a regular language, so whether some text
//! meets one condition and not another can be decided: the automata of both are walked side by side until one text is
//! found, or every state was seen. Exact texts and prefixes, which are nearly all conditions, are compared without that.
//!
//! Texts here are what requests can carry: bytes without control characters (a tab is allowed). So `.*`, which takes no
//! line end, takes everything.
//!
//! Cost: linear in the conditions without patterns. With patterns, automata of at most [`MOST_BYTES`] each, and at most
//! [`MOST_STATES`] states of their product; beyond that the answer is [`Search::TooHard`], and callers must take it for
//! "perhaps".

use regex_automata::Anchored;
use regex_automata::dfa::{Automaton as _, dense};
use regex_automata::nfa::thompson;
use regex_automata::util::primitives::StateID;
use regex_automata::util::{start, syntax};
use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap};
use std::rc::Rc;

/// The most bytes that the automaton of one condition may take.
const MOST_BYTES: usize = 1 << 19;
/// The most states of a product that are looked at.
const MOST_STATES: usize = 1 << 13;

/// A set of texts.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Language {
    /// Every text.
    All,
    /// One of these, byte by byte.
    OneOf(Vec<Vec<u8>>),
    /// This text in any case.
    Folded(Vec<u8>),
    /// Texts that begin so.
    Prefix(Vec<u8>),
    /// Texts that begin so, in any case.
    FoldedPrefix(Vec<u8>),
    /// Texts that the pattern takes as a whole.
    Pattern(Whole),
}

/// A pattern for whole texts.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Whole {
    /// As Rust's engine reads it.
    expression: Rc<str>,
    /// What each of its texts begins with, as far as that is plain to see: nearly all pairs of patterns are told apart by it.
    start: Rc<[u8]>,
}

/// What a search for a text came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::validate::analysis) enum Search {
    /// There is such a text: a shortest one.
    Found(Vec<u8>),
    /// There is none.
    Nothing,
    /// It is not known.
    TooHard,
}

/// The automaton of one language.
pub(in crate::validate::analysis) type Machine = dense::DFA<Vec<u32>>;

/// Automata by what they are for: an analysis asks for the same ones over and over.
#[derive(Debug, Default)]
pub(super) struct Automata {
    known: RefCell<BTreeMap<Language, Option<Rc<Machine>>>>,
}

/// Can a request carry the byte?
fn is_carried(byte: u8) -> bool {
    byte == b'\t' || (byte >= 0x20 && byte != 0x7f)
}

impl Language {
    pub(super) fn exact(text: &str) -> Language {
        Language::OneOf(vec![text.into()])
    }

    pub(super) fn prefix(text: &str, ignore_case: bool) -> Language {
        match (text, ignore_case) {
            ("", _) => Language::All,
            (text, true) => Language::FoldedPrefix(text.into()),
            (text, false) => Language::Prefix(text.into()),
        }
    }

    /// The pattern, in Istio's dialect. None if Envoy does not take it.
    pub(super) fn pattern(source: &str) -> Option<Language> {
        let expression = crate::policy::translate_regex(source).ok()?.into();
        Some(Language::Pattern(Whole { expression, start: literal_start(source).into() }))
    }

    /// What each text begins with.
    fn start(&self) -> &[u8] {
        match self {
            Language::Prefix(text) => text,
            Language::Pattern(pattern) => &pattern.start,
            _ => b"",
        }
    }

    fn has_pattern(&self) -> bool {
        matches!(self, Language::Pattern(_) | Language::Folded(_) | Language::FoldedPrefix(_))
    }

    /// As an expression for Rust's engine.
    fn expression(&self) -> String {
        let quote = |text: &[u8]| text.iter().map(|byte| format!(r"\x{byte:02x}")).collect::<String>();
        match self {
            Language::All => r"(?s-u:.*)".into(),
            Language::OneOf(texts) => {
                format!("(?-u:{})", texts.iter().map(|text| quote(text)).collect::<Vec<_>>().join("|"))
            }
            Language::Folded(text) => format!("(?i-u:{})", quote(text)),
            Language::Prefix(text) => format!("(?s-u:{}.*)", quote(text)),
            Language::FoldedPrefix(text) => format!("(?is-u:{}.*)", quote(text)),
            Language::Pattern(pattern) => format!("(?-u:{})", pattern.expression),
        }
    }
}

/// The plain text that a pattern begins with. (Behind an empty quotation a repetition is one of what stands before it.)
fn literal_start(source: &str) -> &[u8] {
    if source.contains('|') || source.contains("(?") || source.contains(r"\Q") {
        return b"";
    }
    let source = source.strip_prefix('^').unwrap_or(source);
    let is_plain = |letter: char| letter.is_ascii_alphanumeric() || matches!(letter, '/' | '-' | '_');
    let end = source.find(|letter| !is_plain(letter)).unwrap_or(source.len());
    let is_repeated = source[end..].starts_with(['*', '?', '{', '+']);
    &source.as_bytes()[..end - usize::from(is_repeated && end > 0)]
}

/// Can a text begin with both?
fn go_together(a: &[u8], b: &[u8]) -> bool {
    a.starts_with(b) || b.starts_with(a)
}

impl Automata {
    /// Is the text in the language? None: it is not known.
    pub(super) fn contains(&self, language: &Language, text: &[u8]) -> Option<bool> {
        Some(match language {
            Language::All => true,
            Language::OneOf(texts) => texts.iter().any(|one| one == text),
            Language::Folded(one) => one.eq_ignore_ascii_case(text),
            Language::Prefix(start) => text.starts_with(start),
            Language::FoldedPrefix(start) => {
                text.get(..start.len()).is_some_and(|begin| begin.eq_ignore_ascii_case(start))
            }
            Language::Pattern(pattern) if !text.starts_with(&pattern.start) => false,
            Language::Pattern(_) => {
                let automaton = self.automaton(language)?;
                let state = text.iter().fold(begin(&automaton), |state, byte| automaton.next_state(state, *byte));
                accepts(&automaton, state)
            }
        })
    }

    /// Looks for a text that is in all of `within` and in none of `outside`.
    pub(super) fn find(&self, within: &[&Language], outside: &[&Language]) -> Search {
        if outside.contains(&&Language::All) || outside.iter().any(|one| within.contains(one)) {
            return Search::Nothing;
        }
        let finite = within.iter().find_map(|one| if let Language::OneOf(texts) = one { Some(texts) } else { None });
        if let Some(texts) = finite {
            return self.find_among(texts, within, outside);
        }
        let start = within.iter().map(|one| one.start()).max_by_key(|start| start.len()).unwrap_or_default();
        if within.iter().any(|one| !go_together(one.start(), start)) {
            return Search::Nothing;
        }
        // What begins otherwise takes nothing away.
        let outside: Vec<&Language> = outside.iter().copied().filter(|one| go_together(one.start(), start)).collect();
        if !within.iter().chain(&outside).any(|one| one.has_pattern()) {
            return find_by_prefix(within, &outside);
        }
        // The beginning alone may do, and show it without an automaton.
        let is_plainly_outside = |one: &&Language| match one {
            Language::Pattern(pattern) => !start.starts_with(&pattern.start),
            other => self.contains(other, start) == Some(false),
        };
        if !within.iter().any(|one| one.has_pattern()) && outside.iter().all(is_plainly_outside) {
            return Search::Found(start.to_vec());
        }
        self.find_by_automata(within, &outside)
    }

    fn find_among(&self, texts: &[Vec<u8>], within: &[&Language], outside: &[&Language]) -> Search {
        let mut unsure = false;
        for text in texts {
            let asked = within.iter().map(|one| self.contains(one, text));
            let barred = outside.iter().map(|one| self.contains(one, text).map(|is_in| !is_in));
            let answers: Vec<Option<bool>> = asked.chain(barred).collect();
            if answers.contains(&Some(false)) {
                continue;
            }
            if answers.contains(&None) {
                unsure = true;
            } else {
                return Search::Found(text.clone());
            }
        }
        if unsure { Search::TooHard } else { Search::Nothing }
    }

    fn find_by_automata(&self, within: &[&Language], outside: &[&Language]) -> Search {
        let build = |languages: &[&Language]| {
            languages.iter().map(|one| self.automaton(one)).collect::<Option<Vec<Rc<Machine>>>>()
        };
        let Some(inner) = build(within) else { return Search::TooHard };
        // Leaving one of these out makes the search find more: that is no proof, so nothing is left out.
        let Some(outer) = build(outside) else { return Search::TooHard };
        let automata: Vec<&Machine> = inner.iter().chain(&outer).map(|one| &**one).collect();
        walk(&automata, inner.len(), |_| true)
    }

    fn automaton(&self, language: &Language) -> Option<Rc<Machine>> {
        if let Some(known) = self.known.borrow().get(language) {
            return known.clone();
        }
        let automaton = build(&language.expression()).map(Rc::new);
        self.known.borrow_mut().insert(language.clone(), automaton.clone());
        automaton
    }
}

/// The automaton of an expression over bytes that takes whole texts. None if it is too large.
pub(in crate::validate::analysis) fn build(expression: &str) -> Option<Machine> {
    dense::Builder::new()
        .configure(
            dense::Config::new()
                .start_kind(regex_automata::dfa::StartKind::Anchored)
                .dfa_size_limit(Some(MOST_BYTES))
                .determinize_size_limit(Some(4 * MOST_BYTES)),
        )
        .syntax(syntax::Config::new().unicode(false).utf8(false))
        .thompson(thompson::Config::new().utf8(false).nfa_size_limit(Some(MOST_BYTES)))
        .build(&format!(r"\A(?:{expression})\z"))
        .ok()
        .filter(|automaton| automaton.start_state(&start::Config::new().anchored(Anchored::Yes)).is_ok())
}

fn begin(automaton: &Machine) -> StateID {
    // `build` keeps only automata that have one.
    automaton.start_state(&start::Config::new().anchored(Anchored::Yes)).unwrap_or_default()
}

fn accepts(automaton: &Machine, state: StateID) -> bool {
    automaton.is_match_state(automaton.next_eoi_state(state))
}

/// Walks automata side by side, breadth first, to a text that the first `within` of them take and the others do not.
/// Only texts of certain bytes are looked at.
pub(in crate::validate::analysis) fn walk(
    automata: &[&Machine],
    within: usize,
    is_wanted: impl Fn(&u8) -> bool,
) -> Search {
    let bytes = representatives(automata, is_wanted);
    let first: Vec<StateID> = automata.iter().map(|one| begin(one)).collect();
    let mut seen: HashMap<Vec<StateID>, usize> = HashMap::from([(first.clone(), 0)]);
    // Each state with the one that it was reached from, and by which byte.
    let mut order: Vec<(Vec<StateID>, usize, u8)> = vec![(first, 0, 0)];
    let mut at = 0;
    while let Some((states, _, _)) = order.get(at).cloned() {
        let mut verdicts = automata.iter().zip(&states).map(|(one, state)| accepts(one, *state));
        if verdicts.by_ref().take(within).all(|taken| taken) && !verdicts.any(|taken| taken) {
            return Search::Found(spell(&order, at));
        }
        for &byte in &bytes {
            let next: Vec<StateID> =
                automata.iter().zip(&states).map(|(one, state)| one.next_state(*state, byte)).collect();
            let hopeless = automata.iter().zip(&next).take(within).any(|(one, state)| one.is_dead_state(*state));
            if hopeless || seen.contains_key(&next) {
                continue;
            }
            if order.len() >= MOST_STATES {
                return Search::TooHard;
            }
            seen.insert(next.clone(), order.len());
            order.push((next, at, byte));
        }
        at += 1;
    }
    Search::Nothing
}

/// The text that leads to a state.
fn spell(order: &[(Vec<StateID>, usize, u8)], mut at: usize) -> Vec<u8> {
    let mut text = Vec::new();
    while at != 0 {
        let (_, from, byte) = &order[at];
        text.push(*byte);
        at = *from;
    }
    text.reverse();
    text
}

/// One byte for each set of bytes that no automaton tells apart. Of a set the letters come first: they read best.
fn representatives(automata: &[&Machine], is_wanted: impl Fn(&u8) -> bool) -> Vec<u8> {
    let letters = (b'a'..=b'z').chain(b'0'..=b'9');
    let rest = (0..=255).filter(|byte| is_carried(*byte) && is_wanted(byte));
    let mut seen = std::collections::HashSet::new();
    letters
        .chain(rest)
        .filter(|byte| {
            let classes: Vec<u8> = automata.iter().map(|one| one.byte_classes().get(*byte)).collect();
            seen.insert(classes)
        })
        .collect()
}

/// The search where there are prefixes and lists of texts alone, and none of `within` is finite.
fn find_by_prefix(within: &[&Language], outside: &[&Language]) -> Search {
    let prefixes = within.iter().filter_map(|one| if let Language::Prefix(text) = one { Some(text) } else { None });
    let longest = prefixes.clone().max_by_key(|text| text.len()).cloned().unwrap_or_default();
    if !prefixes.clone().all(|text| longest.starts_with(text)) {
        return Search::Nothing;
    }
    let barred = |text: &[u8]| {
        outside.iter().any(|one| match one {
            Language::Prefix(start) => text.starts_with(start),
            Language::OneOf(texts) => texts.iter().any(|one| one == text),
            _ => false,
        })
    };
    if outside.iter().any(|one| matches!(one, Language::Prefix(start) if longest.starts_with(start))) {
        return Search::Nothing;
    }
    // Finitely many texts and longer prefixes never fill up a prefix... unless they name every next byte; that is left.
    let endings = (0..=outside.len()).map(|count| "a".repeat(count)).chain(["-".into(), "_".into(), "9".into()]);
    let candidates = endings.map(|ending| [longest.as_slice(), ending.as_bytes()].concat());
    candidates.into_iter().find(|text| !barred(text)).map_or(Search::TooHard, Search::Found)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pattern(text: &str) -> Language {
        Language::pattern(text).unwrap()
    }

    fn find(within: &[Language], outside: &[Language]) -> Search {
        let within: Vec<&Language> = within.iter().collect();
        let outside: Vec<&Language> = outside.iter().collect();
        Automata::default().find(&within, &outside)
    }

    #[test]
    fn a_beginning_that_may_be_missing_is_none() {
        for source in ["a*b", "a?b", "a{0,1}b", r"a\Q\E*b", "(?:a)?b", "a|b", "(a|)b"] {
            assert_eq!(
                find(&[pattern(source), Language::prefix("b", false)], &[]),
                Search::Found("b".into()),
                "{source}"
            );
        }
    }

    #[test]
    fn texts_are_found_or_there_are_none() {
        let found = |text: &str| Search::Found(text.into());
        let prefix = |text| Language::prefix(text, false);
        let cases = [
            (vec![Language::exact("/a")], vec![prefix("/a")], Search::Nothing),
            (vec![Language::exact("/b")], vec![prefix("/a")], found("/b")),
            (vec![prefix("/a/")], vec![prefix("/a")], Search::Nothing),
            (vec![prefix("/a")], vec![prefix("/a/")], found("/a")),
            (vec![prefix("/a")], vec![prefix("/b"), Language::exact("/a")], found("/aa")),
            (vec![prefix("/a"), prefix("/b")], vec![], Search::Nothing),
            (vec![pattern("/a/.*")], vec![prefix("/a")], Search::Nothing),
            (vec![prefix("/a/")], vec![pattern("/a/.*")], Search::Nothing),
            (vec![pattern("/(a|b)")], vec![Language::exact("/a")], found("/b")),
            (vec![pattern("/(a|b)")], vec![Language::exact("/a"), Language::exact("/b")], Search::Nothing),
            (vec![Language::All], vec![pattern(".*")], Search::Nothing),
            (vec![Language::All], vec![pattern(".+")], found("")),
            (vec![pattern("(?i)/a")], vec![Language::Folded(b"/A".to_vec())], Search::Nothing),
            (vec![Language::Folded(b"/a".to_vec())], vec![Language::exact("/a")], found("/A")),
            (vec![Language::prefix("/Api", true)], vec![Language::prefix("/API/v", true)], found("/api")),
            (vec![pattern("[0-9]+")], vec![pattern("[0-9]*[02468]")], found("1")),
            (vec![pattern(r"\bx")], vec![Language::exact("x")], Search::Nothing),
            (vec![pattern("/ab?")], vec![Language::exact("/a")], found("/ab")),
            (vec![pattern("/ab*c")], vec![pattern("/b.*")], found("/ac")),
            (vec![pattern("/v[0-9]+")], vec![prefix("/x"), pattern("/w.*")], found("/v0")),
        ];
        for (within, outside, expected) in cases {
            assert_eq!(find(&within, &outside), expected, "{within:?} without {outside:?}");
        }
    }

    #[test]
    fn what_is_too_hard_is_not_said_to_be_nothing() {
        let hard = pattern("(a|b)*a(a|b){14}");
        assert_eq!(find(&[hard.clone(), pattern("(a|b)*b(a|b){14}")], &[]), Search::TooHard);
        assert_eq!(find(std::slice::from_ref(&hard), std::slice::from_ref(&hard)), Search::Nothing);
    }
}
