//! `channel.flow` and `basic.qos`: how much a client wants to hold (0-9-1 §1.5.2.3, §1.8.3.1). A limit per consumer is
//! kept by the queue's leader; the channel-wide one is kept here, and no leader lends a consumer more than that.

use amq_protocol::protocol::{AMQPClass, basic, channel};
use warren_types::{AckMode, ReplyCode};

use super::{Channel, Context};
use crate::action::Action;
use crate::error::{Fault, MethodId};
use crate::frame;

impl Channel {
    /// `basic.qos`: with `global` for the whole channel at once, else for consumers that start later. RabbitMQ's
    /// meaning of the bit, not that of 0-9-1.
    pub(crate) fn on_qos(
        &mut self,
        size: u32,
        count: u16,
        global: bool,
        context: &mut Context<'_>,
    ) -> Result<Option<Action>, Fault> {
        if size != 0 {
            let text = format!("prefetch_size!=0 ({size})");
            return Err(Fault::new(ReplyCode::NotImplemented, text, MethodId::new(60, 10)));
        }
        frame::method(self.number, AMQPClass::Basic(basic::AMQPMethod::QosOk(basic::QosOk {})), context.out);
        if global {
            self.channel_prefetch = count;
            self.ledger.count_all();
            self.deliver_waiting(context);
            let limits: Vec<_> = self
                .consumers
                .iter()
                .filter(|(_, consumer)| consumer.ack_mode == AckMode::Manual)
                .map(|(subscription, consumer)| (*subscription, self.lent(consumer.prefetch)))
                .collect();
            return Ok((!limits.is_empty()).then_some(Action::Prefetch { limits }));
        }
        self.prefetch = count;
        Ok(None)
    }

    /// How many deliveries a leader may have out to one consumer: its own limit, and no more than the whole channel may
    /// hold. What is over the channel's limit would wait here, out of the reach of `basic.get` and of others.
    pub(super) fn lent(&self, prefetch: u16) -> u16 {
        match (prefetch, self.channel_prefetch) {
            (0, limit) | (limit, 0) => limit,
            (own, channel) => own.min(channel),
        }
    }

    /// `channel.flow`: only ever active.
    pub(super) fn on_flow(&self, active: bool, id: MethodId, context: &mut Context<'_>) -> Result<(), Fault> {
        if !active {
            return Err(Fault::new(ReplyCode::NotImplemented, "active=false", id));
        }
        let ok = AMQPClass::Channel(channel::AMQPMethod::FlowOk(channel::FlowOk { active: true }));
        frame::method(self.number, ok, context.out);
        Ok(())
    }
}
