//! What is durable, as the list of changes that made it.

use super::backup::BackupChange;
use super::balance::BalanceSettings;
use super::node::Node;
use super::table::{Partition, Table};
use pegasus_replication::ids::{Ballot, NodeId, TableId};
use std::collections::BTreeMap;
use std::fmt;

/// Identity of a cluster, made once when its meta directory is made. Shown as 32 hexadecimal digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ClusterId(pub u128);

impl ClusterId {
    /// The upper and lower half, as the wire carries it.
    #[must_use]
    pub const fn halves(self) -> (u64, u64) {
        #[allow(
            clippy::cast_possible_truncation,
            reason = "the lower half is what is wanted"
        )]
        let low = self.0 as u64;
        ((self.0 >> 64) as u64, low)
    }

    /// The inverse of [`Self::halves`].
    #[must_use]
    pub const fn from_halves(high: u64, low: u64) -> Self {
        Self(((high as u128) << 64) | low as u128)
    }
}

impl fmt::Display for ClusterId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

/// The cluster that a meta directory belongs to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cluster {
    /// Never 0.
    pub id: ClusterId,
    /// For people; at most [`NAME_BYTES_MAX`] bytes of `[a-zA-Z0-9_.:-]`.
    pub name: String,
    /// Upper 16 bits of every new ballot; grown when state is rebuilt from replicas, so that old ballots never win.
    pub epoch: u16,
}

/// Longest name of a table or a cluster, in bytes.
pub const NAME_BYTES_MAX: usize = 128;

/// Whether `name` may name a table or a cluster: 1 to 128 of `[a-zA-Z0-9_.:-]`.
#[must_use]
pub fn may_name(name: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"_.:-".contains(&byte);
    (1..=NAME_BYTES_MAX).contains(&name.len()) && name.bytes().all(allowed)
}

/// The next numbers to give. They only grow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Counters {
    pub next_node: u32,
    pub next_table: u32,
    pub next_incarnation: u64,
}

impl Counters {
    /// Of a cluster that has nothing yet: everything counts from 1.
    pub const FIRST: Self = Self {
        next_node: 1,
        next_table: 1,
        next_incarnation: 1,
    };
}

/// What is to leave a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Drain {
    /// It leads nothing any more.
    Primaries,
    /// It holds nothing any more.
    Replicas,
    /// The same, and then it is forgotten.
    Decommission,
}

/// How much meta does by itself, as Apache Pegasus has it; an operator's switch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// Nothing: configurations stay as they are, tables cannot be made.
    Stopped,
    /// As `Stopped`, but tables can be dropped, recalled, renamed and set up.
    Blind,
    /// Dead members are removed and replaced as primaries, and that is all.
    Freezed,
    /// Everything but moving replicas for balance. Primaries are spread evenly, which moves no data.
    #[default]
    Steady,
    /// Everything.
    Lively,
}

impl Level {
    pub const ALL: [Self; 5] = [
        Self::Stopped,
        Self::Blind,
        Self::Freezed,
        Self::Steady,
        Self::Lively,
    ];

    /// The number that Apache tools know it by, and the store: 100 to 500.
    #[must_use]
    pub const fn number(self) -> u16 {
        match self {
            Self::Stopped => 100,
            Self::Blind => 200,
            Self::Freezed => 300,
            Self::Steady => 400,
            Self::Lively => 500,
        }
    }

    /// The inverse of [`Self::number`].
    #[must_use]
    pub fn from_number(number: u16) -> Option<Self> {
        Self::ALL.into_iter().find(|it| it.number() == number)
    }

    /// What people call it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Stopped => "stopped",
            Self::Blind => "blind",
            Self::Freezed => "freezed",
            Self::Steady => "steady",
            Self::Lively => "lively",
        }
    }
}

/// One durable step. A state is the fold of its changes; a snapshot is a shorter list with the same fold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// First in a store and in a snapshot, nowhere else.
    Cluster(Cluster),
    /// In snapshots, after `Cluster`.
    Counters(Counters),
    /// A number was promised to a node that has none; it is never given again.
    NodeNumbered { node: NodeId },
    /// A node joined or started again: replaces what was known of it.
    NodeJoined(Node),
    /// A table with its whole placement, so that a replay does not depend on the placement rules of today.
    TableCreated(Table),
    /// The name is free again, the number is not; its replicas are to be deleted.
    TableDropped { table: TableId, at_ms: u64 },
    /// Every replica of a dropped table is gone; the tombstone remains without its placement.
    TableForgotten { table: TableId },
    /// All members of these partitions have created their replicas.
    PartitionsActivated {
        table: TableId,
        partitions: Vec<u32>,
    },
    /// The same members under the next ballot. Of stores of format 1; [`Change::PartitionsChanged`] has taken its place.
    BallotsGrown {
        table: TableId,
        ballots: Vec<(u32, Ballot)>,
    },
    /// Members, learners, back-offs or orders are now these, by ascending index. Other members come with a higher ballot, the
    /// primary was a member before, and whoever joins was the learner.
    PartitionsChanged {
        table: TableId,
        partitions: Vec<(u32, Partition)>,
    },
    /// The node is being emptied, or is not any more.
    NodeDrained { node: NodeId, drain: Option<Drain> },
    /// The table is dropped and its name free, but its replicas stay until `until_ms`, so that it can be recalled. In a
    /// snapshot after the tombstone.
    TableKept {
        table: TableId,
        at_ms: u64,
        until_ms: u64,
    },
    /// A kept table is given up: its replicas are to be deleted.
    TableExpired { table: TableId },
    /// A kept table is there again, under this name. New ballots come with the change after it.
    TableRecalled { table: TableId, name: String },
    /// The table has another name.
    TableRenamed { table: TableId, name: String },
    /// All environments of the table are now these.
    TableEnvs {
        table: TableId,
        envs: BTreeMap<String, String>,
    },
    /// What meta does by itself.
    LevelSet(Level),
    /// What operators have said about balancing is now this.
    BalanceSet(BalanceSettings),
    /// Each partition of the table is to have so many replicas, and writes need so many members.
    ReplicaCountSet {
        table: TableId,
        replica_count: u8,
        min_replicas: u8,
    },
    /// A node that holds nothing is no more of the cluster; its number is never given again.
    NodeForgotten { node: NodeId },
    /// A step of a backup, of a policy, or of a restore.
    Backup(BackupChange),
}

/// A change that does not fit the state before it: the store is damaged or was written by something else.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ChangeError {
    #[error("the first change does not name the cluster")]
    NoCluster,
    #[error("the cluster is named twice")]
    ClusterTwice,
    #[error("table {0} is not there")]
    UnknownTable(TableId),
    #[error("table {table}: {fault}")]
    Table { table: TableId, fault: &'static str },
    #[error("node {node}: {fault}")]
    Node { node: NodeId, fault: &'static str },
    #[error("backups: {0}")]
    Backup(&'static str),
    #[error("balance: {0}")]
    Balance(&'static str),
    #[error("a counter would fall")]
    CounterFalls,
}
