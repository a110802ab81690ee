//! A replica as a directory that others can read: a whole RocksDB as Apache Pegasus' checkpoints are, and back.
//!
//! ```text
//!   replica --flush, link--> table files --into the list of a fresh database--> CURRENT MANIFEST-* OPTIONS-* *.sst
//!   such a directory --open, link--> an export --RocksStore::import--> replica
//! ```
//!
//! Rows are in the column family `default`, and `pegasus_meta_cf` says of which decree they are. Table files are linked,
//! never rewritten: the file of one backup is, byte for byte and by its name, that of the next one for as long as no
//! compaction has replaced it. Layout: `docs/formats.md`, "Backup".

use super::checkpoint::{Export, ExportFile};
use super::manifest::{self, ListedFile};
use super::replica::Db;
use super::{StoreError, options};
use crate::marker::{MARKER_KEY, Marker};
use crate::plain::PlainKeys;
use crate::rocks::RocksStore;
use pegasus_replication::ids::{Ballot, Decree, PartitionId, ReplicaIncarnation};
use rocksdb::checkpoint::Checkpoint;
use rocksdb::{BlockBasedOptions, ChecksumType, ColumnFamilyDescriptor, LiveFile, Options};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// The column family beside `default` that says what the rows are.
pub const META_COLUMN_FAMILY: &str = "pegasus_meta_cf";

const DATA_VERSION_KEY: &str = "pegasus_data_version";
const DECREE_KEY: &str = "pegasus_last_flushed_decree";
const COMPACTED_KEY: &str = "pegasus_last_manual_compact_finish_time";
/// Of values with a timetag, the only ones that are written.
const DATA_VERSION: &str = "1";

/// What stands in `OPTIONS-*`: those of RocksDB that writes it name settings that older releases refuse.
const READERS_OPTIONS: &str = "\
[Version]
  rocksdb_version=6.6.4
  options_file_version=1.1

[DBOptions]

