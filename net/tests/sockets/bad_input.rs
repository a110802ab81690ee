use crate::harness::{Client, Core, options};
use crate::protocol::{code_of, get, reply_of, request_frame};
use bytes::Bytes;
use pegasus_fbs::code::Code;
use pegasus_fbs::frame::{BODY_BYTES_MAX, FrameKind, HEADER_BYTES, Header, MAGIC, encode_frame};
use pegasus_net::counters::CloseReason;
use pegasus_net::request::{
    Key, MultiGet, MultiGetRows, Operation, REQUEST_BODY_BYTES_MAX, Request, Response,
};
use pegasus_net::{CoreIo, ReplyTo};

fn serve(io: &mut CoreIo, from: ReplyTo, _: Request) {
    io.reply(from, &Ok(Response::Value(Bytes::new())));
}

/// Sends `bytes` on a connection of its own and waits until it was closed for `reason`.
fn closes(core: &Core, bytes: &[u8], reason: CloseReason) {
    let before = core.counters().closed(reason);
    let mut client = core.connect();
    client.send(bytes);
    assert!(client.receive().is_none());
    core.wait_for(reason.name(), |counters| {
        counters.closed(reason) == before + 1 && counters.connections == 0
    });
}

fn frame(kind: FrameKind, body: &[u8]) -> Vec<u8> {
    let mut frame = Vec::new();
    encode_frame(&mut frame, &Header::request(kind, 5), body);
    frame
}

#[test]
fn foreign_protocols_are_closed_and_counted() {
    let core = Core::start(options(), serve);
    for bytes in [
        &b"\x16\x03\x01\x02\x00"[..],
        b"\x00",
        &[0x89, b'P', b'N', b'G'],
        &[0x89, b'P', b'G', b'Z'],
    ] {
        closes(&core, bytes, CloseReason::UnknownProtocol);
    }
}

#[test]
fn a_broken_header_or_checksum_closes_the_connection() {
    let core = Core::start(options(), serve);
    for index in [4, 5, 8, 12, 20, HEADER_BYTES, HEADER_BYTES + 5] {
        let mut bytes = get(1, "key");
        bytes[index] ^= 0x10;
        // A longer body than there is: the bytes that follow make it up.
        bytes.extend(std::iter::repeat_n(0, 64));
        closes(&core, &bytes, CloseReason::BadFrame);
    }
}

#[test]
fn a_frame_after_a_good_one_is_checked_as_well() {
    let core = Core::start(options(), serve);
    let mut bytes = get(1, "key");
    bytes.extend_from_slice(&[0; 40]);
    let mut client = core.connect();
    client.send(&bytes);
    while client.receive().is_some() {}
    core.wait_for("the close", |counters| {
        counters.closed(CloseReason::BadFrame) == 1
    });
}

#[test]
fn a_stream_that_ends_within_a_frame_is_truncated() {
    let core = Core::start(options(), serve);
    let bytes = get(1, "key");
    for length in [1, 4, HEADER_BYTES - 1, HEADER_BYTES, bytes.len() - 1] {
        let before = core.counters().closed(CloseReason::Truncated);
        let mut client = core.connect();
        client.send(&bytes[..length]);
        drop(client);
        core.wait_for("the end", |counters| {
            counters.closed(CloseReason::Truncated) == before + 1
        });
    }
}

#[test]
fn frames_of_servers_have_no_business_on_a_client_port() {
    let core = Core::start(options(), serve);
    for kind in [
        FrameKind::Hello,
        FrameKind::Prepare,
        FrameKind::Register,
        FrameKind::Heartbeat,
    ] {
        closes(&core, &frame(kind, b""), CloseReason::ForeignKind);
    }
}

#[test]
fn an_operators_request_is_answered_as_unsupported() {
    let core = Core::start(options(), serve);
    let mut client = core.connect();
    client.send(&frame(FrameKind::CreateTable, b""));
    assert_eq!(
        code_of(&reply_of(&client.receive().unwrap())),
        Code::Unsupported
    );
}

