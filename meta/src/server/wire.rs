//! Commands, pushes and answers <-> bodies of frames (fbs/schema/meta.fbs, admin.fbs). The only file that knows both.

use super::letter::{Failed, Query};
use super::register::NONCE_BYTES;
use crate::state::{
    Assignment, CORES_MAX, ClusterId, Command, Core, CreateTable, Drain, HandOver, Node,
    NodeAddress, Proposed, ReplicaHealth, ReplicaKey, ReplicaStatus, Report, Sync, TableInfo,
};
use pegasus_fbs::body::{self, BodyError};
use pegasus_fbs::code::Code;
use pegasus_fbs::flatbuffers::{FlatBufferBuilder, ForwardsUOffset, Vector, WIPOffset};
use pegasus_fbs::frame::FrameKind;
use pegasus_fbs::{admin, kv, meta, peer};
use pegasus_replication::config::{Configuration, Member, Proposal, RemovalCause, Stage};
use pegasus_replication::ids::{
    Ballot, CoreAddress, CoreId, Decree, NodeId, NodeIncarnation, PartitionId, ReplicaIncarnation,
    TableId,
};

/// Of `ip:port`, with room.
const ADDRESS_BYTES_MAX: usize = 128;

type Builder<'a> = FlatBufferBuilder<'a>;
type Strings<'a> = Option<Vector<'a, ForwardsUOffset<&'a str>>>;

/// A node's introduction; `node.id` is 0 for a fresh directory.
#[derive(Debug)]
pub(super) struct Register {
    pub(super) protocol_min: u16,
    pub(super) protocol_max: u16,
    /// 0 for a fresh directory.
    pub(super) cluster: ClusterId,
    pub(super) nonce: Vec<u8>,
    pub(super) node: Node,
}

impl From<BodyError> for Failed {
    fn from(error: BodyError) -> Self {
        Self::new(Code::InvalidArgument, error.to_string())
    }
}

pub(super) fn register(bytes: &[u8]) -> Result<Register, Failed> {
    let it = body::read::<meta::Register<'_>>(bytes)?;
    let (clients, peers) = (
        addresses(it.client_addresses())?,
        addresses(it.peer_addresses())?,
    );
    if clients.len() != peers.len() {
        return Err(Failed::new(
            Code::InvalidArgument,
            "a node has as many client as peer addresses",
        ));
    }
    let cpus = it.cpus().into_iter().flatten().chain(std::iter::repeat(0));
    let cores = clients.into_iter().zip(peers).zip(cpus);
    let cores = cores.map(|((client_address, peer_address), cpu)| Core {
        client_address,
        peer_address,
        cpu,
    });
    Ok(Register {
        protocol_min: it.protocol_min(),
        protocol_max: it.protocol_max(),
        cluster: ClusterId::from_halves(it.cluster_high(), it.cluster_low()),
        nonce: body::bytes(it.nonce()).to_vec(),
        node: Node {
            id: NodeId(it.node()),
            incarnation: NodeIncarnation(it.node_incarnation()),
            cores: cores.collect(),
            host: it.host().unwrap_or_default().to_owned(),
            pid: it.pid(),
            stats_dir: it.stats_dir().unwrap_or_default().to_owned(),
        },
    })
}

/// Bounded before they are copied: the strings of a frame may share their bytes, and a small frame would else grow to
/// hundreds of MiB before its sender has proved who it is.
fn addresses(vector: Strings<'_>) -> Result<Vec<String>, Failed> {
    let Some(vector) = vector else {
        return Ok(Vec::new());
    };
    let fits = vector.len() <= CORES_MAX
        && vector
            .iter()
            .all(|address| address.len() <= ADDRESS_BYTES_MAX);
    if !fits {
        let message = format!(
            "a node has at most {CORES_MAX} cores, with addresses of at most {ADDRESS_BYTES_MAX} bytes"
        );
        return Err(Failed::new(Code::InvalidArgument, message));
    }
    Ok(vector.iter().map(str::to_owned).collect())
}

