//! What came of a run, as it is written to JSON: what was measured and the setup it was measured with, nothing derived
//! from elsewhere. Histograms are whole, so that percentiles can be added up, compared and drawn later.

use crate::arrival::Arrival;
use crate::histogram::{Buckets, Latency, Percentiles};
use crate::keys::Distribution;
use crate::layout::Layout;
use crate::record::ErrorCount;
use crate::target::Description;
use crate::verify::Violation;
use crate::workload::{Kind, Workload};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Version of everything that is written to JSON by `load` and `run`. Fields may be added under the same number.
pub(crate) const FORMAT: u32 = 2;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Outcome {
    /// [`FORMAT`]
    pub(crate) format: u32,
    pub(crate) setup: Setup,
    /// Measured time: without warm-up, and without reading everything again.
    pub(crate) elapsed_seconds: f64,
    /// Operations that succeeded; a read that finds nothing is one, and counted in `misses` too.
    pub(crate) operations: u64,
    /// The achieved rate: `operations / elapsed_seconds`.
    pub(crate) operations_per_second: f64,
    /// Open loop only.
    pub(crate) offered: Option<Offered>,
    /// Of successful operations, for each kind that had one.
    pub(crate) latencies: BTreeMap<Kind, Measured>,
    /// Reads and scans that found nothing.
    pub(crate) misses: u64,
    /// Records that scans returned.
    pub(crate) scanned_records: u64,
    /// Operations that failed, each at its deadline at the latest. Not part of the latencies.
    pub(crate) errors_total: u64,
    pub(crate) errors: Vec<ErrorCount>,
    /// Attempts that clients made again by themselves within an operation's deadline, over the whole run.
    pub(crate) retries: u64,
    /// The longest time in which no operation of any worker succeeded.
    pub(crate) longest_gap_ms: f64,
    /// From the start of the measured time on, without holes; the last one may be shorter.
    pub(crate) series: Vec<Interval>,
    /// Of a scenario: the stretches of the measured time, in order; the first is the quiet one.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) periods: Vec<Period>,
    pub(crate) bench: BenchUse,
    /// Absent when it was not asked for, which would otherwise look like "nothing found".
    pub(crate) verify: Option<Verified>,
    /// What a reader has to know before trusting the figures: shared CPUs, a bottleneck in the bench, a backlog. Sentences.
    pub(crate) warnings: Vec<String>,
}

/// Latencies of one kind of operation. Closed loop: from the moment it was started. Open loop: from the moment it was meant
/// to start.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Measured {
    pub(crate) percentiles: Percentiles,
    /// The whole histogram; [`Latency::from_buckets`] makes it one again.
    pub(crate) histogram: Buckets,
}

/// A stretch of the measured time: quiet, an event, or what comes after it. An operation that overlaps an event counts there,
/// any other where it was meant to start.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Period {
    pub(crate) name: String,
    /// Something was done to the servers.
    pub(crate) is_event: bool,
    /// Its begin, in seconds from the begin of the measured time.
    pub(crate) at_seconds: f64,
    pub(crate) seconds: f64,
    /// Successful ones.
    pub(crate) operations: u64,
    pub(crate) errors: u64,
    pub(crate) never_sent: u64,
    /// The longest time in which no operation succeeded, of those that were open in it.
    pub(crate) longest_gap_ms: f64,
    pub(crate) latencies: BTreeMap<Kind, PeriodLatency>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct PeriodLatency {
    #[serde(flatten)]
    pub(crate) measured: Measured,
    /// Absent for the quiet one itself, and if it has none of the kind.
    pub(crate) times_quiet: Option<TimesQuiet>,
}

/// Quotients with the quiet period at the same percentile.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct TimesQuiet {
    pub(crate) p50: f64,
    pub(crate) p99: f64,
    pub(crate) p999: f64,
}

/// What an open loop was meant to do, in measured time, and what came of it.
/// `intended == operations + errors_total + never_sent`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Offered {
    /// Operations a second that were asked for.
    pub(crate) rate: f64,
    pub(crate) arrival: Arrival,
    /// Operations whose time came.
    pub(crate) intended: u64,
    /// Of these, those whose deadline passed before a worker was free. Neither latencies nor errors have them.
    pub(crate) never_sent: u64,
    /// From the intended start to the actual one: what the bench itself (too few workers, a busy thread) added.
    pub(crate) start_delay: Percentiles,
}

