//! What this node answers to the others: Raft's questions, and those of nodes that are not members yet.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::{Stream, StreamExt, stream};
use tokio::sync::mpsc;
use warren_rpc::{CallError, MemberService};
use warren_store::{Store, StoreError};
use warren_types::{GroupId, NodeId};

use crate::apply::Machine;
use crate::blocking;
use crate::failover;
use crate::forget;
use crate::form;
use crate::group::Group;
use crate::node::Shared;
use crate::snapshot::Taken;
use crate::types::{AppendRequest, Types};
use crate::{read, standing, wire};

/// What a call asks.
pub(crate) mod kind {
    pub(crate) const APPEND: u32 = 1;
    pub(crate) const VOTE: u32 = 2;
    pub(crate) const PRE_VOTE: u32 = 3;
    pub(crate) const TRANSFER: u32 = 4;
    pub(crate) const SNAPSHOT: u32 = 5;
    /// A command for the metadata leader.
    pub(crate) const PROPOSE: u32 = 6;
    /// The index that a linearizable read must wait for.
    pub(crate) const READ_INDEX: u32 = 7;
    /// Will you form a cluster with these nodes, and no other?
    pub(crate) const PROMISE: u32 = 8;
    /// A fresh node asks to be taken in.
    pub(crate) const JOIN: u32 = 9;
    /// Does this node hold any log of the group?
    pub(crate) const HOLDS: u32 = 10;
    /// Am I a member?
    pub(crate) const STANDING: u32 = 11;
    /// Does anybody count on my replica of the group?
    pub(crate) const NEEDED: u32 = 12;
}

/// The service; gone with its node.
pub(crate) struct Service(pub(crate) Weak<Shared>);

fn not_understood(error: wire::Malformed) -> CallError {
    CallError::NotUnderstood(error.to_string())
}

fn stopped(_: impl std::error::Error) -> CallError {
    CallError::Stopping
}

impl Service {
    /// A group, once this node belongs to a cluster, for a node that was not removed from it.
    fn group(&self, from: NodeId, group: GroupId) -> Result<(Arc<Shared>, Arc<Group>), CallError> {
        let shared = self.0.upgrade().ok_or(CallError::Stopping)?;
        if shared.catalogue.read().is_removed(from) {
            return Err(CallError::Refused(format!("node {from} was removed from the cluster")));
        }
        let running = shared.groups.get(group).filter(|_| shared.belongs.load(Ordering::Acquire));
        let group = running.ok_or(CallError::NoGroup(group))?;
        Ok((shared, group))
    }
}

#[async_trait]
impl MemberService for Service {
    async fn call(
        &self,
        from: NodeId,
        group: GroupId,
        kind: u32,
        payload: Bytes,
    ) -> Result<Bytes, CallError> {
        match kind {
            kind::PROMISE => {
                let shared = self.0.upgrade().ok_or(CallError::Stopping)?;
                form::answer_promise(&shared, from, payload).await
            }
            kind::JOIN => {
                let (shared, metadata) = self.group(from, GroupId::METADATA)?;
                form::answer_join(&shared, &metadata, payload).await
            }
            kind::STANDING => {
                let shared = self.0.upgrade().ok_or(CallError::Stopping)?;
                Ok(standing::answer(&shared, from))
            }
            kind::NEEDED => {
                let (_, group) = self.group(from, group)?;
                Ok(forget::answer(&group, from))
            }
            kind::HOLDS => {
                let shared = self.0.upgrade().ok_or(CallError::Stopping)?;
                let holds = blocking(move || holds(&shared.store, group)).await;
                let holds = holds.map_err(stopped)?.map_err(|error| CallError::Refused(error.to_string()))?;
                Ok(Bytes::from(vec![u8::from(holds)]))
            }
            kind::APPEND => {
                let (_, group) = self.group(from, group)?;
                let request = wire::decode_append(payload).map_err(not_understood)?;
                let response = group.raft.append_entries(request).await.map_err(stopped)?;
                if response.is_success() {
                    group.hear();
                }
                Ok(wire::encode_append_response(&response))
            }
            kind::VOTE | kind::PRE_VOTE => {
                let (shared, group) = self.group(from, group)?;
                let request = wire::decode_vote_request(payload).map_err(not_understood)?;
                let refusal = forget::refusal(&shared, &group, &request).await;
                let response = match refusal.or_else(|| failover::refusal(&shared, &group, &request)) {
                    Some(refusal) => refusal,
                    None if kind == kind::VOTE => group.raft.vote(request).await.map_err(stopped)?,
                    None => group.raft.pre_vote(request).await.map_err(stopped)?,
                };
                Ok(wire::encode_vote_response(&response))
            }
            kind::TRANSFER => {
                let (shared, group) = self.group(from, group)?;
                let request = wire::decode_transfer(payload).map_err(not_understood)?;
                if shared.guards.is_set(group.id) {
                    return Ok(Bytes::from(vec![1]));
                }
                group.release();
                let response = group.raft.handle_transfer_leader(request).await.map_err(stopped)?;
                Ok(Bytes::from(vec![u8::from(response.is_err())]))
            }
            kind::SNAPSHOT => {
                let (shared, group) = self.group(from, group)?;
                take_snapshot(shared, group, payload).await
            }
            kind::PROPOSE => {
                let (_, metadata) = self.group(from, GroupId::METADATA)?;
                read::answer_propose(&metadata, payload).await
            }
            kind::READ_INDEX => {
                let (_, metadata) = self.group(from, GroupId::METADATA)?;
                read::answer_read_index(&metadata).await
            }
            other => Err(CallError::NotUnderstood(format!("no call of kind {other}"))),
        }
    }

