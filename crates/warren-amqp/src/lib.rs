//! AMQP 0-9-1 without a socket (spine 2 to 4 and 14 to 15): bytes to frames and back, and the machines of a connection
//! and of its channels. It knows no queue, exchange, permission, clock or socket: what must be done outside is an
//! [`Action`], and whoever did it answers.
//!
//! - [`Connection`] is the server's end: feed it what was read, carry out the actions, write what it appended.
//! - [`client`] is a client's end of the same codec, for load generators and tests.
//! - [`properties`] reads what a message's content header says, lazily.
//! - [`frame`] is the codec itself.

mod action;
mod channel;
pub mod client;
mod connection;
mod content;
mod error;
pub mod frame;
pub mod properties;
mod request;

/// The methods of AMQP 0-9-1 as values, for [`client::encode_method`] and [`client::ServerFrame::Method`].
pub use amq_protocol::protocol as methods;

pub use action::{Action, Ending, Mechanism, Publish, Settlement};
pub use channel::{CancelledConsumer, Delivered, HandedOver};
pub use connection::{
    Beat, ChannelInfo, ChannelQuota, Connection, ConnectionConfig, ConnectionState, External, Heartbeat,
    Limits, RABBITMQ_VERSION, server_properties,
};
pub use error::MethodId;
pub use request::{
    Binding, Cancel, Consume, ExchangeBinding, ExchangeDeclare, ExchangeDelete, Get, GotMessage,
    QueueDeclare, QueueDelete, QueuePurge, Recover, Reply, Request, TxCommit, TxPublish, UpdateSecret,
};
