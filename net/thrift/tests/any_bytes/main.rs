//! What must hold for any bytes. The fuzz targets of `tests/fuzz` run the same functions; their corpora, and what the fuzzer
//! found worth keeping is replayed here. `PEGASUS_WRITE_CORPUS=1` writes the seeds anew.

#![allow(clippy::unwrap_used, reason = "tests fail by panicking")]

mod rdsn_request;
mod streams;
mod structs;
mod thrift_request;
mod thrift_response;

use pegasus_thrift::frame::{rdsn, thft};
use pegasus_thrift::{FrameStatus, Gpid, Protocol, Rpc, RpcAddress, data, meta};
use std::net::{Ipv4Addr, SocketAddrV4};
use std::path::PathBuf;

#[test]
fn streams_of_thft_are_cut_where_they_end() {
    let frames: Vec<_> = requests()
        .iter()
        .map(|it| by_thft(it, thft::Version::V0))
        .collect();
    let mut seeds = named(&frames);
    seeds.push(("v1".to_owned(), by_thft(&requests()[0], thft::Version::V1)));
    seeds.push(("two".to_owned(), frames[..2].concat()));
    seeds.push(("cut".to_owned(), frames[1][..70].to_vec()));
    seeds.push(("query".to_owned(), query()));
    let mut lie = frames[0].clone();
    lie[16] = 0x7f;
    seeds.push(("huge".to_owned(), lie));
    replay("thrift_request", thrift_request::run, &seeds);
}

#[test]
fn streams_of_rdsn_are_cut_where_they_end() {
    let frames: Vec<_> = requests().iter().map(|it| by_rdsn(it, false)).collect();
    let mut seeds = named(&frames);
    seeds.push(("checksums".to_owned(), by_rdsn(&requests()[0], true)));
    seeds.push(("two".to_owned(), frames[..2].concat()));
    seeds.push(("cut".to_owned(), frames[1][..200].to_vec()));
    replay("rdsn_request", rdsn_request::run, &seeds);
}

#[test]
fn answers_are_read_or_refused() {
    let mut seeds = Vec::new();
    let mut seed = |name: &str, write: &dyn Fn(&mut Vec<u8>)| {
        let mut bytes = Vec::new();
        write(&mut bytes);
        seeds.push((name.to_owned(), bytes));
    };
    let rows = vec![data::KeyValue {
        key: &b"k"[..],
        value: b"v",
        expire_ts_seconds: Some(7),
    }];
    let scan = data::ScanResponse {
        kvs: rows,
        kv_count: Some(1),
        ..data::ScanResponse::default()
    };
    seed("scan", &|out| thft::encode_reply(b"SCAN", 1, &scan, out));
    let table = table();
    seed("table", &|out| thft::encode_reply(b"QUERY", 2, &table, out));
    seed("text", &|out| {
        thft::encode_reply(b"RPC_CLI_CLI_CALL", 3, &"ok", out)
    });
    seed("error", &|out| {
        thft::encode_error(b"GET", 4, FrameStatus::Busy, out)
    });
    let app = meta::AppInfo {
        app_name: "temp",
        envs: pegasus_thrift::binary::Map(vec![("default_ttl", "5")]),
        ..meta::AppInfo::default()
    };
    let apps = meta::ListAppsResponse {
        infos: vec![app],
        ..meta::ListAppsResponse::default()
    };
    seed("apps", &|out| thft::encode_reply(b"LIST", 5, &apps, out));
    seed("bare", &|out| {
        pegasus_thrift::binary::write_only_field(0, &apps, out)
    });
    seed("many", &|out| out.extend(b"\x0f\0\x01\x0c\x7f\xff\xff\xff"));
    replay("thrift_response", thrift_response::run, &seeds);
}

