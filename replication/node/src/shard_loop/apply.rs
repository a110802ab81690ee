//! Committed mutations go into the engine: those of a turn together, in as few writes as the engine can.
//!
//! Order counts within a replica only, so what is taken from the queue is brought together by replica: each has one write and
//! is told once how far it is applied, whatever order clients of many partitions came in.

use super::ShardLoop;
use super::engine_work::{Apply, EngineWork};
use crate::clock;
use crate::stall::Phase;
use pegasus_engine::{ApplyAllError, ApplyError, Engine, Mutation};
use pegasus_fbs::stats_page::{Counter, PartitionCounter, Timing};
use pegasus_replication::event::Event;
use pegasus_replication::ids::{Decree, Instant, PartitionId};
use pegasus_replication::message::Entry;
use std::time::Duration;

/// Mutations handed to the engine at once: enough that what a write of the engine costs is small for each, few enough that the
/// clock is looked at every hundred microseconds.
const GROUP_MAX: usize = 32;
/// Bytes of rows from which on no more are taken into a group.
const GROUP_BYTES_MAX: usize = 64 << 10;
/// Flushes begun in one turn.
const FLUSHES_PER_TURN: usize = 4;

/// A mutation of a group, and whose it is.
pub(super) type Grouped = (PartitionId, Apply);

impl EngineWork {
    /// Takes the next mutations off the queue, those of each replica next to each other; none if nothing waits.
    fn gather(&mut self, group: &mut Vec<Grouped>) {
        let mut bytes = 0;
        while group.len() < GROUP_MAX
            && bytes < GROUP_BYTES_MAX
            && let Some((partition, apply)) = self.applies.pop_front()
        {
            if let Some(queue) = self.stuck.get_mut(&partition) {
                queue.push_back(apply);
                continue;
            }
            bytes += apply.entry.mutation.payload.len();
            group.push((partition, apply));
        }
        // The queue has the decrees of a replica in order.
        group.sort_unstable_by_key(|(partition, apply)| (*partition, apply.entry.decree));
    }
}

impl ShardLoop {
    /// Applies what waits until nothing does, or the time is over. Told what time it is, tells when it was done.
    pub(super) fn apply_until(&mut self, mut started: Instant, until: Instant) -> Instant {
        let mut is_any_applied = false;
        let mut group = std::mem::take(&mut self.engine_work.group);
        while started < until {
            self.engine_work.gather(&mut group);
            let Some(first) = group.first() else {
                break;
            };
            self.pulse.enter(Phase::Apply);
            let mut mutations = [mutation(first); GROUP_MAX];
            for (place, grouped) in mutations.iter_mut().zip(&group) {
                *place = mutation(grouped);
            }
            let result = self.engine.apply_all(&mutations[..group.len()]);
            let ended = clock::now();
            let applied = match &result {
                Ok(()) => group.len(),
                Err(ApplyAllError { applied, .. }) => *applied,
            };
            if applied > 0 {
                self.note_applied(&group[..applied], started, ended);
                is_any_applied = true;
            }
            group.drain(..applied);
            if let Err(refused) = result {
                self.on_refused(&mut group, refused.error);
            }
            started = ended;
        }
        self.engine_work.group = group;
        self.begin_wanted_flushes();
        if is_any_applied {
            clock::now()
        } else {
            started
        }
    }

    /// The engine holds all of `group` since `ended`.
    fn note_applied(&mut self, group: &[Grouped], started: Instant, ended: Instant) {
        if std::mem::take(&mut self.engine_work.is_failing) {
            tracing::info!("the engine writes again");
        }
        let count = u32::try_from(group.len()).expect("a group is small");
        let each: Duration = ended.since(started) / count;
        for replica in group.chunk_by(|one, next| one.0 == next.0) {
            let (partition, last) = replica.last().expect("a chunk has at least one");
            let bytes = |(_, apply): &Grouped| apply.entry.mutation.payload.len() as u64;
            let slot = self.stats.slot_of(*partition);
            self.stats
                .add_of(slot, PartitionCounter::Applied, replica.len() as u64);
            let bytes = replica.iter().map(bytes).sum();
            self.stats
                .add_of(slot, PartitionCounter::AppliedBytes, bytes);
            for (_, apply) in replica {
                self.stats.count(Counter::MutationsApplied);
                self.stats.record(Timing::EngineApply, each);
                self.stats.wait_for_right(apply.trace, ended);
            }
            self.tell_applied(*partition, last.entry.decree, ended);
        }
    }

    /// `now`: at most a moment ago. Answers that were made of what is applied now are given as of then.
    fn tell_applied(&mut self, partition: PartitionId, decree: Decree, now: Instant) {
        self.now = self.now.max(now);
        self.decide(Event::Applied { partition, decree });
    }

    /// The engine has not taken the first of `group`, which is left empty.
    fn on_refused(&mut self, group: &mut Vec<Grouped>, error: ApplyError) {
        // Those behind it are taken again, in their order, if their replica is not the one concerned.
        for grouped in group.drain(1..).rev() {
            self.engine_work.applies.push_front(grouped);
        }
        let (partition, apply) = group.pop().expect("something was refused");
        match error {
            ApplyError::Busy { .. } => self.stats.count(Counter::EngineRefusals),
            ApplyError::Io { detail, .. } => {
                // A full disk passes: the database is resumed when there is space, nothing may be skipped.
                let decree = apply.entry.decree;
                if !std::mem::replace(&mut self.engine_work.is_failing, true) {
                    tracing::warn!(%partition, %decree, detail, "the engine cannot write, trying again");
                }
            }
            error => {
                self.engine_work.forget(partition);
                self.decide(Event::ReplicaFailed {
                    partition,
                    error: error.to_string(),
                });
                return;
            }
        }
        self.engine_work
            .stuck
            .entry(partition)
            .or_default()
            .push_back(apply);
    }

    fn begin_wanted_flushes(&mut self) {
        for _ in 0..FLUSHES_PER_TURN {
            let Some(partition) = self.engine.flush_wanted() else {
                return;
            };
            self.flush(partition);
        }
    }
}

fn mutation((partition, apply): &Grouped) -> Mutation<'_> {
    let Entry {
        ballot,
        decree,
        mutation,
    } = &apply.entry;
    Mutation {
        partition: *partition,
        decree: *decree,
        ballot: *ballot,
        timestamp_us: mutation.timestamp_us,
        request_id: mutation.request_id,
        payload: &mutation.payload,
    }
}
