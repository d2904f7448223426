//! Why a request goes where it goes: the decision as data.
//!
//! The route is found as [`Policy::decide`] finds it. Then every rule before it, in written order, is asked with the same
//! code which of its conditions failed first. Printed with `{}` it is one line; with `{:#}` it is the whole story, in 80
//! columns.

use super::matching::{Failed, Subject};
use super::table::Hosts;
use super::{
    Action, HeaderField, NoRoute, Origin, PathMatch, Policy, Route, Target, ValueMatch, Verdict, without_port,
};
use crate::entropy::Draws;
use crate::head::Request;
use serde::Serialize;
use std::fmt;
use std::sync::Arc;

/// Why a request goes where it goes.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct Explanation {
    /// The request line, as it was matched (the path is normalised).
    pub request: Asked,
    /// How the virtual host was found.
    pub host: HostStep,
    /// The rules that were visited, in written order; the last one is the winner, if there is one.
    pub rules: Vec<RuleStep>,
    /// What comes of it.
    pub outcome: Outcome,
}

/// What was asked.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct Asked {
    /// The method.
    pub method: String,
    /// The authority, as received.
    pub authority: String,
    /// Path and query, normalised.
    pub path: String,
    /// The port that was dialled.
    pub port: u16,
}

/// How the virtual host was found.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct HostStep {
    /// The authority without its port, in lower case.
    pub name: String,
    /// The domain that has it; none if no virtual host does.
    pub domain: Option<String>,
    /// The virtual host of that domain.
    pub virtual_host: Option<String>,
    /// Less specific domains that also have the name. Their rules are not tried.
    pub passed_over: Vec<String>,
}

/// One rule that was visited.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct RuleStep {
    /// The route's name.
    pub name: Arc<str>,
    /// Where it was written.
    pub origin: Origin,
    /// The first condition that failed; none for the winner.
    pub failed: Option<FailedCondition>,
}

/// A condition that did not hold.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct FailedCondition {
    /// What it looks at: `uri`, `method`, `headers[x-user]`, `queryParams[k]`, …
    pub field: String,
    /// What was wanted.
    pub wanted: String,
    /// What was there; none if nothing was.
    pub seen: Option<String>,
}

/// What comes of a request.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase", tag = "kind")]
#[non_exhaustive]
pub enum Outcome {
    /// It is forwarded.
    #[serde(rename_all = "camelCase")]
    Forward {
        /// The destination's name.
        cluster: Arc<str>,
        /// Is the destination there? If not, the answer is 503.
        defined: bool,
        /// The destination's part of the weights: from (included) to (excluded) …
        bucket: (u64, u64),
        /// … of so many.
        total: u64,
        /// The draw; the bucket has its remainder by the total.
        draw: u64,
    },
    /// A redirect.
    Redirect {
        /// Its status.
        status: u16,
    },
    /// A direct response.
    Respond {
        /// Its status.
        status: u16,
    },
    /// It goes wherever the caller wanted.
    PassThrough,
    /// There is no route.
    NoRoute {
        /// Why.
        reason: NoRoute,
    },
}

