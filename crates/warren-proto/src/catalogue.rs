//! What the metadata group's log records, what it answers, and what its snapshot holds. Before: `warren-broker`
//! proposes. After: `warren-catalogue` applies it on every node. Knows no rule of the catalogue: what is allowed is
//! decided when a command is applied.

mod command;
mod limits;
mod outcome;
mod snapshot;
mod wire;

use warren_types::{AmqpError, ExclusiveOwner, FieldTable, NodeId, QueueId, ReplyCode, ShardId, UnixMillis};

pub use limits::{ParameterRecord, TopicPermissionRecord, UserLimits, VhostLimits, VhostMetadata};
pub use outcome::{Applied, Outcome};
pub use snapshot::{ClusterRecord, NodeState, Snapshot, VhostSnapshot};

/// One Raft entry of the metadata group. Every command may be proposed again after a failure that leaves unknown
/// whether it was applied.
#[derive(Clone, Debug, PartialEq)]
pub enum Command {
    /// Makes the cluster.
    Form(Form),
    /// A node has started.
    NodeUp(NodeUp),
    /// Records a new node, or what changed about a known one.
    AddNode(NodeRecord),
    /// Forgets a node for good: its number is not taken in again.
    RemoveNode {
        /// The node.
        node: NodeId,
    },
    /// Says what a node is there for.
    SetDuty {
        /// The node.
        node: NodeId,
        /// What for.
        duty: Duty,
    },
    /// Moves a shard, or its preferred leader.
    SetShardReplicas(ShardRecord),
    /// Hosts the transient queues of `from` on `to`, empty; exclusive queues of `from`'s connections go.
    MoveTransient {
        /// The lost node.
        from: NodeId,
        /// The node that takes over.
        to: NodeId,
    },
    /// Makes a virtual host with its predeclared exchanges.
    CreateVhost {
        /// Its name.
        name: String,
    },
    /// Deletes a virtual host and everything in it.
    DeleteVhost {
        /// Its name.
        name: String,
    },
    /// Makes or changes a user.
    PutUser(UserRecord),
    /// Deletes a user and its permissions.
    DeleteUser {
        /// The user.
        name: String,
    },
    /// Gives a user its permissions in a virtual host, in place of those it had.
    SetPermissions(PermissionRecord),
    /// Takes a user's permissions in a virtual host.
    ClearPermissions {
        /// The user.
        user: String,
        /// The virtual host.
        vhost: String,
    },
    /// `exchange.declare`.
    DeclareExchange {
        /// The virtual host.
        vhost: String,
        /// The exchange.
        exchange: ExchangeRecord,
    },
    /// `exchange.delete`.
    DeleteExchange {
        /// The virtual host.
        vhost: String,
        /// The exchange.
        name: String,
        /// Only when it is the source of no binding.
        if_unused: bool,
    },
    /// `queue.declare`.
    DeclareQueue(DeclareQueue),
    /// `queue.delete`, and an auto-delete or expired queue's end.
    DeleteQueue {
        /// The queue.
        queue: QueueId,
    },
    /// `queue.bind`, `exchange.bind`.
    Bind(BindingRecord),
    /// `queue.unbind`, `exchange.unbind`.
    Unbind(BindingRecord),
    /// Makes a policy, in place of the one of that name.
    SetPolicy(PolicyRecord),
    /// Takes a policy away.
    ClearPolicy {
        /// The virtual host.
        vhost: String,
        /// The policy.
        name: String,
        /// An operator's policy.
        operator: bool,
    },
    /// Says something else of a virtual host.
    SetVhostMetadata {
        /// The virtual host.
        vhost: String,
        /// In place of what was said before.
        metadata: VhostMetadata,
    },
    /// Limits a virtual host.
    SetVhostLimits {
        /// The virtual host.
        vhost: String,
        /// In place of those before.
        limits: VhostLimits,
    },
    /// Limits a user.
    SetUserLimits {
        /// The user.
        user: String,
        /// In place of those before.
        limits: UserLimits,
    },
    /// Says which routing keys a user may use with an exchange, in place of what was said before.
    SetTopicPermissions(TopicPermissionRecord),
    /// From now on a user may use every routing key again.
    ClearTopicPermissions {
        /// The user.
        user: String,
        /// The virtual host.
        vhost: String,
        /// The exchange; `None` is every one.
        exchange: Option<String>,
    },
    /// Stores a parameter, in place of the one of that name.
    SetParameter(ParameterRecord),
    /// Forgets a parameter.
    ClearParameter {
        /// The virtual host; `None` for a global one.
        vhost: Option<String>,
        /// The component; empty for a global one.
        component: String,
        /// The parameter.
        name: String,
    },
    /// A connection has ended: its exclusive queues go.
    ReleaseOwner {
        /// The connection.
        owner: ExclusiveOwner,
    },
}

