//! Meta's state is lost while nothing runs: what the nodes keep of their tables and members is enough to rebuild it.

use anyhow::{Context, Result, ensure};
use e2e::cluster::{Cluster, program};
use std::fs;
use std::process::{Command, Stdio};

const NODES: u16 = 3;
const ROWS: usize = 20;

#[test]
fn a_lost_meta_is_rebuilt_after_all_of_the_cluster_was_down() -> Result<()> {
    let directory = tempfile::tempdir()?;
    let cluster = Cluster::start(&directory.path().join("c"), NODES, 1)?;
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
    // What nodes keep of it is written behind, within a second or so of each change; stopping writes it too.
    let launches: Result<Vec<_>> = (1..=NODES)
        .map(|number| cluster.launch(&format!("node-{number}")))
        .collect();
    let (launches, meta) = (launches?, cluster.launch("meta")?);
    cluster.stop()?;
    let lost = cluster.directory().join("meta/data");
    fs::remove_dir_all(&lost).with_context(|| lost.display().to_string())?;

    // Nodes come up and find no meta; then somebody rebuilds it.
    for launch in &launches {
        launch.start()?;
    }
    let output = Command::new(program("pegasus-meta"))
        .args(["recover", "--cluster-id", &cluster_id(&cluster)?])
        .arg("--dir")
        .arg(&lost)
        .args(["--nodes", "1,2,3", "--listen", cluster.meta()])
        .stdin(Stdio::null())
        .output()?;
    ensure!(
        output.status.success(),
        "{output:?}\n{}",
        cluster.last_log_lines()
    );
    meta.start()?;

    cluster.wait_healthy("t")?;
    for row in 0..ROWS {
        let value = cluster.pegasus(&["get", "t", &format!("key-{row}"), "s"])?;
        ensure!(
            value.trim_end() == format!("value {row}"),
            "row {row}: {value}"
        );
    }
    cluster
        .pegasus(&["set", "t", "key-0", "s", "changed"])
        .map(drop)
}

/// As `node.toml` of any node has it.
fn cluster_id(cluster: &Cluster) -> Result<String> {
    let path = cluster.data_directory(1).join("node.toml");
    let text = fs::read_to_string(&path).with_context(|| path.display().to_string())?;
    let mut lines = text.lines().filter_map(|line| line.split_once('='));
    let found = lines.find(|(key, _)| key.trim() == "cluster");
    let (_, id) = found.with_context(|| format!("no cluster in {text}"))?;
    Ok(id.trim().trim_matches('"').to_owned())
}
