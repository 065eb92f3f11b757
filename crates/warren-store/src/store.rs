//! The node's store: opens the database, starts the log writer, hands out logs and replicas, writes checkpoints.

mod forget;

use std::collections::BTreeMap;
use std::fmt;
use std::hash::{BuildHasher, RandomState};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::SystemTime;

use bytes::Bytes;
use parking_lot::Mutex;
use rocksdb::WriteBatch;
use warren_types::{GroupId, LogIndex, ShardId, Term};

use crate::checkpoint::{Content, put_place};
use crate::log::{Done, Log, LogCore};
use crate::reclaim::Reclaimer;
use crate::replica::{Inner as ReplicaInner, read_place};
use crate::rocks::Rocks;
use crate::sync::{Queue, Task, Work, Writer, Written};
use crate::wal::{DiskDir, LogDir, Wal};
use crate::{CheckpointPart, Failure, GroupLog, Replica, StoreError, StoreOptions, checksum, keys};

/// The node's log and its one RocksDB. Cheap to clone. The directory is free again when every clone, log and replica is gone.
#[derive(Clone)]
pub struct Store(Arc<Inner>);

struct Inner {
    core: Arc<LogCore>,
    logs: Arc<Mutex<BTreeMap<GroupId, Arc<Log>>>>,
    replicas: Mutex<BTreeMap<ShardId, Arc<ReplicaInner>>>,
    written: Arc<Written>,
    writer: Mutex<Option<JoinHandle<()>>>,
    reclaimer: Reclaimer,
    /// What a file of the log takes.
    log_segment_bytes: u64,
    /// How long the log may be for the bodies in it, in bytes and entries.
    log_limits: (u64, u64),
    /// One checkpoint or installation at a time.
    checkpoint: Arc<Mutex<()>>,
}

/// What the store has done since it was opened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StoreMetrics {
    /// Fsyncs of the log: each one for everything that waited.
    pub log_syncs: u64,
    /// Entries appended to all logs.
    pub log_entries: u64,
    /// Bytes of those writes.
    pub log_bytes: u64,
    /// Bytes of recent entries in memory.
    pub tail_bytes: u64,
}

/// What a blob's group had applied when it was saved.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupPlace {
    /// The last applied entry.
    pub applied: LogIndex,
    /// Its term.
    pub term: Term,
    /// What `warren-raft` keeps beside the state.
    pub raft_meta: Bytes,
}

impl Store {
    /// Opens or makes the store in `dir` and starts the log writer's thread.
    ///
    /// # Errors
    /// [`StoreError::Disk`]: the directory cannot be used, another process has it, or its log is damaged elsewhere
    /// than at its end.
    pub fn open(dir: &Path, options: StoreOptions) -> Result<Self, StoreError> {
        let rocks = Arc::new(Rocks::open(dir, &options)?);
        let files = DiskDir::new(&dir.join("log"), options.log_segment_bytes);
        let files = files.map_err(StoreError::io("make its log's directory"))?;
        let wal = open_wal(Box::new(files), &rocks, &options)?;
        let (core, logs, written, writer) = parts(rocks, wal, &options);
        let writer = std::thread::Builder::new()
            .name("log-writer".to_owned())
            .spawn(move || writer.run())
            .map_err(|error| StoreError::Disk { what: "start its writer", reason: error.to_string() })?;
        Ok(Self::assemble(core, logs, written, Some(writer), &options))
    }

    pub(crate) fn assemble(
        core: Arc<LogCore>,
        logs: Logs,
        written: Arc<Written>,
        writer: Option<JoinHandle<()>>,
        options: &StoreOptions,
    ) -> Self {
        Self(Arc::new(Inner {
            core,
            logs,
            replicas: Mutex::new(BTreeMap::new()),
            written,
            writer: Mutex::new(writer),
            reclaimer: Reclaimer::new(options.reclaim_bytes),
            log_segment_bytes: options.log_segment_bytes,
            log_limits: (options.log_bytes, options.log_entries),
            checkpoint: Arc::new(Mutex::new(())),
        }))
    }

