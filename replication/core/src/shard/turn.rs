//! What the replicas of a shard share while one event is handled.

use crate::config::ReplicationOptions;
use crate::event::{Compute, Effects, Pressure};
use crate::ids::{CoreAddress, Instant, PartitionId};
use crate::log::{LogWriteId, ShardLog};
use crate::replica::Deadlines;
use crate::shard::links::Links;
use std::collections::{BTreeSet, VecDeque};
use std::time::Duration;

/// Everything of a shard that is not one replica's own.
#[derive(Debug)]
pub(crate) struct Desk {
    pub(crate) identity: CoreAddress,
    pub(crate) options: ReplicationOptions,
    pub(crate) log: ShardLog,
    pub(crate) log_pace: LogPace,
    pub(crate) links: Links,
    pub(crate) deadlines: Deadlines,
    pub(crate) pressure: Pressure,
    /// Reads in the engine, over all partitions.
    pub(crate) reads_inflight: usize,
    /// Atomic operations whose turn it is and that the caller has not taken yet.
    pub(crate) computes: VecDeque<Compute>,
    /// Replicas that owe their primary an acknowledgement; sent once each when the turn ends.
    pub(crate) acknowledgements: BTreeSet<PartitionId>,
    pub(crate) fence: Fence,
    /// When this life began.
    pub(crate) started_at: Instant,
}

/// Counts the times when our clock could not be trusted.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Fence {
    /// Leases of beacons sent before the last one are void.
    pub(crate) number: u64,
    /// When it was: what others did not say before that is no sign against them.
    pub(crate) at: Instant,
}

/// How long our own log takes to become durable: while it is slow itself, nobody else is called slow.
#[derive(Debug, Default)]
pub(crate) struct LogPace {
    under_way: VecDeque<(LogWriteId, Instant)>,
    /// The last write that took too long was over at that time.
    slow_at: Option<Instant>,
}

impl LogPace {
    pub(crate) fn on_write(&mut self, write: LogWriteId, now: Instant) {
        self.under_way.push_back((write, now));
    }

    pub(crate) fn on_durable(&mut self, write: LogWriteId, now: Instant, slow: Duration) {
        let known = self.under_way.iter().position(|(id, _)| *id == write);
        if let Some((_, began)) = known.and_then(|position| self.under_way.remove(position))
            && now.since(began) >= slow
        {
            self.slow_at = Some(now);
        }
    }

    /// Whether a write takes longer than `slow`, or has done so within `lately`.
    pub(crate) fn is_slow(&self, now: Instant, slow: Duration, lately: Duration) -> bool {
        let oldest = self.under_way.front();
        oldest.is_some_and(|(_, began)| now.since(*began) >= slow)
            || self.slow_at.is_some_and(|at| now.since(at) < lately)
    }
}

/// One event's view of the shard, beside the replica it is about.
#[derive(Debug)]
pub(crate) struct Turn<'a> {
    pub(crate) now: Instant,
    pub(crate) desk: &'a mut Desk,
    pub(crate) effects: &'a mut Effects,
}
