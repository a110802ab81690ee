//! Nodes that were told to stop, and nodes that go for good.

#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
#![allow(unused_must_use, reason = "most outcomes are looked at in the state")]

mod fixture;

use fixture::{cluster, node};
use pegasus_meta::state::{
    Answer, Command, CreateTable, Drain, HealOptions, NodeWords, Outcome, Partition, Proposed,
    Refusal, ReplicaHealth, ReplicaKey, Report, State,
};
use pegasus_replication::config::Proposal;
use pegasus_replication::ids::{NodeId, NodeIncarnation, PartitionId, TableId};

const TABLE: TableId = TableId(1);

struct World {
    state: State,
    now_ms: u64,
}

impl World {
    /// Nodes of one core each, and table `t` with two partitions of three replicas that serve.
    fn new(nodes: u32) -> Self {
        let options = HealOptions {
            heal_delay_ms: 0,
            ..HealOptions::default()
        };
        let mut world = Self {
            state: State::new(cluster()).with_options(options),
            now_ms: 1_000,
        };
        for id in 1..=nodes {
            world.apply(Command::NumberNode);
            world.join(id, 1);
            world.report(id, 1, false);
        }
        let outcome = world.apply(Command::CreateTable(CreateTable {
            name: "t".to_owned(),
            partition_count: 2,
            replica_count: 3,
            allow_degraded: false,
            may_exist: false,
            envs: std::collections::BTreeMap::new(),
            now_ms: 1_000,
        }));
        assert!(matches!(outcome.answer, Answer::TableCreated { .. }));
        for _ in 0..2 {
            (1..=nodes).for_each(|id| _ = world.report(id, 1, false));
        }
        world
    }

    fn apply(&mut self, command: Command) -> Outcome {
        self.now_ms += 100;
        self.state.apply(command)
    }

    fn join(&mut self, id: u32, incarnation: u64) -> Answer {
        let now_ms = self.now_ms;
        let node = node(id, incarnation, 1);
        self.apply(Command::JoinNode { node, now_ms }).answer
    }

    /// Node `id` does what it was told, and says so.
    fn report(&mut self, id: u32, incarnation: u64, is_leaving: bool) -> Outcome {
        let sync = self.state.full_sync(NodeId(id));
        let mut replicas = fixture::ready(NodeId(id), &sync);
        for (key, status) in &mut replicas {
            let leads = |it: &pegasus_replication::config::Configuration| {
                it.primary
                    .is_some_and(|it| it.incarnation == key.incarnation)
            };
            if sync.configurations.iter().any(leads) {
                status.health = ReplicaHealth::Serving;
            }
            status.bytes = 1_000;
        }
        let report = Report {
            digest: sync.digest,
            full: true,
            replicas,
            words: NodeWords {
                is_leaving,
                ..NodeWords::default()
            },
            ..Report::default()
        };
        let now_ms = self.now_ms;
        self.apply(Command::Report {
            node: NodeId(id),
            incarnation: NodeIncarnation(incarnation),
            report,
            now_ms,
        })
    }

    fn tick(&mut self) {
        let now_ms = self.now_ms;
        let _ = self.apply(Command::Tick { now_ms });
    }

    fn partition(&self, index: u32) -> &Partition {
        let table = &self.state.durable().tables()[&TABLE];
        table.partition(index).unwrap()
    }

    fn primary(&self, index: u32) -> u32 {
        self.partition(index).primary.unwrap().address.node.0
    }

    fn is_member(&self, index: u32, id: u32) -> bool {
        let mut members = self.partition(index).members();
        members.any(|it| it.address.node.0 == id)
    }

    /// The primary carries out an order to hand over.
    fn hand_over(&mut self, index: u32, outcome: &Outcome) {
        let id = PartitionId {
            table: TABLE,
            index,
        };
        let mut orders = outcome.pushes.iter().flat_map(|push| &push.sync.handovers);
        let order = *orders
            .find(|it| it.partition == id)
            .expect("an order to hand over");
        let primary = self.partition(index).primary.unwrap();
        let proposed = Proposed {
            replica: ReplicaKey {
                partition: id,
                incarnation: primary.incarnation,
            },
            ballot: order.ballot,
            proposal: Proposal::HandOver { to: order.to },
        };
        let now_ms = self.now_ms;
        let _ = self.apply(Command::Propose {
            node: primary.address.node,
            incarnation: NodeIncarnation(1),
            proposals: vec![proposed],
            now_ms,
        });
    }
}

