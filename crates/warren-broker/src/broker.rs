//! What every connection of a node shares: the catalogue, the sessions, the hosts, the registry, the settings.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use futures_util::future::join_all;
use parking_lot::RwLock;
use tokio::sync::watch;
use tracing::warn;
use warren_amqp::{ConnectionConfig, External};
use warren_catalogue::{Access, Applied, Resource};
use warren_proto::catalogue::Command;
use warren_proto::session::{Answer, Ask};
use warren_raft::{CatalogueHandle, LeaderMap, RaftNode};
use warren_rpc::Peers;
use warren_types::{
    AmqpError, ExclusiveOwner, GroupId, NodeId, QueueHost, QueueId, ReplyCode, SessionId, SubscriptionId,
};

use crate::alarm::Alarms;
use crate::config::BrokerConfig;
use crate::host::Hosts;
use crate::incoming::Incoming;
use crate::limits;
use crate::registry::Connections;
use crate::request::{CATALOGUE_DEADLINE, Caller, catalogue_failed};
use crate::session::{self, SessionHandle};

/// Longest wait, after a consumer's cancel, for its auto-delete queue to go.
const AUTO_DELETE_WAIT: Duration = Duration::from_secs(2);
/// Longest wait of a login for a node that is just starting; below the handshake's own limit.
const ANNOUNCE_WAIT: Duration = Duration::from_secs(8);
/// Longest wait, when the node stops, for acknowledgements to be recorded.
const RECORD_PATIENCE: Duration = Duration::from_millis(500);
/// Longest wait for a linearizable read before a miss is reported as it is known here.
const LINEARIZE_DEADLINE: Duration = Duration::from_secs(15);

/// A running node's shared parts.
pub(crate) struct Broker {
    config: BrokerConfig,
    machine: Arc<ConnectionConfig>,
    /// The same for connections with TLS.
    machine_tls: Arc<ConnectionConfig>,
    /// And for those whose certificate names a user.
    machine_certified: Arc<ConnectionConfig>,
    node: NodeId,
    incarnation: u64,
    session: SessionId,
    raft: Arc<RaftNode>,
    peers: Peers,
    hosts: Arc<Hosts>,
    sessions: RwLock<HashMap<QueueHost, SessionHandle>>,
    connections: Connections,
    alarms: Alarms,
    incoming: Incoming,
    next_subscription: AtomicU64,
    misses: Misses,
    this: OnceLock<std::sync::Weak<Broker>>,
}

/// Reads for publishes that find no queue.
#[derive(Default)]
struct Misses {
    begun: AtomicU64,
    /// What came of the last, and which that was, as `begun` counts.
    turn: tokio::sync::Mutex<Option<(u64, Result<(), AmqpError>)>>,
}

/// Why a login failed; for the log, not for the client.
#[derive(Clone, Debug, thiserror::Error)]
pub(crate) enum LoginError {
    #[error("connection peer presented no TLS (x.509) certificate")]
    NoCertificate,
    #[error("no name found")]
    NoName,
    #[error("user '{0}' can only connect via localhost")]
    LoopbackOnly(String),
    #[error("{0}")]
    Credentials(#[from] warren_catalogue::AuthError),
}

/// Draws random bytes from the system.
///
/// # Errors
/// When the system has none to give.
pub(crate) fn random<const N: usize>() -> Result<[u8; N], getrandom::Error> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes)?;
    Ok(bytes)
}

impl Broker {
    pub(crate) fn new(
        config: BrokerConfig,
        node: NodeId,
        incarnation: u64,
        session: SessionId,
        raft: Arc<RaftNode>,
        peers: Peers,
        hosts: Arc<Hosts>,
    ) -> Arc<Self> {
        let machine = ConnectionConfig {
            server_properties: warren_amqp::server_properties(env!("CARGO_PKG_VERSION"), &config.node_name),
            channel_max: config.channel_max,
            frame_max: config.frame_max_bytes,
            heartbeat_s: config.heartbeat_s,
            max_message_size: config.max_message_size_bytes,
            ..ConnectionConfig::default()
        };
        // One message of the largest size may come whatever that is.
        let machine = ConnectionConfig {
            max_held_bytes: machine.max_held_bytes.max(config.max_message_size_bytes),
            ..machine
        };
        let alarms = Alarms::new(&config);
        let incoming = Incoming::new(alarms.resources().memory_limit);
        let broker = Arc::new(Self {
            config,
            machine_tls: Arc::new(ConnectionConfig { external: External::Taken, ..machine.clone() }),
            machine_certified: Arc::new(ConnectionConfig { external: External::Offered, ..machine.clone() }),
            machine: Arc::new(machine),
            node,
            incarnation,
            session,
            raft,
            peers,
            hosts,
            sessions: RwLock::default(),
            connections: Connections::default(),
            alarms,
            incoming,
            next_subscription: AtomicU64::new(0),
            misses: Misses::default(),
            this: OnceLock::new(),
        });
        broker.this.get_or_init(|| Arc::downgrade(&broker));
        broker
    }

