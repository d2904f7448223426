//! The alternative names of a certificate, and whether a wanted name is among them.
//!
//! A wanted name is plain text: it may mean a DNS name, a URI, an address or a mailbox, and is held against each kind. Only
//! DNS names know wildcards, and only those of the certificate: in the first of at least two labels, once, and not if that
//! label is an internationalised one; it may stand for a part of the label (`api-*.example.com`). This is Envoy's matching;
//! webpki's takes `*` for a whole label only.

use rustls::CertificateError;
use rustls::pki_types::ServerName;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};

/// One alternative name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum AltName {
    Dns(String),
    Uri(String),
    Mail(String),
    Address(IpAddr),
}

impl AltName {
    /// Does it stand for what a rule lists?
    pub(super) fn is(&self, wanted: &str) -> bool {
        match self {
            AltName::Dns(name) => dns_match(wanted, name),
            AltName::Uri(name) | AltName::Mail(name) => name == wanted,
            AltName::Address(address) => address.to_string() == wanted,
        }
    }

    /// Does it stand for the server of a request?
    pub(super) fn serves(&self, server: &ServerName<'_>) -> bool {
        match (self, server) {
            (AltName::Dns(name), ServerName::DnsName(wanted)) => {
                let wanted = wanted.as_ref();
                dns_match(wanted.strip_suffix('.').unwrap_or(wanted), name)
            }
            (AltName::Address(address), ServerName::IpAddress(wanted)) => *address == IpAddr::from(*wanted),
            _ => false,
        }
    }

    pub(super) fn text(&self) -> String {
        match self {
            AltName::Dns(name) | AltName::Uri(name) | AltName::Mail(name) => name.clone(),
            AltName::Address(address) => address.to_string(),
        }
    }
}

/// The alternative names of a certificate. Kinds that nobody can want are left out.
pub(super) fn alt_names(certificate: &[u8]) -> Result<Vec<AltName>, CertificateError> {
    let (_, certificate) = X509Certificate::from_der(certificate).map_err(|_| CertificateError::BadEncoding)?;
    let names = certificate.subject_alternative_name().map_err(|_| CertificateError::BadEncoding)?;
    let Some(names) = names else { return Ok(Vec::new()) };
    Ok(names
        .value
        .general_names
        .iter()
        .filter_map(|name| match name {
            GeneralName::DNSName(name) => Some(AltName::Dns((*name).to_owned())),
            GeneralName::URI(name) => Some(AltName::Uri((*name).to_owned())),
            GeneralName::RFC822Name(name) => Some(AltName::Mail((*name).to_owned())),
            GeneralName::IPAddress(bytes) => address(bytes).map(AltName::Address),
            _ => None,
        })
        .collect())
}

fn address(bytes: &[u8]) -> Option<IpAddr> {
    if let Ok(octets) = <[u8; 4]>::try_from(bytes) {
        return Some(Ipv4Addr::from(octets).into());
    }
    <[u8; 16]>::try_from(bytes).ok().map(|octets| Ipv6Addr::from(octets).into())
}

/// Is `wanted` the certificate's `name`, or does its wildcard cover it?
fn dns_match(wanted: &str, name: &str) -> bool {
    if wanted.eq_ignore_ascii_case(name) {
        return true;
    }
    let (Some((first, rest)), Some((pattern, domain))) = (wanted.split_once('.'), name.split_once('.')) else {
        return false;
    };
    let (first, pattern) = (first.to_ascii_lowercase(), pattern.to_ascii_lowercase());
    let Some((before, after)) = pattern.split_once('*') else { return false };
    // A `*` alone covers any label; one beside letters stands for no character or more.
    !domain.contains('*')
        && !after.contains('*')
        && !pattern.starts_with("xn--")
        && rest.eq_ignore_ascii_case(domain)
        && before.len() + after.len() <= first.len()
        && first.starts_with(before)
        && first.ends_with(after)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dns_names() {
        for (wanted, name, expected) in [
            ("a.example.com", "a.example.com", true),
            ("A.example.com", "a.EXAMPLE.com", true),
            ("a.example.com", "b.example.com", false),
            ("a.example.com", "*.example.com", true),
            ("a.b.example.com", "*.example.com", false),
            ("example.com", "*.example.com", false),
            ("api-1.example.com", "api-*.example.com", true),
            ("api-.example.com", "api-*.example.com", true),
            ("ap.example.com", "api-*.example.com", false),
            ("aba.example.com", "ab*ba.example.com", false),
            ("a.example.com", "**.example.com", false),
            ("a.b.com", "*.*.com", false),
            ("xn--1.example.com", "xn--*.example.com", false),
            ("com", "*", false),
            ("*.example.com", "a.example.com", false),
            ("*.example.com", "*.example.com", true),
            ("", "", true),
        ] {
            assert_eq!(dns_match(wanted, name), expected, "{wanted} {name}");
        }
    }
}
