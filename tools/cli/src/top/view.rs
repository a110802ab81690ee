//! Drawing: a line of sums, a list or a closer look, a line of keys. What is drawn depends on the app alone.

mod core;
mod list;
mod partition;

use super::app::{App, Screen};
use super::format::{latency_us, short};
use super::keys::HELP;
use super::theme::{Theme, Tone};
use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Block, Clear, Paragraph};

/// Less is too little for anything.
const WIDTH_MIN: u16 = 40;
const HEIGHT_MIN: u16 = 6;

/// Draws everything; tells the app how many lines there is room for.
pub(super) fn draw(frame: &mut Frame<'_>, app: &mut App, theme: Theme) {
    let area = frame.area();
    if area.width < WIDTH_MIN || area.height < HEIGHT_MIN {
        return draw_too_small(frame, area);
    }
    let [head, body, foot] = Layout::vertical([
        Constraint::Length(1),
        Constraint::Min(1),
        Constraint::Length(1),
    ])
    .areas(area);
    frame.render_widget(head_line(app, theme), head);
    match (app.list(), app.screen) {
        (Some(list), _) => {
            app.page_lines = usize::from(body.height.saturating_sub(1));
            list::draw(frame, body, &list, app, theme);
        }
        (None, Screen::Core(name)) => {
            let lines = core::lines(&app.model, name, theme, body.width);
            draw_lines(frame, body, app, lines);
        }
        (
            None,
            Screen::Partition {
                table_id,
                partition,
            },
        ) => {
            let lines = partition::lines(&app.model, table_id, partition, theme);
            draw_lines(frame, body, app, lines);
        }
        (None, _) => {}
    }
    frame.render_widget(foot_line(app, theme), foot);
    if app.is_help {
        draw_help(frame, area, theme);
    }
}

fn draw_too_small(frame: &mut Frame<'_>, area: Rect) {
    let text = format!(
        "{}x{}: needs {WIDTH_MIN}x{HEIGHT_MIN}; q quits",
        area.width, area.height
    );
    frame.render_widget(Paragraph::new(text), area);
}

fn head_line(app: &App, theme: Theme) -> Line<'static> {
    let totals = app.model.totals();
    let span = |text: String, tone| Span::styled(text, theme.style(tone));
    let mut spans = vec![
        span("pegasus top".to_owned(), Tone::Title),
        span(
            format!(
                "  {}, {}",
                counted(totals.nodes, "node"),
                counted(totals.cores, "core")
            ),
            Tone::Plain,
        ),
    ];
    if totals.troubled > 0 {
        let text = format!(" ({} not running)", totals.troubled);
        spans.push(span(text, Tone::Bad));
    }
    spans.push(span(
        format!(
            "  {} req/s  p99 {}",
            short(totals.requests),
            latency_us(totals.p99_us)
        ),
        Tone::Plain,
    ));
    if totals.failures > 0.0 {
        let text = format!("  {} failed/s", short(totals.failures));
        spans.push(span(text, Tone::Bad));
    }
    let seconds = app.interval.as_secs_f64();
    let pause = if app.is_paused { ", paused" } else { "" };
    spans.push(span(format!("  every {seconds} s{pause}"), Tone::Dim));
    if !app.filter.is_empty() {
        let text = format!("  tables: *{}*", app.filter);
        spans.push(span(text, Tone::Warn));
    }
    Line::from(spans)
}

/// `1 core`, `2 cores`.
fn counted(count: usize, what: &str) -> String {
    let many = if count == 1 { "" } else { "s" };
    format!("{count} {what}{many}")
}

fn foot_line(app: &App, theme: Theme) -> Line<'static> {
    if let Some(typed) = &app.typed {
        return Line::from(format!(
            "tables whose names contain: {typed}_   (Enter, Esc)"
        ));
    }
    let message = app.message.as_ref().or_else(|| app.model.problems.first());
    if let Some(message) = message {
        return Line::styled(message.clone(), theme.style(Tone::Bad));
    }
    let keys = match app.list() {
        Some(_) => "1 cores 2 tables 3 parts 4 hot keys  Enter open  <> sort  / filter  ? help  q",
        None => "Esc back  Up Down scroll  1 cores 2 tables 3 parts 4 hot keys  ? help  q",
    };
    Line::styled(keys, theme.style(Tone::Dim))
}

/// A closer look, from the line that the app is at.
fn draw_lines(frame: &mut Frame<'_>, area: Rect, app: &mut App, lines: Vec<Line<'static>>) {
    let room = usize::from(area.height);
    app.page_lines = room;
    let last = lines.len().saturating_sub(room);
    let first = app.place().line.min(last);
    app.scrolled_to(first);
    let shown: Vec<Line<'static>> = lines.into_iter().skip(first).take(room).collect();
    frame.render_widget(Paragraph::new(shown), area);
}

fn draw_help(frame: &mut Frame<'_>, area: Rect, theme: Theme) {
    let lines: Vec<Line<'_>> = HELP
        .iter()
        .map(|(keys, what)| {
            Line::from(vec![
                Span::styled(format!(" {keys:<16}"), theme.style(Tone::Title)),
                Span::raw(*what),
            ])
        })
        .collect();
    let height = u16::try_from(lines.len())
        .unwrap_or(u16::MAX)
        .saturating_add(2);
    let (width, height) = (76.min(area.width), height.min(area.height));
    let place = Rect {
        x: area.x + (area.width - width) / 2,
        y: area.y + (area.height - height) / 2,
        width,
        height,
    };
    frame.render_widget(Clear, place);
    let block = Block::bordered().title(" keys: any of them ends this ");
    frame.render_widget(Paragraph::new(lines).block(block), place);
}

#[cfg(test)]
mod tests;
