//! The slowest requests of the last minutes, each with the time of every stage.

use crate::cores::numbers::microseconds;
use crate::output::{bytes_short, count, wide_table};
use comfy_table::Table;
use pegasus_fbs::code::Code;
use pegasus_fbs::stats_page::{Class, RequestTimes, Snapshot, Stage};
use serde::Serialize;
use std::collections::BTreeMap;
use std::time::Duration;

/// One slow request in JSON.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Slow {
    pub(super) answered_unix_us: u64,
    operation: &'static str,
    code: String,
    table_id: u32,
    /// Absent if meta does not know the table, or was not asked.
    table: Option<String>,
    partition: u32,
    bytes: u64,
    /// Equal numbers: requests for the same key, within one life of the node. None: for no one key.
    key_hash: Option<String>,
    total_us: f64,
    /// The stage that took most of it.
    largest: &'static str,
    /// By stage, in the order in which the request went through them.
    stages: Vec<StageTime>,
    #[serde(skip)]
    pub(super) request: RequestTimes,
}

#[derive(Clone, Debug, Serialize)]
struct StageTime {
    stage: &'static str,
    us: f64,
}

/// All that the page keeps, the slowest first. `tables` has names by number.
pub(super) fn all(page: &Snapshot, tables: &BTreeMap<u32, String>) -> Vec<Slow> {
    let slow = page.slow_requests().iter();
    slow.map(|slow| Slow::new(slow.answered_unix_us, slow.request, tables))
        .collect()
}

impl Slow {
    fn new(answered_unix_us: u64, request: RequestTimes, tables: &BTreeMap<u32, String>) -> Self {
        let stages = request.class().stages();
        Self {
            answered_unix_us,
            operation: request.operation.name(),
            code: format!("{:?}", request.code),
            table_id: request.table,
            table: tables.get(&request.table).cloned(),
            partition: request.partition,
            bytes: request.bytes,
            key_hash: (request.key_hash != 0).then(|| format!("{:016x}", request.key_hash)),
            total_us: microseconds(request.total()),
            largest: largest(&request).name(),
            stages: stages
                .map(|(stage, _)| StageTime {
                    stage: stage.name(),
                    us: microseconds(request.stage(stage)),
                })
                .collect(),
            request,
        }
    }

    /// `demo.3`, or the number of a table whose name is not known.
    fn place(&self) -> String {
        let table = self.table.clone();
        let table = table.unwrap_or_else(|| format!("#{}", self.table_id));
        format!("{table}.{}", self.partition)
    }
}

/// The stage in which a request spent most of its time.
pub(super) fn largest(request: &RequestTimes) -> Stage {
    let stages = request.class().stages().map(|(stage, _)| stage);
    stages
        .max_by_key(|stage| request.stage(*stage))
        .unwrap_or(Stage::Decode)
}

/// The requests of one class as a table; the stage that took most of each is marked. Stages in which none of them spent
/// a hundredth of its time are left out. `published_us`: ages count from there.
pub(super) fn table(class: Class, slow: &[&Slow], published_us: u64) -> Table {
    let stages: Vec<Stage> = class
        .stages()
        .map(|(stage, _)| stage)
        .filter(|stage| slow.iter().any(|slow| matters(&slow.request, *stage)))
        .collect();
    let has_failures = slow.iter().any(|slow| slow.request.code != Code::Ok);
    let mut header = vec!["age s", "request", "table.partition", "bytes", "total us"];
    header.extend(stages.iter().map(|stage| stage.name()));
    let mut right: Vec<usize> = vec![0];
    right.extend(3..header.len());
    if has_failures {
        header.push("answer");
    }
    let mut rows = wide_table(&header, &right);
    for slow in slow {
        let age = Duration::from_micros(published_us.saturating_sub(slow.answered_unix_us));
        let mut cells = vec![
            format!("{:.1}", age.as_secs_f64()),
            slow.operation.to_owned(),
            slow.place(),
            bytes_short(slow.bytes),
            whole_us(slow.request.total()),
        ];
        let marked = largest(&slow.request);
        cells.extend(stages.iter().map(|stage| {
            let mark = if *stage == marked { "*" } else { "" };
            format!("{mark}{}", whole_us(slow.request.stage(*stage)))
        }));
        if has_failures {
            cells.push(slow.code.clone());
        }
        rows.add_row(cells);
    }
    rows
}

fn matters(request: &RequestTimes, stage: Stage) -> bool {
    request.stage(stage) * 100 >= request.total() && request.total() > Duration::ZERO
}

fn whole_us(duration: Duration) -> String {
    let us = duration
        .saturating_add(Duration::from_nanos(500))
        .as_micros();
    count(u64::try_from(us).unwrap_or(u64::MAX))
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use pegasus_fbs::stats_page::Timing;

    /// A put of table 7, partition 3, with these microseconds.
    pub(in crate::cores::show) fn write(stages: &[(Stage, u64)]) -> RequestTimes {
        let mut request = RequestTimes {
            operation: Timing::Put,
            code: Code::Ok,
            table: 7,
            partition: 3,
            bytes: 1536,
            key_hash: 0xab,
            stages: [0; Stage::COUNT],
        };
        for (stage, us) in stages {
            request.stages[*stage as usize] = us * 1_000;
        }
        request
    }

    fn slow(stages: &[(Stage, u64)]) -> Slow {
        let names = [(7, "demo".to_owned())].into();
        Slow::new(1_000_000, write(stages), &names)
    }

    #[test]
    fn the_stage_that_held_a_request_up_is_marked_and_those_that_did_not_matter_are_left_out() {
        let slow = slow(&[
            (Stage::Decode, 1),
            (Stage::Flush, 1_500),
            (Stage::Apply, 500),
        ]);
        let shown = table(Class::Write, &[&slow], 3_500_000).trim_fmt();
        for text in ["2.5", "put", "demo.3", "1.5K", "2,001", "*1,500", " 500"] {
            assert!(shown.contains(text), "{text} in\n{shown}");
        }
        assert!(
            !shown.contains("decode") && !shown.contains("answer"),
            "{shown}"
        );
    }

    #[test]
    fn json_has_every_stage_of_a_slow_request() {
        let json = serde_json::to_value(slow(&[(Stage::Queue, 20)])).unwrap_or_default();
        assert_eq!(json["largest"], "queue");
        assert_eq!(json["key_hash"], "00000000000000ab");
        assert_eq!(json["stages"].as_array().map(Vec::len), Some(9));
        assert_eq!(
            json["stages"][1],
            serde_json::json!({"stage": "queue", "us": 20.0})
        );
    }
}
