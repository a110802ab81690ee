//! Lies in headers, lengths and types are errors that name the thing, and cost no memory.

#![allow(clippy::unwrap_used, reason = "tests fail by panicking")]

use pegasus_thrift::binary::{ELEMENTS_MAX, Map, Reader, read_only_field, write_only_field};
use pegasus_thrift::data::{
    BatchGetRequest, CheckAndSetRequest, GetScannerRequest, MultiPutRequest, Request, UpdateRequest,
};
use pegasus_thrift::frame::message::Message;
use pegasus_thrift::frame::{rdsn, thft};
use pegasus_thrift::meta::{AppInfo, CreateAppRequest, QueryCfgRequest};
use pegasus_thrift::{
    Call, DecodeError, Fault, Limits, Progress, Protocol, ReplyTo, frame_length, oversized,
};

const LIMITS: Limits = Limits {
    body_bytes_max: 1000,
};

#[test]
fn headers_of_thft_do_not_lie() {
    let word = |at: usize, value: u32, sentence: &str| {
        let mut bytes = put(thft::Version::V0);
        bytes[at..at + 4].copy_from_slice(&value.to_be_bytes());
        assert_eq!(refused(Protocol::Thft, &bytes), sentence);
    };
    word(4, 2, "thft header.hdr_version: unknown number 2");
    word(4, u32::MAX, "thft header.hdr_version: unknown number -1");
    word(8, 47, "thft header.hdr_length: 47, expected 48");
    word(16, 1001, "thft header.body_length: 1001, the limit is 1000");
    word(
        16,
        0x7fff_ffff,
        "thft header.body_length: 2147483647, the limit is 1000",
    );
    word(
        16,
        0x8000_0000,
        "thft header.body_length: length -2147483648 is negative",
    );
    // A body that is shorter than its message, and one that is longer.
    word(16, 3, "message.head: 4 bytes needed, 3 are left");
    word(16, 20, "message.name: 17 bytes needed, 12 are left");
    word(
        48,
        0x8002_0001,
        "message.head: -2147352575, expected 2147549184",
    );
    word(48, 0x8001_0002, "message.type: 2, expected 1");
    word(52, 257, "message.name: 257, the limit is 256");
    word(52, 0xffff_ffff, "message.name: length -1 is negative");
}

#[test]
fn headers_of_version_1_do_not_lie() {
    let word = |at: usize, value: u32, sentence: &str| {
        let mut bytes = put(thft::Version::V1);
        // The next request, for a header that claims some of it.
        bytes.push(0);
        bytes[at..at + 4].copy_from_slice(&value.to_be_bytes());
        assert_eq!(refused(Protocol::Thft, &bytes), sentence);
    };
    word(8, 1025, "thft header.meta_length: 1025, the limit is 1024");
    word(
        8,
        0xffff_fff0,
        "thft header.meta_length: length -16 is negative",
    );
    word(8, 36, "thft header.meta: 1 bytes needed, 0 are left");
    word(8, 38, "thft header.meta: 1 bytes after the end");
    word(12, 5000, "thft header.body_length: 5000, the limit is 1000");
}

#[test]
fn headers_of_rdsn_do_not_lie() {
    let word = |at: usize, value: u32, sentence: &str| {
        let mut bytes = put_by_rdsn();
        bytes[at..at + 4].copy_from_slice(&value.to_le_bytes());
        assert_eq!(refused(Protocol::Rdsn, &bytes), sentence);
    };
    word(4, 1, "rdsn header.hdr_version: 1, expected 0");
    word(8, 191, "rdsn header.hdr_length: 191, expected 192");
    word(16, 1001, "rdsn header.body_length: 1001, the limit is 1000");
    word(
        16,
        0xffff_ffff,
        "rdsn header.body_length: length -1 is negative",
    );
    // An answer is no request, and JSON is not spoken here.
    word(104, 0x440, "rdsn header.context: 1088, expected 1089");
    word(104, 0x4c1, "rdsn header.context: 1217, expected 1089");
}

#[test]
fn a_body_of_another_length_than_its_request_is_refused_and_the_frame_is_not() {
    let mut longer = put(thft::Version::V0);
    longer.push(0);
    longer[19] += 1;
    let call = whole(Protocol::Thft, &longer);
    let error = Request::of(&call).unwrap().unwrap_err();
    assert_eq!(error.to_string(), "body: 1 bytes after the end");

    let mut shorter = put(thft::Version::V0);
    shorter.pop();
    shorter[19] -= 1;
    let call = whole(Protocol::Thft, &shorter);
    let error = Request::of(&call).unwrap().unwrap_err();
    assert_eq!(error.to_string(), "value: 1 bytes needed, 0 are left");
}

