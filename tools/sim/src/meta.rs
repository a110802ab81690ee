//! The simulated meta process: the production state, a connection to each node, and crashes that keep what was persisted.

use crate::action::{Action, Life};
use crate::history::Violation;
use crate::world::World;
use pegasus_meta::state::{
    Answer, Change, Cluster, ClusterId, Command, Core, CreateTable, Durable, Node, Proposal,
    ReplicaKey, State, Sync,
};
use pegasus_replication::event::Event;
use pegasus_replication::ids::{Ballot, CoreAddress, CoreId, Instant, NodeId, PartitionId};
use std::ops::Range;
use std::time::Duration;

pub(crate) const TABLE: &str = "simulated";
const DELAY: Range<Duration> = Duration::from_micros(100)..Duration::from_millis(20);
const REPORT_PERIOD: Duration = Duration::from_millis(500);
const RETRY: Duration = Duration::from_millis(300);

pub(crate) fn cluster() -> Cluster {
    Cluster {
        id: ClusterId(0x51a1),
        name: "simulated".to_owned(),
        epoch: 0,
    }
}

/// The clock of meta's commands.
const fn milliseconds(now: Instant) -> u64 {
    now.0 / 1_000_000
}

impl World {
    /// Node numbers are given before the run: a fresh directory's first join is not what it is about.
    pub(crate) fn number_nodes(&mut self) {
        for node in 1..=self.scenario.nodes {
            let outcome = self.meta.state.apply(Command::NumberNode);
            assert_eq!(
                outcome.answer,
                Answer::NodeNumbered(NodeId(node)),
                "numbers are given in order"
            );
        }
    }

    pub(crate) fn join(&mut self, node: NodeId, life: Life) -> Result<(), Violation> {
        if self.life(node) != life || !self.nodes[self.node_index(node)].up {
            return Ok(());
        }
        let index = self.node_index(node);
        let joined = self.nodes[index].joined_meta == Some(self.meta.life) && self.meta.up;
        if !joined {
            let now_ms = milliseconds(self.now);
            let command = Command::JoinNode {
                node: self.describe(index),
                now_ms,
            };
            self.send_to_meta(node, command);
            self.queue
                .add(self.now.after(RETRY), Action::Join { node, life });
        }
        Ok(())
    }

    fn describe(&self, index: usize) -> Node {
        let node = &self.nodes[index];
        let core = |number: u16| {
            let at = |port: u16| {
                format!(
                    "127.0.0.1:{}",
                    port + 100 * u16::try_from(index).expect("nodes are few") + number
                )
            };
            Core {
                client_address: at(10_000),
                peer_address: at(20_000),
                cpu: u32::from(number),
            }
        };
        Node {
            id: node.id,
            incarnation: node.incarnation,
            cores: (0..self.scenario.cores).map(core).collect(),
            host: "simulated".to_owned(),
            pid: 1,
            stats_dir: String::new(),
        }
    }

    pub(crate) fn report(&mut self, node: NodeId, life: Life) -> Result<(), Violation> {
        if self.life(node) == life {
            self.report_now(node);
            self.queue
                .add(self.now.after(REPORT_PERIOD), Action::Report { node, life });
        }
        Ok(())
    }

    /// Sends a full report, if the node has a connection.
    pub(crate) fn report_now(&mut self, node: NodeId) {
        let index = self.node_index(node);
        if self.nodes[index].up && self.nodes[index].joined_meta == Some(self.meta.life) {
            let report = self.nodes[index].report();
            let incarnation = self.nodes[index].incarnation;
            let now_ms = milliseconds(self.now);
            self.send_to_meta(
                node,
                Command::Report {
                    node,
                    incarnation,
                    report,
                    now_ms,
                },
            );
        }
    }

    pub(crate) fn propose_next_ballot(
        &mut self,
        core: CoreAddress,
        partition: PartitionId,
        ballot: Ballot,
    ) {
        let index = self.node_index(core.node);
        if self.nodes[index].joined_meta != Some(self.meta.life) {
            return;
        }
        let Some(replica) = self
            .core(core)
            .shard
            .as_ref()
            .and_then(|shard| shard.replica(partition))
        else {
            return;
        };
        let replica = ReplicaKey {
            partition,
            incarnation: replica.incarnation(),
        };
        let (node, incarnation) = (core.node, self.nodes[index].incarnation);
        let proposals = vec![Proposal { replica, ballot }];
        self.send_to_meta(
            node,
            Command::ProposeNextBallot {
                node,
                incarnation,
                proposals,
            },
        );
    }

