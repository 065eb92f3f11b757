//! What the clients of a node have done, for listings and metrics.

use crate::generated::operate as wire;

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
    pub(super) fn to_wire(self) -> wire::Flow {
        wire::Flow {
            total: Some(self.total.to_wire()),
            recent: Some(self.recent.to_wire()),
            recent_ms: self.recent_ms,
        }
    }

    pub(super) fn from_wire(flow: &wire::Flow) -> Self {
        Self {
            total: Traffic::from_wire(flow.total),
            recent: Traffic::from_wire(flow.recent),
            recent_ms: flow.recent_ms,
        }
    }
}

/// How often clients have done each thing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Traffic {
    /// Messages that clients have published.
    pub publish: u64,
    /// Of these, those that were confirmed to a client that asked for it.
    pub confirm: u64,
    /// Those that came back, since no queue took them.
    pub return_unroutable: u64,
    /// Those that no queue took and that did not come back.
    pub drop_unroutable: u64,
    /// Connections that came.
    pub connection_created: u64,
    /// Connections that went.
    pub connection_closed: u64,
    /// Channels that were opened.
    pub channel_created: u64,
    /// Channels that were closed.
    pub channel_closed: u64,
    /// Declarations of queues, also of those that were there.
    pub queue_declared: u64,
    /// Queues that were made.
    pub queue_created: u64,
    /// Queues that were deleted.
    pub queue_deleted: u64,
}

impl Traffic {
    fn with(self, other: Self, merge: impl Fn(u64, u64) -> u64) -> Self {
        Self {
            publish: merge(self.publish, other.publish),
            confirm: merge(self.confirm, other.confirm),
            return_unroutable: merge(self.return_unroutable, other.return_unroutable),
            drop_unroutable: merge(self.drop_unroutable, other.drop_unroutable),
            connection_created: merge(self.connection_created, other.connection_created),
            connection_closed: merge(self.connection_closed, other.connection_closed),
            channel_created: merge(self.channel_created, other.channel_created),
            channel_closed: merge(self.channel_closed, other.channel_closed),
            queue_declared: merge(self.queue_declared, other.queue_declared),
            queue_created: merge(self.queue_created, other.queue_created),
            queue_deleted: merge(self.queue_deleted, other.queue_deleted),
        }
    }

    /// What was done since `earlier`.
    #[must_use]
    pub fn since(self, earlier: Self) -> Self {
        self.with(earlier, u64::saturating_sub)
    }

    /// Both together.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        self.with(other, u64::saturating_add)
    }

    fn to_wire(self) -> wire::Traffic {
        let Self {
            publish,
            confirm,
            return_unroutable,
            drop_unroutable,
            connection_created,
            connection_closed,
            channel_created,
            channel_closed,
            queue_declared,
            queue_created,
            queue_deleted,
        } = self;
        wire::Traffic {
            publish,
            confirm,
            return_unroutable,
            drop_unroutable,
            connection_created,
            connection_closed,
            channel_created,
            channel_closed,
            queue_declared,
            queue_created,
            queue_deleted,
        }
    }

    fn from_wire(traffic: Option<wire::Traffic>) -> Self {
        let wire::Traffic {
            publish,
            confirm,
            return_unroutable,
            drop_unroutable,
            connection_created,
            connection_closed,
            channel_created,
            channel_closed,
            queue_declared,
            queue_created,
            queue_deleted,
        } = traffic.unwrap_or_default();
        Self {
            publish,
            confirm,
            return_unroutable,
            drop_unroutable,
            connection_created,
            connection_closed,
            channel_created,
            channel_closed,
            queue_declared,
            queue_created,
            queue_deleted,
        }
    }
}
