//! The wire between nodes: gRPC over plain TCP, one connection per peer for bulk (log entries, sessions, snapshot
//! chunks) and one for what is small and urgent (heartbeats, votes, questions, liveness), so that nothing urgent
//! waits behind a large body.
//!
//! Spine 7 and 10 pass here between nodes. It knows no Raft, queue or catalogue: groups are numbers and payloads
//! are bytes. TLS will enter in [`dial`](self) and [`serve`], the two places that open sockets.

mod dial;
mod error;
mod generated;
mod hello;
mod link;
mod liveness;
mod peers;
mod serve;
mod service;
mod throttle;

pub use error::{CallError, HelloError, RpcError, ServeError};
pub use hello::{ClusterId, Hello, PROTOCOL};
pub use liveness::{PeerState, PeerStatus, PeerTable};
pub use peers::{Peers, StreamPair};
pub use serve::serve;
pub use service::{BROKER, MemberService, Services, SessionService};

/// Largest message that is sent or accepted: an append of the largest entries, with room.
pub const MAX_MESSAGE_BYTES: usize = 96 * 1024 * 1024;
