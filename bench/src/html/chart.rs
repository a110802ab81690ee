//! Charts as inline SVG: lines over an axis each way, dashed levels, marks, and what the pointer shows.

use super::axis::{Axis, Fitted, Scale};
use super::markup::{element, escape, wrap};
use std::collections::BTreeMap;
use std::fmt::Write as _;

/// One chart with its legend.
#[derive(Clone, Debug)]
pub(super) struct Chart {
    pub(super) title: String,
    /// What one should know to read it; may be empty.
    pub(super) note: String,
    pub(super) x: Axis,
    pub(super) y: Axis,
    /// The x axis ends exactly at the first and last point.
    pub(super) x_exact: bool,
    pub(super) series: Vec<Series>,
    /// Dashed lines across.
    pub(super) levels: Vec<Level>,
    /// Lines upwards, and what they stand for.
    pub(super) marks: Vec<Mark>,
    /// Stretches of the x axis, behind everything else.
    pub(super) bands: Vec<Band>,
}

/// One line.
#[derive(Clone, Debug)]
pub(super) struct Series {
    pub(super) name: String,
    /// A class of the style sheet: `c1` to `c6` for things, `p1` to `p4` for percentiles, `floor`, `bad`.
    pub(super) class: &'static str,
    pub(super) shape: Shape,
    /// Ascending in x. A y that the axis cannot show interrupts the line.
    pub(super) points: Vec<(f64, f64)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shape {
    Line,
    LineAndDots,
    Dashes,
}

#[derive(Clone, Debug)]
pub(super) struct Level {
    pub(super) y: f64,
    pub(super) name: String,
    pub(super) class: &'static str,
}

#[derive(Clone, Debug)]
pub(super) struct Mark {
    pub(super) x: f64,
    pub(super) name: String,
    pub(super) class: &'static str,
}

#[derive(Clone, Debug)]
pub(super) struct Band {
    pub(super) from: f64,
    pub(super) to: f64,
    pub(super) name: String,
}

const WIDTH: f64 = 960.0;
const HEIGHT: f64 = 300.0;
const LEFT: f64 = 74.0;
const RIGHT: f64 = 18.0;
const TOP: f64 = 16.0;
const BOTTOM: f64 = 46.0;

/// The axes of a chart, fitted to its data: pixels for values.
struct Frame {
    x: Fitted,
    y: Fitted,
}

impl Frame {
    fn x(&self, value: f64) -> f64 {
        LEFT + self.x.place(value) * (WIDTH - LEFT - RIGHT)
    }

    fn y(&self, value: f64) -> f64 {
        HEIGHT - BOTTOM - self.y.place(value) * (HEIGHT - TOP - BOTTOM)
    }
}

impl Chart {
    /// The whole figure.
    pub(super) fn html(&self) -> String {
        let note = if self.note.is_empty() {
            String::new()
        } else {
            element("p", "note", &self.note)
        };
        let figure = format!(
            "{}{note}{}{}",
            element("h3", "", &self.title),
            self.legend(),
            wrap("div", "scroll", self.svg())
        );
        wrap("figure", "card", figure)
    }

    fn legend(&self) -> String {
        let entry = |class: &str, name: &str, dashed: bool| {
            let swatch = if dashed { "swatch dashed" } else { "swatch" };
            wrap(
                "span",
                "entry",
                format!("<i class=\"{swatch} {class}\"></i>{}", escape(name)),
            )
        };
        let series = self
            .series
            .iter()
            .map(|series| entry(series.class, &series.name, series.shape == Shape::Dashes));
        wrap("div", "legend", series.collect::<String>())
    }

    fn svg(&self) -> String {
        let frame = self.frame();
        let mut svg = format!(
            "<svg viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\" aria-label=\"{}\">",
            escape(&self.title)
        );
        // Writing to a String cannot fail.
        let _ = self
            .write_bands(&mut svg, &frame)
            .and_then(|()| self.write_grid(&mut svg, &frame))
            .and_then(|()| self.write_marks(&mut svg, &frame))
            .and_then(|()| self.write_levels(&mut svg, &frame))
            .and_then(|()| self.write_series(&mut svg, &frame))
            .and_then(|()| self.write_tips(&mut svg, &frame));
        svg.push_str("</svg>");
        svg
    }

