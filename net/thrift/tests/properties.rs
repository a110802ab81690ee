//! Whatever is written is read.

#![allow(clippy::unwrap_used, reason = "tests fail by panicking")]

use pegasus_thrift::binary::{Decode, Each, Encode, Map, Reader, Set};
use pegasus_thrift::data::{self, Request};
use pegasus_thrift::frame::{rdsn, thft};
use pegasus_thrift::{
    Call, ErrorCode, Gpid, HostPort, Limits, Progress, Protocol, RpcAddress, TaskCode,
    frame_length, meta, remote,
};
use proptest::collection::vec;
use proptest::prelude::*;
use std::fmt::Debug;

/// What structs are made of.
#[derive(Clone, Debug)]
struct Pool {
    blobs: Vec<Vec<u8>>,
    texts: Vec<String>,
    numbers: Vec<i64>,
    flags: Vec<bool>,
    /// How many elements lists have.
    count: usize,
}

fn pool() -> impl Strategy<Value = Pool> {
    (
        vec(vec(any::<u8>(), 0..40), 4),
        vec(any::<String>(), 3),
        vec(prop_oneof![-20_i64..20, any::<i64>()], 4),
        vec(any::<bool>(), 4),
        0..6_usize,
    )
        .prop_map(|(blobs, texts, numbers, flags, count)| Pool {
            blobs,
            texts,
            numbers,
            flags,
            count,
        })
}

impl Pool {
    fn blob(&self, index: usize) -> &[u8] {
        &self.blobs[index % self.blobs.len()]
    }

    fn text(&self, index: usize) -> &str {
        &self.texts[index % self.texts.len()]
    }

    fn i64(&self, index: usize) -> i64 {
        self.numbers[index % self.numbers.len()]
    }

    #[allow(clippy::cast_possible_truncation, reason = "any number will do")]
    fn i32(&self, index: usize) -> i32 {
        self.i64(index) as i32
    }

    fn flag(&self, index: usize) -> bool {
        self.flags[index % self.flags.len()]
    }

    fn maybe<T>(&self, index: usize, value: T) -> Option<T> {
        self.flag(index).then_some(value)
    }

    fn list<T>(&self, element: impl FnMut(usize) -> T) -> Vec<T> {
        (0..self.count).map(element).collect()
    }

