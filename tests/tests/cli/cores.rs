//! `core list` and `core show`: from pages and over the wire, of nodes that run, are paused or were killed.

use super::{Done, done, json, refused, table_width};
use e2e::cluster::{Cluster, program, wait_until};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Command, Stdio};

#[test]
fn the_cores_of_a_cluster_are_listed_and_explained() {
    let directory = tempfile::tempdir().unwrap();
    let cluster = Cluster::start(&directory.path().join("c"), 2, 2).unwrap();
    cluster.create_table("t", 4, 2).unwrap();
    load(&cluster);
    every_core_is_listed(&cluster);
    the_wire_tells_what_the_page_says(&cluster);
    stages_and_slow_requests_are_explained(&cluster);
    watching_goes_on(&cluster);
    a_hot_key_is_named(&cluster);
    the_live_view_needs_a_terminal(&cluster);
    what_is_not_there_is_told(&cluster);
    nodes_that_do_not_run(&cluster);
    without_meta(&cluster);
}

/// Some hundred writes and reads.
fn load(cluster: &Cluster) {
    let mut child = cluster
        .command([
            "import", "-", "--table", "t", "--format", "tsv", "--value", "2",
        ])
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    let rows: Vec<String> = (0..400)
        .map(|number| format!("h{number}\tvalue\n"))
        .collect();
    let mut input = child.stdin.take().unwrap();
    input.write_all(rows.concat().as_bytes()).unwrap();
    drop(input);
    assert!(child.wait().unwrap().success());
    for number in 0..8 {
        assert_eq!(done(cluster, &["get", "t", &format!("h{number}")]).code, 0);
    }
}

const QUICK: [&str; 4] = ["core", "list", "--interval", "0.2"];

fn list(cluster: &Cluster, more: &[&str]) -> Vec<Value> {
    let arguments: Vec<&str> = QUICK.iter().chain(more).copied().collect();
    json(cluster, &arguments).as_array().unwrap().clone()
}

fn names(cores: &[Value]) -> Vec<(u64, u64)> {
    let number = |core: &Value, field: &str| core[field].as_u64().unwrap();
    cores
        .iter()
        .map(|core| (number(core, "node"), number(core, "core")))
        .collect()
}

fn every_core_is_listed(cluster: &Cluster) {
    for (over, way) in [("auto", "page"), ("pages", "page"), ("wire", "wire")] {
        let cores = list(cluster, &["--over", over]);
        assert_eq!(names(&cores), [(1, 0), (1, 1), (2, 0), (2, 1)]);
        for core in &cores {
            assert_eq!(
                (&core["state"], &core["over"]),
                (&"running".into(), &way.into())
            );
            assert_eq!(core["replicas"], 2);
            assert!(core["interval_seconds"].as_f64().unwrap() > 0.0);
            for field in ["requests_per_second", "flushes_per_second", "stalls", "pid"] {
                assert!(core[field].is_number(), "{field}");
            }
            assert!(core["queues"]["log_pending_bytes"].is_u64());
            assert!(core["latencies"].is_object());
        }
    }
    assert_eq!(names(&list(cluster, &["--node", "2"])), [(2, 0), (2, 1)]);
    let words = done(cluster, &QUICK);
    assert_eq!(words.code, 0);
    assert!(
        words.out.contains("2/1") && table_width(&words.out) <= 120,
        "{}",
        words.out
    );
}

/// Everything since the start: nothing but the core itself changes it while no client is there.
fn show(cluster: &Cluster, core: &str, more: &[&str]) -> Value {
    let arguments: Vec<&str> = ["core", "show", core].iter().chain(more).copied().collect();
    json(cluster, &arguments)
}

fn the_wire_tells_what_the_page_says(cluster: &Cluster) {
    let page = show(cluster, "1/0", &["--since-start"]);
    let wire = show(cluster, "1/0", &["--since-start", "--over", "wire"]);
    assert_eq!(
        (&page["over"], &wire["over"]),
        (&"page".into(), &"wire".into())
    );
    for field in [
        "pid",
        "started_unix_us",
        "writes",
        "reads",
        "replicas_by_table",
        "host",
        "address",
    ] {
        assert_eq!(page[field], wire[field], "{field}");
    }
    for field in ["put", "write_flush", "get"] {
        assert_eq!(
            page["latencies"][field], wire["latencies"][field],
            "{field}"
        );
    }
    assert_eq!(
        page["counters"]["request_put"],
        wire["counters"]["request_put"]
    );
    assert_eq!(page["slow_requests"], wire["slow_requests"]);
}

