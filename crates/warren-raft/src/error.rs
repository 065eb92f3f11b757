//! What can go wrong, by what the caller should do.

use warren_types::{GroupId, NodeId, ShardId};

/// Why a command has no outcome.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProposeError {
    /// The deadline passed without an answer: the command may or may not be carried out, now or later. Every
    /// command may be proposed again.
    #[error("no answer from the metadata group in time (leader: {})", leader.map_or("none".to_owned(), |l| l.to_string()))]
    TimedOut {
        /// Who led the metadata group, as far as known.
        leader: Option<NodeId>,
    },
    /// This node is stopping or has failed.
    #[error("this node is stopping")]
    Stopping,
}

/// Why a record was not taken. Nothing of it is in the log. The leadership is over for its consumer in any case: a
/// [`Leadership::Lost`](crate::Leadership::Lost) follows, and an `Elected` if this node still leads.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no longer the leader of shard {0} in that term")]
pub struct NotLeader(pub ShardId);

/// Why a node does not start.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StartError {
    /// The store failed or holds what cannot be trusted.
    #[error("{0}")]
    Store(String),
    /// A group does not start from what is stored.
    #[error("group {group} does not start: {reason}")]
    Group {
        /// The group.
        group: GroupId,
        /// Why.
        reason: String,
    },
    /// The options make no sense.
    #[error("{0}")]
    Options(String),
}
