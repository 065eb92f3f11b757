//! RabbitMQ's firehose: in a virtual host that is traced, what is published and what is delivered comes a second time,
//! through the exchange `amq.rabbitmq.trace`, with what happened to it in its headers. Nobody waits for these copies.
//!
//! Before: `connection`. After: the hosts' sessions, as for any publish.

use bytes::Bytes;
use warren_amqp::properties::{Properties, PropertiesBuilder};
use warren_catalogue::Catalogue;
use warren_catalogue::routing::{RouteInput, RouteSet};
use warren_types::table::{FieldArray, ShortString};
use warren_types::{
    AMQPValue, ChannelNumber, ConnectionId, FieldTable, Message, PublishToken, QueueHost, SessionPublish,
    ShortStr,
};

use crate::operator::properties::to_table;
use crate::request::publish::HostBatch;
use crate::router::{draw, hashed_property};

/// Where the copies go. It is in every virtual host, and what comes through it is not traced again.
const EXCHANGE: &str = "amq.rabbitmq.trace";

/// Who published a message or gets it.
#[derive(Clone, Copy)]
pub(crate) struct Tap<'a> {
    /// The connection, and its name.
    pub(crate) connection: (ConnectionId, &'a str),
    pub(crate) channel: ChannelNumber,
    pub(crate) user: &'a str,
    pub(crate) vhost: &'a str,
    /// The name of this node.
    pub(crate) node: &'a str,
}

/// What happened to a message.
pub(crate) enum Seen<'a> {
    /// It was published, and went to these queues.
    Published { queues: &'a [String] },
    /// It was delivered from a queue.
    Delivered { queue: &'a str, redelivered: bool },
}

impl Tap<'_> {
    /// The copy of a message, on its way to the queues that are bound to the exchange of copies.
    pub(crate) fn copy(
        &self,
        catalogue: &Catalogue,
        message: &Message,
        seen: &Seen<'_>,
        hosts: &mut Vec<HostBatch>,
    ) {
        if message.exchange.as_str() == EXCHANGE {
            return;
        }
        let Some(copy) = self.told(message, seen) else { return };
        let token =
            PublishToken { connection: self.connection.0, channel: ChannelNumber(0), opening: 0, number: 0 };
        for (host, queue) in routed(catalogue, self.vhost, &copy) {
            let publish = SessionPublish { queues: vec![queue], message: copy.clone(), delay_ms: 0 };
            match hosts.iter_mut().find(|(known, _)| *known == host) {
                Some((_, batch)) => batch.push((token, publish)),
                None => hosts.push((host, vec![(token, publish)])),
            }
        }
    }

    /// `None` where the routing key would be too long.
    fn told(&self, message: &Message, seen: &Seen<'_>) -> Option<Message> {
        let properties = Properties::new(&message.properties);
        let mut headers = FieldTable::default();
        let mut put = |key: &str, value| {
            headers.insert(ShortString::from(key), value);
        };
        let more = properties.extra_routing_keys().unwrap_or_default();
        let more = more.iter().map(|key| text(&String::from_utf8_lossy(key)));
        let keys: Vec<AMQPValue> = std::iter::once(text(message.routing_key.as_str())).chain(more).collect();
        put("exchange_name", text(message.exchange.as_str()));
        put("routing_keys", AMQPValue::FieldArray(FieldArray::from(keys)));
        put("properties", AMQPValue::FieldTable(as_table(&message.properties)));
        put("node", text(self.node));
        put("vhost", text(self.vhost));
        put("connection", text(self.connection.1));
        put("channel", AMQPValue::LongInt(self.channel.0.into()));
        put("user", text(self.user));
        let key = match seen {
            Seen::Published { queues } => {
                let queues: Vec<AMQPValue> = queues.iter().map(|queue| text(queue)).collect();
                put("routed_queues", AMQPValue::FieldArray(FieldArray::from(queues)));
                format!("publish.{}", message.exchange.as_str())
            }
            Seen::Delivered { queue, redelivered } => {
                put("redelivered", AMQPValue::LongInt((*redelivered).into()));
                format!("deliver.{queue}")
            }
        };
        Some(Message {
            exchange: ShortStr::try_from(EXCHANGE).ok()?,
            routing_key: ShortStr::try_from(key.as_str()).ok()?,
            properties: PropertiesBuilder { headers: Some(headers), ..PropertiesBuilder::default() }.build(),
            body: message.body.clone(),
        })
    }
}

fn routed(catalogue: &Catalogue, vhost: &str, copy: &Message) -> Vec<(QueueHost, warren_types::QueueId)> {
    let mut set = RouteSet::default();
    let keys = [copy.routing_key.as_str()];
    let headers = || Properties::new(&copy.properties).headers();
    let property = |property| hashed_property(copy, property);
    let input = RouteInput { property: &property, random: &draw, ..RouteInput::new(&keys, &headers) };
    // A virtual host that is gone takes nothing.
    match catalogue.route(vhost, EXCHANGE, input, &mut set) {
        Ok(()) => set.iter().collect(),
        Err(_) => Vec::new(),
    }
}

fn text(value: &str) -> AMQPValue {
    AMQPValue::LongString(value.as_bytes().into())
}

/// The properties that a message has, by their names; their numbers as RabbitMQ's firehose writes them, but for the
/// timestamp, which has only 32 bits there.
fn as_table(properties: &Bytes) -> FieldTable {
    let mut table = FieldTable::default();
    for (key, value) in to_table(properties).inner() {
        let value = match value {
            AMQPValue::ShortShortUInt(number) => AMQPValue::LongInt((*number).into()),
            AMQPValue::Timestamp(seconds) => {
                AMQPValue::LongLongInt(i64::try_from(*seconds).unwrap_or(i64::MAX))
            }
            other => other.clone(),
        };
        table.insert(key.clone(), value);
    }
    table
}
