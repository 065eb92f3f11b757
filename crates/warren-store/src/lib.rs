//! The node's one RocksDB: Raft logs with their shared fsync, and what each shard command does to stored messages.
