//! Spine 11 and 14: one shard's replica on this node. Applies records to its [`ShardState`] in memory, loads messages
//! from wherever they are, and hands out what a checkpoint must write. Knows no Raft and not whether it leads.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use bytes::Bytes;
use parking_lot::{Mutex, MutexGuard};
use warren_proto::shard::{AppliedRecord, EnqueuedMessage, OpeningState, Record, StoredMessage};
use warren_types::{GroupId, LogIndex, Message, Position, QueueId, ShardId, Term, UnixMillis};

use crate::checkpoint::{CheckpointPart, Part};
use crate::keys::{self, Space};
use crate::rocks::{Rocks, scan};
use crate::shard::{ApplyError, Piece, Restore, ShardState};
use crate::snapshot::{SnapshotReader, SnapshotWriter};
use crate::values::{self, Place};
use crate::{GroupLog, StoreError, body, checksum};

/// How often `load` looks again when a checkpoint moved what it was about to read.
const LOAD_TRIES: usize = 5;

/// A shard's replicated state on this node. Cheap to clone; all clones are the same replica.
#[derive(Clone)]
pub struct Replica(pub(crate) Arc<Inner>);

pub(crate) struct Inner {
    pub(crate) shard: ShardId,
    pub(crate) rocks: Arc<Rocks>,
    pub(crate) log: GroupLog,
    pub(crate) held: Mutex<Held>,
    /// The messages of the log entry that was decoded last: a queue that is read in order asks for it many times.
    decoded: Mutex<Option<(u64, Arc<Vec<EnqueuedMessage>>)>>,
    /// The last generation given to a snapshot.
    generations: AtomicU32,
    /// The store's: one checkpoint or installation at a time.
    pub(crate) checkpoint: Arc<Mutex<()>>,
}

pub(crate) struct Held {
    pub(crate) state: ShardState,
    pub(crate) space: Space,
    pub(crate) raft_meta: Bytes,
    /// What the last finished checkpoint covers.
    pub(crate) durable: LogIndex,
    /// The bodies of entries at or below it can be read from the message store.
    pub(crate) written: u64,
    /// A checkpoint's part was taken and is not written yet.
    pub(crate) outstanding: bool,
}

impl Replica {
    /// The shard.
    #[must_use]
    pub fn shard(&self) -> ShardId {
        self.0.shard
    }

    /// Applies the record in a log entry's payload. Deterministic on all replicas; pure memory.
    ///
    /// # Errors
    /// [`StoreError::Record`] for a record that this version cannot read and [`StoreError::Apply`] for one out of
    /// turn. Both are fatal for the replica.
    pub fn apply(&self, index: LogIndex, term: Term, payload: Bytes) -> Result<AppliedRecord, StoreError> {
        let group = GroupId::from(self.0.shard);
        let record = Record::decode(payload).map_err(|reason| StoreError::Record { group, index, reason })?;
        let positions =
            self.held().state.apply(index, term, &record).map_err(|reason| self.apply_error(reason))?;
        Ok(AppliedRecord { index, term, record, positions })
    }

    /// The last applied entry and its term; zeros for a new replica.
    #[must_use]
    pub fn applied(&self) -> (LogIndex, Term) {
        let held = self.held();
        (held.state.applied(), held.state.applied_term())
    }

    /// Notes that a blank entry is applied.
    ///
    /// # Errors
    /// [`StoreError::Apply`] if it is not above everything applied.
    pub fn set_applied(&self, index: LogIndex, term: Term) -> Result<(), StoreError> {
        self.held().state.set_applied(index, term).map_err(|reason| self.apply_error(reason))
    }

    /// Notes that an entry is applied that changed what `warren-raft` keeps beside the state (the membership).
    ///
    /// # Errors
    /// As [`Replica::set_applied`].
    pub fn set_applied_with(&self, index: LogIndex, term: Term, raft_meta: Bytes) -> Result<(), StoreError> {
        let mut held = self.held();
        held.state.set_applied(index, term).map_err(|reason| self.apply_error(reason))?;
        held.raft_meta = raft_meta;
        Ok(())
    }

