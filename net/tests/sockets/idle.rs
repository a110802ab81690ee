//! What connections cost that are there and do nothing.

use crate::harness::{Client, Core};
use pegasus_fbs::code::Code;
use pegasus_net::NetOptions;
use pegasus_net::request::Failure;

/// Bytes of memory for each of ten thousand connections, the other side's included, as it is in this process.
const BYTES_MAX: usize = 32 << 10;
const COUNT: usize = 4_000;

#[test]
fn idle_connections_of_every_protocol_cost_little() {
    let core = Core::start(NetOptions::default(), |io, to, _| {
        io.reply(to, &Err(Failure::new(Code::NotHere, "")));
    });
    let get = pegasus_thrift_get();
    let streams: [&[u8]; 3] = [
        b"GET /version HTTP/1.1\r\n\r\n",
        &get,
        // Part of a request.
        &get[..20],
    ];
    let connect = |index: usize| {
        let mut client = Client::connect(core.clients);
        client.send(streams[index % streams.len()]);
        client
    };
    let mut clients: Vec<_> = (0..300).map(connect).collect();
    let settled = |count: usize| {
        let requests = (0..count).filter(|index| index % streams.len() < 2).count() as u64;
        core.wait_for("all connections", |counters| {
            counters.connections == count as u64 && counters.requests == requests
        });
    };
    settled(clients.len());
    let before = resident_bytes();
    clients.extend((clients.len()..COUNT).map(connect));
    settled(COUNT);
    let each = resident_bytes().saturating_sub(before) / (COUNT - 300);
    assert!(each < BYTES_MAX, "{each} bytes for each idle connection");
}

fn pegasus_thrift_get() -> Vec<u8> {
    let mut bytes = Vec::new();
    let header = pegasus_thrift::frame::thft::Header {
        app_id: 2,
        ..pegasus_thrift::frame::thft::Header::default()
    };
    pegasus_thrift::data::Request::Get(b"\0\x01k").encode_thft(&header, 1, &mut bytes);
    bytes
}

fn resident_bytes() -> usize {
    let pages = std::fs::read_to_string("/proc/self/statm").unwrap();
    let pages: usize = pages.split(' ').nth(1).unwrap().parse().unwrap();
    pages * rustix::param::page_size()
}
