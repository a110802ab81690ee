//! Throttles of tables at work: what each partition has used, and the requests that wait because it was too much. Writes of
//! replicas whose compactions are behind wait here, too.

use super::ShardLoop;
use super::redis::Asked;
use super::requests::{Measure, Origin};
use super::write_pace::WritePace;
use crate::clock;
use crate::directory::Directory;
use crate::throttle::{Moment, Usage, Verdict};
use pegasus_fbs::code::Code;
use pegasus_fbs::stats_page::{Counter, PartitionCounter};
use pegasus_net::frontend::resp::error_of;
use pegasus_net::request::{Failure, Operation, Reply, Request, Response};
use pegasus_replication::ids::{Instant, PartitionId};
use pegasus_replication::replica::RoleName;
use pegasus_resp::Value;
use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

/// State of all throttles of one core.
#[derive(Debug, Default)]
pub(super) struct Throttling {
    partitions: HashMap<PartitionId, Throttled>,
    pub(super) pace: WritePace,
    /// By time, and in order of arrival.
    delayed: BTreeMap<(Instant, u64), Delayed>,
    next: u64,
    /// Some table has a throttle of bytes read.
    counts_read_bytes: bool,
}

/// A partition of a table with throttles.
#[derive(Debug, Default)]
struct Throttled {
    usage: Usage,
    /// Parts of Redis commands that are delayed, and how long the last of them: none overtakes another, because those of
    /// a connection on one key are executed in order.
    parts: usize,
    until: Instant,
}

/// What is done later.
#[derive(Debug)]
pub(super) enum Delayed {
    Request {
        origin: Origin,
        request: Request,
        measure: Measure,
    },
    Part {
        origin: Origin,
        asked: Asked,
    },
    Answer {
        origin: Origin,
        measure: Measure,
        reply: Reply,
    },
}

/// What is asked of a partition, as far as throttles look at it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Load {
    pub(super) partition: PartitionId,
    pub(super) is_write: bool,
    /// Of the request.
    pub(super) bytes: u64,
    /// What its client gives it.
    pub(super) timeout: Duration,
}

impl Throttling {
    /// Forgets partitions of tables that have no throttles any more.
    pub(super) fn update(&mut self, directory: &Directory) {
        let throttles = |partition: &PartitionId| {
            let table = directory.tables.get(&partition.table)?;
            table.settings.throttles()
        };
        self.partitions
            .retain(|partition, it| it.parts > 0 || throttles(partition).is_some());
        self.counts_read_bytes = directory.tables.values().any(|table| {
            let throttles = table.settings.throttles();
            throttles.is_some_and(|it| it.counts_read_bytes())
        });
    }

    /// Whether requests to a partition of a table without throttles may have to wait all the same. Usually two comparisons.
    #[inline]
    pub(super) fn holds_back(&self, partition: PartitionId, is_write: bool) -> bool {
        let has_parts = || {
            self.partitions
                .get(&partition)
                .is_some_and(|it| it.parts > 0)
        };
        is_write && self.pace.is_behind() || !self.delayed.is_empty() && has_parts()
    }

    /// When something is to be done.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.delayed.first_key_value().map(|((at, _), _)| *at)
    }

    pub(super) fn delayed_count(&self) -> usize {
        self.delayed.len()
    }

    fn delay(&mut self, at: Instant, delayed: Delayed) {
        if let Delayed::Part { asked, .. } = &delayed {
            let it = self.partitions.entry(asked.partition).or_default();
            it.parts += 1;
            it.until = at;
        }
        self.delayed.insert((at, self.next), delayed);
        self.next += 1;
    }

    fn take_due(&mut self, now: Instant) -> Option<Delayed> {
        let first = self.delayed.first_entry()?;
        if first.key().0 > now {
            return None;
        }
        let delayed = first.remove();
        if let Delayed::Part { asked, .. } = &delayed
            && let Some(it) = self.partitions.get_mut(&asked.partition)
        {
            it.parts -= 1;
        }
        Some(delayed)
    }
}

impl ShardLoop {
    /// What the throttles of its table, and the pace of its replica, say to a request. Only called where there are some.
    pub(super) fn judge(&mut self, load: Load) -> Verdict {
        // Whoever cannot be served here is told so first.
        let role = self.shard.replica(load.partition).map(|it| it.role());
        let counts = match role {
            Some(RoleName::Primary(_)) => true,
            Some(RoleName::Secondary) => !load.is_write,
            _ => false,
        };
        if !counts {
            return Verdict::Pass;
        }
        match self.judge_by_table(load) {
            Verdict::Pass if load.is_write && self.throttling.pace.is_behind() => self.pace(load),
            verdict => verdict,
        }
    }

    /// Compactions are behind: not faster than the replica can take it.
    fn pace(&mut self, load: Load) -> Verdict {
        let files = self.engine.level0_files(load.partition);
        let longest = load.timeout / 2;
        let Load {
            partition, bytes, ..
        } = load;
        let pause = self
            .throttling
            .pace
            .pause(partition, files, bytes, self.now, longest);
        if pause.is_zero() {
            Verdict::Pass
        } else {
            Verdict::Delay(pause)
        }
    }

