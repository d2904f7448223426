//! Rules that no request reaches, each with its witness: the rule that takes its requests, or the rules that do so together.
//!
//! Istio's webhook warns of the same (VS-WARN-001 to 007), but overlooks most conditions in both directions. Here nothing is
//! said that is not certain: a rule that is called unreachable is never chosen by [`Policy::decide`](crate::policy::Policy),
//! whatever mesh and client the policy is compiled for (a property that is tested). In return some are overlooked: see
//! [`space`] and [`language`] for what is too hard.
//!
//! - A rule that is not carried out (a bad redirect code, a pattern that Envoy does not take) hides nothing.
//! - A rule that delegates can be hidden, but hides nothing: what its delegate leaves is another resource's matter. A
//!   delegate is not looked at, because its root decides which of its rules come into being.
//! - A block that Istio calls a catch-all (`prefix: /` alone, say) ends the list for those whom it holds for.
//!
//! Cost: for each block, a look at those earlier ones that can have its path: found by the path's beginnings where it is a
//! text, at most [`MOST_OTHERS`] of the rest.

mod language;
mod space;

pub(super) use language::{Search, build, walk};

use super::Context;
use crate::compile::{carry_out, gateway_name, is_catch_all};
use crate::resource::{HttpMatchRequest, StringMatch, VirtualService};
use crate::validate::Report;
use crate::validate::report::Severity;
use language::{Automata, Language};
use space::{Condition, Conditions, Side, Space};
use std::collections::{BTreeMap, BTreeSet, HashMap};

/// How many earlier blocks with paths of other kinds a block is compared to.
const MOST_OTHERS: usize = 128;

/// PM-020, PM-021 and PM-023 for HTTP; PM-020 for TLS and TCP.
pub(super) fn check(service: &VirtualService, context: &Context<'_>, report: &mut Report) {
    if service.spec.hosts.is_empty() {
        return;
    }
    let mut list = List { namespace: context.namespace(&service.metadata), service, automata: Automata::default() };
    list.http(report);
    connections(service, list.namespace, report);
}

struct List<'a> {
    service: &'a VirtualService,
    namespace: &'a str,
    automata: Automata,
}

/// A block that takes requests.
struct Block {
    rule: usize,
    path: String,
    /// What it takes, where a catch-all takes everything.
    takes: Conditions,
}

/// What is known of one block.
enum Verdict {
    /// It is reached, or that is not known.
    Fine,
    /// Nothing can meet its conditions.
    Impossible,
    /// These earlier blocks take all of its requests.
    Hidden { by: Vec<usize>, example: Option<String> },
}

