//! What a run says: one structure, as JSON for machines and as text for people. It holds what was measured and the
//! setup it was measured with, nothing derived from elsewhere.

mod file;
mod machine;
mod text;

pub(crate) use file::{publish, read_json};
pub(crate) use machine::Machine;
pub(crate) use text::floor_text;

use crate::driver::{Outcome, Plan, Work};
use crate::floor::{Floor, Validity};
use crate::histogram::Percentiles;
use crate::keys::Distribution;
use crate::record::ErrorCount;
use crate::verify::Violation;
use crate::workload::{Kind, Workload};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Fields are only ever added; anything else makes it `/2`.
pub(crate) const SCHEMA: &str = "pegasus-bench/1";

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Report {
    pub(crate) schema: String,
    pub(crate) setup: Setup,
    pub(crate) elapsed_seconds: f64,
    /// Operations that succeeded; a missing row is a successful get of nothing, counted in `misses` too.
    pub(crate) operations: u64,
    pub(crate) operations_per_second: f64,
    pub(crate) misses: u64,
    /// Rows that range reads returned.
    pub(crate) range_rows: u64,
    /// Of successful operations, by kind.
    pub(crate) latencies: BTreeMap<Kind, Percentiles>,
    pub(crate) errors_total: u64,
    pub(crate) errors: Vec<ErrorCount>,
    /// Attempts that the client made again by itself within an operation's deadline, over the whole run.
    pub(crate) retries: u64,
    /// The longest time in which no operation of any worker succeeded.
    pub(crate) longest_gap_ms: f64,
    /// Successful operations in each second from the start; the warm-up shows as zeros.
    pub(crate) per_second: Vec<u64>,
    pub(crate) verify: Option<Verified>,
    pub(crate) floor: Option<Compared>,
}

/// What was run, where, and how.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Setup {
    pub(crate) bench_version: String,
    pub(crate) started_unix_ms: u64,
    pub(crate) kernel: String,
    pub(crate) cpus: usize,
    /// CPUs that the threads of the bench were pinned to; empty: the scheduler chose.
    pub(crate) pinned_to: Vec<usize>,
    pub(crate) meta: Vec<String>,
    pub(crate) table: String,
    pub(crate) partitions: u32,
    pub(crate) replicas: u32,
    /// Absent for a load.
    pub(crate) workload: Option<Workload>,
    /// Percent of each kind.
    pub(crate) mix: BTreeMap<Kind, u8>,
    pub(crate) distribution: Option<Distribution>,
    pub(crate) records: u64,
    pub(crate) rows_per_hash_key: u64,
    pub(crate) value_bytes: usize,
    pub(crate) threads: usize,
    pub(crate) connections: usize,
    pub(crate) inflight: usize,
    /// Each has one operation at a time and starts the next when it is answered.
    pub(crate) closed_loop_workers: usize,
    pub(crate) timeout_ms: u64,
    pub(crate) warm_up_seconds: f64,
    pub(crate) seed: u64,
    /// Each record is touched by one worker only: always when verifying, and with the distribution `latest`.
    pub(crate) records_divided: bool,
}

/// Absent fields of a report that was not asked to verify would look like "nothing found".
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Verified {
    pub(crate) violations: u64,
    /// The first of each thread, ten at most.
    pub(crate) examples: Vec<Violation>,
    /// Rows read once more after the run, and those of them that could not be read.
    pub(crate) swept: u64,
    pub(crate) unread: u64,
}

/// The machine's limits, and each latency as a multiple of them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Compared {
    pub(crate) limits: Floor,
    pub(crate) multiples: BTreeMap<Kind, Multiples>,
    /// A latency lies below the floor at p50, so the limits were not measured under the same conditions as the run:
    /// the multiples mean nothing. The limits' own verdict is theirs.
    pub(crate) invalid: bool,
}

/// Latency divided by the floor of the same percentile.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Multiples {
    /// `echo`, `echo + flush` or `2 echo + flush`.
    pub(crate) of: String,
    pub(crate) p50: f64,
    pub(crate) p99: f64,
    pub(crate) p999: f64,
}

