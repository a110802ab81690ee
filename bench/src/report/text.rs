//! Reports for people, in a terminal.

use super::{Compared, Cores, Report, Weight};
use crate::floor::Floor;
use crate::histogram::Percentiles;
use crate::outcome::{BenchUse, Offered, Outcome, Setup, Verified};
use std::fmt::Write as _;

const LATENCY_HEADING: &str =
    "      count      mean       p50       p90       p99     p99.9    p99.99        max";

/// Lines of the table of errors; the rest is a number.
const ERRORS_SHOWN: usize = 20;

impl Report {
    /// For people.
    pub(crate) fn text(&self) -> String {
        let mut text = String::new();
        // Writing to a String cannot fail.
        let _ = self.write_text(&mut text);
        text
    }

    fn write_text(&self, text: &mut String) -> std::fmt::Result {
        let outcome = &self.outcome;
        outcome.setup.write_text(text)?;
        writeln!(text, "{}", self.machine.sentence())?;
        writeln!(text)?;
        outcome.write_rates(text)?;
        writeln!(text)?;
        outcome.write_latencies(text)?;
        outcome.write_periods(text)?;
        if let Some(compared) = &self.floor {
            compared.write_text(text)?;
        }
        if let Some(cores) = &self.cores {
            writeln!(text)?;
            cores.write_text(text)?;
        }
        writeln!(text)?;
        outcome.write_errors(text)?;
        if let Some(verified) = &outcome.verify {
            verified.write_text(text)?;
        }
        outcome.bench.write_text(text)?;
        for finding in self.findings() {
            let word = match finding.weight {
                Weight::Bad => "FAILED: ",
                Weight::Doubt => "NOTE: ",
                Weight::Good => "",
            };
            writeln!(text, "{word}{}", finding.sentence)?;
        }
        Ok(())
    }
}

impl Outcome {
    fn write_rates(&self, text: &mut String) -> std::fmt::Result {
        writeln!(
            text,
            "{} operations in {:.1} s: {:.0} a second; longest time without a success {:.1} ms",
            self.operations, self.elapsed_seconds, self.operations_per_second, self.longest_gap_ms
        )?;
        if let Some(offered) = &self.offered {
            offered.write_text(self.operations_per_second, text)?;
        }
        if self.misses > 0 {
            writeln!(text, "{} reads found nothing", self.misses)?;
        }
        if self.scanned_records > 0 {
            writeln!(text, "{} records were scanned", self.scanned_records)?;
        }
        Ok(())
    }

    fn write_latencies(&self, text: &mut String) -> std::fmt::Result {
        let what = match self.setup.closed_loop() {
            Some(_) => "closed loop, us",
            None => "latency in us",
        };
        writeln!(text, "{what:<18}{LATENCY_HEADING}")?;
        for (kind, latency) in &self.latencies {
            writeln!(text, "{:<18} {}", kind.name(), row(&latency.percentiles))?;
        }
        Ok(())
    }

    fn write_errors(&self, text: &mut String) -> std::fmt::Result {
        if self.errors.is_empty() {
            return writeln!(
                text,
                "no operation failed; clients repeated {} attempts by themselves",
                self.retries
            );
        }
        writeln!(
            text,
            "{} operations failed (not part of the latencies), clients repeated {} attempts by themselves:",
            self.errors_total, self.retries
        )?;
        for error in self.errors.iter().take(ERRORS_SHOWN) {
            writeln!(
                text,
                "  {} x {}, {}, code {}: {}",
                error.count,
                error.kind.name(),
                error.execution,
                error.code,
                error.example
            )?;
        }
        let more = self.errors.len().saturating_sub(ERRORS_SHOWN);
        if more > 0 {
            writeln!(text, "  and {more} other sorts")?;
        }
        Ok(())
    }
}

impl Offered {
    fn write_text(&self, achieved: f64, text: &mut String) -> std::fmt::Result {
        writeln!(
            text,
            "offered {:.0} a second ({:?} arrivals), achieved {:.1} %; started late by p50 {:.1} us, p99.9 {:.1} us; {} never sent",
            self.rate,
            self.arrival,
            achieved / self.rate.max(f64::MIN_POSITIVE) * 100.0,
            self.start_delay.p50_us,
            self.start_delay.p999_us,
            self.never_sent
        )
    }
}

