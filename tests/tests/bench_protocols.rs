//! pegasus-bench through every protocol of a client port: it loads, and every answer of a mixed load can be true.

use anyhow::{Result, ensure};
use e2e::cluster::{Cluster, program};
use std::process::{Command, Stdio};

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

fn bench(arguments: &[&str]) -> Result<String> {
    let output = Command::new(program("pegasus-bench"))
        .args(arguments)
        .stdin(Stdio::null())
        .output()?;
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    ensure!(output.status.success(), "{arguments:?}: {output:?}");
    Ok(said)
}
