//! The catalogue's state. Commands change it in `apply`; everything else here and in `reads` only looks.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use warren_proto::catalogue::{
    ClusterRecord, NodeState, ParameterRecord, ShardRecord, UserLimits, UserRecord,
};
use warren_types::{NodeId, QueueId, ShardId};

use crate::access::Grant;
use crate::placement::Hosting;
use crate::topic_access::TopicGrants;
use crate::topology::Vhost;

/// What exists and where it lives.
///
/// The same commands in the same order give the same state on every node. Readers share it under a lock of their
/// own; every read is a look-up in memory.
#[derive(Clone, Debug, Default)]
pub struct Catalogue {
    /// Raised by one with every command that changed something.
    pub(crate) revision: u64,
    /// The last queue number given out: numbers are never reused.
    pub(crate) last_queue: u64,
    pub(crate) cluster: Option<ClusterRecord>,
    pub(crate) nodes: BTreeMap<NodeId, NodeState>,
    /// Nodes that were removed: their numbers are not taken in again.
    pub(crate) removed: BTreeSet<NodeId>,
    pub(crate) shards: BTreeMap<ShardId, ShardRecord>,
    pub(crate) vhosts: BTreeMap<Arc<str>, Vhost>,
    pub(crate) users: BTreeMap<String, UserRecord>,
    /// By user, then by virtual host.
    pub(crate) grants: BTreeMap<String, BTreeMap<String, Grant>>,
    /// Of those users that have any.
    pub(crate) user_limits: BTreeMap<String, UserLimits>,
    pub(crate) topic_grants: TopicGrants,
    /// By virtual host (`None`: global), component and name.
    pub(crate) parameters: BTreeMap<(Option<String>, String, String), ParameterRecord>,
    /// Every queue by number, host and owner.
    pub(crate) hosting: Hosting,
}

impl Catalogue {
    /// An empty catalogue: no cluster yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    pub(crate) fn next_queue(&mut self) -> QueueId {
        self.last_queue = self.last_queue.saturating_add(1);
        QueueId(self.last_queue)
    }
}
