//! Spine 13: a committed message comes into order. Before: `shard`, which has it from the log. After: `deliver`.

use warren_types::{Message, Position, QueueId, UnixMillis};

use super::policy::NEVER;
use super::{Cache, Queue, Ready, before, body_of, size_of};
use crate::lane;

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
        self.meter.total.publish += 1;
        if self.stream.is_some() {
            self.stream_committed(position, message);
            return;
        }
        let size = size_of(&message);
        self.live += 1;
        let (is_alone, body) = (self.live == 1, body_of(&message));
        self.ready_bytes = self.ready_bytes.saturating_add(body);
        let expires = self.expires(now, &message);
        self.may_expire |= expires != NEVER;
        let lane = self.lane_at(position);
        debug_assert!(position >= lane.next, "positions ascend");
        let follows = lane.loaded_to >= lane.tail();
        lane.next = position.next();
        lane.predicted = lane.predicted.max(lane.next);
        if is_alone {
            (lane.latest_expiry, lane.latest_loaded) = (UnixMillis(0), UnixMillis(0));
        }
        let overtakes = expires < lane.latest_expiry;
        lane.latest_expiry = lane.latest_expiry.max(expires);
        if overtakes {
            self.keep_time(expires, position, body);
        }
        if !follows {
            return;
        }
        let lane = self.lane_at(position);
        let is_first = lane.window.is_empty();
        // A waiting consumer takes the first one at once, so that needs no room.
        let stays = cache.has_room(size) || (is_first && self.has_demand());
        let lane = self.lane_at(position);
        if stays {
            cache.add(size);
            lane.loaded_to = position;
            lane.latest_loaded = lane.latest_loaded.max(expires);
            lane.window.push_back(Ready {
                position,
                redelivered: false,
                delivery_count: 0,
                expires,
                message,
            });
        } else {
            lane.loaded_to = lane.loaded_to.max(before(position));
        }
    }

    /// Raises the marks as far as they must be for deliveries not to wait; `reserve` is told each, as the log has it.
    /// `rides` is true where a record goes out anyway: then they are raised also for consumers that have no room at this
    /// moment.
    pub(crate) fn reserve(&mut self, ahead: u64, rides: bool, mut reserve: impl FnMut(QueueId, Position)) {
        if self.stream.is_some() {
            return;
        }
        let room = self.consumers.room(1 << 16).saturating_add(self.gets.len() as u64);
        if room == 0 && (!rides || self.consumers.is_empty()) {
            return;
        }
        let ahead = (!self.consumers.is_empty()).then_some(ahead);
        let id = self.id;
        for lane in self.lanes_mut() {
            if let Some(up_to) = lane.reserve_wanted(room, ahead, rides) {
                lane.mark_proposed = up_to;
                reserve(lane.id.of(id), lane::stored(up_to));
            }
        }
    }
}
