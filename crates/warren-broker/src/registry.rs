//! The connections of this node: where confirms and deliveries for them go, and what listings show of them.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::{Mutex, RwLock};
use tokio::sync::{Notify, oneshot};
use warren_proto::operate::{ClientCounts, Traffic};
use warren_types::{AmqpError, ConnectionId, PublishToken, QueueHost, QueueId, SubscriptionId};

use warren_proto::session::Delivery;

use crate::admin::{ChannelInfo, ConnectionInfo};
use crate::mailbox::Mailbox;
use crate::traffic::Counters;

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
    /// An operator asks for its channels and consumers.
    Describe(oneshot::Sender<Vec<ChannelInfo>>),
    /// No alarm is left: a publisher that was stopped goes on.
    AlarmsOver,
    /// It has had its turn for a while ([`crate::incoming`]).
    TurnSeen,
    /// An operator or the node's stop closes it.
    Close(AmqpError),
}

/// What others see of a connection.
#[derive(Debug)]
pub(crate) struct Registered {
    pub(crate) mailbox: Arc<Mailbox<ConnectionEvent>>,
    pub(crate) info: Mutex<ConnectionInfo>,
    pub(crate) flow: Flow,
    /// Ends it without a word: its client takes nothing.
    pub(crate) cut: Notify,
}

/// What goes to the client, as its task notes it.
#[derive(Debug, Default)]
pub(crate) struct Flow {
    /// Octets that the socket has taken.
    written: AtomicU64,
    /// Octets that wait for it.
    unwritten: AtomicU64,
}

impl Flow {
    pub(crate) fn written(&self) -> u64 {
        self.written.load(Ordering::Relaxed)
    }

    pub(crate) fn note_written(&self, octets: usize) {
        self.written.fetch_add(octets as u64, Ordering::Relaxed);
    }

    pub(crate) fn note_unwritten(&self, octets: usize) {
        self.unwritten.store(octets as u64, Ordering::Relaxed);
    }
}

impl Registered {
    /// Bytes that wait for its client.
    pub(crate) fn waiting_bytes(&self) -> u64 {
        let deliveries = self.mailbox.sum(|event| match event {
            ConnectionEvent::Deliver { deliveries, .. } => {
                deliveries.iter().map(|delivery| delivery.message.size() as u64).sum()
            }
            ConnectionEvent::Confirmed(_)
            | ConnectionEvent::Rejected(_)
            | ConnectionEvent::Cancelled(_)
            | ConnectionEvent::Describe(_)
            | ConnectionEvent::AlarmsOver
            | ConnectionEvent::TurnSeen
            | ConnectionEvent::Close(_) => 0,
        });
        self.flow.unwritten.load(Ordering::Relaxed) + deliveries
    }
}

/// A connection that nobody serves.
/// Waits until that many hosts have confirmed or refused what was published for this mailbox: whether none refused. `None` when
/// the node is stopping.
pub(crate) async fn await_confirms(mailbox: &Mailbox<ConnectionEvent>, mut missing: usize) -> Option<bool> {
    let (mut taken, mut events) = (true, Vec::new());
    while missing > 0 {
        if mailbox.recv_many(&mut events, 16).await == 0 {
            return None;
        }
        for event in events.drain(..) {
            match event {
                ConnectionEvent::Confirmed(tokens) => missing = missing.saturating_sub(tokens.len()),
                ConnectionEvent::Rejected(tokens) => {
                    taken = false;
                    missing = missing.saturating_sub(tokens.len());
                }
                ConnectionEvent::Deliver { .. }
                | ConnectionEvent::Cancelled(_)
                | ConnectionEvent::AlarmsOver
                | ConnectionEvent::TurnSeen
                | ConnectionEvent::Describe(_)
                | ConnectionEvent::Close(_) => {}
            }
        }
    }
    Some(taken)
}

