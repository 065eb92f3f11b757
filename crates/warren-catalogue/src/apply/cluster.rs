//! Nodes, shards, and what becomes of the queues that a node keeps in memory.

use std::collections::BTreeSet;
use std::sync::Arc;

use warren_proto::catalogue::{
    ClusterRecord, Duty, Form, NodeRecord, NodeState, NodeUp, PermissionRecord, ShardRecord,
};
use warren_types::{AmqpError, NodeId, QueueHost, QueueId, QueueSpec, ReplyCode};

use super::Effect;
use crate::names::{check_name, refuse};
use crate::placement;
use crate::state::Catalogue;

/// Most shards of a cluster: each is a Raft group on several nodes.
const SHARDS_MAX: u32 = 65_536;

const DEFAULT_VHOST: &str = "/";
const EVERYTHING: &str = ".*";

fn invalid(text: impl Into<String>) -> AmqpError {
    refuse(ReplyCode::PreconditionFailed, text)
}

impl Catalogue {
    pub(super) fn form(&mut self, form: &Form) -> Result<Effect, AmqpError> {
        match &self.cluster {
            Some(cluster) if cluster.id == form.cluster_id => return Ok(Effect::unchanged()),
            Some(cluster) => {
                return Err(invalid(format!("cluster '{}' is formed already", cluster.name)));
            }
            None => {}
        }
        let ids: BTreeSet<_> = form.nodes.iter().map(|node| node.id).collect();
        if form.nodes.is_empty() || ids.len() != form.nodes.len() {
            return Err(invalid("a cluster is formed of at least one node, each once"));
        }
        if form.shards == 0 || form.shards > SHARDS_MAX {
            return Err(invalid(format!("a cluster has 1 to {SHARDS_MAX} shards, not {}", form.shards)));
        }
        if form.replication == 0 {
            return Err(invalid("a shard has at least one replica"));
        }
        check_name("user name", &form.default_user.name)?;

        self.cluster = Some(ClusterRecord {
            id: form.cluster_id,
            name: form.name.clone(),
            replication: form.replication,
            formed: form.time,
        });
        for node in &form.nodes {
            self.nodes.insert(node.id, new_node(node));
        }
        for shard in placement::spread(&form.nodes, form.shards, form.replication) {
            self.hosting.add_shard(shard.shard);
            self.shards.insert(shard.shard, shard);
        }
        let mut effect = self.create_vhost(DEFAULT_VHOST)?;
        self.put_user(&form.default_user)?;
        self.set_permissions(&PermissionRecord {
            user: form.default_user.name.clone(),
            vhost: DEFAULT_VHOST.to_owned(),
            configure: EVERYTHING.to_owned(),
            write: EVERYTHING.to_owned(),
            read: EVERYTHING.to_owned(),
        })?;
        effect.created = true;
        Ok(effect)
    }

    pub(super) fn add_node(&mut self, record: &NodeRecord) -> Result<Effect, AmqpError> {
        check_name("node name", &record.name)?;
        if self.removed.contains(&record.id) {
            return Err(invalid(format!("node {} was removed from the cluster", record.id)));
        }
        let Some(node) = self.nodes.get_mut(&record.id) else {
            self.nodes.insert(record.id, new_node(record));
            return Ok(Effect::created());
        };
        if node.record() == *record {
            return Ok(Effect::unchanged());
        }
        *node = NodeState {
            http_address: node.http_address.take(),
            incarnation: node.incarnation,
            duty: node.duty,
            ..new_node(record)
        };
        Ok(Effect::changed())
    }

    /// Queues that only this node had go with it; `MoveTransient` saves those that can be.
    pub(super) fn remove_node(&mut self, node: NodeId) -> Result<Effect, AmqpError> {
        if let Some(shard) = self.shards.values().find(|shard| shard.replicas.contains(&node)) {
            return Err(invalid(format!("node {node} still holds a replica of shard {}", shard.shard)));
        }
        if self.nodes.len() == 1 && self.nodes.contains_key(&node) {
            return Err(invalid(format!("node {node} is the only one of the cluster")));
        }
        if self.nodes.remove(&node).is_none() {
            return Ok(Effect::unchanged());
        }
        self.removed.insert(node);
        let mut effect = Effect::changed();
        let hosted = self.hosting.of_host(QueueHost::Node(node)).map(|queue| queue.id);
        let owned = self.hosting.of_owners_on(node).map(|(_, queue)| queue);
        let gone: BTreeSet<QueueId> = hosted.chain(owned).collect();
        self.drop_queues(gone, &mut effect);
        Ok(effect)
    }

    /// The last node that holds everything keeps it.
    pub(super) fn set_duty(&mut self, node: NodeId, duty: Duty) -> Result<Effect, AmqpError> {
        let others = self.nodes.values().filter(|other| other.id != node && other.duty == Duty::Full).count();
        let state = self.nodes.get_mut(&node).ok_or_else(|| not_a_member(node))?;
        if state.duty == duty {
            return Ok(Effect::unchanged());
        }
        if duty != Duty::Full && others == 0 {
            return Err(invalid(format!(
                "node '{}' is the last one that is neither drained nor leaving: nobody could take what it holds",
                state.name
            )));
        }
        state.duty = duty;
        Ok(Effect::changed())
    }

