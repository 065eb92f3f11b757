//! From credentials to what TLS needs on both sides.

use std::path::Path;
use std::sync::Arc;

use rustls::client::Resumption;
use rustls::crypto::{CryptoProvider, ring as provider};
use rustls::server::WebPkiClientVerifier;
use rustls::sign::CertifiedKey;
use rustls::version::TLS13;
use rustls::{ClientConfig, RootCertStore, ServerConfig};

use super::files::{read_authorities, read_certificates, read_key, read_small};
use super::secret::{self, Secrets};
use super::verify::{Members, Proof, Proofs};
use super::{Credentials, Encryption, SecurityError};

/// What the two sides agree to speak after the proof: encrypted, or plain.
pub(super) const ENCRYPTED: &[u8] = b"warren/1";
pub(super) const PROOF_ONLY: &[u8] = b"warren-proof-only/1";

/// Both sides' TLS configuration, and a digest of what it was made from.
pub(crate) struct Keys {
    made_from: Vec<u8>,
    pub(super) server: Arc<ServerConfig>,
    pub(super) client: Arc<ClientConfig>,
}

fn keys_error(error: impl ToString) -> SecurityError {
    SecurityError::Keys(error.to_string())
}

impl Keys {
    /// Makes keys from what the credentials hold now; `None` when there are none, or they are as they were. Blocks.
    pub(super) fn load(
        credentials: &Credentials,
        encryption: Encryption,
        known: Option<&Self>,
    ) -> Result<Option<Self>, SecurityError> {
        match credentials {
            Credentials::None => Ok(None),
            Credentials::Secret(_) if known.is_some() => Ok(None),
            Credentials::Secret(secrets) => Self::of_secrets(secrets, Vec::new(), encryption).map(Some),
            Credentials::SecretFile(path) => {
                let text = read_small(path)?;
                let made_from = digest(&[&text]);
                if known.is_some_and(|known| known.made_from == made_from) {
                    return Ok(None);
                }
                let secrets = Secrets::parse(&text)
                    .map_err(|error| SecurityError::SecretFile { path: path.clone(), error })?;
                Self::of_secrets(&secrets, made_from, encryption).map(Some)
            }
            Credentials::Certificate { certificate, key, authority } => {
                let texts = [read_small(certificate)?, read_small(key)?, read_small(authority)?];
                let made_from = digest(&[&texts[0], &texts[1], &texts[2]]);
                if known.is_some_and(|known| known.made_from == made_from) {
                    return Ok(None);
                }
                let [chain_text, key_text, roots_text] = &texts;
                let proof = given(certificate, chain_text, key, key_text)?;
                let roots = read_authorities(authority, roots_text)?;
                Self::new(vec![proof], roots, made_from, encryption).map(Some)
            }
        }
    }

    fn of_secrets(
        secrets: &Secrets,
        made_from: Vec<u8>,
        encryption: Encryption,
    ) -> Result<Self, SecurityError> {
        let mut roots = RootCertStore::empty();
        let mut proofs = Vec::new();
        for secret in secrets.iter() {
            let made = secret::make(secret).map_err(keys_error)?;
            let mut root = RootCertStore::empty();
            root.add(made.authority).map_err(keys_error)?;
            let key = CertifiedKey::from_der(vec![made.certificate], made.key, &crypto());
            let key = Arc::new(key.map_err(keys_error)?);
            proofs.push(Proof { key, authority: root.subjects().pop() });
            roots.extend(root.roots);
        }
        Self::new(proofs, roots, made_from, encryption)
    }

    fn new(
        proofs: Vec<Proof>,
        roots: RootCertStore,
        made_from: Vec<u8>,
        encryption: Encryption,
    ) -> Result<Self, SecurityError> {
        let provider = Arc::new(crypto());
        let (roots, proofs) = (Arc::new(roots), Arc::new(Proofs(proofs)));
        let protocols = match encryption {
            Encryption::Always => vec![ENCRYPTED.to_vec()],
            Encryption::ProofOnly => vec![PROOF_ONLY.to_vec(), ENCRYPTED.to_vec()],
        };
        let verifier = WebPkiClientVerifier::builder_with_provider(Arc::clone(&roots), Arc::clone(&provider));
        let mut server = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_protocol_versions(&[&TLS13])
            .map_err(keys_error)?
            .with_client_cert_verifier(verifier.build().map_err(keys_error)?)
            .with_cert_resolver(Arc::clone(&proofs) as Arc<_>);
        server.alpn_protocols.clone_from(&protocols);
        // Whoever comes again proves itself again: a secret that was taken back must not live on in a ticket.
        server.send_tls13_tickets = 0;
        let members = Members::new(roots, &provider);
        let mut client = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&TLS13])
            .map_err(keys_error)?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(members))
            .with_client_cert_resolver(proofs);
        client.alpn_protocols = protocols;
        client.resumption = Resumption::disabled();
        // There is no host to name: any member may answer.
        client.enable_sni = false;
        Ok(Self { made_from, server: Arc::new(server), client: Arc::new(client) })
    }
}

fn given(certificate: &Path, chain_text: &[u8], key: &Path, key_text: &[u8]) -> Result<Proof, SecurityError> {
    let (chain, key) = (read_certificates(certificate, chain_text)?, read_key(key, key_text)?);
    let key = CertifiedKey::from_der(chain, key, &crypto()).map_err(keys_error)?;
    Ok(Proof { key: Arc::new(key), authority: None })
}

/// AES with 128-bit keys first: it is the fastest where the processor helps.
fn crypto() -> CryptoProvider {
    let mut provider = provider::default_provider();
    provider.cipher_suites.sort_by_key(|suite| *suite != provider::cipher_suite::TLS13_AES_128_GCM_SHA256);
    provider
}

fn digest(texts: &[&[u8]]) -> Vec<u8> {
    let mut context = ring::digest::Context::new(&ring::digest::SHA256);
    for text in texts {
        context.update(&(text.len() as u64).to_le_bytes());
        context.update(text);
    }
    context.finish().as_ref().to_vec()
}
