//! Which nodes hold a shard, which shard takes a queue, and every queue by where it lives.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use warren_proto::catalogue::{NodeRecord, ShardRecord};
use warren_types::{ConnectionId, ExclusiveOwner, NodeId, QueueHost, QueueId, QueueSpec, ShardId};

use crate::lookup::Lookup;

/// Every queue by number, by host and by owner, and how many each shard has.
#[derive(Clone, Debug, Default)]
pub(crate) struct Hosting {
    specs: Lookup<QueueId, Arc<QueueSpec>>,
    by_host: BTreeMap<QueueHost, BTreeSet<QueueId>>,
    by_owner: BTreeMap<ExclusiveOwner, BTreeSet<QueueId>>,
    /// Every shard, the one with the fewest queues first.
    load: BTreeSet<(usize, ShardId)>,
}

impl Hosting {
    /// A shard that may be given queues.
    pub(crate) fn add_shard(&mut self, shard: ShardId) {
        self.load.insert((self.count(QueueHost::Shard(shard)), shard));
    }

    /// The shard with the fewest queues; of several the lowest. `None` before the cluster is formed.
    pub(crate) fn least_loaded(&self) -> Option<ShardId> {
        self.load.first().map(|(_, shard)| *shard)
    }

    pub(crate) fn insert(&mut self, spec: &Arc<QueueSpec>) {
        self.specs.insert(spec.id, Arc::clone(spec));
        self.enter(spec.host, spec.id);
        if let Some(owner) = spec.exclusive {
            self.by_owner.entry(owner).or_default().insert(spec.id);
        }
    }

    pub(crate) fn remove(&mut self, queue: QueueId) -> Option<Arc<QueueSpec>> {
        let spec = self.specs.remove(&queue)?;
        self.leave(spec.host, queue);
        if let Some(owner) = spec.exclusive
            && let Some(owned) = self.by_owner.get_mut(&owner)
        {
            owned.remove(&queue);
            if owned.is_empty() {
                self.by_owner.remove(&owner);
            }
        }
        Some(spec)
    }

    pub(crate) fn get(&self, queue: QueueId) -> Option<&Arc<QueueSpec>> {
        self.specs.get(&queue)
    }

    pub(crate) fn len(&self) -> usize {
        self.specs.len()
    }

    pub(crate) fn count(&self, host: QueueHost) -> usize {
        self.by_host.get(&host).map_or(0, BTreeSet::len)
    }

    pub(crate) fn of_host(&self, host: QueueHost) -> impl Iterator<Item = &Arc<QueueSpec>> {
        self.by_host.get(&host).into_iter().flatten().filter_map(|queue| self.specs.get(queue))
    }

    pub(crate) fn of_owner(&self, owner: ExclusiveOwner) -> Vec<QueueId> {
        self.by_owner.get(&owner).into_iter().flatten().copied().collect()
    }

    /// The exclusive queues of every connection that this node ever had.
    pub(crate) fn of_owners_on(&self, node: NodeId) -> impl Iterator<Item = (ExclusiveOwner, QueueId)> {
        self.by_owner
            .range(first_owner(node)..)
            .take_while(move |(owner, _)| owner.node == node)
            .flat_map(|(owner, queues)| queues.iter().map(|queue| (*owner, *queue)))
    }

    /// # Errors
    /// What disagrees.
    pub(crate) fn check(&self) -> Result<(), String> {
        let hosted: usize = self.by_host.values().map(BTreeSet::len).sum();
        if hosted != self.specs.len() || self.by_host.values().any(BTreeSet::is_empty) {
            return Err(format!("{hosted} queues at hosts, {} in all", self.specs.len()));
        }
        for (host, queues) in &self.by_host {
            if !queues.iter().all(|queue| self.specs.get(queue).is_some_and(|spec| spec.host == *host)) {
                return Err(format!("a queue at {host} lives elsewhere"));
            }
        }
        let owned: usize = self.by_owner.values().map(BTreeSet::len).sum();
        let exclusive = |queue: &&QueueId| self.specs.get(queue).is_some_and(|spec| spec.exclusive.is_some());
        if owned != self.by_host.values().flatten().filter(exclusive).count() {
            return Err("owners and exclusive queues disagree".to_owned());
        }
        for (load, shard) in &self.load {
            if *load != self.count(QueueHost::Shard(*shard)) {
                return Err(format!("shard {shard} is not as loaded as it seems"));
            }
        }
        Ok(())
    }

    fn enter(&mut self, host: QueueHost, queue: QueueId) {
        self.reckon(host, |queues| {
            queues.insert(queue);
        });
    }

