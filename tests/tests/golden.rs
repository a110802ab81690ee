//! Directories of releases: each opens a cluster of every release before it, and one of another format is refused with a
//! sentence that names the format.

#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

use e2e::cluster::{Cluster, program};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// What the directories hold: table `t` of four partitions, and in it these rows.
const ROWS: [(&str, &str, &str); 3] = [
    ("user-1", "name", "Ada"),
    ("user-1", "mail", "ada@example.org"),
    ("user-2", "name", "Grace"),
];

fn golden() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("golden")
}

fn tar(arguments: &[&str], file: &Path, at: &Path) {
    let status = Command::new("tar")
        .args(arguments)
        .arg(file)
        .arg("-C")
        .arg(at)
        .arg("cluster")
        .status()
        .unwrap();
    assert!(status.success(), "tar of {}", file.display());
}

fn check(cluster: &Cluster) {
    cluster.wait_healthy("t").unwrap();
    for (hash_key, sort_key, value) in ROWS {
        let told = cluster.pegasus(&["get", "t", hash_key, sort_key]).unwrap();
        assert_eq!(told.trim_end(), value, "{hash_key} {sort_key}");
    }
}

/// `UPDATE_GOLDEN=1` makes the directory of this release: once, when a format has changed.
fn make(file: &Path) {
    let directory = tempfile::tempdir().unwrap();
    let options = ["--log-segment-size", "1MiB", "--memtable-size", "4MiB"];
    let place = directory.path().join("cluster");
    let cluster = Cluster::start_with(&place, 1, 1, &options).unwrap();
    cluster.create_table("t", 4, 1).unwrap();
    for (at, (hash_key, sort_key, value)) in ROWS.iter().enumerate() {
        cluster
            .pegasus(&["set", "t", hash_key, sort_key, value])
            .unwrap();
        // Some of it is in files, the rest in the log alone.
        if at == 1 {
            cluster.local(&["stop"]).unwrap();
            cluster.start_again().unwrap();
            cluster.wait_healthy("t").unwrap();
        }
    }
    cluster.kill_all().unwrap();
    tar(&["czf"], file, directory.path());
    let bytes = fs::metadata(file).unwrap().len();
    assert!(
        bytes < 1 << 20,
        "{bytes} bytes are too many for a repository"
    );
}

#[test]
fn directories_of_every_release_are_opened() {
    let own = golden().join(format!("release-{}.tar.gz", env!("CARGO_PKG_VERSION")));
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        fs::create_dir_all(golden()).unwrap();
        make(&own);
    }
    assert!(
        own.exists(),
        "this release has no directory in tests/golden"
    );
    for release in fs::read_dir(golden()).unwrap() {
        let directory = tempfile::tempdir().unwrap();
        tar(&["xzf"], &release.unwrap().path(), directory.path());
        let cluster = Cluster::start_copied(&directory.path().join("cluster")).unwrap();
        check(&cluster);
        // What it writes now it finds again.
        cluster
            .pegasus(&["set", "t", "user-3", "name", "Edsger"])
            .unwrap();
        cluster.local(&["stop"]).unwrap();
        cluster.start_again().unwrap();
        check(&cluster);
        assert_eq!(
            cluster
                .pegasus(&["get", "t", "user-3", "name"])
                .unwrap()
                .trim_end(),
            "Edsger"
        );
    }
}

/// A directory of this release after `change`; a data node on it, and what it says as it refuses.
fn refusal(change: impl FnOnce(&Path)) -> String {
    let directory = tempfile::tempdir().unwrap();
    let own = golden().join(format!("release-{}.tar.gz", env!("CARGO_PKG_VERSION")));
    tar(&["xzf"], &own, directory.path());
    let data = directory.path().join("cluster/node-1/data");
    change(&data);
    let output = Command::new(program("pegasus-replica"))
        .args([
            "run",
            "--base-port",
            "0",
            "--poll",
            "sleep",
            "--meta",
            "127.0.0.1:1",
        ])
        .args([
            "--log-segment-size",
            "1MiB",
            "--memtable-size",
            "4MiB",
            "--dir",
        ])
        .arg(&data)
        .stdin(Stdio::null())
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn a_directory_of_another_format_is_refused_and_the_format_is_named() {
    let said = refusal(|data| {
        let file = data.join("node.toml");
        let text = fs::read_to_string(&file).unwrap();
        assert!(text.contains("format = 1"), "{text}");
        fs::write(&file, text.replace("format = 1", "format = 9")).unwrap();
    });
    assert!(
        said.contains("has format 9, this build reads format 1"),
        "{said}"
    );
    let said = refusal(|data| {
        let file = data.join("shard-00/db/FORMAT");
        let text = fs::read_to_string(&file).unwrap();
        fs::write(&file, text.replace('1', "9")).unwrap();
    });
    assert!(
        said.contains("shard 0") && said.contains("engine format 9, this build reads 1"),
        "{said}"
    );
}
