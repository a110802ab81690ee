use crate::harness::{Core, options};
use crate::protocol::{get, reply_of, request_frame};
use bytes::Bytes;
use pegasus_fbs::code::Code;
use pegasus_net::request::{
    Check, CheckAndMutate, CheckAndSet, Checked, CheckedValue, Compacting, Expiry, Failure, Filter,
    FilterKind, Incr, IncrExpiry, Incremented, Key, MultiGet, MultiGetRows, MultiPut, MultiRemove,
    Mutate, Operation, PartitionRoute, Put, Remove, Reply, Request, RequestId, Response, Route,
    Row, Rows, Scan, ScanRows, Scrubbing, SortKeyRange,
};
use std::sync::mpsc::channel;
use std::time::Duration;

fn bytes(text: &str) -> Bytes {
    Bytes::copy_from_slice(text.as_bytes())
}

fn key() -> Key {
    Key {
        hash_key: bytes("hash"),
        sort_key: bytes("sort"),
    }
}

const ID: RequestId = RequestId {
    client: 7,
    sequence: 9,
};

fn range() -> SortKeyRange {
    SortKeyRange {
        start: bytes("a"),
        start_inclusive: false,
        stop: bytes("z"),
        stop_inclusive: true,
    }
}

fn rows() -> Response {
    let row = Row {
        hash_key: bytes("h"),
        sort_key: bytes("s"),
        value: bytes("v"),
        expire_at: 12,
    };
    Response::Rows(Rows {
        rows: vec![row, Row::default()],
        complete: false,
        resume_key: bytes("r"),
        count: 3,
    })
}

