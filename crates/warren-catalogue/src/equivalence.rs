//! Declaring again what exists: the same, or refused with what differs (spine: `queue.declare`). The broker asks
//! here before it proposes, and a command asks again when it is applied.

use warren_proto::catalogue::{ExchangeKind, ExchangeRecord};
use warren_types::{AMQPValue, AmqpError, ExclusiveOwner, FieldTable, QueueSpec, ReplyCode};

use crate::arguments::{QUEUE_TYPE, plain, queue_type, same_argument, type_name};
use crate::kinds::QueueKind;
use crate::names::{exchange_resource, queue_resource, refuse};
use crate::topology::ALTERNATE_EXCHANGE;

/// A queue as a client declares it.
#[derive(Clone, Copy, Debug)]
pub struct DeclaredQueue<'a> {
    /// As declared; an exclusive queue counts as not durable.
    pub durable: bool,
    /// The declaring connection, if the queue shall be exclusive.
    pub exclusive: Option<ExclusiveOwner>,
    /// Deleted when its last consumer goes.
    pub auto_delete: bool,
    /// Its arguments.
    pub arguments: &'a FieldTable,
}

/// Is the queue that exists the one that is declared? Compared are exclusivity, durability, auto-delete and the
/// arguments of the existing queue's type, in RabbitMQ's order; integers of any width compare by value; no `x-queue-type`
/// is `classic`. What is no argument of that type counts as declared alike.
///
/// # Errors
/// 405 when it is exclusive to another connection, or exclusive and not declared so, or the other way round; 406
/// `inequivalent arg 'durable' for queue 'q' in vhost '/': received 'true' but current is 'false'`.
pub fn check_queue_equivalence(existing: &QueueSpec, declared: &DeclaredQueue<'_>) -> Result<(), AmqpError> {
    if existing.exclusive != declared.exclusive {
        return Err(locked(existing));
    }
    let resource = || queue_resource(&existing.vhost, &existing.name);
    let durable = declared.durable && declared.exclusive.is_none();
    check_field("durable", &resource, durable, existing.durable)?;
    check_field("auto_delete", &resource, declared.auto_delete, existing.auto_delete)?;
    for key in QueueKind::of(&existing.arguments).arguments() {
        if *key == QUEUE_TYPE {
            let (received, current) = (queue_type(declared.arguments), queue_type(&existing.arguments));
            check_field(key, &resource, received, current)?;
        } else {
            check_argument(key, &resource, declared.arguments, &existing.arguments)?;
        }
    }
    Ok(())
}

/// May this connection use the queue: passive declare, bind, consume, get, purge, delete?
///
/// # Errors
/// 405 when it is exclusive to another connection.
pub fn check_exclusive_access(existing: &QueueSpec, caller: ExclusiveOwner) -> Result<(), AmqpError> {
    match existing.exclusive {
        Some(owner) if owner != caller => Err(locked(existing)),
        Some(_) | None => Ok(()),
    }
}

/// Is the exchange that exists the one that is declared? Compared are type, durability, auto-delete, internal and
/// the argument `alternate-exchange`.
///
/// # Errors
/// 406 `inequivalent arg 'type' for exchange 'x' in vhost '/': received 'fanout' but current is 'direct'`.
pub fn check_exchange_equivalence(
    vhost: &str,
    existing: &ExchangeRecord,
    declared: &ExchangeRecord,
) -> Result<(), AmqpError> {
    let resource = || exchange_resource(vhost, &existing.name);
    check_field("type", &resource, declared.kind.as_str(), existing.kind.as_str())?;
    check_field("durable", &resource, declared.durable, existing.durable)?;
    check_field("auto_delete", &resource, declared.auto_delete, existing.auto_delete)?;
    check_field("internal", &resource, declared.internal, existing.internal)?;
    check_argument(ALTERNATE_EXCHANGE, &resource, &declared.arguments, &existing.arguments)?;
    if existing.kind == ExchangeKind::ConsistentHash {
        for key in ["hash-header", "hash-property"] {
            check_argument(key, &resource, &declared.arguments, &existing.arguments)?;
        }
    }
    Ok(())
}

fn locked(queue: &QueueSpec) -> AmqpError {
    refuse(
        ReplyCode::ResourceLocked,
        format!(
            "cannot obtain exclusive access to locked {}. It could be originally declared on another connection \
             or the exclusive property value does not match that of the original declaration.",
            queue_resource(&queue.vhost, &queue.name)
        ),
    )
}

fn inequivalent(key: &str, resource: &str, received: &str, current: &str) -> AmqpError {
    refuse(
        ReplyCode::PreconditionFailed,
        format!("inequivalent arg '{key}' for {resource}: received {received} but current is {current}"),
    )
}

fn check_field<T: PartialEq + std::fmt::Display>(
    key: &str,
    resource: &impl Fn() -> String,
    received: T,
    current: T,
) -> Result<(), AmqpError> {
    if received == current {
        return Ok(());
    }
    Err(inequivalent(key, &resource(), &format!("'{received}'"), &format!("'{current}'")))
}

fn check_argument(
    key: &str,
    resource: &impl Fn() -> String,
    received: &FieldTable,
    current: &FieldTable,
) -> Result<(), AmqpError> {
    let typed = |value: Option<&AMQPValue>| match value {
        None => "none".to_owned(),
        Some(value) => format!("the value '{}' of type '{}'", plain(value), type_name(value)),
    };
    match (received.inner().get(key), current.inner().get(key)) {
        (None, None) => Ok(()),
        (Some(received), Some(current)) if same_argument(received, current) => Ok(()),
        (Some(received), Some(current)) => Err(inequivalent(
            key,
            &resource(),
            &format!("'{}'", plain(received)),
            &format!("'{}'", plain(current)),
        )),
        (received, current) => Err(inequivalent(key, &resource(), &typed(received), &typed(current))),
    }
}
