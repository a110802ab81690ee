//! Statistics pages with anything in them: refused by a sentence, or everything that tools compute from them works.
//! Run by the tests and by the fuzz target `stats_page`.

use pegasus_fbs::code::Code;
use pegasus_fbs::stats_page::{
    Counter, Gauge, Histogram, PAGE_BYTES, PAGE_WORDS, PARTITIONS_MAX, PartitionCounter,
    PartitionGauge, RequestTimes, Role, SLOW_SLOTS, SlowRequest, Snapshot, Stage, Timing, Writer,
    compact, expand, read_at,
};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// The two low bits of the first byte: 0 = the rest is the file; 1 = the rest changes a good page, in groups of 11 bytes:
/// place (3 bytes, little-endian) and the word to be there (8 bytes); 2 = the rest is what came over the wire; 3 = that,
/// behind a good page's.
pub(crate) fn run(input: &[u8]) {
    let Some((mode, rest)) = input.split_first() else {
        return;
    };
    let page = match mode & 3 {
        0 => rest.to_vec(),
        1 => changed(rest),
        2 => return received(words_of(rest)),
        _ => {
            let good = words_of(&good_page());
            let mut words = compact(&good);
            words.extend(words_of(rest));
            return received(words);
        }
    };
    let file = TemporaryFile::new(&page);
    match read_at(&file.path) {
        Ok(snapshot) => {
            assert!(page.len() >= PAGE_BYTES);
            compute(&snapshot);
        }
        Err(error) => assert!(error.to_string().contains("statistics page"), "{error}"),
    }
}

/// A page in an answer of a core.
fn received(words: Vec<u64>) {
    match expand(&words).and_then(|words| Snapshot::of_words(&words)) {
        Ok(snapshot) => compute(&snapshot),
        Err(error) => assert!(error.to_string().contains("statistics page"), "{error}"),
    }
}

fn words_of(bytes: &[u8]) -> Vec<u64> {
    let (chunks, _) = bytes.as_chunks();
    chunks
        .iter()
        .map(|chunk| u64::from_le_bytes(*chunk))
        .collect()
}

fn changed(edits: &[u8]) -> Vec<u8> {
    let mut page = good_page();
    for edit in edits.chunks_exact(11) {
        let place = usize::from(edit[0]) | usize::from(edit[1]) << 8 | usize::from(edit[2]) << 16;
        let start = place % PAGE_WORDS * 8;
        page[start..start + 8].copy_from_slice(&edit[3..]);
    }
    page
}

fn good_page() -> Vec<u8> {
    let words: Vec<AtomicU64> = (0..PAGE_WORDS).map(|_| AtomicU64::new(0)).collect();
    let mut writer = Writer::new(&words[..], 1, 2, 3, 4);
    for counter in Counter::ALL.iter().copied() {
        writer.add(counter, 7);
    }
    writer.record(Timing::ALL[0], Duration::from_micros(30));
    for operation in Timing::operations() {
        let request = RequestTimes {
            operation: *operation,
            code: Code::Ok,
            table: 1,
            partition: 2,
            bytes: 3,
            key_hash: 4,
            stages: [0; Stage::COUNT],
        };
        let mut slow = request;
        slow.stages[Stage::Queue as usize] = 1_000;
        writer.record_request(&slow, || 7);
    }
    for partition in 0..2 {
        let slot = writer.take_partition(1, partition);
        writer.add_of(slot, PartitionCounter::Get, 5);
        writer.set_of(slot, PartitionGauge::Role, Role::Primary as u64);
    }
    writer.publish(5);
    let bytes = words
        .iter()
        .flat_map(|word| word.load(Ordering::Relaxed).to_ne_bytes());
    bytes.collect()
}

/// What the CLI and the exporters do with a page.
fn compute(snapshot: &Snapshot) {
    let file = TemporaryFile::new(&good_page());
    let good = read_at(&file.path).expect("a page that was just written");
    for earlier in [snapshot, &good] {
        let interval = snapshot.since(earlier);
        assert!(interval.elapsed() <= Duration::from_micros(u64::MAX));
        assert!(interval.rate_of(Counter::ALL).is_finite());
        assert!(interval.sum(Counter::ALL) >= interval.count(Counter::ALL[0]));
        for gauge in Gauge::ALL.iter().copied() {
            assert_eq!(interval.gauge(gauge), snapshot.gauge(gauge));
        }
        for timing in Timing::ALL.iter().copied() {
            check(interval.histogram(timing));
        }
    }
    check_partitions(snapshot, &good);
    let slow = snapshot.slow_requests();
    assert!(slow.len() <= SLOW_SLOTS);
    assert!(slow.is_sorted_by_key(|slow| std::cmp::Reverse(slow.request.total())));
    for SlowRequest { request, .. } in slow {
        assert!(Timing::operations().contains(&request.operation));
        for (stage, _) in request.class().stages() {
            assert!(request.stage(stage) <= request.total());
        }
    }
    let mut all = Histogram::default();
    for timing in Timing::ALL.iter().copied() {
        check(snapshot.histogram(timing));
        all.merge(snapshot.histogram(timing));
        all.merge(good.histogram(timing));
    }
    check(&all);
}

fn check_partitions(snapshot: &Snapshot, good: &Snapshot) {
    assert!(snapshot.partitions().len() <= PARTITIONS_MAX);
    assert!(
        snapshot
            .partitions()
            .is_sorted_by_key(|it| (it.table, it.partition))
    );
    for earlier in [snapshot, good] {
        for it in snapshot.since(earlier).partitions() {
            assert!(it.requests() >= it.reads().max(it.writes()));
            assert!(!it.role().name().is_empty());
        }
    }
}

fn check(histogram: &Histogram) {
    let median = histogram.quantile(0.5);
    assert_eq!(median.is_some(), histogram.count() > 0);
    assert!(median <= histogram.quantile(0.99) && histogram.quantile(1.0) <= histogram.max());
    assert_eq!(histogram.mean().is_some(), median.is_some());
}

/// A file of its own for each run.
struct TemporaryFile {
    path: PathBuf,
}

impl TemporaryFile {
    fn new(content: &[u8]) -> Self {
        static NUMBER: AtomicU64 = AtomicU64::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let name = format!("pegasus-page-{}-{number}", std::process::id());
        let path = std::env::temp_dir().join(name);
        std::fs::write(&path, content).expect("a temporary file");
        Self { path }
    }
}

impl Drop for TemporaryFile {
    fn drop(&mut self) {
        _ = std::fs::remove_file(&self.path);
    }
}
