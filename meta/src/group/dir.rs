//! The directory of a member: who it is.
//!
//! ```text
//! DIR/LOCK                      held while a process uses the directory
//! DIR/group-member              cluster, number, incarnation; of the first member also what the group begins with
//! DIR/group-log-NUMBER          votes and entries, from record NUMBER on (16 hexadecimal digits)
//! DIR/group-snapshot-INDEX      everything up to the entry INDEX
//! ```

#![allow(
    clippy::disallowed_types,
    clippy::disallowed_methods,
    reason = "the files of a member"
)]

use super::codec::{MemberId, Put as _, Take as _};
use crate::state::{ClusterId, Durable};
use crate::store::StoreError;
use crate::store::files::read::{corrupt, read_all, read_header};
use crate::store::files::{FileStore, at, lock, sync_dir, write_file};
use crate::store::format::{
    FORMAT, FileHeader, FileKind, HEADER_BYTES, change, decode_record, seal_record,
};
use std::fs::{self, File};
use std::path::{Path, PathBuf};

const FILE_NAME: &str = "group-member";

/// Who the member of a directory is, for good.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    pub cluster: ClusterId,
    pub member: MemberId,
    /// Drawn when the directory was made.
    pub incarnation: u64,
    /// The first batch of the group: of the member that founds it.
    pub(super) seed: Option<Vec<u8>>,
}

/// Whether `dir` is that of a member of a group.
#[must_use]
pub fn is_member(dir: &Path) -> bool {
    path_of(dir).exists()
}

/// Makes the directory of the first member of a group that begins with `durable`.
///
/// # Errors
/// [`StoreError::Exists`] if there is a store already; disk errors.
pub fn found(dir: &Path, member: MemberId, durable: &Durable) -> Result<Identity, StoreError> {
    let mut seed = Vec::new();
    change::encode_batch(&durable.snapshot(), &mut seed);
    let length = seed.len();
    if length > super::BATCH_BYTES_MAX {
        let max = super::BATCH_BYTES_MAX;
        return Err(StoreError::Group(format!(
            "a group begins with at most {max} bytes, this would be {length}"
        )));
    }
    create(dir, durable.cluster().id, member, Some(seed))
}

/// Makes the directory of a member that the group of `cluster` is going to add. It has no say until then.
///
/// # Errors
/// As [`found`].
pub fn prepare(dir: &Path, member: MemberId, cluster: ClusterId) -> Result<Identity, StoreError> {
    create(dir, cluster, member, None)
}

fn create(
    dir: &Path,
    cluster: ClusterId,
    member: MemberId,
    seed: Option<Vec<u8>>,
) -> Result<Identity, StoreError> {
    if member == 0 {
        return Err(StoreError::Group("members are numbered from 1".to_owned()));
    }
    fs::create_dir_all(dir).map_err(at(dir))?;
    let _lock = lock(dir)?;
    if is_member(dir) || !FileStore::is_absent(dir)? {
        return Err(StoreError::Exists {
            dir: dir.to_owned(),
        });
    }
    let identity = Identity {
        cluster,
        member,
        incarnation: rand::random::<u64>().max(1),
        seed,
    };
    super::log::create(dir, cluster)?;
    // Last: a directory without it is an init that was cut short, and may be made again.
    identity.write(&path_of(dir))?;
    sync_dir(dir)?;
    if let Some(parent) = dir.parent().filter(|parent| !parent.as_os_str().is_empty()) {
        sync_dir(parent)?;
    }
    Ok(identity)
}

/// Opens the directory; it is ours as long as the file is held.
///
/// # Errors
/// [`StoreError::Locked`]; the file is not what it should be.
pub(super) fn open(dir: &Path) -> Result<(Identity, File), StoreError> {
    if !is_member(dir) {
        return Err(StoreError::Empty {
            dir: dir.to_owned(),
        });
    }
    let lock = lock(dir)?;
    Ok((Identity::read(&path_of(dir))?, lock))
}

fn path_of(dir: &Path) -> PathBuf {
    dir.join(FILE_NAME)
}

impl Identity {
    fn write(&self, path: &Path) -> Result<(), StoreError> {
        let header = FileHeader {
            format: FORMAT,
            kind: FileKind::GroupMember,
            cluster: self.cluster,
            sequence: self.member,
        };
        let record = seal_record(self.cluster, self.member, |out| {
            self.incarnation.put(out);
            self.seed.is_some().put(out);
            out.extend_from_slice(self.seed.as_deref().unwrap_or_default());
        });
        let record = record.ok_or_else(|| StoreError::Full {
            path: path.to_owned(),
        })?;
        let unfinished = path.with_extension("tmp");
        write_file(&unfinished, &[&header.encode(), &record])?;
        fs::rename(&unfinished, path).map_err(at(path))
    }

    fn read(path: &Path) -> Result<Self, StoreError> {
        let bytes = read_all(path)?;
        let number = FileHeader::decode(&bytes).map_or(0, |header| header.sequence);
        let header = read_header(path, &bytes, FileKind::GroupMember, number)?;
        let damaged = || corrupt(path, HEADER_BYTES, "checksum mismatch");
        let record = decode_record(header.cluster, &bytes[HEADER_BYTES..]).ok_or_else(damaged)?;
        let mut payload = record.payload;
        let incarnation = u64::read(&mut payload).ok_or_else(damaged)?;
        let founds = bool::read(&mut payload).ok_or_else(damaged)?;
        Ok(Self {
            cluster: header.cluster,
            member: header.sequence,
            incarnation,
            seed: founds.then(|| payload.to_vec()),
        })
    }
}