/// What the report needs beside plan and outcome.
#[derive(Clone, Debug)]
pub(crate) struct Facts {
    pub(crate) workload: Option<Workload>,
    pub(crate) distribution: Option<Distribution>,
    pub(crate) records_divided: bool,
    pub(crate) partitions: u32,
    pub(crate) replicas: u32,
    pub(crate) started: SystemTime,
    pub(crate) floor: Option<Floor>,
}

impl Report {
    pub(crate) fn new(plan: &Plan, facts: Facts, outcome: &Outcome) -> Self {
        let recorder = &outcome.recorder;
        let latencies: BTreeMap<Kind, Percentiles> = Kind::ALL
            .into_iter()
            .filter(|kind| recorder.latency(*kind).count() > 0)
            .map(|kind| (kind, recorder.latency(kind).percentiles()))
            .collect();
        let operations = latencies
            .values()
            .map(|percentiles| percentiles.count)
            .sum();
        let errors = recorder.error_counts();
        Self {
            schema: SCHEMA.to_owned(),
            elapsed_seconds: outcome.elapsed.as_secs_f64(),
            operations,
            operations_per_second: per_second(operations, outcome.elapsed),
            misses: recorder.misses,
            range_rows: recorder.range_rows,
            errors_total: errors.iter().map(|error| error.count).sum(),
            errors,
            retries: outcome.retries,
            longest_gap_ms: outcome.longest_gap.as_secs_f64() * 1000.0,
            per_second: outcome.per_second.clone(),
            verify: plan.task.verify.then(|| Verified {
                violations: recorder.violations,
                examples: recorder.examples.clone(),
                swept: recorder.swept,
                unread: recorder.unread,
            }),
            floor: facts
                .floor
                .clone()
                .map(|limits| Compared::new(limits, &latencies)),
            setup: Setup::new(plan, &facts),
            latencies,
        }
    }

    /// Why the run is not a success; `None` if it is.
    pub(crate) fn verdict(&self) -> Option<String> {
        let verified = self.verify.as_ref()?;
        if verified.violations > 0 {
            return Some(format!("{} answers cannot be true", verified.violations));
        }
        (verified.unread > 0).then(|| {
            format!(
                "{} rows could not be read again after the run",
                verified.unread
            )
        })
    }
}

impl Setup {
    fn new(plan: &Plan, facts: &Facts) -> Self {
        let started = facts.started.duration_since(UNIX_EPOCH).unwrap_or_default();
        let warm_up = match plan.work {
            Work::RunFor { warm_up, .. } => warm_up,
            Work::Load { .. } | Work::RunOperations(_) => Duration::ZERO,
        };
        Self {
            bench_version: env!("CARGO_PKG_VERSION").to_owned(),
            started_unix_ms: milliseconds(started),
            kernel: rustix::system::uname()
                .release()
                .to_string_lossy()
                .into_owned(),
            cpus: std::thread::available_parallelism().map_or(0, usize::from),
            pinned_to: plan.cpus.clone(),
            meta: plan.meta.clone(),
            table: plan.table.clone(),
            partitions: facts.partitions,
            replicas: facts.replicas,
            workload: facts.workload,
            mix: plan.task.mix.parts().collect(),
            distribution: facts.distribution,
            records: plan.task.records,
            rows_per_hash_key: plan.task.names.rows_per_hash_key,
            value_bytes: plan.task.value_bytes,
            threads: plan.shape.threads,
            connections: plan.shape.connections,
            inflight: plan.shape.inflight,
            closed_loop_workers: plan.choosers.len(),
            timeout_ms: milliseconds(plan.timeout),
            warm_up_seconds: warm_up.as_secs_f64(),
            seed: plan.task.seed,
            records_divided: facts.records_divided,
        }
    }
}

