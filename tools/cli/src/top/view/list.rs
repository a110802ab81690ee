//! One of the lists, in as many columns as there is room for.

use crate::top::app::App;
use crate::top::lists::{Column, Line as ListLine, List};
use crate::top::theme::{Theme, Tone};
use ratatui::Frame;
use ratatui::layout::Rect;
use ratatui::text::{Line, Span};
use ratatui::widgets::Paragraph;

pub(super) fn draw(frame: &mut Frame<'_>, area: Rect, list: &List, app: &App, theme: Theme) {
    let place = app.place();
    let shown = shown(list.columns, area.width, place.sort.column);
    let mut lines = vec![header(list, &shown, app, theme)];
    if list.lines.is_empty() {
        let text = match app.filter.is_empty() {
            true => format!("no {} known yet", list.title),
            false => format!(
                "no {} of tables whose names contain {}",
                list.title, app.filter
            ),
        };
        lines.push(Line::styled(text, theme.style(Tone::Dim)));
    }
    let room = usize::from(area.height).saturating_sub(1).max(1);
    let chosen = place.line.min(list.lines.len().saturating_sub(1));
    // The chosen line is always there, in the middle as far as there are others around it.
    let last = list.lines.len().saturating_sub(room);
    let first = chosen.saturating_sub(room / 2).min(last);
    for (at, line) in list.lines.iter().enumerate().skip(first).take(room) {
        lines.push(row(list, line, &shown, at == chosen, theme));
    }
    frame.render_widget(Paragraph::new(lines), area);
}

/// The columns that have room, and how wide each is: those of the highest rank go first, the last one takes what is left.
fn shown(columns: &[Column], width: u16, sorted: usize) -> Vec<(usize, usize)> {
    let needed = |rank: u8| -> usize {
        let fitting = columns.iter().enumerate();
        fitting
            .filter(|(at, column)| column.rank <= rank || *at == sorted)
            .map(|(_, column)| usize::from(column.width) + 1)
            .sum()
    };
    let rank = (0..=9_u8)
        .rev()
        .find(|rank| needed(*rank) <= usize::from(width) + 1);
    let rank = rank.unwrap_or(0);
    let mut shown = Vec::new();
    let mut used = 0;
    // Of the next rank as many as fit.
    let mut free = (usize::from(width) + 1).saturating_sub(needed(rank));
    for (at, column) in columns.iter().enumerate() {
        let takes = usize::from(column.width) + 1;
        let is_in = column.rank <= rank || at == sorted;
        let fits = column.rank == rank + 1 && takes <= free;
        if !is_in && fits {
            free -= takes;
        }
        if (is_in || fits) && used + takes <= usize::from(width) + 1 {
            shown.push((at, usize::from(column.width)));
            used += takes;
        }
    }
    if let Some((at, letters)) = shown.last_mut()
        && !columns[*at].is_right
    {
        *letters += (usize::from(width) + 1).saturating_sub(used);
    }
    shown
}

fn header(list: &List, shown: &[(usize, usize)], app: &App, theme: Theme) -> Line<'static> {
    let sort = app.place().sort;
    let mut spans = Vec::new();
    for (at, letters) in shown {
        let column = list.columns[*at];
        let title = match (*at == sort.column, sort.is_reversed) {
            (false, _) => column.title.to_owned(),
            (true, false) => format!("{}▼", column.title),
            (true, true) => format!("{}▲", column.title),
        };
        spans.push(Span::styled(
            fitted(&title, *letters, column.is_right),
            theme.style(Tone::Title),
        ));
        spans.push(Span::raw(" "));
    }
    Line::from(spans)
}

fn row(
    list: &List,
    line: &ListLine,
    shown: &[(usize, usize)],
    is_chosen: bool,
    theme: Theme,
) -> Line<'static> {
    let mut spans = Vec::new();
    for (at, letters) in shown {
        let Some(cell) = line.cells.get(*at) else {
            continue;
        };
        let text = fitted(&cell.text, *letters, list.columns[*at].is_right);
        spans.push(Span::styled(text, theme.style(cell.tone)));
        spans.push(Span::raw(" "));
    }
    let line = Line::from(spans);
    match is_chosen {
        true => line.patch_style(theme.style(Tone::Chosen)),
        false => line,
    }
}

/// Exactly so many letters.
fn fitted(text: &str, letters: usize, is_right: bool) -> String {
    let cut: String = text.chars().take(letters).collect();
    match is_right {
        true => format!("{cut:>letters$}"),
        false => format!("{cut:<letters$}"),
    }
}
