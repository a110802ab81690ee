//! The lists: columns, and lines made of the model. What a line is about is its [`Subject`].

use super::format::{duration, latency_us, percent, short, size, spark};
use super::model::{CoreRow, Model, PartitionRow, TableRow};
use super::theme::Tone;
use crate::cores::name::CoreName;
use crate::cores::state::State;
use crate::cores::traffic::Traffic;
use crate::hotkeys::KEY_LETTERS_MAX;
use crate::hotkeys::rank::HotKeyRow;
use pegasus_fbs::stats_page::Role;
use std::cmp::Ordering;

/// A column. Where there is no room for all, those with the highest rank go first.
#[derive(Clone, Copy, Debug)]
pub(super) struct Column {
    pub(super) title: &'static str,
    /// Letters.
    pub(super) width: u16,
    pub(super) rank: u8,
    /// Numbers are at the right.
    pub(super) is_right: bool,
}

const fn right(title: &'static str, width: u16, rank: u8) -> Column {
    Column {
        title,
        width,
        rank,
        is_right: true,
    }
}

const fn left(title: &'static str, width: u16, rank: u8) -> Column {
    Column {
        title,
        width,
        rank,
        is_right: false,
    }
}

/// One cell: what is shown, and what it is sorted by.
#[derive(Clone, Debug)]
pub(super) struct Cell {
    pub(super) text: String,
    pub(super) tone: Tone,
    key: Key,
}

#[derive(Clone, Debug)]
enum Key {
    Number(f64),
    Text(String),
}

/// What a line is about: where Enter leads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Subject {
    Core(CoreName),
    Table(u32),
    Partition { table_id: u32, partition: u32 },
}

#[derive(Clone, Debug)]
pub(super) struct Line {
    pub(super) subject: Subject,
    pub(super) cells: Vec<Cell>,
}

/// A list with its lines in order.
#[derive(Clone, Debug)]
pub(super) struct List {
    pub(super) title: &'static str,
    pub(super) columns: &'static [Column],
    pub(super) lines: Vec<Line>,
}

/// How a list is sorted: a column, the largest first unless it is turned round.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Sort {
    pub(super) column: usize,
    pub(super) is_reversed: bool,
}

impl List {
    pub(super) fn sort(&mut self, sort: Sort) {
        self.lines.sort_by(|one, other| {
            let order = match (one.cells.get(sort.column), other.cells.get(sort.column)) {
                (Some(one), Some(other)) => one.key.order(&other.key),
                _ => Ordering::Equal,
            };
            match sort.is_reversed {
                true => order.reverse(),
                false => order,
            }
        });
    }
}

impl Key {
    /// Numbers from the largest, words from A.
    fn order(&self, other: &Self) -> Ordering {
        match (self, other) {
            (Self::Number(one), Self::Number(other)) => other.total_cmp(one),
            (Self::Text(one), Self::Text(other)) => one.cmp(other),
            (Self::Number(_), Self::Text(_)) => Ordering::Less,
            (Self::Text(_), Self::Number(_)) => Ordering::Greater,
        }
    }
}

impl Cell {
    fn number(value: f64, text: String) -> Self {
        Self {
            text,
            tone: Tone::Plain,
            key: Key::Number(value),
        }
    }

    fn text(text: impl Into<String>) -> Self {
        let text = text.into();
        Self {
            key: Key::Text(text.clone()),
            text,
            tone: Tone::Plain,
        }
    }

    fn rate(value: f64) -> Self {
        let cell = Self::number(value, short(value));
        if value == 0.0 {
            cell.with(Tone::Dim)
        } else {
            cell
        }
    }

    /// A number that is 0 as long as all is well.
    fn trouble(value: f64, text: String) -> Self {
        let tone = if value > 0.0 { Tone::Bad } else { Tone::Dim };
        Self::number(value, text).with(tone)
    }

    fn none() -> Self {
        Self::number(-1.0, "-".to_owned()).with(Tone::Dim)
    }

