//! What a group agrees on: the fold of all batches, at every member.

#![allow(
    clippy::disallowed_types,
    clippy::disallowed_methods,
    reason = "the files of a member"
)]

use super::codec::{MemberId, Put, Take};
use super::raft::{Applied, Batch, LogId, SnapshotMeta, StorageError, StoredMembership, Types};
use crate::state::{ClusterId, Durable};
use crate::store::StoreError;
use crate::store::files::read::{corrupt, read_all, read_header};
use crate::store::files::{at, numbers, sync_dir, write_file};
use crate::store::format::{
    FORMAT, FileHeader, FileKind, HEADER_BYTES, change, decode_record, seal_record,
};
use openraft::storage::RaftStateMachine;
use openraft::{
    AnyError, Entry, EntryPayload, OptionalSend, RaftSnapshotBuilder, Snapshot, StorageIOError,
};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::watch;

/// The state machine, for all who look at it.
#[derive(Clone, Debug)]
pub(super) struct Machine {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    dir: PathBuf,
    cluster: ClusterId,
    held: Mutex<Held>,
    /// Held while a snapshot is written or replaced.
    writing: Mutex<()>,
    /// What of it is on disk: the log lets go of nothing else.
    stored: watch::Sender<Stored>,
}

/// How far the snapshot on disk goes.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Stored {
    /// The last entry in it; 0 without one.
    pub(super) index: u64,
    /// One could not be written: there will be no other.
    pub(super) has_failed: bool,
}

#[derive(Clone, Debug, Default)]
struct Held {
    content: Content,
    last_applied: Option<LogId>,
    membership: StoredMembership,
    /// Of the snapshot on disk.
    snapshot: Option<SnapshotMeta>,
}

/// What is agreed on.
#[derive(Clone, Debug, Default)]
pub(super) struct Content {
    /// Number of the last batch; 0: there was none, and there is no cluster yet.
    pub(super) number: u64,
    /// The highest number that any member ever had: none is given again.
    pub(super) highest_member: MemberId,
    pub(super) durable: Option<Arc<Durable>>,
}

impl Machine {
    /// Reads the newest snapshot in `dir`, if there is one.
    ///
    /// # Errors
    /// It cannot be read, with its place.
    pub(super) fn open(dir: &Path, cluster: ClusterId) -> Result<Self, StoreError> {
        let newest = numbers(dir, FileKind::GroupSnapshot)?.last().copied();
        let held = match newest {
            Some(index) => read_snapshot(&path_of(dir, index), cluster, index)?,
            None => Held::default(),
        };
        Ok(Self {
            shared: Arc::new(Shared {
                dir: dir.to_owned(),
                cluster,
                stored: watch::Sender::new(Stored {
                    index: held.last_applied.map_or(0, |last| last.index),
                    has_failed: false,
                }),
                held: Mutex::new(held),
                writing: Mutex::new(()),
            }),
        })
    }

    /// What is agreed on, as far as this member has heard.
    pub(super) fn content(&self) -> Content {
        self.shared.held().content.clone()
    }

    /// How far the snapshot on disk goes, now and later.
    pub(super) fn stored(&self) -> watch::Receiver<Stored> {
        self.shared.stored.subscribe()
    }

    /// The last entry in it.
    pub(super) fn last_applied(&self) -> Option<LogId> {
        self.shared.held().last_applied
    }
}

