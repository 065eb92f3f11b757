//! Keeps what runs on this node in line with what the catalogue says: which shards are here, who their members are, who
//! should lead; and, on the metadata leader, what becomes of the transient queues of a dead node (the rest of its
//! housekeeping is `arrange`).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use bytes::Bytes;
use warren_proto::catalogue::{Command, NodeUp, ShardRecord};
use warren_rpc::{ClusterId, PeerState};
use warren_store::StoreError;
use warren_types::{GroupId, NodeId, QueueHost, ShardId};

use crate::StartError;
use crate::arrange::Arranger;
use crate::blocking;
use crate::group::Group;
use crate::member::{self, kind};
use crate::membership::{self, Wanted, members};
use crate::node::Shared;
use crate::transfer::{self, CAUGHT_UP};
use crate::types::Member;
use crate::{forget, form, read, status};

/// How often it looks, besides at every change of the catalogue.
const LOOK: Duration = Duration::from_millis(250);
/// A replica that is not the preferred leader initialises a shard if nobody has for so long.
const UNBORN: Duration = Duration::from_secs(5);
/// A preferred leader gets its shard back when it has been connected for so long.
const STABLE: Duration = Duration::from_secs(10);
/// Between two transfers from this node.
const TRANSFERS: Duration = Duration::from_secs(2);
/// A node's transient queues move when it has been gone for so long.
const GONE: Duration = Duration::from_secs(3);
/// How long a start waits for the peers, to say who is alive.
const COMPANY: Duration = Duration::from_secs(2);
/// How long a replica may take to say whether it holds a shard.
const HOLDS: Duration = Duration::from_millis(500);
/// How long one command of the controller may take.
const PROPOSE: Duration = Duration::from_secs(5);

/// Learns the peers' addresses from the catalogue and from the metadata group's membership.
pub(crate) fn know_peers(shared: &Shared) {
    let known: Vec<(NodeId, String)> = {
        let catalogue = shared.catalogue.read();
        catalogue.nodes().map(|node| (node.id, node.address.clone())).collect()
    };
    let named: BTreeSet<NodeId> = known.iter().map(|(node, _)| *node).collect();
    for (node, address) in known {
        shared.peers.set(node, &address);
    }
    if let Some(metadata) = shared.groups.get(GroupId::METADATA) {
        for (node, member) in members(&metadata) {
            if !named.contains(&NodeId(node)) && !shared.catalogue.read().is_removed(NodeId(node)) {
                shared.peers.set(NodeId(node), &member.address);
            }
        }
    }
    let gone: Vec<NodeId> = {
        let catalogue = shared.catalogue.read();
        shared.peers.table().keys().copied().filter(|node| catalogue.is_removed(*node)).collect()
    };
    for node in gone {
        shared.peers.remove(node);
    }
}

/// The shards that the catalogue places on this node, and those that are here all the same: their members may be about
/// to change, and until they have they need this replica.
///
/// # Errors
/// When the store fails.
pub(crate) async fn shards_here(shared: &Shared) -> Result<Vec<ShardId>, StartError> {
    let me = shared.options.node;
    let (mut placed, others): (Vec<ShardId>, Vec<ShardId>) = {
        let catalogue = shared.catalogue.read();
        let (placed, others): (Vec<_>, Vec<_>) =
            catalogue.shards().partition(|shard| shard.replicas.contains(&me));
        let shard = |record: &ShardRecord| record.shard;
        (placed.into_iter().map(shard).collect(), others.into_iter().map(shard).collect())
    };
    let store = shared.store.clone();
    let held = blocking(move || {
        let mut held = Vec::new();
        for shard in others {
            if member::holds_log(&store, GroupId::from(shard))? {
                held.push(shard);
            }
        }
        Ok::<_, StoreError>(held)
    });
    let held = held.await.map_err(|error| StartError::Store(error.to_string()))?;
    placed.extend(held.map_err(|error| StartError::Store(error.to_string()))?);
    Ok(placed)
}

