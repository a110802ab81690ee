use crate::harness::{Core, options};
use crate::protocol::get;
use bytes::Bytes;
use pegasus_net::NetOptions;
use pegasus_net::counters::CloseReason;
use pegasus_net::request::Response;
use std::io::Write;
use std::sync::mpsc::channel;

#[test]
fn a_full_window_stops_reading_until_answers_are_given() {
    let (hand, held) = channel();
    let core = Core::start(
        NetOptions {
            requests_inflight_max: 10,
            ..options()
        },
        move |_, from, _| {
            hand.send(from).unwrap();
        },
    );
    let mut client = core.connect();
    let batch: Vec<u8> = (0..100).flat_map(|id| get(id, "key")).collect();
    client.send(&batch);
    core.wait_for("a full window", |counters| counters.window_full > 0);
    assert_eq!(core.counters().requests, 10);
    for id in 0..100 {
        let from = held.recv().unwrap();
        core.run(move |io| io.reply(from, &Ok(Response::Value(Bytes::new()))));
        assert_eq!(client.receive().unwrap().header.request_id, id);
    }
}

#[test]
fn the_window_counts_bytes_too() {
    let (hand, held) = channel();
    let options = NetOptions {
        request_bytes_inflight_max: 1000,
        ..options()
    };
    let core = Core::start(options, move |_, from, _| hand.send(from).unwrap());
    let mut client = core.connect();
    let request = get(1, &"k".repeat(600));
    for _ in 0..5 {
        client.send(&request);
    }
    core.wait_for("a full window", |counters| counters.window_full > 0);
    assert_eq!(core.counters().requests, 2);
    drop(held);
}

#[test]
fn bytes_of_requests_are_counted_until_they_are_answered_or_their_connection_is_gone() {
    let (hand, held) = channel();
    let core = Core::start(options(), move |_, from, _| hand.send(from).unwrap());
    let mut client = core.connect();
    for _ in 0..3 {
        client.send(&get(1, &"k".repeat(600)));
    }
    core.wait_for("three requests", |counters| counters.requests == 3);
    let bytes = core.counters().request_bytes_inflight;
    assert!((1800..3000).contains(&bytes), "{bytes}");
    // With a reset: a client that only has nothing more to say is still answered.
    let at_once = Some(std::time::Duration::ZERO);
    socket2::SockRef::from(&client.stream)
        .set_linger(at_once)
        .unwrap();
    drop(client);
    core.wait_for("nothing in work for anybody", |counters| {
        counters.connections == 0 && counters.request_bytes_inflight == 0
    });
    drop(held);
}

#[test]
fn a_client_that_does_not_read_is_paused_then_its_sender_blocks_and_memory_stays_bounded() {
    let value = Bytes::from(vec![1; 64 << 10]);
    let core = Core::start(options(), move |io, from, _| {
        io.reply(from, &Ok(Response::Value(value.clone())))
    });
    let mut client = core.connect();
    client.stream.set_nonblocking(true).unwrap();
    let request = get(1, &"k".repeat(1000));
    // Socket buffers hold a few MiB; the rest must wait on our side.
    let mut sent = 0;
    core.wait_for("a pause", |counters| {
        while sent < 20_000 && client.stream.write(&request).is_ok() {
            sent += 1;
        }
        counters.window_full > 0
    });
    let counters = core.counters();
    assert!(counters.output_bytes_queued < 20 << 20, "{counters:?}");
    assert_eq!(counters.closed(CloseReason::SlowReader), 0);
    assert_eq!(counters.connections, 1);
}

#[test]
fn a_reader_too_slow_for_the_output_bound_is_closed_and_counted() {
    let (hand, held) = channel();
    let options = NetOptions {
        output_bytes_max: 8 << 20,
        ..options()
    };
    let core = Core::start(options, move |_, from, _| hand.send(from).unwrap());
    let mut client = core.connect();
    let batch: Vec<u8> = (0..32).flat_map(|id| get(id, "key")).collect();
    client.send(&batch);
    let replies: Vec<_> = (0..32).map(|_| held.recv().unwrap()).collect();
    core.run(move |io| {
        let value = Ok(Response::Value(Bytes::from(vec![1; 1 << 20])));
        for from in replies {
            io.reply(from, &value);
        }
    });
    let counters = core.wait_for("the close", |counters| {
        counters.closed(CloseReason::SlowReader) == 1
    });
    assert!(counters.output_bytes_queued <= 9 << 20);
    core.wait_for("its memory back", |counters| {
        counters.connections == 0 && counters.output_bytes_queued == 0
    });
}

#[test]
fn all_connections_together_are_bounded_too() {
    let value = Bytes::from(vec![1; 1 << 20]);
    let options = NetOptions {
        output_bytes_total_max: 16 << 20,
        requests_inflight_max: 64,
        ..options()
    };
    let (hand, held) = channel();
    let core = Core::start(options, move |_, from, _| hand.send(from).unwrap());
    let mut clients: Vec<_> = (0..4).map(|_| core.connect()).collect();
    for client in &mut clients {
        let batch: Vec<u8> = (0..8).flat_map(|id| get(id, "key")).collect();
        client.send(&batch);
    }
    let replies: Vec<_> = (0..32).map(|_| held.recv().unwrap()).collect();
    core.run(move |io| {
        for from in replies {
            io.reply(from, &Ok(Response::Value(value.clone())));
            assert!(io.counters().output_bytes_queued <= 17 << 20);
        }
    });
    assert!(core.counters().closed(CloseReason::SlowReader) > 0);
}

#[test]
fn unfinished_requests_of_all_clients_together_are_bounded() {
    let core = Core::start(
        NetOptions {
            input_bytes_total_max: 1 << 20,
            ..options()
        },
        |_, _, _| (),
    );
    let mut request = get(1, &"k".repeat(500_000 / 8));
    request.truncate(request.len() - 1);
    let mut clients: Vec<_> = (0..40).map(|_| core.connect()).collect();
    for client in &mut clients {
        // The core may close it while it is being written.
        let _ = client.stream.write_all(&request);
    }
    let counters = core.wait_for("a close", |counters| {
        counters.closed(CloseReason::TooMuchInput) > 0
    });
    assert!(counters.input_bytes_kept <= 1 << 20, "{counters:?}");
    drop(clients);
    core.wait_for("all memory back", |counters| {
        counters.connections == 0 && counters.input_bytes_kept == 0
    });
}
