//! The server over loopback, with nodes that this test plays.

#![allow(
    clippy::unwrap_used,
    clippy::disallowed_types,
    reason = "tests fail by panicking, and open sockets"
)]

mod fixture;
mod peer;

use fixture::cluster;
use peer::{FakeNode, Link, Proof, create_table, drop_table, failure, route, show_table};
use pegasus_fbs::code::Code;
use pegasus_fbs::frame::FrameKind;
use pegasus_fbs::meta::ReplicaHealth;
use pegasus_fbs::{admin, body, kv};
use pegasus_meta::server::{Server, ServerOptions};
use pegasus_meta::state::State;
use pegasus_meta::store::{FileStore, Store, StoreError};
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use tempfile::TempDir;

const TOKEN: &[u8] = b"secret";

fn options() -> ServerOptions {
    let mut options = ServerOptions::at(SocketAddr::from(([127, 0, 0, 1], 0)));
    options.token = TOKEN.to_vec();
    options
}

/// Makes a store in `dir`, or opens the one there, and serves it.
async fn serve(dir: &Path) -> Server {
    if FileStore::is_absent(dir).unwrap() {
        drop(FileStore::create(dir, &cluster()).unwrap());
    }
    let (store, durable) = FileStore::open(dir).unwrap();
    Server::start(State::from_durable(durable), Box::new(store), options())
        .await
        .unwrap()
}

async fn nodes(server: &Server, count: u32) -> Vec<FakeNode> {
    let mut nodes = Vec::new();
    for _ in 0..count {
        nodes.push(FakeNode::join(server.address(), TOKEN).await);
    }
    nodes
}

#[tokio::test]
async fn a_table_is_answered_when_it_serves() {
    let dir = TempDir::new().unwrap();
    let server = serve(dir.path()).await;
    let mut nodes = nodes(&server, 3).await;
    let mut operator = Link::open(server.address()).await;
    let asked = operator
        .send(FrameKind::CreateTable, &create_table("t", 8, 3), 0)
        .await;
    for node in &mut nodes {
        node.until(|node| node.configurations.len() == 8).await;
        node.report(ReplicaHealth::Ready, true).await;
    }
    for node in &mut nodes {
        node.until(|node| node.configurations.values().all(|it| it.active))
            .await;
        node.report(ReplicaHealth::Serving, false).await;
    }
    let reply = operator.reply(asked).await;
    let reply = body::read::<admin::CreateTableReply<'_>>(&reply.body).unwrap();
    assert_eq!((reply.table_id(), reply.degraded()), (1, false));

    let frame = operator.ask(FrameKind::Route, &route("t")).await;
    let reply = body::read::<kv::RouteReply<'_>>(&frame.body).unwrap();
    assert_eq!(reply.partition_count(), 8);
    for partition in reply.partitions().unwrap() {
        assert!(partition.primary().unwrap().parse::<SocketAddr>().is_ok());
        assert_eq!(partition.secondaries().unwrap().len(), 2);
    }
    let frame = operator.ask(FrameKind::ShowTable, &show_table("t")).await;
    let table = body::read::<admin::TableDetail<'_>>(&frame.body).unwrap();
    assert_eq!(
        (table.health(), table.healthy_partitions()),
        (admin::Health::Healthy, 8)
    );
    assert_eq!(table.partitions().unwrap().len(), 8);
    let frame = operator.ask(FrameKind::ListNodes, &[]).await;
    let list = body::read::<admin::ListNodesReply<'_>>(&frame.body)
        .unwrap()
        .nodes()
        .unwrap();
    assert_eq!(list.len(), 3);
    assert!(list.iter().all(|node| {
        node.alive()
            && node
                .cores()
                .unwrap()
                .iter()
                .map(|core| core.replicas())
                .sum::<u32>()
                == 8
    }));
    let frame = operator.ask(FrameKind::ListTables, &[]).await;
    assert_eq!(
        body::read::<admin::ListTablesReply<'_>>(&frame.body)
            .unwrap()
            .tables()
            .unwrap()
            .len(),
        1
    );

    // Dropped: every node is told to delete its replicas, by incarnation.
    operator.ask(FrameKind::DropTable, &drop_table("t")).await;
    for node in &mut nodes {
        node.until(|node| node.drops == 8).await;
    }
    server.stop().await;
}

