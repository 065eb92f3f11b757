//! Identifiers. They never mix: each is its own type, made where bytes are parsed or numbers are given out.

use std::fmt;

macro_rules! id {
    ($(#[$doc:meta])* $name:ident($inner:ty)) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub $inner);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

id! {
    /// A node: drawn at random at its first start and kept in its data directory.
    NodeId(u64)
}
id! {
    /// A shard: a Raft group that stores the messages of many queues. Numbered from 1.
    ShardId(u32)
}
id! {
    /// A Raft group on a node: 0 is the metadata group, any other number is the shard of that number.
    GroupId(u32)
}
id! {
    /// A queue, as numbered by the catalogue; never reused.
    QueueId(u64)
}
id! {
    /// A message's place in one queue, from 1; given when its `Enqueue` is applied, never reused in that queue.
    Position(u64)
}
id! {
    /// A home node's publishing identity, drawn at random at each start of the node.
    SessionId(u64)
}
id! {
    /// A consumer as its home node numbers it; unique within a session id.
    SubscriptionId(u64)
}
id! {
    /// A question that a home node asks a leader; unique within a session id.
    RequestId(u64)
}
id! {
    /// A client connection on its node; never reused while the node runs.
    ConnectionId(u64)
}
id! {
    /// An AMQP channel number (0 is the connection itself).
    ChannelNumber(u16)
}
id! {
    /// An AMQP delivery tag: counted from 1 on each channel.
    DeliveryTag(u64)
}
id! {
    /// A Raft log index.
    LogIndex(u64)
}
id! {
    /// A Raft term.
    Term(u64)
}
id! {
    /// Wall-clock time in milliseconds since 1970, as an input: machines read no clock.
    UnixMillis(u64)
}

impl GroupId {
    /// The metadata group.
    pub const METADATA: Self = Self(0);

    /// The shard that this group is, or `None` for the metadata group.
    #[must_use]
    pub fn shard(self) -> Option<ShardId> {
        (self.0 != 0).then_some(ShardId(self.0))
    }
}

impl From<ShardId> for GroupId {
    fn from(shard: ShardId) -> Self {
        Self(shard.0)
    }
}

impl Position {
    /// The place after this one.
    #[must_use]
    pub fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }
}

/// Positions `first..=last` of one queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PositionRange {
    /// The lowest position.
    pub first: Position,
    /// The highest position, included.
    pub last: Position,
}

impl PositionRange {
    /// The range that holds one position.
    #[must_use]
    pub fn one(position: Position) -> Self {
        Self { first: position, last: position }
    }

    /// How many positions it covers; 0 when `last` is below `first`.
    #[must_use]
    pub fn count(self) -> u64 {
        if self.last < self.first { 0 } else { (self.last.0 - self.first.0).saturating_add(1) }
    }

    /// Its positions, in order.
    pub fn iter(self) -> impl Iterator<Item = Position> {
        (self.first.0..=self.last.0).map(Position)
    }

    /// Ascending positions as the fewest ranges. Equal neighbours count once.
    #[must_use]
    pub fn collect(positions: impl IntoIterator<Item = Position>) -> Vec<Self> {
        let mut ranges: Vec<Self> = Vec::new();
        for position in positions {
            match ranges.last_mut() {
                Some(range) if range.last == position => {}
                Some(range) if range.last.next() == position => range.last = position,
                Some(_) | None => ranges.push(Self::one(position)),
            }
        }
        ranges
    }
}

/// Who hosts a queue: the leader of a replicated shard, or one node's memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum QueueHost {
    /// Replicated: whoever leads the shard hosts the queue.
    Shard(ShardId),
    /// Transient: this node keeps the messages in memory.
    Node(NodeId),
}

impl fmt::Display for QueueHost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Shard(shard) => write!(f, "shard {shard}"),
            Self::Node(node) => write!(f, "node {node}"),
        }
    }
}

/// Whether the client acknowledges deliveries itself (`no_ack = false`) or each delivery settles at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AckMode {
    /// The client acknowledges.
    Manual,
    /// A message is settled when it is handed to the client.
    Automatic,
}

/// Where a delivery that a client holds came from: what is needed to settle or return it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct DeliveryRef {
    /// The queue's host at the time.
    pub host: QueueHost,
    /// The queue.
    pub queue: QueueId,
    /// The message's place in it.
    pub position: Position,
    /// The consumer it went to; `None` for `basic.get`.
    pub subscription: Option<SubscriptionId>,
}
