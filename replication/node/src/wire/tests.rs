#![allow(clippy::unwrap_used, reason = "tests")]

mod any_bytes;

use super::*;

const PARTITION: PartitionId = partition(3, 7);

fn member(node: u32) -> Member {
    Member {
        address: CoreAddress {
            node: NodeId(node),
            core: CoreId(1),
        },
        incarnation: ReplicaIncarnation(100 + u64::from(node)),
    }
}

fn configuration() -> Configuration {
    Configuration {
        partition: PARTITION,
        ballot: Ballot::new(1, 5),
        stage: Stage::Active,
        primary: Some(member(1)),
        secondaries: vec![member(2), member(3)],
        replica_count: 3,
        min_replicas: 2,
    }
}

fn state() -> ReplicaState {
    ReplicaState {
        partition: PARTITION,
        ballot: Ballot(5),
        prepared: Decree(9),
        prepared_ballot: Ballot(4),
        committed: Decree(8),
    }
}

fn reply(step: LearnStep) -> Message {
    Message::LearnReply(LearnReply {
        partition: PARTITION,
        ballot: Ballot(5),
        incarnation: ReplicaIncarnation(7),
        number: 11,
        step,
    })
}

fn messages() -> Vec<Message> {
    let mutation = Mutation {
        timestamp_us: 77,
        request_id: RequestId {
            client: 1,
            sequence: 2,
        },
        payload: Bytes::from_static(b"payload"),
    };
    let prepare = Prepare {
        configuration: configuration(),
        entry: Entry {
            ballot: Ballot(5),
            decree: Decree(9),
            mutation,
        },
        previous: Ballot(4),
        committed: Decree(8),
        learner: None,
    };
    let mut no_op = prepare.clone();
    no_op.entry.mutation.payload = Bytes::new();
    no_op.configuration.primary = None;
    no_op.configuration.stage = Stage::Creating;
    no_op.learner = Some(ReplicaIncarnation(12));
    let reject = PrepareReject {
        partition: PARTITION,
        ballot: Ballot(5),
        decree: Decree(9),
        state: state(),
        reason: RejectReason::Gap,
    };
    let entry = BeaconEntry {
        partition: PARTITION,
        ballot: configuration().ballot,
        committed: Decree(8),
        configuration: Some(configuration()),
        learner: None,
    };
    let covered = BeaconEntry {
        partition: partition(3, 8),
        configuration: None,
        learner: Some(ReplicaIncarnation(6)),
        ..entry.clone()
    };
    let excluded = vec![(PARTITION, Ballot(6), RejectReason::StaleBallot)];
    vec![
        Message::Prepare(prepare),
        Message::Prepare(no_op),
        Message::PrepareAck(PrepareAck {
            partition: PARTITION,
            ballot: Ballot(5),
            prepared: Decree(9),
        }),
        Message::PrepareReject(reject),
        Message::Beacon(Beacon {
            number: 4,
            entries: vec![entry, covered],
        }),
        Message::BeaconAck(BeaconAck {
            number: 4,
            states: vec![state()],
            excluded,
            disk_full: true,
            partial: true,
        }),
        Message::LearnRequest(LearnRequest {
            partition: PARTITION,
            number: 11,
            ballot: Ballot(5),
            incarnation: ReplicaIncarnation(7),
            state: state(),
            misses_log: true,
        }),
        reply(LearnStep::Refused),
        reply(LearnStep::Attach { from: Decree(3) }),
        reply(LearnStep::FetchLog {
            from: Decree(3),
            to: Decree(3),
        }),
        reply(LearnStep::FetchCheckpoint),
        Message::Yield(Yield {
            partition: PARTITION,
            ballot: Ballot(5),
            committed: Decree(8),
        }),
    ]
}

#[test]
fn every_message_reads_as_it_was_written() {
    let mut builder = FlatBufferBuilder::new();
    for message in messages() {
        let (kind, body) = encode(&mut builder, &message);
        let mut read = Vec::new();
        decode(kind, &Bytes::copy_from_slice(body), |message| {
            read.push(message)
        })
        .unwrap();
        assert_eq!(read, [message]);
    }
}

#[test]
fn acknowledgements_of_a_turn_travel_in_one_frame() {
    let acks: Vec<PrepareAck> = (1..=3)
        .map(|decree| PrepareAck {
            partition: PARTITION,
            ballot: Ballot(5),
            prepared: Decree(decree),
        })
        .collect();
    let mut builder = FlatBufferBuilder::new();
    let (kind, body) = encode_acks(&mut builder, &acks);
    let mut read = Vec::new();
    decode(kind, &Bytes::copy_from_slice(body), |message| {
        read.push(message)
    })
    .unwrap();
    let expected: Vec<Message> = acks.into_iter().map(Message::PrepareAck).collect();
    assert_eq!(read, expected);
}

#[test]
fn bodies_without_a_configuration_are_refused_by_name() {
    let mut builder = FlatBufferBuilder::new();
    let root = peer::Prepare::create(&mut builder, &peer::PrepareArgs::default());
    builder.finish(root, None);
    let body = Bytes::copy_from_slice(builder.finished_data());
    let error = decode(FrameKind::Prepare, &body, |_| {})
        .unwrap_err()
        .to_string();
    assert_eq!(error, "Prepare without configuration");
}

#[test]
fn garbage_is_an_error_for_every_kind() {
    for kind in FrameKind::ALL {
        assert!(
            decode(
                kind,
                &Bytes::from_static(b"\xff\xff\xff\xff garbage"),
                |_| {}
            )
            .is_err()
        );
    }
}
