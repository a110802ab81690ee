//! What a write waits for besides the engine: moments of log writes and of prepares, until what ends them arrives.

use crate::stats::TraceId;
use pegasus_fbs::stats_page::Stage;
use pegasus_replication::ids::{CoreAddress, Decree, Instant, PartitionId};
use pegasus_replication::log::LogWriteId;
use std::collections::VecDeque;
use std::time::Duration;

/// A prepare that is not acknowledged by then is measured no longer: its partition may have another primary now.
const PREPARE_TIME_MAX: Duration = Duration::from_secs(60);

/// Moments of what is under way. As many entries as log writes in flight and secondaries' cores.
#[derive(Debug, Default)]
pub(super) struct Waits {
    log_writes: VecDeque<(LogWriteId, LogTimes)>,
    /// Since when records wait in the log for a write to take them.
    left_since: Option<Instant>,
    prepares: Vec<SentPrepare>,
    /// Clients' writes that no log write has taken, with the numbers of their records, in order.
    appended: VecDeque<(u64, TraceId)>,
    /// How many of those are known to have been appended in an earlier turn.
    waiting: usize,
    /// Clients' writes that are not durable, with the log write that has the last of what was taken with them, in order.
    writing: VecDeque<(LogWriteId, TraceId)>,
    newest: Option<LogWriteId>,
}

/// When a log write began.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct LogTimes {
    /// Its oldest record was appended.
    pub(super) appended: Instant,
    /// It was handed to the disk.
    pub(super) started: Instant,
}

/// One prepare of those under way to a core: a sample, so that sending costs no allocation for each.
#[derive(Debug)]
struct SentPrepare {
    to: CoreAddress,
    partition: PartitionId,
    decree: Decree,
    at: Instant,
}

impl Waits {
    /// A log write takes everything that waits.
    pub(super) fn on_log_write(&mut self, id: LogWriteId, now: Instant) {
        let appended = self.left_since.take().unwrap_or(now);
        let times = LogTimes {
            appended,
            started: now,
        };
        self.log_writes.push_back((id, times));
        self.newest = Some(id);
    }

    /// A client's write has been appended as record `number` of the log, counted from 1.
    pub(super) fn on_append(&mut self, number: u64, trace: TraceId) {
        if trace != TraceId::NONE {
            self.appended.push_back((number, trace));
        }
    }

    /// Log writes have taken the first `taken` records: which client's write enters which stage. One that is taken in the
    /// turn of its append has not waited.
    pub(super) fn on_log_taken(&mut self, taken: u64, mut step: impl FnMut(TraceId, Stage)) {
        while let Some((number, trace)) = self.appended.front().copied()
            && number <= taken
            && let Some(newest) = self.newest
        {
            self.appended.pop_front();
            self.waiting = self.waiting.saturating_sub(1);
            self.writing.push_back((newest, trace));
            step(trace, Stage::Flush);
        }
        for (_, trace) in self.appended.range(self.waiting..) {
            step(*trace, Stage::LogWait);
        }
        self.waiting = self.appended.len();
    }

    /// All writes of this turn have been handed out; whether records are left waiting for the next one.
    pub(super) fn on_log_left(&mut self, is_left: bool, now: Instant) {
        if is_left {
            self.left_since.get_or_insert(now);
        } else {
            self.left_since = None;
        }
    }

    /// A log write has ended. What it and all before it hold is durable: `durable` is told of each client's write in it.
    pub(super) fn on_log_written(
        &mut self,
        id: LogWriteId,
        mut durable: impl FnMut(TraceId),
    ) -> Option<LogTimes> {
        let index = self.log_writes.iter().position(|(of, _)| *of == id)?;
        let (_, times) = self.log_writes.remove(index)?;
        let oldest = self.log_writes.front().map(|(id, _)| *id);
        while let Some((in_write, trace)) = self.writing.front().copied()
            && oldest.is_none_or(|oldest| in_write < oldest)
        {
            self.writing.pop_front();
            durable(trace);
        }
        Some(times)
    }

    /// Nothing that was appended or under way ever becomes durable.
    pub(super) fn on_log_failed(&mut self) {
        self.appended.clear();
        self.writing.clear();
        self.waiting = 0;
    }

