//! The worked examples of the protocol's description, byte by byte, and how failures are told.

use super::*;
use crate::request::{
    Failure, Filter, Key, NextPage, OpenScanner, Page, PartitionRoute, Response, Route, ScannedRow,
};
use pegasus_fbs::code::{Code, Execution};
use pegasus_thrift::data::{GetScannerRequest, MultiPutRequest, Request as Sent, ScanRequest};
use pegasus_thrift::frame::thft;
use pegasus_thrift::meta::{QueryCfgRequest, QueryCfgResponse};
use pegasus_thrift::storage;

const SERVER: &str = "127.0.0.1:34801";

fn bytes(hex: &str) -> Vec<u8> {
    let digits: Vec<u8> = hex
        .bytes()
        .filter(|byte| !byte.is_ascii_whitespace())
        .collect();
    let pairs = digits.chunks(2);
    pairs
        .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap())
        .collect()
}

fn frontend(protocol: Protocol) -> Thrift {
    Thrift::new(protocol, Rc::new(Own::new(SERVER.parse().unwrap())))
}

/// What the core is asked, and the name of the request.
fn ask(frontend: &mut Thrift, frame: &[u8]) -> (Tag, Request) {
    let (mut input, mut output) = (BytesMut::from(frame), Vec::new());
    let decoded = frontend.decode(&mut input, &mut output).unwrap().unwrap();
    assert!(input.is_empty() && output.is_empty());
    match decoded {
        Decoded::Request { tag, request, .. } => (tag, request),
        other => panic!("{other:?}"),
    }
}

fn answer(frontend: &mut Thrift, tag: &Tag, reply: &Reply) -> Vec<u8> {
    let mut output = Vec::new();
    frontend.encode(tag, reply, &mut Scratch::default(), &mut output);
    output
}

/// A request to partition 2 of table 2, as a client with a header of version 0 sends it.
fn sent(request: &Sent<'_>) -> Vec<u8> {
    let header = thft::Header {
        app_id: 2,
        partition_index: 2,
        ..thft::Header::default()
    };
    let mut frame = Vec::new();
    request.encode_thft(&header, 7, &mut frame);
    frame
}

const V1_HEADER: &str = "54 48 46 54 00 00 00 01 00 00 00 25 00 00 00 35
    08 00 01 00 00 00 02 08 00 02 00 00 00 02 08 00 03 00 00 03 e8 0a 00 04 12 99 d9 b0 66 72 77 3a 02 00 05 00 00";
const V0_HEADER: &str = "54 48 46 54 00 00 00 00 00 00 00 30 00 00 00 00 00 00 00 35 00 00 00 00 00 00 00 02 00 00 00 02
    00 00 03 e8 00 00 3d e0 12 99 d9 b0 66 72 77 3a";
const GET: &str =
    "80 01 00 01 00 00 00 11 52 50 43 5f 52 52 44 42 5f 52 52 44 42 5f 47 45 54 00 00 00 07
    0c 00 01 00 00 00 10 00 07 68 61 73 68 6b 65 79 73 6f 72 74 6b 65 79 00";

fn key() -> Key {
    Key {
        hash_key: Bytes::from_static(b"hashkey"),
        sort_key: Bytes::from_static(b"sortkey"),
    }
}

#[test]
fn a_get_of_either_header_is_asked_and_answered_as_written_down() {
    for (header, timeout) in [
        (V1_HEADER, Some(Duration::from_secs(1))),
        // Nothing can be concluded from a time in this header.
        (V0_HEADER, None),
    ] {
        let mut frontend = frontend(Protocol::Thft);
        let (tag, request) = ask(&mut frontend, &bytes(&[header, GET].concat()));
        assert_eq!(
            request,
            Request {
                table: 2,
                partition: 2,
                timeout,
                operation: Operation::Get(key())
            }
        );
        let found = Ok(Response::Value(Bytes::from_static(b"value1")));
        assert_eq!(
            answer(&mut frontend, &tag, &found),
            bytes(
                "00 00 00 6c 00 00 00 06 45 52 52 5f 4f 4b 80 01 00 02 00 00 00 15 52 50 43 5f 52 52 44 42 5f 52 52 44 42 5f 47
                 45 54 5f 41 43 4b 00 00 00 07 0c 00 00 08 00 01 00 00 00 00 0c 00 02 00 00 00 06 76 61 6c 75 65 31 08 00 03 00
                 00 00 02 08 00 04 00 00 00 02 0b 00 06 00 00 00 0f 31 32 37 2e 30 2e 30 2e 31 3a 33 34 38 30 31 00 00"
            )
        );
    }
}

