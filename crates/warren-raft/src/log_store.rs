//! Spine 10: openraft's log over `warren-store`'s. Nothing here waits for the disk on Raft's task but `save_vote` and
//! `truncate_after`, which must; entries can be read the moment they are appended.

use std::fmt::Debug;
use std::io;
use std::ops::{Bound, RangeBounds};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use futures_util::{Stream, stream};
use openraft::storage::{IOFlushed, LogState, RaftLogStorage};
use openraft::{OptionalSend, RaftLogReader};
use parking_lot::Mutex;
use tokio::sync::oneshot;
use warren_store::{GroupLog, LogEntry, StoreError};
use warren_types::{LogIndex, NodeId, Term};

use crate::blocking;
use crate::types::{Entry, LogId, Payload, Types, Vote, log_id, raft_index, store_index};
use crate::wire;

/// Most payload in one append to a follower and in one step of applying.
const READ_BYTES: usize = 1 << 20;
/// Entries so near the end are in memory: reading them does not block.
const RECENT_ENTRIES: u64 = 256;

/// One group's log as openraft sees it. Cheap to clone.
#[derive(Clone)]
pub(crate) struct LogStore {
    log: GroupLog,
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    /// Payload bytes appended since the start, and where they were.
    appended: AtomicU64,
    marks: Mutex<Marks>,
    /// Something was not appended: the node is about to stop.
    broken: AtomicBool,
}

/// Every [`Marks::STEP`] bytes: the index reached, to turn "keep so many bytes" into an index.
#[derive(Default)]
struct Marks {
    list: std::collections::VecDeque<(u64, LogIndex)>,
}

impl Marks {
    const STEP: u64 = 256 << 10;
    /// More log than this is never kept for a follower.
    const MAX: usize = 4096;

    fn note(&mut self, total: u64, index: LogIndex) {
        if self.list.back().is_none_or(|(last, _)| total >= last + Self::STEP) {
            if self.list.len() == Self::MAX {
                self.list.pop_front();
            }
            self.list.push_back((total, index));
        }
    }
}

fn failed(error: StoreError) -> io::Error {
    io::Error::other(error)
}

fn malformed(error: wire::Malformed) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error)
}

fn to_entry(entry: LogEntry) -> io::Result<Entry> {
    let index = raft_index(entry.index).ok_or_else(|| malformed(wire::Malformed("log index")))?;
    let payload = Payload::from_parts(entry.kind, entry.payload).map_err(malformed)?;
    Ok(Entry { log_id: log_id(entry.term.0, index), payload })
}

impl LogStore {
    pub(crate) fn new(log: GroupLog) -> Self {
        Self { log, shared: Arc::default() }
    }

    /// Payload bytes appended since the start.
    pub(crate) fn appended_bytes(&self) -> u64 {
        self.shared.appended.load(Ordering::Relaxed)
    }

    /// The highest index that may be purged so that about `bytes` of log stay; `None` when all of it stays.
    pub(crate) fn index_before_last(&self, bytes: u64) -> Option<LogIndex> {
        let total = self.appended_bytes();
        let marks = self.shared.marks.lock();
        marks.list.iter().rev().find(|(at, _)| at + bytes <= total).map(|(_, index)| *index)
    }

    /// The last entry, counted as Warren does; 0 for none.
    pub(crate) fn last_index(&self) -> LogIndex {
        self.log.first_last().map_or_else(|| self.purged_index(), |(_, last)| last)
    }

    /// The last entry that was purged; 0 for none.
    pub(crate) fn purged_index(&self) -> LogIndex {
        let purged = self.log.purged().and_then(|marker| wire::decode_log_id(marker).ok()).flatten();
        purged.map_or(LogIndex(0), |log_id| store_index(log_id.index))
    }

    async fn read(&self, from: u64, to: u64, max_bytes: usize) -> Result<Vec<LogEntry>, StoreError> {
        let (from, to) = (store_index(from), store_index(to));
        if from.0 + RECENT_ENTRIES > self.last_index().0 {
            return self.log.read(from, to, max_bytes);
        }
        let log = self.log.clone();
        let read = blocking(move || log.read(from, to, max_bytes)).await;
        // A cancelled task: the runtime is going down.
        read.unwrap_or(Err(StoreError::ShutDown))
    }

    /// The part of `from..to` that the log has now.
    fn clamp(&self, range: &impl RangeBounds<u64>) -> (u64, u64) {
        let from = match range.start_bound() {
            Bound::Included(from) => *from,
            Bound::Excluded(before) => before.saturating_add(1),
            Bound::Unbounded => 0,
        };
        let to = match range.end_bound() {
            Bound::Included(last) => last.saturating_add(1),
            Bound::Excluded(to) => *to,
            Bound::Unbounded => u64::MAX,
        };
        match self.log.first_last() {
            Some((first, last)) => (from.max(first.0.saturating_sub(1)), to.min(last.0)),
            None => (from, from),
        }
    }
}

impl RaftLogReader<Types> for LogStore {
    async fn try_get_log_entries<RB>(&mut self, range: RB) -> Result<Vec<Entry>, io::Error>
    where
        RB: RangeBounds<u64> + Clone + Debug + OptionalSend,
    {
        let (mut from, to) = self.clamp(&range);
        let mut entries = Vec::new();
        while from < to {
            let read = self.read(from, to, READ_BYTES).await.map_err(failed)?;
            from += read.len() as u64;
            for entry in read {
                entries.push(to_entry(entry)?);
            }
        }
        Ok(entries)
    }

