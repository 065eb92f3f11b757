//! What operators say of virtual hosts and users beside what clients declare: limits, topic permissions, parameters; and
//! those to bytes and back.

use super::wire::required;
use crate::DecodeError;
use crate::generated::catalogue as pb;

/// What operators say of a virtual host.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct VhostMetadata {
    /// For people.
    pub description: String,
    /// For people and tools.
    pub tags: Vec<String>,
    /// The type of durable queues that are declared without one: `classic`, `quorum`, `stream`; empty for none.
    pub default_queue_type: String,
    /// It cannot be deleted.
    pub protected: bool,
    /// What is published and delivered in it comes a second time, through `amq.rabbitmq.trace`.
    pub traced: bool,
}

/// A virtual host's limits; `None` is no limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct VhostLimits {
    /// Most connections, on all nodes together.
    pub max_connections: Option<u64>,
    /// Most queues.
    pub max_queues: Option<u64>,
}

/// A user's limits; `None` is no limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct UserLimits {
    /// Most connections, on all nodes together.
    pub max_connections: Option<u64>,
    /// Most channels, on all nodes together.
    pub max_channels: Option<u64>,
}

/// Which routing keys a user may use with an exchange of type `topic`: regular expressions as in permissions, in which
/// `{username}` and `{vhost}` stand for the record's own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicPermissionRecord {
    /// The user.
    pub user: String,
    /// The virtual host.
    pub vhost: String,
    /// The exchange; it need not exist.
    pub exchange: String,
    /// Routing keys it may publish with.
    pub write: String,
    /// Binding keys it may bind with.
    pub read: String,
}

/// Something that is kept for a component, which alone knows what it means.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ParameterRecord {
    /// The virtual host; `None` for a global one.
    pub vhost: Option<String>,
    /// The component; empty for a global one.
    pub component: String,
    /// Its name.
    pub name: String,
    /// JSON.
    pub value: String,
}

pub(super) fn metadata_to_wire(metadata: &VhostMetadata) -> pb::VhostMetadata {
    pb::VhostMetadata {
        description: metadata.description.clone(),
        tags: metadata.tags.clone(),
        default_queue_type: metadata.default_queue_type.clone(),
        protected: metadata.protected,
        traced: metadata.traced,
    }
}

pub(super) fn metadata_from_wire(metadata: pb::VhostMetadata) -> VhostMetadata {
    VhostMetadata {
        description: metadata.description,
        tags: metadata.tags,
        default_queue_type: metadata.default_queue_type,
        protected: metadata.protected,
        traced: metadata.traced,
    }
}

pub(super) fn vhost_limits_to_wire(limits: VhostLimits) -> pb::VhostLimits {
    pb::VhostLimits { max_connections: limits.max_connections, max_queues: limits.max_queues }
}

pub(super) fn vhost_limits_from_wire(limits: pb::VhostLimits) -> VhostLimits {
    VhostLimits { max_connections: limits.max_connections, max_queues: limits.max_queues }
}

pub(super) fn user_limits_to_wire(user: &str, limits: UserLimits) -> pb::UserLimits {
    pb::UserLimits {
        user: user.to_owned(),
        max_connections: limits.max_connections,
        max_channels: limits.max_channels,
    }
}

pub(super) fn user_limits_from_wire(limits: pb::UserLimits) -> (String, UserLimits) {
    let pb::UserLimits { user, max_connections, max_channels } = limits;
    (user, UserLimits { max_connections, max_channels })
}

pub(super) fn topic_to_wire(record: &TopicPermissionRecord) -> pb::TopicPermissions {
    pb::TopicPermissions {
        user: record.user.clone(),
        vhost: record.vhost.clone(),
        exchange: record.exchange.clone(),
        write: record.write.clone(),
        read: record.read.clone(),
    }
}

pub(super) fn topic_from_wire(record: pb::TopicPermissions) -> TopicPermissionRecord {
    TopicPermissionRecord {
        user: record.user,
        vhost: record.vhost,
        exchange: record.exchange,
        write: record.write,
        read: record.read,
    }
}

pub(super) fn parameter_to_wire(record: &ParameterRecord) -> pb::Parameter {
    pb::Parameter {
        vhost: record.vhost.clone(),
        component: record.component.clone(),
        name: record.name.clone(),
        value: record.value.clone(),
    }
}

pub(super) fn parameter_from_wire(record: pb::Parameter) -> ParameterRecord {
    ParameterRecord {
        vhost: record.vhost,
        component: record.component,
        name: record.name,
        value: record.value,
    }
}

pub(super) fn set_vhost_limits_from_wire(
    set: pb::SetVhostLimits,
) -> Result<(String, VhostLimits), DecodeError> {
    let limits = required(set.limits, "catalogue command", "limits")?;
    Ok((set.vhost, vhost_limits_from_wire(limits)))
}
