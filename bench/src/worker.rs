//! One worker: a closed loop that has one operation at a time.

use crate::keys::{Chooser, Names};
use crate::record::{Recorder, Shared};
use crate::verify::{LOADED_VERSION, Shadow, Violation, check_whole, value};
use crate::workload::{Kind, Mix, SCAN_RECORDS_MAX};
use pegasus_client::{Bytes, Error, Execution, MultiGet, SortKeyRange, Table};
use rand::rngs::SmallRng;
use rand::{Rng as _, SeedableRng as _};
use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// What all workers of a run do alike.
#[derive(Clone, Debug)]
pub(crate) struct Task {
    pub(crate) mix: Mix,
    pub(crate) names: Names,
    pub(crate) records: u64,
    pub(crate) value_bytes: usize,
    pub(crate) seed: u64,
    /// Above all versions of earlier runs.
    pub(crate) version_base: u64,
    pub(crate) verify: bool,
}

/// When a run is over.
#[derive(Debug)]
pub(crate) enum Until {
    Time(Instant),
    /// Operations that are left, for all workers together.
    Operations(AtomicU64),
}

impl Until {
    /// Whether one more operation may start.
    fn take(&self) -> bool {
        match self {
            Self::Time(end) => Instant::now() < *end,
            Self::Operations(left) => left
                .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| {
                    left.checked_sub(1)
                })
                .is_ok(),
        }
    }
}

/// A worker and its place in the run. Lives on one thread, with which it shares the recorder.
pub(crate) struct Worker {
    task: Arc<Task>,
    table: Table,
    chooser: Chooser,
    random: SmallRng,
    shadow: Shadow,
    recorder: Rc<RefCell<Recorder>>,
    shared: Arc<Shared>,
}

impl std::fmt::Debug for Worker {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Worker")
            .field("chooser", &self.chooser)
            .finish_non_exhaustive()
    }
}

/// An operation that came back.
enum Answer {
    Done,
    Missing,
}

impl Worker {
    pub(crate) fn new(
        task: Arc<Task>,
        table: Table,
        chooser: Chooser,
        recorder: Rc<RefCell<Recorder>>,
        shared: Arc<Shared>,
    ) -> Self {
        let random = SmallRng::seed_from_u64(
            task.seed ^ chooser.worker().wrapping_mul(0x9E37_79B9_7F4A_7C15),
        );
        let shadow = Shadow::new(task.version_base, task.records);
        Self {
            task,
            table,
            chooser,
            random,
            shadow,
            recorder,
            shared,
        }
    }

    /// Operations drawn from the mix, until it is time.
    pub(crate) async fn run(&mut self, until: &Until) {
        while until.take() {
            let kind = self.task.mix.draw(&mut self.random);
            let start = Instant::now();
            let result = self.operate(kind).await;
            let mut recorder = self.recorder.borrow_mut();
            match result {
                Ok(Answer::Done) => recorder.success(kind, start, &self.shared),
                Ok(Answer::Missing) => {
                    recorder.success(kind, start, &self.shared);
                    recorder.misses += u64::from(self.shared.is_measured(start));
                }
                Err(error) => recorder.error(kind, start, &error, &self.shared),
            }
        }
    }

    /// Writes this worker's share of the records, each until it is acknowledged or `give_up_after` has passed.
    pub(crate) async fn load(&self, give_up_after: Duration) -> Result<(), Error> {
        for record in self.chooser.own_loaded() {
            let bytes = value(record, LOADED_VERSION, self.task.value_bytes);
            let first = Instant::now();
            loop {
                let start = Instant::now();
                let error = match self.put_bytes(record, &bytes).await {
                    Ok(()) => {
                        self.recorder
                            .borrow_mut()
                            .success(Kind::Insert, start, &self.shared);
                        break;
                    }
                    Err(error) => error,
                };
                self.recorder
                    .borrow_mut()
                    .error(Kind::Insert, start, &error, &self.shared);
                if matches!(error, Error::Failed { .. }) || first.elapsed() > give_up_after {
                    return Err(error);
                }
                tokio::time::sleep(RETRY_PAUSE).await;
            }
        }
        Ok(())
    }

