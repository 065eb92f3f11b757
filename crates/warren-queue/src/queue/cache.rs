//! What of a queue is in memory: bounded for the whole host, the rest is read back.

use warren_proto::shard::StoredMessage;
use warren_types::{Position, UnixMillis};

use super::deliver::Head;
use super::{Queue, Ready, before, size_of};
use crate::DeathReason;

/// A queue reads ahead while less than this is loaded.
const LOW_MESSAGES: usize = 1024;
const LOW_BYTES: u64 = 1 << 20;
/// The largest read, and the smallest that a queue with a waiting consumer gets when the cache is full.
const LOAD_MESSAGES: u32 = 2048;
/// What is read of a queue that nobody consumes, to see what its head is.
const LOAD_MESSAGES_IDLE: u32 = 32;
const LOAD_BYTES: u64 = 4 << 20;
const LOAD_BYTES_MIN: u64 = 64 << 10;

/// Bytes of loaded messages over all queues of a host.
#[derive(Debug)]
pub(crate) struct Cache {
    pub(crate) used: u64,
    pub(crate) limit: u64,
}

impl Cache {
    pub(crate) fn new(limit: u64) -> Self {
        Self { used: 0, limit }
    }

    pub(crate) fn has_room(&self, bytes: u64) -> bool {
        self.used.saturating_add(bytes) <= self.limit
    }

    pub(crate) fn add(&mut self, bytes: u64) {
        self.used = self.used.saturating_add(bytes);
    }

    pub(crate) fn remove(&mut self, bytes: u64) {
        debug_assert!(self.used >= bytes, "more leaves the cache than came in");
        self.used = self.used.saturating_sub(bytes);
    }
}

/// A read that is under way.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LoadRequest {
    pub(crate) after: Position,
    pub(crate) max_messages: u32,
    pub(crate) max_bytes: u64,
    /// The tail when it was asked for: a read that reached the end saw everything up to here.
    tail: Position,
}

impl Queue {
    /// Bytes of it that are in memory.
    pub(crate) fn loaded_bytes(&self) -> u64 {
        let loaded = self.window.iter().chain(self.back.values());
        loaded.map(|ready| size_of(&ready.message)).sum()
    }

    /// The read that it needs now, if any: the first one ready is not in memory, or the window runs low.
    pub(crate) fn load_wanted(&mut self, now: UnixMillis, cache: &Cache) -> Option<LoadRequest> {
        if self.loading.is_some() {
            return None;
        }
        if let Some(dead) = self.dying.read_wanted() {
            let request = LoadRequest {
                after: before(dead.first),
                max_messages: u32::try_from(dead.count()).unwrap_or(LOAD_MESSAGES).min(LOAD_MESSAGES),
                max_bytes: LOAD_BYTES,
                tail: self.tail(),
            };
            self.loading = Some(request);
            return Some(request);
        }
        let demand = self.has_demand();
        if !demand && !self.wants_head(now) {
            return None;
        }
        let first_loaded = self.first_loaded();
        let after = match self.returned.first() {
            // What came back is read when it is next; reading on from there may reach the window's end too.
            Some(returned) if first_loaded.is_none_or(|first| returned < first) => before(returned),
            Some(_) | None => {
                let low = self.window.len() < LOW_MESSAGES && self.window_is_low_in_bytes();
                if !low || self.loaded_to >= self.tail() {
                    return None;
                }
                self.loaded_to
            }
        };
        let room = cache.limit.saturating_sub(cache.used).clamp(LOAD_BYTES_MIN, LOAD_BYTES);
        let max_messages = if demand { LOAD_MESSAGES } else { LOAD_MESSAGES_IDLE };
        let request = LoadRequest { after, max_messages, max_bytes: room, tail: self.tail() };
        self.loading = Some(request);
        Some(request)
    }

