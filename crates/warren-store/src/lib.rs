//! The node's one RocksDB: Raft logs with their shared fsync, and what each shard command does to stored messages.
//!
//! Spine 10 ([`GroupLog`]), 11 ([`Replica`]) and the reading half of 14. Knows no Raft rule, no queue policy and
//! no node but its own: `warren-raft` says what to append and apply, `warren-broker` what to load. Everything
//! here blocks; callers on an async runtime choose a thread for it.

mod body;
mod checkpoint;
mod checksum;
mod error;
mod failure;
mod keys;
mod log;
mod options;
mod reclaim;
mod replica;
mod rocks;
pub mod shard;
pub mod simulation;
mod snapshot;
mod store;
mod sync;
mod tail;
mod values;
mod wal;

pub use checkpoint::CheckpointPart;
pub use error::{StoreError, tells_of_damage};
pub use failure::Failure;
pub use log::{Done, GroupLog, LogEntry};
pub use options::StoreOptions;
pub use replica::Replica;
pub use snapshot::{SnapshotMeta, SnapshotReader, SnapshotWriter};
pub use store::{GroupPlace, Store, StoreMetrics};
