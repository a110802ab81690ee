//! Keeps the log within its budget: relieves the replicas that hold back its oldest segment (docs/replication.md, "Log budget").

use crate::event::{Effect, Effects};
use crate::ids::{Instant, PartitionId, ReplicaIncarnation};
use crate::log::{Blocker, LogFill, Record, Remedy, SegmentId, ShardLog};
use crate::replica::Replica;
use std::collections::BTreeMap;
use std::time::Duration;

/// What has been asked of each replica, so that it is asked once per segment, and again if nothing came of it.
#[derive(Debug, Default)]
pub(crate) struct Relief {
    asked: BTreeMap<PartitionId, (SegmentId, Instant)>,
    /// When what was asked first is asked again: a flush may have failed, and a full log brings nothing that would tell.
    again_at: Option<Instant>,
    /// Something has changed since the blockers were last looked at.
    is_due: bool,
}

impl Relief {
    /// The log has moved.
    pub(crate) fn look_again(&mut self) {
        self.is_due = true;
    }

    /// A flush has ended; if it was not enough, it is asked for again.
    pub(crate) fn on_flushed(&mut self, partition: PartitionId) {
        self.asked.remove(&partition);
        self.is_due = true;
    }

    /// A dropped replica needs nothing of the log any more.
    pub(crate) fn forget(
        &mut self,
        partition: PartitionId,
        incarnation: ReplicaIncarnation,
        log: &mut ShardLog,
    ) {
        self.asked.remove(&partition);
        self.is_due = true;
        log.append(Record::Removed {
            partition,
            incarnation,
        });
        log.forget(partition);
    }

    /// When to look at it once more without another event.
    pub(crate) const fn again_at(&self) -> Option<Instant> {
        self.again_at
    }

    /// Forgets what was asked so long ago that it must have failed.
    fn forget_old(&mut self, now: Instant) {
        if self.again_at.is_none_or(|at| at > now) {
            return;
        }
        self.is_due = true;
        self.asked.retain(|_, (_, at)| at.after(ASK_AGAIN) > now);
        let oldest = self.asked.values().map(|(_, at)| at.after(ASK_AGAIN)).min();
        self.again_at = oldest;
    }

    /// At half the budget: has the replicas that hold back the oldest segment flushed, or their few records appended again.
    pub(crate) fn relieve(
        &mut self,
        now: Instant,
        log: &mut ShardLog,
        replicas: &BTreeMap<PartitionId, Replica>,
        effects: &mut Effects,
    ) {
        self.forget_old(now);
        if !std::mem::take(&mut self.is_due) || log.fill() < LogFill::Half {
            return;
        }
        for blocker in log.blockers() {
            let partition = blocker.partition;
            match replicas.get(&partition) {
                Some(replica) if replica.is_out_of_service() => log.forget(partition),
                None => log.forget(partition),
                Some(_)
                    if self
                        .asked
                        .get(&partition)
                        .is_some_and(|(asked, _)| *asked == blocker.segment) => {}
                Some(replica)
                    if may_reappend(replica, &blocker, log) && reappend(replica, &blocker, log) =>
                {
                    self.note_asked(partition, blocker.segment, now);
                }
                Some(replica)
                    if blocker.first <= replica.applied()
                        && replica.flushed() < replica.applied() =>
                {
                    self.note_asked(partition, blocker.segment, now);
                    effects.push(Effect::Flush { partition });
                }
                // Not applied yet: a flush would not help, its commit will.
                Some(_) => {}
            }
        }
    }

    fn note_asked(&mut self, partition: PartitionId, segment: SegmentId, now: Instant) {
        self.asked.insert(partition, (segment, now));
        self.again_at.get_or_insert(now.after(ASK_AGAIN));
    }
}

/// Longer than an engine tries one flush.
const ASK_AGAIN: Duration = Duration::from_secs(15);

/// A blocker's records are appended again only if so many times as much fits a segment.
const REAPPEND_SHARE: u64 = 64;

/// What cannot commit, because a member is away, no flush makes durable: it is appended again however much it is. It is
/// bounded by the windows of the links, and that old only if its member is away for long.
fn may_reappend(replica: &Replica, blocker: &Blocker, log: &ShardLog) -> bool {
    let segment_bytes = log.options().segment_bytes;
    if blocker.first > replica.committed() {
        return blocker.bytes * REAPPEND_PENDING_SHARE <= segment_bytes;
    }
    // With small segments copies would fill the log as fast as they free it.
    blocker.remedy == Remedy::Reappend && blocker.bytes * REAPPEND_SHARE <= segment_bytes
}

/// The same for what is not committed.
const REAPPEND_PENDING_SHARE: u64 = 2;

/// Appends the blocker's records again. False if some are no longer at hand, or the log takes no more now.
fn reappend(replica: &Replica, blocker: &Blocker, log: &mut ShardLog) -> bool {
    // Those that wait are not in their new place yet, and would be appended twice.
    if log.is_reappending(blocker.partition) {
        return false;
    }
    let Some(records) = replica.unflushed(blocker.first, blocker.last) else {
        return false;
    };
    records.into_iter().all(|record| log.reappend(record))
}
