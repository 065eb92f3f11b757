//! What a new leader asks its replica: counts and marks of every queue, and where messages are.

use std::collections::BTreeMap;

use warren_proto::shard::{OpeningState, QueueState};
use warren_types::{Position, QueueId};

use super::apply::ShardState;
use super::journal::Unmoved;
use super::queue::Queue;
use super::runs::Run;

/// Live messages of one run that are to be loaded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Piece {
    pub(crate) run: Run,
    /// The bodies are in the message store.
    pub(crate) moved: bool,
    /// Position and delivery count.
    pub(crate) messages: Vec<(u64, u32)>,
}

impl ShardState {
    /// Everything a leader needs to begin: cost by the runs, not by the messages.
    #[must_use]
    pub fn opening(&self) -> OpeningState {
        OpeningState {
            applied: self.applied,
            queues: self.queues.iter().map(|(id, queue)| queue_state(*id, queue)).collect(),
            sessions: self.sessions.iter().map(|(session, seq)| (*session, *seq)).collect(),
            refused: self.refused.keys().map(|session| (*session, self.refused_of(*session))).collect(),
        }
    }

    /// The next `max` live messages after `after`, and whether nothing live follows them. Those of entries at or below
    /// `moved` are in the message store.
    pub(crate) fn plan(&self, id: QueueId, after: Position, max: usize, moved: u64) -> (Vec<Piece>, bool) {
        let Some(queue) = self.queues.get(&id) else {
            return (Vec::new(), true);
        };
        let mut pieces: Vec<Piece> = Vec::new();
        let mut left = max;
        for run in queue.runs.iter_from(after.0.saturating_add(1)) {
            let live = queue.live_in(run, after.0.saturating_add(1), u64::MAX);
            let mut positions = live.into_iter().flat_map(|(first, last)| first..=last).peekable();
            if positions.peek().is_some() && left == 0 {
                return (pieces, false);
            }
            let messages: Vec<(u64, u32)> = positions
                .by_ref()
                .take(left)
                .map(|position| (position, queue.counts.get(&position).copied().unwrap_or_default()))
                .collect();
            left -= messages.len();
            if !messages.is_empty() {
                pieces.push(Piece { run: *run, moved: run.entry <= moved, messages });
            }
            if positions.next().is_some() {
                return (pieces, false);
            }
        }
        (pieces, true)
    }

    /// The log entry that brought the message, if it is live.
    pub(crate) fn entry_of(&self, id: QueueId, position: u64) -> Option<u64> {
        self.queues.get(&id).and_then(|queue| queue.entry_of(position))
    }

    /// Whether some live message of the log entry may be shared between queues.
    pub(crate) fn shares(&self, entry: u64) -> bool {
        self.journal.shares(entry)
    }

    /// The log entries above `entry` that brought live messages, with their runs. Cost: all runs.
    pub(crate) fn entries_after(&self, entry: u64) -> Vec<Unmoved> {
        let mut entries: BTreeMap<u64, Vec<(QueueId, u64)>> = BTreeMap::new();
        for (id, queue) in &self.queues {
            for run in queue.runs.iter().filter(|run| run.entry > entry) {
                entries.entry(run.entry).or_default().push((*id, run.first));
            }
        }
        entries.into_iter().map(|(entry, runs)| Unmoved { entry, runs }).collect()
    }

    /// Live messages of a run, if the run is there.
    pub(crate) fn live_of(&self, id: QueueId, first: u64) -> Option<(Run, Vec<(u64, u64)>)> {
        let queue = self.queues.get(&id)?;
        let run = queue.runs.at(first)?;
        Some((*run, queue.live_in(run, run.first, run.last())))
    }

    /// How many runs all queues have together.
    #[must_use]
    pub fn runs(&self) -> usize {
        self.queues.values().map(|queue| queue.runs.len()).sum()
    }

    /// Bytes that the runs occupy, about.
    #[must_use]
    pub fn memory(&self) -> usize {
        self.queues.values().map(|queue| queue.runs.memory() + std::mem::size_of::<Queue>()).sum()
    }
}

fn queue_state(id: QueueId, queue: &Queue) -> QueueState {
    QueueState {
        queue: id,
        next_position: Position(queue.meta.next),
        live: queue.live,
        live_bytes: queue.live_bytes,
        mark: Position(queue.meta.mark),
        maybe_delivered: queue.live_up_to(queue.meta.mark),
        used: queue.meta.used,
    }
}
