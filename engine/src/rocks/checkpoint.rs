//! Handing a whole replica on: export into a directory of hard links, import from one.
//!
//! Besides the table files the directory holds `EXPORT`, which says what they are. Layout: `docs/formats.md`,
//! "Export".

use super::StoreError;
use super::replica::{Replica, ReplicaName};
use super::store::RocksStore;
use crate::marker::Marker;
use bytes::{Buf, BufMut};
use pegasus_replication::ids::{PartitionId, ReplicaIncarnation};
use rocksdb::checkpoint::Checkpoint;
use rocksdb::{ExportImportFilesMetaData, ImportColumnFamilyOptions, LiveFile};
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::Path;

/// Name of the description beside the exported files.
pub const EXPORT_FILE: &str = "EXPORT";

/// The version this code writes.
const EXPORT_VERSION: u8 = 1;

/// Files in one export.
const EXPORT_FILES_MAX: usize = 100_000;

/// Longest description that is read.
const EXPORT_BYTES_MAX: u64 = 64 << 20;

/// Longest file or comparator name.
const NAME_BYTES_MAX: usize = 255;

/// One file of an export, inside its directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExportFile {
    pub name: String,
    pub bytes: u64,
    level: i32,
    smallest_sequence: u64,
    largest_sequence: u64,
}

/// A replica in a directory of its own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Export {
    /// What the files hold at least; replay goes on after its decree.
    pub marker: Marker,
    pub files: Vec<ExportFile>,
    pub(super) comparator: String,
}

impl RocksStore {
    /// Flushes a replica and links its files into `directory`, which must not exist yet and lie on the same file
    /// system. Call [`Engine::begin_flush`](crate::Engine::begin_flush) on the core first.
    ///
    /// # Errors
    /// [`StoreError`]; the directory is gone then.
    pub fn export(&self, partition: PartitionId, directory: &Path) -> Result<Export, StoreError> {
        let exported = self.export_files(partition, directory);
        if exported.is_err() {
            let _ = fs::remove_dir_all(directory);
        }
        exported
    }

    fn export_files(&self, partition: PartitionId, directory: &Path) -> Result<Export, StoreError> {
        let (marker, files) = self.link(partition, directory)?;
        let export = Export {
            marker,
            comparator: files.get_db_comparator_name(),
            files: files.get_files().iter().map(ExportFile::of).collect(),
        };
        export
            .write(directory)
            .map_err(|error| StoreError::io(partition, directory, &error))?;
        Ok(export)
    }

    /// Flushes a replica and links its files into `directory`; the marker is not newer than they are.
    pub(super) fn link(
        &self,
        partition: PartitionId,
        directory: &Path,
    ) -> Result<(Marker, ExportImportFilesMetaData), StoreError> {
        let replica = self.replica(partition)?;
        // Before the files are linked: a flush of somebody else's right afterwards would make a marker durable that says
        // more than they hold.
        self.flush_memtables(&replica)?;
        let marker = self.durable(partition)?;
        let failed = |error| StoreError::from_rocksdb(partition, error);
        let files = Checkpoint::new(&self.shared.db)
            .and_then(|checkpoint| {
                checkpoint.export_column_family(replica.column_family(), directory)
            })
            .map_err(failed)?;
        Ok((marker, files))
    }

    /// Makes replica (`partition`, `incarnation`) of the files in `directory`, which are moved out of it, and returns
    /// its marker, durable.
    ///
    /// # Errors
    /// [`StoreError`]: a replica of this partition exists, or the directory is not a complete export.
    pub fn import(
        &self,
        partition: PartitionId,
        incarnation: ReplicaIncarnation,
        directory: &Path,
    ) -> Result<Marker, StoreError> {
        let export = Export::read(directory)
            .map_err(|error| StoreError::io(partition, directory, &error))?;
        let name = ReplicaName {
            partition,
            incarnation,
        };
        let marker = Marker {
            incarnation,
            ..export.marker.clone()
        };
        let _admin = self.admin();
        if let Some(replica) = self.find(partition) {
            let here = replica.name.incarnation;
            return Err(StoreError::OtherIncarnation {
                partition,
                here,
                wanted: incarnation,
            });
        }
        self.import_files(name, &export, directory)?;
        self.finish_import(name, &marker).inspect_err(|_| {
            // Without its own marker the replica would be found damaged at the next start.
            let _ = self.shared.db.drop_cf(&name.to_string());
        })?;
        Ok(marker)
    }

