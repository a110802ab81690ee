//! The state machine, what was persisted of it, and nodes that follow its pushes.

use crate::checks::check_succession;
use crate::fixture::{self, cluster, status};
use crate::follower::Follower;
use crate::steps::{Step, Wish};
use pegasus_meta::state::{
    Change, Command, Durable, HealOptions, Partition, Proposed, ReplicaHealth, ReplicaKey, Report,
    State,
};
use pegasus_meta::store::format::change::{decode_batch, encode_batch};
use pegasus_replication::config::{Member, Proposal};
use pegasus_replication::ids::{
    Ballot, CoreAddress, CoreId, Decree, NodeId, NodeIncarnation, PartitionId, ReplicaIncarnation,
};
use std::collections::BTreeMap;

pub(crate) struct World {
    pub(crate) state: State,
    persisted: Vec<Change>,
    followers: BTreeMap<NodeId, Follower>,
    pub(crate) now_ms: u64,
}

/// Short times, so that a run sees new replicas made.
const OPTIONS: HealOptions = HealOptions {
    heal_delay_ms: 1_000,
    learners_per_node_max: 2,
    learners_max: 3,
    returning_per_node_max: 2,
    slow_removals_per_second_max: 2,
    balance_primaries: true,
    balance_delay_ms: 1_000,
};

impl World {
    pub(crate) fn new() -> Self {
        Self {
            state: State::new(cluster()).with_options(OPTIONS),
            persisted: vec![Change::Cluster(cluster())],
            followers: BTreeMap::new(),
            now_ms: 20_000,
        }
    }

    /// One of the partitions that are there.
    fn choose(&self, number: usize) -> Option<(PartitionId, Partition)> {
        let tables = self.state.durable().tables().values();
        let live = tables.filter(|it| !it.is_dropped());
        let all: Vec<(PartitionId, Partition)> = live
            .flat_map(|table| {
                let id = |index| PartitionId {
                    table: table.id,
                    index,
                };
                let partitions = table.indexed();
                partitions.map(move |(index, it)| (id(index), it.clone()))
            })
            .collect();
        all.get(number % all.len().max(1)).cloned()
    }

    fn propose(&mut self, partition: usize, member: usize, wish: Wish) {
        let Some((id, it)) = self.choose(partition) else {
            return;
        };
        let members: Vec<Member> = it.members().copied().collect();
        let at = |number: usize| members[number % members.len()];
        let proposer = match wish {
            Wish::TakeOver(_) | Wish::Nonsense => at(member),
            _ => at(0),
        };
        let learner = it.learner.map(|it| it.member);
        let proposal = match wish {
            Wish::NextBallot => Proposal::NextBallot,
            Wish::TakeOver(prepared) => Proposal::TakeOver {
                prepared: Decree(prepared),
                prepared_ballot: it.ballot,
            },
            Wish::Remove(member, cause) => Proposal::Remove {
                member: at(member),
                cause,
            },
            Wish::Add => Proposal::Add {
                member: learner.unwrap_or(proposer),
            },
            Wish::HandOver(member) => Proposal::HandOver { to: at(member) },
            Wish::Withdraw => Proposal::WithdrawLearner {
                member: learner.unwrap_or(proposer),
            },
            Wish::Nonsense => Proposal::HandOver {
                to: Member {
                    incarnation: ReplicaIncarnation(99),
                    ..proposer
                },
            },
        };
        let node = proposer.address.node;
        let Some(live) = self.state.live(node) else {
            return;
        };
        let proposed = Proposed {
            replica: ReplicaKey {
                partition: id,
                incarnation: proposer.incarnation,
            },
            ballot: it.ballot,
            proposal,
        };
        self.apply(Command::Propose {
            node,
            incarnation: live.incarnation,
            proposals: vec![proposed],
            now_ms: self.now_ms,
        });
    }

    /// A number that was never given would prove the store to be too old, and nothing would happen any more.
    fn bring_down(&self, key: &mut ReplicaKey) {
        let counters = self.state.durable().counters();
        key.incarnation.0 %= counters.next_incarnation;
        key.partition.table.0 %= counters.next_table;
    }

    fn copy(&mut self, node: u32, mut key: ReplicaKey, health: ReplicaHealth, prepared: u64) {
        self.bring_down(&mut key);
        let node = NodeId(node);
        let Some(live) = self.state.live(node) else {
            return;
        };
        let mut said = status(Ballot::new(0, 1), health);
        said.prepared = Decree(prepared);
        said.committed = Decree(prepared);
        let report = Report {
            digest: self.state.durable().digest(node),
            replicas: vec![(key, said)],
            ..Report::default()
        };
        self.apply(Command::Report {
            node,
            incarnation: live.incarnation,
            report,
            now_ms: self.now_ms,
        });
    }

