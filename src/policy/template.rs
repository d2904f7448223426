//! Header values with Envoy's `%COMMAND%`s.
//!
//! A value is cut into parts when the policy is compiled. `%%` is a percent sign; `%NAME(ARGUMENT):LENGTH%` is what the
//! context has for it, cut to so many bytes. What is not known is empty; a value that comes out empty is not set at all
//! (the caller sees to that).

use super::context::Context;
use std::fmt;

/// A header value as written, cut into parts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ValueTemplate {
    parts: Vec<Part>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    Text(Box<str>),
    Command { command: Command, length: Option<usize> },
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Command {
    /// A request header, or another one where it is missing.
    Request(Box<str>, Option<Box<str>>),
    /// A response header, or another one where it is missing.
    Response(Box<str>, Option<Box<str>>),
    StartTime(Box<str>),
    Known(Known),
    /// A command that Envoy has and an engine without sockets knows nothing for.
    Nothing,
}

/// Commands without an argument.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Known {
    Protocol,
    ResponseCode,
    ResponseCodeDetails,
    ResponseFlags,
    RouteName,
    UpstreamCluster,
    UpstreamClusterRaw,
    UpstreamHost,
    DownstreamRemote,
    DownstreamRemoteWithoutPort,
    DownstreamRemotePort,
    DownstreamLocal,
    DownstreamLocalWithoutPort,
    DownstreamLocalPort,
}

const KNOWN: &[(&str, Known)] = &[
    ("PROTOCOL", Known::Protocol),
    ("RESPONSE_CODE", Known::ResponseCode),
    ("RESPONSE_CODE_DETAILS", Known::ResponseCodeDetails),
    ("RESPONSE_FLAGS", Known::ResponseFlags),
    ("ROUTE_NAME", Known::RouteName),
    ("UPSTREAM_CLUSTER", Known::UpstreamCluster),
    ("UPSTREAM_CLUSTER_RAW", Known::UpstreamClusterRaw),
    ("UPSTREAM_HOST", Known::UpstreamHost),
    ("UPSTREAM_REMOTE_ADDRESS", Known::UpstreamHost),
    ("DOWNSTREAM_REMOTE_ADDRESS", Known::DownstreamRemote),
    ("DOWNSTREAM_DIRECT_REMOTE_ADDRESS", Known::DownstreamRemote),
    ("DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT", Known::DownstreamRemoteWithoutPort),
    ("DOWNSTREAM_DIRECT_REMOTE_ADDRESS_WITHOUT_PORT", Known::DownstreamRemoteWithoutPort),
    ("DOWNSTREAM_REMOTE_PORT", Known::DownstreamRemotePort),
    ("DOWNSTREAM_LOCAL_ADDRESS", Known::DownstreamLocal),
    ("DOWNSTREAM_LOCAL_ADDRESS_WITHOUT_PORT", Known::DownstreamLocalWithoutPort),
    ("DOWNSTREAM_LOCAL_PORT", Known::DownstreamLocalPort),
];

/// Why a header value is none.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TemplateError {
    /// A `%` without its second one.
    #[error("a `%` has no second one; write `%%` for a percent sign")]
    Lone,
    /// Something other than a command's name stands between two `%`.
    #[error("`%{name}%` is not a command")]
    NotACommand {
        /// What stands there.
        name: String,
    },
}

impl ValueTemplate {
    /// Cuts a value into its parts.
    pub fn parse(text: &str) -> Result<ValueTemplate, TemplateError> {
        let mut parts = Vec::new();
        let mut literal = String::new();
        let mut rest = text;
        while let Some(at) = rest.find('%') {
            literal.push_str(&rest[..at]);
            rest = &rest[at + 1..];
            if let Some(after) = rest.strip_prefix('%') {
                literal.push('%');
                rest = after;
                continue;
            }
            let (command, length, after) = command(rest)?;
            if !literal.is_empty() {
                parts.push(Part::Text(std::mem::take(&mut literal).into()));
            }
            parts.push(Part::Command { command, length });
            rest = after;
        }
        literal.push_str(rest);
        if !literal.is_empty() {
            parts.push(Part::Text(literal.into()));
        }
        Ok(ValueTemplate { parts })
    }

    /// The value in a context.
    pub fn evaluate(&self, context: &Context<'_>) -> Vec<u8> {
        let mut out = Vec::new();
        for part in &self.parts {
            match part {
                Part::Text(text) => out.extend_from_slice(text.as_bytes()),
                Part::Command { command, length } => {
                    let start = out.len();
                    command.write(context, &mut out);
                    if let Some(length) = length {
                        out.truncate(start.saturating_add(*length));
                    }
                }
            }
        }
        out
    }
}

