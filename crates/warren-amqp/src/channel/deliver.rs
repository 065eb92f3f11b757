//! Spine 14: a delivery gets its tag and is written, or waits for the channel-wide prefetch. Knows no queue.
//! Before: the shell's delivery. After: `frame/encode.rs`.

use warren_types::{AckMode, DeliveryRef, Message, SubscriptionId};

use super::{Channel, Context};
use crate::frame::DeliveryCounts;
use crate::frame::{self, Content};
use crate::request::GotMessage;

/// What became of a delivery.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Delivered {
    /// Written; it is among [`crate::Connection::take_handed_over`].
    Written,
    /// Kept until the channel-wide prefetch allows it.
    Waiting,
    /// The channel or the consumer is gone: give it back.
    NoConsumer,
}

/// A delivery that was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HandedOver {
    /// What settles it.
    pub source: DeliveryRef,
    /// With [`AckMode::Automatic`] it is to be settled now.
    pub ack_mode: AckMode,
    /// The message's size.
    pub bytes: usize,
}

/// A message on its way to a consumer.
#[derive(Clone, Debug)]
pub(crate) struct Delivery<'a> {
    pub(crate) subscription: SubscriptionId,
    pub(crate) source: DeliveryRef,
    pub(crate) redelivered: bool,
    pub(crate) counts: DeliveryCounts,
    pub(crate) message: &'a Message,
}

#[derive(Debug)]
pub(super) struct Waiting {
    pub(super) subscription: SubscriptionId,
    pub(super) source: DeliveryRef,
    redelivered: bool,
    counts: DeliveryCounts,
    message: Message,
}

impl Channel {
    pub(crate) fn deliver(&mut self, delivery: &Delivery<'_>, context: &mut Context<'_>) -> Delivered {
        let Some(consumer) = self.consumers.get(&delivery.subscription) else { return Delivered::NoConsumer };
        let manual = consumer.ack_mode == AckMode::Manual;
        // What needs no acknowledgement is not counted, but comes no sooner.
        if !self.has_room() || !self.waiting.is_empty() {
            self.waiting.push_back(Waiting {
                subscription: delivery.subscription,
                source: delivery.source,
                redelivered: delivery.redelivered,
                counts: delivery.counts,
                message: delivery.message.clone(),
            });
            return Delivered::Waiting;
        }
        let tag = self.ledger.next_tag();
        if manual {
            self.ledger.hold(tag, delivery.source, true, context.now_ms);
        }
        let content =
            Content { message: delivery.message, frame_max: context.frame_max, counts: delivery.counts };
        frame::deliver(self.number, &consumer.tag, tag, delivery.redelivered, content, context.out);
        context.handed_over.push(HandedOver {
            source: delivery.source,
            ack_mode: consumer.ack_mode,
            bytes: delivery.message.size(),
        });
        Delivered::Written
    }

    fn has_room(&self) -> bool {
        self.channel_prefetch == 0 || self.ledger.counted() < usize::from(self.channel_prefetch)
    }

    /// Writes what waited, as far as there is room.
    pub(super) fn deliver_waiting(&mut self, context: &mut Context<'_>) {
        if self.waiting.is_empty() {
            return;
        }
        let mut waiting = std::mem::take(&mut self.waiting);
        while self.has_room()
            && let Some(next) = waiting.pop_front()
        {
            let Waiting { subscription, source, redelivered, counts, ref message } = next;
            let delivery = Delivery { subscription, source, redelivered, counts, message };
            // A consumer that goes takes along what waits for it, and there is room: this is always written.
            let delivered = self.deliver(&delivery, context);
            debug_assert_eq!(delivered, Delivered::Written);
        }
        self.waiting = waiting;
    }

    /// Writes `basic.get-ok` or `basic.get-empty`.
    pub(super) fn got(&mut self, got: Option<GotMessage>, ack_mode: AckMode, context: &mut Context<'_>) {
        use amq_protocol::protocol::{AMQPClass, basic};
        let Some(got) = got else {
            let empty = AMQPClass::Basic(basic::AMQPMethod::GetEmpty(basic::GetEmpty {}));
            frame::method(self.number, empty, context.out);
            return;
        };
        let tag = self.ledger.next_tag();
        if ack_mode == AckMode::Manual {
            // The prefetch does not limit gets.
            self.ledger.hold(tag, got.source, false, context.now_ms);
        }
        let message = &got.message;
        let content = Content { message, frame_max: context.frame_max, counts: got.counts };
        let remaining = u32::try_from(got.remaining).unwrap_or(u32::MAX);
        frame::get_ok(self.number, tag, got.redelivered, remaining, content, context.out);
        context.handed_over.push(HandedOver { source: got.source, ack_mode, bytes: message.size() });
    }
}
