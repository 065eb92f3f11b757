//! What a shard's log records (spine 9): the effects its leader decided, in a handful of operations that never
//! change meaning. Before: `warren-queue`'s `shard`. After: `warren-store`'s `shard` applies it on every replica.

use warren_types::{Message, PositionRange, QueueId, SessionId, UnixMillis};

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
        up_to: warren_types::Position,
    },
    /// Remove everything at or below `up_to` but `keep`.
    Purge {
        /// The queue.
        queue: QueueId,
        /// The highest position removed.
        up_to: warren_types::Position,
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
