use super::super::{PAGE_WORDS, SEQUENCE_AT, SLOW_AT, Snapshot, Writer, copy_of, read_at, store};
use super::*;
use proptest::prelude::*;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

type Page = Arc<[AtomicU64]>;

const START_US: u64 = 1_000 * MINUTE_US;

fn page() -> (Page, Writer<Page>) {
    let page: Page = (0..PAGE_WORDS).map(|_| AtomicU64::new(0)).collect();
    let writer = Writer::new(Arc::clone(&page), 1, 0, 7, START_US);
    (page, writer)
}

/// A get that took so long, all of it in the engine.
fn request(total_ns: u64) -> RequestTimes {
    let mut stages = [0; Stage::COUNT];
    stages[Stage::Read as usize] = total_ns;
    RequestTimes {
        operation: Timing::Get,
        code: Code::NotFound,
        table: 3,
        partition: 5,
        bytes: 6,
        key_hash: 0,
        stages,
    }
}

fn totals(page: &[AtomicU64]) -> Vec<u64> {
    let snapshot = Snapshot::of_words(&copy_of(page)).unwrap();
    let slow = snapshot.slow_requests().iter();
    slow.map(|slow| slow.request.total_ns()).collect()
}

#[test]
fn a_slow_request_reads_back_whole() {
    let (_page, mut writer) = page();
    let mut stages = [0; Stage::COUNT];
    for (stage, ns) in stages.iter_mut().zip(1_000..) {
        *stage = ns;
    }
    stages[Stage::Read as usize] = 0;
    let put = RequestTimes {
        operation: Timing::Put,
        code: Code::Unknown,
        table: u32::MAX,
        partition: 65_535,
        bytes: u64::MAX,
        key_hash: 0,
        stages,
    };
    writer.record_request(&put, || START_US + 5);
    writer.record_request(&put, || START_US + 6);
    writer.record_request(&request(9), || START_US + 7);
    let snapshot = writer.snapshot();
    let slow = SlowRequest {
        answered_unix_us: START_US + 5,
        request: put,
    };
    let again = SlowRequest {
        answered_unix_us: START_US + 6,
        ..slow
    };
    assert_eq!(snapshot.slow_requests()[..2], [slow, again]);
    assert_eq!(put.class(), Class::Write);
    assert_eq!(put.stage(Stage::Flush), Duration::from_nanos(1_004));
    let stages = Class::Write.stages();
    let sum: Duration = stages
        .map(|(_, timing)| snapshot.histogram(timing).sum())
        .sum();
    assert_eq!(sum, 2 * put.total());
    assert_eq!(snapshot.histogram(Timing::Put).sum(), 2 * put.total());
    assert_eq!(snapshot.histogram(Timing::WriteFlush).count(), 2);
    assert_eq!(snapshot.histogram(Timing::ReadGate).count(), 1);
}

#[test]
fn one_request_stands_for_others_in_the_buckets_and_not_in_the_sums() {
    let (_page, mut writer) = page();
    let (mut sample, mut sums) = ([0; Stage::COUNT], [0; Stage::COUNT]);
    sample[Stage::Read as usize] = 160;
    sums[Stage::Read as usize] = 1_000;
    sums[Stage::Gate as usize] = 7;
    writer.record_stages(Class::Read, &sample, &sums, 5);
    let snapshot = writer.snapshot();
    for (_, timing) in Class::Read.stages() {
        assert_eq!(snapshot.histogram(timing).count(), 5, "{timing:?}");
    }
    let read = snapshot.histogram(Timing::ReadRead);
    assert_eq!(read.sum(), Duration::from_nanos(1_000));
    assert_eq!(read.max(), Some(Duration::from_nanos(160)));
    assert_eq!(read.quantile(0.0), read.max());
    let gate = snapshot.histogram(Timing::ReadGate);
    assert_eq!(gate.sum(), Duration::from_nanos(7));
    assert_eq!(gate.max(), Some(Duration::ZERO));
    assert_eq!(snapshot.histogram(Timing::WriteGate).count(), 0);
}

#[test]
fn a_key_is_recognized_within_one_life_and_cannot_be_tried_out() {
    let (_page, mut writer) = page();
    let of_key = |key_hash, total| RequestTimes {
        key_hash,
        ..request(total)
    };
    for (key_hash, total) in [(0, 1), (77, 2), (77, 3), (78, 4)] {
        writer.record_request(&of_key(key_hash, total), || 0);
    }
    let hashes = |writer: &Writer<Page>| -> Vec<u64> {
        let snapshot = writer.snapshot();
        let slow = snapshot.slow_requests().iter();
        slow.map(|slow| slow.request.key_hash).collect()
    };
    let [other, one, same, none] = hashes(&writer)[..] else {
        panic!("four requests")
    };
    assert_eq!((one, none), (same, 0));
    assert_ne!(one, other);
    assert_ne!(one, 77);
    let (_page, mut next_life) = page();
    next_life.record_request(&of_key(77, 1), || 0);
    assert_ne!(hashes(&next_life), [one], "another secret");
}

