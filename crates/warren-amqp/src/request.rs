//! What a channel asks of the broker, one typed struct each, and what it is told. Names are as the client sent them,
//! with the last declared queue put in where the client left the name out.

use warren_types::{AckMode, DeliveryRef, FieldTable, Message, SubscriptionId};

use crate::action::Settlement;
use crate::frame::DeliveryCounts;

/// A question to the broker. Each names the [`Reply`] that belongs to it; any may be answered with an error.
#[derive(Clone, Debug, PartialEq)]
pub enum Request {
    /// [`Reply::Done`].
    ExchangeDeclare(ExchangeDeclare),
    /// [`Reply::Done`], also when it does not exist.
    ExchangeDelete(ExchangeDelete),
    /// [`Reply::Done`].
    ExchangeBind(ExchangeBinding),
    /// [`Reply::Done`].
    ExchangeUnbind(ExchangeBinding),
    /// [`Reply::QueueDeclared`].
    QueueDeclare(QueueDeclare),
    /// [`Reply::Done`].
    QueueBind(Binding),
    /// [`Reply::Done`].
    QueueUnbind(Binding),
    /// [`Reply::Purged`].
    QueuePurge(QueuePurge),
    /// [`Reply::Deleted`].
    QueueDelete(QueueDelete),
    /// [`Reply::Consumed`].
    Consume(Consume),
    /// [`Reply::Done`].
    Cancel(Cancel),
    /// [`Reply::Got`].
    Get(Get),
    /// [`Reply::Done`].
    Recover(Recover),
    /// [`Reply::Done`] when every publish is confirmed and every settlement handed on. On an error nothing may have
    /// been settled: the channel closes and gives its deliveries back.
    TxCommit(TxCommit),
    /// [`Reply::Done`]. Asked on channel 0.
    UpdateSecret(UpdateSecret),
}

/// `exchange.declare`.
#[derive(Clone, Debug, PartialEq)]
pub struct ExchangeDeclare {
    /// Its name.
    pub name: String,
    /// Its type, `direct` and so on.
    pub kind: String,
    /// Only ask whether it exists.
    pub passive: bool,
    /// Survives a restart.
    pub durable: bool,
    /// Deleted with its last binding.
    pub auto_delete: bool,
    /// Clients may not publish to it.
    pub internal: bool,
    /// Its arguments.
    pub arguments: FieldTable,
}

/// `exchange.delete`.
#[derive(Clone, Debug, PartialEq)]
pub struct ExchangeDelete {
    /// Its name.
    pub name: String,
    /// Refuse when it has bindings.
    pub if_unused: bool,
}

/// `exchange.bind` and `exchange.unbind`.
#[derive(Clone, Debug, PartialEq)]
pub struct ExchangeBinding {
    /// The exchange that messages go to.
    pub destination: String,
    /// The exchange that they come from.
    pub source: String,
    /// The binding key.
    pub routing_key: String,
    /// The binding's arguments.
    pub arguments: FieldTable,
}

/// `queue.declare`.
#[derive(Clone, Debug, PartialEq)]
pub struct QueueDeclare {
    /// Its name; empty: the broker makes one.
    pub name: String,
    /// Only ask whether it exists.
    pub passive: bool,
    /// Survives a restart.
    pub durable: bool,
    /// This connection's alone.
    pub exclusive: bool,
    /// Deleted when its last consumer goes.
    pub auto_delete: bool,
    /// The client does not read the counts: they need not be found out.
    pub no_wait: bool,
    /// Its arguments.
    pub arguments: FieldTable,
}

/// `queue.bind` and `queue.unbind`.
#[derive(Clone, Debug, PartialEq)]
pub struct Binding {
    /// The queue.
    pub queue: String,
    /// The exchange.
    pub exchange: String,
    /// The binding key.
    pub routing_key: String,
    /// The binding's arguments.
    pub arguments: FieldTable,
}

/// `queue.purge`.
#[derive(Clone, Debug, PartialEq)]
pub struct QueuePurge {
    /// The queue.
    pub queue: String,
}

/// `queue.delete`.
#[derive(Clone, Debug, PartialEq)]
pub struct QueueDelete {
    /// The queue.
    pub queue: String,
    /// Refuse when it has consumers.
    pub if_unused: bool,
    /// Refuse when it has messages.
    pub if_empty: bool,
}

/// `basic.consume`.
#[derive(Clone, Debug, PartialEq)]
pub struct Consume {
    /// The queue.
    pub queue: String,
    /// The consumer tag; empty: the broker makes one and returns it.
    pub tag: String,
    /// Who acknowledges.
    pub ack_mode: AckMode,
    /// Refuse other consumers.
    pub exclusive: bool,
    /// Its arguments.
    pub arguments: FieldTable,
    /// Most unacknowledged deliveries of this consumer; 0 is no limit.
    pub prefetch: u16,
}

/// `basic.cancel` of a consumer that exists.
#[derive(Clone, Debug, PartialEq)]
pub struct Cancel {
    /// The consumer. It lives until [`Connection::end_consumer`](crate::Connection::end_consumer), which must come
    /// before the answer: what is delivered to it until then is shown to the client, nothing after.
    pub subscription: SubscriptionId,
}

/// `basic.get`.
#[derive(Clone, Debug, PartialEq)]
pub struct Get {
    /// The queue.
    pub queue: String,
    /// Who acknowledges.
    pub ack_mode: AckMode,
}

/// `basic.recover`: everything unacknowledged of the channel goes back to its place.
#[derive(Clone, Debug, PartialEq)]
pub struct Recover {
    /// Which, in the order of their tags.
    pub deliveries: Vec<DeliveryRef>,
}

/// `tx.commit`.
#[derive(Clone, Debug, PartialEq)]
pub struct TxCommit {
    /// What was published, in order.
    pub publishes: Vec<TxPublish>,
    /// What was settled, in order; to be applied after the publishes.
    pub settlements: Vec<(Settlement, Vec<DeliveryRef>)>,
}

/// A message published in a transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TxPublish {
    /// Give it back when no queue takes it.
    pub mandatory: bool,
    /// The message.
    pub message: Message,
}

/// `connection.update-secret`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UpdateSecret {
    /// The new secret.
    pub secret: Vec<u8>,
    /// Why, for the log.
    pub reason: String,
}

/// What the broker answers to a [`Request`].
#[derive(Clone, Debug, PartialEq)]
pub enum Reply {
    /// It is done.
    Done,
    /// A queue exists now, or does.
    QueueDeclared {
        /// Its name.
        name: String,
        /// Messages ready for delivery.
        messages: u64,
        /// Consumers.
        consumers: u64,
    },
    /// A queue was purged of so many messages.
    Purged(u64),
    /// A queue was deleted with so many messages.
    Deleted(u64),
    /// A consumer started.
    Consumed {
        /// Its tag, at most 255 bytes.
        tag: String,
        /// Its number.
        subscription: SubscriptionId,
    },
    /// A message, or that there is none.
    Got(Option<GotMessage>),
}

/// The message that `basic.get` took.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GotMessage {
    /// What settles it.
    pub source: DeliveryRef,
    /// It was handed out before.
    pub redelivered: bool,
    /// Failed deliveries before this one.
    pub counts: DeliveryCounts,
    /// The message.
    pub message: Message,
    /// Messages still ready in the queue.
    pub remaining: u64,
}