    fn row(&self, index: usize) -> data::KeyValue<'_> {
        data::KeyValue {
            key: self.blob(index),
            value: self.blob(index + 1),
            expire_ts_seconds: self.maybe(index, self.i32(index)),
        }
    }

    fn requests(&self) -> Vec<Request<'_>> {
        vec![
            Request::Put(data::UpdateRequest {
                key: self.blob(0),
                value: self.blob(1),
                expire_ts_seconds: self.i32(0),
                kind: self.maybe(0, data::UpdateType::of(self.i32(1))),
                check_value_returned: self.maybe(1, self.flag(2)),
                check_value_exist: self.maybe(2, self.flag(3)),
                check_value: self.maybe(3, self.blob(2)),
            }),
            Request::MultiPut(data::MultiPutRequest {
                hash_key: self.blob(0),
                kvs: self.list(|index| self.row(index)),
                expire_ts_seconds: self.i32(0),
            }),
            Request::Remove(self.blob(0)),
            Request::MultiRemove(data::MultiRemoveRequest {
                hash_key: self.blob(1),
                sort_keys: self.list(|index| self.blob(index)),
                max_count: self.i64(0),
            }),
            Request::Incr(data::IncrRequest {
                key: self.blob(2),
                increment: self.i64(0),
                expire_ts_seconds: self.i32(1),
            }),
            Request::CheckAndSet(data::CheckAndSetRequest {
                hash_key: self.blob(0),
                check_sort_key: self.blob(1),
                check_type: data::CasCheckType::of(self.i32(0)),
                check_operand: self.blob(2),
                set_diff_sort_key: self.flag(0),
                set_sort_key: self.blob(3),
                set_value: self.blob(0),
                set_expire_ts_seconds: self.i32(1),
                return_check_value: self.flag(1),
            }),
            Request::CheckAndMutate(data::CheckAndMutateRequest {
                hash_key: self.blob(0),
                check_sort_key: self.blob(1),
                check_type: data::CasCheckType::of(self.i32(0)),
                check_operand: self.blob(2),
                mutate_list: self.list(|index| data::Mutate {
                    operation: data::MutateOperation::of(self.i32(index)),
                    sort_key: self.blob(index),
                    value: self.blob(index + 1),
                    set_expire_ts_seconds: self.i32(index + 1),
                }),
                return_check_value: self.flag(1),
            }),
            Request::Duplicate(data::DuplicateRequest {
                entries: self.list(|index| data::DuplicateEntry {
                    timestamp: self.maybe(index, self.i64(index)),
                    task_code: self.maybe(index + 1, TaskCode(self.blob(index))),
                    raw_message: self.maybe(index + 2, self.blob(index + 1)),
                    cluster_id: self.maybe(index, -1),
                    verify_timetag: self.maybe(index, self.flag(index)),
                }),
            }),
            Request::Get(self.blob(0)),
            Request::MultiGet(data::MultiGetRequest {
                hash_key: self.blob(0),
                sort_keys: self.list(|index| self.blob(index)),
                max_kv_count: self.i32(0),
                max_kv_size: self.i32(1),
                no_value: self.flag(0),
                start_sortkey: self.blob(1),
                stop_sortkey: self.blob(2),
                start_inclusive: self.flag(1),
                stop_inclusive: self.flag(2),
                sort_key_filter_type: data::FilterType::of(self.i32(2)),
                sort_key_filter_pattern: self.blob(3),
                reverse: self.flag(3),
            }),
            Request::BatchGet(data::BatchGetRequest {
                keys: self.list(|index| data::FullKey {
                    hash_key: self.blob(index),
                    sort_key: self.blob(index + 1),
                }),
            }),
            Request::SortkeyCount(self.blob(1)),
            Request::Ttl(self.blob(2)),
            Request::GetScanner(data::GetScannerRequest {
                start_key: self.blob(0),
                stop_key: self.blob(1),
                start_inclusive: self.flag(0),
                stop_inclusive: self.flag(1),
                batch_size: self.i32(0),
                no_value: self.flag(2),
                hash_key_filter_type: data::FilterType::of(self.i32(1)),
                hash_key_filter_pattern: self.blob(2),
                sort_key_filter_type: data::FilterType::of(self.i32(2)),
                sort_key_filter_pattern: self.blob(3),
                validate_partition_hash: self.maybe(0, self.flag(3)),
                return_expire_ts: self.maybe(1, self.flag(3)),
                full_scan: self.maybe(2, self.flag(3)),
                only_return_count: self.maybe(3, self.flag(0)),
            }),
            Request::Scan(data::ScanRequest {
                context_id: self.i64(0),
            }),
            Request::ClearScanner(self.i64(1)),
        ]
    }

    fn table(&self) -> meta::QueryCfgResponse<'_> {
        let address = |index| RpcAddress::of_bits(self.i64(index).cast_unsigned());
        let plain = meta::QueryCfgResponse {
            err: ErrorCode::ALL[self.count],
            app_id: self.i32(0),
            partition_count: self.i32(1),
            is_stateful: self.flag(0),
            partitions: self.list(|index| meta::PartitionConfiguration {
                pid: Gpid {
                    app_id: self.i32(index),
                    partition_index: self.i32(index + 1),
                },
                ballot: self.i64(index),
                max_replica_count: 3,
                primary: address(index),
                secondaries: self.list(address),
                last_drops: self.list(|index| address(index + 1)),
                last_committed_decree: self.i64(index + 2),
                partition_flags: 1,
                ..meta::PartitionConfiguration::default()
            }),
        };
        if self.flag(1) {
            plain.with_host_ports()
        } else {
            plain
        }
    }

    fn app(&self, index: usize) -> meta::AppInfo<'_> {
        meta::AppInfo {
            status: meta::AppStatus::of(self.i32(index)),
            app_type: "pegasus",
            app_name: self.text(index),
            app_id: self.i32(index),
            partition_count: self.i32(index + 1),
            envs: Map(self.list(|index| (self.text(index), self.text(index + 1)))),
            is_stateful: self.flag(index),
            max_replica_count: 3,
            expire_second: self.i64(index),
            create_second: self.i64(index + 1),
            drop_second: self.i64(index + 2),
            duplicating: self.maybe(index, true),
            init_partition_count: self.i32(index + 2),
            is_bulk_loading: self.maybe(index + 1, false),
            atomic_idempotent: self.maybe(index + 2, true),
        }
    }
}

fn header(pool: &Pool, version: thft::Version) -> thft::Header {
    thft::Header {
        version,
        app_id: pool.i32(0),
        partition_index: pool.i32(1),
        timeout_ms: pool.i32(2),
        partition_hash: pool.i64(3).cast_unsigned(),
        is_backup_request: version == thft::Version::V1 && pool.flag(0),
    }
}

/// The frame of this request, and only of it, at the front of a stream; and its way back.
fn arrives(protocol: Protocol, frame: &[u8], request: &Request<'_>) {
    let limits = Limits::DEFAULT;
    let stream = [frame, b"more"].concat();
    let length = frame_length(protocol, &stream, &limits);
    assert_eq!(length, Ok(Progress::Done(frame.len())));
    for end in 0..frame.len() {
        let Ok(Progress::NeedMore(bytes)) = frame_length(protocol, &frame[..end], &limits) else {
            panic!("{end} of {} bytes are no frame", frame.len());
        };
        assert!(bytes > end && bytes <= frame.len());
    }
    let call = Call::decode(protocol, frame).unwrap();
    assert_eq!(call.rpc, Some(request.rpc()));
    assert_eq!(Request::of(&call).unwrap().as_ref(), Ok(request));
}

