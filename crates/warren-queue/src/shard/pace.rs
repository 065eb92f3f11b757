//! How long those wait who publish to a queue that is in memory only and grows though its consumers take what they can.
//!
//! Such a queue has no disk to grow on, and where the machine is what bounds its consumers each message more in it only
//! makes all wait longer. RabbitMQ has its queues deliver before they take for the same reason. A queue whose consumers
//! are slow, or hold as much as they may, keeps what it gets: that is what a queue is for, and memory has an alarm.

use warren_types::{QueueId, UnixMillis};

use super::HostLeader;
use crate::Output;

/// From so many bytes in the queue on; messages count [`MESSAGE`] more than their body.
const FROM: u64 = 8 << 20;
/// The wait is doubled for each of these above.
const STEP: u64 = 4 << 20;
/// The first wait, for a connection's read of 64 KiB.
const FIRST_MS: u32 = 1;
/// How often it is doubled at most.
const STEPS: u64 = 6;
/// What a message takes beside its body, about.
const MESSAGE: u64 = 256;
/// For so long what consumers take is counted.
const COUNTED_MS: u64 = 100;
/// They are fast who take so many messages in that time, or so many bytes.
const FAST_MESSAGES: u64 = 500;
const FAST_BYTES: u64 = 1 << 20;

/// One queue that has grown.
#[derive(Debug)]
pub(super) struct Pace {
    since: UnixMillis,
    messages: u64,
    bytes: u64,
    fast: bool,
    pause_ms: u32,
}

impl Pace {
    fn new(now: UnixMillis) -> Self {
        Self { since: now, messages: 0, bytes: 0, fast: false, pause_ms: 0 }
    }

    /// Counts what consumers were given; judges them when it is time.
    fn count(&mut self, now: UnixMillis, messages: u64, bytes: u64) {
        self.messages += messages;
        self.bytes += bytes;
        let passed = now.0.saturating_sub(self.since.0);
        if passed >= COUNTED_MS {
            let in_time = |count: u64| count.saturating_mul(COUNTED_MS) / passed;
            self.fast = in_time(self.messages) >= FAST_MESSAGES || in_time(self.bytes) >= FAST_BYTES;
            (self.since, self.messages, self.bytes) = (now, 0, 0);
        }
    }

    /// The wait that is right for so much in the queue.
    fn pause_for(&self, waiting: u64) -> u32 {
        match waiting.checked_sub(FROM) {
            Some(above) if self.fast => FIRST_MS << (above / STEP).min(STEPS),
            Some(_) | None => 0,
        }
    }
}

impl HostLeader {
    /// After the turn of a queue in memory, in which its consumers were given so much.
    pub(super) fn set_pace(
        &mut self,
        now: UnixMillis,
        id: QueueId,
        messages: u64,
        bytes: u64,
        outputs: &mut Vec<Output>,
    ) {
        let Some(queue) = self.queues.get(&id) else { return };
        let waiting = queue.ready_bytes.saturating_add(queue.ready().saturating_mul(MESSAGE));
        let known = self.paces.get_mut(&id);
        let pace = match known {
            Some(pace) => pace,
            None if waiting < FROM => return,
            None => self.paces.entry(id).or_insert_with(|| Pace::new(now)),
        };
        pace.count(now, messages, bytes);
        let pause_ms = pace.pause_for(waiting);
        let before = std::mem::replace(&mut pace.pause_ms, pause_ms);
        if pause_ms == 0 && waiting < FROM / 2 {
            self.paces.remove(&id);
        }
        if pause_ms != before {
            outputs.push(Output::Pace { queue: id, pause_ms });
        }
    }

    /// Queues that nobody takes from any more have nobody wait for them.
    pub(super) fn look_at_paces(&mut self, now: UnixMillis, outputs: &mut Vec<Output>) {
        let ids: Vec<QueueId> = self.paces.keys().copied().collect();
        ids.into_iter().for_each(|id| self.set_pace(now, id, 0, 0, outputs));
    }

    /// The queue is gone.
    pub(super) fn forget_pace(&mut self, id: QueueId, outputs: &mut Vec<Output>) {
        if self.paces.remove(&id).is_some_and(|pace| pace.pause_ms > 0) {
            outputs.push(Output::Pace { queue: id, pause_ms: 0 });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn publishers_wait_longer_the_more_is_in_a_queue_whose_consumers_are_fast() {
        let mut pace = Pace::new(UnixMillis(1_000));
        pace.count(UnixMillis(1_050), FAST_MESSAGES, 0);
        assert_eq!(pace.pause_for(FROM), 0, "not judged yet");
        pace.count(UnixMillis(1_100), 0, 0);
        let waits: Vec<u32> = (0..12).map(|steps| pace.pause_for(FROM + steps * STEP)).collect();
        assert_eq!(waits, [1, 2, 4, 8, 16, 32, 64, 64, 64, 64, 64, 64]);
        assert_eq!(pace.pause_for(FROM - 1), 0);
    }

    #[test]
    fn a_queue_of_slow_consumers_may_grow() {
        let mut pace = Pace::new(UnixMillis(1_000));
        pace.count(UnixMillis(1_100), FAST_MESSAGES, FAST_BYTES);
        assert!(pace.pause_for(FROM) > 0);
        pace.count(UnixMillis(1_200), FAST_MESSAGES - 1, FAST_BYTES - 1);
        assert_eq!(pace.pause_for(u64::MAX), 0);
        pace.count(UnixMillis(1_400), FAST_MESSAGES, 0);
        assert_eq!(pace.pause_for(u64::MAX), 0, "the same in twice the time");
        pace.count(UnixMillis(1_500), 1, FAST_BYTES);
        assert!(pace.pause_for(u64::MAX) > 0, "few, and large");
    }
}
