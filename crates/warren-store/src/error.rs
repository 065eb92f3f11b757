//! What can go wrong with the disk. Nearly all of it is fatal to the node: a replica that cannot trust what it
//! stored must stop and be rebuilt from its peers.

use warren_proto::DecodeError;
use warren_types::{GroupId, LogIndex, QueueId, ShardId};

use crate::shard::ApplyError;

/// What to do about damage.
const ADVICE: &str = "this node's data cannot be trusted any more: when it starts again and its cluster has a majority without \
                      it, it is rebuilt from the other nodes; else move its data directory away and start it again";

/// Whether an error's text, which may have come a long way, is about damage.
#[must_use]
pub fn tells_of_damage(text: &str) -> bool {
    text.contains(ADVICE)
}

/// Why the store refused or failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// The disk, or RocksDB, said no. Fatal: the store accepts nothing afterwards.
    #[error("the store cannot {what}: {reason}")]
    Disk {
        /// What was tried.
        what: &'static str,
        /// What it says.
        reason: String,
    },
    /// The files are not what was written: a checksum is wrong, or something is missing. Fatal: votes and entries that
    /// this node has promised may be gone, so it must not take part any more.
    #[error("the store is damaged, it cannot {what}: {reason}; {ADVICE}")]
    DamagedFiles {
        /// What was tried.
        what: &'static str,
        /// What RocksDB or the check of its log says.
        reason: String,
    },
    /// An earlier write or fsync failed, so that nothing later can be trusted to be on disk. Fatal.
    #[error("the store has failed: {0}")]
    Failed(String),
    /// The store was shut down.
    #[error("the store is shut down")]
    ShutDown,
    /// A log entry's checksum is wrong, or it is missing where it must be. Fatal for the group.
    #[error("log entry {index} of group {group} is damaged; {ADVICE}")]
    Damaged {
        /// The group.
        group: GroupId,
        /// The entry.
        index: LogIndex,
    },
    /// Something of the log's files that was on disk is not there any more, or not as it was written. Fatal for the node: every
    /// group may have lost what it promised.
    #[error("the log is damaged: segment {segment:016x} at byte {offset}: {what}; {ADVICE}")]
    DamagedLog {
        /// Which file.
        segment: u64,
        /// Where in it.
        offset: u64,
        /// What is wrong.
        what: &'static str,
    },
    /// A stored value's checksum or shape is wrong. Fatal for the group.
    #[error("stored state of group {group} is damaged: {what}; {ADVICE}")]
    DamagedState {
        /// The group.
        group: GroupId,
        /// What was read.
        what: &'static str,
    },
    /// A live message is neither in the log nor in the message store. Fatal for the shard.
    #[error(
        "the store is damaged: message {position} of queue {queue} in shard {shard} is missing; {ADVICE}"
    )]
    MissingMessage {
        /// The shard.
        shard: ShardId,
        /// The queue.
        queue: QueueId,
        /// The message's position.
        position: u64,
    },
    /// Asked for a log entry that was purged, truncated or never appended.
    #[error("group {group} has no log entry {index}")]
    NoEntry {
        /// The group.
        group: GroupId,
        /// The entry.
        index: LogIndex,
    },
    /// Appended entries do not continue the log: a bug of the caller. Nothing was appended.
    #[error("group {group}: log entry {found} does not follow {last}")]
    Gap {
        /// The group.
        group: GroupId,
        /// The entry refused.
        found: LogIndex,
        /// The last entry.
        last: LogIndex,
    },
    /// A purge beyond what a checkpoint has made durable: a bug of the caller. Nothing was purged.
    #[error("group {group}: purge up to {up_to} refused, only {durable} is durable without the log")]
    PurgeTooFar {
        /// The group.
        group: GroupId,
        /// What was asked.
        up_to: LogIndex,
        /// What is allowed.
        durable: LogIndex,
    },
    /// A checkpoint part was taken and never written: what it held is lost to later ones. Fatal for the shard
    /// while the process lives; the disk still holds the previous checkpoint.
    #[error("an earlier checkpoint of shard {0} was not finished")]
    CheckpointLost(ShardId),
    /// A log entry holds a record that this version cannot apply. Fatal for the shard.
    #[error("log entry {index} of group {group}: {reason}")]
    Record {
        /// The group.
        group: GroupId,
        /// The entry.
        index: LogIndex,
        /// Why.
        reason: DecodeError,
    },
    /// A record was applied out of turn. Fatal for the shard.
    #[error("shard {shard}: {reason}")]
    Apply {
        /// The shard.
        shard: ShardId,
        /// Why.
        reason: ApplyError,
    },
    /// A snapshot's chunks are not what a peer of this version sends. Only the transfer ends.
    #[error("snapshot refused: {0}")]
    Snapshot(&'static str),
}

impl StoreError {
    pub(crate) fn disk(what: &'static str) -> impl Fn(rocksdb::Error) -> Self {
        move |error| {
            let reason = error.to_string();
            let is_damage = error.kind() == rocksdb::ErrorKind::Corruption
                || reason.contains("No such file or directory")
                || reason.contains("create_if_missing is false");
            if is_damage { Self::DamagedFiles { what, reason } } else { Self::Disk { what, reason } }
        }
    }

    pub(crate) fn io(what: &'static str) -> impl Fn(std::io::Error) -> Self {
        move |error| Self::Disk { what, reason: error.to_string() }
    }

    /// Whether what is stored is not what was written, so that it cannot be trusted any more.
    #[must_use]
    pub fn is_damage(&self) -> bool {
        tells_of_damage(&self.to_string())
    }

    /// Whether the node must stop: what was accepted can no longer be stored or trusted.
    #[must_use]
    pub fn is_fatal(&self) -> bool {
        match self {
            Self::Disk { .. }
            | Self::DamagedFiles { .. }
            | Self::Failed(_)
            | Self::Damaged { .. }
            | Self::DamagedLog { .. }
            | Self::DamagedState { .. }
            | Self::MissingMessage { .. }
            | Self::CheckpointLost(_)
            | Self::Record { .. }
            | Self::Apply { .. }
            | Self::Gap { .. }
            | Self::PurgeTooFar { .. } => true,
            Self::ShutDown | Self::NoEntry { .. } | Self::Snapshot(_) => false,
        }
    }
}
