//! `Purge` and `DropQueue`: many messages leave at once.

use warren_types::{Position, PositionRange, QueueId};

use super::apply::ShardState;
use super::ranges::RangeSet;

impl ShardState {
    pub(super) fn purge(&mut self, id: QueueId, up_to: Position, keep: &[PositionRange]) {
        if !self.queues.contains_key(&id) {
            return;
        }
        let mut kept = RangeSet::default();
        for range in keep {
            kept.insert(range.first.0, range.last.0);
        }
        self.queue_mut(id);
        if let Some(queue) = self.queues.get_mut(&id) {
            for (first, last) in kept.gaps_in(0, up_to.0) {
                queue.settle(first, last, &mut self.journal);
            }
        }
    }

    pub(super) fn drop_queue(&mut self, id: QueueId) {
        let Some(queue) = self.queues.remove(&id) else {
            return;
        };
        for run in queue.runs.iter() {
            self.journal.release(run.entry, run.live, run.live_bytes());
        }
        self.changed_queues.remove(&id);
        self.dropped_queues.insert(id);
    }
}
