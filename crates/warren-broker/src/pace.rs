//! Who publishes to which queue waits for how long: queues in a node's memory that grow though their consumers take
//! what they can. The queues' machine decides (`warren-queue`, `shard/pace.rs`), its host tells all sessions, and connections
//! look here after each read.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use parking_lot::RwLock;
use warren_types::QueueId;

/// The waits of a node's publishers.
#[derive(Debug, Default)]
pub(crate) struct Paces {
    /// How many there are: most of the time none, and nobody needs to look.
    count: AtomicUsize,
    by_queue: RwLock<HashMap<QueueId, u32>>,
}

impl Paces {
    /// 0 ends the wait.
    pub(crate) fn set(&self, queue: QueueId, pause_ms: u32) {
        let mut by_queue = self.by_queue.write();
        match pause_ms {
            0 => by_queue.remove(&queue),
            _ => by_queue.insert(queue, pause_ms),
        };
        self.count.store(by_queue.len(), Ordering::Relaxed);
    }

    /// How long who published to these is to wait; `None` where it need not.
    pub(crate) fn pause<'a>(&self, queues: impl IntoIterator<Item = &'a QueueId>) -> Option<Duration> {
        if self.count.load(Ordering::Relaxed) == 0 {
            return None;
        }
        let by_queue = self.by_queue.read();
        let (mut last, mut longest) = (None, 0);
        for queue in queues {
            // Most of a read goes to one queue.
            if last != Some(queue) {
                longest = longest.max(by_queue.get(queue).copied().unwrap_or_default());
                last = Some(queue);
            }
        }
        (longest > 0).then(|| Duration::from_millis(u64::from(longest)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_publishes_to_several_queues_waits_as_the_slowest_asks_and_others_do_not() {
        let paces = Paces::default();
        assert_eq!(paces.pause(&[QueueId(1)]), None);
        paces.set(QueueId(1), 2);
        paces.set(QueueId(2), 8);
        assert_eq!(paces.pause(&[QueueId(1), QueueId(1), QueueId(2)]), Some(Duration::from_millis(8)));
        assert_eq!(paces.pause(&[QueueId(3)]), None);
        paces.set(QueueId(2), 0);
        assert_eq!(paces.pause(&[QueueId(2), QueueId(1)]), Some(Duration::from_millis(2)));
        paces.set(QueueId(1), 0);
        assert_eq!(paces.pause(&[QueueId(1)]), None);
    }
}
