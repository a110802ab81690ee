//! `pegasus tune`: this machine as it is, and directories that are no good.

use super::Done;
use e2e::cluster::{Cluster, program, wait_until};
use serde_json::Value;
use std::fs;
use std::io::{BufRead as _, BufReader};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Command, Stdio};

fn tune(arguments: &[&str]) -> Command {
    let mut command = Command::new(program("pegasus"));
    command.arg("tune").args(arguments).stdin(Stdio::null());
    command
}

fn run(arguments: &[&str]) -> Done {
    Done::run(&mut tune(arguments))
}

fn path(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// Below the package: a directory on a drive, not in memory.
fn disk() -> tempfile::TempDir {
    tempfile::tempdir_in(std::env::current_dir().unwrap()).unwrap()
}

#[test]
fn check_looks_at_everything_and_its_exit_code_is_its_worst_row() {
    let dir = disk();
    let done = run(&["check", "--dir", path(dir.path()), "--json"]);
    let answer = done.json();
    let rows = answer["rows"].as_array().unwrap();
    let names: Vec<&str> = rows
        .iter()
        .map(|row| row["name"].as_str().unwrap())
        .collect();
    for name in [
        "drive.filesystem",
        "cpu.cores",
        "net.irqs",
        "memory.thp",
        "limit.files",
        "kernel.io_uring",
    ] {
        assert!(names.contains(&name), "{names:?}");
    }
    for row in rows {
        for key in ["verdict", "now", "wanted", "why"] {
            assert!(!row[key].as_str().unwrap().is_empty(), "{row}");
        }
    }
    assert_eq!(done.code, i32::from(answer["worst"] == "warn"));
    let people = run(&["check", "--dir", path(dir.path())]);
    assert_eq!(people.code, done.code);
    assert!(
        people.out.contains("kernel.io_uring") && people.out.contains(" ok, "),
        "{}",
        people.out
    );
}

#[test]
fn a_configuration_that_is_none_is_refused() {
    let dir = disk();
    let config = dir.path().join("node.toml");
    fs::write(&config, "[process]\ncpu.cores = 'many'\n").unwrap();
    let done = run(&["check", "--config", path(&config)]);
    assert_eq!(done.code, 1);
    assert!(
        done.err.contains("node.toml") && done.err.contains("many"),
        "{}",
        done.err
    );
    fs::write(&config, "[process]\ncpu.cores = [60000]\n").unwrap();
    let done = run(&["check", "--config", path(&config)]);
    assert_eq!(done.code, 1);
    assert!(done.out.contains("60000 do not exist"), "{}", done.out);
}

#[test]
fn apply_without_root_is_refused_and_shows_with_dry_run() {
    // Where everybody may start it from, a user without rights included.
    let dir = tempfile::tempdir().unwrap();
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let copy = dir.path().join("pegasus");
    fs::copy(program("pegasus"), &copy).unwrap();
    fs::set_permissions(&copy, fs::Permissions::from_mode(0o755)).unwrap();
    let as_nobody = |arguments: &[&str]| {
        let mut command = Command::new(&copy);
        command
            .args(arguments)
            .stdin(Stdio::null())
            .current_dir("/");
        if rustix::process::geteuid().is_root() {
            command.uid(65_534).gid(65_534);
        }
        Done::run(&mut command)
    };
    let done = as_nobody(&["tune", "apply", "--yes"]);
    assert_eq!(done.code, 1);
    assert!(done.err.contains("only root may"), "{}", done.err);
    let done = as_nobody(&["tune", "apply", "--dry-run"]);
    assert_eq!(done.code, 0, "{}", done.err);
    assert!(done.out.contains("nothing"), "{}", done.out);
}

#[test]
fn directories_that_are_no_good_are_named() {
    let dir = disk();
    let file = dir.path().join("file");
    fs::write(&file, "").unwrap();
    for bad in [dir.path().join("none"), file] {
        let done = run(&["disk", "--dir", path(&bad)]);
        assert_eq!(done.code, 1);
        assert!(done.err.contains(path(&bad)), "{}", done.err);
    }
    for (arguments, says) in [
        (["--size", "1 KiB"], "--size"),
        (["--seconds", "0"], "--seconds"),
    ] {
        let done = run(&[
            "disk",
            "--dir",
            path(dir.path()),
            arguments[0],
            arguments[1],
        ]);
        assert_eq!(done.code, 2, "{}", done.err);
        assert!(done.err.contains(says), "{}", done.err);
    }
}

/// A file system of so many MiB in memory, gone with this value.
struct Mounted(tempfile::TempDir);

impl Mounted {
    fn of(mib: u32) -> Self {
        let dir = tempfile::tempdir().unwrap();
        mount(&[
            "-t",
            "tmpfs",
            "-o",
            &format!("size={mib}m"),
            "none",
            path(dir.path()),
        ]);
        Self(dir)
    }
}

fn mount(arguments: &[&str]) {
    assert!(
        Command::new("mount")
            .args(arguments)
            .status()
            .unwrap()
            .success()
    );
}

impl Drop for Mounted {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(self.0.path()).status();
    }
}

