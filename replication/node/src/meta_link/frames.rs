//! Bodies of the frames between a node and meta (fbs/schema/meta.fbs).

use super::orders::{self, BackupOrder, RestoreOrder};
use super::session::PROTOCOL;
use super::{Health, ReplicaKey, Report, Wish};
use crate::data_dir::DISK_FORMAT;
use crate::directory::{Node, Table};
use crate::members::Remembered;
use crate::settings::Settings;
use crate::wire;
use pegasus_fbs::body::{self, BodyError};
use pegasus_fbs::flatbuffers::{FlatBufferBuilder, ForwardsUOffset, Vector, WIPOffset};
use pegasus_fbs::meta;
use pegasus_replication::config::{Configuration, Member, Proposal, RemovalCause};
use pegasus_replication::ids::{Ballot, CoreId, NodeId, PartitionId, ReplicaIncarnation, TableId};
use std::collections::HashMap;
use std::net::SocketAddr;

/// A push of meta, decoded.
#[derive(Debug)]
pub(super) struct Sync {
    pub(super) is_full: bool,
    pub(super) digest: u64,
    pub(super) nodes: Vec<(NodeId, Node)>,
    /// `None`: dropped.
    pub(super) tables: Vec<(TableId, Option<Table>)>,
    pub(super) configurations: Vec<Configuration>,
    pub(super) drops: Vec<ReplicaKey>,
    /// Who learns beside the members of a configuration; `None`: nobody any more.
    pub(super) learners: Vec<(Configuration, Option<AssignedLearner>)>,
    pub(super) handovers: Vec<HandOver>,
    pub(super) backups: Vec<BackupOrder>,
    /// Of replicas that are being made.
    pub(super) restores: Vec<RestoreOrder>,
}

/// A learner as meta has assigned it.
#[derive(Clone, Copy, Debug)]
pub(super) struct AssignedLearner {
    pub(super) member: Member,
    /// A new, empty replica is made; otherwise it is the copy of this incarnation that is there.
    pub(super) is_fresh: bool,
}

/// Meta's order to the primary of a ballot.
#[derive(Clone, Copy, Debug)]
pub(super) struct HandOver {
    pub(super) partition: PartitionId,
    pub(super) ballot: Ballot,
    pub(super) to: Member,
}

pub(super) fn read_sync(bytes: &[u8]) -> Result<Sync, BodyError> {
    let sync = body::read::<meta::Sync<'_>>(bytes)?;
    Ok(Sync {
        is_full: sync.full(),
        digest: sync.digest(),
        nodes: sync.nodes().iter().flatten().map(read_node).collect(),
        tables: sync.tables().iter().flatten().map(read_table).collect(),
        configurations: sync
            .configurations()
            .iter()
            .flatten()
            .map(wire::read_configuration)
            .collect(),
        drops: sync.drops().iter().flatten().map(read_key).collect(),
        learners: sync
            .learners()
            .iter()
            .flatten()
            .filter_map(read_learner)
            .collect(),
        handovers: sync
            .handovers()
            .iter()
            .flatten()
            .map(read_handover)
            .collect(),
        backups: sync
            .backups()
            .iter()
            .flatten()
            .filter_map(orders::read_backup)
            .collect(),
        restores: sync
            .restores()
            .iter()
            .flatten()
            .filter_map(orders::read_restore)
            .collect(),
    })
}

fn read_learner(learner: meta::Learner<'_>) -> Option<(Configuration, Option<AssignedLearner>)> {
    let configuration = wire::read_configuration(learner.configuration()?);
    let is_fresh = learner.fresh();
    let assigned = learner.learner().map(|member| AssignedLearner {
        member: wire::read_member(member),
        is_fresh,
    });
    Some((configuration, assigned))
}

fn read_handover(order: &meta::HandOver) -> HandOver {
    HandOver {
        partition: PartitionId {
            table: TableId(order.table_id()),
            index: order.partition(),
        },
        ballot: Ballot(order.ballot()),
        to: wire::read_member(order.to()),
    }
}