#[test]
fn a_refusal_is_a_name_and_nothing_else() {
    let mut frontend = frontend(Protocol::Thft);
    let (tag, _) = ask(&mut frontend, &bytes(&[V1_HEADER, GET].concat()));
    let refused = Err(Failure::new(Code::NotPrimary, ""));
    assert_eq!(
        answer(&mut frontend, &tag, &refused),
        bytes(
            "00 00 00 3a 00 00 00 11 45 52 52 5f 49 4e 56 41 4c 49 44 5f 53 54 41 54 45 80 01 00 02 00 00 00 15 52 50 43 5f
             52 52 44 42 5f 52 52 44 42 5f 47 45 54 5f 41 43 4b 00 00 00 07"
        )
    );
}

fn rdsn_get() -> Vec<u8> {
    let mut frame = bytes(
        "52 44 53 4e 00 00 00 00 c0 00 00 00 00 00 00 00 18 00 00 00 00 00 00 00
         09 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00",
    );
    frame.extend_from_slice(b"RPC_RRDB_RRDB_GET");
    frame.extend_from_slice(&[0; 31 + 8]);
    frame.extend(bytes(
        "02 00 00 00 02 00 00 00 41 04 00 00 00 00 00 00 00 00 00 00 00 00 00 00
         e8 03 00 00 e0 3d 00 00 3a 77 72 66 b0 d9 99 12",
    ));
    frame.extend_from_slice(&[0; 56]);
    frame.extend(bytes(
        "0c 00 00 00 00 00 10 00 07 68 61 73 68 6b 65 79 73 6f 72 74 6b 65 79 00",
    ));
    frame
}

#[test]
fn a_get_by_rdsn_gets_its_own_header_back() {
    let mut frontend = frontend(Protocol::Rdsn);
    let (tag, request) = ask(&mut frontend, &rdsn_get());
    assert_eq!(request.operation, Operation::Get(key()));
    assert_eq!(request.timeout, Some(Duration::from_secs(1)));
    let reply = answer(
        &mut frontend,
        &tag,
        &Ok(Response::Value(Bytes::from_static(b"v"))),
    );
    let mut expected = rdsn_get();
    let body = bytes(
        "0c 00 00 08 00 01 00 00 00 00 0c 00 02 00 00 00 01 76 08 00 03 00 00 00 02 08 00 04 00 00 00 02
         0b 00 06 00 00 00 0f 31 32 37 2e 30 2e 30 2e 31 3a 33 34 38 30 31 00 00",
    );
    expected.truncate(192);
    expected[16] = u8::try_from(body.len()).unwrap();
    expected[40..61].copy_from_slice(b"RPC_RRDB_RRDB_GET_ACK");
    expected[104] = 0x40;
    expected[112..120].copy_from_slice(&bytes("01 00 f1 87 01 00 00 7f"));
    expected[136..142].copy_from_slice(b"ERR_OK");
    expected.extend(body);
    assert_eq!(reply, expected);
}

const QUERY: &str = "54 48 46 54 00 00 00 00 00 00 00 30 00 00 00 00 00 00 00 4a 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00
    00 00 00 00 00 00 00 00 00 00 00 00
    80 01 00 01 00 00 00 26 52 50 43 5f 43 4d 5f 51 55 45 52 59 5f 50 41 52 54 49 54 49 4f 4e 5f 43 4f 4e 46 49 47
    5f 42 59 5f 49 4e 44 45 58 00 00 00 01 0c 00 01 0b 00 01 00 00 00 04 74 65 6d 70 0f 00 02 08 00 00 00 00 00 00";

