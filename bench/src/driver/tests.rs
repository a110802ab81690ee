//! Whole runs against a server in this process.

#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
#![allow(
    clippy::cast_possible_truncation,
    reason = "ranks and rates of a test are small"
)]

use super::*;
use crate::arrival::Arrival;
use crate::histogram::Percentiles;
use crate::keys::Distribution;
use crate::layout::Layout;
use crate::null_server::{Memory, NullServer, Rows};
use crate::plan::{Rate, Shape, Verification};
use crate::target::{Description, Target};
use crate::verify::Fault;
use crate::worker::{Loading, Task};
use crate::workload::{Kind, Mix, Workload};
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::Ordering;

const RECORDS: u64 = 200;

const VALUES: Layout = Layout {
    records_per_hash_key: 1,
    fields: 0,
    value_bytes: 64,
};
const ROWS: Layout = Layout {
    records_per_hash_key: 1,
    fields: 4,
    value_bytes: 32,
};
const GROUPED_ROWS: Layout = Layout {
    records_per_hash_key: 50,
    ..ROWS
};

/// Rows that the test and the server have both.
#[derive(Clone, Default)]
struct Kept(Arc<Mutex<Memory>>);

impl Rows for Kept {
    fn row(&mut self, hash_key: &[u8], sort_key: &[u8]) -> Option<Cow<'_, [u8]>> {
        let mut rows = self.0.lock().unwrap();
        let value = rows.row(hash_key, sort_key)?.into_owned();
        Some(Cow::Owned(value))
    }

    fn put(&mut self, hash_key: &[u8], sort_key: &[u8], value: &[u8]) {
        self.0.lock().unwrap().put(hash_key, sort_key, value);
    }

    fn range(
        &mut self,
        hash_key: &[u8],
        start: &[u8],
        stop: &[u8],
        rows_max: usize,
        take: &mut dyn FnMut(&[u8], &[u8]),
    ) {
        let mut rows = self.0.lock().unwrap();
        rows.range(hash_key, start, stop, rows_max, take);
    }
}

/// Answers nothing for a second, once, after so many reads.
struct Pausing {
    rows: Memory,
    reads_left: Arc<AtomicU64>,
}

const ONE_WORKER: Shape = Shape {
    threads: 1,
    connections: 1,
    inflight: 1,
};
const PAUSE: Duration = Duration::from_secs(1);

impl Rows for Pausing {
    fn row(&mut self, hash_key: &[u8], sort_key: &[u8]) -> Option<Cow<'_, [u8]>> {
        if self.reads_left.fetch_sub(1, Ordering::Relaxed) == 1 {
            std::thread::sleep(PAUSE);
        }
        self.rows.row(hash_key, sort_key)
    }

    fn put(&mut self, hash_key: &[u8], sort_key: &[u8], value: &[u8]) {
        self.rows.put(hash_key, sort_key, value);
    }

    fn range(
        &mut self,
        hash_key: &[u8],
        start: &[u8],
        stop: &[u8],
        rows_max: usize,
        take: &mut dyn FnMut(&[u8], &[u8]),
    ) {
        self.rows.range(hash_key, start, stop, rows_max, take);
    }
}

fn server(rows: impl Rows + Send + 'static) -> NullServer {
    NullServer::start(rows, None).unwrap()
}

fn plan(server: &NullServer, work: Work, mix: Mix, layout: Layout) -> Plan {
    let shape = Shape {
        threads: 2,
        connections: 3,
        inflight: 4,
    };
    Plan {
        target: Target::Native {
            meta: vec![server.address.to_string()],
            table: "t".to_owned(),
        },
        description: Description::default(),
        shape,
        cpus: Vec::new(),
        work,
        rate: None,
        knee: None,
        task: Task {
            mix,
            layout,
            records: RECORDS,
            seed: 3,
            timeout: Duration::from_secs(60),
            version_base: 0,
            workers: shape.workers() as u64,
        },
        workload: None,
        distribution: mix.distribution,
        verification: Verification::default(),
        trace: None,
    }
}

fn loading(resume: bool) -> Work {
    Work::Load(Loading {
        give_up_after: Duration::ZERO,
        resume,
    })
}

fn load(server: &NullServer, layout: Layout) -> Finished {
    let finished = run(&plan(server, loading(false), Mix::LOAD, layout)).unwrap();
    assert_eq!(finished.load_failure, None);
    finished
}

