#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use super::*;
use crate::cores::fake::{snapshot, writer};
use crate::cores::source::Way;
use pegasus_fbs::stats_page::{Counter, PartitionCounter, PartitionGauge, Timing};

fn reading(page: Result<Snapshot, &str>, state: State) -> BTreeMap<(u32, u32), Reading> {
    let reading = Reading {
        node: 1,
        core: 0,
        way: Way::Page,
        state,
        page: page.map_err(str::to_owned),
    };
    BTreeMap::from([((1, 0), reading)])
}

fn update(model: &mut Model, page: Snapshot, state: State, now_us: u64) {
    model.update(reading(Ok(page), state), Vec::new(), now_us);
}

fn requests(model: &Model) -> f64 {
    model.cores[0].numbers.as_ref().unwrap().requests_per_second
}

#[test]
fn rates_are_those_between_two_readings() {
    let mut model = Model::default();
    let mut writer = writer(1, 0);
    writer.add(Counter::RequestGet, 1_000_000);
    writer.publish(1_000_000);
    update(&mut model, writer.snapshot(), State::Running, 1_000_000);
    assert!(requests(&model).abs() < 1e-9, "nothing to compare with yet");
    writer.add(Counter::RequestGet, 500);
    writer.record(Timing::Get, Duration::from_micros(80));
    writer.publish(3_000_000);
    update(&mut model, writer.snapshot(), State::Running, 3_000_000);
    assert!((requests(&model) - 250.0).abs() < 1e-6);
    let row = &model.cores[0];
    assert_eq!(row.history.requests, [250]);
    assert!((78..=82).contains(&row.history.p99_us[0]));
}

#[test]
fn a_core_that_has_published_nothing_new_keeps_what_is_shown() {
    let mut model = Model::default();
    let mut writer = writer(1, 0);
    for second in 1..=2 {
        writer.add(Counter::RequestGet, 100);
        writer.publish(second * 1_000_000);
        update(
            &mut model,
            writer.snapshot(),
            State::Running,
            second * 1_000_000,
        );
    }
    update(&mut model, writer.snapshot(), State::Running, 2_100_000);
    assert!((requests(&model) - 100.0).abs() < 1e-6);
    assert_eq!(model.cores[0].history.requests.len(), 1);
}

/// The counters of its next life begin at 0, far below the last reading.
#[test]
fn a_core_that_was_restarted_counts_from_its_start() {
    use pegasus_fbs::stats_page::{PAGE_WORDS, Writer};
    use std::sync::atomic::AtomicU64;
    let mut model = Model::default();
    let mut old = writer(1, 0);
    old.add(Counter::RequestGet, 1_000_000);
    old.publish(1_000_000);
    update(&mut model, old.snapshot(), State::Running, 1_000_000);
    let page: Vec<AtomicU64> = (0..PAGE_WORDS).map(|_| AtomicU64::new(0)).collect();
    let mut new = Writer::new(&page[..], 1, 0, 78, 2_000_000);
    new.add(Counter::RequestGet, 30);
    new.publish(5_000_000);
    update(&mut model, new.snapshot(), State::Running, 5_000_000);
    assert!((requests(&model) - 10.0).abs() < 1e-6);
}

#[test]
fn a_dead_core_keeps_its_last_numbers_and_says_since_when() {
    let mut model = Model::default();
    let page = snapshot(1, 0, 5_000_000);
    update(&mut model, page, State::Dead, 65_000_000);
    let row = &model.cores[0];
    assert_eq!(row.silent_for, Some(Duration::from_secs(60)));
    assert!(row.numbers.is_some() && !row.is_running());
    let (_, interval) = model.page(row.name).unwrap();
    assert_eq!(interval.elapsed(), Duration::from_secs(5), "of its life");
    // And then its page cannot be read either.
    model.update(reading(Err("gone"), State::Silent), Vec::new(), 66_000_000);
    let row = &model.cores[0];
    assert_eq!(row.error.as_deref(), Some("gone"));
    assert_eq!(row.silent_for, Some(Duration::from_secs(61)));
    assert!(row.numbers.is_some());
    model.update(BTreeMap::new(), Vec::new(), 67_000_000);
    assert!(model.cores.is_empty());
}

#[test]
fn tables_are_sums_of_their_replicas_and_name_the_hottest() {
    let mut model = Model {
        tables: BTreeMap::from([(5, "users".to_owned()), (6, "events".to_owned())]),
        ..Model::default()
    };
    let mut writer = writer(1, 0);
    for (table, partition, role) in [
        (5, 0, Role::Primary),
        (5, 1, Role::Primary),
        (6, 0, Role::Secondary),
    ] {
        let slot = writer.take_partition(table, partition);
        writer.set_of(slot, PartitionGauge::Role, role as u64);
    }
    writer.publish(1_000_000);
    update(&mut model, writer.snapshot(), State::Running, 1_000_000);
    for (partition, count) in [(0, 10), (1, 30)] {
        let slot = writer.find_partition(5, partition);
        writer.add_of(slot, PartitionCounter::Get, count);
    }
    writer.publish(2_000_000);
    update(&mut model, writer.snapshot(), State::Running, 2_000_000);
    let tables = model.table_rows("");
    assert_eq!(tables.len(), 2);
    assert_eq!((tables[0].primaries, tables[0].replicas), (2, 2));
    assert!((tables[0].traffic.get - 40.0).abs() < 1e-6);
    assert_eq!(tables[0].hottest, Some((1, 0.75)));
    assert_eq!(tables[1].hottest, None);
    assert_eq!(model.table_rows("even").len(), 1);
    let rows = model.partition_rows("user");
    assert_eq!(rows.len(), 2);
    assert!((rows[1].share - 0.75).abs() < 1e-9);
    let only = model.cores[0].traffic(&model, "event");
    assert!(only.total().abs() < 1e-9);
}
