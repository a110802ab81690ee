//! The front-end without sockets: whatever a client can ask arrives as it was, in pieces of any size; garbage never panics.

use crate::any_bytes;
use crate::protocol::{reply_of, request_frame};
use bytes::{Bytes, BytesMut};
use pegasus_fbs::frame::{BODY_BYTES_MAX, Decoder};
use pegasus_net::frontend::native::Native;
use pegasus_net::frontend::{Decoded, Frontend, Scratch, Tag};
use pegasus_net::request::{
    Check, CheckAndMutate, CheckAndSet, Expiry, Filter, FilterKind, Incr, IncrExpiry, Key,
    MultiGet, MultiGetRows, MultiPut, MultiRemove, Mutate, Operation, Put, Remove, Reply, Request,
    RequestId, Response, Row, Rows, Scan, ScanRows, SortKeyRange,
};
use proptest::collection::vec;
use proptest::prelude::*;
use std::path::Path;
use std::time::Duration;

fn text() -> impl Strategy<Value = Bytes> {
    vec(any::<u8>(), 0..40).prop_map(Bytes::from)
}

fn hash_key() -> impl Strategy<Value = Bytes> {
    vec(any::<u8>(), 1..40).prop_map(Bytes::from)
}

fn key() -> impl Strategy<Value = Key> {
    (text(), text()).prop_map(|(hash_key, sort_key)| Key { hash_key, sort_key })
}

fn id() -> impl Strategy<Value = RequestId> {
    (any::<u64>(), any::<u64>()).prop_map(|(client, sequence)| RequestId { client, sequence })
}

fn filter() -> impl Strategy<Value = Filter> {
    let kinds = [
        FilterKind::None,
        FilterKind::Anywhere,
        FilterKind::Prefix,
        FilterKind::Postfix,
    ];
    (proptest::sample::select(kinds.to_vec()), text())
        .prop_map(|(kind, pattern)| Filter { kind, pattern })
}

fn range() -> impl Strategy<Value = SortKeyRange> {
    (text(), any::<bool>(), text(), any::<bool>()).prop_map(
        |(start, start_inclusive, stop, stop_inclusive)| SortKeyRange {
            start,
            start_inclusive,
            stop,
            stop_inclusive,
        },
    )
}

fn expiry() -> impl Strategy<Value = Expiry> {
    prop_oneof![
        Just(Expiry::Default),
        (1..=u32::MAX).prop_map(Expiry::After),
        (1..=u32::MAX).prop_map(Expiry::At),
    ]
}

fn atomic_id() -> impl Strategy<Value = RequestId> {
    (1..=u64::MAX, any::<u64>()).prop_map(|(client, sequence)| RequestId { client, sequence })
}

fn incr() -> impl Strategy<Value = Incr> {
    let expiry = prop_oneof![
        Just(IncrExpiry::Keep),
        Just(IncrExpiry::Remove),
        (1..=u32::MAX).prop_map(IncrExpiry::After),
        (1..=u32::MAX).prop_map(IncrExpiry::At),
    ];
    (key(), any::<i64>(), expiry, atomic_id(), any::<bool>()).prop_map(
        |(key, increment, expiry, id, is_retry)| Incr {
            key,
            increment,
            expiry,
            id,
            is_retry,
        },
    )
}

fn check() -> impl Strategy<Value = Check> {
    (text(), 0..=255, text()).prop_map(|(sort_key, kind, operand)| Check {
        sort_key,
        kind,
        operand,
    })
}

fn check_and_set() -> impl Strategy<Value = CheckAndSet> {
    (
        (hash_key(), check(), proptest::option::of(text())),
        (text(), expiry(), any::<bool>(), atomic_id(), any::<bool>()),
    )
        .prop_map(
            |(
                (hash_key, check, set_sort_key),
                (value, expiry, return_check_value, id, is_retry),
            )| CheckAndSet {
                hash_key,
                check,
                set_sort_key,
                value,
                expiry,
                return_check_value,
                id,
                is_retry,
            },
        )
}

fn mutate() -> impl Strategy<Value = Mutate> {
    prop_oneof![
        (text(), text(), expiry()).prop_map(|(sort_key, value, expiry)| Mutate::Put {
            sort_key,
            value,
            expiry
        }),
        text().prop_map(|sort_key| Mutate::Remove { sort_key }),
        (2..=255).prop_map(|operation| Mutate::Unknown { operation }),
    ]
}

