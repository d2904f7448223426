//! The table of codes: what each means, an example that has it, how it is repaired, and the example repaired.
//!
//! Codes are stable; texts are not. A code of a rule of Istio's is that rule's (`VS-…` and `DR-…`: the webhook's rules for a
//! kind; `META-…`: its rules for metadata; `DEC-…`: its decoder; `CRD-…`: the API server's schema; `AN-…`: the analyzers of
//! `istioctl analyze`); `PM-…` are this crate's own, and from `PM-101` on they are what the compile's report says for one
//! client. The examples are run: each has its code, and its repaired form has it no more.
//!
//! Examples are short: [`CodeInfo::at`] says what stands around them, and [`CodeInfo::example`] writes it out. Those that
//! need a mesh are meant for [`EXAMPLE_MESH`]. `TEXT×N` stands for so many repetitions.

mod analysis;
mod destination_rule;
mod schema;
mod virtual_service;

use super::report::Severity;

/// What a code means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct CodeInfo {
    /// The code.
    pub code: &'static str,
    /// How bad it is.
    pub severity: Severity,
    /// What it means.
    pub meaning: &'static str,
    /// How it is repaired.
    pub repair: &'static str,
    /// Where the examples belong.
    pub at: At,
    /// An example that has it.
    pub wrong: &'static str,
    /// The example repaired.
    pub right: &'static str,
}

/// What stands around an example.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum At {
    /// Nothing: it is a whole text.
    Text,
    /// It is the spec of a VirtualService.
    VirtualService,
    /// It is an HTTP rule of a VirtualService for `reviews`.
    Rule,
    /// It is beside `route` in such a rule, whose destination is `reviews`.
    BesideRoute,
    /// It is a match of such a rule.
    Match,
    /// They are the destinations of such a rule.
    Destinations,
    /// It is a TLS rule of a VirtualService for `reviews`.
    Tls,
    /// It is a match of such a rule.
    TlsMatch,
    /// It is a TCP rule of a VirtualService for `reviews`.
    Tcp,
    /// It is the spec of a DestinationRule.
    DestinationRule,
    /// It is the `trafficPolicy` of a DestinationRule for `reviews`.
    Policy,
    /// They are the annotations of a VirtualService for `reviews`.
    Annotations,
}

/// The mesh that examples are meant for: for a workload of `default`, and for the gateway `default/web`.
pub const EXAMPLE_MESH: &str = "\
client: {namespace: default}
services:
- host: reviews.default.svc.cluster.local
  namespace: default
  ports: [{number: 9080, name: http, protocol: HTTP}]
  endpoints:
  - {address: 10.0.0.1, port: 9080, labels: {version: v1}}
  - {address: 10.0.0.2, port: 9080, labels: {version: v2}}
- host: ratings.default.svc.cluster.local
  namespace: default
  ports: [{number: 9080, name: http, protocol: HTTP}, {number: 9090, name: admin, protocol: HTTP}]
  endpoints: [{address: 10.0.1.1, port: 9080}]
- host: details.shop.svc.cluster.local
  namespace: shop
  ports: [{number: 9080, name: http, protocol: HTTP}]
  endpoints: [{address: 10.0.2.1, port: 9080}]
gatewayServers: [{port: {number: 80, name: http, protocol: HTTP}, hosts: ['*.example.com']}]
gateways: [default/web]
";

/// Every code that this crate gives, family by family: reading, schema and metadata; VirtualService; DestinationRule;
/// analysis.
///
#[doc = include_str!("table.md")]
pub const CODES: &[&[CodeInfo]] = &[schema::CODES, virtual_service::CODES, destination_rule::CODES, analysis::CODES];

impl CodeInfo {
    /// The example as a whole text.
    pub fn example(&self) -> String {
        self.at.around(self.wrong)
    }

    /// The repaired example as a whole text.
    pub fn repaired(&self) -> String {
        self.at.around(self.right)
    }

