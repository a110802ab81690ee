//! Import and export: columns by number and name, bad lines, interruptions, places that cannot be written.

use super::{Done, done, json, refused};
use e2e::cluster::{Cluster, wait_until};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use std::fs;
use std::io::Write as _;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::{Child, Stdio};

#[test]
fn rows_go_in_and_out_of_files() {
    let directory = tempfile::tempdir().unwrap();
    let cluster = Cluster::start(&directory.path().join("c"), 1, 1).unwrap();
    for table in ["t", "copy"] {
        cluster.create_table(table, 2, 1).unwrap();
    }
    columns(&cluster, directory.path());
    there_and_back(&cluster, directory.path());
    wrong_files_and_options(&cluster, directory.path());
    places_to_write(&cluster, directory.path());
    an_interrupted_import_tells_how_far_it_came(&cluster);
    an_interrupted_export_leaves_nothing(&cluster, directory.path());
}

fn file(directory: &Path, name: &str, content: &[u8]) -> String {
    let path = directory.join(name);
    fs::write(&path, content).unwrap();
    path.display().to_string()
}

fn import<'a>(file: &'a str, format: &'a str, more: &[&'a str]) -> Vec<&'a str> {
    let fixed = ["import", file, "--table", "t", "--format", format];
    fixed.iter().chain(more).copied().collect()
}

fn columns(cluster: &Cluster, directory: &Path) {
    let by_number = file(directory, "n.tsv", b"v1\th1\ts1\t60\nv2\th2\t\t\n");
    let numbers = [
        "--hash-key",
        "2",
        "--sort-key",
        "3",
        "--value",
        "1",
        "--ttl",
        "4",
    ];
    let report = json(cluster, &import(&by_number, "tsv", &numbers));
    assert_eq!(
        (&report["rows"], &report["acknowledged_to_line"]),
        (&json!(2), &json!(2))
    );
    assert_eq!(report["error"], Value::Null);
    assert!(
        json(cluster, &["ttl", "t", "h1", "s1"])["ttl"]
            .as_u64()
            .is_some_and(|ttl| ttl <= 60)
    );
    assert_eq!(json(cluster, &["ttl", "t", "h2"])["ttl"], Value::Null);
    let by_name = file(directory, "h.tsv", b"key\tbody\nh3\tv3\n");
    let names = ["--header", "--hash-key", "key", "--value", "body"];
    let words = done(cluster, &import(&by_name, "tsv", &names));
    assert_eq!((words.code, words.out.as_str()), (0, ""));
    assert!(
        words.err.contains("imported 1 rows") && words.err.contains("rows/s"),
        "{}",
        words.err
    );
    assert_eq!(done(cluster, &["get", "t", "h3"]).out, "v3\n");
    let wrong = ["--header", "--value", "nope"];
    refused(
        cluster,
        &import(&by_name, "tsv", &wrong),
        2,
        "usage",
        "no such column in the header (key, body)",
    );
}

fn there_and_back(cluster: &Cluster, directory: &Path) {
    assert_eq!(
        done(
            cluster,
            &[
                "set", "t", "-e", r"bin\xff", r"a\tb", r"x\n", "--ttl", "3600"
            ]
        )
        .code,
        0
    );
    let out = directory.join("out.jsonl").display().to_string();
    let export = ["export", "--table", "t", "--format", "jsonl", "--out", &out];
    let report = json(cluster, &export);
    assert_eq!((&report["rows"], &report["file"]), (&json!(4), &json!(out)));
    let back = ["import", &out, "--table", "copy", "--format", "jsonl"];
    assert_eq!(json(cluster, &back)["rows"], 4);
    // Times to live count down in between.
    let rows = |table| {
        let text = done(cluster, &["export", "--table", table, "--format", "jsonl"]).out;
        let row = |line| {
            let mut row: Value = serde_json::from_str(line).unwrap();
            let expires = row.as_object_mut().unwrap().remove("ttl").is_some();
            (row.to_string(), expires)
        };
        let mut rows: Vec<_> = text.lines().map(row).collect();
        rows.sort();
        rows
    };
    assert_eq!(rows("copy"), rows("t"));
    assert_eq!(rows("t").iter().filter(|(_, expires)| *expires).count(), 2);
    let tsv = ["export", "--table", "t", "--format", "tsv"];
    refused(cluster, &tsv, 1, "failed", "use --format jsonl");
}

