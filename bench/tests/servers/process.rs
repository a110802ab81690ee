//! Servers of other people, started for a test on free ports and ended with it.

use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// A running server; it is killed when this is dropped, and its directory deleted.
pub(crate) struct Server {
    pub(crate) address: String,
    child: Child,
    _dir: TempDir,
}

const TRIES: u32 = 5;
const STARTS_WITHIN: Duration = Duration::from_secs(60);

impl Server {
    pub(crate) fn redis() -> Self {
        Self::start("redis-server", "redis-server", |command, dir, [port, _]| {
            command
                .args(["--port", &port.to_string(), "--bind", "127.0.0.1"])
                .args(["--appendonly", "no", "--save", "", "--dir", dir]);
        })
    }

    pub(crate) fn etcd() -> Self {
        Self::start("etcd", "etcd-server", |command, dir, [client, peer]| {
            let (client, peer) = (
                format!("http://127.0.0.1:{client}"),
                format!("http://127.0.0.1:{peer}"),
            );
            command
                .args(["--data-dir", dir, "--name", "one"])
                .args([
                    "--listen-client-urls",
                    &client,
                    "--advertise-client-urls",
                    &client,
                ])
                .args([
                    "--listen-peer-urls",
                    &peer,
                    "--initial-advertise-peer-urls",
                    &peer,
                ])
                .args(["--initial-cluster", &format!("one={peer}")]);
        })
    }

    /// Neither program can be given port 0, so free ports are looked for, and others when somebody else was faster.
    fn start(
        program: &str,
        package: &str,
        arguments: impl Fn(&mut Command, &str, [u16; 2]),
    ) -> Self {
        for _ in 0..TRIES {
            let dir = tempfile::tempdir().unwrap();
            let ports = free_ports();
            let mut command = Command::new(program);
            arguments(&mut command, dir.path().to_str().unwrap(), ports);
            let child = command
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .spawn()
                .unwrap_or_else(|error| {
                    panic!("cannot start {program} ({error}): install the Debian package {package}, as .ci/setup does")
                });
            let mut server = Self {
                address: format!("127.0.0.1:{}", ports[0]),
                child,
                _dir: dir,
            };
            if server.listens() {
                return server;
            }
        }
        panic!("{program} did not start in {TRIES} tries");
    }

    /// Waits until somebody listens; false if the process has ended before.
    fn listens(&mut self) -> bool {
        let deadline = Instant::now() + STARTS_WITHIN;
        while Instant::now() < deadline {
            if self.child.try_wait().unwrap().is_some() {
                return false;
            }
            if TcpStream::connect(&self.address).is_ok() {
                return true;
            }
            std::thread::yield_now();
        }
        false
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn free_ports() -> [u16; 2] {
    let free = || TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let both = [free(), free()];
    both.map(|listener| listener.local_addr().unwrap().port())
}
