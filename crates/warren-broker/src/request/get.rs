//! `basic.get` (0-9-1 §1.8.3.10).

use warren_amqp::frame::DeliveryCounts;
use warren_amqp::{Get, GotMessage, Reply};
use warren_catalogue::{Access, QueueKind, Resource};
use warren_proto::session::{Answer, Ask};
use warren_types::{AMQPValue, AmqpError, DeliveryRef, QueueSpec, ReplyCode};

use super::{Caller, ask_host, stream, unexpected};

/// `x-single-active-consumer`.
pub(super) fn is_single_active(spec: &QueueSpec) -> bool {
    spec.arguments.inner().get("x-single-active-consumer") == Some(&AMQPValue::Boolean(true))
}

/// Takes one message, if there is one. With automatic acknowledgement the session settles it.
///
/// # Errors
/// 403, 404, 405, 541.
pub(super) async fn get(caller: &Caller, get: Get) -> Result<Reply, AmqpError> {
    let name = &get.queue;
    caller.broker.check_access(&caller.user, &caller.vhost, Access::Read, Resource::Queue(name))?;
    let spec = caller.queue(name).await?;
    stream::refuse("basic.get", &spec)?;
    let kind = QueueKind::of(&spec.arguments);
    if is_single_active(&spec) && kind == QueueKind::Quorum {
        let text = format!(
            "cannot obtain access to locked queue '{}' in vhost '{}'. basic.get operations are not supported by \
             quorum queues with single active consumer",
            spec.name, spec.vhost
        );
        return Err(AmqpError::new(ReplyCode::ResourceLocked, text));
    }
    let question = Ask::Get { queue: spec.id, ack_mode: get.ack_mode };
    let (answer, host) = ask_host(&caller.broker, &spec, question).await?;
    match answer {
        Answer::Got { delivery: None, .. } => Ok(Reply::Got(None)),
        Answer::Got { delivery: Some(delivery), remaining } => Ok(Reply::Got(Some(GotMessage {
            source: DeliveryRef { host, queue: spec.id, position: delivery.position, subscription: None },
            redelivered: delivery.redelivered,
            // Of other types RabbitMQ tells no counts.
            counts: match kind {
                QueueKind::Quorum => {
                    DeliveryCounts { acquired: delivery.acquired_count, failed: delivery.delivery_count }
                }
                QueueKind::Classic | QueueKind::Stream => DeliveryCounts::default(),
            },
            message: delivery.message,
            remaining,
        }))),
        other => Err(unexpected(&other)),
    }
}