#[test]
fn a_table_is_resolved_without_the_fields_that_clients_break_on() {
    let mut frontend = frontend(Protocol::Thft);
    let (tag, request) = ask(&mut frontend, &bytes(QUERY));
    let table_name = "temp".to_owned();
    assert_eq!(request.operation, Operation::Route { table_name });
    let route = Route {
        table: 2,
        partitions: vec![PartitionRoute {
            ballot: 3,
            primary: SERVER.to_owned(),
            secondaries: Vec::new(),
        }],
    };
    let reply = answer(&mut frontend, &tag, &Ok(Response::Route(route)));
    assert_eq!(
        reply,
        bytes(
            "00 00 00 bb 00 00 00 06 45 52 52 5f 4f 4b 80 01 00 02 00 00 00 2a 52 50 43 5f 43 4d 5f 51 55 45 52 59 5f 50 41
             52 54 49 54 49 4f 4e 5f 43 4f 4e 46 49 47 5f 42 59 5f 49 4e 44 45 58 5f 41 43 4b 00 00 00 01
             0c 00 00 0c 00 01 00 00 00 06 45 52 52 5f 4f 4b 08 00 02 00 00 00 02 08 00 03 00 00 00 01 02 00 04 01
             0f 00 05 0c 00 00 00 01 0c 00 01 00 00 00 00 00 00 00 02 0a 00 02 00 00 00 00 00 00 00 03 08 00 03 00 00 00 01
             0c 00 04 7f 00 00 01 87 f1 00 01 0f 00 05 0c 00 00 00 00 0f 00 06 0c 00 00 00 00
             0a 00 07 00 00 00 00 00 00 00 00 08 00 08 00 00 00 00 00 00 00"
        )
    );
}

#[test]
fn an_index_that_is_named_again_and_again_costs_no_more_than_the_whole_table() {
    let mut frontend = frontend(Protocol::Thft);
    let query = QueryCfgRequest {
        app_name: "temp",
        partition_indices: vec![1; 1000],
    };
    let name = Rpc::QueryPartitionConfigByIndex.name().as_bytes();
    let mut frame = Vec::new();
    thft::encode_request(&thft::Header::default(), name, 1, &query, &mut frame);
    let (tag, _) = ask(&mut frontend, &frame);
    let route = Route {
        table: 2,
        partitions: vec![PartitionRoute::default(); 4],
    };
    let reply = answer(&mut frontend, &tag, &Ok(Response::Route(route)));
    let reply = thft::Reply::decode(&reply[4..]).unwrap();
    let response: QueryCfgResponse<'_> = reply.response().unwrap();
    let indices = response.partitions.iter().map(|it| it.pid.partition_index);
    assert_eq!(indices.collect::<Vec<_>>(), [1; 4]);
}

#[test]
fn an_unknown_table_is_an_answer_and_a_silent_meta_sends_clients_on() {
    for (code, name) in [
        (Code::UnknownTable, "ERR_OBJECT_NOT_FOUND"),
        (Code::Creating, "ERR_BUSY_CREATING"),
        (Code::NotServing, "ERR_FORWARD_TO_OTHERS"),
    ] {
        let mut frontend = frontend(Protocol::Thft);
        let (tag, _) = ask(&mut frontend, &bytes(QUERY));
        let reply = answer(&mut frontend, &tag, &Err(Failure::new(code, "")));
        let reply = thft::Reply::decode(&reply[4..]).unwrap();
        assert_eq!(reply.status.name(), "ERR_OK");
        let response: QueryCfgResponse<'_> = reply.response().unwrap();
        assert_eq!(response.err.name(), name);
        assert!(!response.is_stateful);
    }
}

