//! Receipts of answers: each comes back once, when the kernel has the answer or nobody will have it.

use crate::harness::{Core, PATIENCE, options};
use crate::protocol::get;
use bytes::Bytes;
use pegasus_net::request::Response;
use pegasus_net::{Sent, clock};
use std::time::Instant;

/// Waits for so many receipts.
fn receipts(core: &Core, count: usize) -> Vec<Sent> {
    let deadline = Instant::now() + PATIENCE;
    let mut all = Vec::new();
    while all.len() < count {
        assert!(Instant::now() < deadline, "{} of {count}", all.len());
        all.extend(core.run(|io| {
            let mut sent = Vec::new();
            io.take_sent(&mut sent);
            sent
        }));
    }
    all
}

/// Answers with `value`; receipts count from 0, and the stamps of the answers are told.
fn answering(value: Bytes) -> (Core, std::sync::mpsc::Receiver<u64>) {
    let (stamps, encoded) = std::sync::mpsc::channel();
    let mut next = 0;
    let core = Core::start(options(), move |io, from, _| {
        io.reply_with_receipt(from, &Ok(Response::Value(value.clone())), next);
        stamps.send(clock::now_ns()).unwrap();
        next += 1;
    });
    (core, encoded)
}

#[test]
fn every_answer_gives_its_receipt_back_once_it_is_sent() {
    let (core, encoded) = answering(Bytes::from_static(b"value"));
    let mut client = core.connect();
    let batch: Vec<u8> = (0..100).flat_map(|id| get(id, "key")).collect();
    client.send(&batch);
    (0..100).for_each(|_| drop(client.receive().unwrap()));
    let mut sent = receipts(&core, 100);
    sent.sort_by_key(|sent| sent.receipt);
    assert!(sent.iter().map(|sent| sent.receipt).eq(0..100));
    for (sent, encoded_ns) in sent.iter().zip(encoded.iter()) {
        assert!(sent.at_ns > encoded_ns, "sent before it was encoded");
    }
    client.send(&get(100, "key"));
    drop(client.receive().unwrap());
    assert_eq!(receipts(&core, 1)[0].receipt, 100);
}

#[test]
fn an_answer_that_is_not_read_gives_its_receipt_back_only_when_its_connection_is_gone() {
    let (core, _encoded) = answering(Bytes::from(vec![7; 24 << 20]));
    let mut client = core.connect();
    client.send(&[get(0, "key"), get(1, "key")].concat());
    core.wait_for("the answers", |counters| counters.replies == 2);
    let early = core.run(|io| {
        let mut sent = Vec::new();
        io.take_sent(&mut sent);
        sent
    });
    assert_eq!(early, [], "nobody has read 48 MiB");
    drop(client);
    let mut sent: Vec<u32> = receipts(&core, 2).iter().map(|sent| sent.receipt).collect();
    sent.sort_unstable();
    assert_eq!(sent, [0, 1]);
}

#[test]
fn an_answer_for_a_connection_that_is_gone_gives_its_receipt_back_at_once() {
    let (held, waiting) = std::sync::mpsc::channel();
    let core = Core::start(options(), move |_, from, _| held.send(from).unwrap());
    let mut client = core.connect();
    client.send(&get(0, "key"));
    let from = waiting.recv_timeout(PATIENCE).unwrap();
    client.send(b"no frame at all, which ends the connection");
    core.wait_for("the end", |counters| counters.connections == 0);
    core.run(move |io| io.reply_with_receipt(from, &Ok(Response::Pong), 7));
    assert_eq!(receipts(&core, 1)[0].receipt, 7);
}