struct Controller {
    shared: Arc<Shared>,
    /// Shards without members, since when.
    unborn: BTreeMap<ShardId, Instant>,
    /// Replicas that have stopped, and when they may go.
    retired: BTreeMap<ShardId, Instant>,
    /// Whether one was tried at this look: a leader may let one wait for its answer, and shards that begin must not wait for many.
    tried: bool,
    last_transfer: Instant,
    /// Dead nodes whose transient queues were moved.
    moved: BTreeSet<NodeId>,
    arranger: Arranger,
}

/// Runs until the node stops.
pub(crate) async fn run(shared: Arc<Shared>) {
    let mut revisions = shared.catalogue.revision();
    let mut controller = Controller {
        shared: Arc::clone(&shared),
        unborn: BTreeMap::new(),
        retired: BTreeMap::new(),
        tried: false,
        last_transfer: Instant::now(),
        moved: BTreeSet::new(),
        arranger: Arranger::default(),
    };
    loop {
        controller.look().await;
        tokio::select! {
            changed = revisions.changed() => {
                if changed.is_err() {
                    return;
                }
            }
            () = tokio::time::sleep(LOOK) => {}
            () = shared.stop.cancelled() => return,
        }
    }
}

impl Controller {
    async fn look(&mut self) {
        let shared = Arc::clone(&self.shared);
        know_peers(&shared);
        let (formed, shards, addresses) = {
            let catalogue = shared.catalogue.read();
            let shards: Vec<ShardRecord> = catalogue.shards().cloned().collect();
            let addresses: BTreeMap<u64, Member> =
                catalogue.nodes().map(|node| (node.id.0, Member { address: node.address.clone() })).collect();
            (catalogue.cluster().map(|cluster| ClusterId(cluster.id)), shards, addresses)
        };
        if formed.is_some() && shared.peers.own_hello().cluster != formed {
            shared.belongs.store(true, Ordering::Release);
            shared.peers.update_hello(|hello| {
                hello.cluster = formed;
                hello.fresh = false;
                hello.sees = Vec::new();
            });
        }
        self.tried = false;
        for shard in &shards {
            self.keep_shard(shard, &addresses).await;
        }
        self.give_back(&shards).await;
        let Some(metadata) = shared.groups.get(GroupId::METADATA).filter(|metadata| metadata.leads()) else {
            self.moved.clear();
            self.arranger.rest();
            return;
        };
        if formed.is_none() {
            form::form(&shared).await;
            return;
        }
        self.arranger.look(&shared, &metadata).await;
        self.move_transient().await;
    }

    /// One shard: started, initialised, its members as the catalogue says.
    async fn keep_shard(&mut self, record: &ShardRecord, addresses: &BTreeMap<u64, Member>) {
        let (shared, shard) = (&Arc::clone(&self.shared), record.shard);
        let me = shared.options.node;
        let placed = record.replicas.contains(&me);
        let group = match shared.groups.get(GroupId::from(shard)) {
            Some(group) => group,
            None if !placed => {
                self.forget(shard).await;
                return;
            }
            None => match shared.start_shard(shard).await {
                Ok(group) => {
                    self.retired.remove(&shard);
                    group
                }
                Err(error) => {
                    shared.fail(&error.to_string());
                    return;
                }
            },
        };
        forget::lift(shared, &group).await;
        let wanted: BTreeMap<u64, Member> = record
            .replicas
            .iter()
            .filter_map(|node| addresses.get_key_value(&node.0))
            .map(|(node, member)| (*node, member.clone()))
            .collect();
        if group.leads() {
            membership::reconcile(shared, &group, Wanted { voters: wanted, ..Wanted::default() });
            return;
        }
        if !placed {
            self.retire(record, &group).await;
            return;
        }
        if !members(&group).is_empty() || group.is_initialized().await {
            self.unborn.remove(&shard);
            return;
        }
        let since = *self.unborn.entry(shard).or_insert_with(Instant::now);
        let place = record.replicas.iter().position(|node| *node == me).unwrap_or_default();
        let late = UNBORN + Duration::from_secs(place as u64);
        if (record.preferred == me || since.elapsed() >= late)
            && self.may_initialise(record, since.elapsed() >= UNBORN).await
        {
            match group.raft.initialize(wanted).await {
                Ok(()) => tracing::debug!(%shard, "initialised"),
                Err(error) => tracing::debug!(%shard, %error, "not initialised"),
            }
        }
    }

