//! Builds meta's state anew from what replicas say of themselves, when its store is lost.
//!
//! Nothing is guessed: a partition is *decided* only if what is known proves that no acknowledged write is left out, and
//! every other one is listed with what is missing, for an operator to find it or to accept the loss by name. Two proofs:
//!
//! 1. The newest configuration that anybody has adopted is known, and each of its members says that it has adopted nothing
//!    newer. Whoever leads a later one was a member of it, and adopts durably before it acts. One case is beyond this: a
//!    learner that was added later, on a node that has not reported. Therefore this counts only if every node of the cluster
//!    has reported, or if the configuration has all members that its table wants, so that nobody was learning but by order of
//!    an operator; such a node is named in a warning.
//! 2. Every node of the cluster has reported, and no copy is unseen that anybody names. The copy whose last entry has the
//!    highest stamp, and under it the highest decree, then has everything acknowledged; it becomes the only member, and the
//!    others come back to it as learners. (A write acknowledged later than its last entry would be on a member with a later
//!    one.) A member that is named and has no copy is one that is unseen, unless no copy has adopted any ballot or knows of a
//!    configuration that was ever active: then the partition was still being made, and nothing was written to it.
//!
//! An older copy of the store can be the *base*: names, settings and dropped tables are taken from it, never who holds what.
//! A table that only the base knows is listed: it may have been dropped since.
//!
//! All new ballots are of a new epoch and so above any that was ever given (protocol: a ballot is an epoch and a counter).

mod base;
mod partition;
mod tables;

pub use tables::NamedTable;

use crate::state::{
    Change, ChangeError, Cluster, ClusterId, Counters, Durable, Node, ReplicaKey, ReplicaStatus,
    TableInfo,
};
use pegasus_replication::ids::{NodeId, PartitionId, TableId};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

/// Numbers skipped, because some above the highest that is known may have been given to what did not report.
const NODES_SKIPPED: u32 = 1_000;
const TABLES_SKIPPED: u32 = 1_000;
const INCARNATIONS_SKIPPED: u64 = 1 << 32;

/// What one node has said of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Witness {
    pub node: Node,
    /// It has listed everything it has.
    pub has_told_all: bool,
    pub replicas: BTreeMap<ReplicaKey, ReplicaStatus>,
    pub tables: Vec<TableInfo>,
}

/// What is known, and what the operator says.
#[derive(Clone, Debug, Default)]
pub struct Case {
    pub witnesses: BTreeMap<NodeId, Witness>,
    /// Numbers of all nodes that the cluster has.
    pub nodes: BTreeSet<NodeId>,
    /// Tables of which no node knows the name.
    pub tables: Vec<NamedTable>,
    /// Tables that stay lost; their copies stay where they are.
    pub leave: BTreeSet<TableId>,
    /// Partitions that go on with the best copy there is, or empty, whatever is lost.
    pub accept_loss: BTreeSet<PartitionId>,
    pub now_ms: u64,
    /// An older copy of the store.
    pub base: Option<Durable>,
}

/// What would become of it.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The whole state, with every partition that is decided.
    pub durable: Durable,
    /// What is not. The state is to be used only if there is none of it.
    pub undecided: Vec<Undecided>,
    /// What an operator should know all the same.
    pub warnings: Vec<String>,
    /// How many partitions there are.
    pub partitions: u64,
}

/// Something that cannot be decided from what is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Undecided {
    /// A node that may have anything.
    Node {
        node: NodeId,
    },
    Table {
        table: TableId,
        reason: String,
    },
    Partition {
        partition: PartitionId,
        reason: String,
    },
}

impl fmt::Display for Undecided {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Node { node } => write!(
                f,
                "node {node} has reported and is not named by --nodes; name it if it is one of the cluster"
            ),
            Self::Table { table, reason } => write!(f, "table {table}: {reason}"),
            Self::Partition { partition, reason } => write!(f, "partition {partition}: {reason}"),
        }
    }
}

/// Why there is no plan at all.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RecoverError {
    #[error("no node has reported")]
    Nobody,
    #[error("the base is of cluster {found}, not of {expected}")]
    ForeignBase {
        found: ClusterId,
        expected: ClusterId,
    },
    #[error("all numbers of this kind have been given")]
    NumbersExhausted,
    #[error("what was found does not fit together: {0}")]
    Change(#[from] ChangeError),
}

