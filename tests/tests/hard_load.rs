//! Load that is no fault of anybody's: clients that do not read, large rows among small ones, a disk that gets slow.

#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

use bytes::Bytes;
use e2e::cluster::{Cluster, wait_until};
use e2e::has_root;
use e2e::power_disk::{Faults, PowerDisk};
use e2e::writers::{self, Writers};
use std::fs;
use std::io::{ErrorKind, Write};
use std::net::TcpStream;
use std::time::Duration;

const DISK_BYTES: u64 = 4 << 30;
/// Resident memory of a node may grow by this much because of one client: its window of answers, and some.
const GROWTH_BYTES_MAX: u64 = 96 << 20;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_asks_a_hundred_thousand_times_and_reads_nothing_costs_little() {
    const REQUESTS: usize = 100_000;
    const VALUE_BYTES: usize = 100_000;
    let directory = tempfile::tempdir().unwrap();
    let cluster = Cluster::start(&directory.path().join("c"), 1, 1).unwrap();
    cluster.create_table("redis", 2, 1).unwrap();
    let table = writers::connect(cluster.meta(), "redis").await.unwrap();
    table
        .put(b"large", b"", &[b'x'; VALUE_BYTES])
        .await
        .unwrap();
    let before = resident_bytes(&cluster);

    let mut client = TcpStream::connect(client_address(&cluster)).unwrap();
    client.set_nonblocking(true).unwrap();
    let line = b"GET large\r\n";
    let requests = line.repeat(REQUESTS);
    let mut sent = 0;
    wait_until("the node to stop reading", || {
        while sent < requests.len() {
            match client.write(&requests[sent..]) {
                Ok(bytes) => sent += bytes,
                Err(error) => {
                    assert_eq!(error.kind(), ErrorKind::WouldBlock);
                    break;
                }
            }
        }
        // Everybody else is served meanwhile.
        cluster
            .pegasus(&["set", "redis", "small", "s", "x"])
            .is_ok()
            && (sent == requests.len() || cluster.pegasus(&["get", "redis", "small", "s"]).is_ok())
    })
    .unwrap();
    for _ in 0..20 {
        table.put(b"small", b"s", b"y").await.unwrap();
        let grown = resident_bytes(&cluster).saturating_sub(before);
        assert!(grown < GROWTH_BYTES_MAX, "grown by {grown} bytes");
    }
    drop(client);
    cluster.stop().unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rows_of_a_mebibyte_and_of_sixteen_bytes_live_side_by_side() {
    let directory = tempfile::tempdir().unwrap();
    let cluster = Cluster::start(&directory.path().join("c"), 3, 1).unwrap();
    cluster.create_table("mixed", 4, 3).unwrap();
    let large = writers::connect(cluster.meta(), "mixed").await.unwrap();
    let small = large.clone();
    let of_size = |number: u8, bytes: usize| Bytes::from(vec![number; bytes]);
    // The frame counts, too.
    const LARGE: usize = (1 << 20) - 4096;
    let large_rows = tokio::spawn(async move {
        for number in 0..40_u8 {
            let key = format!("large{number}");
            let value = of_size(number, LARGE);
            large.put(key.as_bytes(), b"s", &value).await.unwrap();
            let found = large.get(key.as_bytes(), b"s").await.unwrap();
            assert_eq!(found, Some(value));
        }
    });
    let mut count = 0_u32;
    while !large_rows.is_finished() || count < 1000 {
        let number = count.to_le_bytes()[0];
        let key = format!("small{}", count % 500);
        let value = of_size(number, 16);
        small.put(key.as_bytes(), b"s", &value).await.unwrap();
        let found = small.get(key.as_bytes(), b"s").await.unwrap();
        assert_eq!(found, Some(value));
        count += 1;
    }
    large_rows.await.unwrap();
    cluster.stop().unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_disk_that_becomes_much_slower_slows_writes_down_and_loses_none() {
    if !has_root("a_disk_that_becomes_much_slower_slows_writes_down_and_loses_none") {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let cluster = Cluster::start(&directory.path().join("c"), 3, 1).unwrap();
    cluster.create_table("ledger", 8, 3).unwrap();
    cluster.stop().unwrap();
    let data = |name: &str| cluster.directory().join(name).join("data");
    let disks = ["node-1", "node-2", "node-3"]
        .map(|name| PowerDisk::replace(&data(name), DISK_BYTES).unwrap());
    cluster.start_again().unwrap();
    cluster.wait_healthy("ledger").unwrap();
    let table = writers::connect(cluster.meta(), "ledger").await.unwrap();
    let mut writers = Writers::start(&table, 24);
    writers.make_progress(500).await.unwrap();
    let slow = |flush_delay| Faults {
        flush_delay,
        ..Faults::default()
    };
    // All of them, and then one of them so much that the others do better without it.
    disks
        .iter()
        .for_each(|disk| disk.set_faults(slow(Duration::from_millis(30))));
    writers.make_progress(500).await.unwrap();
    disks[0].set_faults(slow(Duration::from_secs(3)));
    disks[1..]
        .iter()
        .for_each(|disk| disk.set_faults(Faults::default()));
    writers.make_progress(500).await.unwrap();
    disks[0].set_faults(Faults::default());
    writers.make_progress(500).await.unwrap();
    writers.stop().await.unwrap();
    let rows = writers.verify(&table).await.unwrap();
    assert!(rows > 0);
    cluster.wait_healthy("ledger").unwrap();
    cluster.kill_all().unwrap();
}

fn client_address(cluster: &Cluster) -> String {
    let nodes = cluster.pegasus(&["node", "list", "--json"]).unwrap();
    let nodes: serde_json::Value = serde_json::from_str(&nodes).unwrap();
    let address = &nodes["nodes"][0]["cores"][0]["client_address"];
    address.as_str().unwrap().to_owned()
}

fn resident_bytes(cluster: &Cluster) -> u64 {
    let pid = cluster.pid("node-1").unwrap();
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:"));
    let kib = line.unwrap().split_whitespace().nth(1).unwrap();
    kib.parse::<u64>().unwrap() << 10
}
