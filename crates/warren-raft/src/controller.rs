//! Keeps what runs in line with what the catalogue says: which shards are here, who their members are, who should lead,
//! and what becomes of the transient queues of a dead node.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use bytes::Bytes;
use openraft::ChangeMembers;
use openraft::async_runtime::WatchReceiver;
use warren_proto::catalogue::{Command, NodeUp, ShardRecord};
use warren_rpc::{ClusterId, PeerState};
use warren_types::{GroupId, NodeId, QueueHost, ShardId};

use crate::group::Group;
use crate::member::kind;
use crate::node::Shared;
use crate::types::Member;
use crate::{form, read, status};

/// How often it looks, besides at every change of the catalogue.
const LOOK: Duration = Duration::from_millis(250);
/// A replica that is not the preferred leader initialises a shard if nobody has for so long.
const UNBORN: Duration = Duration::from_secs(5);
/// A preferred leader gets its shard back when it has been connected for so long.
const STABLE: Duration = Duration::from_secs(10);
/// Between two transfers from this node.
const TRANSFERS: Duration = Duration::from_secs(2);
/// Entries that a follower may be behind and still take over.
const CAUGHT_UP: u64 = 200;
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
            if !named.contains(&NodeId(node)) {
                shared.peers.set(NodeId(node), &member.address);
            }
        }
    }
}

/// The shards that the catalogue places on this node.
pub(crate) fn shards_here(shared: &Shared) -> Vec<ShardId> {
    let me = shared.options.node;
    let catalogue = shared.catalogue.read();
    catalogue.shards().filter(|shard| shard.replicas.contains(&me)).map(|shard| shard.shard).collect()
}

fn members(group: &Group) -> BTreeMap<u64, Member> {
    let metrics = group.raft.server_metrics();
    let metrics = metrics.borrow_watched();
    metrics.membership_config.nodes().map(|(node, member)| (*node, member.clone())).collect()
}

struct Controller {
    shared: Arc<Shared>,
    /// Shards without members, since when.
    unborn: BTreeMap<ShardId, Instant>,
    last_transfer: Instant,
    /// Dead nodes whose transient queues were moved.
    moved: BTreeSet<NodeId>,
    /// Groups whose membership is being changed.
    changing: Arc<parking_lot::Mutex<BTreeSet<GroupId>>>,
}

