//! How much may be on its way to all consumers of the host together. A window for each is no bound where there are thousands
//! that take nothing: when too much is under way each gets a small one, and far beyond that nobody gets anything.
//! Whoever takes nothing for long is the home's to deal with.

use warren_types::QueueId;

use super::{HostLeader, touch};
use crate::queue::Transit;

/// How much is under way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Tightness {
    #[default]
    Free,
    Tight,
    Closed,
}

/// Beyond so many times the limit nobody gets anything.
const CLOSED_AT: u64 = 4;
/// The small window as a part of the usual one.
const SMALL_MESSAGES: u32 = 16;
const SMALL_BYTES: u64 = 64;

/// What is under way from the host.
#[derive(Debug, Default)]
pub(super) struct UnderWay {
    bytes: u64,
    pub(super) tightness: Tightness,
    /// Queues whose consumers may have got less than their window.
    held_back: std::collections::BTreeSet<QueueId>,
}

impl UnderWay {
    /// It ends at half of where it began, so that it does not change with each message.
    fn judge(&mut self, limit: u64) {
        let closed = limit.saturating_mul(CLOSED_AT);
        let tight = self.tightness;
        self.tightness = if self.bytes >= closed || (tight == Tightness::Closed && self.bytes >= closed / 2) {
            Tightness::Closed
        } else if self.bytes >= limit || (tight >= Tightness::Tight && self.bytes >= limit / 2) {
            Tightness::Tight
        } else {
            Tightness::Free
        };
    }
}

impl HostLeader {
    /// The window of each consumer now.
    fn window(&self) -> Transit {
        let (messages, bytes) = (self.config.transit_messages.max(1), self.config.transit_bytes);
        match self.under_way.tightness {
            Tightness::Free => Transit { messages, bytes },
            Tightness::Tight => {
                Transit { messages: (messages / SMALL_MESSAGES).max(1), bytes: bytes / SMALL_BYTES }
            }
            Tightness::Closed => Transit { messages: 0, bytes: 0 },
        }
    }

    /// Before a queue's turn: its consumers have the window that is right now.
    pub(super) fn set_window(&mut self, id: QueueId) {
        self.count_under_way(id);
        let window = self.window();
        let Some(queue) = self.queues.get_mut(&id) else { return };
        queue.consumers.set_transit(window);
        if self.under_way.tightness > Tightness::Free && !queue.consumers.is_empty() {
            self.under_way.held_back.insert(id);
        } else {
            self.under_way.held_back.remove(&id);
        }
    }

    /// After it, or when it has changed otherwise.
    pub(super) fn count_under_way(&mut self, id: QueueId) {
        let Some(queue) = self.queues.get_mut(&id) else { return };
        let now = queue.consumers.in_transit();
        let before = std::mem::replace(&mut queue.counted_in_transit, now);
        self.under_way.bytes = self.under_way.bytes.saturating_sub(before).saturating_add(now);
        self.under_way.judge(self.config.transit_bytes_all);
    }

    /// The queue is gone.
    pub(super) fn forget_under_way(&mut self, id: QueueId, counted: u64) {
        self.under_way.held_back.remove(&id);
        self.under_way.bytes = self.under_way.bytes.saturating_sub(counted);
        self.under_way.judge(self.config.transit_bytes_all);
    }

    /// Queues that were held back are looked at again when there is more room than there was; true if any are.
    pub(super) fn release_held_back(&mut self, before: Tightness) -> bool {
        if self.under_way.tightness >= before {
            return false;
        }
        let held_back = std::mem::take(&mut self.under_way.held_back);
        for id in &held_back {
            if let Some(queue) = self.queues.get_mut(id) {
                touch(queue, &mut self.touched);
            }
        }
        !held_back.is_empty()
    }
}
