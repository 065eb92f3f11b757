//! One lane of a queue: messages in the order in which they came, ready or back, in memory or not.

use std::collections::{BTreeMap, VecDeque};

use warren_types::{Position, PositionRange, UnixMillis};

use super::deliver::Head;
use super::policy::NEVER;
use super::{Cache, LoadRequest, Queue, Ready, before, size_of};
use crate::lane::LaneId;
use crate::positions::PositionSet;

/// The first reach of a mark whose consumers had to wait.
const AHEAD_FIRST: u64 = 512;
/// The furthest: after a failover at most so many messages are said to be redelivered that were not.
const AHEAD_MAX: u64 = 4096;

/// A lane. All its positions are those of its queue: they carry the lane's number.
#[derive(Debug)]
pub(crate) struct Lane {
    pub(crate) id: LaneId,
    /// The place that the next applied message gets.
    pub(crate) next: Position,
    /// The same once everything proposed is applied.
    pub(crate) predicted: Position,
    /// Positions up to here may be delivered: the mark is committed.
    pub(crate) mark: Position,
    /// The mark once everything proposed is applied.
    pub(crate) mark_proposed: Position,
    /// How far beyond the consumers' credit the mark is raised: doubled each time a delivery has to wait for it.
    ahead: u64,
    /// The mark at which a delivery last had to wait.
    starved_at: Position,
    /// Everything ever delivered is at or below it.
    pub(crate) delivered_to: Position,
    /// Everything live at or below it is accounted for by position.
    pub(crate) loaded_to: Position,
    pub(crate) window: VecDeque<Ready>,
    pub(crate) back: BTreeMap<Position, Ready>,
    pub(crate) returned: PositionSet,
    /// Of `returned`: those that no client has seen.
    pub(crate) unseen: PositionSet,
    pub(crate) loading: Option<LoadRequest>,
    /// Messages up to here have been offered to consumers once.
    pub(crate) examined_to: Position,
    /// The head was unloaded; it does not expire before that.
    pub(crate) head_sleeps_until: Option<UnixMillis>,
    /// No message that is here expires later.
    pub(crate) latest_expiry: UnixMillis,
    /// None that is in the window does.
    pub(crate) latest_loaded: UnixMillis,
}

impl Lane {
    /// A lane whose next message gets `next`. Up to `delivered_to` everything live is accounted for.
    pub(crate) fn new(id: LaneId, next: Position, mark: Position, delivered_to: Position) -> Self {
        Self {
            id,
            next,
            predicted: next,
            mark,
            mark_proposed: mark,
            ahead: 0,
            starved_at: id.start(),
            delivered_to,
            loaded_to: delivered_to,
            window: VecDeque::new(),
            back: BTreeMap::new(),
            returned: PositionSet::new(),
            unseen: PositionSet::new(),
            loading: None,
            examined_to: before(next),
            head_sleeps_until: None,
            latest_expiry: NEVER,
            latest_loaded: NEVER,
        }
    }

    /// A lane that has held nothing.
    pub(crate) fn empty(id: LaneId, marks: bool) -> Self {
        let mark = if marks { id.start() } else { Position(u64::MAX) };
        let nothing = UnixMillis(0);
        Self {
            latest_expiry: nothing,
            latest_loaded: nothing,
            ..Self::new(id, id.start().next(), mark, id.start())
        }
    }

    /// The highest applied position.
    pub(crate) fn tail(&self) -> Position {
        before(self.next)
    }

    /// The first ready message.
    pub(super) fn head(&self) -> Head {
        let returned = self.returned.first();
        let back = self.back.first_key_value().map(|(position, _)| *position);
        let window = self.window.front().map(|ready| ready.position);
        // Everything that came back is lower than the window: it was delivered before.
        match (returned, back, window) {
            (Some(returned), Some(back), _) if back < returned => Head::InBack,
            (Some(_), _, _) => Head::NotLoaded,
            (None, Some(_), _) => Head::InBack,
            (None, None, Some(window)) if window > self.mark => Head::AwaitsMark,
            (None, None, Some(_)) => Head::InWindow,
            (None, None, None) if self.loaded_to < self.tail() => Head::NotLoaded,
            (None, None, None) => Head::Empty,
        }
    }

    /// The first ready message, if it is in memory.
    pub(super) fn peek(&self) -> Option<&Ready> {
        match self.head() {
            Head::InWindow | Head::AwaitsMark => self.window.front(),
            Head::InBack => self.back.first_key_value().map(|(_, ready)| ready),
            Head::NotLoaded | Head::Empty => None,
        }
    }

    /// Whether the first ready message is known to have expired. A message that came since the last look has its
    /// chance with a waiting consumer first, even with a time to live of 0.
    pub(super) fn head_has_expired(&self, now: UnixMillis) -> bool {
        self.peek().is_some_and(|ready| ready.expires <= now && ready.position <= self.examined_to)
    }

