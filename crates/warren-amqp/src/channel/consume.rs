//! Consumers of a channel: start, end by the client, end by the server (0-9-1 §1.8.3.3 and on). Knows no queue.

use amq_protocol::protocol::{AMQPClass, basic};
use warren_types::table::ShortString;
use warren_types::{AckMode, DeliveryRef, ReplyCode, ShortStr, SubscriptionId};

use super::{Awaited, Channel, Context};
use crate::action::Action;
use crate::error::{Fault, MethodId};
use crate::frame;
use crate::request::{Cancel, Consume, Get, Request};

#[derive(Debug)]
pub(super) struct Consumer {
    pub(super) tag: ShortStr,
    pub(super) ack_mode: AckMode,
    /// What `basic.qos` said when it began.
    pub(super) prefetch: u16,
}

/// A consumer that the server ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CancelledConsumer {
    /// Its tag.
    pub tag: ShortStr,
    /// Deliveries to it that were never shown to the client: give them back. What the client holds it may still
    /// settle.
    pub waiting: Vec<DeliveryRef>,
}

fn ack_mode(no_ack: bool) -> AckMode {
    if no_ack { AckMode::Automatic } else { AckMode::Manual }
}

impl Channel {
    pub(super) fn on_consume(
        &mut self,
        consume: basic::Consume,
        id: MethodId,
        context: &Context<'_>,
    ) -> Result<Action, Fault> {
        // Which queue is meant comes before everything else, as in RabbitMQ.
        let queue = self.queue_or_last(consume.queue.as_str(), id)?;
        let tag: String = consume.consumer_tag.into();
        if self.tags.contains_key(tag.as_str()) {
            let text = format!("attempt to reuse consumer tag '{tag}'");
            return Err(Fault::new(ReplyCode::NotAllowed, text, id));
        }
        if let Some(limit) = context.config.consumers_per_channel
            && self.consumers.len() >= limit as usize
        {
            let text = format!("reached maximum ({limit}) of consumers per channel");
            return Err(Fault::new(ReplyCode::NotAllowed, text, id));
        }
        let ack_mode = ack_mode(consume.no_ack);
        let request = Request::Consume(Consume {
            queue,
            tag,
            ack_mode,
            exclusive: consume.exclusive,
            arguments: consume.arguments,
            prefetch: match ack_mode {
                AckMode::Manual => self.lent(self.prefetch),
                AckMode::Automatic => self.prefetch,
            },
        });
        Ok(self.ask(id, consume.nowait, Awaited::Consumed { ack_mode }, request))
    }

    /// The consumer has started; `consume-ok` precedes its first delivery.
    pub(super) fn consumed(
        &mut self,
        tag: &str,
        subscription: SubscriptionId,
        ack_mode: AckMode,
        no_wait: bool,
        context: &mut Context<'_>,
    ) -> bool {
        let (Ok(stored), Ok(shown)) = (ShortStr::try_from(tag), ShortString::try_new(tag)) else {
            return false;
        };
        self.tags.insert(tag.to_owned(), subscription);
        self.consumers.insert(subscription, Consumer { tag: stored, ack_mode, prefetch: self.prefetch });
        if !no_wait {
            let ok = basic::AMQPMethod::ConsumeOk(basic::ConsumeOk { consumer_tag: shown });
            frame::method(self.number, AMQPClass::Basic(ok), context.out);
        }
        true
    }

    /// `basic.cancel`, or a client's `basic.cancel-ok` to a cancel of ours: the consumer ends before the answer, so that
    /// no delivery follows it. An unknown tag is fine.
    pub(super) fn on_cancel(
        &mut self,
        tag: &ShortString,
        no_wait: bool,
        id: MethodId,
        context: &mut Context<'_>,
    ) -> Option<Action> {
        let Some(subscription) = self.tags.get(tag.as_str()).copied() else {
            self.cancelled(tag.clone(), no_wait, context);
            return None;
        };
        let request = Request::Cancel(Cancel { subscription });
        Some(self.ask(id, no_wait, Awaited::Cancelled { tag: tag.clone(), subscription }, request))
    }

    pub(super) fn cancelled(&self, tag: ShortString, no_wait: bool, context: &mut Context<'_>) {
        if !no_wait {
            let ok = basic::AMQPMethod::CancelOk(basic::CancelOk { consumer_tag: tag });
            frame::method(self.number, AMQPClass::Basic(ok), context.out);
        }
    }

    /// Removes a consumer with what waits for it.
    pub(crate) fn end_consumer(&mut self, subscription: SubscriptionId) -> Option<CancelledConsumer> {
        let consumer = self.consumers.remove(&subscription)?;
        self.tags.remove(consumer.tag.as_str());
        let mut waiting = Vec::new();
        self.waiting.retain(|delivery| {
            let stays = delivery.subscription != subscription;
            if !stays {
                waiting.push(delivery.source);
            }
            stays
        });
        Some(CancelledConsumer { tag: consumer.tag, waiting })
    }

    /// The server ends a consumer; with `notify` the client is told.
    pub(crate) fn cancel_by_server(
        &mut self,
        subscription: SubscriptionId,
        notify: bool,
        context: &mut Context<'_>,
    ) -> Option<CancelledConsumer> {
        let ended = self.end_consumer(subscription)?;
        if notify && let Ok(consumer_tag) = ShortString::try_new(ended.tag.as_str()) {
            let cancel = basic::AMQPMethod::Cancel(basic::Cancel { consumer_tag, nowait: true });
            frame::method(self.number, AMQPClass::Basic(cancel), context.out);
        }
        self.deliver_waiting(context);
        Some(ended)
    }

    /// Takes away what is held too long; see [`crate::Connection::lapse`].
    pub(crate) fn lapse(&mut self, overdue: impl FnMut(&DeliveryRef, u64) -> bool) -> Vec<DeliveryRef> {
        self.ledger.lapse(overdue)
    }

    pub(super) fn on_get(&mut self, get: &basic::Get, id: MethodId) -> Result<Action, Fault> {
        let queue = self.queue_or_last(get.queue.as_str(), id)?;
        let ack_mode = ack_mode(get.no_ack);
        Ok(self.ask(id, false, Awaited::Got { ack_mode }, Request::Get(Get { queue, ack_mode })))
    }
}
