//! What operators may see and do: the surface below the HTTP API. Plain values; the API gives them RabbitMQ's shape.

mod check;
mod clients;
mod settings;

use std::sync::Arc;

use async_trait::async_trait;
use warren_types::{AmqpError, FieldTable, NodeId, QueueSpec, ShardId};

pub use warren_catalogue::Pattern;
pub use warren_proto::session::Tally;

pub use self::check::{check_exchange, check_policy, check_queue};
pub use self::clients::{
    AfterGet, ChannelInfo, Clients, ConnectionInfo, ConsumerInfo, Flow, GotInfo, PublishInfo, Traffic,
};
pub use self::settings::{
    ParameterRecord, Settings, TopicPermissionRecord, UserLimits, VhostLimits, VhostMetadata,
};

use crate::alarm::{AlarmSet, Resources};

/// A queue with its counts.
#[derive(Clone, Debug)]
pub struct QueueInfo {
    /// As declared.
    pub spec: Arc<QueueSpec>,
    /// Ready for delivery; `None` when its leader did not answer in time.
    pub ready: Option<u64>,
    /// Delivered and not settled.
    pub unacked: Option<u64>,
    /// Consumers.
    pub consumers: Option<u32>,
    /// Body bytes of ready messages.
    pub ready_bytes: Option<u64>,
    /// Messages whose time has not come.
    pub delayed: Option<u64>,
    /// What has happened in it since its leader leads it; `None` as for `ready`.
    pub total: Option<Tally>,
    /// Of that, what happened lately, and in how many milliseconds.
    pub recent: (Tally, u64),
    /// The single active consumer: its home's session, and its number there.
    pub active: Option<(u64, u64)>,
    /// The node that hosts it now: its shard's leader, or the node that keeps a transient queue.
    pub leader: Option<NodeId>,
    /// The nodes that hold a replica.
    pub members: Vec<NodeId>,
    /// Those of them that this node is in contact with.
    pub online: Vec<NodeId>,
    /// The users' policy that counts for it.
    pub policy: Option<String>,
    /// The operators' policy that counts for it.
    pub operator_policy: Option<String>,
    /// What both come to.
    pub effective_policy: FieldTable,
}

/// A node of the cluster.
#[derive(Clone, Debug)]
pub struct NodeInfo {
    /// Its number.
    pub id: NodeId,
    /// Its name.
    pub name: String,
    /// Its cluster address, `host:port`.
    pub address: String,
    /// In contact with this node (or this node itself).
    pub running: bool,
    /// This is the node that answers.
    pub this: bool,
    /// It leads the metadata group.
    pub metadata_leader: bool,
    /// Shards it leads.
    pub shards_led: usize,
    /// What it is short of.
    pub alarms: AlarmSet,
    /// What it is there for: `full`, `drained` or `leaving`.
    pub duty: &'static str,
    /// The zone it stands in.
    pub zone: Option<String>,
    /// It votes in the metadata group; otherwise it only follows it.
    pub metadata_voter: bool,
    /// Replicas that it holds or is about to hold.
    pub replicas: usize,
    /// Those of them whose shard is on the move.
    pub moving: usize,
}

/// What an operator does with a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NodeChange {
    /// Leaders and, as far as there is another place, replicas go elsewhere.
    Drain,
    /// It takes part in everything again.
    Undrain,
    /// It hands over what it holds, or the others replace it if it is gone, and it leaves the cluster for good.
    Remove,
    /// As `Remove`, if another node can take its place.
    Replace,
}

/// A Raft group as this node sees it.
#[derive(Clone, Debug)]
pub struct ShardInfo {
    /// The shard; `None` for the metadata group.
    pub shard: Option<ShardId>,
    /// Its leader.
    pub leader: Option<NodeId>,
    /// Its replicas.
    pub members: Vec<NodeId>,
    /// The node that should lead it.
    pub preferred: Option<NodeId>,
    /// The term.
    pub term: u64,
    /// This node's last log index, if it holds a replica.
    pub last_log: Option<u64>,
    /// Applied here.
    pub applied: Option<u64>,
    /// Its members are `members`, with no change under way, as its leader tells; always for the metadata group.
    pub settled: bool,
    /// If this node leads: how many entries each follower is behind.
    pub lag: Vec<(NodeId, u64)>,
}