    fn frame(&self) -> Frame {
        let xs = || {
            let points = self.series.iter().flat_map(|series| &series.points);
            points.map(|(x, _)| *x)
        };
        let ys = self
            .series
            .iter()
            .flat_map(|series| &series.points)
            .map(|(_, y)| *y)
            .chain(self.levels.iter().map(|level| level.y));
        let marks = self.marks.iter().map(|mark| mark.x);
        Frame {
            x: if self.x_exact {
                let (low, high) = xs()
                    .chain(marks)
                    .fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), x| {
                        (low.min(x), high.max(x))
                    });
                Fitted::exactly(if low <= high { low..=high } else { 0.0..=1.0 })
            } else {
                self.x.fit(xs().chain(marks))
            },
            y: self.y.fit(ys),
        }
    }

    fn write_bands(&self, svg: &mut String, frame: &Frame) -> std::fmt::Result {
        for band in &self.bands {
            let within = |x: f64| frame.x(x).clamp(LEFT, WIDTH - RIGHT);
            let (from, to) = (within(band.from), within(band.to));
            write!(
                svg,
                "<rect class=\"band\" x=\"{from:.1}\" y=\"{TOP}\" width=\"{:.1}\" height=\"{:.1}\"/>\
                 <text class=\"name\" x=\"{:.1}\" y=\"{:.1}\">{}</text>",
                (to - from).max(1.0),
                HEIGHT - TOP - BOTTOM,
                from + 4.0,
                TOP + 12.0,
                escape(&band.name)
            )?;
        }
        Ok(())
    }

    fn write_grid(&self, svg: &mut String, frame: &Frame) -> std::fmt::Result {
        let (right, bottom) = (WIDTH - RIGHT, HEIGHT - BOTTOM);
        for tick in frame.y.ticks() {
            let y = frame.y(tick);
            write!(
                svg,
                "<line class=\"grid\" x1=\"{LEFT}\" x2=\"{right}\" y1=\"{y:.1}\" y2=\"{y:.1}\"/>\
                 <text class=\"tick\" x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>",
                LEFT - 8.0,
                y + 4.0,
                escape(&(self.y.format)(tick))
            )?;
        }
        for tick in frame.x.ticks() {
            let x = frame.x(tick);
            write!(
                svg,
                "<line class=\"notch\" x1=\"{x:.1}\" x2=\"{x:.1}\" y1=\"{bottom}\" y2=\"{:.1}\"/>\
                 <text class=\"tick\" x=\"{x:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{}</text>",
                bottom + 5.0,
                bottom + 19.0,
                escape(&(self.x.format)(tick))
            )?;
        }
        write!(
            svg,
            "<line class=\"axis\" x1=\"{LEFT}\" x2=\"{right}\" y1=\"{bottom}\" y2=\"{bottom}\"/>\
             <text class=\"label\" x=\"{right}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>\
             <text class=\"label\" x=\"{LEFT}\" y=\"{:.1}\">{}</text>",
            HEIGHT - 6.0,
            escape(&self.x.label),
            TOP - 4.0,
            escape(&self.y.label)
        )
    }

    fn write_marks(&self, svg: &mut String, frame: &Frame) -> std::fmt::Result {
        for mark in &self.marks {
            let x = frame.x(mark.x);
            // The label stands where it has room.
            let (anchor, at) = if x > WIDTH / 2.0 {
                ("end", x - 6.0)
            } else {
                ("start", x + 6.0)
            };
            write!(
                svg,
                "<line class=\"mark {}\" x1=\"{x:.1}\" x2=\"{x:.1}\" y1=\"{TOP}\" y2=\"{:.1}\"/>",
                mark.class,
                HEIGHT - BOTTOM
            )?;
            if !mark.name.is_empty() {
                write!(
                    svg,
                    "<text class=\"name\" x=\"{at:.1}\" y=\"{:.1}\" text-anchor=\"{anchor}\">{}</text>",
                    TOP + 12.0,
                    escape(&mark.name)
                )?;
            }
        }
        Ok(())
    }

    fn write_levels(&self, svg: &mut String, frame: &Frame) -> std::fmt::Result {
        for level in &self.levels {
            let y = frame.y(level.y);
            write!(
                svg,
                "<line class=\"level {}\" x1=\"{LEFT}\" x2=\"{:.1}\" y1=\"{y:.1}\" y2=\"{y:.1}\"/>\
                 <text class=\"name\" x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>",
                level.class,
                WIDTH - RIGHT,
                WIDTH - RIGHT - 4.0,
                y - 5.0,
                escape(&level.name)
            )?;
        }
        Ok(())
    }

    fn write_series(&self, svg: &mut String, frame: &Frame) -> std::fmt::Result {
        for series in &self.series {
            let dashes = if series.shape == Shape::Dashes {
                " dashes"
            } else {
                ""
            };
            let path = self.path(series, frame);
            write!(
                svg,
                "<path class=\"line {}{dashes}\" d=\"{path}\"/>",
                series.class
            )?;
            // A lone point has no line to be seen by.
            if series.shape == Shape::LineAndDots || series.points.len() == 1 {
                for (x, y) in self.shown(series) {
                    write!(
                        svg,
                        "<circle class=\"dot {}\" cx=\"{:.1}\" cy=\"{:.1}\" r=\"4\"/>",
                        series.class,
                        frame.x(x),
                        frame.y(y)
                    )?;
                }
            }
        }
        Ok(())
    }

    fn path(&self, series: &Series, frame: &Frame) -> String {
        let mut path = String::new();
        let mut pen_down = false;
        for (x, y) in &series.points {
            if !self.y.scale.shows(*y) {
                pen_down = false;
                continue;
            }
            let command = if pen_down { 'L' } else { 'M' };
            // Writing to a String cannot fail.
            let _ = write!(path, "{command}{:.1} {:.1}", frame.x(*x), frame.y(*y));
            pen_down = true;
        }
        path
    }

    fn shown<'a>(&'a self, series: &'a Series) -> impl Iterator<Item = (f64, f64)> + 'a {
        let scale = self.y.scale;
        let points = series.points.iter().copied();
        points.filter(move |(_, y)| scale.shows(*y))
    }

    /// An invisible column for each x, with all that is known there, for the pointer.
    fn write_tips(&self, svg: &mut String, frame: &Frame) -> std::fmt::Result {
        let mut columns: BTreeMap<u64, (f64, Vec<String>)> = BTreeMap::new();
        for series in &self.series {
            for (x, y) in self.shown(series) {
                let column = columns
                    .entry(hundredths(frame.x(x)))
                    .or_insert_with(|| (x, Vec::new()));
                column
                    .1
                    .push(format!("{}: {}", series.name, (self.y.format)(y)));
            }
        }
        let columns: Vec<(f64, String)> = columns
            .into_values()
            .map(|(x, lines)| (x, self.tip(x, &lines)))
            .collect();
        for (index, (x, tip)) in columns.iter().enumerate() {
            let here = frame.x(*x);
            let neighbour = |index: usize| columns.get(index).map(|(x, _)| frame.x(*x));
            let before = index.checked_sub(1).and_then(neighbour);
            let after = neighbour(index + 1);
            let left = before.map_or(LEFT, |before| f64::midpoint(before, here));
            let right = after.map_or(WIDTH - RIGHT, |after| f64::midpoint(after, here));
            write!(
                svg,
                "<rect class=\"hit\" x=\"{left:.1}\" y=\"{TOP}\" width=\"{:.1}\" height=\"{:.1}\" data-x=\"{here:.1}\" data-tip=\"{}\"/>",
                (right - left).max(0.0),
                HEIGHT - TOP - BOTTOM,
                escape(tip)
            )?;
        }
        write!(
            svg,
            "<line class=\"cross\" x1=\"0\" x2=\"0\" y1=\"{TOP}\" y2=\"{:.1}\"/>",
            HEIGHT - BOTTOM
        )
    }

    fn tip(&self, x: f64, lines: &[String]) -> String {
        let place = (self.x.format)(x);
        let label = match self.x.scale {
            Scale::Percentile => place,
            Scale::Linear | Scale::Log => format!("{}: {place}", self.x.label),
        };
        format!("{label}\n{}", lines.join("\n"))
    }
}

