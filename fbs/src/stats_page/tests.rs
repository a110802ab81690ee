use super::*;
use std::fs::{File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

struct Page(Vec<AtomicU64>);

impl AsRef<[AtomicU64]> for Page {
    fn as_ref(&self) -> &[AtomicU64] {
        &self.0
    }
}

fn writer() -> Writer<Page> {
    Writer::new(
        Page((0..PAGE_WORDS).map(|_| AtomicU64::new(7)).collect()),
        3,
        1,
        4242,
        1_000_000,
    )
}

/// A file of its own for each test, removed at the end.
struct TestFile(PathBuf);

impl TestFile {
    fn new(name: &str) -> Self {
        let path =
            std::env::temp_dir().join(format!("pegasus-stats-{}-{name}", std::process::id()));
        File::create(&path)
            .unwrap()
            .set_len(PAGE_BYTES as u64)
            .unwrap();
        Self(path)
    }

    fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for TestFile {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

fn save(writer: &Writer<Page>, path: &Path) {
    let bytes: Vec<u8> = writer
        .page
        .0
        .iter()
        .flat_map(|word| word.load(Ordering::Relaxed).to_ne_bytes())
        .collect();
    std::fs::write(path, bytes).unwrap();
}

fn of_page(page: &[AtomicU64]) -> Snapshot {
    Snapshot::of_words(&copy_of(page)).unwrap()
}

fn refusal(path: &Path) -> PageError {
    match read_at(path) {
        Err(ReadError::Page { source, .. }) => source,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_page_reads_back_what_was_published() {
    let file = TestFile::new("reads-back");
    let mut writer = writer();
    writer.add(Counter::RequestGet, 5);
    writer.set(Gauge::Primaries, 2);
    writer.record(Timing::Get, Duration::from_micros(80));
    writer.publish(3_000_000);
    save(&writer, file.path());
    let snapshot = read_at(file.path()).unwrap();
    assert_eq!(
        snapshot.identity(),
        Identity {
            node: 3,
            core: 1,
            pid: 4242,
            started_unix_us: 1_000_000
        }
    );
    assert_eq!(snapshot.published_unix_us(), 3_000_000);
    assert_eq!(
        (
            snapshot.counter(Counter::RequestGet),
            snapshot.gauge(Gauge::Primaries)
        ),
        (5, 2)
    );
    assert_eq!(snapshot.histogram(Timing::Get).count(), 1);
    assert!(!snapshot.is_torn());
    assert_eq!(snapshot, writer.snapshot());
}

#[test]
fn a_page_tells_a_stop_from_a_crash() {
    let page: Arc<[AtomicU64]> = (0..PAGE_WORDS).map(|_| AtomicU64::new(0)).collect();
    let mut writer = Writer::new(Arc::clone(&page), 1, 0, 7, 1_000_000);
    writer.add(Counter::Sleeps, 3);
    writer.publish(2_000_000);
    assert!(!of_page(&page).is_stopped());
    writer.stop(3_000_000);
    let last = of_page(&page);
    assert_eq!(
        (last.is_stopped(), last.published_unix_us()),
        (true, 3_000_000)
    );
    let _next_life = Writer::new(Arc::clone(&page), 1, 0, 8, 9_000_000);
    assert!(!of_page(&page).is_stopped());
}

#[test]
fn counters_are_invisible_until_they_are_published() {
    let mut writer = writer();
    writer.add(Counter::LogWrites, 1);
    assert_eq!(writer.snapshot().counter(Counter::LogWrites), 0);
    writer.publish(2_000_000);
    assert_eq!(writer.snapshot().counter(Counter::LogWrites), 1);
}

#[test]
fn two_snapshots_give_rates_and_percentiles_of_the_interval() {
    let mut writer = writer();
    writer.add(Counter::RequestPut, 100);
    writer.record(Timing::Put, Duration::from_millis(90));
    writer.publish(2_000_000);
    let earlier = writer.snapshot();
    writer.add(Counter::RequestPut, 500);
    writer.record(Timing::Put, Duration::from_micros(100));
    writer.publish(4_000_000);
    let interval = writer.snapshot().since(&earlier);
    assert_eq!(interval.elapsed(), Duration::from_secs(2));
    assert!((interval.rate(Counter::RequestPut) - 250.0).abs() < 1e-9);
    assert_eq!(interval.sum(Counter::requests()), 500);
    assert!(interval.histogram(Timing::Put).quantile(1.0).unwrap() < Duration::from_micros(102));
}

#[test]
fn a_restarted_core_counts_from_its_start() {
    let mut old = writer();
    old.add(Counter::Sleeps, 1_000);
    old.publish(2_000_000);
    let earlier = old.snapshot();
    let mut new = Writer::new(old.page, 3, 1, 4343, 9_000_000);
    new.add(Counter::Sleeps, 10);
    new.publish(10_000_000);
    let interval = new.snapshot().since(&earlier);
    assert_eq!(
        (interval.count(Counter::Sleeps), interval.elapsed()),
        (10, Duration::from_secs(1))
    );
}

#[test]
fn other_files_are_refused_by_name() {
    let file = TestFile::new("refused");
    assert_eq!(refusal(file.path()), PageError::NotAPage, "all zero");
    std::fs::write(file.path(), b"short").unwrap();
    assert_eq!(refusal(file.path()), PageError::NotAPage, "short");
    save(&writer(), file.path());
    let handle = OpenOptions::new().write(true).open(file.path()).unwrap();
    for word in [5, 6, 10, 12, 13] {
        save(&writer(), file.path());
        handle
            .write_all_at(&99_u64.to_le_bytes(), word * 8)
            .unwrap();
        assert_eq!(refusal(file.path()), PageError::Shape, "word {word}");
    }
    handle.write_all_at(&2_u64.to_le_bytes(), 8).unwrap();
    let older = read_at(file.path()).unwrap_err();
    assert_eq!(refusal(file.path()), PageError::Version { found: 2 });
    let sentence = older.to_string();
    assert!(
        sentence.contains("format 2, this program reads 7"),
        "{sentence}"
    );
    assert!(
        sentence.contains(file.path().to_str().unwrap()),
        "{sentence}"
    );
    let missing = Path::new("/nonexistent/page");
    assert!(
        read_at(missing)
            .unwrap_err()
            .to_string()
            .contains("/nonexistent/page")
    );
}

#[test]
fn a_page_torn_by_a_crash_is_read_and_says_so() {
    let file = TestFile::new("torn");
    let writer = writer();
    store(&writer.page.0[SEQUENCE_AT], 1);
    save(&writer, file.path());
    assert!(read_at(file.path()).unwrap().is_torn());
}

/// The file is written the way a mapping changes it: word by word, by one thread, while another one reads.
#[test]
fn readers_beside_a_writer_see_one_moment() {
    let file = TestFile::new("concurrent");
    save(&writer(), file.path());
    let handle = OpenOptions::new().write(true).open(file.path()).unwrap();
    let stop = Arc::new(AtomicBool::new(false));
    let stopped = Arc::clone(&stop);
    let writing = std::thread::spawn(move || {
        let mut publications = 0_u64;
        while !stopped.load(Ordering::Relaxed) {
            publications += 1;
            let put = |index: usize, value: u64| {
                handle
                    .write_all_at(&value.to_le_bytes(), index as u64 * 8)
                    .unwrap()
            };
            put(SEQUENCE_AT, publications * 2 - 1);
            put(COUNTERS_AT + Counter::RequestGet as usize, publications);
            put(COUNTERS_AT + Counter::Sleeps as usize, publications);
            put(SEQUENCE_AT, publications * 2);
            // A real writer publishes every few milliseconds; this leaves readers a gap without a sleep.
            (0..200).for_each(|_| std::thread::yield_now());
        }
    });
    let mut last = 0;
    for _ in 0..200 {
        let snapshot = read_at(file.path()).unwrap();
        let (first, second) = (
            snapshot.counter(Counter::RequestGet),
            snapshot.counter(Counter::Sleeps),
        );
        assert!(
            snapshot.is_torn() || first == second,
            "{first} and {second} are of two moments"
        );
        assert!(first >= last, "counters went back");
        last = first;
    }
    stop.store(true, Ordering::Relaxed);
    writing.join().unwrap();
}

#[test]
fn names_are_unique() {
    let names =
        |all: Vec<&str>| all.len() == all.iter().collect::<std::collections::HashSet<_>>().len();
    assert!(names(
        Counter::ALL.iter().map(|counter| counter.name()).collect()
    ));
    assert!(names(Gauge::ALL.iter().map(|gauge| gauge.name()).collect()));
    assert!(names(
        Timing::ALL.iter().map(|timing| timing.name()).collect()
    ));
    assert!(names(Stage::ALL.iter().map(|stage| stage.name()).collect()));
    for class in Class::ALL {
        for (stage, timing) in class.stages() {
            assert_eq!(timing.name(), format!("{}_{}", class.name(), stage.name()));
        }
    }
}
