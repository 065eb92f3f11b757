//! The catalogue's whole state as plain records, and those to bytes and back.

use std::sync::Arc;

use prost::Message as _;
use warren_types::{NodeId, QueueHost, QueueId, QueueSpec, ShardId, UnixMillis};

use super::limits;
use super::wire::{self, required};
use super::{
    BindingRecord, Duty, ExchangeRecord, NodeRecord, ParameterRecord, PermissionRecord, PolicyRecord,
    ShardRecord, TopicPermissionRecord, UserLimits, UserRecord, VhostLimits, VhostMetadata,
};
use crate::DecodeError;
use crate::generated::catalogue as pb;

const WHAT: &str = "catalogue snapshot";

/// The cluster itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClusterRecord {
    /// Its identity.
    pub id: u64,
    /// Its name.
    pub name: String,
    /// Replicas wanted of each shard.
    pub replication: u32,
    /// When it was formed.
    pub formed: UnixMillis,
}

/// A node as the catalogue has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeState {
    /// Its identity.
    pub id: NodeId,
    /// Its name.
    pub name: String,
    /// Host and port of its cluster port.
    pub address: String,
    /// The zone it stands in.
    pub zone: Option<String>,
    /// Host and port of its HTTP API.
    pub http_address: Option<String>,
    /// Its last known start; 0 before the first.
    pub incarnation: u64,
    /// What it is there for.
    pub duty: Duty,
}

impl NodeState {
    /// What an operator knows of it.
    #[must_use]
    pub fn record(&self) -> NodeRecord {
        NodeRecord {
            id: self.id,
            name: self.name.clone(),
            address: self.address.clone(),
            zone: self.zone.clone(),
        }
    }
}

/// One virtual host.
#[derive(Clone, Debug, PartialEq)]
pub struct VhostSnapshot {
    /// Its name.
    pub name: String,
    /// The catalogue's revision at the last change to its exchanges, queues and bindings.
    pub topology_revision: u64,
    /// Its exchanges.
    pub exchanges: Vec<ExchangeRecord>,
    /// Its queues.
    pub queues: Vec<Arc<QueueSpec>>,
    /// Its bindings.
    pub bindings: Vec<BindingRecord>,
    /// Its policies.
    pub policies: Vec<PolicyRecord>,
    /// What operators say of it.
    pub metadata: VhostMetadata,
    /// Its limits.
    pub limits: VhostLimits,
}

/// The whole state. Whoever makes it gives everything a defined order: equal states become equal bytes.
#[derive(Clone, Debug, PartialEq, Default)]
pub struct Snapshot {
    /// The catalogue's revision.
    pub revision: u64,
    /// The number of the next queue.
    pub next_queue: u64,
    /// The cluster, once formed.
    pub cluster: Option<ClusterRecord>,
    /// The nodes.
    pub nodes: Vec<NodeState>,
    /// The shards.
    pub shards: Vec<ShardRecord>,
    /// The virtual hosts.
    pub vhosts: Vec<VhostSnapshot>,
    /// The users.
    pub users: Vec<UserRecord>,
    /// The permissions.
    pub permissions: Vec<PermissionRecord>,
    /// The nodes that were removed.
    pub removed: Vec<NodeId>,
    /// The limits of those users that have any.
    pub user_limits: Vec<(String, UserLimits)>,
    /// The topic permissions.
    pub topic_permissions: Vec<TopicPermissionRecord>,
    /// The parameters, global ones and those of virtual hosts.
    pub parameters: Vec<ParameterRecord>,
}

impl Snapshot {
    /// Its bytes.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        pb::Snapshot {
            version: wire::VERSION,
            revision: self.revision,
            next_queue: self.next_queue,
            cluster: self.cluster.as_ref().map(|cluster| pb::Cluster {
                id: cluster.id,
                name: cluster.name.clone(),
                replication: cluster.replication,
                formed_ms: cluster.formed.0,
            }),
            nodes: self
                .nodes
                .iter()
                .map(|node| pb::NodeState {
                    node: Some(wire::node_to_wire(&node.record())),
                    http_address: node.http_address.clone(),
                    incarnation: node.incarnation,
                    duty: wire::duty_to_wire(node.duty),
                })
                .collect(),
            shards: self.shards.iter().map(wire::shard_to_wire).collect(),
            vhosts: self.vhosts.iter().map(vhost_to_wire).collect(),
            users: self.users.iter().map(wire::user_to_wire).collect(),
            permissions: self.permissions.iter().map(wire::permissions_to_wire).collect(),
            removed: self.removed.iter().map(|node| node.0).collect(),
            user_limits: self
                .user_limits
                .iter()
                .map(|(user, limits)| limits::user_limits_to_wire(user, *limits))
                .collect(),
            topic_permissions: self.topic_permissions.iter().map(limits::topic_to_wire).collect(),
            parameters: self.parameters.iter().map(limits::parameter_to_wire).collect(),
        }
        .encode_to_vec()
    }

    /// Reads what [`Snapshot::encode`] wrote.
    ///
    /// # Errors
    /// [`DecodeError`]: damaged, or of a newer version.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let message = pb::Snapshot::decode(bytes)
            .map_err(|error| DecodeError::Malformed { what: WHAT, reason: error.to_string() })?;
        wire::check_version(WHAT, message.version)?;
        Ok(Self {
            revision: message.revision,
            next_queue: message.next_queue,
            cluster: message.cluster.map(|cluster| ClusterRecord {
                id: cluster.id,
                name: cluster.name,
                replication: cluster.replication,
                formed: UnixMillis(cluster.formed_ms),
            }),
            nodes: message.nodes.into_iter().map(node_state_from_wire).collect::<Result<_, _>>()?,
            shards: message.shards.into_iter().map(wire::shard_from_wire).collect::<Result<_, _>>()?,
            vhosts: message.vhosts.into_iter().map(vhost_from_wire).collect::<Result<_, _>>()?,
            users: message.users.into_iter().map(wire::user_from_wire).collect(),
            permissions: message.permissions.into_iter().map(wire::permissions_from_wire).collect(),
            removed: message.removed.into_iter().map(NodeId).collect(),
            user_limits: message.user_limits.into_iter().map(limits::user_limits_from_wire).collect(),
            topic_permissions: message.topic_permissions.into_iter().map(limits::topic_from_wire).collect(),
            parameters: message.parameters.into_iter().map(limits::parameter_from_wire).collect(),
        })
    }
}

