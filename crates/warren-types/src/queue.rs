//! What a queue was declared with, as its leader needs it.

use std::sync::Arc;

use crate::{ConnectionId, FieldTable, NodeId, QueueHost, QueueId};

/// The connection that owns an exclusive queue. The incarnation makes it unique across restarts of the node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ExclusiveOwner {
    /// The connection's home node.
    pub node: NodeId,
    /// The start of that node at which the connection was made.
    pub incarnation: u64,
    /// The connection.
    pub connection: ConnectionId,
}

/// A queue as the catalogue has it.
#[derive(Clone, Debug, PartialEq)]
pub struct QueueSpec {
    /// Its number.
    pub id: QueueId,
    /// Its virtual host.
    pub vhost: Arc<str>,
    /// Its name.
    pub name: Arc<str>,
    /// Where its messages live.
    pub host: QueueHost,
    /// Declared durable (and not exclusive).
    pub durable: bool,
    /// The connection that owns it, if exclusive.
    pub exclusive: Option<ExclusiveOwner>,
    /// Deleted when its last consumer goes.
    pub auto_delete: bool,
    /// Its `x-` arguments as declared.
    pub arguments: FieldTable,
}
