//! The peers of a node: who they are, how to reach them, and what is believed of them.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::StreamExt;
use parking_lot::{Mutex, RwLock};
use tokio::sync::{mpsc, oneshot, watch};
use tokio_stream::wrappers::ReceiverStream;
use tonic::metadata::{Ascii, MetadataMap, MetadataValue};
use tonic::{Request, Status, Streaming};
use warren_types::{GroupId, NodeId, QueueHost, ShardId};

use crate::bulk::{self, Rope};
use crate::dial::{client, dial};
use crate::generated::{Beat, CallRequest, Frame};
use crate::link::{self, Connection, Link, greet};
use crate::tls::Security;
use crate::{CallError, Hello, HelloError, PeerState, PeerStatus, PeerTable, RpcError};

/// Frames that may wait in each direction of a stream, besides what HTTP/2 has on the way.
pub(crate) const STREAM_FRAMES: usize = 16;
/// Calls with more than this go over the bulk connection.
const URGENT_BYTES: usize = 64 * 1024;
/// The header that says which group or host a stream is for.
pub(crate) const TARGET_HEADER: &str = "warren-target";

/// Both directions of a stream. Dropping either half closes the stream.
pub type StreamPair = (mpsc::Sender<Rope>, mpsc::Receiver<Bytes>);

/// This node's peers. A cheap handle; the connections live as long as the last one.
#[derive(Clone)]
pub struct Peers {
    shared: Arc<Shared>,
    _alive: Arc<Alive>,
}

pub(crate) struct Shared {
    hello: RwLock<Hello>,
    links: Mutex<BTreeMap<NodeId, Arc<Link>>>,
    table: watch::Sender<PeerTable>,
    pub(crate) gossip: watch::Sender<Bytes>,
    alarms: AtomicU32,
    pub(crate) security: Security,
}

/// Ends the peers' tasks when the last handle goes.
struct Alive(Weak<Shared>);

impl Drop for Alive {
    fn drop(&mut self) {
        if let Some(shared) = self.0.upgrade() {
            let links = std::mem::take(&mut *shared.links.lock());
            links.values().for_each(|link| link.poke.notify_one());
        }
    }
}

impl Peers {
    /// No peers yet, and none has to prove itself. `hello` is what this node says of itself.
    #[must_use]
    pub fn new(hello: Hello) -> Self {
        Self::secured(hello, Security::plain())
    }

    /// No peers yet. `hello` is what this node says of itself, `security` how it and others prove who they are.
    #[must_use]
    pub fn secured(hello: Hello, security: Security) -> Self {
        let shared = Arc::new(Shared {
            hello: RwLock::new(hello),
            links: Mutex::default(),
            table: watch::Sender::default(),
            gossip: watch::Sender::default(),
            alarms: AtomicU32::new(0),
            security,
        });
        let alive = Arc::new(Alive(Arc::downgrade(&shared)));
        Self { shared, _alive: alive }
    }

    /// What this node says of itself now.
    #[must_use]
    pub fn own_hello(&self) -> Hello {
        self.shared.hello()
    }

    /// Changes what this node says of itself from now on.
    pub fn update_hello(&self, change: impl FnOnce(&mut Hello)) {
        change(&mut self.shared.hello.write());
    }

    /// Learns a peer or its new address, and keeps connecting to it. This node itself is ignored. Must be called
    /// within a tokio runtime.
    pub fn set(&self, node: NodeId, address: &str) {
        self.shared.set(node, address);
    }

    /// Forgets a peer and closes its connections.
    pub fn remove(&self, node: NodeId) {
        let link = self.shared.links.lock().remove(&node);
        if let Some(link) = link {
            link.poke.notify_one();
        }
        self.shared.table.send_modify(|table| {
            Arc::make_mut(table).remove(&node);
        });
    }

    /// Sends `gossip` with every beat from now on, and at once where it is new: what every peer should know of this
    /// node, in a few bytes.
    pub fn set_gossip(&self, gossip: Bytes) {
        self.shared.gossip.send_if_modified(|told| {
            let news = *told != gossip;
            *told = gossip;
            news
        });
    }

    /// Sends `alarms` with every beat from now on, and at once: what this node is short of, as the callers on both sides
    /// understand it; 0 is nothing.
    pub fn set_alarms(&self, alarms: u32) {
        self.shared.alarms.store(alarms, Ordering::Relaxed);
        // Whoever sends news sends this, too.
        self.shared.gossip.send_modify(|_| ());
    }

    /// Every peer's state, and each change of it.
    #[must_use]
    pub fn liveness(&self) -> watch::Receiver<PeerTable> {
        self.shared.table.subscribe()
    }

    /// Every peer's state now.
    #[must_use]
    pub fn table(&self) -> PeerTable {
        self.shared.table.borrow().clone()
    }

    /// Asks who answers at an address, over a connection of its own.
    ///
    /// # Errors
    /// [`HelloError`]: nobody, or somebody who may not talk to this node.
    pub async fn hello(&self, address: &str) -> Result<Hello, HelloError> {
        let mut client = client(dial(address, &self.shared.security).await?);
        greet(&mut client, &self.shared, address).await
    }

