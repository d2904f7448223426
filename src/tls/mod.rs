//! TLS to upstreams: what a `DestinationRule`'s `tls` says, as a client configuration for rustls (feature `rustls`).
//!
//! A policy holds the intent ([`TlsIntent`]); this room reads the files that it names and makes of it what a TLS connector
//! takes: an `Arc<ClientConfig>` and a `ServerName`. It opens no socket. It does read files, and it takes the time from
//! rustls' `TimeProvider` ([`TlsOptions::with_time`]), so it is not of the deterministic core; nothing there knows it.
//!
//! # The rule
//!
//! | `mode` | we show | the upstream's chain is judged by | ALPN |
//! |---|---|---|---|
//! | no `tls`, `DISABLE` | – | – (no TLS: [`UpstreamTls::new`] gives none) | – |
//! | `SIMPLE` | nothing | `caCertificates`, else the system's authorities | as spoken: `http/1.1`, `h2` |
//! | `MUTUAL` | `clientCertificate`, `privateKey` | the same | the same |
//! | `ISTIO_MUTUAL` | the workload's own ([`WorkloadFiles`]) | the mesh's roots, there too | `istio-http/1.1` or `istio-h2`, then `istio`, then as spoken |
//!
//! - **Names** ([`TlsIntent::subject_alt_names`]). One of the list must be among the certificate's alternative names: DNS
//!   names (in any case; in the certificate, one `*` in the first label), URIs, addresses and mailboxes as they are
//!   written. The subject's common name is never looked at. The list is the rule's, else the service's
//!   ([`TlsOptions::with_service_names`]: the identities of a mesh service, a `ServiceEntry`'s `subjectAltNames`). An empty
//!   list is **no check of the name**, also with a set `sni` and also for `ISTIO_MUTUAL`: so Istio has it.
//! - **SNI**. As given; for `ISTIO_MUTUAL` else `outbound_.PORT_.SUBSET_.HOST`; else the request's authority without its
//!   port, after rewrites. In that last case, if the rule lists no names, the certificate must also be for that authority
//!   ([`TlsIntent::verify_authority`]). A connection without an authority (TCP) sends no SNI and checks no such name.
//! - **`insecureSkipVerify`**: neither chain nor names are judged; the handshake's signature is, so the peer has the key
//!   to the certificate it shows, whoever it may be. Never for `ISTIO_MUTUAL`.
//! - **`caCrl`**: every certificate of the chain needs a list of its issuer that is not past its date.
//! - **`credentialName`**: a secret is the embedder's to fetch ([`CredentialSource`]). It holds what the files would.
//! - **Versions**: TLS 1.2 and 1.3, with the ciphers of the crypto provider (ring unless [`TlsOptions::with_provider`]).
//!
//! Where it comes from: Istio's cluster TLS builder and ALPN filter for the settings, Envoy's default certificate validator
//! for the names.
//!
//! # Known differences
//! - Closed instead of open: `MUTUAL` without its files, and a `credentialName` that nobody provides, are errors here; a
//!   sidecar would log that and speak plaintext.
//! - `istio-peer-exchange` is not offered: who agrees on it must speak it.
//! - An address or a name that is no DNS name cannot be an SNI in rustls: an address sends none, another name is an error.
//! - What a chain is worth is webpki's judgement, not BoringSSL's: stricter on malformed certificates. An authority that
//!   shows itself is taken, as there, if just that certificate is in `caCertificates` (a lone self-signed server).
//! - No `tls` block is no TLS here. Istio's automatic mTLS depends on what an endpoint says of itself: an embedder that
//!   knows makes a `TlsIntent` of mode `ISTIO_MUTUAL` and calls [`UpstreamTls::from_intent`].
//!
//! # Cost
//! Files are read, and keys checked, once per [`UpstreamTls::new`]; the system's authorities once per [`TlsOptions`] and its
//! clones. [`UpstreamTls::session`] copies a pointer and parses a name. To take up renewed files, make it anew; sessions of
//! another `UpstreamTls` are not resumed.
//!
//! # Example
//!
//! ```no_run
//! use pointsman::policy::Destination;
//! use pointsman::tls::{Spoken, TlsError, TlsFailure, TlsOptions, UpstreamTls};
//!
//! fn connector(destination: &Destination) -> Result<Option<UpstreamTls>, TlsError> {
//!     let options = TlsOptions::new().with_service_names("pay.shop.svc.cluster.local", ["spiffe://mesh/ns/shop/sa/pay"]);
//!     UpstreamTls::new(destination, &options) // once per destination and policy
//! }
//!
//! fn connect(tls: &UpstreamTls, authority: &str) -> Result<rustls::ClientConnection, Box<dyn std::error::Error>> {
//!     let session = tls.session(Some(authority), Spoken::Http2)?; // once per connection
//!     Ok(rustls::ClientConnection::new(session.config, session.server_name)?)
//! }
//!
//! fn why(error: &std::io::Error) -> String {
//!     match TlsFailure::find(error) {
//!         Some(reason) => format!("UF, {}", reason.code()), // such as `certificate_expired`
//!         None => "UF".to_owned(),
//!     }
//! }
//! ```

