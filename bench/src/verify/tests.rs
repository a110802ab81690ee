#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
use super::*;
use crate::value::{LOADED_VERSION, value};
use pegasus_client::Bytes;
use std::time::Duration;

const BASE: u64 = 1_000;
const LOADED: u64 = 100;

/// A history and a clock of milliseconds.
struct Clock {
    history: History,
    start: Instant,
}

fn layout(fields: usize, records_per_hash_key: u64) -> Layout {
    Layout {
        records_per_hash_key,
        fields,
        value_bytes: 64,
    }
}

fn key() -> StateKey {
    StateKey {
        target: "null://".to_owned(),
        layout: layout(0, 1),
        records: LOADED,
    }
}

fn clock(state: Option<State>) -> Clock {
    Clock {
        history: History::new(layout(0, 1), LOADED, BASE, state),
        start: Instant::now(),
    }
}

fn name(record: u64) -> CellName {
    CellName { record, field: 0 }
}

fn found(record: u64, field: usize, version: u64) -> Found {
    let name = CellName { record, field };
    Found {
        name: Some(name),
        value: Bytes::from(value(name, version, 64)),
    }
}

impl Clock {
    fn at(&self, milliseconds: u64) -> Instant {
        self.start + Duration::from_millis(milliseconds)
    }

    fn span(&self, began: u64, ended: u64) -> Span {
        Span {
            began: self.at(began),
            ended: self.at(ended),
        }
    }

    fn begin(&self, record: u64, version: u64, at: u64) {
        self.history
            .write_begins(name(record), version, self.at(at));
    }

    fn end(&self, record: u64, version: u64, end: WriteEnd, at: u64) {
        self.history
            .write_ends(name(record), version, end, self.at(at));
    }

    /// A write between two moments that was acknowledged.
    fn write(&self, record: u64, version: u64, began: u64, ended: u64) {
        self.begin(record, version, began);
        self.end(record, version, WriteEnd::Acknowledged, ended);
    }

    /// What is wrong with a read of a version, or of nothing.
    fn read(&self, record: u64, version: Option<u64>, began: u64, ended: u64) -> Option<Fault> {
        let cells: Vec<Found> = version.map(|it| found(record, 0, it)).into_iter().collect();
        self.read_cells(record, &cells, began, ended)
    }

    fn read_cells(&self, record: u64, cells: &[Found], began: u64, ended: u64) -> Option<Fault> {
        let violations = self
            .history
            .check_read(record, cells, self.span(began, ended));
        assert!(violations.len() <= 1, "{violations:?}");
        violations.first().map(|violation| violation.fault)
    }
}

#[test]
fn the_acknowledged_version_passes_and_nothing_else() {
    let clock = clock(None);
    clock.write(7, 1_001, 1, 2);
    assert_eq!(clock.read(7, Some(1_001), 3, 4), None);
    assert_eq!(clock.read(7, None, 3, 4), Some(Fault::Lost));
    assert_eq!(
        clock.read(7, Some(LOADED_VERSION), 3, 4),
        Some(Fault::Stale)
    );
    assert_eq!(clock.read(7, Some(1_002), 3, 4), Some(Fault::NeverWritten));
    let other = Found {
        name: Some(name(7)),
        value: found(8, 0, 1_001).value,
    };
    assert_eq!(clock.read_cells(7, &[other], 3, 4), Some(Fault::Foreign));
    let mut bytes = value(name(7), 1_001, 64);
    bytes[40] ^= 1;
    let damaged = Found {
        name: Some(name(7)),
        value: Bytes::from(bytes),
    };
    assert_eq!(clock.read_cells(7, &[damaged], 3, 4), Some(Fault::Damaged));
}

#[test]
fn a_read_that_overlaps_a_write_may_see_either_side_of_it() {
    let clock = clock(None);
    clock.write(7, 1_001, 1, 2);
    clock.begin(7, 1_002, 10);
    assert_eq!(clock.read(7, Some(1_001), 11, 12), None);
    assert_eq!(clock.read(7, Some(1_002), 13, 14), None);
    // Now it is known to be in effect, although nobody has acknowledged it.
    assert_eq!(clock.read(7, Some(1_001), 15, 16), Some(Fault::Stale));
    // This one was sent before that was known.
    assert_eq!(clock.read(7, Some(1_001), 13, 17), None);
    clock.end(7, 1_002, WriteEnd::Acknowledged, 20);
    assert_eq!(clock.read(7, Some(1_002), 21, 22), None);
}

#[test]
fn two_writes_that_overlap_are_ordered_by_the_first_read_that_sees_them() {
    let clock = clock(None);
    clock.begin(7, 1_001, 1);
    clock.begin(7, 1_002, 2);
    clock.end(7, 1_002, WriteEnd::Acknowledged, 3);
    clock.end(7, 1_001, WriteEnd::Acknowledged, 4);
    assert_eq!(clock.read(7, Some(1_001), 5, 6), None);
    assert_eq!(clock.read(7, Some(1_002), 7, 8), Some(Fault::Stale));
    assert_eq!(clock.read(7, Some(1_001), 9, 10), None);
}

