//! RocksDB as this node uses it: its options, and the few calls the rest of the crate makes.

use std::path::Path;

use rocksdb::{
    BlockBasedOptions, BottommostLevelCompaction, Cache, ColumnFamily, ColumnFamilyDescriptor,
    CompactOptions, DB, DBCompressionType, LogLevel, Options, ReadOptions, WriteBatch, WriteOptions,
};

use crate::{StoreError, StoreOptions};

const STATE: &str = "state";

/// The one database of a node.
pub(crate) struct Rocks {
    db: DB,
}

impl Rocks {
    pub(crate) fn open(dir: &Path, options: &StoreOptions) -> Result<Self, StoreError> {
        let cache =
            Cache::new_lru_cache(options.cache_bytes).map_err(StoreError::disk("make its block cache"))?;
        let families = [ColumnFamilyDescriptor::new(STATE, state_options(options, &cache))];
        let known = if std::fs::exists(dir.join("CURRENT")).unwrap_or(true) {
            DB::list_cf(&database_options(options), dir).map_err(StoreError::disk("open its directory"))?
        } else {
            Vec::new()
        };
        if known.iter().any(|family| family == "log") {
            let reason = "it was written by a version before 0.2, which kept the log in RocksDB".to_owned();
            return Err(StoreError::Disk { what: "use its directory", reason });
        }
        let db = DB::open_cf_descriptors(&database_options(options), dir, families)
            .map_err(StoreError::disk("open its directory"))?;
        let rocks = Self { db };
        rocks.state()?;
        Ok(rocks)
    }

    pub(crate) fn db(&self) -> &DB {
        &self.db
    }

    pub(crate) fn state(&self) -> Result<&ColumnFamily, StoreError> {
        self.family(STATE)
    }

    fn family(&self, name: &str) -> Result<&ColumnFamily, StoreError> {
        self.db
            .cf_handle(name)
            .ok_or_else(|| StoreError::Disk { what: "find a column family", reason: name.to_owned() })
    }

    /// Writes `batch` without RocksDB's own log, which nothing here uses: it is durable only after [`Rocks::flush_state`].
    pub(crate) fn write_state(&self, batch: WriteBatch) -> Result<(), StoreError> {
        let mut options = WriteOptions::default();
        options.disable_wal(true);
        self.db.write_opt(batch, &options).map_err(StoreError::disk("write its state"))
    }

    pub(crate) fn flush_state(&self) -> Result<(), StoreError> {
        self.db.flush_cf(self.state()?).map_err(StoreError::disk("flush its state"))
    }

    /// Bytes in the memtables.
    pub(crate) fn unflushed_bytes(&self) -> Result<u64, StoreError> {
        let bytes = self.db.property_int_value_cf(self.state()?, "rocksdb.cur-size-all-mem-tables");
        Ok(bytes.map_err(StoreError::disk("ask for its size"))?.unwrap_or_default())
    }

    /// Bytes of all blob files: bodies in the message store, needed or not.
    pub(crate) fn blob_bytes(&self) -> Result<u64, StoreError> {
        let bytes = self.db.property_int_value_cf(self.state()?, "rocksdb.total-blob-file-size");
        Ok(bytes.map_err(StoreError::disk("ask for its size"))?.unwrap_or_default())
    }

    /// Compacts the state's keys: only then does RocksDB notice which bodies are gone, and deletes the files that hold no
    /// others. Where more than half of what is left is garbage, the bodies in the older half of the files are copied
    /// together. Blocks, possibly for seconds.
    pub(crate) fn compact_state(&self) -> Result<(), StoreError> {
        self.compact()?;
        let state = self.state()?;
        let size = |name| -> Result<u64, StoreError> {
            let bytes = self.db.property_int_value_cf(state, name);
            Ok(bytes.map_err(StoreError::disk("ask for its size"))?.unwrap_or_default())
        };
        let garbage = size("rocksdb.live-blob-file-garbage-size")?;
        if garbage.saturating_mul(2) > size("rocksdb.live-blob-file-size")? {
            self.copy_bodies(true)?;
            let compacted = self.compact();
            self.copy_bodies(false)?;
            compacted?;
        }
        Ok(())
    }

