//! Spine 8 out and 12 in: what waits becomes records; what is applied becomes confirms and messages in queues.

use std::collections::BTreeSet;

use warren_proto::session::LeaderFrame;
use warren_proto::shard::{AppliedRecord, Enqueue, Op};
use warren_types::{Position, QueueId, UnixMillis};

use super::{HostLeader, touch};
use crate::gather::{Cut, Promises, record};
use crate::lane::LaneId;
use crate::{Output, QueueDirectory};

impl HostLeader {
    /// Proposes what waits, a record a free slot. Marks ride on it; where a delivery waits for nothing else, a
    /// record goes out for the mark alone.
    pub(super) fn propose(&mut self, now: UnixMillis, outputs: &mut Vec<Output>) {
        let cut = Cut { bytes: self.config.record_bytes, messages: self.config.record_messages };
        self.note_lazy(now);
        while self.in_flight.len() < self.config.proposals_in_flight.max(1)
            && self.in_flight_bytes < self.config.in_flight_bytes
            && (self.gather.has_ops() && self.lazy_until.is_none() || !self.awaiting_mark.is_empty())
        {
            self.lazy_until = None;
            let lives = |queue: QueueId| self.queues.contains_key(&LaneId::split(queue).0);
            let (mut ops, promises) = self.gather.take(cut, lives);
            self.note_learned(&mut ops);
            let mut riders = self.predict(&ops);
            let alone = riders.is_empty();
            riders.append(&mut self.awaiting_mark);
            for id in riders {
                let Some(queue) = self.queues.get_mut(&id) else { continue };
                let reserve = |queue, up_to| ops.push(Op::Reserve { queue, up_to });
                queue.reserve(self.config.reserve_ahead, !alone, reserve);
            }
            if ops.is_empty() {
                // The mark that was waited for is under way.
                self.promise(promises, outputs);
                break;
            }
            self.in_flight_bytes += promises.bytes;
            self.in_flight.push_back(promises);
            if cfg!(debug_assertions) && self.config.confirm_early {
                for op in &ops {
                    if let Op::Enqueue(enqueue) = op {
                        self.sessions.applied(enqueue.session, enqueue.last_seq);
                    }
                }
            }
            outputs.push(Output::Record(record(now, ops)));
        }
        if !self.gather.has_ops()
            && let Some(promises) = self.gather.take_promises()
        {
            self.promise(promises, outputs);
        }
    }

    /// Acknowledgements that nobody waits for wait for company: at a low rate they would else cost as much as publishes.
    fn note_lazy(&mut self, now: UnixMillis) {
        if !self.gather.has_ops() || self.gather.is_urgent() {
            self.lazy_until = None;
            return;
        }
        let latest = UnixMillis(now.0.saturating_add(self.config.settle_within_ms));
        let until = self.lazy_until.map_or(latest, |until| until.min(latest));
        self.lazy_until = Some(until).filter(|until| now < *until);
    }

    /// What a home has learned goes with what it has yet to learn, so that neither grows.
    fn note_learned(&self, ops: &mut [Op]) {
        for op in ops {
            if let Op::Refuse { session, learned, .. } = op {
                *learned = self.sessions.by_id.get(session).map_or(0, |of| of.learned);
            }
        }
    }

    /// Notes which positions the record will give; returns the queues whose mark may ride on it.
    fn predict(&mut self, ops: &[Op]) -> BTreeSet<QueueId> {
        let mut riders = BTreeSet::new();
        let mut last = None;
        for op in ops {
            match op {
                Op::Enqueue(enqueue) => {
                    for id in enqueue.messages.iter().flat_map(|message| &message.queues) {
                        let (id, lane) = LaneId::split(*id);
                        if !lane.is_ready() {
                            continue;
                        }
                        if let Some(queue) = self.queues.get_mut(&id) {
                            let lane = queue.lane_mut(lane);
                            lane.predicted = lane.predicted.next();
                        }
                        if last != Some(id) {
                            last = Some(id);
                            riders.insert(id);
                        }
                    }
                }
                Op::Settle { queue, .. } | Op::Return { queue, .. } => {
                    riders.insert(LaneId::split(*queue).0);
                }
                Op::Reserve { .. }
                | Op::Purge { .. }
                | Op::DropQueue { .. }
                | Op::CloseSession { .. }
                | Op::Refuse { .. }
                | Op::MarkUsed { .. } => {}
            }
        }
        riders
    }