    /// Nobody sees the replica before its marker is durable.
    fn finish_import(&self, name: ReplicaName, marker: &Marker) -> Result<(), StoreError> {
        let partition = name.partition;
        let missing = StoreError::NoReplica { partition };
        let replica = Replica::open(&self.shared.db, name, marker.clone()).ok_or(missing)?;
        self.write_marker(&replica, marker)?;
        self.register(replica);
        Ok(())
    }

    fn import_files(
        &self,
        name: ReplicaName,
        export: &Export,
        directory: &Path,
    ) -> Result<(), StoreError> {
        let failed = |error| StoreError::from_rocksdb(name.partition, error);
        if export.files.is_empty() {
            return self
                .shared
                .db
                .create_cf(name.to_string(), &self.shared.column_family)
                .map_err(failed);
        }
        let mut files = ExportImportFilesMetaData::default();
        files.set_db_comparator_name(&export.comparator);
        let live: Vec<LiveFile> = export
            .files
            .iter()
            .map(|file| file.live(directory))
            .collect();
        files.set_files(&live).map_err(failed)?;
        let mut how = ImportColumnFamilyOptions::default();
        how.set_move_files(true);
        self.shared
            .db
            .create_column_family_with_import(
                &self.shared.column_family,
                name.to_string(),
                &how,
                &files,
            )
            .map_err(failed)
    }
}

impl Export {
    /// The description in `directory`.
    ///
    /// # Errors
    /// It is missing, damaged, of a later version, or names something that is not a plain file name.
    pub fn read(directory: &Path) -> io::Result<Self> {
        let path = directory.join(EXPORT_FILE);
        if fs::metadata(&path)?.len() > EXPORT_BYTES_MAX {
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                "export description is too long",
            ));
        }
        Self::decode(&fs::read(path)?)
            .map_err(|what| io::Error::new(io::ErrorKind::InvalidData, what))
    }

    pub(super) fn write(&self, directory: &Path) -> io::Result<()> {
        let mut file = File::create(directory.join(EXPORT_FILE))?;
        file.write_all(&self.encode())?;
        file.sync_all()?;
        super::directory::sync(directory)
    }

    fn encode(&self) -> Vec<u8> {
        let mut out = vec![EXPORT_VERSION];
        put_block(&mut out, &self.marker.encode());
        put_block(&mut out, self.comparator.as_bytes());
        out.put_u32_le(
            u32::try_from(self.files.len()).expect("an export has fewer than 2^32 files"),
        );
        for file in &self.files {
            put_block(&mut out, file.name.as_bytes());
            out.put_u64_le(file.bytes);
            out.put_i32_le(file.level);
            out.put_u64_le(file.smallest_sequence);
            out.put_u64_le(file.largest_sequence);
        }
        let checksum = crc32c::crc32c(&out);
        out.put_u32_le(checksum);
        out
    }

    /// Survives any bytes.
    fn decode(encoded: &[u8]) -> Result<Self, &'static str> {
        let (body, mut checksum) = encoded
            .split_last_chunk::<4>()
            .map(|(body, sum)| (body, &sum[..]))
            .ok_or("too short")?;
        if checksum.get_u32_le() != crc32c::crc32c(body) {
            return Err("export checksum mismatch");
        }
        let (&version, mut rest) = body.split_first().ok_or("too short")?;
        if version != EXPORT_VERSION {
            return Err("export has an unknown format version");
        }
        let marker = take_block(&mut rest)
            .and_then(|block| Marker::decode(block).ok())
            .ok_or("bad marker")?;
        let comparator = take_block(&mut rest)
            .and_then(name)
            .ok_or("bad comparator")?;
        let count = rest.try_get_u32_le().map_err(|_| "too short")?;
        if usize::try_from(count).map_or(true, |count| count > EXPORT_FILES_MAX) {
            return Err("too many files");
        }
        let mut files = Vec::new();
        for _ in 0..count {
            files.push(ExportFile::take(&mut rest).ok_or("bad file")?);
        }
        if rest.is_empty() {
            Ok(Self {
                marker,
                files,
                comparator,
            })
        } else {
            Err("bytes after the last file")
        }
    }
}

