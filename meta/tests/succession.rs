//! What may follow a configuration, whoever asks for it: the last line before a change is recorded, and the first when it
//! is read again.

#![allow(clippy::unwrap_used, reason = "tests fail by panicking")]

mod fixture;

use fixture::{cluster, node};
use pegasus_meta::state::{
    Backoff, Change, ChangeError, Command, CreateTable, Durable, Goal, Intent, Learner, Partition,
    ReplicaHealth, Report, State,
};
use pegasus_replication::config::{Member, Stage};
use pegasus_replication::ids::{
    CoreAddress, CoreId, NodeId, NodeIncarnation, ReplicaIncarnation, TableId,
};

const TABLE: TableId = TableId(1);

fn member(node: u32, incarnation: u64) -> Member {
    Member {
        address: CoreAddress {
            node: NodeId(node),
            core: CoreId(0),
        },
        incarnation: ReplicaIncarnation(incarnation),
    }
}

/// Four nodes, a table of three replicas on the first three, node 4 learning the first partition.
fn durable() -> Durable {
    let mut state = State::new(cluster());
    for id in 1..=4 {
        _ = state.apply(Command::NumberNode);
        let node = node(id, 1, 1);
        _ = state.apply(Command::JoinNode { node, now_ms: 1 });
    }
    let create = CreateTable {
        name: "t".to_owned(),
        partition_count: 2,
        replica_count: 3,
        allow_degraded: false,
        may_exist: false,
        envs: std::collections::BTreeMap::new(),
        now_ms: 1,
    };
    _ = state.apply(Command::CreateTable(create));
    for id in 1..=4 {
        let sync = state.full_sync(NodeId(id));
        let mut replicas = fixture::ready(NodeId(id), &sync);
        replicas
            .iter_mut()
            .for_each(|(_, status)| status.health = ReplicaHealth::Ready);
        let report = Report {
            full: true,
            replicas,
            ..Report::default()
        };
        let incarnation = NodeIncarnation(1);
        _ = state.apply(Command::Report {
            node: NodeId(id),
            incarnation,
            report,
            now_ms: 2,
        });
    }
    let mut durable = state.durable().clone();
    let learner = Learner {
        member: member(4, 50),
        is_fresh: true,
        since_ms: 3,
    };
    changed(&mut durable, 0, |it| it.learner = Some(learner)).unwrap();
    durable
}

fn changed(
    durable: &mut Durable,
    index: u32,
    edit: impl FnOnce(&mut Partition),
) -> Result<(), ChangeError> {
    let mut partition = durable.tables()[&TABLE].partition(index).unwrap().clone();
    edit(&mut partition);
    durable.apply(&Change::PartitionsChanged {
        table: TABLE,
        partitions: vec![(index, partition)],
    })
}

fn grow(partition: &mut Partition) {
    partition.ballot = partition.ballot.next();
}

/// Nothing has changed, and why not.
fn refused(edit: impl FnOnce(&mut Partition)) -> String {
    let mut durable = durable();
    let before = durable.clone();
    let error = changed(&mut durable, 0, edit).unwrap_err();
    assert_eq!(durable, before);
    error.to_string()
}

#[test]
fn members_follow_each_other_under_a_higher_ballot_only() {
    let mut durable = durable();
    let secondary = durable.tables()[&TABLE].partition(0).unwrap().secondaries[0];
    changed(&mut durable, 0, |it| {
        grow(it);
        let old = it.primary.replace(secondary).unwrap();
        it.secondaries = vec![old, member(4, 50)];
        it.learner = None;
    })
    .unwrap();
    assert!(durable.counters().next_incarnation > 50);
    changed(&mut durable, 0, grow).unwrap();

    let error = refused(|it| it.secondaries.clear());
    assert!(
        error.contains("its members change without a new ballot"),
        "{error}"
    );
    let error = refused(|it| {
        it.ballot = pegasus_replication::ids::Ballot(it.ballot.0 - 1);
    });
    assert!(error.contains("its ballot falls"), "{error}");
    let error = refused(|it| it.learner = None);
    assert!(
        error.contains("its learner is given up without a new ballot"),
        "{error}"
    );
    let error = refused(|it| it.learner.as_mut().unwrap().member = member(4, 51));
    assert!(
        error.contains("its learner is given up without a new ballot"),
        "{error}"
    );
    let error = refused(|it| it.stage = Stage::Creating);
    assert!(error.contains("its stage changes"), "{error}");
}

#[test]
fn nobody_leads_who_was_no_member_and_nobody_joins_who_did_not_learn() {
    let error = refused(|it| {
        grow(it);
        it.primary = Some(member(4, 50));
        it.learner = None;
    });
    assert!(error.contains("its primary was not a member"), "{error}");
    let error = refused(|it| {
        grow(it);
        it.secondaries.clear();
        it.primary = None;
    });
    assert!(error.contains("its primary was not a member"), "{error}");
    let error = refused(|it| {
        grow(it);
        it.secondaries.pop();
        it.secondaries.push(member(4, 51));
        it.learner = None;
    });
    assert!(
        error.contains("neither a member nor the learner"),
        "{error}"
    );
    // The same core with another copy is somebody else.
    let error = refused(|it| {
        grow(it);
        it.secondaries[0].incarnation = ReplicaIncarnation(60);
    });
    assert!(
        error.contains("neither a member nor the learner"),
        "{error}"
    );
}

#[test]
fn a_group_makes_sense_on_its_own() {
    let on_primary = |it: &Partition| it.primary.unwrap().address.node.0;
    let error = refused(|it| {
        grow(it);
        it.learner.as_mut().unwrap().member = member(on_primary(it), 70);
    });
    assert!(
        error.contains("a learner shares a node with a member"),
        "{error}"
    );
    let error = refused(|it| {
        grow(it);
        let twin = it.secondaries[0].incarnation;
        it.learner.as_mut().unwrap().member.incarnation = twin;
    });
    assert!(
        error.contains("two replicas of a partition have one incarnation"),
        "{error}"
    );
    let replaced = |it: &mut Partition, by| {
        grow(it);
        it.learner.as_mut().unwrap().member = by;
    };
    let error = refused(|it| replaced(it, member(9, 70)));
    assert!(error.contains("a member's node is not known"), "{error}");
    let error = refused(|it| replaced(it, member(4, u64::MAX)));
    assert!(error.contains("no more numbers"), "{error}");
    let backoff = |node, step| Backoff {
        node: NodeId(node),
        step,
        until_ms: 1,
    };
    let error = refused(|it| it.backoffs = vec![backoff(2, 1), backoff(1, 1)]);
    assert!(error.contains("not in the order of nodes"), "{error}");
    let error = refused(|it| it.backoffs = vec![backoff(2, 0)]);
    assert!(error.contains("step 0"), "{error}");
    // Beside the secondary that it replaces a learner may stand on one node.
    let mut durable = durable();
    changed(&mut durable, 0, |it| {
        grow(it);
        let from = it.secondaries[0];
        let mut new = member(from.address.node.0, 70);
        new.address.core = CoreId(1);
        it.learner.as_mut().unwrap().member = new;
        let goal = Goal::Move {
            from,
            to: new.address,
        };
        it.intent = Some(Intent { goal, until_ms: 9 });
    })
    .unwrap();
    let two = vec![(1, durable.tables()[&TABLE].partition(1).unwrap().clone()); 2];
    let twice = Change::PartitionsChanged {
        table: TABLE,
        partitions: two,
    };
    assert!(
        durable
            .apply(&twice)
            .unwrap_err()
            .to_string()
            .contains("do not come in order")
    );
}
