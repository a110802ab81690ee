//! The stages of all requests of a class over an interval, and which of them dominates.

use super::meaning::{advice, what};
use crate::cores::numbers::Latency;
use crate::output::count;
use pegasus_fbs::stats_page::{Class, Interval, Stage};
use serde::Serialize;

/// Where the time of reads, or of writes, went.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Stages {
    pub(super) requests: u64,
    /// Mean time of a request, all stages together.
    pub(super) mean_us: f64,
    pub(super) stages: Vec<StageRow>,
    /// The stage with the largest share; none without requests.
    pub(super) largest: Option<&'static str>,
    /// What that stage is and what to do, for people; none without requests.
    pub(super) explanation: Option<String>,
}

#[derive(Clone, Debug, Serialize)]
pub(super) struct StageRow {
    pub(super) stage: &'static str,
    #[serde(flatten)]
    pub(super) latency: Latency,
    /// Of the time of all requests of the class, 0 to 1.
    pub(super) share: f64,
}

impl Stages {
    pub(super) fn new(class: Class, interval: &Interval) -> Self {
        let times: Vec<(Stage, Latency, f64)> = interval
            .stages(class)
            .filter_map(|(stage, histogram)| {
                #[allow(clippy::cast_precision_loss, reason = "a share for people")]
                let total_us = histogram.mean()?.as_secs_f64() * 1e6 * histogram.count() as f64;
                Some((stage, Latency::new(histogram)?, total_us))
            })
            .collect();
        let all_us: f64 = times.iter().map(|(_, _, total_us)| total_us).sum();
        let share = |total_us: f64| if all_us > 0.0 { total_us / all_us } else { 0.0 };
        let requests = times.iter().map(|(_, latency, _)| latency.count).max();
        let requests = requests.unwrap_or(0);
        let largest = times
            .iter()
            .max_by(|(_, _, one), (_, _, other)| one.total_cmp(other))
            .map(|(stage, _, total_us)| (*stage, share(*total_us)));
        #[allow(clippy::cast_precision_loss, reason = "a mean for people")]
        let mean_us = all_us / requests.max(1) as f64;
        Self {
            requests,
            mean_us: (mean_us * 10.0).round() / 10.0,
            largest: largest.map(|(stage, _)| stage.name()),
            explanation: largest.map(|(stage, share)| explain(class, stage, share, interval)),
            stages: times
                .into_iter()
                .map(|(stage, latency, total_us)| StageRow {
                    stage: stage.name(),
                    latency,
                    share: share(total_us),
                })
                .collect(),
        }
    }
}

/// Below this share the largest stage is named and not blamed.
const DOMINATES_FROM: f64 = 0.4;

fn explain(class: Class, stage: Stage, share: f64, interval: &Interval) -> String {
    let percent = format!("{:.0} %", share * 100.0);
    let (class_name, name) = (class.name(), stage.name());
    let sentence = if share >= DOMINATES_FROM {
        format!(
            "{percent} of the time of {class_name}s went into {name}: {}.",
            what(stage)
        )
    } else {
        format!(
            "No single stage dominates {class_name}s; the largest is {name} with {percent}: {}.",
            what(stage)
        )
    };
    format!(
        "{sentence} If that is too much: {}.",
        advice(class, stage, interval)
    )
}

/// `12 of the 16 slowest writes of the last minutes spent most of their time in flush, 4 in queue`; empty without any.
pub(super) fn of_the_slowest(class: Class, dominating: &[Stage]) -> String {
    let mut counts: Vec<(Stage, usize)> = Stage::ALL
        .iter()
        .map(|stage| {
            (
                *stage,
                dominating.iter().filter(|one| *one == stage).count(),
            )
        })
        .filter(|(_, count)| *count > 0)
        .collect();
    counts.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
    let Some(((first, most), rest)) = counts.split_first() else {
        return String::new();
    };
    let others: Vec<String> = rest
        .iter()
        .map(|(stage, count)| format!(", {count} in {}", stage.name()))
        .collect();
    format!(
        "{most} of the {} slowest {}s of the last minutes spent most of their time in {}{}",
        count(dominating.len() as u64),
        class.name(),
        first.name(),
        others.concat()
    )
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
    use super::super::slow::tests::write;
    use super::*;
    use crate::cores::fake::writer;

    #[test]
    fn the_stage_that_took_most_of_the_time_is_found_and_explained() {
        let mut writer = writer(1, 0);
        for _ in 0..10 {
            writer.record_request(&write(&[(Stage::Flush, 800), (Stage::Queue, 200)]), || 1);
        }
        let interval = writer.snapshot().since_start();
        let writes = Stages::new(Class::Write, &interval);
        assert_eq!((writes.requests, writes.largest), (10, Some("flush")));
        assert!((writes.mean_us - 1000.0).abs() < 1.0, "{}", writes.mean_us);
        let flush = writes
            .stages
            .iter()
            .find(|row| row.stage == "flush")
            .unwrap();
        assert!((flush.share - 0.8).abs() < 1e-3);
        let explanation = writes.explanation.unwrap();
        assert!(explanation.starts_with("80 % of the time of writes went into flush"));
        assert!(
            explanation.contains("the drive is the limit"),
            "{explanation}"
        );
        let reads = Stages::new(Class::Read, &interval);
        assert_eq!((reads.requests, reads.largest), (0, None));
    }

    #[test]
    fn a_stage_that_is_only_the_largest_of_many_is_not_blamed() {
        let mut writer = writer(1, 0);
        let even: Vec<(Stage, u64)> = Class::Write
            .stages()
            .map(|(stage, _)| (stage, 100))
            .collect();
        writer.record_request(&write(&even), || 1);
        let writes = Stages::new(Class::Write, &writer.snapshot().since_start());
        assert!(
            writes
                .explanation
                .unwrap()
                .starts_with("No single stage dominates writes")
        );
    }

    #[test]
    fn the_slowest_requests_are_counted_by_what_held_them_up() {
        let stages = [Stage::Queue, Stage::Flush, Stage::Flush];
        assert_eq!(
            of_the_slowest(Class::Write, &stages),
            "2 of the 3 slowest writes of the last minutes spent most of their time in flush, 1 in queue"
        );
        assert_eq!(of_the_slowest(Class::Read, &[]), "");
    }
}
