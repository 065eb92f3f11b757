//! Method payloads become values: by hand where every message passes, through `amq-protocol` elsewhere, and there only
//! after the shape was checked and with its table taken out, so that nothing hostile reaches a recursive parser.

use amq_protocol::protocol::{AMQPClass, basic, connection, exchange, parse_class, queue};
use bytes::Bytes;
use warren_types::table::TableError;
use warren_types::{AmqpError, FieldTable, NameError, ReplyCode, ShortStr};

use super::limits::erlang_binary;
use super::shape::{self, FoundTable, ShapeError};
use crate::error::MethodId;

/// A method that a client sends.
#[derive(Clone, Debug, PartialEq)]
pub enum Method {
    /// `basic.publish`; content follows.
    Publish(PublishMethod),
    /// `basic.ack`.
    Ack {
        /// The delivery tag.
        tag: u64,
        /// Everything up to it.
        multiple: bool,
    },
    /// `basic.nack`.
    Nack {
        /// The delivery tag.
        tag: u64,
        /// Everything up to it.
        multiple: bool,
        /// Back to its place.
        requeue: bool,
    },
    /// `basic.reject`.
    Reject {
        /// The delivery tag.
        tag: u64,
        /// Back to its place.
        requeue: bool,
    },
    /// `basic.qos`.
    Qos {
        /// Bytes; only 0 is supported.
        size: u32,
        /// Messages; 0 is no limit.
        count: u16,
        /// For the whole channel instead of each consumer that starts later.
        global: bool,
    },
    /// Any other.
    Other(AMQPClass),
}

/// `basic.publish`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PublishMethod {
    /// The exchange.
    pub exchange: ShortStr,
    /// The routing key.
    pub routing_key: ShortStr,
    /// Give the message back when no queue takes it.
    pub mandatory: bool,
    /// Not supported: 540.
    pub immediate: bool,
}

/// A method of the server that content follows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerContent {
    /// Which.
    pub kind: ServerContentKind,
    /// The exchange that the message was published to.
    pub exchange: ShortStr,
    /// The key it was published with.
    pub routing_key: ShortStr,
}

/// What is special to each method of the server that content follows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ServerContentKind {
    /// `basic.deliver`.
    Deliver {
        /// The consumer.
        consumer_tag: ShortStr,
        /// The delivery tag.
        tag: u64,
        /// It was handed out before.
        redelivered: bool,
    },
    /// `basic.return`.
    Return {
        /// Why, as a number.
        code: u16,
        /// Why, as text.
        text: ShortStr,
    },
    /// `basic.get-ok`.
    GetOk {
        /// The delivery tag.
        tag: u64,
        /// It was handed out before.
        redelivered: bool,
        /// Messages still ready.
        remaining: u32,
    },
}

/// Why a payload is not a method.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// Shorter than class and method.
    #[error("cannot decode {octets}")]
    NoMethod {
        /// The payload.
        octets: String,
    },
    /// A class or method that does not exist.
    #[error("unimplemented method {},{}", id.class, id.method)]
    Unknown {
        /// Its numbers.
        id: MethodId,
    },
    /// Its arguments are malformed.
    #[error("{cause}")]
    Arguments {
        /// The method.
        id: MethodId,
        /// What is wrong.
        cause: ShapeError,
        /// The arguments, cut.
        octets: String,
    },
}

impl DecodeError {
    /// The method to blame.
    #[must_use]
    pub fn id(&self) -> MethodId {
        match self {
            Self::NoMethod { .. } => MethodId::NONE,
            Self::Unknown { id } | Self::Arguments { id, .. } => *id,
        }
    }

    /// Whether the cause is a short string that is no UTF-8.
    #[must_use]
    pub fn is_not_utf8(&self) -> bool {
        matches!(self, Self::Arguments { cause: ShapeError::NotUtf8, .. })
    }

    /// What the client is told: 503 for a method that does not exist, 502 for a table, else 501.
    #[must_use]
    pub fn error(&self) -> AmqpError {
        match self {
            Self::NoMethod { .. } => AmqpError::new(ReplyCode::FrameError, self.to_string()),
            Self::Unknown { .. } => AmqpError::new(ReplyCode::CommandInvalid, self.to_string()),
            Self::Arguments { cause, octets, .. } => match cause {
                ShapeError::Truncated | ShapeError::Trailing | ShapeError::Table(TableError::Truncated) => {
                    AmqpError::new(ReplyCode::FrameError, format!("cannot decode {octets}"))
                }
                ShapeError::NotUtf8 => AmqpError::new(ReplyCode::FrameError, cause.to_string()),
                ShapeError::Table(
                    TableError::UnknownTag(_)
                    | TableError::KeyNotUtf8
                    | TableError::TooDeep
                    | TableError::TrailingBytes,
                ) => AmqpError::new(ReplyCode::SyntaxError, cause.to_string()),
            },
        }
    }
}

