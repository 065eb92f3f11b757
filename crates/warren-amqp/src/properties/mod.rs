//! What a content header says about a message (0-9-1 §4.2.6.1), read lazily from its bytes: most of it is only passed
//! on. Knows no broker; checks that belong to publishing give the error that the client is told.

mod build;
mod death;
mod headers;

use bytes::{BufMut, Bytes, BytesMut};
use warren_types::table::{self, MAX_DEPTH, TableError};
use warren_types::{AMQPValue, AmqpError, FieldTable, ReplyCode, ShortStr};

pub use build::PropertiesBuilder;
pub use death::{DeadMessage, Death, dead_letter};
pub(crate) use headers::with_counts;

/// Longest expiration that RabbitMQ takes: ten years, in milliseconds.
pub const EXPIRATION_MAX_MS: u64 = 315_360_000_000;

/// Why bytes are not properties.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PropertiesError {
    /// They end inside a property.
    #[error("cannot decode content header")]
    Truncated,
    /// A second word of flags, or bytes after the last property.
    #[error("cannot decode content header")]
    Trailing,
    /// The headers are malformed.
    #[error(transparent)]
    Headers(#[from] TableError),
}

impl PropertiesError {
    /// What the client is told: 502 for malformed headers, else 501.
    #[must_use]
    pub fn error(self) -> AmqpError {
        let code = match self {
            Self::Truncated | Self::Trailing => ReplyCode::FrameError,
            Self::Headers(_) => ReplyCode::SyntaxError,
        };
        AmqpError::new(code, self.to_string())
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    ShortString,
    Table,
    Octet,
    LongLong,
}

const CONTENT_TYPE: usize = 0;
const CONTENT_ENCODING: usize = 1;
const HEADERS: usize = 2;
const DELIVERY_MODE: usize = 3;
const PRIORITY: usize = 4;
const CORRELATION_ID: usize = 5;
const REPLY_TO: usize = 6;
const EXPIRATION: usize = 7;
const MESSAGE_ID: usize = 8;
const TIMESTAMP: usize = 9;
const TYPE: usize = 10;
const USER_ID: usize = 11;
const APP_ID: usize = 12;
const CLUSTER_ID: usize = 13;

/// The properties of class basic, in order; the first is the flags' highest bit.
const KINDS: [Kind; 14] = [
    Kind::ShortString,
    Kind::ShortString,
    Kind::Table,
    Kind::Octet,
    Kind::Octet,
    Kind::ShortString,
    Kind::ShortString,
    Kind::ShortString,
    Kind::ShortString,
    Kind::LongLong,
    Kind::ShortString,
    Kind::ShortString,
    Kind::ShortString,
    Kind::ShortString,
];

/// A view of a message's properties. Bytes that are not properties read as if the rest were absent.
#[derive(Clone, Copy, Debug)]
pub struct Properties<'a> {
    flags: u16,
    list: &'a [u8],
}

/// Checks that bytes are well-formed properties, headers included. Allocates nothing.
///
/// # Errors
/// [`PropertiesError`]; the connection that sent them is told [`PropertiesError::error`].
pub fn check(bytes: &[u8]) -> Result<(), PropertiesError> {
    let (flags, mut rest) = split_flags(bytes).ok_or(PropertiesError::Truncated)?;
    if flags & 1 != 0 {
        return Err(PropertiesError::Trailing);
    }
    if flags == 0 {
        return if rest.is_empty() { Ok(()) } else { Err(PropertiesError::Trailing) };
    }
    for (index, kind) in KINDS.iter().enumerate() {
        if flags & bit(index) == 0 {
            continue;
        }
        let length = length_of(*kind, rest).ok_or(PropertiesError::Truncated)?;
        let (value, after) = rest.split_at_checked(length).ok_or(PropertiesError::Truncated)?;
        if *kind == Kind::Table {
            headers::check(value.get(4..).unwrap_or_default(), MAX_DEPTH)?;
        }
        rest = after;
    }
    if rest.is_empty() { Ok(()) } else { Err(PropertiesError::Trailing) }
}

fn split_flags(bytes: &[u8]) -> Option<(u16, &[u8])> {
    let (flags, list) = bytes.split_first_chunk::<2>()?;
    Some((u16::from_be_bytes(*flags), list))
}

fn bit(index: usize) -> u16 {
    0x8000 >> index
}

