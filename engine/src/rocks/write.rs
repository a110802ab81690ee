//! Mutations of a turn become one write of the database, whatever replicas they are of.
//!
//! A write costs RocksDB about as much as the row that it puts into a memtable: a lock, a place in the queue of writers, a look
//! at all budgets, a sequence number. So mutations are staged, each checked and put into the same write batch, written once, and
//! only then noted as applied. A batch becomes visible whole, and goes into one memtable of each column family whole: what holds
//! for one mutation and its marker holds for several. A marker is written with the *first* mutation of its replica in a write,
//! so that it never has to speak of what is only staged.
//!
//! A write that fails has applied nothing, of nobody. Then its first mutation is tried alone: the error that is told is that of
//! its own replica, and the others are not held back by it.

use super::replica::{Db, Replica};
use super::{OpenReplica, RocksEngine, adopt, to_apply_error};
use crate::marker::MARKER_KEY;
use crate::op::{BatchRef, OpRef};
use crate::progress::Step;
use crate::row_cache::{ReplicaNumber, RowCache};
use crate::value::{self, Header, ValueRef};
use crate::{ApplyAllError, ApplyError, Mutation};
use pegasus_replication::ids::PartitionId;
use rocksdb::{ErrorKind, WriteBatch, WriteOptions};
use std::io::IoSlice;

/// Bytes of one write from which on what follows goes into the next one: it has to fit in a memtable without passing its limit
/// by much, and to be over before anybody else of the core waits for long.
const GROUP_BYTES_MAX: usize = 128 << 10;
/// Values up to this many bytes are put together with their header in a buffer of ours, which takes less time than having the
/// parts handed over.
const COPIED_BYTES_MAX: usize = 1024;

/// What goes into one write. Kept for its buffers.
pub(super) struct Group {
    batch: WriteBatch,
    staged: Vec<Staged>,
    value: Vec<u8>,
    /// A row could not be put into the batch, which must not be written then.
    failure: Option<rocksdb::Error>,
}