#[test]
fn a_scanner_gives_pages_and_a_closed_one_is_never_answered() {
    let mut frontend = frontend(Protocol::Thft);
    let open = Sent::GetScanner(GetScannerRequest {
        start_key: &[0, 0],
        stop_key: &[0xff, 0xff],
        batch_size: -1,
        return_expire_ts: Some(true),
        ..GetScannerRequest::default()
    });
    let (tag, request) = ask(&mut frontend, &sent(&open));
    assert_eq!(
        request.operation,
        Operation::OpenScanner(OpenScanner {
            start_key: Bytes::from_static(&[0, 0]),
            start_inclusive: false,
            stop_key: Bytes::from_static(&[0xff, 0xff]),
            stop_inclusive: false,
            hash_filter: Filter::default(),
            sort_filter: Filter::default(),
            batch_rows: 0,
            no_value: false,
            only_count: false,
            return_expiry: true,
        })
    );
    let rows = vec![ScannedRow {
        raw_key: Bytes::from_static(b"\0\x01ab"),
        value: Bytes::from_static(b"v"),
        expire_at: 5,
    }];
    let mut page = Page {
        rows,
        count: None,
        return_expiry: true,
        next: NextPage::Context(9),
    };
    let reply = answer(&mut frontend, &tag, &Ok(Response::Page(page.clone())));
    let reply = thft::Reply::decode(&reply[4..]).unwrap();
    let response: pegasus_thrift::data::ScanResponse<'_> = reply.response().unwrap();
    assert_eq!(response.context_id, 9);
    assert_eq!(response.kvs[0].key, b"\0\x01ab");
    assert_eq!(response.kvs[0].expire_ts_seconds, Some(5));
    let (tag, request) = ask(
        &mut frontend,
        &sent(&Sent::Scan(ScanRequest { context_id: 9 })),
    );
    assert_eq!(request.operation, Operation::NextPage { context: 9 });
    page.next = NextPage::None;
    let reply = answer(&mut frontend, &tag, &Ok(Response::Page(page)));
    let reply = thft::Reply::decode(&reply[4..]).unwrap();
    let response: pegasus_thrift::data::ScanResponse<'_> = reply.response().unwrap();
    assert_eq!(response.context_id, -1);
    let (tag, request) = ask(&mut frontend, &sent(&Sent::ClearScanner(9)));
    assert_eq!(request.operation, Operation::CloseScanner { context: 9 });
    for reply in [
        Ok(Response::Silent),
        Err(Failure::new(Code::UnknownTable, "")),
    ] {
        assert_eq!(answer(&mut frontend, &tag, &reply), [0; 0]);
    }
    // Nor is one that names no partition.
    let mut frame = Vec::new();
    Sent::ClearScanner(9).encode_thft(&thft::Header::default(), 8, &mut frame);
    let (mut input, mut output) = (BytesMut::from(&frame[..]), Vec::new());
    let decoded = frontend.decode(&mut input, &mut output);
    assert_eq!(decoded, Ok(Some(Decoded::Answered)));
    assert_eq!(output, [0; 0]);
}

#[test]
fn what_makes_no_sense_is_asked_all_the_same_and_answered_with_error_4() {
    let mut frontend = frontend(Protocol::Thft);
    for request in [
        Sent::Get(&[0]),
        Sent::Ttl(&[0, 5, b'a']),
        Sent::MultiPut(MultiPutRequest::default()),
    ] {
        let (tag, request) = ask(&mut frontend, &sent(&request));
        let Operation::Invalid(Invalid::Argument(what)) = request.operation else {
            panic!("{request:?}");
        };
        let reply = answer(&mut frontend, &tag, &Ok(Response::InvalidArgument(what)));
        let reply = thft::Reply::decode(&reply[4..]).unwrap();
        // All three answers begin with their error.
        assert_eq!(&reply.result[3..10], &[8, 0, 1, 0, 0, 0, 4], "{what}");
    }
    let (tag, _) = ask(&mut frontend, &sent(&Sent::Get(b"\0\0a")));
    let reply = answer(&mut frontend, &tag, &Err(Failure::new(Code::NotFound, "")));
    let reply = thft::Reply::decode(&reply[4..]).unwrap();
    let response: pegasus_thrift::data::ReadResponse<'_> = reply.response().unwrap();
    assert_eq!(response.error, storage::NOT_FOUND);
}

