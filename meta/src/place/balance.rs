//! Which replicas and primaries should move so that cores, then nodes, then disks carry the same.
//!
//! The input is the cluster as numbers: nodes with their cores, partitions with their members and what was measured of them.
//! The output is an ordered list of [`Move`]s, each with its reason and its gain. No clock, no memory, no randomness: the same
//! cluster gives the same plan, and a cluster that was brought to where a plan leads gives none.
//!
//! In this order, and what comes later never undoes what came before:
//!
//! 1. what a leaving node holds goes to the cores that hold the least ([`Reason::Leaving`]);
//! 2. replicas: from the core that holds the most to the one that holds the least, while they differ by two or more
//!    ([`Reason::Replicas`]);
//! 3. disks: what lies on a disk that is too full, or far fuller than others ([`Reason::Disk`]);
//! 4. primaries: those of a table over the cores, then of all tables over the cores, then over the nodes, along chains of
//!    hand-overs ([`Reason::TablePrimaries`], [`Reason::Primaries`]);
//! 5. load: the hottest core gives its work to cooler ones, in exchange for partitions that do less, so that the numbers of
//!    1, 2 and 4 stay ([`Reason::Load`]).
//!
//! Why it comes to an end and does not swing back: each step of 1 to 4 takes from a place that has at least two more than the
//! other one, and each of 3 and 5 lowers the higher of two places by a margin ([`Options::load_margin_percent`],
//! [`DISK_MARGIN_PERCENT`]); so the sum of the squares falls with every step. What a plan has moved it does not move again.

mod disks;
mod leads;
mod load;
mod model;
mod replicas;

use model::Model;
use pegasus_replication::ids::{CoreAddress, NodeId, PartitionId};

/// Above this part of its disk, in percent, a node gives replicas away whatever the others have.
pub const DISK_GIVE_PERCENT: u64 = 80;
/// Above this part a node gets nothing from nodes that are less full, so that it does not swing between giving and getting.
pub const DISK_TAKE_PERCENT: u64 = 70;
/// Above this part it gets nothing at all: there writes are refused.
pub const DISK_FULL_PERCENT: u64 = 90;
/// Two disks are as full as each other up to this difference, in percent of a disk.
pub const DISK_MARGIN_PERCENT: u64 = 15;
/// Requests a second of the hottest core below which load is no reason to move anything.
pub const LOAD_MIN: u64 = 200;

/// What may become of a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// Gets replicas and leads.
    Open,
    /// Leads nothing and gets nothing; keeps its replicas.
    Resting,
    /// Everything is to leave it.
    Leaving,
    /// Is not heard of: nothing goes to it or comes from it.
    Down,
}

/// A node as the plan sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NodeFacts {
    pub node: NodeId,
    /// At least 1.
    pub cores: u16,
    pub standing: Standing,
    /// Bytes of its disk, and of what is used of it; 0 and 0: not known.
    pub disk_total: u64,
    pub disk_used: u64,
}

/// What was measured of a partition, smoothed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PartitionLoad {
    /// Requests a second that its primary answers without a log.
    pub reads: u32,
    /// Mutations a second, which every member writes.
    pub writes: u32,
    /// Of the files of one replica.
    pub bytes: u64,
}

/// Whether a partition may be touched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Freedom {
    Free,
    /// Something of it was moved lately, and its load is as it was: its replicas stay where they are, unless their node is
    /// being emptied, and for its load it is not handed over.
    Settled,
    /// Something is under way: it stays as it is.
    Fixed,
}

/// How far a plan goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Options {
    /// Replicas move too; otherwise only primaries.
    pub moves_replicas: bool,
    /// Load is looked at too; otherwise only numbers.
    pub by_load: bool,
    /// A core is hot that carries so much more than the mean, in percent. Half of it is what a step has to gain.
    pub load_margin_percent: u64,
    /// Replicas that a plan moves, at most.
    pub moves_max: usize,
    /// Bytes that a plan copies, at most; the first copy is always allowed.
    pub bytes_max: u64,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            moves_replicas: true,
            by_load: true,
            load_margin_percent: 20,
            moves_max: 1_024,
            bytes_max: 1 << 40,
        }
    }
}

