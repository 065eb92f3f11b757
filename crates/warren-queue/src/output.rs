//! What a leader's machine asks of its shell.

use std::sync::Arc;

use warren_proto::session::LeaderFrame;
use warren_proto::shard::{Record, SettleReason};
use warren_types::{Message, Position, QueueId, QueueSettings};

use crate::SessionKey;

/// One output of a [`HostLeader`](crate::HostLeader).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    /// Propose it. It comes back as [`Input::Applied`](crate::Input::Applied), in order, or the leadership ends and
    /// with it this machine.
    Record(Record),
    /// Send the frame on the stream. After [`LeaderFrame::NotLeader`] the stream is to be closed.
    Send(SessionKey, LeaderFrame),
    /// Read messages back; answered by [`Input::Loaded`](crate::Input::Loaded). At most one a queue is open.
    Load {
        /// The queue.
        queue: QueueId,
        /// Only live messages above it.
        after: Position,
        /// At most so many.
        max_messages: u32,
        /// About so many bytes, but one message always.
        max_bytes: u64,
    },
    /// Give the message to the queue's dead-letter exchange; answered by
    /// [`Input::DeadLettered`](crate::Input::DeadLettered) once all its targets have confirmed. Boundedly many are open.
    DeadLetter(Box<DeadLetter>),
    /// The last consumer of an auto-delete queue went, or a queue was not used for too long: delete it. Repeated
    /// until it is gone.
    DeleteQueue {
        /// The queue.
        queue: QueueId,
    },
    /// From now on who has published a read's worth to the queue waits so long before the next: it is in memory only and
    /// grows though its consumers take what they can. 0: no longer.
    Pace {
        /// The queue.
        queue: QueueId,
        /// How long.
        pause_ms: u32,
    },
}

/// Why a message dies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum DeathReason {
    /// Rejected without requeue.
    Rejected,
    /// Its time to live ended.
    Expired,
    /// Over a length limit.
    MaxLength,
    /// Its deliveries failed too often.
    DeliveryLimit,
}

impl DeathReason {
    /// The word in `x-death`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Rejected => "rejected",
            Self::Expired => "expired",
            Self::MaxLength => "maxlen",
            Self::DeliveryLimit => "delivery_limit",
        }
    }

    /// How it is recorded where no dead-letter exchange takes it.
    #[must_use]
    pub fn settle_reason(self) -> SettleReason {
        match self {
            Self::Rejected => SettleReason::Rejected,
            Self::Expired => SettleReason::Expired,
            Self::MaxLength => SettleReason::Dropped,
            Self::DeliveryLimit => SettleReason::DeliveryLimit,
        }
    }
}

/// A dead message on its way to its queue's dead-letter exchange.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeadLetter {
    /// The queue it left.
    pub queue: QueueId,
    /// Its place there; `Position(0)` for a message that was never let in.
    pub position: Position,
    /// Why.
    pub reason: DeathReason,
    /// The message as it was published.
    pub message: Message,
    /// The settings that name the exchange.
    pub settings: Arc<QueueSettings>,
}
