//! Why a handshake failed, for access logs and metrics beside the flag `UF`.
//!
//! rustls says it in an error, most connectors wrap that in an `io::Error`, and clients wrap theirs in more:
//! [`TlsFailure::find`] digs it out. What *we* held against the upstream is told exactly. What the *upstream* held against us
//! is an alert, and as coarse as TLS makes it: with TLS 1.3 a refused client certificate shows on the first read after a
//! handshake that seemed to succeed, and a TLS 1.2 server may say no more than "handshake failure"
//! ([`TlsFailure::Refused`]).

use rustls::{AlertDescription as Alert, CertificateError, OtherError};
use std::error::Error;
use std::{fmt, io};

/// Why a TLS handshake failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum TlsFailure {
    /// The upstream's certificate, or one of its chain, is past its date.
    Expired,
    /// … is not valid yet.
    NotYetValid,
    /// The upstream's chain ends at no authority that is trusted.
    UnknownIssuer,
    /// The upstream's certificate is on a revocation list.
    Revoked,
    /// `caCrl` has no list in date for one of the chain's authorities.
    RevocationUnknown,
    /// The upstream's certificate is valid, but for none of the wanted names.
    NameMismatch,
    /// The upstream's certificate is malformed, badly signed, for another purpose, or there is none.
    BadCertificate,
    /// The upstream wants a certificate that we do not show, or does not take ours.
    ClientCertificateRefused,
    /// The upstream knows no such server name.
    ServerNameRefused,
    /// No version, cipher or application protocol in common.
    Incompatible,
    /// The upstream broke off with another alert.
    Refused,
    /// What answers does not speak TLS, or breaks its rules.
    NotTls,
    /// Something else, such as a failure of our own.
    Other,
}

impl TlsFailure {
    /// A stable word for logs and metrics.
    pub fn code(self) -> &'static str {
        match self {
            TlsFailure::Expired => "certificate_expired",
            TlsFailure::NotYetValid => "certificate_not_yet_valid",
            TlsFailure::UnknownIssuer => "unknown_issuer",
            TlsFailure::Revoked => "certificate_revoked",
            TlsFailure::RevocationUnknown => "revocation_unknown",
            TlsFailure::NameMismatch => "name_mismatch",
            TlsFailure::BadCertificate => "bad_certificate",
            TlsFailure::ClientCertificateRefused => "client_certificate_refused",
            TlsFailure::ServerNameRefused => "server_name_refused",
            TlsFailure::Incompatible => "incompatible",
            TlsFailure::Refused => "refused",
            TlsFailure::NotTls => "not_tls",
            TlsFailure::Other => "other",
        }
    }

    /// The reason behind rustls' error.
    pub fn of(error: &rustls::Error) -> Self {
        match error {
            rustls::Error::InvalidCertificate(error) => of_certificate(error),
            rustls::Error::NoCertificatesPresented => TlsFailure::BadCertificate,
            rustls::Error::AlertReceived(alert) => of_alert(*alert),
            rustls::Error::PeerIncompatible(_) | rustls::Error::NoApplicationProtocol => TlsFailure::Incompatible,
            rustls::Error::InvalidMessage(_)
            | rustls::Error::InappropriateMessage { .. }
            | rustls::Error::InappropriateHandshakeMessage { .. }
            | rustls::Error::PeerMisbehaved(_)
            | rustls::Error::PeerSentOversizedRecord
            | rustls::Error::DecryptError => TlsFailure::NotTls,
            _ => TlsFailure::Other,
        }
    }

    /// The reason in an error or in what caused it, `io::Error`s opened too. None: it was not TLS that failed.
    pub fn find(error: &(dyn Error + 'static)) -> Option<Self> {
        let mut next = Some(error);
        // A chain of causes is short; the bound is against one that is a ring.
        for _ in 0..32 {
            let error = next?;
            if let Some(error) = error.downcast_ref::<rustls::Error>() {
                return Some(Self::of(error));
            }
            // An `io::Error` is its content, and skips it when asked for its cause.
            next = match error.downcast_ref::<io::Error>().and_then(io::Error::get_ref) {
                Some(inner) => Some(inner),
                None => error.source(),
            };
        }
        None
    }
}

fn of_certificate(error: &CertificateError) -> TlsFailure {
    match error {
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => TlsFailure::Expired,
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => TlsFailure::NotYetValid,
        CertificateError::UnknownIssuer => TlsFailure::UnknownIssuer,
        CertificateError::Revoked => TlsFailure::Revoked,
        CertificateError::UnknownRevocationStatus
        | CertificateError::ExpiredRevocationList
        | CertificateError::ExpiredRevocationListContext { .. } => TlsFailure::RevocationUnknown,
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => TlsFailure::NameMismatch,
        CertificateError::Other(OtherError(error)) if error.is::<NameMismatch>() => TlsFailure::NameMismatch,
        _ => TlsFailure::BadCertificate,
    }
}

fn of_alert(alert: Alert) -> TlsFailure {
    match alert {
        Alert::CertificateRequired
        | Alert::NoCertificate
        | Alert::BadCertificate
        | Alert::UnsupportedCertificate
        | Alert::CertificateRevoked
        | Alert::CertificateExpired
        | Alert::CertificateUnknown
        | Alert::UnknownCA
        | Alert::AccessDenied => TlsFailure::ClientCertificateRefused,
        Alert::UnrecognisedName => TlsFailure::ServerNameRefused,
        Alert::ProtocolVersion | Alert::InsufficientSecurity | Alert::NoApplicationProtocol => TlsFailure::Incompatible,
        _ => TlsFailure::Refused,
    }
}

impl fmt::Display for TlsFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            TlsFailure::Expired => "the upstream's certificate has expired",
            TlsFailure::NotYetValid => "the upstream's certificate is not valid yet",
            TlsFailure::UnknownIssuer => "the upstream's certificate is of an unknown issuer",
            TlsFailure::Revoked => "the upstream's certificate is revoked",
            TlsFailure::RevocationUnknown => "no revocation list in date covers the upstream's certificate",
            TlsFailure::NameMismatch => "the upstream's certificate is for another name",
            TlsFailure::BadCertificate => "the upstream's certificate is no good",
            TlsFailure::ClientCertificateRefused => "the upstream did not take our certificate, or wants one",
            TlsFailure::ServerNameRefused => "the upstream does not know the server name",
            TlsFailure::Incompatible => "no TLS version, cipher or protocol in common with the upstream",
            TlsFailure::Refused => "the upstream refused the handshake",
            TlsFailure::NotTls => "the upstream does not speak TLS as it should",
            TlsFailure::Other => "the handshake failed",
        })
    }
}

/// The certificate has none of the wanted names. It is the cause inside rustls' `CertificateError::Other`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the certificate is for [{}], wanted was one of [{}]", presented.join(", "), wanted.join(", "))]
#[non_exhaustive]
pub struct NameMismatch {
    /// Names of which one was wanted.
    pub wanted: Vec<String>,
    /// The certificate's alternative names.
    pub presented: Vec<String>,
}