impl BenchUse {
    fn write_text(&self, text: &mut String) -> std::fmt::Result {
        let busiest = self
            .threads
            .iter()
            .map(|thread| thread.busy_percent)
            .fold(0.0, f64::max);
        writeln!(
            text,
            "the bench itself: {}, the busiest ran {busiest:.0} % of the time; {:.1} us of CPU an operation",
            counted(self.threads.len(), "thread"),
            self.cpu_us_per_operation
        )?;
        match &self.calibration {
            Some(calibration) => writeln!(text, "{}", calibration.sentence()),
            None => Ok(()),
        }
    }
}

impl Setup {
    /// What ran, in words: `workload a (50 % read, 50 % update), zipfian`.
    pub(crate) fn what(&self) -> String {
        let what = match self.workload {
            Some(workload) => format!("workload {}", workload.name()),
            None => "load".to_owned(),
        };
        let mix: Vec<String> = self
            .mix
            .iter()
            .map(|(kind, percent)| format!("{percent} % {}", kind.name()))
            .collect();
        let distribution = self.distribution.map_or(String::new(), |distribution| {
            format!(", {}", format!("{distribution:?}").to_lowercase())
        });
        format!("{what} ({}){distribution}", mix.join(", "))
    }

    /// `100000 records of 100 bytes`, or of so many fields.
    pub(crate) fn records_sentence(&self) -> String {
        let layout = &self.layout;
        let record = if layout.is_rows() {
            format!("{} fields of {} bytes", layout.fields, layout.value_bytes)
        } else {
            format!("{} bytes", layout.value_bytes)
        };
        let together = if layout.records_per_hash_key > 1 {
            format!(", {} under a hash key", layout.records_per_hash_key)
        } else {
            String::new()
        };
        format!("{} records of {record}{together}", self.records)
    }

    /// `native://..: 8 partitions, 3 replicas, log flushed before the answer`
    pub(crate) fn target_sentence(&self) -> String {
        let target = &self.target;
        let counts = [
            target.partitions.map(|count| format!("{count} partitions")),
            target.replicas.map(|count| format!("{count} replicas")),
            target.durability.clone(),
            (!target.server.is_empty()).then(|| target.server.clone()),
        ];
        let counts: Vec<String> = counts.into_iter().flatten().collect();
        if counts.is_empty() {
            target.url.clone()
        } else {
            format!("{}: {}", target.url, counts.join(", "))
        }
    }

    /// `open loop of 2000 operations a second, ..` or `closed loop, ..`
    pub(crate) fn loop_sentence(&self) -> String {
        let kind = self
            .rate
            .map_or("closed loop".to_owned(), |rate| match self.knee {
                Some(knee) => format!(
                    "open loop of {rate:.0} operations a second, {:.0} % of the knee",
                    rate / knee * 100.0
                ),
                None => format!("open loop of {rate:.0} operations a second"),
            });
        let pinned = if self.pinned_to.is_empty() {
            "not pinned".to_owned()
        } else {
            let plural = if self.pinned_to.len() == 1 { "" } else { "s" };
            format!("pinned to CPU{plural} {}", list(&self.pinned_to))
        };
        format!(
            "{kind}: {} ({} x {} in flight), {} {pinned}, deadline {} ms",
            counted(self.workers, "worker"),
            counted(self.connections, "connection"),
            self.inflight,
            counted(self.threads, "thread"),
            self.timeout_ms
        )
    }

    /// Why the latencies of such a run are not those that users meet; `None` for an open loop, and for one operation at a time,
    /// which is compared with a floor that is measured so too.
    pub(crate) fn closed_loop(&self) -> Option<String> {
        let is_closed = self.rate.is_none() && self.workload.is_some() && self.workers > 1;
        is_closed.then(|| {
            "closed loop: the figure is the rate. Latencies count from when a worker had an answer to its last operation, so a stall \
             is counted once for each worker and not for everybody who would have met it: --rate auto, or a number, measures those"
                .to_owned()
        })
    }

    fn write_text(&self, text: &mut String) -> std::fmt::Result {
        writeln!(text, "{}; {}", self.what(), self.records_sentence())?;
        writeln!(text, "{}", self.target_sentence())?;
        for (name, note) in &self.target.notes {
            writeln!(text, "  {name}: {note}")?;
        }
        writeln!(text, "{}", self.loop_sentence())
    }
}

/// `1 thread`, `2 threads`
fn counted(count: usize, what: &str) -> String {
    let plural = if count == 1 { "" } else { "s" };
    format!("{count} {what}{plural}")
}

/// `1, 2, 3`
pub(crate) fn list(numbers: &[usize]) -> String {
    let numbers: Vec<String> = numbers.iter().map(usize::to_string).collect();
    numbers.join(", ")
}