mod error;
mod failure;
mod material;
mod names;
mod options;
mod verify;

pub use error::{TlsError, TlsProblem};
pub use failure::{NameMismatch, TlsFailure};
pub use options::{Credential, CredentialSource, TlsOptions, WorkloadFiles};

use crate::policy::{Destination, TlsIntent, TlsMode};
use error::Context;
use material::Material;
use rustls::ClientConfig;
use rustls::client::Resumption;
use rustls::pki_types::ServerName;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use verify::Verifier;

/// What goes over a connection once TLS stands: it decides what ALPN offers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Spoken {
    /// HTTP/1.1.
    Http1,
    /// HTTP/2.
    Http2,
    /// Bytes: TCP and TLS routes.
    Opaque,
}

/// One destination's TLS, ready for connections.
#[derive(Clone, Debug)]
pub struct UpstreamTls {
    context: Context,
    sni: Option<ServerName<'static>>,
    named: Offers,
    /// For connections that have no name to send: they check no authority, and share no session with those that do.
    /// None if the rule sets the name.
    nameless: Option<Offers>,
}

/// What a TLS connector needs for one connection: `ClientConnection::new(config, server_name)`.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct TlsSession {
    /// The destination's configuration; the same for all its connections that speak the same.
    pub config: Arc<ClientConfig>,
    /// The name that is sent, and that sessions are resumed by.
    pub server_name: ServerName<'static>,
}

impl UpstreamTls {
    /// The TLS of a destination; none if it is spoken to in plaintext.
    ///
    /// # Errors
    /// A file that cannot be read or holds something else than it should, a key that is not the certificate's, a field that
    /// the mode needs, a credential that nobody provides. Nobody should fall back to plaintext on it.
    pub fn new(destination: &Destination, options: &TlsOptions) -> Result<Option<Self>, TlsError> {
        match &destination.tls {
            Some(intent) => Self::of(&destination.name, Some(&destination.cluster.host), intent, options),
            None => Ok(None),
        }
    }

    /// The TLS of an intent that an embedder made; `destination` is for messages alone.
    ///
    /// # Errors
    /// As [`new`](Self::new).
    pub fn from_intent(destination: &str, intent: &TlsIntent, options: &TlsOptions) -> Result<Option<Self>, TlsError> {
        Self::of(destination, None, intent, options)
    }