impl Compared {
    fn new(limits: Floor, latencies: &BTreeMap<Kind, Percentiles>) -> Self {
        let multiples: BTreeMap<Kind, Multiples> = latencies
            .iter()
            .map(|(kind, latency)| (*kind, Multiples::new(*kind, latency, &limits)))
            .collect();
        let invalid = multiples.values().any(|multiples| multiples.p50 < 1.0);
        Self {
            limits,
            multiples,
            invalid,
        }
    }
}

impl Compared {
    /// Why the multiples may mean nothing, as sentences; empty: nothing speaks against them.
    pub(crate) fn doubts(&self) -> Vec<String> {
        let verdict = &self.limits.verdict;
        let floor = (verdict.validity != Validity::Valid).then(|| verdict.sentence());
        let below = self.invalid.then(|| {
            "INVALID comparison: a latency lies below the floor, which was measured under other conditions".to_owned()
        });
        floor.into_iter().chain(below).collect()
    }
}

impl Multiples {
    fn new(kind: Kind, latency: &Percentiles, limits: &Floor) -> Self {
        let echoes = if kind == Kind::ReadModifyWrite {
            2.0
        } else {
            1.0
        };
        let flushes = if kind.writes() { 1.0 } else { 0.0 };
        let multiple = |pick: fn(&Percentiles) -> f64| {
            let floor = echoes * pick(&limits.echo) + flushes * pick(&limits.flush);
            if floor > 0.0 {
                (pick(latency) / floor * 100.0).round() / 100.0
            } else {
                0.0
            }
        };
        let of = match (kind, kind.writes()) {
            (Kind::ReadModifyWrite, _) => "2 echo + flush",
            (_, true) => "echo + flush",
            (_, false) => "echo",
        };
        Self {
            of: of.to_owned(),
            p50: multiple(|p| p.p50_us),
            p99: multiple(|p| p.p99_us),
            p999: multiple(|p| p.p999_us),
        }
    }
}

fn per_second(operations: u64, elapsed: Duration) -> f64 {
    let seconds = elapsed.as_secs_f64();
    if seconds > 0.0 {
        (operations as f64 / seconds * 10.0).round() / 10.0
    } else {
        0.0
    }
}