/// Runs until the node stops.
pub(crate) async fn run(shared: Arc<Shared>) {
    let mut revisions = shared.catalogue.revision();
    let mut controller = Controller {
        shared: Arc::clone(&shared),
        unborn: BTreeMap::new(),
        last_transfer: Instant::now(),
        moved: BTreeSet::new(),
        changing: Arc::default(),
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
        let (formed, shards, addresses, replication) = {
            let catalogue = shared.catalogue.read();
            let shards: Vec<ShardRecord> = catalogue.shards().cloned().collect();
            let addresses: BTreeMap<u64, Member> =
                catalogue.nodes().map(|node| (node.id.0, Member { address: node.address.clone() })).collect();
            let cluster = catalogue.cluster();
            (cluster.map(|cluster| ClusterId(cluster.id)), shards, addresses, cluster.map(|c| c.replication))
        };
        if formed.is_some() && shared.peers.own_hello().cluster != formed {
            shared.belongs.store(true, Ordering::Release);
            shared.peers.update_hello(|hello| {
                hello.cluster = formed;
                hello.fresh = false;
                hello.sees = Vec::new();
            });
        }
        for shard in &shards {
            self.keep_shard(shard, &addresses).await;
        }
        self.give_back(&shards).await;
        let Some(metadata) = shared.groups.get(GroupId::METADATA).filter(|metadata| metadata.leads()) else {
            self.moved.clear();
            return;
        };
        if formed.is_none() {
            form::form(&shared).await;
            return;
        }
        self.reconcile(&metadata, &addresses);
        self.fill_up(&shards, &addresses, replication.unwrap_or(1)).await;
        self.move_transient().await;
    }

    /// One shard: started, initialised, its members as the catalogue says.
    async fn keep_shard(&mut self, record: &ShardRecord, addresses: &BTreeMap<u64, Member>) {
        let (shared, shard) = (&self.shared, record.shard);
        let me = shared.options.node;
        let running = shared.groups.get(GroupId::from(shard));
        if !record.replicas.contains(&me) {
            return;
        }
        let group = match running {
            Some(group) => group,
            None => match shared.start_shard(shard).await {
                Ok(group) => group,
                Err(error) => {
                    shared.fail(&error.to_string());
                    return;
                }
            },
        };
        let wanted: BTreeMap<u64, Member> = record
            .replicas
            .iter()
            .filter_map(|node| addresses.get_key_value(&node.0))
            .map(|(node, member)| (*node, member.clone()))
            .collect();
        if group.leads() {
            self.reconcile(&group, &wanted);
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

    /// Whether nobody holds any log of the shard: it has never begun. All replicas say so; or, when one stays away, a
    /// majority of them, if all are first members of the cluster. A replica that was added later, to a shard whose
    /// other replicas it cannot ask, must wait for them: a second beginning would be another log.
    async fn may_initialise(&self, record: &ShardRecord, waited: bool) -> bool {
        let shared = &self.shared;
        let group = GroupId::from(record.shard);
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

    /// Brings a group's membership to what is wanted: learners first, voters once they have caught up.
    fn reconcile(&self, group: &Arc<Group>, wanted: &BTreeMap<u64, Member>) {
        let known = members(group);
        let voters: BTreeSet<u64> = {
            let metrics = group.raft.server_metrics();
            let metrics = metrics.borrow_watched();
            metrics.membership_config.voter_ids().collect()
        };
        let wanted_voters: BTreeSet<u64> = wanted.keys().copied().collect();
        if wanted_voters.is_empty() || (voters == wanted_voters && known.len() == voters.len()) {
            return;
        }
        if !self.changing.lock().insert(group.id) {
            return;
        }
        let (shared, group) = (Arc::clone(&self.shared), Arc::clone(group));
        let (wanted, changing) = (wanted.clone(), Arc::clone(&self.changing));
        tokio::spawn(async move {
            change_members(&shared, &group, &wanted, &known).await;
            changing.lock().remove(&group.id);
        });
    }

    /// Shards with fewer replicas than wanted get one on a node that has few, as long as there are nodes.
    async fn fill_up(&self, shards: &[ShardRecord], nodes: &BTreeMap<u64, Member>, replication: u32) {
        let want = (replication as usize).min(nodes.len());
        let Some(short) = shards.iter().find(|shard| shard.replicas.len() < want) else { return };
        let table = self.shared.peers.table();
        let load = |node: NodeId| shards.iter().filter(|shard| shard.replicas.contains(&node)).count();
        let free =
            nodes.keys().map(|node| NodeId(*node)).filter(|node| !short.replicas.contains(node)).filter(
                |node| *node == self.shared.options.node || table.get(node).is_some_and(|p| p.is_connected()),
            );
        let Some(node) = free.min_by_key(|node| (load(*node), *node)) else { return };
        let mut record = short.clone();
        record.replicas.push(node);
        // A newcomer takes its share of leaderships, too.
        let led = |node: NodeId| shards.iter().filter(|shard| shard.preferred == node).count();
        if led(node) < led(record.preferred).saturating_sub(1) {
            record.preferred = node;
        }
        tracing::info!(shard = %record.shard, %node, "a shard gets another replica");
        self.propose(Command::SetShardReplicas(record)).await;
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
                if group.raft.trigger().transfer_leader(record.preferred.0).await.is_ok() {
                    self.last_transfer = Instant::now();
                }
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

async fn change_members(
    shared: &Shared,
    group: &Group,
    wanted: &BTreeMap<u64, Member>,
    known: &BTreeMap<u64, Member>,
) {
    let table = shared.peers.table();
    for (node, member) in wanted {
        let connected = *node == shared.options.node.0
            || table.get(&NodeId(*node)).is_some_and(|peer| peer.is_connected());
        if !known.contains_key(node) && connected {
            tracing::info!(group = %group.id, node, "adding a member");
            if let Err(error) = group.raft.add_learner(*node, member.clone(), false).await {
                tracing::debug!(group = %group.id, node, %error, "member not added");
            }
            return;
        }
    }
    let status = status::of(group);
    let behind = |node: &u64| {
        *node != shared.options.node.0
            && !status.members.contains(&NodeId(*node))
            && !status.replicas.iter().any(|r| r.node.0 == *node && r.lag <= CAUGHT_UP && r.matched.0 > 0)
    };
    if wanted.keys().any(|node| !known.contains_key(node) || behind(node)) {
        return;
    }
    let voters: BTreeSet<u64> = wanted.keys().copied().collect();
    tracing::info!(group = %group.id, ?voters, "changing members");
    let changed = group.raft.change_membership(ChangeMembers::ReplaceAllVoters(voters), false).await;
    if let Err(error) = changed {
        tracing::debug!(group = %group.id, %error, "members not changed");
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
