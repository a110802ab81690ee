//! Frames of nodes, clients and operators with any bodies, one after the other against one state: refused by a sentence,
//! or carried out so that everything that must hold still holds. Run by the tests and by the fuzz target `meta_frames`.

#![allow(
    clippy::missing_panics_doc,
    reason = "what must not be is a panic: that is how a fuzzer is told"
)]

pub mod foreign;

use super::facts::Place;
use super::letter::{Failed, Query};
use super::{answers, wire};
use crate::state::{Answer, Cluster, ClusterId, Command, Durable, Node, Outcome, State};
use crate::store::format::change;
use pegasus_fbs::body;
use pegasus_fbs::frame::FrameKind;
use pegasus_fbs::meta::Sync;
use pegasus_replication::ids::{NodeId, NodeIncarnation};
use std::net::SocketAddr;

/// A failed request may quote what it was about, up to this many bytes.
const SENTENCE_BYTES_MAX: usize = 8 << 10;
/// Text that one introduction may cost, whatever its strings share: 1,024 cores with two addresses.
const NODE_BYTES_MAX: usize = 512 << 10;

/// The input is a sequence of: kind of frame (1 byte), length of its body (2 bytes, little-endian), body. A kind that is
/// none lets time pass.
pub fn run(mut input: &[u8]) {
    let mut meta = Meta::new();
    while let Some((&[kind, low, high], rest)) = input.split_first_chunk::<3>() {
        let length = usize::from(u16::from_le_bytes([low, high])).min(rest.len());
        let (body, after) = rest.split_at(length);
        input = after;
        match meta.handle(kind, body) {
            Ok(()) => {}
            Err(failed) => {
                let length = failed.message.len();
                assert!((1..=SENTENCE_BYTES_MAX).contains(&length), "{failed:?}");
            }
        }
        meta.now_ms += 300;
    }
    meta.state.check();
}

struct Meta {
    state: State,
    /// The fold of all changes that were told.
    persisted: Durable,
    now_ms: u64,
}

impl Meta {
    fn new() -> Self {
        let cluster = Cluster {
            id: ClusterId(7),
            name: "any".to_owned(),
            epoch: 1,
        };
        Self {
            state: State::new(cluster.clone()),
            persisted: Durable::new(cluster),
            now_ms: 1_000,
        }
    }

    fn handle(&mut self, kind: u8, body: &[u8]) -> Result<(), Failed> {
        let Ok(kind) = FrameKind::try_from(kind) else {
            let now_ms = self.now_ms;
            return self.apply(Command::Tick { now_ms });
        };
        let (node, incarnation) = self.speaker();
        match kind {
            FrameKind::Register => self.on_register(body),
            FrameKind::RegisterProof => wire::proof(body).map(|_| ()),
            FrameKind::Heartbeat => {
                let report = wire::report(body)?;
                let now_ms = self.now_ms;
                self.apply(Command::Report {
                    node,
                    incarnation,
                    report,
                    now_ms,
                })
            }
            FrameKind::ProposeNextBallot | FrameKind::ProposeChange => {
                let proposals = if kind == FrameKind::ProposeChange {
                    wire::proposals(body)?
                } else {
                    wire::next_ballots(body)?
                };
                let now_ms = self.now_ms;
                self.apply(Command::Propose {
                    node,
                    incarnation,
                    proposals,
                    now_ms,
                })
            }
            FrameKind::CreateTable
            | FrameKind::DropTable
            | FrameKind::RecallTable
            | FrameKind::RenameTable
            | FrameKind::ChangeEnvs
            | FrameKind::SetLevel
            | FrameKind::MovePrimary
            | FrameKind::MoveReplica
            | FrameKind::DrainNode
            | FrameKind::UndrainNode
            | FrameKind::DecommissionNode
            | FrameKind::OrderBalance
            | FrameKind::SetReplicas
            | FrameKind::Rebalance => self.apply(wire::order(kind, body, self.now_ms)?),
            _ => self.answer(wire::query(kind, body)?),
        }
    }

    /// The node that joined last.
    fn speaker(&self) -> (NodeId, NodeIncarnation) {
        let last = self.state.durable().nodes().values().next_back();
        last.map_or((NodeId(1), NodeIncarnation(1)), |node| {
            (node.id, node.incarnation)
        })
    }

    fn on_register(&mut self, body: &[u8]) -> Result<(), Failed> {
        let mut node = wire::register(body)?.node;
        assert!(text_bytes(&node) <= NODE_BYTES_MAX);
        if node.id.0 == 0 {
            node.id = NodeId(self.state.durable().counters().next_node);
            self.apply(Command::NumberNode)?;
        }
        let now_ms = self.now_ms;
        self.apply(Command::JoinNode { node, now_ms })
    }

    fn apply(&mut self, command: Command) -> Result<(), Failed> {
        match self.apply_told(command) {
            Answer::Refused(refusal) => Err(Failed::from(&refusal)),
            _ => Ok(()),
        }
    }

