//! The servers' cores over a run: what each did, and where the time of its requests went.

use super::markup::{count, element, escape, rate, section, table, time, wrap};
use crate::report::{CoreTiming, CoreUse, Cores};

/// Cores whose stages are drawn; the tables have all.
const DRAWN_MAX: usize = 16;

/// Which of a core's lists.
type Timings = fn(&CoreUse) -> &[CoreTiming];

pub(super) fn html(cores: &Cores) -> String {
    let missing: String = cores
        .missing
        .iter()
        .map(|sentence| element("p", "note", sentence))
        .collect();
    if cores.cores.is_empty() {
        return section("Cores of the servers", "", missing);
    }
    let body = format!(
        "{}{}{}{}{missing}",
        card(
            "Load",
            "Queues are those at the end.",
            &load_table(&cores.cores)
        ),
        stages(&cores.cores),
        card(
            "Whole operations, from a request's last byte to its answer",
            "",
            &timing_table(&cores.cores, |core| &core.operations)
        ),
        card(
            "Work of the cores that belongs to no one request",
            "",
            &timing_table(&cores.cores, |core| &core.work)
        ),
    );
    section(
        "Cores of the servers",
        "From their own statistics, between a look before the run and one after it: warm-up included.",
        body,
    )
}

fn card(title: &str, note: &str, html: &str) -> String {
    let note = if note.is_empty() {
        String::new()
    } else {
        element("p", "note", note)
    };
    wrap(
        "div",
        "card",
        format!("{}{note}{html}", element("h3", "", title)),
    )
}

/// What few readers need, behind a click.
fn folded(title: &str, html: &str) -> String {
    wrap(
        "details",
        "",
        format!("{}{html}", element("summary", "", title)),
    )
}

fn load_table(cores: &[CoreUse]) -> String {
    let heading = [
        "core",
        "requests/s",
        "failed",
        "flushes/s",
        "flush p50",
        "flush p99",
        "primaries of replicas",
        "in work",
        "queues: log, apply, read",
        "memory hits",
        "sleeps/s",
        "stalls",
    ];
    let row = |core: &CoreUse| {
        let flush = |pick: fn(&CoreTiming) -> f64| {
            core.work("log_flush")
                .map_or("-".to_owned(), |flush| time(pick(flush)))
        };
        vec![
            core.name(),
            rate(core.requests_per_second()),
            count(core.failures),
            rate(core.per_second("log_flushes")),
            flush(|flush| flush.p50_us),
            flush(|flush| flush.p99_us),
            format!("{} of {}", core.gauge("primaries"), core.gauge("replicas")),
            count(core.gauge("requests_inflight")),
            format!(
                "{} B, {}, {}",
                count(core.gauge("log_pending_bytes")),
                count(core.gauge("apply_queue")),
                count(core.gauge("read_queue"))
            ),
            core.memory_hit_percent()
                .map_or("-".to_owned(), |percent| format!("{percent:.1} %")),
            rate(core.per_second("sleeps")),
            count(core.count("stalls")),
        ]
    };
    let rows: Vec<_> = cores.iter().map(row).collect();
    table(1, &heading, &rows)
}

fn timing_table(cores: &[CoreUse], of: Timings) -> String {
    let rows: Vec<_> = cores
        .iter()
        .flat_map(|core| of(core).iter().map(|timing| timing_row(core, timing)))
        .collect();
    let heading = [
        "core", "what", "count", "mean", "p50", "p99", "p99.9", "max",
    ];
    table(2, &heading, &rows)
}

fn timing_row(core: &CoreUse, timing: &CoreTiming) -> Vec<String> {
    vec![
        core.name(),
        timing.name.replace('_', " "),
        count(timing.count),
        time(timing.mean_us),
        time(timing.p50_us),
        time(timing.p99_us),
        time(timing.p999_us),
        time(timing.max_us),
    ]
}

/// Reads and writes: a bar for each core, cut into the stages of its mean request, and the table.
fn stages(cores: &[CoreUse]) -> String {
    let classes: [(&str, Timings); 2] = [
        ("reads", |core| &core.reads),
        ("writes", |core| &core.writes),
    ];
    classes
        .into_iter()
        .filter(|(_, of)| cores.iter().any(|core| !of(core).is_empty()))
        .map(|(what, of)| {
            let bars: String = cores
                .iter()
                .filter(|core| !of(core).is_empty())
                .take(DRAWN_MAX)
                .map(|core| bar(&core.name(), of(core)))
                .collect();
            card(
                &format!("Where the time of {what} goes"),
                "The mean request of each core, cut into its stages; the stages of a request follow one another without a gap.",
                &format!(
                    "{}{bars}{}",
                    stage_legend(cores, of),
                    folded("Percentiles of each stage", &timing_table(cores, of))
                ),
            )
        })
        .collect()
}

/// Stages keep their colour whether others are there or not.
fn class(stage: &str) -> &'static str {
    match stage {
        "decode" => "s1",
        "queue" => "s2",
        "gate" => "s3",
        "log_wait" => "s4",
        "flush" | "read" => "s5",
        "replication" => "s6",
        "apply" => "s7",
        "encode" => "s8",
        _ => "s9",
    }
}

fn stage_legend(cores: &[CoreUse], of: Timings) -> String {
    let longest = cores
        .iter()
        .map(of)
        .max_by_key(|stages| stages.len())
        .unwrap_or_default();
    let entry = |stage: &CoreTiming| {
        wrap(
            "span",
            "entry",
            format!(
                "<i class=\"block {}\"></i>{}",
                class(&stage.name),
                escape(&stage.name.replace('_', " "))
            ),
        )
    };
    wrap(
        "div",
        "legend",
        longest.iter().map(entry).collect::<String>(),
    )
}

fn bar(name: &str, stages: &[CoreTiming]) -> String {
    let total: f64 = stages.iter().map(|stage| stage.mean_us).sum();
    if total <= 0.0 {
        return String::new();
    }
    let part = |stage: &CoreTiming| {
        let percent = stage.mean_us / total * 100.0;
        let tip = format!(
            "{}: {} ({percent:.1} %)",
            stage.name.replace('_', " "),
            time(stage.mean_us)
        );
        format!(
            "<i class=\"part {}\" style=\"width:{percent:.2}%\" title=\"{}\"></i>",
            class(&stage.name),
            escape(&tip)
        )
    };
    wrap(
        "div",
        "bar",
        format!(
            "{}{}{}",
            element("b", "", name),
            wrap("div", "parts", stages.iter().map(part).collect::<String>()),
            element("span", "", time(total))
        ),
    )
}
