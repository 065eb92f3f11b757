//! [`Command`] to bytes and back.

use bytes::Bytes;
use prost::Message as _;
use warren_types::{NodeId, QueueId, UnixMillis};

use super::limits;
use super::wire::{self, required};
use super::{Command, DeclareQueue, Form, NodeUp};
use crate::DecodeError;
use crate::generated::catalogue as pb;

const WHAT: &str = "catalogue command";

impl Command {
    /// The bytes that the log keeps.
    #[must_use]
    pub fn encode(&self) -> Bytes {
        pb::Command { version: wire::VERSION, command: Some(to_wire(self)) }.encode_to_vec().into()
    }

    /// Reads what [`Command::encode`] wrote.
    ///
    /// # Errors
    /// [`DecodeError`]: damaged, of a newer version, or a command that this version does not know. The replica
    /// stops: it must not skip what others apply.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let message = pb::Command::decode(bytes)
            .map_err(|error| DecodeError::Malformed { what: WHAT, reason: error.to_string() })?;
        wire::check_version(WHAT, message.version)?;
        from_wire(message.command.ok_or(DecodeError::Unknown { what: WHAT })?)
    }
}

fn to_wire(command: &Command) -> pb::command::Command {
    use pb::command::Command as Wire;
    match command {
        Command::Form(form) => Wire::Form(form_to_wire(form)),
        Command::NodeUp(up) => Wire::NodeUp(node_up_to_wire(up)),
        Command::AddNode(node) => Wire::AddNode(wire::node_to_wire(node)),
        Command::RemoveNode { node } => Wire::RemoveNode(pb::RemoveNode { node: node.0 }),
        Command::SetShardReplicas(shard) => Wire::SetShardReplicas(wire::shard_to_wire(shard)),
        Command::SetDuty { node, duty } => {
            Wire::SetDuty(pb::SetDuty { node: node.0, duty: wire::duty_to_wire(*duty) })
        }
        Command::MoveTransient { from, to } => {
            Wire::MoveTransient(pb::MoveTransient { from: from.0, to: to.0 })
        }
        Command::CreateVhost { name } => Wire::CreateVhost(pb::CreateVhost { name: name.clone() }),
        Command::DeleteVhost { name } => Wire::DeleteVhost(pb::DeleteVhost { name: name.clone() }),
        Command::PutUser(user) => Wire::PutUser(wire::user_to_wire(user)),
        Command::DeleteUser { name } => Wire::DeleteUser(pb::DeleteUser { name: name.clone() }),
        Command::SetPermissions(permissions) => Wire::SetPermissions(wire::permissions_to_wire(permissions)),
        Command::ClearPermissions { user, vhost } => {
            Wire::ClearPermissions(pb::ClearPermissions { user: user.clone(), vhost: vhost.clone() })
        }
        Command::DeclareExchange { vhost, exchange } => Wire::DeclareExchange(pb::DeclareExchange {
            vhost: vhost.clone(),
            exchange: Some(wire::exchange_to_wire(exchange)),
        }),
        Command::DeleteExchange { vhost, name, if_unused } => Wire::DeleteExchange(pb::DeleteExchange {
            vhost: vhost.clone(),
            name: name.clone(),
            if_unused: *if_unused,
        }),
        Command::DeclareQueue(declare) => Wire::DeclareQueue(declare_queue_to_wire(declare)),
        Command::DeleteQueue { queue } => Wire::DeleteQueue(pb::DeleteQueue { queue: queue.0 }),
        Command::Bind(binding) => Wire::Bind(wire::binding_to_wire(binding)),
        Command::Unbind(binding) => Wire::Unbind(wire::binding_to_wire(binding)),
        Command::SetPolicy(policy) => Wire::SetPolicy(wire::policy_to_wire(policy)),
        Command::ClearPolicy { vhost, name, operator } => Wire::ClearPolicy(pb::ClearPolicy {
            vhost: vhost.clone(),
            name: name.clone(),
            operator: *operator,
        }),
        Command::SetVhostMetadata { vhost, metadata } => Wire::SetVhostMetadata(pb::SetVhostMetadata {
            vhost: vhost.clone(),
            metadata: Some(limits::metadata_to_wire(metadata)),
        }),
        Command::SetVhostLimits { vhost, limits } => Wire::SetVhostLimits(pb::SetVhostLimits {
            vhost: vhost.clone(),
            limits: Some(limits::vhost_limits_to_wire(*limits)),
        }),
        Command::SetUserLimits { user, limits } => {
            Wire::SetUserLimits(limits::user_limits_to_wire(user, *limits))
        }
        Command::SetTopicPermissions(record) => Wire::SetTopicPermissions(limits::topic_to_wire(record)),
        Command::ClearTopicPermissions { user, vhost, exchange } => {
            Wire::ClearTopicPermissions(pb::ClearTopicPermissions {
                user: user.clone(),
                vhost: vhost.clone(),
                exchange: exchange.clone(),
            })
        }
        Command::SetParameter(record) => Wire::SetParameter(limits::parameter_to_wire(record)),
        Command::ClearParameter { vhost, component, name } => Wire::ClearParameter(pb::ClearParameter {
            vhost: vhost.clone(),
            component: component.clone(),
            name: name.clone(),
        }),
        Command::ReleaseOwner { owner } => {
            Wire::ReleaseOwner(pb::ReleaseOwner { owner: Some(wire::owner_to_wire(*owner)) })
        }
    }
}

