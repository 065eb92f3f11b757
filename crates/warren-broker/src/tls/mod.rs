//! TLS for clients, of AMQP and of HTTP: certificates from files that may change while the node runs, bounded
//! handshakes, and what is known of a client by its certificate. Knows no frame and no request.

mod certificate;

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::RwLock;
use rustls::server::WebPkiClientVerifier;
use rustls::{ProtocolVersion, ServerConfig};
use tokio::io::AsyncRead;
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;
pub use tokio_rustls::server::TlsStream;
use warren_proto::operate;
use warren_rpc::tls::{FileError, read_authorities, read_certificates, read_key, read_small};

pub use certificate::{Certificate, Subject};

/// The first octet of a TLS handshake.
const TLS_HANDSHAKE: u8 = 0x16;

/// Whether clients are asked for certificates.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClientCertificates {
    /// They are not.
    NotAsked,
    /// A client may show one; it must then be by the authority.
    Optional,
    /// A client without one is refused.
    Required,
}

/// The files of a TLS listener.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsFiles {
    /// The server's certificate and those between it and its authority (PEM).
    pub certificate: PathBuf,
    /// Its key (PEM).
    pub key: PathBuf,
    /// Whose clients' certificates are accepted (PEM); needed when clients are asked.
    pub authority: Option<PathBuf>,
    /// Whether clients are asked.
    pub clients: ClientCertificates,
}

/// Why a listener's TLS cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file is not as it must be.
    #[error(transparent)]
    File(#[from] FileError),
    /// The files do not go together.
    #[error("{}: certificate and key cannot be used: {reason}", certificate.display())]
    Unusable {
        /// The certificate's file.
        certificate: PathBuf,
        /// Why.
        reason: String,
    },
}

/// Why a client's handshake failed; for the log.
#[derive(Debug, thiserror::Error)]
pub enum HandshakeError {
    /// It closed before it said anything, as port scanners and health checks do.
    #[error("closed without a word")]
    Closed,
    /// It took too long.
    #[error("the handshake took longer than {} ms", .0.as_millis())]
    TooSlow(Duration),
    /// It does not speak TLS.
    #[error("the client does not speak TLS, which this port expects")]
    NoTls,
    /// It speaks TLS in a way that is refused.
    #[error("{0}")]
    Refused(io::Error),
}

/// When a listener's certificates run out, as `2027-01-31T00:00:00Z`, and the files that they are in.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Expiries {
    /// The server's certificate and those between it and its authority.
    pub certificate: (PathBuf, Vec<String>),
    /// The authority for clients' certificates, if they are asked.
    pub authority: Option<(PathBuf, Vec<String>)>,
}

/// A listener's TLS. A cheap handle; each handshake uses what the files said last.
#[derive(Clone)]
pub struct ServerTls(Arc<Inner>);

struct Inner {
    files: TlsFiles,
    current: RwLock<(Vec<Vec<u8>>, Arc<ServerConfig>)>,
}

impl std::fmt::Debug for ServerTls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("ServerTls").field(&self.0.files).finish()
    }
}

impl ServerTls {
    /// Reads the files. Blocks.
    ///
    /// # Errors
    /// [`TlsError`]: they cannot be used.
    pub fn load(files: TlsFiles) -> Result<Self, TlsError> {
        let texts = read(&files)?;
        let config = Arc::new(configure(&files, &texts)?);
        Ok(Self(Arc::new(Inner { files, current: RwLock::new((texts, config)) })))
    }

    /// Reads the files again; handshakes from now on use what they say. True when that is something new. Blocks.
    ///
    /// # Errors
    /// [`TlsError`]: everything stays as it was.
    pub fn reload(&self) -> Result<bool, TlsError> {
        let texts = read(&self.0.files)?;
        if self.0.current.read().0 == texts {
            return Ok(false);
        }
        let config = Arc::new(configure(&self.0.files, &texts)?);
        *self.0.current.write() = (texts, config);
        Ok(true)
    }

    /// When what it uses now runs out.
    #[must_use]
    pub fn expiries(&self) -> Expiries {
        let current = self.0.current.read();
        let of = |path: &PathBuf, number: usize| {
            let text = current.0.get(number).map(Vec::as_slice).unwrap_or_default();
            // They were read before: else there were no listener.
            let certificates = read_certificates(path, text).unwrap_or_default();
            let parsed = certificates.iter().filter_map(|der| Certificate::parse(der));
            (path.clone(), parsed.map(|certificate| certificate.expires).collect())
        };
        Expiries {
            certificate: of(&self.0.files.certificate, 0),
            authority: self.0.files.authority.as_ref().map(|path| of(path, 2)),
        }
    }

