//! What nodes and operators are told.

use super::super::register::NONCE_BYTES;
use super::Builder;
use crate::server::backup::{write_order, write_restore};
use crate::state::{
    Assignment, ClusterId, HandOver, Level, NodeAddress, ReplicaKey, Sync, TableInfo,
};
use pegasus_fbs::flatbuffers::{ForwardsUOffset, Vector, WIPOffset};
use pegasus_fbs::{admin, meta, peer};
use pegasus_replication::config::{Configuration, Member, Stage};
use pegasus_replication::ids::{NodeId, PartitionId, TableId};

pub(in crate::server) fn register_reply(
    cluster: ClusterId,
    node: NodeId,
    nonce: &[u8; NONCE_BYTES],
    proof: &[u8],
) -> Vec<u8> {
    let mut builder = Builder::new();
    let nonce = Some(builder.create_vector(nonce));
    let proof = Some(builder.create_vector(proof));
    let (cluster_high, cluster_low) = cluster.halves();
    let arguments = meta::RegisterReplyArgs {
        cluster_high,
        cluster_low,
        node: node.0,
        nonce,
        proof,
    };
    let root = meta::RegisterReply::create(&mut builder, &arguments);
    finished(builder, root)
}

/// `held`: of a node that leaves, how many partitions can still be taken off it.
pub(in crate::server) fn heartbeat_reply(digest: u64, held: Option<u32>) -> Vec<u8> {
    let mut builder = Builder::new();
    let held = held.unwrap_or(u32::MAX);
    let arguments = meta::HeartbeatReplyArgs { digest, held };
    let root = meta::HeartbeatReply::create(&mut builder, &arguments);
    finished(builder, root)
}

pub(in crate::server) fn create_reply(table: TableId, degraded: bool) -> Vec<u8> {
    let mut builder = Builder::new();
    let arguments = admin::CreateTableReplyArgs {
        table_id: table.0,
        degraded,
    };
    let root = admin::CreateTableReply::create(&mut builder, &arguments);
    finished(builder, root)
}

pub(in crate::server) fn drop_reply(table: TableId) -> Vec<u8> {
    let mut builder = Builder::new();
    let root = admin::DropTableReply::create(
        &mut builder,
        &admin::DropTableReplyArgs { table_id: table.0 },
    );
    finished(builder, root)
}

pub(in crate::server) fn level_reply(before: Level, now: Level) -> Vec<u8> {
    let mut builder = Builder::new();
    let arguments = admin::SetLevelReplyArgs {
        before: before.number(),
        now: now.number(),
    };
    let root = admin::SetLevelReply::create(&mut builder, &arguments);
    finished(builder, root)
}

pub(in crate::server) fn change_reply(done: bool, message: &str) -> Vec<u8> {
    let mut builder = Builder::new();
    let message = Some(builder.create_string(message));
    let root = admin::ChangeReply::create(&mut builder, &admin::ChangeReplyArgs { done, message });
    finished(builder, root)
}

pub(in crate::server) fn sync(sync: &Sync) -> Vec<u8> {
    let mut builder = Builder::new();
    let b = &mut builder;
    let nodes: Vec<_> = sync.nodes.iter().map(|node| write_node(b, node)).collect();
    let tables: Vec<_> = sync
        .tables
        .iter()
        .map(|table| write_table(b, table))
        .collect();
    let configurations: Vec<_> = sync
        .configurations
        .iter()
        .map(|it| write_configuration(b, it))
        .collect();
    let write_key = |key: &ReplicaKey| {
        meta::ReplicaKey::new(
            key.incarnation.0,
            key.partition.table.0,
            key.partition.index,
        )
    };
    let drops: Vec<_> = sync.drops.iter().map(write_key).collect();
    let learners: Vec<_> = sync
        .assignments
        .iter()
        .map(|it| write_learner(b, it))
        .collect();
    let handovers: Vec<_> = sync.handovers.iter().map(write_handover).collect();
    let backups: Vec<_> = sync.backups.iter().map(|it| write_order(b, it)).collect();
    let restores: Vec<_> = sync
        .restores
        .iter()
        .map(|it| write_restore(b, it))
        .collect();
    let arguments = meta::SyncArgs {
        full: sync.full,
        digest: sync.digest,
        nodes: Some(b.create_vector(&nodes)),
        tables: Some(b.create_vector(&tables)),
        configurations: Some(b.create_vector(&configurations)),
        drops: Some(b.create_vector(&drops)),
        learners: Some(b.create_vector(&learners)),
        handovers: Some(b.create_vector(&handovers)),
        backups: Some(b.create_vector(&backups)),
        restores: Some(b.create_vector(&restores)),
    };
    let root = meta::Sync::create(b, &arguments);
    finished(builder, root)
}

