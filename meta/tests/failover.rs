//! Failover, healing and orders over loopback, with nodes that this test plays.

#![allow(
    clippy::unwrap_used,
    clippy::disallowed_types,
    reason = "tests fail by panicking, and open sockets"
)]

mod fixture;
mod peer;

use fixture::cluster;
use peer::{FakeNode, Link, create_table, drain_node, failure, move_primary, show_table};
use pegasus_fbs::code::Code;
use pegasus_fbs::frame::FrameKind;
use pegasus_fbs::meta::{ProposalKind, ReplicaHealth};
use pegasus_fbs::{admin, body};
use pegasus_meta::server::{Server, ServerOptions};
use pegasus_meta::state::{Change, Durable, HealOptions, State};
use pegasus_meta::store::{MemStore, Store, StoreError};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

const TOKEN: &[u8] = b"secret";
type Partition = (u32, u32);

/// Counts what was persisted.
struct Counted {
    store: MemStore,
    records: Arc<AtomicUsize>,
}

impl Store for Counted {
    fn append(&mut self, changes: &[Change]) -> Result<(), StoreError> {
        self.records
            .fetch_add(usize::from(!changes.is_empty()), Ordering::SeqCst);
        self.store.append(changes)
    }

    fn wants_snapshot(&self) -> bool {
        false
    }

    fn snapshot(&mut self, durable: &Durable) -> Result<(), StoreError> {
        self.store.snapshot(durable)
    }

    fn load(&self) -> Result<Durable, StoreError> {
        self.store.load()
    }
}

async fn serve(options: HealOptions) -> (Server, Arc<AtomicUsize>) {
    let state = State::new(cluster()).with_options(options);
    let records = Arc::new(AtomicUsize::new(0));
    let store = Counted {
        store: MemStore::new(state.durable()),
        records: Arc::clone(&records),
    };
    let mut at = ServerOptions::at(SocketAddr::from(([127, 0, 0, 1], 0)));
    at.token = TOKEN.to_vec();
    let server = Server::start(state, Box::new(store), at).await.unwrap();
    (server, records)
}

/// Nodes with a table `t` that serves.
async fn cluster_of(
    server: &Server,
    nodes: u32,
    partitions: u32,
    replicas: u32,
) -> (Vec<FakeNode>, Link) {
    let mut all = Vec::new();
    for _ in 0..nodes {
        all.push(FakeNode::join(server.address(), TOKEN).await);
    }
    let mut operator = Link::open(server.address()).await;
    let request = create_table("t", partitions, replicas);
    let asked = operator.send(FrameKind::CreateTable, &request, 0).await;
    for health in [ReplicaHealth::Ready, ReplicaHealth::Serving] {
        for node in &mut all {
            let is_serving = health == ReplicaHealth::Serving;
            node.until(|node| {
                let mut known = node.configurations.values();
                !node.configurations.is_empty() && known.all(|it| it.active || !is_serving)
            })
            .await;
            node.report(health, true).await;
        }
    }
    assert!(!operator.reply(asked).await.header.is_failure());
    (all, operator)
}

/// The places of the members of a partition in `nodes`, the primary first.
fn members(nodes: &[FakeNode], partition: Partition) -> Vec<usize> {
    let known = nodes
        .iter()
        .find_map(|node| node.configurations.get(&partition));
    let names = &known.unwrap().members;
    let place = |id: u32| nodes.iter().position(|node| node.node == id).unwrap();
    names.iter().map(|name| place(name.1)).collect()
}

const FIRST: Partition = (1, 0);

#[tokio::test]
async fn a_secondary_takes_over_once_and_everybody_is_told() {
    let (server, _) = serve(HealOptions::default()).await;
    let (mut nodes, mut operator) = cluster_of(&server, 3, 2, 3).await;
    let [old, first, second] = members(&nodes, FIRST)[..] else {
        panic!("three members")
    };
    let ballot = nodes[first].configurations[&FIRST].ballot;
    nodes[first].want(FIRST, ProposalKind::TakeOver, None).await;
    nodes[first]
        .until(|node| node.configurations[&FIRST].leads)
        .await;
    // The other one asks under the old ballot: it is only told.
    nodes[second]
        .want(FIRST, ProposalKind::TakeOver, None)
        .await;
    nodes[second]
        .until(|node| node.configurations[&FIRST].ballot == ballot + 1)
        .await;
    nodes[old]
        .until(|node| !node.configurations.contains_key(&FIRST))
        .await;
    nodes[first].report(ReplicaHealth::Serving, false).await;
    let frame = operator.ask(FrameKind::ShowTable, &show_table("t")).await;
    let table = body::read::<admin::TableDetail<'_>>(&frame.body).unwrap();
    let partition = table.partitions().unwrap().get(0);
    assert_eq!(partition.ballot(), ballot + 1);
    assert_eq!(partition.primary().unwrap().node(), nodes[first].node);
    assert_eq!(partition.secondaries().unwrap().len(), 1);
    assert!(partition.degraded_since_unix_ms() > 0);
    server.stop().await;
}

