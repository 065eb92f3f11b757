//! `Enqueue`: messages get their positions; a session's repetitions are skipped.

use std::collections::BTreeMap;

use warren_proto::shard::{Enqueue, Op, Record};
use warren_types::{LogIndex, Position, QueueId, UnixMillis};

use super::apply::ShardState;
use super::runs::Run;

/// What one log entry has brought so far.
pub(super) struct Arrival {
    entry: u64,
    time: UnixMillis,
    /// Some message of the entry goes to several queues.
    shared: bool,
    /// The next message's number in the entry, skipped ones included.
    ordinal: u32,
    /// Runs that may still grow.
    open: BTreeMap<QueueId, Run>,
}

impl Arrival {
    pub(super) fn of(index: LogIndex, record: &Record) -> Self {
        let shared = record.ops.iter().any(|op| match op {
            Op::Enqueue(enqueue) => enqueue.messages.iter().any(|message| message.queues.len() > 1),
            Op::Settle { .. }
            | Op::Return { .. }
            | Op::Reserve { .. }
            | Op::Purge { .. }
            | Op::DropQueue { .. }
            | Op::CloseSession { .. }
            | Op::Refuse { .. }
            | Op::MarkUsed { .. } => false,
        });
        Self { entry: index.0, time: record.time, shared, ordinal: 0, open: BTreeMap::new() }
    }
}

impl ShardState {
    pub(super) fn enqueue(
        &mut self,
        enqueue: &Enqueue,
        arrival: &mut Arrival,
        positions: &mut Vec<Position>,
    ) {
        let passed = self.sessions.get(&enqueue.session).copied().unwrap_or_default();
        for message in &enqueue.messages {
            let ordinal = arrival.ordinal;
            arrival.ordinal = arrival.ordinal.saturating_add(1);
            for id in &message.queues {
                if message.seq <= passed {
                    // A run is messages without a gap: this one interrupts the queue's.
                    if let Some(run) = arrival.open.remove(id) {
                        self.add_run(*id, run);
                    }
                    positions.push(Position(0));
                    continue;
                }
                let queue = self.queue_mut(*id);
                let position = queue.meta.next;
                queue.meta.next = position.saturating_add(1);
                let run = arrival.open.entry(*id).or_insert_with(|| {
                    Run::new(position, arrival.entry, ordinal, arrival.shared, arrival.time)
                });
                run.grow(message.message.body.len());
                positions.push(Position(position));
            }
        }
        self.pass_session(enqueue.session, enqueue.last_seq);
    }

    /// Ends all open runs.
    pub(super) fn arrived(&mut self, arrival: &mut Arrival) {
        while let Some((id, run)) = arrival.open.pop_first() {
            self.add_run(id, run);
        }
    }

    fn add_run(&mut self, id: QueueId, run: Run) {
        self.journal.add(id, &run);
        self.queue_mut(id).push(run);
    }
}
