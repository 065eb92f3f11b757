//! `basic.cancel`: what was published before it and could go to the consumer still does, and all of it before the answer.

use std::sync::Arc;

use warren_amqp::Reply;
use warren_types::{ChannelNumber, SubscriptionId};

use super::{Done, Task, What};
use crate::request::{Performed, Remember};
use crate::session::SessionInput;

impl Task {
    pub(super) fn cancel(&mut self, channel: ChannelNumber, subscription: SubscriptionId) {
        let Some(consumer) = self.consumers.get(&subscription).copied() else {
            self.end_consumer(channel, subscription);
            return;
        };
        let broker = Arc::clone(&self.caller.broker);
        self.wait_for(What::LastDeliveries { channel, subscription }, async move {
            broker.settle_deliveries(consumer.host, consumer.queue).await;
            Done::Delivered
        });
    }

    /// The last deliveries are in the mailbox: the client gets them, then the consumer ends.
    pub(super) fn end_consumer(&mut self, channel: ChannelNumber, subscription: SubscriptionId) {
        let mut events = Vec::new();
        self.caller.mailbox.try_recv_many(&mut events, usize::MAX);
        self.take_events(&mut events);
        if let Some(waiting) = self.machine.end_consumer(channel, subscription, &mut self.out) {
            self.give_back(&waiting, false, false);
        }
        let Some(consumer) = self.forget_consumer(subscription) else {
            self.machine.reply(channel, Ok(Reply::Done), &mut self.out);
            self.note_state();
            return;
        };
        self.send(consumer.host, SessionInput::Unsubscribe(subscription));
        let broker = Arc::clone(&self.caller.broker);
        self.wait_for(What::Request { channel }, async move {
            // The queue may go with its last consumer: a client may count on that after cancel-ok.
            if consumer.auto_delete {
                broker.settle_auto_delete(consumer.queue).await;
            }
            Done::Performed(Performed { reply: Ok(Reply::Done), remember: Remember::Nothing })
        });
    }
}
