//! A whole replica as a stream of chunks, for a follower that the log cannot help any more, and its installation.
//!
//! The stream is a sequence of items, cut into chunks without regard to their bounds: a header, the state's queues,
//! runs and sessions, the messages, and an end. Each chunk has its number and a checksum. The receiver writes the items
//! under a new generation of keys and switches to it at the end, in one batch: until then, and after a crash in
//! the middle, the old state stands.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use bytes::{Buf, BufMut, Bytes, BytesMut};
use warren_types::{GroupId, LogIndex, QueueId, Term};

use crate::body::{self, Body};
use crate::checkpoint::{Part, put_place};
use crate::keys::{self, Space};
use crate::replica::{Held, Inner, read_state};
use crate::rocks::scan;
use crate::shard::{Change, ShardState};
use crate::values::{self, Place};
use crate::wal::FrozenLog;
use crate::{LogEntry, StoreError, checksum, simulation};

/// The layout of the stream.
const VERSION: u8 = 1;

/// A chunk's payload; with its head it stays below 1 MiB.
const CHUNK_BYTES: usize = (1 << 20) - HEAD_BYTES;

/// Version, number, checksum.
const HEAD_BYTES: usize = 9;

/// Longest item that a receiver takes: far above the largest message.
const ITEM_MAX_BYTES: usize = warren_types::BODY_MAX_BYTES + (64 << 20);

/// Bytes that a receiver gathers before it writes them.
const WRITE_BYTES: usize = 4 << 20;

const HEADER: u8 = b'H';
const END: u8 = b'E';
/// Where there are no threads, all of a snapshot is read at once.
const SIMULATED_CHUNKS: usize = 1 << 12;

/// What a snapshot covers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SnapshotMeta {
    /// The last applied entry.
    pub applied: LogIndex,
    /// Its term.
    pub term: Term,
    /// What `warren-raft` keeps beside the state.
    pub raft_meta: Bytes,
}

/// A snapshot's chunks, each at most 1 MiB, read as they are asked for. Dropping it ends its thread.
pub struct SnapshotReader {
    meta: SnapshotMeta,
    chunks: Receiver<Result<Bytes, StoreError>>,
}

impl SnapshotReader {
    pub(crate) fn start(replica: &Arc<Inner>) -> Result<Self, StoreError> {
        let (tell_meta, meta) = sync_channel(1);
        let replica = Arc::clone(replica);
        let chunks = if simulation::is_on() {
            let (out, chunks) = sync_channel(SIMULATED_CHUNKS);
            stream(&replica, &tell_meta, &out);
            chunks
        } else {
            let (out, chunks) = sync_channel(1);
            // A thread, because a RocksDB snapshot borrows its database: here that borrow lives on a stack.
            std::thread::Builder::new()
                .name(format!("snapshot-{}", replica.shard))
                .spawn(move || stream(&replica, &tell_meta, &out))
                .map_err(|error| StoreError::Disk { what: "start a thread", reason: error.to_string() })?;
            chunks
        };
        let meta = meta.recv().map_err(|_| StoreError::Snapshot("its thread ended at once"))??;
        Ok(Self { meta, chunks })
    }

    /// What it covers.
    #[must_use]
    pub fn meta(&self) -> &SnapshotMeta {
        &self.meta
    }
}

impl Iterator for SnapshotReader {
    type Item = Result<Bytes, StoreError>;

    /// The next chunk; blocks until it is read. After an error there is no further chunk.
    fn next(&mut self) -> Option<Self::Item> {
        self.chunks.recv().ok()
    }
}

impl fmt::Debug for SnapshotReader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SnapshotReader").field("meta", &self.meta).finish_non_exhaustive()
    }
}

/// Why a stream stops early.
enum Stop {
    /// The reader was dropped.
    Dropped,
    Error(StoreError),
}

impl From<StoreError> for Stop {
    fn from(error: StoreError) -> Self {
        Self::Error(error)
    }
}

