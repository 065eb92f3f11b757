//! What a leader's machine asks of its shell.

use warren_proto::session::LeaderFrame;
use warren_proto::shard::Record;
use warren_types::{Position, QueueId};

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
    /// The last consumer of an auto-delete queue went: delete it. Repeated until it is gone.
    DeleteQueue {
        /// The queue.
        queue: QueueId,
    },
}