impl Verified {
    fn write_text(&self, text: &mut String) -> std::fmt::Result {
        writeln!(
            text,
            "verified: {} of {} answers cannot be true, {} could not be judged; {} records read again at the end, {} could not be",
            self.violations, self.checked, self.unjudged, self.swept, self.unread
        )?;
        for example in &self.examples {
            writeln!(text, "  {:?}: {}", example.fault, example.sentence)?;
        }
        Ok(())
    }
}

impl Compared {
    fn write_text(&self, text: &mut String) -> std::fmt::Result {
        writeln!(text, "this machine's limits, one operation at a time:")?;
        self.limits.write_text(text)?;
        for (kind, multiples) in &self.multiples {
            writeln!(
                text,
                "{} is {:.2} x {} ({}) at p50, {:.2} x at p99, {:.2} x at p99.9",
                kind.name(),
                multiples.p50,
                self.word(),
                multiples.of,
                multiples.p99,
                multiples.p999
            )?;
        }
        Ok(())
    }
}

impl Cores {
    fn write_text(&self, text: &mut String) -> std::fmt::Result {
        writeln!(
            text,
            "{:<10} {:>10} {:>9} {:>12} {:>12} {:>10} {:>9} {:>9} {:>7} {:>7}",
            "core",
            "requests/s",
            "flushes/s",
            "flush p50 us",
            "flush p99 us",
            "sleeps/s",
            "replicas",
            "primaries",
            "stalls",
            "failed"
        )?;
        for core in &self.cores {
            let flush = core.work("log_flush").cloned().unwrap_or_default();
            writeln!(
                text,
                "{:<10} {:>10.0} {:>9.0} {:>12.1} {:>12.1} {:>10.0} {:>9} {:>9} {:>7} {:>7}",
                core.name(),
                core.requests_per_second(),
                core.per_second("log_flushes"),
                flush.p50_us,
                flush.p99_us,
                core.per_second("sleeps"),
                core.gauge("replicas"),
                core.gauge("primaries"),
                core.count("stalls"),
                core.failures
            )?;
        }
        for missing in &self.missing {
            writeln!(text, "  {missing}")?;
        }
        Ok(())
    }
}

impl Floor {
    fn write_text(&self, text: &mut String) -> std::fmt::Result {
        let echo = format!("echo {} B", self.echo_frame_bytes);
        writeln!(text, "{echo:<18} {}", row(&self.echo))?;
        let flush = format!("flush {} B", self.flush_bytes);
        writeln!(text, "{flush:<18} {}", row(&self.flush))?;
        writeln!(text, "  ({})", self.ends_sentence())
    }

    /// Who ran where.
    pub(crate) fn ends_sentence(&self) -> String {
        let client = self
            .echo_client_cpu
            .map_or("any CPU".to_owned(), |cpu| format!("CPU {cpu}"));
        format!(
            "echo server on CPU {}, {}; its client on {client}; flushes in {}",
            self.echo_server_cpu,
            self.poll.sentence(),
            self.flush_dir.display()
        )
    }
}

/// The limits alone, for `floor`.
pub(crate) fn floor_text(floor: &Floor) -> String {
    let mut text = String::new();
    // Writing to a String cannot fail.
    let _ = write_floor(floor, &mut text);
    text
}

fn write_floor(floor: &Floor, text: &mut String) -> std::fmt::Result {
    writeln!(text, "{}", floor.machine.sentence())?;
    writeln!(text, "{:<18}{LATENCY_HEADING}", "latency in us")?;
    floor.write_text(text)?;
    let references = floor
        .check
        .iter()
        .flat_map(|check| [("echo", Some(&check.echo)), ("flush", check.flush.as_ref())])
        .filter_map(|(what, reference)| Some((what, reference?)));
    for (what, reference) in references {
        writeln!(
            text,
            "{what} p50 {:.1} us; {}, in turn with it: {:.1} us ({:.2} x)",
            reference.floor_p50_us, reference.tool, reference.reference_p50_us, reference.ratio
        )?;
    }
    writeln!(text, "{}", floor.verdict.sentence())
}

fn row(latency: &Percentiles) -> String {
    format!(
        "{:>10} {:>9.1} {:>9.1} {:>9.1} {:>9.1} {:>9.1} {:>9.1} {:>10.1}",
        latency.count,
        latency.mean_us,
        latency.p50_us,
        latency.p90_us,
        latency.p99_us,
        latency.p999_us,
        latency.p9999_us,
        latency.max_us
    )
}
