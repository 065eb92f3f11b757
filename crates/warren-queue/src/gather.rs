//! Spine 8, the gathering: everything that waits for the log becomes as few records as possible.
//!
//! Within a record the kinds of effects have a fixed order. That is safe because nothing here depends on another
//! thing of the same record: settles, returns and purges name positions that are applied already, and what is
//! dropped or closed is taken out of the rest first.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use warren_proto::session::Answer;
use warren_proto::shard::{Enqueue, EnqueuedMessage, Op, Record, SettleReason};
use warren_types::{PositionRange, QueueId, RequestId, SessionId};

use crate::positions::PositionSet;

/// What is to be told once a record is applied.
#[derive(Debug, Default)]
pub(crate) struct Promises {
    /// Settles and returns up to this sequence are recorded.
    pub(crate) settled: BTreeMap<SessionId, u64>,
    /// Answers that hold once it is recorded.
    pub(crate) answers: Vec<(SessionId, RequestId, Answer)>,
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
    }
}

#[derive(Debug)]
struct Pending {
    session: SessionId,
    /// Without queues where all of them are gone: then only its sequence is recorded.
    message: EnqueuedMessage,
    /// One of its queues refused it.
    refused: bool,
}

/// What waits for a record.
#[derive(Debug, Default)]
pub(crate) struct Gather {
    publishes: VecDeque<Pending>,
    publish_bytes: usize,
    settles: BTreeMap<(QueueId, u8), (SettleReason, Vec<PositionRange>)>,
    returns: BTreeMap<QueueId, Vec<PositionRange>>,
    ranges: usize,
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
            && self.settles.is_empty()
            && self.returns.is_empty()
            && self.purges.is_empty()
            && self.used.is_empty()
            && self.drops.is_empty()
            && self.closes.is_empty())
    }

    pub(crate) fn publish(&mut self, session: SessionId, message: EnqueuedMessage, refused: bool) {
        self.publish_bytes += message.message.size();
        self.publishes.push_back(Pending { session, message, refused });
    }

    pub(crate) fn settle(&mut self, queue: QueueId, reason: SettleReason, ranges: Vec<PositionRange>) {
        if ranges.is_empty() {
            return;
        }
        self.ranges += ranges.len();
        let key = (queue, rank(reason));
        self.settles.entry(key).or_insert_with(|| (reason, Vec::new())).1.extend(ranges);
    }

    /// Notes failed deliveries.
    pub(crate) fn give_back(&mut self, queue: QueueId, ranges: Vec<PositionRange>) {
        if ranges.is_empty() {
            return;
        }
        self.ranges += ranges.len();
        self.returns.entry(queue).or_default().extend(ranges);
    }

    pub(crate) fn purge(&mut self, purge: Op) {
        self.purges.push(purge);
    }

    pub(crate) fn mark_used(&mut self, queue: QueueId) {
        self.used.insert(queue);
    }

    /// The queue is gone: nothing else about it is recorded any more.
    pub(crate) fn drop_queue(&mut self, queue: QueueId) {
        self.settles.retain(|(other, _), _| *other != queue);
        self.returns.remove(&queue);
        self.purges.retain(|op| !matches!(op, Op::Purge { queue: other, .. } if *other == queue));
        self.used.remove(&queue);
        self.recount();
        self.drops.insert(queue);
    }

    /// The session is gone, and with it what it published and nobody can be told about: returned.
    pub(crate) fn close(&mut self, session: SessionId) -> Vec<EnqueuedMessage> {
        let mut dropped = Vec::new();
        if self.publishes.iter().any(|pending| pending.session == session) {
            let (gone, kept): (VecDeque<_>, VecDeque<_>) = std::mem::take(&mut self.publishes)
                .into_iter()
                .partition(|pending| pending.session == session);
            self.publishes = kept;
            dropped.extend(gone.into_iter().map(|pending| pending.message));
            self.publish_bytes -= dropped.iter().map(|message| message.message.size()).sum::<usize>();
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
        let mut ops = self.take_publishes(cut, lives);
        for ((queue, _), (reason, ranges)) in std::mem::take(&mut self.settles) {
            ops.push(Op::Settle { queue, reason, ranges: merged(ranges) });
        }
        for (queue, ranges) in std::mem::take(&mut self.returns) {
            ops.push(Op::Return { queue, ranges: merged(ranges) });
        }
        self.ranges = 0;
        ops.append(&mut self.purges);
        ops.extend(std::mem::take(&mut self.used).into_iter().map(|queue| Op::MarkUsed { queue }));
        ops.extend(std::mem::take(&mut self.drops).into_iter().map(|queue| Op::DropQueue { queue }));
        ops.extend(std::mem::take(&mut self.closes).into_iter().map(|session| Op::CloseSession { session }));
        (ops, std::mem::take(&mut self.promises))
    }

    /// One `Enqueue` a session, and a `Refuse` where it passes something refused; within a session the order is kept, and no client can see another order.
    fn take_publishes(&mut self, cut: Cut, lives: impl Fn(QueueId) -> bool) -> Vec<Op> {
        let mut enqueues: Vec<Enqueue> = Vec::new();
        let mut refusals: BTreeMap<SessionId, Vec<u64>> = BTreeMap::new();
        let (mut bytes, mut messages) = (0, 0);
        while let Some(Pending { session, message, refused }) = self.publishes.pop_front() {
            let size = message.message.size();
            if messages > 0 && (bytes + size > cut.bytes || messages >= cut.messages) {
                self.publishes.push_front(Pending { session, message, refused });
                break;
            }
            self.publish_bytes -= size;
            bytes += size;
            messages += 1;
            if refused {
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
                if !message.queues.is_empty() {
                    enqueue.messages.push(message);
                }
            }
        }
        let refusals = refusals.into_iter();
        let refusals = refusals.map(|(session, sequences)| Op::Refuse { session, learned: 0, sequences });
        enqueues.into_iter().map(Op::Enqueue).chain(refusals).collect()
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