#[test]
fn a_malformed_body_is_answered_and_the_connection_goes_on() {
    let core = Core::start(options(), serve);
    let mut client = core.connect();
    for kind in FrameKind::ALL
        .into_iter()
        .filter(|kind| kind.number() <= FrameKind::Compact.number() && *kind != FrameKind::Ping)
    {
        for body in [&b""[..], b"garbage that is no table", &[0xff; 64]] {
            client.send(&frame(kind, body));
            let frame = client.receive().unwrap();
            assert_eq!(frame.header.request_id, 5);
            assert_eq!(
                code_of(&reply_of(&frame)),
                Code::InvalidArgument,
                "{kind:?} {body:?}"
            );
        }
    }
    client.send(&get(6, "key"));
    assert_eq!(code_of(&reply_of(&client.receive().unwrap())), Code::Ok);
    assert!(core.counters().requests_refused > 30);
}

#[test]
fn a_body_over_a_mebibyte_is_refused_with_a_sentence_and_thrown_away() {
    let core = Core::start(options(), serve);
    let mut client = core.connect();
    client.send(&frame(FrameKind::Put, &vec![1; REQUEST_BODY_BYTES_MAX + 1]));
    let reply = reply_of(&client.receive().unwrap());
    assert_eq!(code_of(&reply), Code::TooLarge);
    assert!(
        reply
            .unwrap_err()
            .message
            .contains("1048577 bytes, the limit is 1048576")
    );
    client.send(&get(6, "key"));
    assert_eq!(client.receive().unwrap().header.request_id, 6);
}

#[test]
fn a_frame_that_claims_more_than_the_protocol_allows_is_closed_at_its_header() {
    let core = Core::start(options(), serve);
    let mut bytes = frame(FrameKind::Get, b"");
    bytes[8..12].copy_from_slice(&(BODY_BYTES_MAX as u32 + 1).to_le_bytes());
    closes(&core, &bytes, CloseReason::FrameTooLarge);
}

#[test]
fn keys_and_counts_are_bounded() {
    let core = Core::start(options(), serve);
    let mut client = core.connect();
    let too_long = Key {
        hash_key: Bytes::from(vec![b'k'; 65_535]),
        sort_key: Bytes::new(),
    };
    let longest = Key {
        hash_key: Bytes::from(vec![b'k'; 65_534]),
        sort_key: Bytes::new(),
    };
    let many = MultiGetRows::Named(vec![Bytes::new(); 16_385]);
    let many = MultiGet {
        hash_key: "h".into(),
        rows: many,
        max_rows: 0,
        max_bytes: 0,
        no_value: false,
    };
    let cases = [
        (Operation::Get(too_long), Code::TooLarge),
        (Operation::Get(longest), Code::Ok),
        (Operation::MultiGet(many), Code::TooLarge),
        (
            Operation::SortKeyCount {
                hash_key: Bytes::new(),
            },
            Code::InvalidArgument,
        ),
        (Operation::BatchGet(Vec::new()), Code::InvalidArgument),
        (
            Operation::Route {
                table_name: "x".repeat(129),
            },
            Code::InvalidArgument,
        ),
    ];
    for (operation, expected) in cases {
        let name = operation.name();
        client.send(&request_frame(
            1,
            &Request {
                table: 1,
                partition: 0,
                timeout: None,
                operation,
            },
        ));
        let frame = client.receive().unwrap();
        let code = if frame.header.is_failure() {
            code_of(&reply_of(&frame))
        } else {
            Code::Ok
        };
        assert_eq!(code, expected, "{name}");
    }
}

#[test]
fn connections_over_the_limit_are_closed_and_others_served() {
    let core = Core::start(
        pegasus_net::NetOptions {
            connections_max: 3,
            ..options()
        },
        serve,
    );
    let mut kept: Vec<Client> = (0..3).map(|_| core.connect()).collect();
    core.wait_for("three connections", |counters| counters.connections == 3);
    assert!(core.connect().receive().is_none());
    assert_eq!(core.counters().closed(CloseReason::TooManyConnections), 1);
    for client in &mut kept {
        client.send(&get(1, "key"));
        assert!(client.receive().is_some());
    }
}

#[test]
fn the_magic_alone_decides_nothing_yet() {
    let core = Core::start(options(), serve);
    let mut client = core.connect();
    let bytes = get(9, "key");
    assert_eq!(bytes[..4], MAGIC);
    client.send(&bytes[..2]);
    core.wait_for("two bytes", |counters| counters.bytes_in == 2);
    client.send(&bytes[2..]);
    assert_eq!(client.receive().unwrap().header.request_id, 9);
}
