//! Requests that could be read in two ways, or in none: what becomes of them, beside what a real Envoy 1.40 did with the
//! same bytes. Where the answers differ, ours is the stricter one, or hyper's word for the same refusal.

use super::proxy::{careful, gateway};
use super::wire;
use std::io::{BufReader, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// What it is, the bytes, our answer, Envoy's answer.
type Case = (&'static str, &'static [u8], u16, u16);

const GET: &str = "GET / HTTP/1.1\r\nhost: a\r\n";

macro_rules! post {
    ($headers:literal, $rest:literal) => {
        concat!("POST / HTTP/1.1\r\nhost: a\r\n", $headers, "\r\n\r\n", $rest).as_bytes()
    };
}

macro_rules! chunked {
    ($rest:literal) => {
        post!("transfer-encoding: chunked", $rest)
    };
}

const HEADS: &[Case] = &[
    ("two lengths", post!("content-length: 3\r\ncontent-length: 4", "abcd"), 400, 400),
    ("two lengths that are the same", post!("content-length: 3\r\ncontent-length: 3", "abc"), 400, 400),
    ("a list of lengths", post!("content-length: 3, 3", "abc"), 400, 400),
    ("a length and chunks", post!("content-length: 3\r\ntransfer-encoding: chunked", "0\r\n\r\n"), 400, 400),
    ("chunks and a length", post!("transfer-encoding: chunked\r\ncontent-length: 3", "0\r\n\r\n"), 400, 400),
    ("a length with a sign", post!("content-length: +3", "abc"), 400, 400),
    ("a negative length", post!("content-length: -3", "abc"), 400, 400),
    ("a hexadecimal length", post!("content-length: 0x3", "abc"), 400, 400),
    ("an empty length", post!("content-length:", ""), 400, 400),
    ("a length beyond all numbers", post!("content-length: 99999999999999999999", ""), 400, 400),
    ("identity", post!("transfer-encoding: identity", ""), 400, 501),
    ("chunked, and then another", post!("transfer-encoding: chunked, identity", "0\r\n\r\n"), 400, 501),
    ("another, and then chunked", post!("transfer-encoding: gzip, chunked", "0\r\n\r\n"), 501, 501),
    ("chunked twice", post!("transfer-encoding: chunked, chunked", "0\r\n\r\n"), 501, 501),
    ("chunked on two lines", post!("transfer-encoding: chunked\r\ntransfer-encoding: chunked", "0\r\n\r\n"), 501, 501),
    ("nearly chunked", post!("transfer-encoding: xchunked", "0\r\n\r\n"), 400, 501),
    ("chunked behind a vertical tab", post!("transfer-encoding: \x0bchunked", "0\r\n\r\n"), 400, 400),
    ("chunked in HTTP/1.0", b"POST / HTTP/1.0\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n", 400, 426),
    ("a space before the colon", b"GET / HTTP/1.1\r\nhost: a\r\ncontent-length : 0\r\n\r\n", 400, 400),
    ("a tab before the colon", b"GET / HTTP/1.1\r\nhost: a\r\ncontent-length\t: 0\r\n\r\n", 400, 400),
    ("a folded line", b"GET / HTTP/1.1\r\nhost: a\r\nx: a\r\n b\r\n\r\n", 400, 200),
    ("a folded coding", post!("transfer-encoding:\r\n chunked", "0\r\n\r\n"), 400, 200),
    ("a first line that is folded", b"GET / HTTP/1.1\r\n host: a\r\n\r\n", 400, 400),
    ("a bare CR in a value", b"GET / HTTP/1.1\r\nhost: a\r\nx: a\rb\r\n\r\n", 400, 200),
    ("a NUL in a value", b"GET / HTTP/1.1\r\nhost: a\r\nx: a\0b\r\n\r\n", 400, 400),
    ("a NUL in a name", b"GET / HTTP/1.1\r\nhost: a\r\nx\0: a\r\n\r\n", 400, 400),
    ("a header without a name", b"GET / HTTP/1.1\r\nhost: a\r\n: x\r\n\r\n", 400, 400),
    ("a header without a colon", b"GET / HTTP/1.1\r\nhost: a\r\nabc\r\n\r\n", 400, 400),
    ("two hosts", b"GET / HTTP/1.1\r\nhost: a\r\nhost: b\r\n\r\n", 400, 404),
    ("no host", b"GET / HTTP/1.1\r\n\r\n", 400, 400),
    ("HTTP/1.0", b"GET / HTTP/1.0\r\nhost: a\r\n\r\n", 426, 426),
    ("HTTP/1.2", b"GET / HTTP/1.2\r\nhost: a\r\n\r\n", 400, 426),
    ("no version", b"GET /\r\n\r\n", 400, 426),
    ("two spaces before the path", b"GET  / HTTP/1.1\r\nhost: a\r\n\r\n", 400, 200),
    ("a space in the path", b"GET /a b HTTP/1.1\r\nhost: a\r\n\r\n", 400, 400),
    ("a path without a slash", b"GET a HTTP/1.1\r\nhost: a\r\n\r\n", 400, 400),
    ("a fragment", b"GET /a#b HTTP/1.1\r\nhost: a\r\n\r\n", 400, 400),
    ("a method that is none", b"G@T\xff / HTTP/1.1\r\nhost: a\r\n\r\n", 400, 400),
];

/// These are on their way before the body turns out to be none.
const BODIES: &[Case] = &[
    ("a chunk's size that is no number", chunked!("zz\r\nabc\r\n0\r\n\r\n"), 400, 400),
    ("a negative chunk", chunked!("-3\r\nabc\r\n0\r\n\r\n"), 400, 400),
    ("a chunk's size with a prefix", chunked!("0x3\r\nabc\r\n0\r\n\r\n"), 400, 400),
    ("a chunk beyond all numbers", chunked!("10000000000000003\r\nabc\r\n0\r\n\r\n"), 400, 400),
    ("a chunk that is longer than it says", chunked!("3\r\nabcXX0\r\n\r\n"), 400, 400),
    ("a bare LF after a size", chunked!("3\nabc\r\n0\r\n\r\n"), 400, 400),
    ("a bare LF after a chunk", chunked!("3\r\nabc\n0\r\n\r\n"), 400, 200),
    ("a bare LF in a chunk's extension", chunked!("3;a\nb\r\nabc\r\n0\r\n\r\n"), 400, 400),
];

const FINE: &[Case] = &[
    ("chunks", chunked!("3;a=b\r\nabc\r\n0\r\n\r\n"), 200, 200),
    ("chunked in capitals", post!("Transfer-Encoding: cHuNkEd", "0\r\n\r\n"), 200, 200),
    ("a line before the request", b"\r\nGET / HTTP/1.1\r\nhost: a\r\n\r\n", 200, 200),
    ("a body of a GET", b"GET / HTTP/1.1\r\nhost: a\r\ncontent-length: 3\r\n\r\nabc", 200, 200),
    ("another host in the URL", b"GET http://a/ HTTP/1.1\r\nhost: b\r\n\r\n", 200, 200),
    ("bytes beyond ASCII in a value", b"GET / HTTP/1.1\r\nhost: a\r\nx: \xff\r\n\r\n", 200, 200),
    ("a length in trailers", chunked!("0\r\ncontent-length: 5\r\n\r\n"), 200, 200),
    ("lines that end with LF alone", b"GET / HTTP/1.1\nhost: a\nx: b\n\n", 200, 200),
];

#[test]
fn what_could_be_read_in_two_ways_is_refused() {
    let seen = Arc::new(AtomicUsize::new(0));
    let gateway = gateway(careful(&seen));
    for (name, bytes, expected, envoy) in HEADS.iter().chain(BODIES) {
        let mut client = wire::connect(gateway.http);
        client.write_all(bytes).unwrap();
        let mut reader = BufReader::new(client);
        let response = wire::read(&mut reader, false).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!(response.status, *expected, "{name} (Envoy says {envoy}): {response:?}");
        assert_eq!(wire::rest(&mut reader), b"", "{name}: nothing else is read from the connection");
    }
    assert_eq!(seen.load(Ordering::SeqCst), 0, "none of them came to an upstream as a whole");
    for (name, bytes, expected, _) in FINE {
        let response = wire::say(gateway.http, bytes).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!((response.status, response.text().as_str()), (*expected, "ok"), "{name}");
    }
    assert_eq!(seen.load(Ordering::SeqCst), FINE.len());
    // Nobody is blamed for what clients did.
    let endpoints = wire::get(gateway.admin, "admin", "/endpoints").text();
    assert!(endpoints.contains("\"ejected\": null") && !endpoints.contains("\"reason\""), "{endpoints}");
}

#[test]
fn requests_that_follow_each_other_on_a_connection_are_told_apart() {
    let seen = Arc::new(AtomicUsize::new(0));
    let gateway = gateway(careful(&seen));
    let mut client = wire::connect(gateway.http);
    // Pipelined: chunks that look like a head, a length, nothing, and then what could be read in two ways.
    let chunk = "content-length: 9\r\ntransfer-encoding: chunked\r\n\r\n";
    let all = format!(
        "POST /1 HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n{:x};x=y\r\n{chunk}\r\n0\r\n\r\n\
         POST /2 HTTP/1.1\r\nhost: a\r\ncontent-length: 3\r\n\r\nabc\
         {GET}\r\n\
         POST /4 HTTP/1.1\r\nhost: a\r\ncontent-length: 5\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
        chunk.len()
    );
    for piece in all.as_bytes().chunks(7) {
        client.write_all(piece).unwrap();
    }
    let mut reader = BufReader::new(client);
    let statuses: Vec<u16> = (0..4).map(|_| wire::read(&mut reader, false).unwrap().status).collect();
    assert_eq!(statuses, [200, 200, 200, 400]);
}

#[test]
fn connect_is_refused() {
    let gateway = gateway(careful(&Arc::default()));
    let response = wire::say(gateway.http, b"CONNECT a:80 HTTP/1.1\r\nhost: a:80\r\n\r\n").unwrap();
    assert_eq!(response.status, 404);
}