    /// A replica that its group does not need any more stops. It is told by the leader's claim that exactly the others
    /// are its members; until then it takes part.
    async fn retire(&mut self, record: &ShardRecord, group: &Arc<Group>) {
        let shared = Arc::clone(&self.shared);
        let elsewhere = shared.rumours.leader(group.id).is_some_and(|leader| leader != shared.options.node);
        if !elsewhere || !shared.rumours.is_settled(record.shard, &record.replicas) {
            return;
        }
        tracing::info!(shard = %record.shard, "this node's replica is not needed any more");
        group.retire();
        shared.groups.remove(group.id);
        if let Err(error) = group.raft.shutdown().await {
            tracing::warn!(group = %group.id, %error, "group not stopped in order");
        }
        self.retired.insert(record.shard, Instant::now() + forget::AFTER);
    }

    /// A replica that has stopped goes, if its leader agrees.
    async fn forget(&mut self, shard: ShardId) {
        let Some(due) = self.retired.get(&shard).copied().filter(|_| !self.tried) else { return };
        let shared = Arc::clone(&self.shared);
        let leader = shared.rumours.leader(GroupId::from(shard));
        let Some(leader) = leader.filter(|leader| *leader != shared.options.node && Instant::now() >= due)
        else {
            return;
        };
        self.tried = true;
        match forget::forget(&shared, shard, leader).await {
            Ok(true) => {
                self.retired.remove(&shard);
            }
            Ok(false) => {
                self.retired.insert(shard, Instant::now() + forget::AFTER);
            }
            Err(_) if shared.stop.is_cancelled() => {}
            Err(reason) => shared.fail(&format!("what is left of shard {shard} cannot be deleted: {reason}")),
        }
    }

    /// Whether nobody holds any log of the shard: it has never begun. All replicas say so; or, when one stays away, a
    /// majority of them, if all are first members of the cluster. A replica that was added later, to a shard whose
    /// other replicas it cannot ask, must wait for them: a second beginning would be another log.
    async fn may_initialise(&self, record: &ShardRecord, waited: bool) -> bool {
        let shared = &self.shared;
        let group = GroupId::from(record.shard);
        if shared.guards.is_set(group) {
            return false;
        }
        let mut unheld = 1;
        for node in record.replicas.iter().filter(|node| **node != shared.options.node) {
            let asked = shared.peers.call(*node, group, kind::HOLDS, Bytes::new(), HOLDS).await;
            match asked.ok().as_deref() {
                Some([0]) => unheld += 1,
                Some(_) => return false,
                None => {}
            }
        }
        if unheld == record.replicas.len() {
            return true;
        }
        let promise = shared.promise.lock().await;
        let first = |node: &NodeId| promise.as_ref().is_some_and(|promise| promise.has(*node));
        waited && unheld * 2 > record.replicas.len() && record.replicas.iter().all(first)
    }

    /// Preferred leaders that are back and up to date get their shards back, one after the other.
    async fn give_back(&mut self, shards: &[ShardRecord]) {
        if self.last_transfer.elapsed() < TRANSFERS {
            return;
        }
        let table = self.shared.peers.table();
        for record in shards.iter().filter(|record| record.preferred != self.shared.options.node) {
            let stable = table
                .get(&record.preferred)
                .is_some_and(|peer| peer.is_connected() && peer.since.elapsed() >= STABLE);
            let group = self.shared.groups.get(GroupId::from(record.shard)).filter(|group| group.leads());
            let (true, Some(group)) = (stable, group) else { continue };
            let status = status::of(&group);
            let ready = status.members.contains(&record.preferred)
                && status.replicas.iter().any(|r| r.node == record.preferred && r.lag <= CAUGHT_UP);
            if ready {
                tracing::debug!(shard = %record.shard, node = %record.preferred, "giving leadership back");
                self.last_transfer = Instant::now();
                let (shared, preferred) = (Arc::clone(&self.shared), record.preferred);
                tokio::spawn(async move {
                    let heirs = transfer::heirs(&shared, &group, Some(preferred));
                    transfer::hand_over(&shared, &group, &heirs).await;
                });
                return;
            }
        }
    }

