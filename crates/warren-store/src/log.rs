//! Spine 10: a Raft group's log. Entries can be read the moment `append` returns; `done` is called when they are
//! on disk. Knows no Raft rule but that a log has no gap. After: `sync`, which writes for all groups at once.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use parking_lot::Mutex;
use rocksdb::WriteBatch;
use warren_types::{GroupId, LogIndex, NodeId, Term};

use crate::keys::{self, Hard};
use crate::rocks::{Rocks, scan};
use crate::sync::{Queue, Task, Work};
use crate::tail::{LogState, entry_bytes};
use crate::{Failure, StoreError, checksum};

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
            Ok(Work::Hard { kind: Hard::Vote, value: vote })
        });
    }

    /// Saves what is known to be committed. It reaches the disk with the next change of any group, without an
    /// fsync of its own: losing it costs only a later start.
    pub fn save_committed(&self, committed: Bytes) {
        self.submit(committed.len(), Box::new(|_| ()), |state| {
            state.committed = Some(committed.clone());
            Ok(Work::Hard { kind: Hard::Committed, value: committed })
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
            let to = state.next;
            let freed = state.truncate(first_removed.0);
            self.0.core.tail_bytes.fetch_sub(freed, Ordering::Relaxed);
            Ok(Work::Truncate { from: state.next, to })
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
            let from = state.first;
            let freed = state.purge(up_to.0);
            self.0.core.tail_bytes.fetch_sub(freed, Ordering::Relaxed);
            state.purged = Some(marker.clone());
            Ok(Work::Purge { from, first: state.first, marker })
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
        let read = self.0.read_disk(from.0, to.0.min(tail_first), max_bytes);
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
    /// Recovers a group's log from disk.
    pub(crate) fn open(group: GroupId, core: Arc<LogCore>, floor: Option<u64>) -> Result<Self, StoreError> {
        let hard = |kind, what| {
            let key = keys::hard(group, kind);
            core.rocks.get_log(&key)?.map_or(Ok(None), |sealed| match checksum::unseal(&key, &sealed) {
                Some(value) => Ok(Some(Bytes::copy_from_slice(value))),
                None => Err(StoreError::DamagedState { group, what }),
            })
        };
        let mut state = LogState::default();
        state.vote = hard(Hard::Vote, "vote")?;
        state.committed = hard(Hard::Committed, "committed")?;
        state.floor = floor;
        if let Some(purged) = hard(Hard::Purged, "purge marker")? {
            let damaged = StoreError::DamagedState { group, what: "purge marker" };
            let (first, _) = purged.split_first_chunk::<8>().ok_or(damaged)?;
            state.first = u64::from_be_bytes(*first);
            state.next = state.first;
            state.purged = Some(purged.slice(8..));
        }
        let (from, end) = (keys::entry(group, state.first), group_end(group));
        {
            let options = scan(from.to_vec(), end.to_vec());
            let mut entries = core.rocks.db().raw_iterator_cf_opt(core.rocks.log()?, options);
            entries.seek_to_first();
            if let Some(first) = entries.key().and_then(keys::entry_index) {
                if state.purged.is_some() && first != state.first {
                    return Err(StoreError::Damaged { group, index: LogIndex(state.first) });
                }
                state.first = first;
                state.next = first;
                // A hole is found now, and not when somebody reads into it.
                while let Some(index) = entries.key().and_then(keys::entry_index) {
                    if index != state.next {
                        return Err(StoreError::Damaged { group, index: LogIndex(state.next) });
                    }
                    state.next = index.saturating_add(1);
                    entries.next();
                }
            }
            entries.status().map_err(StoreError::disk("read its log"))?;
        }
        state.durable_next = state.next;
        Ok(Self { group, state: Mutex::new(state), core })
    }

    /// Reads entries `from..to` from disk while they fit into `max_bytes`, at least one.
    fn read_disk(&self, from: u64, to: u64, max_bytes: usize) -> Result<Vec<LogEntry>, StoreError> {
        let options = scan(keys::entry(self.group, from).to_vec(), keys::entry(self.group, to).to_vec());
        let rocks = &self.core.rocks;
        let mut stored = rocks.db().raw_iterator_cf_opt(rocks.log()?, options);
        stored.seek_to_first();
        let mut entries = Vec::new();
        let mut used = 0_usize;
        let mut expected = from;
        while let Some((key, value)) = stored.item() {
            if keys::entry_index(key) != Some(expected) {
                break;
            }
            let entry = decode_entry(self.group, expected, key, value)?;
            used = used.saturating_add(entry.payload.len());
            if used > max_bytes && !entries.is_empty() {
                return Ok(entries);
            }
            entries.push(entry);
            expected += 1;
            stored.next();
        }
        stored.status().map_err(StoreError::disk("read its log"))?;
        if expected < to {
            return Err(StoreError::Damaged { group: self.group, index: LogIndex(expected) });
        }
        Ok(entries)
    }

    /// Adds a change to the writer's batch. `scratch` is reused from entry to entry.
    pub(crate) fn write(
        &self,
        work: &Work,
        batch: &mut WriteBatch,
        scratch: &mut Vec<u8>,
    ) -> Result<(), StoreError> {
        let family = self.core.rocks.log()?;
        match work {
            Work::Append { entries, lineage: _ } => {
                for entry in entries {
                    let key = keys::entry(self.group, entry.index.0);
                    encode_entry(entry, &key, scratch);
                    batch.put_cf(family, key, &scratch);
                }
            }
            Work::Hard { kind, value } => {
                let key = keys::hard(self.group, *kind);
                batch.put_cf(family, key, checksum::seal(&key, value));
            }
            Work::Truncate { from, to } => {
                // Truncations are short and rare: single deletes leave no range tombstone for later reads to pass.
                if to.saturating_sub(*from) <= 1024 {
                    for index in *from..*to {
                        batch.delete_cf(family, keys::entry(self.group, index));
                    }
                } else {
                    batch.delete_range_cf(
                        family,
                        keys::entry(self.group, *from),
                        keys::entry(self.group, *to),
                    );
                }
            }
            Work::Purge { from, first, marker } => {
                let key = keys::hard(self.group, Hard::Purged);
                let value = [&first.to_be_bytes(), &marker[..]].concat();
                batch.put_cf(family, key, checksum::seal(&key, &value));
                if from < first {
                    batch.delete_range_cf(
                        family,
                        keys::entry(self.group, *from),
                        keys::entry(self.group, *first),
                    );
                }
            }
            Work::Barrier => {}
        }
        Ok(())
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

fn group_end(group: GroupId) -> [u8; 5] {
    let mut end = [0; 5];
    let (number, kind) = end.split_at_mut(4);
    number.copy_from_slice(&group.0.to_be_bytes());
    kind.copy_from_slice(b"m");
    end
}

/// Checksum, term, leader, kind.
const ENTRY_HEADER_BYTES: usize = 4 + 8 + 8 + 1;

fn encode_entry(entry: &LogEntry, key: &[u8], out: &mut Vec<u8>) {
    let term = entry.term.0.to_le_bytes();
    let node = entry.node.0.to_le_bytes();
    out.clear();
    out.reserve(ENTRY_HEADER_BYTES + entry.payload.len());
    out.extend_from_slice(&checksum::crc(&[key, &term, &node, &[entry.kind], &entry.payload]).to_le_bytes());
    out.extend_from_slice(&term);
    out.extend_from_slice(&node);
    out.push(entry.kind);
    out.extend_from_slice(&entry.payload);
}

/// Reads a stored entry and checks its checksum.
pub(crate) fn decode_entry(
    group: GroupId,
    index: u64,
    key: &[u8],
    value: &[u8],
) -> Result<LogEntry, StoreError> {
    let damaged = || StoreError::Damaged { group, index: LogIndex(index) };
    let rest = checksum::unseal(key, value).ok_or_else(damaged)?;
    let (term, rest) = rest.split_first_chunk::<8>().ok_or_else(damaged)?;
    let (node, rest) = rest.split_first_chunk::<8>().ok_or_else(damaged)?;
    let (kind, payload) = rest.split_first().ok_or_else(damaged)?;
    Ok(LogEntry {
        index: LogIndex(index),
        term: Term(u64::from_le_bytes(*term)),
        node: NodeId(u64::from_le_bytes(*node)),
        kind: *kind,
        payload: Bytes::copy_from_slice(payload),
    })
}
