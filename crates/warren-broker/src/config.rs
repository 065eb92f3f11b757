//! What a node is started with. Defaults in one place; validated by the binary, which reads files and environment.

use std::net::SocketAddr;
use std::path::PathBuf;

use crate::security::{Credentials, Encryption};
use crate::tls::TlsFiles;

/// Which part of a client's certificate names its user, for SASL EXTERNAL.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LoginFrom {
    /// The whole subject, as in RFC 4514: `CN=client,O=Example`.
    DistinguishedName,
    /// Its common name.
    CommonName,
}

/// A node's settings.
#[derive(Clone, Debug)]
pub struct BrokerConfig {
    /// Where everything that must survive lives.
    pub data_dir: PathBuf,
    /// Shown in listings; unique in the cluster.
    pub node_name: String,
    /// Where clients connect. Default `0.0.0.0:5672`.
    pub amqp_listen: Vec<SocketAddr>,
    /// Where clients connect with TLS. Default nowhere.
    pub amqps_listen: Vec<SocketAddr>,
    /// The certificates of `amqps_listen`; needed when that is not empty.
    pub amqps_tls: Option<TlsFiles>,
    /// Which part of a client's certificate names its user. Default the distinguished name.
    pub amqps_login_from: LoginFrom,
    /// How long a client may take for the TLS handshake. Milliseconds. Default 5,000.
    pub tls_handshake_timeout_ms: u64,
    /// Whether `amqp_listen` and `amqps_listen` are behind load balancers that begin each connection with a PROXY header;
    /// without one nobody is served then. Default false.
    pub proxy_protocol: bool,
    /// Where nodes connect. Default `0.0.0.0:25672`.
    pub cluster_listen: SocketAddr,
    /// How other nodes reach `cluster_listen`, `host:port`.
    pub cluster_advertise: String,
    /// The zone that this node stands in: the replicas of a shard are spread over zones.
    pub zone: Option<String>,
    /// What nodes prove to each other that they are of one cluster with. Default nothing: whoever reaches
    /// `cluster_listen` is believed.
    pub cluster_credentials: Credentials,
    /// Whether nodes encrypt what they say to each other, once they have proved themselves. Default always.
    pub cluster_encryption: Encryption,
    /// The cluster addresses of all first members; empty for a cluster of one.
    pub seeds: Vec<String>,
    /// How many nodes form the cluster at its first start.
    pub expect: usize,
    /// Shards of a new cluster. Default 16.
    pub shards: u32,
    /// Replicas of each shard of a new cluster. Default 3.
    pub replication_factor: u32,
    /// The administrator that a new cluster gets. Default guest / guest.
    pub default_user: String,
    /// Its password.
    pub default_password: String,
    /// `guest` only from loopback. Default true.
    pub guest_loopback_only: bool,
    /// Proposed to clients; 0 is off. Seconds. Default 60.
    pub heartbeat_s: u16,
    /// Largest frame. Default 131,072.
    pub frame_max_bytes: u32,
    /// Most channels of a connection. Default 2,047.
    pub channel_max: u16,
    /// Largest message body. Default 16 MiB.
    pub max_message_size_bytes: u64,
    /// How long a client may hold a delivery before it is taken away, where the queue does not say
    /// (`x-consumer-timeout`). Milliseconds; 0 is for ever. Default 1,800,000.
    pub consumer_timeout_ms: u64,
    /// From accept to `connection.open`. Milliseconds. Default 10,000.
    pub handshake_timeout_ms: u64,
    /// Most client connections. Default 100,000.
    pub max_connections: usize,
    /// Most connections on the cluster port. Default 2048.
    pub cluster_connections_max: usize,
    /// Files that RocksDB keeps open. Default 512.
    pub store_open_files: i32,
    /// Bytes a second of replicas that this node sends whole, to nodes that they move to or that are rebuilt; 0 is no
    /// limit. Default 64 MiB.
    pub snapshot_bytes_per_s: u64,
    /// Ready messages that the shards this node leads keep in memory, all together. Default 128 MiB.
    pub cache_bytes: u64,
    /// How long a stop waits for clients and leaders to move. Milliseconds. Default 20,000.
    pub shutdown_timeout_ms: u64,
    /// Free bytes on the data directory's disk below which publishers are stopped; 0 never stops them. Default 50 MB.
    pub disk_free_limit_bytes: u64,
    /// Memory in use above which publishers are stopped. Default 60%.
    pub memory_high_watermark: MemoryWatermark,
}

/// How much memory a node may use before publishers are stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MemoryWatermark {
    /// A share of what the machine, or the control group, has. 0 turns the alarm off.
    Percent(u8),
    /// So many bytes. 0 turns the alarm off.
    Bytes(u64),
}

impl Default for BrokerConfig {
    fn default() -> Self {
        Self {
            data_dir: PathBuf::from("warren-data"),
            node_name: String::from("warren@localhost"),
            amqp_listen: vec![SocketAddr::from(([0, 0, 0, 0], 5672))],
            amqps_listen: Vec::new(),
            amqps_tls: None,
            amqps_login_from: LoginFrom::DistinguishedName,
            tls_handshake_timeout_ms: 5_000,
            proxy_protocol: false,
            cluster_listen: SocketAddr::from(([0, 0, 0, 0], 25672)),
            cluster_advertise: String::from("127.0.0.1:25672"),
            zone: None,
            cluster_credentials: Credentials::None,
            cluster_encryption: Encryption::Always,
            seeds: Vec::new(),
            expect: 1,
            shards: 16,
            replication_factor: 3,
            default_user: String::from("guest"),
            default_password: String::from("guest"),
            guest_loopback_only: true,
            heartbeat_s: 60,
            frame_max_bytes: 131_072,
            channel_max: 2047,
            max_message_size_bytes: 16 * 1024 * 1024,
            consumer_timeout_ms: 1_800_000,
            handshake_timeout_ms: 10_000,
            max_connections: 100_000,
            cluster_connections_max: warren_rpc::CONNECTIONS_MAX,
            store_open_files: 512,
            snapshot_bytes_per_s: 64 * 1024 * 1024,
            cache_bytes: 128 * 1024 * 1024,
            shutdown_timeout_ms: 20_000,
            disk_free_limit_bytes: 50_000_000,
            memory_high_watermark: MemoryWatermark::Percent(60),
        }
    }
}
