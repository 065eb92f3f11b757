//! What a shard's log records (spine 9): the effects its leader decided, in a handful of operations that never
//! change meaning. Before: `warren-queue`'s `shard`. After: `warren-store`'s `shard` applies it on every replica.

mod decode;
mod encode;
#[cfg(test)]
mod tests;

use warren_types::{LogIndex, Message, Position, PositionRange, QueueId, SessionId, Term, UnixMillis};

/// One Raft entry of a shard.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Record {
    /// The leader's wall clock.
    pub time: UnixMillis,
    /// What to do, in order.
    pub ops: Vec<Op>,
}

/// One effect.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Op {
    /// Store messages.
    Enqueue(Enqueue),
    /// Remove messages for good; positions that are gone are ignored.
    Settle {
        /// The queue.
        queue: QueueId,
        /// Why, for counting.
        reason: SettleReason,
        /// Which.
        ranges: Vec<PositionRange>,
    },
    /// Raise the delivery count of messages given back.
    Return {
        /// The queue.
        queue: QueueId,
        /// Which.
        ranges: Vec<PositionRange>,
    },
    /// Everything at or below `up_to` may have been delivered.
    Reserve {
        /// The queue.
        queue: QueueId,
        /// The mark.
        up_to: Position,
    },
    /// Remove everything at or below `up_to` but `keep`.
    Purge {
        /// The queue.
        queue: QueueId,
        /// The highest position removed.
        up_to: Position,
        /// Delivered and not yet settled: stays.
        keep: Vec<PositionRange>,
    },
    /// Forget the queue.
    DropQueue {
        /// The queue.
        queue: QueueId,
    },
    /// Forget a publisher session.
    CloseSession {
        /// The session.
        session: SessionId,
    },
    /// A queue's policy refused publishes of a session that pass in this record.
    Refuse {
        /// The session.
        session: SessionId,
        /// Its home knows what was refused up to here: forget it.
        learned: u64,
        /// Refused, ascending.
        sequences: Vec<u64>,
    },
    /// The queue has had a consumer.
    MarkUsed {
        /// The queue.
        queue: QueueId,
    },
}

/// Messages of one session, in sequence order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Enqueue {
    /// The publisher session.
    pub session: SessionId,
    /// The sequence the session has passed once this is applied.
    pub last_seq: u64,
    /// The messages, ascending by sequence.
    pub messages: Vec<EnqueuedMessage>,
}

/// One message and where it goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EnqueuedMessage {
    /// Its sequence in the session.
    pub seq: u64,
    /// The queues of this shard that it goes to.
    pub queues: Vec<QueueId>,
    /// The message.
    pub message: Message,
}

/// Why a message left its queue for good.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SettleReason {
    /// Acknowledged (or delivered with automatic acknowledgement).
    Acked,
    /// Rejected without requeue.
    Rejected,
    /// Its time to live ended.
    Expired,
    /// Over a length limit.
    Dropped,
    /// Returned too often.
    DeliveryLimit,
    /// Its dead-letter copy is safe elsewhere.
    DeadLettered,
}

/// A record that a replica has applied, as the leader's shell passes it to the leader's machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AppliedRecord {
    /// Its place in the log.
    pub index: LogIndex,
    /// The term it was proposed in.
    pub term: Term,
    /// What it said.
    pub record: Record,
    /// The positions given: for each `Enqueue` in order, for each message in order, for each of its queues in
    /// order. `Position(0)` for a message that was skipped because the session had passed its sequence.
    pub positions: Vec<Position>,
}

/// What a new leader finds in its own replica: everything of earlier terms is applied.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct OpeningState {
    /// The last applied entry; the [`AppliedRecord`]s that follow come after it.
    pub applied: LogIndex,
    /// The queues that have ever held messages and were not dropped.
    pub queues: Vec<QueueState>,
    /// The publisher sessions and the sequence each has passed.
    pub sessions: Vec<(SessionId, u64)>,
    /// What was refused of each session, ascending, as far as its home may not know.
    pub refused: Vec<(SessionId, Vec<u64>)>,
}

/// One queue of an [`OpeningState`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QueueState {
    /// The queue.
    pub queue: QueueId,
    /// The position the next message will get.
    pub next_position: Position,
    /// Messages in it (not settled).
    pub live: u64,
    /// Body bytes of those messages.
    pub live_bytes: u64,
    /// The delivered mark: everything at or below it may have been delivered; `Position(0)` at first.
    pub mark: Position,
    /// The live positions at or below the mark.
    pub maybe_delivered: Vec<PositionRange>,
    /// It has had a consumer.
    pub used: bool,
}

/// A message read back from a replica.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredMessage {
    /// Its place in the queue.
    pub position: Position,
    /// How often it came back as failed.
    pub delivery_count: u32,
    /// The leader's clock when it was recorded; 0 where that was not kept.
    pub time: UnixMillis,
    /// The message.
    pub message: Message,
}