    /// The log of a group, recovered from disk at the first call.
    ///
    /// # Errors
    /// [`StoreError::Disk`], [`StoreError::Damaged`] or [`StoreError::DamagedState`].
    pub fn log(&self, group: GroupId) -> Result<GroupLog, StoreError> {
        if let Some(log) = self.0.logs.lock().get(&group) {
            return Ok(GroupLog(Arc::clone(log)));
        }
        // Without the lock: a checkpoint may be waited for, which takes it.
        let log = Log::open(group, Arc::clone(&self.0.core))?;
        self.forget_on(&log)?;
        log.state.lock().floor = read_place(&self.0.core.rocks, group)?.map(|place| place.moved);
        Ok(GroupLog(Arc::clone(self.0.logs.lock().entry(group).or_insert_with(|| Arc::new(log)))))
    }

    /// The replica of a shard, recovered from the last checkpoint at the first call.
    ///
    /// # Errors
    /// [`StoreError::Disk`], [`StoreError::Damaged`] or [`StoreError::DamagedState`].
    pub fn replica(&self, shard: ShardId) -> Result<Replica, StoreError> {
        let log = self.log(GroupId::from(shard))?;
        let mut replicas = self.0.replicas.lock();
        if let Some(replica) = replicas.get(&shard) {
            return Ok(Replica(Arc::clone(replica)));
        }
        let checkpoint = Arc::clone(&self.0.checkpoint);
        let rocks = Arc::clone(&self.0.core.rocks);
        let replica = Arc::new(ReplicaInner::open(shard, rocks, log, checkpoint)?);
        replicas.insert(shard, Arc::clone(&replica));
        Ok(Replica(replica))
    }

    /// What was last saved under `name` by [`CheckpointPart::blob`] or [`Store::put_blob`].
    ///
    /// # Errors
    /// [`StoreError::Disk`]; [`StoreError::DamagedState`] if its checksum is wrong.
    pub fn get_blob(&self, name: &str) -> Result<Option<Bytes>, StoreError> {
        let key = keys::blob(name);
        let Some(sealed) = self.0.core.rocks.get_state(&key)? else {
            return Ok(None);
        };
        let sealed = Bytes::from(sealed);
        match checksum::unseal(&key, &sealed) {
            Some(bytes) => Ok(Some(sealed.slice_ref(bytes))),
            None => Err(StoreError::DamagedState { group: GroupId::METADATA, what: "a blob" }),
        }
    }

    /// Saves something small and rare under `name`, durable when this returns. Blocks.
    ///
    /// # Errors
    /// [`StoreError::Disk`] or [`StoreError::Failed`].
    pub fn put_blob(&self, name: &str, bytes: &[u8]) -> Result<(), StoreError> {
        let core = &self.0.core;
        core.failure.check()?;
        let key = keys::blob(name);
        let mut batch = WriteBatch::default();
        batch.put_cf(core.rocks.state()?, &key, checksum::seal(&key, bytes));
        let _one_at_a_time = self.0.checkpoint.lock();
        core.failure.note(core.rocks.write_state(batch).and_then(|()| core.rocks.flush_state()))
    }

    /// What a group's last checkpoint covers, for groups that are saved as a blob.
    ///
    /// # Errors
    /// [`StoreError::Disk`] or [`StoreError::DamagedState`].
    pub fn place(&self, group: GroupId) -> Result<Option<GroupPlace>, StoreError> {
        let place = read_place(&self.0.core.rocks, group)?;
        Ok(place.map(|place| GroupPlace {
            applied: place.applied,
            term: place.term,
            raft_meta: place.raft_meta,
        }))
    }