fn milliseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
    use super::*;
    use crate::driver::Shape;
    use crate::keys::{Chooser, Names};
    use crate::record::Recorder;
    use crate::verify::Fault;
    use crate::worker::Task;
    use std::path::PathBuf;

    fn percentiles(p50_us: f64) -> Percentiles {
        Percentiles {
            count: 10,
            mean_us: p50_us,
            min_us: p50_us,
            p50_us,
            p90_us: p50_us,
            p99_us: p50_us * 2.0,
            p999_us: p50_us * 3.0,
            p9999_us: p50_us * 3.0,
            max_us: p50_us * 4.0,
        }
    }

    fn floor() -> Floor {
        Floor {
            schema: crate::floor::SCHEMA.to_owned(),
            machine: Machine::default(),
            poll: crate::floor::Poll::Sleep,
            echo_frame_bytes: 200,
            echo_server_cpu: 0,
            echo_client_cpu: None,
            echo: percentiles(20.0),
            flush_bytes: 4096,
            flush_dir: PathBuf::from("/data"),
            flush: percentiles(180.0),
            seconds_each: 1.0,
            check: None,
            verdict: crate::floor::Verdict::of(None),
        }
    }

    fn report(verify: bool, recorder: Recorder) -> Report {
        let mix = Workload::A.mix();
        let plan = Plan {
            meta: vec!["127.0.0.1:34601".to_owned()],
            table: "t".to_owned(),
            shape: Shape {
                threads: 1,
                connections: 1,
                inflight: 2,
            },
            cpus: vec![1],
            timeout: Duration::from_secs(1),
            work: Work::RunOperations(10),
            task: Task {
                mix,
                names: Names {
                    rows_per_hash_key: 1,
                },
                records: 100,
                value_bytes: 100,
                seed: 1,
                version_base: 1,
                verify,
            },
            choosers: Chooser::for_workers(Distribution::Uniform, 100, 2, verify),
        };
        let facts = Facts {
            workload: Some(Workload::A),
            distribution: Some(Distribution::Uniform),
            records_divided: verify,
            partitions: 8,
            replicas: 3,
            started: UNIX_EPOCH,
            floor: Some(floor()),
        };
        let outcome = Outcome {
            recorder,
            elapsed: Duration::from_secs(2),
            longest_gap: Duration::from_millis(3),
            per_second: vec![5, 5],
            retries: 0,
            load_error: None,
        };
        Report::new(&plan, facts, &outcome)
    }

    /// Programs read these names; a change here needs another schema number.
    #[test]
    fn the_names_in_json_stay_what_they_are() {
        let mut recorder = Recorder::new();
        recorder.violation(Violation {
            fault: Fault::Lost,
            record: 7,
            sentence: "record 7".to_owned(),
        });
        let json = serde_json::to_value(report(true, recorder)).unwrap();
        let names = |value: &serde_json::Value| -> String {
            value
                .as_object()
                .unwrap()
                .keys()
                .cloned()
                .collect::<Vec<_>>()
                .join(" ")
        };
        assert_eq!(json["schema"], "pegasus-bench/1");
        assert_eq!(
            names(&json),
            "elapsed_seconds errors errors_total floor latencies longest_gap_ms misses operations \
             operations_per_second per_second range_rows retries schema setup verify"
        );
        assert_eq!(
            names(&json["setup"]),
            "bench_version closed_loop_workers connections cpus distribution inflight kernel meta mix partitions pinned_to \
             records records_divided replicas rows_per_hash_key seed started_unix_ms table threads timeout_ms \
             value_bytes warm_up_seconds workload"
        );
        assert_eq!(names(&json["verify"]), "examples swept unread violations");
        assert_eq!(json["verify"]["examples"][0]["fault"], "lost");
        assert_eq!(names(&json["setup"]["mix"]), "read update");
        assert_eq!(
            names(&json["floor"]["limits"]["echo"]),
            "count max_us mean_us min_us p50_us p90_us p9999_us p999_us p99_us"
        );
    }

    #[test]
    fn a_report_survives_json() {
        let report = report(false, Recorder::new());
        let text = serde_json::to_string(&report).unwrap();
        assert_eq!(serde_json::from_str::<Report>(&text).unwrap(), report);
        assert_eq!(report.verify, None);
        assert_eq!(report.verdict(), None);
    }

    #[test]
    fn each_latency_is_divided_by_what_it_cannot_avoid() {
        let latencies = Kind::ALL
            .into_iter()
            .map(|kind| (kind, percentiles(440.0)))
            .collect();
        let compared = Compared::new(floor(), &latencies);
        let shown = |kind| {
            (
                compared.multiples[&kind].of.as_str(),
                compared.multiples[&kind].p50,
            )
        };
        assert_eq!(shown(Kind::Read), ("echo", 22.0));
        assert_eq!(shown(Kind::Update), ("echo + flush", 2.2));
        assert_eq!(shown(Kind::ReadModifyWrite), ("2 echo + flush", 2.0));
    }

    #[test]
    fn a_latency_below_the_floor_makes_the_comparison_invalid() {
        let compared =
            |p50_us| Compared::new(floor(), &BTreeMap::from([(Kind::Read, percentiles(p50_us))]));
        assert!(!compared(21.0).invalid);
        assert!(compared(19.0).invalid);
    }

    #[test]
    fn a_violation_is_in_the_text_and_is_the_verdict() {
        let mut recorder = Recorder::new();
        recorder.violation(Violation {
            fault: Fault::Stale,
            record: 7,
            sentence: "record 7: read old".to_owned(),
        });
        let report = report(true, recorder);
        assert!(
            report.text().contains("Stale: record 7: read old"),
            "{}",
            report.text()
        );
        assert_eq!(report.verdict().unwrap(), "1 answers cannot be true");
    }
}
