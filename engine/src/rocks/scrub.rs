//! Reading every block of a replica's files from the disk and checking it.

use super::StoreError;
use super::options;
use super::replica::Db;
use super::store::RocksStore;
use pegasus_replication::ids::PartitionId;
use rocksdb::{DEFAULT_COLUMN_FAMILY_NAME, Options};

impl RocksStore {
    /// Checks all blocks of all files of one replica against their checksums. Takes as long as reading them.
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
        let names = [
            DEFAULT_COLUMN_FAMILY_NAME.to_owned(),
            replica.name.to_string(),
        ];
        let checked = Db::open_cf_for_read_only(&view, &self.shared.directory, names, false)
            .and_then(|view| view.verify_checksum());
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