    /// The code under which `istioctl analyze` tells a finding of this severity, if it does.
    pub fn istio(&self, severity: Severity) -> Option<&'static str> {
        Some(match self.code {
            "AN-005" | "AN-006" | "AN-007" | "AN-009" | "AN-010" => "IST0101",
            "AN-008" => "IST0112",
            "AN-011" => "IST0132",
            "AN-012" => "IST0165",
            "AN-013" => "IST0002",
            "AN-014" => "IST0109",
            "AN-015" => "IST0140",
            "AN-017" => "IST0128",
            "AN-018" => "IST0129",
            "AN-019" => "IST0174",
            "AN-020" => "IST0173",
            "VS-WARN-003" | "VS-WARN-005" | "PM-021" => "IST0131",
            "PM-020" => "IST0130",
            code if code.starts_with("VS-WARN") => "IST0130",
            code if code.starts_with("VS-") || code.starts_with("DR-") => match severity {
                Severity::Error => "IST0106",
                _ => "IST0133",
            },
            _ => return None,
        })
    }
}

impl At {
    fn around(self, example: &str) -> String {
        let example = repeat(example);
        let kind = match self {
            At::Text => return example,
            At::DestinationRule | At::Policy => "DestinationRule",
            _ => "VirtualService",
        };
        let annotations = if self == At::Annotations { format!(", annotations: {{{example}}}") } else { String::new() };
        let to_reviews = "route: [{destination: {host: reviews}}]";
        let spec = match self {
            At::Text | At::VirtualService | At::DestinationRule => example,
            At::Rule => format!("hosts: [reviews], http: [{{{example}}}]"),
            At::BesideRoute => format!("hosts: [reviews], http: [{{{to_reviews}, {example}}}]"),
            At::Match => format!("hosts: [reviews], http: [{{match: [{{{example}}}], {to_reviews}}}]"),
            At::Destinations => format!("hosts: [reviews], http: [{{route: [{example}]}}]"),
            At::Tls => format!("hosts: [reviews], tls: [{{{example}}}]"),
            At::TlsMatch => format!("hosts: [reviews], tls: [{{match: [{{{example}}}], {to_reviews}}}]"),
            At::Tcp => format!("hosts: [reviews], tcp: [{{{example}}}]"),
            At::Policy => format!("host: reviews, trafficPolicy: {{{example}}}"),
            At::Annotations => format!("hosts: [reviews], http: [{{{to_reviews}}}]"),
        };
        format!(
            "apiVersion: networking.istio.io/v1\nkind: {kind}\nmetadata: {{name: reviews, namespace: \
             default{annotations}}}\nspec: {{{spec}}}\n"
        )
    }
}

/// Writes out `TEXT×N`: texts in one, and items with commas.
fn repeat(example: &str) -> String {
    let Some((before, after)) = example.split_once('×') else { return example.to_owned() };
    let (head, text) = before.split_at(before.rfind([' ', '[']).map_or(0, |at| at + 1));
    let digits = after.len() - after.trim_start_matches(|letter: char| letter.is_ascii_digit()).len();
    let count: usize = after[..digits].parse().unwrap_or(0);
    let separator = if text.ends_with('}') { ", " } else { "" };
    let repeated = std::iter::repeat_n(text, count).collect::<Vec<_>>().join(separator);
    format!("{head}{repeated}{}", &after[digits..])
}

/// What is known of a code.
pub(super) fn find(code: &str) -> Option<&'static CodeInfo> {
    CODES.iter().copied().flatten().find(|one| one.code == code)
}

/// A table of codes, a line for each part: code, severity and place; meaning; repair; wrong; right.
macro_rules! codes {
    ($($code:literal $severity:ident $at:ident $meaning:literal $repair:literal $wrong:literal => $right:literal)*) => {
        pub(super) const CODES: &[super::CodeInfo] = &[$(super::CodeInfo {
            code: $code,
            severity: crate::validate::report::Severity::$severity,
            meaning: $meaning,
            repair: $repair,
            at: super::At::$at,
            wrong: $wrong,
            right: $right,
        }),*];
    };
}

use codes;
