//! The page of a comparison.

use super::chart::{Series, Shape};
use super::markup::{element, section, table, wrap};
use super::run::{percentile_chart, percentile_series, spoken};
use super::{page, setup};
use crate::compare::{CompareReport, Pair, Row, Side, Verdict, ratio, spread};
use crate::histogram::Latency;
use crate::outcome::Measured;
use crate::workload::Kind;
use std::collections::BTreeSet;

/// Colours of the sides, in their order; more sides than these share the last.
const CLASSES: [&str; 6] = ["c1", "c2", "c3", "c4", "c5", "c6"];

impl CompareReport {
    /// The whole page; `sides` are those that it was made of.
    pub(crate) fn html(&self, sides: &[Side]) -> String {
        let names: Vec<&str> = sides.iter().map(|side| side.name.as_str()).collect();
        let under: Vec<String> = sides
            .iter()
            .enumerate()
            .map(|(index, side)| {
                let role = if index == 0 { "base" } else { "with" };
                format!("{role} {}: {}", side.name, side.files.join(", "))
            })
            .collect();
        let tables: String = self
            .pairs
            .iter()
            .map(|pair| pair_table(names.first().copied().unwrap_or_default(), pair))
            .collect();
        let body = format!(
            "{}{}{}",
            section(
                "Figures",
                "Median, and lowest and highest run in brackets. The ratio is that of the medians. A difference that is smaller than that between runs of one side lies inside the spread.",
                tables
            ),
            percentile_section(sides),
            settings(sides)
        );
        page(
            &format!("Comparison: {}", names.join(" | ")),
            &under,
            &self.findings(),
            &body,
        )
    }
}

fn pair_table(base: &str, pair: &Pair) -> String {
    let heading = ["figure", "verdict", base, pair.name.as_str(), "ratio"];
    let row = |row: &Row| {
        vec![
            format!("{} ({})", row.what.replace('_', "-"), row.unit),
            match row.verdict {
                Verdict::SpreadUnknown => "one run a side",
                Verdict::Better | Verdict::Worse | Verdict::InsideSpread => row.sentence(),
            }
            .to_owned(),
            spread(row.base),
            spread(row.other),
            ratio(row.ratio),
        ]
    };
    let rows: Vec<_> = pair.rows.iter().map(row).collect();
    wrap("div", "card", table(2, &heading, &rows))
}

fn percentile_section(sides: &[Side]) -> String {
    let kinds: BTreeSet<Kind> = sides
        .iter()
        .flat_map(|side| &side.reports)
        .flat_map(|report| report.outcome.latencies.keys().copied())
        .collect();
    let charts: String = kinds
        .into_iter()
        .map(|kind| {
            let series: Vec<Series> = sides
                .iter()
                .enumerate()
                .filter_map(|(index, side)| together(side, kind, index))
                .collect();
            percentile_chart(&format!("Latency of {}", spoken(kind)), series).html()
        })
        .collect();
    section("Percentiles", "All runs of a side taken together.", charts)
}

/// The curve of a side: the histograms of its runs added up.
fn together(side: &Side, kind: Kind, index: usize) -> Option<Series> {
    let mut sum = Latency::new();
    for report in &side.reports {
        if let Some(measured) = report.outcome.latencies.get(&kind) {
            sum.add_buckets(&measured.histogram).ok()?;
        }
    }
    if sum.count() == 0 {
        return None;
    }
    let class = CLASSES[index.min(CLASSES.len() - 1)];
    let mut series = percentile_series(side.name.clone(), class, &Measured::new(&sum));
    series.shape = Shape::Line;
    Some(series)
}

fn settings(sides: &[Side]) -> String {
    let each = |side: &Side| {
        let first = side.reports.first()?;
        let name = element("h3", "", format!("{}: the first run", side.name));
        let facts = setup::html(
            &first.outcome.setup,
            &first.machine,
            Some(&first.outcome.bench),
        );
        Some(format!("{name}{facts}"))
    };
    section(
        "How it was measured",
        "",
        sides.iter().filter_map(each).collect::<String>(),
    )
}
