//! Sets of requests: what a match block takes, and what is left of it when others have taken their part.
//!
//! A request has many sides ([`Side`]: path, method, each header, …), and a block asks something of some of them; it takes
//! the product. What one block leaves of another is again a few products: for each side that the first asks about, the
//! requests that meet the sides before it and not this one. So a block that stands after others is never reached if each
//! product that they leave is empty, and a product is empty if one of its sides is.
//!
//! Sides are looked at as if they were independent (`:path` and the path are not). That finds fewer empty products than
//! there are, never more: what is called unreachable here is.
//!
//! Cost: in the worst case the product of the sides of all blocks; the search is given up after [`MOST_STEPS`], and the
//! answer is then that something may be left.

use super::language::{Automata, Language, Search};
use std::collections::BTreeMap;

/// How many products one search may look at.
const MOST_STEPS: usize = 2_000;

/// One side of a request.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Side {
    /// Without its query.
    Path,
    /// With its query.
    FullPath,
    Method,
    Scheme,
    Authority,
    Header(String),
    Query(String),
    /// The port that was dialled.
    Port,
    /// The gateway that it came through, or `mesh`.
    Gateway,
    /// The client's namespace.
    Namespace,
    /// A label of the client.
    Label(String),
}

impl Side {
    /// Does every request have it?
    fn is_always_there(&self) -> bool {
        !matches!(self, Side::Header(_) | Side::Query(_) | Side::Label(_))
    }

    /// Can it have several values, of which one is enough?
    fn has_many(&self) -> bool {
        matches!(self, Side::Header(_))
    }
}

/// What is asked of one side.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Condition {
    /// There is such a value.
    Has(Language),
    /// There is no such value; nothing at all counts as the empty text.
    Lacks(Language),
    /// There is nothing.
    IsAbsent,
}

/// A condition, or its opposite.
#[derive(Clone, Debug)]
struct Asked {
    condition: Condition,
    holds: bool,
}

/// The requests that meet some conditions.
#[derive(Clone, Debug, Default)]
pub(super) struct Space {
    sides: BTreeMap<Side, Vec<Asked>>,
}

/// The conditions of one block.
pub(super) type Conditions = Vec<(Side, Condition)>;

impl Space {
    pub(super) fn of(conditions: &Conditions) -> Space {
        let mut space = Space::default();
        for (side, condition) in conditions {
            space.ask(side, condition, true);
        }
        space
    }

    fn ask(&mut self, side: &Side, condition: &Condition, holds: bool) {
        self.sides.entry(side.clone()).or_default().push(Asked { condition: condition.clone(), holds });
    }

    /// Is there certainly no such request?
    pub(super) fn is_empty(&self, automata: &Automata) -> bool {
        // One condition alone is taken to be met by something.
        self.sides.iter().any(|(side, asked)| asked.len() > 1 && self.is_side_empty(side, automata))
    }

    fn is_side_empty(&self, side: &Side, automata: &Automata) -> bool {
        self.value(side, automata) == Answer::Impossible
    }

    /// A value of a side that meets all of its conditions.
    fn value(&self, side: &Side, automata: &Automata) -> Answer {
        let asked = self.sides.get(side).map(Vec::as_slice).unwrap_or_default();
        if !side.is_always_there() {
            let without = |one: &Asked| {
                let met = match &one.condition {
                    Condition::Has(_) => Some(false),
                    Condition::Lacks(language) => automata.contains(language, b"").map(|is_in| !is_in),
                    Condition::IsAbsent => Some(true),
                };
                met.map(|met| met == one.holds)
            };
            let answers: Vec<Option<bool>> = asked.iter().map(without).collect();
            if !answers.contains(&Some(false)) {
                return if answers.contains(&None) { Answer::Unknown } else { Answer::Nothing };
            }
        }
        let (mut within, mut outside): (Vec<&Language>, Vec<&Language>) = (Vec::new(), Vec::new());
        for one in asked {
            match (&one.condition, one.holds) {
                (Condition::Has(language), true) | (Condition::Lacks(language), false) => within.push(language),
                (Condition::Has(language), false) | (Condition::Lacks(language), true) => outside.push(language),
                (Condition::IsAbsent, true) => return Answer::Impossible,
                (Condition::IsAbsent, false) => {}
            }
        }
        let searches: Vec<Search> = if side.has_many() && !within.is_empty() {
            // Each wanted value may stand on a line of its own.
            within.iter().map(|one| automata.find(&[one], &outside)).collect()
        } else {
            vec![automata.find(&within, &outside)]
        };
        if searches.contains(&Search::Nothing) {
            return Answer::Impossible;
        }
        let texts: Option<Vec<Vec<u8>>> = searches
            .into_iter()
            .map(|search| if let Search::Found(text) = search { Some(text) } else { None })
            .collect();
        texts.map_or(Answer::Unknown, Answer::Values)
    }