    pub(crate) fn config(&self) -> &BrokerConfig {
        &self.config
    }

    pub(crate) fn machine_config(&self, external: External) -> &Arc<ConnectionConfig> {
        match external {
            External::Unknown => &self.machine,
            External::Taken => &self.machine_tls,
            External::Offered => &self.machine_certified,
        }
    }

    pub(crate) fn node(&self) -> NodeId {
        self.node
    }

    pub(crate) fn incarnation(&self) -> u64 {
        self.incarnation
    }

    pub(crate) fn session_id(&self) -> SessionId {
        self.session
    }

    pub(crate) fn raft(&self) -> &Arc<RaftNode> {
        &self.raft
    }

    pub(crate) fn peers(&self) -> &Peers {
        &self.peers
    }

    pub(crate) fn hosts(&self) -> &Arc<Hosts> {
        &self.hosts
    }

    pub(crate) fn connections(&self) -> &Connections {
        &self.connections
    }

    pub(crate) fn alarms(&self) -> &Alarms {
        &self.alarms
    }

    pub(crate) fn incoming(&self) -> &Incoming {
        &self.incoming
    }

    pub(crate) fn catalogue(&self) -> &CatalogueHandle {
        self.raft.catalogue()
    }

    pub(crate) fn leader_of(&self, group: GroupId) -> Option<NodeId> {
        self.raft.leader_of(group)
    }

    pub(crate) fn leaders(&self) -> watch::Receiver<Arc<LeaderMap>> {
        self.raft.leaders()
    }

    pub(crate) fn next_subscription(&self) -> SubscriptionId {
        SubscriptionId(self.next_subscription.fetch_add(1, Ordering::Relaxed) + 1)
    }

    /// The session with a host; started at first use.
    pub(crate) fn session(&self, host: QueueHost) -> SessionHandle {
        if let Some(session) = self.sessions.read().get(&host) {
            return session.clone();
        }
        let mut sessions = self.sessions.write();
        if let Some(session) = sessions.get(&host) {
            return session.clone();
        }
        let session = match self.this.get().and_then(std::sync::Weak::upgrade) {
            Some(broker) => session::start(&broker, host),
            None => SessionHandle::stopped(),
        };
        sessions.insert(host, session.clone());
        session
    }

    /// Waits until all that clients of this node have acknowledged is recorded, as long as leaders answer.
    pub(crate) async fn settles_recorded(&self) {
        let sessions: Vec<SessionHandle> = self.sessions.read().values().cloned().collect();
        let waiting = sessions.iter().map(SessionHandle::recorded);
        if tokio::time::timeout(RECORD_PATIENCE, join_all(waiting)).await.is_err() {
            warn!("not all acknowledgements could be recorded: what they were for comes again");
        }
    }

    /// Changes the catalogue, and waits until this node sees the change.
    ///
    /// # Errors
    /// The refusal, as the client gets it; 541 when the metadata group did not answer in time.
    pub(crate) async fn change(&self, command: Command) -> Result<Applied, AmqpError> {
        match self.raft.propose(command, CATALOGUE_DEADLINE).await {
            Ok(outcome) => outcome,
            Err(error) => Err(catalogue_failed(&error)),
        }
    }

    /// Makes the local catalogue at least as new as the cluster's at this moment.
    ///
    /// # Errors
    /// 541 when the metadata group has no leader for too long.
    pub(crate) async fn linearize(&self) -> Result<(), AmqpError> {
        self.raft.linearize(LINEARIZE_DEADLINE).await.map_err(|error| catalogue_failed(&error))
    }