/// A replica at one moment.
struct Frozen<'a> {
    replica: &'a Inner,
    state: ShardState,
    space: Space,
    /// Messages of entries at or below it are in the message store.
    moved: u64,
    disk: rocksdb::SnapshotWithThreadMode<'a, rocksdb::DB>,
    /// Entries on disk.
    log: FrozenLog,
    /// Entries that may not be on disk yet.
    tail: BTreeMap<u64, LogEntry>,
}

fn stream(
    replica: &Inner,
    tell_meta: &SyncSender<Result<SnapshotMeta, StoreError>>,
    out: &SyncSender<Result<Bytes, StoreError>>,
) {
    let (frozen, meta) = match freeze(replica) {
        Ok(frozen) => frozen,
        Err(error) => {
            // If the caller is gone, nobody is left to tell.
            tell_meta.send(Err(error)).unwrap_or_default();
            return;
        }
    };
    if tell_meta.send(Ok(meta.clone())).is_err() {
        return;
    }
    let mut chunks = Chunks { out, buffer: BytesMut::with_capacity(CHUNK_BYTES), number: 0, items: 0 };
    match frozen.send(&meta, &mut chunks) {
        Ok(()) | Err(Stop::Dropped) => {}
        // If the reader is gone, too, nobody is left to tell.
        Err(Stop::Error(error)) => out.send(Err(error)).unwrap_or_default(),
    }
}

fn freeze(replica: &Inner) -> Result<(Frozen<'_>, SnapshotMeta), StoreError> {
    let held = replica.held.lock();
    // The tail before the disk: what has left it by now is on disk.
    let tail = replica.log.tail_entries(held.state.applied());
    let frozen = Frozen {
        replica,
        state: held.state.clone(),
        space: held.space,
        moved: held.written,
        disk: replica.rocks.db().snapshot(),
        log: replica.log.freeze(LogIndex(held.written))?,
        tail: tail.into_iter().map(|entry| (entry.index.0, entry)).collect(),
    };
    let meta = SnapshotMeta {
        applied: held.state.applied(),
        term: held.state.applied_term(),
        raft_meta: held.raft_meta.clone(),
    };
    Ok((frozen, meta))
}