/// The class and method at the front of a payload.
#[must_use]
pub fn method_id(payload: &[u8]) -> Option<MethodId> {
    let &[c1, c0, m1, m0] = payload.first_chunk::<4>()?;
    Some(MethodId::new(u16::from_be_bytes([c1, c0]), u16::from_be_bytes([m1, m0])))
}

/// Decodes a method frame's payload. Names are slices of it.
///
/// # Errors
/// [`DecodeError`], which says what closes the connection.
pub fn decode_method(payload: &Bytes) -> Result<Method, DecodeError> {
    let id = method_id(payload).ok_or_else(|| DecodeError::NoMethod { octets: erlang_binary(payload) })?;
    let arguments = payload.get(4..).unwrap_or_default();
    decode_hot(id, payload, arguments)
        .unwrap_or_else(|| decode_other(id, payload, arguments).map(Method::Other).map_err(Cause::shape))
        .map_err(|cause| match cause {
            Cause::Unknown => DecodeError::Unknown { id },
            Cause::Shape(cause) => {
                let cut = arguments.get(..64).unwrap_or(arguments);
                DecodeError::Arguments { id, cause, octets: erlang_binary(cut) }
            }
        })
}

enum Cause {
    Unknown,
    Shape(ShapeError),
}

impl Cause {
    fn shape(cause: Option<ShapeError>) -> Self {
        cause.map_or(Self::Unknown, Self::Shape)
    }
}

/// `None` for a method that is not decoded by hand.
fn decode_hot(id: MethodId, payload: &Bytes, arguments: &[u8]) -> Option<Result<Method, Cause>> {
    if id.class != 60 {
        return None;
    }
    let method = match id.method {
        40 => decode_publish(payload),
        80 => settle(arguments).map(|(tag, bits)| Method::Ack { tag, multiple: bits & 1 != 0 }),
        90 => settle(arguments).map(|(tag, bits)| Method::Reject { tag, requeue: bits & 1 != 0 }),
        120 => settle(arguments).map(|(tag, bits)| Method::Nack {
            tag,
            multiple: bits & 1 != 0,
            requeue: bits & 2 != 0,
        }),
        10 => match arguments {
            &[s3, s2, s1, s0, c1, c0, bits] => Ok(Method::Qos {
                size: u32::from_be_bytes([s3, s2, s1, s0]),
                count: u16::from_be_bytes([c1, c0]),
                global: bits & 1 != 0,
            }),
            other => Err(wrong_length(other, 7)),
        },
        _ => return None,
    };
    Some(method.map_err(Cause::Shape))
}

fn wrong_length(arguments: &[u8], expected: usize) -> ShapeError {
    if arguments.len() < expected { ShapeError::Truncated } else { ShapeError::Trailing }
}

fn settle(arguments: &[u8]) -> Result<(u64, u8), ShapeError> {
    match arguments {
        &[t7, t6, t5, t4, t3, t2, t1, t0, bits] => {
            Ok((u64::from_be_bytes([t7, t6, t5, t4, t3, t2, t1, t0]), bits))
        }
        other => Err(wrong_length(other, 9)),
    }
}

fn decode_publish(payload: &Bytes) -> Result<Method, ShapeError> {
    let mut reader = Reader { payload, at: 6 };
    let exchange = reader.short_string()?;
    let routing_key = reader.short_string()?;
    let bits = reader.octet()?;
    reader.finish()?;
    let method = PublishMethod { exchange, routing_key, mandatory: bits & 1 != 0, immediate: bits & 2 != 0 };
    Ok(Method::Publish(method))
}

/// Decodes the methods of a server that content follows; `None` for any other method.
///
/// # Errors
/// [`ShapeError`] when the arguments are malformed.
pub fn decode_server_content(payload: &Bytes) -> Option<Result<ServerContent, ShapeError>> {
    let id = method_id(payload)?;
    let mut reader = Reader { payload, at: 4 };
    let decode: fn(&mut Reader<'_>) -> Result<ServerContent, ShapeError> = match (id.class, id.method) {
        (60, 60) => |reader| {
            let consumer_tag = reader.short_string()?;
            let tag = reader.long_long()?;
            let redelivered = reader.octet()? & 1 != 0;
            let (exchange, routing_key) = (reader.short_string()?, reader.short_string()?);
            let kind = ServerContentKind::Deliver { consumer_tag, tag, redelivered };
            Ok(ServerContent { kind, exchange, routing_key })
        },
        (60, 50) => |reader| {
            let code = u16::from_be_bytes(reader.array()?);
            let text = reader.short_string()?;
            let (exchange, routing_key) = (reader.short_string()?, reader.short_string()?);
            Ok(ServerContent { kind: ServerContentKind::Return { code, text }, exchange, routing_key })
        },
        (60, 71) => |reader| {
            let tag = reader.long_long()?;
            let redelivered = reader.octet()? & 1 != 0;
            let (exchange, routing_key) = (reader.short_string()?, reader.short_string()?);
            let remaining = u32::from_be_bytes(reader.array()?);
            let kind = ServerContentKind::GetOk { tag, redelivered, remaining };
            Ok(ServerContent { kind, exchange, routing_key })
        },
        _ => return None,
    };
    Some(decode(&mut reader).and_then(|content| reader.finish().map(|()| content)))
}

