//! Reports for tests, made by hand.

use super::{CoreTiming, CoreUse, Cores, Machine, Report};
use crate::floor::{Floor, Poll, Verdict};
use crate::histogram::{Latency, Percentiles};
use crate::layout::Layout;
use crate::outcome::{BenchUse, FORMAT, Interval, Measured, Outcome, Setup, ThreadUse};
use crate::target::Description;
use crate::workload::{Kind, Workload};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

pub(crate) fn percentiles(p50_us: f64) -> Percentiles {
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

/// A thousand latencies around a median, with a tail.
pub(crate) fn latency(p50_us: f64) -> Latency {
    let mut latency = Latency::new();
    for index in 0..1_000_u32 {
        let part = f64::from(index) / 1_000.0;
        let factor = 0.5 + part + 0.002 / (1.001 - part);
        latency.record(Duration::from_secs_f64(p50_us * factor / 1e6));
    }
    latency
}

/// Percentiles as given, so that quotients are exact.
pub(crate) fn measured(p50_us: f64) -> Measured {
    Measured {
        percentiles: percentiles(p50_us),
        histogram: latency(p50_us).buckets(),
    }
}

pub(crate) fn floor() -> Floor {
    Floor {
        schema: crate::floor::SCHEMA.to_owned(),
        machine: Machine::default(),
        poll: Poll::Sleep,
        echo_frame_bytes: 200,
        echo_server_cpu: 0,
        echo_client_cpu: None,
        echo: percentiles(20.0),
        flush_bytes: 4096,
        flush_dir: PathBuf::from("/data"),
        flush: percentiles(180.0),
        seconds_each: 1.0,
        check: None,
        verdict: Verdict::of(None),
    }
}

pub(crate) fn outcome(p50_us: f64, rate: f64) -> Outcome {
    let latencies = BTreeMap::from([
        (Kind::Read, measured(p50_us)),
        (Kind::Update, measured(p50_us * 5.0)),
    ]);
    Outcome {
        format: FORMAT,
        setup: setup(),
        elapsed_seconds: 10.0,
        operations: 20,
        operations_per_second: rate,
        offered: None,
        latencies,
        misses: 0,
        scanned_records: 0,
        errors_total: 0,
        errors: Vec::new(),
        retries: 0,
        longest_gap_ms: 3.0,
        series: (0..10)
            .map(|second| Interval {
                at_seconds: f64::from(second),
                seconds: 1.0,
                operations: 2,
                errors: 0,
                all: percentiles(p50_us),
                latencies: BTreeMap::from([(Kind::Read, percentiles(p50_us))]),
            })
            .collect(),
        periods: Vec::new(),
        bench: BenchUse {
            threads: vec![ThreadUse {
                cpu: Some(1),
                cpu_seconds: 4.0,
                busy_percent: 40.0,
                waiting_percent: 1.0,
            }],
            cpu_us_per_operation: 4.5,
            bottleneck: false,
            calibration: None,
        },
        verify: None,
        warnings: Vec::new(),
    }
}

fn setup() -> Setup {
    Setup {
        bench_version: "0.1.0".to_owned(),
        started_unix_ms: 1_795_356_343_765,
        kernel: "6.18".to_owned(),
        cpus: 2,
        pinned_to: vec![1],
        target: Description {
            url: "native://127.0.0.1:34601/bench".to_owned(),
            protocol: "native".to_owned(),
            server: "pegasus".to_owned(),
            partitions: Some(8),
            replicas: Some(3),
            ..Description::default()
        },
        workload: Some(Workload::A),
        mix: Workload::A.mix().parts().collect(),
        distribution: None,
        records: 1_000,
        layout: Layout {
            records_per_hash_key: 1,
            fields: 0,
            value_bytes: 100,
        },
        threads: 1,
        connections: 1,
        inflight: 2,
        workers: 2,
        rate: None,
        knee: None,
        timeout_ms: 1_000,
        warm_up_seconds: 1.0,
        seed: 1,
    }
}

pub(crate) fn cores() -> Cores {
    let timing = |name: &str, mean_us: f64| CoreTiming {
        name: name.to_owned(),
        count: 1_000,
        mean_us,
        p50_us: mean_us,
        p99_us: mean_us * 3.0,
        p999_us: mean_us * 7.0,
        max_us: mean_us * 12.0,
    };
    Cores {
        cores: vec![CoreUse {
            node: 1,
            core: 0,
            seconds: 10.0,
            requests: 20_000,
            failures: 3,
            counts: BTreeMap::from([
                ("log_flushes".to_owned(), 9_000),
                ("reads_from_memory".to_owned(), 999),
                ("reads_from_disk".to_owned(), 1),
                ("sleeps".to_owned(), 20_000),
            ]),
            gauges: BTreeMap::from([("replicas".to_owned(), 8), ("apply_queue".to_owned(), 2)]),
            operations: vec![timing("get", 30.0), timing("put", 150.0)],
            reads: vec![timing("queue", 4.0), timing("read", 9.0)],
            writes: vec![timing("queue", 4.0), timing("flush", 120.0)],
            work: vec![timing("log_flush", 110.0)],
        }],
        missing: Vec::new(),
    }
}

/// A run with a floor and one core.
pub(crate) fn report() -> Report {
    Report::new(
        Machine::default(),
        outcome(50.0, 2_000.0),
        Some(floor()),
        Some(cores()),
    )
}
