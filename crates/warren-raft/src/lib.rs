//! Raft groups: propose, replicate, apply, snapshot, form, place and lead. The only crate that uses openraft.
//!
//! Spine 9 ([`Proposer`]), 10 (`log_store`, `network`) and 11 (`apply`). A [`RaftNode`] holds the metadata group,
//! whose state is the catalogue, and the shards that the catalogue places here. It knows no queue policy: replicas
//! store, the leader decides.

mod apply;
mod arrange;
mod blocking;
mod budget;
mod catalogue;
mod checkpoint;
mod controller;
mod error;
mod failover;
mod forget;
mod form;
mod group;
mod groups;
mod hearing;
mod leadership;
mod log_store;
mod member;
mod membership;
mod network;
mod node;
mod options;
mod proposer;
mod read;
mod renewal;
mod rumours;
mod snapshot;
mod standing;
mod status;
mod transfer;
mod types;
mod wire;

pub use blocking::blocking;
pub use catalogue::CatalogueHandle;
pub use error::{NotLeader, ProposeError, StartError};
pub use leadership::{Leadership, ShardLeadership};
pub use node::RaftNode;
pub use options::{DefaultUser, RaftOptions};
pub use proposer::Proposer;
pub use renewal::would_be_taken_in;
pub use status::{GroupRole, GroupStatus, LeaderMap, ReplicaLag};
