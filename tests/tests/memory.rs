//! What replicas and connections cost a node: bounds that are far above what is measured, so that only a leak or a new buffer for each of them fails.

#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use e2e::cluster::{Cluster, wait_until};
use std::io::{Read as _, Write as _};
use std::net::TcpStream;

const REPLICAS: u64 = 64;
const CONNECTIONS: u64 = 400;
const KIB_PER_REPLICA_MAX: u64 = 768;
const KIB_PER_CONNECTION_MAX: u64 = 32;

/// Resident memory of a process in KiB.
fn resident_kib(process: i32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).unwrap();
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))
        .unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

fn client_address(cluster: &Cluster) -> String {
    let nodes = cluster.pegasus(&["node", "list", "--json"]).unwrap();
    let nodes: serde_json::Value = serde_json::from_str(&nodes).unwrap();
    let address = nodes.pointer("/nodes/0/cores/0/client_address");
    address
        .and_then(serde_json::Value::as_str)
        .unwrap_or_else(|| panic!("{nodes}"))
        .to_owned()
}

/// A client that has been answered once, so that everything a connection ever needs was there.
fn connected(address: &str) -> TcpStream {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.write_all(b"PING\r\n").unwrap();
    let mut answer = [0; 7];
    stream.read_exact(&mut answer).unwrap();
    assert_eq!(&answer, b"+PONG\r\n");
    stream
}

#[test]
fn replicas_and_connections_take_bounded_memory() {
    let dir = tempfile::tempdir().unwrap();
    let cluster = Cluster::start(dir.path(), 1, 1).unwrap();
    let process = cluster.pid("node-1").unwrap();
    cluster.create_table("small", 4, 1).unwrap();
    let before = resident_kib(process);
    cluster
        .create_table("wide", u32::try_from(REPLICAS).unwrap(), 1)
        .unwrap();
    let with_replicas = resident_kib(process);
    let each = with_replicas.saturating_sub(before) / REPLICAS;
    assert!(each <= KIB_PER_REPLICA_MAX, "{each} KiB for each replica");

    let address = client_address(&cluster);
    let streams: Vec<TcpStream> = (0..CONNECTIONS).map(|_| connected(&address)).collect();
    let with_connections = resident_kib(process);
    let each = with_connections.saturating_sub(with_replicas) / CONNECTIONS;
    assert!(
        each <= KIB_PER_CONNECTION_MAX,
        "{each} KiB for each connection"
    );
    drop(streams);
    // What connections had is used again by the next ones.
    wait_until(
        "connections are closed and opened again within the same memory",
        || {
            let streams: Vec<TcpStream> = (0..CONNECTIONS).map(|_| connected(&address)).collect();
            let grown = resident_kib(process).saturating_sub(with_connections);
            drop(streams);
            grown / CONNECTIONS <= 4
        },
    )
    .unwrap();
}
