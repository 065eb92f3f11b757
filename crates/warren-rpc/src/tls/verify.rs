//! Whom a node believes, and which of its certificates it shows: anybody with a certificate of the cluster's authority is
//! a member, whatever name it has and wherever it answers.

use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{ResolvesClientCert, verify_server_cert_signed_by_trust_anchor};
use rustls::crypto::{
    CryptoProvider, WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature,
};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::{ClientHello, ParsedCertificate, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::{DigitallySignedStruct, DistinguishedName, Error, RootCertStore, SignatureScheme};

/// Accepts whoever is certified by one of these authorities.
#[derive(Debug)]
pub(super) struct Members {
    roots: Arc<RootCertStore>,
    names: Vec<DistinguishedName>,
    algorithms: WebPkiSupportedAlgorithms,
}

impl Members {
    pub(super) fn new(roots: Arc<RootCertStore>, provider: &CryptoProvider) -> Self {
        let names = roots.subjects();
        Self { roots, names, algorithms: provider.signature_verification_algorithms }
    }
}

impl ServerCertVerifier for Members {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let certificate = ParsedCertificate::try_from(end_entity)?;
        let algorithms = self.algorithms.all;
        verify_server_cert_signed_by_trust_anchor(&certificate, &self.roots, intermediates, now, algorithms)?;
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, certificate, signature, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signature, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }

    /// Tells the server which of its certificates is of any use here.
    fn root_hint_subjects(&self) -> Option<&[DistinguishedName]> {
        Some(&self.names)
    }
}

/// A certificate to show, and the name of the authority it is by, where that is known.
#[derive(Debug)]
pub(super) struct Proof {
    pub(super) key: Arc<CertifiedKey>,
    pub(super) authority: Option<DistinguishedName>,
}

/// What there is to show, the preferred one first.
#[derive(Debug)]
pub(super) struct Proofs(pub(super) Vec<Proof>);

impl Proofs {
    /// The first that the other side knows; the first of all when it does not say or knows none, so that its error
    /// tells what is wrong.
    fn choose(&self, known: impl Fn(&[u8]) -> bool) -> Option<Arc<CertifiedKey>> {
        let fits = |proof: &&Proof| proof.authority.as_ref().is_some_and(|name| known(name.as_ref()));
        self.0.iter().find(fits).or(self.0.first()).map(|proof| Arc::clone(&proof.key))
    }
}

impl ResolvesServerCert for Proofs {
    fn resolve(&self, client_hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let names = client_hello.certificate_authorities().unwrap_or_default();
        self.choose(|wanted| names.iter().any(|name| name.as_ref() == wanted))
    }
}

impl ResolvesClientCert for Proofs {
    fn resolve(
        &self,
        root_hint_subjects: &[&[u8]],
        _schemes: &[SignatureScheme],
    ) -> Option<Arc<CertifiedKey>> {
        self.choose(|wanted| root_hint_subjects.contains(&wanted))
    }

    fn has_certs(&self) -> bool {
        !self.0.is_empty()
    }
}
