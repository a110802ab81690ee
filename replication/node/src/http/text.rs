//! The metrics of a core as text, for Prometheus and for what reads OpenMetrics.

use super::Subject;
use super::metrics::{Amount, QUANTILES, entities};
use pegasus_fbs::stats_page::Timing;
use std::fmt::Write as _;

pub(super) const PROMETHEUS: &str = "text/plain; version=0.0.4; charset=utf-8";
pub(super) const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

pub(super) fn prometheus(subject: &Subject) -> String {
    let mut text = numbers(subject, "");
    latencies(subject, &mut text);
    text
}

pub(super) fn open_metrics(subject: &Subject) -> String {
    let mut text = numbers(subject, "_total");
    latencies(subject, &mut text);
    text.push_str("# EOF\n");
    text
}

/// Counters and gauges; `suffix` is what names of counters end in.
fn numbers(subject: &Subject, suffix: &str) -> String {
    let labels = labels(subject);
    let mut text = String::new();
    for metric in entities(subject).iter().flat_map(|entity| &entity.metrics) {
        let name = metric.name;
        let (kind, suffix, value) = match &metric.amount {
            Amount::Gauge(value) => ("gauge", "", value),
            Amount::Counter(value) => ("counter", suffix, value),
            Amount::Percentile(_) => continue,
        };
        // Writing to a string does not fail.
        let _ = write!(
            text,
            "# TYPE pegasus_{name} {kind}\npegasus_{name}{suffix}{{{labels}}} {value}\n"
        );
    }
    text
}

/// Operations and work of the core, in seconds.
fn latencies(subject: &Subject, text: &mut String) {
    let labels = labels(subject);
    let name = "pegasus_latency_seconds";
    let _ = writeln!(text, "# TYPE {name} summary");
    for timing in Timing::ALL {
        let histogram = subject.page.histogram(*timing);
        let of = timing.name();
        for (quantile, _) in QUANTILES {
            let seconds = histogram
                .quantile(quantile)
                .map_or(0.0, |it| it.as_secs_f64());
            let _ = writeln!(
                text,
                "{name}{{{labels},of=\"{of}\",quantile=\"{quantile}\"}} {seconds:e}"
            );
        }
        let (sum, count) = (histogram.sum().as_secs_f64(), histogram.count());
        let _ = write!(
            text,
            "{name}_sum{{{labels},of=\"{of}\"}} {sum:e}\n{name}_count{{{labels},of=\"{of}\"}} {count}\n"
        );
    }
}

fn labels(subject: &Subject) -> String {
    let identity = subject.page.identity();
    format!("node=\"{}\",core=\"{}\"", identity.node, identity.core)
}
