//! The power goes for all nodes at once, on disks that forget what was not flushed.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test stops at the first surprise and says how far it came"
)]

use e2e::cluster::Cluster;
use e2e::has_root;
use e2e::power_disk::{Faults, PowerDisk};
use e2e::writers::{self, Writers};
use std::path::Path;

const DISK_BYTES: u64 = 4 << 30;
const WRITERS: usize = 24;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_acknowledged_write_is_lost_over_five_power_cuts() {
    survive_power_cuts(5).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "takes minutes: run by `make soak`"]
async fn no_acknowledged_write_is_lost_over_twenty_power_cuts() {
    survive_power_cuts(20).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn flushes_that_flush_nothing_are_noticed() {
    if !has_root("flushes_that_flush_nothing_are_noticed") {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let (cluster, mut disks) = cluster_on_power_disks(&directory.path().join("cluster"));
    let table = writers::connect(cluster.meta(), "ledger").await.unwrap();
    let lying = Faults {
        flushes_lie: true,
        ..Faults::default()
    };
    disks.iter().for_each(|disk| disk.set_faults(lying.clone()));
    let mut writers = Writers::start(&table, WRITERS);
    writers.make_progress(500).await.unwrap();
    disks.iter().for_each(PowerDisk::freeze);
    cluster.kill_all().unwrap();
    writers.stop().await.unwrap();
    for disk in &mut disks {
        disk.cut_power_losing_everything().unwrap();
    }
    cluster.start_again().unwrap();
    cluster.wait_healthy("ledger").unwrap();
    let table = writers::connect(cluster.meta(), "ledger").await.unwrap();
    let noticed = writers.verify(&table).await;
    assert!(noticed.is_err(), "lost writes went unnoticed");
}

fn cluster_on_power_disks(directory: &Path) -> (Cluster, Vec<PowerDisk>) {
    let cluster = Cluster::start(directory, 3, 1).unwrap();
    cluster.create_table("ledger", 8, 3).unwrap();
    cluster.stop().unwrap();
    let data = |name: &str| cluster.directory().join(name).join("data");
    let names = ["meta", "node-1", "node-2", "node-3"];
    let disks = names.map(|name| PowerDisk::replace(&data(name), DISK_BYTES).unwrap());
    cluster.start_again().unwrap();
    cluster.wait_healthy("ledger").unwrap();
    (cluster, disks.into())
}

async fn survive_power_cuts(rounds: u64) {
    if !has_root("survive_power_cuts") {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let (cluster, mut disks) = cluster_on_power_disks(&directory.path().join("cluster"));
    let table = writers::connect(cluster.meta(), "ledger").await.unwrap();
    let mut writers = Writers::start(&table, WRITERS);
    for round in 0..rounds {
        writers.make_progress(500 + 137 * round).await.unwrap();
        disks.iter().for_each(PowerDisk::freeze);
        cluster.kill_all().unwrap();
        writers.stop().await.unwrap();
        for (number, disk) in disks.iter_mut().enumerate() {
            disk.cut_power(1_000 * round + number as u64).unwrap();
        }
        cluster.start_again().unwrap();
        cluster.wait_healthy("ledger").unwrap();
        let table = writers::connect(cluster.meta(), "ledger").await.unwrap();
        let rows = writers
            .verify(&table)
            .await
            .unwrap_or_else(|error| panic!("power cut {round}: {error:#}"));
        let lost: u64 = disks.iter().map(|disk| disk.totals().writes_lost).sum();
        println!(
            "power cut {round}: {} writes acknowledged, {rows} rows whole; {lost} unflushed disk writes lost so far",
            writers.acknowledged()
        );
        writers.go_on(&table, WRITERS);
    }
    writers.stop().await.unwrap();
    // A cut that found nothing unflushed anywhere would not have tested anything.
    assert!(disks.iter().any(|disk| disk.totals().writes_lost > 0));
    cluster.kill_all().unwrap();
}
