//! Passwords in RabbitMQ's salted scheme: Base64 of 4 bytes of salt and the digest of salt and password. We write
//! SHA-256; imported SHA-512 and, of very old brokers, MD5 are understood too. Each is told by its length.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use md5::Md5;
use sha2::{Digest as _, Sha256, Sha512};

use crate::state::Catalogue;

/// Why a login is refused. For the log: the client is told only that it was.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AuthError {
    /// No such user.
    #[error("user '{0}' does not exist")]
    UnknownUser(String),
    /// An empty password, which is never right.
    #[error("user '{0}' tried to log in with an empty password")]
    EmptyPassword(String),
    /// The user may not log in by password.
    #[error("user '{0}' has no password")]
    NoPassword(String),
    /// The stored hash is not of the known scheme.
    #[error("the password hash of user '{0}' is no salted SHA-256, SHA-512 or MD5")]
    BadHash(String),
    /// Another password.
    #[error("wrong password for user '{0}'")]
    WrongPassword(String),
}

/// The hash that [`Catalogue::authenticate`] understands. The salt is drawn by the caller.
#[must_use]
pub fn hash_password(salt: [u8; 4], password: &[u8]) -> String {
    let mut bytes = Vec::with_capacity(36);
    bytes.extend_from_slice(&salt);
    bytes.extend_from_slice(&digest(salt, password));
    STANDARD.encode(bytes)
}

fn digest(salt: [u8; 4], password: &[u8]) -> [u8; 32] {
    Sha256::new().chain_update(salt).chain_update(password).finalize().into()
}

// Takes as long for any two digests: how much of a guess is right must not show in the time.
fn same(a: &[u8], b: &[u8]) -> bool {
    a.len() == b.len() && a.iter().zip(b).fold(0, |difference, (a, b)| difference | (a ^ b)) == 0
}

impl Catalogue {
    /// Checks a user's password.
    ///
    /// # Errors
    /// [`AuthError`]; the client gets 403 without the reason.
    pub fn authenticate(&self, user: &str, password: &[u8]) -> Result<(), AuthError> {
        let Some(record) = self.user(user) else {
            // The same work as for a known user.
            std::hint::black_box(digest([0; 4], password));
            return Err(AuthError::UnknownUser(user.to_owned()));
        };
        if password.is_empty() {
            return Err(AuthError::EmptyPassword(user.to_owned()));
        }
        if record.password_hash.is_empty() {
            return Err(AuthError::NoPassword(user.to_owned()));
        }
        let stored = STANDARD.decode(&record.password_hash).unwrap_or_default();
        let Some((salt, rest)) = stored.split_first_chunk::<4>() else {
            return Err(AuthError::BadHash(user.to_owned()));
        };
        let right = match rest.len() {
            32 => same(&digest(*salt, password), rest),
            16 => same(&Md5::new().chain_update(salt).chain_update(password).finalize(), rest),
            64 => same(&Sha512::new().chain_update(salt).chain_update(password).finalize(), rest),
            _ => return Err(AuthError::BadHash(user.to_owned())),
        };
        if right { Ok(()) } else { Err(AuthError::WrongPassword(user.to_owned())) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use warren_proto::catalogue::{Command, UserRecord};

    #[test]
    fn a_sha_512_hash_is_told_by_its_length() {
        let mut hash = vec![1, 2, 3, 4];
        hash.extend(Sha512::digest([&[1, 2, 3, 4][..], b"secret"].concat()));
        let mut catalogue = Catalogue::new();
        let password_hash = STANDARD.encode(hash);
        let user = UserRecord { name: "u".to_owned(), password_hash, tags: Vec::new() };
        catalogue.apply(&Command::PutUser(user)).unwrap();
        assert_eq!(catalogue.authenticate("u", b"secret"), Ok(()));
        assert_eq!(catalogue.authenticate("u", b"other"), Err(AuthError::WrongPassword("u".to_owned())));
    }

    #[test]
    fn an_md5_hash_of_an_old_broker_still_lets_its_user_in() {
        // The salt 1, 2, 3, 4 and the MD5 of it and of `secret`.
        let hash = [&[1, 2, 3, 4][..], &Md5::digest([&[1, 2, 3, 4][..], b"secret"].concat())].concat();
        let mut catalogue = Catalogue::new();
        let user =
            UserRecord { name: "u".to_owned(), password_hash: STANDARD.encode(hash), tags: Vec::new() };
        catalogue.apply(&Command::PutUser(user)).unwrap();
        assert_eq!(catalogue.authenticate("u", b"secret"), Ok(()));
        assert_eq!(catalogue.authenticate("u", b"Secret"), Err(AuthError::WrongPassword("u".to_owned())));
    }

    #[test]
    fn a_hash_is_the_salt_and_the_digest_of_salt_and_password() {
        // The example of RabbitMQ's documentation of its password hashes.
        assert_eq!(
            hash_password([0x90, 0x8d, 0xc6, 0x0a], b"test12"),
            "kI3GCqW5JLMJa4iX1lo7X4D6XbYqlLgxIs30+P6tENUV2POR"
        );
    }
}
