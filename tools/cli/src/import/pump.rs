//! The writing side of an import: rows go out with bounded concurrency, are tried again while that can help, and the
//! line up to which everything is acknowledged is known at any time.
//!
//! Two rows of the same key are never under way together, so the later line of the file wins.

use super::columns::Row;
use super::lines::{Batch, Defect, Line};
use crate::exit::{Exit, Failed, exit_of};
use futures::future::LocalBoxFuture;
use futures::stream::FuturesUnordered;
use futures::{FutureExt as _, StreamExt as _};
use std::collections::{BTreeSet, HashSet};
use std::future::Future;
use std::hash::{BuildHasher as _, RandomState};
use std::time::{Duration, Instant};
use tokio::sync::mpsc;

/// How an import behaves.
#[derive(Clone, Debug)]
pub(crate) struct Options {
    /// Rows under way, at least 1.
    pub(crate) concurrency: usize,
    pub(crate) bad_lines: BadLines,
    /// How long one row is tried before the import stops.
    pub(crate) give_up_after: Duration,
    /// Before the second attempt; it doubles with each, up to a second.
    pub(crate) retry_pause: Duration,
}

/// What a line that is no row does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum BadLines {
    Stop,
    Skip,
}

/// How far an import has come.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Progress {
    pub(crate) rows: u64,
    pub(crate) row_bytes: u64,
    pub(crate) skipped: u64,
    pub(crate) retries: u64,
    /// Everything up to this line is acknowledged or was skipped; 0 = nothing.
    pub(crate) acknowledged_line: u64,
    /// Bytes of the file that were read.
    pub(crate) file_bytes: u64,
}

/// Where an import writes to and whom it tells.
pub(crate) trait Target {
    fn put(&self, row: &Row) -> impl Future<Output = anyhow::Result<()>>;
    /// Called often; must be quick.
    fn progress(&self, progress: &Progress);
    fn bad_line(&self, number: u64, reason: &anyhow::Error);
}

/// Writes all lines. On an error nothing new is started, what is under way is waited for, and `Progress` still tells
/// the truth. `stop` ends the import early in the same way.
pub(crate) async fn run(
    target: &impl Target,
    lines: mpsc::Receiver<Batch>,
    options: &Options,
    from_line: u64,
    stop: impl Future<Output = ()>,
) -> (Progress, anyhow::Result<()>) {
    let mut pump = Pump::new(target, options, from_line);
    let result = tokio::select! {
        biased;
        () = stop => Err(Failed::error(Exit::Interrupted, "interrupted")),
        result = pump.feed(lines) => result,
    };
    let drained = pump.drain().await;
    (pump.progress, result.and(drained))
}

struct Pump<'a, T> {
    target: &'a T,
    options: &'a Options,
    under_way: FuturesUnordered<LocalBoxFuture<'a, Done>>,
    /// Hashes of the keys under way.
    keys: HashSet<u64>,
    hasher: RandomState,
    /// Lines under way; the first of them bounds what is acknowledged.
    open: BTreeSet<u64>,
    last_line: u64,
    progress: Progress,
}

/// A row on its way.
struct Job {
    line: u64,
    key: u64,
    row: Row,
}

/// How it ended.
struct Done {
    line: u64,
    key: u64,
    row_bytes: u64,
    retries: u64,
    result: anyhow::Result<()>,
}

impl<'a, T: Target> Pump<'a, T> {
    fn new(target: &'a T, options: &'a Options, from_line: u64) -> Self {
        let last_line = from_line.saturating_sub(1);
        Self {
            target,
            options,
            under_way: FuturesUnordered::new(),
            keys: HashSet::new(),
            hasher: RandomState::new(),
            open: BTreeSet::new(),
            last_line,
            progress: Progress {
                acknowledged_line: last_line,
                ..Progress::default()
            },
        }
    }

    async fn feed(&mut self, mut lines: mpsc::Receiver<Batch>) -> anyhow::Result<()> {
        loop {
            let batch = tokio::select! {
                batch = lines.recv() => batch,
                Some(done) = self.under_way.next() => {
                    self.finish(done)?;
                    continue;
                }
            };
            let Some(batch) = batch else {
                return Ok(());
            };
            for line in batch {
                self.take(line).await?;
            }
        }
    }

    async fn take(&mut self, line: Line) -> anyhow::Result<()> {
        self.progress.file_bytes = line.offset;
        match line.row {
            Ok(row) => self.send(line.number, row).await,
            Err(Defect::Bad(reason)) if self.options.bad_lines == BadLines::Skip => {
                self.target.bad_line(line.number, &reason);
                self.progress.skipped += 1;
                self.last_line = line.number;
                self.note_acknowledged();
                Ok(())
            }
            Err(Defect::Bad(reason) | Defect::Unreadable(reason)) => {
                Err(reason.context(format!("line {}", line.number)))
            }
        }
    }

