//! Redis and etcd, the real ones.

use crate::bench::{Bench, Ended};
use crate::process::Server;

const VALUES: [&str; 4] = ["--records", "200", "--value-size", "64"];
const ROWS: [&str; 6] = ["--records", "200", "--fields", "10", "--field-size", "100"];
const GROUPED: [&str; 8] = [
    "--records",
    "200",
    "--fields",
    "10",
    "--field-size",
    "24",
    "--records-per-hash-key",
    "50",
];

fn loaded(url: &str, layout: &[&'static str]) -> Bench {
    let bench = Bench::new(url.to_owned(), layout);
    let ended = bench.load(&[]);
    ended.assert_success("load");
    assert_eq!(ended.outcome()["operations"], 200);
    bench
}

fn assert_verified(ended: &Ended, operations: u64, protocol: &str, server: &str) {
    ended.assert_success(protocol);
    let outcome = ended.outcome();
    assert_eq!(outcome["operations"], operations, "{}", ended.stderr);
    assert_eq!(
        (&outcome["errors_total"], &outcome["misses"]),
        (&0.into(), &0.into())
    );
    assert_eq!(outcome["verify"]["violations"], 0);
    assert!(outcome["verify"]["checked"].as_u64().unwrap() > operations / 4);
    let target = &outcome["setup"]["target"];
    assert_eq!(target["protocol"], protocol);
    assert!(
        target["server"].as_str().unwrap().starts_with(server),
        "{target}"
    );
    for kind in ["get", "read", "put", "update"] {
        let latency = &outcome["latencies"][kind];
        if !latency.is_null() {
            assert!(
                latency["percentiles"]["count"].as_u64().unwrap() > 0,
                "{latency}"
            );
        }
    }
    assert_eq!(
        outcome["latencies"].as_object().unwrap().len(),
        2,
        "mix a has two kinds"
    );
}

fn mix(workload: &'static str, operations: &'static str) -> [&'static str; 5] {
    [
        "--workload",
        workload,
        "--verify",
        "--operations",
        operations,
    ]
}

#[test]
fn redis_is_loaded_and_its_answers_are_true_in_every_layout() {
    let server = Server::redis();
    for (database, layout) in [&VALUES[..], &ROWS, &GROUPED].iter().enumerate() {
        let bench = loaded(&format!("redis://{}/{database}", server.address), layout);
        assert_verified(&bench.run(&mix("a", "3000")), 3_000, "redis", "redis ");
    }
}

#[test]
fn etcd_is_loaded_and_its_answers_are_true_in_every_layout() {
    for layout in [&VALUES[..], &ROWS, &GROUPED] {
        let server = Server::etcd();
        let bench = loaded(&format!("etcd://{}", server.address), layout);
        assert_verified(&bench.run(&mix("a", "1000")), 1_000, "etcd", "etcd ");
    }
}

#[test]
fn scans_inserts_and_read_modify_writes_go_through_both() {
    let (redis, etcd) = (Server::redis(), Server::etcd());
    for url in [
        format!("redis://{}", redis.address),
        format!("etcd://{}", etcd.address),
    ] {
        let bench = loaded(&url, &GROUPED);
        for workload in ["e", "d", "f"] {
            let ended = bench.run(&mix(workload, "500"));
            ended.assert_success(&format!("{url}, workload {workload}"));
            let outcome = ended.outcome();
            assert_eq!(
                (&outcome["operations"], &outcome["errors_total"]),
                (&500.into(), &0.into())
            );
            let scanned = outcome["scanned_records"].as_u64().unwrap();
            assert_eq!(scanned > 500, workload == "e", "{scanned} records scanned");
        }
    }
}

#[test]
fn reads_of_what_was_never_loaded_are_counted_as_misses() {
    let redis = Server::redis();
    let bench = Bench::new(format!("redis://{}", redis.address), &VALUES);
    let ended = bench.run(&["--workload", "c", "--operations", "300"]);
    ended.assert_success("misses are no errors");
    assert_eq!(ended.outcome()["misses"], 300);
}

#[test]
fn a_server_of_another_protocol_is_refused_by_name() {
    let (redis, etcd) = (Server::redis(), Server::etcd());
    for (url, named) in [
        (
            format!("redis://{}", etcd.address),
            "greet as a Redis server",
        ),
        (format!("etcd://{}", redis.address), "etcd server at"),
        (format!("redis://{}/99", redis.address), "database 99"),
    ] {
        let ended = Bench::new(url.clone(), &VALUES).load(&["--give-up-after", "1"]);
        assert_eq!(ended.code, Some(1), "{url}: {}", ended.stderr);
        assert!(ended.stderr.contains(named), "{url}: {}", ended.stderr);
    }
}

#[test]
fn servers_take_turns_and_the_first_is_held_against_each() {
    let redis = Server::redis();
    let dir = tempfile::tempdir().unwrap();
    let json = dir.path().join("versus.json");
    let server = format!("redis=redis://{}", redis.address);
    let output = std::process::Command::new(env!("CARGO_BIN_EXE_pegasus-bench"))
        .args(["versus", "--server", "null=null://", "--server", &server])
        .args(["--workload", "put", "--shape", "2x2", "--rounds", "2"])
        .args([
            "--seconds",
            "0.2",
            "--warm-up",
            "0",
            "--records",
            "200",
            "--load",
        ])
        .args(["--timeout", "20000", "--json"])
        .arg(&json)
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    let report: serde_json::Value = serde_json::from_slice(&std::fs::read(&json).unwrap()).unwrap();
    let rows = report["rows"].as_array().unwrap();
    let servers: Vec<_> = rows.iter().map(|row| row["server"].as_str()).collect();
    assert_eq!(servers, [Some("null"), Some("redis")]);
    assert!(
        rows.iter()
            .all(|row| row["rounds"].as_array().unwrap().len() == 2)
    );
    assert!(rows[0]["first_to_this"].is_null());
    let ratio = &rows[1]["first_to_this"]["operations_per_second"];
    assert!(ratio.as_f64() > Some(0.0), "{ratio}");
}