    /// Promises that nothing new has to be recorded for hold once everything proposed before them is applied.
    fn promise(&mut self, promises: Promises, outputs: &mut Vec<Output>) {
        match self.in_flight.back_mut() {
            Some(last) => last.add(promises),
            None => self.keep(promises, outputs),
        }
    }

    pub(super) fn on_applied(
        &mut self,
        now: UnixMillis,
        directory: &dyn QueueDirectory,
        applied: AppliedRecord,
        outputs: &mut Vec<Output>,
    ) {
        let mut positions = applied.positions.into_iter();
        for op in applied.record.ops {
            match op {
                Op::Enqueue(enqueue) => {
                    let recorded = applied.record.time;
                    self.on_enqueued((now, recorded), directory, enqueue, &mut positions, outputs);
                }
                // A message that was due is in its queue.
                Op::Settle { queue, ranges, .. } if LaneId::split(queue).1.is_bucket() => {
                    let (id, lane) = LaneId::split(queue);
                    if let Some(queue) = self.queues.get_mut(&id)
                        && let Some(delayed) = queue.delayed.as_deref_mut()
                    {
                        delayed.moved(lane, ranges.iter().map(|range| range.count()).sum());
                        touch(queue, &mut self.touched);
                    }
                }
                // Its effect here was at once, when it was decided; now the store has followed.
                Op::Settle { queue, ranges, .. } => {
                    let (id, lane) = LaneId::split(queue);
                    if let Some(queue) = self.queues.get_mut(&id) {
                        queue.gone_from_store(lane, &ranges);
                    }
                }
                Op::Reserve { queue, up_to } => {
                    let (queue, lane) = LaneId::split(queue);
                    if let Some(queue) = self.queues.get_mut(&queue) {
                        queue.reserved(lane, lane.position(up_to));
                        touch(queue, &mut self.touched);
                    }
                }
                // Their effect here was at once, when they were decided.
                Op::Return { .. }
                | Op::Purge { .. }
                | Op::DropQueue { .. }
                | Op::CloseSession { .. }
                | Op::Refuse { .. }
                | Op::MarkUsed { .. } => {}
            }
        }
        if let Some(promises) = self.in_flight.pop_front() {
            self.in_flight_bytes = self.in_flight_bytes.saturating_sub(promises.bytes);
            self.keep(promises, outputs);
        }
        self.answer_stalled(now, directory, outputs);
    }

    fn on_enqueued(
        &mut self,
        (now, recorded): (UnixMillis, UnixMillis),
        directory: &dyn QueueDirectory,
        enqueue: Enqueue,
        positions: &mut impl Iterator<Item = Position>,
        outputs: &mut Vec<Output>,
    ) {
        for enqueued in enqueue.messages {
            self.leave(&enqueued);
            let mut message = Some(enqueued.message);
            let count = enqueued.queues.len();
            for (at, id) in enqueued.queues.into_iter().enumerate() {
                // The store gives one position for each queue of each message; 0 where it skipped the message.
                let Some(position) = positions.next().filter(|position| position.0 > 0) else { continue };
                let (id, lane) = LaneId::split(id);
                let Some(queue) = self.queues.get_mut(&id) else { continue };
                let copy = if at + 1 == count { message.take() } else { message.clone() };
                if lane == LaneId::KEYS {
                    if let Some(message) = copy {
                        self.key_recorded(id, &message.body, lane.position(position));
                    }
                } else if lane.is_bucket() {
                    if let (Some(delayed), Some(message)) = (queue.delayed.as_deref_mut(), copy) {
                        delayed.committed(lane.position(position), &message, recorded);
                        touch(queue, &mut self.touched);
                    }
                } else if let Some(message) = copy {
                    queue.committed(lane.position(position), message, now, &mut self.cache);
                    touch(queue, &mut self.touched);
                }
            }
        }
        self.sessions.applied(enqueue.session, enqueue.last_seq);
        self.answer_ready(now, directory, enqueue.session, outputs);
    }

    fn keep(&mut self, promises: Promises, outputs: &mut Vec<Output>) {
        for (session, seq) in promises.settled {
            self.sessions.settled(session, seq);
        }
        for (session, request, answer) in promises.answers {
            self.sessions.send(session, LeaderFrame::Reply { request, answer }, outputs);
        }
    }
}
