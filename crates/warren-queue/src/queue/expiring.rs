//! Messages whose time comes before that of one ahead of them: these times are kept in order, so that each message goes when
//! its time has come, and not only once it is first (RabbitMQ's queues look at their heads alone). Where all have the same time to
//! live nothing is kept: they go in the order in which they came.
//!
//! Known are the times of what was committed under this leader, and of what it has read. What an earlier leader left is looked
//! at when it is read, as is that for which there is no room here.

use std::collections::BTreeMap;

use warren_types::{Position, PositionRange, UnixMillis};

use super::policy::NEVER;
use super::{Cache, Lane, Queue, Ready, before};
use crate::DeathReason;
use crate::lane::LaneId;
use crate::positions::PositionSet;

/// Most times of one queue in memory, some 40 bytes each.
const TIMES_MAX: usize = 1 << 16;
/// So many messages in memory are gone through in a millisecond at most, on average.
const SOUGHT_PER_MS: u64 = 1024;
/// Up to so many are taken out of a window one by one: each time what is on one side of it moves.
const FEW: u64 = 4;

/// What expires out of order.
#[derive(Debug, Default)]
pub(crate) struct Expiring {
    /// With the sizes of the bodies.
    times: BTreeMap<(UnixMillis, Position), u32>,
    /// Left from behind others, and the store still has it, or a read may: not to be taken from there again.
    left: PositionSet,
    /// Not to be looked at earlier: the last look took some time.
    rests_until: UnixMillis,
}

impl Expiring {
    fn add(&mut self, expires: UnixMillis, position: Position, body: u64) {
        if self.times.len() < TIMES_MAX {
            self.times.insert((expires, position), u32::try_from(body).unwrap_or(u32::MAX));
        }
    }

    /// Somebody has it, or it is gone.
    pub(super) fn remove(&mut self, expires: UnixMillis, position: Position) {
        self.times.remove(&(expires, position));
    }

    /// When one is to go.
    pub(super) fn next(&self) -> Option<UnixMillis> {
        self.times.first_key_value().map(|((expires, _), _)| (*expires).max(self.rests_until))
    }

    pub(super) fn has_left(&self, position: Position) -> bool {
        self.left.contains(position)
    }
}

impl Queue {
    /// Keeps the time, if it has one, of a message that may expire before one that is ahead of it.
    pub(super) fn keep_time(&mut self, expires: UnixMillis, position: Position, body: u64) {
        if expires != NEVER {
            self.expiring.get_or_insert_default().add(expires, position, body);
        }
    }

    /// Somebody has it, or it is gone.
    pub(super) fn forget_time(&mut self, ready: &Ready) {
        if let Some(expiring) = &mut self.expiring {
            expiring.remove(ready.expires, ready.position);
        }
    }

    /// Removes what has expired behind others, as many as may die for now.
    pub(super) fn expire_behind(&mut self, now: UnixMillis, cache: &mut Cache) {
        let Some(mut expiring) = self.expiring.take() else { return };
        if expiring.next().is_some_and(|next| next <= now) && self.may_die() {
            let most = if self.dead_letters() { self.room_to_die() } else { TIMES_MAX };
            let times = expiring.times.range(..=(now, Position(u64::MAX)));
            // What has just come has its chance with a waiting consumer first.
            let examined = times.filter(|((_, position), _)| self.is_examined(*position));
            let due: Vec<(UnixMillis, Position, u32)> =
                examined.take(most).map(|((expires, position), body)| (*expires, *position, *body)).collect();
            let sought = self.expire_now(&due, &mut expiring, cache);
            expiring.rests_until = UnixMillis(now.0 + sought / SOUGHT_PER_MS);
        }
        self.expiring = Some(expiring);
    }

    /// Returns how many messages were gone through.
    fn expire_now(
        &mut self,
        due: &[(UnixMillis, Position, u32)],
        expiring: &mut Expiring,
        cache: &mut Cache,
    ) -> u64 {
        let mut inside: BTreeMap<LaneId, PositionSet> = BTreeMap::new();
        for (expires, position, body) in due {
            expiring.remove(*expires, *position);
            if !self.expire_unread(*position, *body, &mut expiring.left) {
                inside.entry(LaneId::at(*position)).or_default().insert(*position);
            }
        }
        let mut sought = 0;
        for (id, positions) in inside {
            let lane = self.lane_mut(id);
            sought += (lane.window.len() + lane.back.len()) as u64;
            for ready in lane.take_out(&positions) {
                expiring.left.insert(ready.position);
                self.depart(ready, DeathReason::Expired, cache);
            }
        }
        sought
    }

    /// It leaves from where it stands in the store, if it is ready and not in memory.
    fn expire_unread(&mut self, position: Position, body: u32, left: &mut PositionSet) -> bool {
        let lane = self.lane_at(position);
        if position > lane.loaded_to {
            if !left.insert(position) {
                return true;
            }
        } else if lane.returned.remove(position) {
            lane.unseen.remove(position);
        } else {
            return false;
        }
        self.live = self.live.saturating_sub(1);
        self.ready_bytes = self.ready_bytes.saturating_sub(u64::from(body));
        self.depart_unread(position, DeathReason::Expired);
        true
    }

    fn is_examined(&self, position: Position) -> bool {
        self.lane(LaneId::at(position)).is_some_and(|lane| position <= lane.examined_to)
    }

    /// The store has these no more. A read that is under way may have found them there before.
    pub(crate) fn gone_from_store(&mut self, id: LaneId, ranges: &[PositionRange]) {
        let is_read = self.lane(id).is_some_and(|lane| lane.loading.is_some());
        let Some(expiring) = self.expiring.as_deref_mut().filter(|_| !is_read) else { return };
        for range in ranges {
            expiring.left.take_range(id.range(*range));
        }
    }

    /// Called every few seconds: what is read never begins below a window, so what left from below it is forgotten.
    pub(super) fn relax_expiring(&mut self) {
        let Some(mut expiring) = self.expiring.take() else { return };
        for lane in self.lanes_mut() {
            let last = lane.window.front().map_or(lane.loaded_to, |first| before(first.position));
            expiring.left.take_range(PositionRange { first: lane.id.start(), last });
        }
        if !expiring.times.is_empty() || !expiring.left.is_empty() {
            self.expiring = Some(expiring);
        }
    }
}

impl Lane {
    /// Takes what is ready and in memory of these, from wherever it stands.
    fn take_out(&mut self, positions: &PositionSet) -> Vec<Ready> {
        let one_by_one = || positions.ranges().flat_map(|range| range.iter());
        let mut taken: Vec<Ready> = one_by_one().filter_map(|position| self.back.remove(&position)).collect();
        if positions.count() <= FEW {
            for position in one_by_one() {
                let place = self.window.binary_search_by_key(&position, |ready| ready.position);
                taken.extend(place.ok().and_then(|place| self.window.remove(place)));
            }
        } else {
            let all = std::mem::take(&mut self.window).into_iter();
            let (gone, kept): (Vec<Ready>, Vec<Ready>) =
                all.partition(|ready| positions.contains(ready.position));
            self.window = kept.into();
            taken.extend(gone);
        }
        taken
    }
}