fn verified(server: &NullServer, operations: u64, workload: Workload, layout: Layout) -> Plan {
    let mut plan = plan(
        server,
        Work::RunOperations(operations),
        workload.mix(),
        layout,
    );
    plan.verification.verify = true;
    plan
}

fn assert_true(outcome: &Outcome, what: &str) {
    let verify = outcome.verify.as_ref().unwrap();
    assert_eq!(verify.violations, 0, "{what}: {:?}", verify.examples);
    assert_eq!((verify.unread, outcome.errors_total), (0, 0), "{what}");
}

#[test]
fn an_honest_server_passes_with_every_mix_and_layout() {
    for layout in [VALUES, ROWS, GROUPED_ROWS] {
        let server = server(Memory::default());
        load(&server, layout);
        for workload in [
            Workload::A,
            Workload::B,
            Workload::C,
            Workload::D,
            Workload::E,
            Workload::F,
            Workload::Put,
        ] {
            if workload == Workload::E && layout.records_per_hash_key == 1 {
                continue;
            }
            let what = format!("{workload:?} {layout:?}");
            let outcome = run(&verified(&server, 3_000, workload, layout))
                .unwrap()
                .outcome;
            assert_true(&outcome, &what);
            assert_eq!((outcome.operations, outcome.misses), (3_000, 0), "{what}");
            let verify = outcome.verify.unwrap();
            assert_eq!(verify.swept > 0, workload != Workload::C, "{what}");
            assert!(verify.checked > 0, "{what}");
            assert_eq!(
                outcome.scanned_records > 0,
                workload == Workload::E,
                "{what}"
            );
        }
    }
}

#[test]
fn an_open_loop_with_overlapping_operations_on_few_records_is_true() {
    let server = server(Memory::default());
    load(&server, ROWS);
    let work = Work::RunFor {
        warm_up: Duration::ZERO,
        time: Duration::from_millis(300),
    };
    let mut plan = plan(&server, work, Workload::A.mix(), ROWS);
    plan.task.records = 3;
    plan.verification.verify = true;
    plan.rate = Some(Rate {
        per_second: 5_000.0,
        arrival: Arrival::Poisson,
    });
    let outcome = run(&plan).unwrap().outcome;
    assert_true(&outcome, "open loop");
    let offered = outcome.offered.unwrap();
    assert_eq!(offered.intended, outcome.operations + offered.never_sent);
    assert_eq!(offered.start_delay.count, outcome.operations);
}

#[test]
fn a_load_writes_every_record_exactly_once_and_resumes_with_what_is_missing() {
    let kept = Kept::default();
    let server = server(kept.clone());
    let loaded = load(&server, ROWS);
    assert_eq!(
        loaded.outcome.latencies[&Kind::Insert].percentiles.count,
        RECORDS
    );
    // One field of one record is not whole any more.
    let (hash_key, sort_key) = (ROWS.hash_key(7), ROWS.sort_key(7, 2));
    kept.0
        .lock()
        .unwrap()
        .put(hash_key.as_ref(), sort_key.as_ref(), b"cut");
    let resumed = run(&plan(&server, loading(true), Mix::LOAD, ROWS)).unwrap();
    assert_eq!(
        (resumed.skipped, resumed.outcome.operations),
        (RECORDS - 1, 1)
    );
    let outcome = run(&verified(&server, 1_000, Workload::C, ROWS))
        .unwrap()
        .outcome;
    assert_true(&outcome, "resumed");
}

