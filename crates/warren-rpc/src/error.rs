//! What can go wrong between nodes, by what the caller should do.

use warren_types::{GroupId, NodeId};

use crate::ClusterId;

/// Why a stream or a call did not come about, or its outcome is not known.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RpcError {
    /// There is no connection to the node now; one is being tried. Nothing was sent.
    #[error("node {0} is not connected")]
    NotConnected(NodeId),
    /// The connection broke or the peer refused: whether it was carried out is not known.
    #[error("node {node}: {reason}")]
    Broken {
        /// The peer.
        node: NodeId,
        /// What the transport says.
        reason: String,
    },
    /// No answer in time: whether it was carried out is not known.
    #[error("node {0} did not answer in time")]
    TimedOut(NodeId),
    /// The peer's service answered with an error.
    #[error("node {node}: {error}")]
    Remote {
        /// The peer.
        node: NodeId,
        /// Its answer.
        error: CallError,
    },
}

/// What a [`MemberService`](crate::MemberService) answers instead of a payload.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CallError {
    /// The node has no such group (yet).
    #[error("no group {0} here")]
    NoGroup(GroupId),
    /// The payload or its kind is not understood.
    #[error("not understood: {0}")]
    NotUnderstood(String),
    /// The node is stopping or its group has stopped.
    #[error("stopping")]
    Stopping,
    /// Refused, with the reason.
    #[error("{0}")]
    Refused(String),
}

impl CallError {
    pub(crate) fn to_wire(&self) -> (u32, String) {
        match self {
            Self::NoGroup(group) => (1, group.0.to_string()),
            Self::NotUnderstood(text) => (2, text.clone()),
            Self::Stopping => (3, String::new()),
            Self::Refused(text) => (4, text.clone()),
        }
    }

    /// An error number that a newer peer may have added reads as refused.
    pub(crate) fn from_wire(number: u32, text: String) -> Self {
        match number {
            1 => Self::NoGroup(GroupId(text.parse().unwrap_or(u32::MAX))),
            2 => Self::NotUnderstood(text),
            3 => Self::Stopping,
            _ => Self::Refused(text),
        }
    }
}

/// Why a greeting failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HelloError {
    /// Nothing listens there: the machine says so.
    #[error("{address} refuses connections")]
    ConnectionRefused {
        /// Where.
        address: String,
    },
    /// No connection, or no answer.
    #[error("{address} is not reached: {reason}")]
    Unreachable {
        /// Where.
        address: String,
        /// What the transport says.
        reason: String,
    },
    /// One of the two does not believe that the other is of its cluster.
    #[error("{address} is not trusted: {reason}")]
    Unproven {
        /// Where.
        address: String,
        /// What is wrong with the proof.
        reason: String,
    },
    /// It speaks another version of this protocol.
    #[error("{address} speaks protocol version {found}, this node {known}")]
    Protocol {
        /// Where.
        address: String,
        /// Its version.
        found: u32,
        /// Ours.
        known: u32,
    },
    /// It belongs to another cluster.
    #[error("{address} belongs to cluster {found}, this node to {ours}")]
    OtherCluster {
        /// Where.
        address: String,
        /// Its cluster.
        found: ClusterId,
        /// Ours.
        ours: ClusterId,
    },
    /// It will have nothing to do with this node: that belongs to another cluster, or its number is taken by a
    /// process that runs elsewhere.
    #[error("{address} refuses this node: {reason}")]
    Refused {
        /// Where.
        address: String,
        /// What it says.
        reason: String,
    },
    /// Another node than expected answers at the address.
    #[error("node {found} answers at {address}, where node {expected} was expected")]
    OtherNode {
        /// Where.
        address: String,
        /// Who answers.
        found: NodeId,
        /// Who should.
        expected: NodeId,
    },
}

/// Why the cluster port stopped serving.
#[derive(Debug, thiserror::Error)]
#[error("the cluster port: {0}")]
pub struct ServeError(pub(crate) String);
