//! A message as it passes from a publisher to its consumers, unchanged.

use bytes::Bytes;

use crate::{ChannelNumber, ConnectionId, QueueId, ShortStr};

/// The largest body that a node can be configured to take: 512 MiB. What carries messages between nodes and to the disk
/// must take one of this size.
pub const BODY_MAX_BYTES: usize = 512 << 20;

/// A message. Everything is a slice of what was read from the publisher (or from the log): cloning copies nothing.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Message {
    /// The exchange it was published to; empty for the default exchange.
    pub exchange: ShortStr,
    /// The routing key it was published with.
    pub routing_key: ShortStr,
    /// The content header's property flags and property list, as sent (0-9-1 §4.2.6.1), without class, weight and
    /// body size.
    pub properties: Bytes,
    /// The body; its frames are joined.
    pub body: Bytes,
}

impl Message {
    /// Bytes it occupies: names, properties and body.
    #[must_use]
    pub fn size(&self) -> usize {
        self.exchange.len() + self.routing_key.len() + self.properties.len() + self.body.len()
    }
}

/// Names one publish on its home node, to find who waits for its confirm.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PublishToken {
    /// The publisher's connection.
    pub connection: ConnectionId,
    /// Its channel.
    pub channel: ChannelNumber,
    /// Counts the openings of channels on that connection: a channel number can be closed and opened again.
    pub opening: u32,
    /// The publish's confirm number on that channel, from 1; 0 when the channel did not ask for confirms.
    pub number: u64,
}

/// One message on its way to the queues of one host.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SessionPublish {
    /// The queues of this host that it goes to; at least one, each once.
    pub queues: Vec<QueueId>,
    /// The message.
    pub message: Message,
    /// Milliseconds until it comes into them; 0 is at once. The message's `x-delay` is the same number below zero.
    pub delay_ms: u32,
}
