//! The client's half of AMQP 0-9-1, as far as the bench speaks it: frames to and from bytes, without allocation on the
//! way in and with one copy on the way out.

use crate::dialect::Message;
use crate::stamp::{STAMP_BYTES, Stamp, noise};

/// What starts every connection.
pub(crate) const PROTOCOL_HEADER: [u8; 8] = *b"AMQP\x00\x00\x09\x01";

const FRAME_METHOD: u8 = 1;
const FRAME_HEADER: u8 = 2;
const FRAME_BODY: u8 = 3;
const FRAME_HEARTBEAT: u8 = 8;
const FRAME_END: u8 = 0xCE;

/// Bytes around a frame's payload: type, channel, size, and the end octet.
pub(crate) const FRAME_OVERHEAD: usize = 8;

/// The largest payload that is believed; a broker's frame-max beyond it is negotiated down.
pub(crate) const PAYLOAD_MAX: usize = 1 << 20;

/// Class and method number of a method.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct MethodId(pub(crate) u16, pub(crate) u16);

/// The methods that the bench sends or understands.
pub(crate) mod method {
    use super::MethodId;

    pub(crate) const CONNECTION_START: MethodId = MethodId(10, 10);
    pub(crate) const CONNECTION_START_OK: MethodId = MethodId(10, 11);
    pub(crate) const CONNECTION_TUNE: MethodId = MethodId(10, 30);
    pub(crate) const CONNECTION_TUNE_OK: MethodId = MethodId(10, 31);
    pub(crate) const CONNECTION_OPEN: MethodId = MethodId(10, 40);
    pub(crate) const CONNECTION_OPEN_OK: MethodId = MethodId(10, 41);
    pub(crate) const CONNECTION_CLOSE: MethodId = MethodId(10, 50);
    pub(crate) const CONNECTION_CLOSE_OK: MethodId = MethodId(10, 51);
    pub(crate) const CONNECTION_BLOCKED: MethodId = MethodId(10, 60);
    pub(crate) const CONNECTION_UNBLOCKED: MethodId = MethodId(10, 61);
    pub(crate) const CHANNEL_OPEN: MethodId = MethodId(20, 10);
    pub(crate) const CHANNEL_OPEN_OK: MethodId = MethodId(20, 11);
    pub(crate) const CHANNEL_FLOW: MethodId = MethodId(20, 20);
    pub(crate) const CHANNEL_FLOW_OK: MethodId = MethodId(20, 21);
    pub(crate) const CHANNEL_CLOSE: MethodId = MethodId(20, 40);
    pub(crate) const CHANNEL_CLOSE_OK: MethodId = MethodId(20, 41);
    pub(crate) const EXCHANGE_DECLARE: MethodId = MethodId(40, 10);
    pub(crate) const EXCHANGE_DECLARE_OK: MethodId = MethodId(40, 11);
    pub(crate) const EXCHANGE_DELETE: MethodId = MethodId(40, 20);
    pub(crate) const EXCHANGE_DELETE_OK: MethodId = MethodId(40, 21);
    pub(crate) const QUEUE_DECLARE: MethodId = MethodId(50, 10);
    pub(crate) const QUEUE_DECLARE_OK: MethodId = MethodId(50, 11);
    pub(crate) const QUEUE_BIND: MethodId = MethodId(50, 20);
    pub(crate) const QUEUE_BIND_OK: MethodId = MethodId(50, 21);
    pub(crate) const QUEUE_DELETE: MethodId = MethodId(50, 40);
    pub(crate) const QUEUE_DELETE_OK: MethodId = MethodId(50, 41);
    pub(crate) const BASIC_QOS: MethodId = MethodId(60, 10);
    pub(crate) const BASIC_QOS_OK: MethodId = MethodId(60, 11);
    pub(crate) const BASIC_CONSUME: MethodId = MethodId(60, 20);
    pub(crate) const BASIC_CONSUME_OK: MethodId = MethodId(60, 21);
    pub(crate) const BASIC_CANCEL: MethodId = MethodId(60, 30);
    pub(crate) const BASIC_PUBLISH: MethodId = MethodId(60, 40);
    pub(crate) const BASIC_RETURN: MethodId = MethodId(60, 50);
    pub(crate) const BASIC_DELIVER: MethodId = MethodId(60, 60);
    pub(crate) const BASIC_ACK: MethodId = MethodId(60, 80);
    pub(crate) const BASIC_NACK: MethodId = MethodId(60, 120);
    pub(crate) const CONFIRM_SELECT: MethodId = MethodId(85, 10);
    pub(crate) const CONFIRM_SELECT_OK: MethodId = MethodId(85, 11);
}

