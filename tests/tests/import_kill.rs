//! Real data through the CLI, with every process killed in the middle.

#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

use e2e::cluster::{Cluster, wait_until};
use e2e::packages;
use std::collections::BTreeMap;
use std::fs;
use std::io::Read;

#[test]
fn an_import_survives_the_death_of_every_process_and_nothing_is_missing() {
    let directory = tempfile::tempdir().unwrap();
    let rows = packages::read_index().unwrap();
    let source = directory.path().join("packages.tsv");
    fs::write(&source, packages::to_tsv(&rows)).unwrap();
    let source = source.to_str().unwrap();

    let cluster = Cluster::start(&directory.path().join("cluster"), 3, 1).unwrap();
    cluster.create_table("packages", 16, 3).unwrap();
    let import = [
        "import",
        source,
        "--table",
        "packages",
        "--format",
        "tsv",
        "--hash-key",
        "1",
        "--sort-key",
        "2",
        "--value",
        "3",
    ];
    let mut first = cluster.spawn(&import).unwrap();
    let some = || {
        cluster
            .pegasus(&["get", "packages", "bash", "Package"])
            .is_ok_and(|value| value.contains("bash"))
    };
    wait_until("the import to be under way", some).unwrap();
    cluster.kill_all().unwrap();
    let mut said = String::new();
    first
        .stderr
        .take()
        .unwrap()
        .read_to_string(&mut said)
        .unwrap();
    let ended = first.wait().unwrap();
    assert!(
        !ended.success(),
        "the import was over before the kill, which proves nothing: {said}"
    );

    cluster.start_again().unwrap();
    cluster.wait_healthy("packages").unwrap();
    // The failed import says up to which line everything was acknowledged: those rows must be there already.
    let acknowledged = acknowledged_lines(&said);
    let before = export(&cluster, directory.path());
    for (key, value) in rows.iter().take(acknowledged) {
        assert_eq!(
            before.get(key),
            Some(value),
            "acknowledged row {key:?} is missing after the kill"
        );
    }

    cluster.pegasus(&import).unwrap();
    let after = export(&cluster, directory.path());
    assert_eq!(after.len(), rows.len());
    for (key, value) in &rows {
        assert_eq!(after.get(key), Some(value), "row {key:?}");
    }
}

fn acknowledged_lines(said: &str) -> usize {
    let line = said
        .lines()
        .rev()
        .find(|line| line.contains("--from-line"))
        .unwrap_or_else(|| panic!("no way to go on in: {said}"));
    let number = line
        .split("--from-line")
        .nth(1)
        .unwrap()
        .trim_start_matches([' ', '=']);
    let digits: String = number.chars().take_while(char::is_ascii_digit).collect();
    digits.parse::<usize>().unwrap() - 1
}

fn export(cluster: &Cluster, directory: &std::path::Path) -> BTreeMap<(String, String), String> {
    let file = directory.join("export.tsv");
    cluster
        .pegasus(&[
            "export",
            "--table",
            "packages",
            "--format",
            "tsv",
            "--out",
            file.to_str().unwrap(),
        ])
        .unwrap();
    let text = fs::read_to_string(&file).unwrap();
    let rows = text.lines().map(|line| {
        let mut columns = line.splitn(3, '\t').map(str::to_owned);
        let mut next = || columns.next().unwrap();
        ((next(), next()), next())
    });
    rows.collect()
}