    /// Writes the parts of several groups, each atomically, with one flush for all. When this returns, each part's
    /// applied entry is durable without the log. Blocks, possibly for seconds.
    ///
    /// # Errors
    /// [`StoreError::Disk`] or [`StoreError::Failed`]: fatal, the previous checkpoints stand.
    pub fn checkpoint(&self, parts: Vec<CheckpointPart>) -> Result<(), StoreError> {
        let core = &self.0.core;
        core.failure.check()?;
        let _one_at_a_time = self.0.checkpoint.lock();
        let mut finished = Vec::with_capacity(parts.len());
        let mut freed_bytes = 0_u64;
        for CheckpointPart { group, content, place } in parts {
            let (mut batch, replica) = match content {
                // A snapshot has replaced the state since the part was made.
                Content::Replica { space, ref replica, .. } if replica.held.lock().space != space => continue,
                Content::Replica { batch, replica, freed, .. } => {
                    freed_bytes = freed_bytes.saturating_add(freed);
                    (batch, Some(replica))
                }
                Content::Blob { name, bytes } => {
                    let key = keys::blob(&name);
                    let mut batch = WriteBatch::default();
                    batch.put_cf(core.rocks.state()?, &key, checksum::seal(&key, &bytes));
                    (batch, None)
                }
            };
            put_place(&core.rocks, &mut batch, group, &place)?;
            core.failure.note(core.rocks.write_state(batch))?;
            finished.push((group, place, replica));
        }
        if finished.is_empty() {
            return Ok(());
        }
        core.failure.note(core.rocks.flush_state())?;
        for (group, place, replica) in finished {
            if let Some(replica) = replica {
                replica.checkpointed(place.applied, place.moved);
            }
            if let Some(log) = self.0.logs.lock().get(&group) {
                GroupLog(Arc::clone(log)).set_floor(place.moved);
            }
        }
        self.0.reclaimer.freed(freed_bytes, &core.rocks)
    }

    /// Bytes of the disk that are spoken for, though nothing new comes in. What is in memory is written to files of its
    /// own once, and once more when bodies are moved to the message store; and the log takes whole files.
    ///
    /// # Errors
    /// [`StoreError::Disk`].
    pub fn spoken_for_bytes(&self) -> Result<u64, StoreError> {
        let unflushed = self.0.core.rocks.unflushed_bytes()?;
        Ok(unflushed.saturating_mul(2).saturating_add(self.0.log_segment_bytes.saturating_mul(2)))
    }

    /// Up to where each group's log makes the node's log longer than [`StoreOptions::log_bytes`] or
    /// [`StoreOptions::log_entries`]: bodies there are to be moved to the message store. Groups without such are left out.
    /// Cost: the entries in the log, if it is too long.
    #[must_use]
    pub fn log_surplus(&self) -> BTreeMap<GroupId, LogIndex> {
        let (bytes, entries) = self.0.log_limits;
        self.0.core.wal.surplus(bytes, entries)
    }

    /// Makes what room can be made: old files of the write-ahead log go, and so do bodies that nobody needs. Blocks,
    /// possibly for seconds.
    ///
    /// # Errors
    /// [`StoreError::Disk`] or [`StoreError::Failed`]: fatal, what was to be flushed is not.
    pub fn relieve(&self) -> Result<(), StoreError> {
        let core = &self.0.core;
        core.failure.check()?;
        self.0.reclaimer.hurry(&core.rocks);
        Ok(())
    }

    /// Tells when the store has failed: the node must stop then.
    #[must_use]
    pub fn failed(&self) -> Failure {
        self.0.core.failure.clone()
    }

    /// What the store has done so far.
    #[must_use]
    pub fn metrics(&self) -> StoreMetrics {
        StoreMetrics {
            log_syncs: self.0.written.batches.load(Ordering::Relaxed),
            log_entries: self.0.written.entries.load(Ordering::Relaxed),
            log_bytes: self.0.written.bytes.load(Ordering::Relaxed),
            tail_bytes: self.0.core.tail_bytes.load(Ordering::Relaxed) as u64,
        }
    }

