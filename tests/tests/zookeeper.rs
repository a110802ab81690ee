//! A live cluster's meta moves into ZooKeeper: stopped, exported, imported, started there twice; the leader is killed.

use anyhow::{Context, Result, bail, ensure};
use e2e::cluster::{Cluster, PATIENCE, program};
use e2e::zookeeper::ZooKeeper;
use std::io::{BufRead, BufReader};
use std::net::{Ipv4Addr, TcpListener};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

const ROWS: usize = 20;
const LOOK: Duration = Duration::from_millis(50);

/// A meta that keeps its state in ZooKeeper; killed when dropped.
struct Meta(Child);

impl Meta {
    fn start(directory: &Path, listen: &str, server: &ZooKeeper) -> Result<Self> {
        let mut process = Command::new(program("pegasus-meta"))
            .args(["run", "--listen", listen, "--zookeeper", &server.address()])
            .args(["--zookeeper-session-timeout-ms", "1000"])
            .arg("--dir")
            .arg(directory)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()?;
        let stdout = process.stdout.take().context("it has an output")?;
        let mut line = String::new();
        BufReader::new(stdout).read_line(&mut line)?;
        ensure!(line.starts_with("listening on"), "meta says {line:?}");
        Ok(Self(process))
    }
}

impl Drop for Meta {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn run_meta(arguments: &[&str]) -> Result<String> {
    let output = Command::new(program("pegasus-meta"))
        .args(arguments)
        .output()?;
    let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    ensure!(output.status.success(), "{arguments:?}: {said}");
    Ok(said)
}

/// Asks one of these metas until it does it.
fn until_done(cluster: &Cluster, metas: &str, arguments: &[&str]) -> Result<String> {
    let end = Instant::now() + PATIENCE;
    loop {
        let all: Vec<&str> = ["--meta", metas].iter().chain(arguments).copied().collect();
        let output = Command::new(program("pegasus")).args(&all).output()?;
        if output.status.success() {
            return Ok(String::from_utf8(output.stdout)?);
        }
        if Instant::now() > end {
            let said = String::from_utf8_lossy(&output.stderr);
            bail!("{arguments:?}: {said}\n{}", cluster.last_log_lines());
        }
        std::thread::sleep(LOOK);
    }
}

#[test]
fn a_live_cluster_moves_its_meta_into_zookeeper_and_loses_its_leader_there() -> Result<()> {
    let directory = tempfile::tempdir()?;
    let server = ZooKeeper::start()?;
    let cluster = Cluster::start(&directory.path().join("c"), 3, 1)?;
    cluster.create_table("t", 4, 3)?;
    for row in 0..ROWS {
        cluster.pegasus(&[
            "set",
            "t",
            &format!("key-{row}"),
            "s",
            &format!("value {row}"),
        ])?;
    }
    cluster.kill("meta")?;
    let old = cluster.directory().join("meta/data");
    let file = directory.path().join("state.jsonl");
    let (old, file) = (old.display().to_string(), file.display().to_string());
    let said = run_meta(&["export", "--dir", &old, "--out", &file])?;
    ensure!(said.contains("3 nodes, 1 tables"), "{said}");
    run_meta(&["import", &file, "--zookeeper", &server.address()])?;
    let again = run_meta(&["import", &file, "--zookeeper", &server.address()]);
    ensure!(again.is_err_and(|error| error.to_string().contains("holds a meta store already")));

    // The first one where the nodes look for it, the second one anywhere.
    let second = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?
        .local_addr()?
        .to_string();
    let first = cluster.meta().to_owned();
    let leader = Meta::start(&directory.path().join("first"), &first, &server)?;
    cluster.wait_healthy("t")?;
    let follower = Meta::start(&directory.path().join("second"), &second, &server)?;
    let both = format!("{first},{second}");
    until_done(
        &cluster,
        &both,
        &[
            "table",
            "create",
            "u",
            "--partitions",
            "2",
            "--replicas",
            "3",
        ],
    )?;
    drop(leader);
    // The tables are known to the one that is left, and data traffic has never stopped.
    let tables = until_done(&cluster, &second, &["--json", "table", "list"])?;
    ensure!(
        tables.contains("\"t\"") && tables.contains("\"u\""),
        "{tables}"
    );
    for row in 0..ROWS {
        let key = format!("key-{row}");
        let value = until_done(&cluster, &second, &["get", "t", &key, "s"])?;
        ensure!(
            value.trim_end() == format!("value {row}"),
            "row {row}: {value}"
        );
    }
    drop(follower);

    // And back into a directory.
    let back = directory.path().join("back.jsonl").display().to_string();
    run_meta(&["export", "--zookeeper", &server.address(), "--out", &back])?;
    let new = directory.path().join("new").display().to_string();
    run_meta(&["import", &back, "--dir", &new])?;
    Ok(())
}
