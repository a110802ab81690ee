//! What a cluster goes through while clients remember all they were told: each scenario prints how they fared.
//!
//! Four of them run with the other tests, the rest by `make soak`.

#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

use e2e::cluster::{Cluster, Launch, Options, wait_until};
use e2e::has_root;
use e2e::network::Network;
use e2e::power_disk::{Faults, PowerDisk};
use e2e::verified::{Load, Stragglers, Verified};
use rustix::process::Signal;
use std::time::{Duration, Instant};
use tempfile::TempDir;

const TABLE: &str = "t";
const PARTITIONS: u32 = 8;
const DISK_BYTES: u64 = 1 << 30;
/// Heals soon, for tests in which a copy is lost for good.
const SOON: &[&str] = &["--heal-delay-ms=1000"];

fn start(options: Options<'_>) -> (TempDir, Cluster) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("cluster");
    let cluster = Cluster::start_options(&path, 3, 1, options).unwrap();
    cluster.create_table(TABLE, PARTITIONS, 3).unwrap();
    (directory, cluster)
}

fn clients(cluster: &Cluster) -> Verified {
    let mut load = Load::on(cluster.meta(), TABLE);
    load.namespace = cluster.clients().cloned();
    Verified::start(load).unwrap()
}

/// All partitions whole, all clients served: the end of every scenario.
fn finish(cluster: &Cluster, clients: Verified, scenario: &str) {
    cluster.wait_healthy(TABLE).unwrap();
    let report = clients.finish(scenario).unwrap();
    if let Err(error) = report.check() {
        panic!("{error:#}\n{}", cluster.last_log_lines());
    }
}

fn node(number: u16) -> String {
    format!("node-{number}")
}

/// Waits until nobody has a primary on this node as far as meta knows.
fn wait_until_replaced(cluster: &Cluster, victim: u16) {
    let is_replaced = || {
        cluster
            .led(TABLE)
            .is_ok_and(|led| !led.contains_key(&victim))
    };
    wait_until("the primaries to be replaced", is_replaced)
        .unwrap_or_else(|error| panic!("{error:#}\n{}", cluster.last_log_lines()));
}

#[test]
fn a_killed_node_is_replaced_and_catches_up_when_it_is_back() {
    let (_directory, cluster) = start(Options::default());
    let clients = clients(&cluster);
    let (victim, led) = cluster.busiest(TABLE).unwrap();
    let since = Instant::now();
    cluster.kill(&node(victim)).unwrap();
    clients.wait_for_writes(since, &led).unwrap();
    clients.make_progress(500).unwrap();
    wait_until_replaced(&cluster, victim);
    cluster.start_again().unwrap();
    finish(
        &cluster,
        clients,
        "a node with primaries is killed, and returns",
    );
}

#[test]
fn a_primary_that_was_stopped_for_longer_than_its_lease_answers_nothing_stale() {
    let (_directory, cluster) = start(Options::default());
    let clients = clients(&cluster);
    let (victim, led) = cluster.busiest(TABLE).unwrap();
    let address = client_address(&cluster, led[0]);
    let since = Instant::now();
    cluster.signal(&node(victim), Signal::STOP).unwrap();
    clients.wait_for_writes(since, &led).unwrap();
    // These wait in its sockets, and were sent after newer values had been acknowledged by others.
    let stragglers = Stragglers::start(&clients, &address, &led).unwrap();
    stragglers.wait_for_requests().unwrap();
    clients.make_progress(500).unwrap();
    cluster.signal(&node(victim), Signal::CONT).unwrap();
    clients.make_progress(500).unwrap();
    wait_until_replaced(&cluster, victim);
    let asked = stragglers.finish().unwrap();
    assert!(asked.asked > 0, "{asked:?}");
    finish(
        &cluster,
        clients,
        "a node with primaries is stopped (SIGSTOP), and goes on",
    );
}