#[tokio::test]
async fn a_table_that_does_not_come_up_is_answered_with_what_is_missing() {
    let dir = TempDir::new().unwrap();
    let server = serve(dir.path()).await;
    let _nodes = nodes(&server, 1).await;
    let mut operator = Link::open(server.address()).await;
    let asked = operator
        .send(FrameKind::CreateTable, &create_table("t", 2, 1), 10)
        .await;
    let frame = operator.reply(asked).await;
    let failure = failure(&frame);
    assert_eq!(failure.code, Code::Creating);
    assert!(
        failure
            .message
            .contains("1.0 waits for core 1/0 to create its replica"),
        "{}",
        failure.message
    );
    server.stop().await;
}

#[tokio::test]
async fn a_restart_of_meta_changes_nothing_for_its_nodes() {
    let dir = TempDir::new().unwrap();
    let server = serve(dir.path()).await;
    let mut nodes = nodes(&server, 3).await;
    let mut operator = Link::open(server.address()).await;
    operator
        .send(FrameKind::CreateTable, &create_table("t", 4, 3), 0)
        .await;
    for node in &mut nodes {
        node.until(|node| node.configurations.len() == 4).await;
    }
    // In the middle of a creation: one of three has reported.
    nodes[0].report(ReplicaHealth::Ready, true).await;
    server.stop().await;

    let server = serve(dir.path()).await;
    for node in &mut nodes {
        let (digest, configurations) = (node.digest, node.configurations.clone());
        node.join_again(server.address(), TOKEN).await.unwrap();
        assert_eq!(node.digest, digest, "the digest after a restart");
        assert_eq!(node.configurations, configurations);
        node.report(ReplicaHealth::Ready, true).await;
    }
    for node in &mut nodes {
        node.until(|node| node.configurations.values().all(|it| it.active))
            .await;
        node.report(ReplicaHealth::Serving, false).await;
    }
    // A primary asks for the next ballot; all members hear of it.
    let (partition, ballot) = nodes[0].propose().await;
    for node in &mut nodes {
        node.until(|node| node.configurations[&partition].ballot == ballot + 1)
            .await;
    }
    server.stop().await;

    let server = serve(dir.path()).await;
    for node in &mut nodes {
        node.join_again(server.address(), TOKEN).await.unwrap();
        assert_eq!(
            node.configurations[&partition].ballot,
            ballot + 1,
            "the ballot was told before it was kept"
        );
    }
    server.stop().await;
}

#[tokio::test]
async fn an_earlier_life_a_foreign_cluster_and_a_wrong_token_are_refused() {
    let dir = TempDir::new().unwrap();
    let server = serve(dir.path()).await;
    let mut node = FakeNode::join(server.address(), TOKEN).await;
    node.incarnation = 5;
    node.join_again(server.address(), TOKEN).await.unwrap();
    node.incarnation = 4;
    let failure = node.join_again(server.address(), TOKEN).await.unwrap_err();
    assert_eq!(failure.code, Code::InvalidArgument);
    assert!(
        failure
            .message
            .contains("incarnation 4 is not newer than 5"),
        "{}",
        failure.message
    );

    node.incarnation = 6;
    assert_eq!(
        node.join_with(server.address(), b"guess", Proof::Unchecked)
            .await
            .unwrap_err()
            .code,
        Code::Unauthenticated
    );
    node.cluster.1 += 1;
    assert_eq!(
        node.join_again(server.address(), TOKEN)
            .await
            .unwrap_err()
            .code,
        Code::WrongCluster
    );
    node.cluster.1 -= 1;
    node.protocol = 9;
    assert_eq!(
        node.join_again(server.address(), TOKEN)
            .await
            .unwrap_err()
            .code,
        Code::Incompatible
    );
    node.protocol = 1;
    node.node = 77;
    let failure = node.join_again(server.address(), TOKEN).await.unwrap_err();
    assert!(
        failure.message.contains("was never given its number"),
        "{}",
        failure.message
    );
    assert_eq!(
        server
            .counters()
            .registrations_refused
            .load(Ordering::Relaxed),
        5
    );
    server.stop().await;
}