impl Shared {
    fn held(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes `held` as the snapshot, and lets go of older ones.
    fn write(&self, held: &Held) -> Result<(), StoreError> {
        let index = held.last_applied.map_or(0, |last| last.index);
        let written = self.write_file(held, index);
        self.stored.send_modify(|stored| match written {
            Ok(()) => stored.index = stored.index.max(index),
            Err(_) => stored.has_failed = true,
        });
        written
    }

    fn write_file(&self, held: &Held, index: u64) -> Result<(), StoreError> {
        let path = path_of(&self.dir, index);
        let header = FileHeader {
            format: FORMAT,
            kind: FileKind::GroupSnapshot,
            cluster: self.cluster,
            sequence: index,
        };
        let record = seal_record(self.cluster, index, |out| {
            held.snapshot.put(out);
            out.extend(held.content.to_bytes());
        });
        let record = record.ok_or_else(|| StoreError::Full { path: path.clone() })?;
        let unfinished = path.with_extension("tmp");
        let written = write_file(&unfinished, &[&header.encode(), &record]);
        written.inspect_err(|_| _ = fs::remove_file(&unfinished))?;
        fs::rename(&unfinished, &path).map_err(at(&path))?;
        sync_dir(&self.dir)?;
        for older in numbers(&self.dir, FileKind::GroupSnapshot)? {
            if older < index {
                let older = path_of(&self.dir, older);
                fs::remove_file(&older).map_err(at(&older))?;
            }
        }
        Ok(())
    }
}

impl Content {
    /// Adds the batches among `entries`, as far as they follow.
    pub(super) fn replay(&mut self, entries: Vec<Entry<Types>>) -> Result<(), StoreError> {
        for entry in entries {
            if let EntryPayload::Normal(batch) = &entry.payload {
                let applied = self.apply(batch);
                applied.map_err(|fault| {
                    StoreError::Group(format!("entry {}: {fault}", entry.log_id))
                })?;
            }
        }
        Ok(())
    }

    /// Adds a batch.
    fn apply(&mut self, batch: &Batch) -> Result<Applied, String> {
        if batch.follows != self.number {
            return Ok(Applied::Refused { last: self.number });
        }
        let changes =
            change::decode_batch(&batch.changes).ok_or("it holds something that is no change")?;
        match &mut self.durable {
            Some(durable) => {
                let durable = Arc::make_mut(durable);
                let applied = changes.iter().try_for_each(|change| durable.apply(change));
                applied.map_err(|error| error.to_string())?;
            }
            None => {
                let durable = Durable::replay(&changes).map_err(|error| error.to_string())?;
                self.durable = Some(Arc::new(durable));
            }
        }
        self.number += 1;
        Ok(Applied::Done {
            number: self.number,
        })
    }
}

impl Put for Content {
    fn put(&self, out: &mut Vec<u8>) {
        self.number.put(out);
        self.highest_member.put(out);
        if let Some(durable) = &self.durable {
            change::encode_batch(&durable.snapshot(), out);
        }
    }
}

impl Take for Content {
    fn read(input: &mut &[u8]) -> Option<Self> {
        let number = u64::read(input)?;
        let highest_member = u64::read(input)?;
        let changes = std::mem::take(input);
        let durable = if changes.is_empty() {
            None
        } else {
            Some(Arc::new(
                Durable::replay(&change::decode_batch(changes)?).ok()?,
            ))
        };
        Some(Self {
            number,
            highest_member,
            durable,
        })
    }
}

fn path_of(dir: &Path, index: u64) -> PathBuf {
    dir.join(format!("group-snapshot-{index:016x}"))
}

fn read_snapshot(path: &Path, cluster: ClusterId, index: u64) -> Result<Held, StoreError> {
    let bytes = read_all(path)?;
    let header = read_header(path, &bytes, FileKind::GroupSnapshot, index)?;
    if header.cluster != cluster {
        return Err(StoreError::ForeignCluster {
            path: path.to_owned(),
            found: header.cluster,
            expected: cluster,
        });
    }
    let record = decode_record(cluster, &bytes[HEADER_BYTES..])
        .filter(|it| it.sequence == index && HEADER_BYTES + it.total_bytes() == bytes.len())
        .ok_or_else(|| corrupt(path, HEADER_BYTES, "checksum mismatch"))?;
    let no_snapshot = || corrupt(path, HEADER_BYTES, "it holds something that is no snapshot");
    let mut payload = record.payload;
    let meta = Option::<SnapshotMeta>::read(&mut payload).flatten();
    let meta = meta.ok_or_else(no_snapshot)?;
    let content = Content::from_bytes(payload).ok_or_else(no_snapshot)?;
    Ok(Held::of(meta, content))
}

impl Held {
    fn of(meta: SnapshotMeta, content: Content) -> Self {
        Self {
            content,
            last_applied: meta.last_log_id,
            membership: meta.last_membership.clone(),
            snapshot: Some(meta),
        }
    }
}

impl RaftSnapshotBuilder<Types> for Machine {
    async fn build_snapshot(&mut self) -> Result<Snapshot<Types>, StorageError> {
        let _one_at_a_time = self
            .shared
            .writing
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let mut held = self.shared.held().clone();
        let meta = SnapshotMeta {
            last_log_id: held.last_applied,
            last_membership: held.membership.clone(),
            snapshot_id: held
                .last_applied
                .map_or_else(|| "0".to_owned(), |it| it.to_string()),
        };
        held.snapshot = Some(meta.clone());
        let written = self.shared.write(&held);
        written.map_err(|error| StorageIOError::write_snapshot(None, AnyError::new(&error)))?;
        self.shared.held().snapshot = Some(meta.clone());
        Ok(Snapshot {
            meta,
            snapshot: Box::new(held.content.to_bytes()),
        })
    }
}

impl RaftStateMachine<Types> for Machine {
    type SnapshotBuilder = Self;

