//! How often clients of this node have done what RabbitMQ counts. Counters go up only; rates come of looking twice.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use warren_proto::operate::{Flow, Traffic};

/// How far `recent` looks back at least, once there was somebody who looked.
const SPAN: Duration = Duration::from_secs(5);

/// The counters.
#[derive(Debug)]
pub(crate) struct Counters {
    publish: AtomicU64,
    confirm: AtomicU64,
    return_unroutable: AtomicU64,
    drop_unroutable: AtomicU64,
    connection_created: AtomicU64,
    connection_closed: AtomicU64,
    channel_created: AtomicU64,
    channel_closed: AtomicU64,
    queue_declared: AtomicU64,
    queue_created: AtomicU64,
    queue_deleted: AtomicU64,
    /// What they were at two earlier looks.
    marks: Mutex<[(Traffic, Instant); 2]>,
}

impl Default for Counters {
    fn default() -> Self {
        let start = (Traffic::default(), Instant::now());
        Self {
            publish: AtomicU64::default(),
            confirm: AtomicU64::default(),
            return_unroutable: AtomicU64::default(),
            drop_unroutable: AtomicU64::default(),
            connection_created: AtomicU64::default(),
            connection_closed: AtomicU64::default(),
            channel_created: AtomicU64::default(),
            channel_closed: AtomicU64::default(),
            queue_declared: AtomicU64::default(),
            queue_created: AtomicU64::default(),
            queue_deleted: AtomicU64::default(),
            marks: Mutex::new([start, start]),
        }
    }
}

impl Counters {
    /// Adds what has just been done; what is 0 costs nothing.
    pub(crate) fn add(&self, done: Traffic) {
        for (counter, count) in [
            (&self.publish, done.publish),
            (&self.confirm, done.confirm),
            (&self.return_unroutable, done.return_unroutable),
            (&self.drop_unroutable, done.drop_unroutable),
            (&self.connection_created, done.connection_created),
            (&self.connection_closed, done.connection_closed),
            (&self.channel_created, done.channel_created),
            (&self.channel_closed, done.channel_closed),
            (&self.queue_declared, done.queue_declared),
            (&self.queue_created, done.queue_created),
            (&self.queue_deleted, done.queue_deleted),
        ] {
            if count > 0 {
                counter.fetch_add(count, Ordering::Relaxed);
            }
        }
    }

    fn total(&self) -> Traffic {
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Traffic {
            publish: count(&self.publish),
            confirm: count(&self.confirm),
            return_unroutable: count(&self.return_unroutable),
            drop_unroutable: count(&self.drop_unroutable),
            connection_created: count(&self.connection_created),
            connection_closed: count(&self.connection_closed),
            channel_created: count(&self.channel_created),
            channel_closed: count(&self.channel_closed),
            queue_declared: count(&self.queue_declared),
            queue_created: count(&self.queue_created),
            queue_deleted: count(&self.queue_deleted),
        }
    }

    /// All of it, and what was done since somebody looked a while ago.
    pub(crate) fn look(&self) -> Flow {
        let (total, now) = (self.total(), Instant::now());
        let mut marks = self.marks.lock();
        let [_, newer] = *marks;
        if now.saturating_duration_since(newer.1) >= SPAN {
            *marks = [newer, (total, now)];
        }
        let [(before, since), _] = *marks;
        let passed = now.saturating_duration_since(since).max(SPAN);
        Flow {
            total,
            recent: total.since(before),
            recent_ms: u64::try_from(passed.as_millis()).unwrap_or(u64::MAX),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_done_is_added_up() {
        let counters = Counters::default();
        counters.add(Traffic { publish: 3, confirm: 2, ..Traffic::default() });
        counters.add(Traffic { publish: 4, channel_closed: 1, ..Traffic::default() });
        let flow = counters.look();
        let total = Traffic { publish: 7, confirm: 2, channel_closed: 1, ..Traffic::default() };
        assert_eq!((flow.total, flow.recent, flow.recent_ms), (total, total, 5_000));
    }
}