[CFOptions \"default\"]
  comparator=leveldb.BytewiseComparator

[TableOptions/BlockBasedTable \"default\"]
  format_version=5

[CFOptions \"pegasus_meta_cf\"]
  comparator=leveldb.BytewiseComparator

[TableOptions/BlockBasedTable \"pegasus_meta_cf\"]
  format_version=5
";

/// Added to the numbers of a replica's table files: the database around them has a few of its own, from 1 on.
const NUMBER_OFFSET: u64 = 1_000_000;

/// Whether `name` in a directory made by [`RocksStore::lay_out`] is that of a file of rows: of one core it stands for the same
/// bytes for ever. All other names are given anew each time.
#[must_use]
pub fn is_row_file(name: &str) -> bool {
    number(name).is_some_and(|number| number >= NUMBER_OFFSET)
}

/// Why a directory is not a replica that can be taken over.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DirectoryError {
    #[error("{}: no database of replicas: {detail}", directory.display())]
    Foreign { directory: PathBuf, detail: String },
    #[error("{}: rows of data version {version:?}, this build reads version {DATA_VERSION}", directory.display())]
    DataVersion { directory: PathBuf, version: String },
    #[error("{}: damaged: {detail}", directory.display())]
    Damaged { directory: PathBuf, detail: String },
    #[error("{}: {detail}", directory.display())]
    Io { directory: PathBuf, detail: String },
}

impl RocksStore {
    /// Flushes a replica and lays its files out in `directory`, which must not exist yet and lie on the same file system,
    /// as a database for others to read; returns the decree up to which it surely holds everything. Call
    /// [`Engine::begin_flush`](crate::Engine::begin_flush) on the core first. `compacted_ms`: when somebody last
    /// had the replica compacted, in Unix milliseconds, 0 = never. Takes some 50 ms, and no space but for a few KiB.
    ///
    /// # Errors
    /// [`StoreError`]; the directory is gone then.
    pub fn lay_out(
        &self,
        partition: PartitionId,
        directory: &Path,
        compacted_ms: u64,
    ) -> Result<Decree, StoreError> {
        let mut aside = directory.as_os_str().to_owned();
        aside.push(".links");
        let aside = PathBuf::from(aside);
        let laid_out = self.link(partition, &aside).and_then(|(marker, files)| {
            let io = |error: io::Error| StoreError::io(partition, directory, &error);
            build(
                directory,
                &aside,
                &listed(&files.get_files()).map_err(io)?,
                (marker.decree, compacted_ms),
            )
            .map_err(io)?;
            Ok(marker.decree)
        });
        let _ = fs::remove_dir_all(&aside);
        if laid_out.is_err() {
            let _ = fs::remove_dir_all(directory);
        }
        laid_out
    }
}

/// Makes an export of the directory of a replica, ours or Apache Pegasus', in `into`, which must not exist yet and lie on
/// the same file system, for [`RocksStore::import`]; returns its decree. The directory is opened as a database, which adds
/// files to it and changes its list, but none of its table files.
///
/// What is known of requests and hash keys is not taken over: the rows may be newer than the marker that says it.
///
/// # Errors
/// [`DirectoryError`]; there is no export then.
pub fn export_from(directory: &Path, into: &Path) -> Result<Decree, DirectoryError> {
    let exported = try_export(directory, into);
    if exported.is_err() {
        let _ = fs::remove_dir_all(into);
    }
    exported
}

fn try_export(directory: &Path, into: &Path) -> Result<Decree, DirectoryError> {
    let foreign = |detail: String| DirectoryError::Foreign {
        directory: directory.to_owned(),
        detail,
    };
    let damaged = |error: rocksdb::Error| DirectoryError::Damaged {
        directory: directory.to_owned(),
        detail: error.into_string(),
    };
    let options = quiet_options();
    let families =
        Db::list_cf(&options, directory).map_err(|error| foreign(error.into_string()))?;
    if let Some(name) = families
        .iter()
        .find(|name| ![rocksdb::DEFAULT_COLUMN_FAMILY_NAME, META_COLUMN_FAMILY].contains(&&***name))
    {
        return Err(foreign(format!("it has a column family {name:?}")));
    }
    let families = families
        .iter()
        .map(|name| ColumnFamilyDescriptor::new(name, quiet_options()));
    let db = Db::open_cf_descriptors(&options, directory, families).map_err(damaged)?;
    let rows = db
        .cf_handle(rocksdb::DEFAULT_COLUMN_FAMILY_NAME)
        .ok_or_else(|| foreign("it has no rows".to_owned()))?;
    let decree = decree_of(directory, &db)?;
    let files = Checkpoint::new(&db)
        .and_then(|checkpoint| checkpoint.export_column_family(&rows, into))
        .map_err(damaged)?;
    let export = Export {
        marker: Marker {
            decree,
            ballot: Ballot::NONE,
            plain: PlainKeys::Unknown,
            ..Marker::new(ReplicaIncarnation(0))
        },
        comparator: files.get_db_comparator_name(),
        files: files.get_files().iter().map(ExportFile::of).collect(),
    };
    export.write(into).map_err(|error| DirectoryError::Io {
        directory: into.to_owned(),
        detail: error.to_string(),
    })?;
    Ok(decree)
}

/// By our marker, or else by the other column family.
fn decree_of(directory: &Path, db: &Db) -> Result<Decree, DirectoryError> {
    let damaged = |detail: String| DirectoryError::Damaged {
        directory: directory.to_owned(),
        detail,
    };
    let told = |key: &str| {
        let Some(meta) = db.cf_handle(META_COLUMN_FAMILY) else {
            return Ok(None);
        };
        let value = db
            .get_cf(&meta, key)
            .map_err(|error| damaged(error.into_string()))?;
        Ok(value.map(|value| String::from_utf8_lossy(&value).into_owned()))
    };
    if let Some(version) = told(DATA_VERSION_KEY)?.filter(|version| version != DATA_VERSION) {
        let directory = directory.to_owned();
        return Err(DirectoryError::DataVersion { directory, version });
    }
    let marker = db
        .get(MARKER_KEY)
        .map_err(|error| damaged(error.into_string()))?;
    if let Some(marker) = marker {
        let marker = Marker::decode(&marker).map_err(|error| damaged(error.to_string()))?;
        return Ok(marker.decree);
    }
    let told = told(DECREE_KEY)?.ok_or_else(|| DirectoryError::Foreign {
        directory: directory.to_owned(),
        detail: format!("neither a marker nor {DECREE_KEY} says of which decree it is"),
    })?;
    let decree = told.parse();
    decree
        .map(Decree)
        .map_err(|_| damaged(format!("{DECREE_KEY} is {told:?}, not a number")))
}

/// Files of a replica under their numbers in a backup.
fn listed(files: &[LiveFile]) -> io::Result<Vec<ListedFile>> {
    let listed = |file: &LiveFile| {
        Some(ListedFile {
            number: number(&file.name)? + NUMBER_OFFSET,
            bytes: file.size as u64,
            level: u32::try_from(file.level).ok()?,
            smallest_key: file.start_key.clone().unwrap_or_default(),
            largest_key: file.end_key.clone()?,
            smallest_sequence: file.smallest_seqno,
            largest_sequence: file.largest_seqno,
        })
    };
    let unlisted = |name: &str| io::Error::other(format!("{name}: not a table file with bounds"));
    files
        .iter()
        .map(|file| listed(file).ok_or_else(|| unlisted(&file.name)))
        .collect()
}

fn number(name: &str) -> Option<u64> {
    let name = name.trim_start_matches('/');
    name.strip_suffix(".sst")?.parse().ok()
}

fn table_name(number: u64) -> String {
    format!("{number:06}.sst")
}

/// A database in `directory` with the files in `aside` as its rows.
fn build(
    directory: &Path,
    aside: &Path,
    files: &[ListedFile],
    said: (Decree, u64),
) -> io::Result<()> {
    make_database(directory, said).map_err(|error| io::Error::other(error.into_string()))?;
    for file in files {
        let name = table_name(file.number - NUMBER_OFFSET);
        fs::hard_link(aside.join(name), directory.join(table_name(file.number)))?;
    }
    let manifest = fs::read_to_string(directory.join("CURRENT"))?;
    manifest::append(&directory.join(manifest.trim_end()), files)?;
    check(directory, files).map_err(|error| io::Error::other(error.into_string()))??;
    tidy(directory)
}

/// Both column families, and what is said of the rows.
fn make_database(
    directory: &Path,
    (decree, compacted_ms): (Decree, u64),
) -> Result<(), rocksdb::Error> {
    let mut options = quiet_options();
    options.create_if_missing(true);
    options.create_missing_column_families(true);
    let families = [rocksdb::DEFAULT_COLUMN_FAMILY_NAME, META_COLUMN_FAMILY];
    let families = families.map(|name| ColumnFamilyDescriptor::new(name, quiet_options()));
    let db = Db::open_cf_descriptors(&options, directory, families)?;
    let meta = db
        .cf_handle(META_COLUMN_FAMILY)
        .expect("it was made with it");
    for (key, value) in [
        (DATA_VERSION_KEY, DATA_VERSION.to_owned()),
        (DECREE_KEY, decree.0.to_string()),
        (COMPACTED_KEY, compacted_ms.to_string()),
    ] {
        db.put_cf_opt(&meta, key, value, &options::writes())?;
    }
    db.flush_cf(&meta)
}

/// Opens it as a reader would and looks for all of the files.
fn check(directory: &Path, files: &[ListedFile]) -> Result<io::Result<()>, rocksdb::Error> {
    let families = [rocksdb::DEFAULT_COLUMN_FAMILY_NAME, META_COLUMN_FAMILY];
    let db = Db::open_cf_for_read_only(&quiet_options(), directory, families, false)?;
    let is_row_file =
        |file: &&LiveFile| file.column_family_name == rocksdb::DEFAULT_COLUMN_FAMILY_NAME;
    let found = db.live_files()?.iter().filter(is_row_file).count();
    Ok(if found == files.len() {
        Ok(())
    } else {
        Err(io::Error::other(format!(
            "{found} table files are read back, not {}",
            files.len()
        )))
    })
}

/// Leaves what a reader needs: table files, the list, and options that readers of older releases understand, too.
fn tidy(directory: &Path) -> io::Result<()> {
    let mut options = Vec::new();
    for entry in fs::read_dir(directory)? {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if name.starts_with("OPTIONS-") && !name.contains('.') {
            options.push(path);
        } else if !(name == "CURRENT" || name.starts_with("MANIFEST-") || name.ends_with(".sst")) {
            fs::remove_file(&path)?;
        }
    }
    options.sort();
    if let Some(newest) = options.pop() {
        fs::write(newest, READERS_OPTIONS)?;
    }
    options.iter().try_for_each(fs::remove_file)
}

/// No compactions behind the reader's back, and tables as older releases read them.
fn quiet_options() -> Options {
    let mut options = Options::default();
    options.set_disable_auto_compactions(true);
    options.set_avoid_flush_during_shutdown(true);
    options.set_info_logger(options::quiet_logger());
    let mut table = BlockBasedOptions::default();
    table.set_format_version(5);
    table.set_checksum_type(ChecksumType::CRC32c);
    options.set_block_based_table_factory(&table);
    options
}
