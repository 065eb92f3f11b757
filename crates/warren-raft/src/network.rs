//! Spine 10: openraft's network over `warren-rpc`. Entries go in a pipelined stream over the bulk connection; what is
//! small and urgent (heartbeats, votes, transfers) as single calls over the other one.

use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use futures_util::stream::BoxStream;
use futures_util::{Stream, StreamExt, stream};
use openraft::errors::{NetworkError, ReplicationClosed, StreamingError, Unreachable};
use openraft::network::{RPCOption, RaftNetworkFactory, RaftNetworkV2, stream_append_sequential};
use openraft::raft::{SnapshotResponse, TransferLeaderError, TransferLeaderResponse};
use openraft::{OptionalSend, alias};
use tokio::task::AbortHandle;
use warren_rpc::{CallError, Peers, RpcError as TransportError};
use warren_types::GroupId;

use crate::member::kind;
use crate::snapshot::{self, SnapshotData};
use crate::types::{
    AppendRequest, AppendResponse, AppendResult, Member, RpcError, TransferRequest, Types, Vote, VoteRequest,
    VoteResponse, node_id,
};
use crate::wire;

/// How long a vote may take: a vote is an fsync of the other side.
const VOTE_TIMEOUT: Duration = Duration::from_millis(700);

/// Makes one group's clients.
#[derive(Clone)]
pub(crate) struct NetworkFactory {
    pub(crate) peers: Peers,
    pub(crate) group: GroupId,
}

/// One group's client of one peer.
pub(crate) struct Network {
    peers: Peers,
    group: GroupId,
    target: u64,
    heartbeat: bool,
}

impl NetworkFactory {
    fn client(&self, target: u64, member: &Member, heartbeat: bool) -> Network {
        // Known from the catalogue in most cases; the membership's address finds it before the catalogue is here.
        if !self.peers.table().contains_key(&node_id(target)) {
            self.peers.set(node_id(target), &member.address);
        }
        Network { peers: self.peers.clone(), group: self.group, target, heartbeat }
    }
}

impl RaftNetworkFactory<Types> for NetworkFactory {
    type Network = Network;

    async fn new_client(&mut self, target: u64, member: &Member) -> Network {
        self.client(target, member, false)
    }

    async fn new_heartbeat_client(&mut self, target: u64, member: &Member) -> Network {
        self.client(target, member, true)
    }
}

pub(crate) fn unreachable(text: impl ToString) -> RpcError {
    RpcError::Unreachable(Unreachable::from_string(text))
}

impl Network {
    async fn call(&self, kind: u32, payload: Bytes, deadline: Duration) -> Result<Bytes, RpcError> {
        let answer = self.peers.call(node_id(self.target), self.group, kind, payload, deadline).await;
        answer.map_err(|error| match &error {
            TransportError::NotConnected(_) => unreachable(error),
            // The group is not started there yet, or stopping: no hurry.
            TransportError::Remote { error: CallError::NoGroup(_) | CallError::Stopping, .. } => {
                unreachable(error)
            }
            TransportError::Remote { .. } | TransportError::Broken { .. } | TransportError::TimedOut(_) => {
                RpcError::Network(NetworkError::from_string(error))
            }
        })
    }
}

fn garbled(error: wire::Malformed) -> RpcError {
    unreachable(error)
}

/// Ends a task when the stream that it feeds is dropped.
struct Abort(AbortHandle);

impl Drop for Abort {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl RaftNetworkV2<Types> for Network {
    type SnapshotData = SnapshotData;

    async fn append_entries(
        &mut self,
        request: AppendRequest,
        option: RPCOption,
    ) -> Result<AppendResponse, RpcError> {
        let answer = self.call(kind::APPEND, wire::encode_append(&request), option.hard_ttl()).await?;
        wire::decode_append_response(answer).map_err(garbled)
    }

    fn stream_append<'s, S>(
        &'s mut self,
        input: S,
        option: RPCOption,
    ) -> BoxFuture<'s, Result<BoxStream<'s, Result<AppendResult, RpcError>>, RpcError>>
    where
        S: Stream<Item = AppendRequest> + OptionalSend + Unpin + 'static,
    {
        if self.heartbeat {
            return stream_append_sequential(self, input, option);
        }
        Box::pin(async move {
            let mut input = input;
            // Taken first: openraft waits inside its request stream after errors, and nowhere else.
            let Some(first) = input.next().await else {
                let nothing: BoxStream<'s, _> = Box::pin(stream::empty());
                return Ok(nothing);
            };
            let opened = self.peers.append_stream(node_id(self.target), self.group).await;
            let (requests, answers) = opened.map_err(unreachable)?;
            let pump = tokio::spawn(async move {
                let mut next = Some(first);
                while let Some(request) = next {
                    if requests.send(wire::encode_append(&request)).await.is_err() {
                        return;
                    }
                    next = input.next().await;
                }
            });
            let abort = Abort(pump.abort_handle());
            let results = stream::unfold(Some((answers, abort)), |state| async move {
                let (mut answers, abort) = state?;
                let answer = answers.recv().await?;
                match wire::decode_append_result(answer) {
                    // A conflict or a higher vote ends the stream.
                    Ok(Err(error)) => Some((Ok(Err(error)), None)),
                    Ok(Ok(log_id)) => Some((Ok(Ok(log_id)), Some((answers, abort)))),
                    Err(error) => Some((Err(garbled(error)), None)),
                }
            });
            let results: BoxStream<'s, _> = Box::pin(results);
            Ok(results)
        })
    }

    async fn vote(&mut self, request: VoteRequest, _option: RPCOption) -> Result<VoteResponse, RpcError> {
        let answer = self.call(kind::VOTE, wire::encode_vote_request(&request), VOTE_TIMEOUT).await?;
        wire::decode_vote_response(answer).map_err(garbled)
    }

    async fn pre_vote(&mut self, request: VoteRequest, _option: RPCOption) -> Result<VoteResponse, RpcError> {
        let answer = self.call(kind::PRE_VOTE, wire::encode_vote_request(&request), VOTE_TIMEOUT).await?;
        wire::decode_vote_response(answer).map_err(garbled)
    }

    async fn full_snapshot(
        &mut self,
        vote: Vote,
        snapshot: alias::SnapshotOf<Types, SnapshotData>,
        cancel: impl Future<Output = ReplicationClosed> + OptionalSend + 'static,
        _option: RPCOption,
    ) -> Result<SnapshotResponse<Types>, StreamingError<Types>> {
        let mut cancel: Pin<Box<dyn Future<Output = ReplicationClosed> + Send>> = Box::pin(cancel);
        let sending = snapshot::send(&self.peers, node_id(self.target), self.group, &vote, snapshot);
        tokio::select! {
            closed = &mut cancel => Err(StreamingError::Closed(closed)),
            sent = sending => sent,
        }
    }

    async fn transfer_leader(
        &mut self,
        request: TransferRequest,
        option: RPCOption,
    ) -> Result<TransferLeaderResponse<Types>, RpcError> {
        let answer = self.call(kind::TRANSFER, wire::encode_transfer(&request), option.hard_ttl()).await?;
        // Why the target will not is in its own log; to openraft it matters only that it did not.
        Ok(if answer.first() == Some(&0) {
            Ok(())
        } else {
            Err(TransferLeaderError::LogNotFlushed { expected: request.last_log_id().copied(), actual: None })
        })
    }
}