    async fn send(&mut self, number: u64, row: Row) -> anyhow::Result<()> {
        let key = self.hasher.hash_one((&row.hash_key, &row.sort_key));
        while self.under_way.len() >= self.options.concurrency || self.keys.contains(&key) {
            if let Some(done) = self.under_way.next().await {
                self.finish(done)?;
            }
        }
        self.keys.insert(key);
        self.open.insert(number);
        self.last_line = number;
        let job = Job {
            line: number,
            key,
            row,
        };
        self.under_way
            .push(put_with_retries(self.target, self.options, job).boxed_local());
        Ok(())
    }

    /// A failed line stays open, so that nothing from it on counts as acknowledged.
    fn finish(&mut self, done: Done) -> anyhow::Result<()> {
        self.keys.remove(&done.key);
        self.progress.retries += done.retries;
        done.result
            .map_err(|error| error.context(format!("line {}", done.line)))?;
        self.open.remove(&done.line);
        self.progress.rows += 1;
        self.progress.row_bytes += done.row_bytes;
        self.note_acknowledged();
        Ok(())
    }

    fn note_acknowledged(&mut self) {
        let first_open = self.open.first().map(|line| line - 1);
        self.progress.acknowledged_line = first_open.unwrap_or(self.last_line);
        self.target.progress(&self.progress);
    }

    /// Waits for what is under way; gives the first error.
    async fn drain(&mut self) -> anyhow::Result<()> {
        let mut result = Ok(());
        while let Some(done) = self.under_way.next().await {
            result = result.and(self.finish(done));
        }
        result
    }
}

