//! The report for people.

use super::{Compared, Report, Setup, Verified};
use crate::floor::Floor;
use crate::histogram::Percentiles;
use std::collections::BTreeMap;
use std::fmt::Write as _;

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
        writeln!(
            text,
            "{:<18} {:>10} {:>9} {:>9} {:>9} {:>9} {:>9} {:>9} {:>10}",
            "latency in us", "count", "mean", "p50", "p90", "p99", "p99.9", "p99.99", "max"
        )?;
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
        writeln!(text, "this machine's limits, one at a time:")?;
        let echo = format!("echo {} B", self.limits.echo_frame_bytes);
        writeln!(text, "{echo:<18} {}", row(&self.limits.echo))?;
        let client = self
            .limits
            .echo_client_cpu
            .map_or("any CPU".to_owned(), |cpu| format!("CPU {cpu}"));
        writeln!(
            text,
            "  (echo server on CPU {}, its client on {client})",
            self.limits.echo_server_cpu
        )?;
        let flush = format!("flush {} B", self.limits.flush_bytes);
        writeln!(text, "{flush:<18} {}", row(&self.limits.flush))?;
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
        if self.invalid {
            writeln!(
                text,
                "INVALID: faster than the floor, so the floor was measured under other conditions"
            )?;
        }
        Ok(())
    }
}

/// The limits alone, for `floor`.
pub(crate) fn floor_text(floor: &Floor) -> String {
    let mut text = String::new();
    let compared = Compared {
        limits: floor.clone(),
        multiples: BTreeMap::new(),
        invalid: false,
    };
    let _ = writeln!(
        text,
        "{:<18} {:>10} {:>9} {:>9} {:>9} {:>9} {:>9} {:>9} {:>10}",
        "latency in us", "count", "mean", "p50", "p90", "p99", "p99.9", "p99.99", "max"
    );
    let _ = compared.write_text(&mut text);
    let _ = writeln!(text, "flushes are of {}", floor.flush_dir.display());
    text
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
