//! Work for the engine: committed mutations to apply, reads, range reads step by step; bounded in time for each turn.

use super::ShardLoop;
use super::apply::Grouped;
use super::fair::FairQueue;
use super::read::{ReadOutcome, Step};
use super::requests::{Measure, Work};
use crate::clock;
use crate::engine_pool::PoolDone;
use crate::stall::Phase;
use crate::stats::TraceId;
use pegasus_engine::Tier;
use pegasus_fbs::code::Code;
use pegasus_fbs::stats_page::{Counter, PartitionCounter, Timing};
use pegasus_net::request::{Failure, Reply, Response};
use pegasus_replication::event::Event;
use pegasus_replication::ids::{Instant, PartitionId, Ticket};
use pegasus_replication::message::Entry;
use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

/// Engine time of one turn; what is left waits for the next, so that log completions are never long behind.
const TURN_TIME: Duration = Duration::from_micros(200);
/// What applies may take of it while reads wait: neither class keeps the other from its work.
const APPLY_TIME: Duration = Duration::from_micros(100);
/// What point reads get of a turn at least, however long an apply of a large value has taken.
const READ_TIME_MIN: Duration = Duration::from_micros(50);
/// Jobs of this core on the pool at once; what else misses memory waits here, where tables are told apart.
const AWAY_MAX: usize = 32;
/// What a read of the disk is charged with among those that wait for it.
const MISS_COST: Duration = Duration::from_micros(100);

/// What the engine has to do for this core. Bounded by the replication core: applies by its apply queues, reads by requests.
#[derive(Debug, Default)]
pub(super) struct EngineWork {
    pub(super) applies: VecDeque<Grouped>,
    /// Kept for its memory.
    pub(super) group: Vec<Grouped>,
    /// Refused by the engine for now, in decree order; everything later of that partition waits behind.
    pub(super) stuck: BTreeMap<PartitionId, VecDeque<Apply>>,
    reads: VecDeque<Ticket>,
    /// Reads that take several turns, one step each in turn.
    ranges: VecDeque<Ticket>,
    /// Reads that wait for their way to the pool, by table.
    misses: FairQueue<Ticket>,
    /// Reads on the pool.
    away: usize,
    /// The engine could not write; said once until it can again.
    pub(super) is_failing: bool,
}

/// A committed mutation, and the trace of the request that waits for it.
#[derive(Debug)]
pub(super) struct Apply {
    pub(super) entry: Entry,
    pub(super) trace: TraceId,
}

impl EngineWork {
    pub(super) fn apply(&mut self, partition: PartitionId, entry: Entry, trace: TraceId) {
        self.applies.push_back((partition, Apply { entry, trace }));
    }

    pub(super) fn read(&mut self, ticket: Ticket) {
        self.reads.push_back(ticket);
    }

    /// Nothing more is applied to this replica.
    pub(super) fn forget(&mut self, partition: PartitionId) {
        self.stuck.remove(&partition);
        self.applies.retain(|(of, _)| *of != partition);
    }

    pub(super) fn is_waiting(&self) -> bool {
        !(self.applies.is_empty() && self.reads.is_empty() && self.ranges.is_empty())
    }

    /// Applies that the engine refused: looked at again in a moment.
    pub(super) fn is_stuck(&self) -> bool {
        !self.stuck.is_empty()
    }

    pub(super) fn apply_count(&self) -> usize {
        self.applies.len() + self.stuck.values().map(VecDeque::len).sum::<usize>()
    }

    /// Something goes to the pool.
    pub(super) const fn one_leaves(&mut self) {
        self.away += 1;
    }

    /// And comes back.
    pub(super) const fn one_returns(&mut self) {
        self.away -= 1;
    }

    /// Reads on the pool, or on their way to it.
    pub(super) fn away_count(&self) -> usize {
        self.away + self.misses.len()
    }

    /// Reads that wait for their turn on the core.
    pub(super) fn read_count(&self) -> usize {
        self.reads.len() + self.ranges.len()
    }
}