/// Why bytes are no frame.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum WireError {
    /// The broker answered with a protocol header of its own: it speaks another version.
    #[error("it speaks another protocol than AMQP 0-9-1")]
    OtherProtocol,
    /// A frame type that does not exist.
    #[error("a frame of unknown type {0}")]
    UnknownFrame(u8),
    /// A frame of more bytes than any broker was allowed to send.
    #[error("a frame of {0} bytes")]
    TooLarge(usize),
    /// The octet that ends a frame is another.
    #[error("a frame that does not end where its size says")]
    NoFrameEnd,
    /// A method's arguments end too early.
    #[error("a frame that is shorter than its content")]
    Truncated,
}

/// One frame from the broker; everything borrowed.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Frame<'a> {
    /// A method and its arguments.
    Method { channel: u16, id: MethodId, arguments: Reader<'a> },
    /// A content header: how many bytes of body follow.
    Header { channel: u16, body_bytes: u64 },
    /// A part of a body.
    Body { channel: u16, payload: &'a [u8] },
    /// A heartbeat.
    Heartbeat,
}

/// Takes the first frame of `input`: the frame and how many bytes it was; nothing when it is not there as a whole yet.
///
/// # Errors
/// [`WireError`] when the bytes cannot become a frame by waiting.
#[inline]
pub(crate) fn next_frame(input: &[u8]) -> Result<Option<(Frame<'_>, usize)>, WireError> {
    let Some((&[kind, c0, c1, s0, s1, s2, s3], rest)) = input.split_first_chunk() else {
        return Ok(None);
    };
    if kind == b'A' {
        return Err(WireError::OtherProtocol);
    }
    let channel = u16::from_be_bytes([c0, c1]);
    let size = u32::from_be_bytes([s0, s1, s2, s3]) as usize;
    if size > PAYLOAD_MAX {
        return Err(WireError::TooLarge(size));
    }
    let Some((payload, [end, ..])) = rest.split_at_checked(size) else {
        return Ok(None);
    };
    if *end != FRAME_END {
        return Err(WireError::NoFrameEnd);
    }
    let frame = match kind {
        FRAME_METHOD => {
            let mut arguments = Reader(payload);
            let id = MethodId(arguments.u16()?, arguments.u16()?);
            Frame::Method { channel, id, arguments }
        }
        FRAME_HEADER => {
            let mut fields = Reader(payload);
            let (_class, _weight) = (fields.u16()?, fields.u16()?);
            Frame::Header { channel, body_bytes: fields.u64()? }
        }
        FRAME_BODY => Frame::Body { channel, payload },
        FRAME_HEARTBEAT => Frame::Heartbeat,
        other => return Err(WireError::UnknownFrame(other)),
    };
    Ok(Some((frame, size + FRAME_OVERHEAD)))
}

/// Reads a method's arguments in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Reader<'a>(pub(crate) &'a [u8]);

impl<'a> Reader<'a> {
    fn chunk<const N: usize>(&mut self) -> Result<[u8; N], WireError> {
        let (chunk, rest) = self.0.split_first_chunk().ok_or(WireError::Truncated)?;
        self.0 = rest;
        Ok(*chunk)
    }

    /// The next octet; single bits are packed in it.
    pub(crate) fn u8(&mut self) -> Result<u8, WireError> {
        self.chunk::<1>().map(|[octet]| octet)
    }

    /// The next short integer.
    pub(crate) fn u16(&mut self) -> Result<u16, WireError> {
        self.chunk().map(u16::from_be_bytes)
    }

    /// The next long integer.
    pub(crate) fn u32(&mut self) -> Result<u32, WireError> {
        self.chunk().map(u32::from_be_bytes)
    }

    /// The next long long integer.
    pub(crate) fn u64(&mut self) -> Result<u64, WireError> {
        self.chunk().map(u64::from_be_bytes)
    }

    /// The next short string.
    pub(crate) fn short(&mut self) -> Result<&'a [u8], WireError> {
        let length = usize::from(self.u8()?);
        let (text, rest) = self.0.split_at_checked(length).ok_or(WireError::Truncated)?;
        self.0 = rest;
        Ok(text)
    }
}

/// A value of a field table, as far as the bench sends any.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Field {
    /// `t`
    Bool(bool),
    /// `l`
    Integer(i64),
    /// `S`
    Text(String),
    /// `F`
    Table(Vec<(String, Field)>),
}

/// Appends what methods are made of.
pub(crate) trait Write {
    /// A short string; what is beyond 255 bytes is cut off.
    fn short(&mut self, text: &str);
    /// A long string.
    fn long(&mut self, bytes: &[u8]);
    /// A field table.
    fn table(&mut self, fields: &[(String, Field)]);
    /// An integer of two octets.
    fn u16(&mut self, value: u16);
    /// An integer of four octets.
    fn u32(&mut self, value: u32);
    /// An integer of eight octets.
    fn u64(&mut self, value: u64);
}

