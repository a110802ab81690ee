//! A store that is older than its replicas: a node proves it, and from then on nothing is decided, given or deleted.

#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod fixture;

use fixture::{cluster, node, ready};
use pegasus_meta::state::{
    Answer, Command, CreateTable, Durable, Outcome, Proposed, Refusal, ReplicaHealth, Report,
    State, TableInfo,
};
use pegasus_replication::config::Proposal;
use pegasus_replication::ids::{NodeId, NodeIncarnation, TableId};
use std::collections::BTreeMap;

struct World {
    state: State,
    now_ms: u64,
}

fn create(name: &str, now_ms: u64) -> Command {
    Command::CreateTable(CreateTable {
        name: name.to_owned(),
        partition_count: 2,
        replica_count: 3,
        allow_degraded: false,
        may_exist: false,
        envs: BTreeMap::new(),
        now_ms,
    })
}

impl World {
    /// Three nodes, and table `t` that serves.
    fn new() -> Self {
        let mut world = Self {
            state: State::new(cluster()),
            now_ms: 1_000,
        };
        for id in 1..=3 {
            _ = world.state.apply(Command::NumberNode);
            world.join(id, 1);
        }
        assert!(matches!(
            world.apply(create("t", 1_000)).answer,
            Answer::TableCreated { .. }
        ));
        for _ in 0..2 {
            (1..=3).for_each(|id| _ = world.report(id, 1, &Report::default()));
        }
        world
    }

    /// Meta starts again on an older store.
    fn restore(&mut self, durable: &Durable) {
        self.state = State::from_durable(durable.clone());
        (1..=3).for_each(|id| self.join(id, 2));
    }

    fn apply(&mut self, command: Command) -> Outcome {
        self.now_ms += 100;
        self.state.apply(command)
    }

    fn join(&mut self, id: u32, incarnation: u64) {
        let now_ms = self.now_ms;
        let joined = self.apply(Command::JoinNode {
            node: node(id, incarnation, 1),
            now_ms,
        });
        assert_eq!(joined.answer, Answer::Done);
    }

    /// Node `id` has what the newest state that it knows gives it.
    fn report_as(&mut self, id: u32, known: &State, more: &Report) -> Outcome {
        let mut replicas = ready(NodeId(id), &known.full_sync(NodeId(id)));
        replicas
            .iter_mut()
            .for_each(|(_, status)| status.health = ReplicaHealth::Serving);
        let report = Report {
            full: true,
            replicas,
            ..more.clone()
        };
        let now_ms = self.now_ms;
        let incarnation = self.state.live(NodeId(id)).unwrap().incarnation;
        self.apply(Command::Report {
            node: NodeId(id),
            incarnation,
            report,
            now_ms,
        })
    }

    fn report(&mut self, id: u32, _incarnation: u64, more: &Report) -> Outcome {
        let known = self.state.clone();
        self.report_as(id, &known, more)
    }

    /// The primary of partition 1.0 asks for the next ballot.
    fn raise(&mut self) -> Outcome {
        let partition = self
            .state
            .durable()
            .table_named("t")
            .unwrap()
            .partition(0)
            .unwrap();
        let (primary, ballot) = (partition.primary.unwrap(), partition.ballot);
        let partition = pegasus_replication::ids::PartitionId {
            table: TableId(1),
            index: 0,
        };
        let replica = pegasus_meta::state::ReplicaKey {
            partition,
            incarnation: primary.incarnation,
        };
        let proposals = vec![Proposed {
            replica,
            ballot,
            proposal: Proposal::NextBallot,
        }];
        let node = primary.address.node;
        let incarnation: NodeIncarnation = self.state.live(node).unwrap().incarnation;
        let now_ms = self.now_ms;
        self.apply(Command::Propose {
            node,
            incarnation,
            proposals,
            now_ms,
        })
    }