#[cfg(test)]
pub(crate) fn registered() -> Registered {
    let info = ConnectionInfo {
        id: ConnectionId(1),
        name: String::new(),
        user_provided_name: None,
        user: String::new(),
        vhost: String::new(),
        channels: 0,
        connected_at: 0,
        heartbeat_s: 0,
        frame_max: 0,
        client_properties: warren_types::FieldTable::default(),
        node: warren_types::NodeId(1),
        open: Vec::new(),
        blocked: false,
        tls: None,
    };
    let mailbox = Arc::new(Mailbox::new());
    Registered { mailbox, info: Mutex::new(info), flow: Flow::default(), cut: Notify::new() }
}

/// The node itself as a publisher, of dead letters; clients' connections are numbered from 1.
pub(crate) const INTERNAL: ConnectionId = ConnectionId(0);

/// All connections.
#[derive(Debug)]
pub(crate) struct Connections {
    internal: Arc<Mailbox<ConnectionEvent>>,
    next: AtomicU64,
    open: RwLock<HashMap<ConnectionId, Arc<Registered>>>,
    /// Publishers that are no clients' connections: operators'.
    inner: RwLock<HashMap<ConnectionId, Arc<Mailbox<ConnectionEvent>>>>,
    /// Open channels by user.
    channels: Mutex<HashMap<Arc<str>, u64>>,
    traffic: Counters,
}

impl Default for Connections {
    fn default() -> Self {
        Self {
            internal: Arc::new(Mailbox::new()),
            next: AtomicU64::new(0),
            open: RwLock::default(),
            inner: RwLock::default(),
            channels: Mutex::default(),
            traffic: Counters::default(),
        }
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
        self.traffic.add(Traffic { connection_created: 1, ..Traffic::default() });
    }

    /// An operator's publisher is confirmed there.
    pub(crate) fn insert_inner(&self, id: ConnectionId, mailbox: Arc<Mailbox<ConnectionEvent>>) {
        self.inner.write().insert(id, mailbox);
    }

    pub(crate) fn remove_inner(&self, id: ConnectionId) {
        self.inner.write().remove(&id);
    }

    /// How many connections a vhost and a user have here, and channels a user.
    pub(crate) fn count(&self, vhost: &str, user: &str) -> ClientCounts {
        let mut counts = ClientCounts { user_channels: self.channels_of(user), ..ClientCounts::default() };
        for connection in self.open.read().values() {
            let info = connection.info.lock();
            // Before that it is not open.
            if !info.vhost.is_empty() {
                counts.vhost_connections += u64::from(info.vhost == vhost);
                counts.user_connections += u64::from(info.user == user);
            }
        }
        counts
    }

    pub(crate) fn channels_of(&self, user: &str) -> u64 {
        self.channels.lock().get(user).copied().unwrap_or_default()
    }

    /// What clients have done.
    pub(crate) fn traffic(&self) -> &Counters {
        &self.traffic
    }

    /// A connection of the user had `before` channels and has `now`.
    pub(crate) fn count_channels(&self, user: &Arc<str>, before: usize, now: usize) {
        self.traffic.add(Traffic {
            channel_created: now.saturating_sub(before) as u64,
            channel_closed: before.saturating_sub(now) as u64,
            ..Traffic::default()
        });
        let mut channels = self.channels.lock();
        let count = channels.entry(Arc::clone(user)).or_default();
        *count = count.saturating_add(now as u64).saturating_sub(before as u64);
        if *count == 0 {
            channels.remove(user);
        }
    }

    pub(crate) fn remove(&self, id: ConnectionId) {
        if self.open.write().remove(&id).is_some() {
            self.traffic.add(Traffic { connection_closed: 1, ..Traffic::default() });
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.open.read().len()
    }

    /// Those whose client has as much to take as is written ahead.
    pub(crate) fn slow(&self) -> Vec<(ConnectionId, Arc<Registered>)> {
        let open = self.open.read();
        let slow = |registered: &&Arc<Registered>| {
            registered.flow.unwritten.load(Ordering::Relaxed) >= crate::connection::OUT_MAX as u64
        };
        let slow = open.iter().filter(|(_, registered)| slow(registered));
        slow.map(|(id, registered)| (*id, Arc::clone(registered))).collect()
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
                Some(Arc::clone(&self.internal))
            } else {
                let client = open.get(&first.connection).map(|connection| Arc::clone(&connection.mailbox));
                client.or_else(|| self.inner.read().get(&first.connection).cloned())
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