    /// A prepare leaves.
    pub(super) fn on_prepare(
        &mut self,
        to: CoreAddress,
        partition: PartitionId,
        decree: Decree,
        now: Instant,
    ) {
        let sent = SentPrepare {
            to,
            partition,
            decree,
            at: now,
        };
        match self.prepares.iter_mut().find(|sent| sent.to == to) {
            None => self.prepares.push(sent),
            Some(old) if now.since(old.at) > PREPARE_TIME_MAX => *old = sent,
            Some(_) => {}
        }
    }

    /// An acknowledgement has come; when the prepare was sent, if it is the one measured.
    pub(super) fn on_ack(
        &mut self,
        from: CoreAddress,
        partition: PartitionId,
        prepared: Decree,
    ) -> Option<Instant> {
        let is_it = |sent: &SentPrepare| {
            sent.to == from && sent.partition == partition && sent.decree <= prepared
        };
        let index = self.prepares.iter().position(is_it)?;
        Some(self.prepares.swap_remove(index).at)
    }

    /// What was sent over this link may be lost.
    pub(super) fn on_peer_down(&mut self, peer: CoreAddress) {
        self.prepares.retain(|sent| sent.to != peer);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use pegasus_replication::ids::{CoreId, NodeId, TableId};

    const PEER: CoreAddress = CoreAddress {
        node: NodeId(2),
        core: CoreId(0),
    };
    const PARTITION: PartitionId = PartitionId {
        table: TableId(1),
        index: 3,
    };

    #[test]
    fn records_that_wait_for_a_write_count_from_their_append() {
        let mut waits = Waits::default();
        waits.on_log_write(LogWriteId(1), Instant(10));
        waits.on_log_left(true, Instant(20));
        waits.on_log_left(true, Instant(30));
        waits.on_log_write(LogWriteId(2), Instant(40));
        waits.on_log_left(false, Instant(40));
        let times = |appended, started| {
            Some(LogTimes {
                appended: Instant(appended),
                started: Instant(started),
            })
        };
        assert_eq!(waits.on_log_written(LogWriteId(2), |_| ()), times(20, 40));
        assert_eq!(waits.on_log_written(LogWriteId(1), |_| ()), times(10, 10));
        assert_eq!(waits.on_log_written(LogWriteId(1), |_| ()), None);
    }

    #[test]
    fn clients_writes_follow_the_log_write_that_took_them() {
        let [a, b, c] = TraceId::three();
        let mut waits = Waits::default();
        let taken = |waits: &mut Waits, count| {
            let mut steps = Vec::new();
            waits.on_log_taken(count, |trace, stage| steps.push((trace, stage)));
            steps
        };
        let durable = |waits: &mut Waits, id| {
            let mut durable = Vec::new();
            waits.on_log_written(LogWriteId(id), |trace| durable.push(trace));
            durable
        };
        // Records of others lie between those of clients.
        waits.on_append(2, a);
        waits.on_append(4, b);
        waits.on_log_write(LogWriteId(1), Instant(10));
        let (log_wait, flush) = (Stage::LogWait, Stage::Flush);
        assert_eq!(taken(&mut waits, 3), [(a, flush), (b, log_wait)]);
        assert_eq!(taken(&mut waits, 3), [], "nobody steps twice");
        waits.on_append(5, c);
        waits.on_log_write(LogWriteId(2), Instant(20));
        assert_eq!(taken(&mut waits, 5), [(b, flush), (c, flush)]);
        assert_eq!(
            durable(&mut waits, 2),
            [],
            "the write before it is not durable"
        );
        assert_eq!(durable(&mut waits, 1), [a, b, c]);
    }

    #[test]
    fn one_prepare_of_each_secondary_is_measured_at_a_time() {
        let mut waits = Waits::default();
        waits.on_prepare(PEER, PARTITION, Decree(5), Instant(1));
        waits.on_prepare(PEER, PARTITION, Decree(6), Instant(2));
        assert_eq!(waits.on_ack(PEER, PARTITION, Decree(4)), None);
        assert_eq!(waits.on_ack(PEER, PARTITION, Decree(6)), Some(Instant(1)));
        assert_eq!(waits.on_ack(PEER, PARTITION, Decree(6)), None);
        waits.on_prepare(PEER, PARTITION, Decree(7), Instant(3));
        waits.on_peer_down(PEER);
        assert_eq!(waits.on_ack(PEER, PARTITION, Decree(7)), None);
    }
}
