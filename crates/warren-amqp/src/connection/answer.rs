//! What the shell tells a connection besides what it read: replies, deliveries, confirms, returns, alarms. What
//! concerns a channel that is gone, or was opened again since, is ignored.

use amq_protocol::protocol::{AMQPClass, connection};
use bytes::BytesMut;
use warren_types::table::ShortString;
use warren_types::{AmqpError, ChannelNumber, DeliveryRef, Message, ReplyCode, SubscriptionId};

use super::{Beat, Connection, Phase, Slot};
use crate::action::Action;
use crate::channel::{CancelledConsumer, Channel, Context, Delivered, Delivery, HandedOver};
use crate::error::{Fault, MethodId};
use crate::frame;
use crate::frame::DeliveryCounts;
use crate::request::Reply;

impl Connection {
    fn channel_mut(&mut self, number: ChannelNumber) -> Option<&mut Channel> {
        match self.channels.get_mut(usize::from(number.0)) {
            Some(Slot::Open(channel)) => Some(channel),
            Some(Slot::Free | Slot::ClosingByClient | Slot::AwaitingCloseOk { .. }) | None => None,
        }
    }

    fn channel_of(&mut self, number: ChannelNumber, opening: u32) -> Option<&mut Channel> {
        self.channel_mut(number).filter(|channel| channel.opening() == opening)
    }