impl ExportFile {
    pub(super) fn of(file: &LiveFile) -> Self {
        Self {
            name: file.name.trim_start_matches('/').to_owned(),
            bytes: file.size as u64,
            level: file.level,
            smallest_sequence: file.smallest_seqno,
            largest_sequence: file.largest_seqno,
        }
    }

    fn take(rest: &mut &[u8]) -> Option<Self> {
        let name = take_block(rest)
            .and_then(name)
            .filter(|name| is_table_file(name))?;
        Some(Self {
            name,
            bytes: rest.try_get_u64_le().ok()?,
            level: rest
                .try_get_i32_le()
                .ok()
                .filter(|level| (0..64).contains(level))?,
            smallest_sequence: rest.try_get_u64_le().ok()?,
            largest_sequence: rest.try_get_u64_le().ok()?,
        })
    }

    fn live(&self, directory: &Path) -> LiveFile {
        LiveFile {
            column_family_name: String::new(),
            name: format!("/{}", self.name),
            directory: directory.to_string_lossy().into_owned(),
            size: usize::try_from(self.bytes).unwrap_or(usize::MAX),
            level: self.level,
            start_key: None,
            end_key: None,
            smallest_seqno: self.smallest_sequence,
            largest_seqno: self.largest_sequence,
            num_entries: 0,
            num_deletions: 0,
        }
    }
}

/// `NNNNNN.sst`: nothing that could lead out of the directory.
fn is_table_file(name: &str) -> bool {
    name.strip_suffix(".sst").is_some_and(|number| {
        !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit())
    })
}

fn name(bytes: &[u8]) -> Option<String> {
    String::from_utf8(bytes.to_vec())
        .ok()
        .filter(|name| name.len() <= NAME_BYTES_MAX && !name.contains('\0'))
}

fn put_block(out: &mut Vec<u8>, bytes: &[u8]) {
    out.put_u32_le(u32::try_from(bytes.len()).expect("markers and names are short"));
    out.put_slice(bytes);
}

fn take_block<'a>(rest: &mut &'a [u8]) -> Option<&'a [u8]> {
    let length = usize::try_from(rest.try_get_u32_le().ok()?).ok()?;
    let (block, after) = rest.split_at_checked(length)?;
    *rest = after;
    Some(block)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn export() -> Export {
        let file = |number: u64| ExportFile {
            name: format!("{number:06}.sst"),
            bytes: number,
            level: 6,
            smallest_sequence: 1,
            largest_sequence: 2,
        };
        let marker = Marker::new(ReplicaIncarnation(3));
        Export {
            marker,
            files: vec![file(1), file(2)],
            comparator: "leveldb.BytewiseComparator".to_owned(),
        }
    }

    #[test]
    fn descriptions_are_read_back() {
        assert_eq!(Export::decode(&export().encode()).unwrap(), export());
    }

    #[test]
    fn names_that_lead_elsewhere_are_refused() {
        for name in ["../1.sst", "1.sst/", "/1.sst", ".sst", "1.SST", "CURRENT"] {
            let mut export = export();
            name.clone_into(&mut export.files[0].name);
            assert_eq!(Export::decode(&export.encode()), Err("bad file"), "{name}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_decoded_or_refused(mut bytes in prop::collection::vec(any::<u8>(), 0..120), position in 0_usize..200) {
            let mut encoded = export().encode();
            let length = encoded.len();
            encoded[position % length] ^= 1;
            prop_assert!(Export::decode(&encoded).is_err());
            bytes.insert(0, EXPORT_VERSION);
            let checksum = crc32c::crc32c(&bytes);
            bytes.put_u32_le(checksum);
            let _ = Export::decode(&bytes);
        }
    }
}