/// Decodes any method through `amq-protocol`. `Err(None)`: it does not exist.
fn decode_other(id: MethodId, payload: &Bytes, arguments: &[u8]) -> Result<AMQPClass, Option<ShapeError>> {
    if !shape::is_known(id) {
        return Err(None);
    }
    let Some(found) = shape::check(id, arguments)? else { return parse(payload) };
    // The parser gets an empty table in its place: it would recurse, and keep the last of equal keys.
    let FoundTable { table, start, end } = found;
    let mut without = Vec::with_capacity(payload.len() - (end - start) + 4);
    without.extend_from_slice(payload.get(..4 + start).unwrap_or_default());
    without.extend_from_slice(&[0; 4]);
    without.extend_from_slice(payload.get(4 + end..).unwrap_or_default());
    let mut class = parse(&without)?;
    put_table(&mut class, table);
    Ok(class)
}

fn parse(payload: &[u8]) -> Result<AMQPClass, Option<ShapeError>> {
    match parse_class(payload) {
        Ok(([], class)) => Ok(class),
        Ok(_) => Err(Some(ShapeError::Trailing)),
        Err(_) => Err(Some(ShapeError::Truncated)),
    }
}

fn put_table(class: &mut AMQPClass, table: FieldTable) {
    match class {
        AMQPClass::Connection(connection::AMQPMethod::Start(method)) => method.server_properties = table,
        AMQPClass::Connection(connection::AMQPMethod::StartOk(method)) => method.client_properties = table,
        AMQPClass::Exchange(exchange::AMQPMethod::Declare(method)) => method.arguments = table,
        AMQPClass::Exchange(exchange::AMQPMethod::Bind(method)) => method.arguments = table,
        AMQPClass::Exchange(exchange::AMQPMethod::Unbind(method)) => method.arguments = table,
        AMQPClass::Queue(queue::AMQPMethod::Declare(method)) => method.arguments = table,
        AMQPClass::Queue(queue::AMQPMethod::Bind(method)) => method.arguments = table,
        AMQPClass::Queue(queue::AMQPMethod::Unbind(method)) => method.arguments = table,
        AMQPClass::Basic(basic::AMQPMethod::Consume(method)) => method.arguments = table,
        AMQPClass::Connection(_)
        | AMQPClass::Exchange(_)
        | AMQPClass::Queue(_)
        | AMQPClass::Basic(_)
        | AMQPClass::Channel(_)
        | AMQPClass::Access(_)
        | AMQPClass::Tx(_)
        | AMQPClass::Confirm(_) => debug_assert!(false, "a method without a table has one"),
    }
}

struct Reader<'a> {
    payload: &'a Bytes,
    at: usize,
}

impl Reader<'_> {
    fn octet(&mut self) -> Result<u8, ShapeError> {
        let octet = self.payload.get(self.at).copied().ok_or(ShapeError::Truncated)?;
        self.at += 1;
        Ok(octet)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], ShapeError> {
        let array = self.payload.get(self.at..).and_then(|rest| rest.first_chunk::<N>()).copied();
        self.at += N;
        array.ok_or(ShapeError::Truncated)
    }

    fn long_long(&mut self) -> Result<u64, ShapeError> {
        Ok(u64::from_be_bytes(self.array()?))
    }

    fn short_string(&mut self) -> Result<ShortStr, ShapeError> {
        let length = usize::from(self.octet()?);
        let (start, end) = (self.at, self.at + length);
        if end > self.payload.len() {
            return Err(ShapeError::Truncated);
        }
        self.at = end;
        if length == 0 {
            return Ok(ShortStr::default());
        }
        ShortStr::new(self.payload.slice(start..end)).map_err(|cause| match cause {
            NameError::NotUtf8 | NameError::TooLong(_) => ShapeError::NotUtf8,
        })
    }

    fn finish(&self) -> Result<(), ShapeError> {
        if self.at == self.payload.len() { Ok(()) } else { Err(ShapeError::Trailing) }
    }
}
