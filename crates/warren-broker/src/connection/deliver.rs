//! Spine 14 and 15: what the rest of the node has for this client: deliveries, confirms, cancellations.

use warren_amqp::Delivered;
use warren_proto::operate::Traffic;
use warren_proto::session::Delivery;
use warren_types::{AckMode, DeliveryRef, PublishToken, QueueHost, QueueId, SubscriptionId};

use super::commit::COMMIT;
use super::{Pending, Settlement, Task, What};
use crate::confirm::Verdict;
use crate::registry::ConnectionEvent;
use crate::session::SessionInput;

impl Task {
    pub(super) fn take_events(&mut self, events: &mut Vec<ConnectionEvent>) {
        for event in events.drain(..) {
            match event {
                ConnectionEvent::Confirmed(tokens) => self.on_host_confirms(&tokens, false),
                ConnectionEvent::Rejected(tokens) => self.on_host_confirms(&tokens, true),
                ConnectionEvent::Deliver { subscription, host, queue, deliveries } => {
                    let subscribing =
                        matches!(&self.pending, Some(Pending { what: What::Request { .. }, .. }));
                    if subscribing && !self.consumers.contains_key(&subscription) {
                        self.early.push((subscription, host, queue, deliveries));
                    } else {
                        self.deliver(subscription, host, queue, deliveries);
                    }
                }
                ConnectionEvent::Cancelled(subscription) => {
                    if matches!(&self.pending, Some(Pending { what: What::Request { .. }, .. })) {
                        self.cancelled.push(subscription);
                    } else {
                        self.on_cancelled(subscription);
                    }
                }
                ConnectionEvent::Describe(tell) => {
                    // Whoever asked may have stopped waiting.
                    let _gone = tell.send(self.describe());
                }
                ConnectionEvent::AlarmsOver => self.unblock(),
                ConnectionEvent::TurnSeen => self.look_at_turn(),
                ConnectionEvent::Close(error) => {
                    self.machine.close_connection(error, &mut self.out);
                    // What was outstanding is of no interest any more.
                    self.pending = None;
                    self.stashed = None;
                    self.discard();
                }
            }
        }
    }

    pub(super) fn on_cancelled(&mut self, subscription: SubscriptionId) {
        if let Some(consumer) = self.forget_consumer(subscription) {
            self.machine.cancel_consumer(consumer.channel, subscription, &mut self.out);
        }
    }

    pub(super) fn deliver(
        &mut self,
        subscription: SubscriptionId,
        host: QueueHost,
        queue: QueueId,
        deliveries: Vec<Delivery>,
    ) {
        let consumer = self.consumers.get_mut(&subscription).map(|consumer| {
            // A transient queue whose node was lost lives on another.
            consumer.host = host;
            *consumer
        });
        let mut homeless = Vec::new();
        let is_traced = self.is_traced();
        let mut traced = Vec::new();
        for delivery in deliveries {
            let source =
                DeliveryRef { host, queue, position: delivery.position, subscription: Some(subscription) };
            let delivered = consumer.map(|consumer| {
                self.machine.deliver(
                    consumer.channel,
                    subscription,
                    source,
                    delivery.redelivered,
                    consumer.told(&delivery),
                    &delivery.message,
                    &mut self.out,
                )
            });
            match delivered {
                Some(Delivered::Written | Delivered::Waiting) => {
                    if let (true, Some(consumer)) = (is_traced, consumer) {
                        traced.push((consumer.channel, delivery.redelivered, delivery.message));
                    }
                }
                Some(Delivered::NoConsumer) | None => homeless.push(source),
            }
        }
        self.give_back(&homeless, false, false);
        self.trace_delivered(queue, &traced);
    }

    /// What has been written to the client: the leaders may send more, and what needs no ack is settled.
    pub(super) fn report_handed_over(&mut self) {
        let handed_over = self.machine.take_handed_over();
        if handed_over.is_empty() {
            return;
        }
        let mut credits: Vec<(SubscriptionId, QueueHost, u32, u64)> = Vec::new();
        let mut settled = Vec::new();
        for one in handed_over {
            if one.ack_mode == AckMode::Automatic {
                settled.push(one.source);
            }
            let Some(subscription) = one.source.subscription else { continue };
            match credits.iter_mut().rev().find(|(known, ..)| *known == subscription) {
                Some((_, _, messages, bytes)) => {
                    *messages += 1;
                    *bytes += one.bytes as u64;
                }
                None => credits.push((subscription, one.source.host, 1, one.bytes as u64)),
            }
        }
        self.settle(Settlement::Ack, &settled);
        for (subscription, host, messages, bytes) in credits {
            self.send(host, SessionInput::Credit { subscription, messages, bytes });
        }
    }

    pub(super) fn on_host_confirms(&mut self, tokens: &[PublishToken], rejected: bool) {
        let mut confirmed: Vec<u64> = Vec::with_capacity(tokens.len());
        for same in tokens.chunk_by(|a, b| (a.channel, a.opening) == (b.channel, b.opening)) {
            let Some(first) = same.first() else { continue };
            let mut refused = Vec::new();
            confirmed.clear();
            for token in same {
                if token.number & COMMIT != 0 {
                    self.on_commit_confirm(token.number, rejected);
                    continue;
                }
                match self.confirms.on_host(*token, rejected) {
                    Verdict::Wait => {}
                    Verdict::Confirmed => confirmed.push(token.number),
                    Verdict::Rejected => refused.push(token.number),
                }
            }
            if !confirmed.is_empty() {
                // A number of 0 is that of a publish that nobody waits for.
                let confirm = confirmed.iter().filter(|number| **number != 0).count() as u64;
                let traffic = self.caller.broker.connections().traffic();
                traffic.add(Traffic { confirm, ..Traffic::default() });
                self.machine.confirm(first.channel, first.opening, &confirmed, &mut self.out);
            }
            if !refused.is_empty() {
                self.machine.reject_publish(first.channel, first.opening, &refused, &mut self.out);
            }
        }
    }
}
