//! HTTP on a real core: answers in order, connections that end when they are to.

use crate::harness::{Core, options};
use pegasus_net::request::{Operation, Request, Response};
use pegasus_net::{CoreIo, ReplyTo};
use std::io::{Read, Write};
use std::sync::mpsc::channel;

fn answer(io: &mut CoreIo, to: ReplyTo, request: &Request) {
    let Operation::Http(request) = &request.operation else {
        panic!("{request:?}");
    };
    let body = format!("{}?{}\n", request.path, request.query);
    let response = pegasus_http::Response::text(pegasus_http::Status::Ok, body);
    io.reply(to, &Ok(Response::Http(Box::new(response))));
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
fn pipelined_requests_are_answered_one_by_one_and_the_last_ends_the_connection() {
    let (hand, held) = channel();
    let core = Core::start(options(), move |_, to, request| {
        hand.send((to, request)).unwrap()
    });
    let mut client = core.connect();
    client.send(b"GET /a?x=1 HTTP/1.1\r\n\r\nGET /b HTTP/1.1\r\nConnection: close\r\n\r\nGET /c HTTP/1.1\r\n\r\n");
    for _ in 0..2 {
        let (to, request) = held.recv().unwrap();
        // The next one waits for this one's answer.
        assert!(held.try_recv().is_err());
        core.run(move |io| answer(io, to, &request));
    }
    let mut answers = String::new();
    client.stream.read_to_string(&mut answers).unwrap();
    let bodies: Vec<_> = answers.split("\r\n\r\n").collect();
    assert_eq!(bodies.len(), 3, "{answers}");
    assert!(bodies[1].starts_with("a?x=1\nHTTP/1.1 200 OK\r\n"));
    assert_eq!(bodies[2], "b?\n");
    core.wait_for("the end", |counters| counters.connections == 0);
    assert_eq!(core.counters().requests, 2);
}

#[test]
fn what_is_no_request_is_told_so_and_ends_the_connection() {
    let core = Core::start(options(), |io, to, request| answer(io, to, &request));
    let long = [b"GET / HTTP/1.1\r\nX: ".as_slice(), &[b'a'; 10_000]].concat();
    for (request, status) in [
        (&b"GET / HTTP/1.1\r\nno header\r\n\r\n"[..], "400"),
        (b"POST / HTTP/1.1\r\nContent-Length: 999999\r\n\r\n", "413"),
        (
            b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n",
            "411",
        ),
        (&long, "431"),
    ] {
        let told = exchange(&core, request);
        assert!(told.starts_with(&format!("HTTP/1.1 {status} ")), "{told}");
        assert!(told.contains("Connection: close\r\n"), "{told}");
    }
    let told = exchange(&core, b"DELETE / HTTP/1.0\r\n\r\n");
    assert!(told.starts_with("HTTP/1.1 405 "), "{told}");
    assert_eq!(
        core.counters()
            .closed(pegasus_net::counters::CloseReason::BadFrame),
        0
    );
}

#[test]
fn a_client_that_asks_before_it_sends_a_body_is_told_to_go_on() {
    let core = Core::start(options(), |io, to, request| answer(io, to, &request));
    let mut client = core.connect();
    client.send(b"POST /a HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: 2\r\nConnection: close\r\n\r\n");
    let mut told = [0; 25];
    client.stream.read_exact(&mut told).unwrap();
    assert_eq!(&told, b"HTTP/1.1 100 Continue\r\n\r\n");
    client.stream.write_all(b"{}").unwrap();
    let mut answer = String::new();
    client.stream.read_to_string(&mut answer).unwrap();
    assert!(answer.ends_with("a?\n"), "{answer}");
}