    /// Runs `act` on an open channel with what it writes to.
    fn on_channel<T>(
        &mut self,
        number: ChannelNumber,
        out: &mut BytesMut,
        act: impl FnOnce(&mut Channel, &mut Context<'_>) -> T,
    ) -> Option<T> {
        let (channels, mut context) = self.split(out);
        match channels.get_mut(usize::from(number.0)) {
            Some(Slot::Open(channel)) => Some(act(channel, &mut context)),
            Some(Slot::Free | Slot::ClosingByClient | Slot::AwaitingCloseOk { .. }) | None => None,
        }
    }

    /// The answer to [`Action::Request`]. An error closes the channel or the connection, as its code says, blaming
    /// the method that asked. What a consumer or a message that came too late brings is given back through an
    /// [`Action::ChannelClosed`].
    pub fn reply(&mut self, channel: ChannelNumber, reply: Result<Reply, AmqpError>, out: &mut BytesMut) {
        if self.awaiting != Some(channel) {
            self.give_back_late(channel, reply);
            return;
        }
        self.awaiting = None;
        if channel.0 == 0 {
            self.secret_updated(reply, out);
            return;
        }
        let id = self.channel_mut(channel).map_or(MethodId::NONE, |channel| channel.pending_id());
        let outcome = match reply {
            Ok(reply) => self
                .on_channel(channel, out, |channel, context| channel.on_reply(reply, context))
                .unwrap_or(Ok(())),
            Err(error) => Err(Fault { error, id }),
        };
        if let Err(fault) = outcome {
            self.fail(channel, fault, out);
        }
    }

    fn secret_updated(&mut self, reply: Result<Reply, AmqpError>, out: &mut BytesMut) {
        let id = MethodId::new(10, 70);
        match reply {
            Ok(Reply::Done) => {
                let ok = connection::AMQPMethod::UpdateSecretOk(connection::UpdateSecretOk {});
                frame::method(ChannelNumber(0), AMQPClass::Connection(ok), out);
            }
            Ok(_) => self.fail_connection(Fault::mismatched_reply(id), out),
            Err(error) => self.fail_connection(Fault { error, id }, out),
        }
    }

    /// The channel went while its request was under way: nobody is left to hold what came of it.
    fn give_back_late(&mut self, channel: ChannelNumber, reply: Result<Reply, AmqpError>) {
        let (waiting, subscriptions): (Vec<DeliveryRef>, Vec<SubscriptionId>) = match reply {
            Ok(Reply::Consumed { subscription, .. }) => (Vec::new(), vec![subscription]),
            Ok(Reply::Got(Some(got))) => (vec![got.source], Vec::new()),
            Ok(
                Reply::Done
                | Reply::QueueDeclared { .. }
                | Reply::Purged(_)
                | Reply::Deleted(_)
                | Reply::Got(None),
            )
            | Err(_) => return,
        };
        let opening = self.last_asked.1;
        self.push(Action::ChannelClosed { channel, opening, returned: Vec::new(), waiting, subscriptions });
    }

    /// Closes a channel from outside, or the connection if the error's code says so, blaming that class and method: a
    /// publish that was refused (60, 40), for one.
    pub fn fail_channel(
        &mut self,
        channel: ChannelNumber,
        opening: u32,
        error: AmqpError,
        class: u16,
        method: u16,
        out: &mut BytesMut,
    ) {
        if self.channel_of(channel, opening).is_some() {
            self.fail(channel, Fault { error, id: MethodId::new(class, method) }, out);
        }
    }

    /// True while this opening of the channel is in use: publishes of one that is not are to be dropped.
    #[must_use]
    pub fn is_open(&self, channel: ChannelNumber, opening: u32) -> bool {
        match self.channels.get(usize::from(channel.0)) {
            Some(Slot::Open(channel)) => channel.opening() == opening,
            Some(Slot::Free | Slot::ClosingByClient | Slot::AwaitingCloseOk { .. }) | None => false,
        }
    }

    /// A delivery for a consumer: written, or kept while the channel-wide prefetch is used up.
    #[expect(
        clippy::too_many_arguments,
        reason = "a delivery is this much; a struct of references would say it twice"
    )]
    pub fn deliver(
        &mut self,
        channel: ChannelNumber,
        subscription: SubscriptionId,
        source: DeliveryRef,
        redelivered: bool,
        counts: DeliveryCounts,
        message: &Message,
        out: &mut BytesMut,
    ) -> Delivered {
        let delivery = Delivery { subscription, source, redelivered, counts, message };
        self.on_channel(channel, out, |channel, context| channel.deliver(&delivery, context))
            .unwrap_or(Delivered::NoConsumer)
    }

    /// What was written since the last call, from consumers and from `basic.get`.
    #[must_use]
    pub fn take_handed_over(&mut self) -> Vec<HandedOver> {
        std::mem::take(&mut self.handed_over)
    }

    /// Publishes of these numbers are safe: writes as few `basic.ack` as say so.
    pub fn confirm(&mut self, channel: ChannelNumber, opening: u32, numbers: &[u64], out: &mut BytesMut) {
        if let Some(channel) = self.channel_of(channel, opening) {
            channel.confirm(numbers, true, out);
        }
    }

    /// Publishes of these numbers are lost or refused: writes as few `basic.nack` as say so.
    pub fn reject_publish(
        &mut self,
        channel: ChannelNumber,
        opening: u32,
        numbers: &[u64],
        out: &mut BytesMut,
    ) {
        if let Some(channel) = self.channel_of(channel, opening) {
            channel.confirm(numbers, false, out);
        }
    }

    /// Gives a mandatory message back that no queue took. To be called before its confirm.
    pub fn return_message(
        &mut self,
        channel: ChannelNumber,
        opening: u32,
        code: ReplyCode,
        message: &Message,
        out: &mut BytesMut,
    ) {
        let frame_max = self.limits.frame_max_or_all();
        if self.channel_of(channel, opening).is_some() {
            frame::returned(channel, code, message, frame_max, out);
        }
    }

    /// Ends a consumer whose queue is gone: tells the client if it has `consumer_cancel_notify`. `None` when there is
    /// no such consumer.
    pub fn cancel_consumer(
        &mut self,
        channel: ChannelNumber,
        subscription: SubscriptionId,
        out: &mut BytesMut,
    ) -> Option<CancelledConsumer> {
        let notify = self.capability("consumer_cancel_notify");
        self.on_channel(channel, out, |channel, context| {
            channel.cancel_by_server(subscription, notify, context)
        })
        .flatten()
    }

    /// Ends a consumer that the client cancels: nothing is delivered to it from here on. Gives back what was never
    /// shown to the client; `None` when there is no such consumer (any more).
    pub fn end_consumer(
        &mut self,
        channel: ChannelNumber,
        subscription: SubscriptionId,
        out: &mut BytesMut,
    ) -> Option<Vec<DeliveryRef>> {
        self.on_channel(channel, out, |channel, _| channel.end_consumer(subscription))
            .flatten()
            .map(|ended| ended.waiting)
    }

    /// Tells the machine the time: any clock in milliseconds that never goes back. Deliveries are dated with it.
    pub fn set_time(&mut self, now_ms: u64) {
        self.now_ms = now_ms;
    }

    /// Takes deliveries that are held too long away from the client, by channel: give them back. `overdue` is told
    /// since when each is held, by the clock of [`Self::set_time`]. Should the client settle one later, that has no
    /// effect.
    pub fn lapse(
        &mut self,
        mut overdue: impl FnMut(&DeliveryRef, u64) -> bool,
    ) -> Vec<(ChannelNumber, u32, Vec<DeliveryRef>)> {
        let mut lapsed = Vec::new();
        for (number, slot) in (0_u16..).zip(&mut self.channels) {
            if let Slot::Open(channel) = slot {
                let deliveries = channel.lapse(&mut overdue);
                if !deliveries.is_empty() {
                    lapsed.push((ChannelNumber(number), channel.opening(), deliveries));
                }
            }
        }
        lapsed
    }

    /// An alarm blocks this connection: tells the client once, if it has the capability `connection.blocked`, and
    /// stops expecting to read anything.
    pub fn block(&mut self, reason: &str, out: &mut BytesMut) {
        if self.phase != Phase::Running || self.blocked {
            return;
        }
        self.blocked = true;
        self.heartbeat.pause_reading(true);
        if self.capability("connection.blocked")
            && let Ok(reason) = ShortString::try_new(reason)
        {
            let blocked = connection::AMQPMethod::Blocked(connection::Blocked { reason });
            frame::method(ChannelNumber(0), AMQPClass::Connection(blocked), out);
        }
    }

    /// The alarm is over.
    pub fn unblock(&mut self, out: &mut BytesMut) {
        if !std::mem::take(&mut self.blocked) {
            return;
        }
        self.heartbeat.pause_reading(false);
        if self.phase == Phase::Running && self.capability("connection.blocked") {
            let unblocked = connection::AMQPMethod::Unblocked(connection::Unblocked {});
            frame::method(ChannelNumber(0), AMQPClass::Connection(unblocked), out);
        }
    }

    /// Half a heartbeat interval has passed ([`Connection::heartbeat_tick_ms`]); says whether bytes were read and
    /// written since the call before. Appends the heartbeat when one is due.
    pub fn heartbeat(&mut self, read_any: bool, wrote_any: bool, out: &mut BytesMut) -> Beat {
        let beat = self.heartbeat.tick(read_any, wrote_any);
        if beat == Beat::Send {
            frame::heartbeat(out);
        }
        beat
    }

    /// Milliseconds between calls of [`Connection::heartbeat`], once tuned; `None` without heartbeats.
    #[must_use]
    pub fn heartbeat_tick_ms(&self) -> Option<u64> {
        self.heartbeat.tick_ms()
    }
}