impl List<'_> {
    fn http(&mut self, report: &mut Report) {
        let mut earlier = Earlier::default();
        for (rule, route) in self.service.spec.http.iter().enumerate() {
            let blocks: Vec<(String, Option<&HttpMatchRequest>)> = match route.r#match.as_slice() {
                [] => vec![(format!("spec.http[{rule}]"), None)],
                blocks => {
                    (0..).zip(blocks).map(|(at, one)| (format!("spec.http[{rule}].match[{at}]"), Some(one))).collect()
                }
            };
            let mut verdicts = Vec::new();
            let takes_part = route.delegate.is_none() && carry_out(route).is_ok();
            for (path, block) in &blocks {
                let Some(asks) = block.map_or_else(|| Some(Vec::new()), |block| self.conditions(block)) else {
                    verdicts.push(Verdict::Fine);
                    continue;
                };
                let mut asks = asks;
                asks.extend(self.bound());
                verdicts.push(self.judge(&asks, &earlier));
                if takes_part {
                    let takes_all = block.is_none_or(is_catch_all);
                    let takes =
                        if takes_all { asks.into_iter().filter(|(side, _)| is_static(side)).collect() } else { asks };
                    earlier.add(Block { rule, path: path.clone(), takes });
                }
            }
            self.tell(rule, &blocks, verdicts, &earlier, report);
        }
    }

    /// The roles that the resource is bound to.
    fn bound(&self) -> Conditions {
        let names: Vec<Vec<u8>> = match self.service.spec.gateways.as_slice() {
            [] => vec![b"mesh".to_vec()],
            names => names.iter().map(|name| gateway_name(name, self.namespace).into_bytes()).collect(),
        };
        vec![(Side::Gateway, Condition::Has(Language::OneOf(names)))]
    }

    /// What a block asks. None if it cannot be carried out.
    fn conditions(&self, block: &HttpMatchRequest) -> Option<Conditions> {
        let mut asks = Conditions::new();
        let fold = block.ignore_uri_case;
        match &block.uri {
            Some(StringMatch::Exact(text)) if fold => {
                asks.push((Side::Path, Condition::Has(Language::Folded(text.as_bytes().into()))));
            }
            Some(StringMatch::Prefix(text)) => {
                asks.push((Side::Path, Condition::Has(Language::prefix(text, fold))));
            }
            Some(condition) if condition.pattern().is_some() => {
                asks.push((Side::Path, Condition::Has(language(condition)?)));
            }
            _ => {}
        }
        for (side, condition) in
            [(Side::Method, &block.method), (Side::Authority, &block.authority), (Side::Scheme, &block.scheme)]
        {
            if let Some(condition) = condition {
                asks.push((side, Condition::Has(language(condition)?)));
            }
        }
        for (name, condition) in &block.headers {
            asks.push((header(name)?, Condition::Has(language(condition)?)));
        }
        for (name, condition) in &block.without_headers {
            let asked = match language(condition)? {
                // Presence, and nothing else: an empty prefix is a condition on a value.
                Language::All if !matches!(condition, StringMatch::Prefix(_)) => Condition::IsAbsent,
                language => Condition::Lacks(language),
            };
            asks.push((header(name)?, asked));
        }
        for (name, condition) in &block.query_params {
            asks.push((Side::Query(name.clone()), Condition::Has(language(condition)?)));
        }
        let is = |text: &str| Condition::Has(Language::exact(text));
        if block.port != 0 {
            asks.push((Side::Port, is(&block.port.to_string())));
        }
        if !block.gateways.is_empty() {
            let names = block.gateways.iter().map(|name| gateway_name(name, self.namespace).into_bytes()).collect();
            asks.push((Side::Gateway, Condition::Has(Language::OneOf(names))));
            return Some(asks);
        }
        // Who asks counts only where no gateways are named.
        asks.extend(block.source_labels.iter().map(|(key, value)| (Side::Label(key.clone()), is(value))));
        if !block.source_namespace.is_empty() {
            asks.push((Side::Namespace, is(&block.source_namespace)));
        }
        Some(asks)
    }

    fn judge(&self, asks: &Conditions, earlier: &Earlier) -> Verdict {
        let space = Space::of(asks);
        if space.is_empty(&self.automata) {
            return Verdict::Impossible;
        }
        let candidates = earlier.candidates(asks);
        let alone = candidates.iter().find(|at| space.is_within(&earlier.blocks[**at].takes, &self.automata));
        if let Some(at) = alone {
            return Verdict::Hidden { by: vec![*at], example: space.example(&self.automata) };
        }
        let near: Vec<usize> =
            candidates.into_iter().filter(|at| space.overlaps(&earlier.blocks[*at].takes, &self.automata)).collect();
        let is_taken = |by: &[usize]| {
            let others: Vec<&Conditions> = by.iter().map(|at| &earlier.blocks[*at].takes).collect();
            space.is_taken(&others, &self.automata)
        };
        if near.len() < 2 || !is_taken(&near) {
            return Verdict::Fine;
        }
        // Leaves out what is not needed, the last first: what is left is a smallest such set.
        let mut by = near;
        for at in (0..by.len()).rev() {
            let rest: Vec<usize> = by[..at].iter().chain(&by[at + 1..]).copied().collect();
            if is_taken(&rest) {
                by = rest;
            }
        }
        Verdict::Hidden { by, example: space.example(&self.automata) }
    }

    /// Says what was found about a rule: once, if it holds for all of its blocks.
    fn tell(
        &self,
        rule: usize,
        blocks: &[(String, Option<&HttpMatchRequest>)],
        verdicts: Vec<Verdict>,
        earlier: &Earlier,
        report: &mut Report,
    ) {
        let route = &self.service.spec.http[rule];
        let all_hidden = verdicts.iter().all(|verdict| matches!(verdict, Verdict::Hidden { .. }));
        if all_hidden {
            let mut by: BTreeSet<usize> = BTreeSet::new();
            let mut first = None;
            for verdict in verdicts {
                if let Verdict::Hidden { by: some, example } = verdict {
                    by.extend(some);
                    first = first.or(example);
                }
            }
            // Blocks of the rule itself take nothing away from it.
            let others: BTreeSet<usize> = by.iter().copied().filter(|at| earlier.blocks[*at].rule != rule).collect();
            if !others.is_empty() {
                let subject = format!("the rule {}", label(&route.name, rule));
                self.hidden(&format!("spec.http[{rule}]"), &subject, &others, first, earlier, report);
            }
            return;
        }
        // A delegate's blocks are put together with its root's: only a root's rule as a whole is spoken of.
        if route.delegate.is_some() {
            return;
        }
        for ((path, _), verdict) in blocks.iter().zip(verdicts) {
            match verdict {
                Verdict::Fine => {}
                Verdict::Impossible => {
                    let message =
                        "no request can meet these conditions: they contradict each other, or no value is like that";
                    report.warn("PM-023", path.as_str(), message);
                }
                Verdict::Hidden { by, example } => {
                    self.hidden(path, "this match", &by.into_iter().collect(), example, earlier, report);
                }
            }
        }
    }

    fn hidden(
        &self,
        path: &str,
        subject: &str,
        by: &BTreeSet<usize>,
        example: Option<String>,
        earlier: &Earlier,
        report: &mut Report,
    ) {
        let rules: BTreeSet<usize> = by.iter().map(|at| earlier.blocks[*at].rule).collect();
        let names: Vec<String> =
            rules.iter().map(|rule| format!("rule {}", label(&self.service.spec.http[*rule].name, *rule))).collect();
        let example = example.map(|example| format!(", {example} for one")).unwrap_or_default();
        let (code, message) = match names.as_slice() {
            [one] => ("PM-020", format!("no request reaches {subject}: {one} takes them all{example}")),
            several => {
                let several = several.join(" and ");
                ("PM-021", format!("no request reaches {subject}: {several} together take them all{example}"))
            }
        };
        let finding = report.add(Severity::Warning, code, path, message);
        for at in by {
            finding.relate(earlier.blocks[*at].path.as_str(), "this comes first");
        }
    }
}

