//! The wire between nodes: gRPC over mutual TLS, one connection per peer for bulk (log entries, sessions, snapshot
//! chunks) and one for what is small and urgent (heartbeats, votes, questions, liveness), so that nothing urgent
//! waits behind a large body.
//!
//! Spine 7 and 10 pass here between nodes. It knows no Raft, queue or catalogue: groups are numbers and payloads
//! are bytes.

mod bulk;
mod dial;
mod error;
mod generated;
mod hello;
mod link;
mod liveness;
pub mod network;
mod peers;
mod serve;
mod service;
mod throttle;
pub mod tls;

pub use bulk::Rope;
pub use error::{CallError, HelloError, RpcError, ServeError};
pub use hello::{ClusterId, Hello, PROTOCOL};
pub use liveness::{PeerState, PeerStatus, PeerTable};
pub use peers::{Peers, StreamPair};
pub use serve::{CONNECTIONS_MAX, serve, serve_incoming};
pub use service::{BROKER, MemberService, Services, SessionService};
pub use throttle::Throttle;

/// Largest message that is sent or accepted: an append of the largest entries, with room.
pub const MAX_MESSAGE_BYTES: usize = warren_types::BODY_MAX_BYTES + 64 * 1024 * 1024;