    /// In steps, so that a long way to catch up is not held in memory at once.
    async fn entries_stream<RB>(
        &mut self,
        range: RB,
    ) -> impl Stream<Item = Result<Entry, io::Error>> + OptionalSend
    where
        RB: RangeBounds<u64> + Clone + Debug + OptionalSend,
    {
        let (from, to) = self.clamp(&range);
        let store = self.clone();
        let steps = stream::unfold(Some((store, from)), move |state| async move {
            let (store, from) = state?;
            if from >= to {
                return None;
            }
            match store.read(from, to, READ_BYTES).await {
                Ok(read) => {
                    let next = from + read.len() as u64;
                    let entries: Vec<io::Result<Entry>> = read.into_iter().map(to_entry).collect();
                    Some((stream::iter(entries), Some((store, next))))
                }
                Err(error) => Some((stream::iter(vec![Err(failed(error))]), None)),
            }
        });
        // What is committed may be among what was not appended: the state must not go on without it.
        let broken = self.shared.broken.load(Ordering::Acquire).then_some(StoreError::ShutDown);
        let first = stream::iter(broken.map(|error| Err(failed(error))));
        Box::pin(futures_util::StreamExt::chain(first, futures_util::StreamExt::flatten(steps)))
    }

    async fn read_vote(&mut self) -> Result<Option<Vote>, io::Error> {
        self.log.vote().map(|vote| wire::decode_vote(vote).map_err(malformed)).transpose()
    }

    async fn limited_get_log_entries(&mut self, start: u64, end: u64) -> Result<Vec<Entry>, io::Error> {
        match self.read(start, end, READ_BYTES).await {
            Ok(read) => read.into_iter().map(to_entry).collect(),
            // Truncated or purged while a replication task that is about to end still reads: not a storage error.
            Err(StoreError::NoEntry { .. }) => Ok(Vec::new()),
            Err(error) => Err(failed(error)),
        }
    }
}

impl RaftLogStorage<Types> for LogStore {
    type LogReader = Self;

    async fn get_log_state(&mut self) -> Result<LogState<Types>, io::Error> {
        let purged =
            self.log.purged().map(|marker| wire::decode_log_id(marker).map_err(malformed)).transpose()?;
        let last_purged_log_id = purged.flatten();
        let last_log_id = match self.log.first_last() {
            Some((_, last)) => {
                let log = self.log.clone();
                let entry = blocking(move || log.get(last)).await;
                let entry = entry.map_err(io::Error::other)?.map_err(failed)?;
                entry.map(|entry| log_id(entry.term.0, entry.index.0.saturating_sub(1)))
            }
            None => last_purged_log_id,
        };
        Ok(LogState { last_purged_log_id, last_log_id })
    }

    async fn get_log_reader(&mut self) -> Self {
        self.clone()
    }

    async fn save_vote(&mut self, vote: &Vote) -> Result<(), io::Error> {
        let (saved, wait) = oneshot::channel();
        self.log.save_vote(wire::encode_vote(vote), Box::new(move |result| drop(saved.send(result))));
        flushed(wait).await
    }

    async fn save_committed(&mut self, committed: Option<LogId>) -> Result<(), io::Error> {
        self.log.save_committed(wire::encode_log_id(committed.as_ref()));
        Ok(())
    }

    async fn read_committed(&mut self) -> Result<Option<LogId>, io::Error> {
        let committed =
            self.log.committed().map(|bytes| wire::decode_log_id(bytes).map_err(malformed)).transpose()?;
        // Saved lazily and after the entries it covers; never trusted beyond what is there.
        let last = self.last_index();
        Ok(committed.flatten().filter(|log_id| store_index(log_id.index) <= last))
    }

    async fn append<I>(&mut self, entries: I, callback: IOFlushed<Types>) -> Result<(), io::Error>
    where
        I: IntoIterator<Item = Entry> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        let mut bytes = 0;
        let entries: Vec<LogEntry> = entries
            .into_iter()
            .map(|entry| {
                bytes += entry.payload.data().len() as u64;
                LogEntry {
                    index: store_index(entry.log_id.index),
                    term: Term(*entry.log_id.leader_id),
                    // The standard leader id has no node in it.
                    node: NodeId(0),
                    kind: entry.payload.kind().number(),
                    payload: entry.payload.data().clone(),
                }
            })
            .collect();
        let total = self.shared.appended.fetch_add(bytes, Ordering::Relaxed) + bytes;
        if let Some(last) = entries.last() {
            self.shared.marks.lock().note(total, last.index);
        }
        let shared = Arc::clone(&self.shared);
        let done = Box::new(move |result: Result<(), StoreError>| {
            if result.is_err() {
                shared.broken.store(true, Ordering::Release);
            }
            callback.io_completed(result.map_err(failed));
        });
        self.log.append(entries, done);
        Ok(())
    }

    async fn truncate_after(&mut self, last_log_id: Option<LogId>) -> Result<(), io::Error> {
        let (saved, wait) = oneshot::channel();
        let last_kept = last_log_id.map_or(LogIndex(0), |log_id| store_index(log_id.index));
        self.log.truncate_after(last_kept, Box::new(move |result| drop(saved.send(result))));
        flushed(wait).await
    }

    async fn purge(&mut self, up_to: LogId) -> Result<(), io::Error> {
        let marker = wire::encode_log_id(Some(&up_to));
        let done = Box::new(move |result: Result<(), StoreError>| {
            if let Err(error) = result {
                tracing::error!(%error, "log not purged");
            }
        });
        // Nobody waits: what is purged is durable elsewhere, and purging again is harmless.
        self.log.purge(store_index(up_to.index), marker, done);
        Ok(())
    }
}

async fn flushed(wait: oneshot::Receiver<Result<(), StoreError>>) -> Result<(), io::Error> {
    wait.await.unwrap_or(Err(StoreError::ShutDown)).map_err(failed)
}