/// The command at the beginning of `text` (its `%` is gone), and what follows its second `%`.
fn command(text: &str) -> Result<(Command, Option<usize>, &str), TemplateError> {
    let end =
        text.find(|c: char| !(c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_')).ok_or(TemplateError::Lone)?;
    let (name, mut rest) = text.split_at(end);
    let mut argument = "";
    if let Some(open) = rest.strip_prefix('(') {
        let close = open.find(')').ok_or(TemplateError::Lone)?;
        argument = &open[..close];
        rest = &open[close + 1..];
    }
    let mut length = None;
    if let Some(colon) = rest.strip_prefix(':') {
        let digits = colon.find(|c: char| !c.is_ascii_digit()).ok_or(TemplateError::Lone)?;
        length = colon[..digits].parse().ok();
        rest = &colon[digits..];
    }
    let Some(after) = rest.strip_prefix('%') else {
        return Err(if rest.contains('%') {
            TemplateError::NotACommand { name: text.split('%').next().unwrap_or_default().to_owned() }
        } else {
            TemplateError::Lone
        });
    };
    if name.is_empty() {
        return Err(TemplateError::NotACommand { name: String::new() });
    }
    let header = || {
        let (first, second) = argument.split_once('?').map_or((argument, None), |(a, b)| (a, Some(b)));
        (first.to_ascii_lowercase().into(), second.map(|name| name.to_ascii_lowercase().into()))
    };
    let command = match name {
        "REQ" => {
            let (first, second) = header();
            Command::Request(first, second)
        }
        "RESP" => {
            let (first, second) = header();
            Command::Response(first, second)
        }
        "START_TIME" => Command::StartTime(argument.into()),
        name => KNOWN
            .iter()
            .find(|(known, _)| *known == name)
            .map_or(Command::Nothing, |(_, command)| Command::Known(*command)),
    };
    Ok((command, length, after))
}

impl Command {
    fn write(&self, context: &Context<'_>, out: &mut Vec<u8>) {
        match self {
            Command::Request(first, second) => {
                let value = context.request_header(first).or_else(|| context.request_header(second.as_deref()?));
                out.extend_from_slice(value.unwrap_or_default());
            }
            Command::Response(first, second) => {
                let value = context.response_header(first).or_else(|| context.response_header(second.as_deref()?));
                out.extend_from_slice(value.unwrap_or_default());
            }
            Command::StartTime(format) => {
                if let Some(seconds) = context.start_time {
                    if &**format == "%s" {
                        out.extend_from_slice(seconds.as_secs().to_string().as_bytes());
                    } else {
                        out.extend_from_slice(super::date::rfc3339_millis(seconds).as_bytes());
                    }
                }
            }
            Command::Known(known) => known.write(context, out),
            Command::Nothing => {}
        }
    }
}

impl Known {
    fn write(self, context: &Context<'_>, out: &mut Vec<u8>) {
        let text = |value: Option<&dyn fmt::Display>| value.map(ToString::to_string);
        let remote = context.request.remote;
        let local = context.request.local;
        let value = match self {
            Known::Protocol => Some(match context.request.version {
                http::Version::HTTP_2 => "HTTP/2".to_owned(),
                http::Version::HTTP_3 => "HTTP/3".to_owned(),
                http::Version::HTTP_10 => "HTTP/1.0".to_owned(),
                _ => "HTTP/1.1".to_owned(),
            }),
            Known::ResponseCode => Some(context.response.map_or(0, |response| response.status.as_u16()).to_string()),
            Known::ResponseCodeDetails => context.details.map(str::to_owned),
            Known::ResponseFlags => text(Some(&context.flags)),
            Known::RouteName => context.route_name.map(str::to_owned),
            // The name that a cluster goes by in statistics: Istio ends it with a semicolon.
            Known::UpstreamCluster => context.cluster.map(|cluster| format!("{cluster};")),
            Known::UpstreamClusterRaw => context.cluster.map(str::to_owned),
            Known::UpstreamHost => context.upstream_host.map(str::to_owned),
            Known::DownstreamRemote => remote.map(|address| address.to_string()),
            Known::DownstreamRemoteWithoutPort => remote.map(|address| address.ip().to_string()),
            Known::DownstreamRemotePort => remote.map(|address| address.port().to_string()),
            Known::DownstreamLocal => local.map(|address| address.to_string()),
            Known::DownstreamLocalWithoutPort => local.map(|address| address.ip().to_string()),
            Known::DownstreamLocalPort => local.map(|address| address.port().to_string()),
        };
        out.extend_from_slice(value.unwrap_or_default().as_bytes());
    }
}
