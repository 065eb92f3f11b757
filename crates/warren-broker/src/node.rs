//! A whole node, readable top to bottom: what is opened, in what order, and how it stops.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{debug, error, info, warn};
use warren_proto::catalogue::Command;
use warren_raft::{DefaultUser, Leadership, RaftNode, RaftOptions, blocking};
use warren_rpc::network::{Network, Wire};
use warren_rpc::{Hello, PeerState, PeerTable, Peers, Services};
use warren_store::Store;
use warren_types::{NodeId, QueueHost, QueueId, SessionId};

use crate::admin::Admin;
use crate::broker::{Broker, random};
use crate::config::BrokerConfig;
use crate::host::{self, HostContext, HostInput, Hosts};
use crate::identity::{self, IdentityError};
use crate::mailbox::Mailbox;
use crate::opening::Identity;
use crate::operator::Operator;
use crate::remote::RemoteSessions;
use crate::security::{self, Renewable, Security};
use crate::tls::{ServerTls, TlsError};
use crate::{alarm, clock, connection, dead_letter, listener, opening, renewal, stalled};

/// Queues that may wait to be deleted.
const DELETIONS_MAX: usize = 4096;
/// How many of them are proposed at a time: their records share a sync.
const DELETED_AT_ONCE: usize = 64;

/// Why a node does not start. Each is a sentence for the operator.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// Who this node is cannot be told.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// The store cannot be opened.
    #[error("cannot open the store in {directory}: {error}")]
    Store {
        /// The directory.
        directory: String,
        /// Why.
        error: warren_store::StoreError,
    },
    /// A listener's address cannot be had.
    #[error("cannot listen on {address}: {error}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// Why.
        error: std::io::Error,
    },
    /// Raft cannot be started.
    #[error("cannot start replication: {0}")]
    Raft(#[from] warren_raft::StartError),
    /// Secrets or certificates cannot be used.
    #[error(transparent)]
    Security(#[from] security::SecurityError),
    /// The certificates of a listener for clients cannot be used.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The system gives no random numbers.
    #[error("no random numbers: {0}")]
    Random(getrandom::Error),
}

impl StartError {
    /// Whether damage was found behind the opening of the store, for which word is left: the next start begins anew if it can.
    #[must_use]
    pub fn may_help_to_start_again(&self) -> bool {
        match self {
            Self::Raft(error) => warren_store::tells_of_damage(&error.to_string()),
            Self::Identity(_)
            | Self::Store { .. }
            | Self::Listen { .. }
            | Self::Security(_)
            | Self::Tls(_)
            | Self::Random(_) => false,
        }
    }
}

/// What a simulated node has instead of a disk and sockets.
pub struct SimulatedWorld {
    /// Opened by [`warren_store::simulation::open`].
    pub store: Store,
    /// Where the other nodes are reached.
    pub network: Arc<dyn Network>,
    /// Connections of other nodes.
    pub nodes: mpsc::Receiver<Box<dyn Wire>>,
    /// Connections of clients.
    pub clients: mpsc::Receiver<Box<dyn Wire>>,
    /// When it makes checkpoints.
    pub checkpoints: Checkpoints,
}

/// When a node makes checkpoints, and what it keeps of its log.
#[derive(Clone, Copy, Debug)]
pub struct Checkpoints {
    /// After so many bytes of log.
    pub bytes: u64,
    /// After so long.
    pub interval: Duration,
    /// So many bytes of each group's log stay, for followers that are a little behind.
    pub keep_log_bytes: u64,
}

impl Default for Checkpoints {
    fn default() -> Self {
        let RaftOptions { checkpoint_bytes, checkpoint_interval, keep_log_bytes, .. } =
            RaftOptions::default();
        Self { bytes: checkpoint_bytes, interval: checkpoint_interval, keep_log_bytes }
    }
}

impl std::fmt::Debug for SimulatedWorld {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SimulatedWorld").finish_non_exhaustive()
    }
}

