//! The groups that run on this node.

use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::RwLock;
use warren_types::GroupId;

use crate::group::Group;

/// The groups that run on this node.
#[derive(Default)]
pub(crate) struct Groups(RwLock<BTreeMap<GroupId, Arc<Group>>>);

impl Groups {
    pub(crate) fn get(&self, group: GroupId) -> Option<Arc<Group>> {
        self.0.read().get(&group).cloned()
    }

    pub(crate) fn insert(&self, group: Arc<Group>) {
        self.0.write().insert(group.id, group);
    }

    pub(crate) fn remove(&self, group: GroupId) {
        self.0.write().remove(&group);
    }

    /// All of them, in the order of their numbers.
    pub(crate) fn all(&self) -> Vec<Arc<Group>> {
        self.0.read().values().cloned().collect()
    }
}
