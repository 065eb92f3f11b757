//! Spine 8, the gathering: everything that waits for the log becomes as few records as possible.
//!
//! Within a record the kinds of effects have a fixed order. That is safe because nothing here depends on another
//! thing of the same record: settles, returns and purges name positions that are applied already, and what is
//! dropped or closed is taken out of the rest first.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use bytes::Bytes;
use warren_proto::session::Answer;
use warren_proto::shard::{Enqueue, EnqueuedMessage, Op, Record, SettleReason};
use warren_types::{Message, Position, PositionRange, QueueId, RequestId, SessionId};

use crate::lane::{LaneId, stored_range};
use crate::positions::PositionSet;

/// What is to be told once a record is applied.
#[derive(Debug, Default)]
pub(crate) struct Promises {
    /// Settles and returns up to this sequence are recorded.
    pub(crate) settled: BTreeMap<SessionId, u64>,
    /// Answers that hold once it is recorded.
    pub(crate) answers: Vec<(SessionId, RequestId, Answer)>,
    /// Bytes of the messages in it.
    pub(crate) bytes: usize,
}

impl Promises {
    fn is_empty(&self) -> bool {
        self.settled.is_empty() && self.answers.is_empty()
    }

    /// Keeps these as well.
    pub(crate) fn add(&mut self, more: Self) {
        for (session, seq) in more.settled {
            let mark = self.settled.entry(session).or_default();
            *mark = seq.max(*mark);
        }
        self.answers.extend(more.answers);
        self.bytes += more.bytes;
    }
}

/// What is to be recorded with a publish, beside it.
#[derive(Debug, Default)]
pub(crate) struct Beside {
    /// One of its queues refused it.
    pub(crate) refused: bool,
    /// Keys by which its queues will know it again, with the lanes that they go to.
    pub(crate) keys: Vec<(QueueId, Bytes)>,
}

#[derive(Debug)]
struct Pending {
    session: SessionId,
    /// Without queues where all of them are gone: then only its sequence is recorded.
    message: EnqueuedMessage,
    /// What else is to be recorded with it.
    with: Beside,
}

/// A message on its way from one lane of a queue to another.
#[derive(Debug)]
struct Move {
    from: QueueId,
    position: Position,
    to: QueueId,
    message: Message,
}

/// The session of what a leader itself publishes. Its sequences go on from leader to leader.
pub(crate) const INTERNAL: SessionId = SessionId(0);

/// So many ranges of acknowledged positions wait no longer.
const LAZY_RANGES: usize = 256;

/// What waits for a record.
#[derive(Debug, Default)]
pub(crate) struct Gather {
    /// The last sequence of [`INTERNAL`] that was used.
    pub(crate) internal_seq: u64,
    moves: VecDeque<Move>,
    publishes: VecDeque<Pending>,
    publish_bytes: usize,
    settles: BTreeMap<(QueueId, u8), (SettleReason, Vec<PositionRange>)>,
    returns: BTreeMap<QueueId, Vec<PositionRange>>,
    ranges: usize,
    /// Among the settles is more than consumers' acknowledgements.
    settles_urgently: bool,
    purges: Vec<Op>,
    used: BTreeSet<QueueId>,
    drops: BTreeSet<QueueId>,
    closes: BTreeSet<SessionId>,
    promises: Promises,
}

/// Where a record is cut.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Cut {
    pub(crate) bytes: usize,
    pub(crate) messages: usize,
}

impl Gather {
    pub(crate) fn bytes(&self) -> usize {
        self.publish_bytes
    }

    /// What waits, counted for the bound.
    pub(crate) fn items(&self) -> usize {
        self.publishes.len() + self.ranges + self.purges.len() + self.promises.answers.len()
    }

    /// Something is to be recorded.
    pub(crate) fn has_ops(&self) -> bool {
        !(self.publishes.is_empty()
            && self.moves.is_empty()
            && self.settles.is_empty()
            && self.returns.is_empty()
            && self.purges.is_empty()
            && self.used.is_empty()
            && self.drops.is_empty()
            && self.closes.is_empty())
    }

    /// Somebody may wait for what is to be recorded, or there is much of it. Else it is a few acknowledgements.
    pub(crate) fn is_urgent(&self) -> bool {
        self.settles_urgently
            || self.ranges >= LAZY_RANGES
            || !(self.publishes.is_empty()
                && self.moves.is_empty()
                && self.returns.is_empty()
                && self.purges.is_empty()
                && self.used.is_empty()
                && self.drops.is_empty()
                && self.closes.is_empty()
                && self.promises.answers.is_empty())
    }

    pub(crate) fn publish(&mut self, session: SessionId, message: EnqueuedMessage, with: Beside) {
        self.publish_bytes += message.message.size();
        self.publishes.push_back(Pending { session, message, with });
    }

