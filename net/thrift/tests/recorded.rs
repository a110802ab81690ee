//! Requests and answers as `pypegasus3` 0.0.1.1 writes them with the Thrift library it pins (`recorded/pypegasus3.txt`:
//! a name, and the bytes in hex). Bodies of the data path are read and written again to the same bytes, except where
//! this client leaves fields out.

#![allow(clippy::unwrap_used, reason = "tests fail by panicking")]

use pegasus_thrift::binary::{Decode, Encode};
use pegasus_thrift::data::{
    CountResponse, FilterType, GetScannerRequest, KeyValue, MultiGetRequest, MultiGetResponse,
    MultiPutRequest, MultiRemoveRequest, MultiRemoveResponse, ReadResponse, Request, ScanRequest,
    ScanResponse, TtlResponse, UpdateRequest, UpdateResponse,
};
use pegasus_thrift::frame::thft;
use pegasus_thrift::meta::QueryCfgRequest;
use pegasus_thrift::{Call, Limits, Progress, Protocol, Rpc, frame_length};
use std::fmt::Debug;

const SERVER: &str = "127.0.0.1:34801";
const RAW_KEY: &[u8] = b"\0\x01hs";

#[test]
fn every_request_says_what_was_asked() {
    let row = |key, value| KeyValue {
        key,
        value,
        expire_ts_seconds: None,
    };
    let update = UpdateRequest {
        key: RAW_KEY,
        value: b"v",
        expire_ts_seconds: 5,
        ..UpdateRequest::default()
    };
    written("put", 1, &Request::Put(update));
    let multi_put = MultiPutRequest {
        hash_key: b"h",
        kvs: vec![row(&b"a"[..], b"1"), row(b"b", b"")],
        expire_ts_seconds: 7,
    };
    written("multi_put", 2, &Request::MultiPut(multi_put));
    written("remove", 3, &Request::Remove(RAW_KEY));
    let multi_remove = MultiRemoveRequest {
        hash_key: b"h",
        sort_keys: vec![b"a", b"b"],
        max_count: -1,
    };
    written("multi_remove", 4, &Request::MultiRemove(multi_remove));
    written("get", 5, &Request::Get(RAW_KEY));
    let range = MultiGetRequest {
        hash_key: b"h",
        sort_keys: Vec::new(),
        max_kv_count: 10,
        max_kv_size: 1000,
        no_value: true,
        start_sortkey: b"a",
        stop_sortkey: b"z",
        start_inclusive: true,
        stop_inclusive: false,
        sort_key_filter_type: FilterType::MatchPrefix,
        sort_key_filter_pattern: b"p",
        reverse: true,
    };
    written("multi_get", 6, &Request::MultiGet(range));
    written("sortkey_count", 8, &Request::SortkeyCount(b"h"));
    written("ttl", 9, &Request::Ttl(RAW_KEY));
    let context_id = 1 << 40;
    written("scan", 11, &Request::Scan(ScanRequest { context_id }));
    written("clear_scanner", 12, &Request::ClearScanner(7));
}

#[test]
fn fields_that_are_left_out_have_their_defaults() {
    let named = MultiGetRequest {
        hash_key: b"h",
        sort_keys: vec![b"a"],
        max_kv_count: 100,
        max_kv_size: 1_000_000,
        ..MultiGetRequest::default()
    };
    assert_eq!(read("multi_get_named"), Request::MultiGet(named));
    let scanner = GetScannerRequest {
        start_key: b"\0\0",
        stop_key: b"\xc3\xbf\xc3\xbf",
        start_inclusive: true,
        batch_size: 1000,
        ..GetScannerRequest::default()
    };
    assert_eq!(read("get_scanner"), Request::GetScanner(scanner));
}

#[test]
fn a_table_is_asked_for() {
    let bytes = recorded("query_config");
    let request: QueryCfgRequest<'_> = call(bytes).request().unwrap();
    assert_eq!(request.app_name, "temp");
    let mut written = Vec::new();
    let name = Rpc::QueryPartitionConfigByIndex.name().as_bytes();
    thft::encode_request(&thft::Header::default(), name, 13, &request, &mut written);
    assert_eq!(written, bytes);
}