/// Makes the cluster: its nodes, its shards, the virtual host `/` and the first user, who may do everything there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Form {
    /// Drawn at random by the proposer.
    pub cluster_id: u64,
    /// The cluster's name.
    pub name: String,
    /// Its first nodes, at least one.
    pub nodes: Vec<NodeRecord>,
    /// How many shards, at least one; they are numbered from 1.
    pub shards: u32,
    /// Replicas of each shard, at least one; fewer while there are fewer nodes.
    pub replication: u32,
    /// The first user; the password is hashed and salted by the proposer.
    pub default_user: UserRecord,
    /// The proposer's wall clock.
    pub time: UnixMillis,
}

/// A node as an operator knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeRecord {
    /// Its identity.
    pub id: NodeId,
    /// Its name.
    pub name: String,
    /// Host and port of its cluster port.
    pub address: String,
    /// The zone it stands in: replicas of a shard are spread over zones.
    pub zone: Option<String>,
}

/// What a node is there for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Duty {
    /// Everything: replicas, leaders, votes.
    #[default]
    Full,
    /// It serves clients and is to hold as little as possible.
    Drained,
    /// It is to hold nothing, and is then removed from the cluster.
    Leaving,
}

impl Duty {
    /// All of them; their places are their numbers on the wire.
    pub const ALL: [Self; 3] = [Self::Full, Self::Drained, Self::Leaving];

    /// Its name for operators.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Full => "full",
            Self::Drained => "drained",
            Self::Leaving => "leaving",
        }
    }
}

/// A start of a node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeUp {
    /// The node.
    pub node: NodeId,
    /// Which start: higher than those before. The proposer takes its clock (milliseconds since 1970), but at least
    /// one more than what is recorded.
    pub incarnation: u64,
    /// Host and port of its cluster port.
    pub address: String,
    /// Its name.
    pub name: String,
    /// Host and port of its HTTP API.
    pub http_address: Option<String>,
    /// The nodes it is in contact with, and which start of theirs.
    pub alive: Vec<(NodeId, u64)>,
}

/// Where a shard's replicas are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ShardRecord {
    /// The shard.
    pub shard: ShardId,
    /// The nodes that hold it, each once; at least one.
    pub replicas: Vec<NodeId>,
    /// Who should lead it: one of the replicas.
    pub preferred: NodeId,
}

/// A user.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UserRecord {
    /// The user's name.
    pub name: String,
    /// Base64 of 4 bytes of salt and the SHA-256 of salt and password; empty: no login by password.
    pub password_hash: String,
    /// `administrator`, `monitoring`, `policymaker`, `management`, `impersonator` or others.
    pub tags: Vec<String>,
}

/// What a user may do in a virtual host: regular expressions on names of queues and exchanges, searched unanchored;
/// an empty one matches nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PermissionRecord {
    /// The user.
    pub user: String,
    /// The virtual host.
    pub vhost: String,
    /// What it may declare and delete.
    pub configure: String,
    /// What it may publish and bind to.
    pub write: String,
    /// What it may consume and bind from.
    pub read: String,
}

/// An exchange's type. A new type is a new command version: a replica that does not know it must stop, not refuse.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ExchangeKind {
    /// The binding key equals the routing key.
    Direct,
    /// Every binding.
    Fanout,
    /// Words with `*` and `#`.
    Topic,
    /// By the message's headers.
    Headers,
    /// One destination by the routing key, or by a header or property; binding keys are weights.
    ConsistentHash,
    /// One destination by the routing key, modulo their number.
    ModulusHash,
    /// One destination at random.
    Random,
    /// One destination at random of those that the publisher's node hosts.
    LocalRandom,
    /// As the type that its argument `x-delayed-type` names; messages come into their queues after their `x-delay`.
    DelayedMessage,
    /// Every binding; and whoever is bound later gets the last messages that came.
    RecentHistory,
}

impl ExchangeKind {
    /// All of them.
    pub const ALL: [Self; 10] = [
        Self::Direct,
        Self::Fanout,
        Self::Topic,
        Self::Headers,
        Self::ConsistentHash,
        Self::ModulusHash,
        Self::Random,
        Self::LocalRandom,
        Self::DelayedMessage,
        Self::RecentHistory,
    ];

