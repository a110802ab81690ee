#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
use super::fake::{self, NOW_MS};
use super::*;
use pegasus_client::{Health, LearnerInfo, ReplicaHealth};

fn report(change: impl FnOnce(&mut Facts)) -> Report {
    let mut facts = fake::healthy(3);
    change(&mut facts);
    Report::of(&facts)
}

/// Node 3 has died, and both partitions have gone on without it.
fn without_node_3(facts: &mut Facts) {
    facts.nodes[2].alive = false;
    facts.nodes[2].last_heartbeat = Duration::from_secs(20);
    facts.tables[0].health = Health::Degraded;
    facts.tables[0].healthy_partitions = 0;
    for partition in &mut facts.tables[0].partitions {
        partition.secondaries.pop();
        partition.health = Health::Degraded;
        partition.degraded_since_unix_ms = Some(NOW_MS - 20_000);
    }
}

#[test]
fn a_healthy_cluster_has_no_findings() {
    let report = report(|_| ());
    assert_eq!(report.findings, []);
    assert_eq!(report.severity(), Severity::Note);
    let text = report.to_text();
    assert_eq!(
        text,
        "healthy: 1 table, 2 partitions (2 healthy), 3 of 3 nodes alive"
    );
}

#[test]
fn a_dead_node_and_what_lacks_it_are_said_with_since_when_and_what_to_do() {
    let report = report(without_node_3);
    assert_eq!(report.severity(), Severity::Degraded);
    let text = report.to_text();
    for part in [
        "degraded: 1 table, 2 partitions (0 healthy), 2 of 3 nodes alive",
        "table t, partitions 0-1 (for 20 s)",
        "2 of 3 members; no node that is alive and open is without a copy of it",
        "start node 3 again, or add a node",
        "node 3 (for 20 s)",
        "systemctl start pegasus-replica` on host-3",
    ] {
        assert!(text.contains(part), "{part:?} is not in\n{text}");
    }
}

#[test]
fn the_time_until_a_lost_copy_is_replaced_is_said() {
    let mut facts = fake::healthy(4);
    without_node_3(&mut facts);
    let text = Report::of(&facts).to_text();
    assert!(
        text.contains("a new one is made elsewhere in about 40 s"),
        "{text}"
    );
}

#[test]
fn a_learner_says_how_far_it_is() {
    let report = report(|facts| {
        without_node_3(facts);
        let member = pegasus_client::MemberInfo {
            committed: 250,
            ..fake::member(3, ReplicaHealth::Ready)
        };
        facts.tables[0].partitions[1].learner = Some(LearnerInfo {
            member,
            is_fresh: false,
            since_unix_ms: NOW_MS - 1_000,
        });
    });
    let text = report.to_text();
    assert!(
        text.contains("the copy that came back on node 3 learns, at 25 %"),
        "{text}"
    );
    assert!(text.contains("nothing, it heals by itself"), "{text}");
}

#[test]
fn too_few_members_for_writes_are_unavailable_and_so_is_a_full_disk() {
    let few = report(|facts| {
        without_node_3(facts);
        facts.tables[0].partitions[0].secondaries.clear();
    });
    assert_eq!(few.severity(), Severity::Unavailable);
    assert!(
        few.to_text()
            .contains("it takes no writes: it has 1 members and they need 2")
    );
    let full = report(|facts| facts.nodes[1].refuses_writes = true);
    assert_eq!(full.severity(), Severity::Unavailable);
    assert!(
        full.to_text()
            .contains("unavailable: node 2\n  why:  disk full")
    );
}

#[test]
fn a_quarantined_copy_is_named_with_its_reason() {
    let report = report(|facts| {
        facts.tables[0].health = Health::Degraded;
        let partition = &mut facts.tables[0].partitions[1];
        partition.health = Health::Degraded;
        partition.secondaries[0].health = ReplicaHealth::OutOfService;
        partition.secondaries[0].reason = "file 000012.sst: block checksum mismatch".to_owned();
    });
    let text = report.to_text();
    assert!(text.contains("table t, partition 1 (for 20 s)"), "{text}");
    assert!(
        text.contains("the copy on node 2 is quarantined: file 000012.sst"),
        "{text}"
    );
}

#[test]
fn a_clock_that_is_wrong_by_an_hour_is_named_and_metas_is_told_apart() {
    let one = report(|facts| facts.nodes[1].clock_ahead_ms = 3_600_000);
    assert_eq!(one.severity(), Severity::Degraded);
    let text = one.to_text();
    assert!(
        text.contains("node 2") && text.contains("its clock is 60 min ahead of meta's"),
        "{text}"
    );
    let meta = report(|facts| {
        facts
            .nodes
            .iter_mut()
            .for_each(|node| node.clock_ahead_ms = -3_600_000);
        facts.cluster.now_unix_ms = NOW_MS + 3_600_000;
    });
    let text = meta.to_text();
    assert!(
        text.contains("degraded: meta") && !text.contains("degraded: node"),
        "{text}"
    );
}

#[test]
fn what_an_operator_has_begun_is_a_note() {
    let report = report(|facts| {
        facts.nodes[0].is_draining = true;
        facts.nodes[2].program = Some(fake::program("0.2.0", 5));
    });
    assert_eq!(report.severity(), Severity::Note);
    let text = report.to_text();
    assert!(
        text.starts_with("healthy") && text.contains("`pegasus node undrain 1`"),
        "{text}"
    );
    assert!(
        text.contains("0.1.0 on node 1, 2; 0.2.0 on node 3"),
        "{text}"
    );
}

#[test]
fn a_core_that_does_not_answer_is_named() {
    let report = report(|facts| facts.silent_cores.push((2, 0, "timed out".to_owned())));
    assert_eq!(report.severity(), Severity::Degraded);
    assert!(report.to_text().contains("core 0: timed out"));
}

#[test]
fn programs_get_the_same_as_people() {
    let json = report(without_node_3).to_json();
    assert_eq!(json["status"], "degraded");
    assert_eq!(json["findings"][0]["since_unix_ms"], NOW_MS - 20_000);
    assert!(
        json["findings"][0]["do"]
            .as_str()
            .unwrap()
            .contains("node 3")
    );
}

#[test]
fn exit_codes_tell_how_bad_it_is() {
    assert!(end(Severity::Note).is_ok());
    assert_eq!(exit_of(&end(Severity::Degraded).unwrap_err()) as u8, 1);
    assert_eq!(exit_of(&end(Severity::Unavailable).unwrap_err()) as u8, 2);
}