    /// Puts a question to a group on a peer. Small ones go over the urgent connection.
    ///
    /// # Errors
    /// [`RpcError`]; only `NotConnected` and `Remote` say for sure what happened.
    pub async fn call(
        &self,
        node: NodeId,
        group: GroupId,
        kind: u32,
        payload: Bytes,
        deadline: Duration,
    ) -> Result<Bytes, RpcError> {
        let connection = self.connection(node)?;
        let urgent = payload.len() <= URGENT_BYTES;
        let mut client = if urgent { connection.urgent } else { connection.bulk };
        let mut request = Request::new(CallRequest { group: group.0, kind, payload });
        self.shared.hello.read().caller().write(request.metadata_mut());
        let reply = match tokio::time::timeout(deadline, client.call(request)).await {
            Ok(Ok(reply)) => reply.into_inner(),
            Ok(Err(status)) => return Err(broken(node, &status)),
            Err(_) => return Err(RpcError::TimedOut(node)),
        };
        match reply.error {
            0 => Ok(reply.payload),
            number => Err(RpcError::Remote { node, error: CallError::from_wire(number, reply.text) }),
        }
    }

    /// Opens a stream of appends to a group on a peer, over the bulk connection.
    ///
    /// # Errors
    /// [`RpcError`]: not connected, or refused. Later errors show as the end of the stream.
    pub async fn append_stream(&self, node: NodeId, group: GroupId) -> Result<StreamPair, RpcError> {
        self.open_stream(node, "/warren.member.v1.Member/Append", group.0.to_string()).await
    }

    /// Opens a session with a host of queues on a peer, over the bulk connection.
    ///
    /// # Errors
    /// As [`Peers::append_stream`].
    pub async fn open_session(&self, node: NodeId, host: QueueHost) -> Result<StreamPair, RpcError> {
        self.open_stream(node, "/warren.member.v1.Member/Session", host_to_header(host)).await
    }

    pub(crate) fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    fn connection(&self, node: NodeId) -> Result<Connection, RpcError> {
        let link = self.shared.links.lock().get(&node).cloned();
        let connection = link.and_then(|link| link.connection.borrow().clone());
        connection.ok_or(RpcError::NotConnected(node))
    }

    /// The request ends when its sender is dropped, and when the answers have: HTTP/2 lets one direction go on alone.
    async fn open_stream(
        &self,
        node: NodeId,
        path: &'static str,
        target: String,
    ) -> Result<StreamPair, RpcError> {
        let channel = self.connection(node)?.streams;
        let (outbound, frames) = mpsc::channel(STREAM_FRAMES);
        let (open, closed) = oneshot::channel::<()>();
        let frames = ReceiverStream::new(frames).take_until(closed);
        let mut metadata = MetadataMap::new();
        self.shared.hello.read().caller().write(&mut metadata);
        if let Ok(value) = MetadataValue::<Ascii>::try_from(target) {
            metadata.insert(TARGET_HEADER, value);
        }
        let opened = bulk::open(channel, path, metadata, Box::pin(frames)).await;
        let frames = opened.map_err(|status| broken(node, &status))?;
        let (inbound_sender, inbound) = mpsc::channel(STREAM_FRAMES);
        tokio::spawn(async move {
            pump(frames, inbound_sender).await;
            drop(open);
        });
        Ok((outbound, inbound))
    }
}

/// Moves frames from the wire to their reader until either is gone.
pub(crate) async fn pump(mut frames: Streaming<Frame>, inbound: mpsc::Sender<Bytes>) {
    loop {
        let frame = tokio::select! {
            frame = frames.message() => frame,
            () = inbound.closed() => return,
        };
        match frame {
            Ok(Some(frame)) => {
                if inbound.send(frame.payload).await.is_err() {
                    return;
                }
            }
            Ok(None) => return,
            Err(status) => {
                tracing::debug!(%status, "stream ended");
                return;
            }
        }
    }
}

fn broken(node: NodeId, status: &Status) -> RpcError {
    RpcError::Broken { node, reason: format!("{:?}: {}", status.code(), status.message()) }
}

/// `s3` is shard 3, `n1f` is node 0x1f.
fn host_to_header(host: QueueHost) -> String {
    match host {
        QueueHost::Shard(shard) => format!("s{:x}", shard.0),
        QueueHost::Node(node) => format!("n{:x}", node.0),
    }
}

pub(crate) fn host_from_header(text: &str) -> Option<QueueHost> {
    if let Some(shard) = text.strip_prefix('s') {
        u32::from_str_radix(shard, 16).ok().map(|shard| QueueHost::Shard(ShardId(shard)))
    } else {
        let node = text.strip_prefix('n')?;
        u64::from_str_radix(node, 16).ok().map(|node| QueueHost::Node(NodeId(node)))
    }
}

impl Shared {
    pub(crate) fn hello(&self) -> Hello {
        self.hello.read().clone()
    }

    /// The next beat to a peer.
    pub(crate) fn next_beat(&self, number: u64) -> Beat {
        Beat { number, gossip: self.gossip(), alarms: self.alarms.load(Ordering::Relaxed) }
    }

