//! The page of one run.

use super::axis::{Axis, Scale, percentile_name};
use super::chart::{Chart, Level, Mark, Series, Shape};
use super::curve::{self, Span};
use super::markup::{
    count, date, element, rate, section, short_count, short_time, table, time, wrap,
};
use super::{cores, page, periods, setup};
use crate::histogram::{Latency, Percentiles};
use crate::outcome::{Measured, Outcome};
use crate::report::{Compared, Multiples, Report};
use crate::workload::Kind;

impl Report {
    /// The whole page.
    pub(crate) fn html(&self) -> String {
        let outcome = &self.outcome;
        let setup = &outcome.setup;
        let under = [
            format!("{}; {}", setup.target_sentence(), setup.records_sentence()),
            format!(
                "{}, {:.1} s measured; {}",
                date(setup.started_unix_ms),
                outcome.elapsed_seconds,
                setup.loop_sentence()
            ),
        ];
        let body = [
            self.tiles(),
            self.over_time(),
            periods::html(outcome),
            self.percentiles(),
            self.latency_table(),
            self.cores.as_ref().map(cores::html).unwrap_or_default(),
            errors(outcome),
            verified(outcome),
            self.how(),
        ];
        page(&setup.what(), &under, &self.findings(), &body.concat())
    }

    fn tiles(&self) -> String {
        let outcome = &self.outcome;
        let offered = outcome.offered.as_ref();
        let mut tiles = [
            tile(
                "operations a second",
                &rate(outcome.operations_per_second),
                &offered.map_or_else(String::new, |it| format!("{} offered", rate(it.rate))),
            ),
            tile("operations", &count(outcome.operations), ""),
            tile("failed", &count(outcome.errors_total), ""),
            tile(
                "longest time without a success",
                &time(outcome.longest_gap_ms * 1e3),
                "",
            ),
        ]
        .concat();
        let floor = self.floor.as_ref().map_or("", Compared::word);
        for (kind, latency) in &outcome.latencies {
            let multiples = self
                .floor
                .as_ref()
                .and_then(|compared| compared.multiples.get(kind));
            let of_floor = |pick: fn(&Multiples) -> f64| {
                multiples.map_or_else(String::new, |it| format!("{:.2} x {floor}", pick(it)))
            };
            let (p, name) = (&latency.percentiles, spoken(*kind));
            tiles += &[
                tile(
                    &format!("{name} p50"),
                    &time(p.p50_us),
                    &of_floor(|it| it.p50),
                ),
                tile(
                    &format!("{name} p99"),
                    &time(p.p99_us),
                    &of_floor(|it| it.p99),
                ),
                tile(
                    &format!("{name} p99.9"),
                    &time(p.p999_us),
                    &of_floor(|it| it.p999),
                ),
                tile(&format!("{name} max"), &time(p.max_us), ""),
            ]
            .concat();
        }
        wrap("div", "tiles", tiles)
    }

    fn over_time(&self) -> String {
        let outcome = &self.outcome;
        if outcome.series.is_empty() {
            return String::new();
        }
        let kinds: Vec<Kind> = outcome.latencies.keys().copied().collect();
        let mut charts = String::new();
        if let [kind] = kinds[..] {
            charts += &self.latency_over_time(Some(kind)).html();
        } else {
            charts += &self.latency_over_time(None).html();
            for kind in &kinds {
                charts += &self.latency_over_time(Some(*kind)).html();
            }
        }
        let thinned = outcome.series.len() > curve::POINTS_MAX;
        section(
            "Over time",
            if thinned {
                "Several seconds share a point: the worst of each percentile, the mean rate."
            } else {
                ""
            },
            format!("{}{charts}", rate_over_time(outcome).html()),
        )
    }