#[test]
fn a_frame_that_is_too_large_says_who_wants_to_know() {
    for protocol in [Protocol::Thft, Protocol::Rdsn] {
        let bytes = match protocol {
            Protocol::Thft => put(thft::Version::V1),
            Protocol::Rdsn => put_by_rdsn(),
        };
        let none = Limits { body_bytes_max: 1 };
        let error = frame_length(protocol, &bytes, &none).unwrap_err();
        assert_eq!(error.part, "body_length");
        let Progress::Done(found) = oversized(protocol, &bytes).unwrap() else {
            panic!("a whole frame");
        };
        assert_eq!(found.rpc, Some(pegasus_thrift::Rpc::Put));
        assert_eq!((found.app_id, found.partition_index), (2, 3));
        assert_eq!(found.frame_bytes, bytes.len());
        assert_eq!(found.reply_to, whole(protocol, &bytes).reply_to);
        let ReplyTo::Thft { seqid, .. } = found.reply_to else {
            continue;
        };
        assert_eq!(seqid, 1);
        assert_eq!(
            oversized(protocol, &bytes[..60]),
            Ok(Progress::NeedMore(16 + 37 + 8))
        );
    }
}

#[test]
fn answers_do_not_lie_about_their_length() {
    let length = |bytes: [u8; 4]| thft::parse_reply(&bytes, &LIMITS).unwrap_err().to_string();
    assert_eq!(
        length([0, 0, 0, 3]),
        "thft reply.length: 4 bytes needed, 3 are left"
    );
    assert_eq!(
        length([0xff; 4]),
        "thft reply.length: length -1 is negative"
    );
    assert_eq!(
        length([0, 1, 0, 0]),
        "thft reply.body_length: 65532, the limit is 1000"
    );
    assert_eq!(
        thft::parse_reply(&[0, 0, 3], &LIMITS),
        Ok(Progress::NeedMore(4))
    );
    let call = &put(thft::Version::V0)[48..];
    let body = [b"\0\0\0\x06ERR_OK", call].concat();
    let error = thft::Reply::decode(&body).unwrap_err();
    assert_eq!(error.to_string(), "message.type: 1, expected 2");
}

#[test]
fn lengths_within_a_body_are_at_most_what_is_there() {
    fn error<'a, T: pegasus_thrift::binary::Decode<'a> + Default>(bytes: &'a [u8]) -> String {
        let read = read_only_field::<T>(&mut Reader::new(bytes));
        read.map(drop).unwrap_err().to_string()
    }
    // 2^31 - 1 rows of a byte each, in five bytes.
    let rows = b"\x0c\0\x01 \x0f\0\x02\x0c\x7f\xff\xff\xff\0\0\0\0\0";
    let rows: Vec<u8> = rows.iter().copied().filter(|byte| *byte != b' ').collect();
    assert_eq!(
        error::<MultiPutRequest<'_>>(&rows),
        "multi_put_request.kvs: 2147483647 bytes needed, 5 are left"
    );
    // One more than there are bytes.
    assert_eq!(
        error::<BatchGetRequest<'_>>(b"\x0c\0\x01\x0f\0\x01\x0c\0\0\0\x03\0\0"),
        "batch_get_request.keys: 3 bytes needed, 2 are left"
    );
    assert_eq!(
        error::<UpdateRequest<'_>>(b"\x0c\0\x01\x0c\0\x02\x7f\xff\xff\xffabc"),
        "update_request.value: 2147483647 bytes needed, 3 are left"
    );
    assert_eq!(
        error::<UpdateRequest<'_>>(b"\x0c\0\x01\x0c\0\x01\xff\xff\xff\xf0"),
        "update_request.key: length -16 is negative"
    );
    assert_eq!(
        error::<QueryCfgRequest<'_>>(b"\x0c\0\x01\x0b\0\x01\0\0\0\x01\xff\0\0"),
        "query_cfg_request.app_name: not UTF-8"
    );
    assert_eq!(
        error::<QueryCfgRequest<'_>>(b"\x0c\0\x01\x0f\0\x02\x0b\0\0\0\x01\0\0\0\0\0\0"),
        "query_cfg_request.partition_indices: thrift type 11, expected 8"
    );
    assert_eq!(
        error::<&[u8]>(b"\x0a\0\x01\0\0\0\0\0\0\0\0\0"),
        "argument: thrift type 10, expected 12"
    );
    assert_eq!(
        error::<i64>(b"\x01\0\x01\0"),
        "thrift type: unknown number 1"
    );
}