    fn compact(&self) -> Result<(), StoreError> {
        let mut options = CompactOptions::default();
        // Without this the last level, where the deleted keys are, would be left alone.
        options.set_bottommost_level_compaction(BottommostLevelCompaction::Force);
        self.db.compact_range_cf_opt(self.state()?, None::<&[u8]>, None::<&[u8]>, &options);
        Ok(())
    }

    /// Whether compactions copy bodies out of old files.
    fn copy_bodies(&self, on: bool) -> Result<(), StoreError> {
        let options = [("enable_blob_garbage_collection", if on { "true" } else { "false" })];
        let set = self.db.set_options_cf(self.state()?, &options);
        set.map_err(StoreError::disk("change what its compactions do"))
    }

    pub(crate) fn get_state(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        self.db.get_cf(self.state()?, key).map_err(StoreError::disk("read its state"))
    }
}

/// Read options for a scan of `from..to`: an upper bound keeps an iterator from walking tombstones beyond it.
pub(crate) fn scan(from: Vec<u8>, to: Vec<u8>) -> ReadOptions {
    let mut options = ReadOptions::default();
    options.set_iterate_lower_bound(from);
    options.set_iterate_upper_bound(to);
    options.fill_cache(false);
    options
}

fn database_options(options: &StoreOptions) -> Options {
    let mut db = Options::default();
    db.create_if_missing(!options.must_exist);
    db.create_missing_column_families(true);
    db.set_paranoid_checks(true);
    db.set_max_open_files(options.open_files);
    db.set_max_background_jobs(2);
    // Data reaches the disk as it is written, not in a burst that an fsync of the log has to wait behind.
    db.set_bytes_per_sync(1 << 20);
    db.set_log_level(LogLevel::Warn);
    db.set_max_log_file_size(1 << 20);
    db.set_keep_log_file_num(2);
    db.set_max_manifest_file_size(16 << 20);
    db.set_stats_dump_period_sec(0);
    db.set_stats_persist_period_sec(0);
    db
}

fn family_options(cache: &Cache, block_bytes: usize) -> Options {
    let mut table = BlockBasedOptions::default();
    table.set_block_cache(cache);
    table.set_block_size(block_bytes);
    table.set_cache_index_and_filter_blocks(true);
    table.set_format_version(5);
    let mut family = Options::default();
    family.set_block_based_table_factory(&table);
    // Bodies are mostly compressed or short-lived; the disk is not what is scarce.
    family.set_compression_type(DBCompressionType::None);
    // New data is compacted straight into the last level: what a range deletion covers is gone after one compaction.
    family.set_level_compaction_dynamic_level_bytes(true);
    family
}

fn state_options(options: &StoreOptions, cache: &Cache) -> Options {
    let mut family = family_options(cache, 16 << 10);
    family.set_write_buffer_size(options.state_memtable_bytes);
    family.set_max_write_buffer_number(3);
    family.set_target_file_size_base(32 << 20);
    // Bodies go to blob files: a backlog is written once and compactions move only keys.
    family.set_enable_blob_files(true);
    family.set_min_blob_size(512);
    family.set_blob_file_size(64 << 20);
    family.set_blob_compression_type(DBCompressionType::None);
    // A file whose bodies are all gone is deleted without copying anything: the ordinary case, for queues are consumed
    // in order. Copying is for `compact_state` alone: RocksDB itself copies what is old at each compaction, garbage or not,
    // and a backlog that only grows is copied again and again.
    family.set_enable_blob_gc(false);
    family.set_blob_gc_age_cutoff(0.5);
    family
}
