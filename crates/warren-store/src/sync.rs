//! The log writer: one thread that takes what all groups want to write, makes one batch of it, and waits for one
//! fsync. What arrives meanwhile is the next batch, so that a slow disk makes batches larger, not queues longer.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use parking_lot::{Condvar, Mutex};
use warren_types::GroupId;

use crate::log::{Done, Log, LogCore};
use crate::wal::Record;
use crate::{LogEntry, StoreError};

/// Most bytes in one batch: a vote waits at most for a write of this size.
const BATCH_BYTES: usize = 4 << 20;

/// So many changes that do not ask for an fsync wake the writer all the same.
const LAZY_TASKS: usize = 256;

/// After so long without a write the last one is sealed.
const IDLE: Duration = Duration::from_millis(100);

/// One change of one group's log.
#[derive(Debug)]
pub(crate) enum Work {
    Append {
        entries: Vec<LogEntry>,
        lineage: u64,
    },
    Vote(Bytes),
    Committed(Bytes),
    Truncate {
        from: u64,
    },
    Purge {
        first: u64,
        marker: Bytes,
    },
    /// Everything but the vote goes.
    Forget,
    /// Nothing: its `done` tells that everything before it is written.
    Barrier,
}

impl Work {
    /// Whether it can wait for the next change that cannot.
    fn is_lazy(&self) -> bool {
        match self {
            Self::Committed(_) => true,
            Self::Vote(_)
            | Self::Append { .. }
            | Self::Truncate { .. }
            | Self::Purge { .. }
            | Self::Forget
            | Self::Barrier => false,
        }
    }
}

/// A change on its way to the disk.
pub(crate) struct Task {
    pub(crate) log: Arc<Log>,
    pub(crate) work: Work,
    pub(crate) bytes: usize,
    pub(crate) done: Done,
}

#[derive(Default)]
struct Waiting {
    tasks: VecDeque<Task>,
    /// Reserved and not yet taken by the writer.
    bytes: usize,
    urgent: bool,
    closed: bool,
}

/// What waits for the writer, bounded in bytes.
pub(crate) struct Queue {
    waiting: Mutex<Waiting>,
    work: Condvar,
    room: Condvar,
    limit: usize,
}

impl Queue {
    pub(crate) fn new(limit: usize) -> Self {
        Self { waiting: Mutex::default(), work: Condvar::new(), room: Condvar::new(), limit }
    }

    /// Waits for room for `bytes`; something larger than the limit waits until nothing else waits.
    pub(crate) fn reserve(&self, bytes: usize) -> Result<(), StoreError> {
        let mut waiting = self.waiting.lock();
        while !waiting.closed && waiting.bytes != 0 && waiting.bytes.saturating_add(bytes) > self.limit {
            self.room.wait(&mut waiting);
        }
        if waiting.closed {
            return Err(StoreError::ShutDown);
        }
        waiting.bytes = waiting.bytes.saturating_add(bytes);
        Ok(())
    }

    /// Gives back what was reserved and will not be pushed.
    pub(crate) fn release(&self, bytes: usize) {
        let mut waiting = self.waiting.lock();
        waiting.bytes = waiting.bytes.saturating_sub(bytes);
        self.room.notify_all();
    }

    /// Queues a task whose bytes are reserved; gives it back if the store is shut down. Never waits.
    pub(crate) fn push(&self, task: Task) -> Option<(Task, StoreError)> {
        let mut waiting = self.waiting.lock();
        if waiting.closed {
            return Some((task, StoreError::ShutDown));
        }
        waiting.urgent |= !task.work.is_lazy() || waiting.tasks.len() >= LAZY_TASKS;
        waiting.tasks.push_back(task);
        if waiting.urgent {
            self.work.notify_one();
        }
        None
    }

    /// Takes no more; the writer ends when it has written what waits.
    pub(crate) fn close(&self) {
        let mut waiting = self.waiting.lock();
        waiting.closed = true;
        self.work.notify_all();
        self.room.notify_all();
    }

    /// Takes no more, and forgets what waits: each task holds the log that holds this queue.
    pub(crate) fn abandon(&self) {
        self.close();
        let tasks = std::mem::take(&mut self.waiting.lock().tasks);
        drop(tasks);
    }

    /// Waits for work and moves up to `max_bytes` of it into `batch`. False when the queue is closed and empty. `idle` is
    /// called once if nothing comes for a while.
    fn take(&self, max_bytes: usize, batch: &mut Vec<Task>, idle: impl FnOnce()) -> bool {
        let mut waiting = self.waiting.lock();
        if !waiting.urgent && !waiting.closed {
            self.work.wait_for(&mut waiting, IDLE);
            if !waiting.urgent && !waiting.closed {
                drop(waiting);
                idle();
                waiting = self.waiting.lock();
            }
        }
        while !waiting.urgent && !waiting.closed {
            self.work.wait(&mut waiting);
        }
        self.move_to(&mut waiting, max_bytes, batch)
    }