    fn apply_told(&mut self, command: Command) -> Answer {
        let Outcome {
            changes,
            answer,
            pushes,
        } = self.state.apply(command);
        let mut record = Vec::new();
        change::encode_batch(&changes, &mut record);
        assert_eq!(change::decode_batch(&record).as_ref(), Some(&changes));
        for change in &changes {
            self.persisted
                .apply(change)
                .expect("a change that was told");
        }
        for push in &pushes {
            let bytes = wire::sync(&push.sync);
            let sync = body::read::<Sync<'_>>(&bytes).expect("our own Sync");
            assert_eq!(sync.digest(), self.persisted.digest(push.node));
        }
        answer
    }

    fn answer(&self, query: Query) -> Result<(), Failed> {
        let state = &self.state;
        match query {
            Query::Route { name } => answers::route(state, &name).map(|_| ()),
            Query::ShowTable { name } => answers::show_table(state, &name).map(|_| ()),
            Query::ShowEnvs { name } => answers::show_envs(state, &name).map(|_| ()),
            Query::ListTables { dropped } => {
                answers::list_tables(state, dropped);
                Ok(())
            }
            Query::ShowBalance { plan } => {
                answers::show_balance(state, plan);
                Ok(())
            }
            Query::ShowDrain { node } => {
                answers::show_drain(state, node);
                Ok(())
            }
            Query::ShowCluster => {
                let address = SocketAddr::from(([127, 0, 0, 1], 34601));
                answers::show_cluster(state, &Place::alone(address));
                Ok(())
            }
            // Answered from what the state's own tests read.
            Query::Backup { .. } => Ok(()),
            Query::ListNodes | Query::MayJoin { .. } => {
                answers::list_nodes(state, self.now_ms);
                Ok(())
            }
        }
    }
}

fn text_bytes(node: &Node) -> usize {
    let cores = node.cores.iter();
    let addresses = cores.map(|core| core.client_address.len() + core.peer_address.len());
    addresses.sum::<usize>() + node.host.len() + node.stats_dir.len()
}