impl Frozen<'_> {
    fn send(&self, meta: &SnapshotMeta, chunks: &mut Chunks<'_>) -> Result<(), Stop> {
        let mut header = Vec::with_capacity(16 + meta.raft_meta.len());
        header.extend_from_slice(&meta.applied.0.to_le_bytes());
        header.extend_from_slice(&meta.term.0.to_le_bytes());
        header.extend_from_slice(&meta.raft_meta);
        chunks.item(HEADER, &[], &header)?;
        for change in self.state.everything() {
            self.send_state(&change, chunks)?;
        }
        self.send_moved(b'M', chunks)?;
        self.send_moved(b'S', chunks)?;
        self.send_unmoved(chunks)?;
        let items = chunks.items;
        chunks.item(END, &[], &items.to_le_bytes())?;
        chunks.flush()
    }

    fn send_state(&self, change: &Change, chunks: &mut Chunks<'_>) -> Result<(), Stop> {
        match change {
            Change::PutQueue { queue, meta } => {
                chunks.key_value(&self.space.queue(*queue), &values::encode_queue(*meta))
            }
            Change::PutRun { queue, run, settled, counts } => chunks
                .key_value(&self.space.run(*queue, run.first), &values::encode_run(run, settled, counts)),
            Change::PutSession { session, last_seq, refused } => {
                let value = values::encode_session(*last_seq, refused);
                chunks.key_value(&self.space.session(*session), &value)
            }
            // A whole state deletes nothing.
            Change::DropQueue { .. }
            | Change::DeleteRuns { .. }
            | Change::FreeMessages { .. }
            | Change::FreeEntry { .. }
            | Change::DeleteSession { .. } => Ok(()),
        }
    }

    /// The message store's values of one kind that are still needed.
    fn send_moved(&self, kind: u8, chunks: &mut Chunks<'_>) -> Result<(), Stop> {
        let family = self.replica.rocks.state()?;
        let options = scan(self.space.kind(kind), self.space.kind(kind + 1));
        let mut stored = self.disk.raw_iterator_cf_opt(family, options);
        stored.seek_to_first();
        while let Some((key, sealed)) = stored.item() {
            if self.is_needed(kind, key) {
                let group = GroupId::from(self.space.shard);
                let value = checksum::unseal(key, sealed)
                    .ok_or(StoreError::DamagedState { group, what: "a message" })?;
                chunks.key_value(key, value)?;
            }
            stored.next();
        }
        Ok(stored.status().map_err(StoreError::disk("read its state"))?)
    }

    fn is_needed(&self, kind: u8, key: &[u8]) -> bool {
        let (Some(first), Some(last)) = (keys::first_number(key), keys::last_number(key)) else {
            return false;
        };
        match kind {
            b'M' => self.state.entry_of(QueueId(first), last).is_some_and(|entry| entry <= self.moved),
            _ => first <= self.moved && self.state.shares(first),
        }
    }

    /// The messages that are still in the log.
    fn send_unmoved(&self, chunks: &mut Chunks<'_>) -> Result<(), Stop> {
        let group = GroupId::from(self.space.shard);
        for unmoved in self.state.entries_after(self.moved) {
            let entry = match self.tail.get(&unmoved.entry) {
                Some(entry) => entry.clone(),
                None => self.log.read(unmoved.entry)?,
            };
            let messages = body::messages(group, entry)?;
            let live = body::live(&self.state, &unmoved, &messages);
            body::bodies(unmoved.entry, &live, &messages, |body| match body {
                Body::Message { queue, position, value } => {
                    chunks.key_value(&self.space.message(queue, position), &value)
                }
                Body::Shared { entry, ordinal, value } => {
                    chunks.key_value(&self.space.shared(entry, ordinal), &value)
                }
            })?;
        }
        Ok(())
    }
}

/// Cuts items into chunks.
struct Chunks<'a> {
    out: &'a SyncSender<Result<Bytes, StoreError>>,
    buffer: BytesMut,
    number: u32,
    items: u64,
}

impl Chunks<'_> {
    /// An item of the state: its key within the generation, kind first, and its value.
    fn key_value(&mut self, key: &[u8], value: &[u8]) -> Result<(), Stop> {
        let within = key.get(8..).unwrap_or_default();
        let (kind, rest) = within.split_first().ok_or(StoreError::Snapshot("an empty key"))?;
        self.item(*kind, rest, value)
    }

    /// Length, kind, key length, key, value.
    fn item(&mut self, kind: u8, key: &[u8], value: &[u8]) -> Result<(), Stop> {
        self.items += 1;
        let mut head = Vec::with_capacity(6 + key.len());
        let length = u32::try_from(2 + key.len() + value.len())
            .map_err(|_| StoreError::Snapshot("a message of more than 4 GiB"))?;
        head.extend_from_slice(&length.to_le_bytes());
        head.push(kind);
        head.push(u8::try_from(key.len()).map_err(|_| StoreError::Snapshot("a long key"))?);
        head.extend_from_slice(key);
        self.bytes(&head)?;
        self.bytes(value)
    }

    fn bytes(&mut self, mut bytes: &[u8]) -> Result<(), Stop> {
        while !bytes.is_empty() {
            let room = CHUNK_BYTES - self.buffer.len();
            let (now, later) = bytes.split_at(room.min(bytes.len()));
            self.buffer.extend_from_slice(now);
            bytes = later;
            if self.buffer.len() == CHUNK_BYTES {
                self.flush()?;
            }
        }
        Ok(())
    }

    fn flush(&mut self) -> Result<(), Stop> {
        if self.buffer.is_empty() {
            return Ok(());
        }
        let mut chunk = BytesMut::with_capacity(HEAD_BYTES + self.buffer.len());
        chunk.put_u8(VERSION);
        chunk.put_u32_le(self.number);
        chunk.put_u32_le(chunk_checksum(self.number, &self.buffer));
        chunk.extend_from_slice(&self.buffer);
        self.number += 1;
        self.buffer.clear();
        self.out.send(Ok(chunk.freeze())).map_err(|_| Stop::Dropped)
    }
}