#[test]
fn a_value_that_is_lost_between_two_runs_is_found_with_a_state_file() {
    let kept = Kept::default();
    let server = server(kept.clone());
    let dir = tempfile::tempdir().unwrap();
    let state = Some(dir.path().join("state.json"));
    let mut loading = plan(&server, loading(false), Mix::LOAD, VALUES);
    loading.verification.state = state.clone();
    run(&loading).unwrap();
    keep_loaded_state(&loading).unwrap();
    let mut writing = verified(&server, 2_000, Workload::Put, VALUES);
    writing.verification.state = state.clone();
    writing.distribution = Distribution::Uniform;
    assert_true(&run(&writing).unwrap().outcome, "first run");
    // All records were written since; one goes back to what was loaded.
    let (hash_key, sort_key) = (VALUES.hash_key(7), VALUES.sort_key(7, 0));
    let name = crate::layout::CellName {
        record: 7,
        field: 0,
    };
    let old = crate::value::value(name, crate::value::LOADED_VERSION, VALUES.value_bytes);
    kept.0
        .lock()
        .unwrap()
        .put(hash_key.as_ref(), sort_key.as_ref(), &old);
    let reading = |state| {
        let mut plan = verified(&server, 5_000, Workload::C, VALUES);
        plan.distribution = Distribution::Uniform;
        plan.verification.state = state;
        run(&plan).unwrap().outcome.verify.unwrap()
    };
    assert_eq!(reading(None).violations, 0, "nobody can know");
    let found = reading(state);
    assert!(found.violations > 0);
    assert!(
        found
            .examples
            .iter()
            .all(|it| (it.fault, it.record) == (Fault::Stale, 7))
    );
}

#[test]
fn a_run_for_a_time_ends_and_leaves_out_its_warm_up() {
    let server = server(Memory::default());
    load(&server, VALUES);
    let time = Duration::from_millis(50);
    let work = Work::RunFor {
        warm_up: time,
        time,
    };
    let outcome = run(&plan(&server, work, Workload::C.mix(), VALUES))
        .unwrap()
        .outcome;
    assert!(outcome.operations > 0 && outcome.elapsed_seconds >= 0.05);
    assert!(outcome.longest_gap_ms / 1_000.0 <= outcome.elapsed_seconds);
    assert_eq!(outcome.bench.threads.len(), 2);
    assert!(outcome.bench.cpu_us_per_operation > 0.0);
    let in_series: u64 = outcome
        .series
        .iter()
        .map(|interval| interval.operations)
        .sum();
    assert_eq!(in_series, outcome.operations);
}

#[test]
fn no_cluster_is_an_error_and_not_a_report() {
    let gone = server(Memory::default());
    let nowhere = plan(&gone, Work::RunOperations(1), Workload::C.mix(), VALUES);
    let address = gone.address.to_string();
    drop(gone);
    let error = format!("{:#}", run(&nowhere).unwrap_err());
    assert!(error.contains(&address), "{error}");
}

/// Percentiles in nanoseconds by sorting, each the smallest value that the share does not exceed.
fn sorted_percentile(sorted: &[u64], quantile: f64) -> u64 {
    let rank = (quantile * sorted.len() as f64).ceil() as usize;
    sorted[rank.clamp(1, sorted.len()) - 1]
}

fn assert_near(reported_us: f64, exact_ns: u64, what: &str) {
    let exact_us = exact_ns as f64 / 1_000.0;
    // Three significant digits, and a tenth of a microsecond by rounding.
    let allowed = exact_us / 1_000.0 + 0.1;
    assert!(
        (reported_us - exact_us).abs() <= allowed,
        "{what}: {reported_us} is not {exact_us}"
    );
}

#[test]
fn reported_percentiles_are_those_of_the_raw_trace() {
    let server = server(Memory::default());
    load(&server, ROWS);
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("trace.bin");
    let work = Work::RunFor {
        warm_up: Duration::from_millis(50),
        time: Duration::from_millis(500),
    };
    let mut plan = plan(&server, work, Workload::A.mix(), ROWS);
    plan.trace = Some(path.clone());
    plan.rate = Some(Rate {
        per_second: 8_000.0,
        arrival: Arrival::Poisson,
    });
    let outcome = run(&plan).unwrap().outcome;
    let bytes = std::fs::read(&path).unwrap();
    assert_eq!(&bytes[..8], b"PGTRACE1");
    let mut by_kind: BTreeMap<u8, Vec<u64>> = BTreeMap::new();
    for record in bytes[32..].chunks_exact(32) {
        let word = |at: usize| u64::from_le_bytes(record[at..at + 8].try_into().unwrap());
        assert!(record[25] == 0, "every operation is answered");
        by_kind
            .entry(record[24])
            .or_default()
            .push(word(16) - word(0));
    }
    assert_eq!(by_kind.len(), 2);
    for (kind, mut latencies) in by_kind {
        latencies.sort_unstable();
        let kind = Kind::ALL[usize::from(kind)];
        let shown: &Percentiles = &outcome.latencies[&kind].percentiles;
        assert_eq!(shown.count, latencies.len() as u64);
        for (quantile, reported) in [
            (0.5, shown.p50_us),
            (0.9, shown.p90_us),
            (0.99, shown.p99_us),
            (0.999, shown.p999_us),
            (0.9999, shown.p9999_us),
            (1.0, shown.max_us),
        ] {
            let exact = sorted_percentile(&latencies, quantile);
            assert_near(reported, exact, &format!("{kind:?} {quantile}"));
        }
        let mean = latencies.iter().sum::<u64>() / latencies.len() as u64;
        assert_near(shown.mean_us, mean, "mean");
    }
}