struct Staged {
    partition: PartitionId,
    step: Step,
    has_marker: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Staging {
    Taken,
    /// It has to be the first of its replica in a write.
    NextWrite,
}

impl Default for Group {
    fn default() -> Self {
        Self {
            batch: WriteBatch::new(),
            staged: Vec::new(),
            value: Vec::new(),
            failure: None,
        }
    }
}

impl RocksEngine {
    pub(super) fn apply_mutations(
        &mut self,
        mutations: &[Mutation<'_>],
    ) -> Result<(), ApplyAllError> {
        let mut applied = 0;
        while let Some(rest @ [_, ..]) = mutations.get(applied..) {
            let written = self.write_front(rest).or_else(|error| match rest {
                [_] => Err(error),
                rest => self.write_front(&rest[..1]),
            });
            applied += written.map_err(|error| ApplyAllError { applied, error })?;
        }
        Ok(())
    }

    /// Applies as many of `mutations`, from the first on, as go into one write, and says how many.
    fn write_front(&mut self, mutations: &[Mutation<'_>]) -> Result<usize, ApplyError> {
        self.group.clear();
        let mut taken = 0;
        for mutation in mutations {
            match self.stage(mutation) {
                Ok(Staging::Taken) => taken += 1,
                // Met again as the first of the next write.
                Ok(Staging::NextWrite) => break,
                Err(_) if taken > 0 => break,
                Err(error) => return Err(error),
            }
            if self.group.is_full() {
                break;
            }
        }
        match self.group.write(&self.store.shared.db, &self.writes) {
            Ok(()) => self.note_written(),
            Err(error) => {
                self.unstage(&mutations[..taken]);
                let partition = mutations[0].partition;
                return Err(write_error(partition, error));
            }
        }
        Ok(taken)
    }

    /// Puts a mutation into the group, or nothing of it.
    fn stage(&mut self, mutation: &Mutation<'_>) -> Result<Staging, ApplyError> {
        let &Mutation {
            partition, decree, ..
        } = mutation;
        let OpenReplica {
            handle,
            number,
            progress,
        } = adopt(&mut self.replicas, &self.rows, &self.store, partition)?;
        handle.check().map_err(to_apply_error)?;
        if !progress.accepts(partition, decree)? {
            return Ok(Staging::Taken);
        }
        let batch = parse(mutation)?;
        let payload_bytes = mutation.payload.len();
        let step = Step::new(
            decree,
            mutation.ballot,
            mutation.request_id,
            payload_bytes,
            batch,
        );
        if progress.has_staged() && progress.is_marker_due(&step) {
            return Ok(Staging::NextWrite);
        }
        progress.foresee(batch);
        let marker = progress.marker_due(&step);
        let timetag = value::timetag(mutation.timestamp_us, self.timetag_cluster);
        self.group.put(handle, batch, timetag);
        if let Some(marker) = &marker {
            self.group.put_marker(handle, marker);
        }
        progress.stage();
        // Nobody reads before the write is made, or has failed and is taken back.
        renew_rows(self.rows.get_mut(), *number, batch, timetag);
        self.group.staged.push(Staged {
            partition,
            step,
            has_marker: marker.is_some(),
        });
        Ok(Staging::Taken)
    }

    /// The group is in the database.
    fn note_written(&mut self) {
        for staged in &self.group.staged {
            if let Some(open) = self.replicas.get_mut(&staged.partition) {
                open.progress.unstage();
            }
        }
        for staged in self.group.staged.drain(..) {
            let Some(open) = self.replicas.get_mut(&staged.partition) else {
                continue;
            };
            open.progress.advance(&staged.step);
            if staged.has_marker {
                open.progress.marked();
            }
        }
    }

    /// The write of `mutations` has failed: perhaps, whatever the error says, some of it can be read.
    fn unstage(&mut self, mutations: &[Mutation<'_>]) {
        for mutation in mutations {
            let Some(open) = self.replicas.get_mut(&mutation.partition) else {
                continue;
            };
            open.progress.unstage();
            if let Ok(batch) = parse(mutation) {
                forget_rows(self.rows.get_mut(), open.number, batch);
            }
        }
        self.group.clear();
    }

    /// Writes the marker of what is applied, if none has been written since.
    pub(super) fn write_marker(&mut self, partition: PartitionId) -> Result<(), ApplyError> {
        self.group.clear();
        let open = adopt(&mut self.replicas, &self.rows, &self.store, partition)?;
        let Some(marker) = open.progress.marker_behind() else {
            return Ok(());
        };
        self.group.put_marker(&open.handle, &marker);
        self.group
            .write(&self.store.shared.db, &self.writes)
            .map_err(|error| write_error(partition, error))?;
        open.progress.marked();
        Ok(())
    }
}

impl Group {
    fn clear(&mut self) {
        self.batch.clear();
        self.staged.clear();
        self.failure = None;
    }

    fn is_full(&self) -> bool {
        self.batch.size_in_bytes() >= GROUP_BYTES_MAX || self.failure.is_some()
    }

    fn put(&mut self, handle: &Replica, batch: BatchRef<'_>, timetag: u64) {
        for op in batch {
            match op {
                OpRef::Put {
                    key,
                    value,
                    expire_at,
                } => self.put_row(handle, key, &Header::new(expire_at, timetag), value),
                OpRef::Remove { key } => self.batch.delete_cf(handle.column_family(), key),
            }
        }
    }

    fn put_row(&mut self, handle: &Replica, key: &[u8], header: &Header, value: &[u8]) {
        if value.len() > COPIED_BYTES_MAX {
            let parts = [IoSlice::new(header.as_ref()), IoSlice::new(value)];
            let put =
                self.batch
                    .put_cf_vectored(handle.column_family(), &[IoSlice::new(key)], &parts);
            self.failure = self.failure.take().or(put.err());
            return;
        }
        self.value.clear();
        self.value.extend_from_slice(header.as_ref());
        self.value.extend_from_slice(value);
        self.batch.put_cf(handle.column_family(), key, &self.value);
    }

    fn put_marker(&mut self, handle: &Replica, marker: &[u8]) {
        self.batch
            .put_cf(handle.column_family(), MARKER_KEY, marker);
    }

    fn write(&mut self, db: &Db, writes: &WriteOptions) -> Result<(), rocksdb::Error> {
        if let Some(failure) = self.failure.take() {
            return Err(failure);
        }
        if self.batch.is_empty() {
            return Ok(());
        }
        db.write_opt(&self.batch, writes)
    }
}

fn parse<'a>(mutation: &Mutation<'a>) -> Result<BatchRef<'a>, ApplyError> {
    BatchRef::parse(mutation.payload).map_err(|error| ApplyError::Corruption {
        partition: mutation.partition,
        detail: error.to_string(),
    })
}

/// Tells the row cache what becomes of the rows of `batch`.
fn renew_rows(rows: &mut RowCache, number: ReplicaNumber, batch: BatchRef<'_>, timetag: u64) {
    for op in batch {
        match op {
            OpRef::Put {
                key,
                value: data,
                expire_at,
            } => rows.put(
                number,
                key,
                ValueRef {
                    expire_at,
                    timetag,
                    data,
                },
            ),
            OpRef::Remove { key } => rows.remove(number, key),
        }
    }
}

fn forget_rows(rows: &mut RowCache, number: ReplicaNumber, batch: BatchRef<'_>) {
    for op in batch {
        let (OpRef::Put { key, .. } | OpRef::Remove { key }) = op;
        rows.forget(number, key);
    }
}

fn write_error(partition: PartitionId, error: rocksdb::Error) -> ApplyError {
    let kind = error.kind();
    let detail = error.into_string();
    match kind {
        // What a write gets that must not sleep.
        ErrorKind::Incomplete => ApplyError::Busy { partition },
        ErrorKind::Corruption => ApplyError::Corruption { partition, detail },
        _ => ApplyError::Io { partition, detail },
    }
}