/// A running node.
pub struct Node {
    broker: Arc<Broker>,
    store: Store,
    admin: Arc<Operator>,
    accepting: CancellationToken,
    running: CancellationToken,
    connections: TaskTracker,
    amqp: Vec<SocketAddr>,
    amqps: Vec<SocketAddr>,
    amqps_tls: Option<ServerTls>,
}

impl Node {
    /// Starts a node: store, replication, hosts, then listeners. Clients are accepted at once; they are served when
    /// the cluster has formed.
    ///
    /// # Errors
    /// [`StartError`]: nothing is left running.
    pub async fn start(config: BrokerConfig) -> Result<Self, StartError> {
        alarm::wait_for_room(&config).await;
        let (node, first_start) = identity::load_or_draw(&config.data_dir)?;
        let incarnation = identity::begin(&config.data_dir, clock::now().0)?;
        info!(node = %format_args!("{:016x}", node.0), name = config.node_name, first_start, "starting");

        // Addresses first: a node that cannot be reached must not touch its data.
        let bind = |address: &SocketAddr| {
            listener::bind(*address).map_err(|error| StartError::Listen { address: *address, error })
        };
        let amqp = config.amqp_listen.iter().map(bind).collect::<Result<Vec<_>, _>>()?;
        let amqps = config.amqps_listen.iter().map(bind).collect::<Result<Vec<_>, _>>()?;
        let address = config.cluster_listen;
        let cluster = listener::bind(address).map_err(|error| StartError::Listen { address, error })?;

        let (cluster_security, amqps_tls) = load_security(&config).await?;
        let identity = Identity { node, incarnation, first_start };
        let (identity, store) = opening::open_or_begin_anew(&config, identity, &cluster_security).await?;
        identity::note_store(&config.data_dir)?;

        let renewing = cluster_security.clone();
        let data_dir = config.data_dir.clone();
        let assembled =
            Self::assemble(config, identity, store, cluster_security, Checkpoints::default()).await;
        let (mut started, services) = assembled.inspect_err(|error| {
            renewal::note(&data_dir, &error.to_string());
        })?;
        let (broker, running) = (Arc::clone(&started.broker), started.running.clone());
        let listener_tls = amqps_tls.clone().map(|tls| Renewable::Listener("AMQPS", tls));
        let renewables = [Some(Renewable::Cluster(renewing)), listener_tls];
        tokio::spawn(security::follow(renewables.into_iter().flatten().collect(), running.clone()));
        let peers = broker.peers().clone();
        let most = broker.config().cluster_connections_max;
        tokio::spawn(serve_nodes(cluster, peers, services, most, running));

        let addresses = |listeners: &[TcpListener]| -> Vec<SocketAddr> {
            listeners.iter().filter_map(|listener| listener.local_addr().ok()).collect()
        };
        (started.amqp, started.amqps) = (addresses(&amqp), addresses(&amqps));
        started.amqps_tls.clone_from(&amqps_tls);
        let listeners = amqp.into_iter().map(|listener| (listener, None));
        for (listener, tls) in
            listeners.chain(amqps.into_iter().map(|listener| (listener, amqps_tls.clone())))
        {
            let broker = Arc::clone(&broker);
            tokio::spawn(listener::accept(
                broker,
                listener,
                tls,
                started.accepting.clone(),
                started.connections.clone(),
            ));
        }
        Ok(started)
    }

    /// Starts a node in a simulation: over a store, a network and clients that are given. Call it on a current-thread runtime
    /// whose thread simulates ([`warren_store::simulation`]).
    ///
    /// # Errors
    /// [`StartError`]: nothing is left running.
    pub async fn start_simulated(config: BrokerConfig, world: SimulatedWorld) -> Result<Self, StartError> {
        let (node, first_start) = identity::load_or_draw(&config.data_dir)?;
        let incarnation = identity::begin(&config.data_dir, clock::now().0)?;
        identity::note_store(&config.data_dir)?;
        let SimulatedWorld { store, network, nodes, mut clients, checkpoints } = world;
        let identity = Identity { node, incarnation, first_start };
        let (started, services) =
            Self::assemble(config, identity, store, Security::over(network), checkpoints).await?;
        let (broker, running) = (Arc::clone(&started.broker), started.running.clone());
        let peers = broker.peers().clone();
        tokio::spawn(
            async move { warren_rpc::serve_incoming(nodes, peers, services, running.cancelled()).await },
        );
        let (connections, accepting) = (started.connections.clone(), started.accepting.clone());
        connections.clone().spawn(async move {
            let address = SocketAddr::from(([127, 0, 0, 1], 5672));
            while let Some(Some(stream)) = accepting.run_until_cancelled(clients.recv()).await {
                connections.spawn(connection::serve(Arc::clone(&broker), stream, address, address, None));
            }
        });
        Ok(started)
    }

