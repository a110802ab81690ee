//! What meta tells about tables and nodes.

use pegasus_fbs::{admin, meta};
use std::fmt;
use std::time::Duration;

/// What a new table shall be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CreateTable {
    /// Letters, digits, `_ . : -`.
    pub name: String,
    /// A power of two, 2 to 65,536.
    pub partition_count: u32,
    pub replica_count: u32,
    /// Create it even with fewer nodes than replicas; it is then shown as degraded.
    pub allow_degraded: bool,
}

/// A table that was created and serves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CreatedTable {
    pub table_id: u32,
    /// Fewer replicas than asked for.
    pub degraded: bool,
}

/// State of a table or partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Health {
    /// The server did not say.
    Unset,
    Healthy,
    /// Serves with fewer replicas than asked for.
    Degraded,
    /// Does not serve.
    Unavailable,
    Creating,
    Dropped,
}

/// State of one replica as its node reported it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ReplicaHealth {
    /// Not reported yet.
    Unset,
    Opening,
    Ready,
    Serving,
    OutOfService,
    Unknown,
}

/// A table, with its partitions if they were asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TableInfo {
    pub table_id: u32,
    pub name: String,
    pub partition_count: u32,
    pub replica_count: u32,
    pub health: Health,
    pub healthy_partitions: u32,
    pub created_unix_ms: u64,
    /// Members that writes need; 0 if meta does not say.
    pub min_replicas: u32,
    /// Of a dropped table: since when, and until when it can be recalled; 0 otherwise.
    pub dropped_unix_ms: u64,
    pub kept_until_unix_ms: u64,
    /// Filled by [`crate::Client::show_table`] only.
    pub partitions: Vec<PartitionInfo>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartitionInfo {
    pub index: u32,
    pub ballot: u64,
    pub health: Health,
    pub primary: Option<MemberInfo>,
    pub secondaries: Vec<MemberInfo>,
    /// Catches up, and is no member yet.
    pub learner: Option<LearnerInfo>,
    /// Unix milliseconds since when it lacks members; `None`: it has all.
    pub degraded_since_unix_ms: Option<u64>,
    /// Nodes that get no new replica of it for a while.
    pub backoffs: Vec<BackoffInfo>,
    /// An operator's order that is being carried out, in words; empty: none.
    pub moving: String,
}

/// A replica on its way to becoming a member.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LearnerInfo {
    pub member: MemberInfo,
    /// Made for this; otherwise a copy that came back.
    pub is_fresh: bool,
    pub since_unix_ms: u64,
}

/// A node that has failed with replicas of a partition and has to wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BackoffInfo {
    pub node: u32,
    /// How often in a row; the wait doubles each time.
    pub step: u32,
    pub until_unix_ms: u64,
}

/// What came of an order to move something.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChangeOutcome {
    /// It is done. Otherwise it is recorded and goes on by itself.
    pub is_done: bool,
    /// What it waits for; empty once it is done.
    pub waits_for: String,
}

/// A member of a partition's configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MemberInfo {
    pub node: u32,
    pub core: u32,
    /// Client address of the core, `ip:port`.
    pub address: String,
    pub alive: bool,
    pub health: ReplicaHealth,
    /// Why it is not healthy, empty otherwise.
    pub reason: String,
    pub committed: u64,
    pub prepared: u64,
    /// Unix milliseconds since when it is as it is: its node has said so, or has fallen silent. `None`: not known.
    pub since_unix_ms: Option<u64>,
    /// Of its files, as its node last said; 0 = not said.
    pub bytes: u64,
}

