//! How often a message may be logged: so many lines in a window of ten seconds, for each place in the code.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tracing::callsite::Identifier;
use tracing::{Event, Metadata, Subscriber};
use tracing_subscriber::layer::{Context, Layer};

const WINDOW: Duration = Duration::from_secs(10);

/// Lines about lines that were left out; never left out themselves.
pub(crate) const OWN_TARGET: &str = "pegasus_logs";

/// A layer that lets lines through or not; clones share what they have counted. There are as many windows as there are places in the code that log.
#[derive(Clone, Debug)]
pub(crate) struct Limiter {
    lines_max: u32,
    windows: Arc<Mutex<HashMap<Identifier, Window>>>,
}

/// Lines of one message that were not logged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct LeftOut {
    pub(crate) module: &'static str,
    /// Of the source file.
    pub(crate) line: u32,
    pub(crate) lines: u64,
}

#[derive(Debug)]
struct Window {
    began: Instant,
    logged: u32,
    left_out: u64,
    module: &'static str,
    line: u32,
}

impl Limiter {
    pub(crate) fn new(lines_max: u32) -> Self {
        Self {
            lines_max,
            windows: Arc::default(),
        }
    }

    fn may_log(&self, of: &'static Metadata<'static>, now: Instant) -> bool {
        let mut windows = self.lock();
        let window = windows.entry(of.callsite()).or_insert_with(|| Window {
            began: now,
            logged: 0,
            left_out: 0,
            module: of.module_path().unwrap_or_else(|| of.target()),
            line: of.line().unwrap_or(0),
        });
        if now.saturating_duration_since(window.began) >= WINDOW {
            (window.began, window.logged) = (now, 0);
        }
        if window.logged >= self.lines_max {
            window.left_out += 1;
            return false;
        }
        window.logged += 1;
        true
    }

    /// Of windows that are over; each is told once.
    pub(crate) fn take_left_out(&self) -> Vec<LeftOut> {
        self.left_out_until(Instant::now())
    }

    fn left_out_until(&self, now: Instant) -> Vec<LeftOut> {
        let mut windows = self.lock();
        let over = windows.values_mut().filter(|window| {
            window.left_out > 0 && now.saturating_duration_since(window.began) >= WINDOW
        });
        over.map(|window| LeftOut {
            module: window.module,
            line: window.line,
            lines: std::mem::take(&mut window.left_out),
        })
        .collect()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<Identifier, Window>> {
        self.windows.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// For all layers at once: a filter of one layer is left in a state that is wrong for the next event when it alone refuses one.
impl<S: Subscriber> Layer<S> for Limiter {
    fn event_enabled(&self, event: &Event<'_>, _: Context<'_, S>) -> bool {
        let of = event.metadata();
        of.target() == OWN_TARGET || self.may_log(of, Instant::now())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tracing_subscriber::fmt::MakeWriter;
    use tracing_subscriber::layer::SubscriberExt as _;

    /// Collects what is logged.
    #[derive(Clone, Default)]
    struct Paper(Arc<Mutex<Vec<u8>>>);

    impl std::io::Write for Paper {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0
                .lock()
                .expect("nobody panics")
                .extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    impl<'a> MakeWriter<'a> for Paper {
        type Writer = Self;

        fn make_writer(&'a self) -> Self {
            self.clone()
        }
    }

    #[test]
    fn a_message_that_repeats_itself_is_left_out_and_counted_and_others_are_not() {
        let (paper, limiter) = (Paper::default(), Limiter::new(3));
        let lines = tracing_subscriber::fmt::layer().with_writer(paper.clone());
        let subscriber = tracing_subscriber::registry()
            .with(limiter.clone())
            .with(lines);
        tracing::subscriber::with_default(subscriber, || {
            for number in 0..10 {
                tracing::warn!(number, "again");
            }
            tracing::warn!("once");
        });
        let written = String::from_utf8(paper.0.lock().expect("nobody panics").clone());
        let written = written.expect("text");
        assert_eq!(written.matches("again").count(), 3, "{written}");
        assert_eq!(written.matches("once").count(), 1);
        assert_eq!(limiter.left_out_until(Instant::now()), []);
        let later = Instant::now() + WINDOW;
        let told = limiter.left_out_until(later);
        assert_eq!(told.len(), 1);
        assert_eq!((told[0].lines, told[0].module), (7, module_path!()));
        assert_eq!(limiter.left_out_until(later), [], "each is told once");
    }
}
