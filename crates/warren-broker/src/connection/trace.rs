//! Copies of what this client publishes and gets, where its virtual host is traced.

use warren_types::{ChannelNumber, Message, QueueId};

use super::Task;
use crate::session::SessionInput;
use crate::trace::{Seen, Tap};

impl Task {
    /// Whether this connection's virtual host is traced.
    pub(super) fn is_traced(&mut self) -> bool {
        let Some(publisher) = &mut self.publisher else { return false };
        publisher.refresh(&self.caller);
        publisher.is_traced()
    }

    /// Sends the copies of what was published since the last call.
    pub(super) fn trace_published(&mut self) {
        let Some(publisher) = &mut self.publisher else { return };
        let published = publisher.take_traced();
        if published.is_empty() {
            return;
        }
        let mut hosts = Vec::new();
        {
            let catalogue = self.caller.broker.catalogue().read();
            for (channel, message, queues) in published {
                let names = queues.iter().filter_map(|queue| catalogue.queue_by_id(*queue));
                let names = names.filter(|spec| !warren_catalogue::is_hidden(&spec.name));
                let queues: Vec<String> = names.map(|spec| spec.name.to_string()).collect();
                let seen = Seen::Published { queues: &queues };
                self.tap(channel).copy(&catalogue, &message, &seen, &mut hosts);
            }
        }
        for (host, batch) in hosts {
            self.send(host, SessionInput::publish(batch));
        }
    }

    /// Sends the copies of what was delivered from a queue: by channel, whether it was there before, and the message.
    pub(super) fn trace_delivered(&mut self, queue: QueueId, delivered: &[(ChannelNumber, bool, Message)]) {
        if delivered.is_empty() {
            return;
        }
        let mut hosts = Vec::new();
        {
            let catalogue = self.caller.broker.catalogue().read();
            let Some(spec) = catalogue.queue_by_id(queue) else { return };
            for (channel, redelivered, message) in delivered {
                let seen = Seen::Delivered { queue: &spec.name, redelivered: *redelivered };
                self.tap(*channel).copy(&catalogue, message, &seen, &mut hosts);
            }
        }
        for (host, batch) in hosts {
            self.send(host, SessionInput::publish(batch));
        }
    }

    fn tap(&self, channel: ChannelNumber) -> Tap<'_> {
        Tap {
            connection: (self.caller.connection, &self.name),
            channel,
            user: &self.caller.user,
            vhost: &self.caller.vhost,
            node: &self.caller.broker.config().node_name,
        }
    }
}