#[tokio::test]
async fn meta_proves_the_token_first() {
    let dir = TempDir::new().unwrap();
    let server = serve(dir.path()).await;
    let mut node = FakeNode::join(server.address(), TOKEN).await;
    // A node with another token sees that this is not its meta.
    let failure = node
        .join_with(server.address(), b"other", Proof::Checked)
        .await
        .unwrap_err();
    assert_eq!(failure.message, "meta does not know the token");
    server.stop().await;
}

#[tokio::test]
async fn a_digest_that_differs_brings_everything_again() {
    let dir = TempDir::new().unwrap();
    let server = serve(dir.path()).await;
    let mut node = FakeNode::join(server.address(), TOKEN).await;
    let digest = node.digest;
    node.digest = 1;
    // What is on its way is given time: the node says it again with every heartbeat.
    while node.digest != digest {
        node.report(ReplicaHealth::Ready, false).await;
        node.receive().await;
    }
    assert_eq!(server.counters().resyncs.load(Ordering::Relaxed), 1);
    server.stop().await;
}

#[tokio::test]
async fn garbage_closes_the_connection_and_is_counted() {
    let dir = TempDir::new().unwrap();
    let server = serve(dir.path()).await;
    let mut oversized = peer::frame(FrameKind::CreateTable, 1, &[]);
    oversized[8..12].copy_from_slice(&u32::MAX.to_le_bytes());
    let mut flipped = peer::frame(FrameKind::Route, 1, &route("t"));
    *flipped.last_mut().unwrap() ^= 1;
    let early_heartbeat = peer::frame(FrameKind::Heartbeat, 1, &[]);
    let early_proof = peer::frame(FrameKind::RegisterProof, 1, &[]);
    let inputs = [
        &b"THFT\0\0\0\x02\0\0\0\x30"[..],
        &[0; 64],
        &oversized,
        &flipped,
        &early_heartbeat,
        &early_proof,
    ];
    for (count, input) in (1u64..).zip(inputs) {
        let mut link = Link::open(server.address()).await;
        link.write(input).await;
        assert!(link.is_closed().await, "input {count} was not refused");
        assert_eq!(server.counters().garbage.load(Ordering::Relaxed), count);
    }
    // A body that is no FlatBuffer, or a kind that is not ours, is answered.
    let mut link = Link::open(server.address()).await;
    for (kind, code) in [
        (FrameKind::CreateTable, Code::InvalidArgument),
        (FrameKind::Get, Code::Unsupported),
    ] {
        let frame = link.ask(kind, &[0xff; 24]).await;
        assert_eq!(failure(&frame).code, code);
    }
    let frame = link.ask(FrameKind::Ping, &[]).await;
    assert!(!frame.header.is_failure());
    server.stop().await;
}

#[tokio::test]
async fn nonsense_is_answered_by_its_code() {
    let dir = TempDir::new().unwrap();
    let server = serve(dir.path()).await;
    let mut node = FakeNode::join(server.address(), TOKEN).await;
    let mut operator = Link::open(server.address()).await;
    let cases = [
        (create_table("a/b", 2, 1), Code::InvalidArgument),
        (create_table("t", 3, 1), Code::InvalidArgument),
        (create_table("t", 2, 300), Code::InvalidArgument),
        (create_table("t", 2, 2), Code::NotEnoughNodes),
    ];
    for (request, code) in cases {
        assert_eq!(
            failure(&operator.ask(FrameKind::CreateTable, &request).await).code,
            code
        );
    }
    let asked = operator
        .send(FrameKind::CreateTable, &create_table("t", 2, 1), 0)
        .await;
    node.until(|node| node.configurations.len() == 2).await;
    assert_eq!(
        failure(
            &operator
                .ask(FrameKind::CreateTable, &create_table("t", 2, 1))
                .await
        )
        .code,
        Code::AlreadyExists
    );
    assert_eq!(
        failure(&operator.ask(FrameKind::Route, &route("u")).await).code,
        Code::UnknownTable
    );
    assert_eq!(
        failure(&operator.ask(FrameKind::DropTable, &drop_table("u")).await).code,
        Code::UnknownTable
    );
    node.report(ReplicaHealth::Ready, true).await;
    node.until(|node| node.configurations.values().all(|it| it.active))
        .await;
    node.report(ReplicaHealth::Serving, false).await;
    assert!(!operator.reply(asked).await.header.is_failure());
    server.stop().await;
}