/// Where clients reach the primary of a partition.
fn client_address(cluster: &Cluster, partition: u32) -> String {
    let shown = cluster.table(TABLE).unwrap();
    let primary = &shown["partitions"][partition as usize]["primary"];
    primary["address"].as_str().unwrap().to_owned()
}

#[test]
fn a_primary_that_is_cut_off_from_its_group_is_replaced_and_answers_nothing_stale() {
    const NAME: &str =
        "a_primary_that_is_cut_off_from_its_group_is_replaced_and_answers_nothing_stale";
    if !has_root(NAME) {
        return;
    }
    // Three nodes, meta, clients.
    let network = Network::new(5).unwrap();
    let meta = 4;
    let directory = tempfile::tempdir().unwrap();
    let cluster = Cluster::start_on(&network, &directory.path().join("cluster"), 3).unwrap();
    cluster.create_table(TABLE, PARTITIONS, 3).unwrap();
    let clients = clients(&cluster);

    // The second time it hears nothing from meta either: only clients reach it, and its lease is all that stops it.
    for with_meta in [false, true] {
        let (victim, led) = cluster.busiest(TABLE).unwrap();
        let address = client_address(&cluster, led[0]);
        let victim_machine = usize::from(victim);
        let mut others: Vec<usize> = (1..=3).filter(|other| *other != victim_machine).collect();
        others.extend(with_meta.then_some(meta));
        let stragglers = Stragglers::start(&clients, &address, &led).unwrap();
        let since = Instant::now();
        for other in &others {
            network.cut(victim_machine, *other).unwrap();
        }
        clients.wait_for_writes(since, &led).unwrap();
        clients.make_progress(500).unwrap();
        wait_until_replaced(&cluster, victim);
        for other in &others {
            network.join(victim_machine, *other).unwrap();
        }
        clients.make_progress(500).unwrap();
        stragglers.finish().unwrap();
        cluster.wait_healthy(TABLE).unwrap();
    }
    finish(
        &cluster,
        clients,
        "the network between a node with primaries and the others is cut, then also that to meta",
    );
}

#[test]
fn a_primary_that_dies_while_meta_is_away_is_replaced_once_meta_is_back() {
    let (_directory, cluster) = start(Options::default());
    let clients = clients(&cluster);
    let (victim, led) = cluster.busiest(TABLE).unwrap();
    let meta = cluster.launch("meta").unwrap();
    cluster.kill("meta").unwrap();
    clients.make_progress(500).unwrap();
    cluster.kill(&node(victim)).unwrap();
    let since = Instant::now();
    meta.start().unwrap();
    clients.wait_for_writes(since, &led).unwrap();
    clients.make_progress(500).unwrap();
    cluster.start_again().unwrap();
    finish(
        &cluster,
        clients,
        "meta is killed, a node with primaries dies, meta returns",
    );
}

#[test]
#[ignore = "run by `make soak`"]
fn everything_killed_at_once_comes_back_in_any_order() {
    let (_directory, cluster) = start(Options::default());
    let mut clients = clients(&cluster);
    let launches = ["meta", "node-1", "node-2", "node-3"].map(|name| cluster.launch(name).unwrap());
    let orders = [[3, 2, 1, 0], [1, 0, 3, 2], [2, 3, 0, 1]];
    for order in orders {
        clients.make_progress(500).unwrap();
        cluster.kill_all().unwrap();
        clients.pause().unwrap();
        for (before, index) in order.into_iter().enumerate() {
            let launch: &Launch = &launches[index];
            launch.start().unwrap();
            wait_until("the process to be there", || cluster.runs(launch.name())).unwrap();
            // Each has a while for itself before the next one comes: longer than it takes to ask to take over.
            let alone = Duration::from_millis(700 * u64::from(before == 0));
            std::thread::sleep(alone);
        }
        cluster.wait_healthy(TABLE).unwrap();
        clients.go_on().unwrap();
        clients.wait_for_all_partitions().unwrap();
    }
    finish(
        &cluster,
        clients,
        "everything is killed at once and started in another order, three times",
    );
}

