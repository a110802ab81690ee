//! Statistics pages with anything in them: refused by a sentence, or everything that tools compute from them works.
//! Run by the tests and by the fuzz target `stats_page`.

use pegasus_fbs::stats_page::{
    Counter, Gauge, Histogram, PAGE_BYTES, PAGE_WORDS, Snapshot, Timing, Writer, read_at,
};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// An even first byte: the rest is the file. An odd one: the rest changes a good page, in groups of 11 bytes: place
/// (3 bytes, little-endian) and the word to be there (8 bytes).
pub(crate) fn run(input: &[u8]) {
    let Some((mode, rest)) = input.split_first() else {
        return;
    };
    let page = if mode & 1 == 0 {
        rest.to_vec()
    } else {
        changed(rest)
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
    let mut all = Histogram::default();
    for timing in Timing::ALL.iter().copied() {
        check(snapshot.histogram(timing));
        all.merge(snapshot.histogram(timing));
        all.merge(good.histogram(timing));
    }
    check(&all);
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