    fn judge_by_table(&mut self, load: Load) -> Verdict {
        let Load {
            partition,
            is_write,
            bytes,
            timeout,
        } = load;
        let table = self.directory.tables.get(&partition.table);
        let Some((table, throttles)) = table.and_then(|it| Some((it, it.settings.throttles()?)))
        else {
            return Verdict::Pass;
        };
        let usage = &mut self
            .throttling
            .partitions
            .entry(partition)
            .or_default()
            .usage;
        let moment = Moment {
            second: clock::wall_us() / 1_000_000,
            now: self.now,
            timeout,
        };
        if is_write {
            throttles.on_write(usage, table.partition_count, bytes, moment)
        } else {
            throttles.on_read(usage, table.partition_count, moment)
        }
    }

    /// Bytes that a read has returned count for the reads after it.
    #[inline]
    pub(super) fn after_read(&mut self, partition: PartitionId, reply: &Reply, bytes: u64) {
        self.arrivals.charge_read(partition.table, bytes);
        if self.throttling.counts_read_bytes {
            let bytes = match reply {
                Ok(Response::Redis(value)) => bytes_of(value),
                _ => bytes,
            };
            self.count_read(partition, bytes);
        }
    }

    fn count_read(&mut self, partition: PartitionId, bytes: u64) {
        if let Some(table) = self.directory.tables.get(&partition.table)
            && let Some(throttles) = table.settings.throttles()
            && let Some(it) = self.throttling.partitions.get_mut(&partition)
        {
            throttles.after_read(&mut it.usage, table.partition_count, bytes, self.now);
        }
    }

    /// Executes something later, past the throttles.
    pub(super) fn delay(&mut self, pause: Duration, is_write: bool, delayed: Delayed) {
        self.stats.count(if is_write {
            Counter::ThrottleDelayedWrites
        } else {
            Counter::ThrottleDelayedReads
        });
        let slot = match &delayed {
            Delayed::Request { measure, .. } | Delayed::Answer { measure, .. } => measure.slot,
            Delayed::Part { asked, .. } => self.stats.slot_of(asked.partition),
        };
        self.stats.add_of(slot, PartitionCounter::Throttled, 1);
        self.throttling.delay(self.now.after(pause), delayed);
    }

    /// The same for a part of a Redis command, which does not overtake those before it.
    pub(super) fn judge_part(&mut self, asked: &Asked) -> Verdict {
        let partition = asked.partition;
        let verdict = self.judge(Load {
            partition,
            is_write: asked.is_write(),
            bytes: asked.bytes(),
            timeout: asked.deadline.since(asked.received),
        });
        let Some(it) = self.throttling.partitions.get(&partition) else {
            return verdict;
        };
        let before = it.until.since(self.now);
        match verdict {
            Verdict::Pass if it.parts > 0 => Verdict::Delay(before),
            Verdict::Delay(pause) if it.parts > 0 => Verdict::Delay(pause.max(before)),
            verdict => verdict,
        }
    }

    /// Tells a client, after a pause, that its table is throttled.
    pub(super) fn reject_throttled(
        &mut self,
        pause: Duration,
        is_write: bool,
        origin: Origin,
        measure: Measure,
    ) {
        let (counter, key) = if is_write {
            (Counter::ThrottleRejectedWrites, "write_throttling")
        } else {
            (Counter::ThrottleRejectedReads, "read_throttling")
        };
        self.stats.count(counter);
        self.stats
            .add_of(measure.slot, PartitionCounter::Throttled, 1);
        let failure = throttled(key);
        let reply = match origin {
            Origin::Part(_) | Origin::Direct(_) | Origin::CorePart { .. } | Origin::Peer { .. } => {
                // An answer: what is not answered would be asked for again until the command's time is over.
                Ok(Response::Redis(error_of(&failure)))
            }
            Origin::Here(_) | Origin::Core { .. } => Err(failure),
        };
        let is_full = self.throttling.delayed_count() >= self.requests.max();
        if pause.is_zero() || is_full || self.is_stopping() {
            return self.send_answer(origin, measure, reply);
        }
        let answer = Delayed::Answer {
            origin,
            measure,
            reply,
        };
        self.throttling.delay(self.now.after(pause), answer);
    }

    /// Whatever has waited long enough goes on, past the throttles.
    pub(super) fn resume_delayed(&mut self) {
        let until = if self.is_stopping() {
            Instant(u64::MAX)
        } else {
            self.now
        };
        while let Some(delayed) = self.throttling.take_due(until) {
            match delayed {
                Delayed::Request {
                    origin,
                    request,
                    measure,
                } => self.start(origin, request, measure),
                Delayed::Part { origin, asked } => self.run_part(origin, asked),
                Delayed::Answer {
                    origin,
                    measure,
                    reply,
                } => self.send_answer(origin, measure, reply),
            }
        }
    }
}

/// Operations that throttles do not count: they cost nothing, and one of them is never answered.
pub(super) const fn is_free(operation: &Operation) -> bool {
    matches!(operation, Operation::CloseScanner { .. })
}

fn throttled(key: &str) -> Failure {
    let of_second_ms = clock::wall_us() / 1000 % 1000;
    Failure {
        // All of it is allowed again in the next second.
        retry_after_ms: u32::try_from(1000 - of_second_ms).unwrap_or(1),
        ..Failure::new(
            Code::Busy,
            format!("an operator has throttled this table (replica.{key}*)"),
        )
    }
}

fn bytes_of(value: &Value) -> u64 {
    match value {
        Value::Bulk(bytes) => bytes.len() as u64,
        Value::Array(values) | Value::Push(values) => values.iter().map(bytes_of).sum(),
        _ => 0,
    }
}
