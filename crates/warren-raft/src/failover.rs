//! Elections at once when a leader's process is gone, instead of after its lease and an election timeout.
//!
//! Every survivor sees the dead connection itself. Each gives up the dead leader's lease on its own, and one after the
//! other, in an order that differs from group to group, asks for votes. They ask beforehand whether they would
//! get them (pre-vote): where a majority still hears the leader, it stays; so a false suspicion costs nothing. Raft does not
//! take a lease up again that was given up, so that is done here ([`refusal`]).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use openraft::async_runtime::WatchReceiver;
use warren_rpc::{PeerState, PeerStatus};
use warren_types::NodeId;

use crate::group::Group;
use crate::node::Shared;
use crate::types::{TransferRequest, VoteRequest, VoteResponse};

/// Silence after which a leader's lease is given up although its connection stands.
const SILENCE: Duration = Duration::from_millis(1600);
/// How long a candidate has before the next one begins.
const STEP: Duration = Duration::from_millis(200);
/// How soon a candidate asks again: the other survivors may not have noticed yet.
const AGAIN: Duration = Duration::from_millis(40);
/// How long an election that is under way may take.
const ELECTION: Duration = Duration::from_millis(400);
/// How often a survivor looks.
const LOOK: Duration = Duration::from_millis(20);
/// After that, Raft's own timeouts have taken over.
const PATIENCE: Duration = Duration::from_secs(4);
/// No node: a transfer to it only ends the lease.
const NOBODY: u64 = 0;

fn is_gone(peer: &PeerStatus) -> bool {
    match peer.state {
        PeerState::Dead => true,
        PeerState::Suspect { silent_since } => silent_since.elapsed() >= SILENCE,
        PeerState::Connecting | PeerState::Connected => false,
    }
}

/// Watches the peers until the node stops.
pub(crate) async fn run(shared: Arc<Shared>) {
    let mut liveness = shared.peers.liveness();
    let mut gone: BTreeSet<NodeId> = BTreeSet::new();
    loop {
        let table = liveness.borrow_and_update().clone();
        for (node, peer) in table.iter() {
            if !is_gone(peer) {
                gone.remove(node);
            } else if gone.insert(*node) {
                let groups: Vec<Arc<Group>> = shared.groups.all();
                for group in groups.into_iter().filter(|group| leader(group) == Some(*node)) {
                    tokio::spawn(campaign(Arc::clone(&shared), group, *node));
                }
            }
        }
        tokio::select! {
            changed = liveness.changed() => {
                if changed.is_err() {
                    return;
                }
            }
            // Silence grows without a change being told.
            () = tokio::time::sleep(Duration::from_millis(200)) => {}
            () = shared.stop.cancelled() => return,
        }
    }
}

fn leader(group: &Group) -> Option<NodeId> {
    group.leader().map(|(leader, _)| leader)
}

/// Replaces a dead leader.
async fn campaign(shared: Arc<Shared>, group: Arc<Group>, dead: NodeId) {
    let me = shared.options.node;
    let began = Instant::now();
    let mut tried: Option<Instant> = None;
    while began.elapsed() < PATIENCE && !shared.stop.is_cancelled() {
        let table = shared.peers.table();
        if leader(&group).is_some_and(|leader| leader != dead)
            || table.get(&dead).is_some_and(|peer| !is_gone(peer))
        {
            return;
        }
        let (vote, voters) = {
            let metrics = group.raft.server_metrics();
            let metrics = metrics.borrow_watched();
            let voters: Vec<NodeId> = metrics.membership_config.voter_ids().map(NodeId).collect();
            (metrics.vote, voters)
        };
        if shared.guards.is_set(group.id) {
            return;
        }
        let Some(rank) = rank(&group, me, &voters, &table) else { return };
        if vote.committed && vote.leader_id.voted_for == dead.0 {
            group.suspect(vote);
            let release = TransferRequest::new(vote, NOBODY, None);
            if group.raft.handle_transfer_leader(release).await.is_err() {
                return;
            }
        }
        // A vote that is not committed belongs to an election, this node's or another's.
        let pause = if vote.committed { AGAIN } else { ELECTION };
        if began.elapsed() >= STEP * rank && tried.is_none_or(|last| last.elapsed() >= pause) {
            tried = Some(Instant::now());
            tracing::debug!(group = %group.id, dead = %dead, "asking for votes at once");
            if group.raft.trigger().elect(true).await.is_err() {
                return;
            }
        }
        tokio::time::sleep(LOOK).await;
    }
}

/// The answer to a candidate in place of Raft's: this node has given up a leader's lease, in vain, and hears it again. Who was
/// cut off would else be elected by those that once were, whenever it comes back, though the leader is well.
pub(crate) fn refusal(shared: &Shared, group: &Group, request: &VoteRequest) -> Option<VoteResponse> {
    let vote = group.raft.server_metrics().borrow_watched().vote;
    let keeps = !request.leadership_transfer && group.hears_again(vote) && {
        let leader = NodeId(vote.leader_id.voted_for);
        shared.peers.table().get(&leader).is_some_and(|peer| !is_gone(peer))
    };
    keeps.then_some(VoteResponse { vote, vote_granted: false, last_log_id: None })
}

/// This node's turn among the living voters: another order for each group, so that leaders spread.
fn rank(group: &Group, me: NodeId, voters: &[NodeId], table: &BTreeMap<NodeId, PeerStatus>) -> Option<u32> {
    let mut living: Vec<NodeId> = voters
        .iter()
        .copied()
        .filter(|node| *node == me || table.get(node).is_some_and(|peer| peer.is_connected()))
        .collect();
    living.sort_unstable();
    let count = u32::try_from(living.len()).ok().filter(|count| *count > 0)?;
    let place = u32::try_from(living.iter().position(|node| *node == me)?).ok()?;
    Some((place + count - group.id.0 % count) % count)
}
