//! What an engine keeps in memory about each replica: how far it is applied, marked and flushed.

use crate::atomic::RequestOutcome;
use crate::marker::{self, Marker, RequestWindow, WindowEntry};
use crate::op::BatchRef;
use crate::plain::PlainKeys;
use crate::{Applied, ApplyError};
use bytes::Bytes;
use pegasus_replication::ids::{Ballot, Decree, PartitionId, ReplicaIncarnation, RequestId};
use std::collections::VecDeque;

/// What one operation costs in a memtable besides its key and value.
const OPERATION_OVERHEAD_BYTES: u64 = 64;

/// Progress of one replica. Owned by the thread that applies.
#[derive(Debug)]
pub(crate) struct Progress {
    incarnation: ReplicaIncarnation,
    applied: Applied,
    window: RequestWindow,
    plain: PlainKeys,
    decrees_since_marker: u64,
    bytes_since_marker: u64,
    /// Mutations that are in the write being put together, and not applied yet.
    staged: u64,
    /// Bytes applied since the replica was opened.
    bytes_applied: u64,
    /// Of these, how many a durable marker covers.
    bytes_durable: u64,
    /// Markers written and not known durable, with `bytes_applied` as of each; decrees grow.
    markers: VecDeque<(Decree, u64)>,
    flushing: bool,
}

/// A mutation about to be applied.
#[derive(Clone, Debug)]
pub(crate) struct Step {
    pub(crate) applied: Applied,
    pub(crate) request_id: RequestId,
    /// What a retry of its request is answered.
    pub(crate) result: Bytes,
    /// What it adds to the memtable, about.
    pub(crate) bytes: u64,
}

impl Step {
    /// `payload`: the bytes of `batch`.
    pub(crate) fn new(
        decree: Decree,
        ballot: Ballot,
        request_id: RequestId,
        payload: usize,
        batch: BatchRef<'_>,
    ) -> Self {
        let bytes = payload as u64 + batch.count() as u64 * OPERATION_OVERHEAD_BYTES;
        let result = if request_id.client == 0 {
            Bytes::new()
        } else {
            Bytes::copy_from_slice(batch.result())
        };
        Self {
            applied: Applied { decree, ballot },
            request_id,
            result,
            bytes,
        }
    }

    fn window_entry(&self) -> WindowEntry {
        WindowEntry {
            id: self.request_id,
            decree: self.applied.decree,
            result: self.result.clone(),
        }
    }
}

impl Progress {
    pub(crate) fn new(marker: &Marker) -> Self {
        Self {
            incarnation: marker.incarnation,
            applied: Applied {
                decree: marker.decree,
                ballot: marker.ballot,
            },
            window: marker.window.clone(),
            plain: marker.plain.clone(),
            decrees_since_marker: 0,
            bytes_since_marker: 0,
            staged: 0,
            bytes_applied: 0,
            bytes_durable: 0,
            markers: VecDeque::new(),
            flushing: false,
        }
    }

    /// Whether `decree` is the next one; `false` if it has been applied, or staged, already.
    pub(crate) const fn accepts(
        &self,
        partition: PartitionId,
        decree: Decree,
    ) -> Result<bool, ApplyError> {
        let last = self.applied.decree.0 + self.staged;
        if decree.0 <= last {
            return Ok(false);
        }
        if decree.0 != last + 1 {
            return Err(ApplyError::OutOfOrder {
                partition,
                applied: Decree(last),
                decree,
            });
        }
        Ok(true)
    }

    /// A mutation goes into the write being put together. It counts as applied by [`Self::advance`] alone.
    #[cfg(feature = "rocks")]
    pub(crate) const fn stage(&mut self) {
        self.staged += 1;
    }

    /// The write being put together is over, well or not.
    #[cfg(feature = "rocks")]
    pub(crate) const fn unstage(&mut self) {
        self.staged = 0;
    }

    #[cfg(feature = "rocks")]
    pub(crate) const fn has_staged(&self) -> bool {
        self.staged > 0
    }

    /// `batch` is going to be applied, at once or later, or perhaps never: its rows are noted before any marker that
    /// covers them is made.
    pub(crate) fn foresee(&mut self, batch: BatchRef<'_>) {
        self.plain.note(batch);
    }

