//! `queue.delete` (0-9-1 §1.7.2.9): the leader says whether it may go, the catalogue forgets it.

use std::sync::Arc;

use warren_catalogue::{Access, QueueKind, Resource};
use warren_proto::catalogue::Command;
use warren_proto::operate::Traffic;
use warren_proto::session::{Answer, Ask, DeleteOutcome};
use warren_types::{AmqpError, QueueSpec, ReplyCode};

use super::{Caller, ask, unexpected};
use crate::broker::Broker;

/// Deletes a queue and says how many ready messages it held; 0 when there is none of that name.
///
/// # Errors
/// 403, 405; 406 in use or not empty; 540 for a quorum queue with a condition; 541.
pub(super) async fn delete(
    caller: &Caller,
    name: &str,
    if_unused: bool,
    if_empty: bool,
) -> Result<u64, AmqpError> {
    caller.broker.check_access(&caller.user, &caller.vhost, Access::Configure, Resource::Queue(name))?;
    let spec = match caller.queue(name).await {
        Ok(spec) => spec,
        Err(error) if error.code == ReplyCode::NotFound => return Ok(0),
        Err(error) => return Err(error),
    };
    let (if_unused, if_empty) = match QueueKind::of(&spec.arguments) {
        QueueKind::Classic => (if_unused, if_empty),
        QueueKind::Quorum if if_unused => return Err(unsupported(&spec, "if-unused")),
        QueueKind::Quorum if if_empty => return Err(unsupported(&spec, "if-empty")),
        // Streams go whatever the flags say.
        QueueKind::Quorum | QueueKind::Stream => (false, false),
    };
    delete_queue(&caller.broker, &spec, if_unused, if_empty).await
}

fn unsupported(spec: &QueueSpec, flag: &str) -> AmqpError {
    let text = format!(
        "cannot delete queue '{}' in vhost '{}'. queue.delete operations with {flag} flag set are not supported by \
         quorum queues",
        spec.name, spec.vhost
    );
    AmqpError::new(ReplyCode::NotImplemented, text)
}

/// The deletion itself, for clients and operators alike.
pub(crate) async fn delete_queue(
    broker: &Broker,
    spec: &Arc<QueueSpec>,
    if_unused: bool,
    if_empty: bool,
) -> Result<u64, AmqpError> {
    let messages = match ask(broker, spec, Ask::CheckDelete { queue: spec.id, if_unused, if_empty }).await {
        Ok(Answer::CheckDelete(DeleteOutcome::May { messages })) => messages,
        Ok(Answer::CheckDelete(DeleteOutcome::InUse)) => return Err(refused(spec, "in use")),
        Ok(Answer::CheckDelete(DeleteOutcome::NotEmpty)) => return Err(refused(spec, "not empty")),
        Ok(other) => return Err(unexpected(&other)),
        // Somebody else was faster.
        Err(error) if error.code == ReplyCode::NotFound => 0,
        Err(error) => return Err(error),
    };
    broker.change(Command::DeleteQueue { queue: spec.id }).await?;
    broker.connections().traffic().add(Traffic { queue_deleted: 1, ..Traffic::default() });
    Ok(messages)
}

fn refused(spec: &QueueSpec, why: &str) -> AmqpError {
    AmqpError::new(
        ReplyCode::PreconditionFailed,
        format!("queue '{}' in vhost '{}' {why}", spec.name, spec.vhost),
    )
}
