//! One worker: it has one operation at a time.

use crate::keys::Chooser;
use crate::layout::{CellName, Layout};
use crate::pace::Pace;
use crate::record::{Done, Recorder, Times};
use crate::target::{Cell, Execution, Failure, Session};
use crate::value::{LOADED_VERSION, value, write_value};
use crate::verify::{History, Span, Violation, WriteEnd};
use crate::workload::{Kind, Mix, SCAN_RECORDS_MAX};
use rand::rngs::SmallRng;
use rand::{Rng as _, SeedableRng as _};
use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// What all workers of a run do alike.
#[derive(Clone, Debug)]
pub(crate) struct Task {
    pub(crate) mix: Mix,
    pub(crate) layout: Layout,
    pub(crate) records: u64,
    pub(crate) seed: u64,
    /// Deadline of an operation, from the moment it was meant to start.
    pub(crate) timeout: Duration,
    /// Above all versions of earlier runs.
    pub(crate) version_base: u64,
    pub(crate) workers: u64,
}

/// A worker and its place in the run. Lives on one thread, with which it shares the recorder.
#[derive(Debug)]
pub(crate) struct Worker {
    task: Arc<Task>,
    number: u64,
    session: Session,
    chooser: Chooser,
    random: SmallRng,
    /// Writes so far; makes versions that no other worker has.
    writes: u64,
    /// What was written when, if it is to be checked.
    history: Option<Arc<History>>,
    recorder: Rc<RefCell<Recorder>>,
    buffer: Vec<u8>,
}

/// How a load treats the records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Loading {
    /// A record that cannot be written is tried again for so long.
    pub(crate) give_up_after: Duration,
    /// Records that are there as a load writes them are left alone.
    pub(crate) resume: bool,
}

impl Worker {
    /// Number `number` of all workers.
    pub(crate) fn new(
        task: Arc<Task>,
        number: u64,
        session: Session,
        chooser: Chooser,
        history: Option<Arc<History>>,
        recorder: Rc<RefCell<Recorder>>,
    ) -> Self {
        let random =
            SmallRng::seed_from_u64(task.seed ^ (number + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15));
        Self {
            task,
            number,
            session,
            chooser,
            random,
            writes: 0,
            history,
            recorder,
            buffer: Vec::new(),
        }
    }

    pub(crate) fn number(&self) -> u64 {
        self.number
    }

    /// Operations drawn from the mix, until it is time.
    pub(crate) async fn run(&mut self, pace: &Pace) {
        while let Some(intended) = pace.next().await {
            let kind = self.task.mix.draw(&mut self.random);
            let started = if pace.is_open() {
                let now = Instant::now();
                self.recorder.borrow_mut().started(intended, now);
                now
            } else {
                intended
            };
            let deadline = intended + self.task.timeout;
            let result = self.operate(kind, deadline).await;
            let times = Times {
                intended,
                started,
                ended: Instant::now(),
            };
            self.recorder.borrow_mut().operation(kind, times, &result);
        }
    }

    /// Writes this worker's share of the records, each until it is acknowledged or given up.
    pub(crate) async fn load(&self, loading: Loading) -> Result<(), Failure> {
        let step = usize::try_from(self.task.workers).unwrap_or(usize::MAX);
        let layout = self.task.layout;
        for record in (self.number..self.task.records).step_by(step) {
            if loading.resume && self.is_there(record).await {
                self.recorder.borrow_mut().skipped += 1;
                continue;
            }
            let cell = |field| {
                value(
                    CellName { record, field },
                    LOADED_VERSION,
                    layout.value_bytes,
                )
            };
            let values: Vec<Vec<u8>> = (0..layout.cells()).map(cell).collect();
            self.load_one(record, &values, loading.give_up_after)
                .await?;
        }
        Ok(())
    }

    async fn load_one(
        &self,
        record: u64,
        values: &[Vec<u8>],
        give_up_after: Duration,
    ) -> Result<(), Failure> {
        let first = Instant::now();
        loop {
            let started = Instant::now();
            let result = self
                .session
                .insert(record, values, self.task.timeout)
                .await
                .map(|()| Done::Found);
            let times = Times {
                intended: started,
                started,
                ended: Instant::now(),
            };
            self.recorder
                .borrow_mut()
                .operation(Kind::Insert, times, &result);
            match result {
                Ok(_) => return Ok(()),
                Err(failure) if failure.permanent || first.elapsed() > give_up_after => {
                    return Err(failure);
                }
                Err(_) => tokio::time::sleep(RETRY_PAUSE).await,
            }
        }
    }

    /// Whether all of a record is there, as a load writes it. When in doubt it is not.
    async fn is_there(&self, record: u64) -> bool {
        let Ok(found) = self.session.read(record, self.task.timeout).await else {
            return false;
        };
        let layout = self.task.layout;
        let own = |field| {
            let name = CellName { record, field };
            let bytes = value(name, LOADED_VERSION, layout.value_bytes);
            found
                .iter()
                .any(|cell| cell.name == Some(name) && cell.value[..] == bytes[..])
        };
        found.len() == layout.cells() && (0..layout.cells()).all(own)
    }

