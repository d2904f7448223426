//! Just enough HTTP/1 for an example: heads, and bodies that end with their connection or their content length.

use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use pointsman::head::{RequestHead, ResponseHead};
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::TcpStream;

const MOST_HEAD: u64 = 64 * 1024;
/// The largest request body; all of it is kept for other attempts.
const MOST_BODY: usize = 1024 * 1024;

pub(crate) type Reader = BufReader<TcpStream>;

fn bad(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what.to_owned())
}

/// The first line, and the header lines after it.
fn read_head(reader: &mut Reader) -> io::Result<(String, HeaderMap)> {
    let mut limited = reader.take(MOST_HEAD);
    let mut line = |text: &mut String| -> io::Result<()> {
        text.clear();
        if limited.read_line(text)? == 0 || !text.ends_with('\n') {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        text.truncate(text.trim_end().len());
        Ok(())
    };
    let mut first = String::new();
    line(&mut first)?;
    let mut headers = HeaderMap::new();
    let mut text = String::new();
    loop {
        line(&mut text)?;
        if text.is_empty() {
            return Ok((first, headers));
        }
        let (name, value) = text.split_once(':').ok_or_else(|| bad("a header without a colon"))?;
        let name = HeaderName::try_from(name).map_err(|_| bad("a header's name"))?;
        headers.append(name, HeaderValue::try_from(value.trim()).map_err(|_| bad("a header's value"))?);
    }
}

fn content_length(headers: &HeaderMap) -> Option<usize> {
    headers.get("content-length")?.to_str().ok()?.parse().ok()
}

/// A request with its whole body.
pub(crate) fn read_request(reader: &mut Reader, port: u16) -> io::Result<(RequestHead, Vec<u8>)> {
    let (first, mut headers) = read_head(reader)?;
    let mut words = first.split(' ');
    let (Some(method), Some(path), Some(_)) = (words.next(), words.next(), words.next()) else {
        return Err(bad("a request line"));
    };
    let method = Method::from_bytes(method.as_bytes()).map_err(|_| bad("a method"))?;
    if headers.contains_key("transfer-encoding") {
        return Err(bad("a body without a content length"));
    }
    let length = content_length(&headers).unwrap_or(0);
    if length > MOST_BODY {
        return Err(bad("a body that is too large"));
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body)?;
    let authority = headers.remove("host").and_then(|host| host.to_str().map(str::to_owned).ok()).unwrap_or_default();
    let mut head = RequestHead::new(method, port, authority, path);
    head.headers = headers;
    head.remote = reader.get_ref().peer_addr().ok();
    head.local = reader.get_ref().local_addr().ok();
    Ok((head, body))
}

fn write_headers(out: &mut Vec<u8>, headers: &HeaderMap) {
    for (name, value) in headers {
        out.extend_from_slice(name.as_str().as_bytes());
        out.extend_from_slice(b": ");
        out.extend_from_slice(value.as_bytes());
        out.extend_from_slice(b"\r\n");
    }
}

/// A request over HTTP/1.0, so that what comes back ends with its content length or its connection.
pub(crate) fn write_request(mut stream: &TcpStream, head: &RequestHead, body: &[u8]) -> io::Result<()> {
    let mut out = format!("{} {} HTTP/1.0\r\nhost: {}\r\n", head.method, head.path, head.authority).into_bytes();
    write_headers(&mut out, &head.headers);
    out.extend_from_slice(b"\r\n");
    out.extend_from_slice(body);
    stream.write_all(&out)
}

/// A response's head, and how long its body is, if it says so.
pub(crate) fn read_response(reader: &mut Reader) -> io::Result<(ResponseHead, Option<usize>)> {
    let (first, headers) = read_head(reader)?;
    let status = first.split(' ').nth(1).ok_or_else(|| bad("a status line"))?;
    let mut head = ResponseHead::new(StatusCode::from_bytes(status.as_bytes()).map_err(|_| bad("a status"))?);
    let length = content_length(&headers);
    head.headers = headers;
    Ok((head, length))
}

/// A response's head; its body ends with the connection.
pub(crate) fn write_response(mut stream: &TcpStream, head: &ResponseHead) -> io::Result<()> {
    let mut out = format!("HTTP/1.1 {}\r\nconnection: close\r\n", head.status).into_bytes();
    write_headers(&mut out, &head.headers);
    out.extend_from_slice(b"\r\n");
    stream.write_all(&out)
}

/// What cannot be read as a request is answered with 400 and the reason.
pub(crate) fn refuse(mut stream: &TcpStream, reason: &io::Error) -> io::Result<()> {
    let text = format!("{reason}\n");
    let mut head = ResponseHead::new(StatusCode::BAD_REQUEST);
    head.headers.insert("content-length", text.len().into());
    write_response(stream, &head)?;
    stream.write_all(text.as_bytes())
}
