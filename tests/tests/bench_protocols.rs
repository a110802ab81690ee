//! pegasus-bench through every protocol of a client port: it loads, and every answer of a mixed load can be true, also while
//! a node is killed and comes back. Scenarios, and the compactions that they order.

use anyhow::{Result, ensure};
use e2e::cluster::{Cluster, program, wait_until};
use serde_json::Value;
use std::io::Read as _;
use std::process::{Child, Command, Stdio};

/// Each with a table of its own, since they may lay out records in different ways.
const PROTOCOLS: [&str; 5] = ["native", "thft", "thft-v1", "rdsn", "resp"];
/// Ways to store records: one value each, and rows of fields.
const LAYOUTS: [&[&str]; 2] = [
    &["--value-size", "100"],
    &["--fields", "3", "--field-size", "40"],
];

#[test]
fn a_verified_load_runs_through_every_protocol() -> Result<()> {
    let directory = tempfile::tempdir()?;
    let cluster = Cluster::start(&directory.path().join("cluster"), 1, 2)?;
    for protocol in PROTOCOLS {
        for (number, layout) in LAYOUTS.into_iter().enumerate() {
            let table = format!("{protocol}-{number}");
            cluster.create_table(&table, 4, 1)?;
            let target = format!("{protocol}://{}/{table}", cluster.meta());
            let common = ["--target", &target, "--records", "500"];
            bench(&[&["load"], &common[..], layout].concat())?;
            let mixed = ["--workload", "a", "--seconds", "1", "--warm-up", "0"];
            let checked = ["--verify"];
            let said = bench(&[&["run"], &common[..], layout, &mixed, &checked].concat())?;
            ensure!(said.contains("verified: 0 of "), "{target}: {said}");
            ensure!(said.contains("no operation failed"), "{target}: {said}");
        }
    }
    Ok(())
}

/// With what the clients of Apache Pegasus and of Redis do when a connection ends, a primary moves, or an outcome is unknown.
#[test]
fn no_answer_of_a_foreign_protocol_is_wrong_while_a_node_is_killed_and_comes_back() -> Result<()> {
    const PROTOCOLS: [&str; 3] = ["thft", "rdsn", "resp"];
    const SECONDS: &str = "10";
    let directory = tempfile::tempdir()?;
    let cluster = Cluster::start(&directory.path().join("cluster"), 3, 1)?;
    let mut loads = Vec::new();
    for protocol in PROTOCOLS {
        cluster.create_table(protocol, 4, 3)?;
        let target = format!("{protocol}://{}/{protocol}", cluster.meta());
        let common = ["--target", &target, "--records", "200"];
        let layout = ["--value-size", "100", "--connections", "4"];
        bench(&[&["load"], &common[..], &layout[..2]].concat())?;
        let mixed = ["--workload", "a", "--seconds", SECONDS, "--warm-up", "0"];
        let run = [&["run", "--verify"], &common[..], &layout, &mixed].concat();
        loads.push((protocol, rows(&cluster, protocol)?, Load::begin(&run)?));
    }
    for (protocol, loaded, _) in &loads {
        wait_until("the load to write", || {
            rows(&cluster, protocol).is_ok_and(|rows| rows != *loaded)
        })?;
    }
    let (number, _) = cluster.busiest(PROTOCOLS[0])?;
    let node = format!("node-{number}");
    let launch = cluster.launch(&node)?;
    for (protocol, _, load) in &mut loads {
        ensure!(load.0.try_wait()?.is_none(), "{protocol}: it is over");
    }
    cluster.kill(&node)?;
    for protocol in PROTOCOLS {
        wait_until("others to lead its partitions", || {
            cluster
                .led(protocol)
                .is_ok_and(|led| !led.contains_key(&number))
        })?;
    }
    launch.start()?;
    for (protocol, _, load) in loads {
        let said = load.end()?;
        ensure!(said.contains("verified: 0 of "), "{protocol}: {said}");
        ensure!(said.contains(" 0 could not be\n"), "{protocol}: {said}");
    }
    Ok(())
}

