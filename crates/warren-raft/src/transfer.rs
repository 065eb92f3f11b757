//! Hands a group's leadership to another member.

use std::time::Duration;

use openraft::async_runtime::WatchReceiver;
use tokio::time::Instant;
use warren_types::NodeId;

use crate::group::Group;
use crate::member::kind;
use crate::node::Shared;
use crate::types::{TransferRequest, log_id};
use crate::{status, wire};

/// Entries that a follower may be behind and still take over.
pub(crate) const CAUGHT_UP: u64 = 200;
/// How long the heir has before another one is asked.
const PATIENCE: Duration = Duration::from_millis(250);
/// How long one of the others may take to answer.
const ASK: Duration = Duration::from_millis(250);

/// The live voters other than this node, those with most of the log first; `first` before all others.
pub(crate) fn heirs(shared: &Shared, group: &Group, first: Option<NodeId>) -> Vec<NodeId> {
    let status = status::of(group);
    let table = shared.peers.table();
    let mut heirs: Vec<(bool, u64, u64, NodeId)> = status
        .replicas
        .iter()
        .filter(|replica| status.members.contains(&replica.node))
        .filter(|replica| table.get(&replica.node).is_some_and(|peer| peer.is_connected()))
        // Among equals another one for each group.
        .map(|replica| {
            let turn = replica.node.0.rotate_left(group.id.0 % 64);
            (Some(replica.node) != first, replica.lag, turn, replica.node)
        })
        .collect();
    heirs.sort_unstable();
    heirs.into_iter().map(|(.., node)| node).collect()
}

/// Hands a group that this node leads to the first of `heirs`, or to the next when that one does not take over: once a
/// transfer has begun this node leads nothing any more in this term, and without it the group would stand still for an
/// election timeout. Returns whether another term has begun.
pub(crate) async fn hand_over(shared: &Shared, group: &Group, heirs: &[NodeId]) -> bool {
    let Some(first) = heirs.first() else { return false };
    let (vote, leads) = {
        let metrics = group.raft.server_metrics();
        let metrics = metrics.borrow_watched();
        (metrics.vote, metrics.state.is_leader())
    };
    if !leads {
        return true;
    }
    tracing::debug!(group = %group.id, node = %first, "handing leadership over");
    if group.raft.trigger().transfer_leader(first.0).await.is_err() {
        return false;
    }
    let mut next = heirs.iter().skip(1);
    loop {
        if ended(group, vote.leader_id.term, Instant::now() + PATIENCE).await {
            return true;
        }
        let Some(heir) = next.next() else { return false };
        tracing::info!(group = %group.id, node = %heir, "the first heir has not taken over, asking another one");
        let last =
            status::of(group).last_log.0.checked_sub(1).map(|index| log_id(vote.leader_id.term, index));
        let request = TransferRequest::new(vote, heir.0, last);
        let payload = wire::encode_transfer(&request);
        if let Err(error) = shared.peers.call(*heir, group.id, kind::TRANSFER, payload, ASK).await {
            tracing::debug!(group = %group.id, node = %heir, %error, "it does not either");
        }
    }
}

/// Whether the term ends before `until`.
async fn ended(group: &Group, term: u64, until: Instant) -> bool {
    let mut metrics = group.raft.server_metrics();
    loop {
        let over = {
            let metrics = metrics.borrow_watched();
            metrics.vote.leader_id.term > term || !metrics.state.is_leader()
        };
        if over {
            return true;
        }
        match tokio::time::timeout_at(until, metrics.changed()).await {
            Ok(Ok(())) => {}
            Ok(Err(_)) | Err(_) => return false,
        }
    }
}