    fn bytes(value: f64) -> Self {
        let cell = Self::number(value, size(value));
        if value == 0.0 {
            cell.with(Tone::Dim)
        } else {
            cell
        }
    }

    const fn with(mut self, tone: Tone) -> Self {
        self.tone = tone;
        self
    }
}

const CORES: [Column; 31] = [
    left("core", 6, 0),
    left("state", 12, 0),
    right("req/s", 6, 0),
    right("get", 6, 5),
    right("put", 6, 5),
    right("multi", 6, 7),
    right("scan", 6, 6),
    right("atomic", 6, 7),
    right("redis", 6, 7),
    right("fail/s", 6, 2),
    right("p50", 6, 3),
    right("p99", 6, 1),
    right("p99.9", 6, 3),
    left("p99 lately", 10, 2),
    right("prim", 5, 3),
    right("repl", 5, 4),
    right("flush99", 7, 3),
    right("flush/s", 7, 9),
    right("work", 5, 3),
    right("prep", 5, 8),
    right("apply", 5, 8),
    right("disk", 5, 8),
    right("log q", 6, 5),
    right("row%", 5, 6),
    right("cache%", 6, 5),
    right("compact", 7, 9),
    right("L0", 4, 6),
    right("stall", 5, 4),
    left("writes", 7, 8),
    right("memory", 7, 4),
    right("mem%", 5, 4),
];

/// One line for each core.
pub(super) fn cores(model: &Model, filter: &str) -> List {
    let lines = model.cores.iter().map(|row| Line {
        subject: Subject::Core(row.name),
        cells: core_cells(row, &row.traffic(model, filter), filter),
    });
    List {
        title: "cores",
        columns: &CORES,
        lines: lines.collect(),
    }
}

fn core_cells(row: &CoreRow, traffic: &Traffic, filter: &str) -> Vec<Cell> {
    let mut cells = vec![
        Cell::number(
            -f64::from(row.name.node) * 65_536.0 - f64::from(row.name.core),
            row.name.to_string(),
        ),
        state_cell(row),
    ];
    let Some(numbers) = &row.numbers else {
        cells.resize_with(CORES.len(), Cell::none);
        return cells;
    };
    let runs = row.is_running();
    let when_running = |cell: Cell| if runs { cell } else { Cell::none() };
    let requests = match filter {
        "" => numbers.requests_per_second,
        _ => traffic.total(),
    };
    cells.push(when_running(Cell::rate(requests)));
    cells.extend(traffic.kinds().map(|rate| when_running(Cell::rate(rate))));
    let failures = numbers.failures_per_second;
    cells.push(when_running(Cell::trouble(failures, short(failures))));
    match numbers.latency.as_ref().filter(|_| runs) {
        Some(it) => cells
            .extend([it.p50_us, it.p99_us, it.p999_us].map(|us| Cell::number(us, latency_us(us)))),
        None => cells.extend([Cell::none(), Cell::none(), Cell::none()]),
    }
    cells.push(Cell::text(spark(&row.history.p99_us, 10)).with(Tone::Good));
    cells.push(Cell::number(
        count(numbers.primaries),
        numbers.primaries.to_string(),
    ));
    cells.push(Cell::number(
        count(numbers.replicas),
        numbers.replicas.to_string(),
    ));
    cells.push(match numbers.latencies.get("log_flush") {
        Some(flush) if runs => Cell::number(flush.p99_us, latency_us(flush.p99_us)),
        _ => Cell::none(),
    });
    cells.push(when_running(Cell::rate(numbers.flushes_per_second)));
    let queues = &numbers.queues;
    for queue in [
        queues.requests_inflight,
        queues.prepares_inflight,
        queues.apply_queue,
        queues.read_queue,
    ] {
        cells.push(Cell::rate(count(queue)));
    }
    cells.push(Cell::bytes(count(queues.log_pending_bytes)));
    for ratio in [numbers.row_cache_hit_ratio, numbers.cache_hit_ratio] {
        cells.push(match ratio {
            Some(ratio) if runs => Cell::number(ratio, percent(ratio)),
            _ => Cell::none(),
        });
    }
    cells.push(when_running(Cell::rate(count(numbers.compactions))));
    let level0 = count(numbers.level0_files);
    cells.push(Cell::rate(level0).with(if level0 >= 20.0 {
        Tone::Warn
    } else {
        Tone::Plain
    }));
    cells.push(when_running(Cell::trouble(
        count(numbers.stalls),
        numbers.stalls.to_string(),
    )));
    cells.push(match numbers.writes_refused {
        Some("disk full") => Cell::text("full").with(Tone::Bad),
        Some(_) => Cell::text("behind").with(Tone::Bad),
        None => Cell::text("ok").with(Tone::Dim),
    });
    let memory = numbers.memory.total();
    cells.push(Cell::bytes(count(memory.bytes)));
    let share = ratio(memory.bytes, memory.bytes_max);
    cells.push(Cell::number(share, percent(share)).with(if share > 0.9 {
        Tone::Warn
    } else {
        Tone::Plain
    }));
    cells
}

