#![allow(clippy::unwrap_used, reason = "tests fail by panicking")]

use super::*;

const ARRIVAL: Arrival = Arrival {
    received_ns: 1_000,
    looked_at_ns: 1_010,
    decoded_ns: 1_030,
};
const PUT: Subject = Subject {
    operation: Timing::Put,
    table: 3,
    partition: 4,
    key_hash: 5,
};
const GET: Subject = Subject {
    operation: Timing::Get,
    ..PUT
};

/// The stages that are not 0.
fn stages(times: &RequestTimes) -> Vec<(Stage, u64)> {
    let all = Stage::ALL
        .iter()
        .map(|stage| (*stage, times.stages[*stage as usize]));
    all.filter(|(_, ns)| *ns > 0).collect()
}

fn total(times: &RequestTimes) -> u64 {
    times.stages.iter().sum()
}

#[test]
fn the_stages_of_a_write_follow_its_steps_and_add_up() {
    let mut traces = Traces::new(true);
    traces.begin_turn();
    let id = traces.begin(PUT, &ARRIVAL, 1_031);
    traces.pass(id, Stage::Queue, Stage::LogWait, 1_040);
    traces.begin_turn();
    traces.enter(id, Stage::Flush, 1_100);
    traces.enter(id, Stage::Replication, 1_300);
    traces.enter(id, Stage::Apply, 1_700);
    traces.begin_turn();
    traces.wait_for_right(id, 2_500);
    let receipt = traces.release(id, Code::Ok, 2_600).unwrap();
    traces.end_encoding(2_700);
    let times = traces.end(receipt, 4_300).unwrap().times();
    assert_eq!(
        stages(&times),
        [
            (Stage::Decode, 20),
            (Stage::Queue, 20),
            (Stage::LogWait, 60),
            (Stage::Flush, 200),
            (Stage::Replication, 400),
            (Stage::Apply, 800),
            (Stage::Encode, 200),
            (Stage::Send, 1_600),
        ]
    );
    assert_eq!(total(&times), 4_300 - ARRIVAL.received_ns);
}

#[test]
fn waiting_for_a_right_counts_as_the_gate_only_beyond_the_turn() {
    let mut traces = Traces::new(true);
    let id = traces.begin(GET, &ARRIVAL, 1_030);
    traces.begin_turn();
    traces.pass(id, Stage::Queue, Stage::Read, 1_530);
    traces.wait_for_right(id, 1_600);
    traces.begin_turn();
    let receipt = traces.release(id, Code::Ok, 1_900).unwrap();
    traces.end_encoding(1_901);
    let times = traces.end(receipt, 1_903).unwrap().times();
    assert_eq!(
        stages(&times),
        [
            (Stage::Decode, 20),
            (Stage::Queue, 10),
            (Stage::Gate, 800),
            (Stage::Read, 70),
            (Stage::Encode, 1),
            (Stage::Send, 2),
        ]
    );
}

#[test]
fn a_write_given_up_shows_where_it_was_stuck() {
    let mut traces = Traces::new(true);
    let id = traces.begin(PUT, &ARRIVAL, 1_030);
    traces.pass(id, Stage::Queue, Stage::LogWait, 1_030);
    traces.enter(id, Stage::Flush, 1_030);
    traces.enter(id, Stage::Replication, 1_100);
    traces.begin_turn();
    let receipt = traces.release(id, Code::Unknown, 5_000_000).unwrap();
    traces.end_encoding(5_000_000);
    let times = &traces.end(receipt, 5_000_000).unwrap().times();
    assert_eq!(times.code, Code::Unknown);
    assert_eq!(times.stages[Stage::Replication as usize], 5_000_000 - 1_100);
    assert_eq!(total(times), 5_000_000 - ARRIVAL.received_ns);
}

#[test]
fn a_stamp_from_before_the_last_step_takes_nothing_away() {
    let mut traces = Traces::new(true);
    let id = traces.begin(GET, &ARRIVAL, 1_030);
    traces.enter(id, Stage::Read, 900);
    let times = &traces.hand_back(id, Code::NotFound, 1_050).unwrap().times();
    assert_eq!(total(times), 50);
    assert_eq!(times.code, Code::NotFound);
}

#[test]
fn the_name_of_an_ended_trace_names_nothing() {
    let mut traces = Traces::new(true);
    let old = traces.begin(GET, &ARRIVAL, 1_030);
    let receipt = traces.release(old, Code::Ok, 1_040).unwrap();
    assert!(traces.end(receipt, 1_050).is_some());
    assert!(traces.end(receipt, 1_060).is_none(), "ends once");
    let new = traces.begin(PUT, &ARRIVAL, 1_030);
    assert_eq!(old.index, new.index);
    traces.enter(old, Stage::Flush, 9_000);
    traces.set_bytes(old, 77);
    assert!(traces.release(old, Code::Ok, 9_000).is_none());
    let times = &traces.hand_back(new, Code::Ok, 1_030).unwrap().times();
    assert_eq!((total(times), times.bytes), (30, 0));
}

#[test]
fn switched_off_there_are_no_traces() {
    let mut traces = Traces::new(false);
    let id = traces.begin(PUT, &ARRIVAL, 1_030);
    assert_eq!(id, TraceId::NONE);
    traces.enter(id, Stage::Flush, 2_000);
    assert_eq!(traces.release(id, Code::Ok, 3_000), None);
    assert!(!traces.has_encoded());
}
