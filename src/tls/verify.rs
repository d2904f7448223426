//! The judgement on an upstream's certificate: the chain by webpki, the names by Envoy's rule.
//!
//! webpki's verifier judges chain and name in one call, chain first. It is given a name that no check depends on, and its
//! complaint about that name alone means that the chain is good.

use super::error::{Context, TlsError};
use super::failure::NameMismatch;
use super::material::Trust;
use super::names::{AltName, alt_names};
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::VerifierBuilderError;
use rustls::{CertificateError, DigitallySignedStruct, Error, OtherError, SignatureScheme};
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use x509_parser::prelude::{FromDer, X509Certificate};

#[derive(Clone, Debug)]
pub(super) struct Verifier {
    /// None: nothing is verified but that the peer has the certificate's key.
    chain: Option<Chain>,
    /// One of them must be the certificate's. Empty: any will do.
    names: Vec<String>,
    /// Must the certificate be for the server that is asked for?
    authority: bool,
    algorithms: WebPkiSupportedAlgorithms,
}

#[derive(Clone, Debug)]
struct Chain {
    webpki: Arc<WebPkiServerVerifier>,
    /// Certificates of the file of authorities that are also taken as a server's own.
    itself: Arc<[CertificateDer<'static>]>,
}

impl Verifier {
    pub(super) fn new(
        trust: Option<&Trust>,
        names: Vec<String>,
        provider: &Arc<CryptoProvider>,
        context: &Context,
    ) -> Result<Self, TlsError> {
        let chain = match trust {
            None => None,
            Some(trust) => {
                let mut builder = WebPkiServerVerifier::builder_with_provider(trust.roots.clone(), provider.clone());
                if !trust.crls.is_empty() {
                    builder = builder.with_crls(trust.crls.iter().cloned()).enforce_revocation_expiration();
                }
                let webpki = builder.build().map_err(|error| match error {
                    VerifierBuilderError::InvalidCrl(source) => {
                        context.rejected("caCrl", &trust.crl_origin, Error::InvalidCertRevocationList(source))
                    }
                    error => context.content(trust.field, &trust.origin, error.to_string()),
                })?;
                // With a revocation list every certificate has to be judged by it, and webpki is who can.
                let itself = if trust.crls.is_empty() { trust.own.clone() } else { Arc::default() };
                Some(Chain { webpki, itself })
            }
        };
        Ok(Verifier { chain, names, authority: false, algorithms: provider.signature_verification_algorithms })
    }

    pub(super) fn with_authority(mut self, authority: bool) -> Self {
        self.authority = authority;
        self
    }

    fn verify_names(&self, certificate: &CertificateDer<'_>, server: &ServerName<'_>) -> Result<(), CertificateError> {
        if self.names.is_empty() && !self.authority {
            return Ok(());
        }
        let presented = alt_names(certificate)?;
        let texts = || presented.iter().map(AltName::text).collect::<Vec<_>>();
        if self.authority && !presented.iter().any(|name| name.serves(server)) {
            return Err(CertificateError::NotValidForNameContext { expected: server.to_owned(), presented: texts() });
        }
        if !self.names.is_empty() && !self.names.iter().any(|wanted| presented.iter().any(|name| name.is(wanted))) {
            let mismatch = NameMismatch { wanted: self.names.clone(), presented: texts() };
            return Err(CertificateError::Other(OtherError(Arc::new(mismatch))));
        }
        Ok(())
    }
}

impl Chain {
    fn verify(
        &self,
        certificate: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<(), Error> {
        if self.itself.iter().any(|own| own.as_ref() == certificate.as_ref())
            && let Some(judgement) = itself(certificate, now)
        {
            return judgement.map_err(Error::InvalidCertificate);
        }
        let any = ServerName::IpAddress(IpAddr::from(Ipv4Addr::UNSPECIFIED).into());
        match self.webpki.verify_server_cert(certificate, intermediates, &any, &[], now) {
            Ok(_) => Ok(()),
            Err(Error::InvalidCertificate(
                CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
            )) => Ok(()),
            Err(error) => Err(error),
        }
    }
}

/// The judgement on a trusted certificate that signed itself, which webpki refuses as a server's if it is an authority's.
/// None: it is not of that kind.
fn itself(certificate: &CertificateDer<'_>, now: UnixTime) -> Option<Result<(), CertificateError>> {
    let (_, parsed) = X509Certificate::from_der(certificate).ok()?;
    if parsed.subject() != parsed.issuer() || !parsed.is_ca() {
        return None;
    }
    let now = i64::try_from(now.as_secs()).unwrap_or(i64::MAX);
    let purpose = match parsed.extended_key_usage() {
        Ok(None) => true,
        Ok(Some(usage)) => usage.value.any || usage.value.server_auth,
        Err(_) => false,
    };
    Some(match parsed.validity() {
        validity if now < validity.not_before.timestamp() => Err(CertificateError::NotValidYet),
        validity if now > validity.not_after.timestamp() => Err(CertificateError::Expired),
        _ if !purpose => Err(CertificateError::InvalidPurpose),
        _ => Ok(()),
    })
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        if let Some(chain) = &self.chain {
            chain.verify(end_entity, intermediates, now)?;
            self.verify_names(end_entity, server_name).map_err(Error::InvalidCertificate)?;
        }
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, cert, dss, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, cert, dss, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}
