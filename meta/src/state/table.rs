//! Tables and their partitions, as they are persisted.

use super::change::may_name;
use super::group::{Backoff, Intent, Learner};
use pegasus_replication::config::{Configuration, Member, Stage};
use pegasus_replication::ids::{Ballot, NodeId, PartitionId, TableId};
use std::collections::{BTreeMap, BTreeSet};

/// Partitions of one table: a power of two from 2 to this.
pub const PARTITIONS_PER_TABLE_MAX: u32 = 65_536;
/// Partitions of all tables together that are not dropped: what one full Sync of a node can carry.
pub const PARTITIONS_MAX: u64 = 4 * PARTITIONS_PER_TABLE_MAX as u64;
/// Replicas of a partition: 1 to this.
pub const REPLICA_COUNT_MAX: u8 = 7;
/// Tables that are not dropped, at most.
pub const TABLES_MAX: usize = 4096;

/// A table, or the tombstone of a dropped one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Table {
    pub id: TableId,
    pub name: String,
    /// Wanted number of replicas; a partition that has fewer is degraded.
    pub replica_count: u8,
    /// Members that a write needs.
    pub min_replicas: u8,
    /// Unix milliseconds.
    pub created_ms: u64,
    /// Unix milliseconds; a tombstone's time of death.
    pub dropped_ms: Option<u64>,
    /// Unix milliseconds until which a dropped table can be recalled. `None` and dropped: its replicas are to be deleted.
    pub kept_until_ms: Option<u64>,
    /// Settings by key (`super::envs`).
    pub envs: BTreeMap<String, String>,
    /// Never changes, also after the placement of a dropped table is forgotten.
    pub partition_count: u32,
    /// By index; empty once a dropped table's replicas are gone.
    pub partitions: Vec<Partition>,
}

/// One partition: its configuration without what the table says for all of them, and who is to join it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Partition {
    pub ballot: Ballot,
    pub stage: Stage,
    /// `None`: nobody may serve. Never without members.
    pub primary: Option<Member>,
    pub secondaries: Vec<Member>,
    /// Catches up; not a member. Assigned without a new ballot, given up by one.
    pub learner: Option<Learner>,
    /// Unix milliseconds since when it has fewer members than wanted; `None` if it has all of them, or never had.
    pub degraded_ms: Option<u64>,
    /// Nodes that get no new replica of it for a while, by node.
    pub backoffs: Vec<Backoff>,
    /// An operator's order that is being carried out.
    pub intent: Option<Intent>,
}

impl Partition {
    /// A new one whose members have still to make their replicas, the primary first.
    #[must_use]
    pub fn creating(ballot: Ballot, members: impl IntoIterator<Item = Member>) -> Self {
        let mut members = members.into_iter();
        Self {
            ballot,
            stage: Stage::Creating,
            primary: members.next(),
            secondaries: members.collect(),
            learner: None,
            degraded_ms: None,
            backoffs: Vec::new(),
            intent: None,
        }
    }

    /// Primary first.
    pub fn members(&self) -> impl Iterator<Item = &Member> {
        self.primary.iter().chain(self.secondaries.iter())
    }

    /// How many members there are.
    #[must_use]
    pub fn member_count(&self) -> usize {
        usize::from(self.primary.is_some()) + self.secondaries.len()
    }

    /// Members and the learner: whoever has a replica because meta wants it.
    pub fn holders(&self) -> impl Iterator<Item = &Member> {
        self.members()
            .chain(self.learner.iter().map(|learner| &learner.member))
    }
}

impl Table {
    /// Members that a write needs, by default: 1 for a replica count up to 2, else 2.
    #[must_use]
    pub const fn default_min_replicas(replica_count: u8) -> u8 {
        if replica_count <= 2 { 1 } else { 2 }
    }

    #[must_use]
    pub const fn is_dropped(&self) -> bool {
        self.dropped_ms.is_some()
    }

