//! Moves, drains, scrubbing, and what `table show` says while something is under way.

use super::{Done, done, json, refused};
use e2e::cluster::{Cluster, Options, wait_until};
use serde_json::{Value, json as value};
use std::collections::BTreeSet;
use std::fs::{self, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use tempfile::TempDir;

const TABLE: &str = "t";

/// Two replicas on three nodes of two cores: there is always a free node. A lost replica is made anew at once.
fn start() -> (TempDir, Cluster) {
    let directory = tempfile::tempdir().unwrap();
    let options = Options {
        node: &[],
        meta: &["--heal-delay-ms=500"],
        ..Options::default()
    };
    let cluster = Cluster::start_options(&directory.path().join("c"), 3, 2, options).unwrap();
    cluster.create_table(TABLE, 4, 2).unwrap();
    (directory, cluster)
}

fn partition(cluster: &Cluster, index: usize) -> Value {
    cluster.table(TABLE).unwrap()["partitions"][index].clone()
}

fn node_of(member: &Value) -> u64 {
    member["node"].as_u64().unwrap()
}

/// Nodes with a member of any partition.
fn holders(cluster: &Cluster) -> BTreeSet<u64> {
    let table = cluster.table(TABLE).unwrap();
    let partitions = table["partitions"].as_array().unwrap().iter();
    let members = partitions.flat_map(|it| {
        let secondaries = it["secondaries"].as_array().unwrap().iter();
        secondaries
            .chain([&it["primary"]])
            .map(node_of)
            .collect::<Vec<_>>()
    });
    members.collect()
}

fn is_draining(cluster: &Cluster, node: u64) -> bool {
    let shown = json(cluster, &["node", "list"]);
    let nodes = shown["nodes"].as_array().unwrap();
    let found = nodes.iter().find(|it| it["node"] == node).unwrap();
    found["draining"].as_bool().unwrap()
}

#[test]
fn primaries_and_replicas_move_when_they_are_told_to() {
    let (_directory, cluster) = start();
    let before = partition(&cluster, 0);
    let (old, new) = (
        node_of(&before["primary"]),
        node_of(&before["secondaries"][0]),
    );
    let to = new.to_string();
    let told = json(
        &cluster,
        &["table", "move", TABLE, "0", "--primary-to", &to, "--wait"],
    );
    assert_eq!(
        (&told["done"], &told["primary"]["node"]),
        (&value!(true), &value!(new))
    );
    let after = partition(&cluster, 0);
    assert_eq!(
        (
            node_of(&after["primary"]),
            node_of(&after["secondaries"][0])
        ),
        (new, old)
    );
    assert!(after["ballot"].as_u64() > before["ballot"].as_u64());

    let free = 6 - old - new;
    let (from, core) = (new.to_string(), format!("{free}/1"));
    let order = [
        "table",
        "move",
        TABLE,
        "0",
        "--replica-from",
        &from,
        "--replica-to",
        &core,
        "--wait",
    ];
    let told = done(&cluster, &order);
    assert_eq!(told.code, 0, "{}", told.err);
    assert!(
        told.out.contains(&format!("to node {free} core 1")),
        "{}",
        told.out
    );
    let moved = partition(&cluster, 0);
    let held = [
        node_of(&moved["primary"]),
        node_of(&moved["secondaries"][0]),
    ];
    assert_eq!(BTreeSet::from(held), BTreeSet::from([old, free]));
    cluster.wait_healthy(TABLE).unwrap();
    let shown = partition(&cluster, 0);
    assert_eq!(
        (&shown["learner"], &shown["moving"]),
        (&Value::Null, &value!(""))
    );

    let absent = ["table", "move", TABLE, "0", "--primary-to", &from];
    refused(&cluster, &absent, 3, "not_found", "has no replica there");
    let beyond = ["table", "move", TABLE, "4", "--primary-to", &from];
    refused(&cluster, &beyond, 3, "not_found", "no partition 4");
    refused(
        &cluster,
        &["table", "move", "none", "0", "--primary-to", "1"],
        3,
        "not_found",
        "none",
    );
    let taken = format!("{}/0", held[1]);
    let both = [
        "table",
        "move",
        TABLE,
        "0",
        "--replica-from",
        &held[0].to_string(),
        "--replica-to",
        &taken,
    ];
    refused(
        &cluster,
        &both,
        1,
        "failed",
        "two on one node would fall together",
    );
    refused(
        &cluster,
        &["table", "move", TABLE, "0"],
        2,
        "usage",
        "required",
    );
}

#[test]
fn a_drained_node_leads_nothing_then_holds_nothing_and_may_come_back() {
    let (_directory, cluster) = start();
    let leads = |node: u64| {
        let table = cluster.table(TABLE).unwrap();
        let partitions = table["partitions"].as_array().unwrap().clone();
        partitions.iter().any(|it| node_of(&it["primary"]) == node)
    };
    let drained = json(&cluster, &["node", "drain", "2", "--wait"]);
    assert_eq!(
        drained,
        value!({ "node": 2, "draining": true, "move": false, "done": true, "waits_for": "" })
    );
    assert!(!leads(2) && holders(&cluster).contains(&2) && is_draining(&cluster, 2));

    let emptied = done(&cluster, &["node", "drain", "2", "--move", "--wait"]);
    assert_eq!(emptied.code, 0, "{}", emptied.err);
    assert!(emptied.out.contains("node 2 is empty"), "{}", emptied.out);
    assert!(!holders(&cluster).contains(&2));
    assert!(
        done(&cluster, &["node", "list"])
            .out
            .contains("alive, draining")
    );

    // Two replicas have no place on the one node that is left.
    let stuck = done(&cluster, &["node", "drain", "3", "--move", "--wait=1"]);
    assert_eq!(stuck.code, 4, "{}", stuck.err);
    assert!(stuck.err.contains("still holds"), "{}", stuck.err);
    assert_eq!(done(&cluster, &["node", "undrain", "3"]).code, 0);
    assert_eq!(json(&cluster, &["node", "undrain", "2"])["draining"], false);
    assert!(!is_draining(&cluster, 2) && !is_draining(&cluster, 3));
    refused(
        &cluster,
        &["node", "drain", "9"],
        3,
        "not_found",
        "no node 9",
    );
    refused(
        &cluster,
        &["node", "undrain", "9"],
        3,
        "not_found",
        "no node 9",
    );
}

#[test]
fn a_lost_member_is_said_to_be_missing_until_another_one_has_learned() {
    let (_directory, cluster) = start();
    let shown = done(&cluster, &["table", "list"]).out;
    assert!(!shown.contains("of its partitions"), "{shown}");
    // Nobody is left to learn what is on two nodes only.
    let drained = json(&cluster, &["node", "drain", "3", "--move", "--wait"]);
    assert_eq!(drained["done"], true);
    cluster.kill("node-2").unwrap();
    wait_until("partitions to lack members", || {
        let listed = json(&cluster, &["table", "list"]);
        listed[0]["partitions_degraded"] == 4 && !listed[0]["degraded_since_unix_ms"].is_null()
    })
    .unwrap();
    assert!(
        done(&cluster, &["table", "list"])
            .out
            .contains("4 lack members")
    );
    let shown = done(&cluster, &["table", "show", TABLE]).out;
    assert!(
        shown.contains("under way") && shown.contains("lacks a member for"),
        "{shown}"
    );

    json(&cluster, &["node", "undrain", "3"]);
    cluster.wait_healthy(TABLE).unwrap();
    assert_eq!(holders(&cluster), BTreeSet::from([1, 3]));
    let shown = done(&cluster, &["table", "show", TABLE]).out;
    assert!(!shown.contains("lacks a member"), "{shown}");
}

/// The largest table file of a node.
fn table_file(cluster: &Cluster, node: u16) -> PathBuf {
    let shards = fs::read_dir(cluster.data_directory(node))
        .unwrap()
        .flatten();
    let databases = shards.filter_map(|it| fs::read_dir(it.path().join("db")).ok());
    let files = databases.flatten().flatten().map(|it| it.path());
    let tables = files.filter(|it| it.extension().is_some_and(|it| it == "sst"));
    tables
        .max_by_key(|it| fs::metadata(it).unwrap().len())
        .unwrap()
}

/// Waits for the end of the pass on a node; what `scrub status` says then.
fn scrubbed(cluster: &Cluster, node: &str) -> (i32, Value) {
    let mut last = None;
    wait_until("the pass to end", || {
        let told = Done::run(&mut cluster.command(["scrub", "status", "--json", "--node", node]));
        let is_over = told.json()[0]["running"] == false;
        last = Some((told.code, told.json()[0].clone()));
        is_over
    })
    .unwrap();
    last.unwrap()
}

#[test]
fn scrubbing_finds_a_damaged_table_file_and_the_replica_is_made_anew() {
    let (_directory, cluster) = start();
    for row in 0..64 {
        let value: String = (0..500_u32)
            .map(|n| format!("{:08x}", n.wrapping_mul(0x9e37_79b9 + row)))
            .collect();
        cluster
            .pegasus(&["set", TABLE, &format!("row-{row}"), "s", &value])
            .unwrap();
    }
    // A clean stop writes the memtables to table files.
    cluster.stop().unwrap();
    cluster.start_again().unwrap();
    cluster.wait_healthy(TABLE).unwrap();
    let (code, clean) = scrubbed(&cluster, "1");
    assert_eq!(
        (code, clean["findings"].as_array().map(Vec::len)),
        (0, Some(0))
    );

    let path = table_file(&cluster, 1);
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .open(&path)
        .unwrap();
    let middle = file.metadata().unwrap().len() / 2;
    let mut bytes = [0; 16];
    file.read_exact_at(&mut bytes, middle).unwrap();
    file.write_all_at(&bytes.map(|byte| !byte), middle).unwrap();

    let began = json(&cluster, &["scrub", "start"]);
    assert_eq!(began.as_array().unwrap().len(), 3);
    assert!(
        began
            .as_array()
            .unwrap()
            .iter()
            .all(|it| it["began"] == true),
        "{began}"
    );
    let (code, damaged) = scrubbed(&cluster, "1");
    assert_eq!(code, 1, "{damaged}");
    let name = path.file_name().unwrap().to_str().unwrap();
    assert!(
        damaged["findings"][0].as_str().unwrap().contains(name),
        "{damaged}"
    );
    let told = done(&cluster, &["scrub", "status"]);
    assert!(
        told.out.contains("is made anew from its peers"),
        "{}",
        told.out
    );

    wait_until("the replica to be made anew", || {
        cluster.wait_healthy(TABLE).unwrap();
        json(&cluster, &["scrub", "start", "--node", "1"]);
        scrubbed(&cluster, "1").0 == 0
    })
    .unwrap();
    assert!(
        cluster
            .pegasus(&["get", TABLE, "row-0", "s"])
            .unwrap()
            .starts_with("00000000")
    );

    refused(
        &cluster,
        &["scrub", "status", "--node", "9"],
        3,
        "not_found",
        "no node 9",
    );
    cluster.kill("node-3").unwrap();
    refused(
        &cluster,
        &["scrub", "status", "--node", "3"],
        4,
        "unavailable",
        "no answer from node 3",
    );
}
