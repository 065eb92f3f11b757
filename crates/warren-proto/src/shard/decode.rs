//! Bytes become a record, or are refused. Bodies are slices of the bytes: nothing is copied.

use bytes::Bytes;
use prost::Message as _;
use warren_types::{Message, Position, PositionRange, QueueId, SessionId, ShortStr, UnixMillis};

use super::encode::VERSION;
use super::{Enqueue, EnqueuedMessage, Op, Record, SettleReason};
use crate::DecodeError;
use crate::generated::shard as wire;

impl Record {
    /// Reads what [`Record::encode`] wrote.
    ///
    /// # Errors
    /// [`DecodeError::Version`] for a newer version and [`DecodeError::Unknown`] for an operation that is not known
    /// here: a replica must stop rather than skip it. [`DecodeError::Malformed`] or [`DecodeError::Field`] for
    /// bytes that no version wrote.
    pub fn decode(bytes: Bytes) -> Result<Self, DecodeError> {
        let record = wire::Record::decode(bytes)
            .map_err(|error| DecodeError::Malformed { what: "shard record", reason: error.to_string() })?;
        match record.version {
            0 => return Err(DecodeError::Field { what: "shard record", field: "version" }),
            VERSION => {}
            found => {
                return Err(DecodeError::Version { what: "shard record", found, known: VERSION });
            }
        }
        let ops = record.ops.into_iter().map(op).collect::<Result<_, _>>()?;
        Ok(Self { time: UnixMillis(record.time_ms), ops })
    }
}

fn op(op: wire::Op) -> Result<Op, DecodeError> {
    let Some(op) = op.op else {
        return Err(DecodeError::Unknown { what: "shard record" });
    };
    Ok(match op {
        wire::op::Op::Enqueue(enqueue) => Op::Enqueue(Enqueue {
            session: SessionId(enqueue.session),
            last_seq: enqueue.last_seq,
            messages: enqueue.messages.into_iter().map(message).collect::<Result<_, _>>()?,
        }),
        wire::op::Op::Settle(settle) => Op::Settle {
            queue: QueueId(settle.queue),
            reason: reason(settle.reason)?,
            ranges: ranges(settle.ranges)?,
        },
        wire::op::Op::Return(give_back) => {
            Op::Return { queue: QueueId(give_back.queue), ranges: ranges(give_back.ranges)? }
        }
        wire::op::Op::Reserve(reserve) => {
            Op::Reserve { queue: QueueId(reserve.queue), up_to: Position(reserve.up_to) }
        }
        wire::op::Op::Purge(purge) => {
            Op::Purge { queue: QueueId(purge.queue), up_to: Position(purge.up_to), keep: ranges(purge.keep)? }
        }
        wire::op::Op::DropQueue(drop) => Op::DropQueue { queue: QueueId(drop.queue) },
        wire::op::Op::CloseSession(close) => Op::CloseSession { session: SessionId(close.session) },
        wire::op::Op::Refuse(refuse) => Op::Refuse {
            session: SessionId(refuse.session),
            learned: refuse.learned,
            sequences: refuse.sequences,
        },
        wire::op::Op::MarkUsed(used) => Op::MarkUsed { queue: QueueId(used.queue) },
    })
}

fn message(message: wire::EnqueuedMessage) -> Result<EnqueuedMessage, DecodeError> {
    Ok(EnqueuedMessage {
        seq: message.seq,
        queues: message.queues.into_iter().map(QueueId).collect(),
        message: Message {
            exchange: short(message.exchange, "exchange")?,
            routing_key: short(message.routing_key, "routing_key")?,
            properties: message.properties,
            body: message.body,
        },
    })
}

fn short(bytes: Bytes, field: &'static str) -> Result<ShortStr, DecodeError> {
    ShortStr::new(bytes).map_err(|_| DecodeError::Field { what: "enqueued message", field })
}

fn reason(reason: i32) -> Result<SettleReason, DecodeError> {
    match wire::SettleReason::try_from(reason) {
        Ok(wire::SettleReason::Unspecified) => Err(DecodeError::Field { what: "settle", field: "reason" }),
        Ok(wire::SettleReason::Acked) => Ok(SettleReason::Acked),
        Ok(wire::SettleReason::Rejected) => Ok(SettleReason::Rejected),
        Ok(wire::SettleReason::Expired) => Ok(SettleReason::Expired),
        Ok(wire::SettleReason::Dropped) => Ok(SettleReason::Dropped),
        Ok(wire::SettleReason::DeliveryLimit) => Ok(SettleReason::DeliveryLimit),
        Ok(wire::SettleReason::DeadLettered) => Ok(SettleReason::DeadLettered),
        Err(_) => Err(DecodeError::Unknown { what: "settle" }),
    }
}

fn ranges(ranges: Vec<wire::PositionRange>) -> Result<Vec<PositionRange>, DecodeError> {
    ranges
        .into_iter()
        .map(|range| {
            let last = range.count.checked_sub(1).and_then(|more| range.first.checked_add(more));
            let last = last.ok_or(DecodeError::Field { what: "position range", field: "count" })?;
            Ok(PositionRange { first: Position(range.first), last: Position(last) })
        })
        .collect()
}
