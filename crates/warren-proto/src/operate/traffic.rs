//! What the clients of a node have done, for listings and metrics.

use crate::counters::counters;
use crate::generated::operate::{Flow as WireFlow, Traffic as WireTraffic};

/// What a node's clients have done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Flow {
    /// Since it started.
    pub total: Traffic,
    /// In the last `recent_ms`.
    pub recent: Traffic,
    /// How long that is.
    pub recent_ms: u64,
}

impl Flow {
    pub(super) fn to_wire(self) -> WireFlow {
        WireFlow { total: self.total.to_wire(), recent: self.recent.to_wire(), recent_ms: self.recent_ms }
    }

    pub(super) fn from_wire(flow: &WireFlow) -> Self {
        Self {
            total: Traffic::from_wire(flow.total),
            recent: Traffic::from_wire(flow.recent),
            recent_ms: flow.recent_ms,
        }
    }
}

counters! {
    /// How often clients have done each thing.
    Traffic as WireTraffic {
        /// Messages that clients have published.
        publish,
        /// Of these, those that were confirmed to a client that asked for it.
        confirm,
        /// Those that came back, since no queue took them.
        return_unroutable,
        /// Those that no queue took and that did not come back.
        drop_unroutable,
        /// Connections that came.
        connection_created,
        /// Connections that went.
        connection_closed,
        /// Channels that were opened.
        channel_created,
        /// Channels that were closed.
        channel_closed,
        /// Declarations of queues, also of those that were there.
        queue_declared,
        /// Queues that were made.
        queue_created,
        /// Queues that were deleted.
        queue_deleted,
    }
}