    fn gossip(&self) -> Bytes {
        self.gossip.borrow().clone()
    }

    pub(crate) fn set(self: &Arc<Self>, node: NodeId, address: &str) {
        if node == self.hello.read().node || address.is_empty() {
            return;
        }
        let mut links = self.links.lock();
        if let Some(link) = links.get(&node) {
            let moved = self.address_of(node) != address;
            if moved {
                self.table.send_modify(|table| {
                    if let Some(status) = Arc::make_mut(table).get_mut(&node) {
                        address.clone_into(&mut status.address);
                    }
                });
                link.poke.notify_one();
            }
            return;
        }
        self.table.send_modify(|table| {
            let status = PeerStatus {
                state: PeerState::Connecting,
                since: Instant::now(),
                address: address.to_owned(),
                name: String::new(),
                incarnation: 0,
                gossip: Bytes::new(),
                alarms: 0,
            };
            Arc::make_mut(table).insert(node, status);
        });
        let link = Arc::new(Link::new(node));
        links.insert(node, link.clone());
        tokio::spawn(link::run(self.clone(), link));
    }

    /// A peer that greets from a new address has moved. Strangers are not taken in: the catalogue names peers.
    pub(crate) fn heard_of(self: &Arc<Self>, hello: &Hello) {
        let same_cluster = hello.cluster.is_some() && hello.cluster == self.hello.read().cluster;
        if same_cluster && self.links.lock().contains_key(&hello.node) {
            self.set(hello.node, &hello.address);
        }
    }

    /// Why a node that greets so cannot be who it says: its number is this node's, or that of a peer which runs and is
    /// reached elsewhere. Its data directory was copied, or has moved while its former process lives.
    pub(crate) fn twin_of(&self, hello: &Hello) -> Option<String> {
        let ours = self.hello.read();
        let (incarnation, address) = if hello.node == ours.node {
            (ours.incarnation, ours.address.clone())
        } else {
            let table = self.table.borrow();
            let status = table.get(&hello.node).filter(|status| status.is_connected())?;
            (status.incarnation, status.address.clone())
        };
        let twin = incarnation != hello.incarnation && address != hello.address;
        twin.then(|| {
            format!(
                "node {} runs already, at {address}: the data directory of the one at {} is a copy of its, or has moved \
                 while it runs",
                hello.node, hello.address
            )
        })
    }

    pub(crate) fn knows(&self, link: &Arc<Link>) -> bool {
        self.links.lock().get(&link.node).is_some_and(|known| Arc::ptr_eq(known, link))
    }

    pub(crate) fn address_of(&self, node: NodeId) -> String {
        self.table.borrow().get(&node).map(|status| status.address.clone()).unwrap_or_default()
    }

    pub(crate) fn greeted(&self, node: NodeId, hello: &Hello) {
        self.table.send_modify(|table| {
            if let Some(status) = Arc::make_mut(table).get_mut(&node) {
                hello.name.clone_into(&mut status.name);
                status.incarnation = hello.incarnation;
                status.state = PeerState::Connected;
                status.since = Instant::now();
            }
        });
    }

    pub(crate) fn beat(&self, node: NodeId, Beat { number: _, gossip, alarms }: Beat) {
        self.table.send_if_modified(|table| {
            let Some(status) = table.get(&node) else { return false };
            if status.is_connected() && status.gossip == gossip && status.alarms == alarms {
                return false;
            }
            if let Some(status) = Arc::make_mut(table).get_mut(&node) {
                if !status.is_connected() {
                    status.state = PeerState::Connected;
                    status.since = Instant::now();
                }
                status.gossip = gossip;
                status.alarms = alarms;
            }
            true
        });
    }

    /// What a connected peer tells with a beat of its own.
    pub(crate) fn told(&self, node: NodeId, gossip: Bytes, alarms: u32) {
        self.table.send_if_modified(|table| {
            let is_news = |status: &PeerStatus| {
                status.is_connected() && (status.gossip != gossip || status.alarms != alarms)
            };
            if !table.get(&node).is_some_and(is_news) {
                return false;
            }
            if let Some(status) = Arc::make_mut(table).get_mut(&node) {
                status.gossip = gossip;
                status.alarms = alarms;
            }
            true
        });
    }

    pub(crate) fn set_state(&self, node: NodeId, state: PeerState) {
        self.table.send_if_modified(|table| {
            if table.get(&node).is_none_or(|status| status.state == state) {
                return false;
            }
            if let Some(status) = Arc::make_mut(table).get_mut(&node) {
                if std::mem::discriminant(&status.state) != std::mem::discriminant(&state) {
                    status.since = Instant::now();
                }
                status.state = state;
            }
            true
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_survives_its_header() {
        for host in [QueueHost::Shard(ShardId(300)), QueueHost::Node(NodeId(u64::MAX))] {
            assert_eq!(host_from_header(&host_to_header(host)), Some(host));
        }
        for text in ["", "s", "n", "x3", "s-1", "s100000000", "nxyz"] {
            assert_eq!(host_from_header(text), None, "{text:?}");
        }
    }
}
