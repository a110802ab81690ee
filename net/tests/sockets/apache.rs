//! THFT and RDSN on a real core: what clients send byte by byte, and what they get.

use crate::harness::{Core, options};
use bytes::Bytes;
use pegasus_fbs::code::Code;
use pegasus_net::counters::CloseReason;
use pegasus_net::request::{Failure, Key, Operation, Request, Response};
use pegasus_net::{CoreIo, NetOptions, ReplyTo};
use pegasus_thrift::data::{ReadResponse, Request as Sent};
use pegasus_thrift::frame::{rdsn, thft};
use pegasus_thrift::{Name, Rpc};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::mpsc::channel;
use std::time::Duration;

/// A GET as the Java client sends it: table 2, partition 2, "hashkey" and "sortkey", number 7.
const GET: &[u8] = b"THFT\0\0\0\x01\0\0\0\x25\0\0\0\x35\
    \x08\0\x01\0\0\0\x02\x08\0\x02\0\0\0\x02\x08\0\x03\0\0\x03\xe8\x0a\0\x04\x12\x99\xd9\xb0\x66\x72\x77\x3a\x02\0\x05\0\0\
    \x80\x01\0\x01\0\0\0\x11RPC_RRDB_RRDB_GET\0\0\0\x07\x0c\0\x01\0\0\0\x10\0\x07hashkeysortkey\0";

fn serve(io: &mut CoreIo, to: ReplyTo, request: Request) {
    let reply = match request.operation {
        Operation::Get(Key { hash_key, .. }) if &hash_key[..] == b"hashkey" => {
            Ok(Response::Value(Bytes::from_static(b"value1")))
        }
        _ => Err(Failure::new(Code::NotPrimary, "")),
    };
    io.reply(to, &reply);
}

/// The answer to [`GET`] of a core that clients find at this address, as text of this length.
fn answer(server: &str) -> Vec<u8> {
    let mut answer = b"\0\0\0\0\0\0\0\x06ERR_OK\x80\x01\0\x02\0\0\0\x15RPC_RRDB_RRDB_GET_ACK\0\0\0\x07\
        \x0c\0\0\x08\0\x01\0\0\0\0\x0c\0\x02\0\0\0\x06value1\x08\0\x03\0\0\0\x02\x08\0\x04\0\0\0\x02\x0b\0\x06"
        .to_vec();
    answer.extend((server.len() as u32).to_be_bytes());
    answer.extend(server.as_bytes());
    answer.extend([0, 0]);
    let length = answer.len() as u32;
    answer[..4].copy_from_slice(&length.to_be_bytes());
    answer
}

fn receive(stream: &mut TcpStream, bytes: usize) -> Vec<u8> {
    let mut received = vec![0; bytes];
    stream.read_exact(&mut received).unwrap();
    received
}

#[test]
fn a_get_is_answered_with_the_bytes_that_are_written_down() {
    let core = Core::start(options(), serve);
    let mut client = core.connect();
    let expected = answer(&core.clients.to_string());
    client.send(GET);
    assert_eq!(receive(&mut client.stream, expected.len()), expected);
    // One byte at a time, and right behind it the next request.
    for byte in GET {
        client.send(&[*byte]);
    }
    client.send(GET);
    for _ in 0..2 {
        assert_eq!(receive(&mut client.stream, expected.len()), expected);
    }
    assert_eq!(core.counters().requests, 3);
}

#[test]
fn a_core_says_where_clients_find_it_when_that_is_not_where_it_listens() {
    let core = Core::start(options(), serve);
    core.run(|io| io.announce("10.1.2.3:34801".parse().unwrap()));
    let mut client = core.connect();
    client.send(GET);
    let expected = answer("10.1.2.3:34801");
    assert_eq!(receive(&mut client.stream, expected.len()), expected);
}

/// A GET of the key that consists of this byte.
fn get_of(key: u8) -> Vec<u8> {
    let mut bytes = Vec::new();
    let header = thft::Header {
        app_id: 2,
        ..thft::Header::default()
    };
    Sent::Get(&[0, 1, key]).encode_thft(&header, key.into(), &mut bytes);
    bytes
}

