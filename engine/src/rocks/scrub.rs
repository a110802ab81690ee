//! Reading every block of a replica's files from the disk and checking it.

use super::StoreError;
use super::options;
use super::replica::Db;
use super::store::RocksStore;
use pegasus_replication::ids::PartitionId;
use rocksdb::{DEFAULT_COLUMN_FAMILY_NAME, Options, RateLimiterMode, ReadOptions};

/// Bytes that are read in a second, and at once: clients use the same drive.
const BYTES_PER_S: i64 = 128 << 20;
const READ_BYTES: usize = 256 << 10;
/// The bytes of so much time are handed out at once.
const REFILL_US: i64 = 2_000;
/// `Env::IO_LOW`: reads that have a priority are counted, others are not.
const COUNTED: i32 = 0;

impl RocksStore {
    /// Checks all blocks of all files of one replica against their checksums, 128 MiB of them a second at most.
    ///
    /// It looks through a read-only view of its own, so that nothing is answered from the block cache; files that a
    /// compaction replaces meanwhile are kept until it is done.
    ///
    /// # Errors
    /// [`StoreError::Corruption`] whose detail names the first bad file.
    pub fn scrub(&self, partition: PartitionId) -> Result<(), StoreError> {
        let replica = self.replica(partition)?;
        let failed = |error| StoreError::from_rocksdb(partition, error);
        let _kept = KeptFiles::new(&self.shared.db).map_err(failed)?;
        let mut view = Options::default();
        view.set_info_logger(options::quiet_logger());
        view.set_ratelimiter_with_mode(
            BYTES_PER_S,
            REFILL_US,
            10,
            RateLimiterMode::KReadsOnly,
            false,
        );
        let mut reads = ReadOptions::default();
        reads.set_rate_limiter_priority(COUNTED);
        reads.set_readahead_size(READ_BYTES);
        let names = [
            DEFAULT_COLUMN_FAMILY_NAME.to_owned(),
            replica.name.to_string(),
        ];
        let checked = Db::open_cf_for_read_only(&view, &self.shared.directory, names, false)
            .and_then(|view| view.verify_checksum_opt(&reads));
        checked.map_err(|error| StoreError::Corruption {
            partition,
            detail: error.into_string(),
        })
    }
}

/// No file of the database is deleted while this lives.
struct KeptFiles<'a>(&'a Db);

impl<'a> KeptFiles<'a> {
    fn new(db: &'a Db) -> Result<Self, rocksdb::Error> {
        db.disable_file_deletions().map(|()| Self(db))
    }
}

impl Drop for KeptFiles<'_> {
    fn drop(&mut self) {
        if let Err(error) = self.0.enable_file_deletions() {
            tracing::warn!(
                error = error.as_ref(),
                "obsolete files are kept until the next start"
            );
        }
    }
}