    fn latency_over_time(&self, kind: Option<Kind>) -> Chart {
        let spans = curve::spans(&self.outcome.series, kind);
        let line = |name: &str, class, pick: fn(&Percentiles) -> f64| Series {
            name: name.to_owned(),
            class,
            shape: Shape::Line,
            points: spans
                .iter()
                .map(|span| {
                    let latency = span.latency.as_ref().map_or(f64::NAN, pick);
                    (span.at_seconds, latency)
                })
                .collect(),
        };
        let floor = self.floor.as_ref().zip(kind).and_then(|(floor, kind)| {
            let (_, p50) = floor.curve(kind).first().copied()?;
            Some(Level {
                y: p50,
                name: "floor p50".to_owned(),
                class: "floor",
            })
        });
        Chart {
            title: kind.map_or("Latency of all operations".to_owned(), |kind| {
                format!("Latency of {}", spoken(kind))
            }),
            note: String::new(),
            x: seconds_axis(),
            y: latency_axis(),
            x_exact: true,
            series: vec![
                line("max", "p4", |p| p.max_us),
                line("p99.9", "p3", |p| p.p999_us),
                line("p99", "p2", |p| p.p99_us),
                line("p50", "p1", |p| p.p50_us),
            ],
            levels: floor.into_iter().collect(),
            marks: error_marks(&spans),
            bands: periods::bands(&self.outcome),
        }
    }

    fn percentiles(&self) -> String {
        let outcome = &self.outcome;
        let mut series = Vec::new();
        for (kind, measured) in &outcome.latencies {
            series.push(percentile_series(spoken(*kind), class(*kind), measured));
        }
        if let Some(floor) = &self.floor {
            series.extend(floor_series(floor, outcome.latencies.keys().copied()));
        }
        let chart = percentile_chart("Latency by percentile", series);
        section(
            "Percentiles",
            "The share of operations that are faster grows to the right: each step is ten times rarer. A straight line that climbs slowly is a good tail.",
            chart.html(),
        )
    }

    fn latency_table(&self) -> String {
        let heading = [
            "operation",
            "count",
            "mean",
            "min",
            "p50",
            "p90",
            "p99",
            "p99.9",
            "p99.99",
            "max",
            "x floor p50",
            "p99",
            "p99.9",
        ];
        let row = |(kind, measured): (&Kind, &Measured)| {
            let p = &measured.percentiles;
            let mut row = vec![spoken(*kind).to_owned(), count(p.count)];
            row.extend(
                [
                    p.mean_us, p.min_us, p.p50_us, p.p90_us, p.p99_us, p.p999_us, p.p9999_us,
                    p.max_us,
                ]
                .map(time),
            );
            let multiples = self
                .floor
                .as_ref()
                .and_then(|compared| compared.multiples.get(kind));
            row.extend(match multiples {
                Some(m) => [m.p50, m.p99, m.p999].map(|multiple| format!("{multiple:.2}")),
                None => ["-", "-", "-"].map(str::to_owned),
            });
            row
        };
        let rows: Vec<_> = self.outcome.latencies.iter().map(row).collect();
        wrap("div", "card", table(1, &heading, &rows))
    }

    fn how(&self) -> String {
        let outcome = &self.outcome;
        let floor = self
            .floor
            .as_ref()
            .map(|compared| setup::floor_facts(&compared.limits))
            .unwrap_or_default();
        section(
            "How it was measured",
            "",
            format!(
                "{}{floor}",
                setup::html(&outcome.setup, &self.machine, Some(&outcome.bench))
            ),
        )
    }
}

/// A kind of operation with spaces.
pub(super) fn spoken(kind: Kind) -> &'static str {
    match kind {
        Kind::ReadModifyWrite => "read-modify-write",
        other => other.name(),
    }
}

fn class(kind: Kind) -> &'static str {
    ["c1", "c2", "c3", "c4", "c5"][kind.index()]
}

fn tile(what: &str, value: &str, under: &str) -> String {
    let under = if under.is_empty() {
        String::new()
    } else {
        element("span", "", under)
    };
    wrap(
        "div",
        "tile",
        format!(
            "{}{}{under}",
            element("span", "", what),
            element("strong", "", value)
        ),
    )
}

pub(super) fn seconds_axis() -> Axis {
    Axis {
        label: "seconds of the measured time".to_owned(),
        scale: Scale::Linear,
        format: short_count,
    }
}

pub(super) fn latency_axis() -> Axis {
    Axis {
        label: "latency, logarithmic".to_owned(),
        scale: Scale::Log,
        format: short_time,
    }
}

