//! Exchanges.

use warren_proto::catalogue::ExchangeRecord;
use warren_types::{AmqpError, ReplyCode};

use super::Effect;
use crate::arguments::validate_exchange_arguments;
use crate::equivalence::check_exchange_equivalence;
use crate::names::{
    check_exchange_deletable, check_exchange_name, check_length, check_not_default_exchange,
    exchange_resource, no_vhost, refuse,
};
use crate::routing::{check_arguments, delayed};
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
        state.insert_exchange(declared.clone());
        Ok(Effect::created().in_topology(vhost))
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