    /// Its name in `exchange.declare`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Direct => "direct",
            Self::Fanout => "fanout",
            Self::Topic => "topic",
            Self::Headers => "headers",
            Self::ConsistentHash => "x-consistent-hash",
            Self::ModulusHash => "x-modulus-hash",
            Self::Random => "x-random",
            Self::LocalRandom => "x-local-random",
            Self::DelayedMessage => "x-delayed-message",
            Self::RecentHistory => "x-recent-history",
        }
    }

    /// The type of that name.
    ///
    /// # Errors
    /// 406 `unknown exchange type '…'` (closes the channel).
    pub fn parse(name: &str) -> Result<Self, AmqpError> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == name).ok_or_else(|| {
            AmqpError::new(ReplyCode::PreconditionFailed, format!("unknown exchange type '{name}'"))
        })
    }
}

/// An exchange.
#[derive(Clone, Debug, PartialEq)]
pub struct ExchangeRecord {
    /// Its name; empty for the default exchange.
    pub name: String,
    /// Its type.
    pub kind: ExchangeKind,
    /// Declared durable.
    pub durable: bool,
    /// Deleted when its last binding as a source goes.
    pub auto_delete: bool,
    /// Clients may not publish to it.
    pub internal: bool,
    /// Its arguments as declared.
    pub arguments: FieldTable,
}

/// `queue.declare`.
#[derive(Clone, Debug, PartialEq)]
pub struct DeclareQueue {
    /// The virtual host.
    pub vhost: String,
    /// The queue's name; never empty: the proposer draws the names of server-named queues.
    pub name: String,
    /// Replicated, unless exclusive.
    pub durable: bool,
    /// The connection that owns it, if exclusive.
    pub exclusive: Option<ExclusiveOwner>,
    /// Deleted when its last consumer goes.
    pub auto_delete: bool,
    /// Its arguments as declared.
    pub arguments: FieldTable,
    /// The node that hosts it if it is not replicated: the declaring connection's.
    pub home: NodeId,
}

/// Where a binding leads.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Destination {
    /// A queue.
    Queue(String),
    /// An exchange.
    Exchange(String),
}

/// A binding; all of it is its identity.
#[derive(Clone, Debug, PartialEq)]
pub struct BindingRecord {
    /// The virtual host.
    pub vhost: String,
    /// The exchange it leads from.
    pub source: String,
    /// Where it leads.
    pub destination: Destination,
    /// The binding key.
    pub routing_key: String,
    /// Its arguments.
    pub arguments: FieldTable,
}

/// What a policy is for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ApplyTo {
    /// Queues and exchanges.
    #[default]
    All,
    /// Queues of every type.
    Queues,
    /// Exchanges.
    Exchanges,
    /// Queues of type `classic`.
    ClassicQueues,
    /// Queues of type `quorum`.
    QuorumQueues,
    /// Queues of type `stream`.
    Streams,
}

impl ApplyTo {
    /// All of them.
    pub const ALL: [Self; 6] =
        [Self::All, Self::Queues, Self::Exchanges, Self::ClassicQueues, Self::QuorumQueues, Self::Streams];

    /// Its name in `apply-to`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::All => "all",
            Self::Queues => "queues",
            Self::Exchanges => "exchanges",
            Self::ClassicQueues => "classic_queues",
            Self::QuorumQueues => "quorum_queues",
            Self::Streams => "streams",
        }
    }

    /// What is named so.
    ///
    /// # Errors
    /// 406 `apply-to '…' unrecognised; should be one of: …`.
    pub fn parse(name: &str) -> Result<Self, AmqpError> {
        Self::ALL.into_iter().find(|known| known.as_str() == name).ok_or_else(|| {
            AmqpError::new(
                ReplyCode::PreconditionFailed,
                format!(
                    "apply-to '{name}' unrecognised; should be one of: 'queues', 'classic_queues',  'quorum_queues', \
                     'streams', 'exchanges', or 'all'"
                ),
            )
        })
    }
}

/// A policy: settings for whatever has a matching name. Of those that match an object the one of the highest priority
/// counts, of users' policies and of operators' policies each.
#[derive(Clone, Debug, PartialEq)]
pub struct PolicyRecord {
    /// The virtual host.
    pub vhost: String,
    /// Its name; users' and operators' policies do not share names.
    pub name: String,
    /// An operator's, which users cannot exceed.
    pub operator: bool,
    /// A regular expression, searched unanchored; an empty one matches everything.
    pub pattern: String,
    /// What it is for.
    pub apply_to: ApplyTo,
    /// The highest counts.
    pub priority: i64,
    /// The settings; at least one.
    pub definition: FieldTable,
}