/// Bytes of the property at the front of `rest`, its length prefix included.
fn length_of(kind: Kind, rest: &[u8]) -> Option<usize> {
    match kind {
        Kind::Octet => Some(1),
        Kind::LongLong => Some(8),
        Kind::ShortString => rest.first().map(|length| 1 + usize::from(*length)),
        Kind::Table => {
            rest.first_chunk::<4>().map(|length| (u32::from_be_bytes(*length) as usize).saturating_add(4))
        }
    }
}

impl<'a> Properties<'a> {
    /// A view of these bytes.
    #[must_use]
    pub fn new(bytes: &'a [u8]) -> Self {
        let (flags, list) = split_flags(bytes).unwrap_or_default();
        Self { flags, list }
    }

    /// Where a property's bytes are in the list.
    fn find(&self, wanted: usize) -> Option<&'a [u8]> {
        if self.flags & bit(wanted) == 0 {
            return None;
        }
        let mut rest = self.list;
        for (index, kind) in KINDS.iter().enumerate() {
            if self.flags & bit(index) == 0 {
                continue;
            }
            let (value, after) = rest.split_at_checked(length_of(*kind, rest)?)?;
            if index == wanted {
                return Some(value);
            }
            rest = after;
        }
        None
    }

    fn text(&self, wanted: usize) -> Option<&'a str> {
        std::str::from_utf8(self.find(wanted)?.get(1..)?).ok()
    }

    fn octet(&self, wanted: usize) -> Option<u8> {
        self.find(wanted)?.first().copied()
    }

    /// `content-type`, when it is UTF-8.
    #[must_use]
    pub fn content_type(&self) -> Option<&'a str> {
        self.text(CONTENT_TYPE)
    }

    /// `content-encoding`, when it is UTF-8.
    #[must_use]
    pub fn content_encoding(&self) -> Option<&'a str> {
        self.text(CONTENT_ENCODING)
    }

    /// `headers` as on the wire, the 4-byte length in front.
    #[must_use]
    pub fn headers_bytes(&self) -> Option<&'a [u8]> {
        self.find(HEADERS)
    }

    /// `headers`; `None` when absent.
    #[must_use]
    pub fn headers(&self) -> Option<FieldTable> {
        table::decode(self.find(HEADERS)?).ok()
    }

    /// One header, found without decoding the others.
    #[must_use]
    pub fn header(&self, key: &str) -> Option<AMQPValue> {
        headers::find(self.find(HEADERS)?.get(4..)?, key)
    }

    /// `delivery-mode`: 2 is persistent.
    #[must_use]
    pub fn delivery_mode(&self) -> Option<u8> {
        self.octet(DELIVERY_MODE)
    }

    /// True when `delivery-mode` is 2.
    #[must_use]
    pub fn is_persistent(&self) -> bool {
        self.delivery_mode() == Some(2)
    }

    /// `priority`.
    #[must_use]
    pub fn priority(&self) -> Option<u8> {
        self.octet(PRIORITY)
    }

    /// `correlation-id`, when it is UTF-8.
    #[must_use]
    pub fn correlation_id(&self) -> Option<&'a str> {
        self.text(CORRELATION_ID)
    }

    /// `reply-to`, when it is UTF-8.
    #[must_use]
    pub fn reply_to(&self) -> Option<&'a str> {
        self.text(REPLY_TO)
    }

    /// `expiration` as sent; see [`Self::expiration_ms`].
    #[must_use]
    pub fn expiration(&self) -> Option<&'a str> {
        self.text(EXPIRATION)
    }

    /// `message-id`, when it is UTF-8.
    #[must_use]
    pub fn message_id(&self) -> Option<&'a str> {
        self.text(MESSAGE_ID)
    }

    /// `timestamp`, in seconds since 1970.
    #[must_use]
    pub fn timestamp(&self) -> Option<u64> {
        self.find(TIMESTAMP)?.first_chunk::<8>().map(|bytes| u64::from_be_bytes(*bytes))
    }

    /// `type`, when it is UTF-8.
    #[must_use]
    pub fn kind(&self) -> Option<&'a str> {
        self.text(TYPE)
    }

    /// `user-id`, when it is UTF-8.
    #[must_use]
    pub fn user_id(&self) -> Option<&'a str> {
        self.text(USER_ID)
    }

    /// `user-id`, whatever it is.
    #[must_use]
    pub fn user_id_octets(&self) -> Option<&'a [u8]> {
        self.find(USER_ID)?.get(1..)
    }

    /// `app-id`, when it is UTF-8.
    #[must_use]
    pub fn app_id(&self) -> Option<&'a str> {
        self.text(APP_ID)
    }

    /// `cluster-id`, when it is UTF-8.
    #[must_use]
    pub fn cluster_id(&self) -> Option<&'a str> {
        self.text(CLUSTER_ID)
    }

    /// `expiration` in milliseconds.
    ///
    /// # Errors
    /// 406 with RabbitMQ's text when it is not a decimal number of at most [`EXPIRATION_MAX_MS`].
    pub fn expiration_ms(&self) -> Result<Option<u64>, AmqpError> {
        let Some(raw) = self.find(EXPIRATION).and_then(|value| value.get(1..)) else { return Ok(None) };
        let text = String::from_utf8_lossy(raw);
        parse_expiration(&text).map(Some).map_err(|cause| {
            AmqpError::new(ReplyCode::PreconditionFailed, format!("invalid expiration '{text}': {cause}"))
        })
    }

    /// The routing keys that the headers `CC` and `BCC` add, in order. Elements that are no strings are ignored.
    ///
    /// # Errors
    /// 406 when one of the two is no array.
    pub fn extra_routing_keys(&self) -> Result<Vec<Vec<u8>>, AmqpError> {
        let Some(headers) = self.find(HEADERS).and_then(|value| value.get(4..)) else {
            return Ok(Vec::new());
        };
        let mut keys = Vec::new();
        for name in ["CC", "BCC"] {
            match headers::find(headers, name) {
                None => {}
                Some(AMQPValue::FieldArray(values)) => {
                    keys.extend(values.as_slice().iter().filter_map(|value| match value {
                        AMQPValue::LongString(key) => Some(key.as_bytes().to_vec()),
                        _ => None,
                    }));
                }
                Some(other) => {
                    let text = format!(
                        "invalid message: {{unacceptable_type_in_header,\"{name}\",{}}}",
                        warren_types::table::type_name(&other)
                    );
                    return Err(AmqpError::new(ReplyCode::PreconditionFailed, text));
                }
            }
        }
        Ok(keys)
    }
}