    /// Waits until everything appended so far is on disk. Blocks.
    ///
    /// # Errors
    /// [`StoreError::Failed`] or [`StoreError::ShutDown`].
    pub fn sync(&self) -> Result<(), StoreError> {
        let (tell, told) = std::sync::mpsc::sync_channel(1);
        // Nobody is gone: `sync` waits below.
        self.when_written(Box::new(move |outcome| tell.send(outcome).unwrap_or_default()));
        told.recv().unwrap_or(Err(StoreError::ShutDown))
    }

    /// Calls `done` when everything appended so far is on disk, or will never be. Does not block.
    pub fn when_written(&self, done: Done) {
        let Some(log) = self.0.logs.lock().values().next().cloned() else {
            done(Ok(()));
            return;
        };
        if let Some((task, error)) = self.0.core.queue.push(Task { log, work: Work::Barrier, bytes: 0, done })
        {
            (task.done)(Err(error));
        }
    }

    /// Writes what waits, then refuses everything. The files are closed when the last clone, log and replica is gone.
    pub fn shutdown(self) {
        self.0.stop();
    }
}

/// The groups' logs that were asked for.
pub(crate) type Logs = Arc<Mutex<BTreeMap<GroupId, Arc<Log>>>>;

/// The pieces of a store that is being opened, before anything is written.
pub(crate) fn parts(
    rocks: Arc<Rocks>,
    wal: Wal,
    options: &StoreOptions,
) -> (Arc<LogCore>, Logs, Arc<Written>, Writer) {
    let core = Arc::new(LogCore {
        rocks,
        wal,
        queue: Queue::new(options.queue_bytes),
        failure: Failure::default(),
        tail_bytes: AtomicUsize::new(0),
    });
    let logs = Logs::default();
    let written = Arc::new(Written::default());
    let writer = Writer {
        core: Arc::clone(&core),
        logs: Arc::clone(&logs),
        written: Arc::clone(&written),
        tail_limit: options.tail_bytes,
    };
    (core, logs, written, writer)
}

/// The log beside the database. Each knows the other: a log that is gone is not taken for a new one.
pub(crate) fn open_wal(
    files: Box<dyn LogDir>,
    rocks: &Rocks,
    options: &StoreOptions,
) -> Result<Wal, StoreError> {
    let key = keys::blob("log");
    let known = match rocks.get_state(&key)? {
        Some(sealed) => Some(
            checksum::unseal(&key, &sealed)
                .and_then(|id| id.try_into().ok())
                .map(u64::from_le_bytes)
                .ok_or(StoreError::DamagedState { group: GroupId::METADATA, what: "which log is its" })?,
        ),
        None => None,
    };
    // Only to tell logs of different stores apart.
    let new = RandomState::new().hash_one(SystemTime::now());
    let wal = Wal::open(files, options.log_segment_bytes, new)?;
    match known {
        Some(id) if id == wal.id() => {}
        Some(_) => {
            let what = "it is missing, or belongs to another store";
            return Err(StoreError::DamagedLog { segment: 0, offset: 0, what });
        }
        None => {
            let mut batch = WriteBatch::default();
            batch.put_cf(rocks.state()?, &key, checksum::seal(&key, &wal.id().to_le_bytes()));
            rocks.write_state(batch).and_then(|()| rocks.flush_state())?;
        }
    }
    Ok(wal)
}

impl fmt::Debug for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Store").field("failure", &self.0.core.failure).finish_non_exhaustive()
    }
}

impl Inner {
    fn stop(&self) {
        self.core.queue.close();
        let Some(writer) = self.writer.lock().take() else {
            return;
        };
        self.reclaimer.stop();
        // The writer's own thread may drop the last clone, in a `done`; it cannot wait for itself.
        if writer.thread().id() != std::thread::current().id() && writer.join().is_err() {
            self.core.failure.fail("the log writer panicked");
        }
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.stop();
    }
}
