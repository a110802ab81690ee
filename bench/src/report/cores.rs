//! What the servers' cores say of the run: their statistics after it, less those before it.

mod watch;

pub(crate) use watch::Watch;

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The cores of a cluster over one run.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Cores {
    /// Ascending by node and core.
    pub(crate) cores: Vec<CoreUse>,
    /// Cores that could not be asked, and why; sentences.
    pub(crate) missing: Vec<String>,
}

/// One core. Names are those of the statistics page (`docs/operations.md`).
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct CoreUse {
    pub(crate) node: u32,
    pub(crate) core: u32,
    /// Between the two looks: connecting and warm-up included.
    pub(crate) seconds: f64,
    /// Requests of clients in that time.
    pub(crate) requests: u64,
    /// Answers that report a failure.
    pub(crate) failures: u64,
    /// Growth of each counter that grew.
    pub(crate) counts: BTreeMap<String, u64>,
    /// Gauges that are not zero, at the end.
    pub(crate) gauges: BTreeMap<String, u64>,
    /// Whole operations.
    pub(crate) operations: Vec<CoreTiming>,
    /// What reads, and what writes, spent their time on: in the order in which a request goes through the stages.
    pub(crate) reads: Vec<CoreTiming>,
    pub(crate) writes: Vec<CoreTiming>,
    /// Work that belongs to no one request, such as `log_flush`.
    pub(crate) work: Vec<CoreTiming>,
}

/// Durations of one name in microseconds, within 1.6 %.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct CoreTiming {
    pub(crate) name: String,
    pub(crate) count: u64,
    pub(crate) mean_us: f64,
    pub(crate) p50_us: f64,
    pub(crate) p99_us: f64,
    pub(crate) p999_us: f64,
    pub(crate) max_us: f64,
}

impl CoreUse {
    /// `1/0`: the first core of node 1.
    pub(crate) fn name(&self) -> String {
        format!("{}/{}", self.node, self.core)
    }

    pub(crate) fn count(&self, name: &str) -> u64 {
        self.counts.get(name).copied().unwrap_or(0)
    }

    pub(crate) fn gauge(&self, name: &str) -> u64 {
        self.gauges.get(name).copied().unwrap_or(0)
    }

    pub(crate) fn requests_per_second(&self) -> f64 {
        self.over_time(self.requests)
    }

    pub(crate) fn per_second(&self, name: &str) -> f64 {
        self.over_time(self.count(name))
    }

    fn over_time(&self, count: u64) -> f64 {
        if self.seconds > 0.0 {
            count as f64 / self.seconds
        } else {
            0.0
        }
    }

    /// Work of this name, if there was any.
    pub(crate) fn work(&self, name: &str) -> Option<&CoreTiming> {
        self.work.iter().find(|timing| timing.name == name)
    }

    /// Share of reads that needed no disk, in percent.
    pub(crate) fn memory_hit_percent(&self) -> Option<f64> {
        let (memory, disk) = (
            self.count("reads_from_memory"),
            self.count("reads_from_disk"),
        );
        (memory + disk > 0).then(|| memory as f64 / (memory + disk) as f64 * 100.0)
    }
}
