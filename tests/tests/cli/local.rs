//! `local`: what it says of processes that run, are paused, were killed or were stopped, and what it refuses.

use super::Done;
use e2e::cluster::{Cluster, program, wait_until};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use std::net::TcpListener;
use std::path::Path;
use std::process::{Command, Stdio};

fn local(directory: &Path, arguments: &[&str]) -> Done {
    let mut command = Command::new(program("pegasus"));
    command
        .arg("local")
        .args(arguments)
        .arg("--dir")
        .arg(directory)
        .stdin(Stdio::null());
    Done::run(&mut command)
}

/// The state of one process, the exit code, and the advice.
fn state(directory: &Path, name: &str) -> (String, i32, String) {
    let status = local(directory, &["status", "--json"]);
    let all = status.json();
    let processes = all["processes"].as_array().unwrap().iter();
    let process: Vec<&Value> = processes
        .filter(|process| process["name"] == name)
        .collect();
    let state = process[0]["state"].as_str().unwrap().to_owned();
    let advice = match status.code {
        0 => String::new(),
        _ => status.error()["error"].as_str().unwrap().to_owned(),
    };
    (state, status.code, advice)
}

fn signal(cluster: &Cluster, name: &str, signal: Signal) {
    let pid = Pid::from_raw(cluster.pid(name).unwrap()).unwrap();
    kill_process(pid, signal).unwrap();
}

#[test]
fn every_state_of_a_local_process_has_its_name_and_its_advice() {
    let directory = tempfile::tempdir().unwrap();
    let place = directory.path().join("c");
    let cluster = Cluster::start(&place, 1, 1).unwrap();
    assert_eq!(
        state(&place, "node-1"),
        ("running".to_owned(), 0, String::new())
    );

    signal(&cluster, "node-1", Signal::STOP);
    let (name, code, advice) = state(&place, "node-1");
    assert_eq!((name.as_str(), code), ("paused", 4));
    assert!(advice.contains("kill -CONT"), "{advice}");
    let start = local(&place, &["start"]);
    assert_eq!(start.code, 4);
    assert!(start.err.contains("kill -CONT"), "{}", start.err);
    signal(&cluster, "node-1", Signal::CONT);
    wait_until("the node to answer again", || {
        state(&place, "node-1").1 == 0
    })
    .unwrap();

    cluster.kill("node-1").unwrap();
    let (name, code, advice) = state(&place, "node-1");
    assert_eq!((name.as_str(), code), ("dead", 4));
    assert!(advice.contains("pegasus local start --dir"), "{advice}");
    assert!(local(&place, &["status"]).out.contains("dead"));
    assert_eq!(local(&place, &["start"]).code, 0);

    // Stopped by hand, as a service manager would.
    signal(&cluster, "node-1", Signal::TERM);
    wait_until("the node to stop", || !cluster.runs("node-1")).unwrap();
    assert_eq!(state(&place, "node-1").0, "stopped");
    assert_eq!(local(&place, &["start"]).code, 0);

    cannot_be_changed_while_it_runs(&place);
    assert_eq!(local(&place, &["stop"]).code, 0);
    let (name, code, advice) = state(&place, "meta");
    assert_eq!((name.as_str(), code), ("stopped", 4));
    assert!(advice.contains("the cluster is stopped"), "{advice}");
    assert!(local(&place, &["stop"]).out.contains("nothing was running"));

    let asked = local(&place, &["wipe"]);
    assert_eq!((asked.code, place.exists()), (2, true));
    assert_eq!(local(&place, &["wipe", "--yes"]).code, 0);
    assert!(!place.exists());
    for verb in ["status", "stop", "wipe"] {
        assert_eq!(local(&place, &[verb]).code, 3, "{verb}");
    }
}

fn cannot_be_changed_while_it_runs(place: &Path) {
    for (arguments, says) in [
        (&["wipe", "--yes"][..], "still running: meta, node-1"),
        (&["start", "--cores", "2"], "this cluster has 1, not 2"),
        (&["start", "--base-port", "20000"], "base port"),
    ] {
        let refused = local(place, arguments);
        assert_eq!(refused.code, 1, "{}", refused.err);
        assert!(refused.err.contains(says), "{}", refused.err);
    }
}

#[test]
fn a_cluster_is_not_started_on_ports_or_in_directories_of_others() {
    let directory = tempfile::tempdir().unwrap();
    let place = directory.path().join("c");
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let base = taken.local_addr().unwrap().port() - 1;
    if base < 60_000 {
        let refused = local(
            &place,
            &["start", "--nodes", "1", "--base-port", &base.to_string()],
        );
        assert_eq!(refused.code, 4, "{}", refused.err);
        assert!(
            refused.err.contains("is taken by another process"),
            "{}",
            refused.err
        );
    }
    std::fs::write(directory.path().join("thesis.tex"), "x").unwrap();
    let foreign = local(directory.path(), &["start"]);
    assert_eq!(foreign.code, 1);
    assert!(
        foreign.err.contains("not empty and not a local cluster"),
        "{}",
        foreign.err
    );
    let broken = directory.path().join("broken");
    std::fs::create_dir(&broken).unwrap();
    std::fs::write(broken.join("cluster.toml"), "hello").unwrap();
    for verb in ["start", "status", "stop", "wipe"] {
        let refused = local(&broken, &[verb]);
        assert_eq!(refused.code, 1, "{verb}");
        assert!(refused.err.contains("cluster.toml"), "{}", refused.err);
    }
}

#[test]
fn options_of_nodes_that_do_not_work_are_not_kept() {
    let directory = tempfile::tempdir().unwrap();
    let place = directory.path().join("c");
    let cluster = Cluster::start(&place, 1, 1).unwrap();
    assert_eq!(local(&place, &["stop"]).code, 0);
    let mut command = Command::new(program("pegasus"));
    command
        .args(["local", "start", "--dir"])
        .arg(&place)
        .args(["--", "--nonsense"]);
    let refused = Done::run(&mut command);
    assert_eq!(refused.code, 1);
    assert!(
        refused.err.contains("unexpected argument '--nonsense'"),
        "{}",
        refused.err
    );
    assert_eq!(local(&place, &["start"]).code, 0);
    drop(cluster);
}
