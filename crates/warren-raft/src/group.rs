//! One Raft group on this node: start it, ask it, stop it.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use openraft::async_runtime::WatchReceiver;
use openraft::{Config, SnapshotPolicy};
use parking_lot::Mutex;
use warren_rpc::Peers;
use warren_store::Store;
use warren_types::{GroupId, LogIndex, NodeId, Term};

use crate::StartError;
use crate::apply::Machine;
use crate::blocking;
use crate::budget::Budget;
use crate::hearing::Hearing;
use crate::log_store::LogStore;
use crate::network::NetworkFactory;
use crate::types::{Types, Vote};

pub(crate) type Raft = openraft::Raft<Types, Machine>;

/// How often a leader says that it is there.
const HEARTBEAT_MS: u64 = 300;
/// A follower campaigns when a leader was silent for the lease (the maximum) and then one of these: a machine that is
/// merely busy does not lose its leaders. What is known to be dead does not wait for this (see `failover`).
const ELECTION_MIN_MS: u64 = 900;
const ELECTION_MAX_MS: u64 = 1400;
/// A leader that no majority has answered for so long takes no records and hosts no queues.
pub(crate) const LEASE: Duration = Duration::from_millis(ELECTION_MAX_MS);

/// A member that has not answered for so long is not counted upon: three heartbeats.
const ANSWERED: Duration = Duration::from_millis(3 * HEARTBEAT_MS);

/// The settings of every group.
///
/// # Errors
/// [`StartError::Options`] if they contradict each other.
pub(crate) fn raft_config() -> Result<Arc<Config>, StartError> {
    let config = Config {
        cluster_name: "warren".to_owned(),
        heartbeat_interval: HEARTBEAT_MS,
        election_timeout_min: ELECTION_MIN_MS,
        election_timeout_max: ELECTION_MAX_MS,
        // A leader that restarts must not go on in its old term: its state may be older than what it said.
        enable_leader_restore: Some(false),
        enable_pre_vote: Some(true),
        // The node's checkpoints say when, for all groups at once.
        snapshot_policy: SnapshotPolicy::Never,
        max_in_snapshot_log_to_keep: 1 << 40,
        replication_lag_threshold: 1 << 40,
        purge_batch_size: 1,
        // A snapshot's transfer has its own deadlines, per chunk.
        install_snapshot_timeout: 3_600_000,
        max_payload_entries: 300,
        max_append_entries: Some(1024),
        api_channel_size: Some(4096),
        notification_channel_size: Some(4096),
        backoff: "50ms 100ms 200ms ..500ms".to_owned(),
        ..Config::default()
    };
    config.validate().map(Arc::new).map_err(|error| StartError::Options(error.to_string()))
}

/// A running group.
pub(crate) struct Group {
    pub(crate) id: GroupId,
    pub(crate) raft: Raft,
    pub(crate) log: LogStore,
    pub(crate) machine: Machine,
    hearing: Mutex<Hearing>,
    /// The last term that this node led in, since when.
    led: Mutex<Option<(u64, Instant)>>,
    /// This node is no member any more: the group's end is no failure.
    retired: AtomicBool,
}

impl Group {
    /// Recovers the group and starts it.
    ///
    /// # Errors
    /// [`StartError`] when what is stored cannot be trusted.
    pub(crate) async fn start(
        id: GroupId,
        node: NodeId,
        config: Arc<Config>,
        store: &Store,
        peers: &Peers,
        budget: &Arc<Budget>,
        machine: Machine,
    ) -> Result<Arc<Self>, StartError> {
        let opened = {
            let store = store.clone();
            blocking(move || store.log(id)).await
        };
        let log = opened
            .map_err(|error| StartError::Store(error.to_string()))?
            .map_err(|error| StartError::Store(error.to_string()))?;
        let log = LogStore::new(log);
        let network = NetworkFactory { peers: peers.clone(), group: id, budget: Arc::clone(budget) };
        let built = Raft::build(node.0, config, network, log.clone(), machine.clone()).await;
        let raft = built.map_err(|error| StartError::Group { group: id, reason: error.to_string() })?;
        match &machine {
            Machine::Catalogue(machine) => machine.started(),
            Machine::Shard(machine) => machine.started(),
        }
        raft.run();
        let (hearing, led, retired) = (Mutex::default(), Mutex::new(None), AtomicBool::new(false));
        Ok(Arc::new(Self { id, raft, log, machine, hearing, led, retired }))
    }

