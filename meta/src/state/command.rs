//! What meta is asked, and what comes of it.

use super::backup::{BackupCommand, BackupOrder, BackupRefusal, RestoreOrder};
use super::balance::BalanceOrder;
use super::change::{Change, Drain, Level};
use super::node::Node;
use super::report::{Proposed, ReplicaKey, Report};
use super::table::{REPLICA_COUNT_MAX, TABLES_MAX};
use pegasus_replication::config::{Configuration, Member};
use pegasus_replication::ids::{
    Ballot, CoreAddress, NodeId, NodeIncarnation, PartitionId, TableId,
};
use std::collections::BTreeMap;

/// One request. Times are Unix milliseconds of the caller's clock.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// A fresh node wants a number. Answered by [`Answer::NodeNumbered`]; the number is never given again.
    NumberNode,
    /// A node that has proved who it is. Answered by `Done`; the first push to it is a full Sync.
    JoinNode { node: Node, now_ms: u64 },
    /// A heartbeat. Answered by `Done`.
    Report {
        node: NodeId,
        incarnation: NodeIncarnation,
        report: Report,
        now_ms: u64,
    },
    /// The connection to a node has ended, whatever the reason. Answered by `Done`.
    NodeLost {
        node: NodeId,
        incarnation: NodeIncarnation,
        now_ms: u64,
    },
    /// Replicas of a node want other configurations. Answered by `Done`; what holds then is in the pushes, for the proposer
    /// in any case (but for removals of slow members over the limit, which are to be repeated).
    Propose {
        node: NodeId,
        incarnation: NodeIncarnation,
        proposals: Vec<Proposed>,
        now_ms: u64,
    },
    /// Answered by [`Answer::TableCreated`] at once; [`super::State::progress`] tells when it serves.
    CreateTable(CreateTable),
    /// Kept for recall for `keep_seconds`: `None` is 7 days, 0 deletes at once. Answered by [`Answer::TableDropped`].
    DropTable {
        name: String,
        keep_seconds: Option<u64>,
        now_ms: u64,
    },
    /// A dropped table that is still kept is there again, under its old name or this one. Answered by
    /// [`Answer::TableRecalled`] at once; [`super::State::progress`] tells when it serves.
    RecallTable {
        table: TableId,
        name: Option<String>,
        now_ms: u64,
    },
    /// Answered by `Done`.
    RenameTable {
        from: String,
        to: String,
        now_ms: u64,
    },
    /// Changes settings of a table. Answered by `Done`.
    ChangeEnvs {
        table: String,
        change: EnvChange,
        now_ms: u64,
    },
    /// How much meta does by itself; `None` only asks. Answered by [`Answer::LevelWas`].
    SetLevel { level: Option<Level>, now_ms: u64 },
    /// The secondary on `to` shall lead. Answered by [`Answer::Ordered`]; [`super::State::order_progress`] tells when it does.
    MovePrimary {
        table: String,
        index: u32,
        to: NodeId,
        now_ms: u64,
    },
    /// The replica on node `from` shall be at `to` instead. Answered by [`Answer::Ordered`].
    MoveReplica {
        table: String,
        index: u32,
        from: NodeId,
        to: CoreAddress,
        now_ms: u64,
    },
    /// Takes the primaries off a node, or everything; it gets nothing new. Answered by [`Answer::Ordered`]. `None` ends it.
    DrainNode {
        node: NodeId,
        drain: Option<Drain>,
        now_ms: u64,
    },
    /// Everything leaves the node, then it is forgotten. Refused if a replica had nowhere to go. Answered by
    /// [`Answer::Ordered`].
    DecommissionNode { node: NodeId, now_ms: u64 },
    /// Spreads primaries evenly now. Answered by [`Answer::Ordered`].
    Rebalance { now_ms: u64 },
    /// What is moved for balance, and how much at a time. To run answered by [`Answer::Ordered`], else by `Done`.
    Balance { order: BalanceOrder, now_ms: u64 },
    /// Each partition of the table shall have so many replicas. Answered by [`Answer::ReplicasSet`].
    SetReplicas {
        table: String,
        replica_count: u8,
        now_ms: u64,
    },
    /// Backups and tables made from them. Answered as [`BackupCommand`] says.
    Backup { command: BackupCommand, now_ms: u64 },
    /// Time passes; due about once in 100 ms to 1 s. Answered by `Done`.
    Tick { now_ms: u64 },
}

