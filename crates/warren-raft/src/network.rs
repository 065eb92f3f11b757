//! Spine 10: openraft's network over `warren-rpc`. Entries go in a pipelined stream over the bulk connection; what is
//! small and urgent (heartbeats, votes, transfers) as single calls over the other one.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use futures_util::stream::BoxStream;
use futures_util::{Stream, StreamExt, stream};
use openraft::errors::{NetworkError, ReplicationClosed, StreamingError, Unreachable};
use openraft::network::{RPCOption, RaftNetworkFactory, RaftNetworkV2, stream_append_sequential};
use openraft::raft::{SnapshotResponse, TransferLeaderError, TransferLeaderResponse};
use openraft::{OptionalSend, alias};
use tokio::sync::mpsc;
use tokio::task::AbortHandle;
use warren_rpc::{CallError, Peers, Rope, RpcError as TransportError};
use warren_types::GroupId;

use crate::budget::Budget;
use crate::member::kind;
use crate::snapshot::{self, SnapshotData};
use crate::types::{
    AppendRequest, AppendResponse, AppendResult, Member, RpcError, TransferRequest, Types, Vote, VoteRequest,
    VoteResponse, node_id,
};
use crate::wire;

/// For how long news of a commit may wait for entries to travel with. A follower of a shard only keeps up by it: clients are
/// served by the leader, and who takes over applies what is committed first.
const COMMIT_ALONE: Duration = Duration::from_millis(20);

/// How long a vote may take: a vote is an fsync of the other side.
const VOTE_TIMEOUT: Duration = Duration::from_millis(700);

/// Makes one group's clients.
#[derive(Clone)]
pub(crate) struct NetworkFactory {
    pub(crate) peers: Peers,
    pub(crate) group: GroupId,
    /// For snapshots.
    pub(crate) budget: Arc<Budget>,
}

/// One group's client of one peer.
pub(crate) struct Network {
    peers: Peers,
    group: GroupId,
    target: u64,
    heartbeat: bool,
    budget: Arc<Budget>,
}

