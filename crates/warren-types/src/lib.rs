//! The nouns every crate shares: ids, names, reply codes, messages and what a queue was declared with.
//!
//! A type is here when three crates need it and it has no behaviour beyond parse, display and order.

mod ids;
mod message;
mod names;
mod queue;
mod reply;
mod settings;
pub mod table;

pub use ids::{
    AckMode, ChannelNumber, ConnectionId, DeliveryRef, DeliveryTag, GroupId, LogIndex, NodeId, Position,
    PositionRange, QueueHost, QueueId, RequestId, SessionId, ShardId, SubscriptionId, Term, UnixMillis,
};
pub use message::{BODY_MAX_BYTES, Message, PublishToken, SessionPublish};
pub use names::{NameError, ShortStr};
pub use queue::{ExclusiveOwner, QueueSpec};
pub use reply::{AmqpError, CloseScope, ReplyCode};
pub use settings::{Deduplication, DelayedRetry, Overflow, QueueSettings, Retried, StreamSettings};
pub use table::{AMQPValue, FieldTable};
