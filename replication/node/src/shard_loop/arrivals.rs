//! Requests between the sockets and the replication core: admitted at once as long as one table asks, by fair shares of
//! the core's time when several do and more comes than a turn can do.
//!
//! With one table nothing waits here, and a request pays for two comparisons. With several, a turn takes in what lies in
//! the sockets, so that what waits does so where tables are told apart, and admits as much as the engine will read in
//! this turn. Bounded: what waits counts like requests in work, see [`ShardLoop::is_over_share`].

use super::ShardLoop;
use super::fair::{FLOWS, FairQueue};
use super::redis::Asked;
use super::requests::{Measure, Origin};
use crate::clock;
use crate::stall::Phase;
use pegasus_fbs::stats_page::Counter;
use pegasus_net::Arrival;
use pegasus_net::request::{Failure, Request};
use pegasus_replication::ids::{Instant, PartitionId, TableId};
use std::io;
use std::time::Duration;

/// Tables that have asked within this time share the core.
const PERIOD: Duration = Duration::from_millis(10);
/// Requests of a turn that are admitted as they come although several tables ask.
const AT_ONCE: usize = 16;
/// Time of a turn for admissions while several tables ask.
const ADMIT_TIME: Duration = Duration::from_micros(100);
/// Reads that the engine is given ahead.
const READS_AHEAD: usize = 64;
/// Looks into the sockets in one turn.
const LOOKS_MAX: usize = 8;
/// What a read costs behind its admission, beside its bytes.
const READ_COST: Duration = Duration::from_micros(2);

/// A request that waits for its table's turn.
#[derive(Debug)]
#[allow(
    clippy::large_enum_variant,
    reason = "most are requests, and a box would be an allocation for each"
)]
pub(super) enum Waiting {
    Request {
        origin: Origin,
        request: Request,
        measure: Measure,
        arrival: Arrival,
    },
    /// Of Redis commands.
    Part { origin: Origin, asked: Asked },
}

/// What has come and is not admitted.
#[derive(Debug, Default)]
pub(super) struct Arrivals {
    queue: FairQueue<Waiting>,
    /// In this turn.
    count: usize,
    /// Several tables have asked in the last period.
    is_shared: bool,
    /// Flows of tables that have asked in this period.
    seen: [u64; FLOWS / 64],
    period_ends: Instant,
}

impl Arrivals {
    pub(super) fn begin_turn(&mut self, now: Instant) {
        self.count = 0;
        if now >= self.period_ends {
            let tables: u32 = self.seen.iter().map(|word| word.count_ones()).sum();
            self.is_shared = tables > 1;
            self.seen = [0; FLOWS / 64];
            self.period_ends = now.after(PERIOD);
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    pub(super) fn len(&self) -> usize {
        self.queue.len()
    }

    /// A request of this table has come; true: it is admitted at once.
    #[inline]
    pub(super) fn note(&mut self, table: u32) -> bool {
        let flow = table as usize % FLOWS;
        self.seen[flow / 64] |= 1 << (flow % 64);
        self.count += 1;
        self.queue.is_empty() && !(self.is_shared && self.count > AT_ONCE)
    }

    /// As [`Self::note`], if it is admitted at once; else it has to be noted by whoever lets it wait.
    #[inline]
    pub(super) fn note_at_once(&mut self, table: u32) -> bool {
        let is_at_once = self.queue.is_empty() && !(self.is_shared && self.count >= AT_ONCE);
        is_at_once && self.note(table)
    }

    /// A read of this table has been answered with so many bytes: about a nanosecond for each.
    #[inline]
    pub(super) fn charge_read(&mut self, table: TableId, bytes: u64) {
        if self.is_shared {
            let cost = READ_COST + Duration::from_nanos(bytes);
            self.queue.charge(table.0, cost);
        }
    }

    /// A step of a long read of this table has taken so long.
    #[inline]
    pub(super) fn charge(&mut self, table: TableId, cost: Duration) {
        if self.is_shared {
            self.queue.charge(table.0, cost);
        }
    }
}

impl ShardLoop {
    /// Takes in what lies in the sockets, if tables have to be told apart there.
    pub(super) fn look_again(&mut self) -> io::Result<()> {
        for _ in 0..LOOKS_MAX {
            if !(self.arrivals.is_shared && self.io.has_undecoded()) {
                break;
            }
            self.poll(Duration::ZERO)?;
            self.now = self.now.max(Instant(self.io.polled_ns()));
            self.collect_io();
        }
        Ok(())
    }

    /// Keeps a request until its table's turn, or refuses it.
    pub(super) fn keep_waiting(&mut self, partition: PartitionId, waiting: Waiting) {
        if !self.is_over_share(partition.table) {
            return self.arrivals.queue.push(partition.table.0, waiting);
        }
        let failure = self.over_share();
        match waiting {
            Waiting::Request {
                origin, measure, ..
            } => self.refuse(origin, measure, failure),
            Waiting::Part { origin, asked } => {
                let measure = Measure::untraced(None, asked.received);
                self.refuse(origin, measure, failure);
            }
        }
    }

    /// Admits by turns until the turn has enough.
    pub(super) fn admit_waiting(&mut self) {
        if self.arrivals.is_empty() {
            return;
        }
        self.pulse.enter(Phase::Request);
        let started = clock::now();
        let (mut now, until) = (started, started.after(ADMIT_TIME));
        while now < until && self.engine_work.read_count() < READS_AHEAD {
            let Some(waiting) = self.arrivals.queue.pop() else {
                break;
            };
            let table = waiting.table();
            self.admit_one(waiting);
            let ended = clock::now();
            self.arrivals.charge(table, ended.since(now));
            now = ended;
        }
        self.stats.add_time(Counter::AdmitTime, now.since(started));
    }

    fn admit_one(&mut self, waiting: Waiting) {
        match waiting {
            Waiting::Request {
                origin,
                request,
                measure,
                arrival,
            } => self.admit(origin, request, measure, &arrival),
            Waiting::Part { origin, asked } => self.start_part(origin, asked),
        }
    }

    /// A table may have as many requests in work, waiting or delayed as there is room left for others (dynamic thresholds,
    /// Choudhury and Hahne 1998): half of all if it is the only one that wants more.
    pub(super) fn is_over_share(&self, table: TableId) -> bool {
        let waiting = self.arrivals.len() + self.throttling.delayed_count();
        let own = self.requests.count_of(table) + self.arrivals.queue.len_of(table.0);
        self.requests.count() + waiting + own >= self.requests.max() || self.is_memory_full()
    }

    /// Whether the requests of this core's clients hold as much memory as they may.
    fn is_memory_full(&self) -> bool {
        self.io.counters().request_bytes_inflight >= self.request_bytes_max
    }

    pub(super) fn over_share(&mut self) -> Failure {
        let why = match self.is_memory_full() {
            true => "requests in work on this core hold as much memory as they may",
            false => "too many requests of this table are in work on this core",
        };
        self.busy(Counter::RejectRequests, why)
    }
}

impl Waiting {
    const fn table(&self) -> TableId {
        match self {
            Self::Request { request, .. } => TableId(request.table),
            Self::Part { asked, .. } => asked.partition.table,
        }
    }
}