    /// Everything between the store and the listeners.
    async fn assemble(
        config: BrokerConfig,
        identity: Identity,
        store: Store,
        security: Security,
        checkpoints: Checkpoints,
    ) -> Result<(Self, Services), StartError> {
        let Identity { node, incarnation, first_start } = identity;
        let hello = Hello {
            node,
            incarnation,
            cluster: None,
            address: config.cluster_advertise.clone(),
            name: config.node_name.clone(),
            // Replication knows better once it has looked at the store.
            fresh: first_start,
            sees: Vec::new(),
            zone: config.zone.clone(),
        };
        let peers = Peers::secured(hello, security);
        let options = RaftOptions {
            node,
            incarnation,
            name: config.node_name.clone(),
            advertise: config.cluster_advertise.clone(),
            zone: config.zone.clone(),
            seeds: config.seeds.clone(),
            expect: config.expect,
            shards: config.shards,
            replication: config.replication_factor,
            default_user: DefaultUser {
                name: config.default_user.clone(),
                password: config.default_password.clone(),
            },
            checkpoint_bytes: checkpoints.bytes,
            checkpoint_interval: checkpoints.interval,
            keep_log_bytes: checkpoints.keep_log_bytes,
            snapshot_bytes_per_s: config.snapshot_bytes_per_s,
            ..RaftOptions::default()
        };
        let raft = RaftNode::start(options, store.clone(), peers.clone()).await?;
        let session = SessionId(u64::from_be_bytes(random().map_err(StartError::Random)?).max(1));
        let hosts = Arc::new(Hosts::default());
        let running = CancellationToken::new();
        let cache_bytes = config.cache_bytes / u64::from(config.shards.max(1));
        let broker = Broker::new(
            config,
            node,
            incarnation,
            session,
            Arc::clone(&raft),
            peers.clone(),
            Arc::clone(&hosts),
        );

        let (deletions, to_delete) = mpsc::channel(DELETIONS_MAX);
        let burials = Arc::new(Mailbox::new());
        let context = HostContext {
            hosts,
            catalogue: raft.catalogue().clone(),
            cache_bytes,
            deletions,
            burials: Arc::clone(&burials),
        };
        tokio::spawn(dead_letter::run(Arc::clone(&broker), burials, running.clone()));
        host::host_transient(&context, node);
        let leaderships = raft.take_leadership_events();
        tokio::spawn(follow_leaderships(Arc::clone(&broker), context, leaderships, running.clone()));
        tokio::spawn(delete_queues(Arc::clone(&broker), to_delete, running.clone()));
        tokio::spawn(pass_on_deletions(Arc::clone(&broker), running.clone()));
        tokio::spawn(attach_everywhere(Arc::clone(&broker), running.clone()));
        tokio::spawn(watch_peers(Arc::clone(&broker), running.clone()));
        tokio::spawn(alarm::measure(Arc::clone(&broker), store.clone(), running.clone()));
        tokio::spawn(alarm::follow_peers(Arc::clone(&broker), running.clone()));
        tokio::spawn(stalled::watch(Arc::clone(&broker), running.clone()));
        tokio::spawn(renewal::follow(Arc::clone(&broker), running.clone()));
        let services =
            Services { member: raft.member_service(), session: Some(Arc::new(RemoteSessions::new(&broker))) };
        let admin = Arc::new(Operator::new(Arc::clone(&broker)));
        let started = Self {
            broker,
            store,
            admin,
            accepting: CancellationToken::new(),
            running,
            connections: TaskTracker::new(),
            amqp: Vec::new(),
            amqps: Vec::new(),
            amqps_tls: None,
        };
        Ok((started, services))
    }