fn stages_and_slow_requests_are_explained(cluster: &Cluster) {
    let report = show(cluster, "1/0", &["--since-start"]);
    assert_eq!(
        (&report["since_start"], &report["measures_stages"]),
        (&true.into(), &true.into())
    );
    let writes = &report["writes"];
    let put = report["latencies"]["put"]["count"].as_u64().unwrap();
    assert!(put > 0 && writes["requests"] == put, "{writes}");
    let stages = writes["stages"].as_array().unwrap();
    let names: Vec<&str> = stages
        .iter()
        .map(|stage| stage["stage"].as_str().unwrap())
        .collect();
    let all = [
        "decode",
        "queue",
        "gate",
        "log_wait",
        "flush",
        "replication",
        "apply",
        "encode",
        "send",
    ];
    assert_eq!(names, all);
    let share: f64 = stages
        .iter()
        .map(|stage| stage["share"].as_f64().unwrap())
        .sum();
    assert!((share - 1.0).abs() < 1e-6, "{share}");
    let largest = writes["largest"].as_str().unwrap();
    assert!(writes["explanation"].as_str().unwrap().contains(largest));
    let slow = report["slow_requests"].as_array().unwrap();
    assert!(!slow.is_empty());
    for request in slow {
        assert_eq!(request["table"], "t");
        let stages = request["stages"].as_array().unwrap();
        let total: f64 = stages
            .iter()
            .map(|stage| stage["us"].as_f64().unwrap())
            .sum();
        // Each is rounded to a tenth.
        assert!(
            (total - request["total_us"].as_f64().unwrap()).abs() < 1.0,
            "{request}"
        );
    }
    let mine = report["replicas_by_table"][0]["primaries"]
        .as_array()
        .unwrap();
    assert_eq!(report["gauges"]["primaries"], mine.len());
    let words = done(cluster, &["core", "show", "1/0", "--since-start"]);
    for text in [
        "core 1/0: running",
        "slowest writes",
        "share",
        "log_flush",
        "table t: primary of",
    ] {
        assert!(words.out.contains(text), "{text} in\n{}", words.out);
    }
    assert!(table_width(&words.out) <= 120, "{}", words.out);
    let idle = done(cluster, &["core", "show", "1/0", "--interval", "0.1"]);
    assert!(idle.out.contains("--since-start shows all"), "{}", idle.out);
}

fn watching_goes_on(cluster: &Cluster) {
    let watch = ["core", "list", "--watch", "--interval", "0.1", "--json"];
    let mut child = cluster.spawn(&watch).unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    for _ in 0..3 {
        let cores: Value = serde_json::from_str(&lines.next().unwrap().unwrap()).unwrap();
        assert_eq!(cores.as_array().unwrap().len(), 4);
    }
    // Nobody reads any more: it ends by itself.
    drop(lines);
    assert!(child.wait().unwrap().success());
}

/// A key that is read again and again, with its partition, and the partition itself.
fn a_hot_key_is_named(cluster: &Cluster) {
    for _ in 0..30 {
        assert_eq!(done(cluster, &["get", "t", "h3"]).code, 0);
    }
    let mut named = Value::Null;
    wait_until("the hot key to be named", || {
        let told = json(cluster, &["hotkeys", "--table", "t"]);
        let keys = told["keys"].as_array().unwrap().clone();
        named = keys
            .into_iter()
            .find(|it| it["key"] == "h3")
            .unwrap_or_default();
        named["kind"] == "read"
    })
    .unwrap();
    assert_eq!(
        (&named["table"], &named["key_bytes"]),
        (&"t".into(), &2.into())
    );
    let place = json(cluster, &["hash", "t", "h3"]);
    assert_eq!(named["partition"], place["partition"], "{place}");
    assert!(named["per_second"].as_f64().unwrap() > 0.0, "{named}");
    assert!(named["share"].as_f64().unwrap() > 0.2, "{named}");
    let words = done(cluster, &["hotkeys", "--top", "1"]);
    assert!(
        words.out.contains("h3") && table_width(&words.out) <= 120,
        "{}",
        words.out
    );
    refused(
        cluster,
        &["hotkeys", "--table", "absent"],
        3,
        "not_found",
        "no such table; there are: t",
    );
    let core = named["core"].as_str().unwrap();
    let report = show(cluster, core, &["--since-start"]);
    let partitions = report["partitions"].as_array().unwrap();
    let its = partitions
        .iter()
        .find(|it| it["partition"] == named["partition"]);
    let its = its.unwrap();
    assert_eq!(its["role"], "primary");
    assert!(its["traffic"]["get"].as_f64().unwrap() > 0.0, "{its}");
}