    /// See [`Engine::is_plain`](crate::Engine::is_plain).
    pub(crate) fn is_plain(&self, hash_key: &[u8]) -> bool {
        self.plain.is_plain(hash_key)
    }

    /// Whether a marker goes into the same batch as `step`. Of what is staged only the decrees are heeded, not the bytes.
    pub(crate) fn is_marker_due(&self, step: &Step) -> bool {
        // A long window makes a long marker: so many decrees pay for it.
        let decrees_max = marker::MARKER_DECREES_MAX.max(self.window.len() as u64 / 4);
        self.decrees_since_marker + self.staged + 1 >= decrees_max
            || self.bytes_since_marker + step.bytes >= marker::MARKER_BYTES_MAX
    }

    /// The marker to write in the same batch as `step`, if one is due.
    ///
    /// # Panics
    /// If one is due and something is staged: the marker does not know of it.
    pub(crate) fn marker_due(&self, step: &Step) -> Option<Vec<u8>> {
        if !self.is_marker_due(step) {
            return None;
        }
        assert_eq!(
            self.staged, 0,
            "a marker holds everything before it in the same write"
        );
        let Applied { decree, ballot } = step.applied;
        Some(marker::encode(
            self.incarnation,
            decree,
            ballot,
            &self.window,
            Some(&step.window_entry()),
            &self.plain,
        ))
    }

    /// The marker of the last applied decree, if none has been written since.
    pub(crate) fn marker_behind(&self) -> Option<Vec<u8>> {
        (self.decrees_since_marker > 0).then(|| {
            marker::encode(
                self.incarnation,
                self.applied.decree,
                self.applied.ballot,
                &self.window,
                None,
                &self.plain,
            )
        })
    }

    /// `step` is applied.
    pub(crate) fn advance(&mut self, step: &Step) {
        assert!(
            step.applied.decree == self.applied.decree.next(),
            "decrees are applied in order"
        );
        assert_eq!(self.staged, 0, "what is applied is no longer staged");
        self.applied = step.applied;
        self.window.push(step.window_entry());
        self.decrees_since_marker += 1;
        self.bytes_since_marker += step.bytes;
        self.bytes_applied += step.bytes;
    }

    /// A marker of the last applied decree is written.
    pub(crate) fn marked(&mut self) {
        self.decrees_since_marker = 0;
        self.bytes_since_marker = 0;
        self.markers
            .push_back((self.applied.decree, self.bytes_applied));
    }

    pub(crate) const fn flush_begins(&mut self) {
        self.flushing = true;
    }

    /// The flush is over, well or not.
    pub(crate) const fn flush_ended(&mut self) {
        self.flushing = false;
    }

    /// The durable marker has been read.
    pub(crate) fn durable(&mut self, durable: Decree) {
        while let Some(&(decree, bytes)) = self.markers.front() {
            if decree > durable {
                break;
            }
            self.bytes_durable = bytes;
            self.markers.pop_front();
        }
    }

    pub(crate) const fn applied(&self) -> Applied {
        self.applied
    }

    pub(crate) fn request_outcome(&self, id: RequestId, is_retry: bool) -> RequestOutcome {
        self.window.outcome(id, is_retry)
    }

    pub(crate) const fn unflushed_bytes(&self) -> u64 {
        self.bytes_applied - self.bytes_durable
    }
}

/// When a flush of ours begins; the engine's own limits lie half as high again.
#[derive(Clone, Copy, Debug)]
pub(crate) struct FlushPolicy {
    /// Unflushed bytes of one replica.
    pub(crate) replica_bytes_max: u64,
    /// Unflushed bytes of all replicas together that are not being flushed.
    pub(crate) total_bytes_max: u64,
}

