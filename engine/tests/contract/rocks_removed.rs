//! Rows that are gone, removed or expired: how reads get past them, and how they leave the disk by themselves.

use crate::harness::{Rocks, Subject, partition, put, put_until, raw, remove};
use pegasus_engine::scan::{ScanPage, Stop};
use pegasus_engine::{Engine, ReadError, ScanSpec, Tier};
use std::ops::Bound;
use std::time::{Duration, Instant};

/// Rows that are written and removed again.
const REMOVED: u64 = 100_000;

fn everything() -> ScanSpec {
    ScanSpec::new(Bound::Unbounded, Bound::Unbounded, 0)
}

/// Puts and removes [`REMOVED`] rows, in batches, but for those whose number is a multiple of `kept`.
fn remove_many(rocks: &mut Rocks, kept: u64) {
    for first in (0..REMOVED).step_by(1000) {
        let names: Vec<String> = (first..first + 1000).map(|it| format!("{it:06}")).collect();
        let puts: Vec<_> = names.iter().map(|name| put("h", name, "x")).collect();
        rocks.apply(partition(0), &puts);
        let removes: Vec<_> = names
            .iter()
            .zip(first..)
            .filter(|(_, number)| number % kept != 0)
            .map(|(name, _)| remove("h", name))
            .collect();
        rocks.apply(partition(0), &removes);
    }
}

fn wait_until(what: &str, mut is_so: impl FnMut() -> bool) {
    let until = Instant::now() + Duration::from_secs(60);
    while !is_so() {
        assert!(Instant::now() < until, "{what}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn a_scan_over_many_removed_rows_rests_between_them_and_finds_all_that_are_left() {
    let mut rocks = Rocks::default();
    rocks.create(partition(0));
    remove_many(&mut rocks, 30_000);
    let store = rocks.store();
    let mut spec = everything();
    spec.may_rest_between_rows = true;
    let (mut found, mut rests) = (Vec::new(), 0);
    loop {
        let ScanPage {
            rows,
            examined,
            stop,
            ..
        } = store.scan(partition(0), &spec).unwrap();
        rests += u32::from(examined == 0 && stop != Stop::Exhausted);
        found.extend(rows.into_iter().map(|row| row.key));
        let Stop::Yield { after } = stop else {
            break;
        };
        spec = spec.after(after);
    }
    let expected = ["000000", "030000", "060000", "090000"].map(|name| raw("h", name));
    assert_eq!(found, expected);
    assert!(rests > 0, "it has never rested");
}

#[test]
fn on_the_core_nobody_passes_many_removed_rows() {
    let mut rocks = Rocks::default();
    rocks.create(partition(0));
    remove_many(&mut rocks, 50_000);
    let tier = Tier::CacheOnly;
    let partition = partition(0);
    let first = rocks.engine().scan(partition, &everything(), tier);
    assert_eq!(first, Err(ReadError::Incomplete { partition }));
    // Whoever may read the disk may take the time for it, if all is wanted at once.
    let all = rocks.store().scan(partition, &everything()).unwrap();
    assert_eq!((all.rows.len(), all.stop), (2, Stop::Exhausted));
}

#[test]
fn rows_that_expire_in_a_table_nobody_writes_to_leave_the_disk() {
    let mut rocks = Rocks::default();
    rocks.close();
    rocks.options.rewrite_period = Duration::from_secs(1);
    rocks.open();
    rocks.create(partition(0));
    for number in 0..100 {
        let name = format!("{number:03}");
        rocks.apply(partition(0), &[put_until("h", &name, "x", 100)]);
    }
    rocks.apply(partition(0), &[put("h", "stays", "x")]);
    rocks.flush(partition(0));
    let store = rocks.store();
    assert!(store.estimated_rows(partition(0)) > 100);
    rocks.set_now(100 + 60);
    // Only the row that stays, and the marker.
    wait_until("expired rows are still there", || {
        store.estimated_rows(partition(0)) <= 2
    });
    let left = store.scan(partition(0), &everything()).unwrap();
    assert_eq!(left.rows.len(), 1);
}

#[test]
fn files_full_of_removed_rows_are_compacted_by_themselves() {
    let mut rocks = Rocks::default();
    rocks.create(partition(0));
    remove_many(&mut rocks, 50_000);
    rocks.flush(partition(0));
    let store = rocks.store();
    // An iterator meets a mark for each row that was removed, until they are gone.
    let mut spec = everything();
    spec.may_rest_between_rows = true;
    spec.start = Bound::Included(raw("h", "000001"));
    spec.stop = Bound::Included(raw("h", "049999"));
    wait_until("removed rows are still there", || {
        store.scan(partition(0), &spec).unwrap().stop == Stop::Exhausted
    });
}