    /// What `warren-raft` last gave to [`Replica::set_applied_with`], as of the applied entry; empty at first. Comes
    /// back after a restart and with a snapshot.
    #[must_use]
    pub fn raft_meta(&self) -> Bytes {
        self.held().raft_meta.clone()
    }

    /// What the last finished checkpoint covers: after a crash the log is applied from the entry after it.
    #[must_use]
    pub fn durable_applied(&self) -> LogIndex {
        self.held().durable
    }

    /// No queue needs the bodies of the entries up to here, or they are in the message store.
    #[must_use]
    pub fn needless(&self) -> LogIndex {
        self.held().state.needless()
    }

    /// The bodies of the entries up to here are in the message store, or will be by the checkpoint that is being made.
    #[must_use]
    pub fn moved(&self) -> LogIndex {
        LogIndex(self.held().state.moved())
    }

    /// What a new leader needs to begin.
    #[must_use]
    pub fn opening_state(&self) -> OpeningState {
        self.held().state.opening()
    }

    /// One number for the whole state, to compare replicas that have applied the same entry.
    #[must_use]
    pub fn fingerprint(&self) -> u64 {
        self.held().state.fingerprint()
    }

    /// Runs in memory and the bytes they occupy, about.
    #[must_use]
    pub fn memory(&self) -> (usize, usize) {
        let held = self.held();
        (held.state.runs(), held.state.memory())
    }

    /// Loads live messages after `after`, in order: at most `max_messages`, and at most `max_bytes` but for the first.
    /// True if nothing live follows what was loaded. Reads the disk: blocks.
    ///
    /// # Errors
    /// [`StoreError::Damaged`], [`StoreError::DamagedState`] or [`StoreError::MissingMessage`] if the replica cannot be
    /// trusted; [`StoreError::Disk`].
    pub fn load(
        &self,
        queue: QueueId,
        after: Position,
        max_messages: usize,
        max_bytes: usize,
    ) -> Result<(Vec<StoredMessage>, bool), StoreError> {
        let mut tries = 0;
        loop {
            let ((pieces, mut end), space) = {
                let held = self.held();
                (held.state.plan(queue, after, max_messages, held.written), held.space)
            };
            let mut loaded = Loaded { messages: Vec::new(), bytes: 0, max_bytes };
            let mut missing = None;
            for piece in &pieces {
                match self.load_piece(queue, piece, space, &mut loaded) {
                    Ok(None) => {}
                    Ok(Some(position)) => missing = missing.or(Some(position)),
                    // The entry was moved and purged since the plan was made.
                    Err(StoreError::NoEntry { .. }) => {
                        missing = missing.or_else(|| piece.messages.first().map(|(position, _)| *position));
                    }
                    Err(error) => return Err(error),
                }
                if loaded.is_full() || missing.is_some() {
                    break;
                }
            }
            match missing {
                Some(position) if tries >= LOAD_TRIES => {
                    return Err(StoreError::MissingMessage { shard: self.0.shard, queue, position });
                }
                Some(_) => tries += 1,
                None => {
                    let planned = pieces.iter().map(|piece| piece.messages.len()).sum::<usize>();
                    end &= loaded.messages.len() == planned;
                    return Ok((loaded.messages, end));
                }
            }
        }
    }