    /// The server's side of a handshake.
    ///
    /// # Errors
    /// [`HandshakeError`]; the connection is closed then.
    pub async fn accept(
        &self,
        stream: TcpStream,
        patience: Duration,
    ) -> Result<TlsStream<TcpStream>, HandshakeError> {
        let accepting = async {
            let mut first = [0];
            let count = stream.peek(&mut first).await.map_err(HandshakeError::Refused)?;
            match (count, first) {
                (0, _) => return Err(HandshakeError::Closed),
                (_, [TLS_HANDSHAKE]) => {}
                (_, _) => return Err(HandshakeError::NoTls),
            }
            let config = Arc::clone(&self.0.current.read().1);
            TlsAcceptor::from(config).accept(stream).await.map_err(HandshakeError::Refused)
        };
        tokio::time::timeout(patience, accepting).await.unwrap_or(Err(HandshakeError::TooSlow(patience)))
    }
}

fn read(files: &TlsFiles) -> Result<Vec<Vec<u8>>, FileError> {
    [Some(&files.certificate), Some(&files.key), files.authority.as_ref()]
        .into_iter()
        .flatten()
        .map(|path| read_small(path))
        .collect()
}

fn configure(files: &TlsFiles, texts: &[Vec<u8>]) -> Result<ServerConfig, TlsError> {
    let text = |number: usize| texts.get(number).map(Vec::as_slice).unwrap_or_default();
    let unusable = |reason: &dyn ToString| TlsError::Unusable {
        certificate: files.certificate.clone(),
        reason: reason.to_string(),
    };
    let chain = read_certificates(&files.certificate, text(0))?;
    let key = read_key(&files.key, text(1))?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(|error| unusable(&error))?;
    let asked = match (files.clients, &files.authority) {
        (ClientCertificates::NotAsked, _) => None,
        (ClientCertificates::Optional | ClientCertificates::Required, Some(path)) => {
            Some(read_authorities(path, text(2))?)
        }
        (ClientCertificates::Optional | ClientCertificates::Required, None) => {
            return Err(unusable(&"clients are asked for certificates, but of which authority is not said"));
        }
    };
    let builder = match asked {
        None => builder.with_no_client_auth(),
        Some(roots) => {
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
            let verifier = match files.clients {
                ClientCertificates::Required => verifier,
                ClientCertificates::NotAsked | ClientCertificates::Optional => {
                    verifier.allow_unauthenticated()
                }
            };
            builder.with_client_cert_verifier(verifier.build().map_err(|error| unusable(&error))?)
        }
    };
    builder.with_single_cert(chain, key).map_err(|error| unusable(&error))
}

/// What a handshake tells of a connection, in RabbitMQ's words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsInfo {
    /// `tlsv1.2` or `tlsv1.3`.
    pub protocol: &'static str,
    /// `ecdhe_rsa`, or `any` where the cipher suite does not say.
    pub key_exchange: String,
    /// `aes_256_gcm`.
    pub cipher: String,
    /// `sha384`.
    pub hash: String,
    /// The client's certificate, if it has shown one.
    pub peer: Option<Certificate>,
}

impl TlsInfo {
    /// As it is listed.
    pub(crate) fn shown(&self) -> operate::TlsInfo {
        let certificate = |peer: &Certificate| operate::PeerCertificate {
            subject: peer.subject.distinguished_name(),
            issuer: peer.issuer.distinguished_name(),
            validity: peer.validity.clone(),
        };
        operate::TlsInfo {
            protocol: self.protocol.to_owned(),
            key_exchange: self.key_exchange.clone(),
            cipher: self.cipher.clone(),
            hash: self.hash.clone(),
            peer: self.peer.as_ref().map(certificate),
        }
    }
}

/// What is known of a connection after its handshake.
#[must_use]
pub fn info<S: AsyncRead>(stream: &TlsStream<S>) -> TlsInfo {
    let (_, session) = stream.get_ref();
    let suite = session.negotiated_cipher_suite().map(|suite| format!("{:?}", suite.suite()));
    let suite = suite.unwrap_or_default().to_lowercase();
    // TLS13_AES_256_GCM_SHA384, or TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384.
    let (key_exchange, rest) = match suite.split_once("_with_") {
        Some((exchange, rest)) => (exchange.trim_start_matches("tls_"), rest),
        None => ("any", suite.trim_start_matches("tls13_")),
    };
    let (cipher, hash) = rest.rsplit_once('_').unwrap_or((rest, ""));
    let protocol = match session.protocol_version() {
        Some(ProtocolVersion::TLSv1_3) => "tlsv1.3",
        Some(_) | None => "tlsv1.2",
    };
    let shown = session.peer_certificates().and_then(<[_]>::first);
    TlsInfo {
        protocol,
        key_exchange: key_exchange.to_owned(),
        cipher: cipher.to_owned(),
        hash: hash.to_owned(),
        peer: shown.and_then(|der| Certificate::parse(der)),
    }
}