impl ShardLoop {
    /// Applies and reads until everything is done or the turn's engine time is over; when that was.
    ///
    /// Three classes share it: applies, without which nothing that is replicated moves on, are first, and have half of it
    /// while reads wait; point reads have what is left, and a share in any case; long reads have a step in any case. What nobody else wanted goes to
    /// applies again.
    pub(super) fn work(&mut self) -> Instant {
        let started = clock::now();
        self.stats.end_encoding(started);
        let until = started.after(TURN_TIME);
        let apply_until = if self.engine_work.read_count() > 0 {
            started.after(APPLY_TIME)
        } else {
            until
        };
        self.unstick();
        let applied = self.apply_until(started, apply_until);
        let read = self.read_until(applied, reads_until(applied, until));
        let ranged = self.range_until(read, until);
        let ended = if self.engine_work.applies.is_empty() {
            ranged
        } else {
            self.apply_until(ranged, until)
        };
        let apply_time = applied.since(started) + ended.since(ranged);
        self.stats.add_time(Counter::ApplyTime, apply_time);
        self.stats.add_time(Counter::ReadTime, read.since(applied));
        self.stats.add_time(Counter::RangeTime, ranged.since(read));
        ended
    }

    fn unstick(&mut self) {
        let stuck = std::mem::take(&mut self.engine_work.stuck);
        for (partition, applies) in stuck.into_iter().rev() {
            for apply in applies.into_iter().rev() {
                self.engine_work.applies.push_front((partition, apply));
            }
        }
    }

    // Each of the three is told what time it is, and tells when it was done: the clock is read once for each step.

    fn read_until(&mut self, mut started: Instant, until: Instant) -> Instant {
        while started < until {
            let Some(ticket) = self.engine_work.reads.pop_front() else {
                break;
            };
            self.pulse.enter(Phase::Read);
            let is_in_memory = self.read_step(ticket);
            let ended = clock::now();
            if is_in_memory {
                self.stats.record(Timing::ReadMemory, ended.since(started));
            }
            self.step_out_of_read(ticket, ended);
            started = ended;
        }
        started
    }

    /// One step for each range read, oldest first, so that a long one is not in the way of the others. At least one, so that
    /// they go on whatever else is to be done.
    fn range_until(&mut self, mut now: Instant, until: Instant) -> Instant {
        for step in 0..self.engine_work.ranges.len() {
            if step > 0 && now >= until {
                break;
            }
            let Some(ticket) = self.engine_work.ranges.pop_front() else {
                break;
            };
            self.pulse.enter(Phase::RangeRead);
            let table = self.requests.get_mut(ticket).map(|it| it.partition.table);
            self.read_step(ticket);
            let ended = clock::now();
            if let Some(table) = table {
                self.arrivals.charge(table, ended.since(now));
            }
            now = ended;
            self.step_out_of_read(ticket, now);
        }
        now
    }

    /// A read that has its answer now waits for the right to give it.
    fn step_out_of_read(&mut self, ticket: Ticket, now: Instant) {
        if let Some(pending) = self.requests.get_mut(ticket)
            && matches!(pending.work, Work::Answered(_))
        {
            self.stats.wait_for_right(pending.measure.trace, now);
        }
    }

    /// True: the engine had what the step needed in memory.
    fn read_step(&mut self, ticket: Ticket) -> bool {
        let now = self.now;
        let Some(pending) = self.requests.get_mut(ticket) else {
            return false;
        };
        let partition = pending.partition;
        let Work::Read(task) = &mut pending.work else {
            return false;
        };
        if pending.deadline <= now {
            let failure = Failure::new(Code::Expired, "the deadline passed during the read");
            self.on_answered(ticket, partition, Err(failure));
            return false;
        }
        match task.step(&self.engine, Tier::CacheOnly) {
            Step::Done(reply) => {
                self.stats.count(Counter::ReadsFromMemory);
                self.on_answered(ticket, partition, reply);
                return true;
            }
            Step::More if task.is_of_one_hash_key() => self.read_away(ticket),
            Step::More => {
                self.engine_work.ranges.push_back(ticket);
                return true;
            }
            Step::NeedsDisk => self.read_away(ticket),
            Step::Damaged(error) => self.on_damaged(ticket, partition, error),
        }
        false
    }

    /// Moves a read to the pool, where it may block, or lets it wait for that.
    fn read_away(&mut self, ticket: Ticket) {
        let Some(pending) = self.requests.get_mut(ticket) else {
            return;
        };
        let partition = pending.partition;
        if self.engine_work.away >= AWAY_MAX {
            return self.engine_work.misses.push(partition.table.0, ticket);
        }
        let Work::Read(task) = std::mem::replace(&mut pending.work, Work::Away) else {
            return;
        };
        let store = self.store.clone();
        let job = Box::new(move |done: &mut dyn FnMut(PoolDone)| {
            let outcome = task.finish(&store);
            done(PoolDone::Read { ticket, outcome });
        });
        if self.outbox.read(job).is_ok() {
            self.stats.count(Counter::ReadsFromDisk);
            self.engine_work.away += 1;
        } else {
            let failure = self.busy(Counter::RejectReadQueue, "too many reads wait for the disk");
            self.on_answered(ticket, partition, Err(failure));
        }
    }

