//! What people and clients are shown.

use super::State;
use super::report::{ReplicaHealth, ReplicaKey, ReplicaStatus};
use super::table::{Partition, Table};
use crate::place::Load;
use pegasus_replication::config::{Member, Stage};
use pegasus_replication::ids::{CoreAddress, PartitionId, TableId};
use std::fmt::Write as _;

/// How a partition does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum PartitionHealth {
    /// Its primary serves and every wanted replica is there.
    Healthy,
    /// Its primary serves with fewer replicas than wanted.
    Degraded,
    /// Members have still to make their replicas.
    Creating,
    /// Nobody is known to serve it.
    Unavailable,
}

/// A member and its last words.
#[derive(Clone, Copy, Debug)]
pub struct MemberView<'a> {
    pub member: Member,
    /// Its node was heard of lately.
    pub alive: bool,
    /// `None`: nothing said since meta started.
    pub status: Option<&'a ReplicaStatus>,
    /// Unix milliseconds since when it is as it is: its node has said so, or has fallen silent. `None`: not known.
    pub since_ms: Option<u64>,
}

/// A partition and its members.
#[derive(Debug)]
pub struct PartitionView<'a> {
    pub partition: &'a Partition,
    pub health: PartitionHealth,
    pub primary: Option<MemberView<'a>>,
    pub secondaries: Vec<MemberView<'a>>,
    pub learner: Option<LearnerView<'a>>,
    /// Unix milliseconds since when it lacks members; `None`: it has all.
    pub degraded_ms: Option<u64>,
}

/// A learner and its last words.
#[derive(Clone, Copy, Debug)]
pub struct LearnerView<'a> {
    pub view: MemberView<'a>,
    /// It was made for this; otherwise a copy that came back.
    pub is_fresh: bool,
    /// Unix milliseconds of its assignment.
    pub since_ms: u64,
}

/// How far a table is from serving.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Progress {
    pub serving: u32,
    pub total: u32,
    /// What the first few others wait for, in words; empty when all serve.
    pub missing: String,
}

impl Progress {
    /// Every primary has said that it serves.
    #[must_use]
    pub const fn is_serving(&self) -> bool {
        self.serving == self.total
    }
}

/// A core and what it carries.
pub type CoreLoad = (CoreAddress, Load);

/// Partitions named in [`Progress::missing`].
const MISSING_NAMED_MAX: usize = 3;

impl State {
    /// How far `table` is; `None` if there is no such table, or it is dropped.
    #[must_use]
    pub fn progress(&self, table: TableId) -> Option<Progress> {
        let table = self
            .durable()
            .tables()
            .get(&table)
            .filter(|table| !table.is_dropped())?;
        let waiting: Vec<u32> = table
            .indexed()
            .filter(|&(index, it)| !self.is_serving(table, index, it))
            .map(|(index, _)| index)
            .collect();
        let mut missing = String::new();
        for &index in waiting.iter().take(MISSING_NAMED_MAX) {
            let separator = if missing.is_empty() { "" } else { "; " };
            let reason = self.waits_for(table, index);
            _ = write!(
                missing,
                "{separator}{}.{index} waits for {reason}",
                table.id
            );
        }
        let waiting = u32::try_from(waiting.len()).unwrap_or(u32::MAX);
        Some(Progress {
            serving: table.partition_count.saturating_sub(waiting),
            total: table.partition_count,
            missing,
        })
    }

    /// The first partition from `from` on whose primary does not serve; `None` if all do. `None` as well for a table that
    /// is not there.
    #[must_use]
    pub fn first_not_serving(&self, table: TableId, from: u32) -> Option<u32> {
        let table = self
            .durable()
            .tables()
            .get(&table)
            .filter(|table| !table.is_dropped())?;
        let waiting = |index: &u32| {
            table
                .partition(*index)
                .is_some_and(|it| !self.is_serving(table, *index, it))
        };
        (from..table.partition_count).find(waiting)
    }

    /// Partition `index` of `table` with its members' last words.
    #[must_use]
    pub fn partition_view<'a>(&'a self, table: &'a Table, index: u32) -> Option<PartitionView<'a>> {
        let partition = table.partition(index)?;
        let view = |member: &Member| self.member_view(table.id, index, *member);
        Some(PartitionView {
            partition,
            health: self.partition_health(table, index, partition),
            primary: partition.primary.as_ref().map(view),
            secondaries: partition.secondaries.iter().map(view).collect(),
            learner: partition.learner.as_ref().map(|learner| LearnerView {
                view: view(&learner.member),
                is_fresh: learner.is_fresh,
                since_ms: learner.since_ms,
            }),
            degraded_ms: (partition.member_count() < usize::from(table.replica_count))
                .then(|| self.degraded_since(table, partition)),
        })
    }

    /// How partition `index` does.
    #[must_use]
    pub fn partition_health(
        &self,
        table: &Table,
        index: u32,
        partition: &Partition,
    ) -> PartitionHealth {
        if partition.stage == Stage::Creating {
            return PartitionHealth::Creating;
        }
        if !self.is_serving(table, index, partition) {
            return PartitionHealth::Unavailable;
        }
        let works = |member: &&Member| {
            let view = self.member_view(table.id, index, **member);
            view.alive && view.status.is_some_and(ReplicaStatus::is_created)
        };
        let working = partition.members().filter(works).count();
        if working >= usize::from(table.replica_count) {
            PartitionHealth::Healthy
        } else {
            PartitionHealth::Degraded
        }
    }

    fn member_view(&self, table: TableId, index: u32, member: Member) -> MemberView<'_> {
        let key = ReplicaKey {
            partition: PartitionId { table, index },
            incarnation: member.incarnation,
        };
        let node = member.address.node;
        let live = self.live(node);
        let since_ms = match live {
            Some(live) if !live.alive => Some(live.heard_ms),
            live => live.and_then(|live| live.since_ms.get(&key).copied()),
        };
        MemberView {
            member,
            alive: self.is_alive(node),
            status: self.status(node, key),
            since_ms,
        }
    }

    /// Its primary says so, under the ballot that holds, and was heard of lately.
    pub(super) fn is_serving(&self, table: &Table, index: u32, partition: &Partition) -> bool {
        let Some(primary) = partition.primary else {
            return false;
        };
        let view = self.member_view(table.id, index, primary);
        let serves = |status: &ReplicaStatus| {
            status.health == ReplicaHealth::Serving && status.ballot == partition.ballot
        };
        partition.stage == Stage::Active && view.alive && view.status.is_some_and(serves)
    }

    fn waits_for(&self, table: &Table, index: u32) -> String {
        let Some(partition) = table.partition(index) else {
            return "nothing".to_owned();
        };
        let absent = partition
            .members()
            .map(|member| self.member_view(table.id, index, *member))
            .find(|view| !view.alive || !view.status.is_some_and(ReplicaStatus::is_created));
        let Some(view) = absent else {
            return "its primary to serve".to_owned();
        };
        let address = view.member.address;
        match view.status {
            _ if !view.alive => format!("node {}, which is not heard of", address.node),
            Some(status) if status.health == ReplicaHealth::OutOfService => {
                format!("core {address}, out of service: {}", status.reason)
            }
            _ if partition.stage == Stage::Active => {
                format!("core {address} to say that it has its replica")
            }
            _ => format!("core {address} to create its replica"),
        }
    }
}
