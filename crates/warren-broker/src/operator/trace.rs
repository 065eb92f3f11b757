//! Copies of what operators publish and get in a client's place, where the virtual host is traced.

use std::sync::Arc;

use warren_catalogue::Catalogue;
use warren_types::{ChannelNumber, Message, QueueId};

use crate::broker::Broker;
use crate::session::SessionInput;
use crate::trace::{Seen, Tap};

/// The one channel that such a client has.
const CHANNEL: ChannelNumber = ChannelNumber(1);

/// What an operator has done with messages.
pub(super) enum Done<'a> {
    /// Published one, to these queues.
    Published(&'a Message, Vec<QueueId>),
    /// Got them from a queue; each with whether it was there before.
    Got(&'a str, &'a [(bool, Message)]),
}

/// Whether the virtual host is traced.
pub(super) fn is_traced(catalogue: &Catalogue, vhost: &str) -> bool {
    catalogue.vhost_metadata(vhost).is_some_and(|vhost| vhost.traced)
}

/// Sends the copies, if anybody wants them. Nobody waits for their confirms.
pub(super) async fn tell(broker: &Arc<Broker>, user: &str, vhost: &str, done: Done<'_>) {
    let mut hosts = Vec::new();
    {
        let catalogue = broker.catalogue().read();
        if !is_traced(&catalogue, vhost) {
            return;
        }
        let id = broker.connections().next_id();
        let node = &broker.config().node_name;
        // As RabbitMQ names connections that come by no socket.
        let name = format!("<{node}.0.{}.0>", id.0);
        let tap = Tap { connection: (id, &name), channel: CHANNEL, user, vhost, node };
        match done {
            Done::Published(message, queues) => {
                let names = queues.iter().filter_map(|queue| catalogue.queue_by_id(*queue));
                let names = names.filter(|spec| !warren_catalogue::is_hidden(&spec.name));
                let queues: Vec<String> = names.map(|spec| spec.name.to_string()).collect();
                tap.copy(&catalogue, message, &Seen::Published { queues: &queues }, &mut hosts);
            }
            Done::Got(queue, messages) => {
                for (redelivered, message) in messages {
                    let seen = Seen::Delivered { queue, redelivered: *redelivered };
                    tap.copy(&catalogue, message, &seen, &mut hosts);
                }
            }
        }
    }
    for (host, batch) in hosts {
        // A node that is stopping tells nobody.
        let _stopping = broker.session(host).inputs().send(SessionInput::publish(batch)).await;
    }
}