/// One worker, reads only; the server pauses once after `reads` of them.
fn paused(reads: u64, work: Work, rate: Option<Rate>) -> Outcome {
    let reads_left = Arc::new(AtomicU64::new(u64::MAX));
    let server = server(Pausing {
        rows: Memory::default(),
        reads_left: Arc::clone(&reads_left),
    });
    load(&server, VALUES);
    reads_left.store(reads, Ordering::Relaxed);
    let mut plan = plan(&server, work, Workload::C.mix(), VALUES);
    plan.rate = rate;
    plan.shape = ONE_WORKER;
    plan.task.workers = 1;
    run(&plan).unwrap().outcome
}

#[test]
fn an_open_loop_shows_a_pause_that_a_closed_loop_hides() {
    const OPERATIONS: u64 = 20_000;
    const LONG_US: f64 = 500_000.0;
    let closed = paused(OPERATIONS / 2, Work::RunOperations(OPERATIONS), None);
    let read = &closed.latencies[&Kind::Read].percentiles;
    assert_eq!(read.count, OPERATIONS);
    assert!(read.max_us >= 1e6, "the pause happened: {read:?}");
    assert!(closed.longest_gap_ms >= 1_000.0);
    // One operation of 20,000 saw it.
    assert!(read.p999_us < LONG_US, "{read:?}");

    // Half of what the server did, pause included.
    let rate = (closed.operations_per_second / 2.0).min(2_000.0);
    let work = Work::RunFor {
        warm_up: Duration::ZERO,
        time: Duration::from_secs(3),
    };
    let before_pause = (rate / 2.0) as u64;
    let open = paused(
        before_pause,
        work,
        Some(Rate {
            per_second: rate,
            arrival: Arrival::Constant,
        }),
    );
    let read = &open.latencies[&Kind::Read].percentiles;
    // All operations of the first half of the pause, a sixth of the run, waited that long.
    assert!(
        read.p999_us >= LONG_US && read.p99_us >= LONG_US,
        "{read:?}"
    );
    assert_eq!(open.offered.unwrap().never_sent, 0);
}

#[test]
fn operations_whose_deadline_passes_before_a_worker_is_free_are_counted_and_not_sent() {
    // A worker that gave up learns of it a moment late, and twenty operations become too old in each millisecond.
    let rate = Rate {
        per_second: 20_000.0,
        arrival: Arrival::Constant,
    };
    let reads_left = Arc::new(AtomicU64::new(u64::MAX));
    let server = server(Pausing {
        rows: Memory::default(),
        reads_left: Arc::clone(&reads_left),
    });
    load(&server, VALUES);
    reads_left.store(100, Ordering::Relaxed);
    let work = Work::RunFor {
        warm_up: Duration::ZERO,
        time: Duration::from_millis(1_500),
    };
    let mut plan = plan(&server, work, Workload::C.mix(), VALUES);
    plan.rate = Some(rate);
    plan.task.timeout = Duration::from_millis(100);
    plan.shape = ONE_WORKER;
    plan.task.workers = 1;
    let outcome = run(&plan).unwrap().outcome;
    let offered = outcome.offered.as_ref().unwrap();
    assert!(
        offered.never_sent > 0 && outcome.errors_total > 0,
        "{offered:?}"
    );
    let sent = outcome.operations + outcome.errors_total;
    assert_eq!(offered.intended, sent + offered.never_sent);
    assert_eq!(offered.intended, 30_000);
    assert!(outcome.errors.iter().all(|error| error.kind == Kind::Read));
    assert!(
        outcome
            .warnings
            .iter()
            .any(|it| it.contains("started late")),
        "{:?}",
        outcome.warnings
    );
}