    /// The same for a publish that found nothing here, however many there are: one read at a time, which serves all that
    /// came before it began. A read that had begun earlier proves nothing: what it did not see may have been declared since.
    ///
    /// # Errors
    /// As [`Broker::linearize`].
    pub(crate) async fn linearize_miss(&self) -> Result<(), AmqpError> {
        let before = self.misses.begun.load(Ordering::Acquire);
        let mut last = self.misses.turn.lock().await;
        if let Some((read, came)) = &*last
            && *read > before
        {
            return came.clone();
        }
        let read = self.misses.begun.fetch_add(1, Ordering::AcqRel) + 1;
        let came = self.linearize().await;
        // Of a failure, too: without a leader each would wait for its own to fail.
        *last = Some((read, came.clone()));
        came
    }

    /// # Errors
    /// 403 without that permission.
    pub(crate) fn check_access(
        &self,
        user: &str,
        vhost: &str,
        access: Access,
        resource: Resource<'_>,
    ) -> Result<(), AmqpError> {
        self.catalogue().read().check_access(user, vhost, access, resource)
    }

    /// # Errors
    /// 403 without any permission, as passive declarations ask for.
    pub(crate) fn check_any_access(
        &self,
        user: &str,
        vhost: &str,
        resource: Resource<'_>,
    ) -> Result<(), AmqpError> {
        let catalogue = self.catalogue().read();
        let configure = catalogue.check_access(user, vhost, Access::Configure, resource);
        if configure.is_ok()
            || catalogue.check_access(user, vhost, Access::Read, resource).is_ok()
            || catalogue.check_access(user, vhost, Access::Write, resource).is_ok()
        {
            return Ok(());
        }
        configure
    }

    /// Whether the user may publish in another's name.
    pub(crate) fn may_impersonate(&self, user: &str) -> bool {
        let catalogue = self.catalogue().read();
        catalogue.user(user).is_some_and(|user| user.tags.iter().any(|tag| tag == "impersonator"))
    }

    /// # Errors
    /// [`LoginError`].
    pub(crate) fn authenticate(&self, user: &str, password: &[u8], from: IpAddr) -> Result<(), LoginError> {
        self.catalogue().read().authenticate(user, password)?;
        self.check_origin(user, from)
    }

    /// Lets in a user whom something else than a password has proved.
    ///
    /// # Errors
    /// [`LoginError`].
    pub(crate) fn recognise(&self, user: String, from: IpAddr) -> Result<String, LoginError> {
        if self.catalogue().read().user(&user).is_none() {
            return Err(warren_catalogue::AuthError::UnknownUser(user).into());
        }
        self.check_origin(&user, from)?;
        Ok(user)
    }

    fn check_origin(&self, user: &str, from: IpAddr) -> Result<(), LoginError> {
        if self.config.guest_loopback_only && user == "guest" && !from.to_canonical().is_loopback() {
            return Err(LoginError::LoopbackOnly(user.to_owned()));
        }
        Ok(())
    }

    /// Waits until the cluster knows of this start of the node: before that the catalogue here may be old or empty, and
    /// the exclusive queues of the node's former life are not gone yet. False when it takes too long.
    pub(crate) async fn announced(&self) -> bool {
        let mut revisions = self.catalogue().revision();
        let announced = async {
            while !self.is_announced() {
                if revisions.changed().await.is_err() {
                    break;
                }
            }
        };
        tokio::time::timeout(ANNOUNCE_WAIT, announced).await.is_ok()
    }

    /// Whether the cluster knows of this start of the node.
    pub(crate) fn is_announced(&self) -> bool {
        let catalogue = self.catalogue().read();
        catalogue.node(self.node).is_some_and(|node| node.incarnation == self.incarnation)
    }

    /// Whether the connection may be open. Gives the number of channels that the user has on other nodes, if a limit
    /// made it necessary to ask them.
    ///
    /// # Errors
    /// 530 when there is no such vhost, a limit is reached, or it is not open to the user.
    pub(crate) async fn open_vhost(&self, caller: &Caller) -> Result<u64, AmqpError> {
        let open = || self.catalogue().read().vhost_access(&caller.user, &caller.vhost);
        if open().is_err() {
            self.linearize().await?;
            if !self.catalogue().read().has_vhost(&caller.vhost) {
                return open().map(|()| 0);
            }
        }
        let elsewhere = limits::check_connection(self, &caller.user, &caller.vhost).await?;
        open().map(|()| elsewhere)
    }

