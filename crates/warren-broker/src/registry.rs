//! The connections of this node: where confirms and deliveries for them go, and what listings show of them.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::{Mutex, RwLock};
use warren_types::{AmqpError, ConnectionId, PublishToken, QueueHost, QueueId, SubscriptionId};

use warren_proto::session::Delivery;

use crate::admin::ConnectionInfo;
use crate::mailbox::Mailbox;

/// What reaches a connection from the rest of the node.
#[derive(Debug)]
pub(crate) enum ConnectionEvent {
    /// Publishes that one host has made safe.
    Confirmed(Vec<PublishToken>),
    /// Publishes that one host refuses.
    Rejected(Vec<PublishToken>),
    /// Messages for a consumer.
    Deliver { subscription: SubscriptionId, host: QueueHost, queue: QueueId, deliveries: Vec<Delivery> },
    /// The consumer's queue is gone.
    Cancelled(SubscriptionId),
    /// An operator or the node's stop closes it.
    Close(AmqpError),
}

/// What others see of a connection.
#[derive(Debug)]
pub(crate) struct Registered {
    pub(crate) mailbox: Arc<Mailbox<ConnectionEvent>>,
    pub(crate) info: Mutex<ConnectionInfo>,
}

/// The node itself as a publisher, of dead letters; clients' connections are numbered from 1.
pub(crate) const INTERNAL: ConnectionId = ConnectionId(0);

/// All connections.
#[derive(Debug)]
pub(crate) struct Connections {
    internal: Arc<Mailbox<ConnectionEvent>>,
    next: AtomicU64,
    open: RwLock<HashMap<ConnectionId, Arc<Registered>>>,
}

impl Default for Connections {
    fn default() -> Self {
        Self { internal: Arc::new(Mailbox::new()), next: AtomicU64::new(0), open: RwLock::default() }
    }
}

impl Connections {
    /// Where the node's own publishes are confirmed.
    pub(crate) fn internal(&self) -> &Arc<Mailbox<ConnectionEvent>> {
        &self.internal
    }

    pub(crate) fn next_id(&self) -> ConnectionId {
        ConnectionId(self.next.fetch_add(1, Ordering::Relaxed) + 1)
    }

    pub(crate) fn insert(&self, id: ConnectionId, registered: Arc<Registered>) {
        self.open.write().insert(id, registered);
    }

    pub(crate) fn remove(&self, id: ConnectionId) {
        self.open.write().remove(&id);
    }

    pub(crate) fn len(&self) -> usize {
        self.open.read().len()
    }

    pub(crate) fn all(&self) -> Vec<Arc<Registered>> {
        self.open.read().values().cloned().collect()
    }

    /// Tells each connection which of its publishes are done.
    pub(crate) fn settle_publishes(&self, tokens: &[PublishToken], rejected: bool) {
        let open = self.open.read();
        for tokens in tokens.chunk_by(|a, b| a.connection == b.connection) {
            let Some(first) = tokens.first() else { continue };
            // Without confirms nobody waits.
            let waited: Vec<PublishToken> =
                tokens.iter().filter(|token| token.number != 0).copied().collect();
            if waited.is_empty() {
                continue;
            }
            let mailbox = if first.connection == INTERNAL {
                Some(&self.internal)
            } else {
                open.get(&first.connection).map(|connection| &connection.mailbox)
            };
            if let Some(mailbox) = mailbox {
                let event = if rejected {
                    ConnectionEvent::Rejected(waited)
                } else {
                    ConnectionEvent::Confirmed(waited)
                };
                // A connection that is gone has nobody to tell.
                let _gone = mailbox.push(event);
            }
        }
    }
}
