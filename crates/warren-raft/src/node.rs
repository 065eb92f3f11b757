//! A node's Raft side: the metadata group, the shards, and the tasks that keep them in order.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use openraft::Config;
use parking_lot::Mutex;
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;
use warren_proto::catalogue::{Applied, Command};
use warren_rpc::{MemberService, Peers};
use warren_store::Store;
use warren_types::{AmqpError, GroupId, NodeId, ShardId, Term};

use crate::apply::Machine;
use crate::apply::catalogue::CatalogueMachine;
use crate::apply::shard::ShardMachine;
use crate::blocking;
use crate::budget::Budget;
use crate::forget::{self, Guards};
use crate::form::Promise;
use crate::group::{self, Group};
use crate::groups::Groups;
use crate::member::Service;
use crate::rumours::Rumours;
use crate::snapshot::Incoming;
use crate::{
    CatalogueHandle, GroupStatus, LeaderMap, Leadership, ProposeError, RaftOptions, StartError, arrange,
    checkpoint, controller, failover, form, leadership, read, rumours, standing, status, transfer,
};

/// Changes of leadership that may wait for the broker: one per shard and some.
const EVENTS: usize = 1024;
/// How long a stop waits for others to take over.
const TRANSFER_PATIENCE: Duration = Duration::from_secs(3);

/// What a node's Raft tasks share.
pub(crate) struct Shared {
    pub(crate) options: RaftOptions,
    pub(crate) store: Store,
    pub(crate) peers: Peers,
    pub(crate) config: Arc<Config>,
    /// For the snapshots that this node sends.
    pub(crate) budget: Arc<Budget>,
    pub(crate) catalogue: CatalogueHandle,
    pub(crate) groups: Groups,
    pub(crate) incoming: Incoming,
    pub(crate) leaders: watch::Sender<Arc<LeaderMap>>,
    /// What the leaders of all groups tell of themselves.
    pub(crate) rumours: Rumours,
    pub(crate) stop: CancellationToken,
    /// The cluster that this node has promised itself to.
    pub(crate) promise: tokio::sync::Mutex<Option<Promise>>,
    pub(crate) checkpointing: tokio::sync::Mutex<()>,
    /// Whether this node belongs, or has promised itself, to a cluster. Before that it takes part in nothing.
    pub(crate) belongs: AtomicBool,
    /// Groups whose membership is being changed.
    pub(crate) changing: Mutex<BTreeSet<GroupId>>,
    /// What replicas that were deleted here have promised.
    pub(crate) guards: Guards,
    /// Why a cluster did not take this node in, said once.
    pub(crate) refusal: Mutex<String>,
    events: mpsc::Sender<Leadership>,
    fatal: watch::Sender<Option<String>>,
}

impl Shared {
    pub(crate) fn leader_of(&self, group: GroupId) -> Option<NodeId> {
        self.leaders.borrow().get(group)
    }

    pub(crate) fn set_leader(&self, group: GroupId, leader: Option<(NodeId, Term)>) {
        self.leaders.send_if_modified(|map| {
            let mut changed = LeaderMap::clone(map);
            let differs = changed.set(group, leader);
            if differs {
                *map = Arc::new(changed);
            }
            differs
        });
    }

    /// Tells the broker; waits for it while the node runs.
    pub(crate) async fn tell(&self, event: Leadership) {
        tokio::select! {
            biased;
            sent = self.events.send(event) => {
                if sent.is_err() {
                    tracing::debug!("nobody follows this node's leaderships");
                }
            }
            () = self.stop.cancelled() => {}
        }
    }

    /// The node cannot go on; the first reason stays.
    pub(crate) fn fail(&self, reason: &str) {
        self.fatal.send_if_modified(|fatal| {
            if fatal.is_some() {
                return false;
            }
            tracing::error!("{reason}; this node must stop");
            *fatal = Some(reason.to_owned());
            true
        });
    }

    /// Recovers and starts a shard that the catalogue places here.
    pub(crate) async fn start_shard(self: &Arc<Self>, shard: ShardId) -> Result<Arc<Group>, StartError> {
        let id = GroupId::from(shard);
        let (store, shared) = (self.store.clone(), Arc::clone(self));
        let recovered = blocking(move || {
            forget::recall(&store, &shared.guards, shard)?;
            let replica = store.replica(shard).map_err(|error| error.to_string())?;
            ShardMachine::recover(replica).map_err(|error| error.to_string())
        });
        let machine = recovered.await.map_err(|error| error.to_string()).and_then(|machine| machine);
        let machine = machine.map_err(|reason| StartError::Group { group: id, reason })?;
        self.start_group(id, Machine::Shard(machine)).await
    }