    /// The transient queues of a node that has been gone for a while move to one that lives.
    async fn move_transient(&mut self) {
        let table = self.shared.peers.table();
        self.moved.retain(|node| table.get(node).is_some_and(|peer| !peer.is_connected()));
        for (node, peer) in table.iter() {
            let gone = match peer.state {
                PeerState::Dead => peer.since.elapsed() >= GONE,
                PeerState::Suspect { silent_since } => silent_since.elapsed() >= GONE,
                PeerState::Connecting => peer.since.elapsed() >= GONE * 3,
                PeerState::Connected => false,
            };
            if !gone || self.moved.contains(node) {
                continue;
            }
            let hosts = {
                let catalogue = self.shared.catalogue.read();
                catalogue.node(*node).is_some() && catalogue.queue_count_of_host(QueueHost::Node(*node)) > 0
            };
            if !hosts {
                continue;
            }
            let living = table.iter().filter(|(_, peer)| peer.is_connected()).map(|(node, _)| *node);
            let to = living.chain([self.shared.options.node]).min_by_key(|living| {
                self.shared.catalogue.read().queue_count_of_host(QueueHost::Node(*living))
            });
            let Some(to) = to else { return };
            tracing::info!(from = %node, %to, "transient queues of a lost node move");
            if self.propose(Command::MoveTransient { from: *node, to }).await {
                self.moved.insert(*node);
            }
        }
    }

    async fn propose(&self, command: Command) -> bool {
        match read::propose(&self.shared, &command, PROPOSE).await {
            Ok(Ok(_)) => true,
            Ok(Err(error)) => {
                tracing::debug!(%error, "the catalogue refused");
                false
            }
            Err(error) => {
                tracing::debug!(%error, "not carried out");
                false
            }
        }
    }
}

/// Records this start of the node, once.
pub(crate) async fn announce(shared: Arc<Shared>) {
    let me = shared.options.node;
    let mut revisions = shared.catalogue.revision();
    let known = || shared.catalogue.read().node(me).is_some();
    while !known() {
        tokio::select! {
            _ = revisions.changed() => {}
            () = shared.stop.cancelled() => return,
        }
    }
    let began = Instant::now();
    loop {
        let table = shared.peers.table();
        let all = table.values().all(|peer| peer.is_connected());
        if (all || began.elapsed() >= COMPANY) && !shared.stop.is_cancelled() {
            let alive = table
                .iter()
                .filter(|(_, peer)| peer.is_connected())
                .map(|(node, peer)| (*node, peer.incarnation))
                .collect();
            let moved = shared.options.zone.is_some()
                && shared.catalogue.read().node(me).is_some_and(|node| node.zone != shared.options.zone);
            if moved {
                let recorded =
                    read::propose(&shared, &Command::AddNode(form::own_record(&shared)), PROPOSE).await;
                if let Err(error) = recorded {
                    tracing::debug!(%error, "this node's zone is not recorded yet");
                }
            }
            let command = Command::NodeUp(NodeUp {
                node: me,
                incarnation: shared.options.incarnation,
                address: shared.options.advertise.clone(),
                name: shared.options.name.clone(),
                http_address: shared.options.http_address.clone(),
                alive,
            });
            match read::propose(&shared, &command, PROPOSE).await {
                Ok(Ok(_)) => return,
                Ok(Err(error)) => {
                    tracing::warn!(%error, "this start of the node is not recorded");
                    return;
                }
                Err(error) => tracing::debug!(%error, "this start of the node is not recorded yet"),
            }
        }
        tokio::select! {
            () = tokio::time::sleep(Duration::from_millis(50)) => {}
            () = shared.stop.cancelled() => return,
        }
    }
}
