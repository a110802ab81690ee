//! What clients and operators are shown, as bodies of frames.

use super::clock::wall_ms;
use super::facts::{Place, cluster_info};
use super::letter::Failed;
use super::wire::finished;
use crate::leadership::MetaMember;
use crate::place::Load;
use crate::state::envs;
use crate::state::{
    Backoff, Drain, Goal, Intent, LearnerView, MemberView, Node, PartitionHealth, ReplicaHealth,
    State, Table, Wanted,
};
use pegasus_fbs::code::Code;
use pegasus_fbs::flatbuffers::{FlatBufferBuilder, ForwardsUOffset, Vector, WIPOffset};
use pegasus_fbs::{admin, kv, meta};
use pegasus_replication::config::{Member, Stage};
use pegasus_replication::ids::{CoreAddress, CoreId, NodeId, TableId};
use std::collections::BTreeMap;

type Builder<'a> = FlatBufferBuilder<'a>;
type Partitions<'b> = WIPOffset<Vector<'b, ForwardsUOffset<admin::PartitionDetail<'b>>>>;

/// Where the partitions of a table are. One in creation has no addresses yet.
pub(super) fn route(state: &State, name: &str) -> Result<Vec<u8>, Failed> {
    let table = named(state, name)?;
    let mut builder = Builder::new();
    let b = &mut builder;
    let mut partitions = Vec::with_capacity(table.partitions.len());
    for partition in &table.partitions {
        let shown = partition.stage == Stage::Active;
        let primary = partition
            .primary
            .as_ref()
            .filter(|_| shown)
            .map(|it| client_address(state, it));
        let primary = b.create_shared_string(primary.unwrap_or_default());
        let secondaries = partition.secondaries.iter().filter(|_| shown);
        let secondaries: Vec<_> = secondaries
            .map(|it| b.create_shared_string(client_address(state, it)))
            .collect();
        let secondaries = b.create_vector(&secondaries);
        let arguments = kv::PartitionRouteArgs {
            ballot: partition.ballot.0,
            primary: Some(primary),
            secondaries: Some(secondaries),
        };
        partitions.push(kv::PartitionRoute::create(b, &arguments));
    }
    let arguments = kv::RouteReplyArgs {
        table_id: table.id.0,
        partition_count: table.partition_count,
        partitions: Some(b.create_vector(&partitions)),
    };
    let root = kv::RouteReply::create(b, &arguments);
    Ok(finished(builder, root))
}

/// All tables that are not dropped, or those that are and can be recalled; without their partitions.
pub(super) fn list_tables(state: &State, dropped: bool) -> Vec<u8> {
    let mut builder = Builder::new();
    let tables = state.durable().tables().values();
    let chosen = tables.filter(|table| {
        if dropped {
            table.is_kept()
        } else {
            !table.is_dropped()
        }
    });
    let tables: Vec<_> = chosen
        .map(|table| write_table(&mut builder, state, table, None))
        .collect();
    let tables = builder.create_vector(&tables);
    let root = admin::ListTablesReply::create(
        &mut builder,
        &admin::ListTablesReplyArgs {
            tables: Some(tables),
        },
    );
    finished(builder, root)
}

/// One table with its partitions and their members' last words.
pub(super) fn show_table(state: &State, name: &str) -> Result<Vec<u8>, Failed> {
    let table = named(state, name)?;
    let mut builder = Builder::new();
    let partitions: Vec<_> = (0..table.partition_count)
        .filter_map(|index| write_partition(&mut builder, state, table, index))
        .collect();
    let partitions = builder.create_vector(&partitions);
    let root = write_table(&mut builder, state, table, Some(partitions));
    Ok(finished(builder, root))
}

/// The settings of one table.
pub(super) fn show_envs(state: &State, name: &str) -> Result<Vec<u8>, Failed> {
    let table = named(state, name)?;
    let mut builder = Builder::new();
    let write = |(key, value): (&String, &String)| {
        let arguments = admin::EnvDetailArgs {
            key: Some(builder.create_string(key)),
            value: Some(builder.create_string(value)),
            acts: envs::find(key).is_some_and(|known| known.acts),
        };
        admin::EnvDetail::create(&mut builder, &arguments)
    };
    let envs: Vec<_> = table.envs.iter().map(write).collect();
    let envs = Some(builder.create_vector(&envs));
    let root = admin::ShowEnvsReply::create(&mut builder, &admin::ShowEnvsReplyArgs { envs });
    Ok(finished(builder, root))
}

