//! What leaves a queue for good and what goes back to its place. The effect is at once; `shard` has it recorded.

use warren_proto::shard::Op;
use warren_types::{Position, PositionRange, SessionId};

use super::{Cache, Holder, Queue, size_of};
use crate::DeathReason;
use crate::lane::{stored, stored_range};

/// How deliveries go back.
#[derive(Clone, Copy, Debug)]
pub(crate) struct GiveBack {
    /// Counts as a failed delivery.
    pub(crate) failed: bool,
    /// A client has seen them.
    pub(crate) seen: bool,
}

impl Queue {
    /// Settles what the session holds of these ranges; returns what that was, ascending. Credit returns at once.
    /// `acked`: where a client has the say, it has acknowledged them.
    pub(crate) fn settle(
        &mut self,
        session: SessionId,
        ranges: &[PositionRange],
        acked: bool,
    ) -> Vec<PositionRange> {
        let mut settled = Vec::new();
        self.take_held(session, ranges, |queue, position, holder| {
            queue.meter.total.ack += u64::from(acked && !holder.automatic);
            queue.live = queue.live.saturating_sub(1);
            if !queue.counts.is_empty() {
                queue.counts.remove(&position);
            }
            if !queue.acquired.is_empty() {
                queue.acquired.remove(&position);
            }
            settled.push(position);
        });
        // The ring gives ascending positions and its strays come after: mostly this is a look.
        if !settled.is_sorted() {
            settled.sort_unstable();
        }
        self.seen_to = self.seen_to.max(settled.last().copied().unwrap_or(Position(0)));
        PositionRange::collect(settled)
    }

    /// Returns what the session holds of these ranges to its place; returns what that was, ascending.
    pub(crate) fn give_back(
        &mut self,
        session: SessionId,
        ranges: &[PositionRange],
        how: GiveBack,
    ) -> Vec<PositionRange> {
        let mut given = Vec::new();
        self.take_held(session, ranges, |queue, position, holder| {
            queue.put_back(position, holder, how);
            given.push(position);
        });
        given.sort_unstable();
        if how.seen {
            self.seen_to = self.seen_to.max(given.last().copied().unwrap_or(Position(0)));
        } else {
            self.flag_overtaken(&given);
        }
        PositionRange::collect(given)
    }

    /// What goes back without having been seen is still new, unless a client may have seen something behind it: to a
    /// consumer it would come out of order, which only `redelivered` excuses. So it is when a node that had deliveries
    /// on their way is cut off and comes back later.
    pub(super) fn flag_overtaken(&mut self, given: &[Position]) {
        let seen_to = self.seen_to.max(self.unacked.last().unwrap_or(Position(0)));
        for position in given.iter().take_while(|position| **position < seen_to) {
            self.lane_at(*position).unseen.remove(*position);
        }
    }

    /// Returns everything that the session holds to its place.
    pub(crate) fn give_back_all(&mut self, session: SessionId, how: GiveBack) -> Vec<PositionRange> {
        let everything = PositionRange { first: Position(1), last: Position(u64::MAX) };
        self.give_back(session, &[everything], how)
    }

    /// Forgets everything that is ready or rests; returns how many messages that were, and what is to be recorded.
    pub(crate) fn purge(&mut self, cache: &mut Cache) -> (u64, Vec<Op>) {
        let purged = self.ready() + self.resting.len();
        for position in self.resting.take() {
            self.counts.remove(&position);
        }
        let mut keep: crate::PositionSet = self.unacked.ranges(|_| true).into_iter().collect();
        for range in self.withheld.ranges() {
            keep.insert_range(range);
        }
        for position in self.dying.positions() {
            keep.insert(position);
        }
        // What is held keeps its counts.
        self.acquired.retain(|position, _| keep.contains(*position));
        let counts = &mut self.counts;
        let mut ops = Vec::new();
        for lane in std::iter::once(&mut self.plain).chain(self.others.values_mut()) {
            for ready in lane.window.drain(..).chain(std::mem::take(&mut lane.back).into_values()) {
                cache.remove(size_of(&ready.message));
                counts.remove(&ready.position);
            }
            for range in lane.returned.ranges() {
                let gone: Vec<Position> =
                    counts.range(range.first..=range.last).map(|(position, _)| *position).collect();
                for position in gone {
                    counts.remove(&position);
                }
            }
            lane.returned.clear();
            lane.unseen.clear();
            lane.loaded_to = lane.loaded_to.max(lane.tail());
            lane.head_sleeps_until = None;
            if lane.tail() == lane.id.start() {
                continue;
            }
            let kept = keep.take_range(lane.id.all());
            ops.push(Op::Purge {
                queue: lane.id.of(self.id),
                up_to: stored(lane.tail()),
                keep: kept.into_iter().map(stored_range).collect(),
            });
        }
        self.expiring = None;
        self.live -= purged;
        self.ready_bytes = 0;
        (purged, ops)
    }

    /// A position that was held is ready again, below everything that was never delivered; or it leaves for good if
    /// its deliveries have failed too often.
    pub(crate) fn put_back(&mut self, position: Position, holder: Holder, how: GiveBack) {
        if how.failed {
            let count = self.counts.entry(position).or_default();
            *count = count.saturating_add(1);
            if self.settings.delivery_limit.is_some_and(|limit| u64::from(*count) > limit) {
                self.live = self.live.saturating_sub(1);
                self.depart_unread(position, DeathReason::DeliveryLimit);
                return;
            }
        }
        if how.seen && self.settings.strict_levels {
            let acquired = self.acquired.entry(position).or_default();
            *acquired = acquired.saturating_add(1);
        }
        if let Some(rest_ms) = self.rest_ms(position, how) {
            self.resting.add(position, rest_ms, holder.size);
            return;
        }
        let lane = self.lane_at(position);
        lane.head_sleeps_until = None;
        lane.returned.insert(position);
        if !how.seen && !holder.redelivered {
            lane.unseen.insert(position);
        }
        self.ready_bytes = self.ready_bytes.saturating_add(u64::from(holder.size));
        self.keep_time(holder.expires, position, u64::from(holder.size));
    }

    fn take_held(
        &mut self,
        session: SessionId,
        ranges: &[PositionRange],
        mut taken: impl FnMut(&mut Self, Position, Holder),
    ) {
        let mut unacked = std::mem::take(&mut self.unacked);
        for range in ranges {
            // A run of one consumer gives its credit back in one step.
            let mut run: Option<(super::ConsumerKey, u32)> = None;
            unacked.take_range(
                *range,
                |_, holder| holder.session == session,
                |position, holder| {
                    match (&mut run, holder.consumer()) {
                        (Some((key, count)), Some(consumer)) if *key == consumer => *count += 1,
                        (_, Some(consumer)) => {
                            if let Some(done) = run.replace((consumer, 1)) {
                                self.free(done);
                            }
                        }
                        (_, None) => {}
                    }
                    taken(self, position, holder);
                },
            );
            if let Some(done) = run {
                self.free(done);
            }
        }
        self.unacked = unacked;
    }

    fn free(&mut self, (consumer, count): (super::ConsumerKey, u32)) {
        self.consumers.update(consumer, |consumer| {
            consumer.unacked = consumer.unacked.saturating_sub(count);
        });
    }

    /// True when nothing can be deleted with the queue: `if_empty`.
    pub(crate) fn is_empty(&self) -> bool {
        self.ready() == 0 && self.withheld.is_empty() && self.resting.len() == 0
    }
}