pub(super) fn proof(bytes: &[u8]) -> Result<Vec<u8>, Failed> {
    let it = body::read::<meta::RegisterProof<'_>>(bytes)?;
    Ok(body::bytes(it.proof()).to_vec())
}

pub(super) fn report(bytes: &[u8]) -> Result<Report, BodyError> {
    let it = body::read::<meta::Heartbeat<'_>>(bytes)?;
    let replicas = it
        .replicas()
        .into_iter()
        .flatten()
        .filter_map(|replica| Some((key(replica.key()?), status(&replica))));
    Ok(Report {
        digest: it.digest(),
        full: it.full(),
        replicas: replicas.collect(),
        disk_total: it.disk_total(),
        disk_free: it.disk_free(),
        tables: it
            .tables()
            .into_iter()
            .flatten()
            .map(|table| read_table(&table))
            .collect(),
    })
}

fn status(replica: &meta::ReplicaReport<'_>) -> ReplicaStatus {
    ReplicaStatus {
        ballot: Ballot(replica.ballot()),
        committed: Decree(replica.committed()),
        prepared: Decree(replica.prepared()),
        prepared_ballot: Ballot(replica.prepared_ballot()),
        applied: Decree(replica.applied()),
        core: Some(replica.core())
            .filter(|core| *core != u16::MAX)
            .map(CoreId),
        health: match replica.health() {
            meta::ReplicaHealth::Unset => ReplicaHealth::Gone,
            meta::ReplicaHealth::Opening => ReplicaHealth::Opening,
            meta::ReplicaHealth::Ready => ReplicaHealth::Ready,
            meta::ReplicaHealth::Serving => ReplicaHealth::Serving,
            meta::ReplicaHealth::OutOfService => ReplicaHealth::OutOfService,
            // A health of a later version is at least there.
            _ => ReplicaHealth::Unknown,
        },
        reason: replica.reason().unwrap_or_default().to_owned(),
        configuration: replica
            .configuration()
            .map(|it| Box::new(read_configuration(&it))),
    }
}

fn read_configuration(it: &peer::Configuration<'_>) -> Configuration {
    let secondaries = it.secondaries().into_iter().flatten();
    Configuration {
        partition: PartitionId {
            table: TableId(it.table_id()),
            index: it.partition(),
        },
        ballot: Ballot(it.ballot()),
        stage: if it.active() {
            Stage::Active
        } else {
            Stage::Creating
        },
        primary: it.primary().map(read_member),
        secondaries: secondaries.map(read_member).collect(),
        replica_count: it.replica_count(),
        min_replicas: it.min_replicas(),
    }
}

fn read_table(it: &meta::TableInfo<'_>) -> TableInfo {
    TableInfo {
        table: TableId(it.table_id()),
        name: it.name().unwrap_or_default().to_owned(),
        partition_count: it.partition_count(),
        dropped: it.dropped(),
        replica_count: it.replica_count(),
        min_replicas: it.min_replicas(),
    }
}

const fn replica_key(table: u32, index: u32, incarnation: u64) -> ReplicaKey {
    let partition = PartitionId {
        table: TableId(table),
        index,
    };
    ReplicaKey {
        partition,
        incarnation: ReplicaIncarnation(incarnation),
    }
}

fn key(key: &meta::ReplicaKey) -> ReplicaKey {
    replica_key(key.table_id(), key.partition(), key.incarnation())
}

/// Proposals of primaries that started again, as nodes of the first version send them.
pub(super) fn next_ballots(bytes: &[u8]) -> Result<Vec<Proposed>, BodyError> {
    let it = body::read::<meta::ProposeNextBallot<'_>>(bytes)?;
    let proposal = |it: &meta::Proposal| Proposed {
        replica: replica_key(it.table_id(), it.partition(), it.incarnation()),
        ballot: Ballot(it.ballot()),
        proposal: Proposal::NextBallot,
    };
    Ok(it.replicas().into_iter().flatten().map(proposal).collect())
}

