//! The report for people.

use super::{Compared, Report, Setup, Verified};
use crate::floor::Floor;
use crate::histogram::Percentiles;
use std::fmt::Write as _;

const LATENCY_HEADING: &str = "latency in us           count      mean       p50       p90       p99     p99.9    p99.99        max";

impl Report {
    /// For people.
    pub(crate) fn text(&self) -> String {
        let mut text = String::new();
        // Writing to a String cannot fail.
        let _ = self.write_text(&mut text);
        text
    }

    fn write_text(&self, text: &mut String) -> std::fmt::Result {
        self.setup.write_text(text)?;
        writeln!(
            text,
            "{} operations in {:.1} s: {:.0} a second; longest time without a success {:.1} ms",
            self.operations, self.elapsed_seconds, self.operations_per_second, self.longest_gap_ms
        )?;
        self.write_latencies(text)?;
        if self.misses > 0 {
            writeln!(text, "{} reads found no row", self.misses)?;
        }
        self.write_errors(text)?;
        if let Some(verified) = &self.verify {
            verified.write_text(text)?;
        }
        if let Some(compared) = &self.floor {
            compared.write_text(text)?;
        }
        Ok(())
    }

    fn write_latencies(&self, text: &mut String) -> std::fmt::Result {
        writeln!(text, "{LATENCY_HEADING}")?;
        for (kind, latency) in &self.latencies {
            writeln!(text, "{:<18} {}", kind.name(), row(latency))?;
        }
        Ok(())
    }

    fn write_errors(&self, text: &mut String) -> std::fmt::Result {
        if self.errors.is_empty() {
            return writeln!(
                text,
                "no operation failed; {} attempts were repeated",
                self.retries
            );
        }
        writeln!(
            text,
            "{} operations failed (not part of the latencies), {} attempts were repeated:",
            self.errors_total, self.retries
        )?;
        for error in &self.errors {
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
        Ok(())
    }
}

impl Setup {
    fn write_text(&self, text: &mut String) -> std::fmt::Result {
        let what = match self.workload {
            Some(workload) => format!("workload {}", format!("{workload:?}").to_lowercase()),
            None => "load".to_owned(),
        };
        let mix: Vec<String> = self
            .mix
            .iter()
            .map(|(kind, percent)| format!("{percent} % {}", kind.name()))
            .collect();
        let distribution = self.distribution.map_or(String::new(), |d| {
            format!(", {} over", format!("{d:?}").to_lowercase())
        });
        writeln!(
            text,
            "{what} ({}){distribution} {} records of {} bytes in table {}: {} partitions, {} replicas",
            mix.join(", "),
            self.records,
            self.value_bytes,
            self.table,
            self.partitions,
            self.replicas
        )?;
        writeln!(
            text,
            "closed loop of {} workers ({} connections x {} in flight, {} threads), deadline {} ms, {} CPUs, kernel {}",
            self.closed_loop_workers,
            self.connections,
            self.inflight,
            self.threads,
            self.timeout_ms,
            self.cpus,
            self.kernel
        )
    }
}

impl Verified {
    fn write_text(&self, text: &mut String) -> std::fmt::Result {
        writeln!(
            text,
            "verified: {} answers cannot be true; {} rows read again at the end, {} could not be",
            self.violations, self.swept, self.unread
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
                "{} is {:.2} x ({}) at p50, {:.2} x at p99, {:.2} x at p99.9",
                kind.name(),
                multiples.p50,
                multiples.of,
                multiples.p99,
                multiples.p999
            )?;
        }
        for reason in self.doubts() {
            writeln!(text, "{reason}")?;
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
        let client = self
            .echo_client_cpu
            .map_or("any CPU".to_owned(), |cpu| format!("CPU {cpu}"));
        writeln!(
            text,
            "  (echo server on CPU {}, {}; its client on {client}; flushes in {})",
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
    writeln!(text, "{LATENCY_HEADING}")?;
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
