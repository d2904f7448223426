//! Findings as a compiler prints them: the line of the source, what is marked in it, and what helps (feature
//! `diagnostics`).
//!
//! The layout is rustc's own: `annotate-snippets`, which rustc draws with too, and which of the libraries for this has the
//! fewest dependencies. A mark goes from where a finding is to the end of the value there, on one line. The rule that hides
//! another is marked in the same picture if it is near.
//!
//! Cost: the lines around the marks, however long the text is.

use super::report::{Diagnostic, Related, Severity};
use crate::resource::Position;
use annotate_snippets::{AnnotationKind, Element, Group, Level, Origin, Renderer, Snippet};
use std::collections::HashMap;
use std::ops::Range;

/// How far apart lines may be that are shown in one picture.
const NEAR: usize = 40;

/// The texts that findings were made in.
///
/// ```
/// use pointsman::resource::Loader;
/// use pointsman::validate::{Sources, analyze};
///
/// let text = "\
/// apiVersion: networking.istio.io/v1
/// kind: DestinationRule
/// metadata: {name: reviews, namespace: default}
/// spec:
///   host: reviews
///   trafficPolicy:
///     loadBalancer: {simple: ROUNDROBIN}
/// ";
/// let resources = Loader::new().with_source("reviews.yaml").yaml(text)?;
/// let report = analyze(&resources, None);
/// let sources = Sources::new().with("reviews.yaml", text);
/// assert_eq!(sources.render(&report.diagnostics[0], false), "\
/// error[CRD-009]: `ROUNDROBIN` is none of UNSPECIFIED, LEAST_CONN, RANDOM, PASSTHROUGH, ROUND_ROBIN, LEAST_REQUEST
///  --> reviews.yaml:7:28
///   |
/// 7 |     loadBalancer: {simple: ROUNDROBIN}
///   |                            ^^^^^^^^^^ spec.trafficPolicy.loadBalancer.simple
///   |
///   = note: DestinationRule default/reviews
///   = help: did you mean `ROUND_ROBIN`?");
/// # Ok::<(), pointsman::resource::LoadError>(())
/// ```
#[derive(Clone, Debug, Default)]
pub struct Sources<'t> {
    texts: HashMap<String, Text<'t>>,
}

/// A text and where its lines begin.
#[derive(Clone, Debug)]
struct Text<'t> {
    text: &'t str,
    lines: Vec<usize>,
}