    async fn operate(&mut self, kind: Kind, deadline: Instant) -> Result<Done, Failure> {
        match kind {
            Kind::Read => {
                let record = self.chooser.existing(&mut self.random);
                self.read(record, deadline).await
            }
            Kind::Update => {
                let record = self.chooser.existing(&mut self.random);
                self.update(record, deadline).await
            }
            Kind::Insert => {
                let record = self.chooser.next_insert();
                let result = self.insert(record, deadline).await;
                self.chooser.insert_ends(record);
                result
            }
            Kind::Scan => self.scan(deadline).await,
            Kind::ReadModifyWrite => {
                let record = self.chooser.existing(&mut self.random);
                self.read(record, deadline).await?;
                self.update(record, deadline).await
            }
        }
    }

    async fn read(&self, record: u64, deadline: Instant) -> Result<Done, Failure> {
        let began = Instant::now();
        let found = self.session.read(record, left(deadline, began)).await?;
        if let Some(history) = &self.history {
            self.judge(history.check_read(record, &found, since(began)));
        }
        Ok(done(&found))
    }

    async fn update(&mut self, record: u64, deadline: Instant) -> Result<Done, Failure> {
        let layout = self.task.layout;
        let field = match layout.cells() {
            1 => 0,
            cells => self.random.random_range(0..cells),
        };
        let name = CellName { record, field };
        let version = self.next_version();
        write_value(&mut self.buffer, name, version, layout.value_bytes);
        let began = Instant::now();
        if let Some(history) = &self.history {
            history.write_begins(name, version, began);
        }
        let result = self
            .session
            .update(record, field, &self.buffer, left(deadline, began))
            .await;
        if let Some(history) = &self.history {
            history.write_ends(name, version, write_end(&result), Instant::now());
        }
        result.map(|()| Done::Found)
    }

    async fn insert(&mut self, record: u64, deadline: Instant) -> Result<Done, Failure> {
        let layout = self.task.layout;
        let version = self.next_version();
        let names = (0..layout.cells()).map(|field| CellName { record, field });
        let values: Vec<Vec<u8>> = names
            .clone()
            .map(|name| value(name, version, layout.value_bytes))
            .collect();
        let began = Instant::now();
        if let Some(history) = &self.history {
            names
                .clone()
                .for_each(|name| history.write_begins(name, version, began));
        }
        let result = self
            .session
            .insert(record, &values, left(deadline, began))
            .await;
        if let Some(history) = &self.history {
            let (end, now) = (write_end(&result), Instant::now());
            names
                .clone()
                .for_each(|name| history.write_ends(name, version, end, now));
        }
        result.map(|()| Done::Found)
    }

    async fn scan(&mut self, deadline: Instant) -> Result<Done, Failure> {
        let record = self.chooser.existing(&mut self.random);
        let records = self.random.random_range(1..=SCAN_RECORDS_MAX);
        let began = Instant::now();
        let found = self
            .session
            .scan(record, records, left(deadline, began))
            .await?;
        if let Some(history) = &self.history {
            self.judge(history.check_scan(record, records, &found, since(began)));
        }
        let mut recorder = self.recorder.borrow_mut();
        if recorder.is_measuring(began) {
            recorder.scanned_records += found.len().div_ceil(self.task.layout.cells()) as u64;
        }
        Ok(done(&found))
    }

    /// Reads records again after the run. Not measured.
    pub(crate) async fn sweep(&self, records: &[u64]) {
        const TRIES: usize = 5;
        let Some(history) = &self.history else {
            return;
        };
        for record in records {
            for tried in 1..=TRIES {
                let began = Instant::now();
                if let Ok(found) = self.session.read(*record, self.task.timeout).await {
                    self.judge(history.check_read(*record, &found, since(began)));
                    self.recorder.borrow_mut().swept += 1;
                    break;
                }
                if tried == TRIES {
                    self.recorder.borrow_mut().unread += 1;
                }
                tokio::time::sleep(RETRY_PAUSE).await;
            }
        }
    }

    /// Workers take turns, so that no two writes have the same version.
    fn next_version(&mut self) -> u64 {
        self.writes += 1;
        self.task.version_base + self.writes * self.task.workers + self.number
    }

    fn judge(&self, violations: Vec<Violation>) {
        if !violations.is_empty() {
            self.recorder.borrow_mut().violations(violations);
        }
    }
}

const RETRY_PAUSE: Duration = Duration::from_millis(100);

fn left(deadline: Instant, now: Instant) -> Duration {
    deadline.saturating_duration_since(now)
}

fn since(began: Instant) -> Span {
    Span {
        began,
        ended: Instant::now(),
    }
}

fn done(found: &[Cell]) -> Done {
    if found.is_empty() {
        Done::Missing
    } else {
        Done::Found
    }
}

fn write_end(result: &Result<(), Failure>) -> WriteEnd {
    match result {
        Ok(()) => WriteEnd::Acknowledged,
        Err(failure) if failure.execution == Execution::Unknown => WriteEnd::Unknown,
        Err(_) => WriteEnd::Refused,
    }
}
