//! Configurations of partitions, as meta decides them, and the options of replication.

use crate::ids::{Ballot, CoreAddress, Decree, NodeId, PartitionId, ReplicaIncarnation};
use std::time::Duration;

/// One member of a partition's group.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Member {
    pub address: CoreAddress,
    pub incarnation: ReplicaIncarnation,
}

/// Whether meta still waits for the members to create their empty replicas.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// Members create an empty replica of the named incarnation and report it; nobody serves.
    Creating,
    /// Every member has reported its replica once. From here on a member without one has lost it and never makes a new one.
    Active,
}

/// Who holds a partition, under which ballot. Made and persisted by meta, never by a replica.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Configuration {
    pub partition: PartitionId,
    pub ballot: Ballot,
    pub stage: Stage,
    /// `None`: nobody may serve.
    pub primary: Option<Member>,
    pub secondaries: Vec<Member>,
    /// The table's wanted number of replicas.
    pub replica_count: u8,
    /// Members, the primary included, that a write needs; below it writes get `NotEnoughMembers`.
    pub min_replicas: u8,
}

impl Configuration {
    /// Primary first, then secondaries in order.
    pub fn members(&self) -> impl Iterator<Item = &Member> {
        self.primary.iter().chain(self.secondaries.iter())
    }

    #[must_use]
    pub fn member_on(&self, node: NodeId) -> Option<&Member> {
        self.members().find(|member| member.address.node == node)
    }
}

/// Why a primary wants a member out of the configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum RemovalCause {
    /// Its link is closed and does not come back, or it acknowledges no beacon.
    Down,
    /// It answers, but its acknowledgements lag, and our own log does not. Never below `min_replicas`.
    Slow,
    /// It lacks mutations it had acknowledged, or its order cannot be matched.
    Lost,
    /// It has no replica, or one that is quarantined.
    OutOfService,
}

/// A change that a replica asks meta for, against the ballot it knows. Meta answers with the configuration that holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Proposal {
    /// By a primary: the same members under the next ballot.
    NextBallot,
    /// By a secondary that has not heard of its primary: make it primary, remove the old one. With its last durable entry.
    TakeOver {
        prepared: Decree,
        prepared_ballot: Ballot,
    },
    /// By the primary.
    Remove { member: Member, cause: RemovalCause },
    /// By the primary: the learner assigned holds everything committed and is waited for; it becomes a secondary.
    Add { member: Member },
    /// By the primary, which has stopped for good in this ballot: `to` becomes primary, it becomes a secondary.
    HandOver { to: Member },
    /// By the primary, which waits for this learner and wants to stop waiting: take its assignment back. Once told so, it asks
    /// for the next ballot, and waits no more when it has that.
    WithdrawLearner { member: Member },
}

/// Knobs of one shard's replication. Counts and bytes are bounds: at them the client is pushed back with `Busy`.
///
/// The margins between the periods are ratios, because what is at risk are clock *rates* that differ: docs/replication.md,
/// "Lease arithmetic".
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReplicationOptions {
    /// How often a core sends its beacons. Default 100 ms. At most a third of `lease_period`, so that one may be lost.
    pub beacon_period: Duration,
    /// How long a primary may answer reads after it sent a beacon that all members acknowledged. Default 400 ms. Longer:
    /// slower failover; shorter: pauses of the members stop reads.
    pub lease_period: Duration,
    /// How long a secondary that has acknowledged a beacon waits before it asks to take over. Default 550 ms, at least
    /// 1.25 times `lease_period`. Longer: slower failover; shorter: a pause of the primary costs it its role.
    pub grace_period: Duration,
    /// How long the link to a member may stay closed before its removal is proposed. Default 100 ms.
    pub redial_period: Duration,
    /// A member is slow when its acknowledgements lag by more than this ... Default 500 ms.
    pub slow_lag: Duration,
    /// ... while our own log becomes durable within this. Default 100 ms.
    pub slow_own_flush: Duration,
    /// How long a primary keeps what its log holds from where a member left, in case the copy comes back. Default 10 min. The log
    /// is cut all the same once it is three quarters full. Shorter: a node that was away for longer is copied as a whole.
    pub log_keep_period: Duration,
    /// Mutations kept in memory for a learner that is fetching or following. Default 4,096. Over it, the learner starts over.
    pub learner_entries_max: usize,
    /// The same in bytes of payloads. Default 16 MiB.
    pub learner_bytes_max: usize,
    /// Prepares of one partition without an answer yet. Default 256.
    pub prepare_inflight_max: usize,
    /// Bytes appended and not yet durable, per core. Default 32 MiB.
    pub log_pending_bytes_max: usize,
    /// Committed and not yet applied, per partition, in mutations. Default 1,024.
    pub apply_queue_max: usize,
    /// Bytes of prepares sent to one peer core and not yet acknowledged: its credit window. Default 16 MiB.
    pub peer_window_bytes_max: usize,
}

impl Default for ReplicationOptions {
    fn default() -> Self {
        Self {
            beacon_period: Duration::from_millis(100),
            lease_period: Duration::from_millis(400),
            grace_period: Duration::from_millis(550),
            redial_period: Duration::from_millis(100),
            slow_lag: Duration::from_millis(500),
            slow_own_flush: Duration::from_millis(100),
            log_keep_period: Duration::from_secs(600),
            learner_entries_max: 4096,
            learner_bytes_max: 16 << 20,
            prepare_inflight_max: 256,
            log_pending_bytes_max: 32 << 20,
            apply_queue_max: 1024,
            peer_window_bytes_max: 16 << 20,
        }
    }
}

impl ReplicationOptions {
    /// Refuses margins under which two primaries could serve, and bounds with which nothing moves, with a sentence.
    ///
    /// # Errors
    /// Names the field and what it has to be.
    pub fn check(&self) -> Result<(), String> {
        let periods = [
            ("beacon_period", self.beacon_period),
            ("lease_period", self.lease_period),
            ("grace_period", self.grace_period),
            ("redial_period", self.redial_period),
            ("slow_lag", self.slow_lag),
            ("slow_own_flush", self.slow_own_flush),
            ("log_keep_period", self.log_keep_period),
        ];
        if let Some((name, _)) = periods.iter().find(|(_, period)| period.is_zero()) {
            return Err(format!("replication {name} is zero"));
        }
        let bounds = [
            ("learner_entries_max", self.learner_entries_max),
            ("learner_bytes_max", self.learner_bytes_max),
            ("prepare_inflight_max", self.prepare_inflight_max),
            ("log_pending_bytes_max", self.log_pending_bytes_max),
            ("apply_queue_max", self.apply_queue_max),
            ("peer_window_bytes_max", self.peer_window_bytes_max),
        ];
        if let Some((name, _)) = bounds.iter().find(|(_, bound)| *bound == 0) {
            return Err(format!("replication {name} is zero"));
        }
        if self.beacon_period * 3 > self.lease_period {
            return Err(format!(
                "replication beacon_period {:?} is over a third of lease_period {:?}: one lost beacon would stop reads",
                self.beacon_period, self.lease_period
            ));
        }
        if self.grace_period * 4 < self.lease_period * 5 {
            return Err(format!(
                "replication grace_period {:?} is under 1.25 times lease_period {:?}: with clocks that differ by 10 % on \
                 both sides two primaries could serve",
                self.grace_period, self.lease_period
            ));
        }
        Ok(())
    }
}
