//! Spine 10: a Raft group's log. Entries can be read the moment `append` returns; `done` is called when they are
//! on disk. Knows no Raft rule but that a log has no gap. After: `sync`, which writes for all groups at once.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use parking_lot::Mutex;
use warren_types::{GroupId, LogIndex, NodeId, Term};

use crate::rocks::Rocks;
use crate::sync::{Queue, Task, Work};
use crate::tail::{LogState, entry_bytes};
use crate::wal::{FrozenLog, Head, Kind, Record, Wal};
use crate::{Failure, StoreError};

/// Called once by the log writer's thread when a change is on disk, or will never be. It must not block and must
/// not append.
pub type Done = Box<dyn FnOnce(Result<(), StoreError>) + Send>;

/// One entry of a group's log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogEntry {
    /// Its place in the log.
    pub index: LogIndex,
    /// The term of the leader that proposed it.
    pub term: Term,
    /// That leader.
    pub node: NodeId,
    /// [`LogEntry::RECORD`] if the payload is a shard's record; other kinds are `warren-raft`'s own. Beside the
    /// payload, so that what the proposer encoded is stored and sent as it is.
    pub kind: u8,
    /// What it says. Opaque here but for records, whose messages a replica reads back from the log.
    pub payload: Bytes,
}

impl LogEntry {
    /// The payload is what [`crate::Replica::apply`] is given.
    pub const RECORD: u8 = 0;
}

/// What all groups' logs share.
pub(crate) struct LogCore {
    pub(crate) rocks: Arc<Rocks>,
    pub(crate) wal: Wal,
    pub(crate) queue: Queue,
    pub(crate) failure: Failure,
    /// Bytes in all tails.
    pub(crate) tail_bytes: AtomicUsize,
}

pub(crate) struct Log {
    pub(crate) group: GroupId,
    pub(crate) state: Mutex<LogState>,
    pub(crate) core: Arc<LogCore>,
}

/// A Raft group's log and hard state. Cheap to clone; all clones are the same log.
#[derive(Clone)]
pub struct GroupLog(pub(crate) Arc<Log>);

impl GroupLog {
    /// The group.
    #[must_use]
    pub fn group(&self) -> GroupId {
        self.0.group
    }

    /// Appends entries that continue the log. They can be read at once; `done` is called after the fsync, in the
    /// order of the calls. Blocks only while too many bytes wait for the disk. The first entry of a new log may
    /// have any index. `done` gets [`StoreError::Gap`] if they do not continue the log; nothing is appended then.
    pub fn append(&self, entries: Vec<LogEntry>, done: Done) {
        let bytes = entries.iter().map(entry_bytes).sum();
        self.submit(bytes, done, |state| {
            let mut expected = state.expected();
            for entry in &entries {
                match expected {
                    Some(expected) if entry.index.0 != expected => {
                        let last = LogIndex(expected.saturating_sub(1));
                        return Err(StoreError::Gap { group: self.0.group, found: entry.index, last });
                    }
                    Some(_) | None => expected = Some(entry.index.0.saturating_add(1)),
                }
            }
            let grown = state.append(&entries);
            self.0.core.tail_bytes.fetch_add(grown, Ordering::Relaxed);
            Ok(Work::Append { entries, lineage: state.lineage })
        });
    }

    /// Saves the vote. `done` is called when it is on disk; only then may it be acted upon.
    pub fn save_vote(&self, vote: Bytes, done: Done) {
        self.submit(vote.len(), done, |state| {
            state.vote = Some(vote.clone());
            Ok(Work::Vote(vote))
        });
    }

    /// Saves what is known to be committed. It reaches the disk with the next change of any group, without an
    /// fsync of its own: losing it costs only a later start.
    pub fn save_committed(&self, committed: Bytes) {
        self.submit(committed.len(), Box::new(|_| ()), |state| {
            state.committed = Some(committed.clone());
            Ok(Work::Committed(committed))
        });
    }

    /// Removes every entry after `last_kept`; 0 removes all, entry 0 included (see [`GroupLog::truncate_from`]).
    pub fn truncate_after(&self, last_kept: LogIndex, done: Done) {
        let from = if last_kept.0 == 0 { 0 } else { last_kept.0.saturating_add(1) };
        self.truncate_from(LogIndex(from), done);
    }

