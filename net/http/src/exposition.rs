//! Metrics as text: the format of Prometheus (0.0.4) and OpenMetrics (1.0).
//!
//! What a program tells is declared once, as [`Family`] constants, from which its documentation is made too.

use crate::{Response, Status};
use std::fmt::{Display, Write as _};

/// Which text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TextFormat {
    Prometheus,
    OpenMetrics,
}

/// What kind of numbers a family has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FamilyKind {
    /// Grows until the process ends. Its samples' names end in `_total`, which is no part of [`Family::name`].
    Counter,
    Gauge,
    /// Buckets of seconds.
    Histogram,
}

/// Numbers of one name, told apart by their labels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Family<'a> {
    pub name: &'a str,
    pub kind: FamilyKind,
    /// One line for people.
    pub help: &'a str,
}

/// A label's name and value.
pub type Label<'a> = (&'a str, &'a dyn Display);

/// Text in the making.
#[derive(Debug)]
pub struct Exposition {
    format: TextFormat,
    text: String,
}

/// The samples of one family. All of them are written before the next family begins.
#[derive(Debug)]
pub struct Samples<'a> {
    exposition: &'a mut Exposition,
    family: Family<'a>,
    has_begun: bool,
}

impl TextFormat {
    /// What a client prefers that sends this `Accept`; `None`: neither, it wants JSON.
    #[must_use]
    pub fn accepted(accept: &str) -> Option<Self> {
        if accept.contains("application/openmetrics-text") {
            Some(Self::OpenMetrics)
        } else if accept.contains("text/plain") && !accept.contains("application/json") {
            Some(Self::Prometheus)
        } else {
            None
        }
    }

    /// The value of `Content-Type`.
    #[must_use]
    pub const fn content_type(self) -> &'static str {
        match self {
            Self::Prometheus => "text/plain; version=0.0.4; charset=utf-8",
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
        }
    }
}

impl FamilyKind {
    /// The word in the text.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram => "histogram",
        }
    }
}

impl Family<'_> {
    /// The name that queries use; of a histogram, what `_bucket`, `_sum` and `_count` follow.
    #[must_use]
    pub fn sample_name(&self) -> String {
        match self.kind {
            FamilyKind::Counter => format!("{}_total", self.name),
            FamilyKind::Gauge | FamilyKind::Histogram => self.name.to_owned(),
        }
    }
}

impl Exposition {
    #[must_use]
    pub const fn new(format: TextFormat) -> Self {
        Self {
            format,
            text: String::new(),
        }
    }

    /// Begins a family; one without samples is not in the text.
    pub const fn family<'a>(&'a mut self, family: Family<'a>) -> Samples<'a> {
        Samples {
            exposition: self,
            family,
            has_begun: false,
        }
    }

    /// The answer with everything.
    #[must_use]
    pub fn response(self) -> Response {
        let content_type = self.format.content_type();
        Response::new(Status::Ok, content_type, self.finish())
    }

    /// The text.
    #[must_use]
    pub fn finish(mut self) -> String {
        if self.format == TextFormat::OpenMetrics {
            self.text.push_str("# EOF\n");
        }
        self.text
    }