#[test]
fn a_full_and_a_read_only_disk_are_refused() {
    if !e2e::has_root("a_full_and_a_read_only_disk_are_refused") {
        return;
    }
    let mounted = Mounted::of(24);
    let dir = path(mounted.0.path());
    let done = run(&["disk", "--dir", dir, "--size", "16 MiB"]);
    assert_eq!(done.code, 1);
    assert!(done.err.contains("are free, twice"), "{}", done.err);
    mount(&["-o", "remount,ro,size=64m", dir]);
    let done = run(&["disk", "--dir", dir, "--size", "16 MiB"]);
    assert_eq!(done.code, 1);
    assert!(done.err.contains("Read-only"), "{}", done.err);
    assert_eq!(fs::read_dir(dir).unwrap().count(), 0);
}

#[test]
fn an_interrupted_measurement_leaves_nothing_behind() {
    let dir = disk();
    let mut child = tune(&[
        "disk",
        "--dir",
        path(dir.path()),
        "--size",
        "16 MiB",
        "--seconds",
        "60",
    ])
    .stderr(Stdio::piped())
    .stdout(Stdio::null())
    .spawn()
    .unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
    while !lines.next().unwrap().unwrap().contains("sequential writes") {}
    let process = rustix::process::Pid::from_child(&child);
    rustix::process::kill_process(process, rustix::process::Signal::INT).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(130));
    assert!(lines.last().unwrap().unwrap().contains("interrupted"));
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
}

#[test]
fn a_node_uses_what_was_measured_and_leaves_a_damaged_file_aside() {
    let dir = disk();
    let cluster = Cluster::start(dir.path(), 1, 1).unwrap();
    let data = cluster.data_directory(1);
    let measure = [
        "disk",
        "--dir",
        path(&data),
        "--size",
        "16 MiB",
        "--seconds",
        "0.1",
        "--json",
    ];
    let done = run(&measure);
    assert_eq!(done.code, 1);
    assert!(done.err.contains("its node runs"), "{}", done.err);
    assert!(
        cluster
            .log("node-1")
            .unwrap()
            .contains("has not been measured")
    );
    cluster.stop().unwrap();
    let speed: Value = run(&measure).json();
    assert!(speed["flush"]["p50_us"].as_f64().unwrap() > 0.0);
    cluster.start_again().unwrap();
    wait_until("the node says what was measured", || {
        cluster
            .log("node-1")
            .unwrap()
            .contains("drive, as measured")
    })
    .unwrap();
    cluster.stop().unwrap();
    fs::write(data.join("drive.toml"), "format = 1\nflush = 7\n").unwrap();
    cluster.start_again().unwrap();
    wait_until("the node names the damaged file", || {
        cluster
            .log("node-1")
            .unwrap()
            .contains("drive.toml: it is damaged")
    })
    .unwrap();
}
