//! What can be decided from replicas' own words, and what must be left to an operator.

#![allow(clippy::unwrap_used, reason = "tests fail by panicking")]

mod fixture;

use fixture::{cluster, node};
use pegasus_meta::recover::{Case, NamedTable, Plan, Undecided, Witness, plan};
use pegasus_meta::state::{
    Answer, Change, Cluster, ClusterId, Command, Counters, Durable, Level, Partition,
    ReplicaHealth, ReplicaKey, ReplicaStatus, State, Table, TableInfo,
};
use pegasus_replication::config::{Configuration, Member, Stage};
use pegasus_replication::ids::{
    Ballot, CoreAddress, CoreId, Decree, NodeId, PartitionId, ReplicaIncarnation, TableId,
};
use std::collections::{BTreeMap, BTreeSet};

const TABLE: TableId = TableId(4);

fn id(index: u32) -> PartitionId {
    PartitionId {
        table: TABLE,
        index,
    }
}

fn member(node: u32, incarnation: u64) -> Member {
    Member {
        address: CoreAddress {
            node: NodeId(node),
            core: CoreId(1),
        },
        incarnation: ReplicaIncarnation(incarnation),
    }
}

fn configuration(index: u32, counter: u64, members: &[Member]) -> Configuration {
    Configuration {
        partition: id(index),
        ballot: Ballot::new(2, counter),
        stage: Stage::Active,
        primary: members.first().copied(),
        secondaries: members[1..].to_vec(),
        replica_count: 3,
        min_replicas: 2,
    }
}

/// Three nodes that know table `t` of two partitions; partition 1 is always well.
fn case() -> Case {
    let table = TableInfo {
        table: TABLE,
        name: "t".to_owned(),
        partition_count: 2,
        dropped: false,
        replica_count: 3,
        min_replicas: 2,
        default_ttl_seconds: 60,
        envs: BTreeMap::from([("default_ttl".to_owned(), "60".to_owned())]),
    };
    let witness = |id: u32| Witness {
        node: node(id, 5, 2),
        has_told_all: true,
        replicas: BTreeMap::new(),
        tables: vec![table.clone()],
    };
    let mut case = Case {
        witnesses: (1..=3).map(|id| (NodeId(id), witness(id))).collect(),
        nodes: (1..=3).map(NodeId).collect(),
        now_ms: 9_000,
        ..Case::default()
    };
    let members = [member(1, 11), member(2, 12), member(3, 13)];
    for member in members {
        case.add(1, member, 3, (3, 50), Some(configuration(1, 3, &members)));
    }
    case
}

trait Say {
    fn add(
        &mut self,
        index: u32,
        member: Member,
        ballot: u64,
        prepared: (u64, u64),
        configuration: Option<Configuration>,
    ) -> &mut ReplicaStatus;
}

impl Say for Case {
    /// A good copy: ballot adopted, stamp and decree of its last entry, the configuration that it knows.
    fn add(
        &mut self,
        index: u32,
        member: Member,
        ballot: u64,
        (stamp, prepared): (u64, u64),
        configuration: Option<Configuration>,
    ) -> &mut ReplicaStatus {
        let key = ReplicaKey {
            partition: id(index),
            incarnation: member.incarnation,
        };
        let status = ReplicaStatus {
            core: Some(member.address.core),
            prepared_ballot: Ballot::new(2, stamp),
            prepared: Decree(prepared),
            configuration: configuration.map(Box::new),
            ..fixture::status(Ballot::new(2, ballot), ReplicaHealth::Ready)
        };
        let witness = self.witnesses.get_mut(&member.address.node).unwrap();
        witness.replicas.insert(key, status);
        witness.replicas.get_mut(&key).unwrap()
    }
}

fn decided(case: &Case) -> Plan {
    let plan = plan(cluster(), case).unwrap();
    assert_eq!(plan.undecided, Vec::new());
    State::from_durable(plan.durable.clone()).check();
    plan
}

fn undecided(case: &Case) -> String {
    let plan = plan(cluster(), case).unwrap();
    let [only] = &plan.undecided[..] else {
        panic!("{:?}", plan.undecided)
    };
    only.to_string()
}

fn first(plan: &Plan) -> &Partition {
    plan.durable.table_named("t").unwrap().partition(0).unwrap()
}

fn members(partition: &Partition) -> Vec<Member> {
    partition.members().copied().collect()
}