    /// Takes what was read. Whatever was settled, purged or delivered meanwhile is passed over.
    pub(crate) fn loaded(
        &mut self,
        messages: Vec<StoredMessage>,
        end: bool,
        now: UnixMillis,
        cache: &mut Cache,
    ) {
        let Some(request) = self.loading.take() else { return };
        let mut seen = request.after;
        for stored in messages {
            let position = stored.position;
            if position <= seen {
                debug_assert!(false, "a read does not ascend");
                continue;
            }
            self.drop_lost(seen, before(position));
            seen = position;
            if self.dying.read(position, &stored.message) {
                continue;
            }
            if position > self.loaded_to {
                // Positions above the applied tail are not ours yet: their record has still to come.
                if position <= self.tail() && request.after <= self.loaded_to {
                    self.load_into_window(stored, now, cache);
                }
            } else if self.returned.remove(position) {
                self.load_into_back(stored, now, cache);
            }
        }
        let covered = if end { seen.max(request.tail) } else { seen };
        self.drop_lost(seen, covered);
        if request.after <= self.loaded_to {
            self.loaded_to = self.loaded_to.max(covered.min(self.tail()));
        }
    }

    /// Takes everything loaded out of memory, but counts it on.
    pub(crate) fn unload(&mut self, cache: &mut Cache) {
        self.head_sleeps_until = match self.head() {
            Head::InWindow | Head::AwaitsMark => self.window.front().map(|ready| ready.expires),
            Head::InBack => self.back.first_key_value().map(|(_, ready)| ready.expires),
            Head::NotLoaded | Head::Empty => self.head_sleeps_until,
        };
        if let Some(first) = self.window.front() {
            self.loaded_to = before(first.position);
        }
        for ready in self.window.drain(..) {
            cache.remove(size_of(&ready.message));
        }
        for (position, ready) in std::mem::take(&mut self.back) {
            cache.remove(size_of(&ready.message));
            self.returned.insert(position);
            if !ready.redelivered {
                self.unseen.insert(position);
            }
        }
    }

    /// The lowest position that is in memory.
    pub(crate) fn first_loaded(&self) -> Option<Position> {
        let back = self.back.first_key_value().map(|(position, _)| *position);
        let window = self.window.front().map(|ready| ready.position);
        match (back, window) {
            (Some(back), Some(window)) => Some(back.min(window)),
            (first, None) | (None, first) => first,
        }
    }

    fn window_is_low_in_bytes(&self) -> bool {
        let mut bytes = 0;
        self.window.iter().all(|ready| {
            bytes += size_of(&ready.message);
            bytes < LOW_BYTES
        })
    }

    fn load_into_window(&mut self, stored: StoredMessage, now: UnixMillis, cache: &mut Cache) {
        let expires = self.expires(since(&stored, now), &stored.message);
        cache.add(size_of(&stored.message));
        self.loaded_to = stored.position;
        self.window.push_back(Ready {
            position: stored.position,
            redelivered: false,
            delivery_count: stored.delivery_count,
            expires,
            message: stored.message,
        });
    }

    fn load_into_back(&mut self, stored: StoredMessage, now: UnixMillis, cache: &mut Cache) {
        let expires = self.expires(since(&stored, now), &stored.message);
        cache.add(size_of(&stored.message));
        let position = stored.position;
        let unseen = self.unseen.remove(position);
        // Our count may be ahead of the store's: a return can be on its way to the log.
        let counted = self.counts.get(&position).copied().unwrap_or_default();
        let delivery_count = counted.max(stored.delivery_count);
        if delivery_count > 0 {
            self.counts.insert(position, delivery_count);
        }
        let ready =
            Ready { position, redelivered: !unseen, delivery_count, expires, message: stored.message };
        if self.settings.delivery_limit.is_some_and(|limit| u64::from(delivery_count) > limit) {
            // An earlier leader counted them and could not carry it out.
            self.depart(ready, DeathReason::DeliveryLimit, cache);
            return;
        }
        self.back.insert(position, ready);
    }

    /// What came back within these places but was not found in the store is not there any more. It cannot happen
    /// unless the leader and its store disagree; then waiting for it would stop the queue.
    fn drop_lost(&mut self, after: Position, up_to: Position) {
        if up_to <= after {
            return;
        }
        let range = warren_types::PositionRange { first: after.next(), last: up_to };
        self.dying.lose(range);
        if self.returned.is_empty() {
            return;
        }
        for lost in self.returned.take_range(range) {
            debug_assert!(false, "returned but not in the store: {lost:?}");
            self.unseen.take_range(lost);
            self.live = self.live.saturating_sub(lost.count());
        }
    }
}

/// Since when the message counts as being here.
fn since(stored: &StoredMessage, now: UnixMillis) -> UnixMillis {
    if stored.time == UnixMillis(0) { now } else { stored.time }
}
