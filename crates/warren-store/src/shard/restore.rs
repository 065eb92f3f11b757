//! A state read back from a checkpoint or a snapshot, checked as it is put together.

use warren_types::{LogIndex, QueueId, SessionId, Term};

use super::apply::ShardState;
use super::journal::Journal;
use super::queue::{Queue, QueueMeta};
use super::runs::Run;

/// Builds a [`ShardState`]. Each step returns false for what no replica wrote.
pub(crate) struct Restore {
    state: ShardState,
}

impl Restore {
    pub(crate) fn new(applied: LogIndex, term: Term, moved: u64) -> Self {
        let journal = Journal::new(moved);
        Self { state: ShardState { applied, term, journal, ..ShardState::default() } }
    }

    /// Queues come before their runs.
    #[must_use]
    pub(crate) fn queue(&mut self, id: QueueId, meta: QueueMeta) -> bool {
        self.state.queues.insert(id, Queue::with(meta, meta.next)).is_none()
    }

    /// Runs come in order.
    #[must_use]
    pub(crate) fn run(
        &mut self,
        id: QueueId,
        mut run: Run,
        settled: &[(u64, u64)],
        counts: &[(u64, u32)],
    ) -> bool {
        let Some(queue) = self.state.queues.get_mut(&id) else {
            return false;
        };
        let inside = |position: u64| (run.first..=run.last()).contains(&position);
        let in_order =
            queue.runs.last().is_none_or(|last| last.last() < run.first && last.entry <= run.entry);
        let sound = run.count != 0
            && run.first != 0
            && run.last() < queue.meta.next
            && run.entry <= self.state.applied.0
            && settled.iter().all(|(first, last)| first <= last && inside(*first) && inside(*last))
            && counts.iter().all(|(position, _)| inside(*position));
        if !in_order || !sound {
            return false;
        }
        for (first, last) in settled {
            queue.settled.insert(*first, *last);
        }
        queue.counts.extend(counts.iter().copied());
        let gone = queue.settled.count_in(run.first, run.last());
        run.live = run.count.saturating_sub(u32::try_from(gone).unwrap_or(u32::MAX));
        if run.live == 0 {
            return false;
        }
        self.state.journal.add(id, &run);
        queue.push(run);
        true
    }

    pub(crate) fn session(&mut self, session: SessionId, last_seq: u64, refused: Vec<u64>) {
        self.state.sessions.insert(session, last_seq);
        if !refused.is_empty() {
            self.state.refused.insert(session, refused.into_iter().collect());
        }
    }

    pub(crate) fn finish(mut self) -> ShardState {
        self.state.journal.settle_in();
        self.state
    }
}
