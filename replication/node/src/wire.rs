//! Messages between cores of a group <-> bodies of peer frames (fbs/schema/peer.fbs). The only file that knows both.

use bytes::Bytes;
use pegasus_fbs::body::{self, BodyError};
use pegasus_fbs::flatbuffers::{FlatBufferBuilder, WIPOffset};
use pegasus_fbs::frame::FrameKind;
use pegasus_fbs::peer;
use pegasus_replication::config::{Configuration, Member, Stage};
use pegasus_replication::ids::{
    Ballot, CoreAddress, CoreId, Decree, NodeId, PartitionId, ReplicaIncarnation, RequestId,
    TableId,
};
use pegasus_replication::message::{
    Beacon, BeaconAck, BeaconEntry, Entry, LearnReply, LearnRequest, LearnStep, Message, Mutation,
    Prepare, PrepareAck, PrepareReject, RejectReason, ReplicaState, Yield,
};

/// Why a body that is a valid FlatBuffer is not a message.
#[derive(Debug, thiserror::Error)]
pub enum WireError {
    #[error(transparent)]
    Body(#[from] BodyError),
    #[error("{kind:?} without {field}")]
    Missing {
        kind: FrameKind,
        field: &'static str,
    },
    #[error("frame kind {kind:?} is not a message between cores")]
    Kind { kind: FrameKind },
}

type Builder<'a> = FlatBufferBuilder<'a>;

/// The frame kind and body of `message`; the body lives in `builder`, which is reset first.
pub fn encode<'a>(builder: &'a mut Builder<'_>, message: &Message) -> (FrameKind, &'a [u8]) {
    builder.reset();
    let kind = match message {
        Message::Prepare(prepare) => write_prepare(builder, prepare),
        Message::PrepareAck(ack) => write_acks(builder, std::slice::from_ref(ack)),
        Message::PrepareReject(reject) => write_reject(builder, reject),
        Message::Beacon(beacon) => write_beacon(builder, beacon),
        Message::BeaconAck(ack) => write_beacon_ack(builder, ack),
        Message::LearnRequest(request) => write_learn_request(builder, request),
        Message::LearnReply(reply) => write_learn_reply(builder, reply),
        Message::Yield(word) => write_yield(builder, word),
    };
    (kind, builder.finished_data())
}

/// One frame for all acknowledgements of a turn to one core.
pub fn encode_acks<'a>(builder: &'a mut Builder<'_>, acks: &[PrepareAck]) -> (FrameKind, &'a [u8]) {
    builder.reset();
    (write_acks(builder, acks), builder.finished_data())
}

/// The messages in a frame; several only for acknowledgements. Payloads share the memory of `bytes`.
pub fn decode(
    kind: FrameKind,
    bytes: &Bytes,
    mut take: impl FnMut(Message),
) -> Result<(), WireError> {
    match kind {
        FrameKind::Prepare => take(Message::Prepare(read_prepare(bytes)?)),
        FrameKind::PrepareAcks => {
            let acks = body::read::<peer::PrepareAcks<'_>>(bytes)?;
            for ack in acks.acks().iter().flatten() {
                take(Message::PrepareAck(PrepareAck {
                    partition: partition(ack.table_id(), ack.partition()),
                    ballot: Ballot(ack.ballot()),
                    prepared: Decree(ack.prepared()),
                }));
            }
        }
        FrameKind::PrepareReject => take(Message::PrepareReject(read_reject(bytes)?)),
        FrameKind::Beacon => take(Message::Beacon(read_beacon(bytes)?)),
        FrameKind::BeaconAck => take(Message::BeaconAck(read_beacon_ack(bytes)?)),
        FrameKind::LearnRequest => take(Message::LearnRequest(read_learn_request(bytes)?)),
        FrameKind::LearnReply => take(Message::LearnReply(read_learn_reply(bytes)?)),
        FrameKind::Yield => take(Message::Yield(read_yield(bytes)?)),
        kind => return Err(WireError::Kind { kind }),
    }
    Ok(())
}

/// Writes `configuration` as a table of the body under construction.
pub fn write_configuration<'a>(
    builder: &mut Builder<'a>,
    configuration: &Configuration,
) -> WIPOffset<peer::Configuration<'a>> {
    let secondaries: Vec<peer::Member> =
        configuration.secondaries.iter().map(write_member).collect();
    let secondaries = builder.create_vector(&secondaries);
    let primary = configuration.primary.as_ref().map(write_member);
    let arguments = peer::ConfigurationArgs {
        table_id: configuration.partition.table.0,
        partition: configuration.partition.index,
        ballot: configuration.ballot.0,
        active: configuration.stage == Stage::Active,
        primary: primary.as_ref(),
        secondaries: Some(secondaries),
        replica_count: configuration.replica_count,
        min_replicas: configuration.min_replicas,
    };
    peer::Configuration::create(builder, &arguments)
}

