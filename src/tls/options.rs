//! What a `DestinationRule` leaves to whoever runs it: where the workload's own certificate is, who provides secrets, whom
//! the system trusts, what time it is.

use rustls::RootCertStore;
use rustls::crypto::CryptoProvider;
use rustls::time_provider::{DefaultTimeProvider, TimeProvider};
use std::collections::BTreeMap;
use std::error::Error;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

/// What all destinations of a program share. Clones share what they have read.
#[derive(Clone, Debug)]
pub struct TlsOptions {
    pub(super) provider: Arc<CryptoProvider>,
    pub(super) time: Arc<dyn TimeProvider>,
    pub(super) workload: WorkloadFiles,
    pub(super) credentials: Option<Credentials>,
    service_names: BTreeMap<String, Vec<String>>,
    system_roots: Arc<OnceLock<Result<Arc<RootCertStore>, String>>>,
}

impl TlsOptions {
    /// ring, the system's clock and authorities, the workload's files where Istio puts them, no secrets, no service names.
    pub fn new() -> Self {
        TlsOptions {
            provider: Arc::new(rustls::crypto::ring::default_provider()),
            time: Arc::new(DefaultTimeProvider),
            workload: WorkloadFiles::default(),
            credentials: None,
            service_names: BTreeMap::new(),
            system_roots: Arc::default(),
        }
    }

    /// Cryptography of another kind than ring's.
    #[must_use]
    pub fn with_provider(mut self, provider: Arc<CryptoProvider>) -> Self {
        self.provider = provider;
        self
    }

    /// The time that certificates are judged at, for tests and simulations.
    #[must_use]
    pub fn with_time(mut self, time: Arc<dyn TimeProvider>) -> Self {
        self.time = time;
        self
    }

    /// The workload's own certificate, for `ISTIO_MUTUAL`.
    #[must_use]
    pub fn with_workload(mut self, files: WorkloadFiles) -> Self {
        self.workload = files;
        self
    }

    /// Who provides what a `credentialName` names.
    #[must_use]
    pub fn with_credentials(mut self, source: impl CredentialSource + 'static) -> Self {
        self.credentials = Some(Credentials(Arc::new(source)));
        self
    }

    /// Names of which the certificates of a service must have one, where its rule lists none: a mesh service's identities
    /// (`spiffe://cluster.local/ns/shop/sa/pay`), or a `ServiceEntry`'s `subjectAltNames`. `host` is the service's full host.
    #[must_use]
    pub fn with_service_names<N: Into<String>>(
        mut self,
        host: impl Into<String>,
        names: impl IntoIterator<Item = N>,
    ) -> Self {
        self.service_names.insert(host.into(), names.into_iter().map(Into::into).collect());
        self
    }

    /// The authorities that are trusted where a rule names no file, instead of the system's.
    #[must_use]
    pub fn with_system_roots(mut self, roots: RootCertStore) -> Self {
        self.system_roots = Arc::new(OnceLock::from(Ok(Arc::new(roots))));
        self
    }

    pub(super) fn service_names(&self, host: &str) -> &[String] {
        self.service_names.get(host).map(Vec::as_slice).unwrap_or_default()
    }

    /// The system's authorities, read when first asked for.
    pub(super) fn system_roots(&self) -> Result<Arc<RootCertStore>, String> {
        self.system_roots
            .get_or_init(|| {
                let found = rustls_native_certs::load_native_certs();
                let mut roots = RootCertStore::empty();
                // Every system has some that webpki cannot read; they are nobody's who is met.
                roots.add_parsable_certificates(found.certs);
                if !roots.is_empty() {
                    return Ok(Arc::new(roots));
                }
                let met: Vec<String> = found.errors.iter().map(ToString::to_string).collect();
                Err(if met.is_empty() { "none were found".to_owned() } else { met.join("; ") })
            })
            .clone()
    }
}

impl Default for TlsOptions {
    fn default() -> Self {
        Self::new()
    }
}

/// The files of a workload's own certificate, PEM each. By default Istio's: `cert-chain.pem`, `key.pem` and `root-cert.pem`
/// in `/etc/certs`.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct WorkloadFiles {
    /// The certificate and those between it and the root, its own first.
    pub certificate_chain: PathBuf,
    /// The certificate's key.
    pub private_key: PathBuf,
    /// The mesh's roots.
    pub roots: PathBuf,
}

impl WorkloadFiles {
    /// The files under Istio's names in a directory (what `OUTPUT_CERTS` names, for one).
    pub fn in_directory(directory: impl AsRef<Path>) -> Self {
        let file = |name| directory.as_ref().join(name);
        WorkloadFiles {
            certificate_chain: file("cert-chain.pem"),
            private_key: file("key.pem"),
            roots: file("root-cert.pem"),
        }
    }
}

impl Default for WorkloadFiles {
    fn default() -> Self {
        WorkloadFiles::in_directory("/etc/certs")
    }
}

/// Provides what a `credentialName` names: a Kubernetes secret, say. A closure is one.
///
/// It is asked while a destination is set up, and may take its time; `name` is as the rule has it, a `configmap://` before it
/// included.
pub trait CredentialSource: Send + Sync {
    /// The credential, or why there is none.
    ///
    /// # Errors
    /// Whatever the source has to say.
    fn credential(&self, name: &str) -> Result<Credential, Box<dyn Error + Send + Sync>>;
}

impl<F> CredentialSource for F
where
    F: Fn(&str) -> Result<Credential, Box<dyn Error + Send + Sync>> + Send + Sync,
{
    fn credential(&self, name: &str) -> Result<Credential, Box<dyn Error + Send + Sync>> {
        self(name)
    }
}

#[derive(Clone)]
pub(super) struct Credentials(pub(super) Arc<dyn CredentialSource>);

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Credentials(..)")
    }
}

/// What a secret holds, in PEM. `MUTUAL` needs certificate and key; unless nothing is verified, the authorities are needed:
/// for a secret, the system's do not stand in.
#[derive(Clone, Default)]
#[non_exhaustive]
pub struct Credential {
    /// Our certificate and those between it and its root (`tls.crt`, `cert`).
    pub certificate_chain: Option<Vec<u8>>,
    /// Its key (`tls.key`, `key`).
    pub private_key: Option<Vec<u8>>,
    /// The authorities (`ca.crt`, `cacert`).
    pub authorities: Option<Vec<u8>>,
    /// Revocation lists (`ca.crl`, `crl`).
    pub revocation_lists: Option<Vec<u8>>,
}

impl Credential {
    /// One that holds nothing.
    pub fn new() -> Self {
        Self::default()
    }

    /// With our certificate and its key.
    #[must_use]
    pub fn with_certificate(mut self, chain: impl Into<Vec<u8>>, key: impl Into<Vec<u8>>) -> Self {
        self.certificate_chain = Some(chain.into());
        self.private_key = Some(key.into());
        self
    }

    /// With the authorities that are trusted.
    #[must_use]
    pub fn with_authorities(mut self, authorities: impl Into<Vec<u8>>) -> Self {
        self.authorities = Some(authorities.into());
        self
    }

    /// With lists of what is revoked.
    #[must_use]
    pub fn with_revocation_lists(mut self, lists: impl Into<Vec<u8>>) -> Self {
        self.revocation_lists = Some(lists.into());
        self
    }
}

/// Tells what there is, and none of it.
impl fmt::Debug for Credential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credential")
            .field("certificate_chain", &self.certificate_chain.is_some())
            .field("private_key", &self.private_key.is_some())
            .field("authorities", &self.authorities.is_some())
            .field("revocation_lists", &self.revocation_lists.is_some())
            .finish()
    }
}