#[test]
fn answers_leave_in_the_order_in_which_they_are_given() {
    let (hand, held) = channel();
    let core = Core::start(options(), move |_, to, request| {
        hand.send((to, request)).unwrap()
    });
    let mut client = core.connect();
    client.send(&[get_of(1), get_of(2), get_of(3)].concat());
    let mut asked: Vec<_> = (0..3).map(|_| held.recv().unwrap()).collect();
    asked.reverse();
    for (to, request) in asked {
        let Operation::Get(key) = request.operation else {
            panic!("{request:?}");
        };
        let value = key.hash_key.clone();
        core.run(move |io| io.reply(to, &Ok(Response::Value(value))));
        let length = receive(&mut client.stream, 4);
        let length = u32::from_be_bytes(length.try_into().unwrap()) as usize;
        let body = receive(&mut client.stream, length - 4);
        let reply = thft::Reply::decode(&body).unwrap();
        assert_eq!(reply.seqid, i32::from(key.hash_key[0]));
        assert_eq!(
            reply.response::<ReadResponse<'_>>().unwrap().value,
            &key.hash_key[..]
        );
    }
}

#[test]
fn a_refusal_by_rdsn_is_a_header_without_a_body() {
    let core = Core::start(options(), serve);
    let mut client = core.connect();
    let mut request = Vec::new();
    let header = rdsn::Header::request(Name::from(Rpc::Get.name()), u64::MAX).to_partition(2, 5, 9);
    Sent::Get(b"\0\x01k").encode_rdsn(&header, &mut request);
    for piece in request.chunks(50) {
        client.send(piece);
    }
    let received = receive(&mut client.stream, rdsn::HEADER_BYTES);
    assert_eq!(&received[16..32], &[&[0; 8][..], &[0xff; 8]].concat());
    assert_eq!(&received[40..62], b"RPC_RRDB_RRDB_GET_ACK\0");
    assert_eq!(&received[96..104], &[2, 0, 0, 0, 5, 0, 0, 0]);
    assert_eq!(&received[136..154], b"ERR_INVALID_STATE\0");
}

#[test]
fn what_cannot_be_parsed_ends_the_connection_without_a_word() {
    let core = Core::start(options(), serve);
    let good = GET.to_vec();
    let changed = |at: usize, to: u8| {
        let mut bytes = good.clone();
        bytes[at] = to;
        bytes
    };
    let broken = [
        // An unknown version, a length of 2^31 and more, a message that is no call, one that does not end.
        changed(7, 2),
        changed(8, 0x80),
        changed(12, 0xff),
        changed(56, 2),
        changed(60, 0x7f),
    ];
    for (count, bytes) in (1..).zip(broken) {
        let mut client = core.connect();
        // A reset is as good as an end: not all of it may have been read.
        drop(client.stream.write_all(&bytes));
        let mut rest = Vec::new();
        drop(client.stream.read_to_end(&mut rest));
        assert_eq!(rest, b"");
        core.wait_for("the close", |counters| {
            counters.closed(CloseReason::BadFrame) == count
        });
    }
    let mut client = core.connect();
    client.send(&good[..40]);
    drop(client);
    core.wait_for("the end within a frame", |counters| {
        counters.closed(CloseReason::Truncated) == 1
    });
}

#[test]
fn a_client_that_never_reads_is_given_up() {
    let options = NetOptions {
        reader_silence_max: Duration::from_millis(500),
        ..options()
    };
    let value = Bytes::from(vec![7; 64 << 10]);
    let core = Core::start(options, move |io, to, _| {
        io.reply(to, &Ok(Response::Value(value.clone())));
    });
    let mut client = core.connect();
    client.stream.set_nonblocking(true).unwrap();
    let counters = core.wait_for("the end of a client that does not read", |counters| {
        // More and more is asked for and nothing is read, until the server's window is full.
        drop(client.stream.write(GET));
        // What the kernel still has comes back a little later.
        counters.closed(CloseReason::SlowReader) == 1 && counters.output_bytes_queued == 0
    });
    // What was queued for it was bounded by the pause, whatever it asked for.
    assert!(counters.window_full > 0, "{counters:?}");
}
