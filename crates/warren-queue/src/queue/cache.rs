//! What of a queue is in memory: bounded for the whole host, the rest is read back.

use warren_proto::shard::StoredMessage;
use warren_types::{Position, UnixMillis};

use super::{Lane, Queue, Ready, before, body_of, size_of};
use crate::DeathReason;
use crate::lane::LaneId;

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
        self.lanes().map(Lane::loaded_bytes).sum()
    }

    /// The read that it needs now, if any: the first one ready is not in memory, or the window runs low.
    pub(crate) fn load_wanted(&mut self, now: UnixMillis, cache: &Cache) -> Option<LoadRequest> {
        if let Some(dead) = self.dying.read_wanted() {
            let lane = self.lane_at(dead.first);
            if lane.loading.is_some() {
                return None;
            }
            let request = LoadRequest {
                after: before(dead.first),
                max_messages: u32::try_from(dead.count()).unwrap_or(LOAD_MESSAGES).min(LOAD_MESSAGES),
                max_bytes: LOAD_BYTES,
                tail: lane.tail(),
            };
            lane.loading = Some(request);
            return Some(request);
        }
        let demand = self.has_demand();
        let room = cache.limit.saturating_sub(cache.used).clamp(LOAD_BYTES_MIN, LOAD_BYTES);
        let max_messages = if demand { LOAD_MESSAGES } else { LOAD_MESSAGES_IDLE };
        let id = if demand {
            self.next_to_read()?
        } else if self.wants_head(now) {
            self.head_lane().id
        } else {
            return None;
        };
        let lane = self.lane_mut(id);
        let Wanted::After(after) = lane.wanted() else { return None };
        let request = LoadRequest { after, max_messages, max_bytes: room, tail: lane.tail() };
        lane.loading = Some(request);
        Some(request)
    }

    /// The first lane, in their order, that has not enough in memory.
    fn next_to_read(&self) -> Option<LaneId> {
        for lane in self.lanes() {
            match lane.wanted() {
                Wanted::After(_) => return Some(lane.id),
                Wanted::Enough => return None,
                Wanted::AllIsLoaded => {}
            }
        }
        None
    }

    /// Takes what was read. Whatever was settled, purged or delivered meanwhile is passed over.
    pub(crate) fn loaded(
        &mut self,
        lane: LaneId,
        messages: Vec<StoredMessage>,
        end: bool,
        now: UnixMillis,
        cache: &mut Cache,
    ) {
        let Some(request) = self.lane_mut(lane).loading.take() else { return };
        let mut seen = request.after;
        for stored in messages {
            let stored = StoredMessage { position: lane.position(stored.position), ..stored };
            let position = stored.position;
            if position <= seen {
                debug_assert!(false, "a read does not ascend");
                continue;
            }
            self.drop_lost(lane, seen, before(position));
            seen = position;
            if self.dying.read(position, &stored.message) {
                continue;
            }
            if self.expiring.as_ref().is_some_and(|expiring| expiring.has_left(position)) {
                continue;
            }
            let lane = self.lane_mut(lane);
            if position > lane.loaded_to {
                // Positions above the applied tail are not ours yet: their record has still to come.
                if position <= lane.tail() && request.after <= lane.loaded_to {
                    self.load_into_window(stored, now, cache);
                }
            } else if lane.returned.remove(position) {
                self.load_into_back(stored, now, cache);
            }
        }
        let covered = if end { seen.max(request.tail) } else { seen };
        self.drop_lost(lane, seen, covered);
        let lane = self.lane_mut(lane);
        if request.after <= lane.loaded_to {
            lane.loaded_to = lane.loaded_to.max(covered.min(lane.tail()));
        }
    }

    /// Takes everything loaded out of memory, but counts it on.
    pub(crate) fn unload(&mut self, cache: &mut Cache) {
        self.lanes_mut().for_each(|lane| lane.unload(cache));
    }

    fn load_into_window(&mut self, stored: StoredMessage, now: UnixMillis, cache: &mut Cache) {
        let expires = self.expires(since(&stored, now), &stored.message);
        cache.add(size_of(&stored.message));
        let (position, body) = (stored.position, body_of(&stored.message));
        let lane = self.lane_at(position);
        lane.loaded_to = position;
        if lane.window.is_empty() {
            lane.latest_loaded = UnixMillis(0);
        }
        let overtakes = expires < lane.latest_loaded;
        lane.latest_loaded = lane.latest_loaded.max(expires);
        lane.window.push_back(Ready {
            position,
            redelivered: false,
            delivery_count: stored.delivery_count,
            expires,
            message: stored.message,
        });
        if overtakes {
            self.keep_time(expires, position, body);
        }
    }

    fn load_into_back(&mut self, stored: StoredMessage, now: UnixMillis, cache: &mut Cache) {
        let expires = self.expires(since(&stored, now), &stored.message);
        cache.add(size_of(&stored.message));
        let position = stored.position;
        let unseen = self.lane_at(position).unseen.remove(position);
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
        self.keep_time(expires, position, body_of(&ready.message));
        self.lane_at(position).back.insert(position, ready);
    }

    /// What came back within these places but was not found in the store is not there any more. It cannot happen
    /// unless the leader and its store disagree; then waiting for it would stop the queue.
    fn drop_lost(&mut self, lane: LaneId, after: Position, up_to: Position) {
        if up_to <= after {
            return;
        }
        let range = warren_types::PositionRange { first: after.next(), last: up_to };
        self.dying.lose(range);
        let lane = self.lane_mut(lane);
        if lane.returned.is_empty() {
            return;
        }
        for lost in lane.take_returned(range) {
            debug_assert!(false, "returned but not in the store: {lost:?}");
            self.live = self.live.saturating_sub(lost.count());
        }
    }
}

/// What a lane would have read.
enum Wanted {
    /// What comes after this place.
    After(Position),
    /// Nothing for now: enough is in memory, or under way.
    Enough,
    /// Nothing: all of it is in memory.
    AllIsLoaded,
}

impl Lane {
    fn wanted(&self) -> Wanted {
        if self.loading.is_some() {
            return Wanted::Enough;
        }
        let first_loaded = self.first_loaded();
        match self.returned.first() {
            // What came back is read when it is next; reading on from there may reach the window's end too.
            Some(returned) if first_loaded.is_none_or(|first| returned < first) => {
                Wanted::After(before(returned))
            }
            Some(_) | None if self.loaded_to >= self.tail() => Wanted::AllIsLoaded,
            Some(_) | None if self.window.len() < LOW_MESSAGES && self.window_is_low_in_bytes() => {
                Wanted::After(self.loaded_to)
            }
            Some(_) | None => Wanted::Enough,
        }
    }

    fn window_is_low_in_bytes(&self) -> bool {
        let mut bytes = 0;
        self.window.iter().all(|ready| {
            bytes += size_of(&ready.message);
            bytes < LOW_BYTES
        })
    }
}

/// Since when the message counts as being here.
fn since(stored: &StoredMessage, now: UnixMillis) -> UnixMillis {
    if stored.time == UnixMillis(0) { now } else { stored.time }
}