    fn send_to_meta(&mut self, node: NodeId, command: Command) {
        let index = self.node_index(node);
        let earliest = self.nodes[index].meta_arrival;
        let at = self.now.after(self.random.meta.delay(DELAY)).max(earliest);
        self.nodes[index].meta_arrival = at;
        self.queue.add(
            at,
            Action::ToMeta {
                life: self.meta.life,
                command,
            },
        );
    }

    pub(crate) fn meta_command(&mut self, life: Life, command: Command) -> Result<(), Violation> {
        if !self.meta.up || self.meta.life != life {
            return Ok(());
        }
        if let Command::JoinNode { node, .. } = &command {
            let index = self.node_index(node.id);
            if self.nodes[index].incarnation == node.incarnation {
                self.nodes[index].joined_meta = Some(life);
            }
        }
        let outcome = self.meta.state.apply(command);
        if let Answer::Refused(refusal) = &outcome.answer {
            self.say(|_| format!("meta refuses: {refusal}"));
        }
        for push in outcome.pushes {
            let earliest = self
                .meta
                .arrivals
                .get(&push.node)
                .copied()
                .unwrap_or_default();
            let at = self.now.after(self.random.meta.delay(DELAY)).max(earliest);
            self.meta.arrivals.insert(push.node, at);
            let (node, node_life) = (push.node, self.life(push.node));
            self.queue.add(
                at,
                Action::FromMeta {
                    meta: life,
                    node,
                    life: node_life,
                    sync: push.sync,
                },
            );
        }
        Ok(())
    }

    pub(crate) fn take_sync(
        &mut self,
        meta: Life,
        node: NodeId,
        life: Life,
        sync: Sync,
    ) -> Result<(), Violation> {
        let index = self.node_index(node);
        if !self.meta.up
            || self.meta.life != meta
            || self.nodes[index].life != life
            || !self.nodes[index].up
        {
            return Ok(());
        }
        self.nodes[index].digest = sync.digest;
        for configuration in sync.configurations {
            let here = configuration
                .members()
                .filter(|member| member.address.node == node);
            let cores: Vec<CoreAddress> = here.map(|member| member.address).collect();
            for core in cores {
                self.core_event(
                    core,
                    Event::Configured {
                        configuration: configuration.clone(),
                    },
                )?;
            }
        }
        for key in sync.drops {
            for core in 0..self.scenario.cores {
                let core = CoreAddress {
                    node,
                    core: CoreId(core),
                };
                let (partition, incarnation) = (key.partition, key.incarnation);
                self.core_event(
                    core,
                    Event::Dropped {
                        partition,
                        incarnation,
                    },
                )?;
            }
        }
        self.report_now(node);
        Ok(())
    }

    pub(crate) fn tick_meta(&mut self) -> Result<(), Violation> {
        self.queue
            .add(self.now.after(Duration::from_millis(200)), Action::MetaTick);
        if !self.meta.up {
            return Ok(());
        }
        let (life, now_ms) = (self.meta.life, milliseconds(self.now));
        self.meta_command(life, Command::Tick { now_ms })?;
        if self.table().is_none() {
            let request = CreateTable {
                name: TABLE.to_owned(),
                partition_count: self.scenario.partitions,
                replica_count: self.scenario.replicas,
                allow_degraded: false,
                now_ms,
            };
            self.meta_command(life, Command::CreateTable(request))?;
        }
        Ok(())
    }

    pub(crate) fn drop_table(&mut self) -> Result<(), Violation> {
        if !self.meta.up || self.table().is_none() {
            return Ok(());
        }
        let (name, now_ms) = (TABLE.to_owned(), milliseconds(self.now));
        self.meta_command(self.meta.life, Command::DropTable { name, now_ms })
    }

    /// Meta dies: what it had persisted stays, what nodes had told it is gone.
    pub(crate) fn crash_meta(&mut self) {
        let changes: Vec<Change> = self.meta.state.durable().snapshot();
        let durable = Durable::replay(&changes).expect("a snapshot replays");
        self.meta.state = State::from_durable(durable);
        self.meta.up = false;
        self.meta.arrivals.clear();
    }

    pub(crate) fn start_meta(&mut self) -> Result<(), Violation> {
        if !self.meta.up {
            self.meta.up = true;
            self.meta.life = Life(self.meta.life.0 + 1);
            for index in 0..self.nodes.len() {
                let (node, life) = (self.nodes[index].id, self.nodes[index].life);
                self.queue.add(
                    self.now.after(self.random.meta.delay(DELAY)),
                    Action::Join { node, life },
                );
            }
        }
        Ok(())
    }
}