    async fn append_stream(
        &self,
        from: NodeId,
        group: GroupId,
        inbound: mpsc::Receiver<Bytes>,
        outbound: mpsc::Sender<Bytes>,
    ) {
        let group = match self.group(from, group) {
            Ok((_, group)) => group,
            Err(error) => {
                tracing::debug!(node = %from, %group, %error, "append stream refused");
                // openraft retries at once when a stream merely ends; this group is not here yet.
                tokio::time::sleep(Duration::from_millis(100)).await;
                return;
            }
        };
        let results = group.raft.stream_append(requests(from, Arc::clone(&group), inbound));
        let mut results = std::pin::pin!(results);
        while let Some(result) = results.next().await {
            let Ok(result) = result else { return };
            if outbound.send(wire::encode_append_result(&result)).await.is_err() {
                return;
            }
        }
    }
}

/// Whether any log of the group is or was here, started or not. Blocks.
fn holds(store: &Store, group: GroupId) -> Result<bool, StoreError> {
    let was = group.shard().map(|shard| store.guard(shard)).transpose()?.flatten();
    Ok(was.is_some() || holds_log(store, group)?)
}

/// Whether any log of the group is here, started or not. Blocks.
pub(crate) fn holds_log(store: &Store, group: GroupId) -> Result<bool, StoreError> {
    let log = store.log(group)?;
    Ok(log.first_last().is_some() || log.purged().is_some())
}

/// The requests of a stream until it ends or makes no sense.
fn requests(
    from: NodeId,
    group: Arc<Group>,
    inbound: mpsc::Receiver<Bytes>,
) -> impl Stream<Item = AppendRequest> + Send + 'static {
    stream::unfold(inbound, move |mut inbound| {
        let group = Arc::clone(&group);
        async move {
            let bytes = inbound.recv().await?;
            match wire::decode_append(bytes) {
                Ok(request) => {
                    group.hear();
                    Some((request, inbound))
                }
                Err(error) => {
                    tracing::warn!(node = %from, group = %group.id, %error, "append stream ended");
                    None
                }
            }
        }
    })
}

async fn take_snapshot(shared: Arc<Shared>, group: Arc<Group>, payload: Bytes) -> Result<Bytes, CallError> {
    let (id, machine) = (group.id, group.machine.clone());
    let taken = blocking(move || {
        shared.incoming.take(id, payload, || match &machine {
            Machine::Catalogue(_) => Ok(None),
            Machine::Shard(machine) => machine.replica().snapshot_writer().map(Some),
        })
    });
    let taken = taken.await.map_err(stopped)?.map_err(|error| CallError::Refused(error.to_string()))?;
    let vote = match taken {
        // Only to tell a leader of the past to stop sending.
        Taken::More => {
            let metrics = group.raft.server_metrics();
            openraft::async_runtime::WatchReceiver::borrow_watched(&metrics).vote
        }
        Taken::Complete { vote, meta, data } => {
            tracing::info!(group = %id, %meta, "installing a snapshot");
            let snapshot = openraft::alias::SnapshotOf::<Types, _> { meta, snapshot: data };
            group.raft.install_full_snapshot(vote, snapshot).await.map_err(stopped)?.vote
        }
    };
    Ok(wire::encode_vote(&vote))
}
