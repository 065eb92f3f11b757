//! Short strings: at most 255 bytes, sliced out of what was read, cheap to clone.

use std::fmt;
use std::hash::{Hash, Hasher};

use bytes::Bytes;

/// Why bytes are not a short string.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// More than 255 bytes.
    #[error("{0} bytes are more than a short string's 255")]
    TooLong(usize),
    /// Not UTF-8.
    #[error("Malformed UTF-8 in shortstr")]
    NotUtf8,
}

/// An AMQP short string (0-9-1 §4.2.5.3): at most 255 bytes of UTF-8. A slice of a shared buffer: keep long-lived
/// ones as `Arc<str>` instead, so that they do not hold a whole read buffer in memory.
#[derive(Clone, Default)]
pub struct ShortStr(Bytes);

impl ShortStr {
    /// Checks and takes the bytes.
    ///
    /// # Errors
    /// [`NameError`] when they are too long or not UTF-8.
    pub fn new(bytes: Bytes) -> Result<Self, NameError> {
        if bytes.len() > 255 {
            return Err(NameError::TooLong(bytes.len()));
        }
        std::str::from_utf8(&bytes).map_err(|_| NameError::NotUtf8)?;
        Ok(Self(bytes))
    }

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).unwrap_or_default()
    }

    /// The bytes, shared.
    #[must_use]
    pub fn bytes(&self) -> &Bytes {
        &self.0
    }

    /// True when it is empty.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Its length in bytes.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }
}

impl TryFrom<&str> for ShortStr {
    type Error = NameError;

    fn try_from(text: &str) -> Result<Self, NameError> {
        Self::new(Bytes::copy_from_slice(text.as_bytes()))
    }
}

impl PartialEq for ShortStr {
    fn eq(&self, other: &Self) -> bool {
        self.0 == other.0
    }
}

impl Eq for ShortStr {}

impl PartialOrd for ShortStr {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for ShortStr {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.0.cmp(&other.0)
    }
}

impl Hash for ShortStr {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.hash(state);
    }
}

impl fmt::Display for ShortStr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for ShortStr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.as_str())
    }
}
