//! Bytes that flip and files that are lost: found, named, rebuilt from the other copies, and of no concern to any other
//! replica. The last copy stays as it is.

#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

use e2e::cluster::{Cluster, Options, PATIENCE, program, wait_until};
use e2e::writers;
use pegasus_client::{Code, Execution, Table};
use rand::rngs::SmallRng;
use rand::{RngCore, SeedableRng};
use serde_json::Value;
use std::collections::BTreeMap;
use std::fs::{self, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use tempfile::TempDir;

const PARTITIONS: u32 = 8;
/// The node whose files are damaged.
const VICTIM: u16 = 1;
/// Not compressible, and in no other file by chance.
const NEEDLE_BYTES: usize = 64;

struct Scene {
    cluster: Cluster,
    /// Goes after the cluster in it.
    _directory: TempDir,
    table: Table,
    /// By partition: a hash key in it and the value that was acknowledged for it.
    rows: BTreeMap<u32, (String, Vec<u8>)>,
}

impl Scene {
    /// Three nodes, a table on all of them, a row in each partition.
    async fn set(replicas: u32, node_options: &[&str]) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("cluster");
        let options = Options {
            node: node_options,
            meta: &["--heal-delay-ms=500"],
            ..Options::default()
        };
        let cluster = Cluster::start_options(&path, 3, 1, options).unwrap();
        cluster.create_table("t", PARTITIONS, replicas).unwrap();
        let table = writers::connect(cluster.meta(), "t").await.unwrap();
        let mut scene = Self {
            _directory: directory,
            cluster,
            table,
            rows: BTreeMap::new(),
        };
        scene.fill().await;
        scene
    }

    async fn fill(&mut self) {
        let mut random = SmallRng::seed_from_u64(7);
        for number in 0.. {
            let key = format!("row-{number}");
            let partition = self.table.partition_of(key.as_bytes(), b"s");
            if self.rows.len() == PARTITIONS as usize {
                return;
            }
            if self.rows.contains_key(&partition) {
                continue;
            }
            let mut value = vec![0; NEEDLE_BYTES];
            random.fill_bytes(&mut value);
            self.table.put(key.as_bytes(), b"s", &value).await.unwrap();
            self.rows.insert(partition, (key, value));
        }
    }

    fn shard(&self) -> PathBuf {
        self.cluster.data_directory(VICTIM).join("shard-00")
    }

    /// The partitions whose primary is on the victim.
    fn led(&self) -> Vec<u32> {
        let shown = self.cluster.table("t").unwrap();
        let partitions = shown["partitions"].as_array().unwrap().iter();
        let led = partitions.filter(|partition| partition["primary"]["node"] == VICTIM);
        led.map(index).collect()
    }

    /// A partition whose primary is on the victim, and one whose primary is not.
    fn led_and_followed(&self) -> (u32, u32) {
        let led = self.led();
        let followed = (0..PARTITIONS).find(|partition| !led.contains(partition));
        (led[0], followed.unwrap())
    }

    /// Flips a bit in the middle of the value of this partition's row, in the one file below `directory` that has it.
    fn flip(&self, directory: &Path, partition: u32) -> PathBuf {
        let (_, value) = &self.rows[&partition];
        for entry in fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            let bytes = fs::read(&path).unwrap();
            let found = bytes
                .windows(NEEDLE_BYTES)
                .position(|window| window == value);
            if let Some(at) = found {
                let at = at + NEEDLE_BYTES / 2;
                let file = OpenOptions::new().write(true).open(&path).unwrap();
                file.write_all_at(&[bytes[at] ^ 1], at as u64).unwrap();
                file.sync_all().unwrap();
                return path;
            }
        }
        panic!(
            "no file in {} has the row of {partition}",
            directory.display()
        );
    }

    /// Starts everything and waits until all partitions but `out` serve.
    async fn start_again(&mut self, out: usize) {
        self.cluster.start_again().unwrap();
        let healthy = u64::from(PARTITIONS) - out as u64;
        let are_healthy = || self.cluster.table("t").unwrap()["healthy_partitions"] == healthy;
        wait_until("the other partitions to be healthy", are_healthy)
            .unwrap_or_else(|error| panic!("{error}: {:#}", self.cluster.table("t").unwrap()));
        self.table = writers::connect(self.cluster.meta(), "t").await.unwrap();
    }

    /// What `table show` says of the victim's replica.
    fn replica(&self, table: &str, partition: u32) -> (String, String) {
        let shown = self.cluster.table(table).unwrap();
        let partition = &shown["partitions"][partition as usize];
        let secondaries = partition["secondaries"].as_array().unwrap();
        let mut members = std::iter::once(&partition["primary"]).chain(secondaries);
        let member = members.find(|member| member["node"] == VICTIM).unwrap();
        let text = |name: &str| member[name].as_str().unwrap().to_owned();
        (text("state"), text("reason"))
    }

    /// The partition has all its members, each of them works, and the victim is among them.
    fn is_rebuilt(&self, partition: u32) -> bool {
        let shown = self.cluster.table("t").unwrap();
        let shown = &shown["partitions"][partition as usize];
        let secondaries = shown["secondaries"].as_array().unwrap();
        let mut members = std::iter::once(&shown["primary"]).chain(secondaries);
        shown["state"] == "healthy" && members.any(|member| member["node"] == VICTIM)
    }

    fn wait_rebuilt(&self, partition: u32) {
        wait_until("the replica to be rebuilt", || self.is_rebuilt(partition)).unwrap_or_else(
            |error| {
                panic!(
                    "{error}: {:#}\n{}",
                    self.cluster.table("t").unwrap(),
                    self.cluster.last_log_lines()
                )
            },
        );
    }

    /// Waits until the replica is out of service for everybody to see; returns why.
    fn wait_out_of_service(&self, table: &str, partition: u32) -> String {
        let is_out = || self.replica(table, partition).0 == "out of service";
        wait_until("the replica to be out of service", is_out).unwrap();
        let (_, reason) = self.replica(table, partition);
        assert!(!reason.is_empty());
        reason
    }

    /// This partition's row is neither read nor written, for this reason, and nothing is executed.
    async fn assert_refused(&self, partition: u32, code: Code) {
        let (key, _) = &self.rows[&partition];
        let table = &self.table;
        // A primary that starts needs all members once, before it knows what it may answer reads with.
        let refused = table.get(key.as_bytes(), b"s").await.unwrap_err();
        assert_eq!(refused.code(), Some(code), "{refused}");
        let refused = table.put(key.as_bytes(), b"s", b"x").await.unwrap_err();
        let (found, execution) = (refused.code(), refused.execution());
        assert_eq!(
            (found, execution),
            (Some(code), Execution::NotExecuted),
            "{refused}"
        );
    }

    /// All partitions but these read what was acknowledged and write.
    async fn assert_serves_all_but(&mut self, out: &[u32]) {
        for (partition, (key, value)) in &mut self.rows {
            if out.contains(partition) {
                continue;
            }
            let read = self.table.get(key.as_bytes(), b"s").await.unwrap();
            assert_eq!(read.as_deref(), Some(&value[..]), "partition {partition}");
            value.reverse();
            let written = self.table.put(key.as_bytes(), b"s", value).await;
            assert!(written.is_ok(), "partition {partition}: {written:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flipped_byte_in_the_log_is_named_and_its_replica_is_rebuilt_from_the_others() {
    let mut scene = Scene::set(3, &[]).await;
    let (led, followed) = scene.led_and_followed();
    // Something behind the damage in each partition shows that it is no torn tail.
    for (key, _) in scene.rows.values() {
        scene
            .table
            .put(key.as_bytes(), b"later", b"v")
            .await
            .unwrap();
    }
    scene.cluster.kill_all().unwrap();
    scene.flip(&scene.shard().join("log"), led);
    scene.flip(&scene.shard().join("log"), followed);
    scene.start_again(0).await;

    let log = scene.cluster.log("node-1").unwrap();
    for partition in [led, followed] {
        let line = log.lines().find(|line| {
            line.contains("out of service") && line.contains(&format!("partition=1.{partition} "))
        });
        let line = line.unwrap_or_else(|| panic!("partition {partition} is not named in {log}"));
        assert!(line.contains("the log is damaged"), "{line}");
    }
    // Nobody was told to repair anything; whole again means three members that work.
    scene.assert_serves_all_but(&[]).await;
    for partition in [led, followed] {
        scene.wait_rebuilt(partition);
    }

    // What was rebuilt is as good as the others after another start.
    scene.cluster.kill_all().unwrap();
    scene.start_again(0).await;
    scene.assert_serves_all_but(&[]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flipped_byte_in_an_sst_is_named_and_its_replica_is_rebuilt_while_the_others_go_on_flushing()
 {
    // Whoever leads before the stop leads after it, too: the damaged copy has to be the one that is read.
    let file = tempfile::NamedTempFile::new().unwrap();
    fs::write(file.path(), "[process]\nstop.handover_ms = 0\n").unwrap();
    let config = format!("--config={}", file.path().display());
    let mut scene = Scene::set(3, &["--memtable-size", "8MiB", &config]).await;
    let (led, _) = scene.led_and_followed();
    // So much before it that its block is not the one that a start reads.
    let (key, _) = &scene.rows[&led];
    let before = vec![b'x'; 128 << 10];
    scene
        .table
        .put(key.as_bytes(), b"a", &before)
        .await
        .unwrap();
    scene.cluster.stop().unwrap();
    let files = scene.shard().join("db");
    let damaged = scene.flip(&files, led);
    assert_eq!(damaged.extension().unwrap(), "sst");
    scene.start_again(0).await;

    // Nobody knows before somebody looks; it answers that it cannot, and then another one is primary.
    let (key, value) = scene.rows[&led].clone();
    let start = std::time::Instant::now();
    let read = loop {
        match scene.table.get(key.as_bytes(), b"s").await {
            Ok(read) => break read,
            Err(error) => assert!(start.elapsed() < PATIENCE, "{error}"),
        }
    };
    assert_eq!(read.as_deref(), Some(&value[..]));
    scene.wait_rebuilt(led);
    let name = file_name(&damaged);
    let log = scene.cluster.log("node-1").unwrap();
    let line = log
        .lines()
        .find(|line| line.contains(&name) && line.contains(&format!("partition=1.{led} ")));
    assert!(
        line.is_some(),
        "{name} of partition {led} is not named in {log}"
    );
    scene.assert_serves_all_but(&[]).await;

    let before = tables_of(&files);
    let big = vec![b'x'; 256 << 10];
    for round in 0..80 {
        for (key, _) in scene.rows.values() {
            let sort_key = format!("big-{round}");
            let put = scene.table.put(key.as_bytes(), sort_key.as_bytes(), &big);
            put.await.unwrap();
        }
    }
    wait_until("the replicas to flush", || {
        tables_of(&files).iter().any(|file| !before.contains(file))
    })
    .unwrap();
    scene.assert_serves_all_but(&[]).await;
}

fn index(partition: &Value) -> u32 {
    let index = partition["partition"].as_u64().unwrap();
    u32::try_from(index).unwrap()
}

fn file_name(path: &Path) -> String {
    path.file_name().unwrap().to_string_lossy().into_owned()
}

fn tables_of(directory: &Path) -> Vec<PathBuf> {
    let paths = fs::read_dir(directory)
        .unwrap()
        .map(|entry| entry.unwrap().path());
    paths
        .filter(|path| path.extension().is_some_and(|extension| extension == "sst"))
        .collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lost_log_segment_is_named_and_costs_the_replicas_of_that_core_only() {
    let mut scene = Scene::set(1, &["--log-segment-size", "2MiB"]).await;
    let led = scene.led();
    let (key, _) = scene.rows[&led[0]].clone();
    let big = vec![b'x'; 128 << 10];
    for round in 0..64 {
        let sort_key = format!("big-{round}");
        let put = scene.table.put(key.as_bytes(), sort_key.as_bytes(), &big);
        put.await.unwrap();
    }
    scene.cluster.kill_all().unwrap();
    let log = scene.shard().join("log");
    let mut segments: Vec<PathBuf> = fs::read_dir(&log)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| file_name(path).starts_with("segment-"))
        .collect();
    segments.sort();
    assert!(segments.len() >= 4, "{segments:?}");
    fs::remove_file(&segments[1]).unwrap();
    scene.start_again(led.len()).await;

    // Each replica may have had records in it, and none can show that it had not.
    for partition in &led {
        let reason = scene.wait_out_of_service("t", *partition);
        assert!(reason.contains("the log is damaged"), "{reason}");
        scene.assert_refused(*partition, Code::OutOfService).await;
    }
    let log = scene.cluster.log("node-1").unwrap();
    assert!(
        log.contains("SegmentMissing") && log.contains("SegmentId(2)"),
        "{log}"
    );
    scene.assert_serves_all_but(&led).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_refuses_a_directory_that_is_damaged_foreign_in_use_or_of_more_cores() {
    let directory = tempfile::tempdir().unwrap();
    let cluster = Cluster::start(&directory.path().join("ours"), 1, 2).unwrap();
    let other = Cluster::start(&directory.path().join("theirs"), 1, 1).unwrap();
    let data = cluster.data_directory(1);
    let refusal = |meta: &str, cores: &str| {
        let mut run = Command::new(program("pegasus-replica"));
        run.arg("run").arg("--dir").arg(&data);
        run.args([
            "--meta",
            meta,
            "--cores",
            cores,
            "--base-port",
            "0",
            "--poll",
            "sleep",
        ]);
        let output = run.output().unwrap();
        assert!(!output.status.success());
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        let last = said.lines().last().unwrap().to_owned();
        assert!(last.contains(data.to_str().unwrap()), "{said}");
        last
    };
    let said = refusal(cluster.meta(), "2");
    assert!(
        said.contains("LOCK") && said.contains("another process"),
        "{said}"
    );
    let pid = cluster.pid("node-1").unwrap().to_string();
    assert!(said.contains(&pid), "the holder {pid} is not named: {said}");

    cluster.stop().unwrap();
    let said = refusal(cluster.meta(), "1");
    assert!(said.contains("has 2 shards"), "{said}");
    let said = refusal(other.meta(), "2");
    assert!(said.contains("cluster"), "{said}");

    let identity = data.join("node.toml");
    let whole = fs::read_to_string(&identity).unwrap();
    for damaged in [
        &whole[..whole.len() / 2],
        "",
        "format = 99\n",
        "\u{0}\u{0}\u{0}",
    ] {
        fs::write(&identity, damaged).unwrap();
        let said = refusal(cluster.meta(), "2");
        assert!(
            said.contains("node.toml") || said.contains("format 99"),
            "{said}"
        );
    }
    // One changed digit is not taken for another node.
    fs::write(&identity, whole.replace("node = 1", "node = 2")).unwrap();
    refusal(cluster.meta(), "2");
    fs::write(&identity, whole).unwrap();
    cluster.start_again().unwrap();
}
