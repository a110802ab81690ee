//! Messages byte by byte, as clients and servers of Apache Pegasus send them: each is read into what it says and written
//! from it to the same bytes.

#![allow(clippy::unwrap_used, reason = "tests fail by panicking")]

use pegasus_thrift::binary::{Decode, Reader};
use pegasus_thrift::data::{ReadResponse, Request};
use pegasus_thrift::frame::message::Message;
use pegasus_thrift::frame::{rdsn, thft};
use pegasus_thrift::meta::{PartitionConfiguration, QueryCfgRequest, QueryCfgResponse};
use pegasus_thrift::{
    Call, ErrorCode, FrameStatus, Gpid, HostPort, Limits, Progress, Protocol, ReplyTo, Rpc,
    RpcAddress, detect, frame_length,
};
use std::net::{Ipv4Addr, SocketAddrV4};

const LIMITS: Limits = Limits {
    body_bytes_max: 1 << 10,
};
const PRIMARY: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::LOCALHOST, 34801);
/// Raw key of ("hashkey", "sortkey").
const KEY: &[u8] = b"\x00\x07hashkeysortkey";
const KEY_HASH: u64 = 0x1299_d9b0_6672_773a;

const QUERY: &str = "
    54 48 46 54 00 00 00 00 00 00 00 30 00 00 00 00 00 00 00 4a 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00
    00 00 00 00 00 00 00 00 00 00 00 00
    80 01 00 01 00 00 00 26 52 50 43 5f 43 4d 5f 51 55 45 52 59 5f 50 41 52 54 49 54 49 4f 4e 5f 43 4f 4e 46 49 47
    5f 42 59 5f 49 4e 44 45 58 00 00 00 01 0c 00 01 0b 00 01 00 00 00 04 74 65 6d 70 0f 00 02 08 00 00 00 00 00 00";

const QUERY_REPLY: &str = "
    00 00 00 de 00 00 00 06 45 52 52 5f 4f 4b 80 01 00 02 00 00 00 2a 52 50 43 5f 43 4d 5f 51 55 45 52 59 5f 50 41
    52 54 49 54 49 4f 4e 5f 43 4f 4e 46 49 47 5f 42 59 5f 49 4e 44 45 58 5f 41 43 4b 00 00 00 01
    0c 00 00
     0c 00 01 00 00 00 06 45 52 52 5f 4f 4b
     08 00 02 00 00 00 02  08 00 03 00 00 00 01  02 00 04 01
     0f 00 05 0c 00 00 00 01
      0c 00 01 00 00 00 00 00 00 00 02
      0a 00 02 00 00 00 00 00 00 00 03
      08 00 03 00 00 00 01
      0c 00 04 7f 00 00 01 87 f1 00 01
      0f 00 05 0c 00 00 00 00  0f 00 06 0c 00 00 00 00
      0a 00 07 00 00 00 00 00 00 00 00  08 00 08 00 00 00 00
      0c 00 09 00 00 00 09 31 32 37 2e 30 2e 30 2e 31 87 f1 01
      0f 00 0a 0c 00 00 00 00  0f 00 0b 0c 00 00 00 00
      00 00 00";

const GET_V1: &str = "
    54 48 46 54 00 00 00 01 00 00 00 25 00 00 00 35
    08 00 01 00 00 00 02 08 00 02 00 00 00 02 08 00 03 00 00 03 e8 0a 00 04 12 99 d9 b0 66 72 77 3a 02 00 05 00 00
    80 01 00 01 00 00 00 11 52 50 43 5f 52 52 44 42 5f 52 52 44 42 5f 47 45 54 00 00 00 07
    0c 00 01 00 00 00 10 00 07 68 61 73 68 6b 65 79 73 6f 72 74 6b 65 79 00";

const GET_V0: &str = "
    54 48 46 54 00 00 00 00 00 00 00 30 00 00 00 00 00 00 00 35 00 00 00 00 00 00 00 02 00 00 00 02
    00 00 03 e8 00 00 3d e0 12 99 d9 b0 66 72 77 3a
    80 01 00 01 00 00 00 11 52 50 43 5f 52 52 44 42 5f 52 52 44 42 5f 47 45 54 00 00 00 07
    0c 00 01 00 00 00 10 00 07 68 61 73 68 6b 65 79 73 6f 72 74 6b 65 79 00";

const GET_REPLY: &str = "
    00 00 00 6c 00 00 00 06 45 52 52 5f 4f 4b 80 01 00 02 00 00 00 15 52 50 43 5f 52 52 44 42 5f 52 52 44 42 5f 47
    45 54 5f 41 43 4b 00 00 00 07 0c 00 00 08 00 01 00 00 00 00 0c 00 02 00 00 00 06 76 61 6c 75 65 31 08 00 03 00
    00 00 02 08 00 04 00 00 00 02 0b 00 06 00 00 00 0f 31 32 37 2e 30 2e 30 2e 31 3a 33 34 38 30 31 00 00";