impl Policy {
    /// Decides as [`Policy::decide`] does (with the same draws), and tells why.
    pub fn explain(&self, request: &Request<'_>, draws: &mut dyn Draws) -> Explanation {
        let decision = self.decide(request, draws);
        let path = self.normalize(request.path).unwrap_or(request.path.into());
        let subject = Subject::new(request, &path);
        let found = self.hosts(request.port).and_then(|hosts| Some((hosts, hosts.find(request.authority)?)));
        let winner: Option<&Arc<Route>> = match &decision.verdict {
            Verdict::Forward { route, .. } | Verdict::Redirect { route, .. } | Verdict::Respond { route, .. } => {
                Some(route)
            }
            _ => None,
        };
        let mut rules = Vec::new();
        let tried = !matches!(decision.verdict, Verdict::NoRoute(NoRoute::HttpsRedirect | NoRoute::BadPath));
        if let Some((_, found)) = found.as_ref().filter(|_| tried) {
            for route in found.host.routes() {
                let won = winner.is_some_and(|winner| Arc::ptr_eq(winner, route));
                let failed =
                    if won { None } else { route.matcher.test(&subject).err().map(|failed| failed.show(&subject)) };
                rules.push(RuleStep { name: Arc::clone(&route.name), origin: route.origin.clone(), failed });
                if won {
                    break;
                }
            }
        }
        let outcome = match decision.verdict {
            Verdict::Forward { forward, destination, .. } => {
                let before = forward.destinations.iter().take_while(|one| !std::ptr::eq(*one, destination));
                let from: u64 = before.map(|one| one.weight).sum();
                let single = forward.destinations.len() == 1;
                let (bucket, total) =
                    if single { ((0, 1), 1) } else { ((from, from + destination.weight), forward.total_weight) };
                let (cluster, defined) = match &destination.target {
                    Target::Destination(_) => (self.cluster(&decision), true),
                    Target::Missing(name) => (Arc::clone(name), false),
                };
                Outcome::Forward { cluster, defined, bucket, total, draw: decision.draw }
            }
            Verdict::Redirect { redirect, .. } => Outcome::Redirect { status: redirect.status.as_u16() },
            Verdict::Respond { response, .. } => Outcome::Respond { status: response.status.as_u16() },
            Verdict::PassThrough => Outcome::PassThrough,
            Verdict::NoRoute(reason) => Outcome::NoRoute { reason },
        };
        let name = without_port(request.authority).to_ascii_lowercase();
        let host = HostStep {
            passed_over: found
                .as_ref()
                .map(|(hosts, found)| passed_over(hosts, &name, found.domain))
                .unwrap_or_default(),
            domain: found.as_ref().map(|(_, found)| found.domain.to_owned()),
            virtual_host: found.as_ref().map(|(_, found)| found.host.name().to_owned()),
            name,
        };
        let request = Asked {
            method: request.method.to_owned(),
            authority: request.authority.to_owned(),
            path: path.into_owned(),
            port: request.port,
        };
        Explanation { request, host, rules, outcome }
    }
}

fn passed_over(hosts: &Hosts, name: &str, taken: &str) -> Vec<String> {
    hosts.domains_of(name).filter(|domain| *domain != taken).map(str::to_owned).collect()
}

impl Failed<'_> {
    fn show(&self, subject: &Subject<'_>) -> FailedCondition {
        let text = |value: &[u8]| String::from_utf8_lossy(value).into_owned();
        match self {
            Failed::Path(condition) => {
                let case = |ignore: bool| if ignore { " (any case)" } else { "" };
                let wanted = match condition {
                    PathMatch::Any => "anything".to_owned(),
                    PathMatch::Exact { value, ignore_case } => format!("exact `{value}`{}", case(*ignore_case)),
                    PathMatch::Prefix { value, ignore_case } => format!("prefix `{value}`{}", case(*ignore_case)),
                    PathMatch::Regex(pattern) => format!("regex `{}`", pattern.as_str()),
                };
                FailedCondition { field: "uri".into(), wanted, seen: Some(subject.path().to_owned()) }
            }
            Failed::Header(condition) => {
                let field = match &condition.field {
                    HeaderField::Method => "method".into(),
                    HeaderField::Scheme => "scheme".into(),
                    HeaderField::Authority => "authority".into(),
                    HeaderField::Path => "headers[:path]".into(),
                    HeaderField::Name(name) if condition.without => format!("withoutHeaders[{name}]"),
                    HeaderField::Name(name) => format!("headers[{name}]"),
                    HeaderField::Never(name) => format!("headers[{name}]"),
                };
                let not = if condition.without { "not " } else { "" };
                let mut values = Vec::new();
                subject.each_value(&condition.field, |value| values.push(text(value)));
                let seen = (!values.is_empty()).then(|| values.join(", "));
                FailedCondition { field, wanted: format!("{not}{}", show(&condition.value)), seen }
            }
            Failed::Query(condition) => FailedCondition {
                field: format!("queryParams[{}]", condition.name),
                wanted: show(&condition.value),
                seen: subject.parameter(&condition.name).map(str::to_owned),
            },
        }
    }
}

fn show(condition: &ValueMatch) -> String {
    match condition {
        ValueMatch::Present => "present".to_owned(),
        ValueMatch::Exact(value) => format!("exact `{}`", String::from_utf8_lossy(value)),
        ValueMatch::Prefix(value) => format!("prefix `{}`", String::from_utf8_lossy(value)),
        ValueMatch::Regex(pattern) => format!("regex `{}`", pattern.as_str()),
    }
}