    async fn start_group(self: &Arc<Self>, id: GroupId, machine: Machine) -> Result<Arc<Group>, StartError> {
        let mut config = Arc::clone(&self.config);
        if self.guards.is_set(id) {
            config = Arc::new(Config { enable_elect: false, ..Config::clone(&config) });
        }
        let node = self.options.node;
        let group = Group::start(id, node, config, &self.store, &self.peers, &self.budget, machine).await?;
        self.groups.insert(Arc::clone(&group));
        tokio::spawn(leadership::follow(Arc::clone(self), Arc::clone(&group)));
        Ok(group)
    }
}

/// A node's Raft side. Its tasks end with it.
pub struct RaftNode {
    shared: Arc<Shared>,
    events: Mutex<Option<mpsc::Receiver<Leadership>>>,
}

impl std::fmt::Debug for RaftNode {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RaftNode").field("node", &self.shared.options.node).finish_non_exhaustive()
    }
}

impl Drop for RaftNode {
    fn drop(&mut self) {
        self.shared.stop.cancel();
    }
}

impl RaftNode {
    /// Recovers the groups of this node; a node without data forms or joins a cluster in the background.
    ///
    /// # Errors
    /// [`StartError`] when what is stored cannot be trusted, or the options make no sense.
    pub async fn start(options: RaftOptions, store: Store, peers: Peers) -> Result<Arc<Self>, StartError> {
        if options.node.0 == 0 || options.shards == 0 || options.replication == 0 {
            return Err(StartError::Options("node, shards and replication cannot be 0".to_owned()));
        }
        let (events, receiver) = mpsc::channel(EVENTS);
        let catalogue = CatalogueHandle::new();
        let stored = {
            let (store, handle) = (store.clone(), catalogue.clone());
            blocking(move || {
                let machine = CatalogueMachine::recover(&store, handle).map_err(|error| error.to_string())?;
                let promise = form::load(&store).map_err(|error| error.to_string())?;
                Ok((machine, promise))
            })
        };
        let stored = stored.await.map_err(|error| error.to_string()).and_then(|stored| stored);
        let (machine, promise) = stored.map_err(StartError::Store)?;
        let budget = Arc::new(Budget::new(options.snapshot_bytes_per_s));
        let shared = Arc::new(Shared {
            options,
            store,
            peers,
            config: group::raft_config()?,
            budget,
            catalogue,
            groups: Groups::default(),
            incoming: Incoming::default(),
            leaders: watch::Sender::default(),
            rumours: Rumours::default(),
            stop: CancellationToken::new(),
            promise: tokio::sync::Mutex::new(promise.clone()),
            checkpointing: tokio::sync::Mutex::new(()),
            belongs: AtomicBool::new(false),
            changing: Mutex::default(),
            guards: Guards::default(),
            refusal: Mutex::default(),
            events,
            fatal: watch::Sender::new(None),
        });
        let failing = Arc::downgrade(&shared);
        shared.store.failed().on_failure(move |reason| {
            if let Some(shared) = failing.upgrade() {
                shared.fail(&format!("the store has failed: {reason}"));
            }
        });
        let metadata = shared.start_group(GroupId::METADATA, Machine::Catalogue(machine)).await?;
        let fresh = promise.is_none() && !metadata.is_initialized().await;
        form::introduce(&shared, promise.as_ref(), fresh);
        controller::know_peers(&shared);
        for shard in controller::shards_here(&shared).await? {
            shared.start_shard(shard).await?;
        }
        tokio::spawn(form::run(Arc::clone(&shared), metadata));
        tokio::spawn(controller::run(Arc::clone(&shared)));
        tokio::spawn(controller::announce(Arc::clone(&shared)));
        tokio::spawn(failover::run(Arc::clone(&shared)));
        tokio::spawn(standing::run(Arc::clone(&shared)));
        tokio::spawn(rumours::tell(Arc::clone(&shared)));
        tokio::spawn(rumours::listen(Arc::clone(&shared)));
        tokio::spawn(checkpoint::run(Arc::clone(&shared)));
        Ok(Arc::new(Self { shared, events: Mutex::new(Some(receiver)) }))
    }

    /// What the cluster port serves for it.
    #[must_use]
    pub fn member_service(&self) -> Arc<dyn MemberService> {
        Arc::new(Service(Arc::downgrade(&self.shared)))
    }

    /// This node's catalogue.
    #[must_use]
    pub fn catalogue(&self) -> &CatalogueHandle {
        &self.shared.catalogue
    }