const GET_ERROR: &str = "
    00 00 00 3a 00 00 00 11 45 52 52 5f 49 4e 56 41 4c 49 44 5f 53 54 41 54 45 80 01 00 02 00 00 00 15 52 50 43 5f
    52 52 44 42 5f 52 52 44 42 5f 47 45 54 5f 41 43 4b 00 00 00 07";

const GET_RDSN: &str = "
    52 44 53 4e 00 00 00 00 c0 00 00 00 00 00 00 00 18 00 00 00 00 00 00 00
    09 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00
    52 50 43 5f 52 52 44 42 5f 52 52 44 42 5f 47 45 54
    00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00
    00 00 00 00 00 00 00 00
    02 00 00 00 02 00 00 00
    41 04 00 00 00 00 00 00
    00 00 00 00 00 00 00 00
    e8 03 00 00 e0 3d 00 00 3a 77 72 66 b0 d9 99 12
    00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00
    00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00
    0c 00 00 00 00 00 10 00 07 68 61 73 68 6b 65 79 73 6f 72 74 6b 65 79 00";

#[test]
fn a_table_is_asked_for_as_the_go_client_does() {
    let bytes = hex(QUERY);
    let call = call(Protocol::Thft, &bytes);
    assert_eq!(call.rpc, Some(Rpc::QueryPartitionConfigByIndex));
    assert_eq!(
        (call.app_id, call.partition_index, call.timeout_ms),
        (0, 0, 0)
    );
    let request: QueryCfgRequest<'_> = call.request().unwrap();
    assert_eq!(request.app_name, "temp");
    assert!(request.partition_indices.is_empty());
    let mut written = Vec::new();
    let name = Rpc::QueryPartitionConfigByIndex.name().as_bytes();
    thft::encode_request(&thft::Header::default(), name, 1, &request, &mut written);
    assert_eq!(written, bytes);
}

#[test]
fn a_table_is_told_with_and_without_names_of_hosts() {
    let bytes = hex(QUERY_REPLY);
    let told = QueryCfgResponse {
        app_id: 2,
        partition_count: 1,
        is_stateful: true,
        partitions: vec![PartitionConfiguration {
            pid: Gpid {
                app_id: 2,
                partition_index: 0,
            },
            ballot: 3,
            max_replica_count: 1,
            primary: PRIMARY.into(),
            ..PartitionConfiguration::default()
        }],
        ..QueryCfgResponse::default()
    };
    let asker = call(Protocol::Thft, &hex(QUERY)).reply_to;
    let mut written = Vec::new();
    asker.reply(
        &told.clone().with_host_ports(),
        RpcAddress::NONE,
        &mut written,
    );
    assert_eq!(written, bytes);
    assert_eq!(
        reply(&bytes).response::<QueryCfgResponse<'_>>().unwrap(),
        told.clone().with_host_ports()
    );
    let mut without = Vec::new();
    asker.reply(&told, RpcAddress::NONE, &mut without);
    assert_eq!(without.len(), bytes.len() - 19 - 8 - 8);
    assert_eq!(
        reply(&without).response::<QueryCfgResponse<'_>>().unwrap(),
        told
    );
}

#[test]
fn a_value_is_asked_for_in_both_versions() {
    for (version, text) in [(thft::Version::V0, GET_V0), (thft::Version::V1, GET_V1)] {
        let bytes = hex(text);
        let call = call(Protocol::Thft, &bytes);
        assert_eq!((call.app_id, call.partition_index), (2, 2));
        assert_eq!((call.timeout_ms, call.partition_hash), (1000, KEY_HASH));
        assert!(!call.is_backup_request);
        assert_eq!(call.body_bytes, 0x35);
        let request = Request::of(&call).unwrap().unwrap();
        assert_eq!(request, Request::Get(KEY));
        let header = thft::Header {
            version,
            app_id: 2,
            partition_index: 2,
            timeout_ms: 1000,
            partition_hash: KEY_HASH,
            is_backup_request: false,
        };
        let mut written = Vec::new();
        request.encode_thft(&header, 7, &mut written);
        assert_eq!(written, bytes);
    }
}

