//! What the connection machine asks its shell to do. Each variant says whether it must be answered.

use warren_types::{ChannelNumber, DeliveryRef, Message, SubscriptionId};

use crate::request::Request;

/// Something that must be done outside the machine, in the order in which [`crate::Connection::next`] gives it.
#[derive(Debug)]
pub enum Action {
    /// Check credentials; answered by [`crate::Connection::authenticated`].
    Authenticate {
        /// The SASL mechanism, for the log.
        mechanism: Mechanism,
        /// The user's name; empty with `EXTERNAL`.
        user: String,
        /// The password, as sent; empty with `EXTERNAL`.
        password: Vec<u8>,
    },
    /// Check access to a virtual host; answered by [`crate::Connection::vhost_opened`].
    OpenVhost {
        /// Its name.
        vhost: String,
    },
    /// A message to route; no answer. Refusals go through [`crate::Connection::fail_channel`].
    Publish(Publish),
    /// A message published in a transaction, which the machine keeps until the commit: only to be checked now, as
    /// RabbitMQ does. No answer; refusals go through [`crate::Connection::fail_channel`].
    CheckPublish(Publish),
    /// What was published in the channel's transaction is forgotten; no answer.
    RolledBack {
        /// The channel.
        channel: ChannelNumber,
    },
    /// Nothing but what every action but [`Action::Publish`] means: publishes given out before it are routed, and those
    /// that are refused have closed their channel, before `next` is called again. What was read is answered after that.
    Route,
    /// Deliveries that the client settled; no answer.
    Settle {
        /// The channel that held them.
        channel: ChannelNumber,
        /// What the client said.
        outcome: Settlement,
        /// Which, in the order of their delivery tags.
        deliveries: Vec<DeliveryRef>,
    },
    /// The channel-wide prefetch has changed: how many deliveries each consumer may be lent by its queue's leader, 0 for
    /// no limit. No answer.
    Prefetch {
        /// The consumers with manual acknowledgement.
        limits: Vec<(SubscriptionId, u16)>,
    },
    /// A question; answered by [`crate::Connection::reply`]. Until then `next` reads nothing more.
    Request {
        /// The channel; 0 for [`Request::UpdateSecret`].
        channel: ChannelNumber,
        /// Which opening of it.
        opening: u32,
        /// The question.
        request: Request,
    },
    /// A channel is gone: return what it held, end its consumers. When the client closed it, `close-ok` is written
    /// by the `next` that follows, so call that only once this is dealt with.
    ChannelClosed {
        /// The channel.
        channel: ChannelNumber,
        /// Which opening of it.
        opening: u32,
        /// Delivered to the client and not settled, in the order of their tags.
        returned: Vec<DeliveryRef>,
        /// Never shown to the client.
        waiting: Vec<DeliveryRef>,
        /// Its consumers.
        subscriptions: Vec<SubscriptionId>,
    },
    /// The client closes the connection and every channel has been reported closed: delete exclusive queues, then
    /// call [`crate::Connection::closing_done`].
    Closing,
    /// Nothing more will be asked. Flush what was appended, then do as [`Ending`] says.
    Closed(Ending),
}

/// How a connection ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// The client closed and has its `close-ok`; it closes the socket (wait for that up to a bound), or the
    /// protocol header was refused.
    Graceful,
    /// The server closed. Keep calling `next` with what is read, up to a bound: everything is discarded until
    /// `close-ok`, which gives [`Ending::Done`].
    ByServer,
    /// `close-ok` has come: close the socket.
    Done,
    /// Nothing is told to the client: close the socket after this long.
    Silent {
        /// Milliseconds.
        delay_ms: u64,
    },
}

/// A SASL mechanism.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mechanism {
    /// `PLAIN`.
    Plain,
    /// `AMQPLAIN`.
    AmqPlain,
    /// `EXTERNAL`: the client's certificate says who it is. Only where the configuration offers it.
    External,
}

impl Mechanism {
    /// Its name on the wire.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Plain => "PLAIN",
            Self::AmqPlain => "AMQPLAIN",
            Self::External => "EXTERNAL",
        }
    }

    /// The mechanism of that name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        [Self::Plain, Self::AmqPlain, Self::External].into_iter().find(|mechanism| mechanism.name() == name)
    }
}

/// A message that a client published.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Publish {
    /// The channel.
    pub channel: ChannelNumber,
    /// Which opening of it.
    pub opening: u32,
    /// Its confirm number, from 1; 0 when the channel did not ask for confirms.
    pub number: u64,
    /// Give it back when no queue takes it.
    pub mandatory: bool,
    /// The message; its properties have been checked to be well-formed.
    pub message: Message,
}

/// What a client said about a delivery.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Settlement {
    /// `basic.ack`.
    Ack,
    /// `basic.reject` or `basic.nack` without requeue: gone, or dead-lettered.
    Reject,
    /// Back to its place.
    Requeue {
        /// `basic.reject`: counts as a failed delivery; `basic.nack` does not.
        failed: bool,
    },
}
