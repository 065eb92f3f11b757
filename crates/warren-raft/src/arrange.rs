//! The metadata leader's housekeeping: who votes in the metadata group, where replicas go when nodes come and go, and
//! the end of a node's membership. What moves is decided by `warren_catalogue::next_moves`; who leads a shard
//! carries it out (`membership`), and tells when it is done (`rumours`).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use warren_catalogue::{Duty, Site, metadata_voters, next_moves};
use warren_proto::catalogue::{Command, ShardRecord};
use warren_types::{GroupId, NodeId, QueueHost};

use crate::group::Group;
use crate::membership::{self, Wanted};
use crate::node::Shared;
use crate::read;
use crate::transfer;
use crate::types::Member;

/// Shards that may be on the move at once. A move copies a shard's whole state to its new place.
const AT_ONCE: usize = 2;
/// Between two plans.
const PACE: Duration = Duration::from_millis(300);
/// A node that is gone for so long makes room for another voter of the metadata group.
const LONG_GONE: Duration = Duration::from_secs(30);
/// How long one command may take.
const PROPOSE: Duration = Duration::from_secs(5);

/// What the metadata leader remembers between two looks.
#[derive(Default)]
pub(crate) struct Arranger {
    planned: Option<Instant>,
    gone: BTreeMap<NodeId, Instant>,
    /// Nodes that leave, and what keeps them, said once.
    said: BTreeMap<NodeId, String>,
}

struct View {
    sites: Vec<Site>,
    shards: Vec<ShardRecord>,
    addresses: BTreeMap<u64, Member>,
    replication: u32,
}

fn view(shared: &Shared) -> View {
    let table = shared.peers.table();
    let alive = |node: NodeId| {
        node == shared.options.node || table.get(&node).is_some_and(|peer| peer.is_connected())
    };
    let catalogue = shared.catalogue.read();
    let sites = catalogue.nodes().map(|node| Site {
        node: node.id,
        zone: node.zone.clone(),
        duty: node.duty,
        alive: alive(node.id),
    });
    View {
        sites: sites.collect(),
        shards: catalogue.shards().cloned().collect(),
        addresses: catalogue
            .nodes()
            .map(|node| (node.id.0, Member { address: node.address.clone() }))
            .collect(),
        replication: catalogue.cluster().map_or(1, |cluster| cluster.replication),
    }
}

impl Arranger {
    /// Forgets everything: another node leads the metadata group.
    pub(crate) fn rest(&mut self) {
        *self = Self::default();
    }

    /// One look, on the leader of the metadata group of a formed cluster.
    pub(crate) async fn look(&mut self, shared: &Arc<Shared>, metadata: &Arc<Group>) {
        let view = view(shared);
        self.gone.retain(|node, _| view.sites.iter().any(|site| site.node == *node && !site.alive));
        for site in view.sites.iter().filter(|site| !site.alive) {
            self.gone.entry(site.node).or_insert_with(Instant::now);
        }
        let voters = self.metadata_group(shared, metadata, &view);
        if self.planned.is_some_and(|planned| planned.elapsed() < PACE) {
            return;
        }
        self.planned = Some(Instant::now());
        if step_down(shared, metadata, &view).await {
            return;
        }
        let settled = |shard: &ShardRecord| shared.rumours.is_settled(shard.shard, &shard.replicas);
        for moved in next_moves(&view.sites, &view.shards, view.replication, settled, AT_ONCE) {
            tell(&view, &moved);
            if !propose(shared, Command::SetShardReplicas(moved)).await {
                return;
            }
        }
        self.let_go(shared, &view, &voters).await;
    }

    /// Who votes in the metadata group, and who only follows. Returns the voters as they are.
    fn metadata_group(&self, shared: &Arc<Shared>, metadata: &Arc<Group>, view: &View) -> BTreeSet<NodeId> {
        let present = membership::voters(metadata);
        let mut sites = view.sites.clone();
        for site in &mut sites {
            let gone = self.gone.get(&site.node);
            site.alive = gone.is_none_or(|since| since.elapsed() < LONG_GONE);
        }
        let voters = metadata_voters(&sites, &present);
        let member = |node: NodeId| view.addresses.get(&node.0).map(|member| (node.0, member.clone()));
        let learners = view.sites.iter().map(|site| site.node).filter(|node| !voters.contains(node));
        let wanted = Wanted {
            learners: learners.filter_map(member).collect(),
            voters: voters.iter().copied().filter_map(member).collect(),
        };
        membership::reconcile(shared, metadata, wanted);
        present
    }