    fn order(&mut self, partition: usize, from: u32, to: u32, core: u16) {
        let Some((id, _)) = self.choose(partition) else {
            return;
        };
        let table = self.state.durable().tables()[&id.table].name.clone();
        let (index, now_ms) = (id.index, self.now_ms);
        let command = if core == 0 {
            Command::MovePrimary {
                table,
                index,
                to: NodeId(to),
                now_ms,
            }
        } else {
            let to = CoreAddress {
                node: NodeId(to),
                core: CoreId(core - 1),
            };
            Command::MoveReplica {
                table,
                index,
                from: NodeId(from),
                to,
                now_ms,
            }
        };
        self.apply(command);
    }

    pub(crate) fn take(&mut self, step: Step) {
        match step {
            Step::Command(mut command) => {
                if let Command::Report { report, .. } = &mut command {
                    let keys = report.replicas.iter_mut().map(|(key, _)| key);
                    keys.for_each(|key| self.bring_down(key));
                }
                self.apply(command);
            }
            Step::ReportAll {
                node,
                incarnation,
                full,
                health,
            } => {
                let id = NodeId(node);
                let sync = self.state.full_sync(id);
                let mut replicas = fixture::ready(id, &sync);
                replicas
                    .iter_mut()
                    .for_each(|(_, status)| status.health = health);
                let report = Report {
                    digest: sync.digest,
                    full,
                    replicas,
                    disk_total: 0,
                    disk_free: 0,
                    ..Report::default()
                };
                self.apply(Command::Report {
                    node: id,
                    incarnation: NodeIncarnation(incarnation),
                    report,
                    now_ms: self.now_ms,
                });
            }
            Step::Propose {
                partition,
                member,
                wish,
            } => self.propose(partition, member, wish),
            Step::Copy {
                node,
                partition,
                incarnation,
                health,
                prepared,
            } => {
                if let Some((partition, _)) = self.choose(partition) {
                    let incarnation = ReplicaIncarnation(incarnation);
                    let key = ReplicaKey {
                        partition,
                        incarnation,
                    };
                    self.copy(node, key, health, prepared);
                }
            }
            Step::Order {
                partition,
                from,
                to,
                core,
            } => self.order(partition, from, to, core),
            Step::Drain(node, drain) => self.apply(Command::DrainNode {
                node: NodeId(node),
                drain,
                now_ms: self.now_ms,
            }),
            Step::Wait(ms) => {
                self.now_ms += ms;
                self.apply(Command::Tick {
                    now_ms: self.now_ms,
                });
            }
            Step::Restart => {
                let durable = Durable::replay(&self.persisted).unwrap();
                self.state = State::from_durable(durable).with_options(OPTIONS);
                self.followers.clear();
            }
            Step::Forget => self
                .state
                .restore(Durable::replay(&self.persisted).unwrap()),
        }
        self.state.check();
        assert_eq!(
            Durable::replay(&self.persisted).unwrap(),
            *self.state.durable(),
            "changes do not make the state"
        );
        for (id, follower) in &self.followers {
            let sync = self.state.full_sync(*id);
            let mut told = Follower::default();
            told.take(*id, &sync);
            assert_eq!(follower.digest, told.digest, "node {id}: digest");
            assert_eq!(follower.nodes, told.nodes, "node {id}: addresses");
            assert_eq!(follower.tables, told.tables, "node {id}: tables");
            assert_eq!(
                follower.configurations, told.configurations,
                "node {id}: configurations"
            );
            assert_eq!(
                follower.assignments, told.assignments,
                "node {id}: learners"
            );
        }
    }

    fn apply(&mut self, command: Command) {
        let before = self.state.durable().clone();
        let outcome = self.state.apply(command);
        check_succession(&before, self.state.durable());
        let mut bytes = Vec::new();
        encode_batch(&outcome.changes, &mut bytes);
        assert_eq!(
            decode_batch(&bytes).as_ref(),
            Some(&outcome.changes),
            "changes read otherwise than written"
        );
        self.persisted.extend(outcome.changes);
        for push in &outcome.pushes {
            self.followers
                .entry(push.node)
                .or_default()
                .take(push.node, &push.sync);
            let drops = push.sync.drops.iter();
            drops.for_each(|key| self.check_drop(push.node, *key));
        }
    }

    /// What is deleted of a table that is there is in nobody's plan, and not the last good copy: the primary serves.
    fn check_drop(&self, node: NodeId, key: ReplicaKey) {
        let table = &self.state.durable().tables()[&key.partition.table];
        if table.is_dropped() {
            return;
        }
        let partition = table.partition(key.partition.index).unwrap();
        let is_it =
            |member: &Member| member.address.node == node && member.incarnation == key.incarnation;
        assert!(!partition.holders().any(is_it), "{key:?} is wanted");
        let primary = partition.primary.unwrap();
        let incarnation = primary.incarnation;
        let status = self
            .state
            .status(primary.address.node, ReplicaKey { incarnation, ..key });
        let serves = status
            .is_some_and(|it| it.health == ReplicaHealth::Serving && it.ballot == partition.ballot);
        assert!(
            serves && self.state.is_alive(primary.address.node),
            "{key:?} may be the last good copy"
        );
    }
}
