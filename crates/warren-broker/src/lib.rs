//! The async shells: sockets, connections, channels, routing, sessions, shards; a whole node.

pub mod admin;
mod alarm;
mod broker;
mod clock;
mod config;
mod confirm;
mod connection;
mod dead_letter;
mod delay;
mod history;
mod host;
mod identity;
mod incoming;
mod limits;
mod listener;
mod mailbox;
mod members;
mod node;
mod opening;
mod operator;
mod pace;
mod proxy;
mod registry;
mod remote;
mod renewal;
mod request;
mod router;
pub mod security;
mod session;
mod stalled;
pub mod tls;
mod trace;
mod traffic;

pub use alarm::{AlarmSet, Resources};
pub use config::{BrokerConfig, LoginFrom, MemoryWatermark};
pub use identity::IdentityError;
pub use node::{Checkpoints, Node, SimulatedWorld, StartError};
/// The release of RabbitMQ whose behaviour clients may expect.
pub use warren_amqp::RABBITMQ_VERSION;