    /// Nodes that leave and hold nothing any more are forgotten.
    async fn let_go(&mut self, shared: &Shared, view: &View, voters: &BTreeSet<NodeId>) {
        self.said
            .retain(|node, _| view.sites.iter().any(|site| site.node == *node && site.duty == Duty::Leaving));
        for site in view.sites.iter().filter(|site| site.duty == Duty::Leaving) {
            if let Some(kept) = what_keeps(shared, view, site, voters) {
                let said = self.said.entry(site.node).or_default();
                if *said != kept {
                    tracing::info!(node = %site.node, "leaving: {kept}");
                    *said = kept;
                }
                continue;
            }
            let hosts = shared.catalogue.read().queue_count_of_host(QueueHost::Node(site.node)) > 0;
            let heir = view.sites.iter().filter(|other| other.alive && other.node != site.node).min_by_key(
                |other| {
                    let load = shared.catalogue.read().queue_count_of_host(QueueHost::Node(other.node));
                    (other.duty, load, other.node)
                },
            );
            if hosts
                && let Some(heir) = heir
                && !propose(shared, Command::MoveTransient { from: site.node, to: heir.node }).await
            {
                return;
            }
            if propose(shared, Command::RemoveNode { node: site.node }).await {
                tracing::info!(node = %site.node, "removed from the cluster");
            }
        }
    }
}

/// A node that is drained or leaves may have to vote, where few are left; another one leads if there is one. True when
/// this one has just given up leading, or tried to.
async fn step_down(shared: &Shared, metadata: &Group, view: &View) -> bool {
    let is_full = |node: NodeId| view.sites.iter().any(|site| site.node == node && site.duty == Duty::Full);
    if is_full(shared.options.node) {
        return false;
    }
    let mut heirs = transfer::heirs(shared, metadata, None);
    heirs.retain(|heir| is_full(*heir));
    if heirs.is_empty() {
        return false;
    }
    transfer::hand_over(shared, metadata, &heirs).await;
    true
}

/// Why a node that leaves must stay a little.
fn what_keeps(shared: &Shared, view: &View, site: &Site, voters: &BTreeSet<NodeId>) -> Option<String> {
    let held = view.shards.iter().filter(|shard| shard.replicas.contains(&site.node)).count();
    if held > 0 {
        return Some(format!("{held} replicas left"));
    }
    // Its replicas may still be on their way: the record says what should be.
    let moving =
        view.shards.iter().filter(|shard| !shared.rumours.is_settled(shard.shard, &shard.replicas)).count();
    if moving > 0 {
        return Some(format!("{moving} shards still move"));
    }
    voters.contains(&site.node).then(|| "it votes in the metadata group".to_owned())
}

fn tell(view: &View, moved: &ShardRecord) {
    let Some(before) = view.shards.iter().find(|shard| shard.shard == moved.shard) else { return };
    let come: Vec<&NodeId> = moved.replicas.iter().filter(|node| !before.replicas.contains(node)).collect();
    let go: Vec<&NodeId> = before.replicas.iter().filter(|node| !moved.replicas.contains(node)).collect();
    if come.is_empty() && go.is_empty() {
        tracing::debug!(shard = %moved.shard, preferred = %moved.preferred, "a shard gets another preferred leader");
    } else {
        tracing::info!(shard = %moved.shard, to = ?come, from = ?go, "a replica moves");
    }
}

async fn propose(shared: &Shared, command: Command) -> bool {
    match read::propose(shared, &command, PROPOSE).await {
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

/// What would be lost if a node that is gone were removed now, as a sentence; `None` when nothing would. A node that is
/// there hands over everything first.
pub(crate) fn hazard(shared: &Shared, node: NodeId) -> Option<String> {
    let view = view(shared);
    let site = view.sites.iter().find(|site| site.node == node)?;
    if site.alive {
        return None;
    }
    let alive = |node: &NodeId| view.sites.iter().any(|site| site.node == *node && site.alive);
    let held: Vec<&ShardRecord> = view.shards.iter().filter(|shard| shard.replicas.contains(&node)).collect();
    let only = held.iter().filter(|shard| shard.replicas.len() == 1).count();
    if only > 0 {
        return Some(format!(
            "this node is not reached and holds the only replica of {only} shards: their messages would be lost; start it again"
        ));
    }
    let stuck = held
        .iter()
        .filter(|shard| shard.replicas.iter().filter(|node| alive(node)).count() * 2 <= shard.replicas.len())
        .count();
    (stuck > 0).then(|| {
        format!(
            "this node is not reached and {stuck} shards have no majority without it: start it, or others of their nodes, again"
        )
    })
}

/// Which groups a node is in: its metadata vote and how many replicas of shards.
pub(crate) fn votes_in_metadata(shared: &Shared, node: NodeId) -> bool {
    shared.groups.get(GroupId::METADATA).is_some_and(|metadata| membership::voters(&metadata).contains(&node))
}
