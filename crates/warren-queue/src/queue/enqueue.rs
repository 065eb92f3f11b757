//! Spine 13: a committed message comes into order. Before: `shard`, which has it from the log. After: `deliver`.

use warren_types::{Message, Position, UnixMillis};

use super::policy::NEVER;
use super::{Cache, Queue, Ready, before, body_of, size_of};

/// The first reach of a mark whose consumers had to wait.
const AHEAD_FIRST: u64 = 512;
/// The furthest: after a failover at most so many messages are said to be redelivered that were not.
const AHEAD_MAX: u64 = 4096;

impl Queue {
    /// Takes a message that the log has given this place. It is kept in memory if it follows what is in memory and
    /// there is room; else it is only counted, and read back when its turn comes.
    pub(crate) fn committed(
        &mut self,
        position: Position,
        message: Message,
        now: UnixMillis,
        cache: &mut Cache,
    ) {
        debug_assert!(position >= self.next, "positions ascend");
        let follows = self.loaded_to >= self.tail();
        self.next = position.next();
        self.predicted = self.predicted.max(self.next);
        self.live += 1;
        let size = size_of(&message);
        self.ready_bytes = self.ready_bytes.saturating_add(body_of(&message));
        let expires = self.expires(now, &message);
        self.may_expire |= expires != NEVER;
        if !follows {
            return;
        }
        // A waiting consumer takes the first one at once, so that needs no room.
        if cache.has_room(size) || (self.window.is_empty() && self.has_demand()) {
            cache.add(size);
            self.loaded_to = position;
            self.window.push_back(Ready {
                position,
                redelivered: false,
                delivery_count: 0,
                expires,
                message,
            });
        } else {
            self.loaded_to = self.loaded_to.max(before(position));
        }
    }

    /// How far the mark must be raised for deliveries not to wait, or `None` where it is high enough. `rides` is
    /// true where a record goes out anyway: then it is raised also for consumers that have no room at this moment.
    pub(crate) fn reserve_wanted(&mut self, ahead: u64, rides: bool) -> Option<Position> {
        let room = self.consumers.room(1 << 16).saturating_add(self.gets.len() as u64);
        if room == 0 && (!rides || self.consumers.is_empty()) {
            return None;
        }
        let tail = before(self.predicted);
        let served = match self.window.front() {
            Some(first) => self.delivered_to.max(before(first.position)),
            None => self.delivered_to.max(self.loaded_to.min(tail)),
        };
        let chunk = if self.consumers.is_empty() { 0 } else { ahead.max(self.ahead) };
        // After a wait, and where it costs no record of its own, it is raised while half is left: the next credit comes
        // before the next mark is committed.
        let early = if rides { self.ahead.min(chunk) / 2 } else { 0 };
        let needed = Position(served.0.saturating_add(room.max(1)).saturating_add(early)).min(tail);
        if needed <= self.mark_proposed {
            return None;
        }
        Some(Position(served.0.saturating_add(room).saturating_add(chunk)).min(tail))
    }

    /// A consumer with credit waits for the mark: next time it is to be further ahead. Once for each mark.
    pub(crate) fn starved(&mut self) {
        if self.mark > self.starved_at && !self.consumers.is_empty() {
            self.starved_at = self.mark;
            self.ahead = (self.ahead * 2).clamp(AHEAD_FIRST, AHEAD_MAX);
        }
    }

    /// Called every few seconds: what a burst needed is given up by and by.
    pub(crate) fn relax(&mut self) {
        self.ahead /= 2;
    }
}
