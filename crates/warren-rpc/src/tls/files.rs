//! Reads certificates and keys from PEM files, bounded and with errors that name the file.

use std::fs;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use rustls::RootCertStore;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

/// No file of certificates, keys or secrets is larger.
const FILE_MAX_BYTES: u64 = 1024 * 1024;

/// Why a file of certificates or keys cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("{}: {reason}", path.display())]
pub struct FileError {
    /// The file.
    pub path: PathBuf,
    /// What is wrong.
    pub reason: String,
}

fn wrong(path: &Path, reason: impl ToString) -> FileError {
    FileError { path: path.to_owned(), reason: reason.to_string() }
}

/// A file's bytes, if they are not more than any file of certificates, keys or secrets has. Blocks.
///
/// # Errors
/// [`FileError`] when it cannot be read or is larger than 1 MiB.
pub fn read_small(path: &Path) -> Result<Vec<u8>, FileError> {
    let file = fs::File::open(path).map_err(|error| wrong(path, error))?;
    let mut bytes = Vec::new();
    file.take(FILE_MAX_BYTES + 1).read_to_end(&mut bytes).map_err(|error| wrong(path, error))?;
    if bytes.len() as u64 > FILE_MAX_BYTES {
        return Err(wrong(path, "larger than 1 MiB"));
    }
    Ok(bytes)
}

/// The certificates in a PEM file's `bytes`, in their order.
///
/// # Errors
/// [`FileError`] when there is none or one is malformed.
pub fn read_certificates(path: &Path, bytes: &[u8]) -> Result<Vec<CertificateDer<'static>>, FileError> {
    let certificates: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(bytes).collect();
    let certificates = certificates.map_err(|error| wrong(path, format!("not PEM: {error}")))?;
    if certificates.is_empty() {
        return Err(wrong(path, "holds no certificate (-----BEGIN CERTIFICATE-----)"));
    }
    Ok(certificates)
}

/// The first private key in a PEM file's `bytes`: PKCS#8, PKCS#1 or SEC1, not encrypted.
///
/// # Errors
/// [`FileError`] when there is none.
pub fn read_key(path: &Path, bytes: &[u8]) -> Result<PrivateKeyDer<'static>, FileError> {
    PrivateKeyDer::from_pem_slice(bytes)
        .map_err(|error| wrong(path, format!("holds no private key without a password: {error}")))
}

/// The certificates in a PEM file's `bytes` as authorities.
///
/// # Errors
/// [`FileError`] when there is none or one cannot be an authority.
pub fn read_authorities(path: &Path, bytes: &[u8]) -> Result<RootCertStore, FileError> {
    let mut roots = RootCertStore::empty();
    for certificate in read_certificates(path, bytes)? {
        roots.add(certificate).map_err(|error| wrong(path, error))?;
    }
    Ok(roots)
}