impl fmt::Display for FailedCondition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} wanted {}, ", self.field, self.wanted)?;
        match &self.seen {
            Some(seen) => write!(f, "saw `{seen}`"),
            None => f.write_str("there was none"),
        }
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Origin::Rule { resource, section, rule, block, delegate } => {
                write!(f, "{resource} {}[{rule}]", section.as_str())?;
                if let Some((delegate, inner)) = delegate {
                    write!(f, " → {delegate} http[{inner}]")?;
                }
                match block {
                    Some(block) => write!(f, " match[{block}]"),
                    None => Ok(()),
                }
            }
            Origin::Service { host } => write!(f, "the service {host} itself"),
        }
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Outcome::Forward { cluster, defined, bucket: (from, to), total, draw } => {
                write!(f, "{cluster}")?;
                if *total > 1 {
                    write!(f, " (weights {from}..{to} of {total}, draw {})", draw % total)?;
                }
                if !*defined {
                    f.write_str(", which nobody defines: 503")?;
                }
                Ok(())
            }
            Outcome::Redirect { status } => write!(f, "redirect {status}"),
            Outcome::Respond { status } => write!(f, "direct response {status}"),
            Outcome::PassThrough => f.write_str("passed through: nobody knows the host"),
            Outcome::NoRoute { reason } => f.write_str(match reason {
                NoRoute::NoListener => "nothing listens on the port",
                NoRoute::UnknownHost => "404: no virtual host has the authority",
                NoRoute::Refused => "502: nobody knows the host, and none is let through",
                NoRoute::NoMatch => "404: no rule of the virtual host matches",
                NoRoute::BadPath => "400: the path cannot be normalised",
                NoRoute::HttpsRedirect => "301: to https",
            }),
        }
    }
}

impl fmt::Display for Explanation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if f.alternate() {
            return f.write_str(&folded(&self.story()));
        }
        let Asked { method, authority, path, port } = &self.request;
        write!(f, "{method} {authority}{path} on {port}: {}", self.outcome)?;
        match self.rules.last() {
            Some(RuleStep { origin, failed: None, .. }) => write!(f, " by {origin}"),
            _ => Ok(()),
        }
    }
}

impl Explanation {
    fn story(&self) -> String {
        let Asked { method, authority, path, port } = &self.request;
        let mut lines = vec![format!("{method} {authority}{path} on port {port}")];
        match (&self.host.domain, &self.host.virtual_host) {
            (Some(domain), Some(virtual_host)) => {
                lines.push(format!("  host `{}` is `{domain}` of {virtual_host}", self.host.name));
                let passed_over = self.host.passed_over.iter();
                lines.extend(passed_over.map(|domain| format!("    not `{domain}`, which is less specific")));
            }
            _ => lines.push(format!("  host `{}` is nobody's", self.host.name)),
        }
        for rule in &self.rules {
            let name = if rule.name.is_empty() { String::new() } else { format!(" “{}”", rule.name) };
            let mark = if rule.failed.is_some() { '✗' } else { '✓' };
            lines.push(format!("  {mark} {}{name}", rule.origin));
            lines.extend(rule.failed.iter().map(|failed| format!("      {failed}")));
        }
        lines.push(format!("  → {}", self.outcome));
        lines.join("\n")
    }
}

/// Breaks lines that are longer than 80 columns at a space, where there is one; what follows stands four deeper.
pub(super) fn folded(text: &str) -> String {
    const COLUMNS: usize = 80;
    let mut out = String::with_capacity(text.len());
    for (number, line) in text.lines().enumerate() {
        if number > 0 {
            out.push('\n');
        }
        let indent = line.len() - line.trim_start().len();
        let mut column = indent;
        out.push_str(&line[..indent]);
        for (number, word) in line[indent..].split(' ').enumerate() {
            let width = word.chars().count();
            if number > 0 && column + 1 + width > COLUMNS {
                column = indent + 4;
                out.push('\n');
                out.extend(std::iter::repeat_n(' ', column));
            } else if number > 0 {
                column += 1;
                out.push(' ');
            }
            column += width;
            out.push_str(word);
        }
    }
    out
}

/// A rule's action in a word, for tables.
impl Action {
    /// `forward`, `redirect` or `respond`.
    pub fn kind(&self) -> &'static str {
        match self {
            Action::Forward(_) => "forward",
            Action::Redirect(_) => "redirect",
            Action::Respond(_) => "respond",
        }
    }
}
