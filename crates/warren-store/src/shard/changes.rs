//! What a checkpoint must write: only what changed since the last one.

use warren_types::{LogIndex, QueueId, SessionId};

use super::apply::ShardState;
use super::journal::Unmoved;
use super::queue::{Changed, Queue, QueueMeta};
use super::runs::Run;

/// One thing to write or delete.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// Delete a queue with its runs and messages. Always before what is put.
    DropQueue {
        /// The queue.
        queue: QueueId,
    },
    /// Write a queue's numbers.
    PutQueue {
        /// The queue.
        queue: QueueId,
        /// Its numbers.
        meta: QueueMeta,
    },
    /// Write a run.
    PutRun {
        /// The queue.
        queue: QueueId,
        /// The run.
        run: Run,
        /// Its settled positions.
        settled: Vec<(u64, u64)>,
        /// Its delivery counts.
        counts: Vec<(u64, u32)>,
    },
    /// Delete the runs that began in `first..=last`.
    DeleteRuns {
        /// The queue.
        queue: QueueId,
        /// The first run's first position.
        first: u64,
        /// The last run's last position.
        last: u64,
        /// How many runs they were.
        runs: u32,
    },
    /// Delete the moved messages at `first..=last`.
    FreeMessages {
        /// The queue.
        queue: QueueId,
        /// The first position.
        first: u64,
        /// The last position.
        last: u64,
    },
    /// Delete the shared bodies of a log entry.
    FreeEntry {
        /// The entry.
        entry: u64,
    },
    /// Write how far a session has come.
    PutSession {
        /// The session.
        session: SessionId,
        /// Its last sequence.
        last_seq: u64,
        /// What was refused and its home may not know, ascending.
        refused: Vec<u64>,
    },
    /// Delete a session.
    DeleteSession {
        /// The session.
        session: SessionId,
    },
}

impl ShardState {
    /// Takes what changed since the last call. The caller must write all of it, or never call again.
    pub fn take_changes(&mut self) -> Vec<Change> {
        let mut changes = Vec::new();
        for queue in std::mem::take(&mut self.dropped_queues) {
            changes.push(Change::DropQueue { queue });
        }
        for entry in self.journal.take_freed() {
            changes.push(Change::FreeEntry { entry });
        }
        for id in std::mem::take(&mut self.changed_queues) {
            if let Some(queue) = self.queues.get_mut(&id) {
                queue.take_changes(id, &mut changes);
            }
        }
        for session in std::mem::take(&mut self.changed_sessions) {
            changes.push(match self.sessions.get(&session) {
                Some(last_seq) => {
                    let refused = self.refused_of(session);
                    Change::PutSession { session, last_seq: *last_seq, refused }
                }
                None => Change::DeleteSession { session },
            });
        }
        changes
    }

    /// Body bytes in the message store that were freed since the last call, about.
    pub(crate) fn take_freed_bytes(&mut self) -> u64 {
        self.journal.take_freed_bytes()
    }

    /// The whole state, as what an empty replica would have to write: one queue after the other, lazily.
    pub fn everything(&self) -> impl Iterator<Item = Change> {
        let queues = self.queues.iter().flat_map(|(id, queue)| {
            let meta = Change::PutQueue { queue: *id, meta: queue.meta };
            std::iter::once(meta).chain(queue.runs.iter().map(|run| queue.put_run(*id, run)))
        });
        let sessions = self.sessions.iter();
        queues.chain(sessions.map(|(id, seq)| {
            let refused = self.refused_of(*id);
            Change::PutSession { session: *id, last_seq: *seq, refused }
        }))
    }

    /// The log entries at or below `up_to` that hold bodies not moved yet.
    pub(crate) fn unmoved(&self, up_to: u64) -> Vec<Unmoved> {
        self.journal.unmoved(up_to)
    }

    /// Notes that bodies of entries at or below `up_to` are read from the message store from now on.
    pub(crate) fn set_moved(&mut self, up_to: u64) {
        self.journal.set_moved(up_to);
    }

    /// Bodies of entries at or below it are in the message store.
    /// No live message came with an entry at or below it, but for those in the message store.
    pub(crate) fn needless(&self) -> LogIndex {
        self.journal.first_unmoved().map_or(self.applied, |first| LogIndex(first.saturating_sub(1)))
    }

    pub(crate) fn moved(&self) -> u64 {
        self.journal.moved()
    }
}

impl Queue {
    fn take_changes(&mut self, id: QueueId, changes: &mut Vec<Change>) {
        let saved_next = self.meta.next;
        let changed = std::mem::replace(&mut self.changed, Changed { saved_next, ..Changed::default() });
        changes.push(Change::PutQueue { queue: id, meta: self.meta });
        for (first, last, runs) in changed.removed.iter() {
            changes.push(Change::DeleteRuns { queue: id, first, last, runs });
        }
        for (first, last) in changed.freed.iter() {
            changes.push(Change::FreeMessages { queue: id, first, last });
        }
        for first in &changed.dirty {
            if let Some(run) = self.runs.at(*first) {
                changes.push(self.put_run(id, run));
            }
        }
        for run in self.runs.iter_from(changed.saved_next) {
            if run.first >= changed.saved_next {
                changes.push(self.put_run(id, run));
            }
        }
    }

    fn put_run(&self, id: QueueId, run: &Run) -> Change {
        Change::PutRun {
            queue: id,
            run: *run,
            settled: self.settled.in_range(run.first, run.last()).collect(),
            counts: self
                .counts
                .range(run.first..=run.last())
                .map(|(position, count)| (*position, *count))
                .collect(),
        }
    }
}
