//! `Settle`: messages leave their queue for good. Cost: O(log n) and the runs that the ranges touch.

use warren_types::{PositionRange, QueueId};

use super::apply::ShardState;
use super::journal::Journal;
use super::queue::Queue;

impl ShardState {
    pub(super) fn settle(&mut self, id: QueueId, ranges: &[PositionRange]) {
        if !self.queues.contains_key(&id) {
            return;
        }
        self.queue_mut(id);
        if let Some(queue) = self.queues.get_mut(&id) {
            for range in ranges {
                queue.settle(range.first.0, range.last.0, &mut self.journal);
            }
        }
    }
}

impl Queue {
    /// Settles what is live of `first..=last`; the rest is ignored.
    pub(super) fn settle(&mut self, first: u64, last: u64, journal: &mut Journal) {
        let mut at = first;
        while at <= last
            && let Some(mut run) = self.runs.next_from(at)
            && run.first <= last
        {
            let (from, to) = (run.first.max(first), run.last().min(last));
            at = run.last().saturating_add(1);
            let already = self.settled.count_in(from, to);
            let Ok(now) = u32::try_from(to - from + 1 - already) else {
                continue;
            };
            if now == 0 {
                continue;
            }
            if journal.is_moved(run.entry) {
                self.changed.freed.insert(from, to);
            }
            let bytes = run.live_bytes();
            run.live = run.live.saturating_sub(now);
            self.live = self.live.saturating_sub(u64::from(now));
            let bytes = bytes - run.live_bytes();
            self.live_bytes = self.live_bytes.saturating_sub(bytes);
            journal.release(run.entry, now, bytes);
            self.forget_counts(from, to);
            if run.live == 0 {
                self.runs.remove(run.first);
                self.settled.remove(run.first, run.last());
                if run.first < self.changed.saved_next {
                    self.changed.dirty.remove(&run.first);
                    self.changed.removed.insert(&run);
                }
            } else {
                self.settled.insert(from, to);
                self.runs.set(run);
                self.touch(&run);
            }
        }
    }

    fn forget_counts(&mut self, from: u64, to: u64) {
        while let Some((&position, _)) = self.counts.range(from..=to).next() {
            self.counts.remove(&position);
        }
    }
}
