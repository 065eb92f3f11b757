//! Spine 11: committed entries become state, the same on every replica. Before: `log_store`. After: `warren-store`'s
//! shards and `warren-catalogue`.

pub(crate) mod catalogue;
pub(crate) mod progress;
pub(crate) mod shard;

use std::io;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::Stream;
use openraft::storage::{EntryResponder, RaftStateMachine};
use openraft::{OptionalSend, RaftSnapshotBuilder, alias};
use warren_store::{CheckpointPart, StoreError};
use warren_types::LogIndex;

use crate::apply::catalogue::CatalogueMachine;
use crate::apply::progress::Progress;
use crate::apply::shard::ShardMachine;
use crate::snapshot::SnapshotData;
use crate::types::{LogId, SnapshotMeta, StoredMembership, Types};

/// The state machine of a group. Cheap to clone; all clones are the same.
#[derive(Clone)]
pub(crate) enum Machine {
    Catalogue(Arc<CatalogueMachine>),
    Shard(Arc<ShardMachine>),
}

impl Machine {
    /// The last applied entry and the membership as of it.
    pub(crate) fn progress(&self) -> Progress {
        match self {
            Self::Catalogue(machine) => machine.progress(),
            Self::Shard(machine) => machine.progress(),
        }
    }

    /// What of it would survive a crash without the log.
    pub(crate) fn durable(&self) -> Progress {
        match self {
            Self::Catalogue(machine) => machine.durable(),
            Self::Shard(machine) => machine.durable(),
        }
    }

    /// The log up to here holds nothing that a queue needs.
    pub(crate) fn needless(&self) -> LogIndex {
        match self {
            Self::Catalogue(machine) => machine.progress().index(),
            Self::Shard(machine) => machine.replica().needless(),
        }
    }

    /// What a checkpoint must write, with the log up to `purge_up_to` about to go, and a progress that it covers;
    /// `None` if nothing has changed. Blocks.
    pub(crate) fn checkpoint_part(
        &self,
        purge_up_to: LogIndex,
        budget: &mut usize,
    ) -> Result<Option<(CheckpointPart, Progress)>, StoreError> {
        match self {
            Self::Catalogue(machine) => Ok(machine.checkpoint_part()),
            Self::Shard(machine) => machine.checkpoint_part(purge_up_to, budget),
        }
    }

    /// A checkpoint has been written.
    pub(crate) fn set_durable(&self, progress: Progress) {
        match self {
            Self::Catalogue(machine) => machine.set_durable(progress),
            Self::Shard(machine) => machine.set_durable(progress),
        }
    }
}

/// What openraft is told of a checkpoint: it says how far the log may be purged. The state itself is taken when a
/// follower needs it.
pub(crate) struct Builder(SnapshotMeta);

impl RaftSnapshotBuilder<Types> for Builder {
    type SnapshotData = SnapshotData;

    async fn build_snapshot(&mut self) -> Result<alias::SnapshotOf<Types, SnapshotData>, io::Error> {
        Ok(alias::SnapshotOf::<Types, SnapshotData> { meta: self.0.clone(), snapshot: SnapshotData::Nothing })
    }
}

impl RaftStateMachine<Types> for Machine {
    type SnapshotData = SnapshotData;
    type SnapshotBuilder = Builder;

    async fn applied_state(&mut self) -> Result<(Option<LogId>, StoredMembership), io::Error> {
        let progress = self.progress();
        Ok((progress.applied, progress.membership))
    }

    async fn apply<Strm>(&mut self, entries: Strm) -> Result<(), io::Error>
    where
        Strm: Stream<Item = Result<EntryResponder<Types>, io::Error>> + Unpin + OptionalSend,
    {
        match self {
            Self::Catalogue(machine) => machine.apply(entries).await,
            Self::Shard(machine) => machine.apply(entries).await,
        }
    }

    async fn get_snapshot_builder(&mut self) -> Builder {
        Builder(self.durable().snapshot_meta())
    }

    async fn install_snapshot(&mut self, meta: &SnapshotMeta, data: SnapshotData) -> Result<(), io::Error> {
        match self {
            Self::Catalogue(machine) => machine.install(meta, data).await,
            Self::Shard(machine) => machine.install(meta, data).await,
        }
    }

    async fn get_current_snapshot(
        &mut self,
    ) -> Result<Option<alias::SnapshotOf<Types, SnapshotData>>, io::Error> {
        match self {
            Self::Catalogue(machine) => machine.snapshot().await,
            Self::Shard(machine) => machine.snapshot().await,
        }
    }
}

/// A fatal error for openraft: the replica cannot go on.
pub(crate) fn fatal(error: impl std::error::Error + Send + Sync + 'static) -> io::Error {
    io::Error::other(error)
}

/// The bytes of a snapshot that is small enough to be one value.
pub(crate) fn whole(data: SnapshotData) -> Result<Bytes, io::Error> {
    match data {
        SnapshotData::Whole(bytes) => Ok(bytes),
        SnapshotData::Nothing | SnapshotData::Outgoing(_) | SnapshotData::Incoming(_) => {
            Err(io::Error::new(io::ErrorKind::InvalidData, "a snapshot of another kind of group"))
        }
    }
}