fn state_cell(row: &CoreRow) -> Cell {
    let name = row.state.name();
    let text = match row.silent_for {
        Some(silent) => format!("{name} {}", duration(silent)),
        None => name.to_owned(),
    };
    Cell::text(text).with(tone_of(row.state))
}

pub(super) const fn tone_of(state: State) -> Tone {
    match state {
        State::Running => Tone::Good,
        State::Starting | State::Stopped => Tone::Warn,
        State::Dead | State::Stuck | State::Silent => Tone::Bad,
    }
}

const TABLES: [Column; 17] = [
    left("table", 16, 0),
    right("req/s", 7, 0),
    right("get", 6, 2),
    right("put", 6, 2),
    right("multi", 6, 3),
    right("scan", 6, 3),
    right("atomic", 6, 3),
    right("fail/s", 6, 1),
    right("throttl", 7, 4),
    right("read/s", 7, 2),
    right("write/s", 7, 2),
    right("prim", 5, 1),
    right("repl", 5, 3),
    right("memtab", 7, 5),
    right("hottest", 7, 2),
    right("share", 6, 2),
    right("x mean", 6, 3),
];

/// One line for each table.
pub(super) fn tables(model: &Model, filter: &str) -> List {
    let rows = model.table_rows(filter);
    List {
        title: "tables",
        columns: &TABLES,
        lines: rows
            .iter()
            .map(|row| Line {
                subject: Subject::Table(row.table_id),
                cells: table_cells(row),
            })
            .collect(),
    }
}

fn table_cells(row: &TableRow) -> Vec<Cell> {
    let mut cells = vec![
        Cell::text(row.name.clone()),
        Cell::rate(row.traffic.total()),
    ];
    // Redis commands are counted where their connections are.
    cells.extend(
        row.traffic.kinds()[..5]
            .iter()
            .map(|rate| Cell::rate(*rate)),
    );
    cells.extend([
        Cell::trouble(row.failures, short(row.failures)),
        Cell::rate(row.throttled),
        Cell::bytes(row.bytes_read),
        Cell::bytes(row.bytes_written),
        Cell::rate(count(row.primaries)),
        Cell::rate(count(row.replicas)),
        Cell::bytes(count(row.unflushed_bytes)),
    ]);
    match row.hottest {
        Some((partition, share)) => cells.extend([
            Cell::number(f64::from(partition), partition.to_string()),
            Cell::number(share, percent(share)),
            hot_cell(share * count(row.primaries.max(1))),
        ]),
        None => cells.extend([Cell::none(), Cell::none(), Cell::none()]),
    }
    cells
}

/// So many times its fair share.
fn hot_cell(times: f64) -> Cell {
    Cell::number(times, format!("{times:.1}")).with(match times {
        times if times >= 4.0 => Tone::Bad,
        times if times >= 2.0 => Tone::Warn,
        _ => Tone::Plain,
    })
}