#[test]
fn members_that_all_report_go_on_as_they_were_under_a_new_epoch() {
    let mut case = case();
    let group = [member(2, 22), member(1, 21), member(3, 23)];
    let newest = configuration(0, 7, &group);
    for member in group {
        case.add(0, member, 7, (7, 90), Some(newest.clone()));
    }
    let plan = decided(&case);
    assert_eq!(members(first(&plan)), group);
    assert_eq!(first(&plan).ballot, Ballot::new(3, 1));
    assert_eq!(first(&plan).stage, Stage::Active);
    assert_eq!((plan.partitions, plan.warnings.len()), (2, 0));
    let counters = plan.durable.counters();
    assert!(counters.next_node > 1_000 && counters.next_table > 1_000);
    assert!(counters.next_incarnation > 1 << 32);
    assert_eq!(plan.durable.nodes().len(), 3);
    assert_eq!(plan.durable.cluster().epoch, 3);
}

#[test]
fn a_copy_of_an_older_group_is_no_member() {
    let mut case = case();
    let old = [member(1, 21), member(2, 22), member(3, 23)];
    let newest = configuration(0, 8, &[member(2, 22), member(3, 23)]);
    case.add(
        0,
        member(1, 21),
        7,
        (7, 99),
        Some(configuration(0, 7, &old)),
    );
    case.add(0, member(2, 22), 8, (8, 95), Some(newest.clone()));
    case.add(0, member(3, 23), 8, (8, 95), Some(newest));
    assert_eq!(
        members(first(&decided(&case))),
        [member(2, 22), member(3, 23)]
    );
}

#[test]
fn a_primary_that_is_out_of_service_is_replaced_by_a_member() {
    let mut case = case();
    let group = [member(1, 21), member(2, 22), member(3, 23)];
    for (member, prepared) in group.into_iter().zip([92, 90, 91]) {
        let known = Some(configuration(0, 7, &group));
        case.add(0, member, 7, (7, prepared), known).reason = String::new();
    }
    let known = Some(configuration(0, 7, &group));
    let status = case.add(0, group[0], 7, (7, 92), known);
    status.health = ReplicaHealth::OutOfService;
    assert_eq!(members(first(&decided(&case))), [group[2], group[1]]);
}

#[test]
fn a_missing_member_leaves_its_partition_undecided_until_the_loss_is_accepted() {
    let mut case = case();
    let group = [member(1, 21), member(2, 22), member(3, 23)];
    for member in &group[..2] {
        case.add(0, *member, 7, (7, 90), Some(configuration(0, 7, &group)));
    }
    let reason = undecided(&case);
    assert!(
        reason.starts_with("partition 4.0: its member on node 3 is missing"),
        "{reason}"
    );
    case.accept_loss = BTreeSet::from([id(0)]);
    // The copy that is farthest along, alone: the other one comes back to it.
    case.add(0, group[1], 7, (7, 91), Some(configuration(0, 7, &group)));
    assert_eq!(members(first(&decided(&case))), [group[1]]);
}

#[test]
fn a_node_that_has_not_reported_may_have_been_made_a_member() {
    let mut case = case();
    let pair = [member(1, 21), member(2, 22)];
    for member in pair {
        case.add(0, member, 7, (7, 90), Some(configuration(0, 7, &pair)));
    }
    assert_eq!(members(first(&decided(&case))), pair);
    case.nodes.insert(NodeId(9));
    let reason = undecided(&case);
    assert!(
        reason.contains("one may have been made on node 9"),
        "{reason}"
    );
    // One with all its members is decided all the same, and the operator is told.
    let plan = plan(cluster(), &case).unwrap();
    assert_eq!(plan.warnings.len(), 1);
    assert!(
        matches!(plan.undecided[..], [Undecided::Partition { partition, .. }] if partition == id(0))
    );
}

#[test]
fn a_ballot_whose_members_nobody_knows_is_decided_only_if_no_copy_can_be_unseen() {
    let mut case = case();
    let group = [member(1, 21), member(2, 22), member(3, 23)];
    let old = configuration(0, 7, &group);
    case.add(0, group[0], 7, (7, 90), Some(old.clone()));
    // It has adopted a later ballot and says not whose.
    case.add(0, group[1], 8, (8, 93), None);
    case.add(0, group[2], 7, (7, 91), Some(old));
    assert_eq!(members(first(&decided(&case))), [group[1]]);
    case.nodes.insert(NodeId(9));
    let reason = undecided(&case);
    assert!(reason.contains("whose members nobody knows"), "{reason}");
}