/// A configuration as it came from meta or a peer.
#[must_use]
pub fn read_configuration(table: peer::Configuration<'_>) -> Configuration {
    Configuration {
        partition: partition(table.table_id(), table.partition()),
        ballot: Ballot(table.ballot()),
        stage: if table.active() {
            Stage::Active
        } else {
            Stage::Creating
        },
        primary: table.primary().map(read_member),
        secondaries: table
            .secondaries()
            .iter()
            .flatten()
            .map(read_member)
            .collect(),
        replica_count: table.replica_count(),
        min_replicas: table.min_replicas(),
    }
}

const fn partition(table: u32, index: u32) -> PartitionId {
    PartitionId {
        table: TableId(table),
        index,
    }
}

/// A member as meta and peers spell it.
#[must_use]
pub fn write_member(member: &Member) -> peer::Member {
    peer::Member::new(
        member.incarnation.0,
        member.address.node.0,
        member.address.core.0,
    )
}

/// The inverse of [`write_member`].
#[must_use]
pub fn read_member(member: &peer::Member) -> Member {
    Member {
        address: CoreAddress {
            node: NodeId(member.node()),
            core: CoreId(member.core()),
        },
        incarnation: ReplicaIncarnation(member.incarnation()),
    }
}

fn write_prepare(builder: &mut Builder<'_>, prepare: &Prepare) -> FrameKind {
    let mutation = &prepare.entry.mutation;
    let payload = builder.create_vector(&mutation.payload);
    let configuration = write_configuration(builder, &prepare.configuration);
    let arguments = peer::PrepareArgs {
        configuration: Some(configuration),
        ballot: prepare.entry.ballot.0,
        decree: prepare.entry.decree.0,
        previous_ballot: prepare.previous.0,
        committed: prepare.committed.0,
        timestamp_us: mutation.timestamp_us,
        request_client: mutation.request_id.client,
        request_sequence: mutation.request_id.sequence,
        payload: Some(payload),
        learner: write_learner(prepare.learner),
    };
    let root = peer::Prepare::create(builder, &arguments);
    builder.finish(root, None);
    FrameKind::Prepare
}

fn read_prepare(bytes: &Bytes) -> Result<Prepare, WireError> {
    let table = body::read::<peer::Prepare<'_>>(bytes)?;
    let missing = WireError::Missing {
        kind: FrameKind::Prepare,
        field: "configuration",
    };
    let configuration = read_configuration(table.configuration().ok_or(missing)?);
    let payload = match body::bytes(table.payload()) {
        [] => Bytes::new(),
        payload => bytes.slice_ref(payload),
    };
    let mutation = Mutation {
        timestamp_us: table.timestamp_us(),
        request_id: RequestId {
            client: table.request_client(),
            sequence: table.request_sequence(),
        },
        payload,
    };
    Ok(Prepare {
        configuration,
        entry: Entry {
            ballot: Ballot(table.ballot()),
            decree: Decree(table.decree()),
            mutation,
        },
        previous: Ballot(table.previous_ballot()),
        committed: Decree(table.committed()),
        learner: read_learner(table.learner()),
    })
}

/// 0 on the wire: nobody is addressed as a learner.
fn write_learner(learner: Option<ReplicaIncarnation>) -> u64 {
    learner.map_or(0, |incarnation| incarnation.0)
}

fn read_learner(number: u64) -> Option<ReplicaIncarnation> {
    (number != 0).then_some(ReplicaIncarnation(number))
}

fn write_acks(builder: &mut Builder<'_>, acks: &[PrepareAck]) -> FrameKind {
    let acks: Vec<peer::PrepareAck> = acks
        .iter()
        .map(|ack| {
            let PartitionId { table, index } = ack.partition;
            peer::PrepareAck::new(ack.ballot.0, ack.prepared.0, table.0, index)
        })
        .collect();
    let acks = builder.create_vector(&acks);
    let root = peer::PrepareAcks::create(builder, &peer::PrepareAcksArgs { acks: Some(acks) });
    builder.finish(root, None);
    FrameKind::PrepareAcks
}

fn write_reject(builder: &mut Builder<'_>, reject: &PrepareReject) -> FrameKind {
    let state = write_state(&reject.state);
    let arguments = peer::PrepareRejectArgs {
        ballot: reject.ballot.0,
        decree: reject.decree.0,
        state: Some(&state),
        reason: write_reason(reject.reason),
    };
    let root = peer::PrepareReject::create(builder, &arguments);
    builder.finish(root, None);
    FrameKind::PrepareReject
}

