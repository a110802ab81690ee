//! What RocksDB is told: budgets, layouts of files, and the reasons for each departure from its defaults.

use super::events::Listener;
use super::pace::Pace;
use super::ttl_filter::TtlFilterFactory;
use crate::key;
use crate::row_cache::RowCache;
use crate::value;
use rocksdb::{
    BlockBasedOptions, Cache, ChecksumType, DBCompressionType, Env, InfoLogger, LogLevel, Options,
    ReadOptions, ReadTier, SliceTransform, WriteBufferManager, WriteOptions,
};
use std::fmt;
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Where the expiry filter of compactions gets its time from: seconds since 2016-01-01 UTC.
#[derive(Clone)]
pub struct Clock(Arc<dyn Fn() -> u32 + Send + Sync>);

impl Clock {
    /// A clock of the caller's own.
    pub fn new(now_s: impl Fn() -> u32 + Send + Sync + 'static) -> Self {
        Self(Arc::new(now_s))
    }

    /// Seconds since 2016-01-01 UTC.
    #[must_use]
    pub fn now_s(&self) -> u32 {
        (self.0)()
    }
}

impl Default for Clock {
    /// The wall clock of this machine.
    fn default() -> Self {
        Self::new(|| {
            let unix = SystemTime::now()
                .duration_since(UNIX_EPOCH)
                .unwrap_or_default();
            value::seconds_since_epoch(unix.as_secs().saturating_mul(1_000_000))
        })
    }
}

impl fmt::Debug for Clock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Clock").field(&self.now_s()).finish()
    }
}

/// Knobs of one core's database.
#[derive(Clone, Debug)]
pub struct EngineOptions {
    /// Cache of uncompressed blocks, shared by all replicas of the core. Default 256 MiB, at least 8 MiB. Too small:
    /// reads leave the core for a helper thread and the disk.
    pub block_cache_bytes: usize,
    /// Cache of single rows, for point reads, shared by all replicas of the core. Default 16 MiB; 0 (none), or 4 KiB to
    /// 16 GiB. Too small: hot rows are looked up in memtables and blocks again and again, which takes about ten times as
    /// long; too big: memory that scans and less hot rows could use as block cache.
    pub row_cache_bytes: usize,
    /// Memtables of all replicas of the core together. Default 128 MiB, at least 4 MiB. Flushes start at half of it;
    /// at all of it new writes are refused. Too small: many small files; too big: a long replay after a crash.
    pub memtable_bytes_max: usize,
    /// Memtable of one replica at which its flush starts. Default 16 MiB, 1 MiB to `memtable_bytes_max`. Bigger ones
    /// make fewer files, yet lookups in them miss the CPU's caches.
    pub replica_memtable_bytes_max: usize,
    /// Threads for flushes (a quarter, at least one) and compactions (the rest), shared by all databases of the process.
    /// Default 3, 2 to 64. They are started by
    /// [`RocksStore::open`](super::RocksStore::open) and inherit the CPU mask of the thread that calls it.
    pub background_threads: i32,
    /// Bytes of rows per second that the compactions of a core go through as long as nothing is behind. Default 64 MiB,
    /// at least 1 MiB. Too small: more files for a read to look at; too big: clients feel compactions.
    pub compaction_bytes_per_s: u64,
    /// Files that no compaction has rewritten for this long are, so that rows which expire in a table that is not written to
    /// are dropped, too. Default 7 days, at least 1 second; looked at every hour, or more often if this is less. Too long:
    /// expired rows take up space; too short: drives wear out.
    pub rewrite_period: Duration,
    /// Time of the expiry filter. Default: the wall clock.
    pub clock: Clock,
    /// Number of this cluster in timetags, 0 to 127. Default 0.
    pub timetag_cluster: u8,
}

/// What a row cache may take.
const ROW_CACHE_BYTES: RangeInclusive<usize> = RowCache::BYTES_MIN..=16 << 30;

impl Default for EngineOptions {
    fn default() -> Self {
        Self {
            block_cache_bytes: 256 << 20,
            row_cache_bytes: 16 << 20,
            memtable_bytes_max: 128 << 20,
            replica_memtable_bytes_max: 16 << 20,
            background_threads: 3,
            compaction_bytes_per_s: 64 << 20,
            rewrite_period: Duration::from_secs(7 * 24 * 3600),
            clock: Clock::default(),
            timetag_cluster: 0,
        }
    }
}

