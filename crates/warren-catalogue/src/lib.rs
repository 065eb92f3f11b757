//! What exists and where it lives: the metadata machine, and routing, permissions and placement computed from it.
//!
//! A [`Catalogue`] is a deterministic state machine: every node applies the same [`Command`]s in the same order and
//! comes to the same state. It reads no clock and draws no random numbers; what differs between nodes never enters.
//! Reads are plain look-ups in memory.
//!
//! [`Command`]: warren_proto::catalogue::Command

mod access;
mod apply;
mod arguments;
mod equivalence;
mod invariant;
mod kinds;
mod lookup;
mod moves;
mod names;
mod password;
mod placement;
mod policy;
mod policy_keys;
mod reads;
pub mod routing;
mod settings;
mod snapshot;
mod state;
mod topic_access;
mod topology;

pub use access::{Access, Pattern, Resource};
pub use arguments::{age_ms, is_stream, term as erlang_term, validate_queue_arguments};
pub use equivalence::{
    DeclaredQueue, check_exchange_equivalence, check_exclusive_access, check_queue_equivalence,
};
pub use kinds::{QueueKind, check_consumer_arguments, check_new_queue, consumer_priority};
pub use moves::{METADATA_VOTERS_MAX, Site, metadata_voters, next_moves};
pub use names::{
    check_exchange_deletable, check_exchange_name, check_not_default_exchange, check_queue_name, is_hidden,
    no_exchange, no_queue,
};
pub use password::{AuthError, hash_password};
pub use policy::{EffectivePolicy, check_policy};
pub use settings::queue_settings;
pub use state::Catalogue;
pub use warren_proto::catalogue::{
    Applied, ApplyTo, BindingRecord, ClusterRecord, Destination, Duty, ExchangeKind, ExchangeRecord,
    NodeRecord, NodeState, ParameterRecord, PermissionRecord, PolicyRecord, ShardRecord,
    TopicPermissionRecord, UserLimits, UserRecord, VhostLimits, VhostMetadata,
};
