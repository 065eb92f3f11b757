//! A record becomes bytes. Written by hand against `proto/shard.proto` because this is the one encoding that every
//! message passes: the size is known first, so there is one allocation, and each body is copied once.

use bytes::{BufMut, Bytes, BytesMut};
use prost::encoding::{WireType, encode_key, encode_varint, encoded_len_varint};
use warren_types::{PositionRange, QueueId};

use super::{Enqueue, EnqueuedMessage, Op, Record, SettleReason};

/// The version that this code writes, and the newest that it reads.
pub(super) const VERSION: u32 = 1;

impl Record {
    /// The bytes of `warren.shard.v1.Record`. Cost: one allocation of the exact size, one copy of each body.
    #[must_use]
    pub fn encode(&self) -> Bytes {
        let op_sizes: Vec<usize> = self.ops.iter().map(op_size).collect();
        let size = uint_size(u64::from(VERSION))
            + uint_size(self.time.0)
            + op_sizes.iter().map(|size| nested_size(*size)).sum::<usize>();
        let mut out = BytesMut::with_capacity(size);
        put_uint(1, u64::from(VERSION), &mut out);
        put_uint(2, self.time.0, &mut out);
        for (op, size) in self.ops.iter().zip(op_sizes) {
            put_nested(3, size, &mut out);
            put_op(op, &mut out);
        }
        debug_assert_eq!(out.len(), size, "the size was computed wrongly");
        out.freeze()
    }
}

impl SettleReason {
    /// Its number in the log.
    pub(super) fn wire(self) -> u64 {
        match self {
            Self::Acked => 1,
            Self::Rejected => 2,
            Self::Expired => 3,
            Self::Dropped => 4,
            Self::DeliveryLimit => 5,
            Self::DeadLettered => 6,
        }
    }
}

fn op_size(op: &Op) -> usize {
    nested_size(op_body_size(op))
}

fn op_body_size(op: &Op) -> usize {
    match op {
        Op::Enqueue(enqueue) => enqueue_size(enqueue),
        Op::Settle { queue, reason, ranges } => {
            uint_size(queue.0) + uint_size(reason.wire()) + ranges_size(ranges)
        }
        Op::Return { queue, ranges } => uint_size(queue.0) + ranges_size(ranges),
        Op::Reserve { queue, up_to } => uint_size(queue.0) + uint_size(up_to.0),
        Op::Purge { queue, up_to, keep } => uint_size(queue.0) + uint_size(up_to.0) + ranges_size(keep),
        Op::DropQueue { queue } | Op::MarkUsed { queue } => uint_size(queue.0),
        Op::CloseSession { session } => fixed_size(session.0),
        Op::Refuse { session, learned, sequences } => {
            fixed_size(session.0) + uint_size(*learned) + packed_size(sequences)
        }
    }
}

fn put_op(op: &Op, out: &mut BytesMut) {
    let field = match op {
        Op::Enqueue(_) => 1,
        Op::Settle { .. } => 2,
        Op::Return { .. } => 3,
        Op::Reserve { .. } => 4,
        Op::Purge { .. } => 5,
        Op::DropQueue { .. } => 6,
        Op::CloseSession { .. } => 7,
        Op::MarkUsed { .. } => 8,
        Op::Refuse { .. } => 9,
    };
    put_nested(field, op_body_size(op), out);
    match op {
        Op::Enqueue(enqueue) => put_enqueue(enqueue, out),
        Op::Settle { queue, reason, ranges } => {
            put_uint(1, queue.0, out);
            put_uint(2, reason.wire(), out);
            put_ranges(ranges, out);
        }
        Op::Return { queue, ranges } => {
            put_uint(1, queue.0, out);
            // `Return` has no field between its queue and its ranges.
            put_ranges_at(2, ranges, out);
        }
        Op::Reserve { queue, up_to } => {
            put_uint(1, queue.0, out);
            put_uint(2, up_to.0, out);
        }
        Op::Purge { queue, up_to, keep } => {
            put_uint(1, queue.0, out);
            put_uint(2, up_to.0, out);
            put_ranges(keep, out);
        }
        Op::DropQueue { queue } | Op::MarkUsed { queue } => put_uint(1, queue.0, out),
        Op::CloseSession { session } => put_fixed(1, session.0, out),
        Op::Refuse { session, learned, sequences } => {
            put_fixed(1, session.0, out);
            put_uint(2, *learned, out);
            if !sequences.is_empty() {
                put_nested(3, varints_size(sequences), out);
                for sequence in sequences {
                    encode_varint(*sequence, out);
                }
            }
        }
    }
}

