//! A closer look at one core.

use crate::cores::name::CoreName;
use crate::cores::numbers::{Latency, Numbers};
use crate::cores::traffic::Traffic;
use crate::hotkeys::rank::name_of;
use crate::top::format::{bar, duration, latency_us, percent, short, size, spark};
use crate::top::lists::{count, ratio, tone_of};
use crate::top::model::{CoreRow, Model};
use crate::top::theme::{Theme, Tone};
use pegasus_fbs::stats_page::{Class, Counter, Gauge, Interval, Snapshot, Timing};
use ratatui::text::{Line, Span};
use std::time::Duration;

/// Slow requests and partitions that are named.
const NAMED: usize = 8;

pub(super) fn lines(model: &Model, name: CoreName, theme: Theme, width: u16) -> Vec<Line<'static>> {
    let Some(row) = model.core(name) else {
        return vec![Line::from(format!("core {name} is not there any more"))];
    };
    let mut lines = vec![head(row, theme)];
    if !row.is_running() {
        let text = format!("{}.", row.state.meaning());
        let tone = theme.style(tone_of(row.state));
        let wrapped = wrapped(&text, width.into()).into_iter();
        lines.extend(wrapped.map(|line| Line::styled(line, tone)));
    }
    if let Some(error) = &row.error {
        lines.push(Line::styled(error.clone(), theme.style(Tone::Bad)));
    }
    let Some((page, interval)) = model.page(name) else {
        return lines;
    };
    let numbers = Numbers::new(&interval, page);
    let seconds = interval.elapsed();
    let since = match row.is_running() {
        true => format!("numbers of {:.1} s", seconds.as_secs_f64()),
        false => format!("numbers since its start, of {}", duration(seconds)),
    };
    lines.push(Line::styled(since, theme.style(Tone::Dim)));
    lines.extend(requests(&numbers, row, theme, width));
    lines.extend(latencies(&interval, theme));
    lines.extend(stages(&interval, theme));
    lines.extend(engine_room(&numbers, page, theme));
    lines.extend(memory(&numbers, theme));
    lines.extend(partitions(model, row, theme));
    lines.extend(slow(model, page, theme));
    lines
}

fn head(row: &CoreRow, theme: Theme) -> Line<'static> {
    let mut spans = vec![
        Span::styled(format!("core {}  ", row.name), theme.style(Tone::Title)),
        Span::styled(row.state.name(), theme.style(tone_of(row.state))),
    ];
    if let Some(silent) = row.silent_for {
        spans.push(Span::raw(format!(
            ", last heard of {} ago",
            duration(silent)
        )));
    }
    if let Some(numbers) = &row.numbers {
        spans.push(Span::raw(format!(
            "  process {}  {} primaries of {} replicas  {} connections",
            numbers.pid, numbers.primaries, numbers.replicas, numbers.connections
        )));
    }
    Line::from(spans)
}

/// In lines of at most so many letters, between words.
fn wrapped(text: &str, letters: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in text.split(' ') {
        if let Some(line) = lines.last_mut() {
            let is_empty = line.is_empty();
            if is_empty || line.chars().count() + 1 + word.chars().count() <= letters {
                line.push_str(if is_empty { "" } else { " " });
                line.push_str(word);
                continue;
            }
        }
        lines.push(word.to_owned());
    }
    lines
}

fn titled(title: &str, text: String, theme: Theme) -> Line<'static> {
    Line::from(vec![
        Span::styled(format!("{title:<12}"), theme.style(Tone::Title)),
        Span::raw(text),
    ])
}