/// Erlang's reading of an integer at the front of a string, and what it says when that is not all.
fn parse_expiration(text: &str) -> Result<u64, String> {
    let (negative, digits) = match text.as_bytes().first() {
        Some(b'-') => (true, text.get(1..).unwrap_or_default()),
        Some(b'+') => (false, text.get(1..).unwrap_or_default()),
        Some(_) | None => (false, text),
    };
    let end = digits.bytes().position(|byte| !byte.is_ascii_digit()).unwrap_or(digits.len());
    let (number, leftover) = digits.split_at(end);
    if number.is_empty() {
        return Err("no_integer".to_owned());
    }
    if !leftover.is_empty() {
        return Err(format!("{{leftover_string,\"{leftover}\"}}"));
    }
    let significant = number.trim_start_matches('0');
    let significant = if significant.is_empty() { "0" } else { significant };
    match significant.parse::<u64>() {
        Ok(0) => Ok(0),
        Ok(_) | Err(_) if negative => Err(format!("{{value_negative,-{significant}}}")),
        Ok(value) if value <= EXPIRATION_MAX_MS => Ok(value),
        Ok(_) | Err(_) => Err(format!("{{value_too_large,{significant}}}")),
    }
}

/// The properties with one header changed or removed; the rest stays as it is. `None` removes it.
#[must_use]
pub fn with_header(properties: &[u8], key: &str, value: Option<&AMQPValue>) -> Bytes {
    headers::rewrite(properties, key, value)
}

/// The properties with another `reply-to`; the rest stays as it is. Bytes that are not properties come back as they are.
#[must_use]
pub fn with_reply_to(properties: &[u8], reply_to: &ShortStr) -> Bytes {
    replace_reply_to(properties, reply_to).unwrap_or_else(|| Bytes::copy_from_slice(properties))
}

fn replace_reply_to(properties: &[u8], reply_to: &ShortStr) -> Option<Bytes> {
    let (flags, list) = split_flags(properties)?;
    let mut before = 0;
    for (index, kind) in KINDS.iter().enumerate().take(REPLY_TO) {
        if flags & bit(index) != 0 {
            before += length_of(*kind, list.get(before..)?)?;
        }
    }
    let (head, rest) = list.split_at_checked(before)?;
    let old = if flags & bit(REPLY_TO) == 0 { 0 } else { length_of(Kind::ShortString, rest)? };
    let tail = rest.get(old..)?;
    let mut out = BytesMut::with_capacity(2 + head.len() + 1 + reply_to.len() + tail.len());
    out.put_u16(flags | bit(REPLY_TO));
    out.put_slice(head);
    out.put_u8(u8::try_from(reply_to.len()).ok()?);
    out.put_slice(reply_to.bytes());
    out.put_slice(tail);
    Some(out.freeze())
}