/// What an operator says of a new table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CreateTable {
    pub name: String,
    /// A power of two from 2 to 65,536.
    pub partition_count: u32,
    /// 1 to 7.
    pub replica_count: u8,
    /// Fewer nodes than replicas are enough; the table is then shown as degraded until there are more.
    pub allow_degraded: bool,
    /// A table of this name with just these properties is as good as a new one.
    pub may_exist: bool,
    /// Settings to begin with.
    pub envs: BTreeMap<String, String>,
    pub now_ms: u64,
}

/// How settings change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EnvChange {
    /// All or none: each key is one that may be set, each value one that it may have.
    Set(Vec<(String, String)>),
    /// Keys that are not there do no harm.
    Delete(Vec<String>),
    /// Everything below `prefix.`, or everything if it is empty.
    Clear { prefix: String },
}

/// What the asker is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    Done,
    NodeNumbered(NodeId),
    TableCreated {
        table: TableId,
        degraded: bool,
    },
    TableDropped {
        table: TableId,
    },
    TableRecalled {
        table: TableId,
    },
    /// The level before, and now.
    LevelWas {
        before: Level,
        now: Level,
    },
    /// The order is recorded and will be carried out.
    Ordered(Order),
    /// The table has another replica count than before; the order adds or removes replicas.
    ReplicasSet {
        before: u8,
        order: Order,
    },
    /// The backup is recorded and will be made; [`super::State::backups`] tells how far it is.
    BackupStarted {
        id: u64,
    },
    /// Nothing has changed.
    Refused(Refusal),
}

/// Something that takes a while; [`super::State::order_progress`] tells how far it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    Lead {
        partition: PartitionId,
        to: Member,
    },
    Move {
        partition: PartitionId,
        from: Member,
        to: CoreAddress,
    },
    Drain {
        node: NodeId,
        drain: Drain,
    },
    Undrain,
    Rebalance,
    /// All partitions of the table have as many replicas as it wants.
    Replicas(TableId),
}

/// Why nothing has changed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    #[error("table name {0:?} is not 1 to 128 of [a-zA-Z0-9_.:-]")]
    BadName(String),
    #[error("partition count {0} is not a power of two from 2 to 65536")]
    BadPartitionCount(u32),
    #[error("replica count {0} is not 1 to {REPLICA_COUNT_MAX}")]
    BadReplicaCount(u8),
    #[error("table {0:?} exists already")]
    TableExists(String),
    #[error("table {0:?} exists already, with other properties")]
    TableDiffers(String),
    #[error("table {0:?} does not exist")]
    UnknownTable(String),
    #[error("there is no dropped table of number {0} that could be recalled")]
    NoSuchTable(TableId),
    #[error("table {0} is not dropped")]
    NotDropped(TableId),
    #[error("{0}")]
    BadEnv(String),
    #[error("no table is made while the level of meta is {}; `pegasus cluster level steady` lets it", .0.name())]
    Frozen(Level),
    #[error(
        "{replica_count} replicas need as many live nodes, there are {alive}; --allow-degraded makes do with fewer"
    )]
    NotEnoughNodes { replica_count: u8, alive: usize },
    #[error("there is no live node")]
    NoNodes,
    #[error("the cluster would have more than {0} partitions")]
    TooManyPartitions(u64),
    #[error("the cluster would have more than {TABLES_MAX} tables")]
    TooManyTables,
    #[error("the cluster would have more than {0} nodes")]
    TooManyNodes(usize),
    #[error("all numbers of this kind have been given")]
    NumbersExhausted,
    #[error("node {0} was never given its number by this cluster; was the directory of meta lost?")]
    UnknownNode(NodeId),
    #[error(
        "node {node}: incarnation {incarnation} is not newer than {known}; does another process run on a copy of its directory?"
    )]
    StaleIncarnation {
        node: NodeId,
        incarnation: NodeIncarnation,
        known: NodeIncarnation,
    },
    #[error("node {node} has not joined since meta started")]
    NotJoined { node: NodeId },
    #[error("node {node}: {fault}")]
    BadNode { node: NodeId, fault: &'static str },
    #[error("table {table:?} has no partition {index}, it has {count}")]
    UnknownPartition {
        table: String,
        index: u32,
        count: u32,
    },
    #[error("node {0} has never joined this cluster")]
    NoSuchNode(NodeId),
    #[error("node {node} cannot be decommissioned: {reason}")]
    BadDecommission { node: NodeId, reason: String },
    #[error(
        "node {0} was decommissioned and is no more of this cluster; stop it, and start it with an empty directory to have it back as a new node"
    )]
    Forgotten(NodeId),
    #[error(transparent)]
    Backup(#[from] BackupRefusal),
    #[error("bad limit: {0}")]
    BadLimit(&'static str),
    #[error("partition {partition}: {fault}")]
    BadMove {
        partition: PartitionId,
        fault: &'static str,
    },
    #[error(
        "{0}: meta's store is older than the replicas, and nothing is decided on it; rebuild it with `pegasus-meta recover --base`"
    )]
    Behind(String),
    #[error("node {node} has {cores} cores, but core {used} holds replicas")]
    CoresMissing {
        node: NodeId,
        cores: usize,
        used: u16,
    },
}