/// `"name"`, or `#index`.
fn label(name: &str, index: usize) -> String {
    if name.is_empty() { format!("#{index}") } else { format!("\"{name}\"") }
}

fn is_static(side: &Side) -> bool {
    matches!(side, Side::Port | Side::Gateway | Side::Namespace | Side::Label(_))
}

/// A condition on a value. None if it cannot be carried out.
fn language(condition: &StringMatch) -> Option<Language> {
    Some(match condition {
        StringMatch::Exact(text) => Language::exact(text),
        StringMatch::Prefix(text) => Language::prefix(text, false),
        StringMatch::Regex(text) if text == "*" => Language::All,
        StringMatch::Regex(text) => Language::pattern(text)?,
        StringMatch::Unset => Language::All,
    })
}

/// What a header's name looks at. None for a name that no header can have.
fn header(name: &str) -> Option<Side> {
    let name = name.to_ascii_lowercase();
    Some(match name.as_str() {
        ":authority" | "host" => Side::Authority,
        ":method" => Side::Method,
        ":path" => Side::FullPath,
        ":scheme" => Side::Scheme,
        _ if http::HeaderName::from_bytes(name.as_bytes()).is_ok() => Side::Header(name),
        _ => return None,
    })
}

/// The blocks so far, where those that may have a path are found.
#[derive(Default)]
struct Earlier {
    blocks: Vec<Block>,
    exact: HashMap<Vec<u8>, Vec<usize>>,
    prefix: HashMap<Vec<u8>, Vec<usize>>,
    others: Vec<usize>,
}

impl Earlier {
    fn add(&mut self, block: Block) {
        let at = self.blocks.len();
        match path_of(&block.takes) {
            Some(Language::OneOf(texts)) if texts.len() == 1 => {
                self.exact.entry(texts[0].clone()).or_default().push(at)
            }
            Some(Language::Prefix(text)) => self.prefix.entry(text.clone()).or_default().push(at),
            _ => self.others.push(at),
        }
        self.blocks.push(block);
    }