/// Points whose columns would be the same pixel share one.
fn hundredths(pixels: f64) -> u64 {
    #[allow(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a place in the chart, 0 to 960"
    )]
    let place = (pixels * 100.0).max(0.0) as u64;
    place
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::html::markup::{short_count, short_time};

    fn chart(points: Vec<(f64, f64)>) -> Chart {
        Chart {
            title: "latency <over> time".to_owned(),
            note: String::new(),
            x: Axis {
                label: "seconds".to_owned(),
                scale: Scale::Linear,
                format: short_count,
            },
            y: Axis {
                label: "latency".to_owned(),
                scale: Scale::Log,
                format: short_time,
            },
            x_exact: true,
            series: vec![Series {
                name: "p99 & more".to_owned(),
                class: "p2",
                shape: Shape::Line,
                points,
            }],
            levels: Vec::new(),
            marks: Vec::new(),
            bands: Vec::new(),
        }
    }

    #[test]
    fn every_point_is_on_the_line_and_has_a_tip() {
        let html = chart(vec![(0.0, 100.0), (1.0, 200.0), (2.0, 400.0)]).html();
        assert!(html.contains("d=\"M74.0 "), "{html}");
        assert_eq!(html.matches("class=\"hit\"").count(), 3);
        assert!(
            html.contains("data-tip=\"seconds: 1\np99 &amp; more: 200 µs\""),
            "{html}"
        );
    }

    #[test]
    fn a_second_without_a_value_interrupts_the_line() {
        let html = chart(vec![
            (0.0, 100.0),
            (1.0, 0.0),
            (2.0, 400.0),
            (3.0, f64::NAN),
        ])
        .html();
        let path = html
            .split("d=\"")
            .nth(1)
            .and_then(|rest| rest.split('"').next())
            .unwrap_or_default();
        assert_eq!(path.matches('M').count(), 2, "{path}");
        assert!(!html.contains("NaN") && !html.contains("inf"), "{html}");
    }

    #[test]
    fn names_are_escaped_everywhere() {
        let html = chart(vec![(0.0, 1.0)]).html();
        assert!(
            !html.contains("<over>") && !html.contains("& more"),
            "{html}"
        );
    }
}