fn requests(numbers: &Numbers, row: &CoreRow, theme: Theme, width: u16) -> Vec<Line<'static>> {
    let kinds = Traffic::KINDS.iter().zip(numbers.traffic.kinds());
    let kinds: Vec<String> = kinds
        .map(|(kind, rate)| format!("{kind} {}", short(rate)))
        .collect();
    let mut lines = vec![titled(
        "requests/s",
        format!(
            "{}  ({})",
            short(numbers.requests_per_second),
            kinds.join(", ")
        ),
        theme,
    )];
    let rejects: Vec<String> = numbers
        .rejects
        .iter()
        .map(|(name, count)| format!("{name} {count}"))
        .collect();
    if numbers.failures_per_second > 0.0 || !rejects.is_empty() {
        let text = format!(
            "{} failed/s  {}",
            short(numbers.failures_per_second),
            rejects.join(", ")
        );
        lines.push(Line::styled(
            format!("{:<12}{text}", ""),
            theme.style(Tone::Bad),
        ));
    }
    let room = usize::from(width).saturating_sub(24).min(60);
    for (title, values) in [
        ("lately", &row.history.requests),
        ("p99 lately", &row.history.p99_us),
    ] {
        if values.is_empty() {
            continue;
        }
        let picture = spark(values, room);
        let newest = values.back().copied().unwrap_or(0);
        let newest = match title {
            "p99 lately" => latency_us(count(newest)),
            _ => short(count(newest)),
        };
        lines.push(Line::from(vec![
            Span::styled(format!("{title:<12}"), theme.style(Tone::Title)),
            Span::styled(picture, theme.style(Tone::Good)),
            Span::raw(format!(" {newest}")),
        ]));
    }
    lines
}

fn latencies(interval: &Interval, theme: Theme) -> Vec<Line<'static>> {
    let wanted = Timing::operations().iter().chain([
        &Timing::LogFlush,
        &Timing::SecondaryAck,
        &Timing::EngineApply,
        &Timing::ReadDisk,
        &Timing::Turn,
    ]);
    let mut lines = vec![Line::styled(
        format!(
            "{:<16}{:>9}{:>8}{:>8}{:>8}{:>8}",
            "", "count", "p50", "p99", "p99.9", "max"
        ),
        theme.style(Tone::Title),
    )];
    for timing in wanted {
        if let Some(latency) = Latency::new(interval.histogram(*timing)) {
            let [p50, p99, p999, max] = [
                latency.p50_us,
                latency.p99_us,
                latency.p999_us,
                latency.max_us,
            ]
            .map(latency_us);
            lines.push(Line::from(format!(
                "{:<16}{:>9}{p50:>8}{p99:>8}{p999:>8}{max:>8}",
                timing.name(),
                crate::output::count(latency.count)
            )));
        }
    }
    if lines.len() == 1 {
        return vec![Line::styled("no requests", theme.style(Tone::Dim))];
    }
    lines
}

/// Where the time went, by class.
fn stages(interval: &Interval, theme: Theme) -> Vec<Line<'static>> {
    let mut lines = Vec::new();
    for class in Class::ALL {
        let times: Vec<(&str, Duration)> = interval
            .stages(class)
            .map(|(stage, histogram)| (stage.name(), histogram.sum()))
            .collect();
        let all: f64 = times.iter().map(|(_, time)| time.as_secs_f64()).sum();
        if all <= 0.0 {
            continue;
        }
        let shares: Vec<String> = times
            .iter()
            .map(|(name, time)| (name, time.as_secs_f64() / all))
            .filter(|(_, share)| *share >= 0.005)
            .map(|(name, share)| format!("{name} {:.0}%", share * 100.0))
            .collect();
        lines.push(titled(
            &format!("{} time", class.name()),
            shares.join("  "),
            theme,
        ));
    }
    lines
}