    /// The operators' surface.
    #[must_use]
    pub fn admin(&self) -> Arc<dyn Admin> {
        Arc::clone(&self.admin) as Arc<dyn Admin>
    }

    /// Where clients connect, with the ports that were given out.
    #[must_use]
    pub fn amqp_addresses(&self) -> &[SocketAddr] {
        &self.amqp
    }

    /// The certificates of the listeners with TLS, if there are such.
    #[must_use]
    pub fn amqps_tls(&self) -> Option<&ServerTls> {
        self.amqps_tls.as_ref()
    }

    /// Where clients connect with TLS, with the ports that were given out.
    #[must_use]
    pub fn amqps_addresses(&self) -> &[SocketAddr] {
        &self.amqps
    }

    /// Becomes a sentence when the node cannot go on: the process must end.
    #[must_use]
    pub fn fatal(&self) -> watch::Receiver<Option<String>> {
        self.broker.raft().fatal()
    }

    /// Leaves word for the next start, if the sentence of [`Node::fatal`] says that what is stored is damaged; whether it does.
    /// Blocks.
    #[must_use]
    pub fn note_fatal(&self, reason: &str) -> bool {
        renewal::note(&self.broker.config().data_dir, reason)
    }

    /// Hands over whatever this node leads. It goes on, and may get some of it back.
    pub fn hand_over(&self) -> impl Future<Output = ()> + Send + use<> {
        let broker = Arc::clone(&self.broker);
        async move { broker.raft().transfer_all_leadership().await }
    }

    /// Stops in the order of the spine: no new clients, leaderships handed over, clients told (320), what they acknowledged
    /// recorded, groups stopped, the store closed. Bounded by `shutdown_timeout_ms`.
    pub async fn stop(self) {
        let patience = Duration::from_millis(self.broker.config().shutdown_timeout_ms);
        self.accepting.cancel();
        self.admin.draining();
        let stop = async {
            self.broker.raft().transfer_all_leadership().await;
            self.broker.close_connections("broker forced connection closure with reason 'shutdown'");
            self.connections.close();
            self.connections.wait().await;
            self.broker.settles_recorded().await;
        };
        if tokio::time::timeout(patience, stop).await.is_err() {
            warn!(
                connections = self.broker.connections().len(),
                "clients took too long to go: stopping without them"
            );
        }
        self.broker.raft().shutdown().await;
        self.running.cancel();
        let store = self.store;
        if blocking(move || store.shutdown()).await.is_err() {
            warn!("the store did not close in order; its log has everything");
        }
        info!("stopped");
    }
}

/// What nodes prove themselves with, and the certificates for clients.
async fn load_security(config: &BrokerConfig) -> Result<(Security, Option<ServerTls>), StartError> {
    let (credentials, encryption) = (config.cluster_credentials.clone(), config.cluster_encryption);
    let files = config.amqps_tls.clone().filter(|_| !config.amqps_listen.is_empty());
    let loading = blocking(move || -> Result<_, StartError> {
        Ok((Security::load(credentials, encryption)?, files.map(ServerTls::load).transpose()?))
    });
    loading.await.unwrap_or(Err(StartError::Random(getrandom::Error::UNSUPPORTED)))
}

/// Hosts what this node is elected for, and stops when it is no longer.
async fn follow_leaderships(
    broker: Arc<Broker>,
    context: HostContext,
    mut events: mpsc::Receiver<Leadership>,
    running: CancellationToken,
) {
    loop {
        let event = tokio::select! {
            () = running.cancelled() => break,
            event = events.recv() => event,
        };
        match event {
            Some(Leadership::Elected(leadership)) => {
                let nodes: Vec<NodeId> = context.catalogue.read().nodes().map(|node| node.id).collect();
                host::lead_shard(&context, leadership, &nodes);
                // The machine must not wait for the claims of the dead.
                for node in dead(&broker.peers().table()) {
                    tell_dead(&broker, node).await;
                }
            }
            Some(Leadership::Lost { shard, term }) => broker.hosts().remove(QueueHost::Shard(shard), term),
            None => break,
        }
    }
}