#[test]
#[ignore = "run by `make soak`"]
fn a_full_disk_of_one_node_stops_no_reads_and_writes_resume_with_its_space() {
    if !has_root("a_full_disk_of_one_node_stops_no_reads_and_writes_resume_with_its_space") {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let config = directory.path().join("node.toml");
    let settings = "[process.log]\nsegment = '4 MiB'\nbudget = '32 MiB'\n\
         [process.memory]\nmemtables = '8 MiB'\n\
         [process.disk]\ncheck_period_ms = 50\nreserve = '64 MiB'\n";
    std::fs::write(&config, settings).unwrap();
    let node_options = ["--config", config.to_str().unwrap()];
    let options = Options {
        node: &node_options,
        meta: &[],
        ..Options::default()
    };
    let (_directory, cluster) = start(options);
    let disk = on_power_disk(&cluster, 1);
    let clients = clients(&cluster);
    disk.set_capacity(disk.used() + (40 << 20));
    // Reads go on meanwhile; writes are refused, because the full node stays a member.
    clients.make_progress(5_000).unwrap();
    disk.set_capacity(DISK_BYTES);
    clients.wait_for_all_partitions().unwrap();
    finish(
        &cluster,
        clients,
        "the disk of one node is full for a while",
    );
    cluster.kill_all().unwrap();
}

/// Moves the data of a node onto a disk of ours.
fn on_power_disk(cluster: &Cluster, number: u16) -> PowerDisk {
    cluster.stop().unwrap();
    let disk = PowerDisk::replace(&cluster.data_directory(number), DISK_BYTES).unwrap();
    cluster.start_again().unwrap();
    cluster.wait_healthy(TABLE).unwrap();
    disk
}

#[test]
#[ignore = "run by `make soak`"]
fn a_node_whose_disk_is_slow_leaves_its_groups_and_comes_back() {
    if !has_root("a_node_whose_disk_is_slow_leaves_its_groups_and_comes_back") {
        return;
    }
    let (_directory, cluster) = start(Options::default());
    let disk = on_power_disk(&cluster, 1);
    let clients = clients(&cluster);
    let slow = Faults {
        flush_delay: Duration::from_secs(2),
        ..Faults::default()
    };
    disk.set_faults(slow);
    wait_until_left(&cluster, 1);
    clients.wait_for_all_partitions().unwrap();
    clients.make_progress(500).unwrap();
    disk.set_faults(Faults::default());
    finish(
        &cluster,
        clients,
        "the disk of one node takes 2 s for a flush for a while",
    );
    cluster.kill_all().unwrap();
}

/// Waits until the node is a secondary of no partition that it does not lead.
fn wait_until_left(cluster: &Cluster, number: u16) {
    let has_left = || {
        cluster.table(TABLE).is_ok_and(|shown| {
            let partitions = shown["partitions"].as_array().unwrap().iter();
            let mut followed = partitions.filter(|partition| {
                let secondaries = partition["secondaries"].as_array().unwrap();
                secondaries.iter().any(|member| member["node"] == number)
            });
            followed.next().is_none()
        })
    };
    wait_until("the node to leave its groups", has_left)
        .unwrap_or_else(|error| panic!("{error:#}\n{}", cluster.last_log_lines()));
}

#[test]
#[ignore = "run by `make soak`"]
fn a_wiped_node_heals_unattended() {
    let options = Options {
        node: &[],
        meta: SOON,
        ..Options::default()
    };
    let (_directory, cluster) = start(options);
    let clients = clients(&cluster);
    cluster.kill("node-1").unwrap();
    let shard = cluster.data_directory(1).join("shard-00");
    std::fs::remove_dir_all(&shard).unwrap();
    cluster.start_again().unwrap();
    finish(
        &cluster,
        clients,
        "a node loses its disk and is started again empty",
    );
}
