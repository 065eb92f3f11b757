//! What this node believes about its peers, per pair of nodes and not per group.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use warren_types::NodeId;

/// Every known peer.
pub type PeerTable = Arc<BTreeMap<NodeId, PeerStatus>>;

/// What is believed of a peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PeerState {
    /// Not reached yet, since this node learned of it.
    Connecting,
    /// It answers.
    Connected,
    /// It has been silent for longer than a healthy peer is, or cannot be reached and nothing says that its
    /// process is gone.
    Suspect {
        /// When it was last heard.
        silent_since: Instant,
    },
    /// Its process is gone: the connection was closed and the machine refuses a new one, or another node answers
    /// at its address.
    Dead,
}

/// A peer as this node knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerStatus {
    /// What is believed.
    pub state: PeerState,
    /// Since when.
    pub since: Instant,
    /// Where it is reached.
    pub address: String,
    /// Its name; empty before the first greeting.
    pub name: String,
    /// The start it announced last; 0 before the first greeting.
    pub incarnation: u64,
    /// What it told last with a beat (see [`Peers::set_gossip`](crate::Peers::set_gossip)).
    pub gossip: Bytes,
    /// The alarms it told last (see [`Peers::set_alarms`](crate::Peers::set_alarms)).
    pub alarms: u32,
}

impl PeerStatus {
    /// True when it answers.
    #[must_use]
    pub fn is_connected(&self) -> bool {
        self.state == PeerState::Connected
    }
}
