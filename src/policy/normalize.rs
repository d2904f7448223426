//! Path normalisation, as Istio has Envoy do it before a route is looked for.
//!
//! In this order, on the path alone (the query is never touched):
//! 1. everything from the first `#` is cut, a `?` after it included;
//! 2. `DECODE_AND_MERGE_SLASHES`: `%2F` and `%5C` become `/` and `\`;
//! 3. `BASE` and more: segments `.;x` and `..;x` lose what follows the dots; `\` becomes `/`; escapes of unreserved
//!    characters are decoded, all others are kept as written; characters that need an escape get one; dot segments are
//!    resolved (an escaped dot is a dot);
//! 4. `MERGE_SLASHES` and more: runs of `/` become one.
//!
//! The result is what routes match, and what is forwarded. A path with nothing to do is borrowed, not copied.

use crate::mesh::PathNormalization;
use std::borrow::Cow;

/// The path cannot be normalised (it has an encoded NUL): 400.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BadPath;

/// The normal form of a path with its query.
pub(crate) fn normalize(path: &str, level: PathNormalization) -> Result<Cow<'_, str>, BadPath> {
    let path = path.split_once('#').map_or(path, |(before, _)| before);
    if level == PathNormalization::None || !path.starts_with('/') {
        return Ok(Cow::Borrowed(path));
    }
    let (bare, query) = match path.find('?') {
        Some(at) => path.split_at(at),
        None => (path, ""),
    };
    let merge = matches!(level, PathNormalization::MergeSlashes | PathNormalization::DecodeAndMergeSlashes);
    if is_normal(bare.as_bytes(), merge) {
        return Ok(Cow::Borrowed(path));
    }
    let mut text: Vec<u8> = bare.as_bytes().to_vec();
    if level == PathNormalization::DecodeAndMergeSlashes {
        text = decode_slashes(&text);
    }
    text = drop_dot_parameters(&text);
    text = canonicalize(&text)?;
    if merge {
        text.dedup_by(|a, b| *a == b'/' && *b == b'/');
    }
    text.extend_from_slice(query.as_bytes());
    Ok(Cow::Owned(
        String::from_utf8(text).unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned()),
    ))
}

/// Nothing here that any step would change: no escape, no backslash, no segment that begins with a dot, no character
/// that needs an escape, and (when they are merged) no two slashes in a row.
fn is_normal(path: &[u8], merge: bool) -> bool {
    let mut previous = 0;
    for &byte in path {
        let changes = match byte {
            b'%' | b'\\' | b'"' | b'<' | b'>' | b'^' | b'`' | b'{' | b'|' | b'}' | 0..=0x20 | 0x7f.. => true,
            b'.' => previous == b'/',
            b'/' => merge && previous == b'/',
            _ => false,
        };
        if changes {
            return false;
        }
        previous = byte;
    }
    true
}

fn decode_slashes(path: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(path.len());
    let mut rest = path;
    while let Some((&byte, after)) = rest.split_first() {
        match (byte, after) {
            (b'%', [b'2', b'f' | b'F', tail @ ..]) => {
                out.push(b'/');
                rest = tail;
            }
            (b'%', [b'5', b'c' | b'C', tail @ ..]) => {
                out.push(b'\\');
                rest = tail;
            }
            _ => {
                out.push(byte);
                rest = after;
            }
        }
    }
    out
}

/// `/a/..;x/b` is `/a/../b`: a pass of its own on the raw text between slashes.
fn drop_dot_parameters(path: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(path.len());
    for (index, segment) in path.split(|byte| *byte == b'/').enumerate() {
        if index > 0 {
            out.push(b'/');
        }
        let name = segment.iter().position(|byte| *byte == b';').map_or(segment, |at| &segment[..at]);
        out.extend_from_slice(if name == b"." || name == b".." { name } else { segment });
    }
    out
}

fn hex(byte: u8) -> Option<u8> {
    char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok())
}

fn is_unreserved(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~')
}

/// The escape at the beginning of `text`, decoded.
fn escape(text: &[u8]) -> Option<u8> {
    match text {
        [b'%', high, low, ..] => Some(hex(*high)? << 4 | hex(*low)?),
        _ => None,
    }
}

fn canonicalize(path: &[u8]) -> Result<Vec<u8>, BadPath> {
    const UPPER: &[u8; 16] = b"0123456789ABCDEF";
    let mut out: Vec<u8> = Vec::with_capacity(path.len());
    let mut at = 0;
    while let Some(rest) = path.get(at..).filter(|rest| !rest.is_empty()) {
        let byte = rest[0];
        if byte == b'/' || byte == b'\\' {
            at += 1 + skip_dots(&mut out, &rest[1..]);
            continue;
        }
        at += 1;
        match byte {
            b'%' => match escape(rest) {
                Some(0) => return Err(BadPath),
                Some(decoded) if is_unreserved(decoded) => {
                    at += 2;
                    out.push(decoded);
                    mend(&mut out);
                }
                Some(_) => {
                    at += 2;
                    out.extend_from_slice(&rest[..3]);
                }
                None => out.push(b'%'),
            },
            b'"' | b'<' | b'>' | b'^' | b'`' | b'{' | b'|' | b'}' | 0..=0x20 | 0x7f.. => {
                out.extend_from_slice(&[b'%', UPPER[usize::from(byte >> 4)], UPPER[usize::from(byte & 15)]]);
            }
            _ => out.push(byte),
        }
    }
    Ok(out)
}

/// A decoded character must not complete an escape that was none as written: its `%` becomes `%25`.
fn mend(out: &mut Vec<u8>) {
    for back in [2, 3] {
        if let Some(start) = out.len().checked_sub(back)
            && out[start] == b'%'
            && out[start + 1..].iter().all(|byte| byte.is_ascii_hexdigit())
        {
            out.splice(start..=start, *b"%25");
            return;
        }
    }
}

/// After a slash: writes the slash, or resolves the dot segment that follows. Returns how much of `rest` was read.
fn skip_dots(out: &mut Vec<u8>, rest: &[u8]) -> usize {
    let mut dots = 0;
    let mut read = 0;
    while dots <= 2 {
        match &rest[read..] {
            [b'.', ..] => read += 1,
            [b'%', b'2', b'e' | b'E', ..] => read += 3,
            _ => break,
        }
        dots += 1;
    }
    let ends = matches!(rest.get(read), None | Some(b'/' | b'\\'));
    if !ends || dots == 0 || dots > 2 {
        out.push(b'/');
        return 0;
    }
    if dots == 2 {
        // Back to the slash before the last segment; never above the root.
        let last = out.iter().rposition(|byte| *byte == b'/').unwrap_or(0);
        out.truncate(last);
    }
    if read == rest.len() {
        out.push(b'/');
    }
    read
}
