//! The clients of the whole cluster, and what operators may do in a client's place: publish and get.

use async_trait::async_trait;
use bytes::Bytes;
pub use warren_proto::operate::{ChannelInfo, ConnectionInfo, ConsumerInfo, Flow, Traffic};
use warren_types::FieldTable;

use super::AdminError;

/// What becomes of a message that an operator got.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AfterGet {
    /// It goes.
    Ack,
    /// It goes back, flagged as redelivered.
    Requeue,
    /// It goes back and counts as a failed delivery.
    RequeueFailed,
    /// It goes, or is dead-lettered.
    Reject,
}

/// A message that an operator got.
#[derive(Clone, Debug)]
pub struct GotInfo {
    /// It may have been delivered before.
    pub redelivered: bool,
    /// The exchange it was published to.
    pub exchange: String,
    /// Its routing key.
    pub routing_key: String,
    /// Ready messages left in the queue.
    pub remaining: u64,
    /// Its properties by their names of AMQP with `_`, `headers` a table.
    pub properties: FieldTable,
    /// Its body.
    pub payload: Bytes,
}

/// A message that an operator publishes.
#[derive(Clone, Debug)]
pub struct PublishInfo {
    /// As whom: its permissions count.
    pub user: String,
    /// The vhost.
    pub vhost: String,
    /// The exchange; empty for the default exchange.
    pub exchange: String,
    /// The routing key.
    pub routing_key: String,
    /// As in [`GotInfo`].
    pub properties: FieldTable,
    /// The body.
    pub payload: Bytes,
}

/// The part of the operators' surface that is about clients.
#[async_trait]
pub trait Clients: Send + Sync {
    /// The connections of all nodes that answer, by node and number; detailed: with their channels and consumers.
    async fn all_connections(&self, detailed: bool) -> Vec<ConnectionInfo>;
    /// What clients of this node have done.
    fn own_flow(&self) -> Flow;
    /// What clients of all nodes that answer have done.
    async fn flow(&self) -> Flow;
    /// Closes a connection, whichever node serves it, with 320 and this reason; false when there is none of that name.
    async fn close_connection(&self, name: &str, reason: &str) -> bool;
    /// Takes up to `count` messages from a queue, one after the other, for a user, whose permissions the caller has checked.
    async fn get_messages(
        &self,
        user: &str,
        vhost: &str,
        queue: &str,
        count: u32,
        after: AfterGet,
    ) -> Result<Vec<GotInfo>, AdminError>;
    /// Publishes a message and waits until it is safe. False when no queue takes it.
    async fn publish(&self, publish: PublishInfo) -> Result<bool, AdminError>;
}