/// A put has the same effect when it is done twice, so an unknown outcome may be tried again like a refusal.
async fn put_with_retries<T: Target>(target: &T, options: &Options, job: Job) -> Done {
    const PAUSE_MAX: Duration = Duration::from_secs(1);
    let row_bytes = (job.row.hash_key.len() + job.row.sort_key.len() + job.row.value.len()) as u64;
    let start = Instant::now();
    let mut pause = options.retry_pause;
    let mut retries = 0;
    let result = loop {
        let result = target.put(&job.row).await;
        match &result {
            Err(error) if may_help(error) && start.elapsed() < options.give_up_after => {}
            _ => break result,
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(PAUSE_MAX);
        retries += 1;
    };
    Done {
        line: job.line,
        key: job.key,
        row_bytes,
        retries,
        result,
    }
}

fn may_help(error: &anyhow::Error) -> bool {
    matches!(exit_of(error), Exit::Unavailable | Exit::Unknown)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
    use super::*;
    use std::cell::{Cell, RefCell};

    /// Answers by a plan for each value; remembers what was written in which order and how much was under way.
    #[derive(Default)]
    struct Fake {
        written: RefCell<Vec<(Vec<u8>, Vec<u8>)>>,
        refusals: Cell<u32>,
        refuse_with: Option<Exit>,
        under_way: Cell<usize>,
        most_under_way: Cell<usize>,
        bad: RefCell<Vec<u64>>,
    }

    impl Target for Fake {
        async fn put(&self, row: &Row) -> anyhow::Result<()> {
            self.under_way.set(self.under_way.get() + 1);
            self.most_under_way
                .set(self.most_under_way.get().max(self.under_way.get()));
            tokio::task::yield_now().await;
            self.under_way.set(self.under_way.get() - 1);
            if row.value == b"poison" {
                return Err(Failed::error(Exit::Failed, "refused"));
            }
            if let Some(exit) = self.refuse_with.filter(|_| self.refusals.get() > 0) {
                self.refusals.set(self.refusals.get() - 1);
                return Err(Failed::error(exit, "not now"));
            }
            self.written
                .borrow_mut()
                .push((row.hash_key.clone(), row.value.clone()));
            Ok(())
        }

        fn progress(&self, _: &Progress) {}

        fn bad_line(&self, number: u64, _: &anyhow::Error) {
            self.bad.borrow_mut().push(number);
        }
    }

    fn options(concurrency: usize, bad_lines: BadLines) -> Options {
        Options {
            concurrency,
            bad_lines,
            give_up_after: Duration::from_secs(3600),
            retry_pause: Duration::ZERO,
        }
    }

    fn line(number: u64, key: &str, value: &str) -> Line {
        let row = Row {
            hash_key: key.into(),
            sort_key: Vec::new(),
            value: value.into(),
            ttl_seconds: 0,
        };
        Line {
            number,
            offset: number * 10,
            row: Ok(row),
        }
    }

    async fn import(
        target: &Fake,
        lines: Vec<Line>,
        options: &Options,
    ) -> (Progress, anyhow::Result<()>) {
        let from_line = lines.first().map_or(1, |line| line.number);
        let (sender, receiver) = mpsc::channel(1);
        sender.send(lines).await.unwrap();
        drop(sender);
        run(target, receiver, options, from_line, std::future::pending()).await
    }

    #[tokio::test]
    async fn everything_is_written_and_never_more_at_once_than_allowed() {
        let fake = Fake::default();
        let lines = (1..=100).map(|n| line(n, &n.to_string(), "v")).collect();
        let (progress, result) = import(&fake, lines, &options(7, BadLines::Stop)).await;
        result.unwrap();
        assert_eq!(
            (
                progress.rows,
                progress.acknowledged_line,
                progress.file_bytes
            ),
            (100, 100, 1000)
        );
        assert_eq!(fake.most_under_way.get(), 7);
    }

    #[tokio::test]
    async fn the_later_line_of_a_key_wins() {
        let fake = Fake::default();
        let lines = (1..=50).map(|n| line(n, "same", &n.to_string())).collect();
        import(&fake, lines, &options(16, BadLines::Stop))
            .await
            .1
            .unwrap();
        let values: Vec<_> = fake
            .written
            .borrow()
            .iter()
            .map(|(_, value)| value.clone())
            .collect();
        assert_eq!(
            values,
            (1..=50)
                .map(|n: u64| n.to_string().into_bytes())
                .collect::<Vec<_>>()
        );
    }

    #[tokio::test]
    async fn refusals_and_unknown_outcomes_are_tried_again() {
        for exit in [Exit::Unavailable, Exit::Unknown] {
            let fake = Fake {
                refuse_with: Some(exit),
                refusals: Cell::new(5),
                ..Fake::default()
            };
            let lines = (1..=3).map(|n| line(n, &n.to_string(), "v")).collect();
            let (progress, result) = import(&fake, lines, &options(2, BadLines::Stop)).await;
            result.unwrap();
            assert_eq!((progress.rows, progress.retries), (3, 5));
        }
    }

    #[tokio::test]
    async fn a_definite_failure_names_its_line_and_what_lies_before_it_is_acknowledged() {
        let fake = Fake::default();
        let mut lines: Vec<Line> = (11..=30).map(|n| line(n, &n.to_string(), "v")).collect();
        lines[9] = line(20, "20", "poison");
        let (progress, result) = import(&fake, lines, &options(8, BadLines::Stop)).await;
        assert!(result.unwrap_err().to_string().contains("line 20"));
        assert_eq!(progress.acknowledged_line, 19);
    }

    #[tokio::test]
    async fn a_bad_line_stops_the_import_or_is_named_and_left_out() {
        let lines = || {
            let mut lines: Vec<Line> = (1..=5).map(|n| line(n, &n.to_string(), "v")).collect();
            lines[2].row = Err(Defect::Bad(anyhow::anyhow!("column 2 is needed")));
            lines
        };
        let fake = Fake::default();
        let (progress, result) = import(&fake, lines(), &options(1, BadLines::Stop)).await;
        assert_eq!(
            format!("{:#}", result.unwrap_err()),
            "line 3: column 2 is needed"
        );
        assert_eq!(progress.acknowledged_line, 2);
        let (progress, result) = import(&fake, lines(), &options(1, BadLines::Skip)).await;
        result.unwrap();
        assert_eq!(
            (progress.rows, progress.skipped, progress.acknowledged_line),
            (4, 1, 5)
        );
        assert_eq!(*fake.bad.borrow(), [3]);
    }

    #[tokio::test]
    async fn an_unreadable_file_stops_even_when_bad_lines_are_skipped() {
        let mut lines = vec![line(1, "1", "v"), line(2, "2", "v")];
        lines[1].row = Err(Defect::Unreadable(anyhow::anyhow!("input/output error")));
        let (progress, result) = import(&Fake::default(), lines, &options(4, BadLines::Skip)).await;
        assert!(result.is_err());
        assert_eq!(progress.acknowledged_line, 1);
    }

    #[tokio::test]
    async fn an_interrupted_import_waits_for_what_is_under_way() {
        let fake = Fake::default();
        let (sender, receiver) = mpsc::channel(1);
        sender
            .send((1..=3).map(|n| line(n, &n.to_string(), "v")).collect())
            .await
            .unwrap();
        let stop = async {
            while fake.under_way.get() < 3 {
                tokio::task::yield_now().await;
            }
        };
        // Polled together with the import, so that it sees the three rows leave.
        let (progress, result) = run(&fake, receiver, &options(8, BadLines::Stop), 1, stop).await;
        assert_eq!(result.unwrap_err().to_string(), "interrupted");
        assert_eq!((progress.rows, progress.acknowledged_line), (3, 3));
        drop(sender);
    }
}
