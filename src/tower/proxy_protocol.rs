//! What goes before everything else on a connection whose destination has `proxyProtocol`: who the client is.
//!
//! Version 1 is a line of text, version 2 a binary header of 28 or 52 bytes. The addresses are those of the connection that
//! the request came on ([`ConnectionInfo`]); where they are not known, the header says just that (`UNKNOWN`, `LOCAL`), and
//! the upstream takes the connection's own. Addresses of two families are both written as IPv6.
//!
//! The format is HAProxy's (`proxy-protocol.txt`); Envoy writes the same.

use super::request::ConnectionInfo;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};

const SIGNATURE: [u8; 12] = *b"\r\n\r\n\0\r\nQUIT\n";

/// The header of this version; 1 where it is neither 1 nor 2.
pub(super) fn header(version: u8, client: &ConnectionInfo) -> Vec<u8> {
    let (Some(remote), Some(local)) = (client.remote, client.local) else {
        return if version == 2 { binary(0x20, 0x00, &[]) } else { b"PROXY UNKNOWN\r\n".to_vec() };
    };
    let (from, to) = match (remote.ip(), local.ip()) {
        same @ ((IpAddr::V4(_), IpAddr::V4(_)) | (IpAddr::V6(_), IpAddr::V6(_))) => same,
        (from, to) => (IpAddr::V6(mapped(from)), IpAddr::V6(mapped(to))),
    };
    if version == 2 {
        let family = if from.is_ipv4() { 0x11 } else { 0x21 };
        let ports = [remote.port().to_be_bytes(), local.port().to_be_bytes()].concat();
        return binary(0x21, family, &[octets(from), octets(to), ports].concat());
    }
    let family = if from.is_ipv4() { "TCP4" } else { "TCP6" };
    format!("PROXY {family} {from} {to} {} {}\r\n", remote.port(), local.port()).into_bytes()
}

fn binary(command: u8, family: u8, addresses: &[u8]) -> Vec<u8> {
    // At most 36 bytes.
    let length = (addresses.len() as u16).to_be_bytes();
    [&SIGNATURE[..], &[command, family], &length, addresses].concat()
}

fn mapped(address: IpAddr) -> Ipv6Addr {
    match address {
        IpAddr::V4(address) => address.to_ipv6_mapped(),
        IpAddr::V6(address) => address,
    }
}

fn octets(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    }
}

/// What tells connections apart: with `proxyProtocol` those of one client are not used for another.
pub(super) type Client = (Option<SocketAddr>, Option<SocketAddr>);

#[cfg(test)]
mod tests {
    use super::*;

    fn client(remote: &str, local: &str) -> ConnectionInfo {
        ConnectionInfo { remote: remote.parse().ok(), local: local.parse().ok(), ..ConnectionInfo::default() }
    }

    #[test]
    fn version_1_is_a_line() {
        for (remote, local, line) in [
            ("192.0.2.1:5000", "198.51.100.2:80", "PROXY TCP4 192.0.2.1 198.51.100.2 5000 80\r\n"),
            ("[2001:db8::1]:5000", "[2001:db8::2]:80", "PROXY TCP6 2001:db8::1 2001:db8::2 5000 80\r\n"),
            ("192.0.2.1:5000", "[2001:db8::2]:80", "PROXY TCP6 ::ffff:192.0.2.1 2001:db8::2 5000 80\r\n"),
            ("192.0.2.1:5000", "", "PROXY UNKNOWN\r\n"),
        ] {
            assert_eq!(String::from_utf8(header(1, &client(remote, local))).unwrap(), line);
        }
    }

    #[test]
    fn version_2_is_binary() {
        let start = b"\x0d\x0a\x0d\x0a\x00\x0d\x0a\x51\x55\x49\x54\x0a";
        let four = header(2, &client("192.0.2.1:5000", "198.51.100.2:80"));
        let addresses = [192, 0, 2, 1, 198, 51, 100, 2, 0x13, 0x88, 0, 80];
        assert_eq!(four, [&start[..], &[0x21, 0x11, 0, 12], &addresses].concat());
        let six = header(2, &client("[2001:db8::1]:5000", "[2001:db8::2]:80"));
        assert_eq!((six.len(), &six[12..16]), (52, &[0x21, 0x21, 0, 36][..]));
        assert_eq!(header(2, &ConnectionInfo::default()), [&start[..], &[0x20, 0, 0, 0]].concat());
    }
}
