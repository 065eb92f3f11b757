//! The acknowledgement timeout: a delivery that a client holds too long goes back to its queue, and the consumer that it
//! went to ends; the client is told by `basic.cancel`, or if it does not understand that, by the end of its channel.

use std::cell::Cell;
use std::collections::{BTreeSet, HashMap};
use std::time::Duration;

use warren_types::{AmqpError, ChannelNumber, DeliveryRef, QueueId, ReplyCode, SubscriptionId};

use super::Task;
use crate::request::consumer_timeout_ms;
use crate::session::SessionInput;

/// How often deliveries are looked at, unless a consumer's timeout is shorter than this.
pub(super) const LOOK_EVERY: Duration = Duration::from_secs(60);
/// The most often.
const LOOK_EVERY_MIN: Duration = Duration::from_millis(500);

impl Task {
    /// What the machine's clock says.
    pub(super) fn now_ms(&self) -> u64 {
        u64::try_from(self.born.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// A consumer came that may hold a delivery for so long (0: for ever).
    pub(super) fn look_sooner(&mut self, timeout_ms: u64) {
        if timeout_ms > 0 {
            let every = Duration::from_millis(timeout_ms / 2).max(LOOK_EVERY_MIN);
            self.lapse_every = self.lapse_every.min(every);
        }
    }

    /// A message was got: it may be held as long as its queue says, which is asked for when that is another one than before.
    pub(super) fn got_from(&mut self, queue: QueueId) {
        if self.last_got == Some(queue) {
            return;
        }
        self.last_got = Some(queue);
        let timeout = {
            let catalogue = self.caller.broker.catalogue().read();
            let spec = catalogue.queue_by_id(queue);
            spec.map_or(0, |spec| consumer_timeout_ms(&self.caller.broker, &catalogue, spec))
        };
        self.look_sooner(timeout);
    }

    /// Looks for deliveries that are held too long.
    pub(super) fn lapse(&mut self) {
        let (now, broker) = (self.now_ms(), &self.caller.broker);
        let shortest;
        // Of the last that lapsed: one for all that is told of.
        let used = Cell::new(0);
        let lapsed = {
            let catalogue = broker.catalogue().read();
            let (consumers, mut of_queues) = (&self.consumers, HashMap::new());
            let of_queue = |queue| {
                // A queue that is gone has taken its messages along.
                let spec = catalogue.queue_by_id(queue);
                spec.map_or(0, |spec| consumer_timeout_ms(broker, &catalogue, spec))
            };
            let lapsed = self.machine.lapse(|source, since| {
                let consumer = source.subscription.and_then(|subscription| consumers.get(&subscription));
                let timeout = consumer.and_then(|consumer| consumer.timeout_ms).unwrap_or_else(|| {
                    *of_queues.entry(source.queue).or_insert_with(|| of_queue(source.queue))
                });
                let lapses = timeout > 0 && now.saturating_sub(since) > timeout;
                used.set(if lapses { timeout } else { used.get() });
                lapses
            });
            // A policy may have made it shorter since the consumer came.
            shortest = of_queues.into_values().filter(|timeout| *timeout > 0).min();
            lapsed
        };
        self.look_sooner(shortest.unwrap_or_default());
        for (channel, opening, deliveries) in lapsed {
            self.take_away(channel, opening, &deliveries, used.get());
        }
    }

    fn take_away(
        &mut self,
        channel: ChannelNumber,
        opening: u32,
        deliveries: &[DeliveryRef],
        timeout_ms: u64,
    ) {
        let consumers: BTreeSet<SubscriptionId> =
            deliveries.iter().filter_map(|delivery| delivery.subscription).collect();
        // Consumers first: what goes back must not come straight to them again.
        for subscription in &consumers {
            if let Some(consumer) = self.forget_consumer(*subscription) {
                self.send(consumer.host, SessionInput::Unsubscribe(*subscription));
            }
        }
        self.give_back(deliveries, false, true);
        let of_get = deliveries.iter().any(|delivery| delivery.subscription.is_none());
        if of_get || !self.machine.capability("consumer_cancel_notify") {
            let error = AmqpError::new(
                ReplyCode::PreconditionFailed,
                format!(
                    "delivery acknowledgement on channel {channel} timed out. Timeout value used: {timeout_ms} ms. This \
                     timeout value can be configured, see consumers doc guide to learn more"
                ),
            );
            self.machine.fail_channel(channel, opening, error, 0, 0, &mut self.out);
            return;
        }
        for subscription in consumers {
            if let Some(ended) = self.machine.cancel_consumer(channel, subscription, &mut self.out) {
                self.give_back(&ended.waiting, false, false);
            }
        }
    }
}