fn read_reject(bytes: &[u8]) -> Result<PrepareReject, WireError> {
    let table = body::read::<peer::PrepareReject<'_>>(bytes)?;
    let missing = WireError::Missing {
        kind: FrameKind::PrepareReject,
        field: "state",
    };
    let state = read_state(table.state().ok_or(missing)?);
    Ok(PrepareReject {
        partition: state.partition,
        ballot: Ballot(table.ballot()),
        decree: Decree(table.decree()),
        state,
        reason: read_reason(table.reason()),
    })
}

fn write_state(state: &ReplicaState) -> peer::ReplicaState {
    let PartitionId { table, index } = state.partition;
    peer::ReplicaState::new(
        state.ballot.0,
        state.prepared.0,
        state.prepared_ballot.0,
        state.committed.0,
        table.0,
        index,
    )
}

fn read_state(state: &peer::ReplicaState) -> ReplicaState {
    ReplicaState {
        partition: partition(state.table_id(), state.partition()),
        ballot: Ballot(state.ballot()),
        prepared: Decree(state.prepared()),
        prepared_ballot: Ballot(state.prepared_ballot()),
        committed: Decree(state.committed()),
    }
}

const fn write_reason(reason: RejectReason) -> peer::RejectReason {
    match reason {
        RejectReason::StaleBallot => peer::RejectReason::StaleBallot,
        RejectReason::Gap => peer::RejectReason::Gap,
        RejectReason::OutOfService => peer::RejectReason::OutOfService,
        RejectReason::Adopting => peer::RejectReason::Adopting,
        RejectReason::Promised => peer::RejectReason::Promised,
    }
}

/// A reason of a later version reads as `OutOfService`: whatever it is, that replica does not take prepares.
const fn read_reason(reason: peer::RejectReason) -> RejectReason {
    match reason {
        peer::RejectReason::StaleBallot => RejectReason::StaleBallot,
        peer::RejectReason::Gap => RejectReason::Gap,
        peer::RejectReason::Adopting => RejectReason::Adopting,
        peer::RejectReason::Promised => RejectReason::Promised,
        _ => RejectReason::OutOfService,
    }
}

fn write_beacon(builder: &mut Builder<'_>, beacon: &Beacon) -> FrameKind {
    let mut asked = Vec::new();
    let mut covered = Vec::with_capacity(beacon.entries.len());
    for entry in &beacon.entries {
        let learner = write_learner(entry.learner);
        let Some(configuration) = &entry.configuration else {
            let PartitionId { table, index } = entry.partition;
            let (ballot, committed) = (entry.ballot.0, entry.committed.0);
            covered.push(peer::Covered::new(
                ballot, committed, learner, table.0, index,
            ));
            continue;
        };
        let configuration = write_configuration(builder, configuration);
        let arguments = peer::BeaconEntryArgs {
            configuration: Some(configuration),
            committed: entry.committed.0,
            learner,
        };
        asked.push(peer::BeaconEntry::create(builder, &arguments));
    }
    let entries = builder.create_vector(&asked);
    let covered = builder.create_vector(&covered);
    let arguments = peer::BeaconArgs {
        number: beacon.number,
        entries: Some(entries),
        covered: Some(covered),
    };
    let root = peer::Beacon::create(builder, &arguments);
    builder.finish(root, None);
    FrameKind::Beacon
}

/// First the entries that ask for a state, then the others: their order means nothing.
fn read_beacon(bytes: &[u8]) -> Result<Beacon, WireError> {
    let table = body::read::<peer::Beacon<'_>>(bytes)?;
    let mut entries = Vec::new();
    for entry in table.entries().iter().flatten() {
        let missing = WireError::Missing {
            kind: FrameKind::Beacon,
            field: "configuration",
        };
        let configuration = read_configuration(entry.configuration().ok_or(missing)?);
        entries.push(BeaconEntry {
            partition: configuration.partition,
            ballot: configuration.ballot,
            committed: Decree(entry.committed()),
            configuration: Some(configuration),
            learner: read_learner(entry.learner()),
        });
    }
    for entry in table.covered().iter().flatten() {
        entries.push(BeaconEntry {
            partition: partition(entry.table_id(), entry.partition()),
            ballot: Ballot(entry.ballot()),
            committed: Decree(entry.committed()),
            configuration: None,
            learner: read_learner(entry.learner()),
        });
    }
    Ok(Beacon {
        number: table.number(),
        entries,
    })
}

fn write_beacon_ack(builder: &mut Builder<'_>, ack: &BeaconAck) -> FrameKind {
    let states: Vec<peer::ReplicaState> = ack.states.iter().map(write_state).collect();
    let states = builder.create_vector(&states);
    let excluded: Vec<peer::Excluded> = ack
        .excluded
        .iter()
        .map(|(partition, ballot, reason)| {
            peer::Excluded::new(
                ballot.0,
                partition.table.0,
                partition.index,
                write_reason(*reason),
            )
        })
        .collect();
    let excluded = builder.create_vector(&excluded);
    let arguments = peer::BeaconAckArgs {
        number: ack.number,
        states: Some(states),
        excluded: Some(excluded),
        disk_full: ack.disk_full,
        partial: ack.partial,
    };
    let root = peer::BeaconAck::create(builder, &arguments);
    builder.finish(root, None);
    FrameKind::BeaconAck
}

