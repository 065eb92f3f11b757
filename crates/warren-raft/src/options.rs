//! What a node's Raft side is started with.

use std::time::Duration;

use warren_types::NodeId;

/// The first user of a new cluster.
#[derive(Clone, PartialEq, Eq)]
pub struct DefaultUser {
    /// Its name.
    pub name: String,
    /// Its password; only its salted hash is proposed.
    pub password: String,
}

impl std::fmt::Debug for DefaultUser {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("DefaultUser").field("name", &self.name).finish_non_exhaustive()
    }
}

/// What a node's Raft side is started with.
#[derive(Clone, Debug)]
pub struct RaftOptions {
    /// This node.
    pub node: NodeId,
    /// Which start of it this is: milliseconds since 1970.
    pub incarnation: u64,
    /// Its name, for people.
    pub name: String,
    /// Where other nodes reach its cluster port, `HOST:PORT`.
    pub advertise: String,
    /// Host and port of its HTTP API, for the catalogue.
    pub http_address: Option<String>,
    /// The zone it stands in.
    pub zone: Option<String>,
    /// The cluster ports of all first members; its own may be among them. Empty: a cluster of one.
    pub seeds: Vec<String>,
    /// How many fresh nodes form the cluster.
    pub expect: usize,
    /// Shards of a new cluster.
    pub shards: u32,
    /// Replicas of each shard of a new cluster.
    pub replication: u32,
    /// The first user of a new cluster.
    pub default_user: DefaultUser,
    /// The name of a new cluster.
    pub cluster_name: String,
    /// A checkpoint is made when so many bytes of log came since the last. Default 16 MiB.
    pub checkpoint_bytes: u64,
    /// A checkpoint is made when the last is so old and something has changed. Default 60 s.
    pub checkpoint_interval: Duration,
    /// Log that a purge leaves for followers that are a little behind. Default 4 MiB a group.
    pub keep_log_bytes: u64,
    /// Bytes a second of replicas that this node sends whole, to nodes that they move to or that are rebuilt; 0 is no limit.
    /// Default 64 MiB.
    pub snapshot_bytes_per_s: u64,
}

impl Default for RaftOptions {
    fn default() -> Self {
        Self {
            node: NodeId(1),
            incarnation: 1,
            name: "warren".to_owned(),
            advertise: "127.0.0.1:25672".to_owned(),
            http_address: None,
            zone: None,
            seeds: Vec::new(),
            expect: 1,
            shards: 16,
            replication: 3,
            default_user: DefaultUser { name: "guest".to_owned(), password: "guest".to_owned() },
            cluster_name: "warren".to_owned(),
            checkpoint_bytes: 16 << 20,
            checkpoint_interval: Duration::from_secs(60),
            keep_log_bytes: 4 << 20,
            snapshot_bytes_per_s: 64 << 20,
        }
    }
}