    /// Takes the first ready message, if it is in memory.
    pub(super) fn pop(&mut self) -> Option<Ready> {
        match self.head() {
            Head::InWindow | Head::AwaitsMark => self.window.pop_front(),
            Head::InBack => self.back.pop_first().map(|(_, ready)| ready),
            Head::NotLoaded | Head::Empty => None,
        }
    }

    /// How far the mark must be raised for `room` deliveries not to wait, or `None` where it is high enough. `ahead` is
    /// how far it is raised beyond them, where anybody consumes; `rides`: a record goes out anyway.
    pub(super) fn reserve_wanted(&self, room: u64, ahead: Option<u64>, rides: bool) -> Option<Position> {
        let tail = before(self.predicted);
        let served = match self.window.front() {
            Some(first) => self.delivered_to.max(before(first.position)),
            None => self.delivered_to.max(self.loaded_to.min(tail)),
        };
        let chunk = ahead.map_or(0, |ahead| ahead.max(self.ahead));
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
    pub(super) fn starved(&mut self) {
        if self.mark > self.starved_at {
            self.starved_at = self.mark;
            self.ahead = (self.ahead * 2).clamp(AHEAD_FIRST, AHEAD_MAX);
        }
    }

    /// What a burst needed is given up by and by.
    pub(super) fn relax(&mut self) {
        self.ahead /= 2;
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

    /// Bytes of it that are in memory.
    pub(crate) fn loaded_bytes(&self) -> u64 {
        let loaded = self.window.iter().chain(self.back.values());
        loaded.map(|ready| size_of(&ready.message)).sum()
    }

    /// Takes everything loaded out of memory.
    pub(super) fn unload(&mut self, cache: &mut Cache) {
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

    /// Takes the mark as committed.
    fn reserved(&mut self, up_to: Position) {
        self.mark = self.mark.max(up_to);
        self.mark_proposed = self.mark_proposed.max(up_to);
    }

    /// What came back within the range, taken out.
    pub(super) fn take_returned(&mut self, range: PositionRange) -> Vec<PositionRange> {
        let found = self.returned.take_range(range);
        for found in &found {
            self.unseen.take_range(*found);
        }
        found
    }
}

impl Queue {
    /// The lane, made if it is new.
    pub(crate) fn lane_mut(&mut self, id: LaneId) -> &mut Lane {
        if id == LaneId::PLAIN {
            return &mut self.plain;
        }
        self.others.entry(id).or_insert_with(|| Lane::empty(id, self.marks))
    }

    /// The lane, if there is such a one.
    pub(crate) fn lane(&self, id: LaneId) -> Option<&Lane> {
        if id == LaneId::PLAIN { Some(&self.plain) } else { self.others.get(&id) }
    }

    /// The lane of a position.
    pub(crate) fn lane_at(&mut self, position: Position) -> &mut Lane {
        self.lane_mut(LaneId::at(position))
    }

    /// All lanes, the one that is served first in front.
    pub(crate) fn lanes(&self) -> impl Iterator<Item = &Lane> {
        let above = self.others.range(..LaneId::FIRST_BELOW).rev().map(|(_, lane)| lane);
        let below = self.others.range(LaneId::FIRST_BELOW..).rev().map(|(_, lane)| lane);
        above.chain(std::iter::once(&self.plain)).chain(below)
    }

    /// All lanes, in no order that means anything.
    pub(crate) fn lanes_mut(&mut self) -> impl Iterator<Item = &mut Lane> {
        std::iter::once(&mut self.plain).chain(self.others.values_mut())
    }

    /// All lanes that the log may have something of, but the plain one.
    pub(crate) fn stored_lanes(&self) -> Vec<LaneId> {
        let buckets = self.delayed.iter().flat_map(|delayed| delayed.lanes());
        let keys = self.window.iter().map(|_| LaneId::KEYS);
        self.others.keys().copied().chain(buckets).chain(keys).collect()
    }

    /// The lane whose message goes next, and where that is. A lane that is empty gives way to the next.
    pub(super) fn head(&self) -> (LaneId, Head) {
        if self.others.is_empty() {
            return (LaneId::PLAIN, self.plain.head());
        }
        let heads = self.lanes().map(|lane| (lane.id, lane.head()));
        let mut filled = heads.filter(|(_, head)| !matches!(head, Head::Empty));
        filled.next().unwrap_or((LaneId::PLAIN, Head::Empty))
    }

    /// The lane whose message goes next.
    pub(super) fn head_lane(&self) -> &Lane {
        let (id, _) = self.head();
        self.lane(id).unwrap_or(&self.plain)
    }

    /// Takes the mark as committed.
    pub(crate) fn reserved(&mut self, lane: LaneId, up_to: Position) {
        self.lane_mut(lane).reserved(up_to);
    }

    /// Everything ready has been offered to consumers once.
    pub(crate) fn examine(&mut self) {
        for lane in self.lanes_mut() {
            lane.examined_to = lane.tail();
        }
    }

    /// Called every few seconds.
    pub(crate) fn relax(&mut self) {
        self.lanes_mut().for_each(Lane::relax);
        self.relax_expiring();
    }
}
