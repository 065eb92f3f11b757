//! What a leader's machine takes.

use std::sync::Arc;

use warren_proto::session::HomeFrame;
use warren_proto::shard::{AppliedRecord, StoredMessage};
use warren_types::{NodeId, Position, QueueHost, QueueId, QueueSettings, QueueSpec};

/// One attached stream, as the shell numbers it; never reused by one machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SessionKey(pub u64);

/// The catalogue as this node has applied it.
pub trait QueueDirectory {
    /// The queue, if it exists.
    fn queue(&self, id: QueueId) -> Option<Arc<QueueSpec>>;

    /// The highest queue id that this snapshot's catalogue has given out. Ids ascend, so a queue that is missing
    /// and not above it is deleted; one above it was declared where this node has not caught up yet, and is served.
    fn newest(&self) -> QueueId;

    /// What the queue's arguments and policies ask for; `None` where this snapshot does not have the queue.
    fn settings(&self, id: QueueId) -> Option<Arc<QueueSettings>>;

    /// Changes whenever settings may have changed.
    fn revision(&self) -> u64;

    /// The queues of the host that are to be deleted when they are not used for some time. Cost: the host's queues.
    fn leased(&self, host: QueueHost) -> Vec<QueueId>;
}

/// One input of a [`HostLeader`](crate::HostLeader).
#[derive(Clone, Debug)]
pub enum Input {
    /// A frame came on a stream. The first one of a stream must be an `Attach`.
    Frame(SessionKey, HomeFrame),
    /// A stream ended. What its session holds is kept for a grace period.
    SessionLost(SessionKey),
    /// The node is known to be dead: what its sessions hold goes back at once.
    NodeDead(NodeId),
    /// Records that this machine proposed were applied, in the order proposed.
    Applied(Vec<AppliedRecord>),
    /// Answers [`Output::Load`](crate::Output::Load); every load is answered once.
    Loaded {
        /// The queue.
        queue: QueueId,
        /// The first live messages after the position asked for, ascending; at least one unless there is none.
        messages: Vec<StoredMessage>,
        /// Nothing live came after them when they were read.
        end: bool,
    },
    /// A dead message is safe wherever it belongs, or belongs nowhere: answers
    /// [`Output::DeadLetter`](crate::Output::DeadLetter).
    DeadLettered {
        /// The queue that it left.
        queue: QueueId,
        /// Its place there.
        position: Position,
    },
    /// The catalogue, and the directory of this step, no longer have the queue.
    QueueDeleted(QueueId),
    /// Time passes: a few times a second.
    Tick,
}
