//! The async shells: sockets, connections, channels, routing, sessions, shards; a whole node.

pub mod admin;
mod config;

pub use config::BrokerConfig;
