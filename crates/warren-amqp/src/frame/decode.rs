//! Spine 2: bytes become frames, limits checked (0-9-1 §4.2.3). Payloads are slices of what was read. Knows nothing
//! of what a frame says.
//! Before: the shell's read. After: `connection`.

use bytes::{Bytes, BytesMut};
use warren_types::ChannelNumber;

use super::limits::{
    FRAME_END, FRAME_OVERHEAD, FrameError, KIND_BODY, KIND_HEADER, KIND_HEARTBEAT, KIND_METHOD,
    describe_octets,
};

const HEAD: usize = 7;
/// Class and method.
const METHOD_HEAD: usize = 4;
/// Class, weight and size of the body.
const HEADER_HEAD: usize = 12;

/// A frame whose limits and end octet are right.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Frame {
    /// A method: class, method, arguments.
    Method(ChannelNumber, Bytes),
    /// A content header.
    Header(ChannelNumber, Bytes),
    /// A piece of a body. Never on channel 0, as the header.
    Body(ChannelNumber, Bytes),
    /// A heartbeat.
    Heartbeat,
}

/// Takes one frame off the front of `input`; `None` until a whole one is there. At most `frame_max` payload bytes are
/// waited for: RabbitMQ, too, lets clients be wrong about the eight bytes around it.
///
/// # Errors
/// [`FrameError`] (501 or 505, closes the connection). The size is judged as soon as it is known, so no more than one
/// legal frame is ever buffered.
pub fn next_frame(input: &mut BytesMut, frame_max: u32) -> Result<Option<Frame>, FrameError> {
    let Some(&[kind, c1, c0, s3, s2, s1, s0]) = input.first_chunk::<HEAD>() else { return Ok(None) };
    let size = u32::from_be_bytes([s3, s2, s1, s0]);
    if size > frame_max {
        return Err(FrameError::TooLarge { kind, size, limit: frame_max.saturating_sub(FRAME_OVERHEAD) });
    }
    let end = HEAD.saturating_add(size as usize);
    let Some(&last) = input.get(end) else { return Ok(None) };
    if last != FRAME_END {
        let octets = describe_octets(input.get(HEAD..end).unwrap_or_default());
        return Err(FrameError::BadEnd { kind, end: last, octets });
    }
    let payload = input.split_to(end + 1).freeze().slice(HEAD..end);
    let channel = ChannelNumber(u16::from_be_bytes([c1, c0]));
    // Too short to say what it is about, it is no frame on any channel.
    let least = match kind {
        KIND_METHOD => METHOD_HEAD,
        KIND_HEADER => HEADER_HEAD,
        _ => 0,
    };
    match kind {
        _ if payload.len() < least => {
            Err(FrameError::UnknownKind { kind, octets: describe_octets(&payload) })
        }
        KIND_METHOD => Ok(Some(Frame::Method(channel, payload))),
        KIND_HEADER | KIND_BODY if channel.0 == 0 => {
            Err(FrameError::Unexpected { kind, octets: describe_octets(&payload) })
        }
        KIND_HEADER => Ok(Some(Frame::Header(channel, payload))),
        KIND_BODY => Ok(Some(Frame::Body(channel, payload))),
        KIND_HEARTBEAT if channel.0 != 0 => {
            Err(FrameError::Unexpected { kind, octets: describe_octets(&payload) })
        }
        KIND_HEARTBEAT if payload.is_empty() => Ok(Some(Frame::Heartbeat)),
        other => Err(FrameError::UnknownKind { kind: other, octets: describe_octets(&payload) }),
    }
}

/// True when the next frame in `input` is complete and is a `basic.ack`, `basic.reject` or `basic.nack` on this
/// channel: it may join the ones before it.
pub(crate) fn next_is_settle(input: &[u8], channel: ChannelNumber) -> bool {
    let [c1, c0] = channel.0.to_be_bytes();
    match input.first_chunk::<11>() {
        // All three have nine bytes of arguments: tag and bits.
        Some(&[KIND_METHOD, n1, n0, 0, 0, 0, 13, 0, 60, 0, 80 | 90 | 120]) => {
            n1 == c1 && n0 == c0 && input.len() > 20
        }
        Some(_) | None => false,
    }
}
