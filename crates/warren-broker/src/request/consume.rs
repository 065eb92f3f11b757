//! `basic.consume` (0-9-1 §1.8.3.3).

use std::sync::Arc;

use tokio::sync::oneshot;
use warren_amqp::{Consume, Reply};
use warren_catalogue::{Access, QueueKind, Resource, check_consumer_arguments, consumer_priority, no_queue};
use warren_proto::catalogue::Command;
use warren_proto::session::{Subscribe, SubscribeOutcome};
use warren_types::{AckMode, AmqpError, QueueSpec, ReplyCode, SubscriptionId};

use super::direct_reply::{self, PSEUDO_QUEUE};
use super::get::is_single_active;
use super::{
    Caller, LEADER_DEADLINE, Performed, Remember, asked_timeout_ms, consumer_timeout_ms, leader_silent,
    stream,
};
use crate::admin::ConsumerInfo;
use crate::session::SessionInput;

/// Starts a consumer.
pub(super) async fn consume(caller: &Caller, consume: Consume, subscription: SubscriptionId) -> Performed {
    if consume.queue == PSEUDO_QUEUE {
        return consume_answers(caller, consume, subscription).await;
    }
    let info = Box::new(ConsumerInfo {
        tag: String::new(),
        queue: consume.queue.clone(),
        ack_required: consume.ack_mode == AckMode::Manual,
        exclusive: consume.exclusive,
        prefetch: consume.prefetch,
        arguments: consume.arguments.clone(),
        session: caller.broker.session_id().0,
        subscription: subscription.0,
    });
    match subscribe(caller, consume, subscription).await {
        Ok((reply, spec)) => {
            let tag = match &reply {
                Reply::Consumed { tag, .. } => tag.clone(),
                _ => String::new(),
            };
            let info = Box::new(ConsumerInfo { tag, ..*info });
            let (queue, auto_delete) = (spec.id, spec.auto_delete);
            let counts = QueueKind::of(&spec.arguments) == QueueKind::Quorum;
            let timeout_ms = asked_timeout_ms(&info.arguments).unwrap_or_else(|| {
                consumer_timeout_ms(&caller.broker, &caller.broker.catalogue().read(), &spec)
            });
            let remember = Remember::Consumer {
                subscription,
                host: spec.host,
                queue,
                auto_delete,
                counts,
                timeout_ms,
                info,
            };
            Performed { reply: Ok(reply), remember }
        }
        Err(error) => Performed { reply: Err(error), remember: Remember::NoConsumer { subscription } },
    }
}

/// Starts a consumer of answers. Its connection has checked that the channel may have one.
async fn consume_answers(caller: &Caller, consume: Consume, subscription: SubscriptionId) -> Performed {
    let refused = |error| Performed { reply: Err(error), remember: Remember::NoConsumer { subscription } };
    let spec = match direct_reply::open(caller).await {
        Ok(spec) => spec,
        Err(error) => return refused(error),
    };
    match subscribe_to(caller, consume, Arc::clone(&spec), subscription).await {
        Ok((reply, queue)) => {
            Performed { reply: Ok(reply), remember: Remember::ReplyConsumer { subscription, queue } }
        }
        Err(error) => {
            // Else it would stay until the connection ends.
            let _goes_with_its_owner = caller.broker.change(Command::DeleteQueue { queue: spec.id }).await;
            refused(error)
        }
    }
}

async fn subscribe(
    caller: &Caller,
    consume: Consume,
    subscription: SubscriptionId,
) -> Result<(Reply, Arc<QueueSpec>), AmqpError> {
    let name = &consume.queue;
    caller.broker.check_access(&caller.user, &caller.vhost, Access::Read, Resource::Queue(name))?;
    let spec = caller.queue(name).await?;
    subscribe_to(caller, consume, spec, subscription).await
}

async fn subscribe_to(
    caller: &Caller,
    consume: Consume,
    spec: Arc<QueueSpec>,
    subscription: SubscriptionId,
) -> Result<(Reply, Arc<QueueSpec>), AmqpError> {
    check_consumer_arguments(&spec, &consume.arguments)?;
    let single_active = is_single_active(&spec);
    // Who reads a stream is in nobody's way, and quorum queues do not know the flag.
    let exclusive = consume.exclusive && QueueKind::of(&spec.arguments) == QueueKind::Classic;
    if single_active && exclusive {
        return Err(exclusive_use(&spec));
    }
    let priority = consumer_priority(&consume.arguments);
    let offset = stream::offset(&consume, &spec)?;
    let filter = if offset.is_some() { stream::filter(&consume.arguments) } else { None };
    let (outcome, told) = oneshot::channel();
    let input = SessionInput::Subscribe {
        subscribe: Subscribe {
            subscription,
            queue: spec.id,
            prefetch: consume.prefetch.into(),
            exclusive,
            priority,
            ack_mode: consume.ack_mode,
            single_active,
            active: None,
            offset,
            filter,
        },
        mailbox: caller.mailbox.clone(),
        outcome,
    };
    let session = caller.broker.session(spec.host);
    let sent = async {
        session.inputs().send(input).await.ok()?;
        told.await.ok()
    };
    let told = tokio::time::timeout(LEADER_DEADLINE, sent).await;
    match told {
        Ok(Some(SubscribeOutcome::Subscribed)) => {
            let tag = if consume.tag.is_empty() { caller.broker.consumer_tag() } else { consume.tag };
            Ok((Reply::Consumed { tag, subscription }, spec))
        }
        Ok(Some(SubscribeOutcome::ExclusiveUse)) => Err(exclusive_use(&spec)),
        Ok(Some(SubscribeOutcome::NoQueue)) => Err(no_queue(&spec.vhost, &spec.name)),
        Ok(None) | Err(_) => {
            // It may yet be taken up by a leader: a consumer that nobody knows must not stay.
            let _stopping = session.inputs().send(SessionInput::Unsubscribe(subscription)).await;
            Err(leader_silent(&spec))
        }
    }
}

/// 403: another consumer is exclusive, or this one cannot be.
fn exclusive_use(spec: &QueueSpec) -> AmqpError {
    AmqpError::new(
        ReplyCode::AccessRefused,
        format!("queue '{}' in vhost '{}' in exclusive use", spec.name, spec.vhost),
    )
}
