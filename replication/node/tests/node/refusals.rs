//! Starts that are refused, each with one sentence that names the thing.

use crate::harness::{TestCluster, command, spawn, start_meta};
use std::fs;
use std::process::{Command, Stdio};
use tempfile::TempDir;

/// Runs to the end, which must be a refusal, and returns its last words.
fn refusal(mut command: Command) -> String {
    let output = spawn(&mut command).wait_with_output().unwrap();
    assert!(!output.status.success(), "it was not refused");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    said.lines().last().unwrap_or_default().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_directory_in_use_is_refused() {
    let cluster = TestCluster::start(1, 1).await;
    let said = refusal(command(cluster.nodes[0].dir(), cluster.meta(), 1));
    assert!(
        said.contains("another process holds") && said.contains("LOCK"),
        "{said}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_directory_with_other_files_is_refused() {
    let cluster = TestCluster::start(0, 1).await;
    let dir = TempDir::new().unwrap();
    fs::write(dir.path().join("photos.tar"), b"x").unwrap();
    let said = refusal(command(dir.path(), cluster.meta(), 1));
    assert!(said.contains("no node.toml"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_directory_of_another_cluster_is_refused() {
    let mut cluster = TestCluster::start(1, 1).await;
    cluster.nodes[0].stop();
    let other = start_meta(&cluster.dir.path().join("other"), 2).await;
    let said = refusal(command(cluster.nodes[0].dir(), other.address(), 1));
    assert!(said.contains("cluster"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn fewer_cores_than_shards_are_refused() {
    let mut cluster = TestCluster::start(1, 2).await;
    cluster.nodes[0].stop();
    let said = refusal(command(cluster.nodes[0].dir(), cluster.meta(), 1));
    assert!(said.contains("has 2 shards"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_settings_are_refused_by_name() {
    let dir = TempDir::new().unwrap();
    let file = dir.path().join("node.toml");
    fs::write(&file, "[process]\ndir = '/nowhere'\nport = 1\n").unwrap();
    let mut run = Command::new(env!("CARGO_BIN_EXE_pegasus-replica"));
    run.arg("run").arg("--config").arg(&file);
    let output = spawn(run.stderr(Stdio::piped()))
        .wait_with_output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success());
    assert!(said.contains("port"), "{said}");
}