    pub(super) fn set_shard_replicas(&mut self, wanted: &ShardRecord) -> Result<Effect, AmqpError> {
        let distinct: BTreeSet<_> = wanted.replicas.iter().collect();
        if wanted.replicas.is_empty() || distinct.len() != wanted.replicas.len() {
            return Err(invalid(format!(
                "shard {} has at least one replica, on each node one",
                wanted.shard
            )));
        }
        if let Some(unknown) = wanted.replicas.iter().find(|node| !self.nodes.contains_key(node)) {
            return Err(not_a_member(*unknown));
        }
        if !wanted.replicas.contains(&wanted.preferred) {
            return Err(invalid(format!(
                "node {} holds no replica of shard {}",
                wanted.preferred, wanted.shard
            )));
        }
        let shard = self
            .shards
            .get_mut(&wanted.shard)
            .ok_or_else(|| refuse(ReplyCode::NotFound, format!("no shard {}", wanted.shard)))?;
        if shard == wanted {
            return Ok(Effect::unchanged());
        }
        *shard = wanted.clone();
        Ok(Effect::changed())
    }

    /// A new start ends what earlier ones held in memory: exclusive queues of that node's connections, and of the
    /// queues hosted there those that no other living node can have consumers on.
    pub(super) fn node_up(&mut self, up: &NodeUp) -> Result<Effect, AmqpError> {
        let node = self.nodes.get_mut(&up.node).ok_or_else(|| not_a_member(up.node))?;
        if up.incarnation < node.incarnation {
            return Err(invalid(format!(
                "node {} has started as {} already: {} is older",
                up.node, node.incarnation, up.incarnation
            )));
        }
        let started = up.incarnation > node.incarnation;
        let wanted = NodeState {
            id: up.node,
            name: up.name.clone(),
            address: up.address.clone(),
            zone: node.zone.clone(),
            http_address: up.http_address.clone(),
            incarnation: up.incarnation,
            duty: node.duty,
        };
        if *node == wanted {
            return Ok(Effect::unchanged());
        }
        *node = wanted;
        let mut effect = Effect::changed();
        if started {
            let lived_through: BTreeSet<NodeId> = up
                .alive
                .iter()
                .filter(|(id, incarnation)| {
                    *id != up.node && self.nodes.get(id).is_some_and(|node| node.incarnation == *incarnation)
                })
                .map(|(id, _)| *id)
                .collect();
            let stays = |queue: &QueueSpec| match queue.exclusive {
                None => !lived_through.is_empty(),
                Some(owner) if owner.node == up.node => owner.incarnation == up.incarnation,
                Some(owner) => {
                    lived_through.contains(&owner.node) && self.is_current(owner.node, owner.incarnation)
                }
            };
            let hosted = self
                .hosting
                .of_host(QueueHost::Node(up.node))
                .filter(|queue| !stays(queue))
                .map(|queue| queue.id);
            let owned = self
                .hosting
                .of_owners_on(up.node)
                .filter(|(owner, _)| owner.incarnation != up.incarnation)
                .map(|(_, queue)| queue);
            let gone: BTreeSet<QueueId> = hosted.chain(owned).collect();
            self.drop_queues(gone, &mut effect);
        }
        Ok(effect)
    }

    pub(super) fn move_transient(&mut self, from: NodeId, to: NodeId) -> Result<Effect, AmqpError> {
        if !self.nodes.contains_key(&to) {
            return Err(not_a_member(to));
        }
        let mut effect = Effect::unchanged();
        if from == to {
            return Ok(effect);
        }
        let hosted: Vec<Arc<QueueSpec>> = self.hosting.of_host(QueueHost::Node(from)).cloned().collect();
        // An exclusive queue whose owner lives elsewhere is moved too: its connection is still there.
        let gone: BTreeSet<QueueId> = self.hosting.of_owners_on(from).map(|(_, queue)| queue).collect();
        for queue in hosted.iter().filter(|queue| !gone.contains(&queue.id)) {
            let moved = Arc::new(QueueSpec { host: QueueHost::Node(to), ..QueueSpec::clone(queue) });
            self.hosting.remove(queue.id);
            self.hosting.insert(&moved);
            effect.touch(&moved.vhost);
            if let Some(vhost) = self.vhosts.get_mut(&moved.vhost) {
                vhost.put_queue(moved);
            }
        }
        self.drop_queues(gone, &mut effect);
        Ok(effect)
    }

    pub(super) fn is_current(&self, node: NodeId, incarnation: u64) -> bool {
        self.nodes.get(&node).is_some_and(|node| node.incarnation == incarnation)
    }
}

fn new_node(record: &NodeRecord) -> NodeState {
    NodeState {
        id: record.id,
        name: record.name.clone(),
        address: record.address.clone(),
        zone: record.zone.clone(),
        http_address: None,
        incarnation: 0,
        duty: Duty::Full,
    }
}

pub(super) fn not_a_member(node: NodeId) -> AmqpError {
    refuse(ReplyCode::NotFound, format!("node {node} is not a member of the cluster"))
}
