//! After `connection.update-secret`: what a user may not do any more ends.

use warren_catalogue::{Access, Resource};
use warren_types::{ChannelNumber, SubscriptionId};

use super::Task;
use crate::session::SessionInput;

impl Task {
    /// Has consumers end whose user may not read from their queues any more.
    pub(super) fn recheck_consumers(&mut self) {
        let forbidden: Vec<(SubscriptionId, ChannelNumber)> = {
            let catalogue = self.caller.broker.catalogue().read();
            let may_read = |queue| {
                catalogue.queue_by_id(queue).is_none_or(|spec| {
                    let resource = Resource::Queue(&spec.name);
                    let (user, vhost) = (&self.caller.user, &self.caller.vhost);
                    catalogue.check_access(user, vhost, Access::Read, resource).is_ok()
                })
            };
            // Who waits for answers reads from no queue that has a name.
            let consumers =
                self.consumers.iter().filter(|(subscription, _)| self.described.contains_key(subscription));
            consumers
                .filter(|(_, consumer)| !may_read(consumer.queue))
                .map(|(subscription, consumer)| (*subscription, consumer.channel))
                .collect()
        };
        for (subscription, channel) in forbidden {
            if let Some(consumer) = self.forget_consumer(subscription) {
                self.send(consumer.host, SessionInput::Unsubscribe(subscription));
            }
            if let Some(ended) = self.machine.cancel_consumer(channel, subscription, &mut self.out) {
                self.give_back(&ended.waiting, false, false);
            }
        }
    }
}
