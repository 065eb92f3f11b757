//! A replica that moved away is deleted, and what must outlive it.
//!
//! A replica stops when its shard's members are elsewhere (`controller`). It is deleted once the leader of a term that is not
//! below the one that this node last voted in says that its committed members are without this node: nothing that was
//! ever acknowledged from here is counted upon any more. Its vote stays, and so does the place of its last entry: should
//! the shard come back before those who still believe in the old members have heard of it, none of them gets this node's
//! vote with a log that its former self would have refused (Raft paper, 5.4.1). Nor does it stand for election until its log is
//! past that place: on its way there it meets old members, of which it was one, perhaps the only one.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use openraft::async_runtime::WatchReceiver;
use openraft::storage::RaftLogStorage;
use parking_lot::Mutex;
use tokio::sync::oneshot;
use warren_store::{Store, StoreError};
use warren_types::{GroupId, NodeId, ShardId};

use crate::blocking;
use crate::group::Group;
use crate::log_store::LogStore;
use crate::member::kind;
use crate::node::Shared;
use crate::types::{LogId, VoteRequest, VoteResponse, log_id, raft_index};
use crate::wire::{self, Malformed, Reader};

/// For so long a replica is left alone after it stopped: what still reads it comes to an end.
pub(crate) const AFTER: Duration = Duration::from_secs(5);
/// How long the leader may take to answer.
const ASK: Duration = Duration::from_millis(500);
/// The leader's answer: nobody counts on the replica of who asks.
const NEEDLESS: u8 = 1;

/// The last entries of replicas that were deleted here, of groups that are back.
#[derive(Default)]
pub(crate) struct Guards(Mutex<BTreeMap<GroupId, LogId>>);

impl Guards {
    /// Whether more of the group was here than is again.
    pub(crate) fn is_set(&self, group: GroupId) -> bool {
        self.get(group).is_some()
    }

    fn get(&self, group: GroupId) -> Option<LogId> {
        self.0.lock().get(&group).copied()
    }
}

/// What is to be done with a question for a vote.
#[derive(Debug, PartialEq, Eq)]
enum Verdict {
    /// The log here is at least what was there before: it decides alone.
    Over,
    /// The candidate's log is.
    Ask,
    Refuse,
}

fn judge(guard: LogId, own: Option<LogId>, candidate: Option<LogId>) -> Verdict {
    if own >= Some(guard) {
        Verdict::Over
    } else if candidate >= Some(guard) {
        Verdict::Ask
    } else {
        Verdict::Refuse
    }
}

/// Looks whether the group's log is as far as that of its former replica: then it takes part as any other.
pub(crate) async fn lift(shared: &Shared, group: &Group) {
    let Some(guard) = shared.guards.get(group.id) else { return };
    if judge(guard, last(group).await, None) == Verdict::Over {
        shared.guards.0.lock().remove(&group.id);
        group.raft.runtime_config().elect(true);
    }
}

/// The last entry here. A log that cannot be read has nothing to show for itself.
async fn last(group: &Group) -> Option<LogId> {
    group.log.clone().get_log_state().await.ok().and_then(|state| state.last_log_id)
}

/// The answer to a candidate whose log the former replica would have refused; `None` where Raft is to decide.
pub(crate) async fn refusal(shared: &Shared, group: &Group, request: &VoteRequest) -> Option<VoteResponse> {
    lift(shared, group).await;
    let guard = shared.guards.get(group.id)?;
    match judge(guard, last(group).await, request.last_log_id) {
        Verdict::Over | Verdict::Ask => None,
        Verdict::Refuse => {
            let vote = group.raft.server_metrics().borrow_watched().vote;
            Some(VoteResponse { vote, vote_granted: false, last_log_id: Some(guard) })
        }
    }
}

/// Before the shard's group starts: what its former replica has promised. Blocks.
///
/// # Errors
/// A sentence, if it cannot be read.
pub(crate) fn recall(store: &Store, guards: &Guards, shard: ShardId) -> Result<(), String> {
    let stored = store.guard(shard).map_err(|error| error.to_string())?;
    if let Some(stored) = stored
        && let Some(guard) = wire::decode_log_id(stored).map_err(|error| error.to_string())?
    {
        guards.0.lock().insert(GroupId::from(shard), guard);
    }
    Ok(())
}

