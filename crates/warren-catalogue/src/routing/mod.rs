//! Spine 6: an exchange and a message's keys and headers become queues. A pure question to one state of the
//! catalogue. Before: the broker's router. After: its sessions. Knows no permission and no connection.

mod choice;
pub(crate) mod delayed;
mod direct;
mod fanout;
mod hash;
mod headers;
pub(crate) mod history;
mod targets;
mod topic;
mod walk;

use warren_proto::catalogue::{ExchangeKind, ExchangeRecord};
use warren_types::{AmqpError, FieldTable, QueueHost, QueueId, ReplyCode};

use crate::names::refuse;
use crate::topology::{BindingKey, Target};

use choice::Choice;
use direct::Direct;
use fanout::Fanout;
use hash::{ConsistentHash, HashOn};
use headers::Headers;
use targets::Targets;
use topic::Topic;

/// A property that `x-consistent-hash` may hash.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HashedProperty {
    /// `message-id`.
    MessageId,
    /// `correlation-id`.
    CorrelationId,
    /// `timestamp`.
    Timestamp,
}

/// What a message is routed by.
#[derive(Clone, Copy)]
pub struct RouteInput<'a> {
    /// The publish's routing key, then those of its `CC` and `BCC` headers.
    pub routing_keys: &'a [&'a str],
    /// Reads the message's headers; called at most once, and only when an exchange asks for them.
    pub headers: &'a dyn Fn() -> Option<FieldTable>,
    /// Reads a property, as bytes; called only when an exchange asks for it.
    pub property: &'a dyn Fn(HashedProperty) -> Option<Vec<u8>>,
    /// Draws a number; called only when an exchange chooses at random.
    pub random: &'a dyn Fn() -> u64,
    /// Whether the publisher's node serves the host's queues; called only when an exchange asks.
    pub is_local: &'a dyn Fn(QueueHost) -> bool,
}

impl<'a> RouteInput<'a> {
    /// Without properties and chance, and with every host at hand.
    #[must_use]
    pub fn new(routing_keys: &'a [&'a str], headers: &'a dyn Fn() -> Option<FieldTable>) -> Self {
        Self { routing_keys, headers, property: &|_| None, random: &|| 0, is_local: &|_| true }
    }
}

/// The queues that a message goes to, each once, ordered by host and then by number. Keeps its memory from route to
/// route.
#[derive(Clone, Debug, Default)]
pub struct RouteSet {
    queues: Vec<(QueueHost, QueueId)>,
    histories: Vec<(QueueHost, QueueId)>,
    varies: bool,
}

impl RouteSet {
    /// The queues with their hosts, those of one host together.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (QueueHost, QueueId)> {
        self.queues.iter().copied()
    }

    /// The queues that keep the message for whoever is bound later: what goes there only is unroutable nevertheless.
    pub fn histories(&self) -> impl ExactSizeIterator<Item = (QueueHost, QueueId)> {
        self.histories.iter().copied()
    }

    /// How many queues.
    #[must_use]
    pub fn len(&self) -> usize {
        self.queues.len()
    }

    /// True when no queue takes the message.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.queues.is_empty()
    }

    /// True when another message with the same keys might go elsewhere: not to be cached by key.
    #[must_use]
    pub fn varies(&self) -> bool {
        self.varies
    }

    fn clear(&mut self) {
        self.queues.clear();
        self.histories.clear();
        self.varies = false;
    }

    fn push(&mut self, host: QueueHost, queue: QueueId) {
        self.queues.push((host, queue));
    }

    fn finish(&mut self) {
        self.queues.sort_unstable();
        self.queues.dedup();
        self.histories.sort_unstable();
    }
}

/// An exchange's bindings, as its type looks them up.
#[derive(Clone, Debug)]
pub(crate) enum Router {
    Direct(Direct),
    Fanout(Fanout),
    Topic(Topic),
    Headers(Headers),
    ConsistentHash(ConsistentHash),
    ModulusHash(Choice),
    Random(Choice),
    LocalRandom(Choice),
}

/// Checks what an exchange's type asks of its arguments.
///
/// # Errors
/// 406.
pub(crate) fn check_arguments(kind: ExchangeKind, arguments: &FieldTable) -> Result<(), AmqpError> {
    match kind {
        ExchangeKind::ConsistentHash => HashOn::parse(arguments).map(|_| ()),
        ExchangeKind::RecentHistory => history::check(arguments),
        ExchangeKind::Direct
        | ExchangeKind::Fanout
        | ExchangeKind::Topic
        | ExchangeKind::Headers
        | ExchangeKind::ModulusHash
        | ExchangeKind::Random
        | ExchangeKind::LocalRandom
        // `delayed` checks it.
        | ExchangeKind::DelayedMessage => Ok(()),
    }
}

impl Router {
    pub(crate) fn new(exchange: &ExchangeRecord) -> Self {
        match delayed::inner_kind(exchange) {
            ExchangeKind::Direct => Self::Direct(Direct::default()),
            ExchangeKind::Fanout | ExchangeKind::RecentHistory => Self::Fanout(Fanout::default()),
            ExchangeKind::Topic => Self::Topic(Topic::default()),
            ExchangeKind::Headers => Self::Headers(Headers::default()),
            ExchangeKind::ConsistentHash => Self::ConsistentHash(ConsistentHash::new(&exchange.arguments)),
            ExchangeKind::ModulusHash => Self::ModulusHash(Choice::default()),
            ExchangeKind::Random => Self::Random(Choice::default()),
            ExchangeKind::LocalRandom => Self::LocalRandom(Choice::default()),
            // A delayed exchange of its own type is refused when it is declared.
            ExchangeKind::DelayedMessage => Self::Direct(Direct::default()),
        }
    }

    /// Adds a binding that is not there.
    ///
    /// # Errors
    /// 406 when the type does not take it; nothing has changed then.
    pub(crate) fn insert(&mut self, key: &BindingKey, arguments: &FieldTable) -> Result<(), AmqpError> {
        match self {
            Self::Direct(direct) => direct.insert(key),
            Self::Fanout(fanout) => fanout.insert(key),
            Self::Topic(topic) => topic.insert(key)?,
            Self::Headers(headers) => headers.insert(key, arguments)?,
            Self::ConsistentHash(hash) => hash.insert(key)?,
            Self::ModulusHash(choice) | Self::Random(choice) => choice.insert(key),
            Self::LocalRandom(choice) => {
                check_empty(&key.routing_key)?;
                choice.insert(key);
            }
        }
        Ok(())
    }

    /// Removes a binding that is there.
    pub(crate) fn remove(&mut self, key: &BindingKey) {
        match self {
            Self::Direct(direct) => direct.remove(key),
            Self::Fanout(fanout) => fanout.remove(key),
            Self::Topic(topic) => topic.remove(key),
            Self::Headers(headers) => headers.remove(key),
            Self::ConsistentHash(hash) => hash.remove(key),
            Self::ModulusHash(choice) | Self::Random(choice) | Self::LocalRandom(choice) => {
                choice.remove(key);
            }
        }
    }
}

fn check_empty(routing_key: &str) -> Result<(), AmqpError> {
    if routing_key.is_empty() {
        return Ok(());
    }
    let text = format!("Non empty binding '{routing_key}' key not permitted");
    Err(refuse(ReplyCode::PreconditionFailed, text))
}