    /// Removes `first_removed` and every entry after it.
    pub fn truncate_from(&self, first_removed: LogIndex, done: Done) {
        self.submit(0, done, |state| {
            let freed = state.truncate(first_removed.0);
            self.0.core.tail_bytes.fetch_sub(freed, Ordering::Relaxed);
            Ok(Work::Truncate { from: state.next })
        });
    }

    /// Forgets every entry at or below `up_to` (which may be beyond the last one, after a snapshot) and keeps
    /// `marker` for [`GroupLog::purged`]. `done` gets [`StoreError::PurgeTooFar`] if no checkpoint covers `up_to`;
    /// nothing is purged then.
    pub fn purge(&self, up_to: LogIndex, marker: Bytes, done: Done) {
        self.submit(marker.len(), done, |state| {
            if state.floor.is_none_or(|floor| up_to.0 > floor) {
                let durable = LogIndex(state.floor.unwrap_or_default());
                return Err(StoreError::PurgeTooFar { group: self.0.group, up_to, durable });
            }
            let freed = state.purge(up_to.0);
            self.0.core.tail_bytes.fetch_sub(freed, Ordering::Relaxed);
            state.purged = Some(marker.clone());
            Ok(Work::Purge { first: state.first, marker })
        });
    }

    /// Forgets everything but the vote, as if the log had never begun. See [`crate::Store::begin_forgetting`].
    pub fn forget(&self, done: Done) {
        self.submit(0, done, |state| {
            let freed = state.forget();
            self.0.core.tail_bytes.fetch_sub(freed, Ordering::Relaxed);
            Ok(Work::Forget)
        });
    }

    /// The last saved vote.
    #[must_use]
    pub fn vote(&self) -> Option<Bytes> {
        self.0.state.lock().vote.clone()
    }

    /// What was last saved as committed; after a restart it may be older.
    #[must_use]
    pub fn committed(&self) -> Option<Bytes> {
        self.0.state.lock().committed.clone()
    }

    /// The marker of the last purge.
    #[must_use]
    pub fn purged(&self) -> Option<Bytes> {
        self.0.state.lock().purged.clone()
    }

    /// The first and the last entry, if there is one.
    #[must_use]
    pub fn first_last(&self) -> Option<(LogIndex, LogIndex)> {
        self.0.state.lock().first_last()
    }

    /// Bytes of entries kept in memory.
    #[must_use]
    pub fn tail_bytes(&self) -> usize {
        self.0.state.lock().tail_bytes()
    }

    /// The entries `from..to` (or to the end of the log) as far as they fit into `max_bytes` of payload, at least one
    /// if the range is not empty. Recent entries come from memory; older ones are read from disk, which blocks.
    ///
    /// # Errors
    /// [`StoreError::NoEntry`] if entry `from` was purged or is not there yet; [`StoreError::Damaged`] if an entry's
    /// checksum is wrong or it is not on disk though it should be; [`StoreError::Disk`].
    pub fn read(
        &self,
        from: LogIndex,
        mut to: LogIndex,
        max_bytes: usize,
    ) -> Result<Vec<LogEntry>, StoreError> {
        if from >= to {
            return Ok(Vec::new());
        }
        let tail_first = {
            let state = self.0.state.lock();
            if from.0 < state.first {
                return Err(StoreError::NoEntry { group: self.0.group, index: from });
            }
            to = to.min(LogIndex(state.next));
            if from >= to {
                return Err(StoreError::NoEntry { group: self.0.group, index: from });
            }
            if from.0 >= state.tail_first() {
                return Ok(take(state.tail_from(from.0), to.0, max_bytes, Vec::new()));
            }
            state.tail_first()
        };
        // Without the lock: the disk may be slow, and appends must not wait for it.
        let read = self.0.core.wal.read(self.0.group, from.0, to.0.min(tail_first), max_bytes);
        let state = self.0.state.lock();
        if from.0 < state.first || state.next < to.0 {
            // Purged or truncated meanwhile: what was read or missed says nothing about damage.
            return Err(StoreError::NoEntry { group: self.0.group, index: from });
        }
        let entries = read?;
        let reached = entries.last().map_or(from.0, |entry| entry.index.0 + 1);
        let used: usize = entries.iter().map(|entry| entry.payload.len()).sum();
        if reached < tail_first || reached < state.tail_first() || used >= max_bytes {
            return Ok(entries);
        }
        Ok(take(state.tail_from(reached), to.0, max_bytes - used, entries))
    }