    fn leave(&mut self, host: QueueHost, queue: QueueId) {
        self.reckon(host, |queues| {
            queues.remove(&queue);
        });
    }

    // Changes a host's queues and keeps the shards' order by load.
    fn reckon(&mut self, host: QueueHost, change: impl FnOnce(&mut BTreeSet<QueueId>)) {
        let queues = self.by_host.entry(host).or_default();
        let before = queues.len();
        change(queues);
        let after = queues.len();
        if after == 0 {
            self.by_host.remove(&host);
        }
        if let QueueHost::Shard(shard) = host
            && self.load.remove(&(before, shard))
        {
            self.load.insert((after, shard));
        }
    }
}

fn first_owner(node: NodeId) -> ExclusiveOwner {
    ExclusiveOwner { node, incarnation: 0, connection: ConnectionId(0) }
}

/// Places the shards `1..=shards` of a new cluster: replicas rotate over the nodes, over as many zones as there are,
/// and the preferred leaders with them.
pub(crate) fn spread(nodes: &[NodeRecord], shards: u32, replication: u32) -> Vec<ShardRecord> {
    let order = interleaved(nodes);
    let wanted = usize::try_from(replication).unwrap_or(usize::MAX).min(order.len());
    let mut records = Vec::new();
    let mut start = 0;
    for shard in 1..=shards {
        let turn = || order.iter().cycle().skip(start).take(order.len());
        let mut replicas: Vec<NodeId> = Vec::with_capacity(wanted);
        let mut zones: Vec<&str> = Vec::new();
        for node in turn().filter(|_| wanted > 0) {
            match node.zone.as_deref() {
                Some(zone) if zones.contains(&zone) => continue,
                Some(zone) => zones.push(zone),
                None => {}
            }
            replicas.push(node.id);
            if replicas.len() == wanted {
                break;
            }
        }
        for node in turn() {
            if replicas.len() < wanted && !replicas.contains(&node.id) {
                replicas.push(node.id);
            }
        }
        if let Some(preferred) = replicas.first().copied() {
            records.push(ShardRecord { shard: ShardId(shard), replicas, preferred });
        }
        start = (start + 1) % order.len().max(1);
    }
    records
}

// Neighbours of different zones as far as possible: then any run of nodes is spread over zones.
fn interleaved(nodes: &[NodeRecord]) -> Vec<&NodeRecord> {
    let mut zones: BTreeMap<Option<&str>, VecDeque<&NodeRecord>> = BTreeMap::new();
    for node in nodes {
        zones.entry(node.zone.as_deref()).or_default().push_back(node);
    }
    let mut order = Vec::with_capacity(nodes.len());
    while order.len() < nodes.len() {
        order.extend(zones.values_mut().filter_map(VecDeque::pop_front));
    }
    order
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(id: u64, zone: Option<&str>) -> NodeRecord {
        NodeRecord {
            id: NodeId(id),
            name: format!("n{id}"),
            address: String::new(),
            zone: zone.map(str::to_owned),
        }
    }

    #[test]
    fn leaders_and_replicas_are_spread_evenly() {
        let nodes: Vec<_> = (1..=5).map(|id| node(id, None)).collect();
        let shards = spread(&nodes, 20, 3);
        for id in 1..=5 {
            assert_eq!(shards.iter().filter(|shard| shard.preferred == NodeId(id)).count(), 4);
            assert_eq!(shards.iter().filter(|shard| shard.replicas.contains(&NodeId(id))).count(), 12);
        }
    }

    #[test]
    fn a_shard_has_a_replica_in_every_zone_when_there_are_as_many_as_replicas() {
        let nodes = [
            node(1, Some("a")),
            node(2, Some("a")),
            node(3, Some("a")),
            node(4, Some("b")),
            node(5, Some("c")),
        ];
        for shard in spread(&nodes, 16, 3) {
            let zones: BTreeSet<_> = shard
                .replicas
                .iter()
                .map(|id| nodes.iter().find(|node| node.id == *id).unwrap().zone.clone())
                .collect();
            assert_eq!(zones.len(), 3, "{shard:?}");
        }
    }

    #[test]
    fn a_cluster_smaller_than_the_replication_has_a_replica_on_every_node() {
        let shards = spread(&[node(9, None), node(4, None)], 3, 3);
        let replicas: Vec<_> = shards.iter().map(|shard| shard.replicas.clone()).collect();
        assert_eq!(
            replicas,
            [vec![NodeId(9), NodeId(4)], vec![NodeId(4), NodeId(9)], vec![NodeId(9), NodeId(4)]]
        );
    }
}