    fn of(
        destination: &str,
        host: Option<&str>,
        intent: &TlsIntent,
        options: &TlsOptions,
    ) -> Result<Option<Self>, TlsError> {
        let context = Context::new(destination);
        if intent.mode == TlsMode::Disable {
            return Ok(None);
        }
        let istio = intent.mode == TlsMode::IstioMutual;
        let skip = intent.insecure_skip_verify && !istio;
        let material = Material::load(intent, skip, options, &context)?;
        let sni = match &intent.sni {
            Some(name) => Some(server_name(name).ok_or_else(|| context.name("sni", name))?),
            None => None,
        };
        let names = match () {
            () if skip => Vec::new(),
            () if !intent.subject_alt_names.is_empty() => intent.subject_alt_names.clone(),
            () => host.map(|host| options.service_names(host)).unwrap_or_default().to_vec(),
        };
        let verifier = Verifier::new(material.trust.as_ref(), names, &options.provider, &context)?;
        // The name that is sent is only a name to check when it is the request's own.
        let authority = intent.verify_authority && sni.is_none() && !skip;
        // Sessions are kept by name: one needs no room for many.
        let sessions = if sni.is_some() { 8 } else { 256 };
        let config = |authority: bool| {
            let builder = ClientConfig::builder_with_details(options.provider.clone(), options.time.clone())
                .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])
                .map_err(|source| context.rejected("mode", "the crypto provider", source))?
                .dangerous() // what rustls calls a verifier of one's own
                .with_custom_certificate_verifier(Arc::new(verifier.clone().with_authority(authority)));
            let mut config = match &material.identity {
                Some(identity) => builder
                    .with_client_auth_cert(identity.chain.clone(), identity.key.clone_key())
                    .map_err(|source| context.rejected(identity.field, &identity.origin, source))?,
                None => builder.with_no_client_auth(),
            };
            config.resumption = Resumption::in_memory_sessions(sessions);
            Ok(Offers::new(&config, istio))
        };
        let named = config(authority)?;
        let nameless = if sni.is_none() { Some(config(false)?) } else { None };
        Ok(Some(UpstreamTls { sni, named, nameless, context }))
    }

    /// What a connection takes. `authority` is that of the request as it is sent (after rewrites; a port is left aside);
    /// it is used when the rule sets no `sni`. None for connections that have none (TCP): no SNI is sent then, and there is
    /// no authority for the certificate to be checked against.
    ///
    /// A connection may be kept for other requests of the destination; of the same authority only, if
    /// [`per_authority`](Self::per_authority).
    ///
    /// # Errors
    /// The authority is neither an address nor a DNS name.
    pub fn session(&self, authority: Option<&str>, spoken: Spoken) -> Result<TlsSession, TlsError> {
        let (offers, server_name) = match (&self.sni, &self.nameless, authority) {
            (Some(sni), ..) => (&self.named, sni.clone()),
            // rustls wants a name; it sends none that is an address.
            (None, Some(nameless), None) => {
                (nameless, ServerName::IpAddress(IpAddr::from(Ipv4Addr::UNSPECIFIED).into()))
            }
            (None, _, authority) => {
                let authority = authority.unwrap_or_default();
                let name = server_name(host_of(authority)).ok_or_else(|| self.context.name("sni", authority))?;
                (&self.named, name)
            }
        };
        Ok(TlsSession { config: offers.get(spoken).clone(), server_name })
    }

    /// Does a connection belong to the authority it was made for (no `sni` is set)?
    pub fn per_authority(&self) -> bool {
        self.sni.is_none()
    }
}

/// One configuration for each thing that can be spoken.
#[derive(Clone, Debug)]
struct Offers {
    http1: Arc<ClientConfig>,
    http2: Arc<ClientConfig>,
    opaque: Arc<ClientConfig>,
}

impl Offers {
    fn new(config: &ClientConfig, istio: bool) -> Self {
        let offer = |protocols: [&[u8]; 3]| {
            let mut config = config.clone();
            config.alpn_protocols = protocols.into_iter().filter(|name| !name.is_empty()).map(<[u8]>::to_vec).collect();
            Arc::new(config)
        };
        if istio {
            Offers {
                http1: offer([b"istio-http/1.1", b"istio", b"http/1.1"]),
                http2: offer([b"istio-h2", b"istio", b"h2"]),
                opaque: offer([b"istio", b"", b""]),
            }
        } else {
            Offers {
                http1: offer([b"http/1.1", b"", b""]),
                http2: offer([b"h2", b"", b""]),
                opaque: offer([b"", b"", b""]),
            }
        }
    }

    fn get(&self, spoken: Spoken) -> &Arc<ClientConfig> {
        match spoken {
            Spoken::Http1 => &self.http1,
            Spoken::Http2 => &self.http2,
            Spoken::Opaque => &self.opaque,
        }
    }
}

fn server_name(name: &str) -> Option<ServerName<'static>> {
    ServerName::try_from(name.to_owned()).ok()
}

/// An authority without its port, an IPv6 address without its brackets.
fn host_of(authority: &str) -> &str {
    if let Some((address, _)) = authority.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        return address;
    }
    match authority.split_once(':') {
        Some((host, port)) if !port.contains(':') => host,
        _ => authority,
    }
}
