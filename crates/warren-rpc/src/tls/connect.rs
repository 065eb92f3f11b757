//! From a TCP connection to one that may be used, on both sides: the proof, and what to say when there is none.
//!
//! After the handshake the server sends one octet. Until then the client cannot know that its certificate was accepted
//! (in TLS 1.3 it has the last word); and where both go on in plain, it tells the client when the plain part begins. The
//! server in turn waits there for the client's first plain octet, so that nothing plain is ever read as TLS.

use std::error::Error;
use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::ServerName;
use rustls::{AlertDescription, CertificateError, InvalidMessage};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_rustls::{TlsAcceptor, TlsConnector};

use super::keys::{Keys, PROOF_ONLY};
use super::{Security, Wire};

/// How long a stranger may take to show that it is none.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a TCP connection may take.
const CONNECT_TIMEOUT: Duration = Duration::from_millis(1000);
/// How often a peek is repeated that has not shown enough.
const PEEK_AGAIN: Duration = Duration::from_millis(20);
/// How HTTP/2 begins (RFC 9113 §3.4).
const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// The first octet of a TLS handshake.
const TLS_HANDSHAKE: u8 = 0x16;
/// What the server says when it has accepted the client.
const WELCOME: u8 = b'W';

/// Why whoever connected may not stay.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Refusal {
    /// Port scanners and health checks do this.
    #[error("it closed without a word")]
    Closed,
    #[error("it has not proved itself within {} s", HANDSHAKE_TIMEOUT.as_secs())]
    TooSlow,
    #[error("it is a node without a cluster secret, and this node has one")]
    NoSecretThere,
    #[error("it uses TLS, and this node has no cluster secret")]
    NoSecretHere,
    #[error("it does not speak as nodes do")]
    Garbage,
    #[error("{0}")]
    Unproven(String),
    #[error("{0}")]
    Io(io::Error),
}

/// Why there is no connection to a peer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum OpenError {
    #[error("{0}")]
    Io(#[source] io::Error),
    #[error("no connection in time")]
    TooSlow,
    /// One of the two sides does not believe the other.
    #[error("{0}")]
    Unproven(String),
}

/// Takes a connection that has just been accepted, if the other side proves itself. Takes at most
/// [`HANDSHAKE_TIMEOUT`].
pub(crate) async fn accept(stream: TcpStream, security: &Security) -> Result<Wire, Refusal> {
    let accepting = async {
        stream.set_nodelay(true).map_err(Refusal::Io)?;
        match security.keys() {
            None => accept_plain(stream).await,
            Some(keys) => accept_tls(stream, &keys).await,
        }
    };
    tokio::time::timeout(HANDSHAKE_TIMEOUT, accepting).await.unwrap_or(Err(Refusal::TooSlow))
}

async fn accept_plain(stream: TcpStream) -> Result<Wire, Refusal> {
    let mut seen = [0; PREFACE.len()];
    loop {
        let count = stream.peek(&mut seen).await.map_err(Refusal::Io)?;
        let seen = seen.get(..count).unwrap_or_default();
        match seen.first() {
            None => return Err(Refusal::Closed),
            Some(&TLS_HANDSHAKE) => return Err(Refusal::NoSecretHere),
            Some(_) if !PREFACE.starts_with(seen) => return Err(Refusal::Garbage),
            Some(_) if count == PREFACE.len() => return Ok(Wire::plain(stream)),
            Some(_) => tokio::time::sleep(PEEK_AGAIN).await,
        }
    }
}

async fn accept_tls(stream: TcpStream, keys: &Keys) -> Result<Wire, Refusal> {
    let mut first = [0];
    match (stream.peek(&mut first).await.map_err(Refusal::Io)?, first) {
        (0, _) => return Err(Refusal::Closed),
        (_, [TLS_HANDSHAKE]) => {}
        (_, [octet]) if PREFACE.first() == Some(&octet) => return Err(Refusal::NoSecretThere),
        (_, _) => return Err(Refusal::Garbage),
    }
    let refused = |error: io::Error| match explain(&error) {
        Some(text) => Refusal::Unproven(text),
        None if error.kind() == io::ErrorKind::UnexpectedEof => Refusal::Closed,
        None => Refusal::Io(error),
    };
    let mut tls = TlsAcceptor::from(Arc::clone(&keys.server)).accept(stream).await.map_err(refused)?;
    let agreed = tls.get_ref().1.alpn_protocol().map(<[u8]>::to_vec);
    let Some(agreed) = agreed else { return Err(Refusal::Garbage) };
    tls.write_all(&[WELCOME]).await.map_err(refused)?;
    tls.flush().await.map_err(refused)?;
    if agreed != PROOF_ONLY {
        return Ok(Wire::tls(tls));
    }
    let (stream, _) = tls.into_inner();
    match stream.peek(&mut first).await.map_err(Refusal::Io)? {
        0 => Err(Refusal::Closed),
        _ => Ok(Wire::plain(stream)),
    }
}