    /// After a consumer of an auto-delete queue went: waits (a little) until the queue is gone, if it was the last.
    pub(crate) async fn settle_auto_delete(&self, queue: QueueId) {
        let Some(spec) = self.catalogue().read().queue_by_id(queue).cloned() else { return };
        let settled = async {
            // Answered after the leader has seen the consumer go.
            match self.session(spec.host).ask(Ask::Info { queue, uses: false, after_deaths: false }).await {
                Some(Answer::Info(counts)) if counts.consumers == 0 => {}
                Some(_) | None => return,
            }
            self.forgotten(queue).await;
        };
        // It goes anyway; only the client does not see it at once.
        let _slow = tokio::time::timeout(AUTO_DELETE_WAIT, settled).await;
    }

    /// Waits (a little) until a queue whose deletion is under way is gone.
    pub(crate) async fn settle_deletion(&self, queue: QueueId) {
        // Where that takes longer its deletion may have failed: its leader asks again.
        let _slow = tokio::time::timeout(AUTO_DELETE_WAIT, self.forgotten(queue)).await;
    }

    async fn forgotten(&self, queue: QueueId) {
        let mut revisions = self.catalogue().revision();
        while self.catalogue().read().queue_by_id(queue).is_some() {
            if revisions.changed().await.is_err() {
                return;
            }
        }
    }

    /// Waits until a queue's leader has handed out what it could of all that this node published before; not for long.
    pub(crate) async fn settle_deliveries(&self, host: QueueHost, queue: QueueId) {
        let session = self.session(host);
        let settled = session.ask(Ask::Info { queue, uses: false, after_deaths: false });
        // The consumer ends anyway; what is published goes to the next one.
        let _slow = tokio::time::timeout(AUTO_DELETE_WAIT, settled).await;
    }

    /// Deletes a connection's exclusive queues.
    pub(crate) async fn release_owner(&self, owner: ExclusiveOwner) {
        if let Err(error) = self.change(Command::ReleaseOwner { owner }).await {
            // They go when this node starts anew, at the latest.
            warn!(connection = %owner.connection, %error, "cannot delete the exclusive queues of a connection");
        }
    }

    /// A name for a queue that the client leaves to the broker.
    pub(crate) fn queue_name(&self) -> String {
        format!("amq.gen-{}", self.generated())
    }

    /// A name for the queue behind a reply consumer; whoever knows it may answer.
    pub(crate) fn reply_queue_name(&self) -> String {
        format!("{}.{}", crate::request::direct_reply::PSEUDO_QUEUE, self.generated())
    }

    /// A tag for a consumer that the client leaves to the broker.
    pub(crate) fn consumer_tag(&self) -> String {
        format!("amq.ctag-{}", self.generated())
    }

    /// 22 characters that nobody else has.
    fn generated(&self) -> String {
        let bytes: [u8; 16] = random().unwrap_or_else(|_| {
            // A number of this start of this node: unique too.
            let mut bytes = [0; 16];
            let count = self.next_subscription.fetch_add(1, Ordering::Relaxed);
            bytes[..8].copy_from_slice(&(self.node.0 ^ self.incarnation).to_be_bytes());
            bytes[8..].copy_from_slice(&count.to_be_bytes());
            bytes
        });
        URL_SAFE_NO_PAD.encode(bytes)
    }

    /// The queue's number, its leader and who else has it.
    pub(crate) fn queue_leader(&self, host: QueueHost) -> Option<NodeId> {
        match host {
            QueueHost::Shard(shard) => self.leader_of(GroupId::from(shard)),
            QueueHost::Node(node) => Some(node),
        }
    }

    /// Whether this node is the one that serves the host's queues.
    pub(crate) fn serves(&self, host: QueueHost) -> bool {
        self.queue_leader(host) == Some(self.node)
    }

    /// # Errors
    /// 403 for a routing key that topic permissions keep from the user.
    pub(crate) fn check_topic_access(
        &self,
        user: &str,
        vhost: &str,
        exchange: &str,
        access: Access,
        routing_key: &str,
    ) -> Result<(), AmqpError> {
        self.catalogue().read().check_topic_access(user, vhost, exchange, access, routing_key)
    }

    /// Closes every connection with 320.
    pub(crate) fn close_connections(&self, reason: &str) {
        for connection in self.connections.all() {
            let error = AmqpError::new(ReplyCode::ConnectionForced, reason);
            let _gone = connection.mailbox.push(crate::registry::ConnectionEvent::Close(error));
        }
    }
}

/// For logs.
impl std::fmt::Debug for Broker {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Broker").field("node", &self.node).finish_non_exhaustive()
    }
}