fn chunk_checksum(number: u32, payload: &[u8]) -> u32 {
    checksum::crc(&[&[VERSION], &number.to_le_bytes(), payload])
}

/// Receives a snapshot. Dropped before [`SnapshotWriter::finish`], it leaves the replica as it was.
pub struct SnapshotWriter {
    replica: Arc<Inner>,
    space: Space,
    buffer: BytesMut,
    number: u32,
    items: u64,
    stage: Stage,
    /// Items checked and not yet written: key and value.
    pending: Vec<(Vec<u8>, Bytes)>,
    pending_bytes: usize,
    finished: bool,
}

enum Stage {
    AwaitingHeader,
    Receiving(SnapshotMeta),
    Complete(SnapshotMeta),
}

impl SnapshotWriter {
    pub(crate) fn start(replica: &Arc<Inner>) -> Result<Self, StoreError> {
        Ok(Self {
            space: replica.next_space(),
            replica: Arc::clone(replica),
            buffer: BytesMut::new(),
            number: 0,
            items: 0,
            stage: Stage::AwaitingHeader,
            pending: Vec::new(),
            pending_bytes: 0,
            finished: false,
        })
    }

    /// Takes the next chunk. Writes to the disk now and then: blocks.
    ///
    /// # Errors
    /// [`StoreError::Snapshot`] if the chunk is damaged, out of order or not from this version: begin anew.
    /// [`StoreError::Disk`].
    pub fn push(&mut self, chunk: Bytes) -> Result<(), StoreError> {
        let mut head = values::Reader(&chunk);
        let damaged = || StoreError::Snapshot("a chunk is damaged");
        if head.u8().ok_or_else(damaged)? != VERSION {
            return Err(StoreError::Snapshot("its version is not known here"));
        }
        let number = head.u32().ok_or_else(damaged)?;
        let found = head.u32().ok_or_else(damaged)?;
        if found != chunk_checksum(number, head.0) {
            return Err(damaged());
        }
        if number != self.number {
            return Err(StoreError::Snapshot("a chunk is missing or repeated"));
        }
        self.number += 1;
        self.buffer.extend_from_slice(head.0);
        while let Some(item) = self.next_item()? {
            self.item(item)?;
        }
        if self.pending_bytes >= WRITE_BYTES { self.write() } else { Ok(()) }
    }

    /// Installs what was received: from now on the replica is the snapshot's. Durable when this returns; blocks.
    ///
    /// # Errors
    /// [`StoreError::Snapshot`] if the end is missing, [`StoreError::DamagedState`] if what came is no state;
    /// nothing has changed then. [`StoreError::Disk`].
    pub fn finish(mut self) -> Result<SnapshotMeta, StoreError> {
        let Stage::Complete(meta) = &self.stage else {
            return Err(StoreError::Snapshot("its end is missing"));
        };
        let meta = meta.clone();
        self.write()?;
        let replica = Arc::clone(&self.replica);
        let place = Place {
            applied: meta.applied,
            term: meta.term,
            generation: self.space.generation,
            moved: meta.applied.0,
            raft_meta: meta.raft_meta.clone(),
        };
        let state = read_state(&replica.rocks, self.space, &place)?;
        let _one_at_a_time = replica.checkpoint.lock();
        let old = replica.held.lock().space;
        let mut batch = rocksdb::WriteBatch::default();
        batch.delete_range_cf(replica.rocks.state()?, old.start(), old.end());
        put_place(&replica.rocks, &mut batch, GroupId::from(old.shard), &place)?;
        replica.rocks.write_state(batch)?;
        replica.rocks.flush_state()?;
        self.finished = true;
        replica.replace(Held {
            state,
            space: self.space,
            raft_meta: place.raft_meta,
            durable: place.applied,
            written: place.moved,
            outstanding: false,
        });
        replica.log.set_floor(place.moved);
        Ok(meta)
    }