/// On the leader: whether the group's committed members are without `from`, and in which term it leads.
pub(crate) fn answer(group: &Group, from: NodeId) -> Bytes {
    let needless = group.leads() && !group.has_lost_quorum() && {
        let metrics = group.raft.server_metrics();
        let metrics = metrics.borrow_watched();
        let membership = metrics.membership_config.membership();
        metrics.committed_membership_config.log_id() == metrics.membership_config.log_id()
            && membership.get_joint_config().len() == 1
            && membership.nodes().all(|(node, _)| *node != from.0)
    };
    let term = group.leader().map_or(0, |(_, term)| term.0);
    let mut out = vec![u8::from(needless)];
    out.extend_from_slice(&term.to_le_bytes());
    out.into()
}

fn decode(answer: Bytes) -> Result<(bool, u64), Malformed> {
    let mut reader = Reader::new(answer, "whether a replica is needed");
    let (needless, term) = (reader.u8()? == NEEDLESS, reader.u64()?);
    reader.end()?;
    Ok((needless, term))
}

fn on_disk(step: Result<Result<(), StoreError>, impl ToString>) -> Result<(), String> {
    step.map_err(|error| error.to_string())?.map_err(|error| error.to_string())
}

/// Deletes a stopped replica if its leader says that nobody counts on it; false if it is still to be asked.
///
/// # Errors
/// A sentence: the node must stop.
pub(crate) async fn forget(shared: &Shared, shard: ShardId, leader: NodeId) -> Result<bool, String> {
    let group = GroupId::from(shard);
    let asked = shared.peers.call(leader, group, kind::NEEDED, Bytes::new(), ASK).await;
    let Some((true, term)) = asked.ok().and_then(|answer| decode(answer).ok()) else { return Ok(false) };
    let _no_checkpoint = shared.checkpointing.lock().await;
    let store = shared.store.clone();
    let opened = blocking(move || {
        let log = store.log(group)?;
        Ok::<_, StoreError>((log, store.place(group)?, store.guard(shard)?))
    });
    let opened = opened.await.map_err(|error| error.to_string())?;
    let (log, place, before) = opened.map_err(|error| error.to_string())?;
    let voted = log.vote().map(wire::decode_vote).transpose().map_err(|error| error.to_string())?;
    if voted.is_some_and(|vote| vote.leader_id.term > term) {
        // A leader of the past: a later one may have taken this node in again.
        return Ok(false);
    }
    let state = LogStore::new(log.clone()).get_log_state().await.map_err(|error| error.to_string())?;
    let applied = place.and_then(|place| Some(log_id(place.term.0, raft_index(place.applied)?)));
    let before = before.map(wire::decode_log_id).transpose().map_err(|error| error.to_string())?;
    let guard = state.last_log_id.max(applied).max(before.flatten());
    let guard = wire::encode_log_id(guard.as_ref());
    let store = shared.store.clone();
    on_disk(blocking(move || store.begin_forgetting(shard, &guard)).await)?;
    let (tell, told) = oneshot::channel();
    log.forget(Box::new(move |outcome| drop(tell.send(outcome))));
    on_disk(told.await)?;
    let store = shared.store.clone();
    on_disk(blocking(move || store.end_forgetting(shard)).await)?;
    shared.guards.0.lock().remove(&group);
    tracing::info!(%shard, "what was here of it is deleted");
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_would_not_have_got_the_former_replicas_vote_does_not_get_this_ones() {
        let guard = log_id(3, 10);
        for (own, candidate, verdict) in [
            (None, None, Verdict::Refuse),
            (None, Some(log_id(3, 9)), Verdict::Refuse),
            (Some(log_id(2, 90)), Some(log_id(2, 99)), Verdict::Refuse),
            (None, Some(log_id(3, 10)), Verdict::Ask),
            (Some(log_id(3, 4)), Some(log_id(4, 2)), Verdict::Ask),
            (Some(log_id(3, 10)), None, Verdict::Over),
            (Some(log_id(4, 1)), Some(log_id(3, 2)), Verdict::Over),
        ] {
            assert_eq!(judge(guard, own, candidate), verdict, "{own:?} {candidate:?}");
        }
    }

    #[test]
    fn half_an_answer_is_none() {
        assert_eq!(decode(Bytes::from_static(&[1, 5, 0, 0, 0, 0, 0, 0, 0])), Ok((true, 5)));
        assert_eq!(decode(Bytes::from_static(&[0, 5, 0, 0, 0, 0, 0, 0, 0])), Ok((false, 5)));
        assert!(decode(Bytes::from_static(&[1, 5])).is_err());
        assert!(decode(Bytes::new()).is_err());
    }
}