/// The cluster as a whole.
pub(super) fn show_cluster(state: &State, place: &Place) -> Vec<u8> {
    let mut builder = Builder::new();
    let b = &mut builder;
    let cluster = state.durable().cluster();
    let (cluster_high, cluster_low) = cluster.id.halves();
    let pairs = cluster_info(state, place);
    let keys: Vec<_> = pairs.iter().map(|(key, _)| b.create_string(key)).collect();
    let values: Vec<_> = pairs.iter().map(|(_, it)| b.create_string(it)).collect();
    let metas: Vec<_> = place.members.iter().map(|it| write_meta(b, it)).collect();
    let arguments = admin::ClusterReplyArgs {
        metas: Some(b.create_vector(&metas)),
        term: place.term,
        cluster_high,
        cluster_low,
        name: Some(b.create_string(&cluster.name)),
        level: state.durable().level().number(),
        keys: Some(b.create_vector(&keys)),
        values: Some(b.create_vector(&values)),
        version: Some(b.create_string(env!("CARGO_PKG_VERSION"))),
        heal_delay_ms: state.options().heal_delay_ms,
        now_unix_ms: wall_ms(),
    };
    let root = admin::ClusterReply::create(b, &arguments);
    finished(builder, root)
}

fn write_meta<'b>(b: &mut Builder<'b>, it: &MetaMember) -> WIPOffset<admin::MetaDetail<'b>> {
    let arguments = admin::MetaDetailArgs {
        member: it.id,
        address: Some(b.create_string(&it.address)),
        peer_address: Some(b.create_string(&it.peer_address)),
        leads: it.leads,
        up: match it.is_up {
            None => admin::MetaUp::Unknown,
            Some(false) => admin::MetaUp::Down,
            Some(true) => admin::MetaUp::Up,
        },
        learner: it.is_learner,
    };
    admin::MetaDetail::create(b, &arguments)
}

/// How balancing stands, or what would be moved now.
pub(super) fn show_balance(state: &State, plan: Option<Wanted>) -> Vec<u8> {
    let view = match plan {
        Some(wanted) => state.balance_plan(wanted),
        None => state.balance_view(),
    };
    super::wire::balance_reply(state, &view)
}

/// How far a node is with being emptied.
pub(super) fn show_drain(state: &State, node: NodeId) -> Vec<u8> {
    let told = state.emptying(node);
    let kind = match told.drain {
        _ if told.is_forgotten => admin::DrainKind::Forgotten,
        None => admin::DrainKind::None,
        Some(Drain::Primaries) => admin::DrainKind::Primaries,
        Some(Drain::Replicas) => admin::DrainKind::Replicas,
        Some(Drain::Decommission) => admin::DrainKind::Decommission,
    };
    let mut builder = Builder::new();
    let arguments = admin::ShowDrainReplyArgs {
        kind,
        done: told.is_done,
        blocked: told.is_blocked,
        message: Some(builder.create_string(&told.message)),
        primaries_left: told.primaries_left,
        replicas_left: told.replicas_left,
        bytes_left: told.bytes_left,
    };
    let root = admin::ShowDrainReply::create(&mut builder, &arguments);
    finished(builder, root)
}

/// All nodes with their cores and what they carry.
pub(super) fn list_nodes(state: &State, now_ms: u64) -> Vec<u8> {
    let mut builder = Builder::new();
    let loads = state.loads();
    let nodes: Vec<_> = state
        .durable()
        .nodes()
        .values()
        .map(|it| write_node(&mut builder, state, it, &loads, now_ms))
        .collect();
    let nodes = builder.create_vector(&nodes);
    let (cluster_high, cluster_low) = state.durable().cluster().id.halves();
    let arguments = admin::ListNodesReplyArgs {
        cluster_high,
        cluster_low,
        nodes: Some(nodes),
    };
    let root = admin::ListNodesReply::create(&mut builder, &arguments);
    finished(builder, root)
}

/// What a table in creation waits for, in a sentence.
pub(super) fn creating(state: &State, table: TableId) -> String {
    let Some(progress) = state.progress(table) else {
        return format!("table {table} is not there any more");
    };
    let waiting = progress.total - progress.serving;
    format!(
        "the table is recorded, but {waiting} of its {} partitions do not serve yet: {}",
        progress.total, progress.missing
    )
}