/// What came of a command. Persist `changes`, all or nothing, then tell `answer` and send `pushes` in their order.
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use]
pub struct Outcome {
    pub changes: Vec<Change>,
    pub answer: Answer,
    /// At most one for each node, by node number; only for nodes that have joined since this state was made or restored.
    pub pushes: Vec<Push>,
}

/// One Sync for one node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Push {
    pub node: NodeId,
    pub sync: Sync,
}

/// What a node is to know: all of it (`full`), or what has changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sync {
    /// Everything of this node; replicas that are not in it are reported back, never deleted.
    pub full: bool,
    /// Of the node's whole assignment once it has taken this over. It says it back in its heartbeats.
    pub digest: u64,
    /// All nodes (full) or those whose addresses are new.
    pub nodes: Vec<NodeAddress>,
    /// All tables (full) or those that are new or dropped.
    pub tables: Vec<TableInfo>,
    /// Of the replicas on this node, in no order among partitions; for one partition, ballots only grow. A node that has been
    /// removed is told too: the configuration then names no member on it.
    pub configurations: Vec<Configuration>,
    /// Orders to delete, carried out first. A replica that is gone already is reported as `Gone`.
    pub drops: Vec<ReplicaKey>,
    /// Of partitions led from this node, and of learners on it; after the configurations.
    pub assignments: Vec<Assignment>,
    /// To primaries on this node. Repeated until a newer ballot comes; not part of the digest.
    pub handovers: Vec<HandOver>,
    /// Of replicas on this node. Repeated until it says how far they are; not part of the digest.
    pub backups: Vec<BackupOrder>,
    /// Of replicas that are being made on this node: with each of their configurations in this frame.
    pub restores: Vec<RestoreOrder>,
}

/// Who learns a partition. It is said again with each new configuration; one that comes without it has taken it back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Assignment {
    /// That holds now.
    pub configuration: Configuration,
    /// `None`: the assignment of before is withdrawn, durably, and by a new ballot: whoever was assigned is not added any more.
    pub learner: Option<Member>,
    /// The learner is to be made, empty. Otherwise the copy of its incarnation is there; if it is not, it must not be made
    /// but reported as gone.
    pub is_fresh: bool,
}

/// The primary of this ballot is to hand over to a secondary.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HandOver {
    pub partition: PartitionId,
    pub ballot: Ballot,
    pub to: Member,
}

/// How to reach a node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeAddress {
    pub node: NodeId,
    /// `ip:port` by core number.
    pub peer_addresses: Vec<String>,
    /// `ip:port` by core number.
    pub client_addresses: Vec<String>,
    pub alive: bool,
}

/// A table as nodes know it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TableInfo {
    pub table: TableId,
    pub name: String,
    pub partition_count: u32,
    pub dropped: bool,
    pub replica_count: u8,
    pub min_replicas: u8,
    /// 0 = for ever; follows from the settings.
    pub default_ttl_seconds: u32,
    /// Settings by key.
    pub envs: BTreeMap<String, String>,
}
