//! The stretches of a scenario: bands behind what is drawn over time, curves, and a table.

use super::chart::Band;
use super::markup::{count, rate, section, table, time, wrap};
use super::run::{percentile_chart, percentile_series, spoken};
use crate::outcome::{Outcome, Period, PeriodLatency};
use crate::workload::Kind;

/// Bands for the events.
pub(super) fn bands(outcome: &Outcome) -> Vec<Band> {
    let events = outcome.periods.iter().filter(|period| period.is_event);
    events
        .map(|event| Band {
            from: event.at_seconds,
            to: event.at_seconds + event.seconds,
            name: event.name.clone(),
        })
        .collect()
}

pub(super) fn html(outcome: &Outcome) -> String {
    if outcome.periods.is_empty() {
        return String::new();
    }
    let charts: String = outcome
        .latencies
        .keys()
        .map(|kind| curves(&outcome.periods, *kind))
        .collect();
    section(
        "Under disturbance",
        "An operation that overlaps an event counts there. The quotients are those with the first period, at the same percentile.",
        format!("{charts}{}", wrap("div", "card", figures(&outcome.periods))),
    )
}

/// Events, and the quiet one to hold them against.
fn curves(periods: &[Period], kind: Kind) -> String {
    const CLASSES: [&str; 6] = ["c1", "c2", "c3", "c4", "c5", "c6"];
    let drawn = (0..)
        .zip(periods)
        .filter(|(index, period)| *index == 0 || period.is_event);
    let series = drawn.zip(CLASSES.iter().cycle());
    let series = series.filter_map(|((_, period), class)| {
        let latency = period.latencies.get(&kind)?;
        Some(percentile_series(
            period.name.clone(),
            class,
            &latency.measured,
        ))
    });
    let title = format!("Latency of {} by percentile", spoken(kind));
    percentile_chart(&title, series.collect()).html()
}

fn figures(periods: &[Period]) -> String {
    let heading = [
        "period",
        "operation",
        "from s",
        "for s",
        "op/s",
        "failed",
        "longest gap",
        "p50",
        "p99",
        "p99.9",
        "max",
        "x quiet p50",
        "p99",
        "p99.9",
    ];
    let rows: Vec<_> = periods.iter().flat_map(rows).collect();
    table(2, &heading, &rows)
}

fn rows(period: &Period) -> Vec<Vec<String>> {
    let row = |kind: &str, latency: Option<&PeriodLatency>| {
        let mut row = vec![
            period.name.clone(),
            kind.to_owned(),
            format!("{:.1}", period.at_seconds),
            format!("{:.1}", period.seconds),
            rate(period.operations_per_second()),
            count(period.failed()),
            time(period.longest_gap_ms * 1e3),
        ];
        row.extend(latency.map_or_else(
            || ["-"; 4].map(str::to_owned),
            |it| {
                let p = &it.measured.percentiles;
                [p.p50_us, p.p99_us, p.p999_us, p.max_us].map(time)
            },
        ));
        row.extend(latency.and_then(|it| it.times_quiet.as_ref()).map_or_else(
            || ["-"; 3].map(str::to_owned),
            |times| [times.p50, times.p99, times.p999].map(|times| format!("{times:.2}")),
        ));
        row
    };
    if period.latencies.is_empty() {
        return vec![row("-", None)];
    }
    let latencies = period.latencies.iter();
    latencies
        .map(|(kind, latency)| row(spoken(*kind), Some(latency)))
        .collect()
}