    pub(crate) fn settle(&mut self, queue: QueueId, reason: SettleReason, ranges: Vec<PositionRange>) {
        if ranges.is_empty() {
            return;
        }
        self.ranges += ranges.len();
        self.settles_urgently |= !matches!(reason, SettleReason::Acked | SettleReason::Rejected);
        for (queue, ranges) in by_lane(queue, ranges) {
            let key = (queue, rank(reason));
            self.settles.entry(key).or_insert_with(|| (reason, Vec::new())).1.extend(ranges);
        }
    }

    /// Notes failed deliveries.
    pub(crate) fn give_back(&mut self, queue: QueueId, ranges: Vec<PositionRange>) {
        if ranges.is_empty() {
            return;
        }
        self.ranges += ranges.len();
        for (queue, ranges) in by_lane(queue, ranges) {
            self.returns.entry(queue).or_default().extend(ranges);
        }
    }

    pub(crate) fn purge(&mut self, purge: Op) {
        self.purges.push(purge);
    }

    pub(crate) fn mark_used(&mut self, queue: QueueId) {
        self.used.insert(queue);
    }

    /// The queue is gone: nothing else about it is recorded any more.
    pub(crate) fn drop_queue(&mut self, queue: QueueId) {
        let is_it = |other: QueueId| LaneId::split(other).0 == queue;
        self.settles.retain(|(other, _), _| !is_it(*other));
        self.returns.retain(|other, _| !is_it(*other));
        self.purges.retain(|op| !matches!(op, Op::Purge { queue: other, .. } if is_it(*other)));
        self.used.remove(&queue);
        self.recount();
        self.moves.retain(|moved| !is_it(moved.to));
        self.drops.insert(queue);
    }

    /// A lane is gone, or its queue.
    pub(crate) fn drop_lane(&mut self, lane: QueueId) {
        self.drops.insert(lane);
    }

    /// A message leaves one lane for another: both in the same record.
    pub(crate) fn move_in(&mut self, from: QueueId, position: Position, to: QueueId, message: Message) {
        self.moves.push_back(Move { from, position, to, message });
    }

    /// The session is gone, and with it what it published and nobody can be told about: returned.
    pub(crate) fn close(&mut self, session: SessionId) -> Vec<(EnqueuedMessage, Vec<(QueueId, Bytes)>)> {
        let mut dropped = Vec::new();
        if self.publishes.iter().any(|pending| pending.session == session) {
            let (gone, kept): (VecDeque<_>, VecDeque<_>) = std::mem::take(&mut self.publishes)
                .into_iter()
                .partition(|pending| pending.session == session);
            self.publishes = kept;
            self.publish_bytes -= gone.iter().map(|pending| pending.message.message.size()).sum::<usize>();
            dropped.extend(gone.into_iter().map(|pending| (pending.message, pending.with.keys)));
        }
        self.promises.settled.remove(&session);
        self.promises.answers.retain(|(of, _, _)| *of != session);
        self.closes.insert(session);
        dropped
    }

    pub(crate) fn promise_settled(&mut self, session: SessionId, seq: u64) {
        let mark = self.promises.settled.entry(session).or_default();
        *mark = seq.max(*mark);
    }

    pub(crate) fn promise_answer(&mut self, session: SessionId, request: RequestId, answer: Answer) {
        self.promises.answers.push((session, request, answer));
    }

    /// Promises that depend on nothing that still waits here. Only when there are no ops.
    pub(crate) fn take_promises(&mut self) -> Option<Promises> {
        debug_assert!(!self.has_ops());
        (!self.promises.is_empty()).then(|| std::mem::take(&mut self.promises))
    }

    /// The next record's ops, and what to tell once they are applied. `lives` says which queues are still there.
    pub(crate) fn take(&mut self, cut: Cut, lives: impl Fn(QueueId) -> bool) -> (Vec<Op>, Promises) {
        let before = self.publish_bytes;
        let mut ops = self.take_publishes(cut, lives);
        self.promises.bytes = before - self.publish_bytes + self.take_moves(cut, &mut ops);
        for ((queue, _), (reason, ranges)) in std::mem::take(&mut self.settles) {
            ops.push(Op::Settle { queue, reason, ranges: merged(ranges) });
        }
        for (queue, ranges) in std::mem::take(&mut self.returns) {
            ops.push(Op::Return { queue, ranges: merged(ranges) });
        }
        self.ranges = 0;
        self.settles_urgently = false;
        ops.append(&mut self.purges);
        ops.extend(std::mem::take(&mut self.used).into_iter().map(|queue| Op::MarkUsed { queue }));
        ops.extend(std::mem::take(&mut self.drops).into_iter().map(|queue| Op::DropQueue { queue }));
        ops.extend(std::mem::take(&mut self.closes).into_iter().map(|session| Op::CloseSession { session }));
        (ops, std::mem::take(&mut self.promises))
    }

