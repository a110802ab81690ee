//! What it means when requests spend their time in a stage, and what usually helps.

use pegasus_fbs::stats_page::{Class, Counter, Interval, Stage, Timing};
use std::time::Duration;

/// What a request does or waits for in a stage.
pub(super) const fn what(stage: Stage) -> &'static str {
    match stage {
        Stage::Decode => "bytes become requests",
        Stage::Queue => "waiting for the core",
        Stage::Gate => "waiting for the right to be served",
        Stage::LogWait => "waiting for the log flushes before its own",
        Stage::Flush => "write and fdatasync of the log on this node",
        Stage::Replication => "what the secondaries take beyond this node's own flush",
        Stage::Apply => "the engine takes the write, its wait for the engine included",
        Stage::Read => "the engine reads, from memory or from the disk",
        Stage::Encode => "the answers of the turn become bytes",
        Stage::Send => "until the kernel has taken the answer",
    }
}

/// What to look at when this stage takes most of the time.
pub(super) fn advice(class: Class, stage: Stage, interval: &Interval) -> String {
    match (class, stage) {
        (_, Stage::Decode) => {
            "very large requests, or very many at once: smaller values or batches, or more cores".to_owned()
        }
        (_, Stage::Queue) => busy_core(interval),
        (Class::Read, Stage::Gate) => {
            "partitions were not ready to serve (a start, a new primary): see `table show`".to_owned()
        }
        (Class::Write, Stage::Gate) => {
            "answers were ready before they might be given: see `table show` and the links to the secondaries".to_owned()
        }
        (_, Stage::LogWait) => format!(
            "each flush takes long, so that writes queue behind it{}; treat it like flush, the drive is the limit",
            times(interval, Timing::LogFlush)
        ),
        (_, Stage::Flush) => format!(
            "the drive is the limit{}: compare with `pegasus-bench floor --dir` of the data directory and look for others that write to it; one with power-loss protection flushes in tens of microseconds",
            times(interval, Timing::LogFlush)
        ),
        (_, Stage::Replication) => format!(
            "the secondaries or the network to them{}: compare with log_flush of their cores (`table show` names them, `core show` shows them); high there is their drive, low there and high here the network or a busy core",
            times(interval, Timing::SecondaryAck)
        ),
        (_, Stage::Apply) => format!(
            "the engine is behind: memtables being flushed or compactions (memory above, the disk){}; if engine_apply is quick, {}",
            times(interval, Timing::EngineApply),
            busy_core(interval)
        ),
        (_, Stage::Read) if interval.count(Counter::ReadsFromDisk) == 0 => format!(
            "no read needed the disk{}, so they waited for the core between its other work, or are large ranges: {}",
            times(interval, Timing::ReadMemory),
            busy_core(interval)
        ),
        (_, Stage::Read) => format!(
            "reads that miss the block cache wait for the disk{}: see cache hits and disk reads above; a larger memory.cache, or more cpu.engine_threads",
            times(interval, Timing::ReadDisk)
        ),
        (_, Stage::Encode) => "large answers: fewer rows or bytes for each request".to_owned(),
        (_, Stage::Send) => {
            "clients do not read their answers as fast as they come, or the answers are large: look at the client's CPU and the network".to_owned()
        }
    }
}

fn busy_core(interval: &Interval) -> String {
    format!(
        "the core is busy with other requests or does not get its CPU{}, {} stalls: see what else runs on that CPU and whether other cores are idle (`core list`); more cores and partitions spread the load",
        times(interval, Timing::Turn),
        interval.count(Counter::Stalls)
    )
}

/// ` (log_flush: p50 900 us, p99 3.2 ms)`; empty when nothing was recorded.
fn times(interval: &Interval, timing: Timing) -> String {
    let histogram = interval.histogram(timing);
    let at = |quantile| histogram.quantile(quantile).map(short);
    match (at(0.5), at(0.99)) {
        (Some(p50), Some(p99)) => format!(" ({}: p50 {p50}, p99 {p99})", timing.name()),
        _ => String::new(),
    }
}

fn short(duration: Duration) -> String {
    match duration.as_micros() {
        us @ 0..1_000 => format!("{us} us"),
        1_000..1_000_000 => format!("{:.1} ms", duration.as_secs_f64() * 1e3),
        _ => format!("{:.1} s", duration.as_secs_f64()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cores::fake::writer;

    #[test]
    fn advice_for_slow_reads_depends_on_whether_they_needed_the_disk() {
        let mut writer = writer(1, 0);
        writer.record(Timing::ReadMemory, Duration::from_micros(500));
        writer.publish(1);
        let from_memory = advice(Class::Read, Stage::Read, &writer.snapshot().since_start());
        assert!(
            from_memory.contains("no read needed the disk (read_memory: p50 500 us"),
            "{from_memory}"
        );
        writer.add(Counter::ReadsFromDisk, 1);
        writer.record(Timing::ReadDisk, Duration::from_millis(7));
        writer.publish(2);
        let from_disk = advice(Class::Read, Stage::Read, &writer.snapshot().since_start());
        assert!(
            from_disk.contains("wait for the disk (read_disk: p50 7.0 ms"),
            "{from_disk}"
        );
    }

    #[test]
    fn every_stage_of_either_class_has_advice() {
        let interval = writer(1, 0).snapshot().since_start();
        for class in Class::ALL {
            for (stage, _) in class.stages() {
                assert!(!advice(class, stage, &interval).is_empty() && !what(stage).is_empty());
            }
        }
    }
}