#[test]
fn a_learner_that_has_adopted_the_newest_ballot_and_has_nothing_does_not_win() {
    let mut case = case();
    case.add(0, member(1, 21), 7, (7, 90), None);
    case.add(0, member(2, 22), 9, (0, 0), None);
    assert_eq!(members(first(&decided(&case))), [member(1, 21)]);
    let status = case.add(0, member(1, 21), 7, (7, 90), None);
    status.health = ReplicaHealth::OutOfService;
    status.reason = "log damaged".to_owned();
    let reason = undecided(&case);
    assert!(
        reason.contains("the newest copy is out of service, on node 1: log damaged"),
        "{reason}"
    );
}

#[test]
fn a_partition_without_a_copy_becomes_empty_only_on_an_order() {
    let mut case = case();
    let reason = undecided(&case);
    assert!(reason.contains("there is no copy of it"), "{reason}");
    case.accept_loss = BTreeSet::from([id(0)]);
    let plan = decided(&case);
    assert_eq!(first(&plan).stage, Stage::Creating);
    assert_eq!(first(&plan).member_count(), 1);
    assert!(first(&plan).primary.unwrap().incarnation.0 >= 1 << 32);
}

/// Partition 0 as it was being made on nodes 1, 2 and 3 when meta was lost: node 3 has not made its copy.
fn half_made() -> Case {
    let mut case = case();
    let being_made = Configuration {
        stage: Stage::Creating,
        ..configuration(0, 1, &[member(1, 1), member(2, 2), member(3, 3)])
    };
    for one in [member(1, 1), member(2, 2)] {
        let status = case.add(0, one, 0, (0, 0), Some(being_made.clone()));
        (status.ballot, status.prepared_ballot) = (Ballot::NONE, Ballot::NONE);
    }
    case
}

#[test]
fn a_partition_that_was_being_made_goes_on_with_an_empty_copy_once_all_nodes_have_reported() {
    let plan = decided(&half_made());
    let partition = first(&plan);
    assert_eq!(partition.stage, Stage::Active);
    let [only] = members(partition)[..] else {
        panic!("{partition:?}")
    };
    assert!([member(1, 1), member(2, 2)].contains(&only));
}

#[test]
fn a_partition_of_which_anybody_has_adopted_a_ballot_was_not_being_made() {
    let is_missing = "its member on node 3 is missing";
    let mut adopted = half_made();
    for status in statuses_of(&mut adopted, 2) {
        status.ballot = Ballot::new(2, 1);
    }
    assert!(undecided(&adopted).contains(is_missing));
    let mut active = half_made();
    for status in statuses_of(&mut active, 1) {
        status.configuration.as_mut().unwrap().stage = Stage::Active;
    }
    assert!(undecided(&active).contains(is_missing));
    // The node that may have made its copy after all, and acted.
    let mut silent = half_made();
    silent.witnesses.get_mut(&NodeId(3)).unwrap().has_told_all = false;
    assert!(undecided(&silent).contains("node 3"));
    let mut gone = half_made();
    gone.witnesses.remove(&NodeId(3));
    gone.nodes.remove(&NodeId(3));
    let plan = plan(cluster(), &gone).unwrap();
    assert!(
        plan.undecided
            .iter()
            .any(|it| it.to_string().contains(is_missing)),
        "{:?}",
        plan.undecided
    );
}

fn statuses_of(case: &mut Case, node: u32) -> impl Iterator<Item = &mut ReplicaStatus> {
    let witness = case.witnesses.get_mut(&NodeId(node)).unwrap();
    let replicas = witness.replicas.iter_mut();
    replicas
        .filter(|(key, _)| key.partition == id(0))
        .map(|(_, status)| status)
}

#[test]
fn a_copy_that_is_still_opening_is_waited_for() {
    let mut case = case();
    let alone = [member(1, 21)];
    let known = Some(configuration(0, 7, &alone));
    case.add(0, alone[0], 7, (7, 90), known).health = ReplicaHealth::Opening;
    case.accept_loss = BTreeSet::from([id(0)]);
    let reason = undecided(&case);
    assert!(
        reason.contains("still opening its copy; wait longer"),
        "{reason}"
    );
}