fn named<'a>(state: &'a State, name: &str) -> Result<&'a Table, Failed> {
    let shown: String = name.chars().take(256).collect();
    let unknown = || Failed::new(Code::UnknownTable, format!("{shown:?}"));
    state.durable().table_named(name).ok_or_else(unknown)
}

fn client_address<'a>(state: &'a State, member: &Member) -> &'a str {
    let node = state.durable().nodes().get(&member.address.node);
    node.and_then(|node| node.core(member.address.core))
        .map_or("", |core| &core.client_address)
}

fn write_table<'b>(
    b: &mut Builder<'b>,
    state: &State,
    table: &Table,
    partitions: Option<Partitions<'b>>,
) -> WIPOffset<admin::TableDetail<'b>> {
    let healths: Vec<PartitionHealth> = table
        .indexed()
        .map(|(index, partition)| state.partition_health(table, index, partition))
        .collect();
    let healthy = healths
        .iter()
        .filter(|&&health| health == PartitionHealth::Healthy)
        .count();
    let worst = healths
        .into_iter()
        .max()
        .unwrap_or(PartitionHealth::Healthy);
    let arguments = admin::TableDetailArgs {
        table_id: table.id.0,
        name: Some(b.create_string(&table.name)),
        partition_count: table.partition_count,
        replica_count: u32::from(table.replica_count),
        health: if table.is_dropped() {
            admin::Health::Dropped
        } else {
            write_health(worst)
        },
        healthy_partitions: u32::try_from(healthy).unwrap_or(u32::MAX),
        created_unix_ms: table.created_ms,
        partitions,
        dropped_unix_ms: table.dropped_ms.unwrap_or(0),
        kept_until_unix_ms: table.kept_until_ms.unwrap_or(0),
        min_replicas: u32::from(table.min_replicas),
    };
    admin::TableDetail::create(b, &arguments)
}

const fn write_health(health: PartitionHealth) -> admin::Health {
    match health {
        PartitionHealth::Healthy => admin::Health::Healthy,
        PartitionHealth::Degraded => admin::Health::Degraded,
        PartitionHealth::Creating => admin::Health::Creating,
        PartitionHealth::Unavailable => admin::Health::Unavailable,
    }
}

fn write_partition<'b>(
    b: &mut Builder<'b>,
    state: &State,
    table: &Table,
    index: u32,
) -> Option<WIPOffset<admin::PartitionDetail<'b>>> {
    let view = state.partition_view(table, index)?;
    let primary = view
        .primary
        .as_ref()
        .map(|member| write_member(b, state, member));
    let secondaries: Vec<_> = view
        .secondaries
        .iter()
        .map(|member| write_member(b, state, member))
        .collect();
    let secondaries = b.create_vector(&secondaries);
    let learner = view.learner.as_ref().map(|it| write_learner(b, state, it));
    let backoffs = view.partition.backoffs.iter().map(write_backoff);
    let backoffs: Vec<_> = backoffs.collect();
    let moving = view
        .partition
        .intent
        .map(|it| b.create_string(&in_words(&it)));
    let arguments = admin::PartitionDetailArgs {
        index,
        ballot: view.partition.ballot.0,
        health: write_health(view.health),
        primary,
        secondaries: Some(secondaries),
        learner,
        degraded_since_unix_ms: view.degraded_ms.unwrap_or(0),
        backoffs: Some(b.create_vector(&backoffs)),
        moving,
    };
    Some(admin::PartitionDetail::create(b, &arguments))
}

fn write_learner<'b>(
    b: &mut Builder<'b>,
    state: &State,
    learner: &LearnerView<'_>,
) -> WIPOffset<admin::LearnerDetail<'b>> {
    let arguments = admin::LearnerDetailArgs {
        member: Some(write_member(b, state, &learner.view)),
        fresh: learner.is_fresh,
        since_unix_ms: learner.since_ms,
    };
    admin::LearnerDetail::create(b, &arguments)
}

fn write_backoff(it: &Backoff) -> admin::BackoffDetail {
    admin::BackoffDetail::new(it.until_ms, it.node.0, u32::from(it.step))
}