fn from_wire(command: pb::command::Command) -> Result<Command, DecodeError> {
    use pb::command::Command as Wire;
    Ok(match command {
        Wire::Form(form) => Command::Form(form_from_wire(form)?),
        Wire::NodeUp(up) => Command::NodeUp(node_up_from_wire(up)),
        Wire::AddNode(node) => Command::AddNode(wire::node_from_wire(node)),
        Wire::RemoveNode(remove) => Command::RemoveNode { node: NodeId(remove.node) },
        Wire::SetShardReplicas(shard) => Command::SetShardReplicas(wire::shard_from_wire(shard)?),
        Wire::SetDuty(set) => {
            Command::SetDuty { node: NodeId(set.node), duty: wire::duty_from_wire(set.duty, WHAT)? }
        }
        Wire::MoveTransient(moved) => {
            Command::MoveTransient { from: NodeId(moved.from), to: NodeId(moved.to) }
        }
        Wire::CreateVhost(create) => Command::CreateVhost { name: create.name },
        Wire::DeleteVhost(delete) => Command::DeleteVhost { name: delete.name },
        Wire::PutUser(user) => Command::PutUser(wire::user_from_wire(user)),
        Wire::DeleteUser(delete) => Command::DeleteUser { name: delete.name },
        Wire::SetPermissions(permissions) => {
            Command::SetPermissions(wire::permissions_from_wire(permissions))
        }
        Wire::ClearPermissions(clear) => Command::ClearPermissions { user: clear.user, vhost: clear.vhost },
        Wire::DeclareExchange(declare) => Command::DeclareExchange {
            vhost: declare.vhost,
            exchange: wire::exchange_from_wire(required(declare.exchange, WHAT, "exchange")?)?,
        },
        Wire::DeleteExchange(delete) => {
            Command::DeleteExchange { vhost: delete.vhost, name: delete.name, if_unused: delete.if_unused }
        }
        Wire::DeclareQueue(declare) => Command::DeclareQueue(declare_queue_from_wire(declare)?),
        Wire::DeleteQueue(delete) => Command::DeleteQueue { queue: QueueId(delete.queue) },
        Wire::Bind(binding) => Command::Bind(wire::binding_from_wire(binding)?),
        Wire::Unbind(binding) => Command::Unbind(wire::binding_from_wire(binding)?),
        Wire::SetPolicy(policy) => Command::SetPolicy(wire::policy_from_wire(policy)?),
        Wire::ClearPolicy(clear) => {
            Command::ClearPolicy { vhost: clear.vhost, name: clear.name, operator: clear.operator }
        }
        Wire::SetVhostMetadata(set) => Command::SetVhostMetadata {
            vhost: set.vhost,
            metadata: limits::metadata_from_wire(required(set.metadata, WHAT, "metadata")?),
        },
        Wire::SetVhostLimits(set) => {
            let (vhost, limits) = limits::set_vhost_limits_from_wire(set)?;
            Command::SetVhostLimits { vhost, limits }
        }
        Wire::SetUserLimits(set) => {
            let (user, limits) = limits::user_limits_from_wire(set);
            Command::SetUserLimits { user, limits }
        }
        Wire::SetTopicPermissions(record) => Command::SetTopicPermissions(limits::topic_from_wire(record)),
        Wire::ClearTopicPermissions(clear) => {
            Command::ClearTopicPermissions { user: clear.user, vhost: clear.vhost, exchange: clear.exchange }
        }
        Wire::SetParameter(record) => Command::SetParameter(limits::parameter_from_wire(record)),
        Wire::ClearParameter(clear) => {
            Command::ClearParameter { vhost: clear.vhost, component: clear.component, name: clear.name }
        }
        Wire::ReleaseOwner(release) => {
            Command::ReleaseOwner { owner: wire::owner_from_wire(&required(release.owner, WHAT, "owner")?) }
        }
    })
}

