//! Publishes that a queue has had already, and the keys by which it knows them.

use bytes::Bytes;
use warren_proto::shard::{SettleReason, StoredMessage};
use warren_types::{Message, Position, PositionRange, QueueId, UnixMillis};

use super::{HostLeader, touch};
use crate::Output;
use crate::lane::{self, LaneId};
use crate::queue::{Queue, Window, key};

/// What a queue's window says to a publish.
pub(super) enum Seen {
    /// Nothing: the queue has none, or the message has no key.
    NoKey,
    /// It has not had it.
    New(Bytes),
    /// It has had it.
    Before,
    /// Nobody knows before the window is read.
    Unknown,
}

/// Asks the queue's window.
pub(super) fn seen(queue: &Queue, message: &Message, now: UnixMillis) -> Seen {
    let Some(settings) = &queue.settings.deduplication else { return Seen::NoKey };
    let Some(key) = key(message, settings) else { return Seen::NoKey };
    match queue.window.as_deref() {
        Some(window) if window.is_opening() => Seen::Unknown,
        Some(window) if window.contains(&key, settings, now) => Seen::Before,
        Some(_) | None => Seen::New(key),
    }
}

impl HostLeader {
    /// Has the queue's window read on, if it is not all there.
    pub(super) fn tend_window(&mut self, id: QueueId, outputs: &mut Vec<Output>) {
        let window = self.queues.get_mut(&id).and_then(|queue| queue.window.as_deref_mut());
        if let Some((after, max_messages)) = window.and_then(Window::read_wanted) {
            let (queue, after) = (LaneId::KEYS.of(id), lane::stored(after));
            outputs.push(Output::Load { queue, after, max_messages, max_bytes: 4 << 20 });
        }
    }

    /// Takes keys that were read. Once all are, what waited for them goes on in the next step.
    pub(super) fn on_keys_loaded(&mut self, id: QueueId, messages: &[StoredMessage], end: bool) {
        let Some(queue) = self.queues.get_mut(&id) else { return };
        touch(queue, &mut self.touched);
        if queue.window.as_deref_mut().is_some_and(|window| window.loaded(messages, end)) {
            self.windows_read = true;
        }
    }

    /// Takes the key of a publish that was let in.
    pub(super) fn remember(&mut self, now: UnixMillis, id: QueueId, key: Bytes) {
        let Some(queue) = self.queues.get_mut(&id) else { return };
        let Some(settings) = queue.settings.deduplication.clone() else { return };
        let window = queue.window.get_or_insert_default();
        window.add(key, now);
        let gone = window.trim(&settings, now);
        self.settle_keys(id, gone);
    }

    /// The log has a key; one that is out of the window by now goes again.
    pub(super) fn key_recorded(&mut self, id: QueueId, key: &Bytes, position: Position) {
        let Some(queue) = self.queues.get_mut(&id) else { return };
        if let Some(gone) = queue.window.get_or_insert_default().recorded(key, position) {
            self.settle_keys(id, vec![gone]);
        }
    }

    /// A publish that was let in will never be recorded.
    pub(super) fn forget_keys(&mut self, keys: &[(QueueId, Bytes)]) {
        for (stored, key) in keys {
            let queue = self.queues.get_mut(&LaneId::split(*stored).0);
            if let Some(window) = queue.and_then(|queue| queue.window.as_deref_mut()) {
                window.forget(key);
            }
        }
    }

    /// Lets go of keys that are too old.
    pub(super) fn trim_windows(&mut self, now: UnixMillis) {
        let mut gone = Vec::new();
        for (id, queue) in &mut self.queues {
            if let (Some(window), Some(settings)) =
                (queue.window.as_deref_mut(), &queue.settings.deduplication)
                && !window.is_opening()
            {
                gone.push((*id, window.trim(settings, now)));
            }
        }
        for (id, positions) in gone {
            self.settle_keys(id, positions);
        }
    }

    fn settle_keys(&mut self, id: QueueId, mut positions: Vec<Position>) {
        positions.sort_unstable();
        self.gather.settle(id, SettleReason::Expired, PositionRange::collect(positions));
    }
}