    /// One `Enqueue` a session, and a `Refuse` where it passes something refused; within a session the order is kept, and
    /// no client can see another order.
    fn take_publishes(&mut self, cut: Cut, lives: impl Fn(QueueId) -> bool) -> Vec<Op> {
        let mut enqueues: Vec<Enqueue> = Vec::new();
        let mut refusals: BTreeMap<SessionId, Vec<u64>> = BTreeMap::new();
        let (mut bytes, mut messages) = (0, 0);
        while let Some(Pending { session, message, with }) = self.publishes.pop_front() {
            let size = message.message.size();
            if messages > 0 && (bytes + size > cut.bytes || messages >= cut.messages) {
                self.publishes.push_front(Pending { session, message, with });
                break;
            }
            self.publish_bytes -= size;
            bytes += size;
            messages += 1;
            if with.refused {
                refusals.entry(session).or_default().push(message.seq);
            }
            // The session of the message before is most often this one's too.
            let at = match enqueues.last() {
                Some(last) if last.session == session => Some(enqueues.len() - 1),
                Some(_) | None => enqueues.iter().position(|enqueue| enqueue.session == session),
            };
            let at = at.unwrap_or_else(|| {
                enqueues.push(Enqueue { session, last_seq: 0, messages: Vec::new() });
                enqueues.len() - 1
            });
            if let Some(enqueue) = enqueues.get_mut(at) {
                enqueue.last_seq = message.seq;
                let mut message = message;
                message.queues.retain(|queue| lives(*queue));
                let seq = message.seq;
                if !message.queues.is_empty() {
                    enqueue.messages.push(message);
                }
                // Under the same sequence: a repetition is skipped as a whole.
                for (lane, key) in with.keys.into_iter().filter(|(lane, _)| lives(*lane)) {
                    let message = Message { body: key, ..Message::default() };
                    enqueue.messages.push(EnqueuedMessage { seq, queues: vec![lane], message });
                }
            }
        }
        let refusals = refusals.into_iter();
        let refusals = refusals.map(|(session, sequences)| Op::Refuse { session, learned: 0, sequences });
        enqueues.into_iter().map(Op::Enqueue).chain(refusals).collect()
    }

    /// As many as a record holds, with the settles that belong to them. Returns their bytes.
    fn take_moves(&mut self, cut: Cut, ops: &mut Vec<Op>) -> usize {
        let mut enqueue = Enqueue { session: INTERNAL, last_seq: 0, messages: Vec::new() };
        let mut settles: BTreeMap<QueueId, Vec<PositionRange>> = BTreeMap::new();
        let mut bytes = 0;
        while bytes < cut.bytes
            && enqueue.messages.len() < cut.messages
            && let Some(Move { from, position, to, message }) = self.moves.pop_front()
        {
            bytes += message.size();
            self.internal_seq = self.internal_seq.saturating_add(1);
            settles.entry(from).or_default().push(PositionRange::one(position));
            enqueue.messages.push(EnqueuedMessage { seq: self.internal_seq, queues: vec![to], message });
        }
        if enqueue.messages.is_empty() {
            return 0;
        }
        enqueue.last_seq = self.internal_seq;
        ops.push(Op::Enqueue(enqueue));
        for (queue, ranges) in settles {
            ops.push(Op::Settle { queue, reason: SettleReason::DeadLettered, ranges: merged(ranges) });
        }
        bytes
    }

    fn recount(&mut self) {
        let settles: usize = self.settles.values().map(|(_, ranges)| ranges.len()).sum();
        self.ranges = settles + self.returns.values().map(Vec::len).sum::<usize>();
    }
}

/// A record with these ops, stamped.
pub(crate) fn record(time: warren_types::UnixMillis, ops: Vec<Op>) -> Record {
    Record { time, ops }
}

/// The ranges by the numbers under which the log has them. A range is in one lane.
fn by_lane(
    queue: QueueId,
    ranges: Vec<PositionRange>,
) -> impl Iterator<Item = (QueueId, Vec<PositionRange>)> {
    let plain = ranges.iter().all(|range| LaneId::at(range.last) == LaneId::PLAIN);
    let mut lanes = Vec::new();
    if plain {
        lanes.push((queue, ranges));
    } else {
        for range in ranges {
            let lane = LaneId::at(range.first).of(queue);
            match lanes.last_mut() {
                Some((last, ranges)) if *last == lane => ranges.push(stored_range(range)),
                Some(_) | None => lanes.push((lane, vec![stored_range(range)])),
            }
        }
    }
    lanes.into_iter()
}

fn merged(ranges: Vec<PositionRange>) -> Vec<PositionRange> {
    if ranges.len() < 2 {
        return ranges;
    }
    ranges.into_iter().collect::<PositionSet>().ranges().collect()
}

fn rank(reason: SettleReason) -> u8 {
    match reason {
        SettleReason::Acked => 0,
        SettleReason::Rejected => 1,
        SettleReason::Expired => 2,
        SettleReason::Dropped => 3,
        SettleReason::DeliveryLimit => 4,
        SettleReason::DeadLettered => 5,
    }
}
