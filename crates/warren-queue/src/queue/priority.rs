//! Which lane a message goes to by its priority. Before: `shard`, as it admits a publish.

use warren_types::Message;

use super::{Queue, stamp};
use crate::lane::LaneId;

/// The highest of a quorum queue's levels.
const LEVEL_MAX: u8 = 31;
/// The level of a message without a priority there.
const LEVEL_DEFAULT: u8 = 4;

impl Queue {
    /// The lane for a message. A queue without priorities looks at nothing.
    pub(crate) fn lane_for(&self, message: &Message) -> LaneId {
        if let Some(max) = self.settings.max_priority {
            return LaneId::above(stamp::priority(&message.properties).unwrap_or_default().min(max));
        }
        if !self.settings.strict_levels {
            return LaneId::PLAIN;
        }
        // The plain lane is the level that most messages have.
        match stamp::priority(&message.properties).unwrap_or(LEVEL_DEFAULT).min(LEVEL_MAX) {
            level @ ..LEVEL_DEFAULT => LaneId::below(level),
            level => LaneId::above(level - LEVEL_DEFAULT),
        }
    }
}
