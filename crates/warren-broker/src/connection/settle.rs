//! What the client gives back: acknowledgements, requeues, and everything a channel held when it closed.

use tracing::debug;
use warren_amqp::{Action, Settlement};
use warren_types::{DeliveryRef, Position, QueueHost, QueueId, SubscriptionId};

use super::Task;
use crate::registry::ConnectionEvent;
use crate::request::publish::View;
use crate::session::SessionInput;

impl Task {
    pub(super) fn settle(&mut self, outcome: Settlement, deliveries: &[DeliveryRef]) {
        match outcome {
            Settlement::Ack | Settlement::Reject => {
                let rejected = outcome == Settlement::Reject;
                if rejected {
                    deliveries.iter().for_each(|delivery| self.wake.rejected(delivery));
                }
                for (host, queue, positions) in by_queue(deliveries) {
                    self.send(host, SessionInput::Settle { queue, positions, rejected });
                }
            }
            Settlement::Requeue { failed } => {
                if failed {
                    // It may have failed too often.
                    deliveries.iter().for_each(|delivery| self.wake.rejected(delivery));
                }
                self.give_back(deliveries, failed, true);
            }
        }
    }

    pub(super) fn give_back(&mut self, deliveries: &[DeliveryRef], failed: bool, delivered: bool) {
        for (host, queue, positions) in by_queue(deliveries) {
            self.send(host, SessionInput::GiveBack { queue, positions, failed, delivered });
        }
    }

    pub(super) fn set_prefetch(&mut self, limits: &[(SubscriptionId, u16)]) {
        for (subscription, limit) in limits {
            if let Some(consumer) = self.consumers.get(subscription).copied() {
                let input =
                    SessionInput::SetPrefetch { subscription: *subscription, prefetch: u32::from(*limit) };
                self.send(consumer.host, input);
            }
        }
    }

    pub(super) fn channel_closed(
        &mut self,
        returned: &[DeliveryRef],
        waiting: &[DeliveryRef],
        subscriptions: &[SubscriptionId],
    ) {
        // Consumers first: what goes back must not come straight to them again.
        for subscription in subscriptions {
            if let Some(consumer) = self.forget_consumer(*subscription) {
                self.send(consumer.host, SessionInput::Unsubscribe(*subscription));
            }
        }
        self.give_back(returned, true, true);
        self.give_back(waiting, false, false);
        self.note_state();
    }

    /// The socket is gone, or the close is done: everything the connection held goes back.
    pub(super) async fn clean_up(&mut self) {
        self.pending = None;
        for action in self.machine.disconnected() {
            match action {
                Action::ChannelClosed { channel, returned, waiting, subscriptions, .. } => {
                    self.transactions.forget(channel);
                    self.channel_closed(&returned, &waiting, &subscriptions);
                }
                // What the client sent before it went still counts.
                Action::Publish(_) | Action::Settle { .. } => self.act(action),
                Action::CheckPublish(_)
                | Action::RolledBack { .. }
                | Action::Route
                | Action::Authenticate { .. }
                | Action::OpenVhost { .. }
                | Action::Request { .. }
                | Action::Prefetch { .. }
                | Action::Closing
                | Action::Closed(_) => {}
            }
        }
        self.forget_channels();
        // What is not known here goes nowhere: nobody is left to be told.
        self.route(&View::Current);
        let leftover: Vec<SubscriptionId> = self.consumers.keys().copied().collect();
        self.channel_closed(&[], &[], &leftover);
        for (_, host, queue, deliveries) in std::mem::take(&mut self.early) {
            let positions = deliveries.iter().map(|delivery| delivery.position).collect();
            self.send(host, SessionInput::GiveBack { queue, positions, failed: false, delivered: false });
        }
        while let Some((session, mut input)) = self.outbox.pop_front() {
            session.make_room(&mut input).await;
            // A session that is gone has nothing to be told.
            let _stopping = session.inputs().send(input).await;
        }
        if self.owns_queues {
            self.owns_queues = false;
            self.caller.broker.release_owner(self.caller.owner()).await;
        }
        // Deliveries that were on their way here: their session gives them back when the mailbox refuses them, and
        // those already in it go back now.
        self.caller.mailbox.close();
        let mut events = Vec::new();
        self.caller.mailbox.try_recv_many(&mut events, usize::MAX);
        for event in events {
            if let ConnectionEvent::Deliver { host, queue, deliveries, .. } = event {
                let positions = deliveries.iter().map(|delivery| delivery.position).collect();
                let input = SessionInput::GiveBack { queue, positions, failed: false, delivered: false };
                let _stopping = self.caller.broker.session(host).inputs().send(input).await;
            }
        }
        self.forget_incoming();
        debug!(connection = %self.name, "closed");
    }

    /// Sends to a host's session, at once if there is room and nothing waits before it.
    pub(super) fn send(&mut self, host: QueueHost, input: SessionInput) {
        let session = self.caller.broker.session(host);
        let left = if self.outbox.is_empty() { session.offer(input) } else { Some(input) };
        self.outbox.extend(left.map(|input| (session, input)));
    }
}

/// Deliveries grouped by queue, in their order within each.
fn by_queue(deliveries: &[DeliveryRef]) -> Vec<(QueueHost, QueueId, Vec<Position>)> {
    let mut groups: Vec<(QueueHost, QueueId, Vec<Position>)> = Vec::new();
    for delivery in deliveries {
        match groups.iter_mut().rev().find(|(_, queue, _)| *queue == delivery.queue) {
            Some((_, _, positions)) => positions.push(delivery.position),
            None => groups.push((delivery.host, delivery.queue, vec![delivery.position])),
        }
    }
    groups
}
