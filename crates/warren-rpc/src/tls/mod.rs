//! How nodes prove to each other that they are of one cluster, and keep others from listening: mutual TLS 1.3 with
//! an authority that every holder of the cluster's secret can derive, or with certificates that were given.
//!
//! Before: `dial` and `serve`, which open sockets. It knows no message, only who may exchange any.

mod connect;
mod files;
mod keys;
mod secret;
mod stream;
mod verify;

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use parking_lot::RwLock;

pub use files::{FileError, read_authorities, read_certificates, read_key, read_small};
pub use secret::{SECRET_MIN_BYTES, SecretError, Secrets};

pub(crate) use connect::{OpenError, Refusal, accept, cause, open};
pub(crate) use stream::Wire;

use keys::Keys;

use crate::network::Network;

/// What a node proves itself with.
#[derive(Clone, PartialEq, Eq)]
pub enum Credentials {
    /// Nothing: whoever reaches the cluster port is believed.
    None,
    /// A secret that all nodes know.
    Secret(Secrets),
    /// The same in a file that may change while the node runs: a secret a line, the first is the one to show, all are
    /// accepted.
    SecretFile(PathBuf),
    /// A certificate of an authority that makes certificates for nodes of this cluster only, all in PEM files that may
    /// change while the node runs.
    Certificate {
        /// The node's certificate, and those between it and the authority.
        certificate: PathBuf,
        /// Its key.
        key: PathBuf,
        /// The authority, or several.
        authority: PathBuf,
    },
}

impl Credentials {
    /// Reads the files as a start would. Blocks.
    ///
    /// # Errors
    /// [`SecurityError`]: a node could not start with them.
    pub fn check(&self) -> Result<(), SecurityError> {
        match self {
            Self::None | Self::Secret(_) => Ok(()),
            Self::SecretFile(path) => Secrets::parse(&read_small(path)?)
                .map(drop)
                .map_err(|error| SecurityError::SecretFile { path: path.clone(), error }),
            Self::Certificate { .. } => Keys::load(self, Encryption::Always, None).map(drop),
        }
    }
}

/// Never shows a secret.
impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::None => f.write_str("None"),
            Self::Secret(_) => f.write_str("Secret"),
            Self::SecretFile(path) => f.debug_tuple("SecretFile").field(path).finish(),
            Self::Certificate { certificate, .. } => f.debug_tuple("Certificate").field(certificate).finish(),
        }
    }
}

/// What happens on a connection between nodes after both have proved who they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Encryption {
    /// Everything is encrypted. Wins when only one of two nodes wants it.
    Always,
    /// The connection goes on in plain: for a network in which nobody listens or meddles.
    ProofOnly,
}

/// Why a node cannot prove itself.
#[derive(Debug, thiserror::Error)]
pub enum SecurityError {
    /// A file is not as it must be.
    #[error(transparent)]
    File(#[from] FileError),
    /// A secret is not usable.
    #[error(transparent)]
    Secret(#[from] SecretError),
    /// The secret's file is not usable.
    #[error("{}: {error}", path.display())]
    SecretFile {
        /// The file.
        path: PathBuf,
        /// Why.
        error: SecretError,
    },
    /// Certificate and key make no identity.
    #[error("the cluster's certificate and key cannot be used: {0}")]
    Keys(String),
}

/// A node's proof and what it accepts as one. A cheap handle; connections use what holds when they are opened.
#[derive(Clone)]
pub struct Security(Arc<Inner>);

struct Inner {
    credentials: Credentials,
    encryption: Encryption,
    /// `None`: plain.
    current: RwLock<Option<Arc<Keys>>>,
    /// `None`: the system's.
    network: Option<Arc<dyn Network>>,
}

impl Security {
    /// Without any proof.
    #[must_use]
    pub fn plain() -> Self {
        let inner = Inner {
            credentials: Credentials::None,
            encryption: Encryption::Always,
            current: RwLock::new(None),
            network: None,
        };
        Self(Arc::new(inner))
    }

    /// Without any proof, over another network than the system's.
    #[must_use]
    pub fn over(network: Arc<dyn Network>) -> Self {
        let inner = Inner {
            credentials: Credentials::None,
            encryption: Encryption::Always,
            current: RwLock::new(None),
            network: Some(network),
        };
        Self(Arc::new(inner))
    }

    /// Reads the credentials. Blocks: files are read, and a secret takes a moment to become keys.
    ///
    /// # Errors
    /// [`SecurityError`]: a file or a secret cannot be used.
    pub fn load(credentials: Credentials, encryption: Encryption) -> Result<Self, SecurityError> {
        let keys = Keys::load(&credentials, encryption, None)?;
        let current = RwLock::new(keys.map(Arc::new));
        Ok(Self(Arc::new(Inner { credentials, encryption, current, network: None })))
    }

    /// Reads the files again; connections that are opened from now on use what they say. True when that is something
    /// new. Blocks.
    ///
    /// # Errors
    /// [`SecurityError`]: everything stays as it was.
    pub fn reload(&self) -> Result<bool, SecurityError> {
        let known = self.keys();
        let Some(keys) = Keys::load(&self.0.credentials, self.0.encryption, known.as_deref())? else {
            return Ok(false);
        };
        *self.0.current.write() = Some(Arc::new(keys));
        Ok(true)
    }

    /// Whether peers have to prove themselves.
    #[must_use]
    pub fn is_proved(&self) -> bool {
        self.0.current.read().is_some()
    }

    pub(crate) fn network(&self) -> Option<&Arc<dyn Network>> {
        self.0.network.as_ref()
    }

    pub(crate) fn keys(&self) -> Option<Arc<Keys>> {
        self.0.current.read().clone()
    }
}

impl fmt::Debug for Security {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Security").field(&self.0.credentials).finish()
    }
}
