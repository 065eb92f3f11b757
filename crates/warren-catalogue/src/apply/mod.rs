//! Spine 11 of the metadata group: every command, applied on every node. A command that is refused has changed
//! nothing; one that finds things as it wants them changes nothing and succeeds, so that it may be proposed again.

mod binding;
mod cluster;
mod exchange;
mod limit;
mod parameter;
mod policy;
mod queue;
mod user;
mod vhost;

use std::collections::BTreeSet;
use std::sync::Arc;

use warren_proto::catalogue::{Applied, Command};
use warren_types::{AmqpError, QueueId};

use crate::state::Catalogue;

pub(crate) use binding::target;

/// What a command did.
#[derive(Debug, Default)]
struct Effect {
    changed: bool,
    created: bool,
    queue: Option<QueueId>,
    deleted_queues: Vec<QueueId>,
    /// The virtual hosts whose exchanges, queues or bindings it changed.
    topologies: BTreeSet<Arc<str>>,
}

impl Effect {
    fn unchanged() -> Self {
        Self::default()
    }

    fn changed() -> Self {
        Self { changed: true, ..Self::default() }
    }

    fn created() -> Self {
        Self { changed: true, created: true, ..Self::default() }
    }

    fn in_topology(mut self, vhost: &str) -> Self {
        self.touch(vhost);
        self
    }

    fn touch(&mut self, vhost: &str) {
        self.changed = true;
        if !self.topologies.contains(vhost) {
            self.topologies.insert(Arc::from(vhost));
        }
    }
}

impl Catalogue {
    /// Applies one command. The same command on the same state gives the same state and the same answer everywhere.
    ///
    /// # Errors
    /// What the client that asked for it is told, with RabbitMQ's codes and texts; nothing has changed then.
    pub fn apply(&mut self, command: &Command) -> Result<Applied, AmqpError> {
        let mut effect = match command {
            Command::Form(form) => self.form(form),
            Command::NodeUp(up) => self.node_up(up),
            Command::AddNode(node) => self.add_node(node),
            Command::RemoveNode { node } => self.remove_node(*node),
            Command::SetDuty { node, duty } => self.set_duty(*node, *duty),
            Command::SetShardReplicas(shard) => self.set_shard_replicas(shard),
            Command::MoveTransient { from, to } => self.move_transient(*from, *to),
            Command::CreateVhost { name } => self.create_vhost(name),
            Command::DeleteVhost { name } => self.delete_vhost(name),
            Command::PutUser(user) => self.put_user(user),
            Command::DeleteUser { name } => Ok(self.delete_user(name)),
            Command::SetPermissions(permissions) => self.set_permissions(permissions),
            Command::ClearPermissions { user, vhost } => Ok(self.clear_permissions(user, vhost)),
            Command::DeclareExchange { vhost, exchange } => self.declare_exchange(vhost, exchange),
            Command::DeleteExchange { vhost, name, if_unused } => {
                self.delete_exchange(vhost, name, *if_unused)
            }
            Command::DeclareQueue(declare) => self.declare_queue(declare),
            Command::DeleteQueue { queue } => Ok(self.delete_queue(*queue)),
            Command::Bind(binding) => self.bind(binding),
            Command::Unbind(binding) => self.unbind(binding),
            Command::SetPolicy(policy) => self.set_policy(policy),
            Command::ClearPolicy { vhost, name, operator } => Ok(self.clear_policy(vhost, name, *operator)),
            Command::SetVhostMetadata { vhost, metadata } => self.set_vhost_metadata(vhost, metadata),
            Command::SetVhostLimits { vhost, limits } => self.set_vhost_limits(vhost, *limits),
            Command::SetUserLimits { user, limits } => self.set_user_limits(user, *limits),
            Command::SetTopicPermissions(record) => self.set_topic_permissions(record),
            Command::ClearTopicPermissions { user, vhost, exchange } => {
                Ok(self.clear_topic_permissions(user, vhost, exchange.as_deref()))
            }
            Command::SetParameter(record) => self.set_parameter(record),
            Command::ClearParameter { vhost, component, name } => {
                Ok(self.clear_parameter(vhost.as_deref(), component, name))
            }
            Command::ReleaseOwner { owner } => Ok(self.release_owner(*owner)),
        }?;
        self.drop_orphans(&mut effect);
        if effect.changed {
            self.revision = self.revision.saturating_add(1);
        }
        for vhost in &effect.topologies {
            if let Some(vhost) = self.vhosts.get_mut(vhost) {
                vhost.topology_revision = self.revision;
            }
        }
        Ok(Applied {
            revision: self.revision,
            created: effect.created,
            queue: effect.queue,
            deleted_queues: effect.deleted_queues,
        })
    }
}
