//! Brings a group's Raft members to what is wanted: who is new comes in without a vote and catches up, then the votes
//! change (by joint consensus where a voter goes), then who has none any more goes. A leader that is to lose its vote
//! hands over first. One step at a time; the controller comes back until there is nothing left to do.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use openraft::ChangeMembers;
use openraft::async_runtime::WatchReceiver;
use warren_types::NodeId;

use crate::group::Group;
use crate::node::Shared;
use crate::status;
use crate::transfer::{self, CAUGHT_UP};
use crate::types::Member;

/// Who should be in a group.
#[derive(Clone, Debug, Default)]
pub(crate) struct Wanted {
    pub(crate) voters: BTreeMap<u64, Member>,
    pub(crate) learners: BTreeMap<u64, Member>,
}

impl Wanted {
    fn has(&self, node: u64) -> bool {
        self.voters.contains_key(&node) || self.learners.contains_key(&node)
    }
}

/// Who is in it now.
struct Present {
    known: BTreeSet<u64>,
    voters: BTreeSet<u64>,
    /// Between two configurations.
    joint: bool,
}

fn present(group: &Group) -> Present {
    let metrics = group.raft.server_metrics();
    let metrics = metrics.borrow_watched();
    let membership = metrics.membership_config.membership();
    Present {
        known: membership.nodes().map(|(node, _)| *node).collect(),
        voters: membership.voter_ids().collect(),
        joint: membership.get_joint_config().len() > 1,
    }
}

/// The members of a group as this node knows them.
pub(crate) fn members(group: &Group) -> BTreeMap<u64, Member> {
    let metrics = group.raft.server_metrics();
    let metrics = metrics.borrow_watched();
    metrics.membership_config.nodes().map(|(node, member)| (*node, member.clone())).collect()
}

/// The voters of a group as this node knows them.
pub(crate) fn voters(group: &Group) -> BTreeSet<NodeId> {
    present(group).voters.into_iter().map(NodeId).collect()
}

/// Takes the next step in the background, if there is one and none is under way.
pub(crate) fn reconcile(shared: &Arc<Shared>, group: &Arc<Group>, wanted: Wanted) {
    let now = present(group);
    let voters = now.voters.iter().eq(wanted.voters.keys());
    let known = now.known.len() == wanted.voters.len() + wanted.learners.len()
        && now.known.iter().all(|node| wanted.has(*node));
    if wanted.voters.is_empty() || (voters && known && !now.joint) {
        return;
    }
    if !shared.changing.lock().insert(group.id) {
        return;
    }
    let (shared, group) = (Arc::clone(shared), Arc::clone(group));
    tokio::spawn(async move {
        step(&shared, &group, &wanted).await;
        shared.changing.lock().remove(&group.id);
    });
}

async fn step(shared: &Shared, group: &Group, wanted: &Wanted) {
    let now = present(group);
    let me = shared.options.node.0;
    let table = shared.peers.table();
    let is_connected =
        |node: u64| node == me || table.get(&NodeId(node)).is_some_and(|peer| peer.is_connected());
    for (node, member) in wanted.voters.iter().chain(&wanted.learners) {
        if !now.known.contains(node) && is_connected(*node) {
            tracing::info!(group = %group.id, node = %NodeId(*node), "adding a member");
            if let Err(error) = group.raft.add_learner(*node, member.clone(), false).await {
                tracing::debug!(group = %group.id, node, %error, "member not added");
            }
            return;
        }
    }
    let voters: BTreeSet<u64> = wanted.voters.keys().copied().collect();
    if now.voters != voters || now.joint {
        let status = status::of(group);
        let caught_up = |node: u64| {
            status.replicas.iter().any(|r| r.node.0 == node && r.lag <= CAUGHT_UP && r.matched.0 > 0)
        };
        if voters.difference(&now.voters).any(|node| *node != me && !caught_up(*node)) {
            return;
        }
        let mut target = voters.clone();
        if !voters.contains(&me) {
            let heirs: Vec<NodeId> = transfer::heirs(shared, group, None)
                .into_iter()
                .filter(|heir| voters.contains(&heir.0) && caught_up(heir.0))
                .collect();
            if !heirs.is_empty() {
                transfer::hand_over(shared, group, &heirs).await;
                return;
            }
            // Nobody that stays has a vote yet: first they get one.
            target.insert(me);
        }
        if target == now.voters && !now.joint {
            return;
        }
        // In force the moment it is in the log: without its majority neither it nor anything else is ever committed again.
        let answering = group.answering(shared.options.node);
        if target.intersection(&answering).count() * 2 <= target.len() {
            tracing::debug!(group = %group.id, "too few of those who are to vote answer: later");
            return;
        }
        tracing::info!(group = %group.id, voters = ?target.iter().map(|node| NodeId(*node)).collect::<Vec<_>>(), "changing members");
        let change = ChangeMembers::ReplaceAllVoters(target);
        if let Err(error) = group.raft.change_membership(change, true).await {
            tracing::debug!(group = %group.id, %error, "members not changed");
        }
        return;
    }
    let spare: BTreeSet<u64> = now.known.iter().copied().filter(|node| !wanted.has(*node)).collect();
    if !spare.is_empty() {
        tracing::info!(group = %group.id, nodes = ?spare.iter().map(|node| NodeId(*node)).collect::<Vec<_>>(), "members go");
        if let Err(error) = group.raft.change_membership(ChangeMembers::RemoveNodes(spare), true).await {
            tracing::debug!(group = %group.id, %error, "members not taken out");
        }
    }
}