/// One slice of the measured time. Operations belong to the slice in which they ended.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Interval {
    /// Its begin, in seconds from the begin of the measured time.
    pub(crate) at_seconds: f64,
    pub(crate) seconds: f64,
    /// Successful ones.
    pub(crate) operations: u64,
    pub(crate) errors: u64,
    /// Of all kinds together.
    pub(crate) all: Percentiles,
    pub(crate) latencies: BTreeMap<Kind, Percentiles>,
}

/// What the bench itself took.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct BenchUse {
    /// One for each thread that drives load.
    pub(crate) threads: Vec<ThreadUse>,
    /// CPU time of these threads, divided by all operations (failed ones too).
    pub(crate) cpu_us_per_operation: f64,
    /// A thread had work for more than [`BUSY_PERCENT_MAX`] of the time: the bench may be what limits the rate and adds to latencies.
    pub(crate) bottleneck: bool,
    /// The same load against a server that has nothing to do, if that was asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) calibration: Option<Calibration>,
}

/// What this bench could drive in the same shape.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Calibration {
    /// What the null server was spoken to in: `native`, `redis`.
    pub(crate) protocol: String,
    pub(crate) operations_per_second: f64,
    /// Of the threads that drive load.
    pub(crate) cpu_us_per_operation: f64,
    /// The rate of the run, as a share of `operations_per_second`.
    pub(crate) used_percent: f64,
    /// Not even then was the bench the limit, but round trips, or the null server: it could do more.
    pub(crate) at_least: bool,
}

/// Above it a thread counts as a bottleneck.
pub(crate) const BUSY_PERCENT_MAX: f64 = 90.0;

/// Of the measured time.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct ThreadUse {
    /// Where it was pinned to.
    pub(crate) cpu: Option<usize>,
    pub(crate) cpu_seconds: f64,
    /// Share of the time in which it ran.
    pub(crate) busy_percent: f64,
    /// Share of the time in which it had work and something else ran on its CPU.
    pub(crate) waiting_percent: f64,
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
    pub(crate) target: Description,
    /// Absent for a load.
    pub(crate) workload: Option<Workload>,
    /// Percent of each kind.
    pub(crate) mix: BTreeMap<Kind, u8>,
    pub(crate) distribution: Option<Distribution>,
    pub(crate) records: u64,
    pub(crate) layout: Layout,
    pub(crate) threads: usize,
    pub(crate) connections: usize,
    pub(crate) inflight: usize,
    /// `connections x inflight`: operations under way at most.
    pub(crate) workers: usize,
    /// Absent: a closed loop, where a worker starts its next operation when the one before is answered.
    pub(crate) rate: Option<f64>,
    /// What the rate is a share of, if it was chosen so: the highest rate that held.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) knee: Option<f64>,
    pub(crate) timeout_ms: u64,
    pub(crate) warm_up_seconds: f64,
    pub(crate) seed: u64,
}

/// What `--verify` found.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Verified {
    pub(crate) violations: u64,
    /// The first of each thread, ten at most.
    pub(crate) examples: Vec<Violation>,
    /// Values that were compared with what was written.
    pub(crate) checked: u64,
    /// Old values of which the record was so hot that it is no longer known whether they were too old: accepted.
    pub(crate) unjudged: u64,
    /// Records read once more after the run, and those of them that could not be read.
    pub(crate) swept: u64,
    pub(crate) unread: u64,
}

impl Outcome {
    /// Why the run is not a success; `None` if it is.
    pub(crate) fn verdict(&self) -> Option<String> {
        let verified = self.verify.as_ref()?;
        if verified.violations > 0 {
            return Some(format!("{} answers cannot be true", verified.violations));
        }
        (verified.unread > 0).then(|| {
            format!(
                "{} records could not be read again after the run",
                verified.unread
            )
        })
    }
}

impl Measured {
    pub(crate) fn new(latency: &Latency) -> Self {
        Self {
            percentiles: latency.percentiles(),
            histogram: latency.buckets(),
        }
    }
}