    async fn applied_state(&mut self) -> Result<(Option<LogId>, StoredMembership), StorageError> {
        let held = self.shared.held();
        Ok((held.last_applied, held.membership.clone()))
    }

    async fn apply<I>(&mut self, entries: I) -> Result<Vec<Applied>, StorageError>
    where
        I: IntoIterator<Item = Entry<Types>> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        let mut held = self.shared.held();
        let mut outcomes = Vec::new();
        for entry in entries {
            let outcome = match entry.payload {
                EntryPayload::Blank => Applied::Nothing,
                EntryPayload::Membership(membership) => {
                    let highest = membership.nodes().map(|(id, _)| *id).max();
                    held.content.highest_member =
                        held.content.highest_member.max(highest.unwrap_or(0));
                    held.membership = StoredMembership::new(Some(entry.log_id), membership);
                    Applied::Nothing
                }
                EntryPayload::Normal(batch) => held.content.apply(&batch).map_err(|fault| {
                    let fault = format!("entry {}: {fault}", entry.log_id);
                    StorageIOError::apply(entry.log_id, AnyError::error(fault))
                })?,
            };
            held.last_applied = Some(entry.log_id);
            outcomes.push(outcome);
        }
        Ok(outcomes)
    }

    async fn get_snapshot_builder(&mut self) -> Self {
        self.clone()
    }

    async fn begin_receiving_snapshot(&mut self) -> Result<Box<Vec<u8>>, StorageError> {
        Ok(Box::default())
    }

    async fn install_snapshot(
        &mut self,
        meta: &SnapshotMeta,
        snapshot: Box<Vec<u8>>,
    ) -> Result<(), StorageError> {
        let fault = |fault: AnyError| StorageIOError::write_snapshot(Some(meta.signature()), fault);
        let content = Content::from_bytes(&snapshot);
        let content =
            content.ok_or_else(|| fault(AnyError::error("the leader has sent no snapshot")))?;
        let held = Held::of(meta.clone(), content);
        let _one_at_a_time = self
            .shared
            .writing
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let written = self.shared.write(&held);
        written.map_err(|error| fault(AnyError::new(&error)))?;
        *self.shared.held() = held;
        Ok(())
    }

    async fn get_current_snapshot(&mut self) -> Result<Option<Snapshot<Types>>, StorageError> {
        let _not_replaced = self
            .shared
            .writing
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let Some(meta) = self.shared.held().snapshot.clone() else {
            return Ok(None);
        };
        let index = meta.last_log_id.map_or(0, |last| last.index);
        let read = read_snapshot(
            &path_of(&self.shared.dir, index),
            self.shared.cluster,
            index,
        );
        let read = read.map_err(|error| {
            StorageIOError::read_snapshot(Some(meta.signature()), AnyError::new(&error))
        })?;
        Ok(Some(Snapshot {
            meta,
            snapshot: Box::new(read.content.to_bytes()),
        }))
    }
}