#[tokio::test]
async fn a_lost_member_is_replaced_by_a_learner_that_its_primary_adds() {
    let options = HealOptions {
        heal_delay_ms: 0,
        ..HealOptions::default()
    };
    let (server, _) = serve(options).await;
    let (mut nodes, _) = cluster_of(&server, 4, 2, 3).await;
    let group = members(&nodes, FIRST);
    let [primary, lost, kept] = group[..] else {
        panic!("three members")
    };
    let target = (0..4).find(|place| !group.contains(place)).unwrap();
    let name = nodes[primary].configurations[&FIRST].members[1];
    nodes[primary]
        .want(FIRST, ProposalKind::Remove, Some(name))
        .await;
    nodes[lost]
        .until(|node| !node.configurations.contains_key(&FIRST))
        .await;
    nodes[primary]
        .until(|node| node.configurations[&FIRST].members.len() == 2)
        .await;
    nodes[primary].report(ReplicaHealth::Serving, false).await;
    nodes[primary]
        .until(|node| node.learners.contains_key(&FIRST))
        .await;
    nodes[target]
        .until(|node| node.learners.contains_key(&FIRST))
        .await;
    let learner = nodes[primary].learners[&FIRST];
    assert_eq!(learner.1, nodes[target].node);
    nodes[target].report(ReplicaHealth::Ready, false).await;
    nodes[primary]
        .want(FIRST, ProposalKind::Add, Some(learner))
        .await;
    for place in [primary, kept, target] {
        nodes[place]
            .until(|node| {
                node.configurations
                    .get(&FIRST)
                    .is_some_and(|it| it.members.contains(&learner))
            })
            .await;
    }
    // It is whole again: what the lost node still has is deleted by order.
    nodes[kept].report(ReplicaHealth::Serving, false).await;
    nodes[target].report(ReplicaHealth::Serving, false).await;
    nodes[primary].report(ReplicaHealth::Serving, false).await;
    nodes[lost].until(|node| node.drops == 1).await;
    server.stop().await;
}

#[tokio::test]
async fn a_primary_is_moved_and_a_node_drained_by_orders_that_are_answered_when_done() {
    let (server, _) = serve(HealOptions::default()).await;
    let (mut nodes, mut operator) = cluster_of(&server, 3, 2, 3).await;
    let [from, to, _] = members(&nodes, FIRST)[..] else {
        panic!("three members")
    };
    let request = move_primary("t", 0, nodes[to].node);
    let asked = operator.send(FrameKind::MovePrimary, &request, 0).await;
    hand_over(&mut nodes, from, to).await;
    let frame = operator.reply(asked).await;
    assert!(
        body::read::<admin::ChangeReply<'_>>(&frame.body)
            .unwrap()
            .done()
    );

    // In the time given nothing happens: it goes on, and says what it waits for.
    let request = drain_node(nodes[to].node, false);
    let asked = operator.send(FrameKind::DrainNode, &request, 50).await;
    let frame = operator.reply(asked).await;
    let reply = body::read::<admin::ChangeReply<'_>>(&frame.body).unwrap();
    assert!(!reply.done() && reply.message().unwrap().contains("still leads"));
    let frame = operator
        .ask(FrameKind::DrainNode, &drain_node(99, false))
        .await;
    assert_eq!(failure(&frame).code, Code::InvalidArgument);
    let frame = operator
        .ask(FrameKind::MovePrimary, &move_primary("t", 9, 1))
        .await;
    assert!(failure(&frame).message.contains("has no partition 9"));
    server.stop().await;
}

/// The primary of the first partition does as it is told.
async fn hand_over(nodes: &mut [FakeNode], from: usize, to: usize) {
    nodes[from].until(|node| !node.handovers.is_empty()).await;
    let name = nodes[to].configurations[&FIRST].incarnation;
    assert_eq!(nodes[from].handovers[0], (1, 0, name));
    let about = nodes[from].configurations[&FIRST]
        .members
        .iter()
        .find(|it| it.0 == name)
        .copied();
    nodes[from].want(FIRST, ProposalKind::HandOver, about).await;
    nodes[to]
        .until(|node| node.configurations[&FIRST].leads)
        .await;
    nodes[to].report(ReplicaHealth::Serving, false).await;
}

/// Thousands of replicas change in one flush, not in thousands.
#[tokio::test]
async fn a_batch_of_proposals_and_a_report_of_many_replicas_are_one_record_each() {
    let (server, records) = serve(HealOptions::default()).await;
    let (mut nodes, _) = cluster_of(&server, 3, 2048, 3).await;
    // A number and a join for each node, the table, and one for each report that made partitions active: 6,144 replicas.
    assert!(records.load(Ordering::SeqCst) <= 10);
    let first = &mut nodes[0];
    let led: Vec<Partition> = first
        .configurations
        .iter()
        .filter(|(_, known)| !known.leads)
        .map(|(partition, _)| *partition)
        .take(1_000)
        .collect();
    assert_eq!(led.len(), 1_000);
    let before = records.load(Ordering::SeqCst);
    first.want_all(&led, ProposalKind::TakeOver, None).await;
    first
        .until(|node| led.iter().all(|it| node.configurations[it].leads))
        .await;
    assert_eq!(records.load(Ordering::SeqCst), before + 1);
    server.stop().await;
}