/// Why something moves.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Reason {
    /// Its node is being emptied.
    Leaving,
    /// Its core holds more replicas than others.
    Replicas,
    /// Its disk is fuller than others.
    Disk,
    /// Its core leads more of this table than others.
    TablePrimaries,
    /// Its core or node leads more than others.
    Primaries,
    /// Its core is hotter than others.
    Load,
}

impl Reason {
    /// For people.
    #[must_use]
    pub const fn words(self) -> &'static str {
        match self {
            Self::Leaving => "its node is being emptied",
            Self::Replicas => "its core holds more replicas than others",
            Self::Disk => "its disk is fuller than others",
            Self::TablePrimaries => "its core leads more of the table than others",
            Self::Primaries => "its core leads more than others",
            Self::Load => "its core has more work than others",
        }
    }
}

/// What moves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// `from` hands the lead over to `to`, which is a member.
    Lead,
    /// A new replica at `to` takes the place of the one at `from`.
    Replica,
}

/// One step of a plan. Replicas come before primaries; within those the order does not matter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Move {
    pub partition: PartitionId,
    pub kind: Kind,
    pub from: CoreAddress,
    pub to: CoreAddress,
    pub reason: Reason,
    /// What it is worth: by how many replicas or primaries the two places differed, by how many percent of a disk, or how many
    /// requests a second the hotter core comes down. 0: it makes room for another step.
    pub gain: u64,
    /// Bytes to be copied; 0 for a hand-over.
    pub bytes: u64,
}

/// How uneven a cluster is. Of cores that may lead.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Evenness {
    pub cores: u32,
    pub replicas_min: u32,
    pub replicas_max: u32,
    pub primaries_min: u32,
    pub primaries_max: u32,
    /// Weighted requests a second of a core.
    pub load_mean: f64,
    pub load_max: u64,
    /// Of the core that 99 of 100 cores do not exceed.
    pub load_p99: u64,
    /// What the hottest core carries at least, however things are placed: the hottest partition has one primary.
    pub load_bound: f64,
    /// The most that a core carries in terms of what cannot be taken off it: the mean, or its heaviest partition alone.
    pub crowding_max: f64,
    /// Cores that carry more than 1.25 times that.
    pub crowded_cores: u32,
}

/// A cluster to be levelled.
#[derive(Clone, Debug)]
pub struct Planner {
    model: Model,
}

impl Planner {
    /// Of nodes in any order, each named once.
    #[must_use]
    pub fn new(nodes: impl IntoIterator<Item = NodeFacts>) -> Self {
        Self {
            model: Model::new(nodes.into_iter().collect()),
        }
    }

    /// Adds a partition with its members, the primary first, in ascending order of partitions. One with a member on a core
    /// that is not there counts as fixed.
    pub fn add(
        &mut self,
        partition: PartitionId,
        members: impl Iterator<Item = CoreAddress>,
        load: PartitionLoad,
        freedom: Freedom,
    ) {
        self.model.add(partition, members, load, freedom);
    }

    /// How uneven it is now.
    #[must_use]
    pub fn evenness(&self) -> Evenness {
        self.model.evenness()
    }

    /// The plan. Afterwards the planner stands where it leads.
    ///
    /// Costs for P partitions on C cores O(P + C log C) and what moves: about 0.1 s for 100,000 partitions of three replicas
    /// on 32,000 cores.
    pub fn plan(&mut self, options: &Options) -> Vec<Move> {
        if options.moves_replicas {
            replicas::empty_leaving(&mut self.model, options);
            replicas::level(&mut self.model, options);
            disks::level(&mut self.model, options);
        }
        leads::level_tables(&mut self.model);
        leads::level_all(&mut self.model);
        leads::level_nodes(&mut self.model);
        if options.by_load {
            load::level(&mut self.model, options);
        }
        self.model.take_moves()
    }

    /// Where the replicas of leaving nodes go, and nothing else.
    #[must_use]
    pub fn plan_leaving(&mut self, options: &Options) -> Vec<Move> {
        replicas::empty_leaving(&mut self.model, options);
        self.model.take_moves()
    }

    /// The members of each partition as they are now, in the order in which they were added.
    pub fn placement(&self) -> impl Iterator<Item = (PartitionId, Vec<CoreAddress>)> + '_ {
        self.model.placement()
    }
}
