//! Disks that fill up under load, and get space again while everything runs.

#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

use e2e::cluster::{Cluster, PATIENCE};
use e2e::power_disk::PowerDisk;
use e2e::writers::{self, Failures, Writers};
use pegasus_client::{Code, Execution, Table};
use std::time::{Duration, Instant};
use tempfile::TempDir;

const WRITERS: usize = 8;
const DISK_BYTES: u64 = 1 << 30;
const NAMES: [&str; 4] = ["meta", "node-1", "node-2", "node-3"];

/// Three nodes, node 1 on a disk that can be full; free space is looked at often.
async fn start(disk_options: &str) -> (TempDir, PowerDisk, Table, Cluster) {
    let directory = tempfile::tempdir().unwrap();
    let config = directory.path().join("node.toml");
    let settings = format!(
        "[process.log]\nsegment = '4 MiB'\nbudget = '32 MiB'\n\
         [process.memory]\nmemtables = '8 MiB'\n\
         [process.disk]\ncheck_period_ms = 50\n{disk_options}"
    );
    std::fs::write(&config, settings).unwrap();
    let options = ["--config", config.to_str().unwrap()];
    let path = directory.path().join("cluster");
    let cluster = Cluster::start_with(&path, 3, 1, &options).unwrap();
    cluster.create_table("t", 4, 3).unwrap();
    cluster.stop().unwrap();
    let disk = PowerDisk::replace(&cluster.data_directory(1), DISK_BYTES).unwrap();
    cluster.start_again().unwrap();
    cluster.wait_healthy("t").unwrap();
    let table = writers::connect(cluster.meta(), "t").await.unwrap();
    (directory, disk, table, cluster)
}

/// Waits until no write gets through any more and every writer was told that the disk is full.
async fn wait_until_full(writers: &Writers) -> Failures {
    let (start, mut all) = (Instant::now(), Failures::default());
    loop {
        let before = writers.acknowledged();
        tokio::time::sleep(Duration::from_millis(100)).await;
        all.add(&writers.take_failures());
        let is_quiet = writers.acknowledged() == before;
        if is_quiet && all.refused(Code::DiskFull) >= WRITERS as u64 {
            return all;
        }
        assert!(start.elapsed() < PATIENCE, "{all:?}");
    }
}

/// A write to each partition is refused and not executed, because the disk is full; its rows are read.
async fn assert_full(table: &Table) {
    let table = table.with_timeout(Duration::from_millis(500));
    let mut partitions: Vec<u32> = (0..table.partition_count()).collect();
    for number in 0.. {
        let key = format!("full-{number}");
        let partition = table.partition_of(key.as_bytes(), b"s");
        let Some(at) = partitions.iter().position(|other| *other == partition) else {
            continue;
        };
        partitions.swap_remove(at);
        let error = table.put(key.as_bytes(), b"s", b"x").await.unwrap_err();
        let found = (error.code(), error.execution());
        assert_eq!(
            found,
            (Some(Code::DiskFull), Execution::NotExecuted),
            "partition {partition}: {error}"
        );
        assert_eq!(table.get(key.as_bytes(), b"s").await.unwrap(), None);
        if partitions.is_empty() {
            return;
        }
    }
}

fn assert_all_run(cluster: &Cluster, pids: &[i32]) {
    for (name, pid) in NAMES.iter().zip(pids) {
        assert!(cluster.runs(name), "{name}: {}", cluster.last_log_lines());
        assert_eq!(cluster.pid(name).unwrap(), *pid, "{name} was started again");
    }
}

fn pids(cluster: &Cluster) -> Vec<i32> {
    NAMES.map(|name| cluster.pid(name).unwrap()).into()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn over_the_watermark_writes_are_refused_reads_go_on_and_both_go_on_below_it() {
    let (_directory, disk, table, cluster) = start("reserve = '64 MiB'\n").await;
    let pids = pids(&cluster);
    let mut writers = Writers::start(&table, WRITERS);
    writers.make_progress(200).await.unwrap();

    // Somebody else's file takes what was free, but for less than the reserve.
    disk.set_capacity(disk.used() + (40 << 20));
    let failures = wait_until_full(&writers).await;
    assert_eq!(failures.unknown, 0, "{failures:?}");
    assert_full(&table).await;
    writers.stop().await.unwrap();
    writers.verify(&table).await.unwrap();
    let failures = writers.take_failures();
    assert_eq!(failures.unknown, 0, "{failures:?}");

    disk.set_capacity(DISK_BYTES);
    writers.go_on(&table, WRITERS);
    writers.make_progress(200).await.unwrap();
    writers.stop().await.unwrap();
    writers.verify(&table).await.unwrap();
    assert_all_run(&cluster, &pids);
    cluster.kill_all().unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_disk_without_any_space_stops_writes_only_and_they_resume_without_a_restart() {
    // No reserve: the log and the database run into the end of the disk.
    let (_directory, disk, table, cluster) =
        start("reserve = '1 B'\nrefuse_percent = 100\nresume_percent = 99\n").await;
    let pids = pids(&cluster);
    let mut writers = Writers::start_with_values(&table, WRITERS, 32 << 10);
    writers.make_progress(300).await.unwrap();
    for round in 0..3 {
        // Not even what is in memory now can be flushed.
        disk.set_capacity(disk.used() + (1 << 20) * round);
        wait_until_full(&writers).await;
        // What a failed segment or flush gives back may let a small write in now and then; reads always go on.
        for number in 0..16 {
            let key = format!("absent-{number}");
            assert_eq!(table.get(key.as_bytes(), b"s").await.unwrap(), None);
        }
        assert_all_run(&cluster, &pids);
        disk.set_capacity(DISK_BYTES);
        writers.make_progress(300).await.unwrap();
    }
    writers.stop().await.unwrap();
    writers.verify(&table).await.unwrap();
    assert_all_run(&cluster, &pids);
    let log = cluster.log("node-1").unwrap();
    assert!(log.contains("No space left on device"), "{log}");

    // And all of it survives.
    cluster.kill_all().unwrap();
    cluster.start_again().unwrap();
    cluster.wait_healthy("t").unwrap();
    let table = writers::connect(cluster.meta(), "t").await.unwrap();
    writers.verify(&table).await.unwrap();
    cluster.kill_all().unwrap();
}