fn wrong_files_and_options(cluster: &Cluster, directory: &Path) {
    let bad = file(directory, "bad.tsv", b"h\tv\nshort\nh\tw\n");
    let stopped = Done::run(
        cluster
            .command(import(&bad, "tsv", &["--value", "2", "--json"]))
            .stdin(Stdio::null()),
    );
    assert_eq!(
        (stopped.code, &stopped.json()["acknowledged_to_line"]),
        (1, &json!(1))
    );
    assert!(
        stopped.error()["error"]
            .as_str()
            .unwrap()
            .contains("--from-line 2")
    );
    let skipped = json(
        cluster,
        &import(&bad, "tsv", &["--value", "2", "--skip-bad"]),
    );
    assert_eq!(
        (&skipped["rows"], &skipped["bad_lines_skipped"]),
        (&json!(2), &json!(1))
    );
    let ttl = file(directory, "ttl.tsv", b"h\tv\t-5\n");
    refused(
        cluster,
        &import(&ttl, "tsv", &["--value", "2", "--ttl", "3"]),
        1,
        "failed",
        "'-5' is not a number",
    );
    let binary = file(
        directory,
        "garbage",
        &(0..=255).cycle().take(4_000).collect::<Vec<u8>>(),
    );
    refused(
        cluster,
        &import(&binary, "jsonl", &[]),
        1,
        "failed",
        "line 1: not a JSON object",
    );
    refused(
        cluster,
        &import("/nonexistent/x", "tsv", &["--value", "2"]),
        1,
        "failed",
        "/nonexistent/x",
    );
    refused(
        cluster,
        &import("/tmp", "tsv", &["--value", "2"]),
        1,
        "failed",
        "is a directory",
    );
    for (more, says) in [
        (&["--value", "2", "--concurrency", "0"][..], "1..=10000"),
        (&["--value", "2", "--concurrency", "-1"], "1..=10000"),
        (&["--value", "2", "--from-line", "0"], "--from-line"),
        (&["--value", "0"], "columns count from 1"),
        (&["--value", "name"], "--header"),
        (&[], "--value is needed"),
    ] {
        refused(cluster, &import(&bad, "tsv", more), 2, "usage", says);
    }
    refused(
        cluster,
        &import(&bad, "jsonl", &["--header"]),
        2,
        "usage",
        "JSONL has none",
    );
}

fn places_to_write(cluster: &Cluster, directory: &Path) {
    let to = |place: &str| {
        [
            "export", "--table", "t", "--format", "jsonl", "--out", place,
        ]
        .map(str::to_owned)
    };
    let refused_at = |place: &str, says: &str| {
        let arguments = to(place);
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        refused(cluster, &arguments, 1, "failed", says);
    };
    // By a link, so that a program that replaces what it should write to does no harm.
    let full = directory.join("full");
    symlink("/dev/full", &full).unwrap();
    refused_at(&full.display().to_string(), "full: No space left");
    assert!(fs::symlink_metadata(&full).unwrap().is_symlink());
    refused_at("/nonexistent/x", "cannot write there");
    refused_at(&directory.display().to_string(), "is a directory");
    let nowhere = ["export", "--table", "nope", "--format", "tsv", "--out"];
    let kept = file(directory, "kept", b"old");
    let failed = Done::run(cluster.command(nowhere).arg(&kept));
    assert_eq!(
        (failed.code, fs::read(&kept).unwrap()),
        (3, b"old".to_vec())
    );
}

fn interrupt(child: &Child) {
    let pid = i32::try_from(child.id())
        .ok()
        .and_then(Pid::from_raw)
        .unwrap();
    kill_process(pid, Signal::INT).unwrap();
}

fn an_interrupted_import_tells_how_far_it_came(cluster: &Cluster) {
    let arguments = import("-", "tsv", &["--value", "2"]);
    let mut child = cluster
        .command(arguments)
        .stdin(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut input = child.stdin.take().unwrap();
    input.write_all(b"slow1\tv\nslow2\tv\n").unwrap();
    let written = || done(cluster, &["exist", "t", "slow2"]).code == 0;
    wait_until("the second row to be written", written).unwrap();
    interrupt(&child);
    let done = Done::of(&child.wait_with_output().unwrap());
    assert_eq!(done.code, 130, "{}", done.err);
    assert!(
        done.err.contains("everything up to line 2 is acknowledged"),
        "{}",
        done.err
    );
}

fn an_interrupted_export_leaves_nothing(cluster: &Cluster, directory: &Path) {
    let place = directory.join("exports");
    fs::create_dir(&place).unwrap();
    let files = || fs::read_dir(&place).unwrap().count();
    // It rides out the absence of the node until it is told to end.
    cluster.kill("node-1").unwrap();
    let mut command = cluster.command(["--meta", cluster.meta(), "export", "--table", "t"]);
    let child = command
        .args(["--format", "jsonl", "--out"])
        .arg(place.join("out"))
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    wait_until("the export to begin", || files() == 1).unwrap();
    wait_until("the export to wait for signals", || {
        catches_interrupts(&child)
    })
    .unwrap();
    interrupt(&child);
    let done = Done::of(&child.wait_with_output().unwrap());
    assert_eq!((done.code, files()), (130, 0), "{}", done.err);
    assert!(done.err.contains("is not written"), "{}", done.err);
}

/// Whether the process has a handler for SIGINT.
fn catches_interrupts(child: &Child) -> bool {
    let status = fs::read_to_string(format!("/proc/{}/status", child.id())).unwrap_or_default();
    let caught = status.lines().find_map(|line| line.strip_prefix("SigCgt:"));
    let caught = caught.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    caught.is_some_and(|mask| mask & 0b10 != 0)
}
