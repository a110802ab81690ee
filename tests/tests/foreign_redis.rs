//! redis-py, unmodified, against our client ports; and the same tests against a real Redis, which says that they are right.

use anyhow::{Context, Result, ensure};
use e2e::cluster::{Cluster, wait_until};
use e2e::foreign;
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};

/// Tests of the file: all of them with both versions of the protocol, but one which chooses for itself.
const TESTS: usize = 18 * 2 + 1;

#[test]
fn redis_py_finds_a_redis_in_every_core() -> Result<()> {
    let directory = tempfile::tempdir()?;
    let cluster = Cluster::start(&directory.path().join("cluster"), 3, 1)?;
    cluster.create_table("redis", 8, 3)?;
    let status = cluster.status()?;
    let processes = status["processes"].as_array().context("processes")?;
    let mut nodes = 0;
    for process in processes {
        if process["name"]
            .as_str()
            .is_some_and(|name| name.starts_with("node-"))
        {
            let address = process["addresses"][0].as_str().context("an address")?;
            let (_, port) = address.rsplit_once(':').context("a port")?;
            tests_pass(port)?;
            nodes += 1;
        }
    }
    ensure!(nodes == 3, "{status}");
    Ok(())
}

#[test]
fn what_redis_py_is_tested_for_is_what_redis_does() -> Result<()> {
    let directory = tempfile::tempdir()?;
    let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
    let _server = Server::start(directory.path(), port)?;
    tests_pass(&port.to_string())
}

/// All tests were run, none was left out, and all have passed.
fn tests_pass(port: &str) -> Result<()> {
    let home = foreign::home()?;
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("foreign/redis/test_redis_py.py");
    let output = Command::new(home.join("venv/bin/python"))
        .args(["-m", "pytest", "-q", "-p", "no:cacheprovider"])
        .arg(file)
        .env("REDIS_PORT", port)
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .stdin(Stdio::null())
        .output()?;
    let said = String::from_utf8_lossy(&output.stdout);
    let last = said.lines().last().unwrap_or_default();
    let all = last
        .trim_matches('=')
        .trim()
        .starts_with(&format!("{TESTS} passed in "));
    ensure!(
        output.status.success() && all,
        "port {port}: {}\n{said}\n{}",
        output.status,
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(())
}

/// Debian's, without a disk.
struct Server(Child);

impl Server {
    fn start(directory: &Path, port: u16) -> Result<Self> {
        let server = Command::new("redis-server")
            .args(["--port", &port.to_string(), "--bind", "127.0.0.1"])
            .args(["--save", "", "--dir"])
            .arg(directory)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn()
            .context("redis-server")?;
        let server = Self(server);
        wait_until("redis-server to listen", || {
            TcpStream::connect(("127.0.0.1", port)).is_ok()
        })?;
        Ok(server)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