impl EngineOptions {
    /// What is wrong with these options, in one sentence.
    ///
    /// # Errors
    /// The sentence.
    pub fn check(&self) -> Result<(), String> {
        let at_least = |name: &str, value: usize, least: usize| {
            if value < least {
                Err(format!("{name} = {value} is below {least}"))
            } else {
                Ok(())
            }
        };
        at_least("block_cache_bytes", self.block_cache_bytes, 8 << 20)?;
        at_least("memtable_bytes_max", self.memtable_bytes_max, 4 << 20)?;
        if self.row_cache_bytes != 0 && !ROW_CACHE_BYTES.contains(&self.row_cache_bytes) {
            return Err(format!(
                "row_cache_bytes = {} is neither 0 nor within {} to {}",
                self.row_cache_bytes,
                ROW_CACHE_BYTES.start(),
                ROW_CACHE_BYTES.end()
            ));
        }
        at_least(
            "replica_memtable_bytes_max",
            self.replica_memtable_bytes_max,
            1 << 20,
        )?;
        if self.compaction_bytes_per_s < 1 << 20 {
            return Err(format!(
                "compaction_bytes_per_s = {} is below {}",
                self.compaction_bytes_per_s,
                1 << 20
            ));
        }
        if self.replica_memtable_bytes_max > self.memtable_bytes_max {
            return Err("replica_memtable_bytes_max is above memtable_bytes_max".to_owned());
        }
        if !(2..=64).contains(&self.background_threads) {
            return Err(format!(
                "background_threads = {} is not within 2 to 64",
                self.background_threads
            ));
        }
        if self.rewrite_period < Duration::from_secs(1) {
            return Err(format!(
                "rewrite_period = {:?} is below a second",
                self.rewrite_period
            ));
        }
        if self.timetag_cluster > 127 {
            return Err(format!(
                "timetag_cluster = {} is above 127",
                self.timetag_cluster
            ));
        }
        Ok(())
    }
}

/// What all column families of a core share.
pub(super) struct Budget {
    pub(super) block_cache: Cache,
    pub(super) memtables: WriteBufferManager,
    pub(super) pace: Pace,
}

impl Budget {
    pub(super) fn new(options: &EngineOptions) -> Self {
        let block_cache = Cache::new_lru_cache(options.block_cache_bytes);
        // RocksDB flushes by itself when mutable memtables pass 7/8 of this: 1.5 times our own trigger, which is half
        // of the budget. It never stalls writers.
        let backstop = options.memtable_bytes_max / 2 * 3 / 2 * 8 / 7;
        Self {
            block_cache,
            memtables: WriteBufferManager::new_write_buffer_manager(backstop, false),
            pace: Pace::new(options.compaction_bytes_per_s),
        }
    }
}

/// Immutable memtables of one replica at which RocksDB stops writes; admission refuses them at half of that.
const MEMTABLES_MAX: i32 = 8;

/// How often RocksDB looks for files whose time has come, at most.
const REWRITE_LOOK_SECONDS: u64 = 3600;
/// Records next to each other, half of which, or this share of a file's, are marks of removed rows in a file that is compacted
/// for it; smaller files are not, they come to it soon enough.
const REMOVED_WINDOW: usize = 8192;
const REMOVED_SHARE: f64 = 0.5;
const REMOVED_FILE_BYTES_MIN: u64 = 64 << 10;

/// Level-0 files at which RocksDB would slow writes down: never, admission looks after that.
const OUT_OF_REACH: i32 = 1 << 30;

/// Options of the database as a whole, which are those of its column families too.
pub(super) fn database(options: &EngineOptions, budget: &Budget, listener: Listener) -> Options {
    let mut db = column_family(options, budget);
    db.create_if_missing(true);
    db.add_event_listener(listener);
    db.set_write_buffer_manager(&budget.memtables);
    // A damaged or missing file is the trouble of one replica: neither may opening the database fail for it, nor may a
    // compaction that meets it set the database's background error, which would stop the writes of all replicas.
    // Reads, scrubbing and the listener find and name the damage instead.
    db.set_paranoid_checks(false);
    // Closing is no flush: what is durable is decided by markers, and a stop flushes on purpose.
    db.set_avoid_flush_during_shutdown(true);
    db.set_avoid_unnecessary_blocking_io(true);
    // One thread writes; the machinery for concurrent writers only costs.
    db.set_allow_concurrent_memtable_write(false);
    db.set_enable_write_thread_adaptive_yield(false);
    db.set_max_background_jobs(options.background_threads);
    db.set_max_open_files(-1);
    db.set_skip_stats_update_on_db_open(true);
    // Bulk goes to the drive as it is written, a mebibyte at a time: left to the page cache it piles up, and the log's next
    // flush waits behind all of it (docs/decisions/0028-direct-bulk-io.md).
    db.set_use_direct_io_for_flush_and_compaction(true);
    // Log writes come between pieces of this size; the default of 2 MiB keeps a drive busy for milliseconds.
    db.set_compaction_readahead_size(512 << 10);
    // Also databases that nobody writes to.
    db.set_max_compaction_trigger_wakeup_seconds(REWRITE_LOOK_SECONDS);
    db.set_stats_dump_period_sec(0);
    db.set_stats_persist_period_sec(0);
    db.set_max_log_file_size(8 << 20);
    db.set_keep_log_file_num(4);
    db
}

