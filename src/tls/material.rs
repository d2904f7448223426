//! Certificates, keys and lists: read, and turned from PEM into what rustls takes.

use super::error::{Context, TlsError, TlsProblem};
use super::options::{Credential, TlsOptions};
use crate::policy::{TlsIntent, TlsMode};
use rustls::RootCertStore;
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, CertificateRevocationListDer, PrivateKeyDer};
use std::path::Path;
use std::sync::Arc;

/// All that an intent names.
pub(super) struct Material {
    /// What we show.
    pub(super) identity: Option<Identity>,
    /// What we trust. None: nothing is verified.
    pub(super) trust: Option<Trust>,
}

pub(super) struct Identity {
    pub(super) chain: Vec<CertificateDer<'static>>,
    pub(super) key: PrivateKeyDer<'static>,
    /// Where the key is from.
    pub(super) field: &'static str,
    pub(super) origin: String,
}

pub(super) struct Trust {
    pub(super) roots: Arc<RootCertStore>,
    /// The authorities, if a rule names them rather than the system.
    pub(super) own: Arc<[CertificateDer<'static>]>,
    pub(super) crls: Vec<CertificateRevocationListDer<'static>>,
    pub(super) field: &'static str,
    pub(super) origin: String,
    pub(super) crl_origin: String,
}

/// A text in PEM, and where it is from.
struct Text {
    field: &'static str,
    origin: String,
    bytes: Vec<u8>,
}

impl Material {
    pub(super) fn load(
        intent: &TlsIntent,
        skip: bool,
        options: &TlsOptions,
        context: &Context,
    ) -> Result<Self, TlsError> {
        if intent.mode == TlsMode::IstioMutual {
            let files = &options.workload;
            let identity = Identity::new(
                &Text::of_path("mode", &files.certificate_chain, context)?,
                &Text::of_path("mode", &files.private_key, context)?,
                context,
            )?;
            let trust = Trust::new(&Text::of_path("mode", &files.roots, context)?, None, context)?;
            return Ok(Material { identity: Some(identity), trust: Some(trust) });
        }
        let mutual = intent.mode == TlsMode::Mutual;
        if let Some(name) = &intent.credential_name {
            return Self::of_credential(name, mutual, skip, options, context);
        }
        let file = |field, path: &Option<String>| match path {
            Some(path) => Text::of_path(field, Path::new(path), context).map(Some),
            None => Ok(None),
        };
        let missing = |field| context.error(field, TlsProblem::Missing { mode: "MUTUAL" });
        let identity = if mutual {
            let chain = file("clientCertificate", &intent.client_certificate)?;
            let key = file("privateKey", &intent.private_key)?;
            let chain = chain.ok_or_else(|| missing("clientCertificate"))?;
            Some(Identity::new(&chain, &key.ok_or_else(|| missing("privateKey"))?, context)?)
        } else {
            None
        };
        let trust = if skip {
            None
        } else {
            let crl = file("caCrl", &intent.ca_crl)?;
            Some(match file("caCertificates", &intent.ca_certificates)? {
                Some(authorities) => Trust::new(&authorities, crl.as_ref(), context)?,
                None => Trust::of_system(crl.as_ref(), options, context)?,
            })
        };
        Ok(Material { identity, trust })
    }