    /// Loads what a plan says of one run. Returns a position whose message is not where the plan says.
    fn load_piece(
        &self,
        queue: QueueId,
        piece: &Piece,
        space: Space,
        loaded: &mut Loaded,
    ) -> Result<Option<u64>, StoreError> {
        let before = loaded.messages.len();
        if piece.moved {
            let counts: BTreeMap<u64, u32> = piece.messages.iter().copied().collect();
            let positions = piece.messages.iter().map(|(position, _)| *position);
            body::read_moved(&self.0.rocks, space, queue, positions, |position, message| {
                loaded.take(
                    position,
                    counts.get(&position).copied().unwrap_or_default(),
                    piece.run.time,
                    message,
                )
            })?;
        } else {
            let messages = self.0.decoded(piece.run.entry)?;
            let mut wanted = piece.messages.iter().peekable();
            for (position, ordinal) in body::places(&piece.run, queue, &messages) {
                let Some((_, count)) = wanted.next_if(|(wanted, _)| *wanted == position) else {
                    continue;
                };
                let Some(message) = messages.get(ordinal) else {
                    break;
                };
                if !loaded.take(position, *count, piece.run.time, message.message.clone()) {
                    break;
                }
            }
        }
        let found = loaded.messages.len() - before;
        if found == piece.messages.len() || loaded.is_full() {
            return Ok(None);
        }
        let got = loaded.messages.get(before..).unwrap_or_default();
        let mut got = got.iter().map(|message| message.position.0).peekable();
        for (position, _) in &piece.messages {
            if got.next_if_eq(position).is_none() {
                return Ok(Some(*position));
            }
        }
        Ok(None)
    }

    /// Collects what changed since the last checkpoint, with the bodies still needed of the log entries at or below
    /// `purge_up_to` (or the applied entry, if that is lower): after [`crate::Store::checkpoint`] the log may be purged up
    /// to there. Reads the log: blocks. Cost: what changed and what is moved. Bodies of at most about `budget` bytes are
    /// moved, which are taken from it: with less than is needed, [`CheckpointPart::purge_up_to`] stays below what was
    /// asked for.
    ///
    /// # Errors
    /// [`StoreError::CheckpointLost`] if an earlier part was taken and is not written; what reading the log says.
    pub fn checkpoint_part(
        &self,
        purge_up_to: LogIndex,
        budget: &mut usize,
    ) -> Result<CheckpointPart, StoreError> {
        let (unmoved, moved, mut up_to) = {
            let held = self.held();
            if held.outstanding {
                return Err(StoreError::CheckpointLost(self.0.shard));
            }
            let up_to = purge_up_to.min(held.state.applied()).0.max(held.state.moved());
            (held.state.unmoved(up_to), held.state.moved(), up_to)
        };
        // The log is read without the lock; what is settled meanwhile is left out below.
        let mut entries = Vec::new();
        let mut reached = moved;
        for unmoved in unmoved {
            if *budget == 0 {
                up_to = reached;
                break;
            }
            let messages = self.0.read_entry(unmoved.entry)?;
            let bytes: usize = messages.iter().map(|message| message.message.size()).sum();
            *budget = budget.saturating_sub(bytes);
            reached = unmoved.entry;
            entries.push((unmoved, messages));
        }
        let (changes, live, place, space, freed) = {
            let mut held = self.held();
            if held.outstanding {
                return Err(StoreError::CheckpointLost(self.0.shard));
            }
            let live: Vec<_> = entries
                .iter()
                .map(|(unmoved, messages)| body::live(&held.state, unmoved, messages))
                .collect();
            let changes = held.state.take_changes();
            held.state.set_moved(up_to);
            held.outstanding = true;
            let place = Place {
                applied: held.state.applied(),
                term: held.state.applied_term(),
                generation: held.space.generation,
                moved: held.state.moved(),
                raft_meta: held.raft_meta.clone(),
            };
            (changes, live, place, held.space, held.state.take_freed_bytes())
        };
        // What was decided under the lock is copied without it.
        let mut part = Part::new(&self.0.rocks, space)?;
        part.changes(&changes);
        for ((unmoved, messages), live) in entries.iter().zip(&live) {
            body::bodies(unmoved.entry, live, messages, |body| {
                part.body(&body);
                Ok::<(), StoreError>(())
            })?;
        }
        Ok(CheckpointPart::replica(part, place, Arc::clone(&self.0), freed))
    }