#[test]
fn every_answer_is_told_as_the_client_reads_it() {
    for (record, rpc, error, decree) in [
        ("put", Rpc::Put, 0, 99),
        ("multi_put", Rpc::MultiPut, 4, 100),
        ("remove", Rpc::Remove, 0, 101),
    ] {
        let response = UpdateResponse {
            error,
            app_id: 2,
            partition_index: 3,
            decree,
            server: SERVER,
        };
        told(record, rpc, &response);
    }
    told(
        "multi_remove",
        Rpc::MultiRemove,
        &MultiRemoveResponse {
            error: 0,
            count: 2,
            app_id: 2,
            partition_index: 3,
            decree: 102,
            server: SERVER,
        },
    );
    told(
        "get",
        Rpc::Get,
        &ReadResponse {
            error: 1,
            value: b"",
            app_id: 2,
            partition_index: 3,
            server: SERVER,
        },
    );
    told(
        "sortkey_count",
        Rpc::SortkeyCount,
        &CountResponse {
            error: 0,
            count: 5,
            app_id: 2,
            partition_index: 3,
            server: SERVER,
        },
    );
    told(
        "ttl",
        Rpc::Ttl,
        &TtlResponse {
            error: 0,
            ttl_seconds: -1,
            app_id: 2,
            partition_index: 3,
            server: SERVER,
        },
    );
}

#[test]
fn rows_are_told_as_the_client_reads_them() {
    let row = |key, value| KeyValue {
        key,
        value,
        expire_ts_seconds: None,
    };
    told(
        "multi_get",
        Rpc::MultiGet,
        &MultiGetResponse {
            error: 7,
            kvs: vec![row(&b"a"[..], b"1"), row(b"b", b"")],
            app_id: 2,
            partition_index: 3,
            server: SERVER,
        },
    );
    told(
        "scan",
        Rpc::Scan,
        &ScanResponse {
            error: 0,
            kvs: vec![row(RAW_KEY, b"v")],
            context_id: 1 << 40,
            app_id: 2,
            partition_index: 3,
            server: SERVER,
            kv_count: None,
        },
    );
}

/// The record is this request, and this request is written as the record.
fn written(record: &str, seqid: i32, request: &Request<'_>) {
    assert_eq!(&read(record), request, "{record}");
    let header = thft::Header {
        app_id: 2,
        partition_index: 3,
        ..thft::Header::default()
    };
    let mut bytes = Vec::new();
    request.encode_thft(&header, seqid, &mut bytes);
    assert_eq!(bytes, recorded(record), "{record}");
}

fn read(record: &str) -> Request<'static> {
    let call = call(recorded(record));
    assert_eq!((call.app_id, call.partition_index), (2, 3));
    Request::of(&call).unwrap().unwrap()
}

fn call(bytes: &'static [u8]) -> Call<'static> {
    let length = frame_length(Protocol::Thft, bytes, &Limits::DEFAULT);
    assert_eq!(length, Ok(Progress::Done(bytes.len())));
    Call::decode(Protocol::Thft, bytes).unwrap()
}

/// The record of the answer is this response, and this response is written as the record.
fn told<T: Encode + Decode<'static> + Default + PartialEq + Debug>(
    record: &str,
    rpc: Rpc,
    response: &T,
) {
    let bytes = recorded(&format!("{record}_ack"));
    let Ok(Progress::Done(frame)) = thft::parse_reply(bytes, &Limits::DEFAULT) else {
        panic!("{record}: a whole answer");
    };
    let reply = thft::Reply::decode(&bytes[frame.body]).unwrap();
    assert_eq!(reply.name, rpc.ack_name().into());
    assert_eq!(&reply.response::<T>().unwrap(), response, "{record}");
    let mut written = Vec::new();
    thft::encode_reply(rpc.name().as_bytes(), reply.seqid, response, &mut written);
    assert_eq!(written, bytes, "{record}");
}

fn recorded(name: &str) -> &'static [u8] {
    let line = include_str!("recorded/pypegasus3.txt")
        .lines()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    let (digits, _) = line
        .expect("a record of this name")
        .as_bytes()
        .as_chunks::<2>();
    let byte = |pair: &[u8; 2]| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap();
    digits.iter().map(byte).collect::<Vec<_>>().leak()
}