/// Starts RocksDB's threads on the calling thread's CPUs, and puts them behind everybody else. Process-wide; doing it
/// again for the next core changes nothing. Flushes keep their CPU priority: when they are late, writes are refused.
pub(super) fn start_background_threads(options: &EngineOptions) -> Result<(), rocksdb::Error> {
    let mut environment = Env::new()?;
    let flushes = (options.background_threads / 4).max(1);
    let compactions = options.background_threads - flushes;
    let more = |now: i32, wanted: i32| (wanted > now).then_some(wanted);
    if let Some(threads) = more(environment.get_high_priority_background_threads(), flushes) {
        environment.set_high_priority_background_threads(threads);
    }
    if let Some(threads) = more(
        environment.get_low_priority_background_threads(),
        compactions,
    ) {
        environment.set_low_priority_background_threads(threads);
    }
    environment.lower_thread_pool_cpu_priority();
    environment.lower_thread_pool_io_priority();
    environment.lower_high_priority_thread_pool_io_priority();
    Ok(())
}

/// Options of the column family of a replica.
pub(super) fn column_family(options: &EngineOptions, budget: &Budget) -> Options {
    let mut cf = Options::default();
    cf.set_prefix_extractor(SliceTransform::create(
        "pegasus.HashkeyTransform",
        hash_key,
        Some(has_hash_key),
    ));
    let filter = TtlFilterFactory::new(options.clock.clone(), budget.pace.clone());
    cf.set_compaction_filter_factory(filter);
    // Ours starts first; RocksDB's own limit is the backstop at 1.5 times as much.
    cf.set_write_buffer_size(options.replica_memtable_bytes_max * 3 / 2);
    // The default is an eighth of a memtable at once, too much for hundreds of replicas that write little.
    cf.set_arena_block_size(64 << 10);
    cf.set_max_write_buffer_number(MEMTABLES_MAX);
    cf.set_level_zero_file_num_compaction_trigger(4);
    cf.set_level_zero_slowdown_writes_trigger(OUT_OF_REACH);
    cf.set_level_zero_stop_writes_trigger(OUT_OF_REACH);
    cf.set_soft_pending_compaction_bytes_limit(0);
    cf.set_hard_pending_compaction_bytes_limit(0);
    cf.set_level_compaction_dynamic_level_bytes(true);
    cf.set_periodic_compaction_seconds(options.rewrite_period.as_secs());
    // Marks of removed rows are what scans have to pass: files that have many of them close together are compacted.
    cf.add_compact_on_deletion_collector_factory_min_file_size(
        REMOVED_WINDOW,
        REMOVED_WINDOW / 2,
        REMOVED_SHARE,
        REMOVED_FILE_BYTES_MIN,
    );
    cf.set_target_file_size_base(64 << 20);
    cf.set_compression_type(DBCompressionType::Lz4);
    cf.set_bottommost_compression_type(DBCompressionType::Zstd);
    cf.set_block_based_table_factory(&table(&budget.block_cache));
    cf
}

fn table(block_cache: &Cache) -> BlockBasedOptions {
    let mut table = BlockBasedOptions::default();
    table.set_block_cache(block_cache);
    table.set_block_size(8 << 10);
    // Readable by the RocksDB that Apache Pegasus and its offline tools are built with.
    table.set_format_version(5);
    table.set_checksum_type(ChecksumType::CRC32c);
    table.set_bloom_filter(10.0, false);
    table.set_whole_key_filtering(true);
    table.set_optimize_filters_for_memory(true);
    // Inside the budget, and pinned for level 0, so that a lookup does not fetch a filter from disk first.
    table.set_cache_index_and_filter_blocks(true);
    table.set_cache_index_and_filter_blocks_with_high_priority(true);
    table.set_pin_l0_filter_and_index_blocks_in_cache(true);
    // Blocks of a flush go into the cache: rows just written stay readable without the disk.
    table.set_prepopulate_block_cache(1);
    table
}

fn hash_key(raw_key: &[u8]) -> &[u8] {
    key::hash_key_prefix(raw_key).unwrap_or(raw_key)
}

fn has_hash_key(raw_key: &[u8]) -> bool {
    key::hash_key_prefix(raw_key).is_some()
}

/// The log of the core is the write-ahead log; and a write that would sleep is refused.
pub(super) fn writes() -> WriteOptions {
    let mut writes = WriteOptions::default();
    writes.disable_wal(true);
    writes.set_no_slowdown(true);
    writes
}

pub(super) fn reads(tier: ReadTier) -> ReadOptions {
    let mut reads = ReadOptions::default();
    reads.set_read_tier(tier);
    // Files that an iterator was the last to use are deleted by a background thread.
    reads.set_background_purge_on_iterator_cleanup(true);
    reads
}

/// A logger that passes warnings on instead of writing a file of its own.
pub(super) fn quiet_logger() -> InfoLogger {
    InfoLogger::new_callback_logger(LogLevel::Warn, |_, message| {
        tracing::debug!(message, "rocksdb")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_pass_their_own_check() {
        assert_eq!(EngineOptions::default().check(), Ok(()));
    }

    #[test]
    fn bad_values_are_refused_with_a_sentence() {
        let options = EngineOptions {
            memtable_bytes_max: 1,
            ..EngineOptions::default()
        };
        assert_eq!(
            options.check().unwrap_err(),
            "memtable_bytes_max = 1 is below 4194304"
        );
        let options = EngineOptions {
            background_threads: 0,
            ..EngineOptions::default()
        };
        assert_eq!(
            options.check().unwrap_err(),
            "background_threads = 0 is not within 2 to 64"
        );
    }
}
