//! A closer look at one partition: its replicas, what each does, and its hot keys.

use crate::hotkeys::rank::name_of;
use crate::top::format::{percent, short, size};
use crate::top::lists::count;
use crate::top::model::Model;
use crate::top::theme::{Theme, Tone};
use pegasus_fbs::stats_page::Role;
use ratatui::text::{Line, Span};

/// Letters of a key.
const KEY_LETTERS: usize = 60;

pub(super) fn lines(
    model: &Model,
    table_id: u32,
    partition: u32,
    theme: Theme,
) -> Vec<Line<'static>> {
    let table = name_of(table_id, &model.tables);
    let title = |text: String| Line::styled(text, theme.style(Tone::Title));
    let mut lines = vec![
        title(format!("partition {table}.{partition}")),
        title(format!(
            "{:<7}{:<15}{:>7}{:>7}{:>7}{:>7}{:>7}{:>7}{:>8}{:>8}{:>8}{:>8}{:>8}  {}",
            "core",
            "role",
            "req/s",
            "get",
            "put",
            "multi",
            "scan",
            "atomic",
            "fail/s",
            "read/s",
            "write/s",
            "apply/s",
            "memtab",
            "ballot, committed"
        )),
    ];
    let rows = model.partition_rows("");
    let its = rows
        .iter()
        .filter(|row| (row.numbers.table_id, row.numbers.partition) == (table_id, partition));
    for row in its {
        let it = &row.numbers;
        let kinds = it.traffic.kinds().map(short);
        let tone = match it.role {
            Role::Primary => Tone::Good,
            Role::Secondary => Tone::Plain,
            _ => Tone::Warn,
        };
        lines.push(Line::from(vec![
            Span::raw(format!("{:<7}", row.core.to_string())),
            Span::styled(format!("{:<15}", it.role.name()), theme.style(tone)),
            Span::raw(format!(
                "{:>7}{:>7}{:>7}{:>7}{:>7}{:>7}{:>8}{:>8}{:>8}{:>8}{:>8}  {}, {}",
                short(it.requests_per_second),
                kinds[0],
                kinds[1],
                kinds[2],
                kinds[3],
                kinds[4],
                short(it.failures_per_second),
                size(it.bytes_read_per_second),
                size(it.bytes_written_per_second),
                short(it.applied_per_second),
                size(count(it.unflushed_bytes)),
                it.ballot,
                it.committed
            )),
        ]));
    }
    if lines.len() == 2 {
        lines.push(Line::from("no core that answers has a replica of it"));
    }
    lines.push(Line::default());
    lines.push(title("hot keys".to_owned()));
    let hot = model
        .hot_keys
        .iter()
        .filter(|row| (row.table_id, row.partition) == (table_id, partition));
    let before = lines.len();
    for row in hot {
        lines.push(Line::from(format!(
            "{:<7}{:>7}/s {:>7} of the core's  {}",
            row.kind,
            short(row.per_second),
            percent(row.share),
            row.shown(KEY_LETTERS)
        )));
    }
    if lines.len() == before {
        lines.push(Line::styled("none stands out", theme.style(Tone::Dim)));
    }
    lines
}
