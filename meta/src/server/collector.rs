//! Listens to nodes without having a state: for the time in which meta's store is rebuilt.
//!
//! Nodes register as ever and are asked for everything they have; they are told nothing, and go on as they are.

use super::letter::{Failed, Letter, Query, Reply, Session};
use super::wire;
use super::{Counters, Server, ServerOptions};
use crate::recover::Witness;
use crate::state::{ClusterId, Command, Node, ReplicaHealth, Report, Sync};
use pegasus_fbs::code::Code;
use pegasus_fbs::frame::{FrameKind, Header};
use pegasus_http::{Response, Status};
use pegasus_replication::ids::NodeId;
use pegasus_thrift::FrameStatus;
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::mpsc;

/// How often it is looked whether everybody has said everything.
const LOOK_PERIOD: Duration = Duration::from_millis(100);

type Witnesses = Arc<Mutex<BTreeMap<NodeId, Witness>>>;

/// Listens at `options.listen` for nodes of `cluster` until all of `expected` have said everything and none is still opening
/// replicas, or until `wait` is over. Returns what was said. `on_listening` is told the address.
///
/// # Errors
/// The address cannot be bound, or the thread cannot be made.
pub async fn collect(
    options: ServerOptions,
    cluster: ClusterId,
    expected: &BTreeSet<NodeId>,
    wait: Duration,
    on_listening: impl FnOnce(SocketAddr),
) -> io::Result<BTreeMap<NodeId, Witness>> {
    let witnesses = Witnesses::default();
    let collector = Collector {
        witnesses: Arc::clone(&witnesses),
        sessions: BTreeMap::new(),
        counters: Arc::new(Counters::default()),
    };
    let counters = Arc::clone(&collector.counters);
    let server = Server::start_with(cluster, counters, options, |_, _, _, mailbox| {
        collector.run(mailbox);
        Ok(())
    })
    .await?;
    on_listening(server.address());
    let is_complete = || {
        has_all(
            &witnesses.lock().unwrap_or_else(PoisonError::into_inner),
            expected,
        )
    };
    let complete = async {
        while !is_complete() {
            tokio::time::sleep(LOOK_PERIOD).await;
        }
    };
    _ = tokio::time::timeout(wait, complete).await;
    server.stop().await;
    let mut found = witnesses.lock().unwrap_or_else(PoisonError::into_inner);
    Ok(std::mem::take(&mut *found))
}

fn has_all(witnesses: &BTreeMap<NodeId, Witness>, expected: &BTreeSet<NodeId>) -> bool {
    let is_open = |it: &Witness| {
        let opening = |health| health == ReplicaHealth::Opening;
        it.has_told_all && !it.replicas.values().any(|status| opening(status.health))
    };
    expected
        .iter()
        .all(|node| witnesses.get(node).is_some_and(is_open))
}

struct Collector {
    witnesses: Witnesses,
    sessions: BTreeMap<NodeId, Session>,
    counters: Arc<Counters>,
}

impl Collector {
    fn run(mut self, mut mailbox: mpsc::Receiver<Letter>) {
        while let Some(letter) = mailbox.blocking_recv() {
            match letter {
                Letter::Stop => break,
                Letter::Errands(_) | Letter::ClusterName(_) | Letter::Look => {}
                Letter::ChangeMetas { header, outbox, .. } => {
                    outbox.refuse(&header, &rebuilding());
                }
                Letter::Command { command, reply } => self.take(command, reply),
                Letter::Query {
                    query: Query::MayJoin { node, answer },
                    ..
                } => _ = answer.send(may_speak(&node)),
                Letter::Query { header, outbox, .. } => {
                    let failed = rebuilding();
                    outbox.fail(&header, failed.code, &failed.message);
                }
                Letter::Apache { caller, .. } => caller.fail(FrameStatus::ServiceNotActive),
                Letter::Http { done, .. } => {
                    let message = rebuilding().message;
                    _ = done.send(Response::text(Status::ServiceUnavailable, message));
                }
            }
        }
    }

    fn take(&mut self, command: Command, reply: Reply) {
        match (command, reply) {
            (Command::JoinNode { node, .. }, Reply::Join { session, done }) => {
                let heard = may_speak(&node);
                if heard.is_ok() {
                    self.welcome(node, session);
                }
                _ = done.send(heard);
            }
            (Command::Report { node, report, .. }, Reply::Session { header, session }) => {
                self.hear(node, report, &header, &session);
            }
            (_, Reply::Number(done)) => _ = done.send(Err(rebuilding())),
            (_, Reply::Join { done, .. }) => _ = done.send(Err(rebuilding())),
            (_, Reply::Frame { header, outbox }) => {
                let failed = rebuilding();
                outbox.fail(&header, failed.code, &failed.message);
            }
            (_, Reply::Apache { caller, .. }) => caller.fail(FrameStatus::ServiceNotActive),
            // What replicas want is repeated to the meta that will be.
            (_, Reply::Session { .. } | Reply::Nobody) => {}
        }
    }

    /// A node's first words; an empty push makes it say the rest.
    fn welcome(&mut self, node: Node, session: Session) {
        tracing::info!(node = %node.id, host = node.host, "a node has come");
        let witness = Witness {
            node,
            has_told_all: false,
            replicas: BTreeMap::new(),
            tables: Vec::new(),
        };
        let id = session.node;
        self.witnesses
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(id, witness);
        let nothing = wire::sync(&Sync::nothing());
        session
            .outbox
            .send(&Header::request(FrameKind::Sync, 0), &nothing);
        if let Some(before) = self.sessions.insert(id, session) {
            before.outbox.kick();
        }
    }

    fn hear(&self, node: NodeId, report: Report, header: &Header, session: &Session) {
        let reply = Header {
            kind: FrameKind::HeartbeatReply,
            ..header.reply()
        };
        session
            .outbox
            .send(&reply, &wire::heartbeat_reply(report.digest, None));
        let mut witnesses = self
            .witnesses
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let Some(witness) = witnesses.get_mut(&node) else {
            return;
        };
        if report.full {
            witness.replicas.clear();
            witness.has_told_all = true;
            witness.tables = report.tables;
        }
        for (key, status) in report.replicas {
            if status.health == ReplicaHealth::Gone {
                witness.replicas.remove(&key);
            } else {
                witness.replicas.insert(key, status);
            }
        }
        if report.full {
            tracing::info!(%node, replicas = witness.replicas.len(), tables = witness.tables.len(), "a node has said everything");
        }
    }
}

/// A node without a number has nothing to say.
fn may_speak(node: &Node) -> Result<(), Failed> {
    if node.id.0 == 0 {
        return Err(rebuilding());
    }
    match node.fault() {
        Some(fault) => Err(Failed::new(Code::InvalidArgument, fault)),
        None => Ok(()),
    }
}

fn rebuilding() -> Failed {
    Failed::new(Code::NotServing, "meta is being rebuilt from its nodes")
}
