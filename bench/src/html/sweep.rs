//! The page of a sweep.

use super::axis::{Axis, Scale};
use super::chart::{Chart, Level, Mark, Series, Shape};
use super::markup::{count, date, element, rate, section, short_count, table, time, wrap};
use super::run::{latency_axis, spoken};
use super::{page, setup};
use crate::histogram::Percentiles;
use crate::sweep::{Step, SweepReport};

impl SweepReport {
    /// The whole page.
    pub(crate) fn html(&self) -> String {
        let setup = &self.setup;
        let under = [
            format!("{}; {}", setup.target_sentence(), setup.records_sentence()),
            format!(
                "{}; steps of {:.1} s after {:.1} s of warm-up, open loop, {} workers",
                date(setup.started_unix_ms),
                self.step_seconds,
                setup.warm_up_seconds,
                setup.workers
            ),
        ];
        let body = format!(
            "{}{}{}{}",
            section(
                "The knee",
                "Latency counts from the moment at which an operation was meant to start, so that a server that falls behind cannot hide it.",
                format!(
                    "{}{}",
                    self.latency_chart().html(),
                    self.rate_chart().html()
                )
            ),
            section("Steps", "", wrap("div", "card", self.step_table())),
            self.kind_tables(),
            self.how(),
        );
        page(
            &format!("Sweep: {}", setup.what()),
            &under,
            &self.findings(),
            &body,
        )
    }

    fn latency_chart(&self) -> Chart {
        let steps = self.steps_by_rate();
        let line = |name: &str, class, pick: fn(&Percentiles) -> f64| Series {
            name: name.to_owned(),
            class,
            shape: Shape::LineAndDots,
            points: steps
                .iter()
                .map(|step| (step.offered, pick(&step.sample.all)))
                .collect(),
        };
        let mut levels = vec![Level {
            y: self.p99_bound_us,
            name: format!("bound of p99: {}", time(self.p99_bound_us)),
            class: "bad",
        }];
        levels.retain(|level| level.y > 0.0);
        Chart {
            title: "Latency over the offered rate".to_owned(),
            note: String::new(),
            x: Axis {
                scale: Scale::Log,
                ..rate_axis()
            },
            y: latency_axis(),
            x_exact: false,
            series: vec![
                line("p99.9", "p3", |p| p.p999_us),
                line("p99", "p2", |p| p.p99_us),
                line("p50", "p1", |p| p.p50_us),
            ],
            levels,
            marks: self.marks(),
            bands: Vec::new(),
        }
    }

    fn rate_chart(&self) -> Chart {
        let steps = self.steps_by_rate();
        let points = |pick: fn(&Step) -> f64| {
            steps
                .iter()
                .map(|step| (step.offered, pick(step)))
                .collect()
        };
        Chart {
            title: "Achieved rate over the offered rate".to_owned(),
            note: String::new(),
            x: rate_axis(),
            y: Axis {
                label: "operations a second".to_owned(),
                scale: Scale::Linear,
                format: short_count,
            },
            x_exact: false,
            series: vec![
                Series {
                    name: "achieved".to_owned(),
                    class: "c1",
                    shape: Shape::LineAndDots,
                    points: points(|step| step.sample.achieved),
                },
                Series {
                    name: "as offered".to_owned(),
                    class: "floor",
                    shape: Shape::Dashes,
                    points: points(|step| step.offered),
                },
            ],
            levels: Vec::new(),
            marks: self.marks(),
            bands: Vec::new(),
        }
    }

    fn marks(&self) -> Vec<Mark> {
        let knee = self.knee.map(|knee| Mark {
            x: knee,
            name: format!("holds: {} a second", rate(knee)),
            class: "knee",
        });
        knee.into_iter().collect()
    }

    fn step_table(&self) -> String {
        let heading = [
            "verdict",
            "offered/s",
            "achieved/s",
            "p50",
            "p99",
            "p99.9",
            "max",
            "failed",
            "never sent",
        ];
        let row = |step: &&Step| {
            let sample = &step.sample;
            vec![
                step.broke.clone().unwrap_or_else(|| "held".to_owned()),
                rate(step.offered),
                rate(sample.achieved),
                time(sample.all.p50_us),
                time(sample.all.p99_us),
                time(sample.all.p999_us),
                time(sample.all.max_us),
                count(sample.errors),
                count(sample.never_sent),
            ]
        };
        let rows: Vec<_> = self.steps_by_rate().iter().map(row).collect();
        table(1, &heading, &rows)
    }

    /// A table for each kind, when there are several.
    fn kind_tables(&self) -> String {
        let kinds = self.kinds();
        if kinds.len() < 2 {
            return String::new();
        }
        let tables: String = kinds
            .into_iter()
            .map(|kind| {
                let rows: Vec<_> = self
                    .steps_by_rate()
                    .iter()
                    .filter_map(|step| {
                        let p = step.sample.latencies.get(&kind)?;
                        Some(vec![
                            rate(step.offered),
                            count(p.count),
                            time(p.p50_us),
                            time(p.p99_us),
                            time(p.p999_us),
                            time(p.max_us),
                        ])
                    })
                    .collect();
                let heading = ["offered/s", "count", "p50", "p99", "p99.9", "max"];
                wrap(
                    "div",
                    "card",
                    format!(
                        "{}{}",
                        element("h3", "", spoken(kind)),
                        table(0, &heading, &rows)
                    ),
                )
            })
            .collect();
        section("By operation", "", wrap("div", "pair", tables))
    }

    fn how(&self) -> String {
        let floor = self
            .floor
            .as_ref()
            .map(|compared| setup::floor_facts(&compared.limits))
            .unwrap_or_default();
        section(
            "How it was measured",
            "",
            format!("{}{floor}", setup::html(&self.setup, &self.machine, None)),
        )
    }
}

fn rate_axis() -> Axis {
    Axis {
        label: "offered operations a second".to_owned(),
        scale: Scale::Linear,
        format: short_count,
    }
}