/// An exchange.
#[derive(Clone, Debug)]
pub struct ExchangeInfo {
    /// Its vhost.
    pub vhost: String,
    /// Its name; empty for the default exchange.
    pub name: String,
    /// Its type.
    pub kind: String,
    /// Declared durable.
    pub durable: bool,
    /// Goes with its last binding.
    pub auto_delete: bool,
    /// Takes no publishes from clients.
    pub internal: bool,
    /// Its arguments.
    pub arguments: FieldTable,
    /// The users' policy that counts for it; of no meaning in a declaration.
    pub policy: Option<String>,
}

/// A policy, a user's or an operator's.
#[derive(Clone, Debug)]
pub struct PolicyInfo {
    /// Its vhost.
    pub vhost: String,
    /// Its name.
    pub name: String,
    /// An operator's.
    pub operator: bool,
    /// A regular expression on names.
    pub pattern: String,
    /// What it is for: `all`, `queues`, `exchanges`, `classic_queues`, `quorum_queues` or `streams`.
    pub apply_to: String,
    /// The highest of those that match counts.
    pub priority: i64,
    /// The settings.
    pub definition: FieldTable,
}

/// A binding.
#[derive(Clone, Debug)]
pub struct BindingInfo {
    /// Its vhost.
    pub vhost: String,
    /// The exchange it comes from; empty for the default exchange.
    pub source: String,
    /// The queue or exchange it goes to.
    pub destination: String,
    /// True when that is a queue.
    pub to_queue: bool,
    /// The binding key.
    pub routing_key: String,
    /// Its arguments.
    pub arguments: FieldTable,
}

/// A user.
#[derive(Clone, Debug)]
pub struct UserInfo {
    /// The name.
    pub name: String,
    /// base64 of salt and SHA-256.
    pub password_hash: String,
    /// The tags.
    pub tags: Vec<String>,
}

/// What a user may do in a vhost: three regular expressions.
#[derive(Clone, Debug)]
pub struct PermissionInfo {
    /// The user.
    pub user: String,
    /// The vhost.
    pub vhost: String,
    /// Names it may configure.
    pub configure: String,
    /// Names it may write to.
    pub write: String,
    /// Names it may read from.
    pub read: String,
}

