//! Queues: each gets its number and its place here.

use std::sync::Arc;

use warren_proto::catalogue::DeclareQueue;
use warren_types::{AmqpError, ExclusiveOwner, QueueHost, QueueId, QueueSpec, ReplyCode};

use super::Effect;
use super::cluster::not_a_member;
use crate::arguments::validate_queue_arguments;
use crate::equivalence::{DeclaredQueue, check_queue_equivalence};
use crate::names::{check_name, no_vhost, refuse};
use crate::state::Catalogue;

impl Catalogue {
    pub(super) fn declare_queue(&mut self, declare: &DeclareQueue) -> Result<Effect, AmqpError> {
        let (vhost_name, state) =
            self.vhosts.get_key_value(declare.vhost.as_str()).ok_or_else(|| no_vhost(&declare.vhost))?;
        let vhost_name = Arc::clone(vhost_name);
        let arguments = state.arguments_of(
            &declare.name,
            declare.durable,
            declare.exclusive,
            declare.auto_delete,
            &declare.arguments,
        );
        if let Some(existing) = state.queue(&declare.name) {
            check_queue_equivalence(
                existing,
                &DeclaredQueue {
                    durable: declare.durable,
                    exclusive: declare.exclusive,
                    auto_delete: declare.auto_delete,
                    arguments: &arguments,
                },
            )?;
            return Ok(Effect { queue: Some(existing.id), ..Effect::unchanged() });
        }
        check_name("queue name", &declare.name)?;
        validate_queue_arguments(&declare.vhost, &declare.name, &arguments)?;
        state.check_queue_limit(&declare.vhost, &declare.name)?;
        let arguments = arguments.into_owned();
        let durable = declare.durable && declare.exclusive.is_none();
        let host = if durable {
            self.new_durable_host()?
        } else {
            self.check_home(declare)?;
            QueueHost::Node(declare.home)
        };
        let spec = Arc::new(QueueSpec {
            id: self.next_queue(),
            vhost: Arc::clone(&vhost_name),
            name: Arc::from(declare.name.as_str()),
            host,
            durable,
            exclusive: declare.exclusive,
            auto_delete: declare.auto_delete,
            arguments,
        });
        self.hosting.insert(&spec);
        let id = spec.id;
        if let Some(state) = self.vhosts.get_mut(&vhost_name) {
            state.put_queue(spec);
        }
        Ok(Effect { queue: Some(id), ..Effect::created() }.in_topology(&vhost_name))
    }

    /// Where the next durable queue goes.
    pub(super) fn new_durable_host(&self) -> Result<QueueHost, AmqpError> {
        self.hosting.least_loaded().map(QueueHost::Shard).ok_or_else(|| {
            refuse(ReplyCode::InternalError, "the cluster has no shard to hold a durable queue")
        })
    }

    // What would wait for an earlier start of its owner's node, or for a node that is gone, nobody would ever delete.
    fn check_home(&self, declare: &DeclareQueue) -> Result<(), AmqpError> {
        if !self.nodes.contains_key(&declare.home) {
            return Err(not_a_member(declare.home));
        }
        if let Some(owner) = declare.exclusive {
            let node = self.nodes.get(&owner.node).ok_or_else(|| not_a_member(owner.node))?;
            if owner.incarnation < node.incarnation {
                return Err(refuse(
                    ReplyCode::ConnectionForced,
                    format!("the connection was lost when node {} started again", owner.node),
                ));
            }
        }
        Ok(())
    }

    pub(super) fn delete_queue(&mut self, queue: QueueId) -> Effect {
        let mut effect = Effect::unchanged();
        self.drop_queues([queue], &mut effect);
        effect
    }

    pub(super) fn release_owner(&mut self, owner: ExclusiveOwner) -> Effect {
        let mut effect = Effect::unchanged();
        self.drop_queues(self.hosting.of_owner(owner), &mut effect);
        effect
    }

    /// Deletes queues with their bindings; those that are gone already are ignored.
    pub(super) fn drop_queues(&mut self, queues: impl IntoIterator<Item = QueueId>, effect: &mut Effect) {
        for queue in queues {
            let Some(spec) = self.hosting.remove(queue) else { continue };
            if let Some(vhost) = self.vhosts.get_mut(&spec.vhost) {
                vhost.remove_queue(queue);
            }
            effect.touch(&spec.vhost);
            effect.deleted_queues.push(queue);
        }
    }
}