fn check_and_mutate() -> impl Strategy<Value = CheckAndMutate> {
    (
        (hash_key(), check(), vec(mutate(), 0..5)),
        (any::<bool>(), atomic_id(), any::<bool>()),
    )
        .prop_map(
            |((hash_key, check, mutations), (return_check_value, id, is_retry))| CheckAndMutate {
                hash_key,
                check,
                mutations,
                return_check_value,
                id,
                is_retry,
            },
        )
}

fn multi_get() -> impl Strategy<Value = MultiGet> {
    let rows = prop_oneof![
        vec(text(), 1..10).prop_map(MultiGetRows::Named),
        (range(), filter(), any::<bool>()).prop_map(|(range, filter, reverse)| {
            MultiGetRows::Range {
                range,
                filter,
                reverse,
            }
        }),
    ];
    (hash_key(), rows, any::<u32>(), any::<u32>(), any::<bool>()).prop_map(
        |(hash_key, rows, max_rows, max_bytes, no_value)| MultiGet {
            hash_key,
            rows,
            max_rows,
            max_bytes,
            no_value,
        },
    )
}

fn scan() -> impl Strategy<Value = Scan> {
    let rows = prop_oneof![
        (hash_key(), range()).prop_map(|(hash_key, range)| ScanRows::OfHashKey { hash_key, range }),
        filter().prop_map(|hash_filter| ScanRows::OfPartition { hash_filter }),
    ];
    (
        rows,
        filter(),
        any::<u32>(),
        any::<u32>(),
        any::<bool>(),
        any::<bool>(),
        text(),
    )
        .prop_map(
            |(rows, sort_filter, batch_rows, batch_bytes, no_value, only_count, resume_key)| Scan {
                rows,
                sort_filter,
                batch_rows,
                batch_bytes,
                no_value,
                only_count,
                resume_key,
            },
        )
}

fn operation() -> impl Strategy<Value = Operation> {
    prop_oneof![
        key().prop_map(Operation::Get),
        key().prop_map(Operation::Exist),
        key().prop_map(Operation::Ttl),
        (key(), text(), expiry(), id()).prop_map(|(key, value, expiry, id)| {
            Operation::Put(Put {
                key,
                value,
                expiry,
                id,
            })
        }),
        (key(), id()).prop_map(|(key, id)| Operation::Remove(Remove { key, id })),
        (hash_key(), vec((text(), text()), 1..10), expiry(), id()).prop_map(
            |(hash_key, rows, expiry, id)| Operation::MultiPut(MultiPut {
                hash_key,
                rows,
                expiry,
                id
            })
        ),
        (hash_key(), vec(text(), 1..10), id()).prop_map(|(hash_key, sort_keys, id)| {
            Operation::MultiRemove(MultiRemove {
                hash_key,
                sort_keys,
                id,
            })
        }),
        incr().prop_map(Operation::Incr),
        check_and_set().prop_map(Operation::CheckAndSet),
        check_and_mutate().prop_map(Operation::CheckAndMutate),
        multi_get().prop_map(Operation::MultiGet),
        vec(key(), 1..10).prop_map(Operation::BatchGet),
        hash_key().prop_map(|hash_key| Operation::SortKeyCount { hash_key }),
        scan().prop_map(Operation::Scan),
        "[a-z.]{0,128}".prop_map(|table_name| Operation::Route { table_name }),
        Just(Operation::Ping),
        proptest::option::of(0..u16::MAX).prop_map(|core| Operation::CoreStats { core }),
        any::<bool>().prop_map(|start| Operation::Scrub { start }),
        (proptest::option::of(1..=u32::MAX), any::<bool>())
            .prop_map(|(table, start)| Operation::Compact { table, start }),
    ]
}

fn request() -> impl Strategy<Value = Request> {
    (any::<u32>(), any::<u32>(), any::<u32>(), operation()).prop_map(
        |(table, partition, timeout_ms, operation)| {
            let timeout = (timeout_ms > 0).then(|| Duration::from_millis(timeout_ms.into()));
            Request {
                table,
                partition,
                timeout,
                operation,
            }
        },
    )
}