    /// Whatever happens, nothing is decided any more.
    fn is_held(&mut self) {
        assert!(self.state.behind().is_some());
        let before = self.state.durable().clone();
        let now_ms = self.now_ms + 10 * 365 * 86_400_000;
        let drop = Command::DropTable {
            name: "t".to_owned(),
            keep_seconds: Some(0),
            now_ms,
        };
        for command in [create("u", now_ms), drop, Command::NumberNode] {
            let outcome = self.apply(command);
            assert!(
                matches!(outcome.answer, Answer::Refused(Refusal::Behind(_))),
                "{outcome:?}"
            );
            assert!(outcome.pushes.is_empty());
        }
        assert!(self.raise().pushes.is_empty());
        let ticked = self.apply(Command::Tick { now_ms });
        assert!(
            ticked.changes.is_empty() && ticked.pushes.is_empty(),
            "{ticked:?}"
        );
        let reported = self.report(1, 2, &Report::default());
        assert!(
            reported.changes.is_empty() && reported.pushes.is_empty(),
            "{reported:?}"
        );
        assert_eq!(*self.state.durable(), before);
        // It is listened to, and told nothing.
        let now_ms = self.now_ms;
        let joined = self.apply(Command::JoinNode {
            node: node(2, 7, 1),
            now_ms,
        });
        let told = joined.pushes.iter().filter(|it| it.node == NodeId(2));
        assert!(
            told.into_iter()
                .all(|it| it.sync.configurations.is_empty() && !it.sync.full)
        );
    }
}

#[test]
fn a_ballot_that_the_store_has_never_given_stops_everything() {
    let mut world = World::new();
    let old = world.state.durable().clone();
    assert!(!world.raise().changes.is_empty());
    let known = world.state.clone();
    world.restore(&old);
    assert_eq!(world.state.behind(), None);
    // Members of the ballot that is given again are not served by it.
    let outcome = world.report_as(1, &known, &Report::default());
    assert!(outcome.changes.is_empty() && outcome.pushes.is_empty());
    let proof = world.state.behind().unwrap();
    assert!(
        proof.contains("node 1 has partition 1.0 under ballot 0|2"),
        "{proof}"
    );
    world.is_held();
}

#[test]
fn a_table_or_a_replica_of_a_number_that_was_never_given_stops_everything() {
    let mut world = World::new();
    let old = world.state.durable().clone();
    let now_ms = world.now_ms;
    _ = world.apply(create("u", now_ms));
    let known = world.state.clone();
    world.restore(&old);
    _ = world.report_as(2, &known, &Report::default());
    assert!(world.state.behind().unwrap().contains("of partition 2."));
    world.is_held();

    world.restore(&old);
    let told = TableInfo {
        table: TableId(2),
        name: "u".to_owned(),
        partition_count: 2,
        dropped: false,
        replica_count: 3,
        min_replicas: 2,
        default_ttl_seconds: 0,
        envs: BTreeMap::new(),
    };
    let more = Report {
        tables: vec![told],
        ..Report::default()
    };
    _ = world.report(3, 2, &more);
    assert!(
        world
            .state
            .behind()
            .unwrap()
            .contains("node 3 knows table 2")
    );
    world.is_held();
}

#[test]
fn a_store_that_is_as_new_as_its_nodes_goes_on() {
    let mut world = World::new();
    _ = world.raise();
    let same = world.state.durable().clone();
    world.restore(&same);
    (1..=3).for_each(|id| _ = world.report(id, 2, &Report::default()));
    assert_eq!(world.state.behind(), None);
    assert!(!world.raise().changes.is_empty());
}

#[test]
fn a_table_that_was_called_back_since_is_not_deleted_by_a_store_that_has_it_as_dropped() {
    let mut world = World::new();
    let now_ms = world.now_ms;
    let drop = Command::DropTable {
        name: "t".to_owned(),
        keep_seconds: Some(60),
        now_ms,
    };
    assert!(matches!(
        world.apply(drop).answer,
        Answer::TableDropped { .. }
    ));
    let old = world.state.durable().clone();
    let recall = Command::RecallTable {
        table: TableId(1),
        name: None,
        now_ms,
    };
    assert!(matches!(
        world.apply(recall).answer,
        Answer::TableRecalled { .. }
    ));
    let known = world.state.clone();

    // The copy is older than the recall, and its time is over before anybody has said anything.
    world.state = State::from_durable(old);
    world.now_ms += 100_000;
    let now_ms = world.now_ms;
    let mut outcomes = vec![world.apply(Command::Tick { now_ms })];
    for id in 1..=3 {
        outcomes.push(world.apply(Command::JoinNode {
            node: node(id, 2, 1),
            now_ms,
        }));
        outcomes.push(world.apply(Command::Tick { now_ms }));
    }
    outcomes.push(world.report_as(1, &known, &Report::default()));
    let pushes = outcomes.iter().flat_map(|it| &it.pushes);
    let ordered: usize = pushes.map(|it| it.sync.drops.len()).sum();
    assert_eq!(
        ordered, 0,
        "replicas of a table that serves would be deleted"
    );
    assert!(world.state.behind().is_some());
}