fn rate_over_time(outcome: &Outcome) -> Chart {
    let spans = curve::spans(&outcome.series, None);
    let achieved = Series {
        name: "achieved".to_owned(),
        class: "c1",
        shape: Shape::Line,
        points: spans
            .iter()
            .map(|span| (span.at_seconds, span.operations_per_second))
            .collect(),
    };
    let offered = outcome.offered.as_ref().map(|offered| Level {
        y: offered.rate,
        name: format!("offered: {}", rate(offered.rate)),
        class: "c2",
    });
    Chart {
        title: "Rate".to_owned(),
        note: String::new(),
        x: seconds_axis(),
        y: Axis {
            label: "operations a second".to_owned(),
            scale: Scale::Linear,
            format: short_count,
        },
        x_exact: true,
        series: vec![achieved],
        levels: offered.into_iter().collect(),
        marks: error_marks(&spans),
        bands: periods::bands(outcome),
    }
}

/// A line for each second with failures; only the worst is named, or the names would cover each other.
fn error_marks(spans: &[Span]) -> Vec<Mark> {
    let worst = spans.iter().map(|span| span.errors).max().unwrap_or(0);
    let mut named = false;
    spans
        .iter()
        .filter(|span| span.errors > 0)
        .map(|span| {
            let name = if span.errors == worst && !named {
                named = true;
                format!("{} failed", count(span.errors))
            } else {
                String::new()
            };
            Mark {
                x: span.at_seconds,
                name,
                class: "bad",
            }
        })
        .collect()
}

pub(super) fn percentile_series(
    name: impl Into<String>,
    class: &'static str,
    measured: &Measured,
) -> Series {
    // A histogram out of a file may be damaged; then there is no curve, and the table still has the percentiles.
    let points = Latency::from_buckets(&measured.histogram)
        .map(|latency| curve::percentiles(&latency))
        .unwrap_or_default();
    Series {
        name: name.into(),
        class,
        shape: Shape::Line,
        points,
    }
}

/// Kinds that share a floor share its line.
fn floor_series(floor: &Compared, kinds: impl Iterator<Item = Kind>) -> Vec<Series> {
    let mut series: Vec<Series> = Vec::new();
    for kind in kinds {
        let name = floor
            .multiples
            .get(&kind)
            .map_or_else(String::new, |multiples| format!("floor: {}", multiples.of));
        if name.is_empty() || series.iter().any(|series| series.name == name) {
            continue;
        }
        series.push(Series {
            name,
            class: class(kind),
            shape: Shape::Dashes,
            points: floor.curve(kind),
        });
    }
    series
}

pub(super) fn percentile_chart(title: &str, series: Vec<Series>) -> Chart {
    Chart {
        title: title.to_owned(),
        note: String::new(),
        x: Axis {
            label: "percentile".to_owned(),
            scale: Scale::Percentile,
            format: percentile_name,
        },
        y: latency_axis(),
        x_exact: false,
        series,
        levels: Vec::new(),
        marks: Vec::new(),
        bands: Vec::new(),
    }
}

/// Sorts of errors that are listed.
const ERRORS_MAX: usize = 50;

fn errors(outcome: &Outcome) -> String {
    if outcome.errors.is_empty() {
        return String::new();
    }
    let rows: Vec<_> = outcome
        .errors
        .iter()
        .take(ERRORS_MAX)
        .map(|error| {
            vec![
                spoken(error.kind).to_owned(),
                error.code.clone(),
                error.execution.replace('_', " "),
                error.example.clone(),
                count(error.count),
            ]
        })
        .collect();
    let heading = [
        "operation",
        "code",
        "executed",
        "the first of them said",
        "count",
    ];
    section(
        "Errors",
        "Failed operations are not part of the latencies.",
        wrap("div", "card", table(4, &heading, &rows)),
    )
}

fn verified(outcome: &Outcome) -> String {
    let Some(verified) = &outcome.verify else {
        return String::new();
    };
    let sentence = format!(
        "{} of {} answers cannot be true; {} could not be judged; {} records read again at the end, {} could not be",
        count(verified.violations),
        count(verified.checked),
        count(verified.unjudged),
        count(verified.swept),
        count(verified.unread)
    );
    let rows: Vec<_> = verified
        .examples
        .iter()
        .map(|example| vec![format!("{:?}", example.fault), example.sentence.clone()])
        .collect();
    let examples = if rows.is_empty() {
        String::new()
    } else {
        table(2, &["fault", "what was found"], &rows)
    };
    section(
        "Verification",
        "",
        wrap(
            "div",
            "card",
            format!("{}{examples}", element("p", "", sentence)),
        ),
    )
}
