//! Whoever is bound to an exchange of type `x-recent-history` gets the last messages that came to it: they are read from
//! where the exchange keeps them and published, by the node, to what was bound.
//!
//! The binding is there before the history is read: what is published meanwhile from this node comes by the one way or the
//! other, perhaps by both. Before: `request::bind`, `operator`. After: `session`, as for any publish.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use warren_amqp::properties::Properties;
use warren_catalogue::routing::{RouteInput, RouteSet};
use warren_catalogue::{Catalogue, ExchangeKind};
use warren_proto::catalogue::{BindingRecord, Command, Destination};
use warren_proto::session::{Answer, Ask, Delivery};
use warren_types::{
    AmqpError, ChannelNumber, ConnectionId, Message, Position, PublishToken, QueueHost, ReplyCode,
    SessionPublish,
};

use crate::broker::Broker;
use crate::delay::take_delay;
use crate::mailbox::Mailbox;
use crate::registry::{ConnectionEvent, await_confirms};
use crate::request::{ask, unexpected};
use crate::router::{draw, hashed_property};
use crate::session::SessionInput;

/// Messages that are read and published in one go.
const AT_ONCE: u32 = 256;
/// How long one such piece may take to be confirmed.
const CONFIRM_DEADLINE: Duration = Duration::from_secs(30);

/// Binds, and hands over what the source remembers if the binding is new. True when it is.
///
/// # Errors
/// What the catalogue refuses; 541 when what the source remembers could not be read or was not confirmed in time. The
/// binding is there then.
pub(crate) async fn bind(broker: &Arc<Broker>, record: BindingRecord) -> Result<bool, AmqpError> {
    let applied = broker.change(Command::Bind(record.clone())).await?;
    if applied.created {
        broker.seen_everywhere().await;
    }
    if applied.created
        && let Some(mut replay) = Replay::new(broker, &record)
    {
        replay.run().await?;
    }
    Ok(applied.created)
}

/// One history on its way to what was bound.
struct Replay<'a> {
    broker: &'a Arc<Broker>,
    binding: &'a BindingRecord,
    history: Arc<warren_types::QueueSpec>,
    /// As whom it publishes.
    connection: ConnectionId,
    confirms: Arc<Mailbox<ConnectionEvent>>,
}

impl<'a> Replay<'a> {
    /// `None` where the source remembers nothing.
    fn new(broker: &'a Arc<Broker>, binding: &'a BindingRecord) -> Option<Self> {
        let history = broker.catalogue().read().history(&binding.vhost, &binding.source).cloned()?;
        let connection = broker.connections().next_id();
        let confirms = Arc::new(Mailbox::new());
        broker.connections().insert_inner(connection, Arc::clone(&confirms));
        Some(Self { broker, binding, history, connection, confirms })
    }

    async fn run(&mut self) -> Result<(), AmqpError> {
        let (mut after, mut end) = (Position(0), None);
        loop {
            let question = Ask::Browse { queue: self.history.id, after, max_messages: AT_ONCE };
            let (deliveries, last) = match ask(self.broker, &self.history, question).await {
                Ok(Answer::Browsed { deliveries, last }) => (deliveries, last),
                Ok(other) => return Err(unexpected(&other)),
                // The exchange was deleted meanwhile.
                Err(error) if error.code == ReplyCode::NotFound => return Ok(()),
                Err(error) => return Err(error),
            };
            // What comes later comes through the binding.
            let end = *end.get_or_insert(last);
            let wanted: Vec<Delivery> =
                deliveries.into_iter().take_while(|delivery| delivery.position <= end).collect();
            let Some(newest) = wanted.last().map(|delivery| delivery.position) else { return Ok(()) };
            after = newest;
            self.publish(wanted).await?;
            if after >= end {
                return Ok(());
            }
        }
    }

    /// Sends a piece and waits until it is where it belongs, or refused there.
    async fn publish(&self, deliveries: Vec<Delivery>) -> Result<(), AmqpError> {
        let token =
            PublishToken { connection: self.connection, channel: ChannelNumber(0), opening: 0, number: 1 };
        let mut batches: HashMap<QueueHost, Vec<(PublishToken, SessionPublish)>> = HashMap::new();
        {
            let catalogue = self.broker.catalogue().read();
            for delivery in deliveries {
                for (host, publish) in self.route(&catalogue, delivery.message) {
                    batches.entry(host).or_default().push((token, publish));
                }
            }
        }
        let missing: usize = batches.values().map(Vec::len).sum();
        let confirmed = async {
            for (host, batch) in batches {
                self.broker.session(host).inputs().send(SessionInput::publish(batch)).await.ok()?;
            }
            await_confirms(&self.confirms, missing).await
        };
        match tokio::time::timeout(CONFIRM_DEADLINE, confirmed).await {
            // Refused is where it belongs, too.
            Ok(Some(_)) => Ok(()),
            Ok(None) | Err(_) => Err(AmqpError::new(
                ReplyCode::InternalError,
                format!(
                    "what exchange '{}' in vhost '{}' remembers was not confirmed in time",
                    self.binding.source, self.binding.vhost
                ),
            )),
        }
    }

    /// Where a remembered message goes: to the queue that was bound, or as the exchange that was bound routes it.
    fn route(&self, catalogue: &Catalogue, mut message: Message) -> Vec<(QueueHost, SessionPublish)> {
        let vhost = &self.binding.vhost;
        let mut set = RouteSet::default();
        let mut delay_ms = 0;
        let targets: Vec<_> = match &self.binding.destination {
            Destination::Queue(name) => {
                catalogue.queue(vhost, name).map(|spec| (spec.host, spec.id)).into_iter().collect()
            }
            Destination::Exchange(name) => {
                let delays = catalogue.exchange(vhost, name).map(|exchange| exchange.kind)
                    == Some(ExchangeKind::DelayedMessage);
                let properties = Properties::new(&message.properties);
                // It was looked at when it was published.
                let more = properties.extra_routing_keys().unwrap_or_default();
                let more = more.iter().filter_map(|key| std::str::from_utf8(key).ok());
                let keys: Vec<&str> = std::iter::once(message.routing_key.as_str()).chain(more).collect();
                let headers = || properties.headers();
                let property = |property| hashed_property(&message, property);
                let broker = Arc::clone(self.broker);
                let is_local = move |host| broker.serves(host);
                let input = RouteInput {
                    property: &property,
                    random: &draw,
                    is_local: &is_local,
                    ..RouteInput::new(&keys, &headers)
                };
                // An exchange that is gone takes nothing.
                let routed = catalogue.route(vhost, name, input, &mut set).is_ok();
                if delays {
                    delay_ms = take_delay(&mut message);
                }
                if routed { set.iter().chain(set.histories()).collect() } else { Vec::new() }
            }
        };
        let mut publishes: Vec<(QueueHost, SessionPublish)> = Vec::new();
        for (host, queue) in targets {
            match publishes.iter_mut().find(|(known, _)| *known == host) {
                Some((_, publish)) => publish.queues.push(queue),
                None => publishes
                    .push((host, SessionPublish { queues: vec![queue], message: message.clone(), delay_ms })),
            }
        }
        publishes
    }
}

impl Drop for Replay<'_> {
    fn drop(&mut self) {
        self.broker.connections().remove_inner(self.connection);
    }
}