/// One of each request of the data path.
fn requests() -> Vec<data::Request<'static>> {
    use data::Request;
    let row = data::KeyValue {
        key: &b"s"[..],
        value: b"v",
        expire_ts_seconds: None,
    };
    let mutation = data::Mutate {
        operation: data::MutateOperation::Delete,
        sort_key: b"s",
        ..data::Mutate::default()
    };
    let copy = data::DuplicateEntry {
        timestamp: Some(1),
        task_code: Some(pegasus_thrift::TaskCode(b"RPC_RRDB_RRDB_PUT")),
        raw_message: Some(b"\0"),
        cluster_id: Some(2),
        verify_timetag: Some(true),
    };
    let full_key = data::FullKey {
        hash_key: b"h",
        sort_key: b"s",
    };
    vec![
        Request::Put(data::UpdateRequest {
            key: b"\0\x01hs",
            value: b"v",
            ..data::UpdateRequest::default()
        }),
        Request::MultiPut(data::MultiPutRequest {
            hash_key: b"h",
            kvs: vec![row.clone(), row],
            expire_ts_seconds: 9,
        }),
        Request::Remove(b"\0\x01hs"),
        Request::MultiRemove(data::MultiRemoveRequest {
            hash_key: b"h",
            sort_keys: vec![b"a", b"b"],
            max_count: 0,
        }),
        Request::Incr(data::IncrRequest {
            key: b"\0\x01h",
            increment: -5,
            expire_ts_seconds: -1,
        }),
        Request::CheckAndSet(data::CheckAndSetRequest {
            hash_key: b"h",
            check_type: data::CasCheckType::ValueIntLess,
            check_operand: b"5",
            ..data::CheckAndSetRequest::default()
        }),
        Request::CheckAndMutate(data::CheckAndMutateRequest {
            hash_key: b"h",
            mutate_list: vec![mutation],
            ..data::CheckAndMutateRequest::default()
        }),
        Request::Duplicate(data::DuplicateRequest {
            entries: vec![copy],
        }),
        Request::Get(b"\0\x01hs"),
        Request::MultiGet(data::MultiGetRequest {
            hash_key: b"h",
            sort_key_filter_type: data::FilterType::MatchPrefix,
            ..data::MultiGetRequest::default()
        }),
        Request::BatchGet(data::BatchGetRequest {
            keys: vec![full_key],
        }),
        Request::SortkeyCount(b"h"),
        Request::Ttl(b"\0\x01hs"),
        Request::GetScanner(data::GetScannerRequest {
            start_key: b"\0\0",
            stop_key: b"\xff\xff",
            return_expire_ts: Some(true),
            ..data::GetScannerRequest::default()
        }),
        Request::Scan(data::ScanRequest { context_id: 5 }),
        Request::ClearScanner(6),
    ]
}

fn by_thft(request: &data::Request<'_>, version: thft::Version) -> Vec<u8> {
    let header = thft::Header {
        version,
        app_id: 2,
        partition_index: 3,
        timeout_ms: 1000,
        partition_hash: 7,
        is_backup_request: version == thft::Version::V1,
    };
    let mut bytes = Vec::new();
    request.encode_thft(&header, 1, &mut bytes);
    bytes
}

fn by_rdsn(request: &data::Request<'_>, has_checksums: bool) -> Vec<u8> {
    let header = rdsn::Header {
        has_checksums,
        ..rdsn::Header::request(request.rpc().name().into(), 9).to_partition(2, 3, 7)
    };
    let mut bytes = Vec::new();
    request.encode_rdsn(&header, &mut bytes);
    bytes
}

fn query() -> Vec<u8> {
    let request = meta::QueryCfgRequest {
        app_name: "temp",
        partition_indices: vec![1, 2],
    };
    let name = Rpc::QueryPartitionConfigByIndex.name().as_bytes();
    let mut bytes = Vec::new();
    thft::encode_request(&thft::Header::default(), name, 1, &request, &mut bytes);
    bytes
}

fn table() -> meta::QueryCfgResponse<'static> {
    let primary = RpcAddress::new(SocketAddrV4::new(Ipv4Addr::LOCALHOST, 34801));
    let partition = meta::PartitionConfiguration {
        pid: Gpid {
            app_id: 2,
            partition_index: 0,
        },
        ballot: 3,
        primary,
        secondaries: vec![primary],
        ..meta::PartitionConfiguration::default()
    };
    meta::QueryCfgResponse {
        app_id: 2,
        partition_count: 1,
        is_stateful: true,
        partitions: vec![partition],
        ..meta::QueryCfgResponse::default()
    }
    .with_host_ports()
}

fn named(frames: &[Vec<u8>]) -> Vec<(String, Vec<u8>)> {
    let names = requests()
        .into_iter()
        .map(|it| it.rpc().name().to_lowercase());
    names.zip(frames.iter().cloned()).collect()
}

/// Runs every file of a corpus, in which the seeds must be.
fn replay(target: &str, run: impl Fn(&[u8]), seeds: &[(String, Vec<u8>)]) {
    let corpus = PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("../../tests/fuzz/corpus")
        .join(target);
    for (name, seed) in seeds {
        if std::env::var_os("PEGASUS_WRITE_CORPUS").is_some() {
            std::fs::create_dir_all(&corpus).unwrap();
            std::fs::write(corpus.join(name), seed).unwrap();
        }
        assert_eq!(&std::fs::read(corpus.join(name)).unwrap(), seed, "{name}");
    }
    for entry in std::fs::read_dir(corpus).unwrap() {
        run(&std::fs::read(entry.unwrap().path()).unwrap());
    }
}

/// A seed with any one of its bits changed is read or refused.
#[test]
fn a_changed_bit_does_no_harm() {
    for request in requests() {
        for (protocol, frame) in [
            (Protocol::Thft, by_thft(&request, thft::Version::V0)),
            (Protocol::Thft, by_thft(&request, thft::Version::V1)),
            (Protocol::Rdsn, by_rdsn(&request, false)),
        ] {
            for bit in 0..frame.len() * 8 {
                let mut changed = frame.clone();
                changed[bit / 8] ^= 1 << (bit % 8);
                streams::run(protocol, &changed);
            }
        }
    }
}
