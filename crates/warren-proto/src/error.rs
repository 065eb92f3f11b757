//! Why bytes from a log or a peer are refused.

/// Why bytes are not what they should be. From a log it stops the replica; from a peer it ends the stream.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// Not Protobuf of the expected message.
    #[error("malformed {what}: {reason}")]
    Malformed {
        /// The message.
        what: &'static str,
        /// What the decoder says.
        reason: String,
    },
    /// A field that must be there is not, or is out of range.
    #[error("{what}: bad or missing {field}")]
    Field {
        /// The message.
        what: &'static str,
        /// The field.
        field: &'static str,
    },
    /// Written by a newer version.
    #[error("{what} of a newer version ({found}); this version knows up to {known}")]
    Version {
        /// The message.
        what: &'static str,
        /// What it says.
        found: u32,
        /// The newest known here.
        known: u32,
    },
    /// An operation that this version does not know.
    #[error("{what} holds an operation that this version does not know")]
    Unknown {
        /// The message.
        what: &'static str,
    },
}