#[test]
fn an_outlier_goes_after_minutes_and_is_not_forgotten_at_once() {
    let (page, mut writer) = page();
    writer.record_request(&request(9_000_000), || START_US);
    let mut now = START_US;
    for minute in 1..=MINUTES_KEPT {
        assert_eq!(totals(&page).first(), Some(&9_000_000), "minute {minute}");
        // Many quicker ones do not push it out, nor does the end of its minute.
        for total in 0..1_000 {
            writer.record_request(&request(total), || now);
        }
        now += MINUTE_US;
        writer.publish(now);
    }
    assert_eq!(totals(&page).len(), SLOW_SLOTS - SLOW_PER_MINUTE);
    assert_eq!(totals(&page).first(), Some(&999), "the outlier is gone");
    writer.publish(now + 100 * MINUTE_US);
    assert_eq!(totals(&page), [], "an idle core forgets them all");
}

#[test]
fn a_clock_that_is_set_back_begins_a_minute() {
    let (page, mut writer) = page();
    writer.record_request(&request(5), || START_US);
    writer.publish(START_US - MINUTE_US);
    writer.record_request(&request(1), || START_US - MINUTE_US);
    assert_eq!(totals(&page), [5, 1]);
    writer.publish(START_US - MINUTE_US + 1);
    assert_eq!(totals(&page), [5, 1], "one minute only");
}

#[test]
fn a_slot_that_was_never_finished_is_left_out() {
    let (page, mut writer) = page();
    for total in 1..=3 {
        writer.record_request(&request(total), || START_US);
    }
    let slot = SLOW_AT + SLOW_WORDS;
    let odd = super::super::load(&page[slot]) - 1;
    store(&page[slot], odd);
    assert_eq!(totals(&page), [3, 1]);
}

#[test]
fn numbers_that_mean_nothing_are_left_out() {
    let (page, mut writer) = page();
    writer.record_request(&request(1), || START_US);
    let damages: [(usize, u64); 4] = [
        (2, u64::from(Timing::WriteFlush as u16)),
        (2, u64::from(u16::MAX)),
        (2, 999 << 16),
        (3, 1 << 32),
    ];
    for (word, value) in damages {
        let place = &page[SLOW_AT + word];
        let good = super::super::load(place);
        store(place, value);
        assert_eq!(totals(&page), [], "word {word}: {value}");
        store(place, good);
    }
    assert_eq!(totals(&page), [1]);
}

/// Every record names one number in all its fields: a mixture of two would not.
#[test]
fn readers_beside_a_writer_see_whole_records_only() {
    let (page, mut writer) = page();
    let stop = Arc::new(AtomicBool::new(false));
    let stopped = Arc::clone(&stop);
    let writing = std::thread::spawn(move || {
        let mut number = 0_u32;
        while !stopped.load(Ordering::Relaxed) {
            number = number.wrapping_add(1);
            let mut request = request(u64::from(number));
            request.table = number;
            request.partition = number;
            request.bytes = number.into();
            writer.record_request(&request, || number.into());
        }
    });
    let mut seen = 0;
    while seen < 1_000 {
        for slow in Snapshot::of_words(&copy_of(&page)).unwrap().slow_requests() {
            let number = slow.answered_unix_us;
            let SlowRequest { request, .. } = slow;
            let fields = [
                request.table.into(),
                request.partition.into(),
                request.bytes,
                request.total_ns(),
            ];
            assert_eq!(fields, [number; 4]);
            seen += 1;
        }
    }
    stop.store(true, Ordering::Relaxed);
    writing.join().unwrap();
}

#[test]
fn a_page_whose_process_died_while_it_wrote_is_read_from_its_file() {
    let (page, mut writer) = page();
    writer.record_request(&request(1), || START_US);
    writer.record_request(&request(2), || START_US);
    store(&page[SLOW_AT], 5);
    store(&page[SEQUENCE_AT], 1);
    let path = std::env::temp_dir().join(format!("pegasus-slow-{}", std::process::id()));
    let bytes = page
        .iter()
        .flat_map(|word| super::super::load(word).to_le_bytes());
    std::fs::write(&path, bytes.collect::<Vec<u8>>()).unwrap();
    let snapshot = read_at(&path).unwrap();
    std::fs::remove_file(&path).unwrap();
    assert!(snapshot.is_torn());
    let slow = snapshot.slow_requests();
    assert_eq!(
        slow.iter()
            .map(|slow| slow.request.total_ns())
            .collect::<Vec<_>>(),
        [2]
    );
}

proptest! {
    #[test]
    fn a_minute_keeps_its_slowest(all in proptest::collection::vec(0_u64..1_000, 0..200)) {
        let (page, mut writer) = page();
        for total in &all {
            writer.record_request(&request(*total), || START_US);
        }
        // What took no time at all is not slow.
        let mut slowest: Vec<u64> = all.into_iter().filter(|total| *total > 0).collect();
        slowest.sort_unstable_by(|one, other| other.cmp(one));
        slowest.truncate(SLOW_PER_MINUTE);
        prop_assert_eq!(totals(&page), slowest);
    }
}