/// Every operation, each with an answer of its kind.
fn operations() -> Vec<(Operation, Response)> {
    let filter = Filter {
        kind: FilterKind::Postfix,
        pattern: bytes("tail"),
    };
    let scan = Scan {
        rows: ScanRows::OfPartition {
            hash_filter: filter.clone(),
        },
        sort_filter: filter.clone(),
        batch_rows: 10,
        batch_bytes: 11,
        no_value: true,
        only_count: true,
        resume_key: bytes("resume"),
    };
    let hash_scan = ScanRows::OfHashKey {
        hash_key: bytes("hash"),
        range: range(),
    };
    let multi_get = |rows| MultiGet {
        hash_key: bytes("hash"),
        rows,
        max_rows: 1,
        max_bytes: 2,
        no_value: true,
    };
    let by_range = MultiGetRows::Range {
        range: range(),
        filter,
        reverse: true,
    };
    let written = Response::Written {
        decree: 1 << 40,
        count: 2,
    };
    let put = Put {
        key: key(),
        value: bytes("value"),
        expiry: Expiry::After(60),
        id: ID,
    };
    let pairs = vec![(bytes("s1"), bytes("v1")), (bytes(""), bytes(""))];
    let multi_put = MultiPut {
        hash_key: bytes("hash"),
        rows: pairs,
        expiry: Expiry::After(1),
        id: ID,
    };
    let multi_remove = MultiRemove {
        hash_key: bytes("hash"),
        sort_keys: vec![bytes("a"), bytes("")],
        id: ID,
    };
    let incr = |expiry| Incr {
        key: key(),
        increment: -5,
        expiry,
        id: ID,
        is_retry: true,
    };
    let check = || Check {
        sort_key: bytes("checked"),
        kind: 17,
        operand: bytes("9"),
    };
    let check_and_set = CheckAndSet {
        hash_key: bytes("hash"),
        check: check(),
        set_sort_key: Some(bytes("other")),
        value: bytes("value"),
        expiry: Expiry::At(9),
        return_check_value: true,
        id: ID,
        is_retry: true,
    };
    let check_and_mutate = CheckAndMutate {
        hash_key: bytes("hash"),
        check: check(),
        mutations: vec![
            Mutate::Put {
                sort_key: bytes("a"),
                value: bytes("b"),
                expiry: Expiry::After(3),
            },
            Mutate::Remove {
                sort_key: bytes("c"),
            },
            Mutate::Unknown { operation: 9 },
        ],
        return_check_value: false,
        id: ID,
        is_retry: false,
    };
    let partition = PartitionRoute {
        ballot: 5,
        primary: "127.0.0.1:1".into(),
        secondaries: vec!["127.0.0.1:2".into()],
    };
    vec![
        (Operation::Get(key()), Response::Value(bytes("value"))),
        (Operation::Put(put), written.clone()),
        (
            Operation::Remove(Remove { key: key(), id: ID }),
            written.clone(),
        ),
        (Operation::Exist(key()), Response::Exists(true)),
        (Operation::Ttl(key()), Response::Ttl(Some(77))),
        (Operation::Ttl(key()), Response::Ttl(None)),
        (Operation::MultiPut(multi_put), written.clone()),
        (Operation::MultiGet(multi_get(by_range)), rows()),
        (
            Operation::MultiGet(multi_get(MultiGetRows::Named(vec![bytes("a"), bytes("b")]))),
            rows(),
        ),
        (Operation::MultiRemove(multi_remove), written),
        (
            Operation::Incr(incr(IncrExpiry::Remove)),
            Response::Incremented {
                outcome: Incremented::Overflow,
                value: i64::MIN,
                decree: 0,
            },
        ),
        (
            Operation::CheckAndSet(check_and_set),
            Response::Checked {
                outcome: Checked::Passed,
                checked_value: CheckedValue::Found(bytes("before")),
                decree: 7,
            },
        ),
        (
            Operation::CheckAndMutate(check_and_mutate),
            Response::Checked {
                outcome: Checked::Failed,
                checked_value: CheckedValue::Missing,
                decree: 0,
            },
        ),
        (Operation::BatchGet(vec![key(), Key::default()]), rows()),
        (
            Operation::SortKeyCount {
                hash_key: bytes("hash"),
            },
            Response::Count(u64::MAX),
        ),
        (Operation::Scan(scan.clone()), rows()),
        (
            Operation::Scan(Scan {
                rows: hash_scan,
                ..scan
            }),
            rows(),
        ),
        (
            Operation::Route {
                table_name: "users".into(),
            },
            Response::Route(Route {
                table: 3,
                partitions: vec![partition],
            }),
        ),
        (Operation::Ping, Response::Pong),
        (
            Operation::CoreStats { core: None },
            Response::CoreStats(vec![1, u64::MAX, 0]),
        ),
        (
            Operation::Scrub { start: true },
            Response::Scrub(Scrubbing {
                began: true,
                is_running: true,
                done: 2,
                total: 8,
                finished_unix_s: 1_795_000_000,
                findings: vec!["replica 1.2 on core 0: block checksum mismatch".into()],
            }),
        ),
        (
            Operation::Compact {
                table: Some(7),
                start: true,
            },
            Response::Compact(Compacting {
                began: true,
                is_running: true,
                done: 2,
                total: 8,
                waiting: 1,
                finished_unix_s: 1_795_000_000,
            }),
        ),
    ]
}

pub(crate) fn every_operation() -> Vec<Operation> {
    operations()
        .into_iter()
        .map(|(operation, _)| operation)
        .collect()
}

#[test]
fn every_operation_arrives_as_it_was_sent_and_its_answer_too() {
    let (seen, requests) = channel();
    let answers: Vec<Reply> = operations()
        .into_iter()
        .map(|(_, response)| Ok(response))
        .collect();
    let mut next = answers.clone().into_iter();
    let core = Core::start(options(), move |io, from, request| {
        seen.send(request).unwrap();
        io.reply(from, &next.next().unwrap());
    });
    let mut client = core.connect();
    for (index, (operation, _)) in operations().into_iter().enumerate() {
        let timeout = Some(Duration::from_millis(1500));
        let sent = Request {
            table: 4,
            partition: 5,
            timeout,
            operation,
        };
        client.send(&request_frame(index as u64, &sent));
        let frame = client.receive().unwrap();
        assert_eq!(requests.recv().unwrap(), sent);
        assert_eq!(
            (
                frame.header.request_id,
                frame.header.table,
                frame.header.partition
            ),
            (index as u64, 4, 5)
        );
        assert_eq!(reply_of(&frame), answers[index]);
    }
}