fn write_node<'b>(b: &mut Builder<'b>, node: &NodeAddress) -> WIPOffset<meta::NodeAddress<'b>> {
    let arguments = meta::NodeAddressArgs {
        node: node.node.0,
        peer_addresses: Some(write_strings(b, &node.peer_addresses)),
        client_addresses: Some(write_strings(b, &node.client_addresses)),
        alive: node.alive,
    };
    meta::NodeAddress::create(b, &arguments)
}

fn write_strings<'b>(
    b: &mut Builder<'b>,
    strings: &[String],
) -> WIPOffset<Vector<'b, ForwardsUOffset<&'b str>>> {
    let strings: Vec<_> = strings
        .iter()
        .map(|string| b.create_string(string))
        .collect();
    b.create_vector(&strings)
}

fn write_table<'b>(b: &mut Builder<'b>, table: &TableInfo) -> WIPOffset<meta::TableInfo<'b>> {
    let envs: Vec<_> = table.envs.iter().map(|env| write_env(b, env)).collect();
    let envs = (!envs.is_empty()).then(|| b.create_vector(&envs));
    let arguments = meta::TableInfoArgs {
        table_id: table.table.0,
        name: Some(b.create_string(&table.name)),
        partition_count: table.partition_count,
        dropped: table.dropped,
        replica_count: table.replica_count,
        min_replicas: table.min_replicas,
        default_ttl_seconds: table.default_ttl_seconds,
        envs,
    };
    meta::TableInfo::create(b, &arguments)
}

fn write_env<'b>(
    b: &mut Builder<'b>,
    (key, value): (&String, &String),
) -> WIPOffset<meta::Env<'b>> {
    let arguments = meta::EnvArgs {
        key: Some(b.create_shared_string(key)),
        value: Some(b.create_shared_string(value)),
    };
    meta::Env::create(b, &arguments)
}

fn write_configuration<'b>(
    b: &mut Builder<'b>,
    it: &Configuration,
) -> WIPOffset<peer::Configuration<'b>> {
    let primary = it.primary.as_ref().map(write_member);
    let secondaries: Vec<_> = it.secondaries.iter().map(write_member).collect();
    let arguments = peer::ConfigurationArgs {
        table_id: it.partition.table.0,
        partition: it.partition.index,
        ballot: it.ballot.0,
        active: it.stage == Stage::Active,
        primary: primary.as_ref(),
        secondaries: Some(b.create_vector(&secondaries)),
        replica_count: it.replica_count,
        min_replicas: it.min_replicas,
    };
    peer::Configuration::create(b, &arguments)
}

fn write_learner<'b>(b: &mut Builder<'b>, it: &Assignment) -> WIPOffset<meta::Learner<'b>> {
    let learner = it.learner.as_ref().map(write_member);
    let arguments = meta::LearnerArgs {
        configuration: Some(write_configuration(b, &it.configuration)),
        learner: learner.as_ref(),
        fresh: it.is_fresh,
    };
    meta::Learner::create(b, &arguments)
}

fn write_handover(it: &HandOver) -> meta::HandOver {
    let PartitionId { table, index } = it.partition;
    meta::HandOver::new(&write_member(&it.to), it.ballot.0, table.0, index)
}

fn write_member(member: &Member) -> peer::Member {
    peer::Member::new(
        member.incarnation.0,
        member.address.node.0,
        member.address.core.0,
    )
}

pub(in crate::server) fn finished<T>(mut builder: Builder<'_>, root: WIPOffset<T>) -> Vec<u8> {
    builder.finish(root, None);
    builder.finished_data().to_vec()
}