fn in_words(intent: &Intent) -> String {
    match intent.goal {
        Goal::Lead { to } => format!("core {} becomes primary", to.address),
        Goal::Move { from, to } => format!("core {} moves to {to}", from.address),
    }
}

fn write_member<'b>(
    b: &mut Builder<'b>,
    state: &State,
    view: &MemberView<'_>,
) -> WIPOffset<admin::MemberDetail<'b>> {
    let status = view.status;
    let reason = status.map_or("", |status| &status.reason);
    let arguments = admin::MemberDetailArgs {
        node: view.member.address.node.0,
        core: u32::from(view.member.address.core.0),
        address: Some(b.create_shared_string(client_address(state, &view.member))),
        alive: view.alive,
        health: status.map_or(meta::ReplicaHealth::Unset, |status| {
            write_replica_health(status.health)
        }),
        reason: (!reason.is_empty()).then(|| b.create_shared_string(reason)),
        committed: status.map_or(0, |status| status.committed.0),
        prepared: status.map_or(0, |status| status.prepared.0),
        since_unix_ms: view.since_ms.unwrap_or(0),
        bytes: status.map_or(0, |status| status.bytes),
    };
    admin::MemberDetail::create(b, &arguments)
}

const fn write_replica_health(health: ReplicaHealth) -> meta::ReplicaHealth {
    match health {
        ReplicaHealth::Gone => meta::ReplicaHealth::Unset,
        ReplicaHealth::Opening => meta::ReplicaHealth::Opening,
        ReplicaHealth::Ready => meta::ReplicaHealth::Ready,
        ReplicaHealth::Serving => meta::ReplicaHealth::Serving,
        ReplicaHealth::OutOfService => meta::ReplicaHealth::OutOfService,
        ReplicaHealth::Unknown => meta::ReplicaHealth::Unknown,
    }
}

fn write_node<'b>(
    b: &mut Builder<'b>,
    state: &State,
    node: &Node,
    loads: &BTreeMap<CoreAddress, Load>,
    now_ms: u64,
) -> WIPOffset<admin::NodeDetail<'b>> {
    let cores: Vec<_> = (0u16..)
        .zip(&node.cores)
        .map(|(number, core)| {
            let address = CoreAddress {
                node: node.id,
                core: CoreId(number),
            };
            let load = loads.get(&address).copied().unwrap_or_default();
            let arguments = admin::CoreDetailArgs {
                client_address: Some(b.create_string(&core.client_address)),
                peer_address: Some(b.create_string(&core.peer_address)),
                cpu: core.cpu,
                replicas: u32::try_from(load.replicas).unwrap_or(u32::MAX),
                primaries: u32::try_from(load.primaries).unwrap_or(u32::MAX),
            };
            admin::CoreDetail::create(b, &arguments)
        })
        .collect();
    let live = state.live(node.id);
    let words = live.map(|live| &live.words);
    let program = words.and_then(|words| words.program.as_ref());
    let arguments = admin::NodeDetailArgs {
        node: node.id.0,
        alive: state.is_alive(node.id),
        host: Some(b.create_string(&node.host)),
        pid: node.pid,
        incarnation: node.incarnation.0,
        // Not heard of since meta started: as long ago as can be.
        last_heartbeat_ms: live.map_or(u64::MAX, |live| now_ms.saturating_sub(live.heard_ms)),
        stats_dir: Some(b.create_string(&node.stats_dir)),
        disk_total: live.map_or(0, |live| live.disk_total),
        disk_free: live.map_or(0, |live| live.disk_free),
        cores: Some(b.create_vector(&cores)),
        draining: state.durable().drain(node.id).is_some(),
        unknown_replicas: live.map_or(0, |live| live.unknown_replicas),
        version: program.map(|it| b.create_string(&it.version)),
        protocol: program.map_or(0, |it| it.protocol),
        disk_format: program.map_or(0, |it| it.disk_format),
        started_unix_ms: program.map_or(0, |it| it.started_ms),
        clock_ahead_ms: words.and_then(|it| it.clock_ahead_ms).unwrap_or(0),
        writes_refused: words.is_some_and(|it| it.refuses_writes),
        leaving: state.is_leaving(node.id),
        decommissioned: state.durable().drain(node.id) == Some(Drain::Decommission),
    };
    admin::NodeDetail::create(b, &arguments)
}
