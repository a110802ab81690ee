//! Measurements, by hand: `make failover`. How long a killed primary is missed, and that nobody is taken for dead who is only busy.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a measurement stops at the first surprise and prints what it found"
)]

use e2e::cluster::{Cluster, program, wait_until};
use e2e::verified::{Load, Verified};
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use rustix::process::Signal;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

const TABLE: &str = "t";
const PARTITIONS: u32 = 16;

fn start(directory: &tempfile::TempDir) -> Cluster {
    let cluster = Cluster::start(&directory.path().join("cluster"), 3, 1).unwrap();
    cluster.create_table(TABLE, PARTITIONS, 3).unwrap();
    cluster
}

/// A number from the environment.
fn setting(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |text| text.parse().unwrap())
}

#[test]
#[ignore = "a measurement: run by `make failover`"]
fn how_long_partitions_of_a_killed_node_cannot_be_written() {
    let kills = setting("KILLS", 20);
    let directory = tempfile::tempdir().unwrap();
    let cluster = start(&directory);
    let clients = Verified::start(Load::on(cluster.meta(), TABLE)).unwrap();
    let mut random = SmallRng::from_os_rng();
    let (mut of_kills, mut of_partitions) = (Vec::new(), Vec::new());
    for number in 1..=kills {
        // Any moment between two beacons.
        std::thread::sleep(Duration::from_millis(random.random_range(0..300)));
        let (victim, led) = cluster.busiest(TABLE).unwrap();
        let since = Instant::now();
        let name = format!("node-{victim}");
        cluster.signal(&name, Signal::KILL).unwrap();
        let times = clients.wait_for_writes(since, &led).unwrap();
        let slowest = times.iter().max().copied().unwrap_or_default();
        println!(
            "kill {number}: node {victim} led {} partitions, all written again after {:.3} s",
            led.len(),
            slowest.as_secs_f64()
        );
        of_kills.push(slowest);
        of_partitions.extend(times);
        wait_until("the process to be gone", || !cluster.runs(&name)).unwrap();
        cluster.start_again().unwrap();
        cluster.wait_healthy(TABLE).unwrap();
    }
    println!(
        "\n| time without writes after `kill -9` of a node | median | p95 | longest | of |\n|---|---|---|---|---|"
    );
    print_row("each partition it led", &mut of_partitions);
    print_row("the last of them", &mut of_kills);
    println!();
    clients
        .finish("nodes with primaries are killed and return")
        .unwrap()
        .check()
        .unwrap();
}

fn print_row(what: &str, times: &mut [Duration]) {
    times.sort_unstable();
    let at = |percent: usize| times[(times.len() * percent).div_ceil(100).max(1) - 1].as_secs_f64();
    println!(
        "| {what} | {:.2} s | {:.2} s | {:.2} s | {} |",
        at(50),
        at(95),
        at(100),
        times.len()
    );
}

#[test]
#[ignore = "a measurement: run by `make failover`"]
fn a_saturating_load_changes_no_configuration() {
    let seconds = setting("SECONDS_OF_LOAD", 600).to_string();
    let directory = tempfile::tempdir().unwrap();
    let cluster = start(&directory);
    let bench = |arguments: &[&str]| {
        let mut command = Command::new(program("pegasus-bench"));
        command.args(arguments).stdin(Stdio::null());
        command.args(["--meta", cluster.meta(), "--table", TABLE]);
        command.args(["--records", "50000", "--value-size", "200"]);
        let output = command.output().unwrap();
        assert!(output.status.success(), "{output:?}");
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    bench(&["load"]);
    let before = ballots(&cluster);
    let load = ["--connections", "8", "--inflight", "16", "--verify"];
    let mut arguments = vec!["run", "--workload", "a", "--seconds", &seconds];
    arguments.extend(load);
    let report = bench(&arguments);
    let after = ballots(&cluster);
    let changed = before
        .iter()
        .zip(&after)
        .filter(|(before, after)| before != after);
    println!(
        "{report}\n{} of {PARTITIONS} configurations changed in {seconds} s of saturating load",
        changed.count()
    );
    assert_eq!(before, after, "{}", cluster.last_log_lines());
}

/// Of each partition: grown by every change.
fn ballots(cluster: &Cluster) -> Vec<u64> {
    let shown = cluster.table(TABLE).unwrap();
    let partitions = shown["partitions"].as_array().unwrap().iter();
    partitions
        .map(|partition| partition["ballot"].as_u64().unwrap())
        .collect()
}
