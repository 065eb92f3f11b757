//! Spine 11: what each shard command does to stored messages, on every replica alike. Pure: no clock, no disk, no
//! knowledge of who leads. `replica` feeds it from the log and writes its [`Change`]s at checkpoints.
//!
//! A replica remembers *runs*, not messages: "positions `first..` of this queue came with log entry `i`, from
//! message `n` on". Bodies stay in the log entry that brought them until a checkpoint moves the few that are left.

mod apply;
mod changes;
mod enqueue;
mod fingerprint;
mod give_back;
mod journal;
mod opening;
mod purge;
mod queue;
mod ranges;
mod reserve;
mod restore;
mod runs;
mod session;
mod settle;

pub use apply::{ApplyError, ShardState};
pub use changes::Change;
pub(crate) use journal::Unmoved;
pub(crate) use opening::Piece;
pub use queue::QueueMeta;
pub(crate) use restore::Restore;
pub use runs::Run;