#[cfg(test)]
mod tests {
    #![allow(
        clippy::unwrap_used,
        clippy::disallowed_methods,
        clippy::disallowed_types,
        reason = "tests read files and fail by panicking"
    )]

    use super::*;
    use pegasus_fbs::flatbuffers::{FlatBufferBuilder, WIPOffset};
    use pegasus_fbs::{admin, meta};
    use std::path::PathBuf;

    type Builder = FlatBufferBuilder<'static>;

    fn frame<T>(kind: FrameKind, write: impl Fn(&mut Builder) -> WIPOffset<T>) -> Vec<u8> {
        let mut builder = Builder::new();
        let root = write(&mut builder);
        builder.finish(root, None);
        let body = builder.finished_data();
        let length = u16::try_from(body.len()).unwrap().to_le_bytes();
        [&[kind.number()], &length[..], body].concat()
    }

    /// A node with `cores` cores whose addresses are all the same string in the frame.
    fn register(address: &str, cores: usize) -> Vec<u8> {
        frame(FrameKind::Register, |b| {
            let address = b.create_string(address);
            let addresses = Some(b.create_vector(&vec![address; cores]));
            let arguments = meta::RegisterArgs {
                protocol_min: 1,
                protocol_max: 1,
                node_incarnation: 1,
                client_addresses: addresses,
                peer_addresses: addresses,
                host: Some(address),
                pid: 9,
                ..Default::default()
            };
            meta::Register::create(b, &arguments)
        })
    }

    fn create(name: &str) -> Vec<u8> {
        frame(FrameKind::CreateTable, |b| {
            let name = Some(b.create_string(name));
            let arguments = admin::CreateTableArgs {
                name,
                partition_count: 4,
                replica_count: 1,
                allow_degraded: true,
            };
            admin::CreateTable::create(b, &arguments)
        })
    }

    fn heartbeat() -> Vec<u8> {
        frame(FrameKind::Heartbeat, |b| {
            let replicas: Vec<_> = (0..4)
                .map(|index| {
                    let key = meta::ReplicaKey::new(u64::from(index) + 1, 1, index);
                    let arguments = meta::ReplicaReportArgs {
                        key: Some(&key),
                        ballot: 5,
                        health: meta::ReplicaHealth::Ready,
                        ..Default::default()
                    };
                    meta::ReplicaReport::create(b, &arguments)
                })
                .collect();
            let replicas = Some(b.create_vector(&replicas));
            let arguments = meta::HeartbeatArgs {
                replicas,
                full: true,
                ..Default::default()
            };
            meta::Heartbeat::create(b, &arguments)
        })
    }

    fn propose() -> Vec<u8> {
        frame(FrameKind::ProposeNextBallot, |b| {
            let ballot = pegasus_replication::ids::Ballot::new(1, 1).0;
            let replicas = Some(b.create_vector(&[meta::Proposal::new(1, ballot, 1, 0)]));
            meta::ProposeNextBallot::create(b, &meta::ProposeNextBallotArgs { replicas })
        })
    }

    fn change(kind: meta::ProposalKind, member: u64) -> Vec<u8> {
        frame(FrameKind::ProposeChange, |b| {
            let replica = meta::ReplicaKey::new(1, 1, 0);
            let member = pegasus_fbs::peer::Member::new(member, 1, 0);
            let arguments = meta::ChangeProposalArgs {
                replica: Some(&replica),
                ballot: pegasus_replication::ids::Ballot::new(1, 1).0,
                kind,
                member: Some(&member),
                cause: meta::RemovalCause::Slow,
                prepared: 9,
                prepared_ballot: 1,
            };
            let proposal = meta::ChangeProposal::create(b, &arguments);
            let proposals = Some(b.create_vector(&[proposal]));
            meta::ProposeChange::create(b, &meta::ProposeChangeArgs { proposals })
        })
    }

    fn orders() -> Vec<Vec<u8>> {
        let primary = frame(FrameKind::MovePrimary, |b| {
            let arguments = admin::MovePrimaryArgs {
                table_name: Some(b.create_string("t")),
                partition: 1,
                node: 1,
            };
            admin::MovePrimary::create(b, &arguments)
        });
        let replica = frame(FrameKind::MoveReplica, |b| {
            let arguments = admin::MoveReplicaArgs {
                table_name: Some(b.create_string("t")),
                partition: 0,
                from_node: 1,
                to_node: 2,
                to_core: 70_000,
            };
            admin::MoveReplica::create(b, &arguments)
        });
        let drain = frame(FrameKind::DrainNode, |b| {
            let arguments = admin::DrainNodeArgs {
                node: 1,
                move_replicas: true,
            };
            admin::DrainNode::create(b, &arguments)
        });
        let undrain = frame(FrameKind::UndrainNode, |b| {
            admin::UndrainNode::create(b, &admin::UndrainNodeArgs { node: 1 })
        });
        vec![primary, replica, drain, undrain]
    }

    /// Every kind of wish, one after the other, and all orders, of a table of one replica.
    fn changes() -> Vec<u8> {
        let kinds = meta::ProposalKind::ENUM_VALUES.iter();
        let wishes = kinds.map(|&kind| change(kind, 2)).collect::<Vec<_>>();
        let life = [register("127.0.0.1:34801", 2), create("t"), heartbeat()];
        [life.concat(), wishes.concat(), orders().concat()].concat()
    }

    fn drop_table(name: &str) -> Vec<u8> {
        frame(FrameKind::DropTable, |b| {
            let name = Some(b.create_string(name));
            let reserve_seconds = 0;
            let arguments = admin::DropTableArgs {
                name,
                reserve_seconds,
            };
            admin::DropTable::create(b, &arguments)
        })
    }

    fn seeds() -> Vec<(&'static str, Vec<u8>)> {
        let address = "127.0.0.1:34801";
        let show = [FrameKind::ListNodes.number(), 0, 0];
        let life = [
            register(address, 2),
            create("t"),
            heartbeat(),
            propose(),
            show.to_vec(),
            drop_table("t"),
            vec![0, 0, 0],
        ];
        vec![
            ("life", life.concat()),
            ("register", register(address, 1)),
            ("long_address", register(&"9".repeat(30_000), 1)),
            ("shared_address", register(&"9".repeat(30_000), 4_000)),
            ("many_cores", register(address, 2_000)),
            ("unknown_table", drop_table("nobody")),
            ("cut", create("t")[..20].to_vec()),
            ("changes", changes()),
        ]
    }

    /// `PEGASUS_WRITE_CORPUS=1` writes the seeds anew.
    #[test]
    fn frames_with_any_bodies_are_refused_or_keep_the_invariants() {
        let corpus =
            PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../tests/fuzz/corpus/meta_frames");
        for (name, seed) in seeds() {
            if std::env::var_os("PEGASUS_WRITE_CORPUS").is_some() {
                std::fs::create_dir_all(&corpus).unwrap();
                std::fs::write(corpus.join(name), &seed).unwrap();
            }
            assert_eq!(std::fs::read(corpus.join(name)).unwrap(), seed, "{name}");
        }
        for entry in std::fs::read_dir(corpus).unwrap() {
            run(&std::fs::read(entry.unwrap().path()).unwrap());
        }
    }

    #[test]
    fn the_seed_of_a_life_is_carried_out() {
        let cluster = Cluster {
            id: ClusterId(7),
            name: "any".to_owned(),
            epoch: 1,
        };
        let mut meta = Meta {
            state: State::new(cluster.clone()),
            persisted: Durable::new(cluster),
            now_ms: 1_000,
        };
        for frame in [register("127.0.0.1:34801", 2), create("t"), heartbeat()] {
            meta.handle(frame[0], &frame[3..]).unwrap();
        }
        assert!(meta.state.durable().table_named("t").is_some());
    }
}
