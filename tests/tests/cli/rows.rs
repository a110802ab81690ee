//! Tables, nodes and single rows.

use super::{done, json, refused, table_width};
use e2e::cluster::Cluster;
use serde_json::json;

#[test]
fn tables_nodes_and_rows_are_made_shown_and_removed() {
    let directory = tempfile::tempdir().unwrap();
    let cluster = Cluster::start(&directory.path().join("c"), 2, 1).unwrap();
    tables(&cluster);
    nodes(&cluster);
    rows(&cluster);
    scans(&cluster);
    closed_and_full_outputs(&cluster);
    truncate_needs_a_yes_and_keeps_the_rows(&cluster);
    drop_needs_a_yes(&cluster);
}

fn tables(cluster: &Cluster) {
    assert_eq!(json(cluster, &["table", "list"]), json!([]));
    let create = [
        "table",
        "create",
        "t",
        "--partitions",
        "4",
        "--replicas",
        "2",
    ];
    let created = json(cluster, &create);
    assert_eq!(
        (&created["name"], &created["degraded"]),
        (&json!("t"), &json!(false))
    );
    refused(cluster, &create, 1, "failed", "exists already");
    let list = json(cluster, &["table", "list"]);
    assert_eq!(list[0]["partition_count"], 4);
    let show = json(cluster, &["table", "show", "t"]);
    assert_eq!(show["partitions"].as_array().unwrap().len(), 4);
    assert!(show["partitions"][0]["primary"]["address"].is_string());
    assert!(
        done(cluster, &["table", "show", "t"])
            .out
            .contains("serving")
    );
    refused(
        cluster,
        &["table", "show", "nope"],
        3,
        "not_found",
        "no such table",
    );
    let three = [
        "table",
        "create",
        "u",
        "--partitions",
        "2",
        "--replicas",
        "3",
    ];
    refused(cluster, &three, 1, "failed", "--allow-degraded");
}

fn nodes(cluster: &Cluster) {
    let nodes = json(cluster, &["node", "list"]);
    assert_eq!(nodes["cluster_id"].as_str().unwrap().len(), 32);
    let node = &nodes["nodes"][1];
    assert_eq!((&node["node"], &node["alive"]), (&json!(2), &json!(true)));
    assert!(node["cores"][0]["client_address"].is_string());
    assert!(done(cluster, &["node", "list"]).out.contains("alive"));
}

fn rows(cluster: &Cluster) {
    let run = |arguments: &[&str]| {
        let done = done(cluster, arguments);
        assert_eq!((done.code, done.err.as_str()), (0, ""), "{arguments:?}");
        done.out
    };
    assert_eq!(run(&["set", "t", "user", "name", "Ada"]), "");
    assert_eq!(run(&["get", "t", "user", "name"]), "Ada\n");
    assert_eq!(run(&["get", "t", "user", "name", "--raw"]), "Ada");
    let expected = json!({"hash_key": "user", "sort_key": "name", "value": "Ada"});
    assert_eq!(json(cluster, &["get", "t", "user", "name"]), expected);
    assert_eq!(run(&["ttl", "t", "user", "name"]), "never expires\n");
    assert_eq!(
        json(cluster, &["ttl", "t", "user", "name"])["ttl"],
        json!(null)
    );
    run(&["set", "t", "user", "session", "x", "--ttl", "2147483647"]);
    let left = json(cluster, &["ttl", "t", "user", "session"])["ttl"].as_u64();
    assert!(
        left.is_some_and(|left| (2_147_483_000..=2_147_483_647).contains(&left)),
        "{left:?}"
    );
    assert_eq!(run(&["exist", "t", "user", "name"]), "yes\n");
    // "no" is an answer, not a failure to be explained.
    for arguments in [
        &["exist", "t", "user", "nope"][..],
        &["exist", "t", "user", "nope", "--json"],
    ] {
        let absent = done(cluster, arguments);
        assert_eq!((absent.code, absent.err.as_str()), (3, ""));
    }
    assert_eq!(run(&["del", "t", "user", "name"]), "");
    for verb in ["get", "ttl"] {
        refused(
            cluster,
            &[verb, "t", "user", "name"],
            3,
            "not_found",
            "no row",
        );
    }
    // Numbers, nothing at all, and bytes that are not text.
    run(&["set", "t", "-5", "-6", "-7"]);
    assert_eq!(run(&["get", "t", "-5", "-6"]), "-7\n");
    run(&["set", "t", "", "", ""]);
    assert_eq!(run(&["get", "t", "", ""]), "\n");
    run(&["set", "t", "--escaped", r"\xff\n", "naïve", r"\0"]);
    assert_eq!(run(&["get", "t", "-e", r"\xff\n", "naïve"]), "\\0\n");
    let binary = json(cluster, &["get", "t", "-e", r"\xff\n", "naïve"]);
    assert_eq!(binary["hash_key"], json!({"b64": "/wo="}));
    refused(cluster, &["get", "t", "-e", r"\q"], 2, "usage", "backslash");
    refused(
        cluster,
        &["get", "nope", "a"],
        3,
        "not_found",
        "no such table",
    );
    refused(
        cluster,
        &["set", "t", "a", "b", "c", "--ttl", "-1"],
        2,
        "usage",
        "2147483647",
    );
    let large = "k".repeat(66_000);
    refused(
        cluster,
        &["set", "t", &large, "b", "c"],
        1,
        "failed",
        "65534",
    );
}