#[test]
fn a_node_that_leaves_hands_over_and_is_let_go_of_before_it_stops() {
    let mut world = World::new(3);
    let leaving = world.primary(0);
    let led: Vec<u32> = (0..2)
        .filter(|index| world.primary(*index) == leaving)
        .collect();
    let outcome = world.report(leaving, 1, true);
    assert!(world.state.is_leaving(NodeId(leaving)));
    // Where it follows others it is gone at once.
    for index in (0..2).filter(|index| !led.contains(index)) {
        assert!(!world.is_member(index, leaving), "partition {index}");
    }
    assert!(world.state.held_by_leaving(NodeId(leaving)) > 0);
    for &index in &led {
        world.hand_over(index, &outcome);
        let next = world.primary(index);
        assert_ne!(next, leaving);
        // The new primary has to serve first.
        assert!(world.is_member(index, leaving));
        world.report(next, 1, false);
        assert!(!world.is_member(index, leaving), "partition {index}");
    }
    assert_eq!(world.state.held_by_leaving(NodeId(leaving)), 0);
    // It gets nothing back as long as it leaves, and everything once it has started again.
    world.report(leaving, 1, true);
    world.tick();
    assert!((0..2).all(|index| world.partition(index).learner.is_none()));
    assert_eq!(world.join(leaving, 2), Answer::Done);
    assert!(!world.state.is_leaving(NodeId(leaving)));
}

#[test]
fn nodes_that_all_stop_wait_for_nobody() {
    let mut world = World::new(3);
    for id in 1..=3 {
        world.report(id, 1, true);
    }
    world.tick();
    for id in 1..=3 {
        assert_eq!(world.state.held_by_leaving(NodeId(id)), 0, "node {id}");
    }
    // Writes still have the members that they need.
    for index in 0..2 {
        assert!(
            world.partition(index).member_count() >= 2,
            "partition {index}"
        );
    }
}

#[test]
fn a_decommission_that_would_leave_too_few_replicas_is_refused_with_their_names() {
    let mut world = World::new(3);
    let now_ms = world.now_ms;
    let order = |node| Command::DecommissionNode {
        node: NodeId(node),
        now_ms,
    };
    let Answer::Refused(Refusal::BadDecommission { reason, .. }) = world.apply(order(1)).answer
    else {
        panic!("it was not refused");
    };
    assert!(
        reason.contains("partition t.0, t.1") && reason.contains("add a node"),
        "{reason}"
    );
    assert_eq!(world.state.durable().drain(NodeId(1)), None);
    let unknown = world.apply(order(9)).answer;
    assert_eq!(unknown, Answer::Refused(Refusal::NoSuchNode(NodeId(9))));
}

#[test]
fn a_node_that_holds_nothing_is_forgotten_and_stays_away() {
    let mut world = World::new(4);
    let empty = (1..=4).find(|id| !(0..2).any(|index| world.is_member(index, *id)));
    // With two partitions of three replicas one of four nodes may be empty; if not, a fifth is.
    let empty = empty.unwrap_or_else(|| {
        world.apply(Command::NumberNode);
        world.join(5, 1);
        5
    });
    let now_ms = world.now_ms;
    let node = NodeId(empty);
    let answer = world
        .apply(Command::DecommissionNode { node, now_ms })
        .answer;
    assert!(matches!(answer, Answer::Ordered(_)), "{answer:?}");
    assert!(world.state.durable().is_forgotten(node));
    let told = world.state.emptying(node);
    assert!(told.is_forgotten && told.is_done && told.drain.is_none());
    assert_eq!(
        world.join(empty, 7),
        Answer::Refused(Refusal::Forgotten(node))
    );
    // What a restart makes of it is the same.
    let replayed = pegasus_meta::state::Durable::replay(&world.state.durable().snapshot()).unwrap();
    assert!(replayed.is_forgotten(node));
    assert_eq!(&replayed, world.state.durable());
}

#[test]
fn of_two_operators_the_one_who_wants_more_of_a_node_wins() {
    let mut world = World::new(4);
    let node = NodeId(1);
    let drain = |world: &mut World, drain| {
        let now_ms = world.now_ms;
        let _ = world.apply(Command::DrainNode {
            node,
            drain,
            now_ms,
        });
        world.state.durable().drain(node)
    };
    assert_eq!(
        drain(&mut world, Some(Drain::Replicas)),
        Some(Drain::Replicas)
    );
    assert_eq!(
        drain(&mut world, Some(Drain::Primaries)),
        Some(Drain::Replicas)
    );
    assert!(world.state.emptying(node).bytes_left > 0 || !(0..2).any(|it| world.is_member(it, 1)));
    assert_eq!(drain(&mut world, None), None);
    assert_eq!(
        drain(&mut world, Some(Drain::Primaries)),
        Some(Drain::Primaries)
    );
}