    async fn operate(&mut self, kind: Kind) -> Result<Answer, Error> {
        match kind {
            Kind::Read => {
                let record = self.chooser.existing(&mut self.random);
                self.get(record).await
            }
            Kind::Update => {
                let record = self.chooser.existing(&mut self.random);
                self.put(record).await
            }
            Kind::Insert => {
                let answer = self.put(self.chooser.next_insert()).await?;
                self.chooser.inserted();
                Ok(answer)
            }
            Kind::Scan => self.range().await,
            Kind::ReadModifyWrite => {
                let record = self.chooser.existing(&mut self.random);
                self.get(record).await?;
                self.put(record).await
            }
        }
    }

    async fn get(&mut self, record: u64) -> Result<Answer, Error> {
        let names = self.task.names;
        let found = self
            .table
            .get(&names.hash_key(record), &names.sort_key(record))
            .await?;
        if self.task.verify {
            let checked = self.shadow.check(record, found.as_deref());
            self.judge(checked);
        }
        Ok(if found.is_some() {
            Answer::Done
        } else {
            Answer::Missing
        })
    }

    async fn put(&mut self, record: u64) -> Result<Answer, Error> {
        let version = self.shadow.next_version();
        let bytes = value(record, version, self.task.value_bytes);
        let result = self.put_bytes(record, &bytes).await;
        if self.task.verify {
            match &result {
                Ok(()) => self.shadow.acknowledged(record, version),
                Err(error) if error.execution() == Execution::Unknown => {
                    self.shadow.unknown(record, version)
                }
                Err(_) => {}
            }
        }
        result.map(|()| Answer::Done)
    }

    async fn put_bytes(&self, record: u64, bytes: &[u8]) -> Result<(), Error> {
        let names = self.task.names;
        self.table
            .put(&names.hash_key(record), &names.sort_key(record), bytes)
            .await?;
        Ok(())
    }

    /// Up to a hundred rows of a hash key. Most belong to other workers, which may be writing them, so they are checked
    /// for being whole and in their place, not for their version.
    async fn range(&mut self) -> Result<Answer, Error> {
        let names = self.task.names;
        let record = self.chooser.existing(&mut self.random);
        let options = MultiGet {
            range: SortKeyRange {
                start: Bytes::from(names.sort_key(record)),
                ..SortKeyRange::default()
            },
            max_rows: self.random.random_range(1..=SCAN_RECORDS_MAX),
            ..MultiGet::default()
        };
        let found = self
            .table
            .multi_get(&names.hash_key(record), &options)
            .await?;
        self.recorder.borrow_mut().range_rows += found.rows.len() as u64;
        if self.task.verify {
            for row in &found.rows {
                self.judge(check_whole(
                    names.sibling(record, &row.sort_key),
                    record,
                    &row.value,
                ));
            }
        }
        Ok(if found.rows.is_empty() {
            Answer::Missing
        } else {
            Answer::Done
        })
    }

    fn judge(&self, checked: Result<(), Violation>) {
        if let Err(violation) = checked {
            self.recorder.borrow_mut().violation(violation);
        }
    }

    /// Reads everything again that this worker knows something about. Not measured.
    pub(crate) async fn sweep(&mut self) {
        const TRIES: usize = 5;
        let names = self.task.names;
        for record in self.shadow.touched() {
            let mut found = None;
            for _ in 0..TRIES {
                if let Ok(answer) = self
                    .table
                    .get(&names.hash_key(record), &names.sort_key(record))
                    .await
                {
                    found = Some(answer);
                    break;
                }
                tokio::time::sleep(RETRY_PAUSE).await;
            }
            match found {
                Some(answer) => {
                    let checked = self.shadow.check(record, answer.as_deref());
                    self.judge(checked);
                    self.recorder.borrow_mut().swept += 1;
                }
                None => self.recorder.borrow_mut().unread += 1,
            }
        }
    }
}

const RETRY_PAUSE: Duration = Duration::from_millis(100);
