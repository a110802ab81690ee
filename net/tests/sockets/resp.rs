//! The Redis protocol on a real core: answers in order whatever the order they come in, connections that end when they are to,
//! clients that do not read.

use crate::harness::{Core, options};
use bytes::Bytes;
use pegasus_net::counters::CloseReason;
use pegasus_net::request::{Operation, Request, Response};
use pegasus_net::{CoreIo, NetOptions, ReplyTo};
use pegasus_resp::Value;
use std::io::Read;
use std::sync::mpsc::channel;

/// The key of a command, as its answer.
fn answer(io: &mut CoreIo, to: ReplyTo, request: &Request) {
    let Operation::Redis(redis) = &request.operation else {
        panic!("{request:?}");
    };
    let key = redis.calls.key().unwrap().unwrap();
    io.reply(to, &Ok(Response::Redis(Value::Bulk(key))));
}

/// Everything up to the end of the connection.
fn exchange(core: &Core, request: &[u8]) -> String {
    let mut client = core.connect();
    client.send(request);
    let mut answers = String::new();
    client.stream.read_to_string(&mut answers).unwrap();
    answers
}

#[test]
fn answers_that_come_last_first_leave_in_order() {
    let mut held = Vec::new();
    let core = Core::start(options(), move |io, to, request| {
        held.push((to, request));
        if held.len() == 3 {
            for (to, request) in held.drain(..).rev() {
                answer(io, to, &request);
            }
        }
    });
    let answers = exchange(
        &core,
        b"GET a\r\n*2\r\n$3\r\nGET\r\n$1\r\nb\r\nPING\r\nGET c\r\nQUIT\r\n",
    );
    assert_eq!(answers, "$1\r\na\r\n$1\r\nb\r\n+PONG\r\n$1\r\nc\r\n+OK\r\n");
    core.wait_for("the end", |counters| counters.connections == 0);
}

#[test]
fn commands_may_come_byte_by_byte() {
    let core = Core::start(options(), |io, to, request| answer(io, to, &request));
    let mut client = core.connect();
    for byte in b"*2\r\n$3\r\nGET\r\n$3\r\nkey\r\nget other\r\nQUIT\r\n" {
        client.send(&[*byte]);
    }
    let mut answers = String::new();
    client.stream.read_to_string(&mut answers).unwrap();
    assert_eq!(answers, "$3\r\nkey\r\n$5\r\nother\r\n+OK\r\n");
}

#[test]
fn what_is_no_resp_is_told_so_after_the_answers_before_it() {
    let (hand, held) = channel();
    let core = Core::start(options(), move |_, to, request| {
        hand.send((to, request)).unwrap()
    });
    let mut client = core.connect();
    client.send(b"GET a\r\n*1\r\n!oops\r\nGET never\r\n");
    let (to, request) = held.recv().unwrap();
    core.run(move |io| answer(io, to, &request));
    let mut answers = String::new();
    client.stream.read_to_string(&mut answers).unwrap();
    assert_eq!(
        answers,
        "$1\r\na\r\n-ERR Protocol error: expected '$', got '!'\r\n"
    );
    assert!(held.try_recv().is_err());
}

#[test]
fn lengths_near_the_end_of_numbers_are_refused_before_they_come() {
    let core = Core::start(options(), |io, to, request| answer(io, to, &request));
    for bytes in [
        &b"*2147483647\r\n"[..],
        b"*-2147483648\r\n",
        b"*1\r\n$2147483647\r\n",
        b"*1\r\n$-2\r\n",
        b"*1\r\n$9223372036854775808\r\n",
    ] {
        let answers = exchange(&core, bytes);
        assert!(
            answers.starts_with("-ERR Protocol error: invalid"),
            "{answers}"
        );
    }
    assert_eq!(core.counters().input_bytes_kept, 0);
}

#[test]
fn answers_that_wait_for_an_earlier_one_end_the_connection_of_too_many() {
    let options = NetOptions {
        output_bytes_max: 3 << 20,
        ..options()
    };
    // The first is never answered; the others are large, and wait for it.
    let core = Core::start(options, move |io, to, request| {
        let Operation::Redis(redis) = &request.operation else {
            panic!("{request:?}");
        };
        if redis.calls.key().unwrap().unwrap() != "first" {
            let value = Value::Bulk(Bytes::from(vec![b'v'; 1 << 20]));
            io.reply(to, &Ok(Response::Redis(value)));
        }
    });
    let mut client = core.connect();
    client.send(b"GET first\r\n");
    client.send(&b"GET other\r\n".repeat(20));
    core.wait_for("the end", |counters| {
        counters.closed(CloseReason::SlowReader) == 1 && counters.connections == 0
    });
}