impl<'t> Sources<'t> {
    /// No texts: findings are shown without their lines.
    pub fn new() -> Sources<'t> {
        Sources::default()
    }

    /// With one more text, by the name that the loader had for it (empty: none).
    pub fn with(mut self, name: impl Into<String>, text: &'t str) -> Sources<'t> {
        self.add(name, text);
        self
    }

    /// Adds a text, by the name that the loader had for it (empty: none).
    pub fn add(&mut self, name: impl Into<String>, text: &'t str) {
        let breaks = text.bytes().enumerate().filter(|(_, byte)| *byte == b'\n').map(|(at, _)| at + 1);
        let lines = std::iter::once(0).chain(breaks).collect();
        self.texts.insert(name.into(), Text { text, lines });
    }

    /// A finding in several lines, without a line end; with colours for a terminal if they are asked for.
    pub fn render(&self, finding: &Diagnostic, color: bool) -> String {
        let level = match finding.severity {
            Severity::Error => Level::ERROR,
            Severity::Warning => Level::WARNING,
            Severity::Info => Level::INFO,
        };
        let source = finding.source.as_deref().unwrap_or_default();
        let mut elements: Vec<Element<'_>> = Vec::new();
        // Two marks that cross each other say nothing: a place inside the finding's own is left out.
        let (own, other): (Vec<&Related>, Vec<&Related>) =
            finding.related.iter().partition(|one| one.resource.is_none() && one.position != finding.position);
        elements.extend(self.picture(source, finding.position, &finding.path, &own));
        for one in other.iter().filter(|one| one.resource.is_some()) {
            let name = one.resource.as_ref().map(ToString::to_string).unwrap_or_default();
            elements.push(Level::NOTE.message(format!("{}: {name}", one.message)).into());
            elements.extend(self.picture(one.source.as_deref().unwrap_or_default(), one.position, &one.path, &[]));
        }
        if let Some(resource) = &finding.resource {
            let place = if finding.position.is_none() && !finding.path.is_empty() { &finding.path } else { "" };
            elements.push(Level::NOTE.message(format!("{resource} {place}").trim_end().to_owned()).into());
        }
        let help = match &finding.suggestion {
            Some(suggestion) => Some(format!("did you mean `{suggestion}`?")),
            None => super::codes::find(finding.code).map(|info| info.repair.to_owned()),
        };
        elements.extend(help.map(|help| Level::HELP.message(help).into()));
        let group: Group<'_> = level.primary_title(finding.message.as_str()).id(finding.code).elements(elements);
        let renderer = if color { Renderer::styled() } else { Renderer::plain() };
        renderer.render(&[group])
    }

    /// The lines of a place, with other places of the same text that are near.
    fn picture<'s>(
        &'s self,
        source: &'s str,
        position: Option<Position>,
        path: &'s str,
        others: &[&'s Related],
    ) -> Option<Element<'s>> {
        let position = position?;
        let origin = || Origin::path(source).line(position.line).char_column(position.column);
        let Some(text) = self.texts.get(source) else {
            return (!source.is_empty()).then(|| origin().into());
        };
        let is_near = |one: &&&Related| one.position.is_some_and(|at| at.line.abs_diff(position.line) <= NEAR);
        let near: Vec<&&Related> = others.iter().filter(is_near).collect();
        let lines = near.iter().filter_map(|one| one.position).map(|at| at.line).chain([position.line]);
        let (first, last) = (lines.clone().min()?, lines.max()?);
        let start = *text.lines.get(first.checked_sub(1)?)?;
        let end = text.lines.get(last).copied().unwrap_or(text.text.len());
        let span = |at: Position| Some(text.span(at)?.start - start..text.span(at)?.end - start);
        let mut snippet = Snippet::source(text.text.get(start..end)?).line_start(first);
        if !source.is_empty() {
            snippet = snippet.path(source);
        }
        snippet = snippet.annotation(AnnotationKind::Primary.span(span(position)?).label(path));
        for one in near {
            if let Some(span) = one.position.and_then(span) {
                snippet = snippet.annotation(AnnotationKind::Context.span(span).label(one.message.as_str()));
            }
        }
        Some(snippet.into())
    }
}

impl Text<'_> {
    /// What stands at a place: the value, or the rest of its line.
    fn span(&self, at: Position) -> Option<Range<usize>> {
        let from = *self.lines.get(at.line.checked_sub(1)?)?;
        let line = self.text.get(from..)?.lines().next().unwrap_or_default();
        let column = line.char_indices().nth(at.column.saturating_sub(1)).map_or(line.len(), |(at, _)| at);
        let length = length(&line[column..]);
        Some(from + column..from + column + length)
    }
}

/// How long the value is that a text begins with, at least 1 where there is something.
fn length(text: &str) -> usize {
    let mut depth = 0_usize;
    let mut quote = None;
    let mut before = ' ';
    for (at, letter) in text.char_indices() {
        match (quote, letter) {
            (Some(open), _) if open == letter => {
                quote = None;
                if depth == 0 {
                    return at + 1;
                }
            }
            (Some(_), _) => {}
            (None, '"' | '\'') if at == 0 || depth > 0 => quote = Some(letter),
            (None, '{' | '[') if at == 0 || depth > 0 => depth += 1,
            (None, '}' | ']') => {
                if depth <= 1 {
                    return if depth == 0 { at.max(1) } else { at + 1 };
                }
                depth -= 1;
            }
            (None, ',') if depth == 0 => return at.max(1),
            (None, '#') if before == ' ' && at > 0 => return text[..at].trim_end().len(),
            (None, ':') if depth == 0 && text[at + 1..].chars().next().is_none_or(|next| next == ' ') => {
                // A key: its value goes with it, if it stands on the line.
                let value = text[at + 1..].trim_start();
                let is_there = !value.is_empty() && !value.starts_with(['#', '&', '|', '>']);
                return if is_there { text.len() - value.len() + length(value) } else { at.max(1) };
            }
            _ => {}
        }
        before = letter;
    }
    text.trim_end().len()
}