    /// Carries a catalogue command out, from any node, and waits until this node's catalogue shows it. Tries again
    /// while there is time, so that a command may be carried out more than once: all of them allow it. If this future
    /// is dropped, the command may still be carried out.
    ///
    /// # Errors
    /// [`ProposeError`] when there is no outcome; a refusal is an outcome.
    pub async fn propose(
        &self,
        command: Command,
        deadline: Duration,
    ) -> Result<Result<Applied, AmqpError>, ProposeError> {
        read::propose(&self.shared, &command, deadline).await
    }

    /// Waits until this node's catalogue is at least as new as the cluster's at the moment of the call. Cancel safe.
    ///
    /// # Errors
    /// [`ProposeError`] when the metadata group has no leader, or this node cannot catch up, in time.
    pub async fn linearize(&self, deadline: Duration) -> Result<(), ProposeError> {
        read::linearize(&self.shared, deadline).await
    }

    /// A group's leader as this node knows it; it may have changed already.
    #[must_use]
    pub fn leader_of(&self, group: GroupId) -> Option<NodeId> {
        self.shared.leader_of(group)
    }

    /// Every group's leader, and each change of one.
    #[must_use]
    pub fn leaders(&self) -> watch::Receiver<Arc<LeaderMap>> {
        self.shared.leaders.subscribe()
    }

    /// The leaderships of this node as they come and go, in order for each shard. Only the first call gets them;
    /// later ones get a channel that is closed.
    #[must_use]
    pub fn take_leadership_events(&self) -> mpsc::Receiver<Leadership> {
        self.events.lock().take().unwrap_or_else(|| mpsc::channel(1).1)
    }

    /// Every group on this node.
    #[must_use]
    pub fn groups_status(&self) -> Vec<GroupStatus> {
        self.shared.groups.all().iter().map(|group| status::of(group)).collect()
    }

    /// Whether this node is in contact with a majority of the metadata group: its leader is known and was heard of
    /// late, or, on the leader, a majority has answered of late.
    #[must_use]
    pub fn has_majority(&self) -> bool {
        self.shared.groups.get(GroupId::METADATA).is_some_and(|metadata| metadata.has_majority())
    }

    /// Hands every leadership to another node that is alive and up to date, as far as there is one, and waits a few
    /// seconds at most.
    pub async fn transfer_all_leadership(&self) {
        let led: Vec<Arc<Group>> =
            self.shared.groups.all().into_iter().filter(|group| group.leads()).collect();
        let transfers = led.iter().map(|group| async move {
            let heirs = transfer::heirs(&self.shared, group, None);
            transfer::hand_over(&self.shared, group, &heirs).await
        });
        let all = futures_util::future::join_all(transfers);
        if tokio::time::timeout(TRANSFER_PATIENCE, all).await.is_err() {
            tracing::warn!("not every leadership was taken over in time");
        }
    }

    /// Whether a shard's members are those that the catalogue says, with no change under way, as its leader tells.
    #[must_use]
    pub fn is_settled(&self, shard: ShardId) -> bool {
        let replicas = self.shared.catalogue.read().shard(shard).map(|record| record.replicas.clone());
        replicas.is_some_and(|replicas| self.shared.rumours.is_settled(shard, &replicas))
    }

    /// What would be lost if a node were removed from the cluster now, as a sentence; `None` when nothing would.
    #[must_use]
    pub fn removal_hazard(&self, node: NodeId) -> Option<String> {
        arrange::hazard(&self.shared, node)
    }

    /// Whether a node votes in the metadata group, as far as this one knows.
    #[must_use]
    pub fn votes_in_metadata(&self, node: NodeId) -> bool {
        arrange::votes_in_metadata(&self.shared, node)
    }

    /// Makes checkpoints until no body is left to be moved out of the logs, and purges them: what is written after that
    /// to make room on the disk is little. The node fails if it cannot.
    pub async fn checkpoint(&self) {
        while !self.shared.stop.is_cancelled() {
            match checkpoint::make(&self.shared).await {
                Ok(checkpoint::Moved::Part) => {}
                Ok(checkpoint::Moved::All) => return,
                Err(error) => return self.shared.fail(&format!("no checkpoint: {error}")),
            }
        }
    }

    /// Makes a last checkpoint, so that the next start is quick, and stops every group.
    pub async fn shutdown(&self) {
        if let Err(error) = checkpoint::make(&self.shared).await {
            tracing::warn!(%error, "no last checkpoint; the log has everything");
        }
        self.shared.stop.cancel();
        for group in self.shared.groups.all() {
            if let Err(error) = group.raft.shutdown().await {
                tracing::warn!(group = %group.id, %error, "group not stopped in order");
            }
        }
    }

    /// Becomes a sentence when the node cannot go on: the process must end.
    #[must_use]
    pub fn fatal(&self) -> watch::Receiver<Option<String>> {
        self.shared.fatal.subscribe()
    }
}
