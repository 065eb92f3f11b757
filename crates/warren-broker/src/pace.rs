//! Who publishes to which queue waits for how long: queues in a node's memory that grow though their consumers take
//! what they can. The queues' machine decides (`warren-queue`, `shard/pace.rs`), its host tells all sessions, and connections
//! look here after each read.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use parking_lot::RwLock;
use warren_proto::session::LeaderFrame;
use warren_types::QueueId;

use crate::mailbox::Mailbox;

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

/// What a host has told the sessions that are open.
#[derive(Debug, Default)]
pub(crate) struct Told(HashMap<QueueId, u32>);

impl Told {
    /// Every node's publishers may publish to the queue.
    pub(crate) fn tell<'a>(
        &mut self,
        queue: QueueId,
        pause_ms: u32,
        sessions: impl Iterator<Item = &'a Arc<Mailbox<LeaderFrame>>>,
    ) {
        match pause_ms {
            0 => self.0.remove(&queue),
            _ => self.0.insert(queue, pause_ms),
        };
        for answers in sessions {
            // A session that is gone waits for nobody.
            let _gone = answers.push(LeaderFrame::Pace { queue, pause_ms });
        }
    }

    /// A session begins.
    pub(crate) fn greet(&self, answers: &Mailbox<LeaderFrame>) {
        for (queue, pause_ms) in &self.0 {
            let _gone = answers.push(LeaderFrame::Pace { queue: *queue, pause_ms: *pause_ms });
        }
    }
}

/// What a session has heard of its host, which counts no longer than the stream to it.
#[derive(Debug, Default)]
pub(crate) struct Heard(BTreeSet<QueueId>);

impl Heard {
    pub(crate) fn hear(&mut self, paces: &Paces, queue: QueueId, pause_ms: u32) {
        match pause_ms {
            0 => self.0.remove(&queue),
            _ => self.0.insert(queue),
        };
        paces.set(queue, pause_ms);
    }

    pub(crate) fn end(&mut self, paces: &Paces) {
        for queue in std::mem::take(&mut self.0) {
            paces.set(queue, 0);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn sessions_hear_of_every_wait_those_that_come_later_of_what_still_stands() {
        let (early, late) = (Arc::new(Mailbox::new()), Mailbox::new());
        let mut told = Told::default();
        told.tell(QueueId(1), 4, [&early].into_iter());
        told.tell(QueueId(2), 8, [&early].into_iter());
        told.tell(QueueId(1), 0, [&early].into_iter());
        told.greet(&late);
        let pace = |queue, pause_ms| LeaderFrame::Pace { queue: QueueId(queue), pause_ms };
        let mut heard = Vec::new();
        early.recv_many(&mut heard, 9).await;
        assert_eq!(heard, [pace(1, 4), pace(2, 8), pace(1, 0)]);
        heard.clear();
        late.recv_many(&mut heard, 9).await;
        assert_eq!(heard, [pace(2, 8)]);
    }

    #[test]
    fn with_its_stream_ends_what_a_session_has_heard() {
        let paces = Paces::default();
        let (mut one, mut other) = (Heard::default(), Heard::default());
        one.hear(&paces, QueueId(1), 4);
        other.hear(&paces, QueueId(2), 8);
        one.end(&paces);
        assert_eq!(paces.pause(&[QueueId(1)]), None);
        assert_eq!(paces.pause(&[QueueId(1), QueueId(2)]), Some(Duration::from_millis(8)));
        other.hear(&paces, QueueId(2), 0);
        assert_eq!(paces.pause(&[QueueId(2)]), None);
    }

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