impl Write for Vec<u8> {
    fn short(&mut self, text: &str) {
        let bytes = text.as_bytes();
        let length = u8::try_from(bytes.len()).unwrap_or(u8::MAX);
        self.push(length);
        self.extend(bytes.iter().take(usize::from(length)));
    }

    fn long(&mut self, bytes: &[u8]) {
        self.u32(u32::try_from(bytes.len()).unwrap_or(u32::MAX));
        self.extend_from_slice(bytes);
    }

    fn table(&mut self, fields: &[(String, Field)]) {
        let mut encoded = Vec::new();
        for (name, value) in fields {
            encoded.short(name);
            match value {
                Field::Bool(value) => encoded.extend_from_slice(&[b't', u8::from(*value)]),
                Field::Integer(value) => {
                    encoded.push(b'l');
                    encoded.extend_from_slice(&value.to_be_bytes());
                }
                Field::Text(text) => {
                    encoded.push(b'S');
                    encoded.long(text.as_bytes());
                }
                Field::Table(inner) => {
                    encoded.push(b'F');
                    encoded.table(inner);
                }
            }
        }
        self.long(&encoded);
    }

    fn u16(&mut self, value: u16) {
        self.extend_from_slice(&value.to_be_bytes());
    }

    fn u32(&mut self, value: u32) {
        self.extend_from_slice(&value.to_be_bytes());
    }

    fn u64(&mut self, value: u64) {
        self.extend_from_slice(&value.to_be_bytes());
    }
}

/// Appends a method frame whose arguments `arguments` writes.
pub(crate) fn put_method(
    out: &mut Vec<u8>,
    channel: u16,
    id: MethodId,
    arguments: impl FnOnce(&mut Vec<u8>),
) {
    put_frame(out, FRAME_METHOD, channel, |out| {
        out.u16(id.0);
        out.u16(id.1);
        arguments(out);
    });
}

/// Appends a `basic.ack`.
#[inline]
pub(crate) fn put_ack(out: &mut Vec<u8>, channel: u16, delivery_tag: u64, multiple: bool) {
    let [c0, c1] = channel.to_be_bytes();
    let [t0, t1, t2, t3, t4, t5, t6, t7] = delivery_tag.to_be_bytes();
    out.extend_from_slice(&[
        FRAME_METHOD,
        c0,
        c1,
        0,
        0,
        0,
        13,
        0,
        60,
        0,
        80,
        t0,
        t1,
        t2,
        t3,
        t4,
        t5,
        t6,
        t7,
        u8::from(multiple),
        FRAME_END,
    ]);
}

fn put_frame(out: &mut Vec<u8>, kind: u8, channel: u16, payload: impl FnOnce(&mut Vec<u8>)) {
    out.push(kind);
    out.u16(channel);
    let size_at = out.len();
    out.u32(0);
    payload(out);
    let size = u32::try_from(out.len() - size_at - 4).unwrap_or(u32::MAX);
    if let Some(place) = out.get_mut(size_at..size_at + 4) {
        place.copy_from_slice(&size.to_be_bytes());
    }
    out.push(FRAME_END);
}

/// What a message carries besides its body.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Envelope {
    /// Exchange; empty: the default one.
    pub(crate) exchange: String,
    /// Routing key.
    pub(crate) routing_key: String,
    /// Come back when no queue takes it.
    pub(crate) mandatory: bool,
    /// Delivery mode 2.
    pub(crate) persistent: bool,
    /// The `headers` property; none when empty.
    pub(crate) headers: Vec<(String, Field)>,
}

/// The frames of one message, made once; each message sent is a copy of them with another stamp in its body.
#[derive(Debug)]
pub(crate) struct Template {
    frames: Vec<u8>,
    /// Where the body starts in `frames`.
    body_at: usize,
}

impl Template {
    /// Frames for a body of `body_bytes`, cut so that no frame is longer than `frame_max`.
    pub(crate) fn new(channel: u16, envelope: &Envelope, body_bytes: usize, frame_max: usize) -> Self {
        let mut frames = Vec::with_capacity(body_bytes + 256);
        put_method(&mut frames, channel, method::BASIC_PUBLISH, |out| {
            out.u16(0);
            out.short(&envelope.exchange);
            out.short(&envelope.routing_key);
            out.push(u8::from(envelope.mandatory));
        });
        put_frame(&mut frames, FRAME_HEADER, channel, |out| {
            const HEADERS: u16 = 1 << 13;
            const DELIVERY_MODE: u16 = 1 << 12;
            out.u16(method::BASIC_PUBLISH.0);
            out.u16(0);
            out.u64(body_bytes as u64);
            let headers = if envelope.headers.is_empty() { 0 } else { HEADERS };
            out.u16(headers | if envelope.persistent { DELIVERY_MODE } else { 0 });
            if !envelope.headers.is_empty() {
                out.table(&envelope.headers);
            }
            if envelope.persistent {
                out.push(2);
            }
        });
        let body_at = frames.len() + FRAME_OVERHEAD - 1;
        let body = noise(body_bytes);
        for part in body.chunks(frame_max.saturating_sub(FRAME_OVERHEAD).max(1)) {
            put_frame(&mut frames, FRAME_BODY, channel, |out| out.extend_from_slice(part));
        }
        Self { frames, body_at }
    }
}