/// Deletes queues that their leaders ask it to: auto-delete ones without consumers, and unused ones. Those that wait
/// go together: when a connection with hundreds of them is lost, its client is soon back and declares them again.
async fn delete_queues(broker: Arc<Broker>, mut queues: mpsc::Receiver<QueueId>, running: CancellationToken) {
    let mut batch = Vec::with_capacity(DELETED_AT_ONCE);
    loop {
        let taken = tokio::select! {
            () = running.cancelled() => break,
            taken = queues.recv_many(&mut batch, DELETED_AT_ONCE) => taken,
        };
        if taken == 0 {
            break;
        }
        let deletions = batch.drain(..).map(|queue| {
            let broker = Arc::clone(&broker);
            async move {
                if let Err(error) = broker.change(Command::DeleteQueue { queue }).await {
                    debug!(%queue, %error, "cannot delete an unused queue now: its leader asks again");
                }
            }
        });
        futures_util::future::join_all(deletions).await;
    }
}

/// Tells the hosts here which queues the catalogue has forgotten.
async fn pass_on_deletions(broker: Arc<Broker>, running: CancellationToken) {
    let mut revisions = broker.catalogue().revision();
    loop {
        tokio::select! {
            () = running.cancelled() => break,
            changed = revisions.changed() => if changed.is_err() { break },
        }
        let deleted: Arc<[QueueId]> = Arc::from(broker.catalogue().take_deleted());
        if deleted.is_empty() {
            continue;
        }
        for handle in broker.hosts().all() {
            let _stopped = handle.inputs().send(HostInput::QueuesDeleted(Arc::clone(&deleted))).await;
        }
    }
}

/// Keeps a session with every shard, used or not: a new leader need not wait for the claims of a node that attaches.
async fn attach_everywhere(broker: Arc<Broker>, running: CancellationToken) {
    let mut revisions = broker.catalogue().revision();
    loop {
        let shards: Vec<QueueHost> =
            broker.catalogue().read().shards().map(|shard| QueueHost::Shard(shard.shard)).collect();
        for host in shards {
            broker.session(host);
        }
        tokio::select! {
            () = running.cancelled() => break,
            changed = revisions.changed() => if changed.is_err() { break },
        }
    }
}

/// Tells the hosts here when a node's process is gone, so that they need not wait for what it held.
async fn watch_peers(broker: Arc<Broker>, running: CancellationToken) {
    let mut changes = broker.peers().liveness();
    let mut known: Vec<NodeId> = Vec::new();
    loop {
        tokio::select! {
            () = running.cancelled() => break,
            changed = changes.changed() => if changed.is_err() { break },
        }
        let now: Vec<NodeId> = dead(&changes.borrow_and_update()).collect();
        for node in now.iter().filter(|node| !known.contains(node)) {
            tell_dead(&broker, *node).await;
        }
        known = now;
    }
}

fn dead(table: &PeerTable) -> impl Iterator<Item = NodeId> {
    let dead: Vec<NodeId> =
        table.iter().filter(|(_, peer)| peer.state == PeerState::Dead).map(|(node, _)| *node).collect();
    dead.into_iter()
}

async fn tell_dead(broker: &Broker, node: NodeId) {
    for handle in broker.hosts().all() {
        // A host that has stopped meanwhile need not know.
        let _stopped = handle.inputs().send(HostInput::NodeDead(node)).await;
    }
}

async fn serve_nodes(
    listener: TcpListener,
    peers: Peers,
    services: Services,
    most: usize,
    running: CancellationToken,
) {
    if let Err(error) = warren_rpc::serve(listener, peers, services, most, running.cancelled()).await {
        error!(%error, "the cluster listener failed: other nodes cannot reach this one");
    }
}
