//! Bodies of the frames between a node and meta (fbs/schema/meta.fbs).

use super::{Health, ReplicaKey, Report};
use crate::directory::{Node, Table};
use crate::wire;
use pegasus_fbs::body::{self, BodyError};
use pegasus_fbs::flatbuffers::{FlatBufferBuilder, ForwardsUOffset, Vector};
use pegasus_fbs::meta;
use pegasus_replication::config::Configuration;
use pegasus_replication::ids::{Ballot, NodeId, PartitionId, ReplicaIncarnation, TableId};
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
    })
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
    };
    let is_there = !table.dropped() && info.partition_count > 0;
    (TableId(table.table_id()), is_there.then_some(info))
}

fn read_key(key: &meta::ReplicaKey) -> ReplicaKey {
    ReplicaKey {
        partition: PartitionId {
            table: TableId(key.table_id()),
            index: key.partition(),
        },
        incarnation: ReplicaIncarnation(key.incarnation()),
    }
}

pub(super) fn write_heartbeat<'r>(
    digest: u64,
    is_full: bool,
    (disk_total, disk_free): (u64, u64),
    replicas: impl Iterator<Item = (ReplicaKey, &'r Report, bool)>,
) -> Vec<u8> {
    let mut builder = FlatBufferBuilder::new();
    let mut written = Vec::new();
    for (key, report, is_unknown) in replicas {
        let reason = (!report.reason.is_empty()).then(|| builder.create_string(&report.reason));
        let ReplicaKey {
            partition,
            incarnation,
        } = key;
        let key = meta::ReplicaKey::new(incarnation.0, partition.table.0, partition.index);
        let arguments = meta::ReplicaReportArgs {
            key: Some(&key),
            ballot: report.ballot.0,
            committed: report.committed.0,
            prepared: report.prepared.0,
            health: write_health(report.health, is_unknown),
            reason,
            ..Default::default()
        };
        written.push(meta::ReplicaReport::create(&mut builder, &arguments));
    }
    let replicas = builder.create_vector(&written);
    let arguments = meta::HeartbeatArgs {
        digest,
        replicas: Some(replicas),
        full: is_full,
        disk_total,
        disk_free,
        ..Default::default()
    };
    let root = meta::Heartbeat::create(&mut builder, &arguments);
    builder.finish(root, None);
    builder.finished_data().to_vec()
}

const fn write_health(health: Health, is_unknown: bool) -> meta::ReplicaHealth {
    match health {
        Health::Gone => meta::ReplicaHealth::Unset,
        _ if is_unknown => meta::ReplicaHealth::Unknown,
        Health::Opening => meta::ReplicaHealth::Opening,
        Health::Ready => meta::ReplicaHealth::Ready,
        Health::Serving => meta::ReplicaHealth::Serving,
        Health::OutOfService => meta::ReplicaHealth::OutOfService,
    }
}

pub(super) fn write_proposals(proposals: impl Iterator<Item = (ReplicaKey, Ballot)>) -> Vec<u8> {
    let mut builder = FlatBufferBuilder::new();
    let proposals: Vec<meta::Proposal> = proposals
        .map(|(key, ballot)| {
            let PartitionId { table, index } = key.partition;
            meta::Proposal::new(key.incarnation.0, ballot.0, table.0, index)
        })
        .collect();
    let replicas = builder.create_vector(&proposals);
    let arguments = meta::ProposeNextBallotArgs {
        replicas: Some(replicas),
    };
    let root = meta::ProposeNextBallot::create(&mut builder, &arguments);
    builder.finish(root, None);
    builder.finished_data().to_vec()
}