impl Message for Template {
    #[inline]
    fn put(&self, out: &mut Vec<u8>, stamp: Stamp) {
        let at = out.len() + self.body_at;
        out.extend_from_slice(&self.frames);
        if let Some(place) = out.get_mut(at..at + STAMP_BYTES) {
            place.copy_from_slice(&stamp.to_bytes());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stamp::SEQUENCE_MAX;

    fn frames(mut input: &[u8]) -> Vec<String> {
        let mut found = Vec::new();
        while let Some((frame, used)) = next_frame(input).unwrap() {
            found.push(match frame {
                Frame::Method { channel, id, .. } => format!("method {channel} {}.{}", id.0, id.1),
                Frame::Header { channel, body_bytes } => format!("header {channel} {body_bytes}"),
                Frame::Body { channel, payload } => format!("body {channel} {}", payload.len()),
                Frame::Heartbeat => "heartbeat".to_owned(),
            });
            input = &input[used..];
        }
        assert!(input.is_empty());
        found
    }

    #[test]
    fn a_message_is_a_method_a_header_and_as_many_bodies_as_frame_max_asks_for() {
        let template = Template::new(1, &Envelope::default(), 10_000, 4096);
        let mut out = b"".to_vec();
        template.put(&mut out, Stamp { run: 1, producer: 2, sequence: 3, sent_ns: 4 });
        assert_eq!(
            frames(&out),
            ["method 1 60.40", "header 1 10000", "body 1 4088", "body 1 4088", "body 1 1824"]
        );
        assert_eq!(out.len(), template.frames.len());
    }

    #[test]
    fn a_stamp_comes_back_from_the_body_it_was_put_into() {
        let template = Template::new(1, &Envelope { persistent: true, ..Envelope::default() }, 16, 131_072);
        let stamp = Stamp { run: 0xFE, producer: 65_535, sequence: SEQUENCE_MAX - 1, sent_ns: u64::MAX };
        let mut out = vec![7; 100];
        template.put(&mut out, stamp);
        let body = &out[out.len() - 17..];
        assert_eq!(Stamp::read(body), Some(stamp));
        assert_eq!(Stamp::read(&body[..15]), None);
    }

    #[test]
    fn the_fast_ack_is_what_the_general_encoder_makes() {
        let (mut fast, mut general) = (Vec::new(), Vec::new());
        put_ack(&mut fast, 513, 0x0102_0304_0506_0708, true);
        put_method(&mut general, 513, method::BASIC_ACK, |out| {
            out.u64(0x0102_0304_0506_0708);
            out.push(1);
        });
        assert_eq!(fast, general);
    }

    #[test]
    fn half_a_frame_waits_and_a_wrong_one_is_refused() {
        let mut out = Vec::new();
        put_ack(&mut out, 1, 1, false);
        for length in 0..out.len() {
            assert_eq!(next_frame(&out[..length]), Ok(None), "{length} bytes");
        }
        *out.last_mut().unwrap() = 0;
        assert_eq!(next_frame(&out), Err(WireError::NoFrameEnd));
        assert_eq!(next_frame(&PROTOCOL_HEADER), Err(WireError::OtherProtocol));
        assert_eq!(next_frame(&[1, 0, 0, 0xFF, 0, 0, 0]), Err(WireError::TooLarge(0xFF00_0000)));
        assert_eq!(next_frame(&[9, 0, 0, 0, 0, 0, 0, FRAME_END]), Err(WireError::UnknownFrame(9)));
        assert_eq!(next_frame(&[1, 0, 0, 0, 0, 0, 1, 0, FRAME_END]), Err(WireError::Truncated));
    }

    #[test]
    fn a_table_is_encoded_with_its_length_first() {
        let mut out = Vec::new();
        out.table(&[("a".to_owned(), Field::Bool(true)), ("b".to_owned(), Field::Text("xy".to_owned()))]);
        assert_eq!(out, *b"\x00\x00\x00\x0D\x01at\x01\x01bS\x00\x00\x00\x02xy");
    }
}
