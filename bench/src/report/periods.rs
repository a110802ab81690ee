//! The stretches of a scenario, for people.

use crate::outcome::{Outcome, Period, TimesQuiet};
use std::fmt::Write as _;

const HEADING: &str = "period               from s    for s      op/s   failed   gap ms  operation        p50 us     p99 us   p99.9 us     max us  times quiet p50, p99, p99.9";

impl Outcome {
    pub(super) fn write_periods(&self, text: &mut String) -> std::fmt::Result {
        if self.periods.is_empty() {
            return Ok(());
        }
        writeln!(text, "\n{HEADING}")?;
        self.periods
            .iter()
            .try_for_each(|period| period.write_text(text))
    }
}

impl Period {
    pub(crate) fn operations_per_second(&self) -> f64 {
        if self.seconds > 0.0 {
            self.operations as f64 / self.seconds
        } else {
            0.0
        }
    }

    /// Operations without success, sent or not.
    pub(crate) fn failed(&self) -> u64 {
        self.errors + self.never_sent
    }

    fn write_text(&self, text: &mut String) -> std::fmt::Result {
        let mark = if self.is_event { "*" } else { " " };
        write!(
            text,
            "{mark}{:<18} {:>7.1} {:>8.1} {:>9.0} {:>8} {:>8.1}",
            self.name,
            self.at_seconds,
            self.seconds,
            self.operations_per_second(),
            self.failed(),
            self.longest_gap_ms
        )?;
        if self.latencies.is_empty() {
            return writeln!(text, "  nothing succeeded");
        }
        for (index, (kind, latency)) in self.latencies.iter().enumerate() {
            let indent = if index > 0 { 64 } else { 0 };
            let p = &latency.measured.percentiles;
            writeln!(
                text,
                "{:indent$}  {:<12} {:>10.1} {:>10.1} {:>10.1} {:>10.1}  {}",
                "",
                kind.name(),
                p.p50_us,
                p.p99_us,
                p.p999_us,
                p.max_us,
                latency
                    .times_quiet
                    .as_ref()
                    .map_or_else(String::new, TimesQuiet::sentence)
            )?;
        }
        Ok(())
    }
}

impl TimesQuiet {
    /// `1.02 x, 1.90 x, 3.10 x`
    fn sentence(&self) -> String {
        format!("{:.2} x, {:.2} x, {:.2} x", self.p50, self.p99, self.p999)
    }
}
