//! `queue.declare` (0-9-1 §1.7.2.1). The local catalogue answers what is there and alike; anything else is decided by the
//! metadata group, so that two nodes asked at once give the same answer.

use std::sync::Arc;

use warren_amqp::{QueueDeclare, Reply};
use warren_catalogue::{
    Access, Applied, DeclaredQueue, QueueKind, Resource, check_new_queue, check_queue_equivalence,
    check_queue_name, queue_settings, validate_queue_arguments,
};
use warren_proto::catalogue::{Command, DeclareQueue};
use warren_proto::operate::Traffic;
use warren_types::{AMQPValue, AmqpError, FieldTable, QueueSpec, ReplyCode};

use super::direct_reply::{self, PSEUDO_QUEUE, is_reply_queue};
use super::{Caller, Performed, Remember, counts};

/// Declares a queue, or finds it declared alike.
pub(super) async fn declare(caller: &Caller, declare: QueueDeclare) -> Performed {
    if declare.name == PSEUDO_QUEUE || is_reply_queue(&declare.name) {
        // Whatever is asked for: it only tells whether somebody waits there.
        let alive = direct_reply::check_alive(caller, &declare.name).await;
        return alive.map(|()| Reply::QueueDeclared { name: declare.name, messages: 0, consumers: 1 }).into();
    }
    let exclusive = declare.exclusive && !declare.passive;
    let reply = match declare.passive {
        true => passive(caller, &declare).await,
        false => active(caller, declare).await,
    };
    // Owned even when the answer is an error: the queue may have been made.
    Performed { reply, remember: if exclusive { Remember::Owner } else { Remember::Nothing } }
}

async fn passive(caller: &Caller, declare: &QueueDeclare) -> Result<Reply, AmqpError> {
    caller.broker.check_any_access(&caller.user, &caller.vhost, Resource::Queue(&declare.name))?;
    let spec = caller.queue(&declare.name).await?;
    if let Some(reply) = declared(caller, &spec, declare.no_wait).await? {
        return Ok(reply);
    }
    caller.broker.settle_deletion(spec.id).await;
    let spec = caller.queue(&declare.name).await?;
    Ok(empty(spec.name.to_string()))
}

async fn active(caller: &Caller, declare: QueueDeclare) -> Result<Reply, AmqpError> {
    let (broker, user, vhost) = (&caller.broker, &caller.user, &caller.vhost);
    let generated = declare.name.is_empty();
    let owner = declare.exclusive.then(|| caller.owner());
    let stored = |name: &str, arguments: &FieldTable| {
        let catalogue = broker.catalogue().read();
        catalogue.stored_arguments(vhost, name, declare.durable, owner, declare.auto_delete, arguments)
    };
    if generated {
        match QueueKind::of(&stored("", &declare.arguments)) {
            QueueKind::Classic => {}
            kind @ (QueueKind::Quorum | QueueKind::Stream) => {
                let text = format!("Cannot declare a server-named queue for type {}", kind.module());
                return Err(AmqpError::new(ReplyCode::PreconditionFailed, text));
            }
        }
    }
    let name = if generated { broker.queue_name() } else { declare.name };
    if !generated {
        check_queue_name(&name)?;
    }
    broker.check_access(user, vhost, Access::Configure, Resource::Queue(&name))?;
    let arguments = stored(&name, &declare.arguments);
    let command = DeclareQueue {
        vhost: vhost.to_string(),
        name: name.clone(),
        durable: declare.durable,
        exclusive: owner,
        auto_delete: declare.auto_delete,
        arguments: declare.arguments,
        home: broker.node(),
    };
    broker.connections().traffic().add(Traffic { queue_declared: 1, ..Traffic::default() });
    let mut local = caller.local_queue(&name);
    let known = |applied: &Applied| {
        applied.queue.and_then(|queue| broker.catalogue().read().queue_by_id(queue).cloned())
    };
    if let Some(spec) = &local {
        let (durable, auto_delete) = (declare.durable, declare.auto_delete);
        let wanted = DeclaredQueue { durable, exclusive: owner, auto_delete, arguments: &arguments };
        if check_queue_equivalence(spec, &wanted).is_ok() {
            if let Some(reply) = declared(caller, spec, declare.no_wait).await? {
                return Ok(reply);
            }
            broker.settle_deletion(spec.id).await;
            local = caller.local_queue(&name);
        }
    }
    if local.is_none() {
        if let Some(AMQPValue::LongString(exchange)) = arguments.inner().get("x-dead-letter-exchange") {
            broker.check_access(user, vhost, Access::Read, Resource::Queue(&name))?;
            broker.check_access(user, vhost, Access::Write, Resource::Exchange(&exchange.to_string()))?;
        }
        check_new_queue(&command, &arguments)?;
        validate_queue_arguments(vhost, &name, &arguments)?;
    }
    let mut applied = broker.change(Command::DeclareQueue(command.clone())).await?;
    if let (false, Some(spec)) = (applied.created, known(&applied)) {
        if let Some(reply) = declared(caller, &spec, declare.no_wait).await? {
            return Ok(reply);
        }
        // Another node's client has left it.
        broker.settle_deletion(spec.id).await;
        applied = broker.change(Command::DeclareQueue(command)).await?;
    }
    let created = Traffic { queue_created: u64::from(applied.created), ..Traffic::default() };
    broker.connections().traffic().add(created);
    if applied.created {
        // The time until it goes unused begins now, at a leader that has not heard of it yet.
        if let Some(spec) = known(&applied)
            && queue_settings(&broker.catalogue().read().effective_arguments(&spec)).expires_ms.is_some()
        {
            let _begins_later = counts(broker, &spec, true).await;
        }
    }
    // It is new, or was deleted again at this very moment, or goes.
    Ok(empty(name))
}

fn empty(name: String) -> Reply {
    Reply::QueueDeclared { name, messages: 0, consumers: 0 }
}

/// The answer about a queue that is there; `None` when it goes at this moment.
async fn declared(caller: &Caller, spec: &Arc<QueueSpec>, no_wait: bool) -> Result<Option<Reply>, AmqpError> {
    let (messages, consumers) = if no_wait {
        (0, 0)
    } else {
        // Of quorum queues RabbitMQ says so too: looking at one does not use it.
        let uses = QueueKind::of(&spec.arguments) == QueueKind::Classic;
        match counts(&caller.broker, spec, uses).await {
            Ok(counts) => counts,
            Err(error) if error.code == ReplyCode::NotFound => return Ok(None),
            Err(error) => return Err(error),
        }
    };
    // Who reads a stream takes nothing out of it, and RabbitMQ does not count them.
    let consumers = match QueueKind::of(&spec.arguments) {
        QueueKind::Stream => 0,
        QueueKind::Classic | QueueKind::Quorum => consumers.into(),
    };
    Ok(Some(Reply::QueueDeclared { name: spec.name.to_string(), messages, consumers }))
}