    fn line(&mut self, name: &str, suffix: &str, labels: &[Label<'_>], value: impl Display) {
        self.text.push_str(name);
        self.text.push_str(suffix);
        let mut separator = '{';
        for (label, shown) in labels {
            let shown = escaped(&shown.to_string(), true);
            // Writing to a string does not fail.
            let _ = write!(self.text, "{separator}{label}=\"{shown}\"");
            separator = ',';
        }
        if !labels.is_empty() {
            self.text.push('}');
        }
        let _ = writeln!(self.text, " {value}");
    }
}

impl Samples<'_> {
    /// One number of a counter or gauge.
    pub fn sample(&mut self, labels: &[Label<'_>], value: impl Display) -> &mut Self {
        debug_assert_ne!(
            self.family.kind,
            FamilyKind::Histogram,
            "{}",
            self.family.name
        );
        self.begin();
        let suffix = match self.family.kind {
            FamilyKind::Counter => "_total",
            FamilyKind::Gauge | FamilyKind::Histogram => "",
        };
        self.exposition
            .line(self.family.name, suffix, labels, value);
        self
    }

    /// One histogram: how many were at most so many seconds long, for growing bounds; the sum of all in seconds; and
    /// how many there were.
    pub fn histogram(
        &mut self,
        labels: &[Label<'_>],
        buckets: impl IntoIterator<Item = (f64, u64)>,
        sum: f64,
        count: u64,
    ) -> &mut Self {
        debug_assert_eq!(
            self.family.kind,
            FamilyKind::Histogram,
            "{}",
            self.family.name
        );
        self.begin();
        let (exposition, name) = (&mut *self.exposition, self.family.name);
        let mut bucket = |bound: &dyn Display, within: u64| {
            let labels = [labels, &[("le", bound)]].concat();
            exposition.line(name, "_bucket", &labels, within);
        };
        for (bound, within) in buckets {
            bucket(&Bound(bound), within);
        }
        bucket(&"+Inf", count);
        exposition.line(name, "_sum", labels, sum);
        exposition.line(name, "_count", labels, count);
        self
    }

    fn begin(&mut self) {
        if std::mem::replace(&mut self.has_begun, true) {
            return;
        }
        let (exposition, family) = (&mut *self.exposition, self.family);
        let suffix = match (exposition.format, family.kind) {
            (TextFormat::Prometheus, FamilyKind::Counter) => "_total",
            _ => "",
        };
        let (name, kind, help) = (family.name, family.kind.name(), escaped(family.help, false));
        let _ = write!(
            exposition.text,
            "# HELP {name}{suffix} {help}\n# TYPE {name}{suffix} {kind}\n"
        );
    }
}

/// A bound with a point in it, as OpenMetrics wants them.
struct Bound(f64);

impl Display for Bound {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:?}", self.0)
    }
}

fn escaped(text: &str, is_label: bool) -> String {
    let mut out = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '"' if is_label => out.push_str("\\\""),
            other => out.push(other),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    const REQUESTS: Family<'_> = Family {
        name: "requests",
        kind: FamilyKind::Counter,
        help: "Requests.",
    };
    const TIMES: Family<'_> = Family {
        name: "times_seconds",
        kind: FamilyKind::Histogram,
        help: "Times\nof \"all\".",
    };

    fn text(format: TextFormat) -> String {
        let mut text = Exposition::new(format);
        text.family(REQUESTS)
            .sample(&[("of", &"a \"b\"\\\n"), ("core", &3)], 7)
            .sample(&[], 8);
        text.family(TIMES)
            .histogram(&[("core", &1)], [(0.001, 2), (1.0, 5)], 0.25, 6);
        text.family(Family {
            name: "nothing",
            ..REQUESTS
        });
        text.finish()
    }

    #[test]
    fn each_family_is_explained_once_and_has_its_samples_behind_it() {
        assert_eq!(
            text(TextFormat::Prometheus),
            "# HELP requests_total Requests.\n# TYPE requests_total counter\n\
             requests_total{of=\"a \\\"b\\\"\\\\\\n\",core=\"3\"} 7\nrequests_total 8\n\
             # HELP times_seconds Times\\nof \"all\".\n# TYPE times_seconds histogram\n\
             times_seconds_bucket{core=\"1\",le=\"0.001\"} 2\ntimes_seconds_bucket{core=\"1\",le=\"1.0\"} 5\n\
             times_seconds_bucket{core=\"1\",le=\"+Inf\"} 6\ntimes_seconds_sum{core=\"1\"} 0.25\n\
             times_seconds_count{core=\"1\"} 6\n"
        );
    }

    #[test]
    fn open_metrics_names_counters_without_their_ending_and_says_where_it_ends() {
        let text = text(TextFormat::OpenMetrics);
        assert!(
            text.starts_with("# HELP requests Requests.\n# TYPE requests counter\nrequests_total{")
        );
        assert!(text.ends_with("# EOF\n"));
        assert_eq!(REQUESTS.sample_name(), "requests_total");
        assert_eq!(TIMES.sample_name(), "times_seconds");
    }

    #[test]
    fn text_is_for_those_who_accept_it() {
        let accepted = TextFormat::accepted;
        assert_eq!(accepted("text/plain;q=0.5"), Some(TextFormat::Prometheus));
        assert_eq!(
            accepted("application/openmetrics-text;version=1.0.0,text/plain"),
            Some(TextFormat::OpenMetrics)
        );
        assert_eq!(accepted("*/*"), None);
        assert_eq!(accepted("application/json, text/plain"), None);
    }
}
