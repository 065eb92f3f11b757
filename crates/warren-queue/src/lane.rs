//! Lanes: the parts of one queue that are stored as queues of their own.
//!
//! The log and the store know a queue only by its number and give positions in the order of arrival. What a leader
//! wants in another order (priorities), or beside the queue (messages whose time has not come, keys of messages that
//! were there), it records under the queue's number with a lane in the top bits. So replicas stay as simple as they
//! are, and a new leader finds each lane's messages without reading a body.
//!
//! Within the leader, and towards homes, a position carries its lane in the same bits: it is unique in its queue. A
//! queue without priorities has one lane, 0, whose numbers are those of the queue itself.

use warren_types::{Position, PositionRange, QueueId};

/// Bits of a queue's number, and of a position within a lane.
const BITS: u32 = 48;
const MASK: u64 = (1 << BITS) - 1;

/// Lanes up to here are served after the plain lane, those below it before.
const BELOW: u16 = 0x100;

/// The bit of lanes that are buckets of time.
const BUCKET: u16 = 0x8000;

/// A part of a queue.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct LaneId(u16);

impl LaneId {
    /// The queue itself: the only lane of most.
    pub(crate) const PLAIN: Self = Self(0);
    /// Keys of messages that were here (`queue::window`).
    pub(crate) const KEYS: Self = Self(2 * BELOW);
    /// Bits of a bucket's number.
    pub(crate) const BUCKETS_MASK: u64 = 0x7fff;
    /// The first lane that is served after the plain one.
    pub(crate) const FIRST_BELOW: Self = Self(BELOW);

    /// So many levels before the plain lane.
    pub(crate) fn above(level: u8) -> Self {
        Self(level.into())
    }

    /// Behind the plain lane; a higher level comes first.
    pub(crate) fn below(level: u8) -> Self {
        Self(BELOW | u16::from(level))
    }

    /// The lane of messages that are due in that bucket of time; its number is taken modulo [`Self::BUCKETS_MASK`] + 1.
    pub(crate) fn bucket(number: u64) -> Self {
        Self(BUCKET | u16::try_from(number & Self::BUCKETS_MASK).unwrap_or_default())
    }

    /// The number that [`Self::bucket`] was given, modulo.
    pub(crate) fn bucket_number(self) -> u64 {
        u64::from(self.0) & Self::BUCKETS_MASK
    }

    /// It holds messages whose time has not come.
    pub(crate) fn is_bucket(self) -> bool {
        self.0 & BUCKET != 0
    }

    /// It holds messages that are ready or delivered.
    pub(crate) fn is_ready(self) -> bool {
        self < Self::KEYS
    }

    /// The queue and lane that a number in the log stands for.
    pub(crate) fn split(stored: QueueId) -> (QueueId, Self) {
        // The shift leaves 16 bits.
        (QueueId(stored.0 & MASK), Self(u16::try_from(stored.0 >> BITS).unwrap_or_default()))
    }

    /// The number in the log for this lane of the queue.
    pub(crate) fn of(self, queue: QueueId) -> QueueId {
        QueueId(queue.0 & MASK | self.base())
    }

    /// The lane that a position is in.
    pub(crate) fn at(position: Position) -> Self {
        Self(u16::try_from(position.0 >> BITS).unwrap_or_default())
    }

    /// A position of the log, as a position of the queue.
    pub(crate) fn position(self, stored: Position) -> Position {
        Position(stored.0.min(MASK) | self.base())
    }

    /// A range of the log, as a range of the queue.
    pub(crate) fn range(self, stored: PositionRange) -> PositionRange {
        PositionRange { first: self.position(stored.first), last: self.position(stored.last) }
    }

    /// All positions of the lane.
    pub(crate) fn all(self) -> PositionRange {
        self.range(PositionRange { first: Position(1), last: Position(MASK) })
    }

    /// The place before the lane's first position.
    pub(crate) fn start(self) -> Position {
        Position(self.base())
    }

    fn base(self) -> u64 {
        u64::from(self.0) << BITS
    }
}

/// A position of a queue, as the log has it in its lane.
pub(crate) fn stored(position: Position) -> Position {
    Position(position.0 & MASK)
}

/// The offset, from 0, of a message of a stream by the position that its reader got.
#[must_use]
pub fn stream_offset(position: Position) -> u64 {
    stored(position).0.saturating_sub(1)
}

/// A range of positions in one lane, as the log has it.
pub(crate) fn stored_range(range: PositionRange) -> PositionRange {
    PositionRange { first: stored(range.first), last: stored(range.last) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_plain_lane_changes_no_number() {
        assert_eq!(LaneId::PLAIN.of(QueueId(7)), QueueId(7));
        assert_eq!(LaneId::PLAIN.position(Position(9)), Position(9));
        assert_eq!(LaneId::split(QueueId(7)), (QueueId(7), LaneId::PLAIN));
    }

    #[test]
    fn numbers_find_their_way_back() {
        for lane in
            [LaneId::PLAIN, LaneId::above(255), LaneId::below(0), LaneId::below(255), LaneId::bucket(77)]
        {
            let (queue, position) = (QueueId(123_456), Position(654_321));
            assert_eq!(LaneId::split(lane.of(queue)), (queue, lane));
            assert_eq!(LaneId::at(lane.position(position)), lane);
            assert_eq!(stored(lane.position(position)), position);
            assert!(
                lane.all().first <= lane.position(position) && lane.position(position) <= lane.all().last
            );
        }
    }
}