fn both_ways<'a, T: Decode<'a> + PartialEq + Debug>(value: &T, bytes: &'a mut Vec<u8>) {
    value.encode(bytes);
    let mut reader = Reader::new(bytes);
    assert_eq!(T::decode(&mut reader).as_ref(), Ok(value));
    assert!(reader.rest().is_empty());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn requests_arrive_by_every_protocol(pool in pool()) {
        for request in pool.requests() {
            for version in [thft::Version::V0, thft::Version::V1] {
                let header = header(&pool, version);
                let mut frame = Vec::new();
                request.encode_thft(&header, pool.i32(0), &mut frame);
                arrives(Protocol::Thft, &frame, &request);
                let Ok(Progress::Done(read)) = thft::parse_request(&frame, &Limits::DEFAULT) else {
                    panic!("a whole request");
                };
                prop_assert_eq!(read.header, header);
            }
            let header = rdsn::Header {
                id: pool.i64(0).cast_unsigned(),
                has_checksums: pool.flag(0),
                timeout_ms: pool.i32(0),
                ..rdsn::Header::request(request.rpc().name().into(), 1)
            }.to_partition(pool.i32(1), pool.i32(2), 3);
            let mut frame = Vec::new();
            request.encode_rdsn(&header, &mut frame);
            arrives(Protocol::Rdsn, &frame, &request);
            let Ok(Progress::Done(read)) = rdsn::parse(&frame, &Limits::DEFAULT) else {
                panic!("a whole request");
            };
            prop_assert_eq!(read.header, header);
        }
    }

    #[test]
    fn rows_are_the_same_from_a_list_and_from_an_iterator(pool in pool()) {
        let rows = data::ScanResponse {
            error: pool.i32(0),
            kvs: pool.list(|index| pool.row(index)),
            context_id: pool.i64(0),
            app_id: pool.i32(1),
            partition_index: pool.i32(2),
            server: pool.text(0),
            kv_count: pool.maybe(0, pool.i32(3)),
        };
        let mut listed = Vec::new();
        both_ways(&rows, &mut listed);
        let each = data::ScanResponse {
            error: rows.error,
            // A filter does not know how many rows it lets through.
            kvs: Each(rows.kvs.iter().filter(|row| row.key.len() < 1000)),
            context_id: rows.context_id,
            app_id: rows.app_id,
            partition_index: rows.partition_index,
            server: rows.server,
            kv_count: rows.kv_count,
        };
        let mut written = Vec::new();
        each.encode(&mut written);
        prop_assert_eq!(written, listed);
    }

    #[test]
    fn a_raw_key_is_its_two_parts(hash_key in vec(any::<u8>(), 0..300), sort_key in vec(any::<u8>(), 0..20)) {
        let key = data::RawKey { hash_key: &hash_key, sort_key: &sort_key };
        let raw = key.to_vec();
        prop_assert_eq!(data::split_raw_key(&raw), Some(key));
        prop_assert_eq!(data::split_raw_key(&raw[..hash_key.len() + 1]), None);
        let (mut parts, mut whole) = (Vec::new(), Vec::new());
        key.encode(&mut parts);
        raw.as_slice().encode(&mut whole);
        prop_assert_eq!(parts, whole);
    }

    #[test]
    fn answers_of_meta_are_read(pool in pool()) {
        both_ways(&pool.table(), &mut Vec::new());
        let apps = meta::ListAppsResponse {
            err: ErrorCode::Ok,
            infos: pool.list(|index| pool.app(index)),
            hint_message: pool.maybe(0, pool.text(0)),
        };
        both_ways(&apps, &mut Vec::new());
        let create = meta::CreateAppRequest {
            app_name: pool.text(0),
            options: meta::CreateAppOptions {
                partition_count: pool.i32(0),
                replica_count: pool.i32(1),
                success_if_exist: pool.flag(0),
                app_type: pool.text(1),
                is_stateful: pool.flag(1),
                envs: Map(pool.list(|index| (pool.text(index), pool.text(index + 1)))),
                atomic_idempotent: pool.maybe(2, true),
            },
        };
        both_ways(&create, &mut Vec::new());
        let envs = meta::UpdateAppEnvRequest {
            app_name: pool.text(0),
            op: meta::AppEnvOperation::of(pool.i32(0)),
            keys: pool.maybe(0, pool.list(|index| pool.text(index))),
            values: pool.maybe(1, pool.list(|index| pool.text(index))),
            clear_prefix: pool.maybe(2, pool.text(2)),
        };
        both_ways(&envs, &mut Vec::new());
        let command = remote::Command {
            cmd: pool.text(0),
            arguments: pool.list(|index| pool.text(index)),
        };
        both_ways(&command, &mut Vec::new());
        both_ways(&Set(pool.list(|index| pool.i32(index))), &mut Vec::new());
        let nodes = meta::ListNodesResponse {
            err: ErrorCode::Ok,
            infos: pool.list(|index| meta::NodeInfo {
                status: meta::NodeStatus::of(pool.i32(index)),
                node: RpcAddress::of_bits(pool.i64(index).cast_unsigned()),
                hp_node: pool.maybe(index, HostPort::Named { host: "a.host", port: 7 }),
            }),
        };
        both_ways(&nodes, &mut Vec::new());
    }
}