/// The cluster's identity and nodes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClusterInfo {
    pub cluster_id: u128,
    pub nodes: Vec<NodeInfo>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeInfo {
    pub node: u32,
    pub alive: bool,
    pub host: String,
    pub pid: u32,
    pub incarnation: u64,
    /// How long ago meta heard from it.
    pub last_heartbeat: Duration,
    /// Directory of its statistics pages, on its host.
    pub stats_dir: String,
    pub disk_total: u64,
    pub disk_free: u64,
    pub cores: Vec<CoreInfo>,
    /// It is being emptied and gets nothing new.
    pub is_draining: bool,
    /// Copies on it that no table knows; they are kept.
    pub unknown_replicas: u64,
    /// It is being emptied for good.
    pub is_decommissioned: bool,
    /// It was told to stop.
    pub is_leaving: bool,
    /// Its disk is too full for writes.
    pub refuses_writes: bool,
    /// Its wall clock less that of meta, in milliseconds.
    pub clock_ahead_ms: i64,
    /// What runs there; `None` if it has not said since meta started.
    pub program: Option<ProgramInfo>,
}

/// What runs on a node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProgramInfo {
    /// Of the release.
    pub version: String,
    /// Of the wire.
    pub protocol: u32,
    /// Of the data directory.
    pub disk_format: u32,
    /// On the node's own clock.
    pub started_unix_ms: u64,
}

/// How far a node is with being emptied.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DrainInfo {
    pub kind: DrainKind,
    pub is_done: bool,
    /// Nothing is under way and nothing can be begun.
    pub is_blocked: bool,
    /// What it waits for; empty when done.
    pub waits_for: String,
    pub primaries_left: u32,
    pub replicas_left: u32,
    /// Of the files of those replicas, as far as their node has said.
    pub bytes_left: u64,
}

/// What is to leave a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum DrainKind {
    /// Nothing.
    None,
    Primaries,
    Replicas,
    /// Everything, for good.
    Decommission,
    /// It has left: the cluster does not know it any more.
    Forgotten,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CoreInfo {
    pub client_address: String,
    pub peer_address: String,
    pub cpu: u32,
    pub replicas: u32,
    pub primaries: u32,
}

pub(super) fn table_info(table: admin::TableDetail<'_>) -> TableInfo {
    TableInfo {
        table_id: table.table_id(),
        name: text(table.name()),
        partition_count: table.partition_count(),
        replica_count: table.replica_count(),
        health: table.health().into(),
        healthy_partitions: table.healthy_partitions(),
        created_unix_ms: table.created_unix_ms(),
        dropped_unix_ms: table.dropped_unix_ms(),
        kept_until_unix_ms: table.kept_until_unix_ms(),
        min_replicas: table.min_replicas(),
        partitions: table
            .partitions()
            .map(|all| all.iter().map(partition_info).collect())
            .unwrap_or_default(),
    }
}

fn partition_info(partition: admin::PartitionDetail<'_>) -> PartitionInfo {
    PartitionInfo {
        index: partition.index(),
        ballot: partition.ballot(),
        health: partition.health().into(),
        primary: partition.primary().map(member_info),
        secondaries: partition
            .secondaries()
            .map(|all| all.iter().map(member_info).collect())
            .unwrap_or_default(),
        learner: partition.learner().and_then(learner_info),
        degraded_since_unix_ms: Some(partition.degraded_since_unix_ms()).filter(|it| *it > 0),
        backoffs: partition
            .backoffs()
            .map(|all| all.iter().map(backoff_info).collect())
            .unwrap_or_default(),
        moving: text(partition.moving()),
    }
}

fn learner_info(learner: admin::LearnerDetail<'_>) -> Option<LearnerInfo> {
    Some(LearnerInfo {
        member: member_info(learner.member()?),
        is_fresh: learner.fresh(),
        since_unix_ms: learner.since_unix_ms(),
    })
}

fn backoff_info(backoff: &admin::BackoffDetail) -> BackoffInfo {
    BackoffInfo {
        node: backoff.node(),
        step: backoff.step(),
        until_unix_ms: backoff.until_unix_ms(),
    }
}

pub(super) fn change_outcome(reply: admin::ChangeReply<'_>) -> ChangeOutcome {
    ChangeOutcome {
        is_done: reply.done(),
        waits_for: text(reply.message()),
    }
}