fn engine_room(numbers: &Numbers, page: &Snapshot, theme: Theme) -> Vec<Line<'static>> {
    let queues = &numbers.queues;
    let hits = |ratio: Option<f64>| ratio.map_or("-".to_owned(), percent);
    vec![
        titled(
            "queues",
            format!(
                "in work {} of {}  prepares {}  to apply {}  disk reads {}  engine {}",
                queues.requests_inflight,
                page.gauge(Gauge::RequestsInflightMax),
                queues.prepares_inflight,
                queues.apply_queue,
                queues.read_queue,
                queues.engine_queue
            ),
            theme,
        ),
        titled(
            "log",
            format!(
                "{} flushes/s  waiting {} of {}  used {} of {}",
                short(numbers.flushes_per_second),
                size(count(queues.log_pending_bytes)),
                size(count(page.gauge(Gauge::LogPendingBytesMax))),
                size(count(page.gauge(Gauge::LogUsedBytes))),
                size(count(page.gauge(Gauge::LogUsedBytesMax))),
            ),
            theme,
        ),
        titled(
            "cache hits",
            format!(
                "rows {}  without the disk {}",
                hits(numbers.row_cache_hit_ratio),
                hits(numbers.cache_hit_ratio)
            ),
            theme,
        ),
        titled(
            "engine",
            format!(
                "memtable flushes {}  compactions {}  level 0 {} files  writes {}  stalls {}",
                numbers.memtable_flushes,
                numbers.compactions,
                numbers.level0_files,
                numbers.writes_refused.unwrap_or("taken"),
                numbers.stalls
            ),
            theme,
        ),
        titled(
            "network",
            format!(
                "{}/s in  {}/s out  {} slept  links to {} cores",
                size(numbers.bytes_received_per_second),
                size(numbers.bytes_sent_per_second),
                short(count(page.counter(Counter::Sleeps))),
                page.gauge(Gauge::PeerLinks)
            ),
            theme,
        ),
    ]
}

fn memory(numbers: &Numbers, theme: Theme) -> Vec<Line<'static>> {
    let parts = numbers.memory.parts().into_iter();
    parts
        .map(|(name, part)| {
            let share = ratio(part.bytes, part.bytes_max);
            let tone = if share > 0.9 { Tone::Warn } else { Tone::Good };
            Line::from(vec![
                Span::styled(format!("in {name:<10}"), theme.style(Tone::Title)),
                Span::styled(bar(share, 20), theme.style(tone)),
                Span::raw(format!(
                    " {} of {}",
                    size(count(part.bytes)),
                    size(count(part.bytes_max))
                )),
            ])
        })
        .collect()
}

fn partitions(model: &Model, row: &CoreRow, theme: Theme) -> Vec<Line<'static>> {
    let mut busiest: Vec<_> = row.partitions.iter().collect();
    busiest.sort_by(|one, other| {
        other
            .requests_per_second
            .total_cmp(&one.requests_per_second)
    });
    let named: Vec<String> = busiest
        .into_iter()
        .take(NAMED)
        .filter(|it| it.requests_per_second > 0.0)
        .map(|it| {
            let table = name_of(it.table_id, &model.tables);
            format!(
                "{table}.{} {}/s",
                it.partition,
                short(it.requests_per_second)
            )
        })
        .collect();
    match named.is_empty() {
        true => Vec::new(),
        false => vec![titled("busiest", named.join("  "), theme)],
    }
}

fn slow(model: &Model, page: &Snapshot, theme: Theme) -> Vec<Line<'static>> {
    let slowest = page.slow_requests().iter().take(NAMED);
    let mut lines: Vec<Line<'static>> = slowest
        .map(|slow| {
            let request = &slow.request;
            let age = page
                .published_unix_us()
                .saturating_sub(slow.answered_unix_us);
            let stages = request.class().stages();
            let largest = stages.max_by_key(|(stage, _)| request.stage(*stage));
            let place = format!(
                "{}.{}",
                name_of(request.table, &model.tables),
                request.partition
            );
            let text = format!(
                "{:<16}{:>9}  {place:<18}  mostly {}, {} ago",
                request.operation.name(),
                latency_us(request.total().as_secs_f64() * 1e6),
                largest.map_or("-", |(stage, _)| stage.name()),
                duration(Duration::from_micros(age))
            );
            Line::from(text)
        })
        .collect();
    if !lines.is_empty() {
        let title = Line::styled("slowest of the last minutes", theme.style(Tone::Title));
        lines.insert(0, title);
    }
    lines
}
