//! From a secret to an authority: every node that knows the secret derives the same key, makes itself a certificate with
//! it, and accepts the certificates that others have made so. The secret never leaves the node, and a certificate
//! helps to guess it only at the price of [`ROUNDS`] hashes a guess.

use std::fmt;
use std::num::NonZeroU32;

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer,
    KeyPair, KeyUsagePurpose, PKCS_ED25519,
};
use ring::pbkdf2;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};

/// A shorter secret could be guessed.
pub const SECRET_MIN_BYTES: usize = 16;
/// Secrets that are accepted at a time: the current one, the one before, and some reserve.
const SECRETS_MAX: usize = 4;
/// Hashes from a secret to its key.
const ROUNDS: NonZeroU32 = NonZeroU32::new(100_000).unwrap();
/// What the key is for. Another number here is another cluster.
const PURPOSE: &[u8] = b"warren cluster authority 1";
/// What stands before the 32 bytes of an Ed25519 key in PKCS#8 (RFC 8410 §7).
const ED25519_PKCS8: [u8; 16] =
    [0x30, 0x2e, 0x02, 0x01, 0x00, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x04, 0x22, 0x04, 0x20];

/// One to four secrets: the first is the one to show, all are accepted. Never printed.
#[derive(Clone, PartialEq, Eq)]
pub struct Secrets(Vec<String>);

/// Why a text holds no usable secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SecretError {
    /// There is none.
    #[error("holds no secret")]
    Missing,
    /// One is too short.
    #[error(
        "a secret has {0} bytes, at least {SECRET_MIN_BYTES} are needed: `openssl rand -base64 32` makes one"
    )]
    TooShort(usize),
    /// There are too many.
    #[error("holds {0} secrets, at most {SECRETS_MAX} can be accepted at a time")]
    TooMany(usize),
    /// It is no text.
    #[error("is not UTF-8")]
    NotText,
}

impl Secrets {
    /// Reads a secret a line; blank lines and those that begin with `#` say nothing.
    ///
    /// # Errors
    /// [`SecretError`].
    pub fn parse(text: &[u8]) -> Result<Self, SecretError> {
        let text = std::str::from_utf8(text).map_err(|_| SecretError::NotText)?;
        let secrets: Vec<String> = text
            .lines()
            .map(str::trim)
            .filter(|line| !line.is_empty() && !line.starts_with('#'))
            .map(str::to_owned)
            .collect();
        if secrets.is_empty() {
            return Err(SecretError::Missing);
        }
        if secrets.len() > SECRETS_MAX {
            return Err(SecretError::TooMany(secrets.len()));
        }
        match secrets.iter().map(String::len).min() {
            Some(shortest) if shortest < SECRET_MIN_BYTES => Err(SecretError::TooShort(shortest)),
            Some(_) | None => Ok(Self(secrets)),
        }
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(String::as_str)
    }
}

impl fmt::Debug for Secrets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Secrets({})", self.0.len())
    }
}

/// An authority, and a certificate by it for this node.
pub(super) struct Made {
    pub(super) authority: CertificateDer<'static>,
    pub(super) certificate: CertificateDer<'static>,
    pub(super) key: PrivateKeyDer<'static>,
}

/// Derives the secret's authority and has it certify a new key. Takes some tens of milliseconds.
pub(super) fn make(secret: &str) -> Result<Made, rcgen::Error> {
    let mut seed = [0; 32];
    pbkdf2::derive(pbkdf2::PBKDF2_HMAC_SHA256, ROUNDS, PURPOSE, secret.as_bytes(), &mut seed);
    let key = PrivatePkcs8KeyDer::from([ED25519_PKCS8.as_slice(), &seed].concat());
    let key = KeyPair::from_pkcs8_der_and_sign_algo(&key, &PKCS_ED25519)?;

    let mut authority = CertificateParams::default();
    authority.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    authority.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    // Two secrets' authorities have different names, so that a peer can say which of them it knows.
    let fingerprint = ring::digest::digest(&ring::digest::SHA256, key.public_key_raw());
    let fingerprint: String = fingerprint.as_ref().iter().take(8).map(|byte| format!("{byte:02x}")).collect();
    authority.distinguished_name = name(&format!("warren cluster {fingerprint}"));
    let certificate = authority.self_signed(&key)?;
    let issuer = Issuer::new(authority, key);

    let leaf_key = KeyPair::generate_for(&PKCS_ED25519)?;
    let mut leaf = CertificateParams::default();
    leaf.distinguished_name = name("warren node");
    leaf.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    leaf.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
    let leaf = leaf.signed_by(&leaf_key, &issuer)?;
    Ok(Made {
        authority: certificate.der().clone(),
        certificate: leaf.der().clone(),
        key: PrivatePkcs8KeyDer::from(leaf_key.serialize_der()).into(),
    })
}

fn name(common: &str) -> DistinguishedName {
    let mut name = DistinguishedName::new();
    name.push(DnType::CommonName, common);
    name
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_secret_makes_one_authority_and_every_time_another_certificate() {
        let (one, two) = (make("a secret of some length").unwrap(), make("a secret of some length").unwrap());
        let other = make("another secret of some length").unwrap();
        let root = |made: &Made| webpki_anchor(&made.authority);
        assert_eq!(root(&one), root(&two));
        assert_ne!(root(&one), root(&other));
        assert_ne!(one.certificate, two.certificate);
    }

    fn webpki_anchor(certificate: &CertificateDer<'static>) -> (Vec<u8>, Vec<u8>) {
        let mut roots = rustls::RootCertStore::empty();
        roots.add(certificate.clone()).unwrap();
        let root = roots.roots.remove(0);
        (root.subject.to_vec(), root.subject_public_key_info.to_vec())
    }

    #[test]
    fn a_file_of_secrets_has_one_a_line() {
        let (one, two) = ("0123456789abcdef", "fedcba9876543210");
        let parse = |text: &str| Secrets::parse(text.as_bytes()).map(|secrets| secrets.0);
        assert_eq!(parse(one).unwrap(), [one]);
        assert_eq!(parse(&format!("# new\n  {one} \r\n\n# old\n{two}\n")).unwrap(), [one, two]);
        assert_eq!(parse("# nothing\n"), Err(SecretError::Missing));
        assert_eq!(parse("short"), Err(SecretError::TooShort(5)));
        assert_eq!(parse(&format!("{one}\nshort")), Err(SecretError::TooShort(5)));
        assert_eq!(parse(&[one; 5].join("\n")), Err(SecretError::TooMany(5)));
        assert_eq!(Secrets::parse(&[0xff; 20]), Err(SecretError::NotText));
    }

    #[test]
    fn a_secret_is_never_shown() {
        let secrets = Secrets::parse(b"0123456789abcdef").unwrap();
        assert_eq!(format!("{secrets:?}"), "Secrets(1)");
        assert_eq!(format!("{:?}", super::super::Credentials::Secret(secrets)), "Secret");
    }
}