    /// Dropped, and can be recalled.
    #[must_use]
    pub const fn is_kept(&self) -> bool {
        self.kept_until_ms.is_some()
    }

    /// Dropped for good: what is left of it is to be deleted.
    #[must_use]
    pub const fn is_condemned(&self) -> bool {
        self.is_dropped() && !self.is_kept()
    }

    /// Some partition has still to be made.
    #[must_use]
    pub fn is_creating(&self) -> bool {
        self.partitions
            .iter()
            .any(|partition| partition.stage == Stage::Creating)
    }

    /// Some partition has fewer members than wanted.
    #[must_use]
    pub fn is_degraded(&self) -> bool {
        self.partitions
            .iter()
            .any(|partition| partition.member_count() < usize::from(self.replica_count))
    }

    /// The whole configuration of partition `index`, if it is there.
    #[must_use]
    pub fn configuration(&self, index: u32) -> Option<Configuration> {
        let partition = self.partition(index)?;
        Some(Configuration {
            partition: PartitionId {
                table: self.id,
                index,
            },
            ballot: partition.ballot,
            stage: partition.stage,
            primary: partition.primary,
            secondaries: partition.secondaries.clone(),
            replica_count: self.replica_count,
            min_replicas: self.min_replicas,
        })
    }

    /// Partition `index`, if it is there.
    #[must_use]
    pub fn partition(&self, index: u32) -> Option<&Partition> {
        self.partitions.get(usize::try_from(index).ok()?)
    }

    pub(crate) fn partition_mut(&mut self, index: u32) -> Option<&mut Partition> {
        self.partitions.get_mut(usize::try_from(index).ok()?)
    }

    /// Every partition with its index.
    pub fn indexed(&self) -> impl Iterator<Item = (u32, &Partition)> {
        (0..).zip(&self.partitions)
    }

    /// Every node that has a replica of this table.
    #[must_use]
    pub fn nodes(&self) -> BTreeSet<NodeId> {
        self.partitions
            .iter()
            .flat_map(Partition::holders)
            .map(|member| member.address.node)
            .collect()
    }

    /// The table with its partitions as format 1 knew them.
    pub(crate) fn without_plans(&self) -> Self {
        let bare = |it: &Partition| Partition {
            stage: it.stage,
            ..Partition::creating(it.ballot, it.members().copied())
        };
        Self {
            partitions: self.partitions.iter().map(bare).collect(),
            name: self.name.clone(),
            kept_until_ms: None,
            envs: BTreeMap::new(),
            ..*self
        }
    }

    /// What is wrong with it on its own, if anything.
    pub(crate) fn fault(&self) -> Option<&'static str> {
        match self {
            _ if self.id.0 == 0 => Some("the number is 0"),
            _ if !may_name(&self.name) => Some("the name is not 1 to 128 of [a-zA-Z0-9_.:-]"),
            _ if !may_count_partitions(self.partition_count) => {
                Some("the partition count is not a power of two from 2 to 65536")
            }
            _ if !(1..=REPLICA_COUNT_MAX).contains(&self.replica_count) => {
                Some("the replica count is not 1 to 7")
            }
            _ if !(1..=self.replica_count).contains(&self.min_replicas) => {
                Some("min_replicas is not 1 to replica_count")
            }
            _ if !self.has_all_partitions() => Some("partitions are missing"),
            _ if self.is_kept() && !self.is_dropped() => Some("it is kept and not dropped"),
            _ if self.is_kept() && self.partitions.is_empty() => Some("nothing of it is kept"),
            _ => self.partitions.iter().find_map(Partition::fault),
        }
    }

    fn has_all_partitions(&self) -> bool {
        let forgotten = self.is_dropped() && self.partitions.is_empty();
        forgotten || u32::try_from(self.partitions.len()) == Ok(self.partition_count)
    }
}

/// A power of two from 2 to 65,536.
#[must_use]
pub const fn may_count_partitions(count: u32) -> bool {
    count.is_power_of_two() && count >= 2 && count <= PARTITIONS_PER_TABLE_MAX
}