    /// Do all requests of the space certainly meet these conditions?
    pub(super) fn is_within(&self, conditions: &Conditions, automata: &Automata) -> bool {
        conditions.iter().all(|(side, condition)| {
            let asked = self.sides.get(side).map(Vec::as_slice).unwrap_or_default();
            asked.iter().any(|one| one.holds && one.condition == *condition) || {
                let mut rest = Space { sides: BTreeMap::from([(side.clone(), asked.to_vec())]) };
                rest.ask(side, condition, false);
                rest.is_side_empty(side, automata)
            }
        })
    }

    /// May some request of the space meet these conditions?
    pub(super) fn overlaps(&self, conditions: &Conditions, automata: &Automata) -> bool {
        let mut both = self.clone();
        for (side, condition) in conditions {
            both.ask(side, condition, true);
        }
        conditions.iter().all(|(side, _)| !both.is_side_empty(side, automata))
    }

    /// Do others together certainly take every request of the space?
    pub(super) fn is_taken(&self, others: &[&Conditions], automata: &Automata) -> bool {
        let mut steps = 0;
        !self.escapes(others, automata, &mut steps)
    }

    /// Is there (perhaps) a request that none of the others takes?
    fn escapes(&self, others: &[&Conditions], automata: &Automata, steps: &mut usize) -> bool {
        *steps += 1;
        let Some((first, rest)) = others.split_first() else { return true };
        if *steps > MOST_STEPS {
            return true;
        }
        let mut inside = self.clone();
        for (side, condition) in first.iter() {
            let mut beside = inside.clone();
            beside.ask(side, condition, false);
            if !beside.is_side_empty(side, automata) && beside.escapes(rest, automata, steps) {
                return true;
            }
            inside.ask(side, condition, true);
            if inside.is_side_empty(side, automata) {
                return false;
            }
        }
        false
    }

    /// One request of the space as a person would write it: ``GET /api with `x-user: a` ``. None if none is known.
    pub(super) fn example(&self, automata: &Automata) -> Option<String> {
        let text = |side: &Side, default: &str| match self.value(side, automata) {
            Answer::Values(values) if self.sides.contains_key(side) => {
                values.into_iter().next().map(|value| show(&value))
            }
            Answer::Values(_) | Answer::Nothing => Some(default.to_owned()),
            Answer::Impossible | Answer::Unknown => None,
        };
        let mut path = text(&Side::Path, "/")?;
        if let Some(full) = self.sides.contains_key(&Side::FullPath).then(|| text(&Side::FullPath, "/")) {
            path = full?;
        }
        let mut query = Vec::new();
        let mut with = Vec::new();
        for side in self.sides.keys() {
            let values = match self.value(side, automata) {
                Answer::Values(values) => values,
                Answer::Nothing => continue,
                Answer::Impossible | Answer::Unknown => return None,
            };
            for value in values {
                match side {
                    Side::Header(name) => with.push(format!("{name}: {}", show(&value))),
                    Side::Query(name) => query.push(format!("{name}={}", show(&value))),
                    Side::Authority => with.push(format!("host: {}", show(&value))),
                    _ => {}
                }
            }
        }
        if !query.is_empty() {
            path = format!("{path}?{}", query.join("&"));
        }
        let mut example = format!("`{} {path}`", text(&Side::Method, "GET")?);
        if !with.is_empty() {
            example.push_str(&format!(" with `{}`", with.join("`, `")));
        }
        if self.sides.contains_key(&Side::Port) {
            example.push_str(&format!(" on port {}", text(&Side::Port, "")?));
        }
        Some(example)
    }
}

fn show(text: &[u8]) -> String {
    crate::resource::value::clip(&String::from_utf8_lossy(text))
}

/// What a search for a side's value came to.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Answer {
    /// It may be missing.
    Nothing,
    /// These values together.
    Values(Vec<Vec<u8>>),
    /// No value will do.
    Impossible,
    /// It is not known.
    Unknown,
}