const PARTITIONS: [Column; 17] = [
    left("table", 16, 0),
    right("part", 5, 0),
    left("core", 6, 0),
    left("role", 10, 1),
    right("req/s", 6, 0),
    right("core%", 6, 1),
    right("get", 6, 3),
    right("put", 6, 3),
    right("multi", 6, 4),
    right("scan", 6, 4),
    right("atomic", 6, 4),
    right("fail/s", 6, 2),
    right("read/s", 7, 3),
    right("write/s", 7, 3),
    right("apply/s", 7, 2),
    right("memtab", 7, 5),
    right("ballot", 7, 6),
];

/// One line for each replica; `table`: only of this one.
pub(super) fn partitions(model: &Model, filter: &str, table: Option<u32>) -> List {
    let rows = model.partition_rows(filter);
    let wanted = rows
        .iter()
        .filter(|row| table.is_none_or(|only| row.numbers.table_id == only));
    List {
        title: "partitions",
        columns: &PARTITIONS,
        lines: wanted
            .map(|row| Line {
                subject: Subject::Partition {
                    table_id: row.numbers.table_id,
                    partition: row.numbers.partition,
                },
                cells: partition_cells(row),
            })
            .collect(),
    }
}

fn partition_cells(row: &PartitionRow) -> Vec<Cell> {
    let it = &row.numbers;
    let mut cells = vec![
        Cell::text(row.table.clone()),
        Cell::number(-f64::from(it.partition), it.partition.to_string()),
        Cell::text(row.core.to_string()),
        Cell::text(it.role.name()).with(match it.role {
            Role::Primary => Tone::Good,
            Role::Secondary => Tone::Plain,
            Role::Learner => Tone::Warn,
            Role::None | Role::OutOfService => Tone::Bad,
        }),
        Cell::rate(it.requests_per_second),
        Cell::number(row.share, percent(row.share)),
    ];
    cells.extend(it.traffic.kinds()[..5].iter().map(|rate| Cell::rate(*rate)));
    cells.extend([
        Cell::trouble(it.failures_per_second, short(it.failures_per_second)),
        Cell::bytes(it.bytes_read_per_second),
        Cell::bytes(it.bytes_written_per_second),
        Cell::rate(it.applied_per_second),
        Cell::bytes(count(it.unflushed_bytes)),
        Cell::number(count(it.ballot), it.ballot.to_string()),
    ]);
    cells
}

const HOT_KEYS: [Column; 8] = [
    left("table", 16, 0),
    right("part", 5, 1),
    left("core", 6, 2),
    left("kind", 6, 0),
    right("req/s", 7, 0),
    right("share", 7, 0),
    right("at least", 8, 3),
    left("key", 50, 0),
];

/// One line for each hot key.
pub(super) fn hot_keys(model: &Model, filter: &str) -> List {
    let wanted = model
        .hot_keys
        .iter()
        .filter(|row| model.fits(row.table_id, filter));
    List {
        title: "hot keys",
        columns: &HOT_KEYS,
        lines: wanted
            .map(|row| Line {
                subject: Subject::Partition {
                    table_id: row.table_id,
                    partition: row.partition,
                },
                cells: hot_key_cells(row),
            })
            .collect(),
    }
}

fn hot_key_cells(row: &HotKeyRow) -> Vec<Cell> {
    vec![
        Cell::text(row.table.clone()),
        Cell::number(-f64::from(row.partition), row.partition.to_string()),
        Cell::text(row.core.clone()),
        Cell::text(row.kind),
        Cell::rate(row.per_second),
        Cell::number(row.share, percent(row.share)).with(if row.share >= 0.2 {
            Tone::Warn
        } else {
            Tone::Plain
        }),
        Cell::number(row.share_at_least, percent(row.share_at_least)),
        Cell::text(row.shown(KEY_LETTERS_MAX)),
    ]
}

#[allow(clippy::cast_precision_loss, reason = "numbers for people")]
pub(super) fn count(number: u64) -> f64 {
    number as f64
}

/// 0 where there is no bound.
pub(super) fn ratio(part: u64, whole: u64) -> f64 {
    if whole == 0 {
        return 0.0;
    }
    count(part) / count(whole)
}
