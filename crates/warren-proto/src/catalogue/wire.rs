//! The records of the catalogue to and from their Protobuf messages: what commands and snapshots share.

use bytes::Bytes;
use warren_types::{ConnectionId, ExclusiveOwner, FieldTable, NodeId, ShardId, table};

use super::{
    ApplyTo, BindingRecord, Destination, Duty, ExchangeKind, ExchangeRecord, NodeRecord, PermissionRecord,
    PolicyRecord, ShardRecord, UserRecord,
};
use crate::DecodeError;
use crate::generated::catalogue as pb;

/// The version that is written, and the newest that is read.
pub(super) const VERSION: u32 = 1;

pub(super) fn check_version(what: &'static str, found: u32) -> Result<(), DecodeError> {
    match found {
        0 => Err(DecodeError::Field { what, field: "version" }),
        1..=VERSION => Ok(()),
        _ => Err(DecodeError::Version { what, found, known: VERSION }),
    }
}

pub(super) fn required<T>(
    value: Option<T>,
    what: &'static str,
    field: &'static str,
) -> Result<T, DecodeError> {
    value.ok_or(DecodeError::Field { what, field })
}

pub(super) fn table_to_wire(arguments: &FieldTable) -> Bytes {
    if arguments.inner().is_empty() {
        return Bytes::new();
    }
    let mut bytes = Vec::new();
    table::encode(arguments, &mut bytes);
    bytes.into()
}

pub(super) fn table_from_wire(bytes: &[u8], what: &'static str) -> Result<FieldTable, DecodeError> {
    if bytes.is_empty() {
        return Ok(FieldTable::default());
    }
    table::decode(bytes).map_err(|_| DecodeError::Field { what, field: "arguments" })
}

pub(super) fn owner_to_wire(owner: ExclusiveOwner) -> pb::Owner {
    pb::Owner { node: owner.node.0, incarnation: owner.incarnation, connection: owner.connection.0 }
}

pub(super) fn owner_from_wire(owner: &pb::Owner) -> ExclusiveOwner {
    ExclusiveOwner {
        node: NodeId(owner.node),
        incarnation: owner.incarnation,
        connection: ConnectionId(owner.connection),
    }
}

pub(super) fn node_to_wire(node: &NodeRecord) -> pb::Node {
    pb::Node {
        id: node.id.0,
        name: node.name.clone(),
        address: node.address.clone(),
        zone: node.zone.clone(),
    }
}

pub(super) fn node_from_wire(node: pb::Node) -> NodeRecord {
    NodeRecord { id: NodeId(node.id), name: node.name, address: node.address, zone: node.zone }
}

pub(super) fn duty_to_wire(duty: Duty) -> u32 {
    Duty::ALL.iter().zip(0..).find(|(known, _)| **known == duty).map_or(0, |(_, number)| number)
}

pub(super) fn duty_from_wire(number: u32, what: &'static str) -> Result<Duty, DecodeError> {
    let known = usize::try_from(number).ok().and_then(|number| Duty::ALL.get(number));
    known.copied().ok_or(DecodeError::Field { what, field: "duty" })
}

pub(super) fn shard_to_wire(shard: &ShardRecord) -> pb::Shard {
    pb::Shard {
        id: shard.shard.0,
        replicas: shard.replicas.iter().map(|node| node.0).collect(),
        preferred: shard.preferred.0,
    }
}

pub(super) fn shard_from_wire(shard: pb::Shard) -> Result<ShardRecord, DecodeError> {
    if shard.id == 0 {
        return Err(DecodeError::Field { what: "shard", field: "id" });
    }
    Ok(ShardRecord {
        shard: ShardId(shard.id),
        replicas: shard.replicas.into_iter().map(NodeId).collect(),
        preferred: NodeId(shard.preferred),
    })
}

pub(super) fn user_to_wire(user: &UserRecord) -> pb::User {
    pb::User { name: user.name.clone(), password_hash: user.password_hash.clone(), tags: user.tags.clone() }
}

pub(super) fn user_from_wire(user: pb::User) -> UserRecord {
    UserRecord { name: user.name, password_hash: user.password_hash, tags: user.tags }
}

pub(super) fn permissions_to_wire(permissions: &PermissionRecord) -> pb::Permissions {
    pb::Permissions {
        user: permissions.user.clone(),
        vhost: permissions.vhost.clone(),
        configure: permissions.configure.clone(),
        write: permissions.write.clone(),
        read: permissions.read.clone(),
    }
}

pub(super) fn permissions_from_wire(permissions: pb::Permissions) -> PermissionRecord {
    PermissionRecord {
        user: permissions.user,
        vhost: permissions.vhost,
        configure: permissions.configure,
        write: permissions.write,
        read: permissions.read,
    }
}

