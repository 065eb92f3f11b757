//! What an operator sees of the groups.

use std::collections::BTreeMap;

use openraft::ServerState;
use openraft::async_runtime::WatchReceiver;
use warren_types::{GroupId, LogIndex, NodeId, Term};

use crate::group::Group;
use crate::types::store_index;

/// Who leads which group, as far as this node knows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LeaderMap(BTreeMap<GroupId, (NodeId, Term)>);

impl LeaderMap {
    /// A group's leader.
    #[must_use]
    pub fn get(&self, group: GroupId) -> Option<NodeId> {
        self.0.get(&group).map(|(leader, _)| *leader)
    }

    /// A group's leader and its term.
    #[must_use]
    pub fn get_with_term(&self, group: GroupId) -> Option<(NodeId, Term)> {
        self.0.get(&group).copied()
    }

    /// Every group with a known leader.
    pub fn iter(&self) -> impl Iterator<Item = (GroupId, NodeId, Term)> {
        self.0.iter().map(|(group, (leader, term))| (*group, *leader, *term))
    }

    /// False when nothing changes by it.
    pub(crate) fn set(&mut self, group: GroupId, leader: Option<(NodeId, Term)>) -> bool {
        match leader {
            Some(leader) => self.0.insert(group, leader) != Some(leader),
            None => self.0.remove(&group).is_some(),
        }
    }
}

/// What this node is in a group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GroupRole {
    /// It leads.
    Leader,
    /// It follows and votes.
    Follower,
    /// It asks for votes.
    Candidate,
    /// It follows without a vote.
    Learner,
    /// It is stopping.
    Stopping,
}

/// A follower as its leader sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReplicaLag {
    /// The follower.
    pub node: NodeId,
    /// The last entry that it is known to have.
    pub matched: LogIndex,
    /// How many entries it is behind.
    pub lag: u64,
}

/// One group on this node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupStatus {
    /// The group.
    pub group: GroupId,
    /// What this node is in it.
    pub role: GroupRole,
    /// Its leader, if known.
    pub leader: Option<NodeId>,
    /// The current term.
    pub term: Term,
    /// The last log entry here.
    pub last_log: LogIndex,
    /// The last entry known here to be committed.
    pub committed: LogIndex,
    /// The last entry applied here.
    pub applied: LogIndex,
    /// Its voting members.
    pub members: Vec<NodeId>,
    /// Its members without a vote.
    pub learners: Vec<NodeId>,
    /// Each follower; empty where this node does not lead.
    pub replicas: Vec<ReplicaLag>,
}

pub(crate) fn of(group: &Group) -> GroupStatus {
    let metrics = group.raft.metrics();
    let metrics = metrics.borrow_watched();
    let index = |index: Option<u64>| index.map_or(LogIndex(0), store_index);
    let last_log = index(metrics.last_log_index);
    let me = metrics.id;
    let membership = metrics.membership_config.membership();
    let replicas = metrics.replication.iter().flatten().filter(|(node, _)| **node != me);
    GroupStatus {
        group: group.id,
        role: match metrics.state {
            ServerState::Leader => GroupRole::Leader,
            ServerState::Follower => GroupRole::Follower,
            ServerState::Candidate => GroupRole::Candidate,
            ServerState::Learner => GroupRole::Learner,
            ServerState::Shutdown => GroupRole::Stopping,
        },
        leader: metrics.current_leader.map(NodeId),
        term: Term(metrics.vote.leader_id.term),
        last_log,
        committed: index(metrics.local_committed.map(|log_id| log_id.index)),
        applied: index(metrics.last_applied.map(|log_id| log_id.index)),
        members: membership.voter_ids().map(NodeId).collect(),
        learners: membership.learner_ids().map(NodeId).collect(),
        replicas: replicas
            .map(|(node, matched)| {
                let matched = index(matched.map(|log_id| log_id.index));
                ReplicaLag { node: NodeId(*node), matched, lag: last_log.0.saturating_sub(matched.0) }
            })
            .collect(),
    }
}
