//! Whole runs against a server in this process.

#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use super::*;
use crate::fake_server::{FakeServer, Lie};
use crate::keys::{Distribution, Names};
use crate::verify::Fault;
use crate::workload::{Kind, Mix, Workload};
use std::collections::HashSet;

const RECORDS: u64 = 200;

fn plan(server: &FakeServer, work: Work, mix: Mix, verify: bool) -> Plan {
    let shape = Shape {
        threads: 2,
        connections: 3,
        inflight: 4,
    };
    let workers = shape.workers() as u64;
    Plan {
        meta: vec![server.address.to_string()],
        table: "t".to_owned(),
        shape,
        cpus: Vec::new(),
        timeout: Duration::from_secs(60),
        work,
        task: Task {
            mix,
            names: Names {
                rows_per_hash_key: 1,
            },
            records: RECORDS,
            value_bytes: 64,
            seed: 3,
            version_base: 1_000,
            verify,
        },
        choosers: Chooser::for_workers(mix.distribution, RECORDS, workers, verify),
    }
}

fn load(server: &FakeServer) -> Outcome {
    run(&Arc::new(plan(
        server,
        Work::Load {
            give_up_after: Duration::ZERO,
        },
        Mix::LOAD,
        false,
    )))
    .unwrap()
}

fn verified_run(lie: Lie, workload: Workload) -> Outcome {
    let server = FakeServer::start(lie);
    assert_eq!(load(&server).load_error, None);
    run(&Arc::new(plan(
        &server,
        Work::RunOperations(5_000),
        workload.mix(),
        true,
    )))
    .unwrap()
}

fn faults(outcome: &Outcome) -> HashSet<Fault> {
    outcome
        .recorder
        .examples
        .iter()
        .map(|violation| violation.fault)
        .collect()
}

#[test]
fn an_honest_server_passes_with_every_mix() {
    for workload in [
        Workload::A,
        Workload::B,
        Workload::C,
        Workload::D,
        Workload::F,
        Workload::Put,
    ] {
        let outcome = verified_run(Lie::None, workload);
        assert_eq!(
            outcome.recorder.violations, 0,
            "{workload:?}: {:?}",
            outcome.recorder.examples
        );
        let operations: u64 = Kind::ALL
            .iter()
            .map(|kind| outcome.recorder.latency(*kind).count())
            .sum();
        assert_eq!(operations, 5_000, "{workload:?}");
        assert_eq!(
            (outcome.recorder.misses, outcome.recorder.unread),
            (0, 0),
            "{workload:?}"
        );
        assert!(outcome.recorder.swept > 0, "{workload:?}");
    }
}

#[test]
fn acknowledged_writes_that_were_not_done_are_found() {
    let outcome = verified_run(Lie::DropWrites, Workload::A);
    assert!(outcome.recorder.violations > 0);
    assert!(
        faults(&outcome).is_subset(&HashSet::from([Fault::Stale])),
        "{:?}",
        outcome.recorder.examples
    );
}

#[test]
fn writes_that_were_dropped_and_never_read_in_the_run_are_found_at_its_end() {
    let outcome = verified_run(Lie::DropWrites, Workload::Put);
    assert!(outcome.recorder.violations > 0);
}

#[test]
fn rows_of_other_keys_are_found() {
    assert!(faults(&verified_run(Lie::SwapAnswers, Workload::A)).contains(&Fault::Foreign));
}

#[test]
fn replayed_old_values_are_found() {
    assert!(faults(&verified_run(Lie::ReplayOldValues, Workload::A)).contains(&Fault::Stale));
}

#[test]
fn changed_bits_are_found() {
    assert_eq!(
        faults(&verified_run(Lie::FlipBits, Workload::C)),
        HashSet::from([Fault::Damaged])
    );
}

#[test]
fn lost_rows_are_found() {
    assert_eq!(
        faults(&verified_run(Lie::LoseRows, Workload::C)),
        HashSet::from([Fault::Lost])
    );
}

#[test]
fn a_load_writes_every_record_exactly_once() {
    let server = FakeServer::start(Lie::None);
    let outcome = load(&server);
    assert_eq!(outcome.recorder.latency(Kind::Insert).count(), RECORDS);
    let reading = plan(
        &server,
        Work::RunOperations(2_000),
        Workload::C.mix(),
        false,
    );
    let distribution = Chooser::for_workers(
        Distribution::Uniform,
        RECORDS,
        reading.choosers.len() as u64,
        false,
    );
    let outcome = run(&Arc::new(Plan {
        choosers: distribution,
        ..reading
    }))
    .unwrap();
    assert_eq!(outcome.recorder.misses, 0);
}

#[test]
fn a_run_for_a_time_ends_and_leaves_out_its_warm_up() {
    let server = FakeServer::start(Lie::None);
    load(&server);
    let time = Duration::from_millis(50);
    let work = Work::RunFor {
        warm_up: time,
        time,
    };
    let outcome = run(&Arc::new(plan(&server, work, Workload::C.mix(), false))).unwrap();
    assert!(outcome.recorder.latency(Kind::Read).count() > 0);
    assert!(outcome.elapsed > Duration::ZERO && outcome.longest_gap <= outcome.elapsed + time);
}

#[test]
fn no_cluster_is_an_error_and_not_a_report() {
    let listener = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let server = FakeServer::start(Lie::None);
    let mut nowhere = plan(&server, Work::RunOperations(1), Workload::C.mix(), false);
    nowhere.meta = vec![address.to_string()];
    let error = run(&Arc::new(nowhere)).unwrap_err();
    assert!(
        format!("{error:#}").contains(&address.to_string()),
        "{error:#}"
    );
}