#[test]
fn a_failure_carries_code_sentence_advice_and_primary() {
    let failure = Failure {
        code: Code::NotPrimary,
        message: "partition 1.0 is elsewhere".into(),
        retry_after_ms: 20,
        primary: Some("127.0.0.1:34801".parse().unwrap()),
        ballot: 7,
    };
    let answer = failure.clone();
    let core = Core::start(options(), move |io, from, _| {
        io.reply(from, &Err(answer.clone()))
    });
    let mut client = core.connect();
    client.send(&get(1, "key"));
    assert_eq!(reply_of(&client.receive().unwrap()), Err(failure));
}

#[test]
fn answers_come_in_the_order_they_are_given_not_asked() {
    let mut held = Vec::new();
    let core = Core::start(options(), move |io, from, _| {
        held.push(from);
        if held.len() == 200 {
            for from in held.drain(..).rev() {
                io.reply(from, &Ok(Response::Value(Bytes::new())));
            }
        }
    });
    let mut client = core.connect();
    let batch: Vec<u8> = (0..200).flat_map(|id| get(id, "key")).collect();
    client.send(&batch);
    let ids: Vec<u64> = (0..200)
        .map(|_| client.receive().unwrap().header.request_id)
        .collect();
    assert_eq!(ids, (0..200).rev().collect::<Vec<u64>>());
}

#[test]
fn a_frame_may_arrive_byte_by_byte() {
    let core = Core::start(options(), |io, from, _| io.reply(from, &Ok(Response::Pong)));
    let mut client = core.connect();
    for byte in get(3, "key") {
        client.send(&[byte]);
    }
    assert_eq!(client.receive().unwrap().header.request_id, 3);
}

#[test]
fn a_megabyte_travels_both_ways() {
    let core = Core::start(options(), |io, from, request| {
        let Operation::Put(put) = request.operation else {
            panic!("{request:?}")
        };
        io.reply(from, &Ok(Response::Value(put.value)));
    });
    let value = Bytes::from(vec![42; 1_000_000]);
    let put = Put {
        key: key(),
        value: value.clone(),
        expiry: Expiry::After(0),
        id: RequestId::default(),
    };
    let request = Request {
        table: 1,
        partition: 0,
        timeout: None,
        operation: Operation::Put(put),
    };
    let mut client = core.connect();
    client.send(&request_frame(1, &request));
    let frame = client.receive().unwrap();
    let reply = pegasus_fbs::body::read::<pegasus_fbs::kv::ValueReply<'_>>(&frame.body).unwrap();
    assert_eq!(reply.value().unwrap().bytes(), value);
}

#[test]
fn a_client_that_stops_sending_still_gets_its_answers() {
    let core = Core::start(options(), |io, from, _| {
        io.reply(from, &Ok(Response::Value(Bytes::new())))
    });
    let mut client = core.connect();
    let batch: Vec<u8> = (0..500).flat_map(|id| get(id, "key")).collect();
    client.send(&batch);
    client.stream.shutdown(std::net::Shutdown::Write).unwrap();
    for id in 0..500 {
        assert_eq!(client.receive().unwrap().header.request_id, id);
    }
    assert!(client.receive().is_none());
    core.wait_for("the connection's end", |counters| counters.connections == 0);
}

#[test]
fn an_answer_to_a_connection_that_is_gone_is_dropped() {
    let (hand, held) = channel();
    let core = Core::start(options(), move |_, from, _| hand.send(from).unwrap());
    let mut client = core.connect();
    client.send(&get(1, "key"));
    let from = held.recv().unwrap();
    drop(client);
    let mut second = core.connect();
    second.send(&get(2, "key"));
    let second_from = held.recv().unwrap();
    core.run(move |io| {
        io.reply(from, &Ok(Response::Pong));
        io.reply(second_from, &Ok(Response::Value(bytes("second"))));
    });
    assert_eq!(second.receive().unwrap().header.request_id, 2);
}

#[test]
fn many_connections_are_served_at_once() {
    let core = Core::start(options(), |io, from, _| {
        io.reply(from, &Ok(Response::Value(Bytes::new())))
    });
    let mut clients: Vec<_> = (0..300).map(|_| core.connect()).collect();
    for (id, client) in clients.iter_mut().enumerate() {
        client.send(&get(id as u64, "key"));
    }
    for (id, client) in clients.iter_mut().enumerate() {
        assert_eq!(client.receive().unwrap().header.request_id, id as u64);
    }
    assert_eq!(core.counters().connections, 300);
}
