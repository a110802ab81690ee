//! The life of nodes while clients work: a rolling restart that nobody notices, a node that is added and one that leaves for
//! good, and what `status` and `doctor` say meanwhile.

#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

use e2e::cluster::{Cluster, Options, wait_until};
use e2e::verified::{Load, Verified};
use serde_json::Value;
use std::os::unix::fs::PermissionsExt as _;
use std::time::Duration;

const TABLE: &str = "t";

fn start(directory: &std::path::Path) -> Cluster {
    let cluster = Cluster::start_options(directory, 3, 1, Options::default()).unwrap();
    cluster.create_table(TABLE, 8, 3).unwrap();
    cluster
}

fn clients(cluster: &Cluster) -> Verified {
    let mut load = Load::on(cluster.meta(), TABLE);
    load.hurries = false;
    load.pause = Duration::from_millis(20);
    Verified::start(load).unwrap()
}

/// The exit code of `status --json`, and what it says.
fn status(cluster: &Cluster) -> (i32, Value) {
    let output = cluster.command(["status", "--json"]).output().unwrap();
    let told = serde_json::from_slice(&output.stdout).unwrap_or(Value::Null);
    (output.status.code().unwrap(), told)
}

fn incarnations(cluster: &Cluster) -> Vec<i64> {
    let pids = (1..=3).map(|number| cluster.pid(&format!("node-{number}")).unwrap());
    pids.map(i64::from).collect()
}

#[test]
fn a_rolling_restart_under_load_loses_no_request_and_a_node_comes_and_goes() {
    let directory = tempfile::tempdir().unwrap();
    let cluster = start(&directory.path().join("c"));
    assert_eq!(status(&cluster).0, 0, "{:?}", status(&cluster));
    let clients = clients(&cluster);
    let before = incarnations(&cluster);

    cluster.local(&["restart", "--rolling"]).unwrap();
    let after = incarnations(&cluster);
    assert!(
        before.iter().all(|pid| !after.contains(pid)),
        "{before:?} {after:?}"
    );

    cluster.local(&["add-node"]).unwrap();
    let refused = cluster
        .pegasus_fails(&["node", "decommission", "9"])
        .unwrap();
    assert_eq!(refused.0, 3, "{}", refused.1);
    cluster.local(&["remove-node", "4"]).unwrap();
    let nodes: Value =
        serde_json::from_str(&cluster.pegasus(&["node", "list", "--json"]).unwrap()).unwrap();
    let numbers: Vec<i64> = nodes["nodes"]
        .as_array()
        .unwrap()
        .iter()
        .map(|it| it["node"].as_i64().unwrap())
        .collect();
    assert_eq!(numbers, [1, 2, 3]);
    assert_eq!(nodes["nodes"][0]["version"], env!("CARGO_PKG_VERSION"));

    cluster.wait_healthy(TABLE).unwrap();
    let report = clients
        .finish("rolling restart, a node added, a node decommissioned")
        .unwrap();
    report.check().unwrap();
    assert!(
        report.failures.is_empty(),
        "{report}\n{}",
        cluster.last_log_lines()
    );
}

#[test]
fn what_is_wrong_is_named_with_what_to_do_and_the_evidence_holds_no_secrets() {
    let directory = tempfile::tempdir().unwrap();
    let cluster = start(&directory.path().join("c"));
    cluster
        .pegasus(&["set", TABLE, "hash-key-of-a-row", "s", "value-of-a-row"])
        .unwrap();

    // Three replicas on three nodes: none of them can go.
    let (code, said) = cluster
        .pegasus_fails(&["node", "decommission", "1"])
        .unwrap();
    assert!(
        code == 1 && said.contains("t.0") && said.contains("add a node"),
        "{code}: {said}"
    );
    // One operator wants the lead off a node, another one everything; who takes it back takes all of it back.
    cluster.pegasus(&["node", "drain", "1", "--wait"]).unwrap();
    cluster.pegasus(&["node", "drain", "1", "--move"]).unwrap();
    cluster.pegasus(&["node", "drain", "1", "--wait"]).unwrap();
    let (code, said) = cluster
        .pegasus_fails(&["node", "restart-plan"])
        .unwrap_or((0, String::new()));
    assert!(code == 4 || code == 0, "{code}: {said}");
    cluster.pegasus(&["node", "undrain", "1"]).unwrap();

    cluster.kill("node-3").unwrap();
    wait_until("the dead node to be named", || {
        let (code, told) = status(&cluster);
        let findings = told["findings"].as_array().cloned().unwrap_or_default();
        let names = |it: &Value| {
            it["what"] == "node 3" && it["do"].as_str().is_some_and(|it| it.contains("start"))
        };
        code == 1 && findings.iter().any(names)
    })
    .unwrap_or_else(|error| panic!("{error:#}: {:?}", status(&cluster)));

    let mut elsewhere = cluster.command(["status", "--meta", "127.0.0.1:1,127.0.0.1:2"]);
    let output = elsewhere.output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(4), "{said}");
    assert!(
        said.contains("127.0.0.1:1") && said.contains("127.0.0.1:2"),
        "{said}"
    );

    let archive = directory.path().join("evidence.tar.zst");
    let secret = directory.path().join("replica.toml");
    std::fs::write(
        &secret,
        "[process]\ndir = \"/d\"\ntoken_file = \"/the/secret\"\n",
    )
    .unwrap();
    let (archive, secret) = (archive.to_str().unwrap(), secret.to_str().unwrap());
    let at = directory.path().join("c");
    cluster
        .pegasus(&[
            "doctor",
            "--output",
            archive,
            "--config",
            secret,
            "--dir",
            at.to_str().unwrap(),
        ])
        .unwrap();
    let packed = std::fs::read(archive).unwrap();
    assert_eq!(&packed[..4], [0x28, 0xb5, 0x2f, 0xfd], "zstd");
    let mode = std::fs::metadata(archive).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let find = |needle: &[u8]| packed.windows(needle.len()).any(|it| it == needle);
    assert!(!find(b"/the/secret") && !find(b"value-of-a-row"));
}
