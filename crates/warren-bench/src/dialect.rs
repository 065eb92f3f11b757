//! What tells one kind of broker from another. The engine, the books and the clocks are the same for all.

use std::fmt::Debug;
use std::net::TcpStream;

use crate::arguments::Plan;
use crate::error::BenchError;
use crate::measure::Measure;
use crate::pacing::Pacing;
use crate::producer::Producer;
use crate::stamp::Stamp;
use crate::uri::{BrokerUri, Scheme};

/// A kind of broker: how its connections are set up and ended. Everything here waits for its answers.
pub(crate) trait Dialect {
    /// What the brokers' addresses start with.
    const SCHEME: Scheme;
    /// A connection while it is set up.
    type Link: Debug + Send;
    /// A connection's half of the load.
    type Role: Role;

    /// Opens a connection that makes, counts and deletes queues.
    fn control(plan: &Plan) -> Result<Self::Link, BenchError>;

    /// Makes anew what the run publishes to and consumes from.
    fn set_up(plan: &Plan, link: &mut Self::Link) -> Result<(), BenchError>;

    /// Deletes it; what is not there is no error.
    fn tear_down(plan: &Plan, link: &mut Self::Link) -> Result<(), BenchError>;

    /// How many messages wait in it.
    fn depth(plan: &Plan, link: &mut Self::Link) -> Result<u64, BenchError>;

    /// Ends a connection in good order.
    fn close(link: Self::Link) -> Result<(), BenchError>;

    /// Opens a connection that does nothing, ready for use.
    fn open_idle(uri: &BrokerUri) -> Result<Self::Link, BenchError>;

    /// Opens the connection of consumer number `index`, ready to subscribe.
    fn open_consumer(plan: &Plan, uri: &BrokerUri, index: usize) -> Result<Self::Link, BenchError>;

    /// Subscribes consumer number `index` to its queues.
    fn subscribe(plan: &Plan, index: usize, link: &mut Self::Link) -> Result<(), BenchError>;

    /// Hands a subscribed consumer over to the engine.
    fn consumer(plan: &Plan, index: usize, link: Self::Link) -> (Parts, Self::Role);

    /// Opens the connection of producer number `index`, ready to publish.
    fn open_producer(plan: &Plan, uri: &BrokerUri, index: usize) -> Result<Self::Link, BenchError>;

    /// Hands a producer over to the engine. `run` marks this run's messages.
    fn producer(plan: &Plan, index: usize, run: u8, link: Self::Link, pacing: Pacing) -> (Parts, Self::Role);

    /// Takes a connection back from the engine and ends it in good order, after all of `output` is sent.
    fn end(parts: Parts, output: &[u8]) -> Result<(), BenchError>;
}

/// A connection's half of the load: it publishes or it consumes. It never waits and knows no socket.
pub(crate) trait Role: Debug {
    /// What it publishes.
    type Message: Message;

    /// Handles what is there as a whole at the start of `bytes`, appends to `out` what is to be answered, and tells how
    /// many bytes that was. The rest comes again, with more after it.
    ///
    /// # Errors
    /// What the broker said, or what is wrong with what it said. `address` is for messages.
    fn absorb(
        &mut self,
        bytes: &[u8],
        address: &str,
        now_ns: u64,
        out: &mut Vec<u8>,
        measure: &mut Measure,
    ) -> Result<usize, BenchError>;

    /// Appends the acknowledgements that wait for more deliveries to join them.
    fn acknowledge_rest(&mut self, out: &mut Vec<u8>);

    /// Its producer, if it publishes.
    fn producer(&self) -> Option<&Producer<Self::Message>>;

    /// The same, to work with.
    fn producer_mut(&mut self) -> Option<&mut Producer<Self::Message>>;
}

/// The bytes of one message, made once; each message sent is a copy of them with another stamp in its body.
pub(crate) trait Message: Debug {
    /// Appends one message with `stamp` at the start of its body.
    fn put(&self, out: &mut Vec<u8>, stamp: Stamp);
}

/// A connection's parts, for whoever goes on with it.
#[derive(Debug)]
pub(crate) struct Parts {
    /// The socket, still blocking.
    pub(crate) stream: TcpStream,
    /// `host:port`, for messages.
    pub(crate) address: String,
    /// What the broker has sent already.
    pub(crate) input: Vec<u8>,
}
