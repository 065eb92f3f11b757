//! What both directions share: bounds, ranges, messages.

use bytes::Bytes;
use warren_types::{BODY_MAX_BYTES, Message, Position, PositionRange, ShortStr};

use crate::DecodeError;
use crate::generated::session as wire;

/// Longest frame that is read: a body at its largest with room for the rest of a batch. One that was sent and is not read
/// would be sent again for ever.
pub(super) const MAX_FRAME_BYTES: usize = BODY_MAX_BYTES + (32 << 20);

/// Most messages, ranges, consumers or queues in one frame. Senders stay far below it.
pub(super) const MAX_ITEMS: usize = 1 << 20;

pub(super) fn check_length(what: &'static str, length: usize) -> Result<(), DecodeError> {
    bounded(what, "length", length, MAX_FRAME_BYTES)
}

pub(super) fn bounded(
    what: &'static str,
    field: &'static str,
    count: usize,
    most: usize,
) -> Result<(), DecodeError> {
    if count > most { Err(DecodeError::Field { what, field }) } else { Ok(()) }
}

pub(super) fn malformed(what: &'static str, error: &prost::DecodeError) -> DecodeError {
    DecodeError::Malformed { what, reason: error.to_string() }
}

pub(super) fn short(what: &'static str, field: &'static str, bytes: Bytes) -> Result<ShortStr, DecodeError> {
    ShortStr::new(bytes).map_err(|_| DecodeError::Field { what, field })
}

pub(super) fn message_from(
    exchange: ShortStr,
    routing_key: ShortStr,
    properties: Bytes,
    body: Bytes,
) -> Message {
    Message { exchange, routing_key, properties, body }
}

/// Empty ranges have no wire form and are left out.
pub(super) fn ranges_to(ranges: &[PositionRange]) -> Vec<wire::PositionRange> {
    ranges
        .iter()
        .filter(|range| range.count() > 0)
        .map(|range| wire::PositionRange { first: range.first.0, count: range.count() })
        .collect()
}

/// Positions count from 1 and their ranges end within `u64`; a range may still be longer than any queue: whoever
/// takes it must not walk it.
pub(super) fn ranges_from(
    what: &'static str,
    ranges: &[wire::PositionRange],
) -> Result<Vec<PositionRange>, DecodeError> {
    bounded(what, "ranges", ranges.len(), MAX_ITEMS)?;
    ranges
        .iter()
        .map(|range| {
            let last = range.count.checked_sub(1).and_then(|more| range.first.checked_add(more));
            match last {
                Some(last) if range.first != 0 => {
                    Ok(PositionRange { first: Position(range.first), last: Position(last) })
                }
                Some(_) | None => Err(DecodeError::Field { what, field: "ranges" }),
            }
        })
        .collect()
}