fn form_to_wire(form: &Form) -> pb::Form {
    pb::Form {
        cluster_id: form.cluster_id,
        name: form.name.clone(),
        nodes: form.nodes.iter().map(wire::node_to_wire).collect(),
        shards: form.shards,
        replication: form.replication,
        default_user: Some(wire::user_to_wire(&form.default_user)),
        time_ms: form.time.0,
    }
}

fn form_from_wire(form: pb::Form) -> Result<Form, DecodeError> {
    Ok(Form {
        cluster_id: form.cluster_id,
        name: form.name,
        nodes: form.nodes.into_iter().map(wire::node_from_wire).collect(),
        shards: form.shards,
        replication: form.replication,
        default_user: wire::user_from_wire(required(form.default_user, WHAT, "default_user")?),
        time: UnixMillis(form.time_ms),
    })
}

fn node_up_to_wire(up: &NodeUp) -> pb::NodeUp {
    pb::NodeUp {
        node: up.node.0,
        incarnation: up.incarnation,
        address: up.address.clone(),
        name: up.name.clone(),
        http_address: up.http_address.clone(),
        alive: up
            .alive
            .iter()
            .map(|(node, incarnation)| pb::Incarnation { node: node.0, incarnation: *incarnation })
            .collect(),
    }
}

fn node_up_from_wire(up: pb::NodeUp) -> NodeUp {
    NodeUp {
        node: NodeId(up.node),
        incarnation: up.incarnation,
        address: up.address,
        name: up.name,
        http_address: up.http_address,
        alive: up.alive.into_iter().map(|alive| (NodeId(alive.node), alive.incarnation)).collect(),
    }
}

fn declare_queue_to_wire(declare: &DeclareQueue) -> pb::DeclareQueue {
    pb::DeclareQueue {
        vhost: declare.vhost.clone(),
        name: declare.name.clone(),
        durable: declare.durable,
        exclusive: declare.exclusive.map(wire::owner_to_wire),
        auto_delete: declare.auto_delete,
        arguments: wire::table_to_wire(&declare.arguments),
        home: declare.home.0,
    }
}

fn declare_queue_from_wire(declare: pb::DeclareQueue) -> Result<DeclareQueue, DecodeError> {
    Ok(DeclareQueue {
        arguments: wire::table_from_wire(&declare.arguments, WHAT)?,
        vhost: declare.vhost,
        name: declare.name,
        durable: declare.durable,
        exclusive: declare.exclusive.as_ref().map(wire::owner_from_wire),
        auto_delete: declare.auto_delete,
        home: NodeId(declare.home),
    })
}