fn read_node(node: meta::NodeAddress<'_>) -> (NodeId, Node) {
    let addresses = Node {
        peer: read_addresses(node.peer_addresses()),
        client: read_addresses(node.client_addresses()),
    };
    (NodeId(node.node()), addresses)
}

/// What is no address stays empty, so that the others keep their core numbers.
fn read_addresses(list: Option<Vector<'_, ForwardsUOffset<&str>>>) -> Vec<Option<SocketAddr>> {
    list.iter()
        .flatten()
        .map(|text| text.parse().ok())
        .collect()
}

fn read_table(table: meta::TableInfo<'_>) -> (TableId, Option<Table>) {
    let info = Table {
        name: table.name().unwrap_or_default().to_owned(),
        partition_count: table.partition_count(),
        default_ttl_seconds: table.default_ttl_seconds(),
        replica_count: table.replica_count(),
        min_replicas: table.min_replicas(),
        settings: Settings::of(
            table
                .envs()
                .iter()
                .flatten()
                .map(|env| (text(env.key()), text(env.value())))
                .collect(),
        ),
    };
    let is_there = !table.dropped() && info.partition_count > 0;
    (TableId(table.table_id()), is_there.then_some(info))
}

pub(super) fn text(text: Option<&str>) -> String {
    text.unwrap_or_default().to_owned()
}

pub(super) fn read_key(key: &meta::ReplicaKey) -> ReplicaKey {
    ReplicaKey {
        partition: PartitionId {
            table: TableId(key.table_id()),
            index: key.partition(),
        },
        incarnation: ReplicaIncarnation(key.incarnation()),
    }
}

/// What a heartbeat says beside its replicas.
#[derive(Debug)]
pub(super) struct HeartbeatHead<'d> {
    pub(super) digest: u64,
    /// (total, free) bytes.
    pub(super) disk: (u64, u64),
    /// Of a full one: the tables that are known here.
    pub(super) full: Option<&'d HashMap<TableId, Table>>,
    pub(super) own: OwnWords,
    /// Bytes of the replicas' files, as far as they are known.
    pub(super) sizes: &'d HashMap<ReplicaKey, u64>,
}

/// What a node says of itself.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct OwnWords {
    /// The wall clock, in Unix milliseconds.
    pub(super) wall_ms: u64,
    pub(super) started_ms: u64,
    /// It was told to stop.
    pub(super) is_leaving: bool,
    /// Its disk is too full for writes.
    pub(super) refuses_writes: bool,
}

/// Of a node that leaves: how many partitions can still be taken off it. `None`: meta does not say.
pub(super) fn read_held(bytes: &[u8]) -> Result<Option<u32>, BodyError> {
    let reply = body::read::<meta::HeartbeatReply<'_>>(bytes)?;
    Ok(Some(reply.held()).filter(|held| *held != u32::MAX))
}

pub(super) fn write_heartbeat<'r>(
    head: &HeartbeatHead<'_>,
    replicas: impl Iterator<Item = (ReplicaKey, CoreId, &'r Report)>,
) -> Vec<u8> {
    let mut builder = FlatBufferBuilder::new();
    let written: Vec<_> = replicas
        .map(|(key, core, report)| {
            let bytes = head.sizes.get(&key).copied().unwrap_or(0);
            write_report(&mut builder, (key, core), report, bytes)
        })
        .collect();
    let replicas = builder.create_vector(&written);
    let tables = head.full.map(|tables| {
        let tables: Vec<_> = tables
            .iter()
            .map(|(id, table)| write_table(&mut builder, *id, table))
            .collect();
        builder.create_vector(&tables)
    });
    let version = head
        .full
        .map(|_| builder.create_string(env!("CARGO_PKG_VERSION")));
    let arguments = meta::HeartbeatArgs {
        wall_unix_ms: head.own.wall_ms,
        leaving: head.own.is_leaving,
        writes_refused: head.own.refuses_writes,
        version,
        protocol: PROTOCOL,
        disk_format: DISK_FORMAT,
        started_unix_ms: head.own.started_ms,
        digest: head.digest,
        replicas: Some(replicas),
        full: head.full.is_some(),
        disk_total: head.disk.0,
        disk_free: head.disk.1,
        tables,
    };
    let root = meta::Heartbeat::create(&mut builder, &arguments);
    builder.finish(root, None);
    builder.finished_data().to_vec()
}

