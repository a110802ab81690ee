//! The program: init once, run, one process for a directory, stop on SIGTERM, settings refused in a sentence.

#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "tests fail by panicking, start processes and look at files"
)]

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use tempfile::TempDir;

fn meta(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_pegasus-meta"));
    command.args(arguments).env_remove("RUST_LOG");
    command
}

fn finished(arguments: &[&str]) -> Output {
    meta(arguments).output().unwrap()
}

fn refusal(arguments: &[&str]) -> String {
    let output = finished(arguments);
    assert!(!output.status.success(), "{arguments:?} succeeded");
    String::from_utf8(output.stderr).unwrap()
}

fn path(dir: &Path) -> &str {
    dir.to_str().unwrap()
}

/// A meta that runs, and where it listens.
struct Running {
    child: Child,
    address: SocketAddr,
}

impl Running {
    fn start(arguments: &[&str]) -> Self {
        let mut child = meta(arguments)
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap())
            .read_line(&mut line)
            .unwrap();
        let address = line
            .trim()
            .strip_prefix("listening on ")
            .expect("it says where it listens")
            .parse()
            .unwrap();
        Self { child, address }
    }

    /// Asks it to stop, waits for that.
    fn terminate(mut self) -> bool {
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
        self.child.wait().unwrap().success()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        _ = self.child.kill();
        _ = self.child.wait();
    }
}

#[test]
fn init_makes_a_cluster_once() {
    let dir = TempDir::new().unwrap();
    let dir = path(dir.path());
    let made = finished(&["init", "--dir", dir, "--cluster-name", "here"]);
    assert!(made.status.success());
    let said = String::from_utf8(made.stdout).unwrap();
    let words: Vec<&str> = said.split_whitespace().collect();
    assert!(
        words.len() == 3 && words[0] == "cluster" && words[1].len() == 32 && words[2] == "here",
        "{said}"
    );
    let error = refusal(&["init", "--dir", dir]);
    assert!(error.contains("holds a meta store already"), "{error}");
    let error = refusal(&["init", "--dir", dir, "--cluster-name", "a b"]);
    assert!(error.contains("is not 1 to 128"), "{error}");
}

#[test]
fn an_empty_directory_is_not_run_without_init() {
    let dir = TempDir::new().unwrap();
    let error = refusal(&["run", "--dir", path(dir.path()), "--listen", "127.0.0.1:0"]);
    assert!(error.contains("recover or init?"), "{error}");
}

#[test]
fn it_runs_says_where_and_stops_on_sigterm() {
    let dir = TempDir::new().unwrap();
    let arguments = [
        "run",
        "--dir",
        path(dir.path()),
        "--listen",
        "127.0.0.1:0",
        "--init-if-empty",
    ];
    for _ in 0..2 {
        let running = Running::start(&arguments);
        let written = fs::read_to_string(dir.path().join("address")).unwrap();
        assert_eq!(
            written.trim().parse::<SocketAddr>().unwrap(),
            running.address
        );
        // A connection that says nothing does not hold it up.
        let _connection = TcpStream::connect(running.address).unwrap();
        let error = refusal(&arguments);
        assert!(
            error.contains("another process uses this directory"),
            "{error}"
        );
        assert!(running.terminate());
    }
}

#[test]
fn a_port_that_is_taken_is_named() {
    let (dir, other) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    let running = Running::start(&[
        "run",
        "--dir",
        path(dir.path()),
        "--listen",
        "127.0.0.1:0",
        "--init-if-empty",
    ]);
    let address = running.address.to_string();
    let error = refusal(&[
        "run",
        "--dir",
        path(other.path()),
        "--listen",
        &address,
        "--init-if-empty",
    ]);
    assert!(
        error.contains(&format!("cannot listen on {address}")),
        "{error}"
    );
}

#[test]
fn a_configuration_file_with_an_unknown_key_is_refused() {
    let dir = TempDir::new().unwrap();
    let file = dir.path().join("meta.toml");
    fs::write(&file, "listen = \"127.0.0.1:0\"\nlisten_on = 3\n").unwrap();
    let error = refusal(&["run", "--config", path(&file)]);
    assert!(error.contains("listen_on"), "{error}");
    let state = dir.path().join("state");
    fs::write(
        &file,
        format!("dir = {:?}\nlisten = \"127.0.0.1:0\"\n", path(&state)),
    )
    .unwrap();
    assert!(Running::start(&["run", "--config", path(&file), "--init-if-empty"]).terminate());
    assert!(state.join("address").is_file());
}

#[test]
fn a_token_that_others_may_read_is_refused() {
    use std::os::unix::fs::PermissionsExt as _;
    let dir = TempDir::new().unwrap();
    let file = dir.path().join("token");
    fs::write(&file, "secret\n").unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).unwrap();
    let state = dir.path().join("state");
    let arguments = [
        "run",
        "--dir",
        path(&state),
        "--listen",
        "127.0.0.1:0",
        "--init-if-empty",
        "--token-file",
        path(&file),
    ];
    let error = refusal(&arguments);
    assert!(error.contains("chmod 0600"), "{error}");
    fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
    assert!(Running::start(&arguments).terminate());
}
