//! Bindings.

use std::sync::Arc;

use warren_proto::catalogue::{BindingRecord, Destination, ExchangeKind};
use warren_types::{AmqpError, ReplyCode};

use super::Effect;
use crate::arguments::queue_type;
use crate::names::{check_length, check_not_default_exchange, no_exchange, no_queue, no_vhost, refuse};
use crate::state::Catalogue;
use crate::topology::{BindingKey, Target, Vhost};

impl Catalogue {
    pub(super) fn bind(&mut self, binding: &BindingRecord) -> Result<Effect, AmqpError> {
        let vhost = binding.vhost.as_str();
        check_ends(binding)?;
        check_length("routing key", &binding.routing_key)?;
        let state = self.vhosts.get_mut(vhost).ok_or_else(|| no_vhost(vhost))?;
        if !state.exchanges.contains_key(binding.source.as_str()) {
            return Err(no_exchange(vhost, &binding.source));
        }
        check_local_random(state, binding)?;
        let target = target(state, &binding.destination).ok_or_else(|| match &binding.destination {
            Destination::Queue(name) => no_queue(vhost, name),
            Destination::Exchange(name) => no_exchange(vhost, name),
        })?;
        let key = BindingKey::new(target, &binding.routing_key, &binding.arguments);
        if !state.bind(&binding.source, key, binding.arguments.clone())? {
            return Ok(Effect::unchanged());
        }
        Ok(Effect::created().in_topology(vhost))
    }

    pub(super) fn unbind(&mut self, binding: &BindingRecord) -> Result<Effect, AmqpError> {
        check_ends(binding)?;
        let Some(state) = self.vhosts.get_mut(binding.vhost.as_str()) else { return Ok(Effect::unchanged()) };
        let Some(target) = target(state, &binding.destination) else { return Ok(Effect::unchanged()) };
        let key = BindingKey::new(target, &binding.routing_key, &binding.arguments);
        if !state.unbind(&binding.source, &key) {
            return Ok(Effect::unchanged());
        }
        Ok(Effect::changed().in_topology(&binding.vhost))
    }
}

// Neither end may be the default exchange.
fn check_ends(binding: &BindingRecord) -> Result<(), AmqpError> {
    check_not_default_exchange(&binding.source)?;
    match &binding.destination {
        Destination::Queue(_) => Ok(()),
        Destination::Exchange(name) => check_not_default_exchange(name),
    }
}

// An exchange of type `x-local-random` takes classic queues only.
fn check_local_random(vhost: &Vhost, binding: &BindingRecord) -> Result<(), AmqpError> {
    let kind = vhost.exchanges.get(binding.source.as_str()).map(|exchange| exchange.record.kind);
    if kind != Some(ExchangeKind::LocalRandom) {
        return Ok(());
    }
    let invalid = |text: String| Err(refuse(ReplyCode::PreconditionFailed, text));
    let queue = match &binding.destination {
        Destination::Queue(name) => vhost.queue(name),
        Destination::Exchange(_) => None,
    };
    match queue.map(|queue| queue_type(&queue.arguments)) {
        None => invalid("Destination not found".to_owned()),
        Some("classic") => Ok(()),
        Some(other) => invalid(format!("Queue type {other} not valid for this exchange type")),
    }
}

/// The destination as bindings know it, if it exists.
pub(crate) fn target(vhost: &Vhost, destination: &Destination) -> Option<Target> {
    match destination {
        Destination::Queue(name) => vhost.queue(name).map(|queue| Target::Queue(queue.id)),
        Destination::Exchange(name) => {
            vhost.exchanges.get_key_value(name.as_str()).map(|(name, _)| Target::Exchange(Arc::clone(name)))
        }
    }
}
