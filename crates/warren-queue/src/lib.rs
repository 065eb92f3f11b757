//! The living half of a shard: the policy its leader runs in memory, and both ends of the session that feeds it.
//!
//! Pure: no clock, thread, socket or randomness. Shells (`warren-broker`) feed [`HostLeader`] and [`HomeSession`]
//! and carry out what they ask for. [`MemoryStore`] stands in for the replicated store where messages are transient.

mod config;
mod gather;
mod held;
mod input;
mod invariant;
mod lane;
mod output;
mod positions;
mod queue;
mod session;
mod shard;
mod store;

pub use config::{HomeConfig, LeaderConfig};
pub use input::{Input, QueueDirectory, SessionKey};
pub use lane::stream_offset;
pub use output::{DeadLetter, DeathReason, Output};
pub use positions::PositionSet;
pub use session::home::{HomeOutput, HomeSession};
pub use shard::{HostLeader, LeaderStats};
pub use store::MemoryStore;