/// What replicas want. A kind of a later version is left out: it is repeated, and meanwhile nothing is lost.
pub(super) fn proposals(bytes: &[u8]) -> Result<Vec<Proposed>, BodyError> {
    let it = body::read::<meta::ProposeChange<'_>>(bytes)?;
    let proposals = it.proposals().into_iter().flatten();
    Ok(proposals.filter_map(|it| proposed(&it)).collect())
}

fn proposed(it: &meta::ChangeProposal<'_>) -> Option<Proposed> {
    let about = || it.member().map(read_member);
    let proposal = match it.kind() {
        meta::ProposalKind::NextBallot => Proposal::NextBallot,
        meta::ProposalKind::TakeOver => Proposal::TakeOver {
            prepared: Decree(it.prepared()),
            prepared_ballot: Ballot(it.prepared_ballot()),
        },
        meta::ProposalKind::Remove => Proposal::Remove {
            member: about()?,
            cause: match it.cause() {
                meta::RemovalCause::Down => RemovalCause::Down,
                meta::RemovalCause::Slow => RemovalCause::Slow,
                meta::RemovalCause::Lost => RemovalCause::Lost,
                meta::RemovalCause::OutOfService => RemovalCause::OutOfService,
                _ => return None,
            },
        },
        meta::ProposalKind::Add => Proposal::Add { member: about()? },
        meta::ProposalKind::HandOver => Proposal::HandOver { to: about()? },
        meta::ProposalKind::WithdrawLearner => Proposal::WithdrawLearner { member: about()? },
        _ => return None,
    };
    Some(Proposed {
        replica: key(it.replica()?),
        ballot: Ballot(it.ballot()),
        proposal,
    })
}

fn read_member(it: &peer::Member) -> Member {
    Member {
        address: CoreAddress {
            node: NodeId(it.node()),
            core: CoreId(it.core()),
        },
        incarnation: ReplicaIncarnation(it.incarnation()),
    }
}

/// A question of a client or an operator. `kind` is one of the four that ask.
pub(super) fn query(kind: FrameKind, bytes: &[u8]) -> Result<Query, Failed> {
    let name = |name: Option<&str>| name.unwrap_or_default().to_owned();
    match kind {
        FrameKind::Route => {
            let it = body::read::<kv::RouteRequest<'_>>(bytes)?;
            Ok(Query::Route {
                name: name(it.table_name()),
            })
        }
        FrameKind::ShowTable => {
            let it = body::read::<admin::ShowTable<'_>>(bytes)?;
            Ok(Query::ShowTable {
                name: name(it.name()),
            })
        }
        FrameKind::ListTables => Ok(Query::ListTables),
        _ => Ok(Query::ListNodes),
    }
}

/// An order of an operator. `kind` is one of those that order.
pub(super) fn order(kind: FrameKind, bytes: &[u8], now_ms: u64) -> Result<Command, Failed> {
    match kind {
        FrameKind::DropTable => {
            let it = body::read::<admin::DropTable<'_>>(bytes)?;
            Ok(Command::DropTable {
                name: it.name().unwrap_or_default().to_owned(),
                now_ms,
            })
        }
        FrameKind::MovePrimary => {
            let it = body::read::<admin::MovePrimary<'_>>(bytes)?;
            Ok(Command::MovePrimary {
                table: it.table_name().unwrap_or_default().to_owned(),
                index: it.partition(),
                to: NodeId(it.node()),
                now_ms,
            })
        }
        FrameKind::MoveReplica => {
            let it = body::read::<admin::MoveReplica<'_>>(bytes)?;
            let to = CoreAddress {
                node: NodeId(it.to_node()),
                // What does not fit is refused as what it is: no core of any node.
                core: CoreId(u16::try_from(it.to_core()).unwrap_or(u16::MAX)),
            };
            Ok(Command::MoveReplica {
                table: it.table_name().unwrap_or_default().to_owned(),
                index: it.partition(),
                from: NodeId(it.from_node()),
                to,
                now_ms,
            })
        }
        FrameKind::DrainNode => {
            let it = body::read::<admin::DrainNode<'_>>(bytes)?;
            let drain = if it.move_replicas() {
                Drain::Replicas
            } else {
                Drain::Primaries
            };
            Ok(drain_node(it.node(), Some(drain), now_ms))
        }
        FrameKind::UndrainNode => {
            let it = body::read::<admin::UndrainNode<'_>>(bytes)?;
            Ok(drain_node(it.node(), None, now_ms))
        }
        _ => create_table(bytes, now_ms),
    }
}

