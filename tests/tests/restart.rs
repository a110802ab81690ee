//! Processes that end, well or badly, and come back under load.

#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

use e2e::cluster::{Cluster, wait_until};
use e2e::power_disk::{Faults, PowerDisk};
use e2e::raw;
use e2e::writers::{self, Failures, Writers};
use pegasus_client::Code;
use serde_json::Value;
use std::collections::BTreeMap;
use tempfile::TempDir;

const WRITERS: usize = 12;
const DISK_BYTES: u64 = 2 << 30;

fn start(nodes: u16, cores: u16, node_options: &[&str]) -> (TempDir, Cluster) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("cluster");
    let cluster = Cluster::start_with(&path, nodes, cores, node_options).unwrap();
    (directory, cluster)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_request_fails_while_meta_is_killed_away_and_started_again() {
    let (_directory, cluster) = start(3, 1, &[]);
    cluster.create_table("t", 4, 3).unwrap();
    let table = writers::connect(cluster.meta(), "t").await.unwrap();
    let mut writers = Writers::start(&table, WRITERS);
    writers.make_progress(200).await.unwrap();
    cluster.kill("meta").unwrap();
    writers.make_progress(500).await.unwrap();
    assert!(!cluster.runs("meta"));
    cluster.start_again().unwrap();
    writers.make_progress(500).await.unwrap();
    writers.stop().await.unwrap();
    assert_eq!(writers.take_failures(), Failures::default());
    writers.verify(&table).await.unwrap();
    cluster.wait_healthy("t").unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_of_three_members_is_not_missed_and_without_two_writes_are_refused_until_they_are_back()
{
    let (_directory, cluster) = start(3, 1, &[]);
    cluster.create_table("t", 4, 3).unwrap();
    let table = writers::connect(cluster.meta(), "t").await.unwrap();
    let mut writers = Writers::start(&table, WRITERS);
    writers.make_progress(200).await.unwrap();
    cluster.kill("node-2").unwrap();
    writers.make_progress(500).await.unwrap();
    assert!(!cluster.runs("node-2"));
    let _ = writers.take_failures();
    cluster.kill("node-3").unwrap();
    wait_for_refusals(&writers, Code::NotEnoughMembers).await;
    cluster.start_again().unwrap();
    writers.make_progress(500).await.unwrap();
    writers.stop().await.unwrap();
    // Once they are back everything is as before, and nothing was lost meanwhile.
    cluster.wait_healthy("t").unwrap();
    let rows = writers.verify(&table).await.unwrap();
    assert_eq!(rows, WRITERS * 8);
}

/// Waits until each writer was refused with this code on average. Only what was under way may have an unknown outcome: at
/// most one write of a writer for each primary, because a primary may not have noticed yet when the next one has.
async fn wait_for_refusals(writers: &Writers, code: Code) {
    let mut all = Failures::default();
    let start = std::time::Instant::now();
    while all.refused(code) < WRITERS as u64 {
        assert!(start.elapsed() < e2e::cluster::PATIENCE, "{all:?}");
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        all.add(&writers.take_failures());
    }
    assert!(all.unknown <= 3 * WRITERS as u64, "{all:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_graceful_stop_under_load_leaves_only_what_was_under_way_to_replay() {
    let (_directory, cluster) = start(3, 1, &[]);
    cluster.create_table("t", 4, 3).unwrap();
    let table = writers::connect(cluster.meta(), "t").await.unwrap();
    let mut writers = Writers::start(&table, WRITERS);
    writers.make_progress(500).await.unwrap();
    cluster.stop().unwrap();
    writers.stop().await.unwrap();
    cluster.start_again().unwrap();
    cluster.wait_healthy("t").unwrap();
    for name in ["node-1", "node-2", "node-3"] {
        let log = cluster.log(name).unwrap();
        assert!(log.contains("node has stopped"), "{log}");
        // Every writer may have had a write prepared and not yet committed, or not yet known to be.
        assert!(replayed_entries(&log) <= 4 * WRITERS as u64, "{log}");
    }
    let table = writers::connect(cluster.meta(), "t").await.unwrap();
    writers.verify(&table).await.unwrap();
    writers.go_on(&table, WRITERS);
    writers.make_progress(100).await.unwrap();
    writers.stop().await.unwrap();
}

/// What the last start found in the log above what the engine had.
fn replayed_entries(log: &str) -> u64 {
    let line = log
        .lines()
        .rev()
        .find(|line| line.contains("shard is open"))
        .unwrap();
    let (_, rest) = line.split_once(" entries=").unwrap();
    rest.split_whitespace().next().unwrap().parse().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_log_of_some_hundred_megabytes_is_replayed() {
    const VALUE_BYTES: usize = 128 << 10;
    const WRITES: u64 = 2_000;
    // Memtables and partitions enough to hold it all: nothing of it is anywhere but in the log.
    let (_directory, cluster) = start(1, 1, &["--memtable-size", "1GiB"]);
    cluster.create_table("t", 64, 1).unwrap();
    let table = writers::connect(cluster.meta(), "t").await.unwrap();
    let mut writers = Writers::start_with_values(&table, WRITERS, VALUE_BYTES);
    writers.make_progress(WRITES).await.unwrap();
    cluster.kill_all().unwrap();
    writers.stop().await.unwrap();
    cluster.start_again().unwrap();
    cluster.wait_healthy("t").unwrap();
    let entries = replayed_entries(&cluster.log("node-1").unwrap());
    assert!(entries >= WRITES, "{entries} entries replayed");
    let table = writers::connect(cluster.meta(), "t").await.unwrap();
    writers.verify(&table).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_on_the_wrong_core_of_the_right_node_is_answered() {
    let (_directory, cluster) = start(3, 2, &[]);
    cluster.create_table("t", 8, 3).unwrap();
    let table = writers::connect(cluster.meta(), "t").await.unwrap();
    let nodes: Value =
        serde_json::from_str(&cluster.pegasus(&["node", "list", "--json"]).unwrap()).unwrap();
    // From a core to the other one of its node.
    let mut other = BTreeMap::new();
    for node in nodes["nodes"].as_array().unwrap() {
        let core = |index: usize| node["cores"][index]["client_address"].as_str().unwrap();
        other.insert(core(0).to_owned(), core(1).to_owned());
        other.insert(core(1).to_owned(), core(0).to_owned());
    }
    assert_eq!(other.len(), 6);
    for row in 0..32 {
        let key = format!("row-{row}");
        let partition = table.partition_of(key.as_bytes(), b"s");
        let wrong = &other[&table.primary_of(partition).unwrap()];
        let partition = (table.id(), partition);
        raw::put(wrong, partition, key.as_bytes(), b"handed over").unwrap();
        let read = raw::get(wrong, partition, key.as_bytes()).unwrap();
        assert_eq!(
            read.as_deref(),
            Some(&b"handed over"[..]),
            "{key} at {wrong}"
        );
        let read = table.get(key.as_bytes(), b"s").await.unwrap();
        assert_eq!(read.as_deref(), Some(&b"handed over"[..]), "{key}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_core_whose_log_cannot_be_flushed_is_replaced_and_serves_no_more_until_its_node_is_started_on_a_healthy_disk()
 {
    let (_directory, cluster) = start(3, 1, &[]);
    cluster.create_table("t", 4, 3).unwrap();
    cluster.stop().unwrap();
    let mut disk = PowerDisk::replace(&cluster.data_directory(1), DISK_BYTES).unwrap();
    cluster.start_again().unwrap();
    cluster.wait_healthy("t").unwrap();
    let table = writers::connect(cluster.meta(), "t").await.unwrap();
    let mut writers = Writers::start(&table, WRITERS);
    writers.make_progress(200).await.unwrap();

    disk.set_faults(Faults {
        flushes_until_eio: Some(3),
        ..Faults::default()
    });
    // The others go on without it.
    let is_out = || (0..4).all(|partition| !is_member(&cluster, partition, 1));
    wait_until("node 1 to be a member of nothing", is_out).unwrap();
    writers.make_progress(500).await.unwrap();
    let log = cluster.log("node-1").unwrap();
    assert!(
        log.contains("the log has failed, this core serves no more"),
        "{log}"
    );
    // A disk that works again changes nothing: what is on it is not known.
    disk.set_faults(Faults::default());
    writers.make_progress(500).await.unwrap();
    assert!(is_out(), "{:#}", cluster.table("t").unwrap());
    assert!(cluster.runs("node-1"));

    cluster.kill("node-1").unwrap();
    disk.cut_power(1).unwrap();
    cluster.start_again().unwrap();
    writers.make_progress(500).await.unwrap();
    writers.stop().await.unwrap();
    cluster.wait_healthy("t").unwrap();
    writers.verify(&table).await.unwrap();
    cluster.kill_all().unwrap();
}

fn is_member(cluster: &Cluster, partition: usize, node: u64) -> bool {
    let shown = cluster.table("t").unwrap();
    let partition = &shown["partitions"][partition];
    let secondaries = partition["secondaries"].as_array().unwrap();
    let mut members = std::iter::once(&partition["primary"]).chain(secondaries);
    members.any(|member| member["node"] == node)
}