    fn of_credential(
        name: &str,
        mutual: bool,
        skip: bool,
        options: &TlsOptions,
        context: &Context,
    ) -> Result<Self, TlsError> {
        const FIELD: &str = "credentialName";
        let Some(source) = &options.credentials else {
            return Err(context.error(FIELD, TlsProblem::NoCredentialSource { name: name.to_owned() }));
        };
        let Credential { certificate_chain, private_key, authorities, revocation_lists } =
            source.0.credential(name).map_err(|source| {
                context.error(FIELD, TlsProblem::NoCredential { name: name.to_owned(), source: Arc::from(source) })
            })?;
        let text = |bytes: Vec<u8>| Text { field: FIELD, origin: name.to_owned(), bytes };
        let part = |part: Option<Vec<u8>>, what| {
            part.map(text).ok_or_else(|| context.content(FIELD, name, format!("it has no {what}")))
        };
        let identity = if mutual {
            let chain = part(certificate_chain, "certificate, which mode MUTUAL needs")?;
            Some(Identity::new(&chain, &part(private_key, "private key, which mode MUTUAL needs")?, context)?)
        } else {
            None
        };
        let trust = if skip {
            None
        } else {
            let authorities = part(authorities, "authorities to verify the upstream by")?;
            Some(Trust::new(&authorities, revocation_lists.map(text).as_ref(), context)?)
        };
        Ok(Material { identity, trust })
    }
}

impl Identity {
    fn new(chain: &Text, key: &Text, context: &Context) -> Result<Self, TlsError> {
        let chain = chain.all("certificate", context)?;
        let parsed = PrivateKeyDer::from_pem_slice(&key.bytes).map_err(|error| {
            let what = match error {
                pem::Error::NoItemsFound => "no private key in it".to_owned(),
                error => format!("bad PEM: {error}"),
            };
            context.content(key.field, &key.origin, what)
        })?;
        Ok(Identity { chain, key: parsed, field: key.field, origin: key.origin.clone() })
    }
}

impl Trust {
    fn new(authorities: &Text, crl: Option<&Text>, context: &Context) -> Result<Self, TlsError> {
        let own: Vec<CertificateDer<'static>> = authorities.all("certificate", context)?;
        let mut roots = RootCertStore::empty();
        for certificate in &own {
            roots
                .add(certificate.clone())
                .map_err(|source| context.rejected(authorities.field, &authorities.origin, source))?;
        }
        let (field, origin) = (authorities.field, authorities.origin.clone());
        Self { roots: Arc::new(roots), own: own.into(), field, origin, ..Self::empty() }.with_crl(crl, context)
    }

    fn of_system(crl: Option<&Text>, options: &TlsOptions, context: &Context) -> Result<Self, TlsError> {
        let roots = options
            .system_roots()
            .map_err(|what| context.error("caCertificates", TlsProblem::NoSystemRoots { what }))?;
        Self { roots, origin: "the system's authorities".to_owned(), ..Self::empty() }.with_crl(crl, context)
    }

    fn empty() -> Self {
        Trust {
            roots: Arc::new(RootCertStore::empty()),
            own: Arc::default(),
            crls: Vec::new(),
            field: "caCertificates",
            origin: String::new(),
            crl_origin: String::new(),
        }
    }

    fn with_crl(mut self, crl: Option<&Text>, context: &Context) -> Result<Self, TlsError> {
        if let Some(crl) = crl {
            self.crls = crl.all("revocation list", context)?;
            self.crl_origin.clone_from(&crl.origin);
        }
        Ok(self)
    }
}

impl Text {
    fn of_path(field: &'static str, path: &Path, context: &Context) -> Result<Self, TlsError> {
        let origin = path.display().to_string();
        match std::fs::read(path) {
            Ok(bytes) => Ok(Text { field, origin, bytes }),
            Err(source) => Err(context.error(field, TlsProblem::Unreadable { path: origin, source: Arc::new(source) })),
        }
    }

    /// All objects of a kind; there must be one.
    fn all<T: PemObject>(&self, kind: &str, context: &Context) -> Result<Vec<T>, TlsError> {
        let found: Result<Vec<T>, _> = T::pem_slice_iter(&self.bytes).collect();
        match found {
            Err(error) => Err(context.content(self.field, &self.origin, format!("bad PEM: {error}"))),
            Ok(found) if found.is_empty() => Err(context.content(self.field, &self.origin, format!("no {kind} in it"))),
            Ok(found) => Ok(found),
        }
    }
}