#[test]
fn a_learner_that_waits_for_its_primary_is_not_waited_for_and_not_used() {
    let mut case = case();
    let group = [member(1, 21), member(2, 22)];
    let known = Some(configuration(0, 7, &group));
    case.add(0, group[0], 7, (7, 90), known.clone());
    case.add(0, group[1], 7, (7, 90), known);
    let learner = member(3, 23);
    case.add(0, learner, 7, (7, 40), None).health = ReplicaHealth::Opening;
    let plan = decided(&case);
    let members: Vec<Member> = first(&plan).members().copied().collect();
    assert_eq!(members, group);

    // It has heard of a ballot whose members nobody knows, and has more than anybody: it cannot be left out in silence.
    case.add(0, learner, 8, (8, 95), None).health = ReplicaHealth::Opening;
    let reason = undecided(&case);
    assert!(
        reason.contains("the newest copy is not whole yet, on node 3"),
        "{reason}"
    );
}

#[test]
fn a_table_that_nobody_names_is_asked_for_and_may_be_left() {
    let mut case = case();
    let group = [member(1, 21)];
    case.add(0, group[0], 7, (7, 90), Some(configuration(0, 7, &group)));
    case.witnesses.values_mut().for_each(|it| it.tables.clear());
    let reason = undecided(&case);
    assert!(
        reason.starts_with("table 4: no node knows its name"),
        "{reason}"
    );
    let named = NamedTable {
        id: TABLE,
        name: "t".to_owned(),
        partition_count: 2,
        replica_count: 3,
        envs: BTreeMap::new(),
    };
    case.tables = vec![named.clone()];
    decided(&case);
    case.tables = vec![NamedTable {
        partition_count: 3,
        ..named.clone()
    }];
    assert!(undecided(&case).contains("is not possible"));
    case.tables = vec![];
    case.leave = BTreeSet::from([TABLE]);
    assert!(decided(&case).durable.tables().is_empty());
}

#[test]
fn a_dropped_table_stays_dropped_and_disagreement_is_told() {
    let mut case = case();
    case.witnesses.get_mut(&NodeId(2)).unwrap().tables[0].partition_count = 4;
    let reason = undecided(&case);
    assert!(reason.contains("different names or sizes"), "{reason}");
    case.witnesses.get_mut(&NodeId(3)).unwrap().tables[0].dropped = true;
    assert!(decided(&case).durable.tables().is_empty());
}

#[test]
fn a_node_that_the_operator_did_not_count_is_asked_about() {
    let mut case = case();
    let alone = [member(1, 21)];
    case.add(0, alone[0], 7, (7, 90), Some(configuration(0, 7, &alone)));
    case.nodes.remove(&NodeId(3));
    let reason = undecided(&case);
    assert!(
        reason.contains("node 3 has reported and is not named by --nodes"),
        "{reason}"
    );
    assert!(plan(cluster(), &Case::default()).is_err());
}

/// The store as it was when it had the tables `t` (4) and `kept` (5, dropped), and the operator had frozen it.
fn base() -> Durable {
    let table = |id: u32, name: &str, dropped_ms: Option<u64>| {
        let members = (1..=3).map(|node| member(node, u64::from(id) * 100 + u64::from(node)));
        let partition = Partition {
            stage: Stage::Active,
            ..Partition::creating(Ballot::new(2, 1), members)
        };
        Change::TableCreated(Table {
            id: TableId(id),
            name: name.to_owned(),
            replica_count: 3,
            min_replicas: 2,
            created_ms: 77,
            dropped_ms,
            kept_until_ms: None,
            envs: BTreeMap::new(),
            partition_count: 2,
            partitions: vec![partition.clone(), partition],
        })
    };
    let counters = Counters {
        next_node: 9,
        next_table: 6,
        next_incarnation: 5_000,
    };
    let mut changes = vec![Change::Cluster(cluster()), Change::Counters(counters)];
    changes.extend((1..=3).map(|id| Change::NodeJoined(node(id, 5, 2))));
    changes.extend([table(4, "t", None), table(5, "kept", Some(500))]);
    let kept = TableId(5);
    changes.push(Change::TableKept {
        table: kept,
        at_ms: 500,
        until_ms: 600,
    });
    let envs = BTreeMap::from([("business.info".to_owned(), "x".to_owned())]);
    changes.push(Change::TableEnvs { table: kept, envs });
    changes.push(Change::LevelSet(Level::Freezed));
    changes.push(Change::NodeForgotten { node: NodeId(8) });
    Durable::replay(&changes).unwrap()
}