/// A refusal.
#[derive(Debug, thiserror::Error)]
pub enum AdminError {
    /// The broker refuses, as it would refuse a client.
    #[error("{0}")]
    Refused(#[from] AmqpError),
    /// No such thing.
    #[error("not found")]
    NotFound,
    /// The cluster could not do it in time.
    #[error("{0}")]
    Unavailable(String),
}

/// The operators' surface of a node.
#[async_trait]
pub trait Admin: Settings + Clients + Send + Sync + 'static {
    /// This node's name.
    fn node_name(&self) -> String;
    /// The cluster's name.
    fn cluster_name(&self) -> String;
    /// The version of the program.
    fn version(&self) -> &'static str {
        env!("CARGO_PKG_VERSION")
    }
    /// Serves AMQP and is in contact with a majority; else why not.
    fn ready(&self) -> Result<(), String>;
    /// The user's tags, if the password is right.
    fn login(&self, user: &str, password: &[u8]) -> Option<Vec<String>>;
    /// What this node measures of its resources.
    fn resources(&self) -> Resources;
    /// Whether `guest` may come from loopback only.
    fn guest_loopback_only(&self) -> bool;
    /// How many AMQP connections this node takes at most.
    fn connections_max(&self) -> usize;
    /// The nodes.
    fn nodes(&self) -> Vec<NodeInfo>;
    /// The groups.
    fn shards(&self) -> Vec<ShardInfo>;
    /// This node's connections.
    fn connections(&self) -> Vec<ConnectionInfo>;
    /// Queues with counts, of one vhost or all, sorted by vhost and name.
    async fn queues(&self, vhost: Option<&str>) -> Vec<QueueInfo>;
    /// One queue with counts.
    async fn queue(&self, vhost: &str, name: &str) -> Option<QueueInfo>;
    /// Queues as they were declared, of one vhost or all, sorted by vhost and name.
    fn queue_specs(&self, vhost: Option<&str>) -> Vec<Arc<QueueSpec>>;
    /// Vhost names.
    fn vhosts(&self) -> Vec<String>;
    /// Exchanges, of one vhost or all.
    fn exchanges(&self, vhost: Option<&str>) -> Vec<ExchangeInfo>;
    /// Bindings, of one vhost or all, the default exchange's included.
    fn bindings(&self, vhost: Option<&str>) -> Vec<BindingInfo>;
    /// Users.
    fn users(&self) -> Vec<UserInfo>;
    /// Permissions.
    fn permissions(&self) -> Vec<PermissionInfo>;
    /// Makes a vhost and gives `user`, if any, all permissions in it. True when it is new.
    async fn create_vhost(&self, name: &str, user: Option<&str>) -> Result<bool, AdminError>;
    /// Deletes a vhost with all in it.
    async fn delete_vhost(&self, name: &str) -> Result<(), AdminError>;
    /// Makes or changes a user; `Err(hash)` gives the password's hash instead. True when it is new.
    async fn put_user(
        &self,
        name: &str,
        password: Result<String, String>,
        tags: Vec<String>,
    ) -> Result<bool, AdminError>;
    /// Deletes a user.
    async fn delete_user(&self, name: &str) -> Result<(), AdminError>;
    /// Sets a user's permissions in a vhost. True when there were none.
    async fn set_permissions(&self, permission: PermissionInfo) -> Result<bool, AdminError>;
    /// Takes them away.
    async fn clear_permissions(&self, vhost: &str, user: &str) -> Result<(), AdminError>;
    /// Declares a queue. True when it is new.
    async fn declare_queue(
        &self,
        vhost: &str,
        name: &str,
        durable: bool,
        auto_delete: bool,
        arguments: FieldTable,
    ) -> Result<bool, AdminError>;
    /// Deletes a queue.
    async fn delete_queue(
        &self,
        vhost: &str,
        name: &str,
        if_unused: bool,
        if_empty: bool,
    ) -> Result<(), AdminError>;
    /// Empties a queue of its ready messages.
    async fn purge_queue(&self, vhost: &str, name: &str) -> Result<u64, AdminError>;
    /// Declares an exchange. True when it is new.
    async fn declare_exchange(&self, exchange: ExchangeInfo) -> Result<bool, AdminError>;
    /// Deletes an exchange.
    async fn delete_exchange(&self, vhost: &str, name: &str, if_unused: bool) -> Result<(), AdminError>;
    /// Makes a binding. True when it is new.
    async fn bind(&self, binding: BindingInfo) -> Result<bool, AdminError>;
    /// Removes a binding.
    async fn unbind(&self, binding: BindingInfo) -> Result<(), AdminError>;
    /// Users' policies or operators', of one vhost or all.
    fn policies(&self, vhost: Option<&str>, operator: bool) -> Vec<PolicyInfo>;
    /// Makes or changes a policy. True when it is new.
    async fn put_policy(&self, policy: PolicyInfo) -> Result<bool, AdminError>;
    /// Deletes a policy.
    async fn delete_policy(&self, vhost: &str, name: &str, operator: bool) -> Result<(), AdminError>;
    /// Changes what a node, given by its name or number, is there for. What has to move moves after this returns; the
    /// node's `duty`, `replicas` and `moving` tell how far it is.
    async fn change_node(&self, node: &str, change: NodeChange) -> Result<(), AdminError>;
}
