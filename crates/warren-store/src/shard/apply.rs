//! One log entry's effects, in order. Deterministic: same records, same state, on every replica.

use std::collections::{BTreeMap, BTreeSet};

use warren_proto::shard::{Op, Record};
use warren_types::{LogIndex, Position, QueueId, SessionId, Term};

use super::enqueue::Arrival;
use super::journal::Journal;
use super::queue::Queue;

/// Why a record was not applied. Nothing has changed then.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ApplyError {
    /// It was applied before.
    #[error("log entry {found} comes after {applied}, which is applied")]
    OutOfTurn {
        /// The entry offered.
        found: LogIndex,
        /// The last applied entry.
        applied: LogIndex,
    },
}

/// Everything that a shard's replica remembers beside bodies.
#[derive(Clone, Debug, Default)]
pub struct ShardState {
    pub(super) applied: LogIndex,
    pub(super) term: Term,
    pub(super) queues: BTreeMap<QueueId, Queue>,
    pub(super) sessions: BTreeMap<SessionId, u64>,
    /// Of the sessions that have some: ascending.
    pub(super) refused: BTreeMap<SessionId, BTreeSet<u64>>,
    pub(super) journal: Journal,
    pub(super) changed_queues: BTreeSet<QueueId>,
    pub(super) dropped_queues: BTreeSet<QueueId>,
    pub(super) changed_sessions: BTreeSet<SessionId>,
}

impl ShardState {
    /// An empty shard.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Applies one record. Returns the positions it gave: for each enqueue, for each message, for each of its
    /// queues, in order; `Position(0)` for messages that the session had already passed.
    ///
    /// # Errors
    /// [`ApplyError::OutOfTurn`] if `index` is not above everything applied.
    pub fn apply(
        &mut self,
        index: LogIndex,
        term: Term,
        record: &Record,
    ) -> Result<Vec<Position>, ApplyError> {
        self.set_applied(index, term)?;
        let mut positions = Vec::new();
        let mut arrival = Arrival::of(index, record);
        for op in &record.ops {
            if let Op::Enqueue(enqueue) = op {
                self.enqueue(enqueue, &mut arrival, &mut positions);
                continue;
            }
            // Later operations see what this entry brought before them.
            self.arrived(&mut arrival);
            match op {
                Op::Enqueue(_) => {}
                Op::Settle { queue, reason: _, ranges } => self.settle(*queue, ranges),
                Op::Return { queue, ranges } => self.give_back(*queue, ranges),
                Op::Reserve { queue, up_to } => self.reserve(*queue, *up_to),
                Op::Purge { queue, up_to, keep } => self.purge(*queue, *up_to, keep),
                Op::DropQueue { queue } => self.drop_queue(*queue),
                Op::CloseSession { session } => self.close_session(*session),
                Op::Refuse { session, learned, sequences } => {
                    self.refuse(*session, *learned, sequences);
                }
                Op::MarkUsed { queue } => self.mark_used(*queue),
            }
        }
        self.arrived(&mut arrival);
        Ok(positions)
    }

    /// Notes that an entry without a record (blank, membership) is applied.
    ///
    /// # Errors
    /// [`ApplyError::OutOfTurn`] if `index` is not above everything applied. Index 0 may come first.
    pub fn set_applied(&mut self, index: LogIndex, term: Term) -> Result<(), ApplyError> {
        if index <= self.applied && (index, self.applied) != (LogIndex(0), LogIndex(0)) {
            return Err(ApplyError::OutOfTurn { found: index, applied: self.applied });
        }
        self.applied = index;
        self.term = term;
        Ok(())
    }

    /// The last applied entry.
    #[must_use]
    pub fn applied(&self) -> LogIndex {
        self.applied
    }

    /// The term of the last applied entry.
    #[must_use]
    pub fn applied_term(&self) -> Term {
        self.term
    }

    /// The queue, made if it is new, and noted as changed.
    pub(super) fn queue_mut(&mut self, id: QueueId) -> &mut Queue {
        let queue = self.queues.entry(id).or_insert_with(Queue::new);
        if !queue.changed.listed {
            queue.changed.listed = true;
            self.changed_queues.insert(id);
        }
        queue
    }
}