fn member_info(member: admin::MemberDetail<'_>) -> MemberInfo {
    MemberInfo {
        node: member.node(),
        core: member.core(),
        address: text(member.address()),
        alive: member.alive(),
        health: member.health().into(),
        reason: text(member.reason()),
        committed: member.committed(),
        prepared: member.prepared(),
        since_unix_ms: Some(member.since_unix_ms()).filter(|it| *it > 0),
        bytes: member.bytes(),
    }
}

pub(super) fn node_info(node: admin::NodeDetail<'_>) -> NodeInfo {
    NodeInfo {
        node: node.node(),
        alive: node.alive(),
        host: text(node.host()),
        pid: node.pid(),
        incarnation: node.incarnation(),
        last_heartbeat: Duration::from_millis(node.last_heartbeat_ms()),
        stats_dir: text(node.stats_dir()),
        disk_total: node.disk_total(),
        disk_free: node.disk_free(),
        cores: node
            .cores()
            .map(|cores| cores.iter().map(core_info).collect())
            .unwrap_or_default(),
        is_draining: node.draining(),
        unknown_replicas: node.unknown_replicas(),
        is_decommissioned: node.decommissioned(),
        is_leaving: node.leaving(),
        refuses_writes: node.writes_refused(),
        clock_ahead_ms: node.clock_ahead_ms(),
        program: node.version().map(|version| ProgramInfo {
            version: version.to_owned(),
            protocol: node.protocol().into(),
            disk_format: node.disk_format().into(),
            started_unix_ms: node.started_unix_ms(),
        }),
    }
}

pub(super) fn drain_info(reply: admin::ShowDrainReply<'_>) -> DrainInfo {
    DrainInfo {
        kind: match reply.kind() {
            admin::DrainKind::Primaries => DrainKind::Primaries,
            admin::DrainKind::Replicas => DrainKind::Replicas,
            admin::DrainKind::Decommission => DrainKind::Decommission,
            admin::DrainKind::Forgotten => DrainKind::Forgotten,
            _ => DrainKind::None,
        },
        is_done: reply.done(),
        is_blocked: reply.blocked(),
        waits_for: text(reply.message()),
        primaries_left: reply.primaries_left(),
        replicas_left: reply.replicas_left(),
        bytes_left: reply.bytes_left(),
    }
}

fn core_info(core: admin::CoreDetail<'_>) -> CoreInfo {
    CoreInfo {
        client_address: text(core.client_address()),
        peer_address: text(core.peer_address()),
        cpu: core.cpu(),
        replicas: core.replicas(),
        primaries: core.primaries(),
    }
}

fn text(text: Option<&str>) -> String {
    text.unwrap_or_default().to_owned()
}

impl From<admin::Health> for Health {
    fn from(health: admin::Health) -> Self {
        match health {
            admin::Health::Healthy => Self::Healthy,
            admin::Health::Degraded => Self::Degraded,
            admin::Health::Unavailable => Self::Unavailable,
            admin::Health::Creating => Self::Creating,
            admin::Health::Dropped => Self::Dropped,
            _ => Self::Unset,
        }
    }
}

impl From<meta::ReplicaHealth> for ReplicaHealth {
    fn from(health: meta::ReplicaHealth) -> Self {
        match health {
            meta::ReplicaHealth::Opening => Self::Opening,
            meta::ReplicaHealth::Ready => Self::Ready,
            meta::ReplicaHealth::Serving => Self::Serving,
            meta::ReplicaHealth::OutOfService => Self::OutOfService,
            meta::ReplicaHealth::Unknown => Self::Unknown,
            _ => Self::Unset,
        }
    }
}

impl fmt::Display for Health {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Unset => "-",
            Self::Healthy => "healthy",
            Self::Degraded => "degraded",
            Self::Unavailable => "unavailable",
            Self::Creating => "creating",
            Self::Dropped => "dropped",
        })
    }
}

impl fmt::Display for ReplicaHealth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Unset => "-",
            Self::Opening => "opening",
            Self::Ready => "ready",
            Self::Serving => "serving",
            Self::OutOfService => "out of service",
            Self::Unknown => "unknown",
        })
    }
}
