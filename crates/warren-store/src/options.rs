//! Sizes and limits of the store; the defaults suit a node with a few GiB of memory.

/// How the store uses memory and disk.
#[derive(Clone, Debug)]
pub struct StoreOptions {
    /// Bytes of recent log entries kept in memory, for all groups together: what followers and the apply path
    /// read. Entries that are not yet on disk come on top. Default 8 MiB.
    pub tail_bytes: usize,
    /// Bytes that may wait for the log writer before `append` blocks. Default 64 MiB.
    pub queue_bytes: usize,
    /// Size of the log's files. A few of them are there at least. Default 16 MiB.
    pub log_segment_bytes: u64,
    /// The log is kept to about so many bytes: bodies that queues still need stay in it until it is longer, then the
    /// oldest are moved to the message store, which costs several times what reading them from the log does. All of it is
    /// read at a start. Default 1280 MiB: a million messages of 1 KiB.
    pub log_bytes: u64,
    /// So many entries at most are kept in the log for the bodies they brought: a place in memory each. Default 200,000.
    pub log_entries: u64,
    /// The state's memtable. Default 16 MiB.
    pub state_memtable_bytes: usize,
    /// The block cache. Small: messages are read once, and the tail serves what is recent. Default 16 MiB.
    pub cache_bytes: usize,
    /// Freed bytes of the message store at which its keys are compacted, so that the disk gets them back; also at
    /// least a quarter of what the store holds. Default 32 MiB.
    pub reclaim_bytes: u64,
    /// Files that RocksDB keeps open. Default 512.
    pub open_files: i32,
    /// The store was there before: an empty or missing directory is damage, not a first start. Default false.
    pub must_exist: bool,
}

impl Default for StoreOptions {
    fn default() -> Self {
        Self {
            tail_bytes: 8 << 20,
            queue_bytes: 64 << 20,
            log_segment_bytes: 16 << 20,
            log_bytes: 1280 << 20,
            log_entries: 200_000,
            state_memtable_bytes: 16 << 20,
            cache_bytes: 16 << 20,
            reclaim_bytes: 32 << 20,
            open_files: 512,
            must_exist: false,
        }
    }
}