fn scans(cluster: &Cluster) {
    for number in 0..5 {
        let set = ["set", "t", "many", &format!("s{number}"), "v"];
        assert_eq!(done(cluster, &set).code, 0);
    }
    let all = done(cluster, &["scan", "t", "many"]);
    assert_eq!(all.out.lines().next(), Some("many\ts0\tv"));
    let some = done(
        cluster,
        &[
            "scan",
            "t",
            "many",
            "--from",
            "s1",
            "--to",
            "s3",
            "--no-value",
        ],
    );
    assert_eq!(some.out, "many\ts1\nmany\ts2\n");
    let cut = done(cluster, &["scan", "t", "many", "--limit", "2"]);
    assert_eq!((cut.code, cut.out.lines().count()), (0, 2));
    assert!(cut.err.contains("there are more"), "{}", cut.err);
    assert_eq!(
        json(cluster, &["scan", "t", "many", "--count"]),
        json!({"count": 5, "more": false})
    );
    let prefix = done(cluster, &["scan", "t", "--hash-prefix", "man", "--json"]);
    assert_eq!(prefix.out.lines().count(), 5);
    refused(
        cluster,
        &["scan", "t", "--from", "a"],
        2,
        "usage",
        "HASH_KEY",
    );
}

fn closed_and_full_outputs(cluster: &Cluster) {
    let full = |arguments: &[&str], is_out: bool| {
        let device = std::fs::OpenOptions::new()
            .write(true)
            .open("/dev/full")
            .unwrap();
        let mut command = cluster.command(arguments);
        match is_out {
            true => command.stdout(device),
            false => command.stderr(device),
        };
        super::Done::run(&mut command)
    };
    for arguments in [
        &["scan", "t"][..],
        &["table", "list"],
        &["scan", "t", "--json"],
    ] {
        let lost = full(arguments, true);
        assert_eq!(lost.code, 1);
        assert!(lost.err.contains("standard output"), "{}", lost.err);
    }
    // Nobody hears why; the exit code still tells.
    assert_eq!(full(&["get", "t", "absent"], false).code, 3);
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    for arguments in [
        &["scan", "t"][..],
        &["scan", "t", "--json"],
        &["table", "list", "--json"],
    ] {
        let mut command = cluster.command(arguments);
        let gone = super::Done::run(command.stdout(writer.try_clone().unwrap()));
        assert_eq!((gone.code, gone.err.as_str()), (0, ""), "{arguments:?}");
    }
}

/// The table is made anew, and the old one is one that was dropped.
fn truncate_needs_a_yes_and_keeps_the_rows(cluster: &Cluster) {
    let create = [
        "table",
        "create",
        "full",
        "--partitions",
        "2",
        "--replicas",
        "2",
    ];
    assert_eq!(done(cluster, &create).code, 0);
    assert_eq!(done(cluster, &["set", "full", "k", "s", "kept"]).code, 0);
    refused(cluster, &["table", "truncate", "full"], 2, "usage", "--yes");
    assert_eq!(done(cluster, &["get", "full", "k", "s"]).out.trim(), "kept");

    let truncated = json(cluster, &["table", "truncate", "full", "--yes"]);
    let old = truncated["dropped_table_id"].to_string();
    refused(
        cluster,
        &["get", "full", "k", "s"],
        3,
        "not_found",
        "no row",
    );
    assert_eq!(done(cluster, &["set", "full", "k", "s", "new"]).code, 0);

    let recall = ["table", "recall", &old, "--name", "before"];
    assert_eq!(done(cluster, &recall).code, 0);
    assert_eq!(
        done(cluster, &["get", "before", "k", "s"]).out.trim(),
        "kept"
    );
    assert_eq!(done(cluster, &["get", "full", "k", "s"]).out.trim(), "new");
    for table in ["before", "full"] {
        assert_eq!(done(cluster, &["table", "drop", table, "--yes"]).code, 0);
    }
    let missing = ["table", "truncate", "full", "--yes"];
    refused(cluster, &missing, 3, "not_found", "no such table");
}

fn drop_needs_a_yes(cluster: &Cluster) {
    assert!(table_width(&done(cluster, &["table", "show", "t"]).out) <= 120);
    refused(cluster, &["table", "drop", "t"], 2, "usage", "--yes");
    let dropped = json(cluster, &["table", "drop", "t", "--yes"]);
    assert_eq!(dropped["dropped"], true);
    refused(
        cluster,
        &["table", "drop", "t", "--yes"],
        3,
        "not_found",
        "no such table",
    );
}