/// Decides what can be decided.
///
/// # Errors
/// There is nothing to decide on.
pub fn plan(cluster: Cluster, case: &Case) -> Result<Plan, RecoverError> {
    if case.witnesses.is_empty() {
        return Err(RecoverError::Nobody);
    }
    if let Some(base) = &case.base
        && base.cluster().id != cluster.id
    {
        return Err(RecoverError::ForeignBase {
            found: base.cluster().id,
            expected: cluster.id,
        });
    }
    let epoch = case.next_epoch().ok_or(RecoverError::NumbersExhausted)?;
    let cluster = Cluster { epoch, ..cluster };
    let mut changes = vec![
        Change::Cluster(cluster),
        Change::Counters(case.counters().ok_or(RecoverError::NumbersExhausted)?),
    ];
    let nodes = case.witnesses.values().map(|it| it.node.clone());
    changes.extend(nodes.map(Change::NodeJoined));
    let mut plan = Plan {
        durable: Durable::replay(&changes)?,
        undecided: case.strangers(),
        warnings: case.warnings(),
        partitions: 0,
    };
    for found in case.tables() {
        match found {
            Err(undecided) => plan.undecided.push(undecided),
            Ok(table) => case.decide_table(&table, &mut plan)?,
        }
    }
    case.take_settings(&mut plan);
    Ok(plan)
}

impl Case {
    /// Above every ballot that anybody has seen.
    fn next_epoch(&self) -> Option<u16> {
        let ballots = self.statuses().flat_map(|(_, _, status)| {
            let known = status.configuration.as_ref().map(|it| it.ballot);
            known
                .into_iter()
                .chain([status.ballot, status.prepared_ballot])
        });
        let highest = ballots.map(|ballot| ballot.epoch()).max().unwrap_or(0);
        let base = self.base.as_ref().map_or(0, |it| it.cluster().epoch);
        highest.max(base).checked_add(1)
    }

    fn counters(&self) -> Option<Counters> {
        let nodes = self.nodes.iter().chain(self.witnesses.keys());
        let tables = self.statuses().map(|(_, key, _)| key.partition.table);
        let named = self.witnesses.values().flat_map(|it| &it.tables);
        let tables = tables
            .chain(named.map(|it| it.table))
            .chain(self.tables.iter().map(|it| it.id));
        let incarnations = self.statuses().flat_map(|(_, key, status)| {
            let members = status.configuration.iter().flat_map(|it| it.members());
            let members: Vec<_> = members.map(|it| it.incarnation).collect();
            members.into_iter().chain([key.incarnation])
        });
        let base = self.counters_of_base().unwrap_or(Counters::FIRST);
        let highest_node = nodes.map(|it| it.0).max().unwrap_or(0).max(base.next_node);
        let highest_table = tables
            .map(|it| it.0)
            .max()
            .unwrap_or(0)
            .max(base.next_table);
        let highest_incarnation = incarnations.map(|it| it.0).max().unwrap_or(0);
        let highest_incarnation = highest_incarnation.max(base.next_incarnation);
        Some(Counters {
            next_node: highest_node.checked_add(NODES_SKIPPED)?,
            next_table: highest_table.checked_add(TABLES_SKIPPED)?,
            next_incarnation: highest_incarnation.checked_add(INCARNATIONS_SKIPPED)?,
        })
    }

    fn statuses(&self) -> impl Iterator<Item = (NodeId, &ReplicaKey, &ReplicaStatus)> {
        self.witnesses.iter().flat_map(|(node, witness)| {
            let replicas = witness.replicas.iter();
            replicas.map(move |(key, status)| (*node, key, status))
        })
    }

    /// Nodes that the operator did not count: then nobody can say that all have reported.
    fn strangers(&self) -> Vec<Undecided> {
        let strangers = self
            .witnesses
            .keys()
            .filter(|node| !self.nodes.contains(node));
        strangers.map(|&node| Undecided::Node { node }).collect()
    }

    /// Nodes of the cluster that have not said everything.
    fn missing(&self) -> BTreeSet<NodeId> {
        let has_told = |node: &NodeId| self.witnesses.get(node).is_some_and(|it| it.has_told_all);
        self.nodes
            .iter()
            .copied()
            .filter(|node| !has_told(node))
            .collect()
    }

    fn warnings(&self) -> Vec<String> {
        let uncounted = self.uncounted_of_base();
        let uncounted = uncounted.into_iter().map(|node| {
            format!(
                "node {node} is in the base and not among --nodes: name it, unless it was decommissioned since"
            )
        });
        let missing = self.missing().into_iter();
        let missing = missing
            .map(|node| {
                format!(
                    "node {node} has not reported: a replica that was being moved to it when meta was lost is not seen"
                )
            });
        uncounted.chain(missing).collect()
    }
}