    /// Blocks that may have a part in taking what meets these conditions, in order.
    fn candidates(&self, asks: &Conditions) -> Vec<usize> {
        let mut found: Vec<usize> = self.others.iter().copied().take(MOST_OTHERS).collect();
        match path_of(asks) {
            Some(Language::OneOf(texts)) => {
                for text in texts {
                    found.extend(self.exact.get(text).into_iter().flatten());
                    found.extend(self.beginning(text));
                }
            }
            Some(Language::Prefix(text)) => found.extend(self.beginning(text)),
            Some(_) => found.extend((0..self.blocks.len()).take(MOST_OTHERS)),
            None => {}
        }
        found.sort_unstable();
        found.dedup();
        found
    }

    fn beginning(&self, text: &[u8]) -> impl Iterator<Item = usize> {
        (1..=text.len()).filter_map(|end| self.prefix.get(&text[..end])).flatten().copied()
    }
}

fn path_of(conditions: &Conditions) -> Option<&Language> {
    conditions.iter().find_map(|(side, condition)| match (side, condition) {
        (Side::Path, Condition::Has(language)) if *language != Language::All => Some(language),
        _ => None,
    })
}

/// PM-020 for connections. Chains are chosen by what is most specific and not by order, so only two things hide a block: the
/// same names and subnets before it, and (for TCP) a block before it that asks about nothing but the client.
fn connections(service: &VirtualService, namespace: &str, report: &mut Report) {
    let narrower = |own: &Guard<'_>, other: &Guard<'_>| {
        (other.port == 0 || other.port == own.port)
            && (other.gateways.is_empty()
                || (!own.gateways.is_empty() && own.gateways.iter().all(|name| other.gateways.contains(name))))
            && other.labels.iter().all(|(key, value)| own.labels.get(key) == Some(value))
            && (other.namespace.is_empty() || other.namespace == own.namespace)
    };
    let mut tell = |path: String, first: &str| {
        let message = format!("no connection reaches this match: `{first}` takes them all");
        report.add(Severity::Warning, "PM-020", path, message).relate(format!("spec.{first}"), "this comes first");
    };
    let mut known: Vec<(Guard<'_>, Vec<String>, &[String], String)> = Vec::new();
    for (rule, route) in service.spec.tls.iter().enumerate() {
        for (at, block) in route.r#match.iter().enumerate() {
            let own = Guard::new(block.port, &block.gateways, &block.source_labels, &block.source_namespace, namespace);
            let names: Vec<String> = block.sni_hosts.iter().map(|name| name.to_ascii_lowercase()).collect();
            let place = format!("tls[{rule}].match[{at}]");
            if !block.destination_subnets.is_empty() {
                // What a block says of addresses holds on for those after it that say nothing.
                known.retain(|(_, _, subnets, _)| !subnets.is_empty());
            }
            let first = known.iter().find(|(guard, other, subnets, _)| {
                *other == names && *subnets == block.destination_subnets && narrower(&own, guard)
            });
            match first {
                Some((_, _, _, first)) => tell(format!("spec.{place}"), first),
                None => known.push((own, names, &block.destination_subnets, place)),
            }
        }
    }
    let mut open: Vec<(Guard<'_>, String)> = Vec::new();
    for (rule, route) in service.spec.tcp.iter().enumerate() {
        for (at, block) in route.r#match.iter().enumerate() {
            let own = Guard::new(block.port, &block.gateways, &block.source_labels, &block.source_namespace, namespace);
            let place = format!("tcp[{rule}].match[{at}]");
            match open.iter().find(|(guard, _)| narrower(&own, guard)) {
                Some((_, first)) => tell(format!("spec.{place}"), first),
                None if block.destination_subnets.is_empty() => open.push((own, place)),
                None => {}
            }
        }
    }
}

/// What is known of a connection without looking at it.
struct Guard<'a> {
    port: u32,
    gateways: Vec<String>,
    labels: &'a BTreeMap<String, String>,
    namespace: &'a str,
}

impl<'a> Guard<'a> {
    fn new(
        port: u32,
        gateways: &[String],
        labels: &'a BTreeMap<String, String>,
        source: &'a str,
        own: &str,
    ) -> Guard<'a> {
        let gateways = gateways.iter().map(|name| gateway_name(name, own)).collect();
        Guard { port, gateways, labels, namespace: source }
    }
}
