//! What can be wrong with a destination's TLS before a byte is sent.

use std::error::Error;
use std::sync::Arc;
use std::{fmt, io};

/// A destination's TLS cannot be set up: which destination, which field, what is wrong.
///
/// ```text
/// `outbound|443||pay.shop`: tls.caCertificates: cannot read `/etc/pay/ca.pem`: No such file or directory (os error 2)
/// ```
#[derive(Clone, Debug)]
pub struct TlsError {
    destination: Arc<str>,
    field: &'static str,
    problem: TlsProblem,
}

impl fmt::Display for TlsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}`: tls.{}: {}", self.destination, self.field, self.problem)
    }
}

impl Error for TlsError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.problem.source() // the problem itself has been said
    }
}

impl TlsError {
    /// The destination, as Istio names clusters.
    pub fn destination(&self) -> &str {
        &self.destination
    }

    /// The field of `trafficPolicy.tls`, such as `caCertificates`. For the mesh's own files, which no field names, `mode`.
    pub fn field(&self) -> &'static str {
        self.field
    }

    /// What is wrong.
    pub fn problem(&self) -> &TlsProblem {
        &self.problem
    }
}

/// What is wrong with a field.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TlsProblem {
    /// The mode needs the field.
    #[error("is needed for mode {mode}")]
    Missing {
        /// The mode.
        mode: &'static str,
    },
    /// A file cannot be read.
    #[error("cannot read `{path}`: {source}")]
    Unreadable {
        /// The file.
        path: String,
        /// Why.
        source: Arc<io::Error>,
    },
    /// The text does not hold what it should, in PEM.
    #[error("`{origin}`: {what}")]
    Content {
        /// The file, or the credential's name.
        origin: String,
        /// What there is instead.
        what: String,
    },
    /// rustls does not take what was read.
    #[error("`{origin}`: {source}")]
    Rejected {
        /// The file, or the credential's name.
        origin: String,
        /// Why.
        source: rustls::Error,
    },
    /// There is nobody to ask for a credential.
    #[error("`{name}` is a secret that the embedding program must provide, see `TlsOptions::with_credentials`")]
    NoCredentialSource {
        /// The credential.
        name: String,
    },
    /// The credential was asked for in vain.
    #[error("`{name}` was not provided: {source}")]
    NoCredential {
        /// The credential.
        name: String,
        /// What the source said.
        source: Arc<dyn Error + Send + Sync>,
    },
    /// The system has no authorities to trust.
    #[error("is not set, and the system has no authorities: {what}")]
    NoSystemRoots {
        /// What was met where they were looked for.
        what: String,
    },
    /// A name that TLS cannot send.
    #[error("`{name}` is neither an address nor a DNS name")]
    Name {
        /// The name.
        name: String,
    },
}

/// Whom an error is about.
#[derive(Clone, Debug)]
pub(super) struct Context {
    destination: Arc<str>,
}

impl Context {
    pub(super) fn new(destination: &str) -> Self {
        Context { destination: Arc::from(destination) }
    }

    pub(super) fn error(&self, field: &'static str, problem: TlsProblem) -> TlsError {
        TlsError { destination: self.destination.clone(), field, problem }
    }

    pub(super) fn rejected(&self, field: &'static str, origin: &str, source: rustls::Error) -> TlsError {
        self.error(field, TlsProblem::Rejected { origin: origin.to_owned(), source })
    }

    pub(super) fn content(&self, field: &'static str, origin: &str, what: impl Into<String>) -> TlsError {
        self.error(field, TlsProblem::Content { origin: origin.to_owned(), what: what.into() })
    }

    pub(super) fn name(&self, field: &'static str, name: &str) -> TlsError {
        self.error(field, TlsProblem::Name { name: name.to_owned() })
    }
}