#[test]
fn elements_are_limited_in_number_and_depth() {
    let many = BatchGetRequest {
        keys: vec![pegasus_thrift::data::FullKey::default(); 11],
    };
    let mut bytes = Vec::new();
    write_only_field(1, &many, &mut bytes);
    let read =
        |max| read_only_field::<BatchGetRequest<'_>>(&mut Reader::with_elements_max(&bytes, max));
    assert_eq!(read(11).as_ref(), Ok(&many));
    let error = read(10).unwrap_err();
    assert_eq!(
        error.to_string(),
        "batch_get_request.keys: 11, the limit is 10"
    );

    // As many rows as bytes: the limit is reached before the end.
    let count = ELEMENTS_MAX + 1;
    let mut flood = b"\x0c\0\x01\x0f\0\x01\x0c".to_vec();
    flood.extend(count.to_be_bytes());
    flood.resize(flood.len() + count as usize + 2, 0);
    let error = read_only_field::<BatchGetRequest<'_>>(&mut Reader::new(&flood)).unwrap_err();
    let max = ELEMENTS_MAX.into();
    let found = count.into();
    assert_eq!(error.fault, Fault::TooLarge { found, max });

    // Lists of lists, in a field that nobody knows.
    let mut deep = b"\x0c\0\x01".to_vec();
    deep.extend(
        b"\x0f\0\x63"
            .iter()
            .chain(b"\x0f\0\0\0\x01".repeat(1000).iter()),
    );
    let error = read_only_field::<UpdateRequest<'_>>(&mut Reader::new(&deep)).unwrap_err();
    assert_eq!(
        error.to_string(),
        "update_request.unknown field: nested deeper than 32"
    );
}

#[test]
fn absent_fields_have_their_defaults_and_unknown_ones_are_skipped() {
    let empty = |rest: &[u8]| [&b"\x80\x01\0\x01\0\0\0\x01x\0\0\0\0"[..], rest].concat();
    let body = empty(b"\x0c\0\x01\0\0");
    let message = Message::decode(&body).unwrap();
    assert_eq!(message.request(), Ok(CheckAndSetRequest::default()));
    assert_eq!(message.request(), Ok(GetScannerRequest::default()));
    let created: CreateAppRequest<'_> = message.request().unwrap();
    assert_eq!(created.options.partition_count, 0);
    let info: AppInfo<'_> = message.request().unwrap();
    assert_eq!(info.init_partition_count, -1);
    let body = empty(b"\0");
    let message = Message::decode(&body).unwrap();
    assert_eq!(message.request(), Ok(UpdateRequest::default()));

    // One of each kind, and the known field in another type than it has, before and behind the known one.
    let unknown: &[u8] = b"\x02\0\x32\x01\x03\0\x33\x01\x04\0\x3412345678\x06\0\x3512\x08\0\x361234\x0a\0\x3712345678\
        \x0b\0\x38\0\0\0\x01x\x0c\0\x39\x02\0\x01\x01\0\x0d\0\x3a\x0b\x08\0\0\0\x01\0\0\0\x01k1234\
        \x0e\0\x3b\x02\0\0\0\x02\x01\0\x0f\0\x3c\x0c\0\0\0\x02\0\0\x0f\0\x3d\0\0\0\0\0\x08\0\x021234";
    let known: &[u8] = b"\x0c\0\x02\0\0\0\x01v";
    let body = [
        b"\x0c\0\x01",
        unknown,
        known,
        unknown,
        b"\0",
        unknown,
        b"\0",
    ]
    .concat();
    let body = empty(&body);
    let read: UpdateRequest<'_> = Message::decode(&body).unwrap().request().unwrap();
    assert_eq!(read.value, b"v");
    assert_eq!(
        read,
        UpdateRequest {
            value: b"v",
            ..UpdateRequest::default()
        }
    );
}

#[test]
fn every_field_that_is_not_optional_is_written() {
    let mut written = Vec::new();
    pegasus_thrift::binary::Encode::encode(&AppInfo::default(), &mut written);
    let mut reader = Reader::new(&written);
    let mut ids = Vec::new();
    while let Some((kind, id)) = reader.field().unwrap() {
        reader.skip(kind).unwrap();
        ids.push(id);
    }
    assert_eq!(ids, [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 13]);
    assert_eq!(AppInfo::default().envs, Map(Vec::new()));
}

fn put(version: thft::Version) -> Vec<u8> {
    let header = thft::Header {
        version,
        app_id: 2,
        partition_index: 3,
        ..thft::Header::default()
    };
    let mut bytes = Vec::new();
    Request::Put(UpdateRequest::default()).encode_thft(&header, 1, &mut bytes);
    whole(Protocol::Thft, &bytes);
    bytes
}

fn put_by_rdsn() -> Vec<u8> {
    let header = rdsn::Header::request("RPC_RRDB_RRDB_PUT".into(), 1).to_partition(2, 3, 4);
    let mut bytes = Vec::new();
    Request::Put(UpdateRequest::default()).encode_rdsn(&header, &mut bytes);
    whole(Protocol::Rdsn, &bytes);
    bytes
}

fn whole(protocol: Protocol, bytes: &[u8]) -> Call<'_> {
    assert_eq!(
        frame_length(protocol, bytes, &LIMITS),
        Ok(Progress::Done(bytes.len()))
    );
    Call::decode(protocol, bytes).unwrap()
}

/// The sentence with which a frame is refused.
fn refused(protocol: Protocol, bytes: &[u8]) -> String {
    let error: DecodeError = match frame_length(protocol, bytes, &LIMITS) {
        Err(error) => error,
        Ok(Progress::Done(length)) => Call::decode(protocol, &bytes[..length]).unwrap_err(),
        Ok(Progress::NeedMore(bytes)) => panic!("{bytes} bytes wanted"),
    };
    error.to_string()
}
