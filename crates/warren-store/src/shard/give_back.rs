//! `Return`: messages that came back failed once more.

use warren_types::{PositionRange, QueueId};

use super::apply::ShardState;

impl ShardState {
    pub(super) fn give_back(&mut self, id: QueueId, ranges: &[PositionRange]) {
        if !self.queues.contains_key(&id) {
            return;
        }
        let queue = self.queue_mut(id);
        for range in ranges {
            let mut at = range.first.0;
            while at <= range.last.0
                && let Some(run) = queue.runs.next_from(at)
                && run.first <= range.last.0
            {
                at = run.last().saturating_add(1);
                let live = queue.live_in(&run, range.first.0, range.last.0);
                if live.is_empty() {
                    continue;
                }
                queue.touch(&run);
                for position in live.into_iter().flat_map(|(first, last)| first..=last) {
                    let count = queue.counts.entry(position).or_default();
                    *count = count.saturating_add(1);
                }
            }
        }
    }
}
