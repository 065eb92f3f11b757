//! What one group writes at a checkpoint: one batch each, atomic because it is of one column family; one flush for all.

use std::sync::Arc;

use bytes::Bytes;
use rocksdb::WriteBatch;
use warren_types::{GroupId, LogIndex, QueueId, Term};

use crate::body::Body;
use crate::keys::{self, Space};
use crate::replica::Inner;
use crate::rocks::Rocks;
use crate::shard::Change;
use crate::values::{self, Place};
use crate::{StoreError, checksum};

/// So many neighbouring messages are deleted one by one; more by one range deletion, which later reads must pass.
const SINGLE_DELETES: u64 = 16;

/// A group's share of a checkpoint, for [`crate::Store::checkpoint`]. A replica whose part is dropped without being
/// written makes no checkpoint any more: see [`StoreError::CheckpointLost`].
pub struct CheckpointPart {
    pub(crate) group: GroupId,
    pub(crate) content: Content,
    pub(crate) place: Place,
}

pub(crate) enum Content {
    /// `freed` counts bytes of the message store that become rubbish.
    Replica {
        batch: WriteBatch,
        space: Space,
        replica: Arc<Inner>,
        freed: u64,
    },
    Blob {
        name: String,
        bytes: Bytes,
    },
}

impl CheckpointPart {
    pub(crate) fn replica(part: Part<'_>, place: Place, replica: Arc<Inner>, freed: u64) -> Self {
        let Part { batch, space, .. } = part;
        let group = GroupId::from(space.shard);
        Self { group, content: Content::Replica { batch, space, replica, freed }, place }
    }

    /// A state machine that is saved as a whole, such as the catalogue: `bytes` are its state after `applied`. They
    /// replace what was saved under `name`; after the checkpoint the group's log may be purged up to `applied`.
    #[must_use]
    pub fn blob(
        group: GroupId,
        applied: LogIndex,
        term: Term,
        raft_meta: Bytes,
        name: &str,
        bytes: Bytes,
    ) -> Self {
        let place = Place { applied, term, generation: 0, moved: applied.0, raft_meta };
        Self { group, content: Content::Blob { name: name.to_owned(), bytes }, place }
    }

    /// The group.
    #[must_use]
    pub fn group(&self) -> GroupId {
        self.group
    }

    /// The last applied entry that it covers.
    #[must_use]
    pub fn applied(&self) -> LogIndex {
        self.place.applied
    }

    /// Once written, the log may be purged up to here.
    #[must_use]
    pub fn purge_up_to(&self) -> LogIndex {
        LogIndex(self.place.moved)
    }
}

impl std::fmt::Debug for CheckpointPart {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CheckpointPart").field("group", &self.group).field("place", &self.place).finish()
    }
}

/// A batch being filled with one generation's changes.
pub(crate) struct Part<'a> {
    rocks: &'a Rocks,
    family: &'a rocksdb::ColumnFamily,
    batch: WriteBatch,
    space: Space,
}

impl<'a> Part<'a> {
    pub(crate) fn new(rocks: &'a Rocks, space: Space) -> Result<Self, StoreError> {
        Ok(Self { rocks, family: rocks.state()?, batch: WriteBatch::default(), space })
    }

    pub(crate) fn changes(&mut self, changes: &[Change]) {
        for change in changes {
            self.change(change);
        }
    }

    pub(crate) fn change(&mut self, change: &Change) {
        let space = self.space;
        match change {
            Change::DropQueue { queue } => {
                self.batch.delete_cf(self.family, space.queue(*queue));
                for kind in *b"RM" {
                    let (from, to) = space.all_of(kind, queue.0);
                    self.batch.delete_range_cf(self.family, from, to);
                }
            }
            Change::PutQueue { queue, meta } => {
                self.put(&space.queue(*queue), &values::encode_queue(*meta));
            }
            Change::PutRun { queue, run, settled, counts } => {
                self.put(&space.run(*queue, run.first), &values::encode_run(run, settled, counts));
            }
            Change::DeleteRuns { queue, first, last, runs } => {
                if *runs == 1 {
                    self.batch.delete_cf(self.family, space.run(*queue, *first));
                } else {
                    let (from, to) = (space.run(*queue, *first), space.run(*queue, last.saturating_add(1)));
                    self.batch.delete_range_cf(self.family, from, to);
                }
            }
            Change::FreeMessages { queue, first, last } => self.free(*queue, *first, *last),
            Change::FreeEntry { entry } => {
                let (from, to) = space.all_of(b'S', *entry);
                self.batch.delete_range_cf(self.family, from, to);
            }
            Change::PutSession { session, last_seq, refused } => {
                self.put(&space.session(*session), &values::encode_session(*last_seq, refused));
            }
            Change::DeleteSession { session } => {
                self.batch.delete_cf(self.family, space.session(*session));
            }
        }
    }

    pub(crate) fn body(&mut self, body: &Body) {
        match body {
            Body::Message { queue, position, value } => {
                self.put(&self.space.message(*queue, *position), value);
            }
            Body::Shared { entry, ordinal, value } => {
                self.put(&self.space.shared(*entry, *ordinal), value);
            }
        }
    }

    pub(crate) fn put(&mut self, key: &[u8], value: &[u8]) {
        self.batch.put_cf(self.family, key, checksum::seal(key, value));
    }

    /// Writes what is gathered, without durability, and begins anew.
    pub(crate) fn write(&mut self) -> Result<(), StoreError> {
        self.rocks.write_state(std::mem::take(&mut self.batch))
    }

    fn free(&mut self, queue: QueueId, first: u64, last: u64) {
        if last - first < SINGLE_DELETES {
            for position in first..=last {
                self.batch.delete_cf(self.family, self.space.message(queue, position));
            }
        } else {
            let to = self.space.message(queue, last.saturating_add(1));
            self.batch.delete_range_cf(self.family, self.space.message(queue, first), to);
        }
    }
}

/// Adds a group's place to its batch.
pub(crate) fn put_place(
    rocks: &Rocks,
    batch: &mut WriteBatch,
    group: GroupId,
    place: &Place,
) -> Result<(), StoreError> {
    let key = keys::applied(group);
    batch.put_cf(rocks.state()?, key, checksum::seal(&key, &place.encode()));
    Ok(())
}
