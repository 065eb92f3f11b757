//! Exchanges.

use std::sync::Arc;

use warren_proto::catalogue::{ExchangeKind, ExchangeRecord};
use warren_types::{AmqpError, QueueSpec, ReplyCode};

use super::Effect;
use crate::arguments::validate_exchange_arguments;
use crate::equivalence::check_exchange_equivalence;
use crate::names::{
    check_exchange_deletable, check_exchange_name, check_length, check_not_default_exchange,
    exchange_resource, history_of, no_vhost, refuse,
};
use crate::routing::{check_arguments, delayed, history};
use crate::state::Catalogue;

impl Catalogue {
    pub(super) fn declare_exchange(
        &mut self,
        vhost: &str,
        declared: &ExchangeRecord,
    ) -> Result<Effect, AmqpError> {
        check_not_default_exchange(&declared.name)?;
        let state = self.vhosts.get_mut(vhost).ok_or_else(|| no_vhost(vhost))?;
        if let Some(existing) = state.exchanges.get(declared.name.as_str()) {
            check_exchange_equivalence(vhost, &existing.record, declared)?;
            return Ok(Effect::unchanged());
        }
        check_exchange_name(&declared.name)?;
        check_length("exchange name", &declared.name)?;
        delayed::check(declared)?;
        validate_exchange_arguments(vhost, &declared.name, &declared.arguments)?;
        check_arguments(declared.kind, &declared.arguments)?;
        let history = self.new_history(vhost, declared)?;
        let Some(state) = self.vhosts.get_mut(vhost) else { return Ok(Effect::unchanged()) };
        state.insert_exchange(declared.clone());
        if let Some(history) = history {
            state.put_queue(history);
        }
        Ok(Effect::created().in_topology(vhost))
    }

    // The queue that keeps the exchange's last messages, if its type has one: replicated, whatever the exchange is, since
    // so are exchanges.
    fn new_history(
        &mut self,
        vhost: &str,
        declared: &ExchangeRecord,
    ) -> Result<Option<Arc<QueueSpec>>, AmqpError> {
        if declared.kind != ExchangeKind::RecentHistory {
            return Ok(None);
        }
        let Some(vhost) = self.vhosts.get_key_value(vhost).map(|(name, _)| Arc::clone(name)) else {
            return Ok(None);
        };
        let host = self.new_durable_host()?;
        let spec = Arc::new(QueueSpec {
            id: self.next_queue(),
            vhost,
            name: Arc::from(history_of(&declared.name)),
            host,
            durable: true,
            exclusive: None,
            auto_delete: false,
            arguments: history::queue_arguments(&declared.arguments),
        });
        self.hosting.insert(&spec);
        Ok(Some(spec))
    }

    /// Deletes the histories of exchanges that the command has deleted.
    pub(super) fn drop_orphans(&mut self, effect: &mut Effect) {
        for vhost in effect.topologies.clone() {
            let orphans = self.vhosts.get_mut(&vhost).map(|vhost| std::mem::take(&mut vhost.orphans));
            self.drop_queues(orphans.unwrap_or_default(), effect);
        }
    }

    pub(super) fn delete_exchange(
        &mut self,
        vhost: &str,
        name: &str,
        if_unused: bool,
    ) -> Result<Effect, AmqpError> {
        check_exchange_deletable(vhost, name)?;
        let Some(state) = self.vhosts.get_mut(vhost) else { return Ok(Effect::unchanged()) };
        let Some(exchange) = state.exchanges.get(name) else { return Ok(Effect::unchanged()) };
        if if_unused && !exchange.outgoing.is_empty() {
            return Err(refuse(
                ReplyCode::PreconditionFailed,
                format!("{} in use", exchange_resource(vhost, name)),
            ));
        }
        state.remove_exchange(name);
        Ok(Effect::changed().in_topology(vhost))
    }
}