fn enqueue_size(enqueue: &Enqueue) -> usize {
    fixed_size(enqueue.session.0)
        + uint_size(enqueue.last_seq)
        + enqueue.messages.iter().map(|message| nested_size(message_size(message))).sum::<usize>()
}

fn put_enqueue(enqueue: &Enqueue, out: &mut BytesMut) {
    put_fixed(1, enqueue.session.0, out);
    put_uint(2, enqueue.last_seq, out);
    for message in &enqueue.messages {
        put_nested(3, message_size(message), out);
        put_message(message, out);
    }
}

fn message_size(enqueued: &EnqueuedMessage) -> usize {
    let message = &enqueued.message;
    uint_size(enqueued.seq)
        + match queues_size(&enqueued.queues) {
            0 => 0,
            size => nested_size(size),
        }
        + bytes_size(message.exchange.bytes())
        + bytes_size(message.routing_key.bytes())
        + bytes_size(&message.properties)
        + bytes_size(&message.body)
}

fn put_message(enqueued: &EnqueuedMessage, out: &mut BytesMut) {
    put_uint(1, enqueued.seq, out);
    if !enqueued.queues.is_empty() {
        put_nested(2, queues_size(&enqueued.queues), out);
        for queue in &enqueued.queues {
            encode_varint(queue.0, out);
        }
    }
    let message = &enqueued.message;
    put_bytes(3, message.exchange.bytes(), out);
    put_bytes(4, message.routing_key.bytes(), out);
    put_bytes(5, &message.properties, out);
    put_bytes(6, &message.body, out);
}

fn packed_size(values: &[u64]) -> usize {
    match varints_size(values) {
        0 => 0,
        size => nested_size(size),
    }
}

fn varints_size(values: &[u64]) -> usize {
    values.iter().map(|value| encoded_len_varint(*value)).sum()
}

fn queues_size(queues: &[QueueId]) -> usize {
    queues.iter().map(|queue| encoded_len_varint(queue.0)).sum()
}

fn ranges_size(ranges: &[PositionRange]) -> usize {
    filled(ranges).map(|range| nested_size(range_size(range))).sum()
}

// An empty range says nothing, and a decoder refuses it: a record that no replica can read must not be written.
fn filled(ranges: &[PositionRange]) -> impl Iterator<Item = PositionRange> {
    ranges.iter().copied().filter(|range| range.count() != 0)
}

fn put_ranges(ranges: &[PositionRange], out: &mut BytesMut) {
    put_ranges_at(3, ranges, out);
}

fn put_ranges_at(field: u32, ranges: &[PositionRange], out: &mut BytesMut) {
    for range in filled(ranges) {
        put_nested(field, range_size(range), out);
        put_uint(1, range.first.0, out);
        put_uint(2, range.count(), out);
    }
}

fn range_size(range: PositionRange) -> usize {
    uint_size(range.first.0) + uint_size(range.count())
}

// All field numbers here are below 16, so that a key is one byte. Proto3 leaves out what is zero or empty.

fn uint_size(value: u64) -> usize {
    if value == 0 { 0 } else { 1 + encoded_len_varint(value) }
}

fn put_uint(field: u32, value: u64, out: &mut BytesMut) {
    if value != 0 {
        encode_key(field, WireType::Varint, out);
        encode_varint(value, out);
    }
}

fn fixed_size(value: u64) -> usize {
    if value == 0 { 0 } else { 9 }
}

fn put_fixed(field: u32, value: u64, out: &mut BytesMut) {
    if value != 0 {
        encode_key(field, WireType::SixtyFourBit, out);
        out.put_u64_le(value);
    }
}

fn bytes_size(bytes: &Bytes) -> usize {
    if bytes.is_empty() { 0 } else { nested_size(bytes.len()) }
}

fn put_bytes(field: u32, bytes: &Bytes, out: &mut BytesMut) {
    if !bytes.is_empty() {
        put_nested(field, bytes.len(), out);
        out.put_slice(bytes);
    }
}

fn nested_size(size: usize) -> usize {
    1 + encoded_len_varint(size as u64) + size
}

fn put_nested(field: u32, size: usize, out: &mut BytesMut) {
    encode_key(field, WireType::LengthDelimited, out);
    encode_varint(size as u64, out);
}