    /// A read has come back from the pool.
    pub(super) fn on_read_outcome(&mut self, ticket: Ticket, outcome: ReadOutcome) {
        self.engine_work.away -= 1;
        self.send_miss_away();
        // A request that was refused meanwhile is gone.
        let Some(pending) = self.requests.get_mut(ticket) else {
            return;
        };
        let (partition, received) = (pending.partition, pending.measure.received);
        self.stats
            .record(Timing::ReadDisk, self.now.since(received));
        match outcome {
            ReadOutcome::Answer(reply) => self.on_answered(ticket, partition, reply),
            ReadOutcome::Damaged(error) => self.on_damaged(ticket, partition, error),
        }
        self.step_out_of_read(ticket, self.now);
    }

    /// There is room on the pool for the next read that waits for it.
    pub(super) fn send_miss_away(&mut self) {
        while self.engine_work.away < AWAY_MAX
            && let Some(ticket) = self.engine_work.misses.pop()
        {
            let Some(pending) = self.requests.get_mut(ticket) else {
                continue;
            };
            let partition = pending.partition;
            // Each costs the disk about as much as any other.
            self.engine_work.misses.charge(partition.table.0, MISS_COST);
            if pending.deadline <= self.now {
                let message = "the deadline passed before there was room to read the disk";
                let failure = Failure::new(Code::Expired, message);
                self.on_answered(ticket, partition, Err(failure));
                continue;
            }
            self.read_away(ticket);
        }
    }

    fn on_damaged(&mut self, ticket: Ticket, partition: PartitionId, error: String) {
        let failure = Failure::new(
            Code::OutOfService,
            "this replica is damaged and out of service",
        );
        self.on_answered(ticket, partition, Err(failure));
        self.decide(Event::ReplicaFailed { partition, error });
    }

    /// The read has its answer; whether it may be given is decided now.
    fn on_answered(&mut self, ticket: Ticket, partition: PartitionId, reply: Reply) {
        let (rows, bytes) = self.count_rows(&reply);
        self.after_read(partition, &reply, bytes);
        if let Some(pending) = self.requests.get_mut(ticket) {
            let Measure { trace, slot, .. } = pending.measure;
            self.stats.set_bytes(trace, bytes);
            self.stats.add_of(slot, PartitionCounter::RowsRead, rows);
            self.stats.add_of(slot, PartitionCounter::BytesRead, bytes);
            pending.work = Work::Answered(reply);
        }
        // The right to answer is that of the moment after the engine has read: a pause before it must be seen.
        self.now = clock::now();
        self.decide(Event::ReadDone { partition, ticket });
    }

    /// The rows in the answer and their bytes.
    fn count_rows(&mut self, reply: &Reply) -> (u64, u64) {
        let (rows, bytes) = match reply {
            Ok(Response::Value(value)) => (1, value.len()),
            Ok(Response::Rows(rows)) => (
                rows.rows.len(),
                rows.rows
                    .iter()
                    .map(|row| row.sort_key.len() + row.value.len())
                    .sum(),
            ),
            Ok(Response::Page(page)) => (
                page.rows.len(),
                page.rows
                    .iter()
                    .map(|row| row.raw_key.len() + row.value.len())
                    .sum(),
            ),
            _ => return (0, 0),
        };
        self.stats.add(Counter::RowsRead, rows as u64);
        self.stats.add(Counter::BytesRead, bytes as u64);
        (rows as u64, bytes as u64)
    }
}

/// When point reads have to end that can begin at `applied`, in a turn that ends at `until`.
fn reads_until(applied: Instant, until: Instant) -> Instant {
    until.max(applied.after(READ_TIME_MIN))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn point_reads_have_a_share_of_a_turn_however_long_applies_took() {
        let began = Instant(1_000_000_000);
        let until = began.after(TURN_TIME);
        let after_short = reads_until(began.after(APPLY_TIME), until);
        assert_eq!(after_short, until);
        let applied = began.after(Duration::from_millis(3));
        assert!(reads_until(applied, until) > applied);
    }
}