    /// One entry, if the log has it. Blocks if it is not recent.
    ///
    /// # Errors
    /// [`StoreError::Damaged`] or [`StoreError::Disk`].
    pub fn get(&self, index: LogIndex) -> Result<Option<LogEntry>, StoreError> {
        match self.read(index, LogIndex(index.0.saturating_add(1)), 0) {
            Ok(mut entries) => Ok(entries.pop()),
            Err(StoreError::NoEntry { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// A checkpoint covers everything up to here.
    pub(crate) fn set_floor(&self, floor: u64) {
        let mut state = self.0.state.lock();
        state.floor = state.floor.max(Some(floor));
    }

    /// The recent entries at or below `last`.
    pub(crate) fn tail_entries(&self, last: LogIndex) -> Vec<LogEntry> {
        let state = self.0.state.lock();
        state.tail_from(0).take_while(|entry| entry.index <= last).cloned().collect()
    }

    /// The entries above `after` that are on disk now. Blocks for no disk.
    ///
    /// # Errors
    /// [`StoreError::Damaged`].
    pub(crate) fn freeze(&self, after: LogIndex) -> Result<FrozenLog, StoreError> {
        self.0.core.wal.freeze(self.0.group, after.0)
    }

    /// Room first, then the change in memory and its place in the queue under one lock: so the order on disk is
    /// the order in memory, and nobody who holds the lock ever waits for the disk.
    fn submit(
        &self,
        bytes: usize,
        done: Done,
        change: impl FnOnce(&mut LogState) -> Result<Work, StoreError>,
    ) {
        let core = &self.0.core;
        let checked = core.failure.check().and_then(|()| core.queue.reserve(bytes));
        if let Err(error) = checked {
            done(Err(error));
            return;
        }
        let mut state = self.0.state.lock();
        match change(&mut state) {
            Ok(work) => {
                let refused = core.queue.push(Task { log: Arc::clone(&self.0), work, bytes, done });
                drop(state);
                if let Some((task, error)) = refused {
                    (task.done)(Err(error));
                }
            }
            Err(error) => {
                drop(state);
                core.queue.release(bytes);
                done(Err(error));
            }
        }
    }
}

impl fmt::Debug for GroupLog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GroupLog").field("group", &self.0.group).finish_non_exhaustive()
    }
}

/// Appends entries below `to` while they fit; the first always fits.
fn take<'a>(
    tail: impl Iterator<Item = &'a LogEntry>,
    to: u64,
    max_bytes: usize,
    mut entries: Vec<LogEntry>,
) -> Vec<LogEntry> {
    let mut used = 0_usize;
    for entry in tail.take_while(|entry| entry.index.0 < to) {
        used = used.saturating_add(entry.payload.len());
        if used > max_bytes && !entries.is_empty() {
            break;
        }
        entries.push(entry.clone());
    }
    entries
}

impl Log {
    /// A group's log as it is on disk.
    pub(crate) fn open(group: GroupId, core: Arc<LogCore>) -> Result<Self, StoreError> {
        let found = core.wal.group(group)?;
        let mut state = LogState::default();
        state.vote = found.vote;
        state.committed = found.committed;
        state.purged = found.purged;
        state.first = found.first;
        state.next = found.next;
        state.durable_next = state.next;
        Ok(Self { group, state: Mutex::new(state), core })
    }

    /// Adds a change to the writer's batch.
    pub(crate) fn records(&self, work: &Work, records: &mut Vec<Record>) {
        let head = |kind, index| Head::of(kind, self.group, index);
        match work {
            Work::Append { entries, lineage: _ } => records
                .extend(entries.iter().map(|entry| (Head::entry(self.group, entry), entry.payload.clone()))),
            Work::Vote(vote) => records.push((head(Kind::Vote, 0), vote.clone())),
            Work::Committed(committed) => records.push((head(Kind::Committed, 0), committed.clone())),
            Work::Truncate { from } => records.push((head(Kind::Truncate, *from), Bytes::new())),
            Work::Purge { first, marker } => records.push((head(Kind::Purge, *first), marker.clone())),
            Work::Forget => records.push((head(Kind::Forget, 0), Bytes::new())),
            Work::Barrier => {}
        }
    }

    /// Notes that `work` is on disk.
    pub(crate) fn written(&self, work: &Work) {
        if let Work::Append { entries, lineage } = work
            && let Some(last) = entries.last()
        {
            let mut state = self.state.lock();
            if state.lineage == *lineage {
                let next = last.index.0.saturating_add(1);
                state.durable_next = state.durable_next.max(next).min(state.next);
            }
        }
    }
}
