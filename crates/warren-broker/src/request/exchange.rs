//! `exchange.declare` and `exchange.delete` (0-9-1 §1.6).

use warren_amqp::{ExchangeDeclare, ExchangeDelete, Reply};
use warren_catalogue::{
    Access, ExchangeKind, ExchangeRecord, Resource, check_exchange_deletable, check_exchange_equivalence,
    check_exchange_name, check_not_default_exchange, no_exchange,
};
use warren_proto::catalogue::Command;
use warren_types::{AMQPValue, AmqpError};

use super::Caller;

/// Declares an exchange, or finds it declared alike.
///
/// # Errors
/// 403, 404 (passive), 406, 541.
pub(super) async fn declare(caller: &Caller, declare: ExchangeDeclare) -> Result<Reply, AmqpError> {
    if declare.passive {
        check_not_default_exchange(&declare.name)?;
        return passive(caller, &declare.name).await;
    }
    let (broker, user, vhost) = (&caller.broker, &caller.user, &caller.vhost);
    let kind = ExchangeKind::parse(&declare.kind)?;
    check_not_default_exchange(&declare.name)?;
    broker.check_access(user, vhost, Access::Configure, Resource::Exchange(&declare.name))?;
    let record = ExchangeRecord {
        name: declare.name,
        kind,
        durable: declare.durable,
        auto_delete: declare.auto_delete,
        internal: declare.internal,
        arguments: declare.arguments,
    };
    // The usual declaration of what is there already costs no round; anything else is for the cluster to say.
    let known = broker
        .catalogue()
        .read()
        .exchange(vhost, &record.name)
        .map(|existing| check_exchange_equivalence(vhost, existing, &record).is_ok());
    if known == Some(true) {
        return Ok(Reply::Done);
    }
    if known.is_none() {
        check_exchange_name(&record.name)?;
        if let Some(AMQPValue::LongString(alternate)) = record.arguments.inner().get("alternate-exchange") {
            broker.check_access(user, vhost, Access::Read, Resource::Exchange(&record.name))?;
            broker.check_access(user, vhost, Access::Write, Resource::Exchange(&alternate.to_string()))?;
        }
    }
    broker.change(Command::DeclareExchange { vhost: vhost.to_string(), exchange: record }).await?;
    Ok(Reply::Done)
}

async fn passive(caller: &Caller, name: &str) -> Result<Reply, AmqpError> {
    caller.broker.check_any_access(&caller.user, &caller.vhost, Resource::Exchange(name))?;
    check_exists(caller, name).await?;
    Ok(Reply::Done)
}

/// That there is an exchange of that name. A miss is confirmed by the cluster before it becomes the client's 404.
///
/// # Errors
/// 404.
pub(super) async fn check_exists(caller: &Caller, name: &str) -> Result<(), AmqpError> {
    let broker = &caller.broker;
    let exists = || broker.catalogue().read().exchange(&caller.vhost, name).is_some();
    if !exists() {
        broker.linearize().await?;
        if !exists() {
            return Err(no_exchange(&caller.vhost, name));
        }
    }
    Ok(())
}

/// Deletes an exchange; fine when there is none of that name.
///
/// # Errors
/// 403, 406 in use, 541.
pub(super) async fn delete(caller: &Caller, delete: ExchangeDelete) -> Result<Reply, AmqpError> {
    check_exchange_deletable(&caller.vhost, &delete.name)?;
    let resource = Resource::Exchange(&delete.name);
    caller.broker.check_access(&caller.user, &caller.vhost, Access::Configure, resource)?;
    let vhost = caller.vhost.to_string();
    let command = Command::DeleteExchange { vhost, name: delete.name, if_unused: delete.if_unused };
    caller.broker.change(command).await?;
    Ok(Reply::Done)
}
