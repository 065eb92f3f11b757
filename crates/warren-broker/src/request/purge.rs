//! `queue.purge` (0-9-1 §1.7.2.7).

use warren_amqp::Reply;
use warren_catalogue::{Access, Resource};
use warren_proto::session::{Answer, Ask};
use warren_types::AmqpError;

use super::{Caller, ask, stream, unexpected};

/// Removes the ready messages.
///
/// # Errors
/// 403, 404, 405, 541.
pub(super) async fn purge(caller: &Caller, name: &str) -> Result<Reply, AmqpError> {
    caller.broker.check_access(&caller.user, &caller.vhost, Access::Read, Resource::Queue(name))?;
    let spec = caller.queue(name).await?;
    stream::refuse("queue.purge", &spec)?;
    match ask(&caller.broker, &spec, Ask::Purge { queue: spec.id }).await? {
        Answer::Purged(count) => Ok(Reply::Purged(count)),
        other => Err(unexpected(&other)),
    }
}