pub(super) fn exchange_to_wire(exchange: &ExchangeRecord) -> pb::Exchange {
    let kind = match exchange.kind {
        ExchangeKind::Direct => pb::ExchangeKind::Direct,
        ExchangeKind::Fanout => pb::ExchangeKind::Fanout,
        ExchangeKind::Topic => pb::ExchangeKind::Topic,
        ExchangeKind::Headers => pb::ExchangeKind::Headers,
        ExchangeKind::ConsistentHash => pb::ExchangeKind::ConsistentHash,
        ExchangeKind::ModulusHash => pb::ExchangeKind::ModulusHash,
        ExchangeKind::Random => pb::ExchangeKind::Random,
        ExchangeKind::LocalRandom => pb::ExchangeKind::LocalRandom,
        ExchangeKind::DelayedMessage => pb::ExchangeKind::DelayedMessage,
        ExchangeKind::RecentHistory => pb::ExchangeKind::RecentHistory,
    };
    pb::Exchange {
        name: exchange.name.clone(),
        kind: kind.into(),
        durable: exchange.durable,
        auto_delete: exchange.auto_delete,
        internal: exchange.internal,
        arguments: table_to_wire(&exchange.arguments),
    }
}

pub(super) fn exchange_from_wire(exchange: pb::Exchange) -> Result<ExchangeRecord, DecodeError> {
    let what = "exchange";
    let kind = match pb::ExchangeKind::try_from(exchange.kind) {
        Ok(pb::ExchangeKind::Direct) => ExchangeKind::Direct,
        Ok(pb::ExchangeKind::Fanout) => ExchangeKind::Fanout,
        Ok(pb::ExchangeKind::Topic) => ExchangeKind::Topic,
        Ok(pb::ExchangeKind::Headers) => ExchangeKind::Headers,
        Ok(pb::ExchangeKind::ConsistentHash) => ExchangeKind::ConsistentHash,
        Ok(pb::ExchangeKind::ModulusHash) => ExchangeKind::ModulusHash,
        Ok(pb::ExchangeKind::Random) => ExchangeKind::Random,
        Ok(pb::ExchangeKind::LocalRandom) => ExchangeKind::LocalRandom,
        Ok(pb::ExchangeKind::DelayedMessage) => ExchangeKind::DelayedMessage,
        Ok(pb::ExchangeKind::RecentHistory) => ExchangeKind::RecentHistory,
        Ok(pb::ExchangeKind::Unspecified) | Err(_) => return Err(DecodeError::Field { what, field: "kind" }),
    };
    Ok(ExchangeRecord {
        arguments: table_from_wire(&exchange.arguments, what)?,
        name: exchange.name,
        kind,
        durable: exchange.durable,
        auto_delete: exchange.auto_delete,
        internal: exchange.internal,
    })
}

pub(super) fn binding_to_wire(binding: &BindingRecord) -> pb::Binding {
    pb::Binding {
        vhost: binding.vhost.clone(),
        source: binding.source.clone(),
        destination: Some(match &binding.destination {
            Destination::Queue(name) => pb::binding::Destination::Queue(name.clone()),
            Destination::Exchange(name) => pb::binding::Destination::Exchange(name.clone()),
        }),
        routing_key: binding.routing_key.clone(),
        arguments: table_to_wire(&binding.arguments),
    }
}

pub(super) fn binding_from_wire(binding: pb::Binding) -> Result<BindingRecord, DecodeError> {
    let what = "binding";
    let destination = match required(binding.destination, what, "destination")? {
        pb::binding::Destination::Queue(name) => Destination::Queue(name),
        pb::binding::Destination::Exchange(name) => Destination::Exchange(name),
    };
    Ok(BindingRecord {
        arguments: table_from_wire(&binding.arguments, what)?,
        vhost: binding.vhost,
        source: binding.source,
        destination,
        routing_key: binding.routing_key,
    })
}

pub(super) fn policy_to_wire(policy: &PolicyRecord) -> pb::Policy {
    let apply_to = match policy.apply_to {
        ApplyTo::All => pb::ApplyTo::All,
        ApplyTo::Queues => pb::ApplyTo::Queues,
        ApplyTo::Exchanges => pb::ApplyTo::Exchanges,
        ApplyTo::ClassicQueues => pb::ApplyTo::ClassicQueues,
        ApplyTo::QuorumQueues => pb::ApplyTo::QuorumQueues,
        ApplyTo::Streams => pb::ApplyTo::Streams,
    };
    pb::Policy {
        vhost: policy.vhost.clone(),
        name: policy.name.clone(),
        operator: policy.operator,
        pattern: policy.pattern.clone(),
        apply_to: apply_to.into(),
        priority: policy.priority,
        definition: table_to_wire(&policy.definition),
    }
}

pub(super) fn policy_from_wire(policy: pb::Policy) -> Result<PolicyRecord, DecodeError> {
    let what = "policy";
    let apply_to = match pb::ApplyTo::try_from(policy.apply_to) {
        Ok(pb::ApplyTo::All) => ApplyTo::All,
        Ok(pb::ApplyTo::Queues) => ApplyTo::Queues,
        Ok(pb::ApplyTo::Exchanges) => ApplyTo::Exchanges,
        Ok(pb::ApplyTo::ClassicQueues) => ApplyTo::ClassicQueues,
        Ok(pb::ApplyTo::QuorumQueues) => ApplyTo::QuorumQueues,
        Ok(pb::ApplyTo::Streams) => ApplyTo::Streams,
        Ok(pb::ApplyTo::Unspecified) | Err(_) => return Err(DecodeError::Field { what, field: "apply_to" }),
    };
    Ok(PolicyRecord {
        definition: table_from_wire(&policy.definition, what)?,
        vhost: policy.vhost,
        name: policy.name,
        operator: policy.operator,
        pattern: policy.pattern,
        apply_to,
        priority: policy.priority,
    })
}