#[test]
fn a_value_is_told() {
    let bytes = hex(GET_REPLY);
    let told = ReadResponse {
        value: b"value1",
        app_id: 2,
        partition_index: 2,
        server: "127.0.0.1:34801",
        ..ReadResponse::default()
    };
    let read = reply(&bytes);
    assert_eq!(read.status, ErrorCode::Ok);
    assert_eq!(read.name, Rpc::Get.ack_name().into());
    assert_eq!(read.seqid, 7);
    assert_eq!(read.response::<ReadResponse<'_>>().unwrap(), told);
    let mut written = Vec::new();
    let asker = call(Protocol::Thft, &hex(GET_V0)).reply_to;
    asker.reply(&told, RpcAddress::NONE, &mut written);
    assert_eq!(written, bytes);
}

#[test]
fn an_error_has_no_result() {
    let bytes = hex(GET_ERROR);
    let read = reply(&bytes);
    assert_eq!(read.status, ErrorCode::InvalidState);
    assert_eq!((read.name, read.seqid), (Rpc::Get.ack_name().into(), 7));
    assert!(read.result.is_empty());
    let mut written = Vec::new();
    let asker = call(Protocol::Thft, &hex(GET_V1)).reply_to;
    asker.fail(FrameStatus::InvalidState, RpcAddress::NONE, &mut written);
    assert_eq!(written, bytes);
}

fn get_by_rdsn() -> rdsn::Header {
    rdsn::Header {
        timeout_ms: 1000,
        ..rdsn::Header::request(Rpc::Get.name().into(), 9).to_partition(2, 2, KEY_HASH)
    }
}

#[test]
fn a_value_is_asked_for_by_rdsn() {
    let bytes = hex(GET_RDSN);
    let call = call(Protocol::Rdsn, &bytes);
    assert_eq!(call.reply_to, ReplyTo::Rdsn(get_by_rdsn()));
    assert_eq!((call.app_id, call.partition_index), (2, 2));
    assert_eq!((call.timeout_ms, call.partition_hash), (1000, KEY_HASH));
    let request = Request::of(&call).unwrap().unwrap();
    assert_eq!(request, Request::Get(KEY));
    let mut written = Vec::new();
    request.encode_rdsn(&get_by_rdsn(), &mut written);
    assert_eq!(written, bytes);
}

#[test]
fn checksums_of_rdsn_are_written_and_checked() {
    let with = |header: u32, body: u32| {
        let mut bytes = hex(GET_RDSN);
        bytes[12..16].copy_from_slice(&header.to_le_bytes());
        bytes[20..24].copy_from_slice(&body.to_le_bytes());
        bytes
    };
    // The checksum of the header covers that of the body, whether there is one or not.
    call(Protocol::Rdsn, &with(0xabcb_27af, 0));
    call(Protocol::Rdsn, &with(0, 0x8ed5_4938));
    let bytes = with(0x90da_c0d8, 0x8ed5_4938);
    let header = rdsn::Header {
        has_checksums: true,
        ..get_by_rdsn()
    };
    let mut written = Vec::new();
    Request::Get(KEY).encode_rdsn(&header, &mut written);
    assert_eq!(written, bytes);
    assert_eq!(call(Protocol::Rdsn, &bytes).reply_to, ReplyTo::Rdsn(header));
    for (damaged, part) in [(30, "hdr_crc32"), (200, "body_crc32")] {
        let mut bytes = bytes.clone();
        bytes[damaged] ^= 1;
        let error = Call::decode(Protocol::Rdsn, &bytes).unwrap_err();
        assert_eq!(rdsn::parse(&bytes, &LIMITS), Err(error));
        assert_eq!((error.what, error.part), ("rdsn header", part));
    }
}

#[test]
fn an_answer_by_rdsn_is_the_header_of_the_request_with_a_name_and_an_error() {
    let request = hex(GET_RDSN);
    let asker = call(Protocol::Rdsn, &request).reply_to;
    let told = ReadResponse {
        value: b"v",
        ..ReadResponse::default()
    };
    let mut written = Vec::new();
    asker.reply(&told, PRIMARY.into(), &mut written);
    let mut expected = request[..192].to_vec();
    expected[16..20].copy_from_slice(&37_u32.to_le_bytes());
    expected[40..61].copy_from_slice(b"RPC_RRDB_RRDB_GET_ACK");
    expected[104] = 0x40;
    expected[112..120].copy_from_slice(&0x7f00_0001_87f1_0001_u64.to_le_bytes());
    expected[136..142].copy_from_slice(b"ERR_OK");
    let body = "0c 00 00  08 00 01 00 00 00 00  0c 00 02 00 00 00 01 76  08 00 03 00 00 00 00
        08 00 04 00 00 00 00  0b 00 06 00 00 00 00  00 00";
    expected.extend(hex(body));
    expected[16] = u8::try_from(expected.len() - 192).unwrap();
    assert_eq!(written, expected);

    let Progress::Done(frame) = rdsn::parse(&written, &LIMITS).unwrap() else {
        panic!("a whole answer");
    };
    assert_eq!(frame.header.error, FrameStatus::Ok.name().into());
    let body = &written[frame.body];
    assert_eq!(rdsn::decode_body::<ReadResponse<'_>>(body).unwrap(), told);

    let mut refused = Vec::new();
    asker.fail(FrameStatus::ObjectNotFound, PRIMARY.into(), &mut refused);
    expected.truncate(192);
    expected[16..20].fill(0);
    expected[136..156].copy_from_slice(b"ERR_OBJECT_NOT_FOUND");
    assert_eq!(refused, expected);
}

#[test]
fn a_meta_that_does_not_lead_says_who_does() {
    let leader = RpcAddress::from(PRIMARY);
    let mut written = Vec::new();
    rdsn::encode_forward(&get_by_rdsn(), RpcAddress::NONE, leader, &mut written);
    assert_eq!(written[192..], hex("0c 00 00 7f 00 00 01 87 f1 00 01 00"));
    assert_eq!(written[136..157], *b"ERR_FORWARD_TO_OTHERS");
    let told = QueryCfgResponse::forward(leader);
    assert_eq!(told.partitions[0].primary, leader);
    assert!(!told.is_stateful);
    assert!(
        QueryCfgResponse::forward(RpcAddress::NONE)
            .partitions
            .is_empty()
    );
}

#[test]
fn special_types_are_raw() {
    both_ways(
        Gpid {
            app_id: 2,
            partition_index: 5,
        },
        "00 00 00 05 00 00 00 02",
    );
    both_ways(
        Gpid {
            app_id: -1,
            partition_index: -2,
        },
        "ff ff ff fe ff ff ff ff",
    );
    both_ways(RpcAddress::from(PRIMARY), "7f 00 00 01 87 f1 00 01");
    both_ways(RpcAddress::NONE, "00 00 00 00 00 00 00 00");
    assert_eq!(RpcAddress::from(PRIMARY).v4(), Some(PRIMARY));
    assert_eq!(RpcAddress::NONE.v4(), None);
    both_ways(
        HostPort::V4(PRIMARY),
        "00 00 00 09 31 32 37 2e 30 2e 30 2e 31 87 f1 01",
    );
    let port = 34801;
    both_ways(
        HostPort::Named { host: "a.b", port },
        "00 00 00 03 61 2e 62 87 f1 01",
    );
    both_ways(HostPort::None, "00 00 00 00 00 00 00");
    both_ways(ErrorCode::Ok, "00 00 00 06 45 52 52 5f 4f 4b");
    let newer = hex("00 00 00 08 45 52 52 5f 5a 5a 5a 5a");
    assert_eq!(
        ErrorCode::decode(&mut Reader::new(&newer)),
        Ok(ErrorCode::Unknown)
    );
}

#[test]
fn messages_without_a_version_are_read_too() {
    let strict = Message::decode(&hex(GET_V0)[48..]).unwrap().seqid;
    let bytes =
        hex("00 00 00 11 52 50 43 5f 52 52 44 42 5f 52 52 44 42 5f 47 45 54 01 00 00 00 07 00");
    let old = Message::decode(&bytes).unwrap();
    assert_eq!((old.seqid, old.name), (strict, Rpc::Get.name().into()));
    assert_eq!(old.request::<&[u8]>().unwrap(), b"");
}

#[test]
fn the_protocol_is_told_by_four_bytes() {
    assert_eq!(detect(b"THF"), Progress::NeedMore(4));
    assert_eq!(detect(&hex(GET_V0)), Progress::Done(Some(Protocol::Thft)));
    assert_eq!(detect(&hex(GET_RDSN)), Progress::Done(Some(Protocol::Rdsn)));
    assert_eq!(detect(b"GET / HTTP/1.1"), Progress::Done(None));
}

fn both_ways<T: Decode<'static> + PartialEq + std::fmt::Debug>(value: T, text: &str) {
    let bytes: &'static [u8] = hex(text).leak();
    let mut written = Vec::new();
    value.encode(&mut written);
    assert_eq!(written, bytes);
    let mut reader = Reader::new(bytes);
    assert_eq!(T::decode(&mut reader).unwrap(), value);
    assert!(reader.rest().is_empty());
}

fn call(protocol: Protocol, bytes: &[u8]) -> Call<'_> {
    assert_eq!(
        frame_length(protocol, bytes, &LIMITS),
        Ok(Progress::Done(bytes.len()))
    );
    Call::decode(protocol, bytes).unwrap()
}

fn reply(bytes: &[u8]) -> thft::Reply<'_> {
    let Progress::Done(frame) = thft::parse_reply(bytes, &LIMITS).unwrap() else {
        panic!("a whole answer");
    };
    assert_eq!(frame.consumed, bytes.len());
    thft::Reply::decode(&bytes[frame.body]).unwrap()
}

fn hex(text: &str) -> Vec<u8> {
    text.split_whitespace()
        .map(|byte| u8::from_str_radix(byte, 16).unwrap())
        .collect()
}