#[test]
fn a_write_after_another_overwrites_it_whatever_the_versions() {
    let clock = clock(None);
    clock.write(7, 1_005, 1, 2);
    clock.write(7, 1_003, 3, 4);
    assert_eq!(clock.read(7, Some(1_005), 5, 6), Some(Fault::Stale));
    assert_eq!(clock.read(7, Some(1_003), 7, 8), None);
}

#[test]
fn a_write_of_unknown_outcome_may_be_seen_or_not_but_takes_effect_once() {
    let clock = clock(None);
    clock.write(7, 1_001, 1, 2);
    clock.begin(7, 1_002, 3);
    clock.end(7, 1_002, WriteEnd::Unknown, 4);
    assert_eq!(clock.read(7, Some(1_001), 5, 6), None);
    assert_eq!(clock.read(7, Some(1_002), 7, 8), None);
    assert_eq!(clock.read(7, Some(1_001), 9, 10), Some(Fault::Stale));
    clock.write(7, 1_003, 11, 12);
    assert_eq!(clock.read(7, Some(1_002), 13, 14), Some(Fault::Stale));
}

#[test]
fn an_unknown_write_may_take_effect_after_a_later_one() {
    let clock = clock(None);
    clock.begin(7, 1_001, 1);
    clock.end(7, 1_001, WriteEnd::Unknown, 2);
    clock.write(7, 1_002, 3, 4);
    assert_eq!(clock.read(7, Some(1_001), 5, 6), None);
    assert_eq!(clock.read(7, Some(1_002), 7, 8), Some(Fault::Stale));
}

#[test]
fn a_refused_write_must_never_be_seen() {
    let clock = clock(None);
    clock.write(7, 1_001, 1, 2);
    clock.begin(7, 1_002, 3);
    clock.end(7, 1_002, WriteEnd::Refused, 4);
    assert_eq!(clock.read(7, Some(1_002), 5, 6), Some(Fault::NeverWritten));
    assert_eq!(clock.read(7, Some(1_001), 7, 8), None);
}

#[test]
fn a_loaded_record_must_be_there_in_one_earlier_version() {
    let clock = clock(None);
    assert_eq!(clock.read(3, None, 1, 2), Some(Fault::Lost));
    assert_eq!(
        clock.read(3, Some(BASE + 1), 1, 2),
        Some(Fault::NeverWritten)
    );
    assert_eq!(clock.read(3, Some(999), 3, 4), None);
    assert_eq!(clock.read(3, Some(998), 5, 6), Some(Fault::Stale));
    assert_eq!(clock.read(3, None, 7, 8), Some(Fault::Lost));
}

#[test]
fn a_record_behind_the_loaded_ones_is_there_from_its_insert_on() {
    let clock = clock(None);
    assert_eq!(clock.read(LOADED, None, 1, 2), None);
    clock.begin(LOADED, 1_001, 3);
    assert_eq!(clock.read(LOADED, None, 4, 5), None);
    clock.end(LOADED, 1_001, WriteEnd::Acknowledged, 6);
    assert_eq!(clock.read(LOADED, None, 7, 8), Some(Fault::Lost));
    assert_eq!(clock.read(LOADED, Some(1_001), 9, 10), None);
}

#[test]
fn a_hot_cell_forgets_its_oldest_writes_and_says_so() {
    let clock = clock(None);
    for write in 0..1_000 {
        clock.write(7, 1_001 + write, 10 + 2 * write, 11 + 2 * write);
    }
    // Sent long before most of the writes, so it may have seen an old one; nobody remembers whether it may have.
    assert_eq!(clock.read(7, Some(1_050), 1, 3_000), None);
    assert_eq!(clock.history.checked(), (1, 1));
    // One that was sent after all of them may not.
    assert_eq!(clock.read(7, Some(1_050), 3_001, 3_002), Some(Fault::Stale));
    assert_eq!(clock.read(7, Some(1_990), 3_001, 3_002), Some(Fault::Stale));
    assert_eq!(clock.read(7, Some(2_000), 3_001, 3_002), None);
}

