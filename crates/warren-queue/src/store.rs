//! The store of a node's transient queues: what a replica does with records, in memory and without a log.
//!
//! It gives positions by the same rules as the replicated store, so a [`HostLeader`](crate::HostLeader) cannot tell
//! which of the two is below it. Bounded only by what the leader admits.

use std::collections::BTreeMap;

use warren_proto::shard::{AppliedRecord, Enqueue, Op, OpeningState, QueueState, Record, StoredMessage};
use warren_types::{LogIndex, Message, Position, PositionRange, QueueId, SessionId, Term, UnixMillis};

#[derive(Clone, Debug, Default)]
struct MemoryQueue {
    last: Position,
    mark: Position,
    used: bool,
    messages: BTreeMap<Position, Stored>,
    bytes: u64,
}

#[derive(Clone, Debug)]
struct Stored {
    delivery_count: u32,
    time: UnixMillis,
    message: Message,
}

/// Messages in memory.
#[derive(Clone, Debug, Default)]
pub struct MemoryStore {
    applied: u64,
    queues: BTreeMap<QueueId, MemoryQueue>,
    sessions: BTreeMap<SessionId, u64>,
    refused: BTreeMap<SessionId, Vec<u64>>,
}

impl MemoryStore {
    /// An empty store.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Carries the record out and says which positions it gave.
    pub fn apply(&mut self, record: Record) -> AppliedRecord {
        self.applied += 1;
        let mut positions = Vec::new();
        for op in &record.ops {
            match op {
                Op::Enqueue(enqueue) => self.enqueue(enqueue, record.time, &mut positions),
                Op::Settle { queue, reason: _, ranges } => self.settle(*queue, ranges),
                Op::Return { queue, ranges } => self.give_back(*queue, ranges),
                Op::Reserve { queue, up_to } => {
                    let queue = self.queues.entry(*queue).or_default();
                    queue.mark = queue.mark.max(*up_to);
                }
                Op::Purge { queue, up_to, keep } => self.purge(*queue, *up_to, keep),
                Op::DropQueue { queue } => {
                    self.queues.remove(queue);
                }
                Op::CloseSession { session } => {
                    self.sessions.remove(session);
                    self.refused.remove(session);
                }
                Op::Refuse { session, learned, sequences } => {
                    let refused = self.refused.entry(*session).or_default();
                    refused.extend(sequences);
                    refused.retain(|sequence| sequence > learned);
                }
                Op::MarkUsed { queue } => self.queues.entry(*queue).or_default().used = true,
            }
        }
        AppliedRecord { index: LogIndex(self.applied), term: Term(1), record, positions }
    }

    /// The first live messages above `after`, as many as the limits allow but one at least, and whether nothing
    /// live comes after them.
    #[must_use]
    pub fn load(
        &self,
        queue: QueueId,
        after: Position,
        max_messages: u32,
        max_bytes: u64,
    ) -> (Vec<StoredMessage>, bool) {
        let mut loaded = Vec::new();
        let Some(queue) = self.queues.get(&queue) else { return (loaded, true) };
        let mut bytes = 0_u64;
        for (position, stored) in queue.messages.range(after.next()..) {
            bytes = bytes.saturating_add(stored.message.size() as u64);
            if !loaded.is_empty() && (loaded.len() >= max_messages as usize || bytes > max_bytes) {
                return (loaded, false);
            }
            loaded.push(StoredMessage {
                position: *position,
                delivery_count: stored.delivery_count,
                time: stored.time,
                message: stored.message.clone(),
            });
        }
        (loaded, true)
    }

    /// What a leader that begins now finds.
    #[must_use]
    pub fn opening_state(&self) -> OpeningState {
        let queues = self.queues.iter().map(|(id, queue)| QueueState {
            queue: *id,
            next_position: queue.last.next(),
            live: queue.messages.len() as u64,
            live_bytes: queue.bytes,
            mark: queue.mark,
            maybe_delivered: PositionRange::collect(
                queue.messages.range(..=queue.mark).map(|(position, _)| *position),
            ),
            used: queue.used,
        });
        OpeningState {
            applied: LogIndex(self.applied),
            queues: queues.collect(),
            sessions: self.sessions.iter().map(|(session, seq)| (*session, *seq)).collect(),
            refused: self.refused.iter().map(|(session, refused)| (*session, refused.clone())).collect(),
        }
    }

    /// Size of all messages in it.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.queues.values().map(|queue| queue.bytes).sum()
    }

    /// The live positions of a queue.
    #[must_use]
    pub fn live(&self, queue: QueueId) -> Vec<Position> {
        self.queues.get(&queue).map_or_else(Vec::new, |queue| queue.messages.keys().copied().collect())
    }

    fn enqueue(&mut self, enqueue: &Enqueue, time: UnixMillis, positions: &mut Vec<Position>) {
        let passed = self.sessions.entry(enqueue.session).or_default();
        for enqueued in &enqueue.messages {
            let skip = enqueued.seq <= *passed;
            for id in &enqueued.queues {
                if skip {
                    positions.push(Position(0));
                    continue;
                }
                let queue = self.queues.entry(*id).or_default();
                queue.last = queue.last.next();
                queue.bytes = queue.bytes.saturating_add(enqueued.message.size() as u64);
                let stored = Stored { delivery_count: 0, time, message: enqueued.message.clone() };
                queue.messages.insert(queue.last, stored);
                positions.push(queue.last);
            }
        }
        *passed = enqueue.last_seq.max(*passed);
    }

    fn settle(&mut self, queue: QueueId, ranges: &[PositionRange]) {
        let Some(queue) = self.queues.get_mut(&queue) else { return };
        for range in ranges {
            while let Some((position, _)) =
                queue.messages.range(range.first..=range.last.max(range.first)).next()
            {
                if *position > range.last {
                    break;
                }
                let position = *position;
                queue.remove(position);
            }
        }
    }

    fn give_back(&mut self, queue: QueueId, ranges: &[PositionRange]) {
        let Some(queue) = self.queues.get_mut(&queue) else { return };
        for range in ranges.iter().filter(|range| range.count() > 0) {
            for (_, stored) in queue.messages.range_mut(range.first..=range.last) {
                stored.delivery_count = stored.delivery_count.saturating_add(1);
            }
        }
    }

    fn purge(&mut self, queue: QueueId, up_to: Position, keep: &[PositionRange]) {
        let Some(queue) = self.queues.get_mut(&queue) else { return };
        let keep: crate::PositionSet = keep.iter().copied().collect();
        let gone: Vec<Position> = queue
            .messages
            .range(..=up_to)
            .map(|(position, _)| *position)
            .filter(|position| !keep.contains(*position))
            .collect();
        for position in gone {
            queue.remove(position);
        }
    }
}

impl MemoryQueue {
    fn remove(&mut self, position: Position) {
        if let Some(stored) = self.messages.remove(&position) {
            self.bytes = self.bytes.saturating_sub(stored.message.size() as u64);
        }
    }
}
