//! `queue.bind`, `queue.unbind`, `exchange.bind`, `exchange.unbind` (0-9-1 §1.7.2.3, §1.7.2.5; RabbitMQ's exchange-to-exchange
//! bindings).

use warren_amqp::{Binding, ExchangeBinding, Reply};
use warren_catalogue::{Access, Resource, check_not_default_exchange};
use warren_proto::catalogue::{BindingRecord, Command, Destination};
use warren_types::{AmqpError, ReplyCode};

use super::Caller;
use super::direct_reply::{PSEUDO_QUEUE, is_reply_queue};
use super::exchange::check_exists;
use crate::history;

/// Make or remove.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Change {
    Bind,
    Unbind,
}

/// Binds or unbinds a queue.
///
/// # Errors
/// 403, 404 (bind only), 405, 541.
pub(super) async fn queue(caller: &Caller, binding: Binding, change: Change) -> Result<Reply, AmqpError> {
    let (broker, user, vhost) = (&caller.broker, &caller.user, &caller.vhost);
    if binding.queue == PSEUDO_QUEUE || is_reply_queue(&binding.queue) {
        return Err(AmqpError::new(
            ReplyCode::AccessRefused,
            "cannot bind or unbind to a volatile (direct reply-to) queue",
        ));
    }
    broker.check_access(user, vhost, Access::Write, Resource::Queue(&binding.queue))?;
    check_not_default_exchange(&binding.exchange)?;
    broker.check_access(user, vhost, Access::Read, Resource::Exchange(&binding.exchange))?;
    broker.check_topic_access(user, vhost, &binding.exchange, Access::Read, &binding.routing_key)?;
    let name = binding.queue.clone();
    let record = BindingRecord {
        vhost: vhost.to_string(),
        source: binding.exchange,
        destination: Destination::Queue(binding.queue),
        routing_key: binding.routing_key,
        arguments: binding.arguments,
    };
    match caller.queue(&name).await {
        Ok(_) => {}
        // Whether that is an error, and which of the two missing is named, is decided where it is applied.
        Err(error) if error.code == ReplyCode::NotFound => {}
        // Nobody's lock keeps from removing what is not there.
        Err(error)
            if change == Change::Unbind
                && error.code == ReplyCode::ResourceLocked
                && !is_bound(caller, &record) =>
        {
            return Ok(Reply::Done);
        }
        Err(error) => {
            // A missing exchange is named first, also where the queue is locked.
            if change == Change::Bind && error.code == ReplyCode::ResourceLocked {
                check_exists(caller, &record.source).await?;
            }
            return Err(error);
        }
    }
    apply(caller, record, change).await
}

/// Whether the catalogue of this node has the binding of a queue.
fn is_bound(caller: &Caller, record: &BindingRecord) -> bool {
    let Destination::Queue(name) = &record.destination else { return false };
    let Some(spec) = caller.local_queue(name) else { return false };
    let catalogue = caller.broker.catalogue().read();
    catalogue.bindings_of_queue(spec.id).any(|bound| bound == *record)
}

/// Binds or unbinds an exchange.
///
/// # Errors
/// 403, 404 (bind only), 541.
pub(super) async fn exchange(
    caller: &Caller,
    binding: ExchangeBinding,
    change: Change,
) -> Result<Reply, AmqpError> {
    let (broker, user, vhost) = (&caller.broker, &caller.user, &caller.vhost);
    broker.check_access(user, vhost, Access::Write, Resource::Exchange(&binding.destination))?;
    check_not_default_exchange(&binding.destination)?;
    check_not_default_exchange(&binding.source)?;
    broker.check_access(user, vhost, Access::Read, Resource::Exchange(&binding.source))?;
    broker.check_topic_access(user, vhost, &binding.source, Access::Read, &binding.routing_key)?;
    let record = BindingRecord {
        vhost: vhost.to_string(),
        source: binding.source,
        destination: Destination::Exchange(binding.destination),
        routing_key: binding.routing_key,
        arguments: binding.arguments,
    };
    apply(caller, record, change).await
}

async fn apply(caller: &Caller, record: BindingRecord, change: Change) -> Result<Reply, AmqpError> {
    let changed = match change {
        Change::Bind => history::bind(&caller.broker, record).await.map(drop),
        Change::Unbind => caller.broker.change(Command::Unbind(record)).await.map(drop),
    };
    match changed {
        Ok(()) => Ok(Reply::Done),
        // RabbitMQ: there is no such binding afterwards, which is what was asked for.
        Err(error) if change == Change::Unbind && error.code == ReplyCode::NotFound => Ok(Reply::Done),
        Err(error) => Err(error),
    }
}