    /// Before it is stopped for good.
    pub(crate) fn retire(&self) {
        self.retired.store(true, Ordering::Release);
    }

    /// Whether it was stopped for good.
    pub(crate) fn is_retired(&self) -> bool {
        self.retired.load(Ordering::Acquire)
    }

    /// A leader's message came.
    pub(crate) fn hear(&self) {
        self.hearing.lock().hear(Instant::now());
    }

    /// The lease of this vote's leader is given up.
    pub(crate) fn suspect(&self, vote: Vote) {
        self.hearing.lock().suspect(vote, Instant::now());
    }

    /// The leader itself has given it up.
    pub(crate) fn release(&self) {
        self.hearing.lock().release();
    }

    /// Whether the leader of this vote was given up here in vain, and is heard.
    pub(crate) fn hears_again(&self, vote: Vote) -> bool {
        self.hearing.lock().hears_again(vote, Instant::now(), LEASE)
    }

    /// The leader as this node knows it, and its term.
    pub(crate) fn leader(&self) -> Option<(NodeId, Term)> {
        let metrics = self.raft.server_metrics();
        let metrics = metrics.borrow_watched();
        metrics.current_leader.map(|leader| (NodeId(leader), Term(metrics.vote.leader_id.term)))
    }

    /// Whether this node leads it.
    pub(crate) fn leads(&self) -> bool {
        self.raft.server_metrics().borrow_watched().state.is_leader()
    }

    /// Whether the leader has been in contact with a majority, and with this node, of late.
    pub(crate) fn has_majority(&self) -> bool {
        // Never two looks at once: a writer that waits between them would stop both, and Raft with them.
        let (leads, known) = {
            let metrics = self.raft.server_metrics();
            let metrics = metrics.borrow_watched();
            (metrics.state.is_leader(), metrics.current_leader.is_some())
        };
        if leads {
            return !self.has_lost_quorum();
        }
        known && self.hearing.lock().is_recent(Instant::now(), LEASE + LEASE / 2)
    }

    /// On its leader: who has answered of late, itself included.
    pub(crate) fn answering(&self, me: NodeId) -> BTreeSet<u64> {
        let metrics = self.raft.metrics();
        let metrics = metrics.borrow_watched();
        let answered = metrics.heartbeat.iter().flatten().filter(|(_, answered)| {
            answered.is_some_and(|at| openraft::Instant::elapsed(&at.into_inner()) < ANSWERED)
        });
        answered.map(|(node, _)| *node).chain([me.0]).collect()
    }

    /// A leader that no majority answers.
    pub(crate) fn has_lost_quorum(&self) -> bool {
        let metrics = self.raft.metrics();
        let metrics = metrics.borrow_watched();
        if metrics.membership_config.voter_ids().count() <= 1 {
            return false;
        }
        match metrics.last_quorum_acked {
            Some(acked) => openraft::Instant::elapsed(&acked.into_inner()) > LEASE,
            // Raft counts from the first heartbeat that is answered; the majority may go before that.
            None => {
                let term = metrics.vote.leader_id.term;
                let mut led = self.led.lock();
                let (_, since) = match *led {
                    Some(known) if known.0 == term => known,
                    Some(_) | None => *led.insert((term, Instant::now())),
                };
                since.elapsed() > LEASE
            }
        }
    }

    /// Whether it has ever had members.
    pub(crate) async fn is_initialized(&self) -> bool {
        self.raft.is_initialized().await.unwrap_or(true)
    }

    /// Lets openraft know of a checkpoint and purges the log up to `purge_up_to`.
    pub(crate) async fn purge(&self, purge_up_to: LogIndex) {
        let durable = self.machine.durable();
        let Some(up_to) = crate::types::raft_index(purge_up_to.min(durable.index())) else { return };
        if self.raft.trigger().snapshot().await.is_err() {
            return;
        }
        let known = self
            .raft
            .wait(Some(Duration::from_secs(10)))
            .metrics(|metrics| metrics.snapshot >= durable.applied, "checkpoint known")
            .await;
        match known {
            Ok(_) => {
                if let Err(error) = self.raft.trigger().purge_log(up_to).await {
                    tracing::debug!(group = %self.id, %error, "log not purged");
                }
            }
            Err(error) => tracing::debug!(group = %self.id, %error, "log not purged"),
        }
    }
}