/// A store whose disk is full for a while.
struct FullAtTimes {
    store: FileStore,
    full: Arc<AtomicBool>,
}

impl Store for FullAtTimes {
    fn append(&mut self, changes: &[pegasus_meta::state::Change]) -> Result<(), StoreError> {
        if self.full.load(Ordering::SeqCst) && !changes.is_empty() {
            return Err(StoreError::Full {
                path: "disk".into(),
            });
        }
        self.store.append(changes)
    }

    fn wants_snapshot(&self) -> bool {
        self.store.wants_snapshot()
    }

    fn snapshot(&mut self, durable: &pegasus_meta::state::Durable) -> Result<(), StoreError> {
        self.store.snapshot(durable)
    }

    fn load(&self) -> Result<pegasus_meta::state::Durable, StoreError> {
        self.store.load()
    }
}

#[tokio::test]
async fn a_full_disk_refuses_changes_and_forgets_nothing() {
    let dir = TempDir::new().unwrap();
    let full = Arc::new(AtomicBool::new(false));
    let store = FullAtTimes {
        store: FileStore::create(dir.path(), &cluster()).unwrap(),
        full: Arc::clone(&full),
    };
    let server = Server::start(State::new(cluster()), Box::new(store), options())
        .await
        .unwrap();
    let mut node = FakeNode::join(server.address(), TOKEN).await;
    let mut operator = Link::open(server.address()).await;
    let asked = operator
        .send(FrameKind::CreateTable, &create_table("t", 2, 1), 0)
        .await;
    node.until(|node| node.configurations.len() == 2).await;

    full.store(true, Ordering::SeqCst);
    assert_eq!(
        failure(
            &operator
                .ask(FrameKind::CreateTable, &create_table("u", 2, 1))
                .await
        )
        .code,
        Code::DiskFull
    );
    assert_eq!(
        failure(&operator.ask(FrameKind::DropTable, &drop_table("t")).await).code,
        Code::DiskFull
    );
    assert!(
        !operator
            .ask(FrameKind::ShowTable, &show_table("t"))
            .await
            .header
            .is_failure()
    );
    // The node's report cannot be acted on yet; it is, without being said again, once there is space.
    node.report(ReplicaHealth::Ready, true).await;
    assert!(
        !operator
            .ask(FrameKind::ShowTable, &show_table("t"))
            .await
            .header
            .is_failure()
    );
    full.store(false, Ordering::SeqCst);
    node.until(|node| node.configurations.values().all(|it| it.active))
        .await;
    node.report(ReplicaHealth::Serving, false).await;
    assert!(!operator.reply(asked).await.header.is_failure());
    server.stop().await;
}

#[tokio::test]
async fn connections_over_the_bound_are_closed() {
    let dir = TempDir::new().unwrap();
    let store = FileStore::create(dir.path(), &cluster()).unwrap();
    let mut options = options();
    options.connections_max = 1;
    let server = Server::start(State::new(cluster()), Box::new(store), options)
        .await
        .unwrap();
    let mut first = Link::open(server.address()).await;
    first.ask(FrameKind::Ping, &[]).await;
    let mut second = Link::open(server.address()).await;
    assert!(second.is_closed().await);
    first.ask(FrameKind::Ping, &[]).await;
    assert_eq!(
        server
            .counters()
            .connections_refused
            .load(Ordering::Relaxed),
        1
    );
    server.stop().await;
}