/// Connects to `HOST:PORT`, proves this node and has the other prove itself.
pub(crate) async fn open(address: &str, security: &Security) -> Result<Wire, OpenError> {
    if let Some(network) = security.network() {
        let stream = tokio::time::timeout(CONNECT_TIMEOUT, network.connect(address)).await;
        return Ok(Wire::other(stream.map_err(|_| OpenError::TooSlow)?.map_err(OpenError::Io)?));
    }
    let stream = tokio::time::timeout(CONNECT_TIMEOUT, TcpStream::connect(address)).await;
    let stream = stream.map_err(|_| OpenError::TooSlow)?.map_err(OpenError::Io)?;
    stream.set_nodelay(true).map_err(OpenError::Io)?;
    match security.keys() {
        None => Ok(Wire::plain(stream)),
        Some(keys) => {
            let proving = tokio::time::timeout(HANDSHAKE_TIMEOUT, prove(stream, &keys));
            proving.await.unwrap_or(Err(OpenError::TooSlow))
        }
    }
}

async fn prove(stream: TcpStream, keys: &Keys) -> Result<Wire, OpenError> {
    let failed = |error: io::Error| match explain(&error) {
        Some(text) => OpenError::Unproven(text),
        // A node without a secret closes at the sight of TLS.
        None if matches!(error.kind(), io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset) => {
            OpenError::Unproven("it closed at the TLS handshake: has it no cluster secret?".to_owned())
        }
        None => OpenError::Io(error),
    };
    // No name is asked for: any member may answer.
    let name = ServerName::from(IpAddr::V4(Ipv4Addr::LOCALHOST));
    let mut tls = TlsConnector::from(Arc::clone(&keys.client)).connect(name, stream).await.map_err(failed)?;
    let mut welcome = [0];
    tls.read_exact(&mut welcome).await.map_err(failed)?;
    if welcome != [WELCOME] {
        return Err(OpenError::Unproven("it does not speak as nodes do".to_owned()));
    }
    if tls.get_ref().1.alpn_protocol() == Some(PROOF_ONLY) {
        return Ok(Wire::plain(tls.into_inner().0));
    }
    Ok(Wire::tls(tls))
}

/// What a failed handshake means for the operator; `None` when TLS has nothing to do with it.
fn explain(error: &io::Error) -> Option<String> {
    let error = error.get_ref()?.downcast_ref::<rustls::Error>()?;
    Some(match error {
        rustls::Error::InvalidCertificate(
            CertificateError::UnknownIssuer | CertificateError::BadSignature,
        ) => "its certificate is not of this cluster: it has another secret or authority".to_owned(),
        rustls::Error::InvalidCertificate(error) => format!("its certificate is not accepted: {error:?}"),
        rustls::Error::NoCertificatesPresented => "it shows no certificate".to_owned(),
        rustls::Error::AlertReceived(
            AlertDescription::UnknownCA
            | AlertDescription::BadCertificate
            | AlertDescription::DecryptError
            | AlertDescription::CertificateUnknown,
        ) => "it does not accept this node's certificate: it has another secret or authority".to_owned(),
        rustls::Error::AlertReceived(AlertDescription::CertificateExpired) => {
            "it says that this node's certificate has expired".to_owned()
        }
        rustls::Error::InvalidMessage(InvalidMessage::InvalidContentType) => {
            "it answers without TLS: has it no cluster secret?".to_owned()
        }
        other => other.to_string(),
    })
}

/// The nearest cause of this type.
pub(crate) fn cause<'a, E: Error + 'static>(error: &'a (dyn Error + 'static)) -> Option<&'a E> {
    let mut cause = Some(error);
    while let Some(error) = cause {
        if let Some(found) = error.downcast_ref::<E>() {
            return Some(found);
        }
        cause = error.source();
    }
    None
}
