//! Header values with Envoy's `%COMMAND%`s.
//!
//! A value is cut into parts when the policy is compiled. `%%` is a percent sign; `%NAME(ARGUMENT):LENGTH%` is what the
//! context has for it, cut to so many bytes. What is not known is empty; a value that comes out empty is not set at all
//! (the caller sees to that).

use super::context::Context;
use crate::grpc;
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
    Path(PathOf, WithQuery),
    /// The first value of a query parameter, decoded.
    QueryParameter(Box<str>),
    GrpcStatus(GrpcStyle),
    Known(Known),
    /// A command that Envoy has and an engine without sockets knows nothing for.
    Nothing,
}

/// Which path `PATH` means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum PathOf {
    /// As it is now.
    Current,
    /// As it was before a rewrite; nothing where there was none.
    Original,
    /// As it was before a rewrite, if any.
    OriginalOrCurrent,
}

/// Does the query stay?
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum WithQuery {
    Yes,
    No,
}

/// How `GRPC_STATUS` writes a status.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum GrpcStyle {
    Camel,
    Snake,
    Number,
}

/// Commands without an argument.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Known {
    Protocol,
    ResponseCode,
    ResponseCodeDetails,
    ResponseFlags,
    ResponseFlagsLong,
    RouteName,
    UpstreamCluster,
    UpstreamClusterRaw,
    UpstreamHost,
    UpstreamHostWithoutPort,
    UpstreamRemote,
    UpstreamRemoteWithoutPort,
    UpstreamRemotePort,
    Attempts,
    Query,
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
    ("RESPONSE_FLAGS_LONG", Known::ResponseFlagsLong),
    ("ROUTE_NAME", Known::RouteName),
    ("UPSTREAM_CLUSTER", Known::UpstreamCluster),
    ("UPSTREAM_CLUSTER_RAW", Known::UpstreamClusterRaw),
    ("UPSTREAM_HOST", Known::UpstreamHost),
    ("UPSTREAM_HOST_NAME", Known::UpstreamHost),
    ("UPSTREAM_HOST_NAME_WITHOUT_PORT", Known::UpstreamHostWithoutPort),
    ("UPSTREAM_REMOTE_ADDRESS", Known::UpstreamRemote),
    ("UPSTREAM_REMOTE_ADDRESS_WITHOUT_PORT", Known::UpstreamRemoteWithoutPort),
    ("UPSTREAM_REMOTE_PORT", Known::UpstreamRemotePort),
    ("UPSTREAM_REQUEST_ATTEMPT_COUNT", Known::Attempts),
    ("QUERY_PARAMS", Known::Query),
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
        "PATH" => {
            let (query, of) = argument.split_once(':').unwrap_or((argument, ""));
            let of = match of {
                "PATH" => PathOf::Current,
                "ORIG" => PathOf::Original,
                _ => PathOf::OriginalOrCurrent,
            };
            Command::Path(of, if query == "NQ" { WithQuery::No } else { WithQuery::Yes })
        }
        "QUERY_PARAM" => Command::QueryParameter(argument.into()),
        "GRPC_STATUS" => Command::GrpcStatus(match argument {
            "SNAKE_STRING" => GrpcStyle::Snake,
            "NUMBER" => GrpcStyle::Number,
            _ => GrpcStyle::Camel,
        }),
        "GRPC_STATUS_NUMBER" => Command::GrpcStatus(GrpcStyle::Number),
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
            Command::Path(of, query) => {
                let original = context.request_header("x-envoy-original-path");
                let path = match of {
                    PathOf::Current => context.request_header(":path"),
                    PathOf::Original => original,
                    PathOf::OriginalOrCurrent => original.or_else(|| context.request_header(":path")),
                };
                let path = path.unwrap_or_default();
                let end = match query {
                    WithQuery::Yes => path.len(),
                    WithQuery::No => path.iter().position(|byte| *byte == b'?').unwrap_or(path.len()),
                };
                out.extend_from_slice(&path[..end]);
            }
            Command::QueryParameter(name) => {
                let pairs = query(context).split('&').map(|pair| pair.split_once('=').unwrap_or((pair, "")));
                let value = pairs.map(|(key, value)| (decoded(key), value)).find(|(key, _)| key == name.as_bytes());
                out.extend(value.map(|(_, value)| decoded(value)).unwrap_or_default());
            }
            Command::GrpcStatus(style) => {
                if let Some(status) = context.grpc_status() {
                    let name = match style {
                        GrpcStyle::Camel => grpc::status_name(status).map(camel),
                        GrpcStyle::Snake => grpc::status_name(status).map(str::to_owned),
                        GrpcStyle::Number => None,
                    };
                    out.extend_from_slice(name.unwrap_or_else(|| status.to_string()).as_bytes());
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
        let cluster = context.cluster.filter(|cluster| !cluster.is_empty());
        let remote_parts = context.upstream_remote.and_then(|remote| remote.rsplit_once(':'));
        let value = match self {
            Known::Protocol => Some(match context.request.version {
                http::Version::HTTP_2 => "HTTP/2".to_owned(),
                http::Version::HTTP_3 => "HTTP/3".to_owned(),
                http::Version::HTTP_10 => "HTTP/1.0".to_owned(),
                _ => "HTTP/1.1".to_owned(),
            }),
            // In an answer of the proxy's own it is not known yet.
            Known::ResponseCode => Some(context.upstream_status.map_or(0, |status| status.as_u16()).to_string()),
            Known::ResponseCodeDetails => context.details.map(str::to_owned),
            Known::ResponseFlags => text(Some(&context.flags)),
            Known::ResponseFlagsLong if context.flags.is_empty() => Some("-".to_owned()),
            Known::ResponseFlagsLong => Some(context.flags.long_names().collect::<Vec<_>>().join(",")),
            Known::RouteName => context.route_name.map(str::to_owned),
            // The name that a cluster goes by in statistics: Istio ends it with a semicolon.
            Known::UpstreamCluster => cluster.map(|cluster| format!("{cluster};")),
            Known::UpstreamClusterRaw => cluster.map(str::to_owned),
            Known::UpstreamHost => context.upstream_host.map(str::to_owned),
            Known::UpstreamHostWithoutPort => {
                context.upstream_host.and_then(|host| host.rsplit_once(':')).map(|(address, _)| address.to_owned())
            }
            Known::UpstreamRemote => context.upstream_remote.map(str::to_owned),
            Known::UpstreamRemoteWithoutPort => remote_parts.map(|(address, _)| address.to_owned()),
            Known::UpstreamRemotePort => remote_parts.map(|(_, port)| port.to_owned()),
            Known::Attempts => Some(context.attempts.to_string()),
            Known::Query => Some(query(context).to_owned()),
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

/// The query of the request as it is now.
fn query<'a>(context: &Context<'a>) -> &'a str {
    context.request.path.split_once('?').map_or("", |(_, query)| query)
}

/// With `%41` and the like read; a `%` that is not followed by two digits stays.
fn decoded(text: &str) -> Vec<u8> {
    let digit = |byte: Option<&u8>| char::from(*byte?).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while let Some(&byte) = bytes.get(at) {
        match (byte, digit(bytes.get(at + 1)), digit(bytes.get(at + 2))) {
            (b'%', Some(high), Some(low)) => {
                out.push(high << 4 | low);
                at += 3;
            }
            _ => {
                out.push(byte);
                at += 1;
            }
        }
    }
    out
}

/// `NOT_FOUND` as `NotFound`. Of the names one is spelled otherwise, and one is not a word.
fn camel(name: &str) -> String {
    match name {
        "OK" => "OK".to_owned(),
        "CANCELLED" => "Canceled".to_owned(),
        name => {
            let words = name.split('_').map(|word| word.split_at(word.len().min(1)));
            words.map(|(first, rest)| format!("{first}{}", rest.to_ascii_lowercase())).collect()
        }
    }
}
