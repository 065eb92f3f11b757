//! Virtual hosts.

use std::sync::Arc;

use warren_types::{AmqpError, QueueId, ReplyCode};

use super::Effect;
use crate::names::{check_name, refuse};
use crate::state::Catalogue;
use crate::topology::{Vhost, predeclared};

impl Catalogue {
    pub(super) fn create_vhost(&mut self, name: &str) -> Result<Effect, AmqpError> {
        check_name("vhost name", name)?;
        if self.vhosts.contains_key(name) {
            return Ok(Effect::unchanged());
        }
        let mut vhost = Vhost::default();
        predeclared().for_each(|exchange| vhost.insert_exchange(exchange));
        self.vhosts.insert(Arc::from(name), vhost);
        Ok(Effect::created().in_topology(name))
    }

    pub(super) fn delete_vhost(&mut self, name: &str) -> Result<Effect, AmqpError> {
        if self.vhosts.get(name).is_some_and(|vhost| vhost.metadata.protected) {
            let text = format!("Cannot delete protected virtual host '{name}'");
            return Err(refuse(ReplyCode::PreconditionFailed, text));
        }
        let Some(vhost) = self.vhosts.remove(name) else { return Ok(Effect::unchanged()) };
        self.topic_grants.retain(|(_, within, _), _| within != name);
        self.parameters.retain(|(within, ..), _| within.as_deref() != Some(name));
        self.grants.retain(|_, by_vhost| {
            by_vhost.remove(name);
            !by_vhost.is_empty()
        });
        let deleted_queues: Vec<QueueId> = vhost.queue_ids.into_iter().collect();
        for queue in &deleted_queues {
            self.hosting.remove(*queue);
        }
        Ok(Effect { deleted_queues, ..Effect::changed() })
    }
}
