//! What a frame may be, and what is wrong with one (0-9-1 §4.2.3). Knows the texts that RabbitMQ sends for it.

use std::fmt::Write;

use warren_types::{AmqpError, ReplyCode};

/// What a client sends first.
pub const PROTOCOL_HEADER: &[u8; 8] = b"AMQP\x00\x00\x09\x01";
/// Bytes of a frame besides its payload: type, channel, size and end octet.
pub const FRAME_OVERHEAD: u32 = 8;
/// Smallest `frame_max` that may be negotiated (0-9-1's frame-min-size). RabbitMQ wants 8192 since 4.1, which shuts out
/// clients that ask for no more than this, as amqplib did until 0.10.6.
pub const FRAME_MIN: u32 = 4096;
/// The `frame_max` in force until one is negotiated.
pub const INITIAL_FRAME_MAX: u32 = 8192;
/// Largest body that a content header may announce, whatever is configured: 512 MiB.
pub const BODY_MAX: u64 = warren_types::BODY_MAX_BYTES as u64;
/// Frame type of a method.
pub const KIND_METHOD: u8 = 1;
/// Frame type of a content header.
pub const KIND_HEADER: u8 = 2;
/// Frame type of a piece of body.
pub const KIND_BODY: u8 = 3;
/// Frame type of a heartbeat.
pub const KIND_HEARTBEAT: u8 = 8;
/// The octet that ends each frame.
pub(crate) const FRAME_END: u8 = 0xCE;

/// Bytes that are not a frame. After the first three nothing that follows can be trusted to be frames.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FrameError {
    /// The announced payload is larger than `frame_max` allows.
    TooLarge {
        /// The frame's type octet.
        kind: u8,
        /// Announced payload size.
        size: u32,
        /// The largest payload of a frame of the negotiated size.
        limit: u32,
    },
    /// The frame does not end in its end octet.
    BadEnd {
        /// The frame's type octet.
        kind: u8,
        /// What was there instead.
        end: u8,
        /// The payload's description.
        octets: String,
    },
    /// A type that 0-9-1 does not have, a heartbeat with a payload, or a method or header cut short.
    UnknownKind {
        /// The type octet.
        kind: u8,
        /// The payload's description.
        octets: String,
    },
    /// A heartbeat on a channel, or content on channel 0.
    Unexpected {
        /// The type octet.
        kind: u8,
        /// The payload's description.
        octets: String,
    },
}

impl FrameError {
    /// What the client is told: 501, or 505 for a frame that is one but makes no sense where it is.
    #[must_use]
    pub fn error(&self) -> AmqpError {
        match self {
            Self::TooLarge { kind, size, limit } => AmqpError::new(
                ReplyCode::FrameError,
                format!("type {kind}, all octets = <<>>: {{frame_too_large,{size},{limit}}}"),
            ),
            Self::BadEnd { kind, end, octets } => {
                let before = format!("type {kind}, {octets}: ");
                let term = erlang_pair("invalid_frame_end_marker", *end, before.len());
                AmqpError::new(ReplyCode::FrameError, before + &term)
            }
            Self::UnknownKind { kind, octets } => {
                AmqpError::new(ReplyCode::FrameError, format!("type {kind}, {octets}: unknown_frame"))
            }
            Self::Unexpected { kind, octets } => {
                AmqpError::new(ReplyCode::UnexpectedFrame, format!("type {kind}, {octets}"))
            }
        }
    }

    /// True when frame boundaries are lost: whatever follows must be discarded unread.
    #[must_use]
    pub fn loses_framing(&self) -> bool {
        match self {
            Self::TooLarge { .. } | Self::BadEnd { .. } => true,
            Self::UnknownKind { .. } | Self::Unexpected { .. } => false,
        }
    }
}

/// A pair in Erlang's notation behind `column` characters: its printer breaks lines that would reach 80 columns.
fn erlang_pair(name: &str, number: u8, column: usize) -> String {
    let line = format!("{{{name},{number}}}");
    if column + line.len() + 1 < 80 {
        return line;
    }
    format!("{{{name},\n{:indent$}{number}}}", "", indent = column + 1)
}

/// `all octets = <<…>>`, or the first 16 of them, in Erlang's notation as RabbitMQ's texts have it.
pub(crate) fn describe_octets(payload: &[u8]) -> String {
    match payload.split_at_checked(16) {
        Some((head, rest)) if !rest.is_empty() => format!("first 16 octets = {}", erlang_binary(head)),
        Some(_) | None => format!("all octets = {}", erlang_binary(payload)),
    }
}

/// A binary in Erlang's notation: as a string when it is printable, else as numbers.
pub(crate) fn erlang_binary(bytes: &[u8]) -> String {
    let mut text = String::from("<<");
    if !bytes.is_empty() && bytes.iter().all(|byte| matches!(byte, b' '..=b'~' | b'\t' | b'\n' | b'\r')) {
        text.push('"');
        for byte in bytes {
            match byte {
                b'"' => text.push_str("\\\""),
                b'\\' => text.push_str("\\\\"),
                b'\t' => text.push_str("\\t"),
                b'\n' => text.push_str("\\n"),
                b'\r' => text.push_str("\\r"),
                other => text.push(char::from(*other)),
            }
        }
        text.push('"');
    } else {
        for (index, byte) in bytes.iter().enumerate() {
            if index > 0 {
                text.push(',');
            }
            // Writing to a String cannot fail.
            write!(text, "{byte}").unwrap_or_default();
        }
    }
    text.push_str(">>");
    text
}