    /// Cuts the next whole item off the buffer.
    fn next_item(&mut self) -> Result<Option<Bytes>, StoreError> {
        let Some(length) = values::Reader(&self.buffer).u32() else {
            return Ok(None);
        };
        let length = length as usize;
        if !(2..=ITEM_MAX_BYTES).contains(&length) {
            return Err(StoreError::Snapshot("an item has an impossible length"));
        }
        if self.buffer.len() < 4 + length {
            return Ok(None);
        }
        self.buffer.advance(4);
        Ok(Some(self.buffer.split_to(length).freeze()))
    }

    fn item(&mut self, item: Bytes) -> Result<(), StoreError> {
        let bad = || StoreError::Snapshot("an item is malformed");
        let mut parts = values::Reader(&item);
        let kind = parts.u8().ok_or_else(bad)?;
        let key = usize::from(parts.u8().ok_or_else(bad)?);
        let key = parts.bytes(key).ok_or_else(bad)?;
        let value = item.slice_ref(parts.0);
        self.items += 1;
        match (&self.stage, kind) {
            (Stage::AwaitingHeader, HEADER) => {
                let mut parts = values::Reader(&value);
                let applied = LogIndex(parts.u64().ok_or_else(bad)?);
                let term = Term(parts.u64().ok_or_else(bad)?);
                let raft_meta = Bytes::copy_from_slice(parts.0);
                self.stage = Stage::Receiving(SnapshotMeta { applied, term, raft_meta });
            }
            (Stage::Receiving(meta), END) => {
                let items = values::Reader(&value).u64().ok_or_else(bad)?;
                if items != self.items - 1 || !self.buffer.is_empty() {
                    return Err(StoreError::Snapshot("items are missing"));
                }
                self.stage = Stage::Complete(meta.clone());
            }
            (Stage::Receiving(_), b'Q' | b'N') if key.len() == 8 => self.keep(kind, key, value),
            (Stage::Receiving(_), b'R' | b'M') if key.len() == 16 => self.keep(kind, key, value),
            (Stage::Receiving(_), b'S') if key.len() == 12 => self.keep(kind, key, value),
            (Stage::AwaitingHeader | Stage::Receiving(_) | Stage::Complete(_), _) => return Err(bad()),
        }
        Ok(())
    }

    fn keep(&mut self, kind: u8, rest: &[u8], value: Bytes) {
        let mut key = self.space.kind(kind);
        key.extend_from_slice(rest);
        self.pending_bytes += key.len() + value.len();
        self.pending.push((key, value));
    }

    fn write(&mut self) -> Result<(), StoreError> {
        let mut part = Part::new(&self.replica.rocks, self.space)?;
        for (key, value) in self.pending.drain(..) {
            part.put(&key, &value);
        }
        self.pending_bytes = 0;
        part.write()
    }
}

impl Drop for SnapshotWriter {
    fn drop(&mut self) {
        if self.finished {
            return;
        }
        // What was received so far is rubbish. If this fails, the next start removes it.
        if let Ok(family) = self.replica.rocks.state() {
            let mut batch = rocksdb::WriteBatch::default();
            batch.delete_range_cf(family, self.space.start(), self.space.end());
            if let Err(error) = self.replica.rocks.write_state(batch) {
                tracing::warn!(shard = %self.space.shard, %error, "a broken snapshot could not be removed");
            }
        }
    }
}

impl fmt::Debug for SnapshotWriter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SnapshotWriter").field("space", &self.space).finish_non_exhaustive()
    }
}
