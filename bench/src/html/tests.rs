//! Whole pages: nothing is fetched, nothing escapes, nothing is missing.

#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use crate::compare::{CompareReport, Side};
use crate::outcome::{Period, PeriodLatency, TimesQuiet};
use crate::report::{Machine, Report, examples};
use crate::sweep::{Limits, Sample, Search, SweepReport};
use crate::versus::VersusReport;
use serde_json::Value;
use std::collections::BTreeMap;

const NASTY: &str = "</td></script><img src=http://x onerror=alert(1)>\"'&";

/// Every text of the report that is free text, made nasty. What has a closed list of values stays.
fn nasty(value: &mut Value) {
    match value {
        Value::String(text) => *text = NASTY.to_owned(),
        Value::Array(values) => values.iter_mut().for_each(nasty),
        Value::Object(fields) => {
            for (name, value) in fields {
                let closed = [
                    "schema",
                    "poll",
                    "validity",
                    "kind",
                    "execution",
                    "workload",
                    "distribution",
                    "fault",
                    "arrival",
                ];
                if !closed.contains(&name.as_str()) {
                    nasty(value);
                }
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

fn full_report() -> Report {
    let mut report = examples::report();
    report.outcome.errors_total = 3;
    report.outcome.errors = vec![crate::record::ErrorCount {
        kind: crate::workload::Kind::Read,
        code: "busy".to_owned(),
        execution: "not_executed".to_owned(),
        count: 3,
        example: "later".to_owned(),
    }];
    report.outcome.series[4].errors = 3;
    report.outcome.warnings = vec!["a warning".to_owned()];
    report
        .outcome
        .setup
        .target
        .notes
        .insert("scans".to_owned(), "by hash key".to_owned());
    if let Some(cores) = &mut report.cores {
        cores.missing = vec!["core 2/0: gone".to_owned()];
    }
    report
}

/// Quiet, then an event with a name that nobody would choose.
fn scenario() -> Report {
    let mut report = full_report();
    let period = |name: &str, is_event: bool, at_seconds| {
        let times_quiet = is_event.then_some(TimesQuiet {
            p50: 1.25,
            p99: 2.5,
            p999: 7.5,
        });
        let latency = PeriodLatency {
            measured: examples::measured(50.0),
            times_quiet,
        };
        Period {
            name: name.to_owned(),
            is_event,
            at_seconds,
            seconds: 3.0,
            operations: 10,
            errors: 0,
            never_sent: 0,
            longest_gap_ms: 1.5,
            latencies: BTreeMap::from([(crate::workload::Kind::Read, latency)]),
        }
    };
    report.outcome.periods = vec![period("quiet", false, 0.0), period(NASTY, true, 4.0)];
    report
}

fn versus() -> VersusReport {
    let mut report = crate::versus::example();
    report.servers[0].name = NASTY.to_owned();
    report.rows[1].server = NASTY.to_owned();
    report
}

#[test]
fn an_event_is_a_band_behind_everything_drawn_over_time_and_in_the_figures() {
    let report = scenario();
    let page = report.html();
    // Rate, all operations, and one for each kind.
    let charts = 2 + report.outcome.latencies.len();
    assert_eq!(page.matches("class=\"band\"").count(), charts);
    assert!(page.contains("Under disturbance") && page.contains("7.50"));
    let text = report.text();
    assert!(text.contains("1.25 x, 2.50 x, 7.50 x"), "{text}");
    let mut plain = report;
    plain.outcome.periods.clear();
    assert!(!plain.html().contains("class=\"band\""));
}

#[test]
fn a_scenario_survives_its_file() {
    let report = scenario();
    let text = serde_json::to_string(&report).unwrap();
    assert_eq!(serde_json::from_str::<Report>(&text).unwrap(), report);
}

fn sweep() -> SweepReport {
    let limits = Limits {
        from: 1_000.0,
        to: 8_000.0,
        factor: 2.0,
        p99_max_us: Some(500.0),
        p99_times: 10.0,
        refinements: 3,
    };
    let mut search = Search::new(limits);
    while let Some(rate) = search.next() {
        let all = examples::percentiles(if rate > 5_000.0 { 900.0 } else { 60.0 });
        let latencies = examples::report()
            .outcome
            .latencies
            .into_keys()
            .map(|kind| (kind, all.clone()))
            .collect();
        search.record(
            rate,
            Sample {
                achieved: rate,
                operations: 10,
                all,
                latencies,
                ..Sample::default()
            },
        );
    }
    let first = examples::outcome(60.0, 1_000.0);
    let floor = Some(examples::floor());
    SweepReport::new(Machine::default(), limits, 5.0, &search, &first, floor)
}

fn compared(report: &Report) -> String {
    let side = |name: &str| Side {
        name: name.to_owned(),
        files: vec![name.to_owned()],
        reports: vec![report.clone()],
    };
    let sides = [side(NASTY), side("B")];
    CompareReport::new(&sides, Some(10.0)).html(&sides)
}

fn pages() -> Vec<String> {
    let report = full_report();
    vec![
        report.html(),
        scenario().html(),
        sweep().html(),
        compared(&report),
        versus().html(),
    ]
}

#[test]
fn pages_fetch_nothing_and_forbid_it() {
    for page in pages() {
        // The page of the comparison has an address in a name, escaped; as an attribute it would be fetched.
        for fetching in [
            "<link", "<img", "<iframe", "src=\"", "@import", "url(", "fetch(",
        ] {
            assert!(!page.contains(fetching), "{fetching}");
        }
        for attribute in ["href=", "src=\"http", "action="] {
            assert!(!page.contains(attribute), "{attribute}");
        }
        assert!(page.contains("default-src 'none'"));
        assert_eq!(page.matches("<script").count(), 1);
    }
}

#[test]
fn every_text_from_outside_is_escaped() {
    let mut value = serde_json::to_value(full_report()).unwrap();
    nasty(&mut value);
    let report: Report = serde_json::from_value(value).unwrap();
    let mut value = serde_json::to_value(sweep()).unwrap();
    for part in ["machine", "setup", "floor", "warnings"] {
        nasty(&mut value[part]);
    }
    let sweep: SweepReport = serde_json::from_value(value).unwrap();
    for page in [report.html(), sweep.html(), compared(&report)] {
        assert!(!page.contains("<img"), "not escaped");
        assert!(page.contains("&lt;img src=http://x onerror=alert(1)&gt;&quot;&#39;&amp;"));
        assert_eq!(page.matches("</script>").count(), 1);
    }
}

#[test]
fn a_run_shows_every_part_that_was_measured() {
    let page = full_report().html();
    for part in [
        "Over time",
        "Percentiles",
        "Cores of the servers",
        "log flush",
        "Errors",
        "3 failed",
        "How it was measured",
        "floor: echo + flush",
        "this floor is not proven",
        "core 2/0: gone",
        "2.50 x an unproven floor",
    ] {
        assert!(page.contains(part), "{part}");
    }
    assert_eq!(
        page.matches("<svg").count(),
        5,
        "rate, all, read, update, percentiles"
    );
}

#[test]
fn a_sweep_shows_its_knee_and_its_bound() {
    let page = sweep().html();
    assert!(
        page.contains("holds: 4,"),
        "the knee lies between 4,000 and 5,000"
    );
    assert!(page.contains("bound of p99: 500 µs"));
    assert!(page.contains("is over the bound of 500 us"));
}

#[test]
fn an_empty_run_is_a_page_too() {
    let mut report = examples::report();
    report.outcome.latencies.clear();
    report.outcome.series.clear();
    report.floor = None;
    report.cores = None;
    let page = report.html();
    assert!(!page.contains("NaN") && !page.contains("inf "), "{page}");
}

#[test]
fn pages_are_well_formed() {
    for page in pages() {
        for tag in [
            "div", "section", "table", "tr", "td", "th", "figure", "svg", "ul", "li", "dl", "dt",
            "dd", "p", "span",
        ] {
            let opened = page.matches(&format!("<{tag}>")).count()
                + page.matches(&format!("<{tag} ")).count();
            let closed = page.matches(&format!("</{tag}>")).count();
            assert_eq!(opened, closed, "{tag}");
        }
    }
}