fn rows() -> impl Strategy<Value = Rows> {
    let row = (text(), text(), text(), any::<u32>()).prop_map(
        |(hash_key, sort_key, value, expire_at)| Row {
            hash_key,
            sort_key,
            value,
            expire_at,
        },
    );
    (vec(row, 0..10), any::<bool>(), text(), any::<u64>()).prop_map(
        |(rows, complete, resume_key, count)| Rows {
            rows,
            complete,
            resume_key,
            count,
        },
    )
}

/// Everything a front-end makes of `stream` when it comes in pieces of `piece` bytes.
fn decode_all(stream: &[u8], piece: usize) -> Vec<Decoded> {
    let mut frontend = Native::default();
    let mut buffer = BytesMut::new();
    let mut decoded = Vec::new();
    for bytes in stream.chunks(piece) {
        buffer.extend_from_slice(bytes);
        while let Some(found) = frontend.decode(&mut buffer, &mut Vec::new()).unwrap() {
            decoded.push(found);
        }
    }
    assert!(!frontend.is_within_frame(&buffer));
    decoded
}

proptest! {
    #[test]
    fn requests_arrive_as_they_were_sent_in_pieces_of_any_size(requests in vec(request(), 1..5), piece in 1_usize..500) {
        let stream: Vec<u8> =
            requests.iter().enumerate().flat_map(|(id, request)| request_frame(id as u64, request)).collect();
        let decoded = decode_all(&stream, piece);
        prop_assert_eq!(decoded.len(), requests.len());
        for (id, (found, sent)) in decoded.into_iter().zip(requests).enumerate() {
            let Decoded::Request { tag, request, .. } = found else { panic!("{found:?}") };
            prop_assert_eq!(tag.id, id as u64);
            prop_assert_eq!(request, sent);
        }
    }

    #[test]
    fn rows_arrive_as_they_were_answered(rows in rows(), id in any::<u64>(), table in any::<u32>()) {
        let tag = Tag { id, kind: 11, table, partition: 3 };
        let reply: Reply = Ok(Response::Rows(rows));
        let mut output = Vec::new();
        Native::default().encode(&tag, &reply, &mut Scratch::default(), &mut output);
        let frame = Decoder::new(BODY_BYTES_MAX).decode(&mut BytesMut::from(&output[..])).unwrap().unwrap();
        prop_assert_eq!((frame.header.request_id, frame.header.table, frame.header.partition), (id, table, 3));
        prop_assert_eq!(reply_of(&frame), reply);
    }

    #[test]
    fn a_request_with_any_byte_changed_never_panics(request in request(), index in any::<usize>(), flip in 1_u8.., piece in any::<u8>()) {
        let mut stream = vec![piece];
        stream.extend(request_frame(1, &request));
        let index = 1 + index % (stream.len() - 1);
        stream[index] ^= flip;
        any_bytes::run(&stream);
    }

    #[test]
    fn a_well_framed_body_of_garbage_never_panics(kind in 1_u8..24, body in vec(any::<u8>(), 0..300)) {
        let Ok(kind) = pegasus_fbs::frame::FrameKind::try_from(kind) else { return Ok(()) };
        let mut stream = vec![255];
        pegasus_fbs::frame::encode_frame(&mut stream, &pegasus_fbs::frame::Header::request(kind, 1), &body);
        any_bytes::run(&stream);
    }
}

#[test]
fn the_fuzz_corpus_replays() {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fuzz/corpus/native_frontend");
    let mut count = 0;
    for entry in std::fs::read_dir(corpus).unwrap() {
        any_bytes::run(&std::fs::read(entry.unwrap().path()).unwrap());
        count += 1;
    }
    assert!(count >= 13, "{count} files in the corpus");
}

/// One request of each kind, for the fuzzer to start from. `PEGASUS_WRITE_CORPUS=1` writes them anew.
#[test]
fn the_corpus_has_every_kind_of_request() {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fuzz/corpus/native_frontend");
    for operation in crate::clients::every_operation() {
        let name = operation.name();
        let mut stream = vec![63];
        stream.extend(request_frame(
            1,
            &Request {
                table: 1,
                partition: 2,
                timeout: None,
                operation,
            },
        ));
        let path = corpus.join(name);
        if std::env::var_os("PEGASUS_WRITE_CORPUS").is_some() {
            std::fs::write(&path, &stream).unwrap();
        }
        assert!(path.exists(), "{name} is missing in the corpus");
    }
}
