//! Direct reply-to: a requester consumes from a pseudo queue and gets its answers without declaring one.
//!
//! Behind it is a queue of the requester's node, exclusive, in memory only and gone with its consumer; its name cannot be
//! guessed and is what the pseudo name in a request's `reply-to` becomes. So an answer finds it from every node through
//! the default exchange, and one whose requester is gone is unroutable. Listings leave these queues out, and nothing
//! but publishing works on them by name.

use std::sync::Arc;

use warren_catalogue::no_queue;
use warren_proto::catalogue::{Command, DeclareQueue};
use warren_types::{AmqpError, FieldTable, QueueSpec, ReplyCode};

use super::Caller;

/// The name by which a requester asks for answers without a queue.
pub(crate) const PSEUDO_QUEUE: &str = "amq.rabbitmq.reply-to";

/// Whether a queue of that name is, or would be, a requester's.
pub(crate) fn is_reply_queue(name: &str) -> bool {
    name.strip_prefix(PSEUDO_QUEUE).is_some_and(|rest| rest.starts_with('.'))
}

/// Makes the queue for a new reply consumer. No permission is needed.
///
/// # Errors
/// 541 when the catalogue cannot be changed.
pub(super) async fn open(caller: &Caller) -> Result<Arc<QueueSpec>, AmqpError> {
    let broker = &caller.broker;
    let applied = broker
        .change(Command::DeclareQueue(DeclareQueue {
            vhost: caller.vhost.to_string(),
            name: broker.reply_queue_name(),
            durable: false,
            exclusive: Some(caller.owner()),
            auto_delete: true,
            arguments: FieldTable::default(),
            home: broker.node(),
        }))
        .await?;
    let spec = applied.queue.and_then(|queue| broker.catalogue().read().queue_by_id(queue).cloned());
    spec.ok_or_else(|| AmqpError::new(ReplyCode::InternalError, "the reply queue is gone already"))
}

/// Whether answers to that name still find their requester: what `queue.declare` of it asks.
///
/// # Errors
/// 404 when it is gone.
pub(super) async fn check_alive(caller: &Caller, name: &str) -> Result<(), AmqpError> {
    // The pseudo queue itself is always there.
    if !is_reply_queue(name) || caller.local_queue(name).is_some() {
        return Ok(());
    }
    caller.broker.linearize().await?;
    caller.local_queue(name).map(|_| ()).ok_or_else(|| no_queue(&caller.vhost, name))
}