fn node_state_from_wire(state: pb::NodeState) -> Result<NodeState, DecodeError> {
    let node = wire::node_from_wire(required(state.node, WHAT, "node")?);
    Ok(NodeState {
        id: node.id,
        name: node.name,
        address: node.address,
        zone: node.zone,
        http_address: state.http_address,
        incarnation: state.incarnation,
        duty: wire::duty_from_wire(state.duty, WHAT)?,
    })
}

fn vhost_to_wire(vhost: &VhostSnapshot) -> pb::Vhost {
    pb::Vhost {
        name: vhost.name.clone(),
        topology_revision: vhost.topology_revision,
        exchanges: vhost.exchanges.iter().map(wire::exchange_to_wire).collect(),
        queues: vhost.queues.iter().map(|queue| queue_to_wire(queue)).collect(),
        bindings: vhost
            .bindings
            .iter()
            // The virtual host says it once for all.
            .map(|binding| pb::Binding { vhost: String::new(), ..wire::binding_to_wire(binding) })
            .collect(),
        policies: vhost
            .policies
            .iter()
            .map(|policy| pb::Policy { vhost: String::new(), ..wire::policy_to_wire(policy) })
            .collect(),
        // Where nothing is said there is nothing: snapshots of before stay the same bytes.
        metadata: (vhost.metadata != VhostMetadata::default())
            .then(|| limits::metadata_to_wire(&vhost.metadata)),
        limits: (vhost.limits != VhostLimits::default()).then(|| limits::vhost_limits_to_wire(vhost.limits)),
    }
}

fn vhost_from_wire(vhost: pb::Vhost) -> Result<VhostSnapshot, DecodeError> {
    let name: Arc<str> = Arc::from(vhost.name.as_str());
    Ok(VhostSnapshot {
        topology_revision: vhost.topology_revision,
        exchanges: vhost.exchanges.into_iter().map(wire::exchange_from_wire).collect::<Result<_, _>>()?,
        queues: vhost
            .queues
            .into_iter()
            .map(|queue| queue_from_wire(queue, &name))
            .collect::<Result<_, _>>()?,
        bindings: vhost
            .bindings
            .into_iter()
            .map(|binding| {
                let binding = wire::binding_from_wire(binding)?;
                Ok(BindingRecord { vhost: name.to_string(), ..binding })
            })
            .collect::<Result<_, DecodeError>>()?,
        policies: vhost
            .policies
            .into_iter()
            .map(|policy| Ok(PolicyRecord { vhost: name.to_string(), ..wire::policy_from_wire(policy)? }))
            .collect::<Result<_, DecodeError>>()?,
        metadata: vhost.metadata.map(limits::metadata_from_wire).unwrap_or_default(),
        limits: vhost.limits.map(limits::vhost_limits_from_wire).unwrap_or_default(),
        name: vhost.name,
    })
}

fn queue_to_wire(queue: &QueueSpec) -> pb::Queue {
    pb::Queue {
        id: queue.id.0,
        name: queue.name.to_string(),
        host: Some(match queue.host {
            QueueHost::Shard(shard) => pb::queue::Host::Shard(shard.0),
            QueueHost::Node(node) => pb::queue::Host::Node(node.0),
        }),
        durable: queue.durable,
        exclusive: queue.exclusive.map(wire::owner_to_wire),
        auto_delete: queue.auto_delete,
        arguments: wire::table_to_wire(&queue.arguments),
    }
}

fn queue_from_wire(queue: pb::Queue, vhost: &Arc<str>) -> Result<Arc<QueueSpec>, DecodeError> {
    let host = match required(queue.host, WHAT, "host")? {
        pb::queue::Host::Shard(shard) => QueueHost::Shard(ShardId(shard)),
        pb::queue::Host::Node(node) => QueueHost::Node(NodeId(node)),
    };
    Ok(Arc::new(QueueSpec {
        id: QueueId(queue.id),
        vhost: Arc::clone(vhost),
        name: Arc::from(queue.name),
        host,
        durable: queue.durable,
        exclusive: queue.exclusive.as_ref().map(wire::owner_from_wire),
        auto_delete: queue.auto_delete,
        arguments: wire::table_from_wire(&queue.arguments, WHAT)?,
    }))
}
