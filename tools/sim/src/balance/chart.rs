//! The rounds of each scenario as a picture: one row for each, one panel for each number.

use super::{Round, Story};
use pegasus_meta::place::balance::Evenness;
use std::fmt::Write as _;

const WIDTH: f64 = 980.0;
const ROW: f64 = 250.0;
const PANEL: f64 = 270.0;
const HEIGHT: f64 = 150.0;
const LEFT: f64 = 60.0;
const GAP: f64 = 45.0;
const TOP: f64 = 66.0;

/// A number by round.
struct Panel {
    title: &'static str,
    lines: Vec<Line>,
    /// It is drawn from here on.
    floor: f64,
}

struct Line {
    name: &'static str,
    color: &'static str,
    points: Vec<f64>,
}

const BLUE: &str = "#1f6fb2";
const RED: &str = "#c8452d";
const GREEN: &str = "#3b8f4a";

/// How many times `of` a number is; 1 of nothing.
pub(super) fn ratio(number: u64, of: f64) -> f64 {
    #[allow(clippy::cast_precision_loss, reason = "requests a second")]
    let number = number as f64;
    if of > 0.0 { number / of } else { 1.0 }
}

pub(super) fn picture(stories: &[Story]) -> String {
    let height = ROW * to_float(stories.len()) + 10.0;
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" font-family=\"sans-serif\" font-size=\"12\">\n<rect width=\"{WIDTH}\" height=\"{height}\" fill=\"white\"/>\n"
    );
    for (row, story) in stories.iter().enumerate() {
        let top = ROW * to_float(row);
        _ = writeln!(
            svg,
            "<text x=\"{LEFT}\" y=\"{:.0}\" font-size=\"15\" font-weight=\"bold\">{}</text>",
            top + 24.0,
            title(story)
        );
        for (place, panel) in panels(story).iter().enumerate() {
            let left = LEFT + to_float(place) * (PANEL + GAP);
            draw(&mut svg, panel, left, top + TOP);
        }
    }
    svg.push_str("</svg>\n");
    svg
}

fn title(story: &Story) -> String {
    let sum = |part: fn(&Round) -> usize| story.rounds.iter().map(part).sum::<usize>();
    let longest = story
        .rounds
        .iter()
        .map(|it| it.time)
        .max()
        .unwrap_or_default();
    format!(
        "{}: {} copies, {} hand-overs, longest decision {:.2} s",
        story.scenario.name(),
        sum(|it| it.copies),
        sum(|it| it.hand_overs),
        longest.as_secs_f64()
    )
}

fn panels(story: &Story) -> [Panel; 3] {
    let all = || {
        [&story.before]
            .into_iter()
            .chain(story.rounds.iter().map(|it| &it.evenness))
    };
    let by = |number: fn(&Evenness) -> f64| all().map(number).collect::<Vec<f64>>();
    let line = |name, color, points| Line {
        name,
        color,
        points,
    };
    [
        Panel {
            title: "of a core, most and least",
            lines: vec![
                line("replicas, most", BLUE, by(|it| f64::from(it.replicas_max))),
                line("least", BLUE, by(|it| f64::from(it.replicas_min))),
                line(
                    "primaries, most",
                    GREEN,
                    by(|it| f64::from(it.primaries_max)),
                ),
                line("least", GREEN, by(|it| f64::from(it.primaries_min))),
            ],
            floor: 0.0,
        },
        Panel {
            title: "load, in terms of what has to be there",
            lines: vec![
                line(
                    "hottest core / bound",
                    RED,
                    by(|it| ratio(it.load_max, it.load_bound)),
                ),
                line("crowding", BLUE, by(|it| it.crowding_max)),
                line("crowded cores (%)", GREEN, by(crowded_percent)),
            ],
            floor: 0.0,
        },
        Panel {
            title: "moves of a round",
            lines: vec![
                line("copies", RED, moves(story, |it| it.copies)),
                line("hand-overs", GREEN, moves(story, |it| it.hand_overs)),
            ],
            floor: 0.0,
        },
    ]
}

fn crowded_percent(it: &Evenness) -> f64 {
    100.0 * f64::from(it.crowded_cores) / f64::from(it.cores.max(1))
}

fn moves(story: &Story, part: fn(&Round) -> usize) -> Vec<f64> {
    let each = story.rounds.iter().map(|it| to_float(part(it)));
    [0.0].into_iter().chain(each).collect()
}

fn draw(svg: &mut String, panel: &Panel, left: f64, top: f64) {
    let points = || panel.lines.iter().flat_map(|line| &line.points);
    let most = points().copied().fold(panel.floor + 1.0, f64::max) * 1.05;
    let last = panel.lines.iter().map(|line| line.points.len()).max();
    let last = to_float(last.unwrap_or(2).saturating_sub(1).max(1));
    let x = |round: usize| left + to_float(round) / last * PANEL;
    let y = |value: f64| top + HEIGHT - (value - panel.floor) / (most - panel.floor) * HEIGHT;
    _ = writeln!(
        svg,
        "<text x=\"{left:.0}\" y=\"{:.0}\">{}</text>",
        top - 22.0,
        panel.title
    );
    for step in 0..=4 {
        let value = panel.floor + (most - panel.floor) * f64::from(step) / 4.0;
        let height = y(value);
        _ = writeln!(
            svg,
            "<line x1=\"{left:.0}\" x2=\"{:.0}\" y1=\"{height:.1}\" y2=\"{height:.1}\" stroke=\"#ddd\"/><text x=\"{:.0}\" y=\"{:.1}\" text-anchor=\"end\" fill=\"#555\">{}</text>",
            left + PANEL,
            left - 5.0,
            height + 4.0,
            label(value)
        );
    }
    let mut legend = left;
    for line in &panel.lines {
        let path: Vec<String> = line
            .points
            .iter()
            .enumerate()
            .map(|(round, &value)| format!("{:.1},{:.1}", x(round), y(value)))
            .collect();
        _ = writeln!(
            svg,
            "<polyline points=\"{}\" fill=\"none\" stroke=\"{}\" stroke-width=\"2\"/><text x=\"{legend:.0}\" y=\"{:.0}\" fill=\"{}\" font-size=\"11\">{}</text>",
            path.join(" "),
            line.color,
            top - 7.0,
            line.color,
            line.name
        );
        legend += 8.0 + 6.2 * to_float(line.name.len());
    }
    _ = writeln!(
        svg,
        "<text x=\"{left:.0}\" y=\"{:.0}\" fill=\"#555\">before</text><text x=\"{:.0}\" y=\"{:.0}\" text-anchor=\"end\" fill=\"#555\">round {last}</text>",
        top + HEIGHT + 16.0,
        left + PANEL,
        top + HEIGHT + 16.0
    );
}

fn label(value: f64) -> String {
    if value >= 20.0 {
        format!("{value:.0}")
    } else {
        format!("{value:.1}")
    }
}

#[allow(clippy::cast_precision_loss, reason = "rounds and moves are few")]
fn to_float(number: usize) -> f64 {
    number as f64
}