const fn drain_node(node: u32, drain: Option<Drain>, now_ms: u64) -> Command {
    Command::DrainNode {
        node: NodeId(node),
        drain,
        now_ms,
    }
}

fn create_table(bytes: &[u8], now_ms: u64) -> Result<Command, Failed> {
    let it = body::read::<admin::CreateTable<'_>>(bytes)?;
    Ok(Command::CreateTable(CreateTable {
        name: it.name().unwrap_or_default().to_owned(),
        partition_count: it.partition_count(),
        // What does not fit is refused as what it is: too many.
        replica_count: u8::try_from(it.replica_count()).unwrap_or(u8::MAX),
        allow_degraded: it.allow_degraded(),
        now_ms,
    }))
}

pub(super) fn register_reply(
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

pub(super) fn heartbeat_reply(digest: u64) -> Vec<u8> {
    let mut builder = Builder::new();
    let root = meta::HeartbeatReply::create(&mut builder, &meta::HeartbeatReplyArgs { digest });
    finished(builder, root)
}

pub(super) fn create_reply(table: TableId, degraded: bool) -> Vec<u8> {
    let mut builder = Builder::new();
    let arguments = admin::CreateTableReplyArgs {
        table_id: table.0,
        degraded,
    };
    let root = admin::CreateTableReply::create(&mut builder, &arguments);
    finished(builder, root)
}

pub(super) fn drop_reply(table: TableId) -> Vec<u8> {
    let mut builder = Builder::new();
    let root = admin::DropTableReply::create(
        &mut builder,
        &admin::DropTableReplyArgs { table_id: table.0 },
    );
    finished(builder, root)
}

pub(super) fn change_reply(done: bool, message: &str) -> Vec<u8> {
    let mut builder = Builder::new();
    let message = Some(builder.create_string(message));
    let root = admin::ChangeReply::create(&mut builder, &admin::ChangeReplyArgs { done, message });
    finished(builder, root)
}

pub(super) fn sync(sync: &Sync) -> Vec<u8> {
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
    let arguments = meta::SyncArgs {
        full: sync.full,
        digest: sync.digest,
        nodes: Some(b.create_vector(&nodes)),
        tables: Some(b.create_vector(&tables)),
        configurations: Some(b.create_vector(&configurations)),
        drops: Some(b.create_vector(&drops)),
        learners: Some(b.create_vector(&learners)),
        handovers: Some(b.create_vector(&handovers)),
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
    let arguments = meta::TableInfoArgs {
        table_id: table.table.0,
        name: Some(b.create_string(&table.name)),
        partition_count: table.partition_count,
        dropped: table.dropped,
        replica_count: table.replica_count,
        min_replicas: table.min_replicas,
        ..Default::default()
    };
    meta::TableInfo::create(b, &arguments)
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

pub(super) fn finished<T>(mut builder: Builder<'_>, root: WIPOffset<T>) -> Vec<u8> {
    builder.finish(root, None);
    builder.finished_data().to_vec()
}