fn write_report<'a>(
    builder: &mut FlatBufferBuilder<'a>,
    (key, core): (ReplicaKey, CoreId),
    report: &Report,
    bytes: u64,
) -> WIPOffset<meta::ReplicaReport<'a>> {
    let reason = (!report.reason.is_empty()).then(|| builder.create_string(&report.reason));
    let configuration = report
        .configuration
        .as_ref()
        .map(|configuration| wire::write_configuration(builder, configuration));
    let key = write_key(key);
    let arguments = meta::ReplicaReportArgs {
        key: Some(&key),
        ballot: report.ballot.0,
        committed: report.committed.0,
        prepared: report.prepared.0,
        health: write_health(report.health),
        reason,
        prepared_ballot: report.prepared_ballot.0,
        applied: report.applied.0,
        core: core.0,
        configuration,
        bytes,
        reads_per_second: report.load.reads,
        writes_per_second: report.load.writes,
    };
    meta::ReplicaReport::create(builder, &arguments)
}

fn write_table<'a>(
    builder: &mut FlatBufferBuilder<'a>,
    id: TableId,
    table: &Table,
) -> WIPOffset<meta::TableInfo<'a>> {
    let name = Some(builder.create_string(&table.name));
    let envs: Vec<_> = table
        .settings
        .envs()
        .iter()
        .map(|env| write_env(builder, env))
        .collect();
    let arguments = meta::TableInfoArgs {
        table_id: id.0,
        name,
        partition_count: table.partition_count,
        dropped: false,
        default_ttl_seconds: table.default_ttl_seconds,
        replica_count: table.replica_count,
        min_replicas: table.min_replicas,
        envs: (!envs.is_empty()).then(|| builder.create_vector(&envs)),
    };
    meta::TableInfo::create(builder, &arguments)
}

fn write_env<'a>(
    builder: &mut FlatBufferBuilder<'a>,
    (key, value): (&String, &String),
) -> WIPOffset<meta::Env<'a>> {
    let arguments = meta::EnvArgs {
        key: Some(builder.create_string(key)),
        value: Some(builder.create_string(value)),
    };
    meta::Env::create(builder, &arguments)
}

pub(super) fn write_key(key: ReplicaKey) -> meta::ReplicaKey {
    let PartitionId { table, index } = key.partition;
    meta::ReplicaKey::new(key.incarnation.0, table.0, index)
}

const fn write_health(health: Health) -> meta::ReplicaHealth {
    match health {
        Health::Gone => meta::ReplicaHealth::Unset,
        Health::Opening => meta::ReplicaHealth::Opening,
        Health::Ready => meta::ReplicaHealth::Ready,
        Health::Serving => meta::ReplicaHealth::Serving,
        Health::OutOfService => meta::ReplicaHealth::OutOfService,
    }
}