#[test]
fn a_scenario_tells_what_each_event_was_and_when() -> Result<()> {
    let directory = tempfile::tempdir()?;
    let cluster = Cluster::start(&directory.path().join("cluster"), 3, 1)?;
    cluster.create_table("t", 4, 3)?;
    let target = format!("native://{}/t", cluster.meta());
    let data = [
        "--target",
        &target,
        "--records",
        "500",
        "--value-size",
        "100",
    ];
    bench(&[&["load"], &data[..]].concat())?;
    let local = cluster.directory().to_string_lossy();
    let report = directory.path().join("scenario.json");
    let report = report.to_string_lossy();
    let times = [
        "--quiet",
        "0.5",
        "--settle",
        "0.3",
        "--event-seconds",
        "0.5",
        "--down-seconds",
        "0.3",
    ];
    let events = [
        "--event",
        "compaction",
        "--event",
        "neighbour",
        "--event",
        "kill",
    ];
    let load = [
        "--rate",
        "200",
        "--connections",
        "4",
        "--inflight",
        "16",
        "--local",
        &local,
        "--json",
        &report,
    ];
    let said = bench(&[&["scenario"], &data[..], &times, &events, &load].concat())?;
    let told: Value = serde_json::from_slice(&std::fs::read(&*report)?)?;
    let periods = told["outcome"]["periods"].as_array();
    let shown: Vec<(&str, bool)> = periods
        .into_iter()
        .flatten()
        .filter_map(|it| Some((it["name"].as_str()?, it["is_event"].as_bool()?)))
        .collect();
    let wanted = [
        ("quiet", false),
        ("compaction", true),
        ("after compaction", false),
        ("neighbour", true),
        ("after neighbour", false),
        ("kill", true),
        ("after kill", false),
    ];
    ensure!(shown == wanted, "{said}");
    let neighbour = &told["outcome"]["periods"][3];
    ensure!(neighbour["seconds"].as_f64() >= Some(0.5), "{neighbour}");
    ensure!(
        neighbour["latencies"]["read"]["times_quiet"]["p99"].as_f64() > Some(0.0),
        "{neighbour}"
    );
    // The neighbour has written there.
    ensure!(!rows(&cluster, "neighbour")?.is_empty());
    let compacted = |line: &str| line.contains("compacting by hand is done");
    let log = cluster.log("node-1")?;
    ensure!(log.lines().any(compacted), "node 1 has compacted nothing");
    Ok(())
}

#[test]
fn a_table_is_compacted_by_hand_and_the_nodes_say_when_it_is_done() -> Result<()> {
    let directory = tempfile::tempdir()?;
    let cluster = Cluster::start(&directory.path().join("cluster"), 1, 2)?;
    cluster.create_table("t", 4, 1)?;
    cluster.pegasus(&["set", "t", "key", "s", "value"])?;
    let began: Value =
        serde_json::from_str(&cluster.pegasus(&["compact", "start", "t", "--json"])?)?;
    ensure!(began[0]["began"] == true, "{began}");
    wait_until("the order to be carried out", || {
        let told = cluster.pegasus(&["compact", "status", "--json"]);
        let told: Value = told
            .ok()
            .and_then(|told| serde_json::from_str(&told).ok())
            .unwrap_or_default();
        told[0]["running"] == false && told[0]["finished_unix_s"].as_u64() > Some(0)
    })?;
    ensure!(
        cluster
            .pegasus(&["get", "t", "key", "s"])?
            .contains("value")
    );
    let (code, _) = cluster.pegasus_fails(&["compact", "start", "nobody"])?;
    ensure!(code == 3, "a table that is not there: exit code {code}");
    Ok(())
}

/// What is in the table, in no matter which order its partitions were asked.
fn rows(cluster: &Cluster, table: &str) -> Result<Vec<String>> {
    let scanned = cluster.pegasus(&["scan", table, "--json"])?;
    let mut rows: Vec<String> = scanned.lines().map(str::to_owned).collect();
    rows.sort();
    Ok(rows)
}

/// A bench that runs by itself; it ends with the test.
struct Load(Child);

impl Load {
    fn begin(arguments: &[&str]) -> Result<Self> {
        let mut command = Command::new(program("pegasus-bench"));
        command.args(arguments).stdin(Stdio::null());
        Ok(Self(command.stdout(Stdio::piped()).spawn()?))
    }

    /// What it says in the end, whether operations have failed or not.
    fn end(mut self) -> Result<String> {
        let mut said = String::new();
        if let Some(mut output) = self.0.stdout.take() {
            output.read_to_string(&mut said)?;
        }
        self.0.wait()?;
        Ok(said)
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        // It may have ended.
        _ = self.0.kill();
        _ = self.0.wait();
    }
}

fn bench(arguments: &[&str]) -> Result<String> {
    let output = Command::new(program("pegasus-bench"))
        .args(arguments)
        .stdin(Stdio::null())
        .output()?;
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    ensure!(output.status.success(), "{arguments:?}: {output:?}");
    Ok(said)
}
