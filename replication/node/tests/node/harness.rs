//! A meta server in this process and data nodes as child processes, on free ports and in temporary directories.

use pegasus_client::{Client, ClientOptions, CreateTable, Table};
use pegasus_meta::server::{Server, ServerOptions};
use pegasus_meta::state::{Cluster, ClusterId, State};
use pegasus_meta::store::FileStore;
use rustix::process::{Pid, Signal, kill_process};
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Mutex;
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// How long anything may take on a loaded machine before a test gives up.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// A child holds the locks of its parent from fork to exec: nobody may take one in between that another test wants.
static FORK: Mutex<()> = Mutex::new(());

/// Starts a process while no lock file is being taken.
pub(crate) fn spawn(command: &mut Command) -> Child {
    let _alone = FORK.lock();
    command.spawn().unwrap()
}

/// A cluster in a temporary directory.
pub(crate) struct TestCluster {
    pub(crate) dir: TempDir,
    meta: Option<Server>,
    meta_address: SocketAddr,
    pub(crate) nodes: Vec<TestNode>,
}

/// One data node.
pub(crate) struct TestNode {
    dir: PathBuf,
    meta: SocketAddr,
    cores: u16,
    process: Option<Process>,
    /// Flags of the next start, which win over the usual ones.
    pub(crate) flags: Vec<String>,
}

/// A running process and what it says.
struct Process {
    child: Child,
    clients: Vec<SocketAddr>,
    lines: Receiver<String>,
}

impl TestCluster {
    pub(crate) async fn start(nodes: usize, cores: u16) -> Self {
        let dir = TempDir::new().unwrap();
        let meta = start_meta(&dir.path().join("meta"), 1).await;
        let meta_address = meta.address();
        let mut cluster = Self {
            dir,
            meta: Some(meta),
            meta_address,
            nodes: Vec::new(),
        };
        for number in 0..nodes {
            let dir = cluster.dir.path().join(format!("node-{number}"));
            cluster
                .nodes
                .push(TestNode::start(&dir, meta_address, cores));
        }
        cluster
    }

    pub(crate) fn meta(&self) -> SocketAddr {
        self.meta_address
    }

    pub(crate) async fn client(&self) -> Client {
        let mut options = ClientOptions::new([self.meta_address.to_string()]);
        options.timeout = PATIENCE;
        options.admin_timeout = PATIENCE;
        Client::connect(options).await.unwrap()
    }

    /// Makes a table once enough nodes have joined.
    pub(crate) async fn table(&self, name: &str, partitions: u32, replicas: u32) -> Table {
        let client = self.client().await;
        let table = CreateTable {
            name: name.to_owned(),
            partition_count: partitions,
            replica_count: replicas,
            allow_degraded: false,
        };
        client.create_table(&table).await.unwrap();
        client.table(name).await.unwrap()
    }

    pub(crate) async fn stop_meta(&mut self) {
        self.meta.take().unwrap().stop().await;
    }
}

/// Meta on a free port; `cluster` numbers the cluster.
pub(crate) async fn start_meta(dir: &Path, cluster: u128) -> Server {
    let cluster = Cluster {
        id: ClusterId(cluster),
        name: "test".to_owned(),
        epoch: 0,
    };
    let (store, durable) = {
        let _alone = FORK.lock();
        drop(FileStore::create(dir, &cluster).unwrap());
        FileStore::open(dir).unwrap()
    };
    let options = ServerOptions::at(SocketAddr::from(([127, 0, 0, 1], 0)));
    Server::start(State::from_durable(durable), Box::new(store), options)
        .await
        .unwrap()
}

/// `pegasus-replica run` with a small log, on a free block of ports.
pub(crate) fn command(dir: &Path, meta: SocketAddr, cores: u16) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_pegasus-replica"));
    command.arg("run").arg("--dir").arg(dir);
    command.args(["--meta", &meta.to_string(), "--cores", &cores.to_string()]);
    command.args([
        "--base-port",
        "0",
        "--poll",
        "sleep",
        "--log-segment-size",
        "4 MiB",
        "--disk-reserve",
        "1 B",
    ]);
    command
        .env_remove("PEGASUS_META")
        .env_remove("RUST_LOG")
        .stderr(Stdio::piped());
    command
}

impl TestNode {
    pub(crate) fn start(dir: &Path, meta: SocketAddr, cores: u16) -> Self {
        let mut node = Self {
            dir: dir.to_owned(),
            meta,
            cores,
            process: None,
            flags: Vec::new(),
        };
        node.start_again();
        node
    }

    pub(crate) fn start_again(&mut self) {
        let mut child = spawn(command(&self.dir, self.meta, self.cores).args(&self.flags));
        let (sender, lines) = channel();
        let stderr = BufReader::new(child.stderr.take().unwrap());
        std::thread::spawn(move || {
            for line in stderr.lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    return;
                }
            }
        });
        let mut process = Process {
            child,
            clients: Vec::new(),
            lines,
        };
        let line = process.wait_for("node is up clients=[");
        let list = line
            .split_once("clients=[")
            .unwrap()
            .1
            .trim_end_matches(']');
        process.clients = list
            .split(", ")
            .map(|address| address.parse().unwrap())
            .collect();
        self.process = Some(process);
    }

    pub(crate) fn dir(&self) -> &Path {
        &self.dir
    }

    /// Client ports by core number.
    pub(crate) fn clients(&self) -> &[SocketAddr] {
        &self.process.as_ref().unwrap().clients
    }

    /// SIGSTOP; returns when none of its threads runs any more.
    pub(crate) fn halt(&self) {
        self.signal(Signal::STOP);
        let tasks = format!("/proc/{}/task", self.process.as_ref().unwrap().child.id());
        let runs = |task: &Path| {
            let stat = std::fs::read_to_string(task.join("stat")).unwrap_or_default();
            !stat.rsplit(") ").next().unwrap().starts_with('T')
        };
        let deadline = Instant::now() + PATIENCE;
        while std::fs::read_dir(&tasks)
            .unwrap()
            .any(|task| runs(&task.unwrap().path()))
        {
            assert!(Instant::now() < deadline, "still running after SIGSTOP");
            std::thread::yield_now();
        }
    }

    pub(crate) fn signal(&self, signal: Signal) {
        self.process.as_ref().unwrap().signal(signal);
    }

    /// SIGTERM, then the end.
    pub(crate) fn stop(&mut self) -> ExitStatus {
        let mut process = self.process.take().unwrap();
        process.signal(Signal::TERM);
        process.child.wait().unwrap()
    }

    /// SIGKILL, then the end.
    pub(crate) fn kill(&mut self) {
        let mut process = self.process.take().unwrap();
        process.child.kill().unwrap();
        process.child.wait().unwrap();
    }
}

impl Process {
    fn wait_for(&mut self, text: &str) -> String {
        let deadline = Instant::now() + PATIENCE;
        let mut said = Vec::new();
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            match self.lines.recv_timeout(left) {
                Ok(line) if line.contains(text) => return line,
                Ok(line) => said.push(line),
                Err(error) => panic!(
                    "no line with `{text}` ({error}) after:\n{}",
                    said.join("\n")
                ),
            }
        }
    }

    fn signal(&self, signal: Signal) {
        let pid = i32::try_from(self.child.id()).unwrap();
        kill_process(Pid::from_raw(pid).unwrap(), signal).unwrap();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