fn read_beacon_ack(bytes: &[u8]) -> Result<BeaconAck, WireError> {
    let table = body::read::<peer::BeaconAck<'_>>(bytes)?;
    let states = table.states().iter().flatten().map(read_state).collect();
    let excluded = table
        .excluded()
        .iter()
        .flatten()
        .map(|entry| {
            let partition = partition(entry.table_id(), entry.partition());
            (
                partition,
                Ballot(entry.ballot()),
                read_reason(entry.reason()),
            )
        })
        .collect();
    Ok(BeaconAck {
        number: table.number(),
        states,
        excluded,
        disk_full: table.disk_full(),
        partial: table.partial(),
    })
}

fn write_learn_request(builder: &mut Builder<'_>, request: &LearnRequest) -> FrameKind {
    let state = write_state(&request.state);
    let arguments = peer::LearnRequestArgs {
        ballot: request.ballot.0,
        incarnation: request.incarnation.0,
        state: Some(&state),
        number: request.number,
        misses_log: request.misses_log,
    };
    let root = peer::LearnRequest::create(builder, &arguments);
    builder.finish(root, None);
    FrameKind::LearnRequest
}

fn read_learn_request(bytes: &[u8]) -> Result<LearnRequest, WireError> {
    let table = body::read::<peer::LearnRequest<'_>>(bytes)?;
    let missing = WireError::Missing {
        kind: FrameKind::LearnRequest,
        field: "state",
    };
    let state = read_state(table.state().ok_or(missing)?);
    Ok(LearnRequest {
        partition: state.partition,
        ballot: Ballot(table.ballot()),
        incarnation: ReplicaIncarnation(table.incarnation()),
        number: table.number(),
        state,
        misses_log: table.misses_log(),
    })
}

fn write_learn_reply(builder: &mut Builder<'_>, reply: &LearnReply) -> FrameKind {
    let (step, from, to) = match reply.step {
        LearnStep::Refused => (peer::LearnStep::Refused, 0, 0),
        LearnStep::Attach { from } => (peer::LearnStep::Attach, from.0, 0),
        LearnStep::FetchLog { from, to } => (peer::LearnStep::FetchLog, from.0, to.0),
        LearnStep::FetchCheckpoint => (peer::LearnStep::FetchCheckpoint, 0, 0),
    };
    let arguments = peer::LearnReplyArgs {
        table_id: reply.partition.table.0,
        partition: reply.partition.index,
        ballot: reply.ballot.0,
        incarnation: reply.incarnation.0,
        step,
        from,
        to,
        number: reply.number,
    };
    let root = peer::LearnReply::create(builder, &arguments);
    builder.finish(root, None);
    FrameKind::LearnReply
}

/// A step of a later version reads as `Refused`: the learner asks again.
fn read_learn_reply(bytes: &[u8]) -> Result<LearnReply, WireError> {
    let table = body::read::<peer::LearnReply<'_>>(bytes)?;
    let (from, to) = (Decree(table.from()), Decree(table.to()));
    let step = match table.step() {
        peer::LearnStep::Attach => LearnStep::Attach { from },
        peer::LearnStep::FetchLog if from <= to => LearnStep::FetchLog { from, to },
        peer::LearnStep::FetchCheckpoint => LearnStep::FetchCheckpoint,
        _ => LearnStep::Refused,
    };
    Ok(LearnReply {
        partition: partition(table.table_id(), table.partition()),
        ballot: Ballot(table.ballot()),
        incarnation: ReplicaIncarnation(table.incarnation()),
        number: table.number(),
        step,
    })
}

fn write_yield(builder: &mut Builder<'_>, word: &Yield) -> FrameKind {
    let arguments = peer::YieldArgs {
        table_id: word.partition.table.0,
        partition: word.partition.index,
        ballot: word.ballot.0,
        committed: word.committed.0,
    };
    let root = peer::Yield::create(builder, &arguments);
    builder.finish(root, None);
    FrameKind::Yield
}

fn read_yield(bytes: &[u8]) -> Result<Yield, WireError> {
    let table = body::read::<peer::Yield<'_>>(bytes)?;
    Ok(Yield {
        partition: partition(table.table_id(), table.partition()),
        ballot: Ballot(table.ballot()),
        committed: Decree(table.committed()),
    })
}

#[cfg(test)]
mod tests;
