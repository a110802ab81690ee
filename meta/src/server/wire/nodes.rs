//! What nodes say.

use super::super::letter::Failed;
use crate::state::envs::ENVS_MAX;
use crate::state::{
    CORES_MAX, ClusterId, Core, Node, NodeWords, Program, Proposed, ReplicaHealth, ReplicaKey,
    ReplicaStatus, Report, TableInfo, VERSION_BYTES_MAX, bounded,
};
use pegasus_fbs::body::{self, BodyError};
use pegasus_fbs::code::Code;
use pegasus_fbs::flatbuffers::{ForwardsUOffset, Vector};
use pegasus_fbs::{meta, peer};
use pegasus_replication::config::{Configuration, Member, Proposal, RemovalCause, Stage};
use pegasus_replication::ids::{
    Ballot, CoreAddress, CoreId, Decree, NodeId, NodeIncarnation, PartitionId, ReplicaIncarnation,
    TableId,
};

/// Of `ip:port`, with room.
const ADDRESS_BYTES_MAX: usize = 128;

type Strings<'a> = Option<Vector<'a, ForwardsUOffset<&'a str>>>;

/// A node's introduction; `node.id` is 0 for a fresh directory.
#[derive(Debug)]
pub(in crate::server) struct Register {
    pub(in crate::server) protocol_min: u16,
    pub(in crate::server) protocol_max: u16,
    /// 0 for a fresh directory.
    pub(in crate::server) cluster: ClusterId,
    pub(in crate::server) nonce: Vec<u8>,
    pub(in crate::server) node: Node,
}

impl From<BodyError> for Failed {
    fn from(error: BodyError) -> Self {
        Self::new(Code::InvalidArgument, error.to_string())
    }
}

pub(in crate::server) fn register(bytes: &[u8]) -> Result<Register, Failed> {
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

pub(in crate::server) fn proof(bytes: &[u8]) -> Result<Vec<u8>, Failed> {
    let it = body::read::<meta::RegisterProof<'_>>(bytes)?;
    Ok(body::bytes(it.proof()).to_vec())
}

pub(in crate::server) fn report(bytes: &[u8]) -> Result<Report, BodyError> {
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
        words: words(&it),
    })
}

fn words(it: &meta::Heartbeat<'_>) -> NodeWords {
    let program = it.version().map(|version| Program {
        version: bounded(version.to_owned(), VERSION_BYTES_MAX),
        protocol: it.protocol(),
        disk_format: it.disk_format(),
        started_ms: it.started_unix_ms(),
    });
    NodeWords {
        is_leaving: it.leaving(),
        refuses_writes: it.writes_refused(),
        clock_ahead_ms: clock_ahead_ms(it.wall_unix_ms(), super::super::clock::wall_ms()),
        program,
    }
}

/// `None` if the node has not said what its clock shows.
fn clock_ahead_ms(theirs: u64, ours: u64) -> Option<i64> {
    let difference = i128::from(theirs) - i128::from(ours);
    let bounded = difference.clamp(i128::from(i64::MIN), i128::from(i64::MAX));
    i64::try_from(bounded).ok().filter(|_| theirs > 0)
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
        bytes: replica.bytes(),
        reads_per_second: replica.reads_per_second(),
        writes_per_second: replica.writes_per_second(),
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
        default_ttl_seconds: it.default_ttl_seconds(),
        envs: it
            .envs()
            .into_iter()
            .flatten()
            .take(ENVS_MAX)
            .map(|env| text_pair(&env))
            .collect(),
    }
}

pub(in crate::server) fn text_pair(env: &meta::Env<'_>) -> (String, String) {
    let text = |text: Option<&str>| text.unwrap_or_default().to_owned();
    (text(env.key()), text(env.value()))
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
pub(in crate::server) fn next_ballots(bytes: &[u8]) -> Result<Vec<Proposed>, BodyError> {
    let it = body::read::<meta::ProposeNextBallot<'_>>(bytes)?;
    let proposal = |it: &meta::Proposal| Proposed {
        replica: replica_key(it.table_id(), it.partition(), it.incarnation()),
        ballot: Ballot(it.ballot()),
        proposal: Proposal::NextBallot,
    };
    Ok(it.replicas().into_iter().flatten().map(proposal).collect())
}

/// What replicas want. A kind of a later version is left out: it is repeated, and meanwhile nothing is lost.
pub(in crate::server) fn proposals(bytes: &[u8]) -> Result<Vec<Proposed>, BodyError> {
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
