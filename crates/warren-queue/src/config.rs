//! The settings of both session ends.

use warren_types::{NodeId, QueueHost, SessionId, Term};

/// Settings of one [`HostLeader`](crate::HostLeader).
#[derive(Clone, Debug)]
pub struct LeaderConfig {
    /// What it hosts. A node's transient queues need no delivered marks: their leader never changes.
    pub host: QueueHost,
    /// Most deliveries on their way to one consumer's socket. Default 1000.
    pub transit_messages: u32,
    /// Most bytes on their way to one consumer's socket; one message always may. Default 4 MiB.
    pub transit_bytes: u64,
    /// Bytes on their way to all consumers of the host at which each gets a small window; at four times as many nobody gets
    /// anything. Default 64 MiB.
    pub transit_bytes_all: u64,
    /// Loaded messages of all queues of the host, in bytes; a queue with a waiting consumer may pass it by one
    /// small load. Default 8 MiB.
    pub cache_bytes: u64,
    /// Most records proposed and not yet applied. Default 8.
    pub proposals_in_flight: usize,
    /// Bytes of messages in proposed records at which no more is proposed until some are applied; one record always may be.
    /// Default 32 MiB.
    pub in_flight_bytes: usize,
    /// Where a record is cut, in bytes of messages; one message always fits. Default 1 MiB.
    pub record_bytes: usize,
    /// Where a record is cut, in messages. Default 512.
    pub record_messages: usize,
    /// Publishes that wait for a record, in bytes, at which [`HostLeader::is_full`](crate::HostLeader::is_full)
    /// becomes true. Default 4 MiB.
    pub gather_bytes: usize,
    /// The same in messages, settles and waiting questions together. Default 16384.
    pub gather_items: usize,
    /// How long a lost session, or one that an earlier leader had, may take to come back before what it holds is
    /// delivered to others. Default 3000 ms.
    pub claim_grace_ms: u64,
    /// Positions reserved beyond what consumers have credit for, so that not every delivery waits for a record.
    /// Default 256.
    pub reserve_ahead: u64,
    /// For how long acknowledgements alone may wait for something to be recorded with. Nobody waits for a reply, and what a
    /// home is not told of it repeats. 0 for a host that forgets everything anyway. Default 3 ms.
    pub settle_within_ms: u64,
    /// For how long a queue refuses consumers after it said that it may be deleted, and how often the deletion of
    /// an auto-delete queue is asked for again. Default 5000 ms.
    pub delete_hold_ms: u64,
    /// A session that is not attached for so long is forgotten: its node will not come back as the same session.
    /// Default 24 hours.
    pub forget_session_ms: u64,
    /// The leadership's term: what counts within it counts on from those before. Default 0.
    pub term: Term,
    /// A mistake for the simulation to find: publishes count as applied when they are proposed. Without effect in
    /// release builds. Default false.
    pub confirm_early: bool,
}

impl LeaderConfig {
    /// The defaults for this host.
    #[must_use]
    pub fn new(host: QueueHost) -> Self {
        Self {
            host,
            transit_messages: 1000,
            transit_bytes: 4 << 20,
            transit_bytes_all: 64 << 20,
            cache_bytes: 8 << 20,
            proposals_in_flight: 8,
            in_flight_bytes: 32 << 20,
            record_bytes: 1 << 20,
            record_messages: 512,
            gather_bytes: 4 << 20,
            gather_items: 16_384,
            claim_grace_ms: 3000,
            reserve_ahead: 256,
            settle_within_ms: match host {
                QueueHost::Shard(_) => 3,
                QueueHost::Node(_) => 0,
            },
            delete_hold_ms: 5000,
            forget_session_ms: 24 * 3600 * 1000,
            term: Term(0),
            confirm_early: false,
        }
    }
}

/// Settings of one [`HomeSession`](crate::HomeSession).
#[derive(Clone, Debug)]
pub struct HomeConfig {
    /// The node's session: drawn at random at each of its starts. One id serves all hosts.
    pub session: SessionId,
    /// The node.
    pub node: NodeId,
    /// Which start of the node this is (milliseconds since 1970).
    pub incarnation: u64,
    /// Where a batch of publishes is cut, in bytes; one message always fits. Default 256 KiB.
    pub batch_bytes: usize,
    /// Where a batch of publishes is cut, in messages. Default 512.
    pub batch_messages: usize,
}

impl HomeConfig {
    /// The defaults for this session.
    #[must_use]
    pub fn new(session: SessionId, node: NodeId, incarnation: u64) -> Self {
        Self { session, node, incarnation, batch_bytes: 256 << 10, batch_messages: 512 }
    }
}