/// All is well with table 4, and both partitions of table 5 have their copies, of which nodes know no name.
fn case_with_base() -> Case {
    let mut case = case();
    let group = [member(1, 21), member(2, 22), member(3, 23)];
    for member in group {
        case.add(0, member, 7, (7, 90), Some(configuration(0, 7, &group)));
    }
    case.base = Some(base());
    case
}

fn add_copies_of_kept(case: &mut Case) {
    let table = TableId(5);
    for index in 0..2 {
        let members: Vec<Member> = (1..=3)
            .map(|node| member(node, 500 + u64::from(node)))
            .collect();
        for copy in &members {
            let known = Configuration {
                partition: PartitionId { table, index },
                ..configuration(index, 1, &members)
            };
            let key = ReplicaKey {
                partition: known.partition,
                incarnation: copy.incarnation,
            };
            let status = ReplicaStatus {
                core: Some(copy.address.core),
                prepared_ballot: Ballot::new(2, 1),
                prepared: Decree(9),
                configuration: Some(Box::new(known)),
                ..fixture::status(Ballot::new(2, 1), ReplicaHealth::Ready)
            };
            let witness = case.witnesses.get_mut(&copy.address.node).unwrap();
            witness.replicas.insert(key, status);
        }
    }
}

#[test]
fn a_table_that_only_the_base_knows_comes_back_as_dropped_and_can_be_recalled() {
    let mut case = case_with_base();
    add_copies_of_kept(&mut case);
    let plan = decided(&case);
    let kept = &plan.durable.tables()[&TableId(5)];
    assert_eq!((kept.name.as_str(), kept.created_ms), ("kept", 77));
    assert_eq!(
        kept.envs.get("business.info").map(String::as_str),
        Some("x")
    );
    // Its time was over long ago by the base; nothing is deleted before somebody could have looked.
    let until_ms = kept.kept_until_ms.unwrap();
    assert_eq!(until_ms, case.now_ms + 7 * 86_400_000);
    assert!(
        plan.warnings
            .iter()
            .any(|it| it.contains("`pegasus table recall 5`")),
        "{:?}",
        plan.warnings
    );
    let mut state = State::from_durable(plan.durable);
    let now_ms = case.now_ms;
    let recall = Command::RecallTable {
        table: TableId(5),
        name: None,
        now_ms,
    };
    assert!(matches!(
        state.apply(recall).answer,
        Answer::TableRecalled { .. }
    ));
    // Who holds what is said by the replicas, never by the base.
    let t = state.durable().table_named("t").unwrap();
    assert_eq!(members(t.partition(0).unwrap())[0], member(1, 21));
    assert_eq!(
        (t.created_ms, t.partition(0).unwrap().ballot),
        (77, Ballot::new(3, 1))
    );
}

#[test]
fn what_operators_had_set_and_all_numbers_come_from_the_base() {
    let mut case = case_with_base();
    case.leave = BTreeSet::from([TableId(5)]);
    let plan = decided(&case);
    assert_eq!(plan.durable.level(), Level::Freezed);
    assert!(plan.durable.is_forgotten(NodeId(8)));
    let counters = plan.durable.counters();
    assert!(counters.next_incarnation >= 5_000 + (1 << 32) && counters.next_node >= 1_009);
    // Without the nodes of the base nobody can say that all have reported.
    case.nodes.remove(&NodeId(3));
    case.witnesses.remove(&NodeId(3));
    let plan = pegasus_meta::recover::plan(cluster(), &case).unwrap();
    assert!(
        plan.warnings[0].contains("node 3 is in the base and not among --nodes"),
        "{:?}",
        plan.warnings
    );
}

#[test]
fn a_table_of_the_base_without_any_copy_is_left_to_the_operator() {
    let case = case_with_base();
    let reason = undecided(&case);
    assert!(
        reason.starts_with("table 5: only the base knows it"),
        "{reason}"
    );
    let other = Cluster {
        id: ClusterId(7),
        ..cluster()
    };
    let error = plan(other, &case).unwrap_err().to_string();
    assert!(error.starts_with("the base is of cluster 0123"), "{error}");
}
