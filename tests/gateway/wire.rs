//! A client that writes bytes: whatever a test wants to say, and not what a library would make of it.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

/// A response as it came.
#[derive(Debug, Default)]
pub struct Response {
    pub status: u16,
    pub headers: Vec<(String, Vec<u8>)>,
    pub body: Vec<u8>,
}

impl Response {
    pub fn header(&self, name: &str) -> Option<&[u8]> {
        self.headers.iter().find(|(own, _)| own == name).map(|(_, value)| value.as_slice())
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

/// A new connection that gives up after a while, so that a test fails instead of hanging.
pub fn connect(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    stream.set_nodelay(true).unwrap();
    stream
}

/// Says it on a connection of its own, and reads one response.
pub fn say(address: SocketAddr, bytes: &[u8]) -> io::Result<Response> {
    let mut stream = connect(address);
    stream.write_all(bytes)?;
    read(&mut BufReader::new(stream), bytes.starts_with(b"HEAD "))
}

pub fn get(address: SocketAddr, host: &str, path: &str) -> Response {
    say(address, format!("GET {path} HTTP/1.1\r\nhost: {host}\r\n\r\n").as_bytes()).unwrap()
}

/// Reads a response; one to HEAD has no body whatever its length says.
pub fn read(reader: &mut impl BufRead, head_only: bool) -> io::Result<Response> {
    let mut response = Response::default();
    let status = line(reader)?;
    let code = status.split(|byte| *byte == b' ').nth(1).and_then(|code| std::str::from_utf8(code).ok()?.parse().ok());
    response.status = code.ok_or_else(|| io::Error::other(format!("no status in {status:?}")))?;
    loop {
        let line = line(reader)?;
        if line.is_empty() {
            break;
        }
        let at =
            line.iter().position(|byte| *byte == b':').ok_or_else(|| io::Error::other("a line without a colon"))?;
        let name = String::from_utf8_lossy(&line[..at]).to_ascii_lowercase();
        response.headers.push((name, line[at + 1..].trim_ascii().to_vec()));
    }
    if head_only || response.status < 200 || matches!(response.status, 204 | 304) {
        return Ok(response);
    }
    let number = |text: &[u8], radix| usize::from_str_radix(std::str::from_utf8(text).ok()?.trim(), radix).ok();
    if response.header("transfer-encoding") == Some(b"chunked") {
        loop {
            let size = number(&line(reader)?, 16).ok_or_else(|| io::Error::other("a bad chunk"))?;
            let mut chunk = vec![0; size];
            reader.read_exact(&mut chunk)?;
            line(reader)?;
            if size == 0 {
                return Ok(response);
            }
            response.body.extend_from_slice(&chunk);
        }
    }
    let length = response.header("content-length").and_then(|length| number(length, 10)).unwrap_or(0);
    response.body = vec![0; length];
    reader.read_exact(&mut response.body)?;
    Ok(response)
}

fn line(reader: &mut impl BufRead) -> io::Result<Vec<u8>> {
    let mut line = Vec::new();
    reader.read_until(b'\n', &mut line)?;
    if line.is_empty() {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok(line.trim_ascii_end().to_vec())
}

/// Everything until the other side closes.
pub fn rest(stream: &mut impl Read) -> Vec<u8> {
    let mut bytes = Vec::new();
    let _ = stream.read_to_end(&mut bytes);
    bytes
}