#[test]
fn every_field_of_a_row_is_checked_by_itself() {
    let clock = Clock {
        history: History::new(layout(3, 1), LOADED, BASE, None),
        start: Instant::now(),
    };
    let row = |versions: [u64; 3]| -> Vec<Found> {
        let fields = versions.iter().enumerate();
        fields
            .map(|(field, version)| found(7, field, *version))
            .collect()
    };
    let second = CellName {
        record: 7,
        field: 1,
    };
    clock.history.write_begins(second, 1_001, clock.at(1));
    clock
        .history
        .write_ends(second, 1_001, WriteEnd::Acknowledged, clock.at(2));
    assert_eq!(clock.read_cells(7, &row([1, 1_001, 1]), 3, 4), None);
    assert_eq!(
        clock.read_cells(7, &row([1, 1, 1]), 5, 6),
        Some(Fault::Stale)
    );
    assert_eq!(
        clock.read_cells(7, &row([1, 1_001, 1])[..2], 7, 8),
        Some(Fault::Lost)
    );
    let mut twice = row([1, 1_001, 1]);
    twice.push(twice[0].clone());
    assert_eq!(clock.read_cells(7, &twice, 9, 10), Some(Fault::Foreign));
    let mut strange = row([1, 1_001, 1]);
    strange.push(Found {
        name: None,
        value: Bytes::new(),
    });
    assert_eq!(clock.read_cells(7, &strange, 11, 12), Some(Fault::Foreign));
}

#[test]
fn a_scan_has_no_holes_no_strangers_and_ends_with_its_hash_key() {
    let history = History::new(layout(0, 10), 15, BASE, None);
    let now = Instant::now();
    let span = Span {
        began: now,
        ended: now + Duration::from_millis(1),
    };
    let scan = |records: &[u64], wanted| -> Vec<Fault> {
        let cells: Vec<Found> = records.iter().map(|record| found(*record, 0, 1)).collect();
        let violations = history.check_scan(7, wanted, &cells, span);
        violations.iter().map(|violation| violation.fault).collect()
    };
    assert_eq!(scan(&[7, 8, 9], 100), []);
    assert_eq!(scan(&[7, 8], 2), []);
    assert_eq!(scan(&[7, 9], 100), [Fault::Lost]);
    assert_eq!(scan(&[7, 8], 100), [Fault::Lost]);
    assert_eq!(scan(&[7, 8, 9], 2), [Fault::Foreign]);
    assert_eq!(scan(&[7, 8, 9, 10], 100), [Fault::Foreign]);
    assert_eq!(scan(&[6, 7, 8, 9], 100), [Fault::Foreign]);
    // The last hash key was loaded half; nobody has inserted the rest.
    let cells: Vec<Found> = (12..15).map(|record| found(record, 0, 1)).collect();
    assert_eq!(history.check_scan(12, 100, &cells, span), []);
}

#[test]
fn a_state_lets_a_later_run_notice_what_was_lost_meanwhile() {
    let first = clock(Some(State::loaded(key())));
    assert_eq!(first.read(3, Some(2), 1, 2), Some(Fault::NeverWritten));
    first.write(7, 1_001, 1, 2);
    first.begin(8, 1_002, 3);
    first.end(8, 1_002, WriteEnd::Unknown, 4);
    first.write(LOADED, 1_003, 5, 6);
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("state.json");
    first.history.state(key()).write(&path).unwrap();

    let state = || State::read(&path, &key()).unwrap();
    let later = |state| Clock {
        history: History::new(layout(0, 1), LOADED, 2_000, Some(state)),
        start: Instant::now(),
    };
    let clock = later(state());
    assert_eq!(
        clock.read(7, Some(LOADED_VERSION), 1, 2),
        Some(Fault::Stale)
    );
    assert_eq!(clock.read(7, Some(1_001), 1, 2), None);
    assert_eq!(clock.read(7, Some(1_500), 1, 2), Some(Fault::NeverWritten));
    assert_eq!(clock.read(LOADED, None, 1, 2), Some(Fault::Lost));
    assert_eq!(clock.read(LOADED + 1, None, 1, 2), None);
    assert_eq!(clock.read(3, Some(LOADED_VERSION), 1, 2), None);
    // Of unknown outcome: the loaded version, or that one; once seen it stays.
    assert_eq!(clock.read(8, Some(LOADED_VERSION), 1, 2), None);
    assert_eq!(clock.read(8, Some(1_002), 3, 4), None);
    assert_eq!(
        clock.read(8, Some(LOADED_VERSION), 5, 6),
        Some(Fault::Stale)
    );

    // A run that did not come to its end may have written more, but older versions stay impossible.
    let clock = later(state().begun());
    assert_eq!(
        clock.read(7, Some(LOADED_VERSION), 1, 2),
        Some(Fault::Stale)
    );
    assert_eq!(clock.read(7, Some(1_500), 3, 4), None);
    assert_eq!(clock.read(7, Some(1_001), 5, 6), Some(Fault::Stale));
    assert_eq!(clock.read(7, Some(1_500), 7, 8), None);
}

#[test]
fn a_state_of_other_records_is_refused_by_name() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("state.json");
    State::loaded(key()).write(&path).unwrap();
    let other = StateKey {
        records: LOADED + 1,
        ..key()
    };
    let error = format!("{:#}", State::read(&path, &other).unwrap_err());
    assert!(
        error.contains("state.json") && error.contains("101 records"),
        "{error}"
    );
    std::fs::write(&path, "{}").unwrap();
    let error = format!("{:#}", State::read(&path, &key()).unwrap_err());
    assert!(error.contains("no verify state"), "{error}");
}
