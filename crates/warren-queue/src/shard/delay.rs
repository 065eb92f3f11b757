//! Messages whose time has not come: out of their buckets, into their queue.

use warren_proto::shard::{SettleReason, StoredMessage};
use warren_types::{PositionRange, QueueId, UnixMillis};

use super::{HostLeader, touch};
use crate::Output;
use crate::lane::{self, LaneId};
use crate::queue::body_of;

impl HostLeader {
    /// Has read what of the queue's delayed messages is due or comes near.
    pub(super) fn tend_delayed(&mut self, now: UnixMillis, id: QueueId, outputs: &mut Vec<Output>) {
        let Some(queue) = self.queues.get_mut(&id) else { return };
        let Some(delayed) = queue.delayed.as_deref_mut() else { return };
        while let Some(read) = delayed.read_wanted(now) {
            outputs.push(Output::Load {
                queue: LaneId::at(read.after).of(id),
                after: lane::stored(read.after),
                max_messages: read.max_messages,
                max_bytes: read.max_bytes,
            });
        }
    }

    /// Takes what was read of a bucket: what is due goes into the queue. A queue that is full refuses it, and nobody is
    /// there any more to be told.
    pub(super) fn on_delayed_loaded(
        &mut self,
        now: UnixMillis,
        (id, lane): (QueueId, LaneId),
        messages: Vec<StoredMessage>,
        end: bool,
    ) {
        let Some(queue) = self.queues.get_mut(&id) else { return };
        touch(queue, &mut self.touched);
        let Some(delayed) = queue.delayed.as_deref_mut() else { return };
        for (position, message) in delayed.loaded(lane, messages, end, now) {
            if queue.refuses(&message) {
                self.gather.settle(id, SettleReason::Dropped, vec![PositionRange::one(position)]);
                continue;
            }
            queue.admitted += 1;
            queue.admitted_bytes = queue.admitted_bytes.saturating_add(body_of(&message));
            let to = queue.lane_for(&message).of(id);
            self.gather.move_in(lane.of(id), lane::stored(position), to, message);
        }
    }

    /// Drops the buckets of times that are over.
    pub(super) fn drop_past_buckets(&mut self, now: UnixMillis) {
        for (id, queue) in &mut self.queues {
            if let Some(delayed) = queue.delayed.as_deref_mut() {
                delayed.take_past(now).into_iter().for_each(|lane| self.gather.drop_lane(lane.of(*id)));
            }
        }
    }
}
