use super::*;
use std::cell::Cell;
use std::collections::BTreeMap;

/// Removed rows that one look may pass.
const SKIPPED_MAX: usize = 50;

/// Keys in order, and whether each is a row or was one.
struct Fake {
    keys: BTreeMap<Bytes, bool>,
    looked_at: Cell<usize>,
}

impl Fake {
    fn new(keys: impl Iterator<Item = (String, bool)>) -> Self {
        let keys = keys
            .map(|(sort_key, is_row)| (key::encode(b"hash", sort_key.as_bytes()).unwrap(), is_row))
            .collect();
        Self {
            keys,
            looked_at: Cell::new(0),
        }
    }

    fn attempt(&self, spec: &ScanSpec) -> Result<Attempt, ReadError> {
        let mut skipped = 0;
        for (key, is_row) in self.keys.range((spec.start.clone(), spec.stop.clone())) {
            self.looked_at.set(self.looked_at.get() + 1);
            if *is_row {
                return Ok(Attempt::Page(ScanPage {
                    count: 1,
                    examined: 1,
                    stop: Stop::Yield { after: key.clone() },
                    ..ScanPage::empty()
                }));
            }
            skipped += 1;
            if skipped > SKIPPED_MAX && may_rest(spec) {
                return Ok(Attempt::CutOff);
            }
        }
        Ok(Attempt::Page(ScanPage::empty()))
    }

    /// Rows that a scan finds, and its pages.
    fn scan(&self, mut spec: ScanSpec) -> (usize, usize) {
        let (mut rows, mut pages) = (0, 0);
        loop {
            let page = scan(&spec, |part| self.attempt(part)).unwrap();
            rows += page.count;
            pages += 1;
            let Stop::Yield { after } = page.stop else {
                return (rows, pages);
            };
            key::decode(&after).expect("a client may name it");
            spec = spec.after(after);
            assert!(pages < 100_000, "it does not get on");
        }
    }
}

fn everything() -> ScanSpec {
    let mut spec = ScanSpec::new(Bound::Unbounded, Bound::Unbounded, 0);
    spec.may_rest_between_rows = true;
    spec
}

#[test]
fn rows_among_many_removed_ones_are_all_found_in_bounded_steps() {
    for digits in [1, 6, 12] {
        let name = |number: usize| format!("{number:0digits$}");
        let is_row = |number: usize| number % 7001 == 13;
        let fake = Fake::new((0..100_000).map(|number| (name(number), is_row(number))));
        let expected = (0..100_000).filter(|number| is_row(*number)).count();
        let (rows, pages) = fake.scan(everything());
        assert_eq!(rows, expected);
        // Each look is bounded; and together they look at little more than there is.
        assert!(pages < 20_000, "{pages} pages of keys of {digits} digits");
        assert!(fake.looked_at.get() < 3_000_000, "{}", fake.looked_at.get());
    }
}

#[test]
fn nothing_but_removed_rows_comes_to_an_end() {
    let fake = Fake::new((0..10_000).map(|number| (format!("{number:x}"), false)));
    assert_eq!(fake.scan(everything()).0, 0);
    let mut spec = everything();
    spec.start = Bound::Excluded(key::encode(b"hash", b"2").unwrap());
    spec.stop = Bound::Excluded(key::encode(b"hash", b"7").unwrap());
    assert_eq!(fake.scan(spec).0, 0);
}

#[test]
fn rows_behind_removed_ones_that_lie_within_each_other_are_found() {
    // No prefix tells these apart: whatever all but a few have in common, the others have too.
    let zeros = (1..1000).map(|count| ("\0".repeat(count), false));
    let fake = Fake::new(zeros.chain([("1".to_owned(), true), ("2".to_owned(), true)]));
    assert_eq!(fake.scan(everything()).0, 2);
}

#[test]
fn the_bounds_of_a_scan_are_kept() {
    let fake = Fake::new((0..5000).map(|number| (format!("{number:04}"), number % 500 == 0)));
    let raw = |text: &[u8]| key::encode(b"hash", text).unwrap();
    let mut spec = everything();
    spec.start = Bound::Excluded(raw(b"0500"));
    spec.stop = Bound::Included(raw(b"4000"));
    assert_eq!(fake.scan(spec.clone()).0, 7);
    spec.start = Bound::Included(raw(b"0500"));
    spec.stop = Bound::Excluded(raw(b"4000"));
    assert_eq!(fake.scan(spec).0, 7);
}

#[test]
fn ends_of_pieces_are_keys_that_clients_may_name() {
    for bytes in [
        &b""[..],
        b"\x00",
        b"\x00\x05",
        b"\x00\x05ab",
        b"\x01",
        b"\x00\x01abc",
    ] {
        let padded = well_formed(Bytes::copy_from_slice(bytes));
        assert!(padded.starts_with(bytes));
        key::decode(&padded).unwrap();
    }
}
