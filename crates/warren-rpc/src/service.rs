//! What a node offers to the others: two traits that the crates above implement.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use tokio::sync::mpsc;
use warren_types::{GroupId, NodeId, QueueHost};

use crate::CallError;

/// Raft's side: questions to a group, and the stream of its log.
#[async_trait]
pub trait MemberService: Send + Sync + 'static {
    /// Answers one question of `from` to a group.
    ///
    /// # Errors
    /// [`CallError`], which the caller gets as it is.
    async fn call(&self, from: NodeId, group: GroupId, kind: u32, payload: Bytes)
    -> Result<Bytes, CallError>;

    /// Serves one stream of appends until either end is closed. Answers go out in the order of the requests.
    async fn append_stream(
        &self,
        from: NodeId,
        group: GroupId,
        inbound: mpsc::Receiver<Bytes>,
        outbound: mpsc::Sender<Bytes>,
    );
}

/// The broker's side: sessions of home nodes.
#[async_trait]
pub trait SessionService: Send + Sync + 'static {
    /// Serves one session until either end is closed.
    async fn session(
        &self,
        from: NodeId,
        host: QueueHost,
        inbound: mpsc::Receiver<Bytes>,
        outbound: mpsc::Sender<Bytes>,
    );

    /// Answers one question of `from` to the broker: [`Peers::call`](crate::Peers::call) with [`BROKER`].
    ///
    /// # Errors
    /// [`CallError`], which the caller gets as it is.
    async fn answer(&self, _from: NodeId, _question: Bytes) -> Result<Bytes, CallError> {
        Err(CallError::NotUnderstood("no questions are answered here".to_owned()))
    }
}

/// The group whose calls are for the broker and not for Raft: no shard has that number.
pub const BROKER: GroupId = GroupId(u32::MAX);

/// What is served on the cluster port.
#[derive(Clone)]
pub struct Services {
    /// Raft.
    pub member: Arc<dyn MemberService>,
    /// Sessions; `None` while a node has no broker (tests).
    pub session: Option<Arc<dyn SessionService>>,
}
