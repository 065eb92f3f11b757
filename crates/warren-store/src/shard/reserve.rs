//! `Reserve` and `MarkUsed`: what a later leader must assume of deliveries and consumers. Both make the queue if it
//! is new: a leader may reserve in the same entry that brings the queue's first message.

use warren_types::{Position, QueueId};

use super::apply::ShardState;

impl ShardState {
    pub(super) fn reserve(&mut self, id: QueueId, up_to: Position) {
        let queue = self.queue_mut(id);
        queue.meta.mark = queue.meta.mark.max(up_to.0);
    }

    pub(super) fn mark_used(&mut self, id: QueueId) {
        self.queue_mut(id).meta.used = true;
    }
}