    /// The same without waiting.
    pub(crate) fn try_take(&self, batch: &mut Vec<Task>) -> bool {
        let mut waiting = self.waiting.lock();
        (waiting.urgent || waiting.closed) && self.move_to(&mut waiting, BATCH_BYTES, batch)
    }

    fn move_to(&self, waiting: &mut Waiting, max_bytes: usize, batch: &mut Vec<Task>) -> bool {
        let mut bytes = 0_usize;
        while let Some(task) = waiting.tasks.front() {
            bytes = bytes.saturating_add(task.bytes);
            if bytes > max_bytes && !batch.is_empty() {
                break;
            }
            waiting.bytes = waiting.bytes.saturating_sub(task.bytes);
            batch.extend(waiting.tasks.pop_front());
        }
        waiting.urgent = !waiting.tasks.is_empty();
        self.room.notify_all();
        !batch.is_empty()
    }
}

/// Counts what the writer does.
#[derive(Debug, Default)]
pub(crate) struct Written {
    pub(crate) batches: AtomicU64,
    pub(crate) entries: AtomicU64,
    pub(crate) bytes: AtomicU64,
}

/// The thread's state.
pub(crate) struct Writer {
    pub(crate) core: Arc<LogCore>,
    pub(crate) logs: Arc<Mutex<BTreeMap<GroupId, Arc<Log>>>>,
    pub(crate) written: Arc<Written>,
    pub(crate) tail_limit: usize,
}

impl Writer {
    /// Runs until the queue is closed.
    pub(crate) fn run(self) {
        let mut tasks = Vec::new();
        while self.core.queue.take(BATCH_BYTES, &mut tasks, || self.seal()) {
            self.finish(&mut tasks);
        }
        self.seal();
    }

    /// Writes a batch and tells who waits for it.
    pub(crate) fn finish(&self, tasks: &mut Vec<Task>) {
        let outcome = self.write(tasks);
        if outcome.is_ok() {
            for task in &*tasks {
                task.log.written(&task.work);
            }
        }
        for task in tasks.drain(..) {
            (task.done)(outcome.clone());
        }
        self.shrink_tails();
    }

    /// See [`crate::wal::Wal::seal`]. Where it fails, the next write will, too.
    pub(crate) fn seal(&self) {
        if self.core.failure.check().is_ok()
            && self.core.wal.is_unsealed()
            && let Err(error) = self.core.failure.note(self.core.wal.seal())
        {
            tracing::error!(%error, "the log could not be sealed");
        }
    }

    /// One batch, one fsync. After a failure nothing is written any more.
    fn write(&self, tasks: &[Task]) -> Result<(), StoreError> {
        self.core.failure.check()?;
        let mut records: Vec<Record> = Vec::new();
        let mut entries = 0;
        for task in tasks {
            task.log.records(&task.work, &mut records);
            if let Work::Append { entries: appended, .. } = &task.work {
                entries += appended.len() as u64;
            }
        }
        if records.is_empty() {
            return Ok(());
        }
        let bytes = self.core.failure.note(self.core.wal.write(&records))?;
        self.written.batches.fetch_add(1, Ordering::Relaxed);
        self.written.entries.fetch_add(entries, Ordering::Relaxed);
        self.written.bytes.fetch_add(bytes, Ordering::Relaxed);
        Ok(())
    }

    /// Keeps all tails together below their limit, taking from the largest first.
    fn shrink_tails(&self) {
        let mut over = self.core.tail_bytes.load(Ordering::Relaxed).saturating_sub(self.tail_limit);
        if over == 0 {
            return;
        }
        // Some room at once, so that this does not run after every batch.
        over += self.tail_limit / 8;
        let logs: Vec<Arc<Log>> = self.logs.lock().values().cloned().collect();
        let mut sizes = Vec::with_capacity(logs.len());
        for log in &logs {
            sizes.push((log.state.lock().evictable_bytes(), log));
        }
        sizes.sort_unstable_by_key(|(bytes, _)| std::cmp::Reverse(*bytes));
        for (_, log) in sizes {
            if over == 0 {
                break;
            }
            let freed = log.state.lock().evict(over);
            self.core.tail_bytes.fetch_sub(freed, Ordering::Relaxed);
            over = over.saturating_sub(freed);
        }
    }
}