impl FlushPolicy {
    /// The replica with most to flush among those that have too much, each by its own bound if it has one; or of all, if
    /// they have too much together.
    pub(crate) fn choose<'a>(
        &self,
        replicas: impl Iterator<Item = (&'a PartitionId, &'a Progress, Option<u64>)>,
    ) -> Option<PartitionId> {
        let mut total = 0;
        let (mut largest, mut over) = (None, None);
        for (&partition, progress, own) in replicas.filter(|(_, progress, _)| !progress.flushing) {
            let bytes = progress.unflushed_bytes();
            total += bytes;
            // Ties go to the smaller id, so that the choice does not depend on the order of a hash map.
            let this = (bytes > 0).then_some((bytes, std::cmp::Reverse(partition)));
            largest = largest.max(this);
            if bytes >= own.unwrap_or(self.replica_bytes_max) {
                over = over.max(this);
            }
        }
        let of_all = largest.filter(|_| total >= self.total_bytes_max);
        over.or(of_all)
            .map(|(_, std::cmp::Reverse(partition))| partition)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use pegasus_replication::ids::TableId;

    fn partition(index: u32) -> PartitionId {
        PartitionId {
            table: TableId(1),
            index,
        }
    }

    fn progress() -> Progress {
        Progress::new(&Marker::new(ReplicaIncarnation(1)))
    }

    fn advance(progress: &mut Progress, bytes: u64) {
        let applied = Applied {
            decree: progress.applied().decree.next(),
            ballot: Ballot::new(0, 1),
        };
        progress.advance(&Step {
            applied,
            request_id: RequestId::default(),
            result: Bytes::new(),
            bytes,
        });
    }

    #[test]
    fn a_marker_is_due_every_256_decrees_or_mebibyte() {
        let mut progress = progress();
        let step = |decree: u64, bytes| Step {
            applied: Applied {
                decree: Decree(decree),
                ballot: Ballot::NONE,
            },
            request_id: RequestId::default(),
            result: Bytes::new(),
            bytes,
        };
        assert!(progress.marker_due(&step(1, 1)).is_none());
        assert!(progress.marker_due(&step(1, 1 << 20)).is_some());
        (0..255).for_each(|_| advance(&mut progress, 1));
        assert!(progress.marker_due(&step(256, 1)).is_some());
        progress.marked();
        assert!(progress.marker_behind().is_none());
        assert!(progress.marker_due(&step(256, 1)).is_none());
    }

    #[test]
    fn unflushed_bytes_are_those_behind_the_durable_marker() {
        let mut progress = progress();
        advance(&mut progress, 10);
        progress.marked();
        advance(&mut progress, 20);
        progress.marked();
        advance(&mut progress, 40);
        progress.durable(Decree(1));
        assert_eq!(progress.unflushed_bytes(), 60);
        progress.durable(Decree(2));
        assert_eq!(progress.unflushed_bytes(), 40);
    }

    #[test]
    fn the_largest_replica_that_is_not_being_flushed_goes_first() {
        let policy = FlushPolicy {
            replica_bytes_max: 100,
            total_bytes_max: 150,
        };
        let choose = |replicas: &std::collections::BTreeMap<PartitionId, Progress>| {
            policy.choose(replicas.iter().map(|(it, progress)| (it, progress, None)))
        };
        let mut replicas = std::collections::BTreeMap::from([
            (partition(0), progress()),
            (partition(1), progress()),
        ]);
        assert_eq!(choose(&replicas), None);
        advance(replicas.get_mut(&partition(0)).unwrap(), 70);
        advance(replicas.get_mut(&partition(1)).unwrap(), 75);
        assert_eq!(choose(&replicas), None);
        advance(replicas.get_mut(&partition(0)).unwrap(), 10);
        assert_eq!(choose(&replicas), Some(partition(0)));
        replicas.get_mut(&partition(0)).unwrap().flush_begins();
        assert_eq!(choose(&replicas), None);
        advance(replicas.get_mut(&partition(1)).unwrap(), 25);
        assert_eq!(choose(&replicas), Some(partition(1)));
    }

    #[test]
    fn a_replica_with_a_bound_of_its_own_is_flushed_by_that_unless_all_have_too_much() {
        let policy = FlushPolicy {
            replica_bytes_max: 100,
            total_bytes_max: 1_000,
        };
        let mut large = progress();
        advance(&mut large, 400);
        let mut small = progress();
        advance(&mut small, 50);
        let (first, second) = (partition(0), partition(1));
        let choose = |of_large, of_small, policy: FlushPolicy| {
            policy.choose([(&first, &large, of_large), (&second, &small, of_small)].into_iter())
        };
        assert_eq!(choose(None, None, policy), Some(first));
        assert_eq!(choose(Some(500), None, policy), None);
        assert_eq!(choose(Some(500), Some(50), policy), Some(second));
        let tight = FlushPolicy {
            total_bytes_max: 450,
            ..policy
        };
        assert_eq!(choose(Some(500), None, tight), Some(first));
    }
}
