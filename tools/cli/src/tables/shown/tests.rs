use super::*;

fn info() -> MemberInfo {
    MemberInfo {
        node: 2,
        core: 1,
        address: String::new(),
        alive: true,
        health: ReplicaHealth::Serving,
        reason: String::new(),
        committed: 0,
        prepared: 0,
        since_unix_ms: None,
        bytes: 0,
    }
}

fn partition() -> PartitionInfo {
    PartitionInfo {
        index: 0,
        ballot: 3,
        health: Health::Healthy,
        primary: Some(MemberInfo {
            committed: 40_000,
            ..info()
        }),
        secondaries: Vec::new(),
        learner: None,
        degraded_since_unix_ms: None,
        backoffs: Vec::new(),
        moving: String::new(),
    }
}

#[test]
fn a_ballot_reads_as_epoch_and_counter() {
    assert_eq!(ballot(7), "0|7");
    assert_eq!(ballot((2 << 47) | 5), "2|5");
    assert_eq!(ballot((1 << 47) - 1), "0|140737488355327");
}

#[test]
fn a_member_out_of_service_says_why() {
    let mut info = info();
    assert_eq!(member(&info), "node 2 core 1 serving");
    info.health = ReplicaHealth::OutOfService;
    info.reason = "checksum mismatch".to_owned();
    assert_eq!(
        member(&info),
        "node 2 core 1 out of service (checksum mismatch)"
    );
    info.alive = false;
    assert_eq!(
        member(&info),
        "node 2 core 1 node is gone (checksum mismatch)"
    );
}

#[test]
fn a_whole_partition_has_nothing_under_way() {
    assert_eq!(under_way(&partition(), 1_000_000), "");
    let json = partition_json(&partition());
    assert_eq!(json["learner"], Value::Null);
    assert_eq!(json["degraded_since_unix_ms"], Value::Null);
}

#[test]
fn what_is_under_way_is_said_with_its_age_and_its_progress() {
    let learner = LearnerInfo {
        member: MemberInfo {
            node: 3,
            core: 0,
            health: ReplicaHealth::Ready,
            committed: 12_000,
            ..info()
        },
        is_fresh: true,
        since_unix_ms: 1_000_000,
    };
    let partition = PartitionInfo {
        degraded_since_unix_ms: Some(700_000),
        learner: Some(learner),
        backoffs: vec![BackoffInfo {
            node: 1,
            step: 2,
            until_unix_ms: 1_030_001,
        }],
        moving: "moves to node 4".to_owned(),
        ..partition()
    };
    assert_eq!(
        under_way(&partition, 1_012_000),
        "lacks a member for 5 min\n\
         node 3 core 0 learns (new copy) for 12 s: 12,000 of 40,000\n\
         node 1 waits 19 s (failure 2)\n\
         moves to node 4"
    );
    assert_eq!(partition_json(&partition)["learner"]["fresh"], true);
}

#[test]
fn a_learner_that_has_nothing_yet_says_what_it_waits_for() {
    let with = |health, committed, alive: bool| LearnerInfo {
        member: MemberInfo {
            health,
            committed,
            alive,
            ..info()
        },
        is_fresh: false,
        since_unix_ms: 0,
    };
    let stage = |it: LearnerInfo| stage(&it, None);
    assert_eq!(stage(with(ReplicaHealth::Unset, 0, true)), "not begun");
    assert_eq!(
        stage(with(ReplicaHealth::Opening, 0, true)),
        "waits for files"
    );
    assert_eq!(stage(with(ReplicaHealth::Ready, 7, true)), "7 of 7");
    assert_eq!(
        stage(with(ReplicaHealth::Ready, 7, false)),
        "its node is gone"
    );
}

#[test]
fn a_table_that_is_not_healthy_says_how_many_of_its_partitions_are_not() {
    let mut degraded = partition();
    degraded.health = Health::Degraded;
    degraded.degraded_since_unix_ms = Some(990_000);
    let mut gone = partition();
    gone.health = Health::Unavailable;
    let table = TableInfo {
        min_replicas: 0,
        table_id: 1,
        name: "t".to_owned(),
        partition_count: 3,
        replica_count: 3,
        health: Health::Unavailable,
        healthy_partitions: 1,
        created_unix_ms: 0,
        dropped_unix_ms: 0,
        kept_until_unix_ms: 0,
        partitions: vec![partition(), degraded, gone],
    };
    let words = Ailing::of(&table).in_words_at(1_000_000);
    assert_eq!(words, "1 unavailable, 1 lack members (for 10 s)");
    assert_eq!(Ailing::default().in_words_at(0), "");
}