/// Java sends a backup request to a secondary beside the one to the primary, and takes the first answer.
#[test]
fn a_backup_request_is_answered_by_a_primary_or_not_at_all() {
    let frame = bytes(&[V1_HEADER, GET].concat());
    let at = 16 + 37 - 2;
    for (is_backup, is_answered) in [(0, true), (1, false)] {
        let mut frame = frame.clone();
        frame[at] = is_backup;
        let mut frontend = frontend(Protocol::Thft);
        let (tag, _) = ask(&mut frontend, &frame);
        let refused = Err(Failure::new(Code::NotPrimary, ""));
        assert_eq!(
            !answer(&mut frontend, &tag, &refused).is_empty(),
            is_answered
        );
        for reply in [
            Ok(Response::Value(Bytes::new())),
            Err(Failure::new(Code::NotFound, "")),
        ] {
            assert!(!answer(&mut frontend, &tag, &reply).is_empty());
        }
    }
}

#[test]
fn an_unknown_request_is_answered_by_its_name_and_a_foreign_one_of_meta_too() {
    for name in [
        "RPC_NOBODY_KNOWS_THIS",
        "RPC_CM_LIST_APPS",
        "RPC_RRDB_RRDB_GET",
    ] {
        let mut frame = Vec::new();
        let header = thft::Header::default();
        thft::encode_request(&header, name.as_bytes(), 3, &"", &mut frame);
        let (mut input, mut output) = (BytesMut::from(&frame[..]), Vec::new());
        let decoded = frontend(Protocol::Thft).decode(&mut input, &mut output);
        assert_eq!(decoded, Ok(Some(Decoded::Answered)));
        let reply = thft::Reply::decode(&output[4..]).unwrap();
        assert_eq!(reply.status.name(), "ERR_HANDLER_NOT_FOUND");
        assert_eq!(reply.name.to_string(), format!("{name}_ACK"));
        assert_eq!(reply.seqid, 3);
    }
}

#[test]
fn a_write_that_is_too_large_is_asked_about_before_it_has_arrived_and_is_never_kept() {
    let mut frontend = frontend(Protocol::Thft);
    let value = vec![7; WRITE_BYTES_MAX];
    let put = Sent::Put(pegasus_thrift::data::UpdateRequest {
        key: b"\0\0a",
        value: &value,
        ..pegasus_thrift::data::UpdateRequest::default()
    });
    let frame = sent(&put);
    let (mut input, mut output) = (BytesMut::new(), Vec::new());
    let mut asked = Vec::new();
    for piece in frame.chunks(1000) {
        input.extend_from_slice(piece);
        asked.extend(frontend.decode(&mut input, &mut output).unwrap());
        assert!(input.len() <= 1000 && output.is_empty());
    }
    let Ok([Decoded::Request { tag, request, .. }]) = <[Decoded; 1]>::try_from(asked) else {
        panic!("asked once");
    };
    let Operation::Invalid(Invalid::TooLarge { bytes, .. }) = request.operation else {
        panic!("{request:?}");
    };
    assert!(bytes > WRITE_BYTES_MAX as u64);
    let reply = answer(&mut frontend, &tag, &Err(Failure::new(Code::TooLarge, "")));
    let reply = thft::Reply::decode(&reply[4..]).unwrap();
    assert_eq!(reply.status.name(), "ERR_INVALID_DATA");
    // The stream goes on behind it.
    let (_, request) = ask(&mut frontend, &sent(&Sent::Get(b"\0\0a")));
    assert!(matches!(request.operation, Operation::Get(_)));
}

#[test]
fn a_failure_whose_outcome_is_unknown_is_a_timeout_and_no_other_is() {
    for code in Code::ALL {
        let status = status::status_of(&Failure::new(code, ""));
        assert!(status.is_known_to_all(), "{code:?} {status:?}");
        let is_unknown = code.execution() == Execution::Unknown;
        let may_be_a_timeout = matches!(
            code,
            Code::Ok
                | Code::NotFound
                | Code::AlreadyExists
                | Code::NotEnoughNodes
                | Code::Creating
                | Code::WrongCluster
                | Code::Incompatible
                | Code::Unauthenticated
        );
        if !may_be_a_timeout {
            assert_eq!(status == FrameStatus::Timeout, is_unknown, "{code:?}");
        }
    }
}