    /// A consistent picture of the whole replica as of the applied entry, for a follower that the log cannot help any
    /// more. Read lazily by a thread of its own, which ends when the reader is dropped.
    ///
    /// # Errors
    /// [`StoreError::Disk`] if the thread cannot be started or the log cannot be read.
    pub fn snapshot(&self) -> Result<SnapshotReader, StoreError> {
        SnapshotReader::start(&self.0)
    }

    /// Receives another replica's snapshot; nothing changes until [`SnapshotWriter::finish`].
    ///
    /// # Errors
    /// [`StoreError::Disk`].
    pub fn snapshot_writer(&self) -> Result<SnapshotWriter, StoreError> {
        SnapshotWriter::start(&self.0)
    }

    /// How many messages, and how many bodies shared between queues, the message store holds for this replica. Scans
    /// all of them: for tests and repair.
    ///
    /// # Errors
    /// [`StoreError::Disk`].
    pub fn stored(&self) -> Result<(u64, u64), StoreError> {
        let space = self.held().space;
        let count = |kind: u8| {
            let rocks = &self.0.rocks;
            let options = scan(space.kind(kind), space.kind(kind + 1));
            let mut stored = rocks.db().raw_iterator_cf_opt(rocks.state()?, options);
            stored.seek_to_first();
            let mut count = 0;
            while stored.valid() {
                count += 1;
                stored.next();
            }
            stored.status().map_err(StoreError::disk("read its state"))?;
            Ok(count)
        };
        Ok((count(b'M')?, count(b'S')?))
    }

    pub(crate) fn held(&self) -> MutexGuard<'_, Held> {
        self.0.held.lock()
    }

    fn apply_error(&self, reason: ApplyError) -> StoreError {
        StoreError::Apply { shard: self.0.shard, reason }
    }
}

impl fmt::Debug for Replica {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Replica").field("shard", &self.0.shard).finish_non_exhaustive()
    }
}

/// Messages gathered by one `load`.
struct Loaded {
    messages: Vec<StoredMessage>,
    bytes: usize,
    max_bytes: usize,
}

impl Loaded {
    /// False when it is full; the message that overfills is left out, unless it is the first.
    fn take(&mut self, position: u64, delivery_count: u32, time: UnixMillis, message: Message) -> bool {
        let size = message.size();
        self.bytes = self.bytes.saturating_add(size);
        if self.is_full() && !self.messages.is_empty() {
            return false;
        }
        self.messages.push(StoredMessage { position: Position(position), delivery_count, time, message });
        !self.is_full()
    }

    fn is_full(&self) -> bool {
        self.bytes > self.max_bytes
    }
}

impl Inner {
    /// Recovers the replica of the last checkpoint.
    pub(crate) fn open(
        shard: ShardId,
        rocks: Arc<Rocks>,
        log: GroupLog,
        checkpoint: Arc<Mutex<()>>,
    ) -> Result<Self, StoreError> {
        let place = read_place(&rocks, GroupId::from(shard))?.unwrap_or_default();
        let space = Space { shard, generation: place.generation.max(1) };
        remove_other_generations(&rocks, space)?;
        let state = read_state(&rocks, space, &place)?;
        let held = Held {
            state,
            space,
            raft_meta: place.raft_meta,
            durable: place.applied,
            written: place.moved,
            outstanding: false,
        };
        let generations = AtomicU32::new(space.generation);
        let (held, decoded) = (Mutex::new(held), Mutex::new(None));
        Ok(Self { shard, rocks, log, held, decoded, generations, checkpoint })
    }

    /// The messages of a log entry, from the cache if it was read last.
    fn decoded(&self, entry: u64) -> Result<Arc<Vec<EnqueuedMessage>>, StoreError> {
        if let Some((cached, messages)) = &*self.decoded.lock()
            && *cached == entry
        {
            return Ok(Arc::clone(messages));
        }
        let messages = Arc::new(self.read_entry(entry)?);
        *self.decoded.lock() = Some((entry, Arc::clone(&messages)));
        Ok(messages)
    }