fn the_live_view_needs_a_terminal(cluster: &Cluster) {
    refused(cluster, &["top"], 2, "usage", "core list");
}

fn what_is_not_there_is_told(cluster: &Cluster) {
    refused(
        cluster,
        &["core", "show", "1/7"],
        3,
        "not_found",
        "there are: 1/0, 1/1",
    );
    refused(
        cluster,
        &["core", "show", "9/0"],
        3,
        "not_found",
        "no such node; there are: 1, 2",
    );
    refused(
        cluster,
        &["core", "list", "--node", "9"],
        3,
        "not_found",
        "no such node",
    );
    let nowhere = [
        "core",
        "list",
        "--interval",
        "0.1",
        "--stats-dir",
        "/nonexistent",
    ];
    refused(cluster, &nowhere, 3, "not_found", "no core found");
}

fn nodes_that_do_not_run(cluster: &Cluster) {
    let before = show(cluster, "2/1", &["--since-start"]);
    let pid = Pid::from_raw(cluster.pid("node-2").unwrap()).unwrap();
    kill_process(pid, Signal::STOP).unwrap();
    wait_until("the node to be seen as stuck", || {
        list(cluster, &["--node", "2"])
            .iter()
            .all(|core| core["state"] == "stuck")
    })
    .unwrap();
    let stuck = show(cluster, "2/1", &[]);
    assert_eq!(
        (&stuck["state"], &stuck["since_start"]),
        (&"stuck".into(), &true.into())
    );
    assert_eq!(stuck["writes"], before["writes"]);
    let over_wire = ["--timeout", "0.3", "core", "show", "2/1", "--over", "wire"];
    refused(cluster, &over_wire, 4, "unavailable", "gave no answer");
    let silent = json(
        cluster,
        &[
            "--timeout",
            "0.3",
            "core",
            "list",
            "--interval",
            "0.1",
            "--over",
            "wire",
        ],
    );
    let states: Vec<&Value> = silent
        .as_array()
        .unwrap()
        .iter()
        .map(|core| &core["state"])
        .collect();
    assert_eq!(states, ["running", "running", "silent", "silent"]);
    assert!(silent[2]["error"].is_string() && silent[2]["replicas"].is_null());

    cluster.kill("node-2").unwrap();
    let dead = show(cluster, "2/1", &[]);
    assert_eq!(
        (&dead["state"], &dead["over"]),
        (&"dead".into(), &"page".into())
    );
    assert_eq!(dead["writes"], before["writes"]);
    assert_eq!(dead["slow_requests"], before["slow_requests"]);
    let words = done(cluster, &["core", "show", "2/1"]);
    assert!(
        words.out.contains("core 2/1: dead") && words.out.contains("Start the node again"),
        "{}",
        words.out
    );
}

fn without_meta(cluster: &Cluster) {
    cluster.kill("meta").unwrap();
    refused(cluster, &["core", "list"], 4, "unavailable", "--stats-dir");
    let pages = cluster.data_directory(2).join("stats");
    let mut command = Command::new(program("pegasus"));
    command
        .args(["core", "show", "2/1", "--json", "--stats-dir"])
        .arg(pages);
    let report = Done::run(&mut command);
    assert_eq!(report.code, 0, "{}", report.err);
    assert_eq!(report.json()["state"], "dead");
    assert!(report.json()["replicas_by_table"].is_null());
}