impl NetworkFactory {
    fn client(&self, target: u64, member: &Member, heartbeat: bool) -> Network {
        // Known from the catalogue in most cases; the membership's address finds it before the catalogue is here.
        if !self.peers.table().contains_key(&node_id(target)) {
            self.peers.set(node_id(target), &member.address);
        }
        let budget = Arc::clone(&self.budget);
        Network { peers: self.peers.clone(), group: self.group, target, heartbeat, budget }
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

/// Sends requests. One without entries only tells of a commit, as any later one does: it waits a while for that. The first
/// is a probe and never waits. openraft takes one answer for all requests up to it.
async fn pump(
    first: AppendRequest,
    mut input: impl Stream<Item = AppendRequest> + Unpin,
    requests: mpsc::Sender<Rope>,
    patience: Duration,
) {
    if requests.send(wire::encode_append(&first)).await.is_err() {
        return;
    }
    let mut waiting: Option<AppendRequest> = None;
    // Goes on while nothing waits: to set it for each commit would cost more than what is sent too early.
    let mut timer = Box::pin(tokio::time::sleep(patience));
    loop {
        let send = tokio::select! {
            biased;
            request = input.next() => match request {
                Some(request) if request.entries.is_empty() && !patience.is_zero() => {
                    if timer.is_elapsed() {
                        timer.as_mut().reset(tokio::time::Instant::now() + patience);
                    }
                    waiting = Some(request);
                    continue;
                }
                Some(request) => {
                    waiting = None;
                    request
                }
                None => break,
            },
            () = timer.as_mut(), if waiting.is_some() => match waiting.take() {
                Some(request) => request,
                None => continue,
            },
        };
        if requests.send(wire::encode_append(&send)).await.is_err() {
            return;
        }
    }
    if let Some(request) = waiting {
        // Who receives has gone: so has the reason to send.
        let _gone = requests.send(wire::encode_append(&request)).await;
    }
}

impl RaftNetworkV2<Types> for Network {
    type SnapshotData = SnapshotData;

    async fn append_entries(
        &mut self,
        request: AppendRequest,
        option: RPCOption,
    ) -> Result<AppendResponse, RpcError> {
        let answer = self.call(kind::APPEND, wire::encode_append(&request).into(), option.hard_ttl()).await?;
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
            let patience = match self.group {
                // Nodes wait for their own catalogue.
                GroupId::METADATA => Duration::ZERO,
                GroupId(_) => COMMIT_ALONE,
            };
            let pump = tokio::spawn(pump(first, input, requests, patience));
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
        let target = node_id(self.target);
        let sending = snapshot::send(&self.peers, target, self.group, &vote, snapshot, &self.budget);
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::{Entry, Payload, log_id};

    const FOR_EVER: Duration = Duration::from_secs(3600);

    fn request(entries: &[u64], committed: u64) -> AppendRequest {
        let entry = |index: &u64| Entry {
            log_id: log_id(1, *index),
            payload: Payload::from_parts(1, Bytes::new()).expect("a blank one"),
        };
        AppendRequest {
            vote: Vote::new_committed(1, 1),
            prev_log_id: None,
            leader_commit: Some(log_id(1, committed)),
            entries: entries.iter().map(entry).collect(),
        }
    }

    struct Pumped {
        given: mpsc::Sender<AppendRequest>,
        sent: mpsc::Receiver<Rope>,
    }

    impl Pumped {
        fn new(first: AppendRequest, patience: Duration) -> Self {
            let (given, input) = mpsc::channel(16);
            let (out, sent) = mpsc::channel(16);
            let input = stream::unfold(input, |mut input: mpsc::Receiver<AppendRequest>| async move {
                let next = input.recv().await?;
                Some((next, input))
            });
            tokio::spawn(pump(first, Box::pin(input), out, patience));
            Self { given, sent }
        }

        async fn give(&self, request: AppendRequest) {
            assert!(self.given.send(request).await.is_ok());
        }

        /// The next that came out: its entries and its commit.
        async fn next(&mut self) -> Option<(usize, u64)> {
            let request = wire::decode_append(self.sent.recv().await?.into()).expect("whole");
            Some((request.entries.len(), request.leader_commit.map_or(0, |id| id.index)))
        }
    }

    #[tokio::test]
    async fn news_of_a_commit_travels_with_the_next_entries() {
        let mut pumped = Pumped::new(request(&[5], 4), FOR_EVER);
        pumped.give(request(&[], 5)).await;
        pumped.give(request(&[6], 5)).await;
        assert_eq!(pumped.next().await, Some((1, 4)));
        assert_eq!(pumped.next().await, Some((1, 5)));
        pumped.give(request(&[], 6)).await;
        drop(pumped.given);
        let mut sent = Vec::new();
        while let Some(bytes) = pumped.sent.recv().await {
            sent.push(wire::decode_append(bytes.into()).expect("whole").leader_commit.map(|id| id.index));
        }
        assert_eq!(sent, [Some(6)], "nothing is forgotten at the end");
    }

    #[tokio::test]
    async fn news_of_a_commit_travels_alone_where_no_entries_come() {
        let mut pumped = Pumped::new(request(&[5], 4), Duration::from_millis(1));
        assert_eq!(pumped.next().await, Some((1, 4)));
        for commit in 5..8 {
            pumped.give(request(&[], commit)).await;
            assert_eq!(pumped.next().await, Some((0, commit)));
        }
    }

    #[tokio::test]
    async fn a_probe_does_not_wait_nor_does_what_has_no_patience() {
        let mut probe = Pumped::new(request(&[], 4), FOR_EVER);
        assert_eq!(probe.next().await, Some((0, 4)));
        let mut hasty = Pumped::new(request(&[], 4), Duration::ZERO);
        for commit in 4..7 {
            assert_eq!(hasty.next().await, Some((0, commit)));
            hasty.give(request(&[], commit + 1)).await;
        }
    }
}