    fn read_entry(&self, index: u64) -> Result<Vec<EnqueuedMessage>, StoreError> {
        let group = GroupId::from(self.shard);
        let index = LogIndex(index);
        let entry = self.log.get(index)?.ok_or(StoreError::NoEntry { group, index })?;
        body::messages(group, entry)
    }

    /// A generation of keys that nothing uses.
    pub(crate) fn next_space(&self) -> Space {
        let generation = self.generations.fetch_add(1, Ordering::Relaxed).wrapping_add(1);
        Space { shard: self.shard, generation }
    }

    /// A checkpoint's part is on disk.
    pub(crate) fn checkpointed(&self, applied: LogIndex, moved: u64) {
        let mut held = self.held.lock();
        held.durable = applied;
        held.written = moved;
        held.outstanding = false;
    }

    /// Replaces everything after a snapshot is installed.
    pub(crate) fn replace(&self, held: Held) {
        *self.held.lock() = held;
        *self.decoded.lock() = None;
    }
}

/// What a group's last checkpoint covers.
pub(crate) fn read_place(rocks: &Rocks, group: GroupId) -> Result<Option<Place>, StoreError> {
    let key = keys::applied(group);
    let Some(sealed) = rocks.get_state(&key)? else {
        return Ok(None);
    };
    let place = checksum::unseal(&key, &sealed).and_then(Place::decode);
    place.map(Some).ok_or(StoreError::DamagedState { group, what: "the applied index" })
}

/// Reads a generation's state from the state family.
pub(crate) fn read_state(rocks: &Rocks, space: Space, place: &Place) -> Result<ShardState, StoreError> {
    let group = GroupId::from(space.shard);
    let mut restore = Restore::new(place.applied, place.term, place.moved);
    for kind in *b"QRN" {
        let options = scan(space.kind(kind), space.kind(kind + 1));
        let mut stored = rocks.db().raw_iterator_cf_opt(rocks.state()?, options);
        stored.seek_to_first();
        while let Some((key, sealed)) = stored.item() {
            let value = checksum::unseal(key, sealed);
            let sound = value.and_then(|value| restore_one(&mut restore, kind, key, value));
            if sound != Some(true) {
                return Err(StoreError::DamagedState { group, what: "a queue, run or session" });
            }
            stored.next();
        }
        stored.status().map_err(StoreError::disk("read its state"))?;
    }
    Ok(restore.finish())
}

fn restore_one(restore: &mut Restore, kind: u8, key: &[u8], value: &[u8]) -> Option<bool> {
    let number = keys::first_number(key)?;
    match kind {
        b'Q' => Some(restore.queue(QueueId(number), values::decode_queue(value)?)),
        b'R' => {
            let stored = values::decode_run(keys::last_number(key)?, value)?;
            Some(restore.run(QueueId(number), stored.run, &stored.settled, &stored.counts))
        }
        _ => {
            let (last_seq, refused) = values::decode_session(value)?;
            restore.session(warren_types::SessionId(number), last_seq, refused);
            Some(true)
        }
    }
}

/// A crash in the middle of a snapshot, or just after it, leaves a generation that nothing refers to.
fn remove_other_generations(rocks: &Rocks, space: Space) -> Result<(), StoreError> {
    let first = Space { generation: 1, ..space }.start();
    let last = Space { generation: u32::MAX, ..space }.end();
    for (from, to) in [(first, space.start()), (space.end(), last)] {
        if from >= to {
            continue;
        }
        let rubbish = {
            let options = scan(from.clone(), to.clone());
            let mut stored = rocks.db().raw_iterator_cf_opt(rocks.state()?, options);
            stored.seek_to_first();
            stored.status().map_err(StoreError::disk("read its state"))?;
            stored.valid()
        };
        if rubbish {
            let mut batch = rocksdb::WriteBatch::default();
            batch.delete_range_cf(rocks.state()?, from, to);
            rocks.write_state(batch)?;
        }
    }
    Ok(())
}
