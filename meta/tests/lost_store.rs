//! Meta's store is lost: `pegasus-meta recover` rebuilds it from nodes that this test plays.

#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "tests fail by panicking, start processes and open sockets"
)]

mod fixture;
mod peer;

use fixture::cluster;
use peer::{FakeNode, Link, create_table};
use pegasus_fbs::frame::FrameKind;
use pegasus_fbs::meta::ReplicaHealth;
use pegasus_meta::server::{Server, ServerOptions};
use pegasus_meta::state::State;
use pegasus_meta::store::{FileStore, MemStore};
use std::io::Read as _;
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};
use tempfile::TempDir;

async fn serve(state: State) -> Server {
    let store = MemStore::new(state.durable());
    let options = ServerOptions::at(SocketAddr::from(([127, 0, 0, 1], 0)));
    Server::start(state, Box::new(store), options)
        .await
        .unwrap()
}

/// Three nodes with a table, whose meta is gone.
async fn orphans() -> Vec<FakeNode> {
    let server = serve(State::new(cluster())).await;
    let mut nodes = Vec::new();
    for _ in 0..3 {
        nodes.push(FakeNode::join(server.address(), b"").await);
    }
    let mut operator = Link::open(server.address()).await;
    let request = create_table("t", 4, 3);
    let asked = operator.send(FrameKind::CreateTable, &request, 0).await;
    for node in &mut nodes {
        node.until(|node| node.configurations.len() == 4).await;
        node.report(ReplicaHealth::Ready, true).await;
    }
    for node in &mut nodes {
        node.until(|node| node.configurations.values().all(|it| it.active))
            .await;
        node.report(ReplicaHealth::Serving, true).await;
    }
    assert!(!operator.reply(asked).await.header.is_failure());
    server.stop().await;
    nodes
}

/// A `recover` that listens.
struct Recovery {
    child: Child,
    stdout: ChildStdout,
    said: String,
}

impl Recovery {
    fn start(dir: &Path, more: &[&str]) -> (Self, SocketAddr) {
        let mut child = Command::new(env!("CARGO_BIN_EXE_pegasus-meta"))
            .args(["recover", "--dir", dir.to_str().unwrap()])
            .args([
                "--cluster-id",
                &cluster().id.to_string(),
                "--listen",
                "127.0.0.1:0",
            ])
            .args(more)
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut stdout = child.stdout.take().unwrap();
        let mut said = String::new();
        while !said.ends_with('\n') {
            let mut byte = [0];
            stdout.read_exact(&mut byte).unwrap();
            said.push(char::from(byte[0]));
        }
        let address = said.trim().strip_prefix("listening on ").unwrap();
        let address = address.parse().unwrap();
        let recovery = Self {
            child,
            stdout,
            said,
        };
        (recovery, address)
    }

    /// Waits for its end; whether it succeeded, and what it said.
    fn end(mut self) -> (bool, String) {
        let Self {
            child,
            stdout,
            said,
        } = &mut self;
        stdout.read_to_string(said).unwrap();
        (child.wait().unwrap().success(), said.clone())
    }
}

impl Drop for Recovery {
    fn drop(&mut self) {
        _ = self.child.kill();
        _ = self.child.wait();
    }
}

#[tokio::test]
async fn a_lost_store_is_rebuilt_and_the_nodes_go_on_under_a_new_epoch() {
    let mut nodes = orphans().await;
    let before: Vec<_> = nodes.iter().map(|it| it.configurations.clone()).collect();
    let dir = TempDir::new().unwrap();
    let (recovery, address) = Recovery::start(dir.path(), &["--nodes", "1,2,3"]);
    for node in &mut nodes {
        node.join_again(address, b"").await.unwrap();
        node.testify("t", 4).await;
    }
    let (succeeded, said) = recovery.end();
    assert!(succeeded, "{said}");
    assert!(
        said.contains("table 1 t: 4 partitions\n3 nodes, 4 partitions, epoch 1\n"),
        "{said}"
    );

    let (_, durable) = FileStore::open(dir.path()).unwrap();
    let server = serve(State::from_durable(durable)).await;
    for (node, before) in nodes.iter_mut().zip(before) {
        node.join_again(server.address(), b"").await.unwrap();
        assert_eq!(node.configurations.len(), 4);
        for (partition, now) in &node.configurations {
            let old = &before[partition];
            assert_eq!(now.members, old.members);
            assert!(now.ballot > old.ballot && now.ballot >> 47 == 1);
        }
    }
    server.stop().await;
}

#[tokio::test]
async fn what_cannot_be_decided_is_listed_and_nothing_is_written_until_its_loss_is_accepted() {
    let mut nodes = orphans().await;
    let dir = TempDir::new().unwrap();
    let (recovery, address) = Recovery::start(dir.path(), &["--nodes", "1,2,3", "--wait", "1"]);
    // Node 3 does not come.
    for node in &mut nodes[..2] {
        node.join_again(address, b"").await.unwrap();
        node.testify("t", 4).await;
    }
    let (succeeded, said) = recovery.end();
    assert!(!succeeded);
    assert!(said.contains("warning: node 3 has not reported"), "{said}");
    for index in 0..4 {
        let line = format!("undecided: partition 1.{index}: its member on node 3 is missing");
        assert!(said.contains(&line), "{said}");
    }
    assert!(said.contains("--accept-loss 1.0,1.1,1.2,1.3\n"), "{said}");
    assert!(FileStore::is_absent(dir.path()).unwrap());

    let more = [
        "--nodes",
        "1,2,3",
        "--wait",
        "1",
        "--accept-loss",
        "1.0,1.1,1.2,1.3",
    ];
    let (recovery, address) = Recovery::start(dir.path(), &more);
    for node in &mut nodes[..2] {
        node.join_again(address, b"").await.unwrap();
        node.testify("t", 4).await;
    }
    let (succeeded, said) = recovery.end();
    assert!(succeeded, "{said}");
    let (_, durable) = FileStore::open(dir.path()).unwrap();
    State::from_durable(durable).check();
}

#[test]
fn a_directory_with_a_store_and_bad_words_are_refused() {
    let dir = TempDir::new().unwrap();
    drop(FileStore::create(dir.path(), &cluster()).unwrap());
    let recover = |more: &[&str]| {
        let output = Command::new(env!("CARGO_BIN_EXE_pegasus-meta"))
            .args([
                "recover",
                "--dir",
                dir.path().to_str().unwrap(),
                "--listen",
                "127.0.0.1:0",
            ])
            .args(more)
            .output()
            .unwrap();
        assert!(!output.status.success());
        String::from_utf8(output.stderr).unwrap()
    };
    let id = cluster().id.to_string();
    let error = recover(&["--cluster-id", &id, "--nodes", "1"]);
    assert!(error.contains("holds a meta store already"), "{error}");
    let error = recover(&["--cluster-id", "12", "--nodes", "1"]);
    assert!(error.contains("32 hexadecimal digits"), "{error}");
    let error = recover(&["--cluster-id", &id]);
    assert!(error.contains("--nodes"), "{error}");
    let error = recover(&["--cluster-id", &id, "--nodes", "1", "--table", "4=users"]);
    assert!(error.contains("ID=NAME:PARTITIONS:REPLICAS"), "{error}");
    let error = recover(&["--cluster-id", &id, "--nodes", "1", "--accept-loss", "all"]);
    assert!(error.contains("TABLE.INDEX"), "{error}");
}