/// What is kept of replicas and tables beside the logs: a heartbeat that says nothing else.
pub(crate) fn write_members(remembered: &Remembered) -> Vec<u8> {
    let mut builder = FlatBufferBuilder::new();
    let written: Vec<_> = remembered
        .configurations
        .iter()
        .map(|(key, configuration)| {
            let configuration = Some(wire::write_configuration(&mut builder, configuration));
            let key = write_key(*key);
            let arguments = meta::ReplicaReportArgs {
                key: Some(&key),
                configuration,
                ..meta::ReplicaReportArgs::default()
            };
            meta::ReplicaReport::create(&mut builder, &arguments)
        })
        .collect();
    let replicas = Some(builder.create_vector(&written));
    // In the order of their numbers, so that equal contents are equal bytes.
    let mut sorted: Vec<_> = remembered.tables.iter().collect();
    sorted.sort_by_key(|(id, _)| **id);
    let tables: Vec<_> = sorted
        .into_iter()
        .map(|(id, table)| write_table(&mut builder, *id, table))
        .collect();
    let tables = Some(builder.create_vector(&tables));
    let arguments = meta::HeartbeatArgs {
        replicas,
        tables,
        full: true,
        ..meta::HeartbeatArgs::default()
    };
    let root = meta::Heartbeat::create(&mut builder, &arguments);
    builder.finish(root, None);
    builder.finished_data().to_vec()
}

/// The inverse of [`write_members`]. What makes no sense is left out.
pub(crate) fn read_members(heartbeat: meta::Heartbeat<'_>) -> Remembered {
    let replicas = heartbeat.replicas().into_iter().flatten();
    let configurations = replicas.filter_map(|it| {
        let key = read_key(it.key()?);
        let configuration = wire::read_configuration(it.configuration()?);
        (configuration.partition == key.partition).then_some((key, configuration))
    });
    let tables = heartbeat.tables().into_iter().flatten().map(read_table);
    Remembered {
        configurations: configurations.collect(),
        tables: tables.filter_map(|(id, it)| Some((id, it?))).collect(),
    }
}

pub(super) fn write_proposals<'p>(proposals: impl Iterator<Item = &'p Wish>) -> Vec<u8> {
    let mut builder = FlatBufferBuilder::new();
    let written: Vec<_> = proposals
        .map(|wish| write_proposal(&mut builder, wish))
        .collect();
    let proposals = Some(builder.create_vector(&written));
    let root = meta::ProposeChange::create(&mut builder, &meta::ProposeChangeArgs { proposals });
    builder.finish(root, None);
    builder.finished_data().to_vec()
}

fn write_proposal<'a>(
    builder: &mut FlatBufferBuilder<'a>,
    wish: &Wish,
) -> WIPOffset<meta::ChangeProposal<'a>> {
    use meta::ProposalKind as Kind;
    let replica = write_key(wish.key);
    let (kind, member) = match wish.proposal {
        Proposal::NextBallot => (Kind::NextBallot, None),
        Proposal::TakeOver { .. } => (Kind::TakeOver, None),
        Proposal::Remove { member, .. } => (Kind::Remove, Some(member)),
        Proposal::Add { member } => (Kind::Add, Some(member)),
        Proposal::HandOver { to } => (Kind::HandOver, Some(to)),
        Proposal::WithdrawLearner { member } => (Kind::WithdrawLearner, Some(member)),
    };
    let cause = match wish.proposal {
        Proposal::Remove { cause, .. } => write_cause(cause),
        _ => meta::RemovalCause::Unset,
    };
    let (prepared, prepared_ballot) = match wish.proposal {
        Proposal::TakeOver {
            prepared,
            prepared_ballot,
        } => (prepared.0, prepared_ballot.0),
        _ => (0, 0),
    };
    let member = member.as_ref().map(wire::write_member);
    let arguments = meta::ChangeProposalArgs {
        replica: Some(&replica),
        ballot: wish.ballot.0,
        kind,
        member: member.as_ref(),
        cause,
        prepared,
        prepared_ballot,
    };
    meta::ChangeProposal::create(builder, &arguments)
}

const fn write_cause(cause: RemovalCause) -> meta::RemovalCause {
    match cause {
        RemovalCause::Down => meta::RemovalCause::Down,
        RemovalCause::Slow => meta::RemovalCause::Slow,
        RemovalCause::Lost => meta::RemovalCause::Lost,
        RemovalCause::OutOfService => meta::RemovalCause::OutOfService,
    }
}
